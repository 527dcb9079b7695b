package catalog

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirhq/weir/router"
)

// openModel is an element of the data of OpenRouter's /api/v1/models. Prices are
// dollars a token, a request or an image, as decimal strings.
type openModel struct {
	ID            string      `json:"id"`
	ContextLength json.Number `json:"context_length"`
	Architecture  struct {
		Inputs  []string `json:"input_modalities"`
		Outputs []string `json:"output_modalities"`
	} `json:"architecture"`
	Pricing struct {
		Prompt     figure `json:"prompt"`
		Completion figure `json:"completion"`
		Request    figure `json:"request"`
		CacheRead  figure `json:"input_cache_read"`
		CacheWrite figure `json:"input_cache_write"`
		Thinking   figure `json:"internal_reasoning"`
	} `json:"pricing"`
	TopProvider struct {
		ContextLength json.Number `json:"context_length"`
		MaxCompletion json.Number `json:"max_completion_tokens"`
	} `json:"top_provider"`
	Parameters []string `json:"supported_parameters"`
}

// figure is a decimal, written as a string or as a number.
type figure string

// UnmarshalJSON takes both spellings, and null for none.
func (f *figure) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		*f = figure(s)
		return nil
	}
	*f = figure(strings.TrimPrefix(string(raw), "null"))
	return nil
}

func readOpenRouter(text []byte) (*File, error) {
	var top struct {
		Data []json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &top); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCatalog, err)
	}
	f := &File{Format: OpenRouter, Skipped: map[string]int{}}
	for _, raw := range top.Data {
		var m openModel
		if err := json.Unmarshal(raw, &m); err != nil || m.ID == "" {
			f.Skipped["no model entry"]++
			continue
		}
		if out := m.Architecture.Outputs; len(out) > 0 && !slices.Contains(out, "text") {
			f.Skipped["gives no text"]++
			continue
		}
		f.Entries = append(f.Entries, m.entry())
	}
	return f, nil
}

func (m *openModel) entry() Entry {
	e := Entry{Key: m.ID, Provider: "openrouter", Name: m.ID, ID: safeID(m.ID)}
	e.Price = router.Price{
		Source:      "openrouter.ai/api/v1/models",
		Input:       e.rate("input", string(m.Pricing.Prompt), PerToken),
		Output:      e.rate("output", string(m.Pricing.Completion), PerToken),
		CachedInput: e.rate("cached input", string(m.Pricing.CacheRead), PerToken),
		CacheWrite:  e.rate("cache write", string(m.Pricing.CacheWrite), PerToken),
		Reasoning:   e.rate("reasoning", string(m.Pricing.Thinking), PerToken),
		PerRequest:  e.rate("request", string(m.Pricing.Request), PerRequest),
	}
	// OpenRouter writes 0 for "no price of its own" in every kind but the two.
	if e.Price.Reasoning.Known && e.Price.Reasoning.Nano == 0 {
		e.Price.Reasoning = router.Rate{}
	}
	if e.Price.CachedInput.Known && e.Price.CachedInput.Nano == 0 {
		e.Price.CachedInput = router.Rate{}
	}
	free := strings.HasSuffix(m.ID, ":free")
	e.settle(free)
	if free {
		e.note("a free variant: OpenRouter limits its rate, and may keep what is sent")
	}
	e.Window, e.MaxOutput = tokens(m.ContextLength), tokens(m.TopProvider.MaxCompletion)
	if top := tokens(m.TopProvider.ContextLength); top > 0 && top < e.Window {
		e.Window = top
	}
	in := func(name string) bool { return slices.Contains(m.Architecture.Inputs, name) }
	takes := func(name string) bool { return slices.Contains(m.Parameters, name) }
	e.Modalities, e.Capabilities = abilities(takes("tools"), takes("structured_outputs") || takes("response_format"),
		in("image"), in("audio"), in("file"), takes("reasoning") || takes("include_reasoning"))
	return e
}
