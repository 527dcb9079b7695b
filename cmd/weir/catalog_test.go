package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const sampleCatalog = `{
  "sample-1": {"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "max_input_tokens": 200000, "max_output_tokens": 64000, "supports_function_calling": true},
  "mistral/sample-2": {"litellm_provider": "mistral", "mode": "chat", "input_cost_per_token": 1e-07, "output_cost_per_token": 3e-07,
    "max_input_tokens": 32000, "max_output_tokens": 32000}
}`

func TestCatalogList(t *testing.T) {
	code, out, _ := weir(t, "", "catalog", "list")
	require.Zero(t, code)
	assert.Regexp(t, `(?m)^openai/gpt-6-luna +efficient +0\.10 +0\.50 +272k +\(openai\)$`, out)
	assert.Regexp(t, `(?m)^moonshot/kimi-k2\.7-code +high, coding +0\.95 +4\.00 +262k +\(moonshot\) \+1$`, out)
	all := strings.Count(out, "\n") - 3
	assert.Regexp(t, `(?m)^\d+ models, \d+ of unmeasured quality$`, out)
	for _, line := range strings.Split(out, "\n") {
		assert.LessOrEqual(t, len(line), 100, "a line fits a terminal")
	}
	for args, less := range map[string]bool{
		"--tier efficient": true, "--tier HIGH_PERFORMANCE": true, "--domain medical": true, "--provider groq": true, "--tier domain-specialist --domain coding": true,
	} {
		code, out, _ := weir(t, "", append([]string{"catalog", "list"}, strings.Fields(args)...)...)
		require.Zero(t, code, args)
		n := strings.Count(out, "\n") - 3
		assert.Equal(t, less, n < all && n > 0, "%s lists %d of %d", args, n, all)
	}
	code, out, _ = weir(t, "", "catalog", "list", "--provider", "deepinfra", "--json")
	require.Zero(t, code)
	var models []listedModel
	require.NoError(t, json.Unmarshal([]byte(out), &models))
	own := 0
	for _, m := range models {
		assert.NotEmpty(t, m.Price["source"], m.ID)
		assert.Equal(t, "unmeasured", m.Quality)
		for _, d := range m.Deployments {
			if d.Price != nil {
				own++
			}
		}
	}
	assert.Positive(t, own)
	for _, bad := range [][]string{{"--tier", "big"}, {"--domain", "cooking"}, {"--provider", "nobody"}} {
		code, _, stderr := weir(t, "", append([]string{"catalog", "list"}, bad...)...)
		assert.Equal(t, exitUsage, code, bad)
		assert.Contains(t, stderr, bad[0])
	}
	code, _, stderr := weir(t, "", "catalog", "list", "--provider", "nobody")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "use one of anthropic, openai")
}

func TestCatalogImportThenDiff(t *testing.T) {
	dir := t.TempDir()
	public, config := filepath.Join(dir, "prices.json"), filepath.Join(dir, "weir.yaml")
	require.NoError(t, os.WriteFile(public, []byte(sampleCatalog), 0o600))
	code, out, stderr := weir(t, "", "catalog", "import", "--from", "litellm", "--date", "2026-01-02", "--whole", public)
	require.Zero(t, code, stderr)
	assert.Contains(t, out, `price: {input: "$3.00/M", output: "$15.00/M", source: "litellm prices.json", date: "2026-01-02"}`)
	require.NoError(t, os.WriteFile(config, []byte(out), 0o600))
	code, out, stderr = weir(t, "", "check", config)
	require.Zero(t, code, stderr)
	assert.Contains(t, out, "2 models")
	code, out, _ = weir(t, "", "catalog", "diff", config, public, "--check")
	assert.Zero(t, code)
	assert.Equal(t, "0 differences, 2 deployments found in the catalog\n", out)

	require.NoError(t, os.WriteFile(public, []byte(strings.Replace(sampleCatalog, "1.5e-05", "1.2e-05", 1)), 0o600))
	code, out, stderr = weir(t, "", "catalog", "diff", config, public, "--check")
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, stderr, "1 differences")
	assert.Contains(t, out, "~ anthropic/sample-1 at anthropic  price.output  $15.00/M -> $12.00/M\n")
	code, out, _ = weir(t, "", "catalog", "diff", config, public, "--json")
	assert.Zero(t, code, "without --check a difference is no failure")
	assert.Contains(t, out, `"what": "price.output"`)

	code, out, _ = weir(t, "", "catalog", "diff", config, "default")
	assert.Zero(t, code)
	assert.Contains(t, out, "- anthropic/sample-1 ")
	assert.Contains(t, out, "+ openai/gpt-6-luna ")
	code, out, _ = weir(t, "", "catalog", "import", "--from", "litellm", "--provider", "mistral", "--match", "*sample*", "--tier", "high-performance", public)
	assert.Zero(t, code)
	assert.Contains(t, out, "tier: HIGH_PERFORMANCE\n")
	assert.NotContains(t, out, "sample-1")
	assert.NotContains(t, out, "policies:")
}

