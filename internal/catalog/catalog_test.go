package catalog_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/catalog"
	"github.com/weirhq/weir/router"
)

func update() bool {
	f := flag.Lookup("test.run")
	return f != nil && os.Getenv("WEIR_UPDATE") != ""
}

func read(t *testing.T, name string) *catalog.File {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	f, err := catalog.Read(raw, "")
	require.NoError(t, err)
	return f
}

func none(string) string { return "" }

func parse(t *testing.T, text string) *router.Rules {
	t.Helper()
	r, err := router.ParseConfig([]byte(text), "test.yaml", none)
	require.NoError(t, err)
	return r
}

var options = catalog.WriteOptions{Source: "sample", Date: "2026-01-02", Whole: true}

func whole(t *testing.T, entries []catalog.Entry, o catalog.WriteOptions) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, catalog.Write(&b, entries, o))
	return b.String()
}

// TestWhatIsWritten holds the written configs of both formats against files that
// a person has read.
func TestWhatIsWritten(t *testing.T) {
	for _, name := range []string{"litellm", "openrouter"} {
		got := whole(t, read(t, name+".json").Entries, options)
		golden := filepath.Join("testdata", name+".yaml")
		if update() {
			require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, "WEIR_UPDATE=1 writes it anew")
	}
}

func TestWhatIsReadIsExactAndUnknownStaysUnknown(t *testing.T) {
	f := read(t, "litellm.json")
	assert.Equal(t, catalog.LiteLLM, f.Format)
	assert.Equal(t, map[string]int{"no model entry": 1, "not called through chat completions": 2}, f.Skipped)
	of := func(f *catalog.File, key string) catalog.Entry {
		got := f.Match([]string{key}, nil)
		require.Len(t, got, 1, key)
		return got[0]
	}
	claude := of(f, "claude-sample-1")
	assert.Equal(t, router.Price{
		Input: router.RateOf(3_000_000_000), CachedInput: router.RateOf(300_000_000), CacheWrite: router.RateOf(3_750_000_000),
		Output: router.RateOf(15_000_000_000), Source: "https://platform.claude.com/docs/pricing",
	}, claude.Price)
	assert.Equal(t, []string{"tools", "json", "vision", "documents", "reasoning"}, claude.Capabilities.Names())
	assert.Equal(t, []string{"text", "image", "document"}, claude.Modalities)
	gemini := of(f, "gemini/gemini-sample-pro")
	assert.Equal(t, "google/gemini-sample-pro", gemini.ID)
	assert.Equal(t, router.RateOf(200_000_000), gemini.Price.Input, "binary noise is no price")
	assert.False(t, gemini.Price.Reasoning.Known, "the same as output is not said twice")
	assert.EqualValues(t, 200_000, gemini.Window, "the window ends where the price does")
	assert.Contains(t, strings.Join(gemini.Notes, "\n"), "retires it on 2027-05-01")
	qwen := of(f, "dashscope/qwen-sample")
	assert.Equal(t, router.RateOf(400_000_000), qwen.Price.Input)
	assert.EqualValues(t, 256_000, qwen.Window)
	zai := of(f, "zai/sample-free")
	assert.False(t, zai.Price.Input.Known, "nothing is no price of a provider that bills")
	assert.Contains(t, zai.Notes[0], "the catalog says $0, and zai bills")
	assert.Equal(t, router.RateOf(0), of(f, "ollama/sample").Price.Input, "one's own machine is free")
	assert.False(t, of(f, "mistral/sample-unpriced").Price.Output.Known, "half a price is none")
	assert.Equal(t, router.RateOf(5_000_000), of(f, "nowhere/sample").Price.PerRequest)

	o := read(t, "openrouter.json")
	assert.Equal(t, map[string]int{"gives no text": 1}, o.Skipped)
	large := of(o, "acme/sample-large")
	assert.Equal(t, router.RateOf(25_000_000_000), large.Price.Output)
	assert.False(t, large.Price.Reasoning.Known)
	assert.EqualValues(t, 180_000, large.Window, "the serving provider's window counts")
	assert.Equal(t, router.RateOf(0), of(o, "acme/sample-small:free").Price.Input)
	assert.False(t, of(o, "acme/auto").Price.Input.Known, "a price that varies is unknown")
	assert.Equal(t, router.RateOf(5_000_000), of(o, "acme/search").Price.PerRequest)
	assert.Len(t, f.Match([]string{"*sample-p*", "zai/*"}, nil), 2)
	assert.Empty(t, f.Match([]string{"other*"}, nil))
	assert.Len(t, f.Match(nil, []string{"dashscope", "google"}), 2, "by the catalog's name or the config's")
	assert.Empty(t, f.Match([]string{"claude*"}, []string{"zai"}))
}

