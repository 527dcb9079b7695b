package upstream

import (
	"encoding/json"

	"github.com/weirhq/weir/router"
)

// anthropicEvent is any event of a stream; Type says which fields count.
type anthropicEvent struct {
	Type    string `json:"type"`
	Index   int    `json:"index"`
	Message struct {
		Usage *anthropicUsage `json:"usage"`
	} `json:"message"`
	Block struct {
		Type     string          `json:"type"`
		ID       string          `json:"id"`
		Name     string          `json:"name"`
		Text     string          `json:"text"`
		Thinking string          `json:"thinking"`
		Input    json.RawMessage `json:"input"`
	} `json:"content_block"`
	Delta struct {
		Type        string `json:"type"`
		Text        string `json:"text"`
		Thinking    string `json:"thinking"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	} `json:"delta"`
	Usage *anthropicUsage `json:"usage"`
}

// anthropicUsage is cumulative; a field that is not there stays as it was.
type anthropicUsage struct {
	Input      *int64 `json:"input_tokens"`
	CacheWrite *int64 `json:"cache_creation_input_tokens"`
	CacheRead  *int64 `json:"cache_read_input_tokens"`
	Output     *int64 `json:"output_tokens"`
	Details    *struct {
		Thinking int64 `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
}

// anthropicBlockState is an open content block.
type anthropicBlockState struct {
	kind string
	tool int // index among the tool calls
	args bool
	// input is what the block began with; it counts when no piece follows.
	input json.RawMessage
}

type anthropicDecoder struct {
	started bool
	blocks  map[int]*anthropicBlockState
	tools   int
	finish  router.FinishReason
	// plain excludes what was cached, as the provider counts it.
	plain, cacheWrite, cacheRead, output, thinking int64
}

func (anthropic) decoder() decoder {
	return &anthropicDecoder{blocks: map[int]*anthropicBlockState{}}
}

func (d *anthropicDecoder) event(ev event, emit func(router.Chunk) bool) error {
	var e anthropicEvent
	if err := decode(ev.data, &e); err != nil {
		return err
	}
	if ev.name != "" && ev.name != e.Type {
		return protocolFault("an event is named one type and holds another")
	}
	if !d.started && e.Type != "message_start" && e.Type != "ping" && e.Type != "error" {
		return protocolFault("the stream does not begin with message_start")
	}
	if d.finish != 0 && (e.Type == "content_block_start" || e.Type == "content_block_delta") {
		return protocolFault("the stream goes on after its stop_reason")
	}
	switch e.Type {
	case "ping":
		return nil
	case "error":
		f := anthropic{}.failure(ev.data)
		return &f
	case "message_start":
		if d.started {
			return protocolFault("the stream begins twice")
		}
		d.started = true
		return d.usage(e.Message.Usage, emit)
	case "content_block_start":
		return d.open(&e, emit)
	case "content_block_delta":
		return d.delta(&e, emit)
	case "content_block_stop":
		return d.closeBlock(&e, emit)
	case "message_delta":
		return d.messageDelta(&e, emit)
	case "message_stop":
		return d.stop(emit)
	default:
		// The API's versioning policy allows new events that carry no answer, but
		// nothing here can tell whether this one does.
		return protocolFault("the stream holds an event of unknown type")
	}
}

func (d *anthropicDecoder) open(e *anthropicEvent, emit func(router.Chunk) bool) error {
	if d.blocks[e.Index] != nil {
		return protocolFault("a content block begins twice")
	}
	b := &anthropicBlockState{kind: e.Block.Type}
	var first router.Chunk
	switch b.kind {
	case "text":
		first.Text = e.Block.Text
	case "thinking":
		first.Reasoning = e.Block.Thinking
	case "redacted_thinking":
	case "tool_use":
		b.tool, b.input = d.tools, e.Block.Input
		d.tools++
		first.Tool = &router.ToolCallDelta{Index: b.tool, ID: e.Block.ID, Name: e.Block.Name}
	default:
		return protocolFault("a content block is of a type that was not asked for")
	}
	d.blocks[e.Index] = b
	return pass(first, emit)
}

// pass emits a chunk that holds something.
func pass(c router.Chunk, emit func(router.Chunk) bool) error {
	if c.Content() && !emit(c) {
		return errLeft
	}
	return nil
}

func (d *anthropicDecoder) delta(e *anthropicEvent, emit func(router.Chunk) bool) error {
	b := d.blocks[e.Index]
	if b == nil {
		return protocolFault("a piece belongs to no open content block")
	}
	want := map[string]string{
		"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use", "signature_delta": "thinking", "citations_delta": "text",
	}[e.Delta.Type]
	if want == "" || want != b.kind {
		return protocolFault("a piece does not fit its content block")
	}
	switch e.Delta.Type {
	case "text_delta":
		return pass(router.Chunk{Text: e.Delta.Text}, emit)
	case "thinking_delta":
		return pass(router.Chunk{Reasoning: e.Delta.Thinking}, emit)
	case "input_json_delta":
		if e.Delta.PartialJSON == "" {
			return nil
		}
		b.args = true
		return pass(router.Chunk{Tool: &router.ToolCallDelta{Index: b.tool, Arguments: e.Delta.PartialJSON}}, emit)
	default: // signatures and citations are no text
		return nil
	}
}

func (d *anthropicDecoder) closeBlock(e *anthropicEvent, emit func(router.Chunk) bool) error {
	b := d.blocks[e.Index]
	if b == nil {
		return protocolFault("a content block ends that is not open")
	}
	delete(d.blocks, e.Index)
	if b.kind != "tool_use" || b.args {
		return nil
	}
	args := "{}" // a call without arguments sends no pieces
	if isSet(b.input) {
		args = string(b.input)
	}
	return pass(router.Chunk{Tool: &router.ToolCallDelta{Index: b.tool, Arguments: args}}, emit)
}

func (d *anthropicDecoder) messageDelta(e *anthropicEvent, emit func(router.Chunk) bool) error {
	if err := d.usage(e.Usage, emit); err != nil {
		return err
	}
	switch e.Delta.StopReason {
	case "":
		return nil
	case "end_turn", "stop_sequence":
		d.finish = router.FinishStop
	case "tool_use":
		d.finish = router.FinishToolCalls
	case "max_tokens", "model_context_window_exceeded":
		d.finish = router.FinishLength
	case "refusal":
		d.finish = router.FinishContentFilter
	case "pause_turn":
		return protocolFault("the provider paused the turn, which only its own tools should cause")
	default:
		return protocolFault("the stop_reason is unknown")
	}
	// A cut call of a tool ends its block too, so blocks are closed in any case.
	if len(d.blocks) > 0 {
		return protocolFault("the message stops with a content block open")
	}
	return nil
}

// usage takes what is said and yields the sum so far. input_tokens excludes what
// was read from or written to the cache; router.Usage includes both.
func (d *anthropicDecoder) usage(u *anthropicUsage, emit func(router.Chunk) bool) error {
	if u == nil {
		return nil
	}
	for _, f := range [...]struct {
		to   *int64
		said *int64
	}{{&d.plain, u.Input}, {&d.cacheWrite, u.CacheWrite}, {&d.cacheRead, u.CacheRead}, {&d.output, u.Output}} {
		if f.said == nil {
			continue
		}
		n, err := count(*f.said)
		if err != nil {
			return err
		}
		*f.to = min(n, 1<<40)
	}
	if u.Details != nil {
		d.thinking = u.Details.Thinking
	}
	sum, err := usageOf(router.Usage{
		Input: d.plain + d.cacheRead + d.cacheWrite, CachedInput: d.cacheRead, CacheWrite: d.cacheWrite, Output: d.output, Reasoning: d.thinking,
	})
	if err != nil {
		return err
	}
	if !emit(router.Chunk{Usage: sum}) {
		return errLeft
	}
	return nil
}

func (d *anthropicDecoder) stop(emit func(router.Chunk) bool) error {
	if d.finish == 0 {
		return protocolFault("the message stops without a stop_reason")
	}
	if !emit(router.Chunk{Finish: d.finish}) {
		return errLeft
	}
	return errWhole
}

func (d *anthropicDecoder) end(func(router.Chunk) bool) error {
	return protocolFault("the stream ended without message_stop")
}
