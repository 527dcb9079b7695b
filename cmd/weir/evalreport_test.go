package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/eval"
)

// smallSet writes a set of two models with a gap.
func smallSet(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i := range 300 {
		domain := []string{"math", "writing"}[i%2]
		fmt.Fprintf(&b, `{"id":"case-%d","domain":%q,"prompt":"Please prove lemma number %d of %s, secret-prompt-text.","outcomes":{"small":%d,"large":%d}}`+"\n",
			i, domain, i*i, strings.Repeat("graph theory and ", i%7), i%2, min(1, i%5))
	}
	return write(t, "small.jsonl", b.String())
}

func TestEvalReportWritesEveryFormat(t *testing.T) {
	dir := t.TempDir()
	args := []string{"eval", "report", "--classifier", "lexical", "--set", "weir:" + smallSet(t), "--bootstrap", "50"}
	for _, ext := range reportFormats() {
		args = append(args, "--out", filepath.Join(dir, "r"+ext))
	}
	code, _, stderr := weir(t, "", args...)
	require.Equal(t, exitOK, code, stderr)
	for ext, want := range map[string]string{".html": "<!doctype html>", ".svg": "<svg ", ".csv": "set,part,name", ".json": `"version": 1`, ".txt": "per-query oracle"} {
		raw, err := os.ReadFile(filepath.Join(dir, "r"+ext))
		require.NoError(t, err)
		assert.Contains(t, string(raw), want)
		assert.NotContains(t, string(raw), "secret-prompt-text", ext)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".weir-*"))
	require.NoError(t, err)
	assert.Empty(t, left)

	// What was written can be read again, and says the same.
	code, out, stderr := weir(t, "", "eval", "report", "--from", filepath.Join(dir, "r.json"))
	require.Equal(t, exitOK, code, stderr)
	table, err := os.ReadFile(filepath.Join(dir, "r.txt"))
	require.NoError(t, err)
	assert.Equal(t, string(table), out)

	page := filepath.Join(dir, "text.html")
	code, _, stderr = weir(t, "", "eval", "report", "--classifier", "lexical", "--set", "weir:"+smallSet(t), "--bootstrap", "0", "--show-text", "--out", page)
	require.Equal(t, exitOK, code, stderr)
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(raw), "secret-prompt-text", "asked for")
}

func TestEvalReportRefuses(t *testing.T) {
	set := "weir:" + smallSet(t)
	for says, args := range map[string][]string{
		"end the name in one of": {"--set", set, "--out", "r.pdf"},
		"reads figures only":     {"--from", "r.json", "--set", set},
		"no such file":           {"--from", filepath.Join(t.TempDir(), "none.json")},
		"--only x":               {"--set", set, "--classifier", "lexical", "--bootstrap", "0", "--only", "x"},
	} {
		code, _, stderr := weir(t, "", append([]string{"eval", "report"}, args...)...)
		assert.NotEqual(t, exitOK, code)
		assert.Contains(t, stderr, says)
	}
	code, _, stderr := weir(t, "", "eval", "report", "--from", write(t, "old.json", `{"version":7}`))
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "version is 7")
}

func TestEvalRunHoldsTheGate(t *testing.T) {
	run := func(gate string) (int, string, string) {
		return weir(t, "", "eval", "run", "--classifier", "lexical", "--set", "weir:"+smallSet(t), "--bootstrap", "50", "--json", "--gate", write(t, "gate.yaml", gate))
	}
	code, out, stderr := run("version: 1\nsets:\n  small:\n    bounds:\n      n: {min: 300}\n")
	require.Equal(t, exitOK, code, stderr)
	var report eval.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))

	code, out, stderr = run("version: 1\nsets:\n  small:\n    bounds:\n      n: {min: 301}\n      apgr: {min_lo: 0.99}\n  other: {forbid: [NO_SKILL]}\n")
	assert.Equal(t, exitFaults, code)
	assert.NotEmpty(t, out, "the report is there to look at")
	for _, want := range []string{"n is 300, at least 301", "interval of apgr", "other: the set is not in the report"} {
		assert.Contains(t, stderr, want)
	}
	for text, says := range map[string]string{
		"version: 1\nsets:\n  small:\n    bounds:\n      n: {minimum: 3}\n":         "minimum",
		"version: 1\nsets:\n  small:\n    bounds:\n      apqr: {min: 3}\n":          "no figure",
		"version: 1\nsets: {small: {forbid: [NO_SKILL]}}\n---\nversion: 1\n":        "more than one YAML document",
		"version: 1\nsets: {small: {forbid: [NO_SKILL]}, small: {forbid: [GAP]}}\n": "already defined",
		"": "EOF",
	} {
		code, out, stderr := run(text)
		assert.Equal(t, exitFailed, code, text)
		assert.Contains(t, stderr, says)
		assert.Empty(t, out, "a wrong gate is found before the work")
	}
}

func TestEvalLintExits(t *testing.T) {
	code, out, stderr := weir(t, "", "eval", "lint", "--set", "weir:"+smallSet(t))
	require.Equal(t, exitOK, code, out+stderr)
	assert.Contains(t, out, "small: n 300")

	twice := write(t, "twice.jsonl", strings.Repeat(`{"id":"x","prompt":"same","outcomes":{"a":1}}`+"\n", 2))
	code, out, stderr = weir(t, "", "eval", "lint", "--set", "weir:"+twice)
	assert.Equal(t, exitFaults, code, stderr)
	assert.Contains(t, out, "fault EXACT_DUPLICATES")
	code, out, _ = weir(t, "", "eval", "lint", "--json", "--set", "weir:"+twice, "--submission", write(t, "s.jsonl", `{"id":"y","model":"a"}`))
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, out, eval.LintDropped)
	code, _, stderr = weir(t, "", "eval", "lint")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "--set")
}

func TestEvalCompare(t *testing.T) {
	set := "weir:" + smallSet(t)
	args := []string{"eval", "compare", "--classifier", "lexical", "--set", set, "--bootstrap", "50"}
	code, out, stderr := weir(t, "", append(args, "--other-policy", "saver", "--threshold", "0.1,0.3", "--reach", "cost_saved=0.2", "--json")...)
	require.Equal(t, exitOK, code, stderr)
	var got struct {
		Sets []compared    `json:"sets"`
		A    eval.Manifest `json:"manifest_a"`
		B    eval.Manifest `json:"manifest_b"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	assert.Equal(t, "balanced", got.A.Policy)
	assert.Equal(t, "saver", got.B.Policy)
	require.Len(t, got.Sets, 1)
	c := got.Sets[0].Comparison
	assert.Less(t, c.Difference.Share.Value, 0.0, "saver sends less to the strong model")
	assert.Greater(t, c.Difference.CostSaved.Value, 0.0)
	assert.Positive(t, c.Flips.StrongToWeak)
	assert.Len(t, got.Sets[0].WhatIf, 2)
	assert.Len(t, got.Sets[0].Targets, 1)

	code, out, stderr = weir(t, "", append(args, "--other-policy", "saver", "--reach", "quality_kept=1.4")...)
	require.Equal(t, exitOK, code, stderr)
	for _, want := range []string{"B - A, paired", "flips:", "policy saver", "no threshold reaches it", "notional"} {
		assert.Contains(t, out, want)
	}
	for says, more := range map[string][]string{"needs another side": nil, "write cost_saved": {"--reach", "cheap=1"}} {
		code, _, stderr := weir(t, "", append(args, more...)...)
		assert.Equal(t, exitUsage, code)
		assert.Contains(t, stderr, says)
	}
}
