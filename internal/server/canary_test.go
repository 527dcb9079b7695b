package server

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/telemetry"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// canary must be found nowhere outside the call that it is in.
const canary = "zq7XvK0pWm3Tj9Rb"

// forms are the canary as it might hide: whole, any eight bytes of it, in hex,
// in base64 at every alignment, and escaped.
func forms() map[string]string {
	out := map[string]string{"hex": hex.EncodeToString([]byte(canary)), "escaped": url.QueryEscape(canary)}
	for i := 0; i+8 <= len(canary); i++ {
		out[fmt.Sprintf("bytes %d to %d", i, i+8)] = canary[i : i+8]
	}
	for shift := range 3 {
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + canary))
		out[fmt.Sprintf("base64 at %d", shift)] = strings.TrimRight(enc, "=")[4 : len(canary)+2]
	}
	return out
}

func assertNoCanary(t *testing.T, where, text string) {
	t.Helper()
	text = strings.ToLower(strings.ToValidUTF8(text, "?"))
	for form, s := range forms() {
		if at := strings.Index(text, strings.ToLower(s)); at >= 0 {
			t.Errorf("%s holds the canary as %s: …%s…", where, form, text[max(0, at-80):min(len(text), at+80)])
		}
	}
}

func TestCanaryFormsAreFound(t *testing.T) {
	for _, hidden := range []string{canary, canary[3:11], hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte("ab" + canary + "c"))} {
		found := false
		for _, s := range forms() {
			found = found || strings.Contains(strings.ToLower(hidden), strings.ToLower(s))
		}
		assert.True(t, found, hidden)
	}
}

// collector is an OpenTelemetry collector that keeps what it gets.
type collector struct {
	coltrace.UnimplementedTraceServiceServer
	got syncBuffer
}

func (c *collector) Export(_ context.Context, r *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	raw, err := proto.Marshal(r)
	if err != nil {
		return nil, err
	}
	_, err = c.got.Write(raw)
	return &coltrace.ExportTraceServiceResponse{}, err
}

func startCollector(t *testing.T) (c *collector, endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c = &collector{}
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	coltrace.RegisterTraceServiceServer(g, c)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return c, "http://" + l.Addr().String()
}

// canaryRequests put the canary into every field that holds a caller's text.
func canaryRequests() map[string]*weirv1.RouteRequest {
	text := func(s string) *weirv1.RouteRequest {
		r := textRequest(s)
		r.SessionId, r.ConversationId = canary, canary
		r.Metadata = map[string]string{canary: canary}
		return r
	}
	good := text("Say " + canary)
	full := text("")
	full.Input = chat(
		&weirv1.Message{Role: weirv1.Role_ROLE_SYSTEM, Text: canary},
		&weirv1.Message{Role: weirv1.Role_ROLE_USER, Text: canary, Parts: []*weirv1.Part{media("image/png", []byte(canary)), mediaURL("https://example.com/" + canary)}},
		&weirv1.Message{Role: weirv1.Role_ROLE_ASSISTANT, Parts: []*weirv1.Part{{Part: &weirv1.Part_ToolCall{ToolCall: &weirv1.ToolCall{Id: canary, Name: canary, ArgumentsJson: canary}}}}},
		&weirv1.Message{Role: weirv1.Role_ROLE_TOOL, Parts: []*weirv1.Part{{Part: &weirv1.Part_ToolResult{ToolResult: &weirv1.ToolResult{ToolCallId: canary, Content: canary}}}}},
	).GetInput()
	invalid := proto.CloneOf(full)
	invalid.GetChat().GetMessages()[1].Role = 9
	invalid.GetChat().GetMessages()[2].Role = 9
	invalid.GetChat().GetMessages()[3].Role = 9
	invalid.GetChat().GetMessages()[1].GetParts()[0].GetMedia().MimeType = canary
	invalid.GetChat().GetMessages()[1].GetParts()[1].GetMedia().Source = &weirv1.Media_Url{Url: "http://" + canary}
	invalid.SessionId = strings.Repeat(canary, 20)
	invalid.Metadata = map[string]string{strings.Repeat(canary, 10): strings.Repeat(canary, 100)}
	invalid.AllowModels = []string{"[" + canary}
	none := text(canary)
	none.DenyModels = []string{"*"}
	long := text(strings.Repeat(canary+" ", 100_000))
	unknown := text(canary)
	unknown.Policy = "nope"
	return map[string]*weirv1.RouteRequest{
		"good": good, "chat": full, "invalid": invalid, "no model": none, "too long": long, "unknown policy": unknown,
		"not a decision": text(" "),
	}
}

