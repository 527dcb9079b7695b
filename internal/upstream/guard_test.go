package upstream

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

// hostile are addresses that a public name must not lead to, and a name of a
// private network only where private is true.
var hostile = []struct {
	ip      string
	private bool
}{
	{"169.254.169.254", false},
	{"169.254.170.2", false},
	{"169.254.0.1", false},
	{"169.254.255.255", false},
	{"fe80::1", false},
	{"fe80::a9fe:a9fe", false},
	{"febf::1", false},
	{"0.0.0.0", false},
	{"0.0.0.1", false},
	{"::", false},
	{"224.0.0.1", false},
	{"239.255.255.250", false},
	{"ff02::1", false},
	{"255.255.255.255", false},
	{"100.100.100.200", false},
	{"192.0.0.192", false},
	{"fd00:ec2::254", false},
	{"168.63.129.16", false},
	{"::ffff:169.254.169.254", false},
	{"64:ff9b::a9fe:a9fe", false},
	{"2002:a9fe:a9fe::1", false},
	{"::169.254.169.254", false},
	{"127.0.0.1", true},
	{"127.1.2.3", true},
	{"127.255.255.255", true},
	{"::1", true},
	{"10.0.0.1", true},
	{"10.255.255.255", true},
	{"172.16.0.1", true},
	{"172.31.255.255", true},
	{"192.168.0.1", true},
	{"192.168.255.255", true},
	{"100.64.0.1", true},
	{"100.127.255.255", true},
	{"198.18.0.1", true},
	{"198.19.255.255", true},
	{"240.0.0.1", true},
	{"192.0.2.1", true},
	{"198.51.100.1", true},
	{"203.0.113.1", true},
	{"fc00::1", true},
	{"fdff::1", true},
	{"fec0::1", true},
	{"2001:db8::1", true},
	{"::ffff:10.0.0.1", true},
	{"::ffff:127.0.0.1", true},
	{"64:ff9b::a00:1", true},
	{"2002:a00:1::1", true},
	{"::10.0.0.1", true},
	{"2001::1", true},
	{"100::1", true},
	{"192.0.0.8", true},
}

func TestAddresses(t *testing.T) {
	g := newGuard(road{connect: time.Second}, nil)
	for _, x := range hostile {
		at := netip.AddrPortFrom(netip.MustParseAddr(x.ip), 443).String()
		require.ErrorIs(t, g.check(at, false), errAddressRefused, x.ip)
		assert.Equal(t, x.private, g.check(at, true) == nil, x.ip)
	}
	for _, ip := range []string{"8.8.8.8", "1.1.1.1", "104.18.7.192", "2606:4700::6812:7c0", "172.15.255.255", "172.32.0.1", "100.63.255.255", "64:ff9b::808:808"} {
		assert.NoError(t, g.check(netip.AddrPortFrom(netip.MustParseAddr(ip), 443).String(), false), ip)
	}
	require.Error(t, g.check("nonsense", true))
	require.Error(t, g.check("fe80::1%eth0", true))
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "10.1.2.3": true, "::1": true, "vllm": true, "vllm.default.svc": true, "vllm.default.svc.cluster.local": true,
		"llm.corp.internal": true, "box.lan": true, "api.openai.com": false, "internal.example.com": false, "localhost.example.com": false, "notlocal": true,
		"169.254.169.254.nip.io": false, "evil.svc.com": false,
	} {
		assert.Equal(t, want, privateName(host), host)
	}
}

// loopbackDNS is a resolver that answers every name with 127.0.0.1.
func loopbackDNS(t *testing.T) *net.Resolver {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	serve := func(conn net.Conn) {
		defer conn.Close()
		var size uint16
		for binary.Read(conn, binary.BigEndian, &size) == nil {
			query := make([]byte, size)
			var m dnsmessage.Message
			if _, err := io.ReadFull(conn, query); err != nil || m.Unpack(query) != nil {
				return
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
				}}
			}
			packed, err := m.Pack()
			if err != nil {
				return
			}
			if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)); err != nil {
				return
			}
		}
	}
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe() // no packets, so the resolver speaks DNS over TCP
		wg.Go(func() { serve(there) })
		return here, nil
	}}
}

