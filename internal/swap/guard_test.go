package swap

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// swapTo promotes a recipe past gates that see nothing, after enough traffic on
// the one before.
func swapTo(t *testing.T, b *bench, r recipe) {
	t.Helper()
	b.examFault = func(Job) (*Report, error) { return &Report{Gates: []Gate{{Name: GateReplay, Passed: true}}}, nil }
	route(t, b, 400)
	put(t, filepath.Join(b.root, r.Version), r)
	staged, err := b.m.Stage(t.Context(), r.Version)
	require.NoError(t, err)
	_, err = b.m.Promote(t.Context(), staged.Digest)
	require.NoError(t, err)
}

func route(t *testing.T, b *bench, n int) {
	t.Helper()
	for c, err := range cases(n).Cases {
		require.NoError(t, err)
		_, err = b.router.Route(t.Context(), ask(c.Prompt))
		require.NoError(t, err)
	}
}

// TestABadBundleThatPassedTheGatesRollsBack plants bundles that no gate stopped.
func TestABadBundleThatPassedTheGatesRollsBack(t *testing.T) {
	for kind, says := range map[string]string{
		"always strong": "settle.max_tier_change", "slow": "settle.max_latency_ratio", "breaks": "settle.max_failures",
	} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, func(b *bench, _ *Config) { b.policy.Settle.MinLatency = 50 * time.Microsecond })
			swapTo(t, b, recipe{Version: "2", Kind: kind})
			if kind == "breaks" {
				b.factory.last.Load().fail.Store(true)
			}
			for i := 0; b.serving() == "2"; i++ {
				require.Less(t, i, 100, "it never rolled back")
				route(t, b, 50)
			}
			assert.Equal(t, "1", b.serving())
			require.Eventually(t, func() bool { return b.last().Kind == EventRolledBack }, 5*time.Second, time.Millisecond)
			e := b.last()
			assert.True(t, e.Automatic)
			assert.Contains(t, e.Reason, says)
			assert.Less(t, e.Took, 100*time.Millisecond)
			assert.Contains(t, b.m.History()[1].Reason, says)
		})
	}
}

func TestAGoodBundleStays(t *testing.T) {
	b := newBench(t, func(b *bench, _ *Config) { b.policy.Settle.MinLatency = 10 * time.Millisecond })
	swapTo(t, b, recipe{Version: "2", Kind: "shifted"})
	route(t, b, 2000)
	assert.Equal(t, "2", b.serving())
	assert.Equal(t, []EventKind{EventStaged, EventPromoted}, b.told())
}

func record(digest string, tier router.Tier, took time.Duration) *router.Record {
	r := &router.Record{BundleDigest: digest, Classify: took}
	r.Decision.Chosen.Model = &router.Model{Tier: tier}
	return r
}

func newGuard() (*guard, *time.Time) {
	now := time.Unix(0, 0)
	g := &guard{policy: DefaultPolicy().Settle, now: func() time.Time { return now }}
	g.serve("a", false)
	return g, &now
}

func TestGuardJudgesOnlyWhatItsBundleDid(t *testing.T) {
	g, _ := newGuard()
	for range 1000 {
		require.Empty(t, g.observe(record("a", router.Efficient, time.Millisecond), nil))
	}
	g.serve("b", true)
	for i := range 1000 {
		// Leases on the old one, callers that gave up and prompts that are at fault.
		require.Empty(t, g.observe(record("a", router.HighPerformance, time.Second), nil))
		for _, err := range []error{context.Canceled, classifier.ErrNoContent, classifier.ErrInvalidText, router.ErrUnknownModel} {
			require.Empty(t, g.observe(record("b", router.HighPerformance, time.Second), fmt.Errorf("route: %w", err)))
		}
		require.Empty(t, g.observe(record("b", router.Efficient, time.Millisecond), nil), i)
	}
}

func TestGuardWaitsForEnough(t *testing.T) {
	g, _ := newGuard()
	for range 1000 {
		g.observe(record("a", router.Efficient, time.Millisecond), nil)
	}
	g.serve("b", true)
	why, n := "", 0
	for ; why == "" && n < 1000; n++ {
		why = g.observe(record("b", router.HighPerformance, time.Millisecond), nil)
	}
	assert.Contains(t, why, "100.0 % of 200 prompts go above the cheapest tier, 0.0 % did before")
	assert.Equal(t, 200, n, "at the first look")
	for range 1000 {
		assert.Empty(t, g.observe(record("b", router.HighPerformance, time.Millisecond), nil), "it is said once")
	}
}

// Without a baseline nothing but failures can be judged.
func TestGuardWithoutABaseline(t *testing.T) {
	g, _ := newGuard()
	g.serve("b", true)
	for range 1000 {
		require.Empty(t, g.observe(record("b", router.HighPerformance, time.Second), nil))
	}
	why := ""
	for i := 0; why == "" && i < 2000; i++ {
		why = g.observe(record("b", router.Efficient, time.Millisecond), errors.New("broken"))
	}
	assert.Contains(t, why, "settle.max_failures")
}

// A baseline is of the last spans, not of last month.
func TestGuardForgets(t *testing.T) {
	g, now := newGuard()
	for range 1000 {
		g.observe(record("a", router.HighPerformance, time.Millisecond), nil)
	}
	for range 3 {
		*now = now.Add(span + time.Second)
		for range 300 {
			g.observe(record("a", router.Efficient, time.Millisecond), nil)
		}
	}
	g.serve("b", true)
	assert.Zero(t, g.baseline.strong)
	assert.GreaterOrEqual(t, g.baseline.scored, int64(300))
}