func TestCatalogFaults(t *testing.T) {
	dir := t.TempDir()
	public, other := filepath.Join(dir, "prices.json"), filepath.Join(dir, "other.json")
	require.NoError(t, os.WriteFile(public, []byte(sampleCatalog), 0o600))
	require.NoError(t, os.WriteFile(other, []byte(`{"hello": 1}`), 0o600))
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "use litellm or openrouter", []string{"import", public}},
		{exitUsage, "use litellm or openrouter", []string{"import", "--from", "csv", public}},
		{exitUsage, "YYYY-MM-DD", []string{"import", "--from", "litellm", "--date", "today", public}},
		{exitUsage, "efficient or high-performance", []string{"import", "--from", "litellm", "--tier", "specialist", public}},
		{exitUsage, "glob", []string{"import", "--from", "litellm", "--match", "[", public}},
		{exitFaults, "no model matches: 2 chat models", []string{"import", "--from", "litellm", "--match", "none*", public}},
		{exitFaults, "is neither LiteLLM's", []string{"import", "--from", "litellm", other}},
		{exitFaults, "is neither LiteLLM's", []string{"diff", "default", other}},
		{exitFailed, "no such file", []string{"diff", "default", filepath.Join(dir, "gone.json")}},
		{exitFailed, "no such file", []string{"diff", filepath.Join(dir, "gone.yaml"), "default"}},
		{exitUsage, "accepts 2 arg", []string{"diff", "default"}},
	} {
		code, _, stderr := weir(t, "", append([]string{"catalog"}, c.args...)...)
		assert.Equal(t, c.code, code, c.args)
		assert.Contains(t, stderr, c.want, c.args)
	}
}

// TestAnUnmeasuredModelIsNoSecret: a person who asks for a decision reads that
// the chosen model's quality was not measured.
func TestAnUnmeasuredModelIsNoSecret(t *testing.T) {
	code, out, stderr := weir(t, "", "route", "--classifier", "lexical", "What is the capital of France?")
	require.Zero(t, code, stderr)
	assert.Regexp(t, `caution +the model is unmeasured: its quality is its tier's reference\s+curve,\s+from 0\.\d\d to 0\.\d\d`, out)
	measured := write(t, "measured.yaml", `version: 1
default_policy: p
upstreams: [{id: u, dialect: openai, base_url: "https://u.example/v1"}]
models:
  - {id: m, tier: EFFICIENT, context_window: 9000, max_output_tokens: 900, quality: {intercept: 1, half_width: 0.1, evidence: "50 graded answers"}, deployments: [{upstream: u, name: m}]}
policies: [{id: p}]
`)
	code, out, stderr = weir(t, "", "route", "--classifier", "lexical", "--config", measured, "What is the capital of France?")
	require.Zero(t, code, stderr)
	assert.NotContains(t, out, "unmeasured")
}
