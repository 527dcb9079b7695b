package upstream

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

func TestEveryDialectAnswers(t *testing.T) {
	p, c := fakeProvider(t, Config{})
	for _, dialect := range dialects {
		t.Run(dialect, func(t *testing.T) {
			a := full()
			p.Always(a)
			chunks, failure := collect(t, c, ask(p.Upstream(dialect), "hi"))
			require.Nil(t, failure)
			var text, reasoning strings.Builder
			args, names := map[int]string{}, map[int]string{}
			var usage *router.Usage
			for _, ch := range chunks {
				text.WriteString(ch.Text)
				reasoning.WriteString(ch.Reasoning)
				if ch.Tool != nil {
					args[ch.Tool.Index] += ch.Tool.Arguments
					names[ch.Tool.Index] += ch.Tool.ID + ch.Tool.Name
				}
				if ch.Usage != nil {
					usage = ch.Usage
				}
			}
			assert.Equal(t, "It is süß \n\n ok", text.String())
			assert.Equal(t, "let me see", reasoning.String())
			assert.Equal(t, map[int]string{0: `{"x":"y"}`, 1: `{}`}, args)
			assert.Equal(t, map[int]string{0: "aone", 1: "btwo"}, names)
			assert.Equal(t, a.Usage, usage)
			assert.Equal(t, router.FinishToolCalls, chunks[len(chunks)-1].Finish)
		})
	}
}

func TestFinishReasons(t *testing.T) {
	p, c := fakeProvider(t, Config{})
	for _, dialect := range dialects {
		for _, finish := range []router.FinishReason{router.FinishStop, router.FinishLength, router.FinishContentFilter} {
			p.Always(upstreamtest.Answer{Text: []string{"x"}, Finish: finish})
			chunks, failure := collect(t, c, ask(p.Upstream(dialect), "hi"))
			require.Nil(t, failure)
			assert.Equal(t, finish, chunks[len(chunks)-1].Finish, dialect)
		}
	}
}

// One fault of each kind, in the middle of the answer.
func TestFaultsHaveKinds(t *testing.T) {
	p, c := fakeProvider(t, Config{IdleTimeout: 50 * time.Millisecond, FirstByteTimeout: 5 * time.Second})
	for kind, want := range map[upstreamtest.FaultKind]router.FailureKind{
		upstreamtest.Cut: router.FailureProtocol, upstreamtest.Drop: router.FailureNetwork, upstreamtest.Reset: router.FailureNetwork,
		upstreamtest.Stall: router.FailureTimeout, upstreamtest.BadJSON: router.FailureProtocol,
		upstreamtest.NoTerminator: router.FailureProtocol, upstreamtest.InBandError: router.FailureOverload,
	} {
		for _, dialect := range dialects {
			t.Run(dialect+"/"+kind.String(), func(t *testing.T) {
				a := full()
				events := upstreamtest.Events(dialect, &a)
				size := 0
				for _, e := range events[:len(events)-2] {
					size += len(e)
				}
				a.Fault = upstreamtest.Fault{Kind: kind, At: size + 9}
				p.Always(a)
				chunks, failure := collect(t, c, ask(p.Upstream(dialect), "hi"))
				require.NotNil(t, failure)
				assert.Equal(t, want, failure.Kind, failure.Error())
				assert.Equal(t, "fake-"+dialect, failure.Upstream)
				assert.NotEmpty(t, chunks, "what came before the fault is passed on")
			})
		}
	}
}

