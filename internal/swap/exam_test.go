package swap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/router"
)

// exam holds a candidate of that kind against a good serving bundle.
func exam(t *testing.T, kind string, change func(*Exam)) *Report {
	t.Helper()
	dir := t.TempDir()
	e := Exam{
		Job: Job{
			Serving: put(t, filepath.Join(dir, "a"), recipe{Name: "a"}), Candidate: put(t, filepath.Join(dir, "b"), recipe{Name: "b", Kind: kind}),
			Out: t.TempDir(), Policy: DefaultPolicy(),
		},
		Rules: rules(t), Sources: []eval.Source{cases(150)}, Resident: func() (int64, error) { return 1, nil },
		Refusals: func(err error) []Gate { return []Gate{{Name: GateProbes, Detail: err.Error()}} },
	}
	f := &factory{}
	e.Open = f.Open
	e.Policy.Replay.Bootstrap = 200
	e.Policy.Latency.MaxRatio = 1e3
	if change != nil {
		change(&e)
	}
	r, err := e.Run(t.Context())
	require.NoError(t, err)
	assert.Zero(t, f.open.Load(), "the exam left a bundle open")
	return r
}

func gateNamed(t *testing.T, r *Report, name string) Gate {
	t.Helper()
	for _, g := range r.Gates {
		if g.Name == name {
			return g
		}
	}
	require.Fail(t, "no such gate", "%s in %+v", name, r.Gates)
	return Gate{}
}

func TestExamPassesAGoodCandidate(t *testing.T) {
	out := t.TempDir()
	r := exam(t, "shifted", func(e *Exam) { e.Out = out })
	require.True(t, r.Passed(), "%+v", r.Failed())
	assert.Greater(t, r.Replay.Agreement, 0.99)
	assert.Equal(t, 150, r.Replay.Prompts)
	sum := 0
	for _, row := range r.Replay.Flips {
		for _, n := range row {
			sum += n
		}
	}
	assert.Equal(t, 150, sum, "every prompt is in the matrix once")
	require.Len(t, r.Replay.Sets, 1)
	page, err := r.write(out)
	require.NoError(t, err)
	html, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, want := range []string{"passed every gate", "HIGH_PERFORMANCE", `src="set-1-candidate.svg"`, "made: 150 prompts"} {
		assert.Contains(t, string(html), want)
	}
	for _, name := range append(r.Pages, "report.json") {
		assert.FileExists(t, filepath.Join(out, name))
	}
}

// TestExamRefuses holds every way in which a candidate that opens can be bad
// against the gate that has to say so.
func TestExamRefuses(t *testing.T) {
	for kind, want := range map[string]struct{ gate, says string }{
		"refuses to open": {GateProbes, "probe 3"},
		"NaN":             {GateRange, "150 of 150 prompts give no sound score"},
		"swapped":         {GateReplay, "the other way round, as with swapped labels"},
		"always strong":   {GateReplay, "100.0 % of the prompts go above the cheapest tier"},
		"other weights":   {GateReplay, "it ranks prompts otherwise than what serves"},
	} {
		t.Run(kind, func(t *testing.T) {
			r := exam(t, kind, nil)
			failed := r.Failed()
			require.Len(t, failed, 1)
			assert.Equal(t, want.gate, failed[0].Name)
			assert.Contains(t, failed[0].Detail, want.says)
		})
	}
	t.Run("ten times slower", func(t *testing.T) {
		r := exam(t, "slow", func(e *Exam) { e.Policy.Latency.MaxRatio = 3 })
		g := gateNamed(t, r, GateLatency)
		assert.False(t, g.Passed)
		assert.Contains(t, g.Detail, "allowed are 3")
		assert.True(t, gateNamed(t, r, GateReplay).Passed, "it decides as before")
	})
	t.Run("slowest prompt", func(t *testing.T) {
		r := exam(t, "", func(e *Exam) { e.Policy.Latency.MaxP99 = 1 })
		assert.False(t, gateNamed(t, r, GateLatency).Passed)
	})
	t.Run("three times larger", func(t *testing.T) {
		weights := []int64{0, 200 << 20, 800 << 20}
		r := exam(t, "", func(e *Exam) {
			e.Resident = func() (int64, error) {
				n := weights[0]
				weights = weights[1:]
				return n, nil
			}
		})
		require.Len(t, r.Failed(), 1)
		assert.Equal(t, "opening it takes 600.0 MiB, serving takes 200.0 MiB, allowed are 400.0 MiB (memory.max_ratio, memory.allow_bytes)", gateNamed(t, r, GateMemory).Detail)
	})
	t.Run("too few prompts", func(t *testing.T) {
		r := exam(t, "", func(e *Exam) { e.Sources = []eval.Source{cases(50)} })
		assert.Contains(t, gateNamed(t, r, GateReplay).Detail, "50 prompts to replay, want at least 100")
	})
}