// TestAnImportIsAConfig: what can be written in full is a sound config, and
// comparing it with the catalog that it came from finds nothing.
func TestAnImportIsAConfig(t *testing.T) {
	f := read(t, "litellm.json")
	sound := f.Match([]string{"claude*", "gemini/*", "dashscope/*", "together_ai/*", "ollama/*", "zai/*", "mistral/*"}, nil)
	r := parse(t, whole(t, sound, options))
	assert.Len(t, r.Catalog.Models(), 7)
	d := catalog.CompareWith(r, f)
	assert.Empty(t, d.Changes)
	assert.Equal(t, 7, d.Compared)
	assert.Empty(t, d.Unknown)
	m, _ := r.Catalog.Model("anthropic/claude-sample-1")
	assert.Equal(t, "sample: platform.claude.com/docs/pricing", m.Price.Source)
	assert.Equal(t, router.HighPerformance, m.Tier)
	_, err := router.ParseConfig([]byte(whole(t, f.Entries, options)), "test.yaml", none)
	require.ErrorContains(t, err, `upstreams[`)
	require.ErrorContains(t, err, `"" is not an http(s) address`, "an address that nobody knows is a fault, not a guess")
	o := options
	o.Tier = router.Efficient
	assert.NotContains(t, whole(t, sound, o), "a guess")
	require.Error(t, catalog.Write(&bytes.Buffer{}, sound, catalog.WriteOptions{Source: "s"}))
}

func TestTextOfAFileStaysText(t *testing.T) {
	f, err := catalog.Read([]byte(`{"x/a\"}\nmodels: []": {"litellm_provider": "x\ny", "mode": "chat", "source": "a\nb", "deprecation_date": "\n- id: evil", "max_input_tokens": 10, "max_output_tokens": 5,
		"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}}`), catalog.LiteLLM)
	require.NoError(t, err)
	got := whole(t, f.Entries, options)
	_, err = router.ParseConfig([]byte(got), "x.yaml", none)
	require.ErrorContains(t, err, "is not an http(s) address", got)
	assert.Equal(t, 1, strings.Count(got, "\nmodels:"), got)
	assert.NotContains(t, got, "\n- id: evil")
}

func TestWhatIsNoCatalog(t *testing.T) {
	for _, text := range []string{"", "[]", "version: 1", "{}", `{"data": []}`, `{"a": 1}`, `{"data": [1]}`} {
		_, err := catalog.Read([]byte(text), "")
		require.ErrorIs(t, err, catalog.ErrNoCatalog, text)
	}
	_, err := catalog.Read([]byte("{}"), "csv")
	require.ErrorContains(t, err, "use litellm or openrouter")
}