// TestTwoHundredWaysOut: nothing that a request holds, and nothing that a
// provider answers, makes a connection to anywhere but the configured host, or
// a header that was not meant.
func TestTwoHundredWaysOut(t *testing.T) {
	var trapped atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { trapped.Add(1) }))
	defer trap.Close()
	_, port, err := net.SplitHostPort(trap.Listener.Addr().String())
	require.NoError(t, err)

	var targets []string
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "169.254.169.254",
		"metadata.google.internal", "127.0.0.1.nip.io", "user:pass@127.0.0.1", "127.0.0.1%00.example.com", "127.0.0.1#@api.openai.com",
	} {
		targets = append(targets, "http://"+host+":"+port+"/", "https://"+host+":"+port+"/v1")
	}
	payloads := 0
	fake, c := fakeProvider(t, Config{Getenv: func(string) string { return "provider-key" }})
	fake.Always(upstreamtest.Answer{Text: []string{"ok"}})
	send := func(call *router.Call) *router.UpstreamError {
		payloads++
		_, failure := collect(t, c, call)
		return failure
	}
	host := fake.URL()[len("http://"):]

	// Addresses and headers in every text that a caller chooses.
	for n, target := range targets {
		dialect := dialects[n%3]
		nested, err := json.Marshal(map[string]any{"type": "object", "api_base": target, "properties": map[string]any{"base_url": map[string]any{"default": target}}})
		require.NoError(t, err)
		for _, change := range []func(*router.Call){
			func(x *router.Call) { x.Input.Messages[0].Parts[0].Text = `{"api_base":"` + target + `"}` },
			func(x *router.Call) {
				x.Input.Tools = []router.ToolDefinition{{Name: "api_base", Description: target, Schema: nested}}
			},
			func(x *router.Call) {
				x.Input.Format.JSONSchema = nested
				x.Input.Messages = append(x.Input.Messages,
					router.ChatMessage{Role: classifier.Assistant, Parts: []router.Part{{Call: &router.ToolCall{ID: target, Name: "x", Arguments: `{"base_url":"` + target + `"}`}}}},
					router.ChatMessage{Role: classifier.Tool, Parts: []router.Part{{Result: &router.ToolResult{CallID: target, Content: "\r\nHost: evil\r\nAuthorization: Bearer x"}}}})
			},
			func(x *router.Call) { x.Input.Sampling.Stop = []string{"\r\nHost: " + target} },
			func(x *router.Call) { // the provider is told of it; this process does not fetch
				x.Input.Messages[0].Parts = append(x.Input.Messages[0].Parts, router.Part{Media: &router.Media{MIMEType: "image/png", URL: target}})
			},
		} {
			u := fake.Upstream(dialect)
			u.KeyEnv = "KEY"
			call := ask(u, "hi")
			change(call)
			send(call)
		}
		// Names of deployments come from the config, but cannot leave the host either.
		call := ask(fake.Upstream("gemini"), "hi")
		call.Deployment.Name = "../../" + target + "?x=y#z\r\nHost: evil"
		send(call)
	}
	for _, r := range fake.Requests() {
		for name := range r.Header {
			assert.Contains(t, []string{
				"Accept", "Accept-Encoding", "Content-Type", "Content-Length", "User-Agent", "Authorization", "X-Api-Key", "X-Goog-Api-Key", "Anthropic-Version",
			}, name)
		}
	}

	// Redirects that the provider answers with.
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(trapped.Load()) + payloads
		w.Header().Set("Location", targets[n%len(targets)])
		w.WriteHeader([]int{301, 302, 303, 307, 308}[n%5])
	}))
	defer redirect.Close()
	for range 30 {
		failure := send(ask(&router.Upstream{ID: "u", Dialect: "openai", BaseURL: redirect.URL}, "hi"))
		require.NotNil(t, failure)
		assert.Equal(t, router.FailureProtocol, failure.Kind)
	}

	// Base URLs that are wrong in ways a config check might miss.
	for _, base := range []string{"", "file:///etc/passwd", "gopher://" + host, "http://user:pass@" + host, "//" + host, "http://", "unix:///run/x.sock", "http://169.254.169.254/latest"} {
		failure := send(ask(&router.Upstream{ID: "u", Dialect: "openai", BaseURL: base}, "hi"))
		require.NotNil(t, failure, base)
		assert.Contains(t, []router.FailureKind{router.FailureBadRequest, router.FailureNetwork}, failure.Kind)
	}
	assert.GreaterOrEqual(t, payloads, 200)
	assert.Zero(t, trapped.Load(), "a connection went out of the configured host")
}

