package telemetry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"

	"github.com/weirhq/weir/router"
)

// scriptedCompleter yields what it is given and reports an attempt before Done,
// as the router does, under the context that it got.
type scriptedCompleter struct {
	observer router.CompletionObserver
	done     *router.Done
	err      error
	bad      bool
}

func (c *scriptedCompleter) Complete(ctx context.Context, _ *router.CompleteRequest) iter.Seq2[router.Event, error] {
	return func(yield func(router.Event, error) bool) {
		if c.done == nil {
			yield(nil, c.err)
			return
		}
		rec := testRecord()
		if !yield(&router.Decided{Record: *rec}, nil) {
			return
		}
		if c.bad {
			panic("secret")
		}
		c.observer.AttemptDone(ctx, rec, testAttempt(outcomeOK), nil)
		if yield(c.done, nil) && c.err != nil {
			yield(nil, c.err)
		}
	}
}

func hearAll(c Completer) (events int) {
	for range c.Complete(context.Background(), &router.CompleteRequest{}) {
		events++
	}
	return events
}

// A completion is a span, with its route and each upstream call beneath it.
func TestACompletionIsASpanWithItsRouteAndAttemptsBeneath(t *testing.T) {
	tr, spans := testTracing(t)
	m, _ := newTestMetrics(t)
	c := &scriptedCompleter{observer: tr.Completions(m), done: &router.Done{
		Complete: true, Model: "m", Upstream: "u", Cost: 1234, CostKnown: true, Attempts: make([]router.AttemptRecord, 1), Receipt: router.Receipt{Status: "complete"},
	}}
	assert.Equal(t, 2, hearAll(tr.TraceComplete(c)))
	byName := map[string]int{}
	ended := spans.Ended()
	for i, s := range ended {
		byName[s.Name()] = i
	}
	require.Len(t, byName, 5)
	whole, route := ended[byName[spanComplete]], ended[byName[spanRoute]]
	for name, parent := range map[string]string{spanRoute: spanComplete, "chat m": spanComplete, spanClassify: spanRoute, spanDecide: spanRoute} {
		assert.Equal(t, ended[byName[parent]].SpanContext().SpanID(), ended[byName[name]].Parent().SpanID(), name)
	}
	rec := testRecord()
	assert.Equal(t, rec.Total, route.EndTime().Sub(route.StartTime()))
	assert.Equal(t, "m", attr(route, attrModel))
	for key, want := range map[string]string{attrDecision: "id", attrStatus: "complete", attrRequestModel: "m", attrProvider: "u"} {
		assert.Equal(t, want, attr(whole, key), key)
	}
	assert.Equal(t, codes.Unset, whole.Status().Code)

	off := &Tracing{}
	assert.Same(t, c, off.TraceComplete(c))
}

// How a completion ended is a word of a closed list, never a text.
func TestSpansOfCompletionsThatFail(t *testing.T) {
	tr, spans := testTracing(t)
	m, _ := newTestMetrics(t)
	for _, x := range []struct {
		done *router.Done
		err  error
		want string
	}{
		{nil, fmt.Errorf("secret: %w", &router.BudgetError{}), "budget"},
		{nil, fmt.Errorf("secret: %w", &router.DuplicateError{}), "idempotency"},
		{nil, &router.NotCallableError{Keys: []string{"secret"}}, "not_callable"},
		{nil, fmt.Errorf("secret: %w", router.ErrUnpriced), "unpriced"},
		{nil, fmt.Errorf("secret: %w", router.ErrLedger), "ledger"},
		{nil, fmt.Errorf("secret: %w", router.ErrUnknownModel), "not_found"},
		{&router.Done{Incomplete: "network", Model: "m"}, errors.New("secret"), "network"},
		{&router.Done{Complete: true}, fmt.Errorf("secret: %w", router.ErrLedger), "ledger"},
	} {
		hearAll(tr.TraceComplete(&scriptedCompleter{observer: tr.Completions(m), done: x.done, err: x.err}))
		ended := spans.Ended()
		last := ended[len(ended)-1]
		assert.Equal(t, spanComplete, last.Name())
		assert.Equal(t, x.want, attr(last, attrError))
	}
	assert.Panics(t, func() {
		hearAll(tr.TraceComplete(&scriptedCompleter{observer: tr.Completions(m), done: &router.Done{}, bad: true}))
	})
	for range tr.TraceComplete(&scriptedCompleter{done: &router.Done{}}).Complete(t.Context(), &router.CompleteRequest{}) {
		break // the receiver leaves after the decision
	}
	ended := spans.Ended()
	assert.Equal(t, "cancelled", attr(ended[len(ended)-1], attrError))
	panicked := false
	for _, s := range ended {
		panicked = panicked || attr(s, attrError) == "panic"
		assert.Empty(t, s.Events())
		assert.NotContains(t, fmt.Sprint(s.Status(), s.Attributes()), "secret")
	}
	assert.True(t, panicked)
}
