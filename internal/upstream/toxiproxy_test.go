package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

// toxiproxy is the program of that name between a client and a fake provider.
type toxiproxy struct {
	api, listen string
	http        *http.Client
}

// startToxiproxy starts the program that scripts/tool has built, or skips.
func startToxiproxy(t *testing.T, upstream string) *toxiproxy {
	t.Helper()
	program, err := filepath.Abs(filepath.Join("..", "..", "build", "bin", "toxiproxy"))
	require.NoError(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Skip("build/bin/toxiproxy is not there: scripts/tool toxiproxy builds it")
	}
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		return l.Addr().String()
	}
	x := &toxiproxy{api: free(), listen: free(), http: &http.Client{Transport: &http.Transport{}}}
	_, port, err := net.SplitHostPort(x.api)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-host", "127.0.0.1", "-port", port) //nolint:gosec // the pinned tool
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		x.http.CloseIdleConnections()
		stop()
		_ = cmd.Wait() // it was killed
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", x.api)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
	x.post(t, "/proxies", map[string]any{"name": "p", "listen": x.listen, "upstream": upstream, "enabled": true})
	return x
}

func (x *toxiproxy) post(t *testing.T, path string, body any) {
	t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+x.api+path, bytes.NewReader(raw))
	require.NoError(t, err)
	resp, err := x.http.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Less(t, resp.StatusCode, 300, path)
}

// set leaves one toxic on what the provider sends.
func (x *toxiproxy) set(t *testing.T, kind string, attributes map[string]any) {
	t.Helper()
	x.post(t, "/reset", nil)
	x.post(t, "/proxies/p/toxics", map[string]any{"name": "toxic", "type": kind, "stream": "downstream", "toxicity": 1.0, "attributes": attributes})
}

// TestToxiproxy hurts connections as the tool of that name does: what is cut at
// a random byte is never whole, what is only slow or sliced always is, and what
// is reset at a random moment is whole or an error.
func TestToxiproxy(t *testing.T) {
	rounds := 5
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		rounds = 84
	}
	fake, patient := fakeProvider(t, Config{})
	hasty, err := New(Config{IdleTimeout: 30 * time.Millisecond, FirstByteTimeout: 100 * time.Millisecond})
	require.NoError(t, err)
	x := startToxiproxy(t, fake.URL()[len("http://"):])
	random := rand.New(rand.NewPCG(4, 7))
	hurt, whole := 0, 0
	for _, dialect := range dialects {
		a := full()
		a.Delay = 500 * time.Microsecond // so that a moment is a place in the stream
		fake.Always(a)
		call := func(c *Client) ([]router.Chunk, *router.UpstreamError) {
			defer c.CloseIdle() // the toxic is the connection's
			return collect(t, c, ask(&router.Upstream{ID: "u", Dialect: dialect, BaseURL: "http://" + x.listen}, "hi"))
		}
		direct, failure := collect(t, patient, ask(fake.Upstream(dialect), "hi"))
		require.Nil(t, failure)
		events := upstreamtest.Events(dialect, &a)
		size := len(bytes.Join(events[:len(events)-1], nil)) // of the body without its last event
		for range rounds {
			for kind, attributes := range map[string]map[string]any{
				"limit_data": {"bytes": 1 + random.IntN(size)},
				"timeout":    {"timeout": 0},
			} {
				x.set(t, kind, attributes)
				chunks, failure := call(hasty)
				require.NotNil(t, failure, "%s, %s %v is shown as whole: %s", dialect, kind, attributes, describe(chunks))
				require.Contains(t, []router.FailureKind{router.FailureNetwork, router.FailureTimeout, router.FailureProtocol}, failure.Kind, failure.Error())
				hurt++
			}
			for kind, attributes := range map[string]map[string]any{
				"slicer":     {"average_size": 1 + random.IntN(64), "size_variation": 0, "delay": 0},
				"slow_close": {"delay": random.IntN(5)},
				"latency":    {"latency": random.IntN(5), "jitter": 1},
				"reset_peer": {"timeout": 1 + random.IntN(25)},
			} {
				x.set(t, kind, attributes)
				chunks, failure := call(patient)
				switch {
				case failure == nil:
					require.Equal(t, describe(direct), describe(chunks), "%s, %s %v", dialect, kind, attributes)
					whole++
				case kind == "reset_peer":
					require.Equal(t, router.FailureNetwork, failure.Kind, failure.Error())
					hurt++
				default:
					require.Nil(t, failure, fmt.Sprint(dialect, kind, attributes))
				}
			}
		}
	}
	assert.Positive(t, whole)
	t.Logf("%d hurt, none shown as whole; %d whole", hurt, whole)
}
