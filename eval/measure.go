package eval

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"
)

// measurement is what every resample of a set shares: columns and rankings,
// read only.
type measurement struct {
	s          *Sample
	diff       []float64 // strong minus weak outcome
	cost       []float64 // strong minus weak cost
	weakCost   []float64
	strongCost []float64
	recorded   bool
	rankings   []namedOrder
	// mask holds a bit for each fixed choice of the strong model, by row.
	mask    []uint8
	choices []string
	frozen  []FrozenPoint
	// places are the first place in the gain order at or above each frozen threshold.
	places []int
}

type namedOrder struct {
	name string
	*order
}

const (
	policyBit = iota
	randomBit
	lengthBit
	oracleBit
	domainBit
	choiceBits
)

// cptLevels are RouteLLM's.
func cptLevels() []float64 { return []float64{0.2, 0.5, 0.8} }

// keptLevels are the shares of always-strong quality at which savings are said.
func keptLevels() []float64 { return []float64{0.9, 0.95, 0.99} }

func percent(x float64) string { return strconv.FormatFloat(100*x, 'f', -1, 64) }

// minDomain is the least number of cases of which a domain's APGR is said.
const minDomain = 50

const calibrationBins = 10

func newMeasurement(r *replayed, frozen []FrozenPoint) *measurement {
	s := r.sample
	n := s.Len()
	m := &measurement{
		s: s, recorded: s.WeakCost != nil, frozen: frozen,
		diff: make([]float64, n), cost: make([]float64, n), weakCost: make([]float64, n), strongCost: make([]float64, n),
		mask: make([]uint8, n), choices: []string{"policy", BaselineRandom, BaselineLength, BaselineOracle, BaselineDomain},
	}
	for i := range n {
		m.diff[i] = s.StrongScore[i] - s.WeakScore[i]
		m.weakCost[i], m.strongCost[i] = s.WeakPrice, s.StrongPrice
		if m.recorded {
			m.weakCost[i], m.strongCost[i] = float64(s.WeakCost[i])/1e9, float64(s.StrongCost[i])/1e9
		}
		m.cost[i] = m.strongCost[i] - m.weakCost[i]
	}
	for k, name := range rankNames() {
		m.rankings = append(m.rankings, namedOrder{name, newOrder(r.ranks[k], m.diff, m.cost)})
	}
	m.rankings = append(m.rankings, namedOrder{BaselineOracle, newOrder(untied(m.diff, r.ranks[2]), m.diff, m.cost)})
	domainGap := m.domainGaps()
	if domainGap != nil {
		m.rankings = append(m.rankings, namedOrder{BaselineDomain, newOrder(untied(domainGap, r.ranks[2]), m.diff, m.cost)})
	}
	m.fixChoices()
	gain := m.rankings[0]
	for _, f := range frozen {
		m.places = append(m.places, sort.SearchFloat64s(gain.score, f.Threshold))
	}
	return m
}

// untied replaces scores by their ranks, equal ones in the order of the
// tiebreak. The oracle has three scores on a set of right and wrong, and equal
// quantile edges would leave most of RouteLLM's eleven points out; rows that tie
// gain the same, so the order among them changes nothing.
func untied(scores, tiebreak []float64) []float64 {
	items := make([]int32, len(scores))
	for i := range items {
		items[i] = int32(i)
	}
	slices.SortFunc(items, func(a, b int32) int {
		return cmp.Or(cmp.Compare(scores[a], scores[b]), cmp.Compare(tiebreak[a], tiebreak[b]), cmp.Compare(a, b))
	})
	out := make([]float64, len(scores))
	for rank, i := range items {
		out[i] = float64(rank)
	}
	return out
}

// domainGaps ranks each row by its domain's gap on the other half of the set;
// halves are by the digest of the id. It returns nil where the set has fewer
// than two domains.
func (m *measurement) domainGaps() []float64 {
	s := m.s
	if len(s.DomainNames) < 2 {
		return nil
	}
	type sum struct{ n, diff float64 }
	folds := [2][]sum{make([]sum, len(s.DomainNames)), make([]sum, len(s.DomainNames))}
	half := randomOf(0)
	fold := make([]uint8, s.Len())
	var all sum
	for i := range fold {
		if half(Prompt{ID: s.IDs[i]}) < 0.5 {
			fold[i] = 1
		}
		d := &folds[fold[i]][s.Domain[i]]
		d.n++
		d.diff += m.diff[i]
		all.n++
		all.diff += m.diff[i]
	}
	out := make([]float64, s.Len())
	for i := range out {
		if d := folds[1-fold[i]][s.Domain[i]]; d.n > 0 {
			out[i] = d.diff / d.n
		} else {
			out[i] = all.diff / all.n
		}
	}
	return out
}

