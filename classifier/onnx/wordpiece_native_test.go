//go:build native && cgo

package onnx

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bothTokenizers opens the native tokenizer of a bundle and the Go one before it.
func bothTokenizers(tb testing.TB, name string) (tokenizer, *wordPiece) {
	tb.Helper()
	data := readTest(tb, bundleDir(name), "tokenizer.json")
	native, err := shared.engine.openTokenizer(data)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, native.close()) })
	w, ok := withWordPiece(native, data, nil).(*wordPiece)
	require.True(tb, ok, "%s is encoded by the native tokenizer alone", name)
	return native, w
}

// shippedBundles are those of models/ that are there.
func shippedBundles(tb testing.TB) []string {
	tb.Helper()
	found, err := filepath.Glob(bundleDir("*/tokenizer.json"))
	require.NoError(tb, err)
	var names []string
	for _, path := range found {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	require.Contains(tb, names, "tiny")
	return names
}

// TestWordPieceAgrees encodes both ways every entry of the vocabulary that is ASCII,
// alone and glued to others, every character that counts as plain, and random bytes.
func TestWordPieceAgrees(t *testing.T) {
	for _, name := range shippedBundles(t) {
		t.Run(name, func(t *testing.T) {
			native, w := bothTokenizers(t, name)
			r := rand.New(rand.NewPCG(7, 30))
			var entries []string
			for entry := range w.first {
				if !strings.ContainsFunc(entry, func(c rune) bool { return c >= 0x80 }) {
					entries = append(entries, entry)
				}
			}
			slices.Sort(entries)
			pick := func() string { return entries[r.IntN(len(entries))] }
			check := func(text string) {
				got, ok := w.encodePlain(text)
				require.True(t, ok)
				if want := native.encode(text); !slices.Equal(want, got) {
					t.Fatalf("text %q: Go gives %v, native %v", text, got, want)
				}
			}
			for part := range slices.Chunk(entries, 100) {
				check(strings.Join(part, " "))
				check(strings.ToUpper(strings.Join(part, "\t")))
			}
			for r := rune(0x80); r < 0x3000; r++ {
				text := "un" + string(r) + "able " + string(r)
				if got, ok := w.encodePlain(text); ok {
					assert.Equal(t, native.encode(text), got, "%U", r)
				}
			}
			for range 3000 {
				check(pick() + strings.TrimPrefix(pick(), "##") + " " + pick() + strings.TrimPrefix(pick(), "##") + pick())
				random := make([]byte, r.IntN(40))
				for i := range random {
					random[i] = byte(1 + r.IntN(127))
				}
				check(string(random) + string(firstWide+rune(r.IntN(lastWide-firstWide+1))) + string(random))
			}
		})
	}
}

// FuzzWordPiece holds the Go tokenizer against the native one on any text.
func FuzzWordPiece(f *testing.F) {
	for _, seed := range []string{
		"hello world", "[CLS] [SEP] ##a", "UPPER\vlower\fmixed", "a\x01b\x7fc", strings.Repeat("a", 100), strings.Repeat("a", 101),
		"don't!?", "x = y[3] * -1.5e9;", "\r\n\t", "caf\u00e9", "\u2019s", "it\u2019s \u201cone\u201d\u2014\u00a0two\u2026", "\u2027\u2028\u200f\u2010", "$^`|~<>",
	} {
		f.Add(seed)
	}
	name := "tiny"
	if _, err := os.Stat(filepath.Join(bundleDir("default"), "tokenizer.json")); err == nil {
		name = "default"
	}
	native, w := bothTokenizers(f, name)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ToValidUTF8(text, "") != text || strings.Contains(text, "\x00") {
			return // never reaches a tokenizer
		}
		if want, got := native.encode(text), w.encode(text); !slices.Equal(want, got) {
			t.Fatalf("text %q: Go gives %v, native %v", text, got, want)
		}
	})
}

func BenchmarkTokenizer(b *testing.B) {
	bundle := open(b, benchDir(), Config{})
	native, w := bothTokenizers(b, filepath.Base(benchDir()))
	for _, tokens := range []int{16, 128, 512} {
		text := textOf(b, bundle, tokens)
		for name, t := range map[string]tokenizer{"go": w, "native": native} {
			b.Run(fmt.Sprintf("%s/tokens=%d", name, tokens), func(b *testing.B) {
				percentiles(b, func() { t.encode(text) })
			})
		}
	}
}
