package upstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// openAI is the dialect of OpenAI's chat completions and of all that speak it.
type openAI struct{}

// openAIHost is what is known of a server of the dialect by its address.
type openAIHost struct {
	azure, official, mistral, groq bool
}

func openAIHostOf(base string) openAIHost {
	u, err := url.Parse(base)
	if err != nil {
		return openAIHost{}
	}
	host := canonicalHost(u.Hostname())
	azure := strings.HasSuffix(host, ".openai.azure.com") || strings.HasSuffix(host, ".services.ai.azure.com") ||
		strings.HasSuffix(host, ".cognitiveservices.azure.com") || u.Query().Has("api-version")
	return openAIHost{
		azure: azure, official: azure || host == "api.openai.com" || strings.HasSuffix(host, ".api.openai.com"),
		mistral: host == "api.mistral.ai", groq: host == "api.groq.com",
	}
}

func (openAI) request(call *router.Call, key string) (*outgoing, error) {
	in, host := call.Input, openAIHostOf(call.Deployment.Upstream.BaseURL)
	if err := checkInput(in); err != nil {
		return nil, err
	}
	messages, err := openAIMessages(in)
	if err != nil {
		return nil, err
	}
	body := object{"model": call.Deployment.Name, "messages": messages, "stream": true}
	if !host.mistral {
		body["stream_options"] = object{"include_usage": true}
	}
	if host.official {
		body["max_completion_tokens"] = call.MaxOutputTokens
	} else {
		body["max_tokens"] = call.MaxOutputTokens
	}
	if err := host.sampling(body, &in.Sampling); err != nil {
		return nil, err
	}
	if err := openAITools(body, in); err != nil {
		return nil, err
	}
	switch {
	case len(in.Format.JSONSchema) > 0:
		schema := object{"name": "answer", "schema": in.Format.JSONSchema}
		if strictSchema(in.Format.JSONSchema) {
			schema["strict"] = true
		}
		body["response_format"] = object{"type": "json_schema", "json_schema": schema}
	case in.Format.JSONObject:
		body["response_format"] = object{"type": "json_object"}
	}
	header := http.Header{}
	switch {
	case key == "":
	case host.azure:
		header.Set("Api-Key", key)
	default:
		header.Set("Authorization", "Bearer "+key)
	}
	u, err := address(call.Deployment.Upstream.BaseURL, "chat/completions", nil)
	return &outgoing{url: u, header: header, body: body}, err
}

func (h openAIHost) sampling(body object, s *router.Sampling) error {
	if h.official || h.mistral || h.groq {
		if err := lacks("this provider", "top_k", s.TopK.Set, float64(s.TopK.Value), 0); err != nil {
			return err
		}
	} else if s.TopK.Set {
		body["top_k"] = s.TopK.Value
	}
	if s.Temperature.Set {
		body["temperature"] = s.Temperature.Value
	}
	if s.TopP.Set {
		body["top_p"] = s.TopP.Value
	}
	if s.FrequencyPenalty.Set {
		body["frequency_penalty"] = s.FrequencyPenalty.Value
	}
	if s.PresencePenalty.Set {
		body["presence_penalty"] = s.PresencePenalty.Value
	}
	if s.Seed.Set && h.mistral {
		body["random_seed"] = s.Seed.Value
	} else if s.Seed.Set {
		body["seed"] = s.Seed.Value
	}
	if len(s.Stop) > 0 {
		body["stop"] = s.Stop
	}
	return nil
}

func openAITools(body object, in *router.Input) error {
	if len(in.Tools) == 0 {
		return nil
	}
	tools := make([]object, len(in.Tools))
	for i := range in.Tools {
		schema, err := schemaOf(&in.Tools[i])
		if err != nil {
			return err
		}
		f := object{"name": in.Tools[i].Name, "parameters": schema}
		if d := in.Tools[i].Description; d != "" {
			f["description"] = d
		}
		tools[i] = object{"type": "function", "function": f}
	}
	body["tools"] = tools
	switch in.Choice.Mode {
	case router.ToolsAuto:
		body["tool_choice"] = "auto"
	case router.ToolsNone:
		body["tool_choice"] = "none"
	case router.ToolsRequired:
		body["tool_choice"] = "required"
	case router.ToolsNamed:
		body["tool_choice"] = object{"type": "function", "function": object{"name": in.Choice.Name}}
	}
	return nil
}