// Silence before the first byte and slowness to answer have a clock of their
// own; a slow consumer stops neither.
func TestTimeouts(t *testing.T) {
	p, c := fakeProvider(t, Config{FirstByteTimeout: 60 * time.Millisecond, IdleTimeout: 60 * time.Millisecond})
	for _, a := range []upstreamtest.Answer{
		{FirstByte: time.Minute},
		{Text: []string{"x"}, Fault: upstreamtest.Fault{Kind: upstreamtest.Stall, At: 0}}, // headers, then nothing
		{Text: []string{"x"}, Delay: time.Minute},
	} {
		p.Always(a)
		_, failure := collect(t, c, ask(p.Upstream("openai"), "hi"))
		require.NotNil(t, failure)
		assert.Equal(t, router.FailureTimeout, failure.Kind)
		require.ErrorIs(t, failure, errFirstByte)
	}
	p.Always(upstreamtest.Answer{Text: []string{"a", "b", "c"}, Fault: upstreamtest.Fault{Kind: upstreamtest.Stall, At: 200}})
	_, failure := collect(t, c, ask(p.Upstream("openai"), "hi"))
	require.NotNil(t, failure)
	require.ErrorIs(t, failure, errIdle)

	p, c = fakeProvider(t, Config{FirstByteTimeout: 400 * time.Millisecond, IdleTimeout: 400 * time.Millisecond})
	p.Always(upstreamtest.Answer{Text: []string{"a", "b", "c"}, Delay: 5 * time.Millisecond})
	slow := true
	for _, err := range c.Stream(t.Context(), ask(p.Upstream("anthropic"), "hi")) {
		require.NoError(t, err)
		if slow {
			time.Sleep(600 * time.Millisecond) // longer than either timeout
			slow = false
		}
	}
}

func TestDeadlineAndCancelAreTheCallers(t *testing.T) {
	p, c := fakeProvider(t, Config{})
	p.Always(upstreamtest.Answer{FirstByte: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for _, err := range c.Stream(ctx, ask(p.Upstream("gemini"), "hi")) {
		var failure *router.UpstreamError
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, router.FailureTimeout, failure.Kind)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	ctx, stop := context.WithCancel(t.Context())
	p.Script(func(upstreamtest.Request) upstreamtest.Answer {
		stop() // once the request is there
		return upstreamtest.Answer{FirstByte: time.Minute}
	})
	for _, err := range c.Stream(ctx, ask(p.Upstream("gemini"), "hi")) {
		var failure *router.UpstreamError
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, router.FailureCancelled, failure.Kind)
		require.ErrorIs(t, err, context.Canceled)
	}
	wait, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	require.NoError(t, p.AwaitDisconnects(wait, 2))

	asked := p.Count()
	for _, err := range c.Stream(ctx, ask(p.Upstream("gemini"), "hi")) { // ended before it began
		require.Error(t, err)
	}
	assert.Equal(t, asked, p.Count())
}

// A loop that is left ends the request: the provider sees it go.
func TestLeavingEndsTheRequest(t *testing.T) {
	p, c := fakeProvider(t, Config{})
	text := strings.Split(strings.Repeat("word ", 200), " ")
	p.Always(upstreamtest.Answer{Text: text, Fault: upstreamtest.Fault{Kind: upstreamtest.Stall, At: 3000}})
	before := runtime.NumGoroutine()
	const calls = 30
	for n := range calls {
		seen := 0
		for chunk, err := range c.Stream(t.Context(), ask(p.Upstream(dialects[n%len(dialects)]), "hi")) {
			require.NoError(t, err)
			if chunk.Content() {
				seen++
			}
			if seen > n%5 {
				break
			}
		}
	}
	wait, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	require.NoError(t, p.AwaitDisconnects(wait, calls))
	require.Eventually(t, func() bool { return p.Open() == 0 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, 10*time.Second, 5*time.Millisecond, "goroutines stay")
}

// One connection serves call after call: the terminator's rest is read away.
func TestConnectionsAreUsedAgain(t *testing.T) {
	fake := upstreamtest.New()
	fake.Always(upstreamtest.Answer{Text: []string{"x"}})
	remotes := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true
		fake.ServeHTTP(w, r)
	}))
	defer server.Close()
	c, err := New(Config{})
	require.NoError(t, err)
	defer c.CloseIdle()
	for n := range 12 {
		_, failure := collect(t, c, ask(&router.Upstream{ID: "u", Dialect: dialects[n%3], BaseURL: server.URL}, "hi"))
		require.Nil(t, failure)
	}
	assert.Len(t, remotes, 1)
}

