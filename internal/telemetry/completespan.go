package telemetry

import (
	"context"
	"errors"
	"iter"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/weirhq/weir/router"
)

// Completer is what is traced; *router.Router is one.
type Completer interface {
	Complete(ctx context.Context, req *router.CompleteRequest) iter.Seq2[router.Event, error]
}

// TraceComplete returns a completer that makes the span weir.complete over the
// whole of a completion, and beneath it weir.route with its two steps; the spans
// of the upstream calls (see Completions) come beneath it too. It returns next
// itself when tracing is off.
func (t *Tracing) TraceComplete(next Completer) Completer {
	if t.provider == nil {
		return next
	}
	return &tracedCompleter{next: next, route: tracedRouter{tracer: t.provider.Tracer(scope)}}
}

type tracedCompleter struct {
	next  Completer
	route tracedRouter
}

// Complete implements Completer.
func (c *tracedCompleter) Complete(ctx context.Context, req *router.CompleteRequest) iter.Seq2[router.Event, error] {
	return func(yield func(router.Event, error) bool) {
		ctx, span := c.route.tracer.Start(ctx, spanComplete)
		fault := "panic"
		// As in Route: a panic's value, which may hold text, must not reach the span.
		defer func() {
			if fault != "" {
				span.SetAttributes(attribute.String(attrError, fault))
				span.SetStatus(codes.Error, fault)
			}
			span.End()
		}()
		said := ""
		for event, err := range c.next.Complete(ctx, req) {
			switch e := event.(type) {
			case *router.Decided:
				if span.IsRecording() {
					c.route.afterwards(ctx, &e.Record)
					span.SetAttributes(attribute.String(attrDecision, e.Record.ID))
				}
				said = router.FailureCancelled.String() // unless an end follows
			case *router.Done:
				said = e.Incomplete
				span.SetAttributes(doneAttributes(e)...)
			}
			if err != nil && said == "" {
				said = completeErrorKind(err)
			}
			if !yield(event, err) {
				break
			}
		}
		fault = said
	}
}

// afterwards makes the span of a route that is over, from its record.
func (r *tracedRouter) afterwards(ctx context.Context, rec *router.Record) {
	ctx, span := r.tracer.Start(ctx, spanRoute, trace.WithTimestamp(rec.Time), trace.WithAttributes(routeAttributes(rec)...))
	r.steps(ctx, rec)
	span.End(trace.WithTimestamp(rec.Time.Add(rec.Total)))
}

func doneAttributes(d *router.Done) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String(attrStatus, d.Receipt.Status),
		attribute.Int(attrAttempts, len(d.Attempts)),
		attribute.String(attrRequestModel, d.Model),
		attribute.String(attrProvider, d.Upstream),
	}
	if d.CostKnown {
		attrs = append(attrs, attribute.Int64(attrCost, int64(d.Cost)))
	}
	return attrs
}

// completeErrorKind names an error of a completion by a closed list.
func completeErrorKind(err error) string {
	var (
		poor   *router.BudgetError
		twice  *router.DuplicateError
		nobody *router.NotCallableError
	)
	switch {
	case errors.As(err, &poor):
		return "budget"
	case errors.As(err, &twice), errors.Is(err, router.ErrIdempotencyConflict):
		return "idempotency"
	case errors.As(err, &nobody), errors.Is(err, router.ErrNoUpstream):
		return "not_callable"
	case errors.Is(err, router.ErrUnpriced):
		return "unpriced"
	case errors.Is(err, router.ErrLedger), errors.Is(err, router.ErrNoLedger):
		return "ledger"
	default:
		return errorKind(err)
	}
}
