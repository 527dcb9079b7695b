package upstream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"unicode/utf8"

	"github.com/weirhq/weir/router"
)

// openAIChunk is one event of a chat completion.
type openAIChunk struct {
	Object  string          `json:"object"`
	Error   json.RawMessage `json:"error"`
	Choices []openAIChoice  `json:"choices"`
	Usage   *openAIUsage    `json:"usage"`
	Groq    *struct {
		Usage *openAIUsage `json:"usage"`
		Error string       `json:"error"`
	} `json:"x_groq"`
}

type openAIChoice struct {
	Index        int             `json:"index"`
	Delta        openAIDelta     `json:"delta"`
	FinishReason *string         `json:"finish_reason"`
	Error        json.RawMessage `json:"error"`
}

type openAIDelta struct {
	Content          openAIText       `json:"content"`
	Refusal          string           `json:"refusal"`
	ReasoningContent string           `json:"reasoning_content"` // DeepSeek, vLLM, llama.cpp
	Reasoning        string           `json:"reasoning"`         // OpenRouter, Groq, Ollama
	ToolCalls        []openAIToolCall `json:"tool_calls"`
}

// content tells whether the delta holds a piece of the answer.
func (d *openAIDelta) content() bool {
	return d.Content.text != "" || d.Content.thinking != "" || d.Refusal != "" || d.ReasoningContent != "" || d.Reasoning != "" || len(d.ToolCalls) > 0
}

type openAIToolCall struct {
	Index    *int   `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// openAIText is a delta's content: a string, or Mistral's list of parts, of
// which the thinking ones are reasoning.
type openAIText struct {
	text, thinking string
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *openAIText) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		// Most pieces hold nothing to unescape: a second parse of them costs as
		// much as that of the whole event.
		if n := len(b) - 1; n > 0 && b[0] == '"' && bytes.IndexByte(b, '\\') < 0 && utf8.Valid(b) {
			t.text = string(b[1:n])
			return nil
		}
		return json.Unmarshal(b, &t.text)
	}
	var parts []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Thinking []struct {
			Text string `json:"text"`
		} `json:"thinking"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	for _, p := range parts {
		t.text += p.Text
		for _, th := range p.Thinking {
			t.thinking += th.Text
		}
	}
	return nil
}

