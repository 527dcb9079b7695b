//go:build native && cgo

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

var tiny = []string{"--bundle", filepath.Join("..", "..", "models", "tiny")} //nolint:gochecknoglobals // a constant of the tests

func TestVerifyTheShippedBundles(t *testing.T) {
	for _, name := range []string{"tiny", "default"} {
		code, out, stderr := weir(t, "", "model", "verify", filepath.Join("..", "..", "models", name))
		require.Equal(t, exitOK, code, stderr)
		assert.Contains(t, out, "is proven: sha256:")
	}
}

// TestServe lives a server's life as its users see it: start, health, a route,
// its journal, a config reload by signal and by RPC, metrics, stop.
func TestServe(t *testing.T) {
	_, config, _ := weir(t, "", "check", "--print-default")
	file := filepath.Join(t.TempDir(), "weir.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	listen, admin, metrics := freePort(t), freePort(t), freePort(t)
	logs := &lockedBuffer{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var server sync.WaitGroup
	defer server.Wait()
	defer stop()
	server.Go(func() {
		args := append([]string{"serve", "--ledger", filepath.Join(t.TempDir(), "ledger.db"), "--config", file, "--listen", listen, "--admin-listen", admin, "--metrics-listen", metrics}, tiny...)
		ended <- run(ctx, args, world{func(string) string { return "" }, strings.NewReader(""), io.Discard, logs})
	})
	dial := func(addr string) *grpc.ClientConn {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	conn := dial(listen)
	health := healthv1.NewHealthClient(conn)
	require.Eventually(t, func() bool {
		got, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "weir.v1.RouterService"})
		return err == nil && got.GetStatus() == healthv1.HealthCheckResponse_SERVING
	}, 30*time.Second, 20*time.Millisecond, "log: %s", logs)

	client := weirv1.NewRouterServiceClient(conn)
	const secret = "kumquat-secret-prompt" //nolint:gosec // a canary
	got, err := client.Route(t.Context(), &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: secret}})
	require.NoError(t, err)
	assert.Contains(t, got.GetDecision().GetBundleDigest(), "sha256:")
	kept, err := client.GetDecision(t.Context(), &weirv1.GetDecisionRequest{DecisionId: got.GetDecision().GetDecisionId()})
	require.NoError(t, err)
	assert.Equal(t, got.GetDecision().GetModel(), kept.GetDecision().GetModel())

	operator := weirv1.NewAdminServiceClient(dial(admin))
	before, err := operator.GetConfig(t.Context(), &weirv1.GetConfigRequest{})
	require.NoError(t, err)
	assert.Equal(t, config, before.GetYaml())
	require.NoError(t, os.WriteFile(file, []byte("version: 7\n"), 0o600))
	_, err = operator.ReloadConfig(t.Context(), &weirv1.ReloadConfigRequest{})
	require.Equal(t, codes.FailedPrecondition, status.Code(err), "%v", err)
	require.NoError(t, os.WriteFile(file, []byte(config+"# changed\n"), 0o600))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, func() bool {
		now, err := operator.GetConfig(t.Context(), &weirv1.GetConfigRequest{})
		return err == nil && now.GetDigest() != before.GetDigest()
	}, 10*time.Second, 10*time.Millisecond)

	scrape, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+metrics+"/metrics", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(scrape)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Contains(t, string(text), "weir_route_decisions_total")
	http.DefaultClient.CloseIdleConnections()

	require.NoError(t, conn.Close())
	stop()
	assert.Equal(t, exitOK, <-ended, logs.String())
	assert.NotContains(t, logs.String()+string(text), secret)
}

func TestScoreIsTheSameThroughEveryDoor(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.jsonl")
	code, _, stderr := weir(t, "", append([]string{"score", "--ids", "--in", write(t, "in.jsonl", promptLines), "--out", out}, tiny...)...)
	require.Equal(t, exitFaults, code, stderr)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.Contains(t, string(raw), `"ids":[`)
	code, table, stderr := weir(t, "", append([]string{"bench", "--duration", "20ms", "--tokens", "16", "--callers", "1,2"}, tiny...)...)
	require.Equal(t, exitOK, code, stderr)
	assert.Contains(t, table, "| 16 | 2 |")
}
