package router_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// configured is a change of newBench: completeConfig with more text.
func configured(t *testing.T, more string) func(*router.Rules, *router.Config) {
	t.Helper()
	return func(r *router.Rules, _ *router.Config) {
		parsed, err := router.ParseConfig([]byte(completeConfig+more), "x.yaml", none)
		require.NoError(t, err)
		*r = *parsed
	}
}

func TestTheDefaultStrategyIsByPrice(t *testing.T) {
	b := newBench(t, whole, nil)
	m, ok := b.rules.Catalog.Model("other")
	require.True(t, ok)
	assert.Equal(t, router.ByPrice, m.Strategy)
	m, _ = b.rules.Catalog.Model("main")
	assert.Equal(t, router.InOrder, m.Strategy)
}

// A model of a larger window is kept at hand though others come before it: what
// is too long for the first would be too long for them.
func TestTheLargerWindowIsAlwaysAtHand(t *testing.T) {
	b := newBench(t, only(failing(router.FailureContextLength, 0), "a", "b", "c", "d"), configured(t, "completion: {max_attempts: 2}\n"))
	o := hear(t.Context(), b.r, prompt())
	require.NoError(t, o.err)
	assert.Equal(t, []string{"main@a", "wide@e"}, b.caller.calls)
}

// A deployment that was left out is tried by one call at a time: the others do
// not wait to see whether it has come back.
func TestOneCallProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		down, probes := true, 0
		release := make(chan struct{})
		b := newBench(t, func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
			if call.Deployment.Upstream.ID != "a" {
				whole(ctx, call, yield)
				return
			}
			mu.Lock()
			failNow := down
			if !down {
				probes++
			}
			mu.Unlock()
			if failNow {
				failing(router.FailureNetwork, 0)(ctx, call, yield)
				return
			}
			<-release
			whole(ctx, call, yield)
		}, nil)
		for range 10 {
			require.NoError(t, hear(t.Context(), b.r, prompt("main")).err)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		time.Sleep(time.Minute) // its time is over: a probe is due
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() { assert.NoError(t, hear(t.Context(), b.r, prompt("main")).err) })
		}
		synctest.Wait()
		assert.Equal(t, 1, probes, "while the probe runs nobody else is sent there")
		close(release)
		callers.Wait()
		require.NoError(t, hear(t.Context(), b.r, prompt("main")).err)
		assert.Equal(t, 2, probes, "it has answered, so it is back")
	})
}

// Callers that give their calls no time leave no provider out for others.
func TestImpatientCallersEjectNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
			<-ctx.Done()
			yield(router.Chunk{}, &router.UpstreamError{Kind: router.FailureTimeout, Upstream: call.Deployment.Upstream.ID, Err: ctx.Err()})
		}, nil)
		for range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			require.ErrorIs(t, hear(ctx, b.r, prompt("main")).err, context.DeadlineExceeded)
			cancel()
		}
		m, _ := b.rules.Catalog.Model("main")
		for _, h := range b.r.Health(m) {
			assert.True(t, h.Until.IsZero())
			assert.Zero(t, h.Failed)
		}
	})
}

// Scores are found again only under the bundle that gave them.
func TestScoresOfAnotherBundleAreNotUsed(t *testing.T) {
	cache, err := router.NewScoreCache(10)
	require.NoError(t, err)
	b := newBench(t, whole, func(_ *router.Rules, cfg *router.Config) { cfg.ScoreCache = cache })
	assert.False(t, hear(t.Context(), b.r, prompt()).done[0].ScoreCached)
	assert.True(t, hear(t.Context(), b.r, prompt()).done[0].ScoreCached)
	_, err = b.store.Publish(func(classifier.Classifier, *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return renamed{classifier.Lexical{}}, b.rules, nil
	})
	require.NoError(t, err)
	assert.False(t, hear(t.Context(), b.r, prompt()).done[0].ScoreCached, "another bundle serves")
}

// What a cascade says when its time is up is not kept for calls that have time.
func TestHurriedScoresAreNotKept(t *testing.T) {
	cache, err := router.NewScoreCache(10)
	require.NoError(t, err)
	b := newBench(t, whole, func(_ *router.Rules, cfg *router.Config) {
		cfg.ScoreCache, cfg.ClassifyTimeout = cache, time.Millisecond
	})
	_, err = b.store.Publish(func(classifier.Classifier, *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return hurried{classifier.Lexical{}}, b.rules, nil
	})
	require.NoError(t, err)
	for range 2 {
		done := hear(t.Context(), b.r, prompt()).done
		require.NotEmpty(t, done)
		assert.False(t, done[0].ScoreCached)
	}
}

// hurried answers when its time is up.
type hurried struct{ classifier.Classifier }

func (h hurried) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	<-ctx.Done()
	return h.Classifier.Classify(context.WithoutCancel(ctx), text)
}

// renamed is a classifier under another digest.
type renamed struct{ classifier.Classifier }

func (r renamed) Info() classifier.Info {
	info := r.Classifier.Info()
	info.Digest = "sha256:other"
	return info
}

// Savings are negative where routing cost more than the baseline would have,
// with a ledger and without.
func TestSavingsMayBeNegative(t *testing.T) {
	for _, kept := range []bool{true, false} {
		b := newBench(t, whole, func(r *router.Rules, cfg *router.Config) {
			configured(t, "accounts: {baseline: locked}\n")(r, cfg)
			if !kept {
				cfg.Ledger = nil
			}
		})
		done := hear(t.Context(), b.r, prompt("wide")).done[0]
		if kept {
			s := b.book.settled["id-1"]
			assert.True(t, s.BaselineKnown)
			assert.Less(t, s.BaselineCost, done.Cost)
			continue
		}
		assert.True(t, done.Receipt.SavingsKnown)
		assert.Equal(t, router.NanoUSD(10*1000+4*1000)-done.Cost, done.Receipt.Savings)
		assert.Negative(t, done.Receipt.Savings)
	}
}

// Where a provider counted and then went on, what came after is counted here: the
// input as it said, the output at least as long as what arrived.
func TestUsageThatTheProviderSaidTooEarly(t *testing.T) {
	b := newBench(t, func(_ context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
		_ = yield(router.Chunk{Usage: &router.Usage{Input: 77, Output: 1}}, nil) &&
			yield(router.Chunk{Text: strings.Repeat("some words of the answer ", 20)}, nil) &&
			yield(router.Chunk{}, &router.UpstreamError{Kind: router.FailureNetwork, Upstream: call.Deployment.Upstream.ID})
	}, nil)
	u := hear(t.Context(), b.r, prompt()).done[0].Usage
	assert.EqualValues(t, 77, u.Input)
	assert.Greater(t, u.Output, int64(50))
	assert.True(t, u.Estimated)
}
