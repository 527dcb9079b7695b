package upstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// gemini is the dialect of Google's streamGenerateContent, of the Gemini API and
// of Vertex.
type gemini struct{}

// noSignature is the documented stand-in for a thought signature that the
// history does not hold.
const noSignature = "skip_thought_signature_validator"

func (gemini) request(call *router.Call, key string) (*outgoing, error) {
	in := call.Input
	if err := checkInput(in); err != nil {
		return nil, err
	}
	contents, err := geminiContents(in)
	if err != nil {
		return nil, err
	}
	config := object{"maxOutputTokens": call.MaxOutputTokens}
	geminiSampling(config, &in.Sampling)
	if len(in.Format.JSONSchema) > 0 {
		config["responseMimeType"], config["responseJsonSchema"] = "application/json", in.Format.JSONSchema
	} else if in.Format.JSONObject {
		config["responseMimeType"] = "application/json"
	}
	body := object{"contents": contents, "generationConfig": config}
	if system := systemText(in); len(system) > 0 {
		parts := make([]object, len(system))
		for i, t := range system {
			parts[i] = object{"text": t}
		}
		body["systemInstruction"] = object{"parts": parts}
	}
	if err := geminiTools(body, in); err != nil {
		return nil, err
	}
	u, header, err := geminiAddress(call, key)
	return &outgoing{url: u, header: header, body: body}, err
}

// geminiAddress names the model in the path. A base URL without a path is the
// Gemini API's; one with a path, such as Vertex's up to publishers/google, is
// taken as it is. Vertex takes an access token for a key.
func geminiAddress(call *router.Call, key string) (*url.URL, http.Header, error) {
	base := call.Deployment.Upstream.BaseURL
	path := "models/" + url.PathEscape(strings.TrimPrefix(call.Deployment.Name, "models/")) + ":streamGenerateContent"
	header := http.Header{}
	if b, err := url.Parse(base); err == nil {
		if strings.Trim(b.Path, "/") == "" {
			path = "v1beta/" + path
		}
		switch {
		case key == "":
		case strings.HasSuffix(canonicalHost(b.Hostname()), "aiplatform.googleapis.com"):
			header.Set("Authorization", "Bearer "+key)
		default:
			header.Set("X-Goog-Api-Key", key)
		}
	}
	u, err := address(base, path, url.Values{"alt": {"sse"}})
	return u, header, err
}

func geminiSampling(config object, s *router.Sampling) {
	if s.Temperature.Set {
		config["temperature"] = s.Temperature.Value
	}
	if s.TopP.Set {
		config["topP"] = s.TopP.Value
	}
	if s.TopK.Set {
		config["topK"] = s.TopK.Value
	}
	if s.FrequencyPenalty.Set {
		config["frequencyPenalty"] = s.FrequencyPenalty.Value
	}
	if s.PresencePenalty.Set {
		config["presencePenalty"] = s.PresencePenalty.Value
	}
	if s.Seed.Set {
		config["seed"] = int32(s.Seed.Value) // theirs has 32 bits, and any will do
	}
	if len(s.Stop) > 0 {
		config["stopSequences"] = s.Stop
	}
}

func geminiTools(body object, in *router.Input) error {
	if len(in.Tools) == 0 {
		return nil
	}
	functions := make([]object, len(in.Tools))
	for i := range in.Tools {
		schema, err := schemaOf(&in.Tools[i])
		if err != nil {
			return err
		}
		functions[i] = object{"name": in.Tools[i].Name, "parametersJsonSchema": schema}
		if d := in.Tools[i].Description; d != "" {
			functions[i]["description"] = d
		}
	}
	body["tools"] = []object{{"functionDeclarations": functions}}
	config := object{}
	switch in.Choice.Mode {
	case router.ToolsAuto:
		config["mode"] = "AUTO"
	case router.ToolsNone:
		config["mode"] = "NONE"
	case router.ToolsRequired:
		config["mode"] = "ANY"
	case router.ToolsNamed:
		config["mode"], config["allowedFunctionNames"] = "ANY", []string{in.Choice.Name}
	default:
		return nil
	}
	body["toolConfig"] = object{"functionCallingConfig": config}
	return nil
}

