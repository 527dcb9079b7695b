package upstream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// object is a JSON object in the making.
type object map[string]any

// family is what kind of media a MIME type is.
func family(mime string) string {
	kind, _, _ := strings.Cut(strings.ToLower(mime), ";")
	switch {
	case strings.HasPrefix(kind, "image/"):
		return "image"
	case strings.HasPrefix(kind, "audio/"):
		return "audio"
	default:
		return "document"
	}
}

// checkMedia holds to one source: bytes, or an address that the provider
// fetches over https.
func checkMedia(m *router.Media) error {
	if (len(m.Data) > 0) == (m.URL != "") {
		return errors.New("media needs either data or a URL, and not both")
	}
	if m.URL != "" {
		if u, err := url.Parse(m.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return errors.New("a media URL is no https address without user info")
		}
	}
	if m.MIMEType == "" {
		return errors.New("media has no MIME type")
	}
	return nil
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func dataURL(m *router.Media) string { return "data:" + m.MIMEType + ";base64," + base64Of(m.Data) }

// schemaOf is a tool's schema; a tool without one takes no arguments.
func schemaOf(t *router.ToolDefinition) (json.RawMessage, error) {
	schema := bytes.TrimSpace(t.Schema)
	if len(schema) == 0 {
		return json.RawMessage(`{"type":"object","properties":{}}`), nil
	}
	if !json.Valid(schema) || schema[0] != '{' {
		return nil, errors.New("a tool's schema is no JSON object: give a JSON Schema of type object")
	}
	return json.RawMessage(schema), nil
}

// arguments is a call's arguments as a JSON object; none is an empty one.
func arguments(c *router.ToolCall) (json.RawMessage, error) {
	text := strings.TrimSpace(c.Arguments)
	if text == "" {
		return json.RawMessage(`{}`), nil
	}
	if !json.Valid([]byte(text)) || text[0] != '{' {
		return nil, errors.New("a tool call's arguments are no JSON object")
	}
	return json.RawMessage(text), nil
}

// callNames maps the ids of the calls in the history to the tools' names.
func callNames(in *router.Input) map[string]string {
	names := map[string]string{}
	for _, m := range in.Messages {
		for _, p := range m.Parts {
			if p.Call != nil {
				names[p.Call.ID] = p.Call.Name
			}
		}
	}
	return names
}

// checkInput refuses what no dialect can say.
func checkInput(in *router.Input) error {
	if f := in.Format; len(f.JSONSchema) > 0 {
		if s := bytes.TrimSpace(f.JSONSchema); !json.Valid(s) || len(s) == 0 || s[0] != '{' {
			return errors.New("the answer's JSON schema is no JSON object")
		}
	}
	if in.Choice.Mode == router.ToolsNamed && !slices.ContainsFunc(in.Tools, func(t router.ToolDefinition) bool { return t.Name == in.Choice.Name }) {
		return errors.New("the tool choice names a tool that is not among the tools")
	}
	if in.Choice.Mode == router.ToolsRequired && len(in.Tools) == 0 {
		return errors.New("the tool choice requires a tool, but there are none")
	}
	for i, m := range in.Messages {
		for _, p := range m.Parts {
			if err := checkPart(m.Role, p); err != nil {
				return fmt.Errorf("message %d: %w", i, err)
			}
		}
	}
	return nil
}

func checkPart(role classifier.Role, p router.Part) error {
	switch {
	case p.Media != nil && role != classifier.User:
		return errors.New("media stands in a message that is not the user's")
	case p.Media != nil:
		return checkMedia(p.Media)
	case p.Call != nil && role != classifier.Assistant:
		return errors.New("a tool call stands in a message that is not the assistant's")
	case p.Result != nil && role != classifier.Tool && role != classifier.User:
		return errors.New("a tool result stands in a message that is neither a tool's nor the user's")
	default:
		return nil
	}
}

// texts joins a message's text parts by a newline.
func texts(m router.ChatMessage) string {
	var out []string
	for _, p := range m.Parts {
		if p.Text != "" {
			out = append(out, p.Text)
		}
	}
	return strings.Join(out, "\n")
}

// systemText joins the system messages, which two dialects have in one place.
func systemText(in *router.Input) []string {
	var out []string
	for _, m := range in.Messages {
		if m.Role == classifier.System {
			if t := texts(m); t != "" {
				out = append(out, t)
			}
		}
	}
	return out
}

// lacks refuses a sampling parameter that a dialect does not have. At its
// neutral value it changes nothing and may be dropped.
func lacks(dialect, name string, set bool, value, neutral float64) error {
	if !set || value == neutral {
		return nil
	}
	return fmt.Errorf("%s has no %s: leave it out or choose another model", dialect, name)
}

// decode parses an event's data strictly enough to trust it: one JSON value of
// the wanted shape, nothing after it. Unknown fields are the provider's right.
// The decoder's own words may quote the answer, so they are not passed on.
func decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return protocolFault("an event of %d bytes is not the JSON that the dialect promises", len(data))
	}
	return nil
}

// count is a token count that must make sense.
func count(n int64) (int64, error) {
	if n < 0 {
		return 0, protocolFault("the provider counts %d tokens", n)
	}
	return n, nil
}

// usageOf holds to the invariant of router.Usage: parts are within their whole.
// Parts that a provider counts beside the whole are added to it by the caller;
// what is still too large is cut, because the whole is what is billed.
func usageOf(u router.Usage) (*router.Usage, error) {
	for _, n := range []int64{u.Input, u.CachedInput, u.CacheWrite, u.Output, u.Reasoning} {
		if _, err := count(n); err != nil {
			return nil, err
		}
		if n > 1<<40 {
			return nil, protocolFault("the provider counts %d tokens", n)
		}
	}
	u.CachedInput = min(u.CachedInput, u.Input)
	u.CacheWrite = min(u.CacheWrite, u.Input-u.CachedInput)
	u.Reasoning = min(u.Reasoning, u.Output)
	return &u, nil
}

// strictSchema tells a schema that providers can enforce to the letter: every
// object closed, and every property of it required.
func strictSchema(raw json.RawMessage) bool {
	var v any
	return json.Unmarshal(raw, &v) == nil && strictValue(v)
}

func strictValue(v any) bool {
	switch v := v.(type) {
	case []any:
		return !slices.ContainsFunc(v, func(x any) bool { return !strictValue(x) })
	case map[string]any:
		if properties, ok := v["properties"].(map[string]any); ok || v["type"] == "object" {
			required, _ := v["required"].([]any)
			if v["additionalProperties"] != false || len(required) != len(properties) {
				return false
			}
		}
		for _, x := range v {
			if !strictValue(x) {
				return false
			}
		}
	}
	return true
}
