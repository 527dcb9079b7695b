package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// CompareConfig is what Compare holds against each other: one set replayed
// twice, by two bundles, two policies or two catalogs.
type CompareConfig struct {
	// A and B are the two replays, of the same cases with the same outcomes.
	A, B *Sample
	// NameA and NameB are how reports call them.
	NameA, NameB string
	// Seed and Bootstrap are as in Config; 0 resamples are 1,000, negative none.
	Seed      uint64
	Bootstrap int
	// Requests and TokensPerRequest project the cost: 0 for a million requests of
	// 359 tokens, RouteLLM's mean. Tokens count only where costs are notional.
	Requests         int64
	TokensPerRequest int64
}

// Comparison is the answer of Compare. Differences are B minus A, paired: the
// same resampled prompts on both sides.
type Comparison struct {
	Version int    `json:"version"`
	Set     string `json:"set"`
	N       int    `json:"n"`
	A       Side   `json:"a"`
	B       Side   `json:"b"`
	// Difference of the fields of Side, each with its paired interval.
	Difference Side `json:"difference"`
	// Flips are the decisions by both.
	Flips FlipMatrix `json:"flips"`
	// Requests and TokensPerRequest are those of ProjectedUSD; Notional tells that
	// it rests on notional prices, at that many tokens a request.
	Requests         int64 `json:"requests"`
	TokensPerRequest int64 `json:"tokens_per_request,omitempty"`
	Notional         bool  `json:"notional"`
}

// Side is one of two replays.
type Side struct {
	Name string `json:"name"`
	// Share of strong calls, mean outcome, and cost saved and quality kept against
	// always strong at the side's own prices.
	Share       Interval `json:"share"`
	Quality     Interval `json:"quality"`
	CostSaved   Interval `json:"cost_saved"`
	QualityKept Interval `json:"quality_kept"`
	// APGR ranks by the side's gain; null without a gap between the models.
	APGR Interval `json:"apgr"`
	// ProjectedUSD is what the requests would cost.
	ProjectedUSD Interval `json:"projected_usd"`
}

// FlipMatrix counts cases by what A and B chose. The quality of those that
// flipped is B's mean outcome minus A's, over all cases of the set, so that the
// two add up to the difference.
type FlipMatrix struct {
	BothWeak     int `json:"both_weak"`
	BothStrong   int `json:"both_strong"`
	WeakToStrong int `json:"weak_to_strong"`
	StrongToWeak int `json:"strong_to_weak"`
	// Gained and Lost of each kind of flip count cases whose outcome went up or down.
	UpGained       int      `json:"weak_to_strong_gained"`
	UpLost         int      `json:"weak_to_strong_lost"`
	DownGained     int      `json:"strong_to_weak_gained"`
	DownLost       int      `json:"strong_to_weak_lost"`
	QualityOfUps   Interval `json:"weak_to_strong_quality"`
	QualityOfDowns Interval `json:"strong_to_weak_quality"`
}

const (
	defaultRequests = 1_000_000
	// defaultTokens are RouteLLM's mean of 95 tokens in and 264 out.
	defaultTokens = 359
)

// Compare holds two replays of one set against each other. It refuses samples
// that are not of the same cases, in the same order, with the same outcomes.
func Compare(cfg CompareConfig) (*Comparison, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	if cfg.Bootstrap == 0 {
		cfg.Bootstrap = defaultResamples
	}
	if cfg.Requests == 0 {
		cfg.Requests = defaultRequests
	}
	if cfg.TokensPerRequest == 0 {
		cfg.TokensPerRequest = defaultTokens
	}
	sides := [2]*Sample{cfg.A, cfg.B}
	// What one request costs in dollars, per unit of a row's cost.
	var scale [2]float64
	for k, s := range sides {
		scale[k] = float64(cfg.Requests)
		if s.WeakCost == nil {
			scale[k] *= float64(cfg.TokensPerRequest) / 1e6
		}
	}
	rows := make([]int32, cfg.A.Len())
	for i := range rows {
		rows[i] = int32(i)
	}
	shared := [2]*rankedRows{newRankedRows(cfg.A, rows), newRankedRows(cfg.B, rows)}
	got := bootstrap(len(rows), cfg.Bootstrap, cfg.Seed, func() evaluator {
		e := &comparing{scale: scale, samples: sides}
		for k := range e.ranked {
			own := *shared[k]
			own.sums = newSums(len(rows))
			e.ranked[k] = &own
		}
		return e
	})
	out := &Comparison{Version: 1, Set: cfg.A.Name, N: len(rows), Requests: cfg.Requests, Notional: cfg.A.WeakCost == nil}
	if out.Notional {
		out.TokensPerRequest = cfg.TokensPerRequest
	}
	gap := got.get("gap")
	usable := gap.Value > 0 && (cfg.Bootstrap < 1 || gap.Lo > 0)
	for name, side := range map[string]*Side{"a": &out.A, "b": &out.B, "difference": &out.Difference} {
		*side = Side{
			Share: got.get(name, "share"), Quality: got.get(name, "quality"), CostSaved: got.get(name, "cost_saved"),
			QualityKept: got.get(name, "quality_kept"), APGR: unknown(), ProjectedUSD: got.get(name, "usd"),
		}
		if usable {
			side.APGR = got.get(name, "apgr")
		}
	}
	out.A.Name, out.B.Name, out.Difference.Name = cfg.NameA, cfg.NameB, cfg.NameB+" minus "+cfg.NameA
	out.Flips = flips(cfg.A, cfg.B)
	out.Flips.QualityOfUps, out.Flips.QualityOfDowns = got.get("ups"), got.get("downs")
	return out, nil
}

