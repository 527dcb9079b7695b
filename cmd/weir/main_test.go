package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain is also the program itself, for tests that start it as a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "model") {
		main()
	}
	goleak.VerifyTestMain(m)
}

// weir runs a command line in an empty environment.
func weir(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, world{func(string) string { return "" }, strings.NewReader(stdin), &out, &errs})
	return code, out.String(), errs.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestExitCodes(t *testing.T) {
	bad := write(t, "bad.yaml", "version: 2\n")
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"help":                     {[]string{"--help"}, exitOK, ""},
		"version":                  {[]string{"version"}, exitOK, ""},
		"completion":               {[]string{"completion", "bash"}, exitOK, ""},
		"unknown verb":             {[]string{"fly"}, exitUsage, `"fly"`},
		"unknown flag":             {[]string{"route", "--fly", "x"}, exitUsage, "weir route --help"},
		"no prompt":                {[]string{"route"}, exitUsage, "arg"},
		"unknown classifier":       {[]string{"route", "--classifier", "x", "hi"}, exitUsage, "use onnx or lexical"},
		"tier misspelt":            {[]string{"route", "--classifier", "lexical", "--tier", "big", "hi"}, exitUsage, "EFFICIENT"},
		"money without unit":       {[]string{"route", "--classifier", "lexical", "--max-cost", "5", "hi"}, exitUsage, "dollars"},
		"empty prompt":             {[]string{"route", "--classifier", "lexical", " "}, exitUsage, "text"},
		"quality out of range":     {[]string{"route", "--classifier", "lexical", "--min-quality", "3", "hi"}, exitUsage, "min_quality"},
		"unknown policy":           {[]string{"route", "--classifier", "lexical", "--policy", "x", "hi"}, exitFailed, "balanced"},
		"check without a file":     {[]string{"check"}, exitUsage, "--print-default"},
		"check of a bad file":      {[]string{"check", bad}, exitFaults, bad + ":1: version"},
		"check of no file":         {[]string{"check", bad + "x"}, exitFailed, "no such file"},
		"serve with a bad config":  {[]string{"serve", "--classifier", "lexical", "--config", bad}, exitFailed, "version"},
		"serve open to the world":  {[]string{"serve", "--classifier", "lexical", "--ledger", "memory", "--listen", "0.0.0.0:0", "--admin-listen", "off", "--metrics-listen", "off"}, exitFailed, "TLS"},
		"a profiler for everybody": {[]string{"serve", "--classifier", "lexical", "--pprof", "--metrics-listen", "0.0.0.0:0"}, exitUsage, "loopback"},
		"a log level misspelt":     {[]string{"serve", "--classifier", "lexical", "--log-level", "loud"}, exitUsage, "debug, info"},
		"score without an input":   {[]string{"score"}, exitUsage, "--in"},
		"inspect of no bundle":     {[]string{"model", "inspect", t.TempDir()}, exitFaults, "manifest.json"},
		"ids of the baseline":      {[]string{"score", "--classifier", "lexical", "--ids", "--in", bad}, exitUsage, "bundle"},
		"a bundle that is nowhere": {[]string{"route", "--bundle", t.TempDir(), "hi"}, exitFailed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := weir(t, "", tc.args...)
			assert.Equal(t, tc.code, code, stderr)
			assert.Contains(t, stderr, tc.says)
			if tc.code == exitOK {
				assert.Empty(t, stderr)
			}
		})
	}
}

func TestRouteForPeopleAndPrograms(t *testing.T) {
	code, out, _ := weir(t, "Why is the sky blue?", "route", "--classifier", "lexical", "--policy", "open", "--explain", "-")
	require.Equal(t, exitOK, code)
	for _, want := range []string{"model", "complexity", "chosen", "rejected: its domains", "max_quality_gap 0.15, from the policy"} {
		assert.Contains(t, out, want)
	}
	code, out, _ = weir(t, "", "route", "--classifier", "lexical", "--json", "--model", "anthropic/claude-opus-5-5", "hi")
	require.Equal(t, exitOK, code)
	var d map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	assert.Equal(t, "anthropic/claude-opus-5-5", d["model"])
	assert.Equal(t, "REASON_OVERRIDE", d["reason"])
}

func TestCheck(t *testing.T) {
	_, config, _ := weir(t, "", "check", "--print-default")
	code, out, _ := weir(t, "", "check", write(t, "weir.yaml", config))
	assert.Equal(t, exitOK, code)
	assert.Contains(t, out, "56 models (0 callable")
	assert.Contains(t, out, "sha256:")
}

