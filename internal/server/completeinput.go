package server

import (
	"encoding/json"
	"fmt"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// inputOf is what the model is given: the request's messages and parts as they
// came, whatever of them is scored.
func inputOf(req *weirv1.CompleteRequest) router.Input {
	out := router.Input{Sampling: samplingOf(req.GetSampling())}
	if chat := req.GetRoute().GetChat(); chat != nil {
		for _, m := range chat.GetMessages() {
			out.Messages = append(out.Messages, messageOf(m))
		}
	} else {
		out.Messages = []router.ChatMessage{{Role: classifier.User, Parts: []router.Part{{Text: req.GetRoute().GetText()}}}}
	}
	for _, t := range req.GetTools() {
		out.Tools = append(out.Tools, router.ToolDefinition{Name: t.GetName(), Description: t.GetDescription(), Schema: json.RawMessage(t.GetInputSchemaJson())})
	}
	if c := req.GetToolChoice(); c != nil {
		out.Choice = router.ToolChoice{Mode: router.ToolMode(c.GetMode()), Name: c.GetName()}
	}
	out.Format.JSONObject = req.GetResponseFormat().GetJsonObject()
	if s := req.GetResponseFormat().GetJsonSchema(); s != "" {
		out.Format.JSONSchema = json.RawMessage(s)
	}
	return out
}

func messageOf(m *weirv1.Message) router.ChatMessage {
	out := router.ChatMessage{Role: classifier.Role(m.GetRole())}
	if m.GetText() != "" {
		out.Parts = append(out.Parts, router.Part{Text: m.GetText()})
	}
	for _, part := range m.GetParts() {
		switch p := part.GetPart().(type) {
		case *weirv1.Part_Text:
			out.Parts = append(out.Parts, router.Part{Text: p.Text})
		case *weirv1.Part_Media:
			out.Parts = append(out.Parts, router.Part{Media: &router.Media{MIMEType: p.Media.GetMimeType(), Data: p.Media.GetData(), URL: p.Media.GetUrl()}})
		case *weirv1.Part_ToolCall:
			out.Parts = append(out.Parts, router.Part{Call: &router.ToolCall{ID: p.ToolCall.GetId(), Name: p.ToolCall.GetName(), Arguments: p.ToolCall.GetArgumentsJson()}})
		case *weirv1.Part_ToolResult:
			out.Parts = append(out.Parts, router.Part{Result: &router.ToolResult{CallID: p.ToolResult.GetToolCallId(), Content: p.ToolResult.GetContent(), IsError: p.ToolResult.GetIsError()}})
		}
	}
	return out
}

func samplingOf(s *weirv1.Sampling) router.Sampling {
	if s == nil {
		return router.Sampling{}
	}
	return router.Sampling{
		Temperature: optional(s.Temperature), TopP: optional(s.TopP), TopK: optional(s.TopK),
		FrequencyPenalty: optional(s.FrequencyPenalty), PresencePenalty: optional(s.PresencePenalty),
		Seed: optional(s.Seed), Stop: s.GetStop(),
	}
}

// The bounds of what a completion adds to a route request.
const (
	maxTools       = 128
	maxToolName    = 64
	maxStops       = 4
	maxIdempotency = 128
)

// checkComplete reports everything that is wrong with a completion's request.
func checkComplete(req *weirv1.CompleteRequest) error {
	f := &faults{}
	if req.GetRoute() == nil {
		f.add("route", "is missing: it holds the prompt")
		return f.err()
	}
	if err := checkRoute(req.GetRoute()); err != nil {
		return err
	}
	checkLength(f, "idempotency_key", req.GetIdempotencyKey(), maxIdempotency)
	checkSampling(f, req.GetSampling())
	checkTools(f, req)
	if s := req.GetResponseFormat().GetJsonSchema(); s != "" && !isObject(s) {
		f.add("response_format.json_schema", "is no JSON object: write a JSON Schema")
	}
	return f.err()
}

func checkTools(f *faults, req *weirv1.CompleteRequest) {
	if n := len(req.GetTools()); n > maxTools {
		f.add("tools", "has %d entries: want at most %d", n, maxTools)
		return
	}
	names := map[string]bool{}
	for i, t := range req.GetTools() {
		path := fmt.Sprintf("tools[%d]", i)
		switch {
		case !isToolName(t.GetName()):
			f.add(path+".name", "is no tool's name: use 1 to %d letters, digits, _ and -", maxToolName)
		case names[t.GetName()]:
			f.add(path+".name", "is there twice: names are unique")
		}
		names[t.GetName()] = true
		if !isObject(t.GetInputSchemaJson()) {
			f.add(path+".input_schema_json", "is no JSON object: write the JSON Schema of the tool's arguments, such as {\"type\": \"object\"}")
		}
	}
	c := req.GetToolChoice()
	if c == nil {
		return
	}
	checkEnum(f, "tool_choice.mode", c.GetMode())
	switch {
	case c.GetMode() == weirv1.ToolMode_TOOL_MODE_NAMED && !names[c.GetName()]:
		f.add("tool_choice.name", "names none of the tools")
	case c.GetMode() == weirv1.ToolMode_TOOL_MODE_REQUIRED && len(names) == 0:
		f.add("tool_choice.mode", "requires a tool and there is none: add tools")
	}
}

func checkSampling(f *faults, s *weirv1.Sampling) {
	if s == nil {
		return
	}
	within := func(field string, v *float64, low, high float64) {
		if v != nil && !(*v >= low && *v <= high) {
			f.add("sampling."+field, "is %v: want a number from %v to %v", *v, low, high)
		}
	}
	within("temperature", s.Temperature, 0, 2)
	within("frequency_penalty", s.FrequencyPenalty, -2, 2)
	within("presence_penalty", s.PresencePenalty, -2, 2)
	if v := s.TopP; v != nil && !(*v > 0 && *v <= 1) {
		f.add("sampling.top_p", "is %v: want a number above 0 up to 1", *v)
	}
	if v := s.TopK; v != nil && *v < 1 {
		f.add("sampling.top_k", "is %d: want 1 or more", *v)
	}
	if n := len(s.GetStop()); n > maxStops {
		f.add("sampling.stop", "has %d texts: want at most %d", n, maxStops)
	}
	for i, stop := range s.GetStop() {
		if stop == "" || len(stop) > maxValueBytes {
			f.add(fmt.Sprintf("sampling.stop[%d]", i), "has %d bytes: want 1 to %d", len(stop), maxValueBytes)
		}
	}
}

func isToolName(s string) bool {
	if s == "" || len(s) > maxToolName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func isObject(s string) bool {
	var v map[string]json.RawMessage
	return json.Unmarshal([]byte(s), &v) == nil && v != nil
}
