package telemetry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/weirhq/weir/router"
)

func testAttempt(outcome string) *router.AttemptRecord {
	a := &router.AttemptRecord{Model: "m", Upstream: "u", Outcome: outcome, Start: time.Unix(100, 0), Duration: 2 * time.Second}
	if outcome == outcomeOK {
		a.FirstContent = 300 * time.Millisecond
		a.Usage = router.Usage{Input: 100, Output: 20, CachedInput: 40}
		a.Cost, a.CostKnown = 1234, true
	}
	return a
}

func TestCompletionsAreCounted(t *testing.T) {
	m, _ := newTestMetrics(t)
	ctx, rec := t.Context(), testRecord()
	failed, answered := testAttempt("overload"), testAttempt(outcomeOK)
	m.AttemptDone(ctx, rec, failed, errors.New("no"))
	m.AttemptDone(ctx, rec, answered, nil)
	done := &router.Done{
		Complete: true, Model: "m", Attempts: []router.AttemptRecord{*failed, *answered}, ScoreCached: true,
		Receipt: router.Receipt{Savings: -70, SavingsKnown: true},
	}
	m.CallDone(ctx, rec, done, nil)
	m.CallDone(ctx, rec, &router.Done{Model: "m"}, errors.New("broke"))
	m.CallDone(ctx, rec, nil, fmt.Errorf("gone: %w", context.Canceled))
	m.CallDone(ctx, rec, nil, errors.New("no attempt answered"))
	got := page(t, m.Handler(false))
	for _, want := range []string{
		`weir_complete_calls_total{policy="p",status="complete"} 1`,
		`weir_complete_calls_total{policy="p",status="incomplete"} 1`,
		`weir_complete_calls_total{policy="p",status="cancelled"} 1`,
		`weir_complete_calls_total{policy="p",status="failed"} 1`,
		`weir_complete_attempts_total{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",outcome="ok"} 1`,
		`weir_complete_attempts_total{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",outcome="overload"} 1`,
		`gen_ai_client_operation_duration_seconds_count{error_type="overload",gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m"} 1`,
		`gen_ai_client_operation_time_to_first_chunk_seconds_count{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m"} 1`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",gen_ai_token_type="input"} 100`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",gen_ai_token_type="output"} 20`,
		`weir_complete_cost_nano_usd_total{gen_ai_provider_name="u",gen_ai_request_model="m"} 1234`,
		`weir_complete_savings_nano_usd -70`,
		`weir_complete_unpriced_total 1`,
		`weir_complete_score_cache_hits_total 1`,
		`weir_complete_duration_seconds_count 1`,
	} {
		assert.Contains(t, got, want+"\n")
	}
}

func TestAFloodOfModelsStaysBounded(t *testing.T) {
	m, reg := newTestMetrics(t)
	for i := range 3 * maxSeries {
		a := testAttempt(outcomeOK)
		a.Model = fmt.Sprint("model-", i)
		m.AttemptDone(t.Context(), testRecord(), a, nil)
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		assert.LessOrEqual(t, len(f.GetMetric()), 2*maxSeries+2, f.GetName())
		if f.GetName() == "weir_complete_cost_nano_usd_total" {
			var sum float64
			for _, s := range f.GetMetric() {
				sum += s.GetCounter().GetValue()
			}
			assert.InDelta(t, 3*maxSeries*1234, sum, 0, "nothing is lost in _other")
		}
	}
}

func TestAttemptsAreSpans(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracing := newTracing(sdktrace.NewSimpleSpanProcessor(exporter), sdktrace.AlwaysSample(), resource.Empty())
	m, _ := newTestMetrics(t)
	ctx, parent := tracing.provider.Tracer("t").Start(t.Context(), "parent")
	o := tracing.Completions(m)
	o.AttemptDone(ctx, testRecord(), testAttempt("rate_limit"), errors.New("secret words"))
	o.AttemptDone(ctx, testRecord(), testAttempt(outcomeOK), nil)
	parent.End()
	spans := exporter.GetSpans()
	require.Len(t, spans, 3)
	bad, good := spans[0], spans[1]
	assert.Equal(t, "chat m", good.Name)
	assert.Equal(t, parent.SpanContext().SpanID(), good.Parent.SpanID())
	assert.Equal(t, 2*time.Second, good.EndTime.Sub(good.StartTime))
	attrs := attribute.NewSet(good.Attributes...)
	for key, want := range map[attribute.Key]attribute.Value{
		"gen_ai.operation.name": attribute.StringValue("chat"), "gen_ai.provider.name": attribute.StringValue("u"),
		"gen_ai.request.model": attribute.StringValue("m"), "gen_ai.usage.input_tokens": attribute.Int64Value(100),
		"gen_ai.usage.output_tokens": attribute.Int64Value(20), "gen_ai.usage.cache_read.input_tokens": attribute.Int64Value(40),
		"weir.complete.cost.nano_usd": attribute.Int64Value(1234),
	} {
		got, ok := attrs.Value(key)
		assert.True(t, ok, key)
		assert.Equal(t, want, got, key)
	}
	assert.Equal(t, codes.Error, bad.Status.Code)
	assert.Equal(t, "rate_limit", bad.Status.Description)
	assert.NotContains(t, fmt.Sprint(bad.Attributes, bad.Events, bad.Status), "secret words")
	assert.Contains(t, page(t, m.Handler(false)), `outcome="ok"} 1`, "the metrics hear of it too")

	off := &Tracing{}
	assert.Same(t, m, off.Completions(m))
	require.NoError(t, tracing.Shutdown(t.Context()))
}
