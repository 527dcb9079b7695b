package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
)

// The Python example takes every end of a completion for what it is. It runs
// where its environment is there: `make test` makes it, `go test` needs no
// Python.
func TestPythonExample(t *testing.T) {
	if raceDetector {
		t.Skip("the plain run has it; most of its time is Python's own")
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(root, "build", "examples-python", ".stubs")); err != nil {
		t.Skip("build/examples-python is not there: examples/python/run --setup makes it")
	}
	s := startCompleting(t, "")
	python := func(args ...string) (code int, out, log string) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(root, "examples", "python", "run"), append([]string{"--addr", s.addr}, args...)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
		}
		return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	}

	s.provider.Always(fullAnswer())
	code, out, log := python("--model", "fake/openai", "--key", "k", "Tell me of weirs.")
	require.Equal(t, 0, code, log)
	assert.Equal(t, "A weir is a low dam across a river.\n", out)
	assert.Contains(t, log, "Route would send it to fake/openai (override)")
	assert.Contains(t, log, "attempt 1: fake/openai at openai: ok")
	assert.Contains(t, log, "11+9 tokens for $0.000029")

	code, out, log = python("--model", "fake/openai", "--key", "k", "Tell me of weirs.")
	assert.Equal(t, 4, code, log)
	assert.Equal(t, "\n", out, "a repeated key brings no text")
	assert.Contains(t, log, "ALREADY_EXISTS DUPLICATE_CALL")
	assert.Contains(t, log, "(complete, $0.000029): nothing was called or billed again")

	cut := fullAnswer()
	cut.Fault = upstreamtest.Fault{Kind: upstreamtest.Cut, At: len(bytes.Join(upstreamtest.Events("anthropic", &cut)[:5], nil))}
	s.provider.Always(cut)
	code, out, log = python("--model", "fake/anthropic", "Tell me of weirs.")
	assert.Equal(t, 3, code, log)
	assert.NotEqual(t, "\n", out)
	assert.Contains(t, log, "UNAVAILABLE PARTIAL_OUTPUT")
	assert.Contains(t, log, "NOT the whole answer (protocol)")

	s.provider.Always(upstreamtest.Answer{FirstByte: time.Minute})
	code, _, log = python("--model", "fake/gemini", "--deadline", "3", "Tell me of weirs.")
	assert.Equal(t, 1, code, log)
	assert.Contains(t, log, "DEADLINE_EXCEEDED")

	s.provider.Always(upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: 429, RetryAfter: "700"}})
	code, _, log = python("--model", "fake/openai", "--key", "again", "Tell me of weirs.")
	assert.Equal(t, 1, code, log)
	assert.Contains(t, log, "RESOURCE_EXHAUSTED RATE_LIMITED")
	assert.Contains(t, log, "with a new key")
	code, _, log = python("--model", "fake/openai", "--key", "again", "Tell me of weirs.")
	assert.Equal(t, 4, code, log)
	assert.Contains(t, log, "(failed, $0.000000)")
}
