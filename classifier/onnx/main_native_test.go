//go:build native && cgo

package onnx

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/classifier/classifiertest"
)

// shared is the one Runtime of the test process.
var shared *Runtime

func TestMain(m *testing.M) {
	var err error
	if shared, err = Start(RuntimeConfig{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

func open(t testing.TB, dir string, cfg Config) *Bundle {
	t.Helper()
	b, err := shared.Open(t.Context(), dir, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// TestBundlesKeepTheContract runs the suite on every bundle that is shipped.
func TestBundlesKeepTheContract(t *testing.T) {
	for _, name := range shippedBundles(t) {
		t.Run(name, func(t *testing.T) {
			b := open(t, bundleDir(name), Config{})
			classifiertest.Run(t, b)
			m, err := ReadManifest(bundleDir(name))
			require.NoError(t, err)
			assert.Equal(t, m, b.Manifest())
			assert.Equal(t, m.Digest, b.Digest())
			assert.Equal(t, m.Digest, b.Info().Digest)
			assert.IsType(t, &wordPiece{}, b.fast.encoder.tokenizer, "it fell back to the native tokenizer in silence")
		})
	}
}

// TestCascadeAsksTheBaseLane wants prompts of either lane from tiny, which has both.
func TestCascadeAsksTheBaseLane(t *testing.T) {
	b := open(t, bundleDir("tiny"), Config{})
	band := b.Manifest().Cascade
	lanes := map[string]int{}
	for _, text := range append([]string{"hello", "prove it"}, benchWords()...) {
		s, err := b.Classify(t.Context(), text)
		require.NoError(t, err)
		lanes[s.Lane]++
		shape := classifier.Shape(text)
		fast, err := asked{b.fast, shape[:]}.Classify(t.Context(), text)
		require.NoError(t, err)
		_, likely := fast.Domain()
		inside := fast.Gain() >= band.Low && fast.Gain() <= band.High || likely < band.DomainBelow
		assert.Equal(t, inside, s.Lane == "base", "text %q, gain %v", text, fast.Gain())
		if !inside {
			assert.Equal(t, fast, s)
		}
	}
	assert.Positive(t, lanes["fast"])
	assert.Positive(t, lanes["base"])
}
