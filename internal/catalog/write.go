package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weirhq/weir/router"
)

// flagship is the output price from which a model of unknown standing is taken
// for a flagship: a guess, and marked as one.
const flagship router.NanoUSD = 4_000_000_000

// WriteOptions say what the catalog does not.
type WriteOptions struct {
	// Source and Date (YYYY-MM-DD) say where and when the file was fetched; both
	// are needed.
	Source, Date string
	// Tier is every model's tier; 0 guesses it from the output price.
	Tier router.Tier
	// Whole writes a config that stands by itself, with one policy, in place of
	// the two lists.
	Whole bool
}

// Write writes entries as a config has them: the upstreams that they need, then
// the models. What a person must still settle stands there as a comment, and
// what a config cannot do without and the catalog does not state is left so that
// `weir check` finds it.
func Write(w io.Writer, entries []Entry, o WriteOptions) error {
	if o.Source == "" || o.Date == "" {
		return errors.New("write catalog: source and date are needed: say where and when the file was fetched")
	}
	var b strings.Builder
	if o.Whole {
		b.WriteString("version: 1\ndefault_policy: balanced\n\n")
	}
	b.WriteString("upstreams:\n")
	seen := map[string]bool{}
	for _, e := range entries {
		if p := providerNamed(e.Provider); !seen[p.id] {
			seen[p.id] = true
			writeUpstream(&b, p)
		}
	}
	b.WriteString("\nmodels:\n")
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(a.ID, b.ID) })
	for i := range entries {
		if i > 0 && entries[i].ID == entries[i-1].ID {
			fmt.Fprintf(&b, "  # %s: left out, its id is taken by the one above\n", oneLine(entries[i].Key))
			continue
		}
		writeModel(&b, &entries[i], o)
	}
	if o.Whole {
		b.WriteString("\npolicies:\n  - {id: balanced, max_quality_gap: 0.15}\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	return nil
}

func writeUpstream(b *strings.Builder, p provider) {
	if p.baseURL == "" {
		fmt.Fprintf(b, "  # The address of %s is not known here: write it, and the dialect that it speaks.\n", oneLine(p.name))
	}
	fmt.Fprintf(b, "  - {id: %s, dialect: %s, base_url: %s", text(p.id), p.dialect, text(p.baseURL))
	if p.keyEnv != "" {
		fmt.Fprintf(b, ", key_env: %s", p.keyEnv)
	}
	b.WriteString("}\n")
}

func writeModel(b *strings.Builder, e *Entry, o WriteOptions) {
	fmt.Fprintf(b, "  - id: %s\n", text(e.ID))
	for _, n := range e.Notes {
		fmt.Fprintf(b, "    # %s\n", n)
	}
	tier, why := o.Tier, ""
	switch {
	case tier != 0:
	case !e.Price.Output.Known:
		tier, why = router.Efficient, " # a guess: the price is unknown; docs/catalog.md says how to tell"
	case e.Price.Output.Nano >= flagship:
		tier, why = router.HighPerformance, " # a guess from the output price; docs/catalog.md says how to tell"
	default:
		tier, why = router.Efficient, " # a guess from the output price; docs/catalog.md says how to tell"
	}
	fmt.Fprintf(b, "    tier: %s%s\n", tier, why)
	window, output := e.Window, e.MaxOutput
	if window == 0 {
		b.WriteString("    context_window: 0 # not stated: look it up\n")
	} else {
		fmt.Fprintf(b, "    context_window: %d\n", window)
	}
	switch {
	case output == 0 || output > window:
		fmt.Fprintf(b, "    max_output_tokens: %d # not stated, or more than the window\n", window)
	default:
		fmt.Fprintf(b, "    max_output_tokens: %d\n", output)
	}
	fmt.Fprintf(b, "    modalities: [%s]\n    capabilities: [%s]\n", strings.Join(e.Modalities, ", "), strings.Join(e.Capabilities.Names(), ", "))
	if e.Price.Input.Known {
		fmt.Fprintf(b, "    price: {%s, source: %s, date: \"%s\"}\n", figures(&e.Price), text(sourceOf(e, o)), o.Date)
	} else {
		b.WriteString("    # price: unknown\n")
	}
	fmt.Fprintf(b, "    deployments: [{upstream: %s, name: %s}]\n", text(providerNamed(e.Provider).id), text(e.Name))
}

func sourceOf(e *Entry, o WriteOptions) string {
	if e.Price.Source == "" || strings.Contains(o.Source, e.Price.Source) {
		return o.Source
	}
	return o.Source + ": " + strings.TrimPrefix(e.Price.Source, "https://")
}

// kinds are the names of a price's parts in a config, with their units.
func kinds(p *router.Price) []struct {
	Key, Unit string
	Rate      router.Rate
} {
	return []struct {
		Key, Unit string
		Rate      router.Rate
	}{
		{"input", "/M", p.Input},
		{"cached_input", "/M", p.CachedInput},
		{"cache_write", "/M", p.CacheWrite},
		{"output", "/M", p.Output},
		{"reasoning", "/M", p.Reasoning},
		{"per_request", "", p.PerRequest},
	}
}

func figures(p *router.Price) string {
	var parts []string
	for _, k := range kinds(p) {
		if k.Rate.Known {
			parts = append(parts, fmt.Sprintf("%s: \"%s%s\"", k.Key, k.Rate.Nano, k.Unit))
		}
	}
	return strings.Join(parts, ", ")
}

// text quotes a string that came from a file; JSON's quoting is YAML's too.
func text(s string) string {
	raw, err := json.Marshal(oneLine(s))
	if err != nil {
		return `""`
	}
	return string(raw)
}