// twoLanes is a bundle whose lanes are timed by what they spend.
type twoLanes struct {
	Bundle
	lanes map[string]time.Duration
}

func (b *twoLanes) Lanes() map[string]classifier.Classifier {
	out := map[string]classifier.Classifier{}
	for name, d := range b.lanes {
		out[name] = spending{b.Bundle, d}
	}
	return out
}

type spending struct {
	classifier.Classifier
	d time.Duration
}

func (s spending) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	for start := time.Now(); time.Since(start) < s.d; {
		continue
	}
	return s.Classifier.Classify(ctx, text)
}

// TestLatencyIsByLane: a base lane beside a fast one is no fault, a slower lane is one,
// and a new lane has a bound of its own.
func TestLatencyIsByLane(t *testing.T) {
	const fast, base = 50 * time.Microsecond, 500 * time.Microsecond
	for name, tc := range map[string]struct {
		serving, candidate map[string]time.Duration
		says               string
	}{
		"one lane, then two":         {map[string]time.Duration{"fast": fast}, map[string]time.Duration{"fast": fast, "base": base}, ""},
		"two lanes, then one":        {map[string]time.Duration{"fast": fast, "base": base}, map[string]time.Duration{"fast": fast}, ""},
		"two lanes, then two others": {map[string]time.Duration{"fast": fast, "base": base}, map[string]time.Duration{"fast": fast, "base": base}, ""},
		"fast ten times slower":      {map[string]time.Duration{"fast": fast}, map[string]time.Duration{"fast": 10 * fast}, "lane fast: a prompt takes"},
		"fast ten times slower behind a new base": {
			map[string]time.Duration{"fast": fast}, map[string]time.Duration{"fast": 10 * fast, "base": base}, "allowed are 3 (latency.max_ratio)",
		},
		"base four times slower":  {map[string]time.Duration{"fast": fast, "base": base}, map[string]time.Duration{"fast": fast, "base": 4 * base}, "lane base: a prompt takes"},
		"a new lane that is slow": {map[string]time.Duration{"fast": fast}, map[string]time.Duration{"fast": fast, "base": 2 * base}, "(latency.new_lane)"},
	} {
		t.Run(name, func(t *testing.T) {
			open, n := (&factory{}).Open, 0
			r := exam(t, "", func(e *Exam) {
				e.Policy.Latency.MaxRatio = 3
				if name == "a new lane that is slow" {
					e.Policy.Latency.NewLane = base
				}
				e.Open = func(ctx context.Context, dir string) (Bundle, error) {
					b, err := open(ctx, dir)
					n++
					// The serving bundle is opened twice, to warm up, then the candidate.
					return &twoLanes{b, map[bool]map[string]time.Duration{true: tc.serving, false: tc.candidate}[n <= 2]}, err
				}
			})
			g := gateNamed(t, r, GateLatency)
			assert.Equal(t, tc.says == "", g.Passed, g.Detail)
			assert.Contains(t, g.Detail, tc.says)
			assert.Len(t, r.Speed.Lanes, len(tc.candidate))
		})
	}
}

// TestRangeIsOfEveryLane: a lane that gives no number is found on prompts that the
// cascade answers by the other.
func TestRangeIsOfEveryLane(t *testing.T) {
	open, n := (&factory{}).Open, 0
	r := exam(t, "", func(e *Exam) {
		e.Open = func(ctx context.Context, dir string) (Bundle, error) {
			b, err := open(ctx, dir)
			if n++; n <= 2 {
				return &twoLanes{b, map[string]time.Duration{"fast": 0, "base": 0}}, err
			}
			return &brokenBase{twoLanes{b, map[string]time.Duration{"fast": 0}}}, err
		}
	})
	g := gateNamed(t, r, GateRange)
	assert.False(t, g.Passed)
	assert.Contains(t, g.Detail, "150 of 150 prompts give no sound score of lane base, the first: holds +Inf")
}

