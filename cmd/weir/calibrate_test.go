package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func localSet() string { return filepath.Join("..", "..", "eval", "sets", "weir-local.jsonl") }

// card is a config whose two models are those of the set in the repository.
func twoCards(policy, quality string) string {
	model := func(id, tier, price, more string) string {
		return "  - id: " + id + "\n    tier: " + tier + "\n    context_window: 4096\n    max_output_tokens: 512\n    price: {input: \"" + price + "/M\", output: \"" + price +
			"/M\", source: test, date: \"2026-01-01\"}\n    deployments: [{upstream: u, name: x}]\n" + more
	}
	return "version: 1\ndefault_policy: p\nupstreams:\n  - {id: u, dialect: openai, base_url: \"http://localhost\"}\npolicies:\n  - id: p\n" + policy + "models:\n" +
		model("smollm2-135m-fewshot", "EFFICIENT", "$0.01", "") + model("quartet", "HIGH_PERFORMANCE", "$0.10", quality)
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(by + line)
		}
	}
	return b.String()
}

// What calibrate prints is what a config takes, word for word.
func TestWhatCalibratePrintsIsAConfig(t *testing.T) {
	code, fit, stderr := weir(t, "", "calibrate", "model", "--classifier", "lexical", "--set", "weir:"+localSet(), "--model", "quartet", "--tier", "HIGH_PERFORMANCE")
	require.Equal(t, exitOK, code, stderr)
	code, promise, stderr := weir(t, "", "calibrate", "policy", "--classifier", "lexical", "--set", "weir:"+localSet(),
		"--weak", "smollm2-135m-fewshot", "--strong", "quartet", "--epsilon", "0.5", "--alpha", "0.2", "--domains")
	require.Equal(t, exitOK, code, stderr)
	rules, err := router.ParseConfig([]byte(twoCards(indent(promise, "    "), indent(fit, "    "))), "printed", func(string) string { return "" })
	require.NoError(t, err)
	m, _ := rules.Catalog.Model("quartet")
	require.NotNil(t, m.Quality)
	assert.Contains(t, m.Quality.Evidence, "545 graded answers of quartet")
	g := rules.Policies["p"].Guarantee
	require.NotNil(t, g)
	assert.InDelta(t, 0.2, g.Alpha, 0)
	require.NotEmpty(t, g.Domains)
	assert.False(t, g.MaxQualityGap.Set, "the pooled gap was tested for every prompt, not for the rest")
	assert.Equal(t, "lexical:1", g.BundleDigest)

	code, _, stderr = weir(t, "", "calibrate", "policy", "--classifier", "lexical", "--set", "weir:"+localSet(),
		"--weak", "smollm2-135m-fewshot", "--strong", "quartet", "--epsilon", "0.5", "--alpha", "0.001")
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, stderr, "at least")
	code, _, _ = weir(t, "", "calibrate", "model", "--classifier", "lexical", "--set", "weir:"+localSet(), "--model", "quartet", "--tier", "HIGH")
	assert.Equal(t, exitUsage, code)
}

func TestPlanPrintsAPolicy(t *testing.T) {
	config := write(t, "two.yaml", twoCards("", ""))
	plan := func(args ...string) (int, string, string) {
		return weir(t, "", append([]string{"plan", "--classifier", "lexical", "--traffic", localSet(), "--config", config}, args...)...)
	}
	code, out, stderr := plan("--budget", "500/month", "--requests", "1000000")
	require.Equal(t, exitOK, code, stderr)
	assert.Contains(t, out, "1000000 requests a month")
	assert.Contains(t, out, "max_quality_gap: ")
	assert.NotContains(t, out, "no recorded outcome", "the set has them for both models")
	code, _, stderr = plan("--budget", "$0.0001/month", "--requests", "1000000")
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, stderr, "raise the budget")
	code, out, stderr = plan("--quality", "0.8", "--json")
	require.Equal(t, exitOK, code, stderr)
	assert.Contains(t, out, `"chosen"`)
	for _, args := range [][]string{{}, {"--budget", "1/day", "--quality", "0.9"}, {"--budget", "many"}} {
		code, _, _ = plan(args...)
		assert.Equal(t, exitUsage, code, args)
	}
}
