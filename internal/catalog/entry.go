package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/weirhq/weir/router"
)

// ErrNoCatalog means that a file is in neither of the formats that are read.
var ErrNoCatalog = errors.New("is neither LiteLLM's model_prices_and_context_window.json nor the answer of OpenRouter's /api/v1/models")

// Format names a public catalog's layout.
type Format string

// The formats.
const (
	LiteLLM    Format = "litellm"
	OpenRouter Format = "openrouter"
)

// Entry is one model as a public catalog states it.
type Entry struct {
	// Key is the catalog's own name for it, Provider the catalog's name for who
	// serves it, Name what it is called there.
	Key, Provider, Name string
	// ID is the model id that a config could give it.
	ID string
	// Price holds what is stated; what is not is unknown. Source is the page that
	// the catalog names, or empty; Date is empty.
	Price router.Price
	// Window and MaxOutput are in tokens; 0 when not stated. Window ends where the
	// price does.
	Window, MaxOutput int64
	Modalities        []string
	Capabilities      router.Capabilities
	// Notes say what a person should look at before using it.
	Notes []string
}

// File is a public catalog.
type File struct {
	Format Format
	// Entries are the chat models, by key.
	Entries []Entry
	// Skipped counts what was left out, by reason.
	Skipped map[string]int
}

// Read reads a public catalog. With an empty format it looks at the layout. The
// error wraps ErrNoCatalog when the text is in another one.
func Read(text []byte, format Format) (*File, error) {
	if format == "" {
		var err error
		if format, err = sniff(text); err != nil {
			return nil, err
		}
	}
	var f *File
	var err error
	switch format {
	case LiteLLM:
		f, err = readLiteLLM(text)
	case OpenRouter:
		f, err = readOpenRouter(text)
	default:
		return nil, fmt.Errorf("format %q is unknown: use %s or %s", format, LiteLLM, OpenRouter)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s catalog: %w", format, err)
	}
	if len(f.Entries) == 0 {
		return nil, fmt.Errorf("read %s catalog: no chat model in it: the file %w", format, ErrNoCatalog)
	}
	slices.SortFunc(f.Entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return f, nil
}

func sniff(text []byte) (Format, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(text, &top); err != nil {
		return "", fmt.Errorf("the file %w: %w", ErrNoCatalog, err)
	}
	if data, ok := top["data"]; ok && bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		return OpenRouter, nil
	}
	return LiteLLM, nil
}

// Match returns the entries of which the key, the id or the name at the provider
// matches one of the globs, and whose provider is one of those named, as the
// catalog or as a config calls it; in their order. No globs or no providers: any.
// * also matches a slash.
func (f *File) Match(globs, providers []string) []Entry {
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x01") }
	var out []Entry
	for _, e := range f.Entries {
		if len(providers) > 0 && !slices.Contains(providers, e.Provider) && !slices.Contains(providers, providerNamed(e.Provider).id) {
			continue
		}
		if len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool {
			return slices.ContainsFunc([]string{e.Key, e.ID, e.Name}, func(s string) bool {
				ok, err := path.Match(flat(g), flat(s))
				return ok && err == nil
			})
		}) {
			out = append(out, e)
		}
	}
	return out
}

// rate reads a stated figure. Nothing, and what is no price, is unknown; the
// latter leaves a note.
func (e *Entry) rate(kind, figure string, read func(string) (router.NanoUSD, bool, error)) router.Rate {
	if figure == "" {
		return router.Rate{}
	}
	n, exact, err := read(figure)
	switch {
	case errors.Is(err, ErrNegative):
		e.note("the catalog gives no fixed %s price (it says %.*s)", kind, maxFigure, figure)
		return router.Rate{}
	case err != nil:
		e.note("%s price: %v", kind, err)
		return router.Rate{}
	case !exact && n == 0:
		e.note("the %s price is under a nano-dollar a million tokens, and counts as unknown", kind)
		return router.Rate{}
	}
	return router.RateOf(n)
}

// settle makes the price one that a config may state: both of input and output,
// or neither; nothing for nothing where the provider bills.
func (e *Entry) settle(free bool) {
	p := &e.Price
	if p.Input.Known && p.Output.Known && p.Input.Nano == 0 && p.Output.Nano == 0 && !free {
		e.note("the catalog says $0, and %s bills: the price counts as unknown", e.Provider)
		*p = router.Price{Source: p.Source}
		return
	}
	if p.Input.Known != p.Output.Known {
		e.note("the catalog states only one of input and output: the price counts as unknown")
	}
	if !p.Input.Known || !p.Output.Known {
		*p = router.Price{Source: p.Source} // the other kinds say nothing without them
		return
	}
	if p.CacheWrite.Known && p.CacheWrite.Nano == 0 && p.Input.Nano > 0 {
		p.CacheWrite = router.Rate{} // "no surcharge", written as 0: billed as input
	}
	if p.CachedInput.Known && p.CachedInput.Nano == 0 && p.Input.Nano > 0 {
		e.note("the catalog says that cached input is free; it counts as input here")
		p.CachedInput = router.Rate{}
	}
	if p.Reasoning == p.Output {
		p.Reasoning = router.Rate{}
	}
	if p.PerRequest.Nano == 0 {
		p.PerRequest = router.Rate{}
	}
	if p.Input.Known && (p.Input.Nano == 0 || p.Output.Nano == 0) && !free {
		e.note("one of input and output is $0: look at the provider's page")
	}
}

func (e *Entry) note(format string, args ...any) {
	e.Notes = append(e.Notes, oneLine(fmt.Sprintf(format, args...)))
}

// oneLine keeps what a file says on the line of its comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// tokens reads a count; 0 for what is none.
func tokens(n json.Number) int64 {
	if v, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return max(v, 0)
	}
	v, err := n.Float64()
	if err != nil || v != math.Trunc(v) || v < 0 || v > 1<<53 {
		return 0
	}
	return int64(v)
}
