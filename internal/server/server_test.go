package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

func TestRouteAnswers(t *testing.T) {
	w := newWorld(t, nil).run()
	res, err := w.client().Route(t.Context(), textRequest("What is the capital of France?"))
	require.NoError(t, err)
	d := res.GetDecision()
	assert.True(t, isDecisionID(d.GetDecisionId()))
	assert.NotEmpty(t, d.GetModel())
	assert.NotZero(t, d.GetTier())
	assert.NotZero(t, d.GetReason())
	assert.Equal(t, "balanced", d.GetPolicy())
	assert.Equal(t, "lexical:1", d.GetBundleDigest())
	assert.Equal(t, testRules(t, testConfig).Digest, d.GetConfigDigest())
	assert.NotNil(t, d.GetScores())
	assert.Equal(t, d.GetModel(), d.GetCandidates()[0].GetModel())
}

func TestRouteHonoursTheRequest(t *testing.T) {
	w := newWorld(t, nil).run()
	c := w.client()
	route := func(change func(*weirv1.RouteRequest)) (*weirv1.Decision, error) {
		res, err := c.Route(t.Context(), with(change))
		return res.GetDecision(), err
	}
	d, err := route(func(r *weirv1.RouteRequest) { r.Model = "beta/strong" })
	require.NoError(t, err)
	assert.Equal(t, "beta/strong", d.GetModel())
	assert.Equal(t, weirv1.Reason_REASON_OVERRIDE, d.GetReason())

	d, err = route(func(r *weirv1.RouteRequest) { r.Explain = true })
	require.NoError(t, err)
	assert.Len(t, d.GetCandidates(), 4)

	res, err := c.Route(t.Context(), chat(user(media("image/png", []byte("x")))))
	require.NoError(t, err)
	assert.Equal(t, "alpha/strong", res.GetDecision().GetModel(), "an image needs a model that sees")
}

func TestErrorsOfRoute(t *testing.T) {
	w := newWorld(t, nil).run()
	c := w.client()
	tests := []struct {
		name   string
		req    *weirv1.RouteRequest
		code   codes.Code
		reason string
		check  func(details)
	}{
		{"invalid", with(func(r *weirv1.RouteRequest) { r.MaxOutputTokens = -1 }), codes.InvalidArgument, "INVALID_REQUEST", nil},
		{"unknown policy", with(func(r *weirv1.RouteRequest) { r.Policy = "nope" }), codes.NotFound, "UNKNOWN_POLICY", func(d details) {
			assert.Equal(t, "nope", d.resource.GetResourceName())
		}},
		{"unknown model", with(func(r *weirv1.RouteRequest) { r.Models = []string{"beta/small", "nope"} }), codes.NotFound, "UNKNOWN_MODEL", func(d details) {
			assert.Equal(t, "nope", d.resource.GetResourceName())
		}},
		{"no eligible model", with(func(r *weirv1.RouteRequest) { r.DenyModels = []string{"*"} }), codes.FailedPrecondition, "NO_ELIGIBLE_MODEL", func(d details) {
			assert.Equal(t, "4", d.info.GetMetadata()["denied"])
		}},
		{"too long", textRequest(strings.Repeat("word ", 300_000)), codes.OutOfRange, "CONTEXT_TOO_LONG", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Route(t.Context(), tt.req)
			st := status.Convert(err)
			require.Equal(t, tt.code, st.Code(), st.Message())
			d := detailsIn(t, st)
			assert.Equal(t, tt.reason, d.info.GetReason())
			if tt.check != nil {
				tt.check(d)
			}
		})
	}
}

func TestClassifierFaults(t *testing.T) {
	w := newWorld(t, nil).run()
	c := w.client()
	w.class.failWith(classifier.ErrOverloaded)
	_, err := c.Route(t.Context(), textRequest("hi"))
	assert.Equal(t, codes.ResourceExhausted, status.Code(err))
	assert.NotNil(t, detailsIn(t, status.Convert(err)).retry)

	w.class.failWith(errors.New("graph broke"))
	res, err := c.Route(t.Context(), textRequest("hi"))
	require.NoError(t, err, "a broken classifier costs money, never availability")
	assert.Equal(t, weirv1.Reason_REASON_CLASSIFIER_UNAVAILABLE, res.GetDecision().GetReason())
	assert.Equal(t, weirv1.Tier_TIER_HIGH_PERFORMANCE, res.GetDecision().GetTier())
}

