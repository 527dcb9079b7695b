package router

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/weirhq/weir/classifier"
)

// Rules decide: a catalog and policies of one config version. Immutable.
type Rules struct {
	Catalog       *Catalog
	Policies      map[string]*Policy
	DefaultPolicy string
	Upstreams     []*Upstream
	Completion    CompletionRules
	Accounts      Accounts
	// Digest is "sha256:" and the hex digest of the config text.
	Digest string
	// Source is where the text was read, Text the text itself.
	Source string
	Text   []byte
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
	Provider       ProviderRules
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
	utility   float64
}

// Decision is what Decide says. It stands by itself: a later swap of config or
// model changes nothing in it.
type Decision struct {
	Chosen Candidate
	Reason Reason
	Policy string
	Scores classifier.Scores
	Scored bool
	// Best is the best eligible expected quality.
	Best          float64
	MinQualityMet bool
	Limits        []Applied
	// Ranked is every eligible candidate in the order in which it would be
	// tried: the chosen one, then its fallbacks, which keep every floor, then
	// (Rejection set) those that only a downgrade may use.
	Ranked []Candidate
	// Rejected is every other candidate, in the catalog's order.
	Rejected       []Candidate
	AllowDowngrade bool
}

// Explanation is the decision in one sentence.
func (d *Decision) Explanation() string {
	c := &d.Chosen
	cost := "of unknown cost"
	if c.PriceKnown {
		cost = "for about " + c.Expected.String()
	}
	if !d.Scored {
		return fmt.Sprintf("%s %s: the prompt could not be scored, so the policy's unscored tier answers.", c.Model.ID, cost)
	}
	domain, p := d.Scores.Domain()
	return fmt.Sprintf("%s %s: complexity %.2f, %s (%.0f %%), expected quality %.2f against %.2f at best; %s.",
		c.Model.ID, cost, d.Scores.Complexity(), domain, 100*p, c.Quality.Value, d.Best, d.Reason.phrase())
}

// Decide chooses a model for a demand. It is pure: no clock, no I/O, no
// randomness, so that a replay is the service. It returns ErrUnknownPolicy or
// ErrUnknownModel wrapped, *ContextTooLongError or *NoEligibleError.
func (r *Rules) Decide(d Demand) (Decision, error) {
	policy, err := r.policy(d.Policy)
	if err != nil {
		return Decision{}, err
	}
	for _, id := range d.Override.Models {
		if _, ok := r.Catalog.Model(id); !ok {
			return Decision{}, fmt.Errorf("decide: %w %q: ListModels lists the ids%s", ErrUnknownModel, id, didYouMean(id, r.Catalog.modelIDs))
		}
	}
	f := filter{demand: &d, policy: policy, limits: resolve(d.Limits, policy.Limits)}
	all := make([]Candidate, len(r.Catalog.models))
	eligible := make([]*Candidate, 0, len(all))
	for i, m := range r.Catalog.models {
		if f.assess(m, &all[i]); all[i].Rejection == 0 {
			eligible = append(eligible, &all[i])
		}
	}
	if len(eligible) == 0 {
		return Decision{}, r.noneLeft(&f, all)
	}
	out := Decision{Policy: policy.ID, Scores: d.Scores, Scored: d.Scored, AllowDowngrade: f.limits.AllowDowngrade.Value}
	f.rank(&out, eligible)
	out.collect(&f, eligible, all)
	out.Chosen = out.Ranked[0]
	out.Limits = applied(&d.Limits, &policy.Limits, &f)
	return out, nil
}