func TestNoTextLeaves(t *testing.T) {
	const token = "0123456789abcdef"
	col, endpoint := startCollector(t)
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.Build{}, func(k string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}[k]
	})
	require.NoError(t, err)
	w := newWorld(t, func(w *world) {
		m, err := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.Build{Version: "test"})
		require.NoError(t, err)
		journal, err := router.NewMemoryJournal(100)
		require.NoError(t, err)
		r, err := router.New(router.Config{Store: w.store, Journal: journal, Now: time.Now, NewID: testID(), Observer: m})
		require.NoError(t, err)
		w.cfg.Router, w.cfg.Observer, w.cfg.Metrics, w.cfg.Stats = tracing.Trace(r), m, m.Handler(false), tracing.StatsHandler()
		w.cfg.TokenFile = writeFile(t, "tokens", token+"\n"+canary+canary)
		w.cfg.Admin = &fakeAdmin{}
		w.cfg.Logger = slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
	}).run()
	errs := canaryCalls(t, w, token)
	page := scrape(t, w)
	require.NoError(t, w.stop())
	require.NoError(t, tracing.Shutdown(context.Background()))

	logs, spans := w.log.String(), col.got.String()
	require.Contains(t, logs, `"code":"Internal"`, "the panic was logged")
	require.Contains(t, page, "weir_route_decisions_total{")
	for _, name := range []string{"weir.route", "weir.classify", "weir.decide", "weir.v1.RouterService/Route"} {
		require.Contains(t, spans, name)
	}
	assertNoCanary(t, "the log", logs)
	assertNoCanary(t, "the metrics", page)
	assertNoCanary(t, "the spans", spans)
	for call, text := range errs {
		assertNoCanary(t, "the error of "+call, text)
	}
}

// canaryCalls makes every call, good and bad, and returns the errors' whole text.
func canaryCalls(t *testing.T, w *world, token string) map[string]string {
	t.Helper()
	c, errs := w.client(), map[string]string{}
	ctx := withToken(metadata.AppendToOutgoingContext(t.Context(), requestIDKey, "id "+canary, "x-custom", canary), "Bearer "+token)
	note := func(call string, err error) {
		if err != nil {
			st := status.Convert(err)
			errs[call] = st.Message() + fmt.Sprint(st.Details()...) + fmt.Sprint(st.Proto())
		}
	}
	for name, req := range canaryRequests() {
		_, err := c.Route(ctx, req)
		note("route, "+name, err)
	}
	for name, fault := range map[string]error{
		"overloaded": classifier.ErrOverloaded, "invalid text": classifier.ErrInvalidText, "no content": classifier.ErrNoContent,
	} {
		w.class.failWith(fault)
		_, err := c.Route(ctx, textRequest(canary))
		note("route, "+name, err)
	}
	w.class.failWith(nil)
	w.class.panic.Store(true)
	_, err := c.Route(ctx, textRequest(canary))
	note("route, panic", err)
	w.class.panic.Store(false)
	var out []byte
	raw := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte(canary+"\xff"))
	note("route, not UTF-8", w.dial(w.addrs.Listen).Invoke(ctx, weirv1.RouterService_Route_FullMethodName, raw, &out, grpc.ForceCodec(rawCodec{})))
	_, err = c.Route(withToken(t.Context(), "Bearer "+canary), textRequest(canary))
	note("route, wrong token", err)
	_, err = c.Route(withToken(t.Context(), "Bearer "+canary+canary), textRequest(canary))
	require.NoError(t, err, "the canary as a token admits")
	_, err = c.GetDecision(ctx, &weirv1.GetDecisionRequest{DecisionId: canary})
	note("get decision", err)
	_, err = c.ReportOutcome(ctx, &weirv1.ReportOutcomeRequest{
		DecisionId: canary, IdempotencyKey: strings.Repeat(canary, 20), Outcome: &weirv1.Outcome{Source: strings.Repeat(canary, 3)},
	})
	note("report outcome", err)
	_, err = c.ListModels(ctx, &weirv1.ListModelsRequest{Tier: 9})
	note("list models", err)
	_, err = c.Usage(ctx, &weirv1.UsageRequest{GroupBy: []string{canary}})
	note("usage", err)
	stream, err := c.Complete(ctx, &weirv1.CompleteRequest{Route: textRequest(canary), IdempotencyKey: canary})
	require.NoError(t, err)
	_, err = stream.Recv()
	note("complete", err)
	_, err = w.admin().StageBundle(ctx, &weirv1.StageBundleRequest{Name: canary})
	note("stage", err)
	assert.GreaterOrEqual(t, len(errs), 16)
	return errs
}

func scrape(t *testing.T, w *world) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + w.addrs.Metrics.String() + "/metrics")
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	page, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(page)
}
