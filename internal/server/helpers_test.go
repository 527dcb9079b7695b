package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig has a model of each tier, one without a price, and two policies.
const testConfig = `
version: 1
default_policy: balanced
upstreams:
  - {id: alpha, dialect: openai, base_url: "https://alpha.example/v1", key_env: ALPHA_KEY, data_collection: deny, region: eu}
  - {id: beta, dialect: openai, base_url: "https://beta.example/v1", key_env: BETA_KEY}
models:
  - id: alpha/strong
    tier: HIGH_PERFORMANCE
    context_window: 200000
    max_output_tokens: 16000
    modalities: [text, image]
    capabilities: [tools, json, vision]
    price: {input: "$3.00/M", cached_input: "$0.30/M", output: "$15.00/M", source: "test", date: "2026-01-02"}
    ttft: 800ms
    fallbacks: [beta/strong]
    deployments: [{upstream: alpha, name: strong}]
  - id: beta/strong
    tier: HIGH_PERFORMANCE
    context_window: 100000
    max_output_tokens: 8000
    modalities: [text]
    capabilities: [tools]
    price: {input: "$4.00/M", output: "$20.00/M", source: "test", date: "2026-01-02"}
    deployments: [{upstream: beta, name: strong}]
  - id: beta/small
    tier: EFFICIENT
    context_window: 32000
    max_output_tokens: 4000
    modalities: [text]
    capabilities: [json]
    price: {input: "$0.10/M", output: "$0.40/M", source: "test", date: "2026-01-02"}
    deployments: [{upstream: beta, name: small}]
  - id: alpha/coder
    tier: DOMAIN_SPECIALIST
    stands_in_for: EFFICIENT
    domains: [coding]
    context_window: 64000
    max_output_tokens: 8000
    modalities: [text]
    capabilities: [tools]
    price: {input: "$0.20/M", output: "$0.80/M", source: "test", date: "2026-01-02"}
    deployments: [{upstream: alpha, name: coder}]
policies:
  - id: balanced
    max_quality_gap: 0.10
  - id: strict
    max_quality_gap: 0.01
`

func testRules(t testing.TB, text string) *router.Rules {
	t.Helper()
	rules, err := router.ParseConfig([]byte(text), "test.yaml", func(key string) string {
		if key == "ALPHA_KEY" {
			return "there"
		}
		return ""
	})
	require.NoError(t, err)
	return rules
}

// fakeClassifier is the lexical baseline until it is told to fail.
type fakeClassifier struct {
	classifier.Lexical
	fail  atomic.Pointer[error]
	gate  chan struct{} // where set, Classify waits for it or for ctx
	enter chan struct{} // where set, Classify says that it was entered
	panic atomic.Bool
}

func (f *fakeClassifier) failWith(err error) { f.fail.Store(&err) }

func (f *fakeClassifier) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	if f.enter != nil {
		f.enter <- struct{}{}
	}
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
			return classifier.Scores{}, fmt.Errorf("classify: %w", context.Cause(ctx))
		}
	}
	if f.panic.Load() {
		panic("classifier broke over " + text)
	}
	if err := f.fail.Load(); err != nil && *err != nil {
		return classifier.Scores{}, *err
	}
	return f.Lexical.Classify(ctx, text)
}

// syncBuffer is a log that tests read while the server writes.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// world is a running server with all that a test looks at.
type world struct {
	t     testing.TB
	class *fakeClassifier
	store *router.Store
	log   *syncBuffer
	cfg   Config
	addrs Addrs
	stop  func() error
}

func testID() func() string {
	var n atomic.Int64
	return func() string { return fmt.Sprintf("00000000-0000-7000-8000-%012x", n.Add(1)) }
}

// newWorld makes a config on free loopback ports; change edits it.
func newWorld(t testing.TB, change func(*world)) *world {
	t.Helper()
	w := &world{t: t, class: &fakeClassifier{}, log: &syncBuffer{}}
	var err error
	w.store, err = router.NewStore(w.class, testRules(t, testConfig))
	require.NoError(t, err)
	journal, err := router.NewMemoryJournal(100)
	require.NoError(t, err)
	r, err := router.New(router.Config{Store: w.store, Journal: journal, Now: time.Now, NewID: testID(), ClassifyTimeout: time.Minute})
	require.NoError(t, err)
	w.cfg = Config{
		Router: r, Store: w.store,
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0",
		DrainDelay: -1, ShutdownGrace: 5 * time.Second,
		Logger: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(w)
	}
	return w
}

// run starts the server and stops it at the end of the test.
func (w *world) run() *world {
	w.t.Helper()
	ready := make(chan Addrs, 1)
	w.cfg.Ready = func(a Addrs) { ready <- a }
	s, err := New(w.cfg)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	var stopErr error
	w.stop = func() error {
		once.Do(func() {
			cancel()
			stopErr = <-done
		})
		return stopErr
	}
	w.t.Cleanup(func() { _ = w.stop() })
	select {
	case w.addrs = <-ready:
	case err := <-done:
		done <- err
		require.NoError(w.t, err, "the server did not start")
	}
	return w
}

func (w *world) dial(addr net.Addr, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	target := addr.String()
	if addr.Network() == "unix" {
		target = "unix:" + target
	}
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)
	conn, err := grpc.NewClient(target, opts...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) client(opts ...grpc.DialOption) weirv1.RouterServiceClient {
	return weirv1.NewRouterServiceClient(w.dial(w.addrs.Listen, opts...))
}

func (w *world) admin() weirv1.AdminServiceClient {
	return weirv1.NewAdminServiceClient(w.dial(w.addrs.Admin))
}

func textRequest(text string) *weirv1.RouteRequest {
	return &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: text}}
}
