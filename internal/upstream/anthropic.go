package upstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// anthropic is the dialect of Anthropic's Messages.
type anthropic struct{}

// onlyJSON stands in for the JSON mode that the dialect lacks.
const onlyJSON = "Answer with one JSON object and nothing else: no prose around it and no code fence."

func (anthropic) request(call *router.Call, key string) (*outgoing, error) {
	in := call.Input
	if err := checkInput(in); err != nil {
		return nil, err
	}
	messages, err := anthropicMessages(in)
	if err != nil {
		return nil, err
	}
	body := object{"model": call.Deployment.Name, "messages": messages, "max_tokens": call.MaxOutputTokens, "stream": true}
	system := systemText(in)
	switch {
	case len(in.Format.JSONSchema) > 0:
		body["output_config"] = object{"format": object{"type": "json_schema", "schema": in.Format.JSONSchema}}
	case in.Format.JSONObject:
		system = append(system, onlyJSON)
	}
	if len(system) > 0 {
		blocks := make([]object, len(system))
		for i, t := range system {
			blocks[i] = object{"type": "text", "text": t}
		}
		body["system"] = blocks
	}
	if err := anthropicSampling(body, &in.Sampling); err != nil {
		return nil, err
	}
	if err := anthropicTools(body, in); err != nil {
		return nil, err
	}
	header := http.Header{"Anthropic-Version": {"2023-06-01"}}
	if key != "" {
		header.Set("X-Api-Key", key)
	}
	path := "v1/messages"
	if u, err := url.Parse(call.Deployment.Upstream.BaseURL); err == nil && strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/v1") {
		path = "messages"
	}
	u, err := address(call.Deployment.Upstream.BaseURL, path, nil)
	return &outgoing{url: u, header: header, body: body}, err
}

func anthropicSampling(body object, s *router.Sampling) error {
	if s.Temperature.Set && s.Temperature.Value > 1 {
		return errors.New("anthropic takes a temperature of 0 to 1: lower it or choose another model")
	}
	if err := errors.Join(
		lacks("anthropic", "frequency_penalty", s.FrequencyPenalty.Set, s.FrequencyPenalty.Value, 0),
		lacks("anthropic", "presence_penalty", s.PresencePenalty.Set, s.PresencePenalty.Value, 0),
	); err != nil {
		return err
	}
	if s.Temperature.Set {
		body["temperature"] = s.Temperature.Value
	}
	if s.TopP.Set {
		body["top_p"] = s.TopP.Value
	}
	if s.TopK.Set {
		body["top_k"] = s.TopK.Value
	}
	if len(s.Stop) > 0 {
		body["stop_sequences"] = s.Stop
	}
	return nil
}

func anthropicTools(body object, in *router.Input) error {
	if len(in.Tools) == 0 {
		return nil
	}
	tools := make([]object, len(in.Tools))
	for i := range in.Tools {
		schema, err := schemaOf(&in.Tools[i])
		if err != nil {
			return err
		}
		tools[i] = object{"name": in.Tools[i].Name, "input_schema": schema}
		if d := in.Tools[i].Description; d != "" {
			tools[i]["description"] = d
		}
	}
	body["tools"] = tools
	switch in.Choice.Mode {
	case router.ToolsAuto:
		body["tool_choice"] = object{"type": "auto"}
	case router.ToolsNone:
		body["tool_choice"] = object{"type": "none"}
	case router.ToolsRequired:
		body["tool_choice"] = object{"type": "any"}
	case router.ToolsNamed:
		body["tool_choice"] = object{"type": "tool", "name": in.Choice.Name}
	}
	return nil
}

// anthropicMessages has roles alternate: neighbours of one role are joined, and
// tool results are the user's.
func anthropicMessages(in *router.Input) ([]object, error) {
	var out []object
	last := ""
	for _, m := range in.Messages {
		if m.Role == classifier.System {
			continue
		}
		role := "user"
		if m.Role == classifier.Assistant {
			role = "assistant"
		}
		var blocks []object
		for _, p := range m.Parts {
			b, err := anthropicBlock(p)
			if err != nil {
				return nil, err
			}
			if b != nil {
				blocks = append(blocks, b)
			}
		}
		if len(blocks) == 0 {
			continue
		}
		if role == last {
			before, _ := out[len(out)-1]["content"].([]object)
			out[len(out)-1]["content"] = append(before, blocks...)
			continue
		}
		out, last = append(out, object{"role": role, "content": blocks}), role
	}
	return out, nil
}

func anthropicBlock(p router.Part) (object, error) {
	switch {
	case p.Media != nil:
		return anthropicMedia(p.Media)
	case p.Call != nil:
		args, err := arguments(p.Call)
		if err != nil {
			return nil, err
		}
		return object{"type": "tool_use", "id": p.Call.ID, "name": p.Call.Name, "input": args}, nil
	case p.Result != nil:
		b := object{"type": "tool_result", "tool_use_id": p.Result.CallID, "content": p.Result.Content}
		if p.Result.IsError {
			b["is_error"] = true
		}
		return b, nil
	case p.Text != "":
		return object{"type": "text", "text": p.Text}, nil
	default:
		return nil, nil // an empty part, which the API refuses
	}
}

func anthropicMedia(m *router.Media) (object, error) {
	kind := family(m.MIMEType)
	source := object{"type": "base64", "media_type": m.MIMEType}
	switch {
	case kind == "audio":
		return nil, errors.New("anthropic takes no audio: choose another model")
	case kind == "document" && m.MIMEType != "application/pdf" && m.MIMEType != "text/plain":
		return nil, errors.New("anthropic takes documents as application/pdf or text/plain")
	case m.URL != "":
		source = object{"type": "url", "url": m.URL}
	case m.MIMEType == "text/plain":
		source = object{"type": "text", "media_type": m.MIMEType, "data": string(m.Data)}
	default:
		source["data"] = base64Of(m.Data)
	}
	return object{"type": kind, "source": source}, nil
}

func (anthropic) failure(body []byte) fault {
	var f struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &f) != nil {
		return fault{}
	}
	return fault{codes: []string{f.Error.Type}, message: f.Error.Message}
}
