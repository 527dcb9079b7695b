package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

func TestCompletePrintsTheAnswerAndWhatItCost(t *testing.T) {
	s := startCompleting(t, "")
	s.provider.Always(fullAnswer())
	code, out, stderr := weir(t, "", "complete", "--addr", s.addr, "--model", "fake/openai", "--idempotency-key", "k", "Tell me of weirs.")
	require.Equal(t, exitOK, code, stderr)
	assert.Equal(t, "A weir is a low dam across a river.\n", out, "the answer alone is on standard output")
	for _, want := range []string{"fake/openai by openai", "override", "11+9 tokens", "$0.000029"} {
		assert.Contains(t, stderr, want)
	}
	code, out, stderr = weir(t, "", "complete", "--addr", s.addr, "--model", "fake/openai", "--idempotency-key", "k", "Tell me of weirs.")
	assert.Equal(t, exitFailed, code)
	assert.Empty(t, out)
	assert.Contains(t, stderr, "the idempotency key was used by call")

	a := fullAnswer()
	a.Fault = upstreamtest.Fault{Kind: upstreamtest.Cut, At: len(bytes.Join(upstreamtest.Events("openai", &a)[:3], nil))}
	s.provider.Always(a)
	code, _, stderr = weir(t, "from stdin\n", "complete", "--addr", s.addr, "--model", "fake/openai", "-")
	assert.Equal(t, exitFailed, code, "half an answer is no success")
	assert.Contains(t, stderr, "INCOMPLETE: protocol")
	assert.Contains(t, stderr, "not the whole answer")

	code, _, stderr = weir(t, "", "complete", "--addr", "127.0.0.1:1", "hi")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "start one with `weir serve`")
}

func TestChatKeepsTheConversation(t *testing.T) {
	s := startCompleting(t, "")
	s.provider.Always(fullAnswer())
	code, out, stderr := weir(t, "What is a weir?\nAnd a dam?\n\nnever sent\n", "chat", "--addr", s.addr, "--model", "fake/openai")
	require.Equal(t, exitOK, code, stderr)
	assert.Equal(t, 2, strings.Count(out, "A weir is a low dam across a river.\n"))
	requests := s.provider.Requests()
	require.Len(t, requests, 2)
	for _, said := range []string{"What is a weir?", "A weir is a low dam across a river.", "And a dam?"} {
		assert.Contains(t, string(requests[1].Body), said)
	}
}

// Ctrl-C at the prompt ends the chat at once: nobody has to send a line first.
func TestChatEndsWhenItIsInterrupted(t *testing.T) {
	stdin, typing := io.Pipe()
	defer typing.Close() //nolint:errcheck // it ends the reader
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"chat", "--addr", "127.0.0.1:1"}, world{func(string) string { return "" }, stdin, io.Discard, io.Discard})
	}()
	interrupt()
	select {
	case code := <-ended:
		assert.Equal(t, exitOK, code)
	case <-time.After(30 * time.Second):
		t.Fatal("the chat goes on after an interrupt")
	}
}

// A server that is told to stop lets a running answer come to its end.
func TestAStopLetsARunningAnswerEnd(t *testing.T) {
	s := startCompleting(t, "")
	a := fullAnswer()
	a.Delay = 50 * time.Millisecond
	s.provider.Always(a)
	stream, err := s.client.Complete(t.Context(), askModel("fake/anthropic"))
	require.NoError(t, err)
	var text string
	var done *weirv1.Completed
	for {
		event, err := stream.Recv()
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		if d := event.GetDelta(); d != nil && text == "" {
			s.stop()
		}
		text += event.GetDelta().GetText()
		if c := event.GetCompleted(); c != nil {
			done = c
		}
	}
	assert.Equal(t, "A weir is a low dam across a river.", text)
	assert.Equal(t, weirv1.CompletionStatus_COMPLETION_STATUS_COMPLETE, done.GetStatus())
}

// ListModels shows what was seen of a deployment.
func TestListModelsShowsHealth(t *testing.T) {
	s := startCompleting(t, "")
	deployment := func(id string) *weirv1.Deployment {
		got, err := s.client.ListModels(t.Context(), &weirv1.ListModelsRequest{})
		require.NoError(t, err)
		for _, m := range got.GetModels() {
			if m.GetId() == id {
				return m.GetDeployments()[0]
			}
		}
		return nil
	}
	assert.Equal(t, weirv1.Health_HEALTH_UNSPECIFIED, deployment("fake/openai").GetHealth())
	s.provider.Always(fullAnswer())
	require.NoError(t, complete(t.Context(), t, s.client, askModel("fake/openai")).err)
	assert.Equal(t, weirv1.Health_HEALTH_OK, deployment("fake/openai").GetHealth())
	assert.Positive(t, deployment("fake/openai").GetObservedTtft().AsDuration())
	s.provider.Always(upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: 429, RetryAfter: "600"}})
	require.Error(t, complete(t.Context(), t, s.client, askModel("fake/gemini")).err)
	assert.Equal(t, weirv1.Health_HEALTH_COOLDOWN, deployment("fake/gemini").GetHealth())
}
