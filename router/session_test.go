package router_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

func TestMemorySessions(t *testing.T) {
	s := router.NewMemorySessions(2)
	start := time.Unix(1000, 0)
	p := router.SessionPolicy{TTL: time.Hour, CacheTTL: time.Minute, Turns: 2}
	assert.Zero(t, s.Recall("a", start, p))
	turn := func(id, model string, need router.Tier, after time.Duration) {
		s.Remember(id, router.SessionTurn{Model: model, Need: need, InputTokens: 7, Time: start.Add(after)})
	}
	turn("a", "m", router.HighPerformance, 0)
	turn("a", "n", router.Efficient, time.Minute)
	assert.Equal(t, router.SessionState{PreviousModel: "n", Need: router.HighPerformance, CachedTokens: 7, Age: time.Minute}, s.Recall("a", start.Add(2*time.Minute), p))
	turn("a", "n", router.Efficient, 2*time.Minute)
	assert.Equal(t, router.Efficient, s.Recall("a", start.Add(2*time.Minute), p).Need, "the hard turn is no longer recent")
	assert.Zero(t, s.Recall("a", start.Add(2*time.Hour), p), "too old")
	turn("b", "m", 0, 0)
	turn("c", "m", 0, 0)
	turn("b", "m", 0, time.Second)
	turn("d", "m", 0, 0)
	assert.Zero(t, s.Recall("c", start, p), "the one unused for longest made room")
	assert.Equal(t, "m", s.Recall("b", start, p).PreviousModel)
	assert.GreaterOrEqual(t, s.Recall("b", start, p).Age, time.Duration(0), "a clock that goes back makes no negative age")
}

func TestASessionHoldsWhatItsTaskNeeded(t *testing.T) {
	hard, easy := demand(0.3, 0.8), demand(0.88, 0.9)
	r := rules(t, tableConfig)
	first, err := r.Decide(withSession(hard, router.SessionState{}))
	require.NoError(t, err)
	assert.Equal(t, router.HighPerformance, first.Need)
	assert.Equal(t, router.SessionUse{Used: true}, first.Session)

	state := router.SessionState{PreviousModel: "h/cheap", Need: router.HighPerformance}
	next, err := r.Decide(withSession(easy, state))
	require.NoError(t, err)
	assert.Equal(t, "h/cheap", next.Chosen.Model.ID, "commit it after a hard turn")
	assert.Equal(t, router.SessionPinned, next.Reason)
	assert.Equal(t, router.Efficient, next.Need, "by itself it needs less")
	assert.True(t, next.Session.Pinned && next.Session.FloorBound)
	assert.Contains(t, next.Limits, router.Applied{Name: "session_min_tier", Value: "HIGH_PERFORMANCE", Source: router.FromSession, Binding: true})

	climb, err := r.Decide(withSession(hard, router.SessionState{PreviousModel: "e/cheap", Need: router.Efficient}))
	require.NoError(t, err)
	assert.Equal(t, "h/cheap", climb.Chosen.Model.ID, "a pin may climb")
	assert.Equal(t, router.QualityNeeded, climb.Reason)
	assert.False(t, climb.Session.Pinned)

	ceiling := withSession(easy, state)
	ceiling.Limits.MaxTier = router.Some(router.Efficient)
	low, err := r.Decide(ceiling)
	require.NoError(t, err)
	assert.Equal(t, "e/cheap", low.Chosen.Model.ID, "an explicit ceiling is an explicit wish")

	poor := withSession(easy, state)
	poor.Limits.MaxCost = router.Some(router.NanoUSD(1_000_000))
	_, err = r.Decide(poor)
	var none *router.NoEligibleError
	require.ErrorAs(t, err, &none, "no silent downgrade")
	assert.Positive(t, none.Removed[router.RejectedSession])
	poor.Limits.AllowDowngrade = router.Some(true)
	down, err := r.Decide(poor)
	require.NoError(t, err)
	assert.Equal(t, "e/cheap", down.Chosen.Model.ID)

	named := withSession(easy, state)
	named.Override.Tier = router.Efficient
	free, err := r.Decide(named)
	require.NoError(t, err)
	assert.Equal(t, "e/cheap", free.Chosen.Model.ID, "a named tier is the caller's choice")
}

