package upstream

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

// An upstream's own time-outs count for its calls, whatever the client's are.
func TestACallsTimeoutsBeatTheClients(t *testing.T) {
	p, c := fakeProvider(t, Config{FirstByteTimeout: time.Hour, IdleTimeout: time.Hour})
	call := ask(p.Upstream("openai"), "hi")
	call.Timeouts = router.Timeouts{FirstContent: 40 * time.Millisecond, Idle: time.Hour}
	p.Always(upstreamtest.Answer{FirstByte: time.Minute})
	_, failure := collect(t, c, call)
	require.NotNil(t, failure)
	require.ErrorIs(t, failure, errFirstByte)
	assert.ErrorContains(t, failure, "40ms")
	call.Timeouts = router.Timeouts{FirstContent: time.Hour, Idle: 40 * time.Millisecond}
	p.Always(upstreamtest.Answer{Text: []string{"a", "b", "c"}, Fault: upstreamtest.Fault{Kind: upstreamtest.Stall, At: 200}})
	_, failure = collect(t, c, call)
	require.NotNil(t, failure)
	require.ErrorIs(t, failure, errIdle)
	assert.Equal(t, router.FailureTimeout, failure.Kind)
}

// A peer that takes the connection and never speaks TLS is given up in time.
func TestConnectTimeoutBoundsTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, c := fakeProvider(t, Config{})
	call := ask(&router.Upstream{ID: "u", Dialect: "openai", BaseURL: "https://" + l.Addr().String()}, "hi")
	call.Timeouts.Connect = 50 * time.Millisecond
	start := time.Now()
	_, failure := collect(t, c, call)
	require.NotNil(t, failure)
	assert.Less(t, time.Since(start), time.Hour/100, "not the client's own bounds")
}

// Upstreams that are reached in different ways share no connection: what one may
// reach, another may not by finding the connection open.
func TestRoadsShareNoConnection(t *testing.T) {
	_, c := fakeProvider(t, Config{})
	of := func(u router.Upstream, connect time.Duration) *http.Transport {
		call := ask(&u, "hi")
		call.Timeouts.Connect = connect
		tr, err := c.transport(call)
		require.NoError(t, err)
		return tr
	}
	plain := of(router.Upstream{ID: "a"}, 0)
	assert.Same(t, plain, of(router.Upstream{ID: "b"}, 0), "upstreams alike share one")
	for name, other := range map[string]*http.Transport{
		"allow_private": of(router.Upstream{AllowPrivate: true}, 0),
		"proxy":         of(router.Upstream{Proxy: "http://proxy.internal:3128"}, 0),
		"connect":       of(router.Upstream{}, time.Second),
	} {
		assert.NotSame(t, plain, other, name)
	}
	for i := range 3 * maxRoads {
		of(router.Upstream{}, time.Duration(i+1)*time.Millisecond)
		assert.LessOrEqual(t, len(c.roads), maxRoads, "reloads gather no transports")
	}
	for _, bad := range []string{"ftp://p", "http://user:secret@p:1", "http://", "::"} {
		_, err := c.transport(ask(&router.Upstream{Proxy: bad}, "hi"))
		require.ErrorContains(t, err, "correct the config", bad)
		assert.NotContains(t, err.Error(), "secret")
	}
}

// The proxy may be in a private network; what it is asked for is the base URL's
// host, unresolved here, and its redirects are not followed either.
func TestAConfiguredProxyIsAskedForTheHost(t *testing.T) {
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Host
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer proxy.Close()
	_, c := fakeProvider(t, Config{})
	u := &router.Upstream{ID: "u", Dialect: "openai", BaseURL: "http://api.example.invalid/v1", Proxy: strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)}
	_, failure := collect(t, c, ask(u, "hi"))
	require.NotNil(t, failure)
	assert.Equal(t, router.FailureProtocol, failure.Kind)
	assert.Equal(t, "api.example.invalid", <-asked)
	assert.Empty(t, asked)
}
