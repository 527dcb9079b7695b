package eval

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// edges is RouteLLM's number of bins: eleven thresholds.
const edges = 10

// order is a ranking of a set, sorted once, so that every resample is read off
// it in one pass.
type order struct {
	items []int32   // the set's rows, lowest score first
	score []float64 // their scores
	start []int32   // at each place, the first place of the same score
	// diff and cost are strong minus weak at each place: outcome and cost.
	diff, cost []float64
}

func newOrder(scores, diff, cost []float64) *order {
	n := len(scores)
	o := &order{items: make([]int32, n), score: make([]float64, n), start: make([]int32, n), diff: make([]float64, n), cost: make([]float64, n)}
	for i := range o.items {
		o.items[i] = int32(i)
	}
	slices.SortStableFunc(o.items, func(a, b int32) int { return cmp.Compare(scores[a], scores[b]) })
	for at, i := range o.items {
		o.score[at], o.diff[at], o.cost[at] = scores[i], diff[i], cost[i]
		o.start[at] = int32(at)
		if at > 0 && o.score[at-1] == o.score[at] {
			o.start[at] = o.start[at-1]
		}
	}
	return o
}

// sums are the prefix sums of one resample along an order: what lies below
// each place. The last entry of each is the total.
type sums struct {
	n, diff, cost []float64
}

func newSums(n int) *sums {
	return &sums{make([]float64, n+1), make([]float64, n+1), make([]float64, n+1)}
}

// base is what a resample says of the whole set: sums, not means.
type base struct {
	n, weak, strong, weakCost, strongCost float64
}

func (b *base) gap() float64 { return (b.strong - b.weak) / b.n }

// fill computes the prefix sums for one resample; counts says how often each
// row was drawn. Nearly all time of a bootstrap is spent here.
func (s *sums) fill(o *order, counts []uint16) {
	items := o.items
	size := len(items)
	diff, cost := o.diff[:size], o.cost[:size]
	toN, toDiff, toCost := s.n[1:size+1], s.diff[1:size+1], s.cost[1:size+1]
	var n, d, k float64
	for at, i := range items {
		f := float64(counts[i])
		n += f
		d += f * diff[at]
		k += f * cost[at]
		toN[at], toDiff[at], toCost[at] = n, d, k
	}
}

// at is the point where the places from p on go to the strong model.
func (s *sums) at(p int, b *base) (share, quality, cost float64) {
	last := len(s.n) - 1
	share = (s.n[last] - s.n[p]) / b.n
	quality = (b.weak + s.diff[last] - s.diff[p]) / b.n
	cost = (b.weakCost + s.cost[last] - s.cost[p]) / b.n
	return share, quality, cost
}

// points are RouteLLM's eleven, from 0 % to 100 % strong.
type points struct {
	threshold, share, quality, cost [edges + 1]float64
	tied                            bool
}

// points reads RouteLLM's curve off a resample (its evaluate: pandas.qcut with
// ten bins, so quantiles by linear interpolation; strong at or above the edge,
// for the last edge above it).
func (s *sums) points(o *order, b *base) (out points) {
	last := len(s.n) - 1
	drawn := s.n[last]
	place := func(rank float64) int { // of the rank-th drawn row
		return sort.Search(last, func(p int) bool { return s.n[p+1] > rank })
	}
	previous := math.Inf(-1)
	for k := 0; k <= edges; k++ {
		q := float64(k) * 0.1
		if k == edges {
			q = 1
		}
		virtual := (drawn - 1) * (q * 100 / 100)
		low := math.Floor(virtual)
		a, z := place(low), place(min(low+1, drawn-1))
		t := lerp(o.score[a], o.score[z], virtual-low)
		p := int(o.start[z])
		if t == o.score[a] {
			p = int(o.start[a])
		}
		out.tied = out.tied || t == previous
		previous = t
		if k == edges {
			p = last
		}
		i := edges - k
		out.threshold[i] = t
		out.share[i], out.quality[i], out.cost[i] = s.at(p, b)
	}
	return out
}

// lerp is numpy's: exact at both ends.
func lerp(a, b, t float64) float64 {
	d := b - a
	if t >= 0.5 {
		return b - float64(d*(1-t))
	}
	return a + float64(d*t)
}

// apgr is RouteLLM's: trapezoids over the achieved shares, against the areas
// of always-weak and always-strong over the same shares.
func (c *points) apgr(b *base) float64 {
	var area, width float64
	for i := 1; i <= edges; i++ {
		w := c.share[i] - c.share[i-1]
		area += w * (c.quality[i] + c.quality[i-1]) / 2
		width += w
	}
	weak, strong := b.weak/b.n*width, b.strong/b.n*width
	return (area - weak) / (strong - weak)
}

// shareAt is the interpolated share at which quality reaches a level.
func (c *points) shareAt(level float64) float64 { return interp(level, c.quality[:], c.share[:]) }

func (c *points) costAt(level float64) float64 { return interp(level, c.quality[:], c.cost[:]) }

// monotone tells whether quality never goes down along the curve by more than
// the rounding of a sum.
func (c *points) monotone() bool {
	const hair = 1e-12
	for i := 1; i <= edges; i++ {
		if c.quality[i] < c.quality[i-1]-hair {
			return false
		}
	}
	return true
}

