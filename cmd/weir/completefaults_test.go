package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/ledger"
	"github.com/weirhq/weir/internal/server"
	"github.com/weirhq/weir/internal/telemetry"
	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// completeConfig is one model behind the fake provider in each dialect; the
// other deployment, where there is one, never fails.
func completeConfig(url, budget string) string {
	var b strings.Builder
	b.WriteString("version: 1\ndefault_policy: p\n" + budget + "upstreams:\n")
	for _, d := range []string{"openai", "anthropic", "gemini"} {
		fmt.Fprintf(&b, "  - {id: %s, dialect: %s, base_url: %q}\n", d, d, url)
	}
	b.WriteString("policies:\n  - {id: p, max_quality_gap: 1}\nmodels:\n")
	for _, d := range []string{"openai", "anthropic", "gemini"} {
		fmt.Fprintf(&b, "  - id: fake/%s\n    tier: EFFICIENT\n    context_window: 100000\n    max_output_tokens: 1000\n    capabilities: [tools, json, vision]\n    modalities: [text, image]\n"+
			"    price: {input: \"$1.00/M\", output: \"$2.00/M\", source: test, date: \"2026-01-01\"}\n    deployments: [{upstream: %s, name: m}]\n", d, d)
	}
	return b.String()
}

// completeServer serves Complete as `weir serve` wires it, over a fake provider
// and a ledger in a file.
func completeServer(t *testing.T, budget string) (weirv1.RouterServiceClient, *upstreamtest.Provider, *ledger.Ledger) {
	t.Helper()
	s := startCompleting(t, budget)
	return s.client, s.provider, s.books
}

type completingServer struct {
	client   weirv1.RouterServiceClient
	provider *upstreamtest.Provider
	books    *ledger.Ledger
	// file is the ledger's.
	file    string
	metrics http.Handler
	addr    string
	// stop is what SIGTERM does.
	stop context.CancelFunc
}

func startCompleting(t *testing.T, budget string) *completingServer {
	t.Helper()
	provider, err := upstreamtest.Start("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, provider.Close()) })
	s := startCompletingAt(t, provider.URL(), budget)
	s.provider = provider
	return s
}

// startCompletingAt serves over a provider at the address.
func startCompletingAt(t *testing.T, url, budget string) *completingServer {
	t.Helper()
	rules, err := router.ParseConfig([]byte(completeConfig(url, budget)), "test.yaml", func(string) string { return "" })
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	f := completeFlags{ledger: t.TempDir() + "/ledger.db", scoreCache: 100}
	calls, err := f.open(t.Context(), world{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}, logger)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, calls.close()) })
	build := telemetry.Build{}
	tracing, err := telemetry.NewTracing(t.Context(), build, func(string) string { return "" })
	require.NoError(t, err)
	metrics, err := telemetry.NewMetrics(prometheus.NewRegistry(), build)
	require.NoError(t, err)
	r, store, err := newRouter(classifier.Lexical{}, rules, metrics, 100, time.Second, func(cfg *router.Config) {
		calls.join(cfg, observeCompletions(metrics, tracing, logger))
	})
	require.NoError(t, err)
	ready := make(chan server.Addrs, 1)
	cfg := server.Config{
		Router: r, Store: store, Listen: "127.0.0.1:0", AdminListen: server.Off, MetricsListen: server.Off, DrainDelay: -1,
		Logger: logger, Ready: func(a server.Addrs) { ready <- a },
	}
	calls.serve(&cfg, r, tracing.TraceComplete(r), time.Minute)
	s, err := server.New(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ended)
	})
	addr := (<-ready).Listen.(*net.TCPAddr)
	conn, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &completingServer{weirv1.NewRouterServiceClient(conn), nil, calls.ledger, f.ledger, metrics.Handler(false), addr.String(), stop}
}

// told is what a caller saw of one completion.
type told struct {
	decisions, contents int
	text                string
	completed           []*weirv1.Completed
	err                 error
}

