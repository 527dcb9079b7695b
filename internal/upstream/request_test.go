package upstream

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

var update = flag.Bool("update", false, "write the golden requests")

// everything is an input with something of all that the dialects share.
func everything() *router.Input {
	text := func(s string) router.Part { return router.Part{Text: s} }
	return &router.Input{
		Messages: []router.ChatMessage{
			{Role: classifier.System, Parts: []router.Part{text("Be brief.")}},
			{Role: classifier.User, Parts: []router.Part{
				text("What is this?"),
				{Media: &router.Media{MIMEType: "image/png", Data: []byte("png")}},
				{Media: &router.Media{MIMEType: "image/jpeg", URL: "https://example.com/a.jpg"}},
				{Media: &router.Media{MIMEType: "application/pdf", Data: []byte("pdf")}},
			}},
			{Role: classifier.Assistant, Parts: []router.Part{
				text("I look."), {Call: &router.ToolCall{ID: "c1", Name: "look", Arguments: `{"at":"a"}`}}, {Call: &router.ToolCall{ID: "c2", Name: "look"}},
			}},
			{Role: classifier.Tool, Parts: []router.Part{{Result: &router.ToolResult{CallID: "c1", Content: "a cat"}}}},
			{Role: classifier.Tool, Parts: []router.Part{{Result: &router.ToolResult{CallID: "c2", Content: "no", IsError: true}}}},
			{Role: classifier.User, Parts: []router.Part{text("Go on."), text("Please.")}},
		},
		Tools: []router.ToolDefinition{
			{Name: "look", Description: "Looks.", Schema: json.RawMessage(`{"type":"object","properties":{"at":{"type":"string"}},"required":["at"]}`)},
			{Name: "stop"},
		},
		Choice: router.ToolChoice{Mode: router.ToolsNamed, Name: "look"},
		Format: router.ResponseFormat{JSONSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}},"required":["x"],"additionalProperties":false}`)},
		Sampling: router.Sampling{
			Temperature: router.Some(0.5), TopP: router.Some(0.9), Seed: router.Some[int64](7), Stop: []string{"END"},
			FrequencyPenalty: router.Some(0.0),
		},
	}
}

func requestOf(t *testing.T, dialect, base string, in *router.Input) (*outgoing, error) {
	t.Helper()
	d, err := dialectOf(dialect)
	require.NoError(t, err)
	return d.request(&router.Call{
		Model: &router.Model{}, Input: in, MaxOutputTokens: 256,
		Deployment: router.Deployment{Name: "the model", Upstream: &router.Upstream{ID: "u", Dialect: dialect, BaseURL: base}},
	}, "the-key")
}

// The whole request in each dialect, read against the providers' references.
func TestRequestsAreTheGoldens(t *testing.T) {
	for dialect, base := range map[string]string{
		"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com", "gemini": "https://generativelanguage.googleapis.com",
	} {
		out, err := requestOf(t, dialect, base, everything())
		require.NoError(t, err)
		got, err := json.MarshalIndent(map[string]any{"url": out.url.String(), "header": out.header, "body": out.body}, "", "  ")
		require.NoError(t, err)
		file := filepath.Join("testdata", "request-"+dialect+".json")
		if *update {
			require.NoError(t, os.WriteFile(file, append(got, '\n'), 0o600))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(bytes.TrimSpace(want)), string(got), dialect)
	}
}

func body(t *testing.T, dialect, base string, in *router.Input) map[string]any {
	t.Helper()
	out, err := requestOf(t, dialect, base, in)
	require.NoError(t, err)
	raw, err := json.Marshal(out.body)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	return m
}

func plain() *router.Input {
	return &router.Input{Messages: []router.ChatMessage{{Role: classifier.User, Parts: []router.Part{{Text: "hi"}}}}}
}

// The rules by host, as the package's comment has them.
func TestHostRules(t *testing.T) {
	in := plain()
	in.Sampling.Seed = router.Some[int64](1)
	for base, x := range map[string]struct {
		limit, seed, keyHeader, url string
		usage                       bool
	}{
		"https://api.openai.com/v1":    {"max_completion_tokens", "seed", "Authorization", "https://api.openai.com/v1/chat/completions", true},
		"https://eu.api.openai.com/v1": {"max_completion_tokens", "seed", "Authorization", "https://eu.api.openai.com/v1/chat/completions", true},
		"https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21": {
			"max_completion_tokens", "seed", "Api-Key", "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21", true,
		},
		"https://gate.example.com/d?api-version=1":   {"max_completion_tokens", "seed", "Api-Key", "https://gate.example.com/d/chat/completions?api-version=1", true},
		"https://api.mistral.ai/v1":                  {"max_tokens", "random_seed", "Authorization", "https://api.mistral.ai/v1/chat/completions", false},
		"http://localhost:11434/v1/":                 {"max_tokens", "seed", "Authorization", "http://localhost:11434/v1/chat/completions", true},
		"https://api.openai.com.evil.example.com/v1": {"max_tokens", "seed", "Authorization", "https://api.openai.com.evil.example.com/v1/chat/completions", true},
	} {
		out, err := requestOf(t, "openai", base, in)
		require.NoError(t, err)
		m := body(t, "openai", base, in)
		assert.Contains(t, m, x.limit, base)
		assert.Contains(t, m, x.seed, base)
		assert.Equal(t, x.usage, m["stream_options"] != nil, base)
		assert.Equal(t, x.url, out.url.String())
		assert.NotEmpty(t, out.header.Get(x.keyHeader), base)
		assert.Len(t, out.header, 1)
	}
	for base, want := range map[string]string{
		"https://generativelanguage.googleapis.com":         "https://generativelanguage.googleapis.com/v1beta/models/the%20model:streamGenerateContent?alt=sse",
		"https://generativelanguage.googleapis.com/v1alpha": "https://generativelanguage.googleapis.com/v1alpha/models/the%20model:streamGenerateContent?alt=sse",
	} {
		out, err := requestOf(t, "gemini", base, in)
		require.NoError(t, err)
		assert.Equal(t, want, out.url.String())
		assert.Equal(t, "the-key", out.header.Get("X-Goog-Api-Key"))
	}
	out, err := requestOf(t, "gemini", "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu/publishers/google", in)
	require.NoError(t, err)
	assert.Equal(t, "Bearer the-key", out.header.Get("Authorization"))
	for _, base := range []string{"https://api.anthropic.com", "https://api.anthropic.com/", "https://api.anthropic.com/v1", "https://api.anthropic.com/v1/"} {
		out, err := requestOf(t, "anthropic", base, in)
		require.NoError(t, err)
		assert.Equal(t, "https://api.anthropic.com/v1/messages", out.url.String())
	}
}

// A name cannot climb out of its place in the path.
func TestModelNamesStayInTheirPlace(t *testing.T) {
	for _, name := range []string{"../../evil", "a/b", "a?b=c", "a#b", "a\r\nHost: x", "%2e%2e/", "..", "."} {
		u, _, err := geminiAddress(&router.Call{Deployment: router.Deployment{Name: name, Upstream: &router.Upstream{BaseURL: "https://g.example.com"}}}, "")
		require.NoError(t, err)
		assert.Equal(t, "g.example.com", u.Host)
		assert.Equal(t, "alt=sse", u.RawQuery)
		assert.Regexp(t, `^/v1beta/models/[^/]*:streamGenerateContent$`, u.EscapedPath(), name)
	}
}

func TestJSONModes(t *testing.T) {
	in := plain()
	in.Format.JSONObject = true
	assert.Equal(t, map[string]any{"type": "json_object"}, body(t, "openai", "http://h/v1", in)["response_format"])
	config, _ := body(t, "gemini", "http://h", in)["generationConfig"].(map[string]any)
	assert.Equal(t, "application/json", config["responseMimeType"])
	assert.Contains(t, body(t, "anthropic", "http://h", in), "system")
	for schema, strict := range map[string]bool{
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`: true,
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`:                              false,
		`{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}`:                  false,
		`{"type":"array","items":{"type":"object"}}`:                                                           false,
		`{"type":"array","items":{"type":"string"}}`:                                                           true,
	} {
		in.Format = router.ResponseFormat{JSONSchema: json.RawMessage(schema)}
		format, _ := body(t, "openai", "http://h/v1", in)["response_format"].(map[string]any)
		inner, _ := format["json_schema"].(map[string]any)
		assert.Equal(t, strict, inner["strict"] == true, schema)
	}
}

func TestToolChoices(t *testing.T) {
	for mode, want := range map[router.ToolMode][3]any{
		0:                    {nil, nil, nil},
		router.ToolsAuto:     {"auto", "auto", "AUTO"},
		router.ToolsNone:     {"none", "none", "NONE"},
		router.ToolsRequired: {"required", "any", "ANY"},
	} {
		in := plain()
		in.Tools = []router.ToolDefinition{{Name: "x"}}
		in.Choice.Mode = mode
		assert.Equal(t, want[0], body(t, "openai", "http://h", in)["tool_choice"])
		choice, _ := body(t, "anthropic", "http://h", in)["tool_choice"].(map[string]any)
		assert.Equal(t, want[1], choice["type"])
		config, _ := body(t, "gemini", "http://h", in)["toolConfig"].(map[string]any)
		calling, _ := config["functionCallingConfig"].(map[string]any)
		assert.Equal(t, want[2], calling["mode"])
	}
}

// What a dialect cannot say is refused before any call, with a remedy; what
// changes nothing is left out.
func TestRefusals(t *testing.T) {
	media := func(mime, url, data string) router.Part {
		return router.Part{Media: &router.Media{MIMEType: mime, URL: url, Data: []byte(data)}}
	}
	add := func(p router.Part) func(*router.Input) {
		return func(in *router.Input) { in.Messages[0].Parts = append(in.Messages[0].Parts, p) }
	}
	base := map[string]string{"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com", "gemini": "https://g.example.com"}
	for name, x := range map[string]struct {
		change  func(*router.Input)
		refused []string
	}{
		"top_k":             {func(in *router.Input) { in.Sampling.TopK = router.Some[int32](40) }, []string{"openai"}},
		"top_k 0":           {func(in *router.Input) { in.Sampling.TopK = router.Some[int32](0) }, nil},
		"frequency_penalty": {func(in *router.Input) { in.Sampling.FrequencyPenalty = router.Some(0.5) }, []string{"anthropic"}},
		"presence_penalty":  {func(in *router.Input) { in.Sampling.PresencePenalty = router.Some(0.5) }, []string{"anthropic"}},
		"no penalty":        {func(in *router.Input) { in.Sampling.PresencePenalty = router.Some(0.0) }, nil},
		"seed":              {func(in *router.Input) { in.Sampling.Seed = router.Some[int64](1 << 40) }, nil},
		"temperature 1.5":   {func(in *router.Input) { in.Sampling.Temperature = router.Some(1.5) }, []string{"anthropic"}},
		"image":             {add(media("image/png", "", "x")), nil},
		"wav":               {add(media("audio/wav", "", "x")), []string{"anthropic"}},
		"ogg":               {add(media("audio/ogg", "", "x")), []string{"openai", "anthropic"}},
		"pdf by URL":        {add(media("application/pdf", "https://e.com/x", "")), []string{"openai"}},
		"word":              {add(media("application/msword", "", "x")), []string{"anthropic"}},
		"http URL":          {add(media("image/png", "http://e.com/x", "")), dialects},
		"both":              {add(media("image/png", "https://e.com/x", "x")), dialects},
		"neither":           {add(media("image/png", "", "")), dialects},
		"no MIME type":      {add(media("", "", "x")), dialects},
		"user's call":       {add(router.Part{Call: &router.ToolCall{Name: "x"}}), dialects},
		"orphan result":     {add(router.Part{Result: &router.ToolResult{CallID: "x"}}), []string{"gemini"}},
		"bad schema":        {func(in *router.Input) { in.Tools = []router.ToolDefinition{{Name: "x", Schema: json.RawMessage(`{`)}} }, dialects},
		"list schema":       {func(in *router.Input) { in.Format.JSONSchema = json.RawMessage(`[]`) }, dialects},
		"no such tool":      {func(in *router.Input) { in.Choice = router.ToolChoice{Mode: router.ToolsNamed, Name: "x"} }, dialects},
		"no tool":           {func(in *router.Input) { in.Choice = router.ToolChoice{Mode: router.ToolsRequired} }, dialects},
	} {
		for _, dialect := range dialects {
			in := plain()
			x.change(in)
			_, err := requestOf(t, dialect, base[dialect], in)
			assert.Equal(t, slices.Contains(x.refused, dialect), err != nil, "%s in %s: %v", name, dialect, err)
		}
	}
	in := plain()
	in.Sampling.TopK = router.Some[int32](40)
	assert.Contains(t, body(t, "openai", "http://localhost:8000/v1", in), "top_k", "servers of the dialect have it")

	// Through the client it is a bad request, and nobody is called.
	fake, c := fakeProvider(t, Config{})
	call := ask(fake.Upstream("anthropic"), "hi")
	call.Input.Sampling.PresencePenalty = router.Some(1.0)
	_, failure := collect(t, c, call)
	require.NotNil(t, failure)
	assert.Equal(t, router.FailureBadRequest, failure.Kind)
	assert.Zero(t, fake.Count())
	call = ask(&router.Upstream{ID: "u", Dialect: "smoke", BaseURL: fake.URL()}, "hi")
	_, failure = collect(t, c, call)
	require.NotNil(t, failure)
	assert.Contains(t, failure.Error(), "use openai, anthropic or gemini")
}
