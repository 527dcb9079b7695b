package router_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func TestDeadlineBoundsTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
			<-ctx.Done()
			yield(router.Chunk{}, &router.UpstreamError{Kind: router.FailureCancelled, Upstream: call.Deployment.Upstream.ID, Err: context.Cause(ctx)})
		}, nil)
		for _, d := range []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, time.Second, 5 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			start := time.Now()
			o := hear(ctx, b.r, prompt())
			cancel()
			assert.LessOrEqual(t, time.Since(start), d+50*time.Millisecond)
			require.ErrorIs(t, o.err, context.DeadlineExceeded)
			assert.Equal(t, "d$!", o.order)
			assert.Equal(t, "deadline", o.done[0].Incomplete)
		}
	})
}

func TestSilentProviderIsLeftForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, only(func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
			<-ctx.Done()
			yield(router.Chunk{}, context.Cause(ctx))
		}, "a"), nil)
		o := hear(t.Context(), b.r, prompt())
		require.NoError(t, o.err)
		assert.Equal(t, []string{"main@a", "main@b"}, b.caller.calls)
		a := o.done[0].Attempts[0]
		assert.Equal(t, "timeout", a.Outcome)
		assert.True(t, a.Usage.Estimated, "what was begun is billed its input")
		assert.Positive(t, a.Cost)
		assert.Equal(t, a.Cost+o.done[0].Attempts[1].Cost, o.done[0].Cost)
	})
}

// A receiver that leaves, at any point, ends the provider's stream and is settled.
func TestReceiverLeavesAnywhere(t *testing.T) {
	runs := 100
	b := newBench(t, func(_ context.Context, _ *router.Call, yield func(router.Chunk, error) bool) {
		for range 20 {
			if !yield(router.Chunk{Text: "word "}, nil) {
				return
			}
		}
		yield(router.Chunk{Finish: router.FinishStop}, nil)
	}, nil)
	for i := range runs {
		seen := 0
		for range b.r.Complete(t.Context(), prompt()) {
			if seen++; seen > i%24 {
				break
			}
		}
	}
	assert.Zero(t, b.caller.open.Load())
	assert.Empty(t, b.book.open, "no reservation is left open")
	assert.Len(t, b.book.settled, runs)
	m, _ := b.rules.Catalog.Model("main")
	assert.Zero(t, b.r.Health(m)[0].Running)
}

func TestCallerCancels(t *testing.T) {
	b := newBench(t, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	b.caller.next = func(ctx context.Context, _ *router.Call, yield func(router.Chunk, error) bool) {
		if yield(router.Chunk{Text: "Some"}, nil) {
			cancel()
			<-ctx.Done()
			yield(router.Chunk{}, context.Cause(ctx))
		}
	}
	o := hear(ctx, b.r, prompt())
	require.Error(t, o.err)
	assert.Equal(t, 1, b.caller.count(), "never another attempt on the caller's own cancel")
	assert.Equal(t, "cancelled", b.book.settled["id-1"].Status)
	assert.True(t, b.book.settled["id-1"].Attempts[0].Usage.Estimated)
}

func TestPanickingReceiverIsSettled(t *testing.T) {
	b := newBench(t, whole, nil)
	assert.Panics(t, func() {
		for e := range b.r.Complete(t.Context(), prompt()) {
			if _, ok := e.(*router.Delta); ok {
				panic("the receiver broke")
			}
		}
	})
	assert.Empty(t, b.book.open)
	assert.Len(t, b.book.settled, 1)
}

func TestIdempotencyKeyCallsNobodyTwice(t *testing.T) {
	b := newBench(t, whole, nil)
	req := prompt()
	req.IdempotencyKey = "k"
	require.NoError(t, hear(t.Context(), b.r, req).err)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			again := hear(t.Context(), b.r, req)
			var twice *router.DuplicateError
			assert.ErrorAs(t, again.err, &twice)
			assert.Equal(t, "!", again.order)
		})
	}
	wg.Wait()
	assert.Equal(t, 1, b.caller.count())
	assert.Len(t, b.book.settled, 1)

	b = newBench(t, whole, func(_ *router.Rules, cfg *router.Config) { cfg.Ledger = nil })
	require.ErrorIs(t, hear(t.Context(), b.r, req).err, router.ErrNoLedger)
	assert.Zero(t, b.caller.count())
}