func TestPanicIsContained(t *testing.T) {
	w := newWorld(t, nil).run()
	c := w.client()
	w.class.panic.Store(true)
	ctx := metadata.AppendToOutgoingContext(t.Context(), requestIDKey, "req-1")
	_, err := c.Route(ctx, textRequest("CANARY"))
	require.Equal(t, codes.Internal, status.Code(err))
	assert.Contains(t, err.Error(), "req-1")
	w.class.panic.Store(false)
	_, err = c.Route(t.Context(), textRequest("hi"))
	require.NoError(t, err, "the server lives")
	require.NoError(t, w.stop())
	assert.Contains(t, w.log.String(), "helpers_test.go", "the stack is logged")
	assert.Contains(t, w.log.String(), `"request_id":"req-1"`)
	assert.NotContains(t, w.log.String(), "CANARY", "a panic's value may hold a prompt")
}

func TestDecisionsAndOutcomes(t *testing.T) {
	w := newWorld(t, nil).run()
	c := w.client()
	res, err := c.Route(t.Context(), textRequest("hi"))
	require.NoError(t, err)
	id := res.GetDecision().GetDecisionId()

	report := &weirv1.ReportOutcomeRequest{DecisionId: id, IdempotencyKey: "k", Outcome: &weirv1.Outcome{Score: ptr(0.25), Source: "judge"}}
	first, err := c.ReportOutcome(t.Context(), report)
	require.NoError(t, err)
	assert.False(t, first.GetDuplicate())
	again, err := c.ReportOutcome(t.Context(), report)
	require.NoError(t, err)
	assert.True(t, again.GetDuplicate())
	report.Outcome.Score = ptr(0.5)
	_, err = c.ReportOutcome(t.Context(), report)
	assert.Equal(t, codes.AlreadyExists, status.Code(err))
	assert.Equal(t, "OUTCOME_CONFLICT", detailsIn(t, status.Convert(err)).info.GetReason())

	got, err := c.GetDecision(t.Context(), &weirv1.GetDecisionRequest{DecisionId: id})
	require.NoError(t, err)
	assert.Equal(t, res.GetDecision().GetModel(), got.GetDecision().GetModel())
	require.Len(t, got.GetOutcomes(), 1)
	assert.InDelta(t, 0.25, got.GetOutcomes()[0].GetScore(), 0)
	assert.NotNil(t, got.GetOutcomes()[0].GetObserveTime())

	const other = "0190f3a2-7b1c-7def-8123-456789abcdef"
	_, err = c.GetDecision(t.Context(), &weirv1.GetDecisionRequest{DecisionId: other})
	assert.Equal(t, codes.NotFound, status.Code(err))
	assert.Equal(t, other, detailsIn(t, status.Convert(err)).resource.GetResourceName())
	report.DecisionId = other
	_, err = c.ReportOutcome(t.Context(), report)
	assert.Equal(t, codes.NotFound, status.Code(err))
	_, err = c.GetDecision(t.Context(), &weirv1.GetDecisionRequest{DecisionId: "../etc"})
	assert.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestListModels(t *testing.T) {
	w := newWorld(t, nil).run()
	c := w.client()
	tests := []struct {
		name string
		req  *weirv1.ListModelsRequest
		want []string
	}{
		{"all, in the config's order", &weirv1.ListModelsRequest{}, []string{"alpha/strong", "beta/strong", "beta/small", "alpha/coder"}},
		{"tier", &weirv1.ListModelsRequest{Tier: 1}, []string{"beta/small"}},
		{"domain", &weirv1.ListModelsRequest{Domain: weirv1.Domain_DOMAIN_CODING}, []string{"alpha/coder"}},
		{"all capabilities", &weirv1.ListModelsRequest{Capabilities: []weirv1.Capability{1, 2}}, []string{"alpha/strong"}},
		{"callable", &weirv1.ListModelsRequest{CallableOnly: true}, []string{"alpha/strong", "alpha/coder"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, err := c.ListModels(t.Context(), tt.req)
			require.NoError(t, err)
			var ids []string
			for _, m := range res.GetModels() {
				ids = append(ids, m.GetId())
			}
			assert.Equal(t, tt.want, ids)
			assert.NotEmpty(t, res.GetConfigDigest())
		})
	}
	_, err := c.ListModels(t.Context(), &weirv1.ListModelsRequest{Tier: 9})
	assert.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestNotOfferedSaysSo(t *testing.T) {
	w := newWorld(t, nil).run()
	_, usage := w.client().Usage(t.Context(), &weirv1.UsageRequest{})
	stream, err := w.client().Complete(t.Context(), &weirv1.CompleteRequest{})
	require.NoError(t, err)
	_, complete := stream.Recv()
	_, stage := w.admin().StageBundle(t.Context(), &weirv1.StageBundleRequest{})
	_, promote := w.admin().PromoteBundle(t.Context(), &weirv1.PromoteBundleRequest{})
	_, rollback := w.admin().RollbackBundle(t.Context(), &weirv1.RollbackBundleRequest{})
	_, reload := w.admin().ReloadConfig(t.Context(), &weirv1.ReloadConfigRequest{})
	for name, err := range map[string]error{"usage": usage, "complete": complete, "stage": stage, "promote": promote, "rollback": rollback, "reload": reload} {
		st := status.Convert(err)
		assert.Equal(t, codes.Unimplemented, st.Code(), name)
		assert.Equal(t, "NOT_AVAILABLE", detailsIn(t, st).info.GetReason(), name)
		assert.Contains(t, st.Message(), "this server", name)
	}
	_, err = weirv1.NewAdminServiceClient(w.dial(w.addrs.Listen)).GetConfig(t.Context(), &weirv1.GetConfigRequest{})
	assert.Equal(t, codes.Unimplemented, status.Code(err), "callers do not reach the admin service")
}

type fakeAdmin struct {
	changed bool
	err     error
}

func (a *fakeAdmin) ReloadConfig(context.Context) (string, bool, error) {
	return "sha256:new", a.changed, a.err
}

func (a *fakeAdmin) Since() (config, bundle time.Time) { return time.Unix(1, 0), time.Unix(2, 0) }

func TestAdmin(t *testing.T) {
	hooks := &fakeAdmin{changed: true}
	w := newWorld(t, func(w *world) { w.cfg.Admin = hooks }).run()
	a := w.admin()
	cfg, err := a.GetConfig(t.Context(), &weirv1.GetConfigRequest{})
	require.NoError(t, err)
	assert.Equal(t, testConfig, cfg.GetYaml())
	assert.Equal(t, "test.yaml", cfg.GetSource())
	assert.Equal(t, int64(1), cfg.GetLoadTime().GetSeconds())
	bundle, err := a.GetBundle(t.Context(), &weirv1.GetBundleRequest{})
	require.NoError(t, err)
	assert.Equal(t, "lexical:1", bundle.GetServing().GetDigest())
	assert.Equal(t, int64(2), bundle.GetServing().GetServeTime().GetSeconds())
	assert.Nil(t, bundle.GetStaged())
	list, err := a.ListBundles(t.Context(), &weirv1.ListBundlesRequest{})
	require.NoError(t, err)
	assert.Len(t, list.GetBundles(), 1)
	reloaded, err := a.ReloadConfig(t.Context(), &weirv1.ReloadConfigRequest{})
	require.NoError(t, err)
	assert.True(t, reloaded.GetChanged())
	assert.Equal(t, "sha256:new", reloaded.GetDigest())

	_, parseErr := router.ParseConfig([]byte("version: 1\nnonsense: 1\n"), "bad.yaml", func(string) string { return "" })
	require.Error(t, parseErr)
	hooks.err = fmt.Errorf("reload: %w", parseErr)
	_, err = a.ReloadConfig(t.Context(), &weirv1.ReloadConfigRequest{})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	d := detailsIn(t, status.Convert(err))
	assert.Equal(t, "CONFIG_REFUSED", d.info.GetReason())
	assert.Contains(t, fmt.Sprint(d.bad), "bad.yaml:2")
}

func TestRequestIDs(t *testing.T) {
	w := newWorld(t, nil).run()
	tests := []struct {
		name, sent string
		kept       bool
	}{
		{"kept", "abc-1_2.3", true},
		{"too long", strings.Repeat("a", 65), false},
		{"with a line break in a log", "a b", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var header metadata.MD
			ctx := metadata.AppendToOutgoingContext(t.Context(), requestIDKey, tt.sent)
			_, err := w.client().Route(ctx, textRequest("hi"), grpc.Header(&header))
			require.NoError(t, err)
			require.Len(t, header.Get(requestIDKey), 1)
			got := header.Get(requestIDKey)[0]
			assert.True(t, isRequestID(got))
			assert.Equal(t, tt.kept, got == tt.sent)
		})
	}
}

func TestAccessLog(t *testing.T) {
	w := newWorld(t, nil).run()
	res, err := w.client().Route(t.Context(), textRequest("hi"))
	require.NoError(t, err)
	require.NoError(t, w.stop())
	lines := strings.Split(strings.TrimSpace(w.log.String()), "\n")
	require.Len(t, lines, 1, "one line a request")
	for _, want := range []string{`"method":"Route"`, `"code":"OK"`, `"request_id"`, `"peer":"127.0.0.1:`, res.GetDecision().GetDecisionId(), res.GetDecision().GetModel(), `"tier"`, `"reason"`} {
		assert.Contains(t, lines[0], want)
	}
	quiet := newWorld(t, func(w *world) { w.cfg.NoAccessLog = true }).run()
	_, err = quiet.client().Route(t.Context(), textRequest("hi"))
	require.NoError(t, err)
	require.NoError(t, quiet.stop())
	assert.Empty(t, quiet.log.String())
}

// rawCodec sends bytes as they are, as a client with a broken encoder would.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (rawCodec) Name() string                       { return "proto" }

func TestMalformedMessages(t *testing.T) {
	w := newWorld(t, nil).run()
	conn := w.dial(w.addrs.Listen)
	send := func(body []byte) *status.Status {
		var out []byte
		return status.Convert(conn.Invoke(t.Context(), weirv1.RouterService_Route_FullMethodName, body, &out, grpc.ForceCodec(rawCodec{})))
	}
	notUTF8 := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("secret \xff\xfe"))
	st := send(notUTF8)
	t.Log(st)
	assert.Equal(t, codes.InvalidArgument, st.Code())
	assert.Contains(t, st.Message(), "UTF-8")
	assert.NotContains(t, st.String(), "secret")
	st = send([]byte{0x0a, 0xff})
	assert.Equal(t, codes.InvalidArgument, st.Code())
	st = send(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("a\x00b")))
	assert.Equal(t, codes.OK, st.Code(), "a NUL is text")
	require.NoError(t, w.stop())
	assert.Equal(t, 2, strings.Count(w.log.String(), `"code":"InvalidArgument"`), "malformed messages are in the access log")
}

