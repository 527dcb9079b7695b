//go:build native && cgo

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/swap"
)

// oneLane takes the base lane from a copy of models/tiny.
func oneLane(t *testing.T, dir string) string {
	t.Helper()
	editJSON(t, copyBundle(t, "tiny", dir), "manifest.json", func(m object) {
		m["version"] = "one"
		delete(m, "cascade")
		delete(m["lanes"].(object), "base")
	})
	code, _, stderr := weirChild(t, "model", "seal", dir)
	require.Equal(t, exitOK, code, stderr)
	return dir
}

// TestOneLaneAndTwo goes from two lanes to one and back, and refuses a base lane that
// is too slow, whether there was one before or not.
func TestOneLaneAndTwo(t *testing.T) {
	// Lanes with seeded weights decide otherwise; how fast they are is what counts here.
	gate := strings.TrimSuffix(string(readIn(t, filepath.Dir(quickGate(t)), "gate.yaml")), "}\n") +
		", min_agreement: -1, max_flips: 1, min_strong: 0, max_strong: 1, max_cost_increase: 1000}\nlatency: {new_lane: 250us}\n"
	gate = strings.Replace(gate, "max_quality_loss: 0.2", "max_quality_loss: 1", 1)
	s := serveTiny(t, "--gate", write(t, "lanes.yaml", gate))
	stage := func(name string) (int, string, string) {
		t.Helper()
		return s.weir("model", "stage", name, "--promote")
	}
	slow := func(name string) {
		t.Helper()
		dir := setVersion(t, copyBundle(t, "tiny", filepath.Join(s.root, name)), name)
		editGraph(t, dir, "base.onnx", busyWork(t, "quality_high", "output_tokens", 1))
		code, _, stderr := weirChild(t, "model", "seal", dir)
		require.Equal(t, exitOK, code, stderr)
	}
	oneLane(t, filepath.Join(s.root, "one"))
	setVersion(t, copyBundle(t, "tiny", filepath.Join(s.root, "two")), "two")
	slow("slow")

	code, _, stderr := stage("slow")
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, stderr, "latency: lane base")
	assert.Contains(t, stderr, "latency.max_ratio")
	for _, name := range []string{"one", "two", "one"} {
		code, out, stderr := stage(name)
		require.Equal(t, exitOK, code, stderr)
		assert.Contains(t, out, "tiny "+name+" serves")
		if name == "two" {
			assert.Contains(t, out, "lane base: a prompt takes")
			assert.Contains(t, out, "the serving bundle has no such lane")
		}
	}
	code, _, stderr = stage("slow")
	assert.Equal(t, exitFaults, code)
	assert.Contains(t, stderr, "latency.new_lane")
	assert.NotContains(t, stderr, "lane fast")

	code, out, stderr := weirChild(t, "model", "diff", filepath.Join(s.root, "one"), filepath.Join(s.root, "two"), "--gate", write(t, "lanes.yaml", gate))
	assert.Equal(t, exitOK, code, stderr)
	for _, want := range []string{"lanes.base.graph", "cascade", swap.GateLatency, "lane base: a prompt takes", "on the whole"} {
		assert.Contains(t, out, want)
	}
}
