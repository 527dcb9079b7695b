package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTestMetrics(t *testing.T) (*Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg, Build{Version: "v", Revision: "r", GoVersion: "go"})
	require.NoError(t, err)
	return m, reg
}

func testRecord() *router.Record {
	scores, _ := classifier.Lexical{}.Classify(context.Background(), "hello there")
	scores.Lane = "fast"
	return &router.Record{
		ID: "id", Time: time.Unix(100, 0), Classify: 300 * time.Microsecond, Decide: 10 * time.Microsecond, Total: 400 * time.Microsecond,
		BundleDigest: "sha256:b", ConfigDigest: "sha256:c",
		Decision: router.Decision{
			Chosen: router.Candidate{Model: &router.Model{ID: "m", Tier: router.Efficient}}, Reason: router.CheapestGoodEnough, Policy: "p",
			Scores: scores, Scored: true,
		},
	}
}

func page(t *testing.T, h http.Handler) string {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, rec.Code)
	return rec.Body.String()
}

func TestRoutedCounts(t *testing.T) {
	m, _ := newTestMetrics(t)
	m.Routed(testRecord(), nil)
	m.Routed(testRecord(), nil)
	strange := testRecord()
	strange.Decision.Scores.OutOfDistribution, strange.Decision.Scores.TruncatedTokens = true, 1
	m.Routed(strange, nil)
	blind := testRecord()
	blind.Decision.Scored, blind.ScoringError, blind.Decision.Reason = false, "timeout", router.ClassifierUnavailable
	m.Routed(blind, nil)
	m.Routed(&router.Record{}, fmt.Errorf("route: %w", router.ErrUnknownPolicy))
	m.Routed(&router.Record{}, fmt.Errorf("route: %w", &router.NoEligibleError{}))
	m.RPC("/weir.v1.RouterService/Route", codes.OK, time.Millisecond)
	m.Serving("sha256:old", "sha256:c")
	m.Serving("sha256:b", "sha256:c")
	got := page(t, m.Handler(false))
	for _, want := range []string{
		`weir_route_decisions_total{domain="general",policy="p",reason="cheapest_good_enough",tier="EFFICIENT"} 3`,
		`weir_route_decisions_total{domain="unscored",policy="p",reason="classifier_unavailable",tier="EFFICIENT"} 1`,
		`weir_route_models_total{model="m"} 4`,
		`weir_route_errors_total{kind="not_found"} 1`,
		`weir_route_errors_total{kind="no_eligible_model"} 1`,
		`weir_route_duration_seconds_count 6`,
		`weir_classifier_duration_seconds_count{lane="fast"} 3`,
		`weir_classifier_duration_seconds_count{lane="unscored"} 1`,
		`weir_classifier_failures_total{cause="timeout"} 1`,
		`weir_route_truncated_total 1`,
		`weir_route_ood_total 1`,
		`weir_rpc_duration_seconds_count{code="OK",method="/weir.v1.RouterService/Route"} 1`,
		`weir_serving_info{bundle_digest="sha256:b",config_digest="sha256:c"} 1`,
		`weir_build_info{go_version="go",revision="r",version="v"} 1`,
		`go_goroutines`, `process_open_fds`,
	} {
		assert.Contains(t, got, want)
	}
	assert.NotContains(t, got, "sha256:old", "only what serves now is named")
}

func TestErrorKinds(t *testing.T) {
	for err, want := range map[error]string{
		router.ErrUnknownModel: "not_found", &router.NoEligibleError{}: "no_eligible_model", &router.ContextTooLongError{}: "context_too_long",
		context.Canceled: "caller_gone", context.DeadlineExceeded: "caller_gone", classifier.ErrOverloaded: "overloaded",
		classifier.ErrInvalidText: "invalid_text", classifier.ErrNoContent: "invalid_text", errors.New("anything"): "internal",
	} {
		assert.Equal(t, want, errorKind(fmt.Errorf("route: %w", err)))
	}
}