func geminiContents(in *router.Input) ([]object, error) {
	var out []object
	names, last := callNames(in), ""
	for _, m := range in.Messages {
		if m.Role == classifier.System {
			continue
		}
		role := "user"
		if m.Role == classifier.Assistant {
			role = "model"
		}
		var parts []object
		signed := false
		for _, p := range m.Parts {
			part, err := geminiPart(p, names)
			if err != nil {
				return nil, err
			}
			if part == nil {
				continue
			}
			// The first call of a step carries the signature.
			if p.Call != nil && !signed {
				part["thoughtSignature"], signed = noSignature, true
			}
			parts = append(parts, part)
		}
		if len(parts) == 0 {
			continue
		}
		if role == last {
			before, _ := out[len(out)-1]["parts"].([]object)
			out[len(out)-1]["parts"] = append(before, parts...)
			continue
		}
		out, last = append(out, object{"role": role, "parts": parts}), role
	}
	return out, nil
}

func geminiPart(p router.Part, names map[string]string) (object, error) {
	switch {
	case p.Media != nil && p.Media.URL != "":
		return object{"fileData": object{"mimeType": p.Media.MIMEType, "fileUri": p.Media.URL}}, nil
	case p.Media != nil:
		return object{"inlineData": object{"mimeType": p.Media.MIMEType, "data": base64Of(p.Media.Data)}}, nil
	case p.Call != nil:
		args, err := arguments(p.Call)
		if err != nil {
			return nil, err
		}
		return object{"functionCall": object{"name": p.Call.Name, "args": args}}, nil
	case p.Result != nil:
		name, ok := names[p.Result.CallID]
		if !ok {
			return nil, errors.New("a tool result answers a call that is not in the messages, and gemini needs the tool's name")
		}
		key := "output"
		if p.Result.IsError {
			key = "error"
		}
		return object{"functionResponse": object{"name": name, "response": object{key: p.Result.Content}}}, nil
	case p.Text != "":
		return object{"text": p.Text}, nil
	default:
		return nil, nil
	}
}

// geminiFault is google.rpc.Status as JSON.
type geminiFault struct {
	Code    int    `json:"code"`
	Status  string `json:"status"`
	Message string `json:"message"`
	Details []struct {
		Reason     string `json:"reason"`
		RetryDelay string `json:"retryDelay"`
		Violations []struct {
			QuotaID string `json:"quotaId"`
		} `json:"violations"`
	} `json:"details"`
}

func (g *geminiFault) fault() fault {
	f := fault{message: g.Message, codes: []string{g.Status}}
	if g.Code >= 400 && g.Code < 600 {
		f.status = g.Code
	}
	for _, d := range g.Details {
		if d.Reason != "" {
			f.codes = append([]string{d.Reason}, f.codes...)
		}
		if wait, err := time.ParseDuration(d.RetryDelay); err == nil && wait > 0 {
			f.wait = wait
		}
		for _, v := range d.Violations {
			// A daily quota is not back in a minute.
			if strings.Contains(v.QuotaID, "PerDay") {
				f.codes = append([]string{"quota_exceeded"}, f.codes...)
			}
		}
	}
	return f
}

func (gemini) failure(body []byte) fault {
	type whole struct {
		Error geminiFault `json:"error"`
	}
	var one whole
	if json.Unmarshal(body, &one) == nil {
		return one.Error.fault()
	}
	var list []whole // so it comes when the stream failed at once
	if json.Unmarshal(body, &list) == nil && len(list) > 0 {
		return list[0].Error.fault()
	}
	return fault{}
}
