package router_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func TestCompleteStreamsDecisionDeltasAndOneDone(t *testing.T) {
	b := newBench(t, whole, nil)
	o := hear(t.Context(), b.r, prompt())
	require.NoError(t, o.err)
	assert.Equal(t, "d..$", o.order)
	assert.Equal(t, "Hello there", o.text)
	done := o.done[0]
	assert.True(t, done.Complete)
	assert.Equal(t, router.FinishStop, done.Finish)
	assert.Equal(t, router.Usage{Input: 10, Output: 4}, done.Usage)
	assert.Equal(t, router.NanoUSD(10*1000+4*10_000), done.Cost)
	assert.Equal(t, "complete", done.Receipt.Status)
	assert.Empty(t, b.book.open)
	assert.False(t, done.Exceeded)
}

// Acknowledged is settled: when Done is handed out, the ledger has it.
func TestDoneComesAfterSettle(t *testing.T) {
	b := newBench(t, whole, nil)
	for e, err := range b.r.Complete(t.Context(), prompt()) {
		require.NoError(t, err)
		if _, ok := e.(*router.Done); ok {
			assert.Len(t, b.book.settled, 1)
		} else {
			assert.Empty(t, b.book.settled)
			assert.Len(t, b.book.open, 1)
		}
	}
}

// What follows each kind of failure before any content: which deployments are
// asked, and what the caller gets.
func TestWhatFollowsEachKindOfFailure(t *testing.T) {
	for _, x := range []struct {
		kind  router.FailureKind
		calls string
		ends  router.FailureKind // of the AttemptsError when all fail; 0 for none in common
	}{
		{router.FailureAuth, "main@a main@b main@c", 0},
		{router.FailureQuota, "main@a main@b main@c", 0},
		{router.FailureRateLimit, "main@a main@b main@c", router.FailureRateLimit},
		{router.FailureOverload, "main@a main@b main@c", 0},
		{router.FailureNetwork, "main@a main@b main@c", 0},
		{router.FailureTimeout, "main@a main@b main@c", 0},
		{router.FailureProtocol, "main@a main@b main@c", 0},
		{router.FailureContextLength, "main@a wide@e", router.FailureContextLength},
		{router.FailureContentPolicy, "main@a other@d wide@e", router.FailureContentPolicy},
		{router.FailureBadRequest, "main@a other@d wide@e", router.FailureBadRequest},
	} {
		t.Run(x.kind.String(), func(t *testing.T) {
			b := newBench(t, failing(x.kind, 7*time.Second), nil)
			o := hear(t.Context(), b.r, prompt())
			assert.Equal(t, x.calls, strings.Join(b.caller.calls, " "))
			assert.Equal(t, "d$!", o.order)
			var e *router.AttemptsError
			require.ErrorAs(t, o.err, &e)
			assert.Equal(t, x.ends, e.Kind)
			if x.kind == router.FailureRateLimit {
				assert.Equal(t, 7*time.Second, e.RetryAfter)
			}
			assert.False(t, o.done[0].Complete)
			assert.Zero(t, o.done[0].Cost, "a provider that answers with an error bills nothing")
			assert.Empty(t, b.book.open)
			assert.Equal(t, "failed", b.book.settled["id-1"].Status)
			assert.Len(t, b.book.settled["id-1"].Attempts, len(b.caller.calls))
		})
	}
}

func TestOnlyOneDeploymentIsAskedAgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		b := newBench(t, func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
			if first {
				first = false
				failing(router.FailureRateLimit, 2*time.Second)(ctx, call, yield)
				return
			}
			whole(ctx, call, yield)
		}, nil)
		start := time.Now()
		o := hear(t.Context(), b.r, prompt("other"))
		require.NoError(t, o.err)
		assert.Equal(t, []string{"other@d", "other@d"}, b.caller.calls)
		assert.GreaterOrEqual(t, time.Since(start), 2*time.Second, "never earlier than the provider asked")
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, failing(router.FailureRateLimit, 1000*time.Hour), nil)
		o := hear(t.Context(), b.r, prompt("other"))
		var e *router.AttemptsError
		require.ErrorAs(t, o.err, &e)
		assert.Len(t, b.caller.calls, 1, "an absurd wait is not waited for")
		assert.Equal(t, time.Hour, e.RetryAfter, "nor passed on")
	})
}

func TestAfterContentNoSecondVoice(t *testing.T) {
	b := newBench(t, func(_ context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
		_ = yield(router.Chunk{Text: "Half an answer"}, nil) &&
			yield(router.Chunk{}, &router.UpstreamError{Kind: router.FailureNetwork, Upstream: call.Deployment.Upstream.ID})
	}, nil)
	for i := range 1000 {
		o := hear(t.Context(), b.r, prompt())
		require.Equal(t, "d.$!", o.order, "call %d", i)
		require.False(t, o.done[0].Complete)
		var e *router.PartialError
		require.ErrorAs(t, o.err, &e)
	}
	assert.Equal(t, 1000, b.caller.count(), "0 retries after content")
	assert.Len(t, b.book.settled, 1000)
	for _, s := range b.book.settled {
		require.Equal(t, "incomplete", s.Status)
		require.True(t, s.Attempts[0].Usage.Estimated)
		require.Positive(t, s.Attempts[0].Cost)
	}
}

