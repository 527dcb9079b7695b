package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// WorstDecisions is how many decisions a Detail lists at most.
const WorstDecisions = 50

// Detail is what single decisions say beside a Result: computed from the
// columns, because a Result holds none. It has no text unless AddTexts is asked
// for it.
type Detail struct {
	// Set is the name of the set.
	Set string
	// Matrix counts the policy's decisions by which model was better.
	Matrix Matrix
	// Worst are decisions that lost quality, the greatest loss first; among equal
	// losses, those of which the ranking was most wrongly sure.
	Worst []Decision
	// Domains are the curves of domains with at least 50 cases and two different
	// qualities, most cases first.
	Domains []DomainCurve
}

// Matrix counts decisions: by what was chosen and by which model's outcome was
// better.
type Matrix struct {
	Weak, Strong MatrixRow
}

// MatrixRow is what became of the decisions for one model.
type MatrixRow struct {
	WeakBetter, Same, StrongBetter int
	// Lost is the mean quality lost against the better model, over all cases of
	// the set.
	Lost float64
}

// Decision is one decision of the policy with its outcomes.
type Decision struct {
	ID, Domain string
	Choice     Choice
	// Weak and Strong are the outcomes, Lost the better one minus the chosen one.
	Weak, Strong, Lost      float64
	Gain, QEfficient, QHigh float64
	Chars                   int
	Scored                  bool
	// Text is the scored text where AddTexts found it, else "".
	Text string
}

// DomainCurve is the ranking by gain within one domain.
type DomainCurve struct {
	Domain       string
	N            int
	Weak, Strong float64
	Curve        []Point
}

// DetailOf computes the detail of a set from its columns. resamples and seed are
// of the intervals of the domains' curves; resamples below 1 gives none.
func DetailOf(s *Sample, resamples int, seed uint64) *Detail {
	d := &Detail{Set: s.Name}
	worst := make([]int32, 0, s.Len())
	lost := func(i int) float64 { return max(s.WeakScore[i], s.StrongScore[i]) - s.chosenScore(i) }
	for i := range s.Len() {
		row := &d.Matrix.Weak
		if s.Policy[i] == ChooseStrong {
			row = &d.Matrix.Strong
		}
		switch c := cmp.Compare(s.WeakScore[i], s.StrongScore[i]); {
		case c > 0:
			row.WeakBetter++
		case c < 0:
			row.StrongBetter++
		default:
			row.Same++
		}
		if l := lost(i); l > 0 {
			row.Lost += l / float64(s.Len())
			worst = append(worst, int32(i))
		}
	}
	sure := func(i int32) float64 { // how wrongly sure: far down and sent weak, or far up and sent strong
		if s.Policy[i] == ChooseStrong {
			return s.Gain[i]
		}
		return -s.Gain[i]
	}
	slices.SortFunc(worst, func(a, b int32) int {
		return cmp.Or(-cmp.Compare(lost(int(a)), lost(int(b))), -cmp.Compare(sure(a), sure(b)), cmp.Compare(s.IDs[a], s.IDs[b]))
	})
	for _, i := range worst[:min(len(worst), WorstDecisions)] {
		d.Worst = append(d.Worst, Decision{
			ID: s.IDs[i], Domain: s.DomainNames[s.Domain[i]], Choice: s.Policy[i], Weak: s.WeakScore[i], Strong: s.StrongScore[i], Lost: lost(int(i)),
			Gain: s.Gain[i], QEfficient: s.QEfficient[i], QHigh: s.QHigh[i], Chars: int(s.Chars[i]), Scored: s.Scored[i],
		})
	}
	d.Domains = domainCurves(s, resamples, seed)
	return d
}

// chosenScore is the outcome of the model that the policy chose.
func (s *Sample) chosenScore(i int) float64 {
	if s.Policy[i] == ChooseStrong {
		return s.StrongScore[i]
	}
	return s.WeakScore[i]
}

// costs are what the two models cost on a row: recorded dollars, or the
// notional price.
func (s *Sample) costs(i int) (weak, strong float64) {
	if s.WeakCost == nil {
		return s.WeakPrice, s.StrongPrice
	}
	return float64(s.WeakCost[i]) / 1e9, float64(s.StrongCost[i]) / 1e9
}

// AddTexts reads the set again and puts the scored text beside the worst
// decisions. Only where a person asked to see prompts.
func (d *Detail) AddTexts(src Source) error {
	want := map[string]int{}
	for i := range d.Worst {
		want[d.Worst[i].ID] = i
	}
	for c, err := range src.Cases {
		if err != nil {
			return fmt.Errorf("texts of set %s: %w", d.Set, err)
		}
		if i, ok := want[c.ID]; ok && c.Split != SplitOverlap {
			text, err := c.Text()
			if err != nil {
				return fmt.Errorf("texts of set %s: id %q: %w", d.Set, c.ID, err)
			}
			d.Worst[i].Text = text
			if delete(want, c.ID); len(want) == 0 {
				break
			}
		}
	}
	return nil
}

