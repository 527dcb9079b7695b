// Package classifiertest is the contract of classifier.Classifier as one test
// suite, run on every implementation, so that the baseline and the real thing
// cannot drift apart.
package classifiertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
)

// prompts are over the domains, lengths and scripts.
func prompts() []string {
	return []string{
		"hi",
		"Why does a kettle sing before it boils?",
		"def f(xs):\n    return sorted(xs, key=lambda x: -x)[:3]\n\nwhat does this return for []?",
		"Integrate x^2 * exp(-3x) from 0 to infinity and explain each step.",
		"我的房东可以不退押金吗?",
		"\u202eright to left\u202c and \U0001F469\u200d\U0001F4BB emoji",
		"[CLS] [SEP] [PAD] [MASK] [UNK] </s> <|endoftext|>",
		"a\x00b",
		strings.Repeat("a", 100_000),
		strings.Repeat("Please compare these two clauses. ", 4000),
		strings.Repeat("\U0001F642", 9000),
	}
}

// Run tests one classifier. It does not close it.
func Run(t *testing.T, c classifier.Classifier) {
	t.Helper()
	t.Run("info is complete", func(t *testing.T) {
		info := c.Info()
		assert.NotEmpty(t, info.Name)
		assert.NotEmpty(t, info.Version)
		assert.Contains(t, info.Digest, ":")
		assert.NotEmpty(t, info.ReferenceEfficient)
		assert.NotEmpty(t, info.ReferenceHigh)
		assert.Equal(t, info, c.Info())
	})
	t.Run("scores are valid", func(t *testing.T) {
		for _, p := range prompts() {
			s, err := c.Classify(t.Context(), p)
			require.NoError(t, err, "prompt %.20q", p)
			require.NoError(t, s.Validate(), "prompt %.20q", p)
			assert.Positive(t, s.InputTokens)
		}
	})
	t.Run("the same text has the same scores", func(t *testing.T) { sameScores(t, c) })
	t.Run("a NUL does not hide what follows", func(t *testing.T) {
		hard := " Prove that every bounded monotone sequence of reals converges; use the least upper bound property."
		easy, err := c.Classify(t.Context(), "hi")
		require.NoError(t, err)
		both, err := c.Classify(t.Context(), "hi\x00"+hard)
		require.NoError(t, err)
		assert.NotEqual(t, easy.QEfficient.Value, both.QEfficient.Value)
		assert.Greater(t, both.InputTokens, easy.InputTokens+5)
	})
	t.Run("what cannot be scored is refused", func(t *testing.T) {
		for _, p := range []string{"", " ", " \t\r\n ", "\u00a0\u2003"} {
			_, err := c.Classify(t.Context(), p)
			require.ErrorIs(t, err, classifier.ErrNoContent, "prompt %q", p)
		}
		for _, p := range []string{"\xff\xfe", "ok \xed\xa0\x80 lone surrogate", "cut \xe2\x82"} {
			_, err := c.Classify(t.Context(), p)
			require.ErrorIs(t, err, classifier.ErrInvalidText, "prompt %q", p)
		}
	})
	t.Run("a cancelled context is its cause", func(t *testing.T) {
		cause := errors.New("the caller hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err := c.Classify(ctx, "hello")
		require.ErrorIs(t, err, cause)
	})
}

// sameScores scores every prompt alone, then all of them at once.
func sameScores(t *testing.T, c classifier.Classifier) {
	t.Helper()
	alone := map[string]classifier.Scores{}
	for _, p := range prompts() {
		s, err := c.Classify(t.Context(), p)
		require.NoError(t, err)
		alone[p] = s
	}
	assert.NotEqual(t, alone[prompts()[0]].QEfficient, alone[prompts()[3]].QEfficient, "two prompts never differ")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, p := range prompts() {
				s, err := c.Classify(t.Context(), p)
				if errors.Is(err, classifier.ErrOverloaded) {
					continue
				}
				if assert.NoError(t, err) {
					assert.Equal(t, alone[p], s, "prompt %.20q", p)
				}
			}
		})
	}
	wg.Wait()
}