const promptLines = `{"id":"a","prompt":"Why is the sky blue?","domain":"science"}
{"id":"b","messages":[{"role":"system","content":"x"},{"role":"user","content":"fix this python function"},{"role":"assistant","content":"done"},{"role":"user","content":"commit it"}]}

{"id":"c","prompt":" "}
{"id":"d","prompt":"line\u2028break \u0085 and more"}
`

func lexicalScores(t *testing.T, in, out string) (int, string) {
	t.Helper()
	code, _, stderr := weir(t, "", "score", "--classifier", "lexical", "--in", in, "--out", out)
	return code, stderr
}

func TestScore(t *testing.T) {
	in, out := write(t, "in.jsonl", promptLines), filepath.Join(t.TempDir(), "out.jsonl")
	code, stderr := lexicalScores(t, in, out)
	assert.Equal(t, exitFaults, code, "one prompt cannot be scored")
	assert.Contains(t, stderr, "1 of 4")
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	var ids []string
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		var s map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &s))
		ids = append(ids, s["id"].(string))
		if i == 2 {
			assert.Contains(t, s["error"], "nothing to score")
			continue
		}
		for _, key := range []string{"complexity", "gain", "q_efficient", "q_high", "domain", "domain_probabilities", "output_tokens", "truncated_tokens", "bundle_digest"} {
			assert.Contains(t, s, key)
		}
		assert.InDelta(t, 1-s["q_efficient"].(float64), s["complexity"], 1e-12)
	}
	assert.Equal(t, []string{"a", "b", "c", "d"}, ids)
	assert.Contains(t, string(raw), `"domain":"coding"`, "a chat is scored with the earlier ask")

	t.Run("it goes on where it stopped", func(t *testing.T) {
		for cut := range len(raw) {
			if cut%97 != 0 {
				continue
			}
			half := write(t, "half.jsonl", string(raw[:cut]))
			lexicalScores(t, in, half)
			again, err := os.ReadFile(half)
			require.NoError(t, err)
			require.Equal(t, string(raw), string(again), "cut at byte %d", cut)
		}
	})
	t.Run("it never mixes bundles or inputs", func(t *testing.T) {
		other := write(t, "other.jsonl", strings.ReplaceAll(string(raw), "lexical:1", "sha256:0"))
		code, stderr := lexicalScores(t, in, other)
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "holds scores of sha256:0")
		code, stderr = lexicalScores(t, write(t, "in2.jsonl", `{"id":"z","prompt":"x"}`), out)
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "another input")
		kept, err := os.ReadFile(out)
		require.NoError(t, err)
		assert.Equal(t, string(raw), string(kept), "a refusal loses nothing")
	})
	t.Run("a record without a prompt is a line of its own", func(t *testing.T) {
		two := filepath.Join(t.TempDir(), "o")
		code, _ := lexicalScores(t, write(t, "in.jsonl", "{\"id\":\"a\"}\n{\"id\":\"b\",\"prompt\":\"x\",\"messages\":[]}\n{\"id\":\"c\",\"prompt\":\"x\"}\n"), two)
		assert.Equal(t, exitFaults, code)
		raw, err := os.ReadFile(two)
		require.NoError(t, err)
		assert.Equal(t, 2, strings.Count(string(raw), "either prompt or messages"))
		assert.Equal(t, 3, strings.Count(string(raw), "\n"))
	})
	t.Run("it never touches what it did not write", func(t *testing.T) {
		for _, text := range []string{"my notes, one line without an end", `{"id":"a","prompt":"x"}`, "{\"id\":\"a\",\"prompt\":\"x\"}\n", "\x00\x01"} {
			notes := write(t, "notes", text)
			code, stderr := lexicalScores(t, in, notes)
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, stderr, "no line of scores")
			kept, err := os.ReadFile(notes)
			require.NoError(t, err)
			assert.Equal(t, text, string(kept))
		}
		code, stderr := lexicalScores(t, in, in)
		assert.Equal(t, exitUsage, code)
		assert.Contains(t, stderr, "same file")
		code, stderr = lexicalScores(t, in, "/dev/full")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "no regular file")
	})
	t.Run("it names a broken line", func(t *testing.T) {
		for text, want := range map[string]string{
			"{\"id\":\"a\",\"prompt\":\"x\"}\nnot json": "line 2",
			`{"prompt":"x"}`: "id is missing",
		} {
			code, stderr := lexicalScores(t, write(t, "bad.jsonl", text), filepath.Join(t.TempDir(), "o"))
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, stderr, want)
		}
	})
}

// lockedBuffer collects what a running server logs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
