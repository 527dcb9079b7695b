package upstream

import (
	"encoding/json"
	"fmt"

	"github.com/weirhq/weir/router"
)

// geminiEvent is one GenerateContentResponse of a stream.
type geminiEvent struct {
	Error      json.RawMessage   `json:"error"`
	Candidates []geminiCandidate `json:"candidates"`
	Feedback   *struct {
		BlockReason string `json:"blockReason"`
	} `json:"promptFeedback"`
	Usage *geminiUsage `json:"usageMetadata"`
}

type geminiCandidate struct {
	Index   int `json:"index"`
	Content struct {
		Parts []geminiAnswerPart `json:"parts"`
	} `json:"content"`
	FinishReason string `json:"finishReason"`
}

type geminiAnswerPart struct {
	Text         string          `json:"text"`
	Thought      bool            `json:"thought"`
	FunctionCall *geminiCall     `json:"functionCall"`
	InlineData   json.RawMessage `json:"inlineData"`
	FileData     json.RawMessage `json:"fileData"`
	Code         json.RawMessage `json:"executableCode"`
	CodeResult   json.RawMessage `json:"codeExecutionResult"`
}

type geminiCall struct {
	ID           string          `json:"id"`
	Name         string          `json:"name"`
	Args         json.RawMessage `json:"args"`
	PartialArgs  json.RawMessage `json:"partialArgs"`
	WillContinue bool            `json:"willContinue"`
}

type geminiUsage struct {
	Prompt     int64 `json:"promptTokenCount"`
	ToolUse    int64 `json:"toolUsePromptTokenCount"`
	Cached     int64 `json:"cachedContentTokenCount"`
	Candidates int64 `json:"candidatesTokenCount"`
	Thoughts   int64 `json:"thoughtsTokenCount"`
}

type geminiDecoder struct {
	finish router.FinishReason
	tools  int
}

func (gemini) decoder() decoder { return &geminiDecoder{} }

func (d *geminiDecoder) event(ev event, emit func(router.Chunk) bool) error {
	var e geminiEvent
	if err := decode(ev.data, &e); err != nil {
		return err
	}
	if isSet(e.Error) || ev.name == "error" {
		f := gemini{}.failure(ev.data)
		return &f
	}
	if e.Candidates == nil && e.Usage == nil && e.Feedback == nil {
		return protocolFault("an event is no piece of a generated answer")
	}
	if e.Usage != nil {
		// Thoughts are billed as output and stand beside the candidates' count.
		u, err := usageOf(router.Usage{
			Input: e.Usage.Prompt + e.Usage.ToolUse, CachedInput: e.Usage.Cached,
			Output: e.Usage.Candidates + e.Usage.Thoughts, Reasoning: e.Usage.Thoughts,
		})
		if err != nil {
			return err
		}
		if !emit(router.Chunk{Usage: u}) {
			return errLeft
		}
	}
	if e.Feedback != nil && e.Feedback.BlockReason != "" && e.Feedback.BlockReason != "BLOCK_REASON_UNSPECIFIED" {
		return &fault{codes: []string{"content_policy", e.Feedback.BlockReason}}
	}
	for i := range e.Candidates {
		if e.Candidates[i].Index != 0 {
			continue
		}
		if err := d.candidate(&e.Candidates[i], emit); err != nil {
			return err
		}
	}
	return nil
}

func (d *geminiDecoder) candidate(c *geminiCandidate, emit func(router.Chunk) bool) error {
	for i := range c.Content.Parts {
		chunk, err := d.part(&c.Content.Parts[i])
		if err != nil {
			return err
		}
		if !chunk.Content() {
			continue
		}
		if d.finish != 0 {
			return protocolFault("the stream goes on after its finishReason")
		}
		if !emit(chunk) {
			return errLeft
		}
	}
	return d.finished(c.FinishReason)
}

func (d *geminiDecoder) part(p *geminiAnswerPart) (router.Chunk, error) {
	switch {
	case p.FunctionCall != nil:
		call := p.FunctionCall
		if call.Name == "" || isSet(call.PartialArgs) || call.WillContinue {
			return router.Chunk{}, protocolFault("a function call comes in a form that was not asked for")
		}
		delta := &router.ToolCallDelta{Index: d.tools, ID: call.ID, Name: call.Name, Arguments: "{}"}
		if delta.ID == "" { // the Gemini API often gives none
			delta.ID = fmt.Sprintf("call_%d", d.tools)
		}
		if isSet(call.Args) {
			delta.Arguments = string(call.Args)
		}
		d.tools++
		return router.Chunk{Tool: delta}, nil
	case isSet(p.InlineData), isSet(p.FileData), isSet(p.Code), isSet(p.CodeResult):
		return router.Chunk{}, protocolFault("the answer holds a part of a kind that was not asked for")
	case p.Thought:
		return router.Chunk{Reasoning: p.Text}, nil
	default:
		return router.Chunk{Text: p.Text}, nil
	}
}

func (d *geminiDecoder) finished(reason string) error {
	switch reason {
	case "", "FINISH_REASON_UNSPECIFIED":
	case "STOP":
		d.finish = router.FinishStop
		if d.tools > 0 {
			d.finish = router.FinishToolCalls
		}
	case "MAX_TOKENS":
		d.finish = router.FinishLength
	case "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION":
		d.finish = router.FinishContentFilter
	case "OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "NO_IMAGE", "IMAGE_OTHER", "CONTINUATION":
		return protocolFault("the model gave up: finishReason %s", reason)
	default:
		return protocolFault("the finishReason is unknown")
	}
	return nil
}

// end is the only terminator that the dialect has.
func (d *geminiDecoder) end(emit func(router.Chunk) bool) error {
	if d.finish == 0 {
		return protocolFault("the stream ended without a finishReason")
	}
	if !emit(router.Chunk{Finish: d.finish}) {
		return errLeft
	}
	return nil
}