// A lane is compared with itself: one that is new may be slower than the others, within
// its own bound, and one that got slower is told though others answer most prompts.
func TestGuardComparesLanes(t *testing.T) {
	const fast, base = 60 * time.Microsecond, 5 * time.Millisecond
	in := func(lane string, took time.Duration) *router.Record {
		r := record("", router.Efficient, took)
		r.Demand.Scores.Lane = lane
		return r
	}
	for name, tc := range map[string]struct {
		before, now []*router.Record
		says        string
	}{
		"one lane, then two": {[]*router.Record{in("fast", fast)}, []*router.Record{in("fast", fast), in("base", base)}, ""},
		"one lane, then two, and base nearly alone": {
			[]*router.Record{in("fast", fast)}, []*router.Record{in("base", base), in("base", base), in("base", base), in("fast", fast)}, "",
		},
		"two lanes, then one":            {[]*router.Record{in("fast", fast), in("base", base)}, []*router.Record{in("fast", fast)}, ""},
		"a new lane beyond its bound":    {[]*router.Record{in("fast", fast)}, []*router.Record{in("fast", fast), in("base", 80*time.Millisecond)}, "settle.max_new_lane"},
		"a lane five times slower":       {[]*router.Record{in("fast", fast), in("base", base)}, []*router.Record{in("fast", fast), in("fast", fast), in("base", 5*base)}, "(lane base)"},
		"the fast lane beside a new one": {[]*router.Record{in("fast", fast)}, []*router.Record{in("fast", 50*fast), in("base", base)}, "(lane fast)"},
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := newGuard()
			observe := func(digest string, all []*router.Record) (why string) {
				for i := 0; i < 2000 && why == ""; i++ {
					r := *all[i%len(all)]
					r.BundleDigest = digest
					why = g.observe(&r, nil)
				}
				return why
			}
			require.Empty(t, observe("a", tc.before))
			g.serve("b", true)
			why := observe("b", tc.now)
			if tc.says == "" {
				assert.Empty(t, why)
			} else {
				assert.Contains(t, why, tc.says)
			}
		})
	}
}

// Scores kept from earlier calls took no time: the bundle that begins has none, and
// must not look slow beside them.
func TestGuardLeavesKeptScoresOut(t *testing.T) {
	g, _ := newGuard()
	for i := range 2000 {
		r := record("a", router.Efficient, 5*time.Millisecond)
		if r.ScoreCached = i%4 != 0; r.ScoreCached {
			r.Classify = 2 * time.Microsecond
		}
		require.Empty(t, g.observe(r, nil))
	}
	g.serve("b", true)
	for range 2000 {
		require.Empty(t, g.observe(record("b", router.Efficient, 5*time.Millisecond), nil))
	}
}

// Chance alone must not roll a good bundle back, however often it is asked.
func TestGuardLeavesChanceAlone(t *testing.T) {
	p := DefaultPolicy().Settle
	before := &counts{requests: 300, scored: 300, strong: 120}
	for n := int64(200); n < 1200; n += 25 {
		for _, share := range []float64{0.30, 0.40, 0.52} {
			now := &counts{requests: n, scored: n, strong: int64(share * float64(n))}
			assert.Empty(t, p.judge(before, now))
		}
	}
}

func TestMedianOfBuckets(t *testing.T) {
	for _, d := range []time.Duration{3 * time.Microsecond, 80 * time.Microsecond, 4 * time.Millisecond, 2 * time.Second} {
		c := &times{}
		for range 100 {
			c[bucketOf(d)]++
		}
		assert.InEpsilon(t, float64(d), float64(c.median()), 0.1, d)
	}
	assert.Zero(t, (&times{}).median())
	assert.Equal(t, latencyBuckets-1, bucketOf(time.Hour))
}

// TestGuardLeavesOutWhatNobodyScored: prompts that a rule or the lack of text left
// unscored, and limits that no model meets, are no failures of the bundle.
func TestGuardLeavesOutWhatNobodyScored(t *testing.T) {
	g, _ := newGuard()
	g.serve("b", true)
	for i := range 1000 {
		for _, why := range []string{"rule", "media_only"} {
			r := record("b", router.HighPerformance, 0)
			r.ScoringError = why
			require.Empty(t, g.observe(r, nil), i)
		}
		for _, err := range []error{&router.NoEligibleError{}, &router.ContextTooLongError{}, router.ErrUnknownRule} {
			require.Empty(t, g.observe(record("b", 0, 0), fmt.Errorf("route: %w", err)), i)
		}
		require.Empty(t, g.observe(record("b", router.Efficient, time.Millisecond), nil), i)
	}
}

// TestGuardSeesLimitsThatAreMissedMore: scores that leave fewer models within callers'
// limits than those before are the bundle's.
func TestGuardSeesLimitsThatAreMissedMore(t *testing.T) {
	g, _ := newGuard()
	for range 1000 {
		require.Empty(t, g.observe(record("a", router.Efficient, time.Millisecond), nil))
	}
	g.serve("b", true)
	why := ""
	for i := 0; why == "" && i < 1000; i++ {
		why = g.observe(record("b", 0, 0), fmt.Errorf("route: %w", &router.NoEligibleError{}))
	}
	assert.Contains(t, why, "settle.max_failures")
}
