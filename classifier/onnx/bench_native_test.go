//go:build native && cgo

package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchDir is the bundle that benchmarks measure: WEIR_BUNDLE, or the shipped one
// where it is there.
func benchDir() string {
	if dir := os.Getenv("WEIR_BUNDLE"); dir != "" {
		return dir
	}
	if _, err := os.Stat(filepath.Join(bundleDir("default"), manifestName)); err == nil {
		return bundleDir("default")
	}
	return bundleDir("tiny")
}

func benchWords() []string {
	return strings.Fields("please explain how the tax on a small loan is worked out and then write one python function " +
		"that does it for any rate , with tests for zero and for very large sums")
}

// textOf makes English of so many tokens, as the bundle's fast lane counts them.
func textOf(tb testing.TB, b *Bundle, tokens int) string {
	tb.Helper()
	words := benchWords()
	text := words[0]
	for i := 1; ; i++ {
		longer := text + " " + words[i%len(words)]
		_, n, _, _, err := b.Encode(longer)
		require.NoError(tb, err)
		if n > tokens {
			return text
		}
		text = longer
	}
}

// percentiles reports the time of each call: an average hides the tail.
func percentiles(b *testing.B, call func()) {
	b.Helper()
	took := make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		call()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	for _, p := range []int{50, 90, 99} {
		b.ReportMetric(float64(took[len(took)*p/100].Nanoseconds())/1e3, fmt.Sprintf("p%d-us", p))
	}
}

func BenchmarkClassify(b *testing.B) {
	bundle := open(b, benchDir(), Config{})
	for _, tokens := range []int{16, 32, 64, 128, 256, 512} {
		text := textOf(b, bundle, tokens)
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			percentiles(b, func() {
				if _, err := bundle.Classify(b.Context(), text); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	bundle := open(b, benchDir(), Config{})
	for _, tokens := range []int{16, 32, 64, 128, 256, 512} {
		text := textOf(b, bundle, tokens)
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			percentiles(b, func() {
				if _, _, _, _, err := bundle.Encode(text); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkClassifyLarge is the cost of a prompt far longer than the window.
func BenchmarkClassifyLarge(b *testing.B) {
	bundle := open(b, benchDir(), Config{})
	for _, mib := range []int{1, 4, 16} {
		for name, unit := range map[string]string{"words": "compare these two clauses ", "marks": "!", "wide": "\U0001F642", "NUL": "ab\x00 "} {
			text := strings.Repeat(unit, mib<<20/len(unit))
			b.Run(fmt.Sprintf("MiB=%d/%s", mib, name), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				percentiles(b, func() {
					if _, err := bundle.Classify(b.Context(), text); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

// BenchmarkOpen is what a swap pays before it can publish.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		bundle, err := shared.Open(b.Context(), benchDir(), Config{})
		require.NoError(b, err)
		require.NoError(b, bundle.Close())
	}
}