func TestRefusalsBeforeAnyCall(t *testing.T) {
	b := newBench(t, whole, func(_ *router.Rules, cfg *router.Config) { cfg.Caller = nil })
	require.ErrorIs(t, hear(t.Context(), b.r, prompt()).err, router.ErrNoUpstream)

	b = newBench(t, whole, nil)
	var none *router.NotCallableError
	require.ErrorAs(t, hear(t.Context(), b.r, prompt("locked")).err, &none)
	assert.Equal(t, []string{"SOME_KEY"}, none.Keys)
	assert.Contains(t, none.Error(), "SOME_KEY")

	b.book.refuse = errors.New("disk full")
	require.ErrorIs(t, hear(t.Context(), b.r, prompt()).err, router.ErrLedger)
	b.book.refuse = &router.BudgetError{}
	var poor *router.BudgetError
	require.ErrorAs(t, hear(t.Context(), b.r, prompt()).err, &poor)
	assert.Zero(t, b.caller.count())
	assert.Empty(t, b.book.settled)
}

func TestSettleThatFailsIsNotShownAsDone(t *testing.T) {
	b := newBench(t, whole, nil)
	b.book.fail = errors.New("disk full")
	o := hear(t.Context(), b.r, prompt())
	require.ErrorIs(t, o.err, router.ErrLedger)
}

// The reservation covers the answer and what failed attempts may cost, and what
// is booked stays under it, and under max_cost.
func TestReservationCoversWhatIsBooked(t *testing.T) {
	silent := func(_ context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
		yield(router.Chunk{}, &router.UpstreamError{Kind: router.FailureTimeout, Upstream: call.Deployment.Upstream.ID})
	}
	full := func(_ context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
		_ = yield(router.Chunk{Text: "x"}, nil) &&
			yield(router.Chunk{Finish: router.FinishLength, Usage: &router.Usage{Input: 8, Output: call.MaxOutputTokens}}, nil)
	}
	for _, limit := range []router.NanoUSD{0, 12_000_000} {
		b := newBench(t, func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
			if u := call.Deployment.Upstream.ID; u == "a" || u == "b" {
				silent(ctx, call, yield)
				return
			}
			full(ctx, call, yield)
		}, nil)
		req := prompt()
		if limit > 0 {
			req.Request.Demand.Limits.MaxCost = router.Some(limit)
		}
		var held router.NanoUSD
		for e, err := range b.r.Complete(t.Context(), req) {
			require.NoError(t, err)
			if d, ok := e.(*router.Decided); ok {
				require.True(t, d.ReservedKnown)
				held = d.Reserved
			}
			if d, ok := e.(*router.Done); ok {
				assert.Len(t, d.Attempts, 3)
				assert.LessOrEqual(t, d.Cost, held)
				assert.False(t, d.Exceeded)
				assert.Positive(t, d.Attempts[0].Cost)
				if limit > 0 {
					assert.LessOrEqual(t, d.Cost, limit)
				}
			}
		}
	}
}

func TestUsageThatTheProviderDidNotSay(t *testing.T) {
	sentence := strings.Repeat("The river rises in the hills and reaches the sea after two hundred miles. ", 8)
	say := func(usage *router.Usage) script {
		return func(_ context.Context, _ *router.Call, yield func(router.Chunk, error) bool) {
			_ = yield(router.Chunk{Text: sentence}, nil) && yield(router.Chunk{Finish: router.FinishStop, Usage: usage}, nil)
		}
	}
	b := newBench(t, say(nil), nil)
	u := hear(t.Context(), b.r, prompt()).done[0].Usage
	assert.True(t, u.Estimated)
	assert.InEpsilon(t, 8*15, u.Output, 0.10, "fifteen tokens a sentence, by a current provider's tokenizer")

	b = newBench(t, say(&router.Usage{}), nil)
	assert.Equal(t, router.Usage{}, hear(t.Context(), b.r, prompt()).done[0].Usage, "zero stays zero")

	b = newBench(t, say(&router.Usage{Input: 1, CachedInput: 5}), nil)
	assert.True(t, hear(t.Context(), b.r, prompt()).done[0].Usage.Estimated, "a part larger than its whole was not said")
}

func TestProviderRulesHoldInComplete(t *testing.T) {
	b := newBench(t, only(failing(router.FailureOverload, 0), "c"), nil)
	req := prompt()
	req.Request.Demand.Provider = router.ProviderRules{Order: []string{"c", "b"}}
	require.NoError(t, hear(t.Context(), b.r, req).err)
	assert.Equal(t, []string{"main@c", "main@b"}, b.caller.calls)

	b = newBench(t, failing(router.FailureOverload, 0), nil)
	req.Request.Demand.Provider = router.ProviderRules{Ignore: []string{"a", "b", "d", "e"}}
	require.Error(t, hear(t.Context(), b.r, req).err)
	for _, c := range b.caller.calls {
		assert.Equal(t, "main@c", c)
	}

	b = newBench(t, failing(router.FailureAuth, 0), nil)
	req.Request.Demand.Provider = router.ProviderRules{AllowFallbacks: router.Some(false)}
	require.Error(t, hear(t.Context(), b.r, req).err)
	assert.Equal(t, []string{"main@a"}, b.caller.calls, "no other upstream may serve")
}

