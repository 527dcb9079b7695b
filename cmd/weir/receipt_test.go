package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func TestReceiptFromRouteToVerify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "receipt.json")
	config := write(t, "w.yaml", string(router.DefaultConfig())+"\nrules:\n  - {id: labs, when: {tenant: lab-*, intent: [review]}, then: {min_tier: HIGH_PERFORMANCE}}\n")
	code, out, errs := weir(t, "", "route", "--classifier", "lexical", "--config", config, "--receipt", file, "--metadata", "tenant=lab-3", "--intent", "review", "hello canary-9")
	require.Equal(t, exitOK, code, errs)
	assert.Contains(t, out, "labs matched")
	assert.Contains(t, out, "min_tier HIGH_PERFORMANCE, from the rule; it removed candidates")
	assert.LessOrEqual(t, strings.Count(out, "fallback"), router.BestCandidates, "a receipt is no wish for every candidate")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "canary-9")
	assert.NotContains(t, string(text), "lab-3")

	code, out, errs = weir(t, "", "receipt", "verify", file, "--config", config)
	require.Equal(t, exitOK, code, errs)
	assert.Contains(t, out, "holds")
	code, _, errs = weir(t, string(text), "receipt", "verify", "-")
	assert.Equal(t, exitFaults, code, "the embedded config is not the one that decided")
	assert.Contains(t, errs, "config_digest")
	assert.Contains(t, errs, "labs")
	changed := strings.Replace(string(text), `"reason":"`, `"reason":"x`, 1)
	code, _, errs = weir(t, changed, "receipt", "verify", "-", "--config", config)
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, errs, "changed after it was written")
	code, _, _ = weir(t, "", "receipt", "verify", file+"x")
	assert.Equal(t, exitFailed, code)
}

func TestRouteFitsTheTerminal(t *testing.T) {
	for _, explain := range []bool{false, true} {
		args := []string{"route", "--classifier", "lexical", "--max-cost", "$0.01", "Prove that the square root of two is irrational, then generalise."}
		if explain {
			args = append(args, "--explain")
		}
		_, out, _ := weir(t, "", args...)
		for _, line := range strings.Split(out, "\n") {
			assert.LessOrEqual(t, utf8.RuneCountInString(line), usualColumns, line)
		}
	}
	env := func(v string) func(string) string { return func(string) string { return v } }
	assert.Equal(t, 120, columns(env("120")))
	assert.Equal(t, leastColumns, columns(env("7")))
	assert.Equal(t, usualColumns, columns(env("wide")))
}
