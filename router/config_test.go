package router_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func none(string) string { return "" }

func TestDefaultConfigIsSound(t *testing.T) {
	r, err := router.ParseConfig(router.DefaultConfig(), "embedded", none)
	require.NoError(t, err)
	tiers := map[router.Tier]int{}
	for _, m := range r.Catalog.Models() {
		tiers[m.Tier]++
		assert.True(t, m.Price.Input.Known && m.Price.Output.Known && m.Price.Source != "" && m.Price.Date != "", m.ID)
		assert.False(t, m.Callable(), "%s: no key is set", m.ID)
		assert.Nil(t, m.Quality, "%s: nothing was measured on it", m.ID)
	}
	for _, tier := range []router.Tier{router.Efficient, router.HighPerformance, router.DomainSpecialist} {
		assert.Positive(t, tiers[tier], tier)
	}
	assert.Regexp(t, `^sha256:[0-9a-f]{64}$`, r.Digest)
	keyed, err := router.ParseConfig(router.DefaultConfig(), "embedded", func(k string) string { return map[string]string{"OPENAI_API_KEY": "x"}[k] })
	require.NoError(t, err)
	m, _ := keyed.Catalog.Model("openai/gpt-5.6-sol")
	assert.True(t, m.Callable())
	assert.Equal(t, r.Digest, keyed.Digest, "keys are no part of the config's identity")
}

// TestEveryFaultAtOnce holds a file with everything wrong against the faults
// that it must give: line, key and remedy of each.
func TestEveryFaultAtOnce(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "config", "bad.yaml"))
	require.NoError(t, err)
	_, err = router.ParseConfig(text, "bad.yaml", none)
	var bad *router.ConfigError
	require.ErrorAs(t, err, &bad)
	want := []string{
		`bad.yaml:1: version: is 2`,
		`bad.yaml:2: default_policy: "nope" is no policy`,
		`bad.yaml:3: unknown key "colour"`,
		`bad.yaml:5: upstreams[0].dialect: "smtp" is unknown: use openai`,
		`bad.yaml:5: upstreams[0].base_url: "ftp://x" is not`,
		`bad.yaml:5: upstreams[0].key_file: stands beside key_env`,
		`bad.yaml:6: upstreams[1].base_url: "https://user:xxxxx@x/v1" is not`,
		`bad.yaml:6: upstreams[1].data_collection: "maybe" is unknown`,
		`bad.yaml:6: upstreams[1].id: "a" is there twice`,
		`bad.yaml:9: models[0].tier: tier "BIG" is unknown: use EFFICIENT`,
		`bad.yaml:10: models[0].context_window: is 0`,
		`bad.yaml:11: models[0].max_output_tokens: is 5, want 1 to the context window`,
		`bad.yaml:12: models[0].price.input: "2.50" has the wrong unit`,
		`bad.yaml:12: models[0].price.output: "$3" has the wrong unit`,
		`bad.yaml:12: models[0].price.source: source and date are needed`,
		`bad.yaml:13: models[0].ttft: "800" is no positive duration`,
		`bad.yaml:14: models[0].modalities[0]: "smell" is unknown`,
		`bad.yaml:15: models[0].capabilities[0]: capability "fly" is unknown`,
		`bad.yaml:16: models[0].deployments[0].upstream: "ghost" is no upstream`,
		`bad.yaml:16: models[0].deployments[0].name: is empty`,
		`bad.yaml:17: models[0].fallbacks[1]: "none" is no model`,
		`bad.yaml:19: models[1].tier: is EFFICIENT, but domains`,
		`bad.yaml:23: models[1].price: knows only one of input and output`,
		`bad.yaml:24: models[1].token_ratio: is 99`,
		`bad.yaml:26: models[1].deployments: is empty`,
		`bad.yaml:29: models[2].stands_in_for: is DOMAIN_SPECIALIST`,
		`bad.yaml:30: models[2].domains[0]: domain "cooking" is unknown`,
		`bad.yaml:33: models[2].price.date: "yesterday" is no day`,
		`bad.yaml:35: models[2].quality.efficient: is -1`,
		`bad.yaml:35: models[2].quality.evidence: is empty`,
		`bad.yaml:35: models[2].quality.domains.cooking: domain "cooking" is unknown`,
		`fallbacks: go in a circle: two -> three -> two`,
		`bad.yaml:39: policies[0].min_quality: is 1.5, want 0 to 1`,
		`bad.yaml:40: policies[0].alpha: stands beside a quality limit`,
		`bad.yaml:41: policies[0].max_cost: amount "5 cents" has no unit`,
		`bad.yaml:42: policies[0].max_price_per_million_output_tokens: "$5" has the wrong unit`,
		`bad.yaml:43: policies[0].max_ttft: "-1s" is no positive duration`,
		`bad.yaml:44: policies[0].min_tier: is above max_tier`,
		`bad.yaml:46: policies[0].unscored_tier: is DOMAIN_SPECIALIST`,
		`bad.yaml:47: policies[0].specialist_min_confidence: is 2`,
		`bad.yaml:48: policies[0].allow_models[0]: "zzz*" matches no model`,
		`bad.yaml:48: policies[0].allow_models[1]: glob "[a" is malformed`,
	}
	for _, w := range want {
		assert.Contains(t, err.Error(), w)
	}
	assert.NotContains(t, err.Error(), "secret")
	for i := 1; i < len(bad.Faults); i++ {
		assert.LessOrEqual(t, bad.Faults[i-1].Line, bad.Faults[i].Line, "faults come in the order of the lines")
	}
}

