package catalog

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/weirhq/weir/router"
)

// liteModel is an entry of LiteLLM's model_prices_and_context_window.json, as
// far as a config has a place for it. Prices are dollars a token.
type liteModel struct {
	Provider   string      `json:"litellm_provider"`
	Mode       string      `json:"mode"`
	Source     string      `json:"source"`
	Deprecated string      `json:"deprecation_date"`
	Endpoints  []string    `json:"supported_endpoints"`
	MaxTokens  json.Number `json:"max_tokens"`
	MaxInput   json.Number `json:"max_input_tokens"`
	MaxOutput  json.Number `json:"max_output_tokens"`
	PerRequest json.Number `json:"input_cost_per_request"`
	liteRates
	Tiers     []liteTier `json:"tiered_pricing"`
	Tools     bool       `json:"supports_function_calling"`
	JSON      bool       `json:"supports_response_schema"`
	Vision    bool       `json:"supports_vision"`
	Audio     bool       `json:"supports_audio_input"`
	Documents bool       `json:"supports_pdf_input"`
	Reasoning bool       `json:"supports_reasoning"`
}

type liteRates struct {
	Input      json.Number `json:"input_cost_per_token"`
	Output     json.Number `json:"output_cost_per_token"`
	CacheRead  json.Number `json:"cache_read_input_token_cost"`
	CacheWrite json.Number `json:"cache_creation_input_token_cost"`
	Thinking   json.Number `json:"output_cost_per_reasoning_token"`
}

// liteTier is a price for inputs of a range of lengths.
type liteTier struct {
	liteRates
	Range []json.Number `json:"range"`
}

func readLiteLLM(text []byte) (*File, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(text, &top); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCatalog, err)
	}
	f := &File{Format: LiteLLM, Skipped: map[string]int{}}
	above := regexp.MustCompile(`^input_cost_per_token_above_(\d+)k_tokens$`)
	for key, raw := range top {
		var m liteModel
		if err := json.Unmarshal(raw, &m); err != nil || key == "sample_spec" {
			f.Skipped["no model entry"]++
			continue
		}
		if m.Mode != "chat" || (len(m.Endpoints) > 0 && !slices.Contains(m.Endpoints, "/v1/chat/completions")) {
			f.Skipped["not called through chat completions"]++
			continue
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil {
			return nil, fmt.Errorf("entry %q: %w", key, err)
		}
		steps := []int64{}
		for name := range all {
			if g := above.FindStringSubmatch(name); g != nil {
				if k, err := strconv.ParseInt(g[1], 10, 32); err == nil {
					steps = append(steps, 1000*k)
				}
			}
		}
		f.Entries = append(f.Entries, m.entry(key, steps))
	}
	return f, nil
}

// entry turns a model into an entry whose window ends where its first price does.
func (m *liteModel) entry(key string, steps []int64) Entry {
	p := providerNamed(m.Provider)
	name := strings.TrimPrefix(key, p.prefix)
	e := Entry{Key: key, Provider: m.Provider, Name: name, ID: safeID(p.id + "/" + name[strings.LastIndex(name, "/")+1:])}
	rates := m.liteRates
	if rates.Input == "" && len(m.Tiers) > 0 {
		rates = m.Tiers[0].liteRates
		if r := m.Tiers[0].Range; len(r) == 2 && len(m.Tiers) > 1 {
			steps = append(steps, tokens(r[1]))
		}
	}
	e.Price = router.Price{
		Source:      oneLine(m.Source),
		Input:       e.rate("input", rates.Input.String(), PerToken),
		Output:      e.rate("output", rates.Output.String(), PerToken),
		CachedInput: e.rate("cached input", rates.CacheRead.String(), PerToken),
		CacheWrite:  e.rate("cache write", rates.CacheWrite.String(), PerToken),
		Reasoning:   e.rate("reasoning", rates.Thinking.String(), PerToken),
		PerRequest:  e.rate("request", m.PerRequest.String(), PerRequest),
	}
	e.settle(!p.paid())
	e.Window, e.MaxOutput = tokens(m.MaxInput), tokens(m.MaxOutput)
	if e.Window == 0 {
		e.Window = tokens(m.MaxTokens)
	}
	if len(steps) > 0 {
		if first := slices.Min(steps); first > 0 && (first < e.Window || e.Window == 0) {
			e.note("the window of %d ends at %d here: a longer input has another price", e.Window, first)
			e.Window = first
		}
	}
	if m.Deprecated != "" {
		e.note("the provider retires it on %.10s", m.Deprecated)
	}
	e.Modalities, e.Capabilities = abilities(m.Tools, m.JSON, m.Vision, m.Audio, m.Documents, m.Reasoning)
	return e
}

// abilities maps what a catalog says a model can do to a config's words.
func abilities(tools, jsonSchema, vision, audio, documents, reasoning bool) ([]string, router.Capabilities) {
	modalities := []string{"text"}
	var caps router.Capabilities
	for _, x := range [...]struct {
		has      bool
		cap      router.Capabilities
		modality string
	}{
		{tools, router.Tools, ""},
		{jsonSchema, router.JSON, ""},
		{vision, router.Vision, "image"},
		{audio, router.Audio, "audio"},
		{documents, router.Documents, "document"},
		{reasoning, router.Reasoning, ""},
	} {
		if !x.has {
			continue
		}
		caps |= x.cap
		if x.modality != "" {
			modalities = append(modalities, x.modality)
		}
	}
	return modalities, caps
}
