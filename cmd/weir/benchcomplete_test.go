package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
)

// The benchmark of Complete, in small: it asks a provider, a bare proxy and Weir
// itself, and writes its table. What it measures is not looked at here.
func TestBenchCompleteAsksEveryPath(t *testing.T) {
	s := startCompleting(t, "")
	s.provider.Forget()
	s.provider.Script(func(r upstreamtest.Request) upstreamtest.Answer { return chunks(limitOf(r.Body)) })
	bare := startBare(t, s.provider.URL()+"/v1")
	doc := filepath.Join(t.TempDir(), "doc.md")
	require.NoError(t, os.WriteFile(doc, []byte("before\n<!-- complete -->\nold\n<!-- /complete -->\nafter\n"), 0o600))
	code, out, stderr := weir(t, "", "bench", "complete", "--direct", s.provider.URL()+"/v1", "--litellm", s.provider.URL()+"/v1", "--bare", bare, "--weir", s.addr,
		"--duration", "50ms", "--callers", "4", "--chunks", "20", "--write", doc, "--note", "a test")
	require.Equal(t, exitOK, code, stderr)
	for _, p := range []string{pathDirect, pathBare, pathWeir, pathRoute, pathOther} {
		assert.Contains(t, out, "| "+p+" |")
	}
	written, err := os.ReadFile(doc)
	require.NoError(t, err)
	assert.Contains(t, string(written), pathBare)
	assert.NotContains(t, string(written), "old")
}

// A path that loses a piece of the answer, or its end, is no path.
func TestBenchCompleteRefusesAPathThatLosesSomething(t *testing.T) {
	s := startCompleting(t, "")
	for name, a := range map[string]upstreamtest.Answer{
		"a piece": chunks(1), "the end": {Text: chunks(2).Text, Fault: upstreamtest.Fault{Kind: upstreamtest.NoTerminator}},
	} {
		s.provider.Always(a)
		direct := newAskSSE(s.provider.URL() + "/v1")
		_, err := direct.ask(t.Context(), 2)
		require.Error(t, err, name)
		weir, closeConn, err := askGRPC(s.addr)
		require.NoError(t, err)
		_, err = weir.complete(t.Context(), 2)
		require.Error(t, err, name)
		require.NoError(t, closeConn())
		direct.http.CloseIdleConnections()
	}
	code, _, stderr := weir(t, "", "bench", "complete", "--direct", "http://127.0.0.1:1/v1")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "--bare")
}

// startBare serves the bare proxy as its verb does, and returns its address.
func startBare(t *testing.T, upstream string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	out := &lockedBuffer{}
	go func() {
		ended <- run(ctx, []string{"bench", "complete", "bare", "--upstream", upstream}, world{func(string) string { return "" }, nil, out, out})
	}()
	t.Cleanup(func() {
		stop()
		assert.Equal(t, exitOK, <-ended, out.String())
	})
	require.Eventually(t, func() bool { return strings.HasSuffix(out.String(), "\n") }, 10*time.Second, time.Millisecond)
	return strings.TrimSpace(strings.TrimPrefix(out.String(), "listening on "))
}