func complete(ctx context.Context, t *testing.T, c weirv1.RouterServiceClient, req *weirv1.CompleteRequest) told {
	t.Helper()
	var out told
	stream, err := c.Complete(ctx, req)
	require.NoError(t, err)
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			out.err = err
			return out
		}
		switch e := event.GetEvent().(type) {
		case *weirv1.CompleteResponse_Decision:
			assert.Zero(t, out.contents+len(out.completed), "the decision comes first")
			out.decisions++
		case *weirv1.CompleteResponse_Delta:
			assert.Empty(t, out.completed, "nothing after the end")
			out.contents++
			out.text += e.Delta.GetText()
		case *weirv1.CompleteResponse_Completed:
			out.completed = append(out.completed, e.Completed)
		}
	}
}

func askModel(model string) *weirv1.CompleteRequest {
	return &weirv1.CompleteRequest{Route: &weirv1.RouteRequest{
		Input: &weirv1.RouteRequest_Text{Text: "Tell me of weirs."}, Model: model, MaxOutputTokens: 100,
	}}
}

func fullAnswer() upstreamtest.Answer {
	return upstreamtest.Answer{
		Text:  []string{"A weir ", "is a low ", "dam across ", "a river."},
		Usage: &router.Usage{Input: 11, Output: 9}, Finish: router.FinishStop,
	}
}

// The provider is hurt at random bytes, in every dialect and every way, and the
// caller hears the truth over gRPC each time: what is incomplete says so, what
// was sent is never retried, and the ledger has a row for every attempt.
func TestNothingHurtIsShownAsWhole(t *testing.T) {
	calls := 120
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		calls = 1000
	}
	c, provider, books := completeServer(t, "completion: {first_content_timeout: 400ms, idle_timeout: 100ms}\n")
	kinds := []upstreamtest.FaultKind{
		upstreamtest.Cut, upstreamtest.Drop, upstreamtest.Reset, upstreamtest.BadJSON, upstreamtest.NoTerminator, upstreamtest.InBandError, upstreamtest.Status,
		upstreamtest.Stall,
	}
	rng := rand.New(rand.NewPCG(2, 3))
	incomplete, failed := 0, 0
	for i := range calls {
		dialect := []string{"openai", "anthropic", "gemini"}[i%3]
		a := fullAnswer()
		size := len(bytes.Join(upstreamtest.Events(dialect, &a), nil))
		a.Fault = upstreamtest.Fault{Kind: kinds[i/3%len(kinds)], At: 1 + rng.IntN(size-1), Status: 503}
		provider.Always(a)
		before := provider.Count()
		got := complete(t.Context(), t, c, askModel("fake/"+dialect))
		at := fmt.Sprintf("%s %s at %d", dialect, a.Fault.Kind, a.Fault.At)
		require.Error(t, got.err, at)
		require.Len(t, got.completed, 1, at)
		done := got.completed[0]
		require.Equal(t, weirv1.CompletionStatus_COMPLETION_STATUS_INCOMPLETE, done.GetStatus(), at)
		assert.NotEmpty(t, done.GetIncompleteReason(), at)
		assert.Len(t, done.GetAttempts(), provider.Count()-before, "%s: every attempt is told", at)
		if got.contents > 0 {
			incomplete++
			assert.Equal(t, 1, provider.Count()-before, "%s: no second voice after content", at)
			assert.Contains(t, []codes.Code{codes.Unavailable, codes.DeadlineExceeded}, status.Code(got.err), at)
			assert.Equal(t, "PARTIAL_OUTPUT", reasonIn(t, got.err), at)
			assert.True(t, strings.HasPrefix(strings.Join(a.Text, ""), got.text), at)
		} else {
			failed++
		}
	}
	t.Logf("%d calls: %d incomplete, %d failed, 0 shown as complete", calls, incomplete, failed)
	assert.Positive(t, incomplete)
	assert.Positive(t, failed)
	rows, err := books.Usage(t.Context(), &router.UsageQuery{})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	assert.Equal(t, int64(calls), rows[0].Calls, "0 calls missing in the ledger")
	assert.Equal(t, int64(provider.Count()), rows[0].Attempts, "0 rows missing")
}