func TestScoresAreKeptByBundleAndText(t *testing.T) {
	cache, err := router.NewScoreCache(2)
	require.NoError(t, err)
	b := newBench(t, whole, func(_ *router.Rules, cfg *router.Config) { cfg.ScoreCache = cache })
	assert.False(t, hear(t.Context(), b.r, prompt()).done[0].ScoreCached)
	again := hear(t.Context(), b.r, prompt()).done[0]
	assert.True(t, again.ScoreCached)
	assert.True(t, b.book.settled["id-2"].ScoreCached, "the ledger keeps it for the receipt")
	assert.False(t, b.book.settled["id-1"].ScoreCached)
	for _, text := range []string{"one", "two"} { // make room
		_, err := b.r.Route(t.Context(), ask(text))
		require.NoError(t, err)
	}
	assert.False(t, hear(t.Context(), b.r, prompt()).done[0].ScoreCached, "the cache is bounded")
	hits, misses := cache.Counts()
	assert.Equal(t, int64(1), hits)
	assert.Equal(t, int64(4), misses)
	_, err = router.NewScoreCache(0)
	require.Error(t, err)
}

// With a budget a model of unknown price cannot be held for, so the decision
// itself passes it over and says why: it never names one model while another is
// called.
func TestABudgetPassesOverModelsWithoutAPrice(t *testing.T) {
	unprice := func(r *router.Rules) {
		text := strings.Replace(completeConfig, `price: {input: "$1/M", output: "$10/M", source: s, date: "2026-01-01"}`, "price: {}", 1)
		parsed, err := router.ParseConfig([]byte(text), "unpriced.yaml", func(string) string { return "" })
		require.NoError(t, err)
		*r = *parsed
	}
	budget := func(r *router.Rules, _ *router.Config) {
		unprice(r)
		r.Accounts.Budget = router.Budget{Limit: 1 << 50, Window: router.WindowDay}
	}
	b := newBench(t, whole, budget)
	req := prompt()
	req.Request.Explain = true
	for e, err := range b.r.Complete(t.Context(), req) {
		require.NoError(t, err)
		switch e := e.(type) {
		case *router.Decided:
			assert.Equal(t, "other", e.Record.Decision.Chosen.Model.ID)
			for _, c := range e.Record.Decision.Rejected {
				if c.Model.ID == "main" {
					assert.Equal(t, router.RejectedPriceUnknown, c.Rejection)
					assert.Contains(t, c.Detail, "a budget is set")
				}
			}
			receipt, err := e.Record.Receipt()
			require.NoError(t, err)
			assert.Contains(t, string(receipt), `"Spends":true`, "the decision can be made anew")
			again, err := b.rules.Decide(e.Record.Demand)
			require.NoError(t, err)
			assert.Equal(t, "other", again.Chosen.Model.ID)
		case *router.Done:
			assert.Equal(t, "other", e.Model)
			assert.Equal(t, "other", e.Attempts[0].Model)
		}
	}
	assert.Equal(t, []string{"other@d"}, b.caller.calls)
	rec, err := b.r.Route(t.Context(), &req.Request)
	require.NoError(t, err)
	assert.Equal(t, "main", rec.Decision.Chosen.Model.ID, "Route spends nothing")

	o := hear(t.Context(), b.r, prompt("main"))
	require.ErrorIs(t, o.err, router.ErrUnpriced)
	var none *router.NoEligibleError
	require.NotErrorAs(t, o.err, &none, "or the caller would be told of no eligible model")
	assert.Equal(t, "!", o.order)
	o = hear(t.Context(), b.r, prompt("main", "locked"))
	var nobody *router.NotCallableError
	require.ErrorAs(t, o.err, &nobody)
	assert.Equal(t, 1, nobody.Unpriced)
	assert.ErrorContains(t, o.err, "1 more have no price")
	assert.Len(t, b.caller.calls, 1)

	b = newBench(t, whole, func(r *router.Rules, _ *router.Config) { unprice(r) })
	require.NoError(t, hear(t.Context(), b.r, prompt("main")).err, "without a budget an unknown price is only unknown")
}
