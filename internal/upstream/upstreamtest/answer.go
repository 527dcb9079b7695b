package upstreamtest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirhq/weir/router"
)

// Answer is what the provider answers. The zero value is an empty answer that
// stops.
type Answer struct {
	// Reasoning, Text and Tools come in this order, an event for each piece.
	Reasoning, Text []string
	Tools           []Tool
	// Usage is told as the dialect tells it; nil when the provider says nothing.
	// The dialects cannot tell all: OpenAI's counts hold every kind, Anthropic's
	// too, Gemini's have no cache writes.
	Usage *router.Usage
	// Finish is why it stopped; 0 means FinishToolCalls with tools and
	// FinishStop without.
	Finish router.FinishReason

	// FirstByte is waited before the headers, Delay before every event.
	FirstByte, Delay time.Duration
	Fault            Fault

	rendered map[string][][]byte
}

// Rendered returns the answer with its events made once, for a provider under
// load: the others make them at every request. Do not change it afterwards.
func (a Answer) Rendered() Answer {
	a.rendered = nil
	made := map[string][][]byte{}
	for _, dialect := range []string{"openai", "anthropic", "gemini"} {
		made[dialect] = Events(dialect, &a)
	}
	a.rendered = made
	return a
}

// Tool is a call of a tool. Its arguments come in the given pieces; Gemini
// sends them joined.
type Tool struct {
	ID, Name  string
	Arguments []string
}

// FaultKind is how a provider fails.
type FaultKind uint8

// The faults. All but Status strike at byte Fault.At of the stream's body.
const (
	// Cut ends the body cleanly, as if the answer were over.
	Cut FaultKind = iota + 1
	// Drop closes the connection without the end of the body.
	Drop
	// Reset closes the connection with a TCP reset.
	Reset
	// Stall sends nothing more until the client goes.
	Stall
	// BadJSON breaks the JSON of the event that holds the byte, then goes on.
	BadJSON
	// NoTerminator leaves out what ends the stream, the finish reason at Gemini
	// included, and ends the body cleanly.
	NoTerminator
	// InBandError sends an error event before the event that holds the byte, and
	// ends the body cleanly.
	InBandError
	// Status answers with Fault.Status in place of a stream.
	Status
)

const faultNames = "cut drop reset stall bad_json no_terminator in_band_error status"

// String returns the fault's name.
func (k FaultKind) String() string {
	if names := strings.Fields(faultNames); k >= 1 && int(k) <= len(names) {
		return names[k-1]
	}
	return fmt.Sprintf("fault(%d)", uint8(k))
}

// Fault is how and when a provider fails; the zero value is none.
type Fault struct {
	Kind FaultKind
	// At is the byte of the body, counted from 0, before which it strikes. Behind
	// the end nothing strikes.
	At int
	// Status, RetryAfter and Body belong to the kind Status: Body "" means the
	// dialect's own error for that status.
	Status     int
	RetryAfter string
	Body       string
}

// ParseFault reads a fault as people write it: "cut@120", "reset@0",
// "no_terminator", "status@503".
func ParseFault(s string) (Fault, error) {
	name, at, _ := strings.Cut(s, "@")
	n := 0
	if at != "" {
		var err error
		if n, err = strconv.Atoi(at); err != nil || n < 0 {
			return Fault{}, fmt.Errorf("fault %q: %q is no number from 0", s, at)
		}
	}
	for i, known := range strings.Fields(faultNames) {
		if known != name {
			continue
		}
		kind := FaultKind(i + 1)
		if kind == Status {
			return Fault{Kind: kind, Status: n}, nil
		}
		return Fault{Kind: kind, At: n}, nil
	}
	return Fault{}, fmt.Errorf("fault %q is unknown: use one of %s, with @ and a byte or status", s, faultNames)
}

// Events renders an answer as the body of a stream, an event each, blank line
// included. The last one is the terminator; Gemini has none of its own, there it
// is the event with the finish reason. It returns nil for an unknown dialect.
func Events(dialect string, a *Answer) [][]byte {
	switch dialect {
	case "openai":
		return openAIEvents(a)
	case "anthropic":
		return anthropicEvents(a)
	case "gemini":
		return geminiEvents(a)
	default:
		return nil
	}
}

