package upstream

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

// TestClassification is the table of what providers answer and what it means.
func TestClassification(t *testing.T) {
	const (
		auth, quota, limit, overload = router.FailureAuth, router.FailureQuota, router.FailureRateLimit, router.FailureOverload
		length, policy, bad, timeout = router.FailureContextLength, router.FailureContentPolicy, router.FailureBadRequest, router.FailureTimeout
	)
	p, c := fakeProvider(t, Config{})
	for _, x := range []struct {
		dialect string
		status  int
		body    string
		want    router.FailureKind
	}{
		// The status alone, with bodies that say nothing.
		{"openai", 400, "", bad},
		{"openai", 401, "<html>", auth},
		{"openai", 402, "{}", quota},
		{"openai", 403, `{"error":null}`, auth},
		{"openai", 404, "[]", bad},
		{"openai", 408, "null", timeout},
		{"openai", 413, "", length},
		{"openai", 418, "", bad},
		{"openai", 422, "", bad},
		{"openai", 429, "", limit},
		{"openai", 498, "", overload},
		{"openai", 500, "", overload},
		{"openai", 502, "<html>bad gateway</html>", overload},
		{"openai", 503, "", overload},
		{"openai", 504, "", timeout},
		{"anthropic", 529, "", overload},
		// OpenAI and Azure.
		{"openai", 401, `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`, auth},
		{"openai", 401, `{"error":{"message":"no","type":"invalid_request_error","code":null}}`, auth},
		{"openai", 429, `{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`, quota},
		{"openai", 429, `{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}`, limit},
		{"openai", 400, `{"error":{"message":"m","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, length},
		{"openai", 400, `{"error":{"message":"m","type":"invalid_request_error","code":"unsupported_parameter"}}`, bad},
		{"openai", 404, `{"error":{"message":"m","type":"invalid_request_error","code":"model_not_found"}}`, bad},
		{"openai", 400, `{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, policy},
		{"openai", 400, `{"error":{"message":"m","type":"invalid_request_error","code":"content_policy_violation"}}`, policy},
		{"openai", 500, `{"error":{"message":"The server had an error","type":"server_error","code":null}}`, overload},
		{"openai", 503, `{"error":{"message":"maximum context length","type":"server_error"}}`, overload},
		// Those who speak as OpenAI does.
		{"openai", 400, `{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested","type":"BadRequestError","param":null,"code":400}`, length},
		{"openai", 400, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_prompt_tokens":9}}`, length},
		{"openai", 402, `{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}`, quota},
		{"openai", 413, `{"error":{"message":"Request too large for model on tokens per minute","type":"tokens","code":"rate_limit_exceeded"}}`, limit},
		{"openai", 403, `{"error":{"code":403,"message":"flagged","metadata":{"reasons":["violence"],"flagged_input":"xyz"}}}`, policy},
		{"openai", 404, `{"error":"model not found, try pulling it first"}`, bad},
		{"openai", 400, `{"error":{"message":"Input data may contain inappropriate content","type":"data_inspection_failed","code":"data_inspection_failed"}}`, policy},
		{"openai", 422, `{"object":"error","message":{"detail":[{"type":"extra_forbidden"}]},"type":"invalid_request_error","code":null}`, bad},
		{"openai", 429, `{"object":"error","message":"Requests rate limit exceeded","type":"rate_limited","code":"1300"}`, limit},
		{"openai", 400, `{"error":{"message":"m","type":"server_error"}}`, bad},
		// Anthropic.
		{"anthropic", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"r"}`, length},
		{"anthropic", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API"}}`, quota},
		{"anthropic", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}`, policy},
		{"anthropic", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too large"}}`, bad},
		{"anthropic", 401, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`, auth},
		{"anthropic", 402, `{"type":"error","error":{"type":"billing_error","message":"m"}}`, quota},
		{"anthropic", 403, `{"type":"error","error":{"type":"permission_error","message":"m"}}`, auth},
		{"anthropic", 404, `{"type":"error","error":{"type":"not_found_error","message":"model: x"}}`, bad},
		{"anthropic", 413, `{"type":"error","error":{"type":"request_too_large","message":"m"}}`, length},
		{"anthropic", 429, `{"type":"error","error":{"type":"rate_limit_error","message":"m"}}`, limit},
		{"anthropic", 500, `{"type":"error","error":{"type":"api_error","message":"m"}}`, overload},
		{"anthropic", 504, `{"type":"error","error":{"type":"timeout_error","message":"m"}}`, timeout},
		{"anthropic", 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, overload},
		// Gemini.
		{"gemini", 400, `{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}`, auth},
		{"gemini", 400, `{"error":{"code":400,"message":"The input token count (2000000) exceeds the maximum number of tokens allowed (1048575).","status":"INVALID_ARGUMENT"}}`, length},
		{"gemini", 400, `{"error":{"code":400,"message":"Function call is missing a thought_signature","status":"INVALID_ARGUMENT"}}`, bad},
		{"gemini", 400, `[{"error":{"code":400,"message":"m","status":"FAILED_PRECONDITION"}}]`, bad},
		{"gemini", 403, `{"error":{"code":403,"message":"m","status":"PERMISSION_DENIED"}}`, auth},
		{"gemini", 404, `{"error":{"code":404,"message":"m","status":"NOT_FOUND"}}`, bad},
		{"gemini", 429, `{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProject"}]}]}}`, limit},
		{"gemini", 429, `{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}`, quota},
		{"gemini", 500, `{"error":{"code":500,"message":"m","status":"INTERNAL"}}`, overload},
		{"gemini", 503, `{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}`, overload},
		{"gemini", 504, `{"error":{"code":504,"message":"m","status":"DEADLINE_EXCEEDED"}}`, timeout},
	} {
		if x.body == "" {
			x.body = " "
		}
		p.Always(upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: x.status, Body: x.body}})
		_, failure := collect(t, c, ask(p.Upstream(x.dialect), "hi"))
		require.NotNil(t, failure)
		assert.Equal(t, x.want.String(), failure.Kind.String(), "%s %d %s", x.dialect, x.status, x.body)
		assert.Equal(t, x.status, failure.Status)
	}
}

