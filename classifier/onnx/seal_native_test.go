//go:build native && cgo

package onnx

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replaceGraph puts other weights in the place of fast.onnx, as by hand: nothing
// else is told.
func replaceGraph(t *testing.T, dir string) {
	t.Helper()
	writeTest(t, dir, "fast.onnx", setFloat("quality_high_0_bias", 0.125)(t, readTest(t, dir, "fast.onnx")))
}

func writeSealed(t *testing.T, dir string, s *Sealed) {
	t.Helper()
	writeTest(t, dir, s.ProbesName, s.Probes)
	writeTest(t, dir, manifestName, s.Manifest)
}

func TestSealVouchesForAReplacedGraph(t *testing.T) {
	dir := tinyCopy(t)
	replaceGraph(t, dir)
	_, err := shared.Open(t.Context(), dir, Config{})
	require.ErrorContains(t, err, "fast.onnx has SHA-256")
	s, err := shared.Seal(t.Context(), dir, "2")
	require.NoError(t, err)
	assert.NotEqual(t, s.Before["fast.onnx"], s.After["fast.onnx"])
	assert.Equal(t, s.Before["base.onnx"], s.After["base.onnx"])
	assert.Greater(t, s.Drift["fast quality_high"], 0.01)
	assert.Less(t, s.Drift["fast quality_efficient"], 1e-4)
	assert.Less(t, s.Drift["base quality_high"], 1e-4)
	writeSealed(t, dir, s)
	b := open(t, dir, Config{})
	assert.Equal(t, "2", b.Info().Version)
	want, err := ReadManifest(bundleDir("tiny"))
	require.NoError(t, err)
	got := b.Manifest()
	assert.Equal(t, want.Lanes, got.Lanes, "all else is kept")
	assert.Equal(t, want.Provenance, got.Provenance)
}

// Sealing what is sound changes nothing that counts.
func TestSealOfASoundBundleKeepsItsProbes(t *testing.T) {
	dir := tinyCopy(t)
	s, err := shared.Seal(t.Context(), dir, "")
	require.NoError(t, err)
	for output, gap := range s.Drift {
		assert.Less(t, gap, 1e-4, output)
	}
	assert.Len(t, s.Drift, 10, "five outputs of two lanes")
	writeSealed(t, dir, s)
	again, err := shared.Seal(t.Context(), dir, "")
	require.NoError(t, err)
	assert.Equal(t, string(s.Manifest), string(again.Manifest), "sealing twice is sealing once")
	assert.Equal(t, string(s.Probes), string(again.Probes))
	open(t, dir, Config{})
}

// A bundle of one's own begins as a manifest without files and probes of texts alone.
func TestSealMakesABundleOfADraft(t *testing.T) {
	dir := tinyCopy(t)
	edit(t, dir, manifestName, func(m object) { delete(m, "files") })
	var texts struct {
		Probes []map[string]any `json:"probes"`
	}
	require.NoError(t, json.Unmarshal(readTest(t, dir, "probes.json"), &texts))
	for i := range texts.Probes {
		texts.Probes[i] = map[string]any{"text": texts.Probes[i]["text"]}
	}
	raw, err := json.Marshal(texts)
	require.NoError(t, err)
	writeTest(t, dir, "probes.json", raw)
	s, err := shared.Seal(t.Context(), dir, "")
	require.NoError(t, err)
	assert.Empty(t, s.Before)
	assert.Empty(t, s.Drift)
	writeSealed(t, dir, s)
	open(t, dir, Config{})
}

func TestSealRefusesWhatNoManifestCanVouchFor(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"NaN": {func(t *testing.T, dir string) {
			writeTest(t, dir, "fast.onnx", setFloat("ood_mean", float32(math.NaN()))(t, readTest(t, dir, "fast.onnx")))
		}, "want finite numbers"},
		"external data": {func(t *testing.T, dir string) {
			writeTest(t, dir, "fast.onnx", addToGraph(t, readTest(t, dir, "fast.onnx"), pbBytes(5, external("w", "../weights"))))
		}, "external data"},
		"another graph": {func(t *testing.T, dir string) { writeTest(t, dir, "fast.onnx", readTest(t, dir, "tokenizer.json")) }, "fast.onnx"},
		"a link": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "fast.onnx"), filepath.Join(dir, "real")))
			require.NoError(t, os.Symlink("real", filepath.Join(dir, "fast.onnx")))
		}, "is no regular file"},
		"a path": {func(t *testing.T, dir string) {
			edit(t, dir, manifestName, func(m object) { fastLane(m)["graph"] = "../fast.onnx" })
		}, "plain name"},
		"few probes": {func(t *testing.T, dir string) {
			writeTest(t, dir, "probes.json", []byte(`{"probes": [{"text": "hello"}]}`))
		}, "want at least 8"},
		"no manifest": {func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, manifestName))) }, "manifest.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tinyCopy(t)
			tc.spoil(t, dir)
			_, err := shared.Seal(t.Context(), dir, "")
			require.ErrorContains(t, err, tc.want)
		})
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	assert.Zero(t, shared.open, "a refused seal counts as open")
}