type object map[string]any

// event renders one; name "" leaves the event's name out.
func event(name string, data any) []byte {
	b, err := json.Marshal(data)
	if err != nil { // objects of strings and numbers do not fail
		b = []byte("{}")
	}
	if name != "" {
		return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, b)
	}
	return fmt.Appendf(nil, "data: %s\n\n", b)
}

func (a *Answer) finish() router.FinishReason {
	switch {
	case a.Finish != 0:
		return a.Finish
	case len(a.Tools) > 0:
		return router.FinishToolCalls
	default:
		return router.FinishStop
	}
}

func openAIEvents(a *Answer) [][]byte {
	choice := func(delta object, finish any) []byte {
		return event("", object{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
			"choices": []object{{"index": 0, "delta": delta, "finish_reason": finish}}, "usage": nil,
		})
	}
	out := [][]byte{choice(object{"role": "assistant", "content": ""}, nil)}
	for _, s := range a.Reasoning {
		out = append(out, choice(object{"reasoning_content": s}, nil))
	}
	for _, s := range a.Text {
		out = append(out, choice(object{"content": s}, nil))
	}
	for i, t := range a.Tools {
		first := object{"index": i, "id": t.ID, "type": "function", "function": object{"name": t.Name, "arguments": ""}}
		out = append(out, choice(object{"tool_calls": []object{first}}, nil))
		for _, s := range t.Arguments {
			out = append(out, choice(object{"tool_calls": []object{{"index": i, "function": object{"arguments": s}}}}, nil))
		}
	}
	reason := map[router.FinishReason]string{
		router.FinishStop: "stop", router.FinishLength: "length", router.FinishToolCalls: "tool_calls", router.FinishContentFilter: "content_filter",
	}[a.finish()]
	out = append(out, choice(object{}, reason))
	if u := a.Usage; u != nil {
		out = append(out, event("", object{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": []object{},
			"usage": object{
				"prompt_tokens": u.Input, "completion_tokens": u.Output, "total_tokens": u.Input + u.Output,
				"prompt_tokens_details":     object{"cached_tokens": u.CachedInput, "cache_write_tokens": u.CacheWrite},
				"completion_tokens_details": object{"reasoning_tokens": u.Reasoning},
			},
		}))
	}
	return append(out, []byte("data: [DONE]\n\n"))
}

func anthropicEvents(a *Answer) [][]byte {
	start := object{"id": "msg_1", "type": "message", "role": "assistant", "model": "fake", "content": []object{}, "stop_reason": nil}
	if u := a.Usage; u != nil {
		start["usage"] = object{
			"input_tokens": u.Input - u.CachedInput - u.CacheWrite, "cache_read_input_tokens": u.CachedInput,
			"cache_creation_input_tokens": u.CacheWrite, "output_tokens": min(u.Output, 1),
		}
	}
	out := [][]byte{event("message_start", object{"type": "message_start", "message": start}), event("ping", object{"type": "ping"})}
	index := 0
	block := func(first object, pieces []string, kind, field string) {
		out = append(out, event("content_block_start", object{"type": "content_block_start", "index": index, "content_block": first}))
		for _, s := range pieces {
			out = append(out, event("content_block_delta", object{"type": "content_block_delta", "index": index, "delta": object{"type": kind, field: s}}))
		}
		if kind == "thinking_delta" {
			out = append(out, event("content_block_delta", object{
				"type": "content_block_delta", "index": index, "delta": object{"type": "signature_delta", "signature": "c2ln"},
			}))
		}
		out = append(out, event("content_block_stop", object{"type": "content_block_stop", "index": index}))
		index++
	}
	if len(a.Reasoning) > 0 {
		block(object{"type": "thinking", "thinking": "", "signature": ""}, a.Reasoning, "thinking_delta", "thinking")
	}
	if len(a.Text) > 0 {
		block(object{"type": "text", "text": ""}, a.Text, "text_delta", "text")
	}
	for _, t := range a.Tools {
		block(object{"type": "tool_use", "id": t.ID, "name": t.Name, "input": object{}}, t.Arguments, "input_json_delta", "partial_json")
	}
	reason := map[router.FinishReason]string{
		router.FinishStop: "end_turn", router.FinishLength: "max_tokens", router.FinishToolCalls: "tool_use", router.FinishContentFilter: "refusal",
	}[a.finish()]
	last := object{"type": "message_delta", "delta": object{"stop_reason": reason, "stop_sequence": nil}}
	if u := a.Usage; u != nil {
		last["usage"] = object{"output_tokens": u.Output, "output_tokens_details": object{"thinking_tokens": u.Reasoning}}
	}
	return append(out, event("message_delta", last), event("message_stop", object{"type": "message_stop"}))
}