func withSession(d router.Demand, s router.SessionState) router.Demand {
	d.InSession, d.Session = true, s
	return d
}

// cacheConfig has two models that are equally good: kept is dearer, and its
// cached input costs a tenth.
const cacheConfig = `
version: 1
default_policy: p
upstreams: [{id: u, dialect: openai, base_url: "http://localhost/"}]
policies: [{id: p, max_quality_gap: 0.1}]
sessions: {cache_ttl: 10m}
models:
  - {id: kept, tier: EFFICIENT, context_window: 200000, max_output_tokens: 8000, token_ratio: 1, price: {input: "$1.00/M", cached_input: "$0.10/M", output: "$4.00/M", source: t, date: "2026-01-01"}, deployments: [{upstream: u, name: x}]}
  - {id: other, tier: EFFICIENT, context_window: 200000, max_output_tokens: 8000, token_ratio: 1, price: {input: "$0.50/M", output: "$2.00/M", source: t, date: "2026-01-01"}, deployments: [{upstream: u, name: y}]}
`

// TestAWarmCacheIsWorthItsPrice works the sums by hand: 50,100 tokens in, 200
// out. kept costs 50,100 + 800 = 50,900 micro-dollars fresh, other half of it,
// 25,450. 50,000 warm tokens save kept 45,000: 5,900 to stay.
func TestAWarmCacheIsWorthItsPrice(t *testing.T) {
	r := rules(t, cacheConfig)
	d := demand(0.8, 0.8)
	d.Scores.InputTokens = 50_100
	decide := func(cached int64, age time.Duration) router.Decision {
		got, err := r.Decide(withSession(d, router.SessionState{PreviousModel: "kept", CachedTokens: cached, Age: age}))
		require.NoError(t, err)
		return got
	}
	warm := decide(50_000, 9*time.Minute)
	assert.Equal(t, "kept", warm.Chosen.Model.ID)
	assert.Equal(t, router.NanoUSD(45_000_000), warm.Session.SwitchCost)
	assert.True(t, warm.Session.Kept && warm.Session.Pinned)
	assert.Equal(t, router.SessionPinned, warm.Reason)
	assert.Contains(t, warm.Explanation(), "leaving would cost $0.045")

	cold := decide(50_000, 11*time.Minute)
	assert.Equal(t, "other", cold.Chosen.Model.ID, "a cold cache holds nobody")
	assert.Zero(t, cold.Session.SwitchCost)

	// 28,277 warm tokens save 25,449.3: staying costs 25,450.7, a hair more.
	assert.Equal(t, "other", decide(28_277, 0).Chosen.Model.ID)
	little := decide(28_278, 0)
	assert.Equal(t, "kept", little.Chosen.Model.ID, "25,450.2 is saved: a switch must save more than it costs")
	assert.Zero(t, decide(1000, 0).Session.SwitchCost, "providers cache no prefix so short")
	more := decide(9_000_000, 0)
	assert.Equal(t, router.NanoUSD(50_100*900), more.Session.SwitchCost, "no more is warm than is asked")
}

// TestThePinNeverDrops: whatever the session says, what answers is of the tier
// that it needed, or the call fails; and a switch never costs more than staying.
func TestThePinNeverDrops(t *testing.T) {
	r := rules(t, tableConfig)
	ids := []string{"", "gone"}
	for _, m := range r.Catalog.Models() {
		ids = append(ids, m.ID)
	}
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		d.Limits.AllowDowngrade = router.Opt[bool]{}
		d = withSession(d, router.SessionState{
			PreviousModel: rapid.SampledFrom(ids).Draw(t, "previous"),
			Need:          rapid.SampledFrom([]router.Tier{0, router.Efficient, router.HighPerformance}).Draw(t, "need"),
			CachedTokens:  rapid.Int64Range(0, 100_000).Draw(t, "cached"),
			Age:           time.Duration(rapid.Int64Range(0, 600).Draw(t, "age")) * time.Second,
		})
		d.Scored = rapid.Bool().Draw(t, "scored")
		// A ceiling that the caller sets is the caller's wish.
		need := d.Session.Need
		if d.Limits.MaxTier.Set {
			need = min(need, d.Limits.MaxTier.Value)
		}
		got, err := r.Decide(d)
		if err != nil {
			return
		}
		for failed := map[string]bool{}; ; {
			c, err := router.Next(&got, failed)
			if err != nil {
				break
			}
			require.GreaterOrEqual(t, c.Model.EffectiveTier(), need, "%s", c.Model.ID)
			failed[c.Model.ID] = true
		}
		alone := withSession(d, router.SessionState{Need: d.Session.Need})
		free, err := r.Decide(alone)
		require.NoError(t, err)
		if got.Session.Kept {
			require.Equal(t, d.Session.PreviousModel, got.Chosen.Model.ID)
			require.LessOrEqual(t, got.Chosen.Expected-got.Session.SwitchCost, free.Chosen.Expected)
		} else {
			require.Equal(t, free.Chosen, got.Chosen)
		}
		if d.Scored {
			require.GreaterOrEqual(t, got.Chosen.Quality.Value, got.Needed-1e-9)
		}
	})
}