// fixChoices sets each row's bits: the policy; random and length at the
// policy's share; the oracle (the better model, the cheaper of equals); each
// domain's better model.
func (m *measurement) fixChoices() {
	s, strong := m.s, 0
	for i, c := range s.Policy {
		if c == ChooseStrong {
			m.mask[i] |= 1 << policyBit
			strong++
		}
		if m.diff[i] > 0 || (m.diff[i] == 0 && m.cost[i] < 0) {
			m.mask[i] |= 1 << oracleBit
		}
	}
	for bit, name := range map[int]string{randomBit: BaselineRandom, lengthBit: BaselineLength} {
		k := slices.IndexFunc(m.rankings, func(r namedOrder) bool { return r.name == name })
		items := m.rankings[k].items
		for _, i := range items[len(items)-strong:] {
			m.mask[i] |= 1 << bit
		}
	}
	gaps := make([]float64, len(s.DomainNames))
	for i, d := range s.Domain {
		gaps[d] += m.diff[i]
	}
	for i, d := range s.Domain {
		if gaps[d] > 0 {
			m.mask[i] |= 1 << domainBit
		}
	}
}

// worker is one goroutine's evaluator.
type worker struct {
	*measurement
	sums *sums
	base base
	// masks, alphas and domains hold what rows of one kind sum to.
	masks   [1 << choiceBits]cell
	alphas  [2][AlphaSteps + 1]cell
	domains []domainCell
	bins    [2][calibrationBins]binCell
}

type cell struct{ n, diff, cost float64 }

type domainCell struct {
	base
	policy cell
}

type binCell struct{ n, predicted, observed float64 }

func (m *measurement) newWorker() evaluator {
	return &worker{measurement: m, sums: newSums(m.s.Len()), domains: make([]domainCell, len(m.s.DomainNames))}
}

// evaluate computes every figure of one resample.
func (w *worker) evaluate(counts []uint16, out *figures) {
	w.accumulate(counts)
	b := &w.base
	out.put(b.weak/b.n, "weak")
	out.put(b.strong/b.n, "strong")
	out.put(b.gap(), "gap")
	var gain, length float64
	for _, r := range w.rankings {
		w.sums.fill(r.order, counts)
		curve := w.sums.points(r.order, b)
		apgr := curve.apgr(b)
		w.curve(&curve, r.name, apgr, out)
		switch r.name {
		case "gain":
			gain = apgr
			w.gain(&curve, r.order, out)
		case BaselineLength:
			length = apgr
		}
	}
	out.put(gain-0.5, "over", BaselineRandom)
	out.put(gain-length, "over", BaselineLength)
	w.fixed(out)
	w.alphaSweep(out)
	w.perDomain(out)
	w.calibration(out)
}

// accumulate sums the resample's rows by kind in one pass.
func (w *worker) accumulate(counts []uint16) {
	w.base, w.masks = base{}, [1 << choiceBits]cell{}
	w.alphas, w.bins = [2][AlphaSteps + 1]cell{}, [2][calibrationBins]binCell{}
	clear(w.domains)
	s := w.s
	for i, c := range counts {
		if c == 0 {
			continue
		}
		f := float64(c)
		diff, cost := f*w.diff[i], f*w.cost[i]
		weak, weakCost := f*s.WeakScore[i], f*w.weakCost[i]
		strong, strongCost := f*s.StrongScore[i], f*w.strongCost[i]
		w.base.add(f, weak, strong, weakCost, strongCost)
		w.masks[w.mask[i]].add(f, diff, cost)
		w.alphas[s.AlphaFirst[i]-1][s.AlphaStep[i]].add(f, diff, cost)
		d := &w.domains[s.Domain[i]]
		d.add(f, weak, strong, weakCost, strongCost)
		if w.mask[i]&(1<<policyBit) != 0 {
			d.policy.add(f, diff, cost)
		}
		if s.Scored[i] {
			w.bins[0][binOf(s.QEfficient[i])].add(f, f*s.QEfficient[i], weak)
			w.bins[1][binOf(s.QHigh[i])].add(f, f*s.QHigh[i], strong)
		}
	}
}

