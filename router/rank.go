package router

import (
	"cmp"
	"fmt"
	"slices"
)

// rank sorts the eligible candidates into the order of trial and gives those
// that are not good enough their rejection.
func (f *filter) rank(out *Decision) {
	d := f.demand
	for _, k := range f.keys {
		out.Best = max(out.Best, f.all[k.at].Quality.Value)
	}
	f.needed = f.floor(out.Best)
	out.Needed = f.needed
	out.MinQualityMet = true
	switch {
	case len(d.Override.Models) > 0:
		slices.SortStableFunc(f.keys, func(a, b sortKey) int {
			return cmp.Compare(slices.Index(d.Override.Models, f.all[a.at].Model.ID), slices.Index(d.Override.Models, f.all[b.at].Model.ID))
		})
		out.Reason = ByOverride
	case !d.Scored:
		f.rankUnscored()
		out.Reason = ClassifierUnavailable
	case f.limits.Alpha.Set:
		f.weighByAlpha()
		f.cutBelow()
		out.Reason = TradeOff
	default:
		f.cutBelow()
		out.Reason = f.reason()
	}
	if d.Override.Tier != 0 && (d.Scored || f.ruleNamed) {
		out.Reason = ByOverride
	}
	if out.Reason == ByOverride && f.ruleNamed {
		out.Reason = ByRule
	}
	if d.InSession && len(d.Override.Models) == 0 {
		f.holdSession(out)
	}
	if d.Scored && f.limits.MinQuality.Set {
		out.MinQualityMet = f.all[f.keys[0].at].Quality.Value >= f.limits.MinQuality.Value
		if !out.MinQualityMet && out.Reason != ByOverride && out.Reason != ByRule {
			out.Reason = BestEffort
		}
	}
	f.preferFallbacks()
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

// hair is a hair's breadth of quality that is forgiven: .8 - .5 is not .3 in
// floating point.
const hair = 1e-9

// cutBelow orders the candidates that are good enough, puts the others behind
// them, best first, and marks those.
func (f *filter) cutBelow() {
	good, floor := 0, f.needed-hair
	for i, k := range f.keys {
		c := &f.all[k.at]
		if c.Quality.Value < floor {
			c.Rejection = RejectedQuality
			f.removed[RejectedQuality] = true
			continue
		}
		f.keys[i], f.keys[good] = f.keys[good], k
		good++
	}
	for i := range f.keys[good:] {
		k := &f.keys[good+i]
		k.score = f.all[k.at].Quality.Value
	}
	f.sort(f.keys[:good])
	f.sort(f.keys[good:])
}

// reason says why the first candidate is the first.
func (f *filter) reason() Reason {
	first := &f.all[f.keys[0].at]
	if first.Model.Tier == DomainSpecialist {
		return Specialist
	}
	for _, k := range f.keys[1:] {
		if f.all[k.at].Rejection == RejectedQuality && f.byCost(k, f.keys[0]) < 0 {
			return QualityNeeded
		}
	}
	return CheapestGoodEnough
}

// rankUnscored puts the unscored tier's cheapest first, then those above it,
// then the rest from the top: a broken classifier costs money, not quality.
func (f *filter) rankUnscored() {
	slices.SortFunc(f.keys, func(a, b sortKey) int {
		at, bt := f.all[a.at].Model.EffectiveTier(), f.all[b.at].Model.EffectiveTier()
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
			return f.byCost(a, b)
		}
	})
}

// sort puts the larger score first, then the smaller cost.
func (f *filter) sort(keys []sortKey) {
	slices.SortFunc(keys, func(a, b sortKey) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		case a.cost < b.cost:
			return -1
		case a.cost > b.cost:
			return 1
		default:
			return f.byCost(a, b)
		}
	})
}

// weighByAlpha scores by the dial's trade of quality and cost.
func (f *filter) weighByAlpha() {
	dearest := NanoUSD(1)
	for _, k := range f.keys {
		dearest = max(dearest, f.all[k.at].P90)
	}
	alpha := f.limits.Alpha.Value
	for i, k := range f.keys {
		c, relative := &f.all[k.at], 1.0
		if c.PriceKnown {
			relative = float64(c.P90) / float64(dearest)
		}
		f.keys[i].score = alpha*c.Quality.Value + (1-alpha)*(1-relative)
	}
}

// byCost orders by the cost at the 90th percentile of output, the figure that
// max_cost is held against, so that loosening it never buys less; unknown
// prices come last, better quality breaks ties, then the id.
func (f *filter) byCost(a, b sortKey) int {
	switch {
	case a.cost < b.cost:
		return -1
	case a.cost > b.cost:
		return 1
	}
	x, y := &f.all[a.at], &f.all[b.at]
	if x.PriceKnown != y.PriceKnown {
		if x.PriceKnown {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(y.Quality.Value, x.Quality.Value); c != 0 {
		return c
	}
	return cmp.Compare(x.Model.ID, y.Model.ID)
}

// preferFallbacks moves the chosen model's own fallbacks, in their order,
// directly behind it; never one that is below the floor.
func (f *filter) preferFallbacks() {
	first := f.all[f.keys[0].at].Model
	if len(f.demand.Override.Models) > 0 || len(first.Fallbacks) == 0 {
		return
	}
	at := 1
	for _, id := range first.Fallbacks {
		i := slices.IndexFunc(f.keys, func(k sortKey) bool {
			c := &f.all[k.at]
			return c.Model.ID == id && c.Rejection == 0
		})
		if i < at {
			continue
		}
		k := f.keys[i]
		copy(f.keys[at+1:i+1], f.keys[at:i])
		f.keys[at] = k
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