// TestMalformedStreams: Complete's message is admitted as Route's is.
func TestMalformedStreams(t *testing.T) {
	w := newWorld(t, nil).run()
	conn := w.dial(w.addrs.Listen)
	for _, body := range [][]byte{
		{0x0a, 0xff}, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("secret \xff\xfe"))),
	} {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, weirv1.RouterService_Complete_FullMethodName, grpc.ForceCodec(rawCodec{}))
		require.NoError(t, err)
		require.NoError(t, stream.SendMsg(body))
		require.NoError(t, stream.CloseSend())
		var out []byte
		st := status.Convert(stream.RecvMsg(&out))
		assert.Equal(t, codes.InvalidArgument, st.Code(), st)
		assert.NotContains(t, st.String(), "secret")
		assert.NotEmpty(t, st.Details(), "the field and the remedy")
	}
	require.NoError(t, w.stop())
	assert.Equal(t, 2, strings.Count(w.log.String(), `"code":"InvalidArgument"`))
}

func TestMessageSizeIsExactToTheByte(t *testing.T) {
	const limit = 10_000
	w := newWorld(t, func(w *world) { w.cfg.MaxMessageBytes, w.cfg.RequestTimeout = limit, time.Minute }).run()
	conn := w.dial(w.addrs.Listen)
	send := func(size int, opts ...grpc.CallOption) codes.Code {
		n := size - 1 - protowire.SizeVarint(uint64(size-3))
		body := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte(strings.Repeat("a", n)))
		require.Len(t, body, size)
		var out []byte
		return status.Code(conn.Invoke(t.Context(), weirv1.RouterService_Route_FullMethodName, body, &out, append(opts, grpc.ForceCodec(rawCodec{}))...))
	}
	assert.Equal(t, codes.OK, send(limit))
	assert.Equal(t, codes.ResourceExhausted, send(limit+1))
	zip := grpc.UseCompressor(gzip.Name)
	assert.Equal(t, codes.OK, send(limit, zip), "the limit counts after decompression")
	assert.Equal(t, codes.ResourceExhausted, send(limit+1, zip))
	assert.Equal(t, codes.ResourceExhausted, send(8<<20, zip), "a compressed bomb is refused")
	require.NoError(t, w.stop())
	assert.Equal(t, 3, strings.Count(w.log.String(), `"code":"ResourceExhausted"`), "refused messages are in the access log")
}