// exact is the area with a threshold at every score, as APGR, and the least
// shares in percent at which PGR reaches the levels (NaN where it never does).
func (s *sums) exact(o *order, b *base, levels []float64) (apgr float64, shares []float64) {
	last := len(s.n) - 1
	shares = make([]float64, len(levels))
	for i := range shares {
		shares[i] = math.NaN()
	}
	const hair = 1e-12
	gap, open := b.strong-b.weak, len(levels)
	var area, x0, y0 float64
	for p := last; p > 0; {
		p = int(o.start[p-1])
		x1, y1 := s.n[last]-s.n[p], s.diff[last]-s.diff[p]
		area += (x1 - x0) * (y0 + y1) / 2
		x0, y0 = x1, y1
		if open > 0 {
			for i, level := range levels {
				if math.IsNaN(shares[i]) && y1 >= level*gap-hair {
					shares[i] = 100 * x1 / b.n
					open--
				}
			}
		}
	}
	return area / (b.n * gap), shares
}

// interp is numpy.interp of one value, its search included: where xp goes up
// and down, it finds the crossing that numpy would find.
func interp(x float64, xp, fp []float64) float64 {
	n := len(xp)
	j := searchLikeNumpy(x, xp)
	switch {
	case j < 0:
		return fp[0]
	case j >= n-1:
		return fp[n-1]
	case xp[j] == x:
		return fp[j]
	}
	slope := (fp[j+1] - fp[j]) / (xp[j+1] - xp[j])
	if v := float64(slope*(x-xp[j])) + fp[j]; !math.IsNaN(v) {
		return v
	}
	if v := float64(slope*(x-xp[j+1])) + fp[j+1]; !math.IsNaN(v) {
		return v
	}
	return fp[j]
}

// searchLikeNumpy looks near the second entry first and bisects the rest, as
// numpy's compiled interp does for its first value.
func searchLikeNumpy(x float64, xp []float64) int {
	n := len(xp)
	switch {
	case x > xp[n-1]:
		return n
	case x < xp[0]:
		return -1
	}
	if n <= 4 {
		i := 1
		for i < n && x >= xp[i] {
			i++
		}
		return i - 1
	}
	low, high := 3, n
	switch {
	case x < xp[1]:
		return 0
	case x < xp[2]:
		return 1
	case x < xp[3]:
		return 2
	case n > 1+8+1 && x < xp[1+8]:
		high = 1 + 8
	}
	for low < high {
		if mid := low + (high-low)/2; x >= xp[mid] {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1
}

// aiq is RouterBench's average improvement in quality over points sorted by
// cost: by its paper, and by its code.
func aiq(cost, quality []float64) (paper, code float64) {
	hull := upperHull(cost, quality)
	n := len(cost)
	lo, hi := cost[0], cost[n-1]
	if !(hi > lo) {
		return math.NaN(), math.NaN()
	}
	at := func(x float64) float64 {
		for i := 1; i < len(hull); i++ {
			if a, b := hull[i-1], hull[i]; x <= b[0] {
				if b[0] == a[0] {
					return b[1]
				}
				return a[1] + (b[1]-a[1])*(x-a[0])/(b[0]-a[0])
			}
		}
		return hull[len(hull)-1][1]
	}
	var area float64
	for i := 1; i < len(hull); i++ {
		area += (hull[i][0] - hull[i-1][0]) * (hull[i][1] + hull[i-1][1]) / 2
	}
	end := hull[len(hull)-1]
	area += (hi - end[0]) * end[1]
	var own float64
	for i := 1; i < n; i++ {
		own += (cost[i] - cost[i-1]) * (at(cost[i]) + at(cost[i-1])) / 2
	}
	return area / (hi - lo), own / hi
}

// upperHull is the non-decreasing part of the upper convex hull of points that
// are sorted by x.
func upperHull(x, y []float64) [][2]float64 {
	var hull [][2]float64
	best := math.Inf(-1)
	for i := range x {
		if y[i] <= best {
			continue // below what less money buys
		}
		best = y[i]
		p := [2]float64{x[i], y[i]}
		for len(hull) > 0 {
			b := hull[len(hull)-1]
			if b[0] == p[0] {
				hull = hull[:len(hull)-1]
				continue
			}
			if len(hull) < 2 {
				break
			}
			a := hull[len(hull)-2]
			if (b[1]-a[1])*(p[0]-a[0]) > (p[1]-a[1])*(b[0]-a[0]) {
				break
			}
			hull = hull[:len(hull)-1]
		}
		hull = append(hull, p)
	}
	return hull
}

// arena is RouterArena's score: the weighted harmonic mean (b = .1) of quality
// and cost efficiency, of dollars for 1,000 queries between .0044 and 200.
func arena(quality, usdPer1K float64) float64 {
	const b, cheapest, dearest = 0.1, 0.0044, 200.0
	c := (math.Log2(dearest) - math.Log2(min(max(usdPer1K, cheapest), dearest))) / (math.Log2(dearest) - math.Log2(cheapest))
	if b*quality+c == 0 {
		return 0
	}
	return (1 + b) * quality * c / (b*quality + c)
}

// entropy of two call rates, in bits.
func entropy(share float64) float64 {
	h := 0.0
	for _, p := range [...]float64{share, 1 - share} {
		if p > 0 {
			h -= p * math.Log2(p)
		}
	}
	return h
}

// Savings computes the three definitions of what a share of strong calls saves,
// from the two prices of a call: against always strong in money; as a factor
// of the strong calls that random needs for the same quality, randomShare; and
// in calls. Shares are 0 to 1.
func Savings(share, randomShare, weakPrice, strongPrice float64) (overStrong, overRandom, byCalls float64) {
	overRandom = math.NaN()
	if share > 0 {
		overRandom = randomShare / share
	}
	return 1 - (share*strongPrice+(1-share)*weakPrice)/strongPrice, overRandom, 1 - share
}
