package server

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

func TestNewRefusesFaultyConfigs(t *testing.T) {
	const remoteOK = "0.0.0.0:0"
	certs := newCerts(t)
	tokens := writeFile(t, "tokens", "# ours\n0123456789abcdef\n")
	tests := []struct {
		name   string
		change func(*Config)
		want   []string // parts of the error; none for a good config
	}{
		{"loopback", func(*Config) {}, nil},
		{"localhost", func(c *Config) { c.Listen = "localhost:0" }, nil},
		{"IPv6 loopback", func(c *Config) { c.Listen = "[::1]:0" }, nil},
		{"no router", func(c *Config) { c.Router = nil }, []string{"router and store are both needed"}},
		{"remote in clear text", func(c *Config) { c.Listen = remoteOK }, []string{`listen "0.0.0.0:0"`, "not loopback", "needs TLS", "127.0.0.1:8080"}},
		{"every address", func(c *Config) { c.Listen = ":8080" }, []string{"not loopback"}},
		{"a host name", func(c *Config) { c.Listen = "localhost.example:8080" }, []string{"not loopback"}},
		{"remote with tokens in clear text", func(c *Config) { c.Listen, c.TokenFile = remoteOK, tokens }, []string{"needs TLS"}},
		{"remote with TLS only", func(c *Config) { c.Listen, c.TLS = remoteOK, TLS{CertFile: certs.cert, KeyFile: certs.key} }, []string{"callers must prove who they are", "client CA file or a token file"}},
		{"remote with TLS and tokens", func(c *Config) {
			c.Listen, c.TokenFile, c.TLS = remoteOK, tokens, TLS{CertFile: certs.cert, KeyFile: certs.key}
		}, nil},
		{"remote with mTLS", func(c *Config) {
			c.Listen, c.TLS = remoteOK, TLS{CertFile: certs.cert, KeyFile: certs.key, ClientCAFile: certs.ca}
		}, nil},
		{"admin from elsewhere", func(c *Config) { c.AdminListen = "10.0.0.1:8081" }, []string{"admin listen", "no authentication", "unix:PATH"}},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, []string{"HOST:PORT"}},
		{"empty socket path", func(c *Config) { c.AdminListen = "unix:" }, []string{"path is empty"}},
		{"metrics elsewhere", func(c *Config) { c.MetricsListen = "0.0.0.0:0" }, nil},
		{"nothing to serve", func(c *Config) { c.Listen = Off }, []string{"nothing to serve"}},
		{"half of TLS", func(c *Config) { c.TLS.CertFile = certs.cert }, []string{"both or neither"}},
		{"client CA without certificate", func(c *Config) { c.TLS.ClientCAFile = certs.ca }, []string{"without a certificate of the server"}},
		{"missing certificate", func(c *Config) { c.TLS = TLS{CertFile: "no.pem", KeyFile: certs.key} }, []string{"no.pem"}},
		{"key of another certificate", func(c *Config) { c.TLS = TLS{CertFile: certs.cert, KeyFile: newCerts(t).key} }, []string{"private key does not match"}},
		{"client CA missing", func(c *Config) {
			c.TLS = TLS{CertFile: certs.cert, KeyFile: certs.key, ClientCAFile: "no-ca.pem"}
		}, []string{"no-ca.pem"}},
		{"client CA empty", func(c *Config) {
			c.TLS = TLS{CertFile: certs.cert, KeyFile: certs.key, ClientCAFile: writeFile(t, "ca", "")}
		}, []string{"holds no certificate"}},
		{"token file missing", func(c *Config) { c.TokenFile = "no-tokens" }, []string{"no-tokens"}},
		{"token file without a token", func(c *Config) { c.TokenFile = writeFile(t, "tokens", "# none\n\n") }, []string{"holds no token", "openssl rand -hex 32"}},
		{"token too short", func(c *Config) { c.TokenFile = writeFile(t, "tokens", "\nshort-secret") }, []string{"line 2", "16 to 512"}},
		{"negative numbers", func(c *Config) { c.MaxMessageBytes, c.RequestTimeout = -1, -1 }, []string{"max message bytes is -1", "request timeout is -1ns"}},
		{"everything at once", func(c *Config) { c.Router, c.Listen, c.AdminListen, c.TokenFile = nil, remoteOK, ":1", "no-tokens" }, []string{"router and store", `listen "0.0.0.0:0"`, `admin listen ":1"`, "no-tokens"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := newWorld(t, nil).cfg
			tt.change(&cfg)
			s, err := New(cfg)
			if tt.want == nil {
				require.NoError(t, err)
				require.NotNil(t, s)
				return
			}
			require.Error(t, err)
			for _, part := range tt.want {
				assert.ErrorContains(t, err, part)
			}
			assert.NotContains(t, err.Error(), "short-secret", "a token is never shown")
		})
	}
}