func reasonIn(t *testing.T, err error) string {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func TestWhatTheProviderSaidIsWhatIsBooked(t *testing.T) {
	c, provider, _ := completeServer(t, "accounts: {budget: {limit: \"$1.00\", window: day}}\n")
	provider.Always(fullAnswer())
	req := askModel("fake/anthropic")
	req.IdempotencyKey = "once"
	got := complete(t.Context(), t, c, req)
	require.NoError(t, got.err)
	assert.Equal(t, 1, got.decisions)
	assert.Equal(t, "A weir is a low dam across a river.", got.text)
	require.Len(t, got.completed, 1)
	done := got.completed[0]
	assert.Equal(t, weirv1.CompletionStatus_COMPLETION_STATUS_COMPLETE, done.GetStatus())
	assert.Equal(t, weirv1.FinishReason_FINISH_REASON_STOP, done.GetFinishReason())
	assert.Equal(t, int64(11), done.GetUsage().GetInputTokens())
	assert.Equal(t, int64(9), done.GetUsage().GetOutputTokens())
	assert.False(t, done.GetUsage().GetEstimated())
	assert.Equal(t, int64(11*1000+9*2000), done.GetCostNanoUsd(), "11 tokens at $1 and 9 at $2 a million")
	assert.Equal(t, done.GetCostNanoUsd(), done.GetReceipt().GetBookedNanoUsd())
	assert.False(t, done.GetReceipt().GetScoreCached())
	assert.True(t, complete(t.Context(), t, c, askModel("fake/openai")).completed[0].GetReceipt().GetScoreCached(), "the prompt had been scored")

	twice := complete(t.Context(), t, c, req)
	assert.Equal(t, codes.AlreadyExists, status.Code(twice.err))
	assert.Zero(t, twice.decisions+twice.contents)
	assert.Equal(t, 2, provider.Count(), "no second call")
	var receipt *weirv1.Receipt
	for _, d := range status.Convert(twice.err).Details() {
		if r, ok := d.(*weirv1.Receipt); ok {
			receipt = r
		}
	}
	assert.Equal(t, done.GetReceipt().GetDecisionId(), receipt.GetDecisionId())
	req.Route.MaxOutputTokens = 99
	assert.Equal(t, "IDEMPOTENCY_CONFLICT", reasonIn(t, complete(t.Context(), t, c, req).err))

	usage, err := c.Usage(t.Context(), &weirv1.UsageRequest{GroupBy: []string{"model"}})
	require.NoError(t, err)
	require.Len(t, usage.GetRows(), 2)
	assert.Equal(t, done.GetCostNanoUsd(), usage.GetRows()[0].GetCostNanoUsd())
}

// A provider that limits, one without a key and one that refuses are told apart.
func TestHowACompletionFails(t *testing.T) {
	c, provider, _ := completeServer(t, "")
	provider.Always(upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: 429, RetryAfter: "7"}})
	got := complete(t.Context(), t, c, askModel("fake/openai"))
	assert.Equal(t, codes.ResourceExhausted, status.Code(got.err))
	assert.Equal(t, "RATE_LIMITED", reasonIn(t, got.err))
	var retry *errdetails.RetryInfo
	for _, d := range status.Convert(got.err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			retry = r
		}
	}
	assert.Equal(t, 7*time.Second, retry.GetRetryDelay().AsDuration(), "as the provider asked")

	bad := askModel("fake/openai")
	bad.Tools = []*weirv1.Tool{{Name: "bad name", InputSchemaJson: "[]"}}
	bad.Sampling = &weirv1.Sampling{Stop: []string{""}}
	got = complete(t.Context(), t, c, bad)
	assert.Equal(t, codes.InvalidArgument, status.Code(got.err))
	for _, field := range []string{"tools[0].name", "tools[0].input_schema_json", "sampling.stop[0]"} {
		assert.Contains(t, got.err.Error(), field)
	}
	assert.Equal(t, codes.InvalidArgument, status.Code(complete(t.Context(), t, c, &weirv1.CompleteRequest{}).err))
}
