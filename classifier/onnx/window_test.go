package onnx

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/classifier"
)

// letters is a tokenizer of one id a byte, between 101 and 102. Spaces have none.
type letters struct {
	broken bool
	closed *int
}

func (l letters) encode(text string) []uint32 {
	if l.broken {
		return nil
	}
	ids := []uint32{101}
	for i := range len(text) {
		if text[i] != ' ' {
			ids = append(ids, uint32(text[i]))
		}
	}
	return append(ids, 102)
}

func (l letters) close() error {
	if l.closed != nil {
		*l.closed++
	}
	return nil
}

func TestEncodeWindow(t *testing.T) {
	window := Window{HeadTokens: 3, TailTokens: 2, HeadBytes: 8, TailBytes: 4}
	for text, want := range map[string]encoded{
		"abc":            {ids: ids("abc"), inputTokens: 3},
		"abcde":          {ids: ids("abcde"), inputTokens: 5},
		"abcdef":         {ids: ids("abcef"), inputTokens: 6, truncated: 1},
		"abcdefghijkl":   {ids: ids("abckl"), inputTokens: 12, truncated: 7},
		"abcdefghijklm":  {ids: ids("abclm"), inputTokens: 13, truncated: 8, estimated: true},
		"a            b": {ids: ids("ab"), inputTokens: 3, truncated: 1, estimated: true}, // 2 ids in 12 bytes, 2 bytes left out
		"ab           ":  {ids: ids("ab"), inputTokens: 3, truncated: 1, estimated: true},
	} {
		e := encoder{letters{}, window, SpecialTokens{Prefix: []int64{101}, Suffix: []int64{102}}}
		got, err := e.encode(text)
		require.NoError(t, err)
		assert.Equal(t, want, got, "text %q", text)
	}
}

func ids(text string) []int64 {
	out := []int64{101}
	for _, c := range []byte(text) {
		out = append(out, int64(c))
	}
	return append(out, 102)
}

func TestEncodeFaults(t *testing.T) {
	special := SpecialTokens{Prefix: []int64{101}, Suffix: []int64{102}}
	window := Window{HeadTokens: 3, TailTokens: 2, HeadBytes: 8, TailBytes: 4}
	_, err := encoder{letters{}, window, special}.encode(" ")
	require.ErrorIs(t, err, classifier.ErrNoContent)
	_, err = encoder{letters{}, window, special}.encode(strings.Repeat(" ", 100))
	require.ErrorIs(t, err, classifier.ErrNoContent)
	_, err = encoder{letters{broken: true}, window, special}.encode("a")
	require.ErrorContains(t, err, "it is broken")
	require.NotErrorIs(t, err, classifier.ErrNoContent)
	_, err = encoder{letters{}, window, SpecialTokens{Prefix: []int64{7}, Suffix: []int64{102}}}.encode("a")
	require.ErrorContains(t, err, "special_tokens.prefix [7]")
	_, err = encoder{letters{}, window, SpecialTokens{Prefix: []int64{101, 97}, Suffix: []int64{97, 102}}}.encode("a")
	require.ErrorContains(t, err, "special_tokens.prefix", "prefix and suffix overlap")
}

// TestEncodeCounts holds the laws of the counts over any text and window.
func TestEncodeCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := Window{
			HeadTokens: rapid.IntRange(1, 9).Draw(t, "head"), TailTokens: rapid.IntRange(0, 9).Draw(t, "tail"),
			HeadBytes: rapid.IntRange(4, 40).Draw(t, "headBytes"), TailBytes: rapid.IntRange(0, 40).Draw(t, "tailBytes"),
		}
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab é☃")), 1, 100, -1).Draw(t, "text")
		e, err := encoder{letters{}, window, SpecialTokens{Prefix: []int64{101}, Suffix: []int64{102}}}.encode(text)
		if err != nil {
			require.ErrorIs(t, err, classifier.ErrNoContent)
			return
		}
		kept := len(e.ids) - 2
		require.LessOrEqual(t, kept, window.HeadTokens+window.TailTokens)
		require.Positive(t, kept)
		require.Equal(t, e.inputTokens, kept+e.truncated)
		require.GreaterOrEqual(t, e.truncated, 0)
		require.Equal(t, len(text) > window.HeadBytes+window.TailBytes, e.estimated)
		if !e.estimated {
			require.Equal(t, len(letters{}.encode(text))-2, e.inputTokens)
		}
	})
}
