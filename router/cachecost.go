package router

import "slices"

// minCachedTokens is the shortest prefix that providers cache.
const minCachedTokens = 1024

// warmth says what the session's cache is worth to a candidate: what its input
// costs less there than a fresh one. 0 where the cache is cold or is another
// model's. Known is false where a price is not.
func (f *filter) warmth(c *Candidate) (saved NanoUSD, known bool) {
	s := &f.demand.Session
	if c.Model.ID != s.PreviousModel {
		return 0, true
	}
	p := &c.Model.Price
	if !p.Input.Known {
		return 0, false
	}
	cached := min(s.CachedTokens, c.InputTokens)
	fresh, rate := p.Input.Nano, p.CachedInput.or(p.Input).Nano
	if cached < minCachedTokens || s.Age > f.sessions.CacheTTL || rate >= fresh {
		return 0, true
	}
	var sum wide
	if !sum.addProduct(uint64(cached), uint64(fresh-rate)) {
		return 0, false
	}
	return sum.dividedByMillion()
}

// needBySelf is the tier that the prompt needs by itself, whatever the session
// says: that of the cheapest model that is good enough, 0 when it was not scored.
func (f *filter) needBySelf() Tier {
	if !f.demand.Scored {
		return 0
	}
	best := 0.0
	for _, k := range f.keys {
		best = max(best, f.all[k.at].Quality.Value)
	}
	floor := f.floor(best) - hair
	cheapest := -1
	for i, k := range f.keys {
		if f.all[k.at].Quality.Value >= floor && (cheapest < 0 || f.byCost(k, f.keys[cheapest]) < 0) {
			cheapest = i
		}
	}
	return f.all[f.keys[cheapest].at].Model.EffectiveTier()
}

// holdNeed leaves out what is below the tier that a recent turn of the session
// needed. A ceiling that the request, a rule or the policy sets beats it. Where
// nothing is left, a request that allows downgrades goes on without it.
func (f *filter) holdNeed(out *Decision) {
	need := f.demand.Session.Need
	if l := f.limits.MaxTier; l.Set {
		need = min(need, l.Value)
	}
	above := 0
	for _, k := range f.keys {
		if f.all[k.at].Model.EffectiveTier() >= need {
			above++
		}
	}
	if above == len(f.keys) || (above == 0 && out.AllowDowngrade) {
		return
	}
	out.Session.FloorBound = true
	f.sessionFloor = need
	f.removed[RejectedSession] = true
	kept := 0
	for _, k := range f.keys {
		c := &f.all[k.at]
		if c.Model.EffectiveTier() >= need {
			f.keys[kept] = k
			kept++
		} else {
			c.Rejection = RejectedSession
		}
	}
	f.keys = f.keys[:kept]
}

// holdSession says what the session's floor did, and pins its model.
func (f *filter) holdSession(out *Decision) {
	if out.Session.FloorBound && f.all[f.keys[0].at].Model.EffectiveTier() > out.Need && out.Need != 0 {
		out.Reason = SessionPinned
	}
	f.pin(out)
}

// pin keeps the session's model where it is good enough and another would not
// save more than leaving its warm cache costs. It never keeps a model of a lower
// tier than the first choice when the prompt was not scored.
func (f *filter) pin(out *Decision) {
	s := &f.demand.Session
	m, ok := f.catalog.Model(s.PreviousModel)
	if !ok {
		return
	}
	previous, first := &f.all[m.place], &f.all[f.keys[0].at]
	out.Session.SwitchCost, out.Session.SwitchCostKnown = f.warmth(previous)
	at := slices.IndexFunc(f.keys, func(k sortKey) bool { return k.at == m.place })
	if at < 0 {
		return
	}
	if at == 0 {
		out.Session.Pinned = true
		return
	}
	if previous.Rejection != 0 || !previous.PriceKnown || !out.Session.SwitchCostKnown {
		return
	}
	if !f.demand.Scored && previous.Model.EffectiveTier() < first.Model.EffectiveTier() {
		return
	}
	if first.PriceKnown && first.Expected < previous.Expected-out.Session.SwitchCost {
		return
	}
	key := f.keys[at]
	copy(f.keys[1:at+1], f.keys[:at])
	f.keys[0] = key
	out.Session.Pinned, out.Session.Kept = true, true
	out.Reason = SessionPinned
}