type brokenBase struct{ twoLanes }

func (b *brokenBase) Lanes() map[string]classifier.Classifier {
	return map[string]classifier.Classifier{"fast": b.Bundle, "base": infinite{b.Bundle}}
}

type infinite struct{ classifier.Classifier }

func (infinite) Classify(context.Context, string) (classifier.Scores, error) {
	return classifier.Scores{}, errors.New("holds +Inf")
}

// A lane that takes long has its vocabulary scored all the same, several words a text.
func TestSlowLanesAreCoveredInTime(t *testing.T) {
	words := make([]string, 30_000)
	for i := range words {
		words[i] = fmt.Sprint("w", i)
	}
	c := &carrier{low: "low", high: "high"}
	count := func(aWord time.Duration) (texts, least int) {
		seen := map[string]int{}
		cover := coverTexts(words[50:], words[:50], c, aWord)
		for _, text := range cover {
			for _, w := range text {
				seen[strings.TrimPrefix(strings.TrimPrefix(w, "low "), "high ")]++
			}
		}
		least = len(cover)
		for _, w := range words[50:] {
			least = min(least, seen[w])
		}
		return len(cover), least
	}
	texts, least := count(60 * time.Microsecond)
	assert.Equal(t, []int{3*30_000 - 50, 3}, []int{texts, least}, "alone, and behind both carriers")
	texts, least = count(400 * time.Microsecond)
	assert.Equal(t, []int{30_000 - 50, 1}, []int{texts, least}, "alone")
	texts, least = count(4 * time.Millisecond)
	assert.Less(t, texts, 30_000/packed+2)
	assert.Equal(t, 1, least, "every word is in a text")
}

// TestPolicyBounds breaks one bound of the replay at a time.
func TestPolicyBounds(t *testing.T) {
	sound := func() *Replay {
		return &Replay{Agreement: 0.9, Flipped: 0.1, StrongServing: 0.4, StrongCandidate: 0.45, Cost: eval.Interval{Value: 0.1, Lo: 0, Hi: 0.2}, Sets: []*eval.Comparison{{
			Set: "s", A: eval.Side{ProjectedUSD: eval.Interval{Value: 10, Lo: 9, Hi: 11}},
			Difference: eval.Side{Quality: eval.Interval{Value: 0, Lo: -0.02, Hi: 0.02}, ProjectedUSD: eval.Interval{Value: 1, Lo: 0, Hi: 2}},
		}}}
	}
	p := DefaultPolicy().Replay
	assert.Empty(t, sound().faults(&p))
	for says, spoil := range map[string]func(*Replay){
		"replay.min_agreement":                 func(x *Replay) { x.Agreement = 0.3 },
		"(replay.min_agreement): it ranks":     func(x *Replay) { x.Agreement = math.NaN() },
		"replay.max_flips":                     func(x *Replay) { x.Flipped = 0.5 },
		"replay.min_strong":                    func(x *Replay) { x.StrongCandidate = 0 },
		"replay.max_strong":                    func(x *Replay) { x.StrongCandidate = 1 },
		"upper end (replay.max_cost_increase)": func(x *Replay) { x.Cost.Hi = 0.3 },
		"s: cost changes by up to 40.0 %":      func(x *Replay) { x.Sets[0].Difference.ProjectedUSD.Hi = 4 },
		"replay.max_quality_loss":              func(x *Replay) { x.Sets[0].Difference.Quality.Lo = -0.06 },
	} {
		x := sound()
		spoil(x)
		require.Len(t, x.faults(&p), 1, says)
		assert.Contains(t, x.faults(&p)[0], says)
	}
	// A fleet of one tier sends nothing up, before as after.
	x := sound()
	x.StrongServing, x.StrongCandidate = 0, 0
	assert.Empty(t, x.faults(&p))
}