func TestErrorsInsideStreams(t *testing.T) {
	for _, x := range []struct {
		dialect, text string
		want          router.FailureKind
	}{
		{"openai", `data: {"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}`, router.FailureQuota},
		{"openai", `data: {"error":{"code":502,"message":"Provider returned error"},"choices":[]}`, router.FailureOverload},
		{"openai", `data: {"error":{"code":"401","message":"m"}}`, router.FailureAuth},
		{"openai", "event: error\ndata: {\"message\":\"x\",\"code\":\"context_length_exceeded\"}", router.FailureContextLength},
		{"openai", `data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`, router.FailureOverload},
		{"anthropic", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}", router.FailureOverload},
		{"anthropic", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}", router.FailureRateLimit},
		{"gemini", `data: {"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m"}}`, router.FailureRateLimit},
		{"gemini", `data: {"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4}}`, router.FailureContentPolicy},
	} {
		_, err := decodeAll(t, x.dialect, strings.NewReader(x.text+"\n\n"))
		var f *fault
		require.ErrorAs(t, err, &f, x.text)
		assert.Equal(t, x.want.String(), f.kind().String(), x.text)
	}
}

// What a dialect promises and a stream may break, beside what the faults do.
func TestBrokenPromises(t *testing.T) {
	start := "data: {\"type\":\"message_start\",\"message\":{}}\n\n"
	block := `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n"
	stop := `data: {"type":"message_stop"}` + "\n\n"
	delta := func(reason string) string {
		return `data: {"type":"message_delta","delta":{"stop_reason":"` + reason + `"}}` + "\n\n"
	}
	for name, x := range map[string][2]string{
		"no start":              {"anthropic", block},
		"two starts":            {"anthropic", start + start},
		"unknown event":         {"anthropic", start + "data: {\"type\":\"message_aside\"}\n\n"},
		"name and type differ":  {"anthropic", "event: ping\n" + start},
		"unknown block":         {"anthropic", start + strings.ReplaceAll(block, `"text"`, `"hologram"`)},
		"block twice":           {"anthropic", start + block + block},
		"piece of no block":     {"anthropic", start + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}` + "\n\n"},
		"piece of another kind": {"anthropic", start + block + `data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"x"}}` + "\n\n"},
		"unknown piece":         {"anthropic", start + block + `data: {"type":"content_block_delta","index":0,"delta":{"type":"smell_delta"}}` + "\n\n"},
		"end of no block":       {"anthropic", start + `data: {"type":"content_block_stop","index":0}` + "\n\n"},
		"open block at the end": {"anthropic", start + block + delta("end_turn") + stop},
		"stop without reason":   {"anthropic", start + stop},
		"unknown stop_reason":   {"anthropic", start + delta("boredom") + stop},
		"paused":                {"anthropic", start + delta("pause_turn") + stop},
		"block after the end":   {"anthropic", start + delta("end_turn") + block + stop},
		"gemini gave up":        {"gemini", `data: {"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}` + "\n\n"},
		"gemini whim":           {"gemini", `data: {"candidates":[{"finishReason":"WHIM"}]}` + "\n\n"},
		"gemini goes on":        {"gemini", `data: {"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}` + "\n\n" + `data: {"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}` + "\n\n"},
		"gemini draws":          {"gemini", `data: {"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":""}}]}}]}` + "\n\n"},
		"gemini says nothing":   {"gemini", "data: {}\n\n"},
		"a tool of index -1":    {"openai", `data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":-1}]}}]}` + "\n\n"},
		"text is a number":      {"openai", `data: {"choices":[{"index":0,"delta":{"content":7}}]}` + "\n\n"},
	} {
		_, err := decodeAll(t, x[0], strings.NewReader(x[1]))
		var p *protocolError
		assert.ErrorAs(t, err, &p, name)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		after, ms string
		want      time.Duration
	}{
		{"", "", 0},
		{"2", "", 2 * time.Second},
		{" 2 ", "", 2 * time.Second},
		{"1.5", "", 1500 * time.Millisecond},
		{"2", "250", 250 * time.Millisecond},
		{"2", "nonsense", 2 * time.Second},
		{"0", "", 0},
		{"-5", "", 0},
		{"NaN", "", 0},
		{"Inf", "", 0},
		{"1e300", "", 0},
		{"0x10", "", 0},
		{"soon", "", 0},
		{"1.2.3", "", 0},
		{"99999999999999999999999999", "", longestAsked},
		{strings.Repeat("9", 400), "", longestAsked},
		{"Sun, 22 Nov 2026 12:00:07 GMT", "", 7 * time.Second},
		{"Sun, 22 Nov 2026 11:00:00 GMT", "", 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "", longestAsked},
	} {
		h := http.Header{}
		h.Set("Retry-After", x.after)
		h.Set("Retry-After-Ms", x.ms)
		assert.Equal(t, x.want, retryAfter(h, now), "%q %q", x.after, x.ms)
	}
	p, c := fakeProvider(t, Config{})
	for after, want := range map[string]time.Duration{"3": 3 * time.Second, "86400": 10 * time.Minute, "-1": 0} {
		p.Always(upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: 429, RetryAfter: after}})
		_, failure := collect(t, c, ask(p.Upstream("openai"), "hi"))
		assert.Equal(t, want, failure.RetryAfter)
	}
	p.Always(upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: 429, Body: `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"37s"}]}}`}})
	_, failure := collect(t, c, ask(p.Upstream("gemini"), "hi"))
	assert.Equal(t, 37*time.Second, failure.RetryAfter)
}