func TestLabelFloodIsBounded(t *testing.T) {
	m, reg := newTestMetrics(t)
	const flood = 3000
	for i := range flood {
		r := testRecord()
		r.Decision.Policy = fmt.Sprint("policy-", i)
		r.Decision.Chosen.Model = &router.Model{ID: fmt.Sprint("model-", i), Tier: router.Efficient}
		m.Routed(r, nil)
		m.RPC(fmt.Sprint("/method-", i), codes.OK, time.Millisecond)
	}
	for _, name := range []string{"weir_route_decisions_total", "weir_route_models_total", "weir_rpc_duration_seconds"} {
		n, err := testutil.GatherAndCount(reg, name)
		require.NoError(t, err)
		assert.LessOrEqual(t, n, maxSeries+1, name)
	}
	got := page(t, m.Handler(false))
	assert.Contains(t, got, fmt.Sprintf(`weir_route_models_total{model="_other"} %d`, flood-maxSeries), "totals stay exact")
}

func TestNewMetricsNeedsAFreeRegistry(t *testing.T) {
	_, reg := newTestMetrics(t)
	_, err := NewMetrics(reg, Build{})
	require.ErrorContains(t, err, "register")
	_, err = NewMetrics(nil, Build{})
	require.ErrorContains(t, err, "registry is nil")
}

func TestProfilerOnlyWhenAskedFor(t *testing.T) {
	m, _ := newTestMetrics(t)
	for asked, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		rec := httptest.NewRecorder()
		m.Handler(asked).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil))
		assert.Equal(t, want, rec.Code)
	}
}

func TestNamesAreOurs(t *testing.T) {
	_, reg := newTestMetrics(t)
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		name := f.GetName()
		assert.True(t, strings.HasPrefix(name, "weir_") || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_"), name)
		assert.NotEmpty(t, f.GetHelp(), name)
	}
}

// A decision is counted in well under a microsecond's worth of garbage.
func TestRoutedAllocatesLittle(t *testing.T) {
	m, _ := newTestMetrics(t)
	r := testRecord()
	m.Routed(r, nil)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { m.Routed(r, nil) }), 1.0)
}

type fakeRouter struct {
	Router
	rec router.Record
	err error
	bad bool
}

func (f *fakeRouter) Route(context.Context, *router.Request) (router.Record, error) {
	if f.bad {
		panic("secret")
	}
	return f.rec, f.err
}

func testTracing(t *testing.T) (*Tracing, *tracetest.SpanRecorder) {
	t.Helper()
	rec := tracetest.NewSpanRecorder()
	tr := newTracing(rec, sdktrace.AlwaysSample(), resourceOf(Build{}, func(string) string { return "" }))
	t.Cleanup(func() { _ = tr.Shutdown(context.Background()) })
	return tr, rec
}