func TestCompareFindsEveryChange(t *testing.T) {
	f := read(t, "litellm.json")
	before := whole(t, f.Match([]string{"claude*", "gemini/*", "dashscope/*"}, nil), options)
	change := strings.NewReplacer(
		`input: "$3.00/M"`, `input: "$4.00/M"`, "max_output_tokens: 64000", "max_output_tokens: 32000",
		"capabilities: [audio]", "capabilities: [audio, tools]", "https://api.anthropic.com", "https://eu.example",
		`"alibaba/qwen-sample"`, `"alibaba/qwen-other"`, "gemini-sample-pro\"}", "gemini-sample-ultra\"}",
	)
	a, b := parse(t, before), parse(t, change.Replace(before))
	assert.Empty(t, catalog.Compare(a, a).Changes)
	d := catalog.Compare(a, b)
	assert.Equal(t, 2, d.Compared)
	var got []string
	for _, c := range d.Changes {
		got = append(got, c.Model+" "+c.What+": "+c.Before+" -> "+c.After)
	}
	assert.Equal(t, []string{
		"upstream anthropic upstream: anthropic https://api.anthropic.com -> anthropic https://eu.example",
		"alibaba/qwen-sample model: EFFICIENT, $0.40/M in, $1.60/M out -> ",
		"anthropic/claude-sample-1 max_output_tokens: 64000 -> 32000",
		"anthropic/claude-sample-1 price.input: $3.00/M -> $4.00/M",
		"google/gemini-sample-pro capabilities: audio -> tools audio",
		"google/gemini-sample-pro deployments: google:gemini-sample-pro -> google:gemini-sample-ultra",
		"alibaba/qwen-other model:  -> EFFICIENT, $0.40/M in, $1.60/M out",
	}, got)
}

func TestCompareWithACatalogFindsStalePrices(t *testing.T) {
	f := read(t, "litellm.json")
	text := whole(t, f.Match([]string{"claude*", "gemini/*", "zai/*"}, nil), options)
	text = strings.NewReplacer(`output: "$15.00/M"`, `output: "$14.00/M"`, `cached_input: "$0.30/M", `, "", "max_output_tokens: 64000", "max_output_tokens: 64001",
		`"gemini-sample-pro"}`, `"gone"}`).Replace(text)
	d := catalog.CompareWith(parse(t, text), f)
	assert.Equal(t, []catalog.Change{
		{Model: "anthropic/claude-sample-1 at anthropic", What: "price.cached_input", Before: "not stated", After: "$0.30/M"},
		{Model: "anthropic/claude-sample-1 at anthropic", What: "price.output", Before: "$14.00/M", After: "$15.00/M"},
		{Model: "anthropic/claude-sample-1 at anthropic", What: "max_output_tokens", Before: "64001", After: "64000"},
	}, d.Changes)
	assert.Equal(t, []string{"google/gemini-sample-pro at google"}, d.Unknown)
	assert.Equal(t, 2, d.Compared)
}

// TestShippedUpstreamsAreKnown: every upstream of the embedded config is one
// that an import would write, so that its prices can be compared with a catalog.
func TestShippedUpstreamsAreKnown(t *testing.T) {
	r := parse(t, string(router.DefaultConfig()))
	d := catalog.CompareWith(r, &catalog.File{Entries: []catalog.Entry{}})
	deployments := 0
	for _, m := range r.Catalog.Models() {
		deployments += len(m.Deployments)
	}
	assert.Len(t, d.Unknown, deployments)
	for _, u := range r.Upstreams {
		text := whole(t, []catalog.Entry{{Key: "x", ID: "x/x", Name: "x", Provider: litellmName(u.ID)}}, options)
		assert.Contains(t, text, `{id: "`+u.ID+`", dialect: `+u.Dialect+`, base_url: "`+u.BaseURL+`", key_env: `+u.KeyEnv+"}")
	}
}

func litellmName(id string) string {
	for lite, own := range map[string]string{
		"gemini": "google", "dashscope": "alibaba", "cohere_chat": "cohere", "amazon_nova": "amazon", "together_ai": "together", "fireworks_ai": "fireworks",
	} {
		if own == id {
			return lite
		}
	}
	return id
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"litellm.json", "openrouter.json"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := catalog.Read(raw, "")
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := catalog.Write(&b, file.Entries, options); err != nil {
			t.Fatal(err)
		}
		r, err := router.ParseConfig(b.Bytes(), "fuzz", none)
		if err != nil {
			if strings.Contains(err.Error(), "yaml") || strings.Contains(err.Error(), "unknown key") || strings.Contains(err.Error(), "is there twice") {
				t.Fatalf("an import is no YAML of the config's shape: %v\n%s", err, b.String())
			}
			return
		}
		if d := catalog.CompareWith(r, file); d.Compared > 0 {
			for _, c := range d.Changes {
				if strings.HasPrefix(c.What, "price") {
					t.Fatalf("an import differs from what it came from: %+v\n%s", c, b.String())
				}
			}
		}
	})
}