func binOf(p float64) int { return min(max(int(p*calibrationBins), 0), calibrationBins-1) }

func (b *base) add(n, weak, strong, weakCost, strongCost float64) {
	b.n += n
	b.weak += weak
	b.strong += strong
	b.weakCost += weakCost
	b.strongCost += strongCost
}

func (c *cell) add(n, diff, cost float64) {
	c.n += n
	c.diff += diff
	c.cost += cost
}

func (c *binCell) add(n, predicted, observed float64) {
	c.n += n
	c.predicted += predicted
	c.observed += observed
}

// point puts share, quality, cost saved and quality kept of one choice: c sums
// the rows that go to the strong model.
func (b *base) point(c cell, out *figures, name ...string) (quality, cost float64) {
	quality, cost = (b.weak+c.diff)/b.n, (b.weakCost+c.cost)/b.n
	for i, v := range [...]float64{c.n / b.n, quality, b.saved(cost), quality * b.n / b.strong} {
		if !out.naming { // names cost more than figures
			out.put(v)
			continue
		}
		out.put(v, append(slices.Clone(name), [...]string{"share", "quality", "cost_saved", "quality_kept"}[i])...)
	}
	return quality, cost
}

// saved is the share of always strong's cost that a mean cost saves; what
// rounding alone leaves of nothing is nothing.
func (b *base) saved(cost float64) float64 {
	s := 1 - cost*b.n/b.strongCost
	if math.Abs(s) < 1e-12 {
		return 0
	}
	return s
}

// curve puts the figures that every ranking has.
func (w *worker) curve(c *points, name string, apgr float64, out *figures) {
	b := &w.base
	out.put(apgr, name, "apgr")
	for _, q := range cptLevels() {
		out.put(100*c.shareAt(q*b.gap()+b.weak/b.n), name, "cpt", percent(q))
	}
	for i := range c.share {
		at := strconv.Itoa(i)
		out.put(c.quality[i], name, "curve", at, "quality")
		out.put(b.saved(c.cost[i]), name, "curve", at, "cost_saved")
	}
}

// gain puts the figures that only Weir's ranking has.
func (w *worker) gain(c *points, o *order, out *figures) {
	b := &w.base
	apgr, least := w.sums.exact(o, b, cptLevels())
	out.put(apgr, "exact")
	for i, q := range cptLevels() {
		out.put(least[i], "true", percent(q))
	}
	paper, code := aiq(c.cost[:], c.quality[:])
	out.put(paper, "aiq_paper")
	out.put(code, "aiq_code")
	best, bestCost := b.strong/b.n, b.strongCost/b.n
	if b.weak >= b.strong {
		best, bestCost = b.weak/b.n, b.weakCost/b.n
	}
	top, save := math.Inf(-1), math.NaN()
	for i, q := range c.quality {
		top = max(top, q)
		if cut := 1 - c.cost[i]/bestCost; q >= best && !(cut <= save) {
			save = cut
		}
	}
	out.put(top/best-1, "perf_gain")
	out.put(save, "cost_save")
	for _, kept := range keptLevels() {
		level := kept * b.strong / b.n
		share := c.shareAt(level)
		random := min(max((level-b.weak/b.n)/b.gap(), 0), 1)
		_, factor, calls := Savings(share, random, 0, 1)
		out.put(share, "saving", percent(kept), "share")
		out.put(b.saved(c.costAt(level)), "saving", percent(kept), "strong")
		out.put(factor, "saving", percent(kept), "random")
		out.put(calls, "saving", percent(kept), "calls")
	}
	last := len(w.sums.n) - 1
	for k, p := range w.places {
		b.point(cell{w.sums.n[last] - w.sums.n[p], w.sums.diff[last] - w.sums.diff[p], w.sums.cost[last] - w.sums.cost[p]}, out, "frozen", strconv.Itoa(k))
	}
}