func (c *CompareConfig) check() error {
	a, b := c.A, c.B
	if a == nil || b == nil {
		return errors.New("two replays are required")
	}
	if c.Requests < 0 || c.TokensPerRequest < 0 {
		return fmt.Errorf("requests %d and tokens per request %d: give numbers above 0, or 0 for the defaults", c.Requests, c.TokensPerRequest)
	}
	if a.Len() == 0 || !slices.Equal(a.IDs, b.IDs) {
		return fmt.Errorf("set %s has %d cases and set %s %d, or other ids: compare replays of the same set", a.Name, a.Len(), b.Name, b.Len())
	}
	if !slices.Equal(a.WeakScore, b.WeakScore) || !slices.Equal(a.StrongScore, b.StrongScore) {
		return fmt.Errorf("set %s has other outcomes in the two replays: give both the same two models", a.Name)
	}
	if (a.WeakCost == nil) != (b.WeakCost == nil) {
		return fmt.Errorf("set %s has recorded costs in one replay only", a.Name)
	}
	return nil
}

// comparing evaluates both sides on one resample.
type comparing struct {
	samples [2]*Sample
	ranked  [2]*rankedRows
	scale   [2]float64
}

func (e *comparing) evaluate(counts []uint16, out *figures) {
	var values [2][6]float64
	names := [...]string{"share", "quality", "cost_saved", "quality_kept", "apgr", "usd"}
	for k, s := range e.samples {
		r := e.ranked[k]
		curve, b := r.curve(counts)
		var c cell
		for i, f := range counts {
			if s.Policy[i] == ChooseStrong {
				c.add(float64(f), float64(f)*r.unsortedDiff(i), float64(f)*(r.strongCost[i]-r.weakCost[i]))
			}
		}
		quality, cost := (b.weak+c.diff)/b.n, (b.weakCost+c.cost)/b.n
		values[k] = [6]float64{c.n / b.n, quality, b.saved(cost), quality * b.n / b.strong, curve.apgr(&b), cost * e.scale[k]}
		for i, v := range values[k] {
			out.put(v, string("ab"[k]), names[i])
		}
		if k == 0 {
			out.put(b.gap(), "gap")
		}
	}
	for i, name := range names {
		out.put(values[1][i]-values[0][i], "difference", name)
	}
	var n, ups, downs float64
	a, b := e.samples[0], e.samples[1]
	for i, f := range counts {
		n += float64(f)
		switch d := float64(f) * (a.StrongScore[i] - a.WeakScore[i]); {
		case a.Policy[i] == b.Policy[i]:
		case b.Policy[i] == ChooseStrong:
			ups += d
		default:
			downs -= d
		}
	}
	out.put(ups/n, "ups")
	out.put(downs/n, "downs")
}

func (r *rankedRows) unsortedDiff(i int) float64 { return r.strong[i] - r.weak[i] }

func flips(a, b *Sample) FlipMatrix {
	var m FlipMatrix
	for i := range a.Len() {
		d := a.StrongScore[i] - a.WeakScore[i]
		switch from, to := a.Policy[i], b.Policy[i]; {
		case from == ChooseWeak && to == ChooseWeak:
			m.BothWeak++
		case from == ChooseStrong && to == ChooseStrong:
			m.BothStrong++
		case to == ChooseStrong:
			m.WeakToStrong++
			countSign(d, &m.UpGained, &m.UpLost)
		default:
			m.StrongToWeak++
			countSign(-d, &m.DownGained, &m.DownLost)
		}
	}
	return m
}

func countSign(d float64, up, down *int) {
	switch {
	case d > 0:
		*up++
	case d < 0:
		*down++
	}
}

// WhatIf is what a threshold on gain does: prompts at or above it go to the
// strong model.
type WhatIf struct {
	Threshold float64 `json:"threshold"`
	// On the cases that the threshold was read from (all of them for AtThresholds).
	Share       Interval `json:"share"`
	Quality     Interval `json:"quality"`
	CostSaved   Interval `json:"cost_saved"`
	QualityKept Interval `json:"quality_kept"`
}