// A name that resolves anew to a private address gets no connection and no key.
func TestRebinding(t *testing.T) {
	var connected atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connected.Add(1)
			_ = conn.Close()
		}
	}()
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	g := newGuard(road{connect: time.Second}, nil)
	resolver := loopbackDNS(t)
	for host, want := range map[string]bool{"api.example.com": false, "llm.corp.internal": true} {
		before := connected.Load()
		conn, err := g.dialer(resolver)(t.Context(), "tcp", net.JoinHostPort(host, port))
		if want {
			require.NoError(t, err, host)
			_ = conn.Close()
			require.Eventually(t, func() bool { return connected.Load() == before+1 }, 5*time.Second, time.Millisecond)
			continue
		}
		require.ErrorIs(t, err, errAddressRefused)
		assert.Equal(t, before, connected.Load())
	}
	g = newGuard(road{connect: time.Second, allowPrivate: true}, nil)
	conn, err := g.dialer(resolver)(t.Context(), "tcp", net.JoinHostPort("api.example.com", port))
	require.NoError(t, err)
	_ = conn.Close()
}

// The environment's proxy gets nothing; a configured one does.
func TestProxies(t *testing.T) {
	var proxied atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	u := &router.Upstream{ID: "u", Dialect: "openai", BaseURL: "http://upstream.invalid/v1"}
	for _, configured := range []bool{false, true} {
		if configured {
			u.Proxy = proxy.URL
		}
		c, err := New(Config{})
		require.NoError(t, err)
		// The standard library reads the environment's once a process, so that
		// asking it is no proof: it must not be asked.
		transport, err := c.transport(ask(u, "hi"))
		require.NoError(t, err)
		require.Equal(t, configured, transport.Proxy != nil)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		for _, err := range c.Stream(ctx, ask(u, "hi")) {
			require.Error(t, err)
		}
		cancel()
		c.CloseIdle()
		assert.Equal(t, configured, proxied.Load() > 0)
	}
}

// A key that is rotated is used at the next call, and a missing one is the
// operator's fault, said with its remedy and without a call.
func TestKeys(t *testing.T) {
	key := "first"
	fake, c := fakeProvider(t, Config{
		Getenv: func(name string) string { return map[string]string{"SET": "k1", "BAD": "a\r\nHost: evil"}[name] },
		ReadFile: func(name string) ([]byte, error) {
			if name != "/keys/one" {
				return nil, fmt.Errorf("open %s: no such file", name)
			}
			return []byte(key + "\n"), nil
		},
	})
	u := fake.Upstream("anthropic")
	u.KeyFile = "/keys/one"
	for _, want := range []string{"first", "second"} {
		key = want
		_, failure := collect(t, c, ask(u, "hi"))
		require.Nil(t, failure)
		requests := fake.Requests()
		assert.Equal(t, want, requests[len(requests)-1].Header.Get("X-Api-Key"))
	}
	asked := fake.Count()
	for _, x := range []struct{ env, file, want string }{
		{"UNSET", "", "UNSET is empty: set it"}, {"", "/keys/none", "no such file"}, {"BAD", "", "characters that no key has"},
	} {
		u.KeyEnv, u.KeyFile = x.env, x.file
		_, failure := collect(t, c, ask(u, "hi"))
		require.NotNil(t, failure)
		assert.Equal(t, router.FailureAuth, failure.Kind)
		assert.Contains(t, failure.Error(), x.want)
		assert.NotContains(t, failure.Error(), "evil")
	}
	key = " \n"
	u.KeyEnv, u.KeyFile = "", "/keys/one"
	_, failure := collect(t, c, ask(u, "hi"))
	require.NotNil(t, failure)
	assert.Contains(t, failure.Error(), "is empty")
	assert.Equal(t, asked, fake.Count(), "no call without a key")
}