func TestPolicyValidate(t *testing.T) {
	p := DefaultPolicy()
	require.NoError(t, p.Validate())
	p.Version, p.Latency.MaxRatio, p.Replay.MaxFlips, p.Replay.Weak, p.Settle.For, p.Replay.MinAgreement = 2, 0.5, 2, "w", -1, math.NaN()
	p.Priority = "high"
	err := p.Validate()
	for _, want := range []string{"version is 2", `priority is "high": give idle or low`, "latency.max_ratio is 0.5", "replay.max_flips is 2", `weak "w" and strong ""`, "settle.for is -1e-09", "replay.min_agreement is NaN"} {
		require.ErrorContains(t, err, want)
	}
}

func TestExamFaultsAreNotTheCandidates(t *testing.T) {
	dir := t.TempDir()
	e := Exam{
		Job:   Job{Serving: dir, Candidate: put(t, filepath.Join(dir, "b"), recipe{}), Policy: DefaultPolicy()},
		Rules: rules(t), Open: (&factory{}).Open,
	}
	_, err := e.Run(t.Context())
	require.ErrorContains(t, err, "open the copy of the serving bundle")
	e.Serving = e.Candidate
	broken := errors.New("the disk is gone")
	e.Sources = []eval.Source{{Name: "s", Cases: func(yield func(eval.Case, error) bool) { yield(eval.Case{}, broken) }}}
	_, err = e.Run(t.Context())
	require.ErrorIs(t, err, broken)
}

func TestReplayHasTheTiersOfTheCatalog(t *testing.T) {
	a, b := &decided{}, &decided{}
	for i := range 10 {
		a.tier, b.tier = append(a.tier, router.Efficient), append(b.tier, router.Efficient)
		a.gain, b.gain = append(a.gain, float64(i)), append(b.gain, float64(i*i))
		a.cost, b.cost = append(a.cost, 1), append(b.cost, 2)
		a.priced, b.priced = append(a.priced, true), append(b.priced, i > 0)
	}
	b.tier[3], b.tier[4] = router.HighPerformance, 0
	x := hold(a, b, 100)
	assert.Equal(t, []string{noTier, "EFFICIENT", "HIGH_PERFORMANCE"}, x.Tiers)
	assert.Equal(t, [][]int{{0, 0, 0}, {1, 8, 1}, {0, 0, 0}}, x.Flips)
	assert.InDelta(t, 0.2, x.Flipped, 1e-9)
	assert.InDelta(t, 1, x.Agreement, 1e-9, "ranks, not values")
	assert.Equal(t, eval.Interval{Value: 1, Lo: 1, Hi: 1}, x.Cost)
	assert.Zero(t, spearman([]float64{1, 2, 3}, []float64{5, 5, 5}), "a constant agrees with nothing")
	assert.Equal(t, []float64{1, 1, 1, 3}, ranks([]float64{2, 2, 2, 9}))
}

// TestDamageIsToldFromTraining: a candidate whose graph is nearly the serving one
// is damaged when it moves some scores and leaves the rest alone.
func TestDamageIsToldFromTraining(t *testing.T) {
	graph := make([]byte, 40_000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range graph {
		graph[i] = byte(random.Uint32())
	}
	touched := append([]byte(nil), graph...)
	touched[20_000] ^= 64
	touched = append(touched[:30_000], touched[30_003:]...)
	assert.Greater(t, alike(graph, touched), 0.9)
	assert.Less(t, alike(graph, touched), 1.0)
	other := append([]byte(nil), graph...)
	for i := range other {
		other[i] += byte(1 + i%3)
	}
	assert.Less(t, alike(graph, other), 0.1)
	for name, tc := range map[string]struct {
		kind  string
		graph []byte
		pass  bool
	}{
		"as it was, other bytes":     {"", touched, true},
		"a few moved":                {"damaged", touched, false},
		"a few moved, another graph": {"damaged", other, true},
		"a few moved, same graph":    {"damaged", graph, true}, // another window, say
		"all moved":                  {"shifted", touched, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := exam(t, tc.kind, func(e *Exam) {
				require.NoError(t, os.WriteFile(filepath.Join(e.Serving, "fast.onnx"), graph, 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(e.Candidate, "fast.onnx"), tc.graph, 0o600))
				e.Sources, e.Policy.Replay.MinPrompts = nil, 2
				e.Texts = []string{"what is one", "what is two", "what is three"}
				e.Cover = []string{"alpha", "beta", "gamma", "broken row"}
			})
			g := gateNamed(t, r, GateDamage)
			assert.Equal(t, tc.pass, g.Passed, g.Detail)
			if !tc.pass {
				assert.Contains(t, g.Detail, "of 15 texts (lane lexical) a fifth moved by at most 0, and one by 0.1")
			}
		})
	}
}