func geminiEvents(a *Answer) [][]byte {
	answer := func(parts []object, finish string) object {
		candidate := object{"index": 0, "content": object{"role": "model", "parts": parts}}
		if finish != "" {
			candidate["finishReason"] = finish
		}
		return object{"candidates": []object{candidate}, "modelVersion": "fake", "responseId": "r1"}
	}
	var out [][]byte
	for _, s := range a.Reasoning {
		out = append(out, event("", answer([]object{{"text": s, "thought": true}}, "")))
	}
	for _, s := range a.Text {
		out = append(out, event("", answer([]object{{"text": s}}, "")))
	}
	for _, t := range a.Tools {
		args := json.RawMessage(strings.Join(t.Arguments, ""))
		if len(args) == 0 {
			args = json.RawMessage(`{}`)
		}
		out = append(out, event("", answer([]object{{"functionCall": object{"id": t.ID, "name": t.Name, "args": args}, "thoughtSignature": "c2ln"}}, "")))
	}
	reason := map[router.FinishReason]string{
		router.FinishStop: "STOP", router.FinishLength: "MAX_TOKENS", router.FinishToolCalls: "STOP", router.FinishContentFilter: "SAFETY",
	}[a.finish()]
	last := answer([]object{{"text": ""}}, reason)
	if u := a.Usage; u != nil {
		last["usageMetadata"] = object{
			"promptTokenCount": u.Input, "cachedContentTokenCount": u.CachedInput, "candidatesTokenCount": u.Output - u.Reasoning,
			"thoughtsTokenCount": u.Reasoning, "totalTokenCount": u.Input + u.Output,
		}
	}
	return append(out, event("", last))
}

// inBandError is an error event of the dialect.
func inBandError(dialect string) []byte {
	switch dialect {
	case "anthropic":
		return event("error", object{"type": "error", "error": object{"type": "overloaded_error", "message": "Overloaded"}})
	case "gemini":
		return event("", object{"error": object{"code": 503, "status": "UNAVAILABLE", "message": "The model is overloaded."}})
	default:
		return event("", object{"error": object{"message": "The server had an error.", "type": "server_error", "code": nil}})
	}
}

// errorBody is the dialect's error for a status.
func errorBody(dialect string, status int) []byte {
	words := map[int][2]string{
		400: {"invalid_request_error", "INVALID_ARGUMENT"}, 401: {"authentication_error", "UNAUTHENTICATED"},
		403: {"permission_error", "PERMISSION_DENIED"}, 429: {"rate_limit_error", "RESOURCE_EXHAUSTED"},
		500: {"api_error", "INTERNAL"}, 503: {"api_error", "UNAVAILABLE"}, 529: {"overloaded_error", "UNAVAILABLE"},
	}[status]
	data := object{"error": object{"message": "as the script says", "type": words[0], "code": nil}}
	switch dialect {
	case "anthropic":
		data = object{"type": "error", "error": object{"type": words[0], "message": "as the script says"}}
	case "gemini":
		data = object{"error": object{"code": status, "status": words[1], "message": "as the script says"}}
	}
	b, err := json.Marshal(data)
	if err != nil {
		return nil
	}
	return b
}
