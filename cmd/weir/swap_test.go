package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/server"
	"github.com/weirhq/weir/internal/swap"
	"github.com/weirhq/weir/router"
)

// The documented gate policy is the default, field by field, and has every field.
func TestDocumentedGatePolicy(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "swap.md"))
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(doc), "```yaml\n")
	require.True(t, ok)
	text, _, _ = strings.Cut(text, "```")
	var got swap.Policy
	require.NoError(t, decodePolicy([]byte(text), &got))
	assert.Equal(t, swap.DefaultPolicy(), got)
}

func TestGatePolicyFiles(t *testing.T) {
	p, err := (&swapFlags{settle: -1, gate: write(t, "empty.yaml", "")}).policy()
	require.NoError(t, err)
	assert.Equal(t, swap.DefaultPolicy(), *p)
	p, err = (&swapFlags{settle: time.Minute, gate: write(t, "gate.yaml", "version: 1\nreplay: {max_flips: 0.5}\n")}).policy()
	require.NoError(t, err)
	assert.InDelta(t, 0.5, p.Replay.MaxFlips, 0)
	assert.InDelta(t, swap.DefaultPolicy().Replay.MinAgreement, p.Replay.MinAgreement, 0, "what is not said stays")
	assert.Equal(t, time.Minute, p.Settle.For)
	for text, says := range map[string]string{
		"version: 1\nreplay: {max_flip: 0.5}\n": "max_flip",
		"version: 2\n":                          "version is 2",
		"latency: {max_ratio: 0}\n":             "latency.max_ratio is 0",
		"replay: {sets: [none]}\n":              "replay.sets",
		"replay: {sets: [weir:x], weak: a}\n":   `weak "a" and strong ""`,
		"settle: {for: long}\n":                 "time.Duration",
	} {
		_, err := (&swapFlags{settle: -1, gate: write(t, "gate.yaml", text)}).policy()
		require.ErrorContains(t, err, says)
	}
	code, _, stderr := weir(t, "", "serve", "--classifier", "lexical", "--gate", write(t, "gate.yaml", "speed: 1\n"))
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "speed")
}

func TestGatesOfJoinedFaults(t *testing.T) {
	err := fmt.Errorf("read bundle /copy: %w", errors.Join(
		fmt.Errorf("manifest.json: %w", errors.Join(errors.New("schema is 2, want 1"), errors.New("name is empty"))),
		errors.New("fast.onnx has SHA-256 aa, the manifest says bb: copy the bundle again"),
		errors.New("a fault that nobody knows"),
	))
	got := map[string]string{}
	for _, g := range gatesOf(err, "/copy") {
		assert.False(t, g.Passed)
		got[g.Name] = g.Detail
	}
	assert.Len(t, got, 3)
	assert.Equal(t, "manifest.json: schema is 2, want 1\nmanifest.json: name is empty", got[swap.GateManifest])
	assert.Contains(t, got[swap.GateDigests], "weir model seal /copy")
	assert.Equal(t, "a fault that nobody knows", got[swap.GateLoad])
	assert.Equal(t, swap.GateLoad, gatesOf(errors.New("one fault"), "")[0].Name)
}

func TestAdminErrors(t *testing.T) {
	require.NoError(t, adminError(nil))
	for from, to := range map[error]error{
		swap.ErrName: server.ErrBundleName, swap.ErrUnknown: server.ErrUnknownBundle, swap.ErrServing: server.ErrBundleServing,
		swap.ErrNoRoot: server.ErrNoBundleRoot, swap.ErrNotStaged: server.ErrNotStaged, swap.ErrNoPrevious: server.ErrNoPreviousBundle,
	} {
		err := adminError(fmt.Errorf("stage: %w: more", from))
		require.ErrorIs(t, err, to)
		assert.Equal(t, fmt.Sprintf("stage: %v: more", from), err.Error(), "the words stay")
	}
	var refused *server.BundleRefusedError
	require.ErrorAs(t, adminError(&swap.RefusedError{Report: &swap.Report{Gates: []swap.Gate{{Name: "probes"}, {Name: "range", Passed: true}}}, Page: "p"}), &refused)
	assert.Equal(t, []server.Gate{{Name: "probes"}}, refused.Gates)
	var fault *server.BundleFaultError
	require.ErrorAs(t, adminError(errors.New("disk full")), &fault)
}

// Prompts are kept only where that was opted in, so many, and never long ones.
func TestCapture(t *testing.T) {
	var none *captured
	none.add("x")
	assert.Empty(t, none.texts())
	s := &swapping{captured: newCaptured(0)}
	next := &countingRouter{}
	assert.Same(t, next, s.capture(next), "without the flag nothing stands in the way")
	s.captured = newCaptured(2)
	r := s.capture(next)
	for _, text := range []string{"one", "two", "three", strings.Repeat("x", maxCaptured+1)} {
		_, err := r.Route(t.Context(), &router.Request{Messages: []classifier.Message{{Role: classifier.User, Text: text}}})
		require.NoError(t, err)
	}
	next.fail = errors.New("refused")
	_, err := r.Route(t.Context(), &router.Request{Messages: []classifier.Message{{Role: classifier.User, Text: "bad"}}})
	require.Error(t, err)
	assert.ElementsMatch(t, []string{"two", "three"}, s.captured.texts())
}

// Completed calls are kept as routed ones are: once decided, under the same flag.
func TestCaptureSeesCompletions(t *testing.T) {
	s := &swapping{captured: newCaptured(0)}
	next := &fakeCompleter{}
	assert.Same(t, next, s.captureCompleted(next), "without the flag nothing stands in the way")
	s.captured = newCaptured(10)
	ask := func(text string) (events int) {
		req := &router.CompleteRequest{Request: router.Request{Messages: []classifier.Message{{Role: classifier.User, Text: text}}}}
		for range s.captureCompleted(next).Complete(t.Context(), req) {
			events++
		}
		return events
	}
	assert.Equal(t, 3, ask("one"), "all of it is passed on")
	next.refuse = true
	assert.Equal(t, 1, ask("never decided"))
	assert.Equal(t, []string{"one"}, s.captured.texts())
	for range s.captureCompleted(&fakeCompleter{}).Complete(t.Context(), &router.CompleteRequest{}) {
		break // a receiver that leaves ends it
	}
}

type fakeCompleter struct{ refuse bool }

func (c *fakeCompleter) Complete(context.Context, *router.CompleteRequest) iter.Seq2[router.Event, error] {
	return func(yield func(router.Event, error) bool) {
		if c.refuse {
			yield(nil, errors.New("refused"))
			return
		}
		_ = yield(&router.Decided{}, nil) && yield(&router.Delta{Text: "x"}, nil) && yield(&router.Done{}, nil)
	}
}

type countingRouter struct {
	server.Router
	fail error
}

func (c *countingRouter) Route(context.Context, *router.Request) (router.Record, error) {
	return router.Record{}, c.fail
}
