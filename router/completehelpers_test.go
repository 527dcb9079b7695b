package router_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	store  *router.Store
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
	b.store = cfg.Store
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