type openAIUsage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
	In         *struct {
		Cached     int64 `json:"cached_tokens"`
		CacheWrite int64 `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
	Out *struct {
		Reasoning int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
	CacheHit int64 `json:"prompt_cache_hit_tokens"` // DeepSeek
	Cached   int64 `json:"cached_tokens"`           // Moonshot
}

// usage maps the counts. completion_tokens holds reasoning at OpenAI and most
// others; at xAI it does not, which the total shows.
func (u *openAIUsage) usage() (*router.Usage, error) {
	out := router.Usage{Input: u.Prompt, Output: u.Completion, CachedInput: max(u.CacheHit, u.Cached)}
	if u.In != nil {
		out.CachedInput, out.CacheWrite = max(out.CachedInput, u.In.Cached), u.In.CacheWrite
	}
	if u.Out != nil {
		out.Reasoning = u.Out.Reasoning
	}
	if out.Reasoning > 0 && (u.Total == u.Prompt+u.Completion+out.Reasoning || out.Reasoning > out.Output) {
		out.Output += out.Reasoning
	}
	return usageOf(out)
}

type openAIDecoder struct {
	finish router.FinishReason
	tools  int // pieces of tool calls seen
	// latest is the index of the last tool call, for servers that send none.
	latest int
}

func (openAI) decoder() decoder { return &openAIDecoder{latest: -1} }

func (d *openAIDecoder) event(ev event, emit func(router.Chunk) bool) error {
	if string(ev.data) == "[DONE]" {
		if d.finish == 0 {
			return protocolFault("the stream was closed by [DONE] without a finish_reason")
		}
		if !emit(router.Chunk{Finish: d.finish}) {
			return errLeft
		}
		return errWhole
	}
	var c openAIChunk
	if err := decode(ev.data, &c); err != nil {
		return err
	}
	if err := c.failure(ev); err != nil {
		return err
	}
	if c.Choices == nil && c.Usage == nil && c.Object == "" && c.Groq == nil {
		return protocolFault("an event is no chunk of a chat completion")
	}
	for i := range c.Choices {
		if c.Choices[i].Index != 0 {
			continue
		}
		if err := d.choice(&c.Choices[i], emit); err != nil {
			return err
		}
	}
	said := c.Usage
	if said == nil && c.Groq != nil {
		said = c.Groq.Usage
	}
	if said == nil {
		return nil
	}
	u, err := said.usage()
	if err != nil {
		return err
	}
	if !emit(router.Chunk{Usage: u}) {
		return errLeft
	}
	return nil
}

// failure finds an error that came inside the stream.
func (c *openAIChunk) failure(ev event) error {
	raw := c.Error
	for i := range c.Choices {
		if e := c.Choices[i].Error; isSet(e) {
			raw = e
		}
	}
	switch {
	case isSet(raw):
		f := openAIError(raw)
		return &f
	case c.Object == "error" || ev.name == "error":
		f := openAIError(ev.data)
		return &f
	case c.Groq != nil && c.Groq.Error != "":
		return &fault{message: c.Groq.Error}
	default:
		return nil
	}
}

func isSet(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func (d *openAIDecoder) choice(c *openAIChoice, emit func(router.Chunk) bool) error {
	delta := &c.Delta
	if d.finish != 0 && delta.content() {
		return protocolFault("the stream goes on after its finish_reason")
	}
	if r := cmp.Or(delta.ReasoningContent, delta.Reasoning+delta.Content.thinking); r != "" && !emit(router.Chunk{Reasoning: r}) {
		return errLeft
	}
	if t := delta.Content.text + delta.Refusal; t != "" && !emit(router.Chunk{Text: t}) {
		return errLeft
	}
	for i := range delta.ToolCalls {
		t := &delta.ToolCalls[i]
		index, err := d.toolIndex(t)
		if err != nil {
			return err
		}
		d.tools++
		if !emit(router.Chunk{Tool: &router.ToolCallDelta{
			Index: index, ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments,
		}}) {
			return errLeft
		}
	}
	if c.FinishReason == nil || *c.FinishReason == "" || d.finish != 0 {
		return nil
	}
	return d.finished(*c.FinishReason, delta.Refusal != "")
}

// toolIndex is which call a piece belongs to. Servers that send no index send
// calls whole, or one after the other with an id at each start.
func (d *openAIDecoder) toolIndex(t *openAIToolCall) (int, error) {
	switch {
	case t.Index != nil && (*t.Index < 0 || *t.Index > 1<<10):
		return 0, protocolFault("a tool call has index %d", *t.Index)
	case t.Index != nil:
		d.latest = max(d.latest, *t.Index)
		return *t.Index, nil
	case t.ID != "" || d.latest < 0:
		d.latest++
	}
	return d.latest, nil
}

func (d *openAIDecoder) finished(reason string, refused bool) error {
	switch reason {
	case "stop", "eos", "eos_token", "stop_sequence", "end_turn":
		d.finish = router.FinishStop
		switch {
		case refused:
			d.finish = router.FinishContentFilter
		case d.tools > 0:
			d.finish = router.FinishToolCalls
		}
	case "tool_calls", "function_call":
		d.finish = router.FinishToolCalls
	case "length", "max_tokens", "model_length":
		d.finish = router.FinishLength
	case "content_filter", "sensitive":
		d.finish = router.FinishContentFilter
	case "error", "abort", "network_error", "insufficient_system_resource":
		return &fault{codes: []string{reason}}
	default:
		return protocolFault("the finish_reason is unknown")
	}
	return nil
}

func (d *openAIDecoder) end(func(router.Chunk) bool) error {
	return protocolFault("the stream ended without [DONE]")
}
