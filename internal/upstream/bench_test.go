package upstream

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

// BenchmarkDecode reads an answer of 200 pieces; what it allocates is what each
// piece of each stream costs.
func BenchmarkDecode(b *testing.B) {
	for _, dialect := range []string{"openai", "anthropic", "gemini"} {
		b.Run(dialect, func(b *testing.B) {
			body := bytes.Join(upstreamtest.Events(dialect, &upstreamtest.Answer{
				Text: slices.Repeat([]string{"some words "}, 200), Usage: &router.Usage{Input: 40, Output: 400},
			}), nil)
			b.ReportAllocs()
			for b.Loop() {
				chunks, err := decodeAll(b, dialect, bytes.NewReader(body))
				require.NoError(b, err)
				require.Greater(b, len(chunks), 200)
			}
		})
	}
}