func TestDamageByLane(t *testing.T) {
	moves := func(n int, by float64, far ...float64) []float64 {
		out := slices.Repeat([]float64{by}, n)
		return append(out, far...)
	}
	for name, tc := range map[string]struct {
		fast, base laneMoves
		bad        bool
	}{
		"nothing moved":                         {laneMoves{stayed: moves(90, 0)}, laneMoves{stayed: moves(50, 0)}, false},
		"fast retrained, some change the lane":  {laneMoves{moves(95, 0.01, 0.3), 5}, laneMoves{moves(40, 0), 10}, false},
		"base retrained":                        {laneMoves{stayed: moves(100, 0)}, laneMoves{stayed: moves(50, 0.2, 0.5)}, false},
		"a row of fast":                         {laneMoves{stayed: moves(97, 0, 1e-6)}, laneMoves{stayed: moves(50, 0)}, true},
		"a row of fast, and all by a hair":      {laneMoves{stayed: moves(97, 1e-6, 0.05)}, laneMoves{stayed: moves(50, 0)}, true},
		"a row of fast, all change the lane":    {laneMoves{moves(97, 0), 3}, laneMoves{stayed: moves(50, 0)}, true},
		"a row of base":                         {laneMoves{stayed: moves(100, 0)}, laneMoves{stayed: moves(49, 0, 0.1)}, true},
		"a row of base beside a retrained fast": {laneMoves{stayed: moves(100, 0.02)}, laneMoves{stayed: moves(49, 0, 0.1)}, true},
	} {
		l, _ := damaged(map[string]*laneMoves{"fast": &tc.fast, "base": &tc.base})
		assert.Equal(t, tc.bad, l != nil, name)
	}
}

// A row that no prompt has and that gives no number is the candidate's fault.
func TestDamageInARowThatNoPromptHas(t *testing.T) {
	r := exam(t, "breaks a row", func(e *Exam) {
		require.NoError(t, os.WriteFile(filepath.Join(e.Serving, "fast.onnx"), make([]byte, 10_000), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(e.Candidate, "fast.onnx"), append(make([]byte, 10_000), 1), 0o600))
		e.Cover = []string{"alpha", "broken row"}
	})
	g := gateNamed(t, r, GateDamage)
	assert.False(t, g.Passed)
	assert.Contains(t, g.Detail, "gives no sound score")
}

// asked is a bundle that counts how often it is asked.
type asked struct {
	Bundle
	n *int
}

func (a asked) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	*a.n++
	return a.Bundle.Classify(ctx, text)
}

// TestTimingEndsEarly: what lies far within its bounds is timed in few rounds, what
// lies closer in all.
func TestTimingEndsEarly(t *testing.T) {
	b, err := (&factory{}).Open(t.Context(), put(t, t.TempDir(), recipe{Name: "a", Version: "1"}))
	require.NoError(t, err)
	texts := make([]string, speedLeast)
	for i := range texts {
		texts[i] = fmt.Sprintf("prompt %d", i)
	}
	for rounds, p := range map[int]LatencyPolicy{
		speedFew:    {MaxRatio: 1e6, MaxP99: time.Hour},
		speedRounds: {MaxRatio: 1e6, MaxP99: 1},
	} {
		n := 0
		_, err := timeAll(t.Context(), races(b, asked{b, &n}), texts, p.halved())
		require.NoError(t, err)
		// The candidate is asked twice a round, as a lane and as the whole; one more round warms up.
		assert.Equal(t, 2*(1+rounds)*speedLeast, n)
	}
	require.NoError(t, b.Close())
}
