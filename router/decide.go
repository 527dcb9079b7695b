package router

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/weirhq/weir/classifier"
)

// EngineVersion names what Decide does with a demand. It changes whenever the
// same demand under the same config may give another decision, so that receipts
// are verified by the engine that made them.
const EngineVersion = "decide/2"

// Rules decide: a catalog, rules and policies of one config version. Immutable.
type Rules struct {
	Catalog       *Catalog
	Policies      map[string]*Policy
	DefaultPolicy string
	// Rules are looked at in this order before anything is scored.
	Rules     []*Rule
	Sessions  SessionPolicy
	Upstreams []*Upstream
	// Completion is how Complete tries again.
	Completion CompletionRules
	Accounts   Accounts
	// Digest is "sha256:" and the hex digest of the config text.
	Digest string
	// Source is where the text was read, Text the text itself.
	Source string
	Text   []byte

	callable []string // ids of the upstreams with a key
}

// Override is a request's own choice. At most one of Models and Tier is set.
type Override struct {
	// Models are tried in this order.
	Models []string
	Tier   Tier
}

// ProviderRules choose among upstreams, as OpenRouter spells them.
type ProviderRules struct {
	Order, Only, Ignore []string
	AllowFallbacks      Opt[bool]
	RequireParameters   bool
	Data                DataCollection
}

// Demand is all that Decide looks at.
type Demand struct {
	// Scores count only when Scored.
	Scores classifier.Scores
	Scored bool
	// UnscoredTokens estimates the input beside the scored text, from above:
	// system and assistant messages, tools, media. Where nothing was scored it
	// is the whole input.
	UnscoredTokens int64
	Policy         string
	Override       Override
	Limits         Limits
	Allow, Deny    []string
	Required       Capabilities
	CallableOnly   bool
	// Spends is whether the model will be called: where a budget is set, a model
	// of unknown price is then rejected, because nothing can be held for it.
	Spends   bool `json:",omitzero"`
	Provider ProviderRules
	// Rule is the id of the config's rule that matched; "" for none.
	Rule string
	// Session is what earlier turns say; zero without a session.
	Session SessionState
	// InSession is whether the request has a session, be it new.
	InSession bool
	// BundleDigest is the bundle that scored; guarantees rest on one.
	BundleDigest string
	// MaxOutputTokens is the longest answer wanted; 0 for the model's limit.
	MaxOutputTokens int64
	// Explain asks for the sentence of every rejection.
	Explain bool
}

// Candidate is one model with what was expected of it.
type Candidate struct {
	Model *Model
	// Quality is the expected quality with its 90 % interval; zero when unscored.
	Quality    classifier.Estimate
	Unmeasured bool
	// Expected, P90 and Bound are costs: at the expected output, at its 90th
	// percentile, and at MaxOutput. They count only when PriceKnown.
	Expected, P90, Bound NanoUSD
	PriceKnown           bool
	// InputTokens, OutputTokens are the provider's, estimated; MaxOutput is the
	// limit to give the provider.
	InputTokens, OutputTokens, P90Output, MaxOutput int64
	// Rejection is why it was not chosen; Detail says it in a sentence, where the
	// demand asked for explanation.
	Rejection Rejection
	Detail    string
}

// eligible tells whether no filter removed the candidate, good enough or not.
func (c *Candidate) eligible() bool { return c.Rejection == 0 || c.Rejection == RejectedQuality }

// Decision is what Decide says. It stands by itself: a later swap of config or
// model changes nothing in it.
type Decision struct {
	Chosen Candidate
	Reason Reason
	Policy string
	// Rule is the id of the rule that had a part in it; "" for none.
	Rule   string
	Scores classifier.Scores
	Scored bool
	// Best is the best eligible expected quality, Needed the lowest that is good
	// enough.
	Best, Needed float64
	// Need is the tier that the prompt needs by itself, whatever its session
	// says; 0 where that is not known.
	Need          Tier
	MinQualityMet bool
	Limits        []Applied
	// Ranked is every eligible candidate in the order in which it would be
	// tried: the chosen one, then its fallbacks, which keep every floor, then
	// (Rejection set) those that only a downgrade may use.
	Ranked []Candidate
	// Rejected is every other candidate, in the catalog's order.
	Rejected       []Candidate
	AllowDowngrade bool
	Session        SessionUse
	// Guarantee is the policy's promise and whether it holds here.
	Guarantee Claim
	// Promise is what the policy was measured to do; "" where nothing was.
	Promise string
}