// collect copies the candidates into their two lists. What the tier floor alone
// removed joins the ranked ones, best first, where downgrades are allowed: Next
// may use it when everything above the floor has failed.
func (d *Decision) collect(f *filter, eligible []*Candidate, all []Candidate) {
	if d.AllowDowngrade {
		at := len(eligible)
		for i := range all {
			if all[i].Rejection == RejectedBelowMinTier {
				eligible = append(eligible, &all[i])
			}
		}
		slices.SortStableFunc(eligible[at:], func(a, b *Candidate) int { return cmp.Compare(b.Quality.Value, a.Quality.Value) })
	}
	list := make([]Candidate, 0, len(all))
	for _, c := range eligible {
		list = append(list, *c)
	}
	for i := range all {
		if r := all[i].Rejection; r != 0 && r != RejectedQuality && (r != RejectedBelowMinTier || !d.AllowDowngrade) {
			list = append(list, all[i])
		}
	}
	if f.demand.Explain {
		for i := range list {
			list[i].Detail = f.detail(&list[i])
		}
	}
	d.Ranked, d.Rejected = list[:len(eligible):len(eligible)], list[len(eligible):]
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

func (r *Rules) noneLeft(f *filter, all []Candidate) error {
	input := int64(math.MaxInt64)
	e := &NoEligibleError{Removed: map[Rejection]int{}, Hints: r.hints(&f.demand.Provider)}
	for i := range all {
		e.Removed[all[i].Rejection]++
		if len(e.Details) < 20 {
			e.Details = append(e.Details, all[i].Model.ID+": "+f.detail(&all[i]))
		}
		input = min(input, all[i].InputTokens)
	}
	if input >= r.Catalog.maxWindow {
		return &ContextTooLongError{Tokens: input, Max: r.Catalog.maxWindow}
	}
	return e
}

// rank sorts the eligible candidates into the order of trial and gives those
// that are not good enough their rejection.
func (f *filter) rank(out *Decision, ranked []*Candidate) {
	d := f.demand
	for _, c := range ranked {
		out.Best = max(out.Best, c.Quality.Value)
	}
	f.needed = f.floor(out.Best)
	out.MinQualityMet = true
	switch {
	case len(d.Override.Models) > 0:
		slices.SortStableFunc(ranked, func(a, b *Candidate) int {
			return cmp.Compare(slices.Index(d.Override.Models, a.Model.ID), slices.Index(d.Override.Models, b.Model.ID))
		})
		out.Reason = ByOverride
	case !d.Scored:
		f.rankUnscored(ranked)
		out.Reason = ClassifierUnavailable
	case f.limits.Alpha.Set:
		f.rankByAlpha(ranked)
		f.cutBelow(ranked)
		out.Reason = TradeOff
	default:
		slices.SortFunc(ranked, byCost)
		f.cutBelow(ranked)
		out.Reason = f.reason(ranked)
	}
	if d.Override.Tier != 0 && d.Scored {
		out.Reason = ByOverride
	}
	if d.Scored && f.limits.MinQuality.Set {
		out.MinQualityMet = ranked[0].Quality.Value >= f.limits.MinQuality.Value
		if !out.MinQualityMet && out.Reason != ByOverride {
			out.Reason = BestEffort
		}
	}
	f.preferFallbacks(ranked)
}

// floor is the quality that a candidate must reach: within the gap of the best,
// and min_quality as far as anyone reaches it.
func (f *filter) floor(best float64) float64 {
	floor := 0.0
	if f.limits.MaxQualityGap.Set {
		floor = best - f.limits.MaxQualityGap.Value
	}
	if f.limits.MinQuality.Set {
		floor = max(floor, min(f.limits.MinQuality.Value, best))
	}
	return floor
}

// cutBelow moves the candidates that are not good enough behind the others, best
// first, and marks them. A hair's breadth is forgiven: .8 - .5 is not .3 in
// floating point.
func (f *filter) cutBelow(ranked []*Candidate) {
	const hair = 1e-9
	for _, c := range ranked {
		if c.Quality.Value < f.needed-hair {
			c.Rejection = RejectedQuality
			f.removed[RejectedQuality] = true
		}
	}
	slices.SortStableFunc(ranked, func(a, b *Candidate) int {
		switch {
		case a.Rejection != b.Rejection:
			return cmp.Compare(a.Rejection, b.Rejection)
		case a.Rejection == RejectedQuality:
			return cmp.Compare(b.Quality.Value, a.Quality.Value)
		default:
			return 0
		}
	})
}

func (f *filter) reason(ranked []*Candidate) Reason {
	if ranked[0].Model.Tier == DomainSpecialist {
		return Specialist
	}
	for _, c := range ranked[1:] {
		if c.Rejection == RejectedQuality && byCost(c, ranked[0]) < 0 {
			return QualityNeeded
		}
	}
	return CheapestGoodEnough
}

// rankUnscored puts the unscored tier's cheapest first, then those above it,
// then the rest from the top: a broken classifier costs money, not quality.
func (f *filter) rankUnscored(ranked []*Candidate) {
	slices.SortFunc(ranked, func(a, b *Candidate) int {
		at, bt := a.Model.EffectiveTier(), b.Model.EffectiveTier()
		aLow, bLow := at < f.policy.UnscoredTier, bt < f.policy.UnscoredTier
		switch {
		case aLow != bLow && aLow:
			return 1
		case aLow != bLow:
			return -1
		case at != bt && aLow:
			return cmp.Compare(bt, at)
		case at != bt:
			return cmp.Compare(at, bt)
		default:
			return byCost(a, b)
		}
	})
}

func (f *filter) rankByAlpha(ranked []*Candidate) {
	dearest := NanoUSD(1)
	for i := range ranked {
		dearest = max(dearest, ranked[i].P90)
	}
	alpha := f.limits.Alpha.Value
	for i := range ranked {
		relative := 1.0
		if ranked[i].PriceKnown {
			relative = float64(ranked[i].P90) / float64(dearest)
		}
		ranked[i].utility = alpha*ranked[i].Quality.Value + (1-alpha)*(1-relative)
	}
	slices.SortFunc(ranked, func(a, b *Candidate) int {
		if c := cmp.Compare(b.utility, a.utility); c != 0 {
			return c
		}
		return byCost(a, b)
	})
}

// byCost orders by the cost at the 90th percentile of output, the figure that
// max_cost is held against, so that loosening it never buys less; unknown
// prices come last, better quality breaks ties, then the id.
func byCost(a, b *Candidate) int {
	if a.PriceKnown != b.PriceKnown {
		if a.PriceKnown {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(a.P90, b.P90); c != 0 {
		return c
	}
	if c := cmp.Compare(b.Quality.Value, a.Quality.Value); c != 0 {
		return c
	}
	return cmp.Compare(a.Model.ID, b.Model.ID)
}

// preferFallbacks moves the chosen model's own fallbacks, in their order,
// directly behind it; never one that is below the floor.
func (f *filter) preferFallbacks(ranked []*Candidate) {
	if len(f.demand.Override.Models) > 0 {
		return
	}
	at := 1
	for _, id := range ranked[0].Model.Fallbacks {
		i := slices.IndexFunc(ranked, func(c *Candidate) bool { return c.Model.ID == id && c.Rejection == 0 })
		if i < at {
			continue
		}
		c := ranked[i]
		copy(ranked[at+1:i+1], ranked[at:i])
		ranked[at] = c
		at++
	}
}

// Next says which candidate to try after those in failed (model ids). It is
// pure. It never returns one below the request's floor unless the decision
// allows downgrades; ErrExhausted wrapped when none is left.
func Next(d *Decision, failed map[string]bool) (Candidate, error) {
	for _, c := range d.Ranked {
		if !failed[c.Model.ID] && (c.Rejection == 0 || d.AllowDowngrade) {
			return c, nil
		}
	}
	return Candidate{}, fmt.Errorf("next after %d failed: %w", len(failed), ErrExhausted)
}