func openAIMessages(in *router.Input) ([]object, error) {
	var out []object
	for _, m := range in.Messages {
		var parts, calls []object
		var text []string
		plain := true
		for _, p := range m.Parts {
			switch {
			case p.Media != nil:
				media, err := openAIMedia(p.Media)
				if err != nil {
					return nil, err
				}
				parts, plain = append(parts, media), false
			case p.Call != nil:
				args, err := arguments(p.Call)
				if err != nil {
					return nil, err
				}
				calls = append(calls, object{"id": p.Call.ID, "type": "function", "function": object{"name": p.Call.Name, "arguments": string(args)}})
			case p.Result != nil:
				content := p.Result.Content
				if p.Result.IsError {
					content = "error: " + content // the dialect has no field for it
				}
				out = append(out, object{"role": "tool", "tool_call_id": p.Result.CallID, "content": content})
			case p.Text != "":
				parts, text = append(parts, object{"type": "text", "text": p.Text}), append(text, p.Text)
			}
		}
		if len(parts) == 0 && len(calls) == 0 {
			continue
		}
		msg := object{"role": openAIRole(m.Role)}
		// Many servers of the dialect know content only as a string.
		switch {
		case plain && len(text) > 0:
			msg["content"] = strings.Join(text, "\n")
		case !plain:
			msg["content"] = parts
		}
		if len(calls) > 0 {
			msg["tool_calls"] = calls
		}
		out = append(out, msg)
	}
	return out, nil
}

func openAIRole(r classifier.Role) string {
	switch r {
	case classifier.System:
		return "system"
	case classifier.Assistant:
		return "assistant"
	default:
		return "user" // text beside a tool's results is the user's
	}
}

func openAIMedia(m *router.Media) (object, error) {
	switch family(m.MIMEType) {
	case "image":
		at := m.URL
		if at == "" {
			at = dataURL(m)
		}
		return object{"type": "image_url", "image_url": object{"url": at}}, nil
	case "audio":
		format, ok := map[string]string{"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}[strings.ToLower(m.MIMEType)]
		if !ok || m.URL != "" {
			return nil, errors.New("the OpenAI dialect takes audio as wav or mp3 bytes only")
		}
		return object{"type": "input_audio", "input_audio": object{"data": base64Of(m.Data), "format": format}}, nil
	default:
		if m.URL != "" {
			return nil, errors.New("the OpenAI dialect takes documents as bytes only, not by URL")
		}
		name := "document"
		if m.MIMEType == "application/pdf" {
			name = "document.pdf" // the API goes by the name
		}
		return object{"type": "file", "file": object{"filename": name, "file_data": dataURL(m)}}, nil
	}
}

// openAIFault is the error object, in a body or in a stream. Its code is a word
// or a number, and some servers send the whole as a string.
type openAIFault struct {
	Message string          `json:"message"`
	Type    string          `json:"type"`
	Code    json.RawMessage `json:"code"`
	Inner   struct {
		Code string `json:"code"`
	} `json:"innererror"`
	Metadata struct {
		Reasons   []string `json:"reasons"`
		ErrorType string   `json:"error_type"`
	} `json:"metadata"`
}

func (f *openAIFault) fault() fault {
	out := fault{message: f.Message}
	var word string
	if json.Unmarshal(f.Code, &word) == nil {
		out.codes = append(out.codes, f.Inner.Code, word)
	} else {
		word = string(f.Code)
	}
	if number, err := strconv.Atoi(word); err == nil && number >= 400 && number < 600 {
		out.status = number
	}
	out.codes = append(out.codes, f.Metadata.ErrorType, f.Type)
	if len(f.Metadata.Reasons) > 0 { // OpenRouter's moderation says 403
		out.codes = append([]string{"moderation"}, out.codes...)
	}
	return out
}

// openAIError reads the value of an "error" field.
func openAIError(raw json.RawMessage) fault {
	var f openAIFault
	if json.Unmarshal(raw, &f) == nil {
		return f.fault()
	}
	var message string
	if json.Unmarshal(raw, &message) == nil {
		return fault{message: message}
	}
	return fault{}
}

func (openAI) failure(body []byte) fault {
	var whole struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &whole) == nil && len(whole.Error) > 0 {
		return openAIError(whole.Error)
	}
	// Mistral and older vLLM have the fields at the top.
	return openAIError(body)
}