// TestABrokenClassifierPinsNothingCheap: without a score, the warm cache of an
// efficient model is no reason to stay below the unscored tier.
func TestABrokenClassifierPinsNothingCheap(t *testing.T) {
	r := rules(t, tableConfig)
	state := router.SessionState{PreviousModel: "e/cheap", Need: router.Efficient, CachedTokens: 50_000}
	got, err := r.Decide(withSession(router.Demand{UnscoredTokens: 3000}, state))
	require.NoError(t, err)
	assert.Equal(t, "h/cheap", got.Chosen.Model.ID)
	assert.Equal(t, router.ClassifierUnavailable, got.Reason)
	state.PreviousModel = "h/cheap"
	got, err = r.Decide(withSession(router.Demand{UnscoredTokens: 3000}, state))
	require.NoError(t, err)
	assert.True(t, got.Session.Pinned)
}

func TestRouteRemembersSessions(t *testing.T) {
	r, now := ruleRouter(t, tableConfig, 0.3, 0.8)
	req := ask("prove it")
	req.SessionID = "s"
	first, err := r.Route(t.Context(), req)
	require.NoError(t, err)
	assert.Empty(t, first.Decision.Session.PreviousModel)
	*now = now.Add(time.Minute)
	second, err := r.Route(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, first.Decision.Chosen.Model.ID, second.Decision.Session.PreviousModel)
	assert.True(t, second.Decision.Session.Pinned)
	assert.Equal(t, time.Minute, second.Demand.Session.Age)
	assert.Equal(t, router.HighPerformance, second.Demand.Session.Need)
	*now = now.Add(2 * time.Hour)
	third, err := r.Route(t.Context(), req)
	require.NoError(t, err)
	assert.Empty(t, third.Decision.Session.PreviousModel)
	other, err := r.Route(t.Context(), ask("prove it"))
	require.NoError(t, err)
	assert.False(t, other.Decision.Session.Used)
}

func TestAnImageAloneIsNotScored(t *testing.T) {
	r, _ := ruleRouter(t, tableConfig, 0.9, 0.9)
	req := ask("describe what you see")
	req.Messages = append(req.Messages, classifier.Message{Role: classifier.User, Media: true})
	req.MediaParts, req.Demand.Required = 1, router.Vision
	rec, err := r.Route(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, "media_only", rec.ScoringError)
	assert.False(t, rec.Decision.Scored)
	assert.Equal(t, "h/dear", rec.Decision.Chosen.Model.ID, "the unscored tier's cheapest that can see")
	req.Messages[1].Text = "and now?"
	rec, err = r.Route(t.Context(), req)
	require.NoError(t, err)
	assert.True(t, rec.Decision.Scored)
	assert.Equal(t, "e/dear", rec.Decision.Chosen.Model.ID)
}

func BenchmarkMemorySessions(b *testing.B) {
	s, p, now := router.NewMemorySessions(1000), router.SessionPolicy{TTL: time.Hour, Turns: 5}, time.Unix(0, 0)
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint(i % 2000)
		s.Recall(id, now, p)
		s.Remember(id, router.SessionTurn{Model: "m", Time: now})
	}
}
