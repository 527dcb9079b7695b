package server

import (
	"context"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/weirhq/weir/internal/telemetry"
	"github.com/weirhq/weir/router"
)

func TestTraceparentIsHonoured(t *testing.T) {
	const traceID, parentID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	col, endpoint := startCollector(t)
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.Build{}, func(k string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}[k]
	})
	require.NoError(t, err)
	w := newWorld(t, func(w *world) {
		r, ok := w.cfg.Router.(*router.Router)
		require.True(t, ok)
		w.cfg.Router, w.cfg.Stats = tracing.Trace(r), tracing.StatsHandler()
	}).run()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+traceID+"-"+parentID+"-01")
	_, err = w.client().Route(ctx, textRequest("hi"))
	require.NoError(t, err)
	_, err = healthv1.NewHealthClient(w.dial(w.addrs.Listen)).Check(ctx, &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.NoError(t, w.stop())
	flush, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, tracing.Shutdown(flush))

	var got coltrace.ExportTraceServiceRequest
	require.NoError(t, proto.Unmarshal([]byte(col.got.String()), &got))
	spans := map[string]*tracepb.Span{}
	for _, r := range got.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				spans[span.GetName()] = span
				assert.Equal(t, traceID, hex.EncodeToString(span.GetTraceId()), span.GetName())
			}
		}
	}
	require.Len(t, spans, 4, "probes are not traced")
	rpc, route := spans["weir.v1.RouterService/Route"], spans["weir.route"]
	assert.Equal(t, parentID, hex.EncodeToString(rpc.GetParentSpanId()))
	assert.Equal(t, rpc.GetSpanId(), route.GetParentSpanId())
	assert.Equal(t, route.GetSpanId(), spans["weir.classify"].GetParentSpanId())
	assert.Equal(t, route.GetSpanId(), spans["weir.decide"].GetParentSpanId())
}
