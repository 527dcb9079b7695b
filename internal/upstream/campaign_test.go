package upstream

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

// TestFaultCampaign tries every fault in every dialect at random bytes. Nothing
// that was hurt may be shown as whole, and what is whole is all of it.
func TestFaultCampaign(t *testing.T) {
	rounds := 34 // of each of seven faults
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		rounds = 1000
	}
	random := rand.New(rand.NewPCG(uint64(rounds), 7))
	p, c := fakeProvider(t, Config{IdleTimeout: 20 * time.Millisecond, FirstByteTimeout: 5 * time.Second})
	kinds := []upstreamtest.FaultKind{
		upstreamtest.Cut, upstreamtest.Drop, upstreamtest.Reset, upstreamtest.Stall, upstreamtest.BadJSON, upstreamtest.NoTerminator, upstreamtest.InBandError,
	}
	hurt := 0
	for _, kind := range kinds {
		for n := range rounds {
			dialect := dialects[n%len(dialects)]
			a := full()
			size := len(bytes.Join(upstreamtest.Events(dialect, &a), nil))
			a.Fault = upstreamtest.Fault{Kind: kind, At: 1 + random.IntN(size-1)}
			p.Always(a)
			chunks, failure := collect(t, c, ask(p.Upstream(dialect), "hi"))
			require.NotNil(t, failure, "%s, %s at %d of %d is shown as whole: %s", dialect, kind, a.Fault.At, size, describe(chunks))
			hurt++
		}
	}
	t.Logf("%d of %d answers that were hurt ended with an error", hurt, len(kinds)*rounds)
	assert.Equal(t, len(kinds)*rounds, p.Count(), "one attempt a call")
}

// toxic is what a toxicProxy does to the bytes from the server.
type toxic struct {
	after int // bytes that pass first
	slice int // then, or from the start with no other toxic: pieces of this size
	what  string
}

// toxicProxy forwards TCP and hurts it below HTTP: chunk sizes and headers are
// bytes like others there. It is the part of toxiproxy that is needed here; the
// module itself would bring a router, a logger and a command line.
type toxicProxy struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	toxic    toxic
	wg       sync.WaitGroup
	stop     chan struct{}
}

func newToxicProxy(t *testing.T, target string) *toxicProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &toxicProxy{listener: l, target: target, stop: make(chan struct{})}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.forward(conn) })
		}
	})
	t.Cleanup(func() {
		close(p.stop)
		_ = l.Close()
		p.wg.Wait()
	})
	return p
}

func (p *toxicProxy) set(x toxic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toxic = x
}

func (p *toxicProxy) forward(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.wg.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
	p.mu.Lock()
	x := p.toxic
	p.mu.Unlock()
	if x.what != "slice" {
		if _, err := io.CopyN(client, server, int64(x.after)); err != nil {
			return
		}
	}
	switch x.what {
	case "slice":
		buf := make([]byte, x.slice)
		for {
			n, err := server.Read(buf)
			if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	case "reset":
		_ = client.(*net.TCPConn).SetLinger(0)
	case "timeout":
		_, _ = client.Read(make([]byte, 1)) // until the client goes
		select {
		case <-p.stop:
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// TestToxics hurts the connection itself at random bytes, headers and chunk
// sizes included.
func TestToxics(t *testing.T) {
	rounds := 12
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		rounds = 334
	}
	random := rand.New(rand.NewPCG(3, 9))
	fake, patient := fakeProvider(t, Config{})
	hasty, err := New(Config{IdleTimeout: 15 * time.Millisecond, FirstByteTimeout: 15 * time.Millisecond})
	require.NoError(t, err)
	proxy := newToxicProxy(t, fake.URL()[len("http://"):])
	call := func(c *Client, dialect string) ([]router.Chunk, *router.UpstreamError) {
		defer c.CloseIdle() // the toxic is the connection's
		return collect(t, c, ask(&router.Upstream{ID: "u", Dialect: dialect, BaseURL: "http://" + proxy.listener.Addr().String()}, "hi"))
	}
	for _, dialect := range dialects {
		a := full()
		fake.Always(a)
		for _, size := range []int{1, 2, 3, 7, 64} {
			proxy.set(toxic{what: "slice", slice: size})
			chunks, failure := call(patient, dialect)
			require.Nil(t, failure, "pieces of %d", size)
			direct, _ := collect(t, patient, ask(fake.Upstream(dialect), "hi"))
			require.Equal(t, describe(direct), describe(chunks))
		}
		// The body's last event and all before it: cutting there hurts for sure.
		events := upstreamtest.Events(dialect, &a)
		size := len(bytes.Join(events[:len(events)-1], nil))
		for _, what := range []string{"close", "reset", "timeout"} {
			for range rounds {
				proxy.set(toxic{what: what, after: random.IntN(size)})
				chunks, failure := call(hasty, dialect)
				require.NotNil(t, failure, "%s, %s is shown as whole: %s", dialect, what, describe(chunks))
				require.Contains(t, []router.FailureKind{router.FailureNetwork, router.FailureTimeout}, failure.Kind, failure.Error())
			}
		}
	}
}