// Nothing that a caller or an operator keeps secret stands in an error.
func TestErrorsHoldNoSecrets(t *testing.T) {
	const key, prompt, echo = "sk-CANARYKEY0123456789", "CANARYPROMPT tell me", "CANARYECHO"
	p, c := fakeProvider(t, Config{Getenv: func(string) string { return key }, IdleTimeout: 20 * time.Millisecond, FirstByteTimeout: time.Second})
	bodies := []string{
		`{"error":{"message":"` + echo + ` ` + key + `","type":"` + echo + ` with words","code":"sk-CANARYKEY0123456789"}}`,
		`{"error":{"message":"` + key + `","status":"` + strings.Repeat(echo, 20) + `"}}`,
		echo + key + prompt, `{"error":"` + echo + `"}`, `{"type":"error","error":{"type":"` + key + `","message":"` + prompt + `"}}`,
	}
	var answers []upstreamtest.Answer
	for _, body := range bodies {
		for _, status := range []int{302, 400, 401, 429, 500} {
			answers = append(answers, upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: status, Body: body}})
		}
	}
	for kind := upstreamtest.Cut; kind < upstreamtest.Status; kind++ {
		answers = append(answers, upstreamtest.Answer{Text: []string{echo, prompt}, Fault: upstreamtest.Fault{Kind: kind, At: 150}})
	}
	for _, a := range answers {
		p.Always(a)
		for _, dialect := range dialects {
			u := p.Upstream(dialect)
			u.KeyEnv = "KEY"
			_, failure := collect(t, c, ask(u, prompt))
			require.NotNil(t, failure)
			for _, err := range []error{failure, failure.Err} {
				assert.NotContains(t, err.Error(), "CANARY")
				assert.Less(t, len(err.Error()), 300)
			}
		}
	}
	// The key is sent where it belongs, once, and nowhere else.
	for _, r := range p.Requests() {
		found := 0
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, " "), key) {
				found++
				assert.Contains(t, []string{"Authorization", "X-Api-Key", "X-Goog-Api-Key"}, name)
			}
		}
		assert.Equal(t, 1, found)
		assert.NotContains(t, r.Query+r.Path+string(r.Body), key)
	}
}