func TestAStreamWithoutAFinishReasonIsNotWhole(t *testing.T) {
	b := newBench(t, func(_ context.Context, _ *router.Call, yield func(router.Chunk, error) bool) {
		yield(router.Chunk{Text: "Cut"}, nil)
	}, nil)
	o := hear(t.Context(), b.r, prompt())
	assert.Equal(t, "d.$!", o.order)
	assert.False(t, o.done[0].Complete)
}

// A provider that fails before content costs callers nothing.
func TestFailuresBeforeContentAreHidden(t *testing.T) {
	b := newBench(t, only(failing(router.FailureOverload, 0), "a"), nil)
	failed := 0
	for range 2000 {
		if o := hear(t.Context(), b.r, prompt()); o.err != nil {
			failed++
		} else {
			require.LessOrEqual(t, len(o.done[0].Attempts), 2, "at most one extra attempt")
		}
	}
	assert.LessOrEqual(t, failed, 2, "99.9 % of 2,000")
	assert.Len(t, b.book.settled, 2000)
}

// When everything fails, retries stay within the budget.
func TestRetryStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, failing(router.FailureOverload, 0), nil)
		for range 2000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			o := hear(ctx, b.r, prompt("main"))
			require.LessOrEqual(t, time.Since(start), time.Second+50*time.Millisecond)
			require.Error(t, o.err)
			require.LessOrEqual(t, len(o.done[0].Attempts), 3)
			cancel()
			time.Sleep(time.Millisecond)
		}
		retries := b.caller.count() - 2000
		assert.LessOrEqual(t, retries, 400+3, "20 %% of 2,000 calls and three")
		t.Logf("2,000 calls, %d retries", retries)
	})
}

// One of three deployments fails: it is left out within five failures, callers
// notice nothing, and it is back within a minute of its recovery.
func TestFailingDeploymentIsLeftOutAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		var failures int
		var back time.Time
		var recovered time.Time
		b := newBench(t, func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
			if call.Deployment.Upstream.ID == "a" {
				if down {
					failures++
					failing(router.FailureNetwork, 0)(ctx, call, yield)
					return
				}
				if back.IsZero() {
					back = time.Now()
				}
			}
			whole(ctx, call, yield)
		}, nil)
		errs := 0
		call := func() {
			if o := hear(t.Context(), b.r, prompt("main")); o.err != nil {
				errs++
			}
			time.Sleep(100 * time.Millisecond)
		}
		for range 50 { // five seconds: before the first probe
			call()
		}
		assert.Equal(t, 5, failures, "left out after five failures")
		m, _ := b.rules.Catalog.Model("main")
		assert.False(t, b.r.Health(m)[0].Until.IsZero())
		assert.Equal(t, router.FailureNetwork, b.r.Health(m)[0].Reason)
		for range 3000 { // five minutes of outage
			call()
		}
		assert.LessOrEqual(t, failures, 16, "only probes reach it, ever more rarely")
		down, recovered = false, time.Now()
		for range 700 {
			call()
		}
		require.False(t, back.IsZero(), "it is asked again")
		assert.LessOrEqual(t, back.Sub(recovered), time.Minute)
		assert.True(t, b.r.Health(m)[0].Until.IsZero())
		assert.Positive(t, b.r.Health(m)[0].OK)
		assert.Zero(t, errs)
		t.Logf("%d failures in all, back after %s", failures, back.Sub(recovered))
	})
}

// Outages never leave out more than half of a model's deployments.
func TestNeverMoreThanHalfIsLeftOut(t *testing.T) {
	b := newBench(t, failing(router.FailureNetwork, 0), nil)
	for range 200 {
		_ = hear(t.Context(), b.r, prompt("main"))
	}
	m, _ := b.rules.Catalog.Model("main")
	out := 0
	for _, h := range b.r.Health(m) {
		if !h.Until.IsZero() {
			out++
		}
	}
	assert.Equal(t, 1, out, "of three")

	b = newBench(t, failing(router.FailureAuth, 0), nil)
	_ = hear(t.Context(), b.r, prompt("main"))
	m, _ = b.rules.Catalog.Model("main")
	for _, h := range b.r.Health(m) {
		assert.False(t, h.Until.IsZero(), "a refused key leaves all out")
	}
	before := b.caller.count()
	o := hear(t.Context(), b.r, prompt("main"))
	require.Error(t, o.err)
	assert.Equal(t, before, b.caller.count(), "and nobody is asked")
}