// fixed puts the figures of choices that a resample does not change.
func (w *worker) fixed(out *figures) {
	b := &w.base
	var by [choiceBits]cell
	for mask := range w.masks {
		for bit := range by {
			if mask&(1<<bit) != 0 {
				c := w.masks[mask]
				by[bit].add(c.n, c.diff, c.cost)
			}
		}
	}
	var quality, cost [choiceBits]float64
	for bit, name := range w.choices {
		quality[bit], cost[bit] = b.point(by[bit], out, name)
	}
	all := cell{b.n, b.strong - b.weak, b.strongCost - b.weakCost}
	b.point(all, out, BaselineAlwaysStrong)
	b.point(cell{}, out, BaselineAlwaysWeak)
	if b.strong > b.weak {
		b.point(all, out, BaselineBestSingle)
	} else {
		b.point(cell{}, out, BaselineBestSingle)
	}
	mix := min(max((cost[policyBit]*b.n-b.weakCost)/(b.strongCost-b.weakCost), 0), 1)
	switch {
	case b.strong >= b.weak && b.strongCost <= b.weakCost:
		mix = 1 // the strong model is the whole hull
	case b.strong <= b.weak || math.IsNaN(mix):
		mix = 0
	}
	b.point(cell{mix * all.n, mix * all.diff, mix * all.cost}, out, BaselineZero)

	share, q := by[policyBit].n/b.n, quality[policyBit]
	pgr := (q - b.weak/b.n) / b.gap()
	_, factor, calls := Savings(share, pgr, 0, 1)
	out.put(pgr, "policy", "pgr")
	out.put(quality[oracleBit]-q, "policy", "regret")
	out.put(entropy(share), "policy", "entropy")
	out.put(factor, "policy", "random")
	out.put(calls, "policy", "calls")
	per1K, score := math.NaN(), math.NaN()
	if w.recorded {
		per1K = 1000 * cost[policyBit]
		score = arena(q, per1K)
	}
	out.put(per1K, "policy", "per1k")
	out.put(score, "policy", "arena")
}

func (w *worker) alphaSweep(out *figures) {
	b := &w.base
	var now cell // rows that go to the strong model at this step
	for _, c := range w.alphas[ChooseStrong-1] {
		now.add(c.n, c.diff, c.cost)
	}
	for step := range AlphaSteps {
		on, off := w.alphas[ChooseWeak-1][step], w.alphas[ChooseStrong-1][step]
		now.add(on.n-off.n, on.diff-off.diff, on.cost-off.cost)
		b.point(now, out, "alpha", strconv.Itoa(step))
	}
}

func (w *worker) perDomain(out *figures) {
	for d := range w.domains {
		c := &w.domains[d]
		c.point(c.policy, out, "domain", strconv.Itoa(d))
	}
}

func (w *worker) calibration(out *figures) {
	for k, name := range [...]string{"efficient", "high"} {
		var ece, n float64
		for i, c := range w.bins[k] {
			n += c.n
			at := strconv.Itoa(i)
			out.put(c.n, "bin", name, at, "n")
			out.put(c.predicted/c.n, "bin", name, at, "predicted")
			out.put(c.observed/c.n, "bin", name, at, "observed")
			ece += math.Abs(c.predicted - c.observed)
		}
		out.put(ece/n, "ece", name)
	}
}

// onlyAPGR evaluates the ranking by gain within one domain.
type onlyAPGR struct {
	*order
	weak, strong []float64
	sums         *sums
}

func (e *onlyAPGR) evaluate(counts []uint16, out *figures) {
	var b base
	for i, c := range counts {
		b.add(float64(c), float64(c)*e.weak[i], float64(c)*e.strong[i], 0, 0)
	}
	e.sums.fill(e.order, counts)
	curve := e.sums.points(e.order, &b)
	out.put(b.gap(), "gap")
	out.put(curve.apgr(&b), "apgr")
}

// domainAPGR resamples each domain of at least minDomain rows by itself.
func (m *measurement) domainAPGR(resamples int, seed uint64) []Interval {
	s := m.s
	rows := make([][]int32, len(s.DomainNames))
	for i, d := range s.Domain {
		rows[d] = append(rows[d], int32(i))
	}
	out := make([]Interval, len(rows))
	for d, of := range rows {
		out[d] = unknown()
		if len(of) < minDomain {
			continue
		}
		e := onlyAPGR{}
		gain, diff := make([]float64, len(of)), make([]float64, len(of))
		for k, i := range of {
			gain[k], diff[k] = s.Gain[i], m.diff[i]
			e.weak, e.strong = append(e.weak, s.WeakScore[i]), append(e.strong, s.StrongScore[i])
		}
		e.order = newOrder(gain, diff, make([]float64, len(of)))
		got := bootstrap(len(of), resamples, seed, func() evaluator {
			own := e
			own.sums = newSums(len(of))
			return &own
		})
		if gap := got.get("gap"); gap.Value > 0 && (resamples < 1 || gap.Lo > 0) {
			out[d] = got.get("apgr")
		}
	}
	return out
}
