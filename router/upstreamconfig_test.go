package router_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

// withUpstream is completeConfig with keys more for upstream a, and for the
// completion.
func withUpstream(keys, completion string) string {
	text := strings.Replace(completeConfig, `{id: a, dialect: openai, base_url: "http://a.example"}`, `{id: a, dialect: openai, base_url: "http://a.example"`+keys+`}`, 1)
	return text + "completion: {" + completion + "}\n"
}

func TestHowUpstreamsAreReached(t *testing.T) {
	rules, err := router.ParseConfig([]byte(withUpstream(
		`, allow_private: true, proxy: "http://proxy.internal:3128", connect_timeout: 3s, idle_timeout: 5m`, `attempt_timeout: 20m, connect_timeout: 4s`)), "x.yaml", none)
	require.NoError(t, err)
	a, b := rules.Upstreams[0], rules.Upstreams[1]
	assert.True(t, a.AllowPrivate)
	assert.Equal(t, "http://proxy.internal:3128", a.Proxy)
	assert.False(t, b.AllowPrivate)
	assert.Empty(t, b.Proxy)
	assert.Equal(t, router.Timeouts{Connect: 3 * time.Second, Idle: 5 * time.Minute}, a.Timeouts)
	assert.Equal(t, router.Timeouts{Connect: 4 * time.Second, FirstContent: router.DefaultFirstContentTimeout, Idle: router.DefaultIdleTimeout, Attempt: 20 * time.Minute}, rules.Completion.Timeouts)
}

// Each fault names the field, the value and what to write.
func TestFaultsOfHowUpstreamsAreReached(t *testing.T) {
	for _, x := range [][3]string{
		{`, proxy: "socks5://p:1"`, "", `x.yaml:5: upstreams[0].proxy: "socks5://p:1" is no proxy's http(s) address: write scheme, host and port, such as http://proxy.internal:3128`},
		{`, proxy: "http://user:secret@p:1"`, "", `upstreams[0].proxy: "http://user:xxxxx@p:1" is no proxy's`},
		{`, proxy: "http://p:1/path"`, "", `upstreams[0].proxy`},
		{`, connect_timeout: "3"`, "", `upstreams[0].connect_timeout: "3" is no positive duration: write one with its unit`},
		{`, attempt_timeout: -1s`, "", `upstreams[0].attempt_timeout: "-1s" is no positive duration`},
		{`, first_content_timeout: 5m, attempt_timeout: 1m`, "", `upstreams[0].first_content_timeout: is 5m0s, longer than attempt_timeout, 1m0s`},
		{`, allow_private: maybe`, "", `maybe`},
		{`, allowprivate: true`, "", `allowprivate`},
		{"", "attempt_timeout: soon", `completion.attempt_timeout: "soon" is no positive duration`},
	} {
		_, err := router.ParseConfig([]byte(withUpstream(x[0], x[1])), "x.yaml", none)
		require.ErrorContains(t, err, x[2])
		assert.NotContains(t, err.Error(), "secret")
	}
}

// Every call is given its upstream's own time-outs, the completion's where it
// has none.
func TestCallsAreGivenTheirUpstreamsTimeouts(t *testing.T) {
	given := map[string]router.Timeouts{}
	b := newBench(t, func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
		given[call.Deployment.Upstream.ID] = call.Timeouts
		failing(router.FailureOverload, 0)(ctx, call, yield)
	}, func(r *router.Rules, _ *router.Config) {
		parsed, err := router.ParseConfig([]byte(withUpstream(", idle_timeout: 7s, attempt_timeout: 9m", "connect_timeout: 4s")), "x.yaml", none)
		require.NoError(t, err)
		*r = *parsed
	})
	require.Error(t, hear(t.Context(), b.r, prompt("main")).err)
	all := router.Timeouts{Connect: 4 * time.Second, FirstContent: router.DefaultFirstContentTimeout, Idle: router.DefaultIdleTimeout}
	assert.Equal(t, all, given["b"])
	all.Idle, all.Attempt = 7*time.Second, 9*time.Minute
	assert.Equal(t, all, given["a"])
}

// A call that goes on and on is ended by attempt_timeout: after content the
// answer is incomplete, before it another deployment is asked.
func TestAttemptTimeout(t *testing.T) {
	config := func(r *router.Rules, _ *router.Config) {
		parsed, err := router.ParseConfig([]byte(withUpstream(", attempt_timeout: 30s, first_content_timeout: 30s", "")), "x.yaml", none)
		require.NoError(t, err)
		*r = *parsed
	}
	for _, content := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, only(func(ctx context.Context, call *router.Call, yield func(router.Chunk, error) bool) {
				for ctx.Err() == nil {
					time.Sleep(time.Second)
					if content && !yield(router.Chunk{Text: "x"}, nil) {
						return
					}
				}
				yield(router.Chunk{}, &router.UpstreamError{Kind: router.FailureCancelled, Upstream: call.Deployment.Upstream.ID, Err: context.Cause(ctx)})
			}, "a"), config)
			start := time.Now()
			o := hear(t.Context(), b.r, prompt("main"))
			first := o.done[0].Attempts[0]
			assert.Equal(t, "timeout", first.Outcome)
			assert.Less(t, time.Since(start), 32*time.Second)
			if !content {
				require.NoError(t, o.err)
				assert.Equal(t, []string{"main@a", "main@b"}, b.caller.calls)
				return
			}
			var broke *router.PartialError
			require.ErrorAs(t, o.err, &broke)
			assert.Equal(t, router.FailureTimeout, broke.Kind)
			assert.False(t, o.done[0].Complete)
		})
	}
}