// rankedRows are some rows of a set with one ranking.
type rankedRows struct {
	*order
	diff, cost                         []float64
	weak, strong, weakCost, strongCost []float64
	sums                               *sums
}

func newRankedRows(s *Sample, rows []int32) *rankedRows {
	r := &rankedRows{sums: newSums(len(rows))}
	gain := make([]float64, len(rows))
	for k, i := range rows {
		gain[k] = s.Gain[i]
		weakCost, strongCost := s.costs(int(i))
		r.weak, r.strong = append(r.weak, s.WeakScore[i]), append(r.strong, s.StrongScore[i])
		r.weakCost, r.strongCost = append(r.weakCost, weakCost), append(r.strongCost, strongCost)
		r.diff, r.cost = append(r.diff, s.StrongScore[i]-s.WeakScore[i]), append(r.cost, strongCost-weakCost)
	}
	r.order = newOrder(gain, r.diff, r.cost)
	return r
}

// curve reads the eleven points of one resample.
func (r *rankedRows) curve(counts []uint16) (points, base) {
	var b base
	for i, c := range counts {
		f := float64(c)
		b.add(f, f*r.weak[i], f*r.strong[i], f*r.weakCost[i], f*r.strongCost[i])
	}
	r.sums.fill(r.order, counts)
	return r.sums.points(r.order, &b), b
}

func (r *rankedRows) evaluate(counts []uint16, out *figures) {
	curve, b := r.curve(counts)
	out.put(b.weak/b.n, "weak")
	out.put(b.strong/b.n, "strong")
	for i := range curve.share {
		at := strconv.Itoa(i)
		out.put(curve.threshold[i], "threshold", at)
		out.put(curve.share[i], "share", at)
		out.put(curve.quality[i], "quality", at)
		out.put(b.saved(curve.cost[i]), "saved", at)
	}
}

func domainCurves(s *Sample, resamples int, seed uint64) []DomainCurve {
	if len(s.DomainNames) < 2 {
		return nil // the whole set's curve says it
	}
	rows := make([][]int32, len(s.DomainNames))
	for i, d := range s.Domain {
		rows[d] = append(rows[d], int32(i))
	}
	var out []DomainCurve
	for d, of := range rows {
		if len(of) < minDomain {
			continue
		}
		got := bootstrap(len(of), resamples, seed, func() evaluator { return newRankedRows(s, of) })
		c := DomainCurve{Domain: s.DomainNames[d], N: len(of), Weak: got.get("weak").Value, Strong: got.get("strong").Value}
		if math.Abs(c.Strong-c.Weak) < 1e-12 {
			continue
		}
		for i := range edges + 1 {
			at := strconv.Itoa(i)
			c.Curve = append(c.Curve, Point{got.get("threshold", at).Value, got.get("share", at).Value, got.get("quality", at), got.get("saved", at)})
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b DomainCurve) int { return b.N - a.N })
	return out
}

// baselineNames lists the baselines in the order in which reports print them.
func baselineNames() []string {
	return []string{BaselineRandom, BaselineLength, BaselineAlwaysWeak, BaselineAlwaysStrong, BaselineBestSingle, BaselineZero, BaselineDomain, BaselineOracle}
}

// baselineTitle is how people read a baseline's name.
func baselineTitle(name string) string {
	switch name {
	case BaselineAlwaysStrong:
		return "always strong"
	case BaselineAlwaysWeak:
		return "always efficient"
	case BaselineBestSingle:
		return "best single model"
	case BaselineZero:
		return "zero router (hull)"
	case BaselineDomain:
		return "domain oracle *"
	case BaselineOracle:
		return "per-query oracle *"
	case BaselineLength:
		return "prompt length"
	default:
		return name
	}
}

// showInterval prints a figure times scale with its interval; "-" where there is none.
func showInterval(i Interval, scale float64, digits int) string {
	if !i.Known() {
		return "-"
	}
	v := showNumber(i.Value*scale, digits)
	if math.IsNaN(i.Lo) || math.IsNaN(i.Hi) {
		return v
	}
	return v + " [" + showNumber(i.Lo*scale, digits) + ", " + showNumber(i.Hi*scale, digits) + "]"
}

// showNumber prints a number; minus zero is zero.
func showNumber(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if zero := strconv.FormatFloat(0, 'f', digits, 64); s == "-"+zero {
		return zero
	}
	return s
}

// showCount groups thousands.
func showCount(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
