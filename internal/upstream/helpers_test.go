package upstream

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	"github.com/weirhq/weir/router"
)

var dialects = []string{"openai", "anthropic", "gemini"}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// describe writes chunks as the fixtures do, a line each.
func describe(chunks []router.Chunk) string {
	var b strings.Builder
	for _, c := range chunks {
		if c.Reasoning != "" {
			fmt.Fprintf(&b, "reasoning %q\n", c.Reasoning)
		}
		if c.Text != "" {
			fmt.Fprintf(&b, "text %q\n", c.Text)
		}
		if t := c.Tool; t != nil {
			fmt.Fprintf(&b, "tool %d id=%s name=%s %q\n", t.Index, t.ID, t.Name, t.Arguments)
		}
		if u := c.Usage; u != nil {
			fmt.Fprintf(&b, "usage input=%d cached=%d write=%d output=%d reasoning=%d\n", u.Input, u.CachedInput, u.CacheWrite, u.Output, u.Reasoning)
		}
		if c.Finish != 0 {
			fmt.Fprintf(&b, "finish %d\n", c.Finish)
		}
	}
	return b.String()
}

// decodeAll decodes a body without HTTP; nil means that the answer is whole.
func decodeAll(t testing.TB, dialect string, src io.Reader) ([]router.Chunk, error) {
	t.Helper()
	d, err := dialectOf(dialect)
	require.NoError(t, err)
	var out []router.Chunk
	err = follow(newReader(src, 64<<20), d.decoder(), func(c router.Chunk) bool {
		out = append(out, c)
		return true
	})
	if errors.Is(err, errWhole) {
		err = nil
	}
	return out, err
}

// fakeProvider starts a fake and a client for it; both are ended with the test.
func fakeProvider(t testing.TB, cfg Config) (*upstreamtest.Provider, *Client) {
	t.Helper()
	p, err := upstreamtest.Start("127.0.0.1:0")
	require.NoError(t, err)
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.CloseIdle()
		require.NoError(t, p.Close())
	})
	return p, c
}

// ask is a call of a model named "m" at the upstream.
func ask(u *router.Upstream, text string) *router.Call {
	return &router.Call{
		Model: &router.Model{ID: "m"}, Deployment: router.Deployment{Upstream: u, Name: "m"}, MaxOutputTokens: 64,
		Input: &router.Input{Messages: []router.ChatMessage{{Role: classifier.User, Parts: []router.Part{{Text: text}}}}},
	}
}

// collect reads a stream to its end and holds it to the contract of Caller:
// nothing after an error, a finish exactly when there is none, and only last.
func collect(t testing.TB, c *Client, call *router.Call) ([]router.Chunk, *router.UpstreamError) {
	t.Helper()
	var chunks []router.Chunk
	var failure *router.UpstreamError
	for chunk, err := range c.Stream(t.Context(), call) {
		require.Nil(t, failure, "a pair after the error")
		if err != nil {
			require.ErrorAs(t, err, &failure)
			require.NotZero(t, failure.Kind)
			require.Equal(t, router.Chunk{}, chunk)
			continue
		}
		chunks = append(chunks, chunk)
	}
	for i, chunk := range chunks {
		last := i == len(chunks)-1
		require.Equal(t, last && failure == nil, chunk.Finish != 0, "chunk %d of %d has finish %d, failure %v", i, len(chunks), chunk.Finish, failure)
	}
	return chunks, failure
}

// full is an answer with something of everything.
func full() upstreamtest.Answer {
	return upstreamtest.Answer{
		Reasoning: []string{"let ", "me see"}, Text: []string{"It ", "is ", "süß \n\n ok"},
		Tools: []upstreamtest.Tool{{ID: "a", Name: "one", Arguments: []string{`{"x":`, `"y"}`}}, {ID: "b", Name: "two", Arguments: []string{`{}`}}},
		Usage: &router.Usage{Input: 100, CachedInput: 30, Output: 50, Reasoning: 20},
	}
}
