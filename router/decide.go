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
	// Rejection is why it was not chosen, with Detail as a sentence.
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
			return Decision{}, fmt.Errorf("decide: %w %q: ListModels lists the ids", ErrUnknownModel, id)
		}
	}
	f := filter{demand: &d, policy: policy, limits: resolve(d.Limits, policy.Limits)}
	out := Decision{
		Policy: policy.ID, Scores: d.Scores, Scored: d.Scored, AllowDowngrade: f.limits.AllowDowngrade.Value,
		Ranked: make([]Candidate, 0, len(r.Catalog.models)),
	}
	for _, m := range r.Catalog.models {
		c := f.assess(m)
		if c.Rejection == 0 {
			out.Ranked = append(out.Ranked, c)
		} else {
			out.Rejected = append(out.Rejected, c)
		}
	}
	if len(out.Ranked) == 0 {
		return Decision{}, r.noneLeft(&d, out.Rejected)
	}
	f.rank(&out)
	out.Chosen = out.Ranked[0]
	if out.AllowDowngrade {
		out.addDowngrades()
	}
	out.Limits = applied(d.Limits, policy.Limits, f.limits, func(name string) bool { return f.removed[limitRejection(name)] })
	return out, nil
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

func (r *Rules) noneLeft(d *Demand, rejected []Candidate) error {
	input := int64(math.MaxInt64)
	e := &NoEligibleError{Removed: map[Rejection]int{}}
	for _, c := range rejected {
		e.Removed[c.Rejection]++
		if len(e.Details) < 20 {
			e.Details = append(e.Details, c.Model.ID+": "+c.Detail)
		}
		input = min(input, c.InputTokens)
	}
	if input >= r.Catalog.maxWindow {
		return &ContextTooLongError{Tokens: input, Max: r.Catalog.maxWindow}
	}
	return e
}

// rank sorts the eligible candidates into the order of trial and gives those
// that are not good enough their rejection.
func (f *filter) rank(out *Decision) {
	d, ranked := f.demand, out.Ranked
	for i := range ranked {
		out.Best = max(out.Best, ranked[i].Quality.Value)
	}
	out.MinQualityMet = true
	switch {
	case len(d.Override.Models) > 0:
		slices.SortStableFunc(ranked, func(a, b Candidate) int {
			return cmp.Compare(slices.Index(d.Override.Models, a.Model.ID), slices.Index(d.Override.Models, b.Model.ID))
		})
		out.Reason = ByOverride
	case !d.Scored:
		f.rankUnscored(ranked)
		out.Reason = ClassifierUnavailable
	case f.limits.Alpha.Set:
		f.rankByAlpha(ranked)
		f.cutBelow(out, f.floor(out.Best))
		out.Reason = TradeOff
	default:
		slices.SortFunc(ranked, byCost)
		f.cutBelow(out, f.floor(out.Best))
		out.Reason = f.reason(out)
	}
	if d.Override.Tier != 0 && d.Scored {
		out.Reason = ByOverride
	}
	if d.Scored && f.limits.MinQuality.Set {
		out.MinQualityMet = out.Ranked[0].Quality.Value >= f.limits.MinQuality.Value
		if !out.MinQualityMet && out.Reason != ByOverride {
			out.Reason = BestEffort
		}
	}
	f.preferFallbacks(out.Ranked)
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

// cutBelow moves the candidates below the floor behind the others, best first,
// and marks them.
func (f *filter) cutBelow(out *Decision, floor float64) {
	slices.SortStableFunc(out.Ranked, func(a, b Candidate) int {
		aLow, bLow := a.Quality.Value < floor, b.Quality.Value < floor
		switch {
		case aLow && bLow:
			return cmp.Compare(b.Quality.Value, a.Quality.Value)
		case aLow:
			return 1
		case bLow:
			return -1
		default:
			return 0
		}
	})
	for i := range out.Ranked {
		if c := &out.Ranked[i]; c.Quality.Value < floor {
			c.Rejection = RejectedQuality
			c.Detail = fmt.Sprintf("expected quality %.3f is below %.3f", c.Quality.Value, floor)
			f.removed[RejectedQuality] = true
		}
	}
}

func (f *filter) reason(out *Decision) Reason {
	chosen := out.Ranked[0]
	switch {
	case chosen.Model.Tier == DomainSpecialist:
		return Specialist
	case f.removed[RejectedQuality]:
		for _, c := range out.Ranked[1:] {
			if c.Rejection == RejectedQuality && byCost(c, chosen) < 0 {
				return QualityNeeded
			}
		}
	}
	return CheapestGoodEnough
}

// rankUnscored puts the unscored tier's cheapest first, then those above it,
// then the rest from the top: a broken classifier costs money, not quality.
func (f *filter) rankUnscored(ranked []Candidate) {
	slices.SortFunc(ranked, func(a, b Candidate) int {
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

func (f *filter) rankByAlpha(ranked []Candidate) {
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
	slices.SortFunc(ranked, func(a, b Candidate) int {
		if c := cmp.Compare(b.utility, a.utility); c != 0 {
			return c
		}
		return byCost(a, b)
	})
}

// byCost orders by the cost at the 90th percentile of output, the figure that
// max_cost is held against, so that loosening it never buys less; unknown
// prices come last, better quality breaks ties, then the id.
func byCost(a, b Candidate) int {
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
func (f *filter) preferFallbacks(ranked []Candidate) {
	if len(f.demand.Override.Models) > 0 {
		return
	}
	at := 1
	for _, id := range ranked[0].Model.Fallbacks {
		i := slices.IndexFunc(ranked, func(c Candidate) bool { return c.Model.ID == id && c.Rejection == 0 })
		if i < at {
			continue
		}
		c := ranked[i]
		copy(ranked[at+1:i+1], ranked[at:i])
		ranked[at] = c
		at++
	}
}

// addDowngrades appends what was removed by the tier floor alone, best first:
// Next may use it when everything above the floor has failed.
func (d *Decision) addDowngrades() {
	kept := d.Rejected[:0]
	var below []Candidate
	for _, c := range d.Rejected {
		if c.Rejection == RejectedBelowMinTier && c.MaxOutput > 0 {
			below = append(below, c)
		} else {
			kept = append(kept, c)
		}
	}
	slices.SortStableFunc(below, func(a, b Candidate) int { return cmp.Compare(b.Quality.Value, a.Quality.Value) })
	d.Rejected, d.Ranked = kept, append(d.Ranked, below...)
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
