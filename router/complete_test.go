package router_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// completeConfig has a model of three deployments, one of another maker, one of a
// larger window and one that needs a key.
const completeConfig = `
version: 1
default_policy: p
upstreams:
  - {id: a, dialect: openai, base_url: "http://a.example"}
  - {id: b, dialect: openai, base_url: "http://b.example"}
  - {id: c, dialect: openai, base_url: "http://c.example"}
  - {id: d, dialect: anthropic, base_url: "http://d.example"}
  - {id: e, dialect: gemini, base_url: "http://e.example"}
  - {id: keyed, dialect: openai, base_url: "http://k.example", key_env: SOME_KEY}
models:
  - id: main
    tier: HIGH_PERFORMANCE
    context_window: 8000
    max_output_tokens: 1000
    strategy: order
    price: {input: "$1/M", output: "$10/M", source: s, date: "2026-01-01"}
    deployments: [{upstream: a, name: m}, {upstream: b, name: m}, {upstream: c, name: m}]
  - id: other
    tier: HIGH_PERFORMANCE
    context_window: 8000
    max_output_tokens: 1000
    price: {input: "$2/M", output: "$20/M", source: s, date: "2026-01-01"}
    deployments: [{upstream: d, name: o}]
  - id: wide
    tier: HIGH_PERFORMANCE
    context_window: 100000
    max_output_tokens: 1000
    price: {input: "$4/M", output: "$40/M", source: s, date: "2026-01-01"}
    deployments: [{upstream: e, name: w}]
  - id: locked
    tier: EFFICIENT
    context_window: 8000
    max_output_tokens: 1000
    price: {input: "$1/M", output: "$1/M", source: s, date: "2026-01-01"}
    deployments: [{upstream: keyed, name: l}]
policies:
  - {id: p, max_quality_gap: 1}
`

// script answers a call: it yields as a Caller does.
type script func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool)

type scripted struct {
	mu    sync.Mutex
	calls []string
	next  script
	open  atomic.Int64
}

func (s *scripted) Stream(ctx context.Context, call *router.Call) iter.Seq2[router.Chunk, error] {
	return func(yield func(router.Chunk, error) bool) {
		s.mu.Lock()
		s.calls = append(s.calls, call.Model.ID+"@"+call.Deployment.Upstream.ID)
		s.mu.Unlock()
		s.open.Add(1)
		defer s.open.Add(-1)
		s.next(ctx, call, yield)
	}
}

func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// whole is a provider that answers.
func whole(_ context.Context, _ *router.Call, yield func(router.Chunk, error) bool) {
	_ = yield(router.Chunk{Text: "Hello "}, nil) && yield(router.Chunk{Text: "there"}, nil) &&
		yield(router.Chunk{Finish: router.FinishStop, Usage: &router.Usage{Input: 10, Output: 4}}, nil)
}

func failing(kind router.FailureKind, retryAfter time.Duration) script {
	return func(_ context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
		yield(router.Chunk{}, &router.UpstreamError{Kind: kind, Upstream: call.Deployment.Upstream.ID, Status: 500, RetryAfter: retryAfter})
	}
}

// only fails at some upstreams and answers at the others.
func only(fail script, upstreams ...string) script {
	return func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
		for _, u := range upstreams {
			if call.Deployment.Upstream.ID == u {
				fail(ctx, call, yield)
				return
			}
		}
		whole(ctx, call, yield)
	}
}

// book is a ledger in memory that notices what must not be.
type book struct {
	mu      sync.Mutex
	open    map[string]router.Reservation
	settled map[string]router.Settlement
	keys    map[string]string
	refuse  error
	fail    error
}

func newBook() *book {
	return &book{open: map[string]router.Reservation{}, settled: map[string]router.Settlement{}, keys: map[string]string{}}
}

func (l *book) Reserve(_ context.Context, r *router.Reservation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	if first, ok := l.keys[r.IdempotencyKey]; ok && r.IdempotencyKey != "" {
		return &router.DuplicateError{Receipt: router.Receipt{CallID: first, Open: l.settled[first].CallID == ""}}
	}
	l.keys[r.IdempotencyKey] = r.CallID
	l.open[r.CallID] = *r
	return nil
}

func (l *book) Settle(_ context.Context, s *router.Settlement) (router.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return router.Receipt{}, l.fail
	}
	if _, ok := l.open[s.CallID]; !ok {
		return router.Receipt{}, errors.New("settled without a reservation, or twice")
	}
	delete(l.open, s.CallID)
	l.settled[s.CallID] = *s
	return router.Receipt{CallID: s.CallID, Status: s.Status}, nil
}

func (l *book) Usage(context.Context, *router.UsageQuery) ([]router.UsageRow, error) { return nil, nil }

// bench is a router over a scripted caller.
type bench struct {
	r      *router.Router
	caller *scripted
	book   *book
	rules  *router.Rules
}

func newBench(t testing.TB, next script, change func(*router.Rules, *router.Config)) *bench {
	t.Helper()
	b := &bench{caller: &scripted{next: next}, book: newBook()}
	var err error
	b.rules, err = router.ParseConfig([]byte(completeConfig), "test.yaml", func(string) string { return "" })
	require.NoError(t, err)
	journal, err := router.NewMemoryJournal(100)
	require.NoError(t, err)
	var n atomic.Int64
	cfg := router.Config{
		Journal: journal, Now: time.Now, NewID: func() string { return fmt.Sprintf("id-%d", n.Add(1)) }, ClassifyTimeout: time.Minute,
		Caller: b.caller, Ledger: b.book, Random: func() float64 { return 0.5 },
	}
	if change != nil {
		change(b.rules, &cfg)
	}
	cfg.Store, err = router.NewStore(classifier.Lexical{}, b.rules)
	require.NoError(t, err)
	b.r, err = router.New(cfg)
	require.NoError(t, err)
	return b
}

func prompt(models ...string) *router.CompleteRequest {
	if len(models) == 0 {
		models = []string{"main", "other", "wide"}
	}
	const text = "What is the capital of France?"
	return &router.CompleteRequest{
		Request: router.Request{
			Messages: []classifier.Message{{Role: classifier.User, Text: text}},
			Demand:   router.Demand{Override: router.Override{Models: models}},
		},
		Input: router.Input{Messages: []router.ChatMessage{{Role: classifier.User, Parts: []router.Part{{Text: text}}}}},
	}
}

// outcome is everything that a completion said.
type outcome struct {
	decided int
	text    string
	done    []*router.Done
	err     error
	order   string
}

func hear(ctx context.Context, r *router.Router, req *router.CompleteRequest) outcome {
	var o outcome
	for e, err := range r.Complete(ctx, req) {
		if err != nil {
			o.err = err
			o.order += "!"
			continue
		}
		switch e := e.(type) {
		case *router.Decided:
			o.decided++
			o.order += "d"
		case *router.Delta:
			o.text += e.Text
			o.order += "."
		case *router.Done:
			o.done = append(o.done, e)
			o.order += "$"
		}
	}
	return o
}

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
	assert.True(t, hear(t.Context(), b.r, prompt()).done[0].ScoreCached)
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