func TestDeadlineOfTheServer(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.RequestTimeout = 20 * time.Millisecond
		w.class.gate = make(chan struct{}) // never opened
	}).run()
	_, err := w.client().Route(t.Context(), textRequest("hi"))
	assert.Equal(t, codes.DeadlineExceeded, status.Code(err), "a client without a deadline gets the server's")
}

func TestHealth(t *testing.T) {
	warm := make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.cfg.Warm = func(ctx context.Context) error {
			select {
			case <-warm:
			case <-ctx.Done():
			}
			return nil
		}
		w.cfg.DrainDelay = time.Second
	}).run()
	h := healthv1.NewHealthClient(w.dial(w.addrs.Listen))
	for _, name := range []string{"", "weir.v1.RouterService", "classifier"} {
		res, err := h.Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
		require.NoError(t, err)
		assert.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, res.GetStatus(), "%q before the model is warm", name)
	}
	assert.Equal(t, http.StatusServiceUnavailable, getStatus(t, w, "/healthz"))
	watch, err := h.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: "classifier"})
	require.NoError(t, err)
	next := func() healthv1.HealthCheckResponse_ServingStatus {
		res, err := watch.Recv()
		require.NoError(t, err)
		return res.GetStatus()
	}
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, next())
	close(warm)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, next())
	assert.Equal(t, http.StatusOK, getStatus(t, w, "/healthz"))
	_, err = h.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "nope"})
	assert.Equal(t, codes.NotFound, status.Code(err))

	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, next(), "watchers hear of the stop")
	_, err = w.client().Route(t.Context(), textRequest("hi"))
	require.NoError(t, err, "calls are still taken while health says NOT_SERVING")
	_, err = watch.Recv()
	require.Error(t, err, "a watcher does not hold the stop up")
	require.NoError(t, <-stopped)
}

