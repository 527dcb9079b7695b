//go:build native

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The gate that a shipped bundle passes, on the sets of the repository. A
// retrained bundle that ranks worse than its predecessor fails here.
func TestTheShippedBundlePassesItsGate(t *testing.T) {
	repo := filepath.Join("..", "..")
	gate := filepath.Join(repo, "eval", "gates", "shipped.yaml")
	sets := []string{
		"eval", "run", "--bootstrap", "200",
		"--set", "labels:" + filepath.Join(repo, "training-data", "corpus"),
		"--set", "weir:" + filepath.Join(repo, "eval", "sets", "weir-local.jsonl"), "--weak", "smollm2-135m-fewshot", "--strong", "quartet",
	}
	code, out, stderr := weir(t, "", append(sets, "--bundle", filepath.Join(repo, "models", "default"), "--gate", gate)...)
	assert.Equal(t, exitOK, code, "%s\n%s", out, stderr)

	code, _, stderr = weir(t, "", append(sets, "--classifier", "lexical", "--gate", gate)...)
	assert.Equal(t, exitFaults, code, "the baseline must not pass as a model")
	assert.Contains(t, stderr, "labels: apgr is")
	assert.Contains(t, stderr, "labels: ece_efficient is")

	strict := filepath.Join(t.TempDir(), "strict.yaml")
	require.NoError(t, os.WriteFile(strict, []byte("version: 1\nsets: {labels: {bounds: {apgr: {min: 0.99}}}}\n"), 0o600))
	code, _, stderr = weir(t, "", append(sets, "--bundle", filepath.Join(repo, "models", "default"), "--gate", strict)...)
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, stderr, "at least 0.99 is asked for")
}