// Explanation is the decision in one sentence.
func (d *Decision) Explanation() string {
	c := &d.Chosen
	cost := "of unknown cost"
	if c.PriceKnown {
		cost = "for about " + c.Expected.String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", c.Model.ID, cost)
	switch {
	case d.Scored:
		domain, p := d.Scores.Domain()
		fmt.Fprintf(&b, "complexity %.2f, %s (%.0f %%), expected quality %.2f against %.2f at best; %s.",
			d.Scores.Complexity(), domain, 100*p, c.Quality.Value, d.Best, d.Reason.phrase())
	case d.Reason == ByRule:
		fmt.Fprintf(&b, "%s before anything was scored.", d.Reason.phrase())
	case d.Reason == SessionPinned:
		fmt.Fprintf(&b, "the prompt could not be scored; %s.", d.Reason.phrase())
	default:
		b.WriteString("the prompt could not be scored, so the policy's unscored tier answers.")
	}
	if d.Rule != "" {
		fmt.Fprintf(&b, " Rule %s matched.", d.Rule)
	}
	if s := &d.Session; s.SwitchCostKnown && s.SwitchCost > 0 {
		if s.Pinned {
			fmt.Fprintf(&b, " Its prompt cache is warm: leaving would cost %s.", s.SwitchCost)
		} else {
			fmt.Fprintf(&b, " Leaving the warm prompt cache of %s costs %s.", s.PreviousModel, s.SwitchCost)
		}
	}
	if d.Promise != "" {
		fmt.Fprintf(&b, " Policy %s: %s", d.Policy, d.Promise)
	}
	return b.String()
}

// Decide chooses a model for a demand. It is pure: no clock, no I/O, no
// randomness, so that a replay is the service. It returns ErrUnknownPolicy,
// ErrUnknownModel or ErrUnknownRule wrapped, *ContextTooLongError or
// *NoEligibleError.
func (r *Rules) Decide(d Demand) (Decision, error) {
	f := filter{demand: &d, catalog: r.Catalog, request: d.Limits, sessions: r.Sessions, budgeted: d.Spends && r.Accounts.Budget.Window != ""}
	if err := f.settle(r); err != nil {
		return Decision{}, err
	}
	// all is named here too: what only f held would drag f to the heap with it.
	all := make([]Candidate, len(r.Catalog.models))
	f.all = all
	var few [64]sortKey
	f.keys = few[:0]
	for i, m := range r.Catalog.models {
		c := &f.all[i]
		if f.assess(m, c); c.Rejection == 0 {
			f.keys = append(f.keys, sortKey{cost: c.order(), at: int32(i)})
		}
	}
	if len(f.keys) == 0 {
		return Decision{}, r.noneLeft(&f)
	}
	out := Decision{Policy: f.policy.ID, Rule: d.Rule, Scores: d.Scores, Scored: d.Scored, AllowDowngrade: f.limits.AllowDowngrade.Value, Promise: f.policy.Promise}
	if d.InSession {
		out.Session = SessionUse{Used: true, PreviousModel: d.Session.PreviousModel}
		out.Need = f.needBySelf()
		if !f.named() {
			f.holdNeed(&out)
		}
		if len(f.keys) == 0 {
			return Decision{}, r.noneLeft(&f)
		}
	}
	f.rank(&out)
	out.Chosen = f.all[f.keys[0].at]
	out.Guarantee = f.claim(&out)
	out.Limits = applied(&f)
	n := f.collect(out.AllowDowngrade)
	out.Chosen, out.Ranked, out.Rejected = all[0], all[:n:n], all[n:]
	return out, nil
}

// settle finds the rule, the policy and the limits that count: the request's
// before the rule's before the policy's before the default.
func (f *filter) settle(r *Rules) error {
	d := f.demand
	if f.rule = r.rule(d.Rule); f.rule == nil && d.Rule != "" {
		return fmt.Errorf("decide: %w %q: the config has no such rule", ErrUnknownRule, d.Rule)
	}
	policy := d.Policy
	if f.rule != nil {
		then := &f.rule.Then
		if policy == "" && then.Policy != "" {
			policy, f.rulePolicy = then.Policy, true
		}
		if !f.named() && (len(then.Models) > 0 || then.Tier != 0) {
			d.Override, f.ruleNamed = Override{Models: then.Models, Tier: then.Tier}, true
		}
	}
	var err error
	if f.policy, err = r.policy(policy); err != nil {
		return err
	}
	for _, id := range d.Override.Models {
		if _, ok := r.Catalog.Model(id); !ok {
			return fmt.Errorf("decide: %w %q: ListModels lists the ids%s", ErrUnknownModel, id, didYouMean(id, r.Catalog.modelIDs))
		}
	}
	request, own := d.Limits, f.policy.Limits
	if g := f.policy.Guarantee; g != nil && d.Scored {
		if gap := g.gap(&d.Scores); gap.Set {
			own.MaxQualityGap, f.calibrated = gap, true
		}
	}
	if f.rule != nil {
		request.MinTier = request.MinTier.or(f.rule.Then.MinTier)
		request.MaxTier = request.MaxTier.or(f.rule.Then.MaxTier)
	}
	f.limits = resolve(request, own)
	if d.Scored {
		f.settleScores()
	}
	return nil
}

// named tells whether the models or the tier are named already.
func (f *filter) named() bool {
	return len(f.demand.Override.Models) > 0 || f.demand.Override.Tier != 0
}

// order is the cost that candidates are ordered by.
func (c *Candidate) order() NanoUSD {
	if !c.PriceKnown {
		return math.MaxInt64
	}
	return c.P90
}

// collect puts the candidates into their two lists, in place. What the tier
// floor alone removed joins the ranked ones, best first, where downgrades are
// allowed: Next may use it when everything above the floor has failed. It
// returns how many are ranked.
func (f *filter) collect(downgrade bool) int {
	var few [64]int32
	order := few[:0]
	for _, k := range f.keys {
		order = append(order, k.at)
	}
	lowered := func(c *Candidate) bool {
		return downgrade && (c.Rejection == RejectedBelowMinTier || c.Rejection == RejectedSession)
	}
	if downgrade {
		at := len(order)
		for i := range f.all {
			if lowered(&f.all[i]) {
				order = append(order, int32(i))
			}
		}
		slices.SortStableFunc(order[at:], func(a, b int32) int { return cmp.Compare(f.all[b].Quality.Value, f.all[a].Quality.Value) })
	}
	ranked := len(order)
	for i := range f.all {
		if c := &f.all[i]; !c.eligible() && !lowered(c) {
			order = append(order, int32(i))
		}
	}
	if f.demand.Explain {
		for i := range f.all {
			f.all[i].Detail = f.detail(&f.all[i])
		}
	}
	permute(f.all, order)
	return ranked
}

// permute puts list[order[i]] at i. order is used up.
func permute(list []Candidate, order []int32) {
	for i := range order {
		if order[i] == int32(i) {
			continue
		}
		first, at := list[i], i
		for {
			from := int(order[at])
			order[at] = int32(at)
			if from == i {
				list[at] = first
				break
			}
			list[at] = list[from]
			at = from
		}
	}
}

func (r *Rules) policy(id string) (*Policy, error) {
	if id == "" {
		id = r.DefaultPolicy
	}
	p, ok := r.Policies[id]
	if !ok {
		return nil, fmt.Errorf("decide: %w %q: the config's policies are %v", ErrUnknownPolicy, id, sortedKeys(r.Policies))
	}
	return p, nil
}

func (r *Rules) noneLeft(f *filter) error {
	input := int64(math.MaxInt64)
	e := &NoEligibleError{Removed: map[Rejection]int{}, Hints: r.hints(&f.demand.Provider)}
	for i := range f.all {
		c := &f.all[i]
		e.Removed[c.Rejection]++
		if len(e.Details) < 20 {
			e.Details = append(e.Details, c.Model.ID+": "+f.detail(c))
		}
		input = min(input, c.InputTokens)
	}
	if input >= r.Catalog.maxWindow {
		return &ContextTooLongError{Tokens: input, Max: r.Catalog.maxWindow}
	}
	if f.ruleNamed {
		e.Hints = append(e.Hints, fmt.Sprintf("rule %q of the config named the models; name a model or a tier yourself to go past it", f.rule.ID))
	}
	return e
}