// Target is a threshold that was chosen for a goal on one half of a set, and
// what it does on the other half.
type Target struct {
	// Goal is "cost_saved" or "quality_kept", Level what was asked for, 0 to 1.
	Goal  string  `json:"goal"`
	Level float64 `json:"level"`
	// Reached is false where no threshold reaches the level on the half that
	// chooses; then there are no figures.
	Reached bool `json:"reached"`
	// Why says why it is not reached: also where a set is too small to be halved.
	Why string `json:"why,omitempty"`
	// Chosen is on the half that chose, so that it looks a little better than it
	// is; Held on the other half, which is what to expect.
	Chosen WhatIf `json:"chosen"`
	Held   WhatIf `json:"held"`
}

// AtThresholds tells what each threshold on gain does to a set.
func AtThresholds(s *Sample, thresholds []float64, resamples int, seed uint64) ([]WhatIf, error) {
	if s.Len() == 0 {
		return nil, errors.New("what if: the set is empty")
	}
	rows := make([]int32, s.Len())
	for i := range rows {
		rows[i] = int32(i)
	}
	var out []WhatIf
	for _, t := range thresholds {
		if math.IsNaN(t) {
			return nil, fmt.Errorf("what if: threshold %v is no number", t)
		}
		out = append(out, whatIf(s, rows, t, resamples, seed))
	}
	return out, nil
}

func whatIf(s *Sample, rows []int32, threshold float64, resamples int, seed uint64) WhatIf {
	got := bootstrap(len(rows), resamples, seed, func() evaluator { return &atThreshold{s, rows, threshold} })
	return WhatIf{threshold, got.get("share"), got.get("quality"), got.get("cost_saved"), got.get("quality_kept")}
}

// atThreshold evaluates one threshold on some rows.
type atThreshold struct {
	s         *Sample
	rows      []int32
	threshold float64
}

func (e *atThreshold) evaluate(counts []uint16, out *figures) {
	var b base
	var c cell
	for k, n := range counts {
		i, f := int(e.rows[k]), float64(n)
		weakCost, strongCost := e.s.costs(i)
		b.add(f, f*e.s.WeakScore[i], f*e.s.StrongScore[i], f*weakCost, f*strongCost)
		if e.s.Gain[i] >= e.threshold {
			c.add(f, f*(e.s.StrongScore[i]-e.s.WeakScore[i]), f*(strongCost-weakCost))
		}
	}
	quality, cost := (b.weak+c.diff)/b.n, (b.weakCost+c.cost)/b.n
	out.put(c.n/b.n, "share")
	out.put(quality, "quality")
	out.put(b.saved(cost), "cost_saved")
	out.put(quality*b.n/b.strong, "quality_kept")
}

// FindThreshold looks for the threshold on gain that reaches a saving with the
// highest quality, or a quality with the largest saving. It chooses on one half of the
// set (by the digest of the ids) and measures on the other.
func FindThreshold(s *Sample, goal string, level float64, resamples int, seed uint64) (*Target, error) {
	if goal != "cost_saved" && goal != "quality_kept" {
		return nil, fmt.Errorf("find threshold: goal %q is unknown: use cost_saved or quality_kept", goal)
	}
	if !(level > 0 && level <= 1.5) {
		return nil, fmt.Errorf("find threshold: level %v of %s: give a fraction, such as 0.5 or 0.95", level, goal)
	}
	var halves [2][]int32
	half := randomOf(seed)
	for i, id := range s.IDs {
		k := 0
		if half(Prompt{ID: id}) >= 0.5 {
			k = 1
		}
		halves[k] = append(halves[k], int32(i))
	}
	nothing := WhatIf{0, unknown(), unknown(), unknown(), unknown()}
	out := &Target{Goal: goal, Level: level, Chosen: nothing, Held: nothing}
	if min(len(halves[0]), len(halves[1])) < minDomain {
		out.Why = fmt.Sprintf("%d cases are too few: at least %d in each half are needed", s.Len(), minDomain)
		return out, nil
	}
	threshold, ok := bestThreshold(s, halves[0], goal, level)
	if !ok {
		out.Why = "no threshold reaches it"
		return out, nil
	}
	out.Reached = true
	out.Chosen = whatIf(s, halves[0], threshold, resamples, seed)
	out.Held = whatIf(s, halves[1], threshold, resamples, seed)
	return out, nil
}

// bestThreshold tries every score of the rows, and one above them all.
func bestThreshold(s *Sample, rows []int32, goal string, level float64) (threshold float64, ok bool) {
	r := newRankedRows(s, rows)
	ones := make([]uint16, len(rows))
	for i := range ones {
		ones[i] = 1
	}
	_, b := r.curve(ones)
	best := math.Inf(-1)
	for p := len(rows); p >= 0; p-- {
		if p < len(rows) && int(r.start[p]) != p {
			continue // ties go together
		}
		_, quality, cost := r.sums.at(p, &b)
		saved, kept := b.saved(cost), quality*b.n/b.strong
		reached, value := saved, kept
		if goal == "quality_kept" {
			reached, value = kept, saved
		}
		if reached >= level-1e-12 && value > best {
			best, ok = value, true
			threshold = math.Nextafter(r.score[len(rows)-1], math.Inf(1))
			if p < len(rows) {
				threshold = r.score[p]
			}
		}
	}
	return threshold, ok
}