// Answers that are no stream of the dialect's.
func TestStrangeAnswers(t *testing.T) {
	reply := func(header map[string]string, status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for k, v := range header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	sse := map[string]string{"Content-Type": "text/event-stream; charset=utf-8"}
	ok := `data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}` + "\n\n"
	for name, x := range map[string]struct {
		handler http.HandlerFunc
		kind    router.FailureKind
	}{
		"whole":              {reply(sse, 200, ok+"data: [DONE]\n\n"), 0},
		"whole, more behind": {reply(sse, 200, ok+"data: [DONE]\n\ndata: {garbage\n\n"), 0},
		"json":               {reply(map[string]string{"Content-Type": "application/json"}, 200, `{"choices":[]}`), router.FailureProtocol},
		"no type":            {reply(map[string]string{"Content-Type": ""}, 200, ok+"data: [DONE]\n\n"), router.FailureProtocol},
		"gzip":               {reply(map[string]string{"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}, 200, ok+"data: [DONE]\n\n"), router.FailureProtocol},
		"empty":              {reply(sse, 200, ""), router.FailureProtocol},
		"only done":          {reply(sse, 200, "data: [DONE]\n\n"), router.FailureProtocol},
		"done unended":       {reply(sse, 200, ok+"data: [DONE]\n"), router.FailureProtocol},
		"content after":      {reply(sse, 200, ok+ok+"data: [DONE]\n\n"), router.FailureProtocol},
		"unknown finish":     {reply(sse, 200, strings.ReplaceAll(ok, "stop", "whim")+"data: [DONE]\n\n"), router.FailureProtocol},
		"strange object":     {reply(sse, 200, "data: {\"a\":1}\n\n"), router.FailureProtocol},
		"two values":         {reply(sse, 200, "data: {} {}\n\n"), router.FailureProtocol},
		"redirect":           {reply(map[string]string{"Location": "http://169.254.169.254/latest"}, 302, ""), router.FailureProtocol},
		"no content":         {reply(nil, 204, ""), router.FailureProtocol},
		"openrouter's error": {reply(sse, 200, `data: {"id":"c","object":"chat.completion.chunk","error":{"code":429,"message":"slow down"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}`+"\n\n"), router.FailureRateLimit},
		"vllm's old error":   {reply(sse, 200, `data: {"object":"error","message":"maximum context length is 10","type":"BadRequestError","code":400}`+"\n\ndata: [DONE]\n\n"), router.FailureContextLength},
		"error as a string":  {reply(sse, 200, "data: {\"error\":\"went wrong\"}\n\ndata: [DONE]\n\n"), router.FailureOverload},
		"deepseek ran out":   {reply(sse, 200, strings.ReplaceAll(ok, "stop", "insufficient_system_resource")+"data: [DONE]\n\n"), router.FailureOverload},
		"negative usage":     {reply(sse, 200, `data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":1}}`+"\n\n"), router.FailureProtocol},
		"a line without end": {reply(sse, 200, "data: "+strings.Repeat("x", 2<<20)), router.FailureProtocol},
		"a stream without end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(": comment\n")); err != nil {
					return
				}
			}
		}, router.FailureProtocol},
		"headers without end": {func(w http.ResponseWriter, r *http.Request) {
			for n := range 2000 {
				w.Header().Add("X-Flood", strings.Repeat("x", 100+n%3))
			}
		}, router.FailureNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(x.handler)
			defer server.Close()
			c, err := New(Config{MaxStreamBytes: 4 << 20})
			require.NoError(t, err)
			defer c.CloseIdle()
			_, failure := collect(t, c, ask(&router.Upstream{ID: "u", Dialect: "openai", BaseURL: server.URL}, "hi"))
			if x.kind == 0 {
				require.Nil(t, failure)
				return
			}
			require.NotNil(t, failure)
			assert.Equal(t, x.kind.String(), failure.Kind.String(), failure.Error())
		})
	}
}

func TestNewChecks(t *testing.T) {
	_, err := New(Config{IdleTimeout: -1, MaxStreamBytes: -1})
	require.ErrorContains(t, err, "IdleTimeout")
	require.ErrorContains(t, err, "MaxStreamBytes")
}