func attr(s sdktrace.ReadOnlySpan, key string) string {
	for _, kv := range s.Attributes() {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}

func TestSpans(t *testing.T) {
	tr, spans := testTracing(t)
	_, err := tr.Trace(&fakeRouter{rec: *testRecord()}).Route(t.Context(), &router.Request{})
	require.NoError(t, err)
	ended := spans.Ended()
	require.Len(t, ended, 3)
	classify, decide, route := ended[0], ended[1], ended[2]
	assert.Equal(t, []string{spanClassify, spanDecide, spanRoute}, []string{classify.Name(), decide.Name(), route.Name()})
	for _, s := range []sdktrace.ReadOnlySpan{classify, decide} {
		assert.Equal(t, route.SpanContext().SpanID(), s.Parent().SpanID())
	}
	assert.Equal(t, 300*time.Microsecond, classify.EndTime().Sub(classify.StartTime()))
	assert.Equal(t, 10*time.Microsecond, decide.EndTime().Sub(decide.StartTime()))
	assert.Equal(t, "fast", attr(classify, attrLane))
	for key, want := range map[string]string{attrModel: "m", attrTier: "EFFICIENT", attrReason: "cheapest_good_enough", attrBundle: "sha256:b", attrConfig: "sha256:c", attrDecision: "id", attrDomain: "general"} {
		assert.Equal(t, want, attr(route, key), key)
	}
}

func TestSpansOfFaults(t *testing.T) {
	tr, spans := testTracing(t)
	_, err := tr.Trace(&fakeRouter{err: fmt.Errorf("secret: %w", classifier.ErrOverloaded)}).Route(t.Context(), &router.Request{})
	require.Error(t, err)
	assert.Panics(t, func() { _, _ = tr.Trace(&fakeRouter{bad: true}).Route(t.Context(), &router.Request{}) })
	ended := spans.Ended()
	require.Len(t, ended, 2)
	assert.Equal(t, "overloaded", attr(ended[0], attrError))
	assert.Equal(t, "panic", attr(ended[1], attrError))
	for _, s := range ended {
		assert.Empty(t, s.Events(), "an event would hold the error's or the panic's text")
		assert.NotContains(t, fmt.Sprint(s.Status(), s.Attributes()), "secret")
	}
}

func TestTracingIsOffUnlessAsked(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing set": {},
		"disabled":    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_SDK_DISABLED": "true"},
		"no exporter": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			tr, err := NewTracing(t.Context(), Build{}, func(k string) string { return env[k] })
			require.NoError(t, err)
			assert.False(t, tr.On())
			assert.Nil(t, tr.StatsHandler(), "a handler would cost every call")
			next := &fakeRouter{}
			assert.Same(t, next, tr.Trace(next))
			require.NoError(t, tr.Shutdown(t.Context()))
		})
	}
}

func TestTracingRefusesFaultyEnvironment(t *testing.T) {
	for _, env := range []map[string]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "user:secret@localhost:4317"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_TRACES_SAMPLER": "sometimes"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
	} {
		_, err := NewTracing(t.Context(), Build{}, func(k string) string { return env[k] })
		require.Error(t, err)
		assert.Contains(t, err.Error(), "OTEL_")
		assert.NotContains(t, err.Error(), "secret")
	}
}

// A collector that is away neither stops the start nor the end.
func TestShutdownIsBounded(t *testing.T) {
	tr, err := NewTracing(t.Context(), Build{}, func(k string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}[k]
	})
	require.NoError(t, err)
	require.True(t, tr.On())
	_, err = tr.Trace(&fakeRouter{rec: *testRecord()}).Route(t.Context(), &router.Request{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, tr.Shutdown(ctx))
}

func TestResource(t *testing.T) {
	env := map[string]string{"OTEL_SERVICE_NAME": "edge", "OTEL_RESOURCE_ATTRIBUTES": "service.name=lost,team=a%20b,broken"}
	r := resourceOf(Build{Version: "1.2"}, func(k string) string { return env[k] })
	got := map[string]string{}
	for _, kv := range r.Attributes() {
		got[string(kv.Key)] = kv.Value.String()
	}
	assert.Equal(t, map[string]string{"service.name": "edge", "service.version": "1.2", "team": "a b"}, got)
}

func TestSamplers(t *testing.T) {
	for name, want := range map[string]string{
		"": "ParentBased{root:AlwaysOnSampler", "always_on": "AlwaysOnSampler", "always_off": "AlwaysOffSampler",
		"traceidratio": "TraceIDRatioBased{0.25}", "parentbased_always_on": "ParentBased{root:AlwaysOnSampler",
		"parentbased_always_off": "ParentBased{root:AlwaysOffSampler", "parentbased_traceidratio": "ParentBased{root:TraceIDRatioBased{0.25}",
	} {
		s, err := samplerOf(func(k string) string {
			return map[string]string{"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0.25"}[k]
		})
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(s.Description(), want), s.Description())
	}
}