func getStatus(t *testing.T, w *world, path string) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + w.addrs.Metrics.String() + path)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode
}

func TestWarmUpFailureEndsRun(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Warm = func(context.Context) error { return errors.New("no model") } })
	s, err := New(w.cfg)
	require.NoError(t, err)
	err = s.Run(t.Context())
	require.Error(t, err)
	assert.Contains(t, err.Error(), "no model")
}

func TestReflection(t *testing.T) {
	w := newWorld(t, nil).run()
	conn := w.dial(w.addrs.Listen)
	v1, err := reflectv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, v1.Send(&reflectv1.ServerReflectionRequest{MessageRequest: &reflectv1.ServerReflectionRequest_ListServices{}}))
	res, err := v1.Recv()
	require.NoError(t, err)
	assert.Contains(t, res.String(), "weir.v1.RouterService")
	assert.NotContains(t, res.String(), "AdminService")
	require.NoError(t, v1.CloseSend())
	//nolint:staticcheck // deprecated, and what older clients speak
	alpha, err := reflectv1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	//nolint:staticcheck // the same
	require.NoError(t, alpha.Send(&reflectv1alpha.ServerReflectionRequest{MessageRequest: &reflectv1alpha.ServerReflectionRequest_ListServices{}}))
	old, err := alpha.Recv()
	require.NoError(t, err)
	assert.Contains(t, old.String(), "weir.v1.RouterService")
	require.NoError(t, alpha.CloseSend())
}

func TestUnixSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "weir") // t.TempDir's names are too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "admin.sock")
	w := newWorld(t, func(w *world) { w.cfg.AdminListen = "unix:" + path }).run()
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = w.admin().GetConfig(t.Context(), &weirv1.GetConfigRequest{})
	require.NoError(t, err)

	second, err := New(newWorld(t, func(w *world) { w.cfg.AdminListen = "unix:" + path }).cfg)
	require.NoError(t, err)
	assert.ErrorContains(t, second.Run(t.Context()), "in use by another process")
	require.NoError(t, w.stop())
	assert.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	assert.ErrorContains(t, second.Run(t.Context()), "no socket")
	assert.FileExists(t, path, "only sockets are removed")
}