func TestDefaultsAreLocal(t *testing.T) {
	c := Config{}.withDefaults()
	for _, addr := range []string{c.Listen, c.AdminListen, c.MetricsListen} {
		local, err := isLocal(addr)
		require.NoError(t, err)
		assert.True(t, local, addr)
	}
	assert.Equal(t, 30*time.Second, c.ShutdownGrace)
	assert.Equal(t, 4<<20, c.MaxMessageBytes)
}

func TestRunReportsATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	s, err := New(newWorld(t, func(w *world) { w.cfg.MetricsListen = taken.Addr().String() }).cfg)
	require.NoError(t, err)
	assert.ErrorContains(t, s.Run(t.Context()), "metrics listen")
}

func TestListenersThatAreOff(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.AdminListen, w.cfg.MetricsListen = Off, Off }).run()
	assert.Nil(t, w.addrs.Admin)
	assert.Nil(t, w.addrs.Metrics)
	_, err := w.client().Route(t.Context(), textRequest("hi"))
	require.NoError(t, err)
	require.NoError(t, w.stop())
}

// blocked starts n calls that wait inside the classifier.
func blocked(t *testing.T, w *world, n int) (results chan error) {
	t.Helper()
	c := w.client()
	results = make(chan error, n)
	for range n {
		go func() {
			_, err := c.Route(context.Background(), textRequest("hi"))
			results <- err
		}()
	}
	for range n {
		<-w.class.enter
	}
	return results
}

func slowWorld(t *testing.T, grace time.Duration) *world {
	return newWorld(t, func(w *world) {
		w.class.gate, w.class.enter = make(chan struct{}), make(chan struct{}, 1000)
		w.cfg.ShutdownGrace = grace
		w.cfg.RequestTimeout = time.Minute
	})
}

func TestStopLetsRunningCallsEnd(t *testing.T) {
	w := slowWorld(t, time.Minute).run()
	const calls = 200
	results := blocked(t, w, calls)
	var wg sync.WaitGroup
	var stopErr error
	wg.Go(func() { stopErr = w.stop() })
	// The stop has begun when new connections are refused.
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", w.addrs.Listen.String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	close(w.class.gate)
	for range calls {
		require.NoError(t, <-results, "no call is cut before the grace")
	}
	wg.Wait()
	require.NoError(t, stopErr)
}

func TestStopCancelsCallsAfterTheGrace(t *testing.T) {
	w := slowWorld(t, 20*time.Millisecond).run()
	results := blocked(t, w, 3)
	err := w.stop() // goleak proves that nothing of it runs on
	require.ErrorContains(t, err, "calls still ran at the end of the grace")
	for range 3 {
		assert.Equal(t, codes.Unavailable, status.Code(<-results))
	}
}

func TestCancelledCallsAreTheCallersOwn(t *testing.T) {
	w := slowWorld(t, time.Minute).run()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	c := w.client()
	go func() {
		_, err := c.Route(ctx, textRequest("hi"))
		result <- err
	}()
	<-w.class.enter
	cancel()
	assert.Equal(t, codes.Canceled, status.Code(<-result))
	require.NoError(t, w.stop())
	assert.Contains(t, w.log.String(), `"code":"Canceled"`)
}

// An answer names one config: a reload between the calls changes the next one
// whole.
func TestReloadIsSeenByTheNextCall(t *testing.T) {
	w := newWorld(t, nil).run()
	before, err := w.client().Route(t.Context(), textRequest("hi"))
	require.NoError(t, err)
	next := testRules(t, testConfig+"# changed\n")
	_, err = w.store.Publish(func(c classifier.Classifier, _ *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return c, next, nil
	})
	require.NoError(t, err)
	after, err := w.client().Route(t.Context(), textRequest("hi"))
	require.NoError(t, err)
	assert.NotEqual(t, before.GetDecision().GetConfigDigest(), after.GetDecision().GetConfigDigest())
	assert.Equal(t, next.Digest, after.GetDecision().GetConfigDigest())
}

// A stop that comes before the listeners accept is a stop like any other.
func TestAStopAtOnceIsNoFault(t *testing.T) {
	for range 200 {
		s, err := New(newWorld(t, nil).cfg)
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		stop()
		require.NoError(t, s.Run(ctx))
	}
}