func TestTextThatIsNoConfig(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "is empty",
		"a: [1":                  "x.yaml:1:",
		"version: one":           "x.yaml:1:",
		"- list":                 "x.yaml:1:",
		"version: 1\nversion: 1": "already defined",
		string(router.DefaultConfig()) + "---\nversion: 1\n": "more than one YAML document",
	} {
		_, err := router.ParseConfig([]byte(text), "x.yaml", none)
		var bad *router.ConfigError
		require.ErrorAs(t, err, &bad, text)
		assert.Contains(t, err.Error(), want)
	}
	_, err := router.LoadConfig(filepath.Join(t.TempDir(), "gone.yaml"), none)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzParseConfig(f *testing.F) {
	f.Add(router.DefaultConfig())
	bad, err := os.ReadFile(filepath.Join("testdata", "config", "bad.yaml"))
	require.NoError(f, err)
	f.Add(bad)
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := router.ParseConfig(text, "fuzz", none)
		var bad *router.ConfigError
		if err != nil && (!errors.As(err, &bad) || len(bad.Faults) == 0) {
			t.Fatalf("error is no list of faults: %v", err)
		}
		if err == nil {
			_, err := r.Decide(router.Demand{})
			var noneLeft *router.NoEligibleError
			var long *router.ContextTooLongError
			if err != nil && !errors.As(err, &noneLeft) && !errors.As(err, &long) {
				t.Fatalf("a sound config cannot decide: %v", err)
			}
		}
	})
}

// TestSchemaKnowsEveryKey holds the editors' schema against the struct that is
// decoded: same keys at every level.
func TestSchemaKnowsEveryKey(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "docs", "config.schema.json"))
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(raw, &schema))
	compareKeys(t, "", reflect.TypeOf(router.FileConfigForTest()), schema)
	manual, err := os.ReadFile(filepath.Join("..", "docs", "config.md"))
	require.NoError(t, err)
	for _, key := range allKeys(reflect.TypeOf(router.FileConfigForTest())) {
		assert.Contains(t, string(manual), "`"+key+"`", "docs/config.md does not explain it")
	}
}

func fields(typ reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Tag.Get("yaml") == ",inline" { // its keys stand among this struct's
			maps.Copy(out, fields(f.Type))
			continue
		}
		out[f.Tag.Get("yaml")] = f.Type
	}
	return out
}

func element(typ reflect.Type) reflect.Type {
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ
}

func allKeys(typ reflect.Type) []string {
	var out []string
	for key, t := range fields(typ) {
		out = append(out, key)
		if e := element(t); e.Kind() == reflect.Struct {
			out = append(out, allKeys(e)...)
		}
	}
	return out
}

func compareKeys(t *testing.T, path string, typ reflect.Type, schema map[string]any) {
	t.Helper()
	assert.Equal(t, false, schema["additionalProperties"], "%s must refuse unknown keys", path)
	properties, _ := schema["properties"].(map[string]any)
	want := fields(typ)
	for key := range properties {
		assert.Contains(t, want, key, "the schema has %s.%s, the config has not", path, key)
	}
	for key, typ := range want {
		sub, ok := properties[key].(map[string]any)
		if !assert.True(t, ok, "the schema lacks %s.%s", path, key) {
			continue
		}
		assert.NotEmpty(t, sub["description"], "%s.%s", path, key)
		if items, ok := sub["items"].(map[string]any); ok {
			sub = items
		}
		if e := element(typ); e.Kind() == reflect.Struct {
			compareKeys(t, strings.TrimPrefix(path+"."+key, "."), e, sub)
		}
	}
}
