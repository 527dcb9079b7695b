package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/classifier/onnx"
	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/eval/sets"
	"github.com/weirhq/weir/internal/swap"
	"github.com/weirhq/weir/router"
)

// probeJob is what the examining process reads: one JSON value on its standard
// input, which stays open as long as somebody wants the answer.
type probeJob struct {
	swap.Job
	Library string `json:"library"`
	Cache   string `json:"cache"`
}

// probeAnswer is what it writes: one JSON value.
type probeAnswer struct {
	Report *swap.Report `json:"report,omitempty"`
	// Fault is why the examination could not be held.
	Fault string `json:"fault,omitempty"`
}

func modelProbeCommand(w world) *cobra.Command {
	return &cobra.Command{
		Use:    "probe",
		Short:  "Examine a candidate in this process (serve runs it as a child)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var job probeJob
			if err := json.NewDecoder(w.stdin).Decode(&job); err != nil {
				return usageError("probe reads its job from standard input: %w", err)
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			if f, ok := w.stdin.(*os.File); ok {
				// The end of the input is the end of the parent: a native call that hangs
				// must not outlive it.
				go func() {
					_, _ = io.Copy(io.Discard, f)
					os.Exit(exitFailed) //nolint:revive // nothing else ends a native call that hangs
				}()
			}
			if err := limitProcess(&job.Policy); err != nil {
				return err
			}
			report, err := examine(ctx, w, &job)
			answer := probeAnswer{Report: report}
			if err != nil {
				answer = probeAnswer{Fault: err.Error()}
			}
			return json.NewEncoder(w.stdout).Encode(answer)
		},
	}
}

// examining begins a line that says which gate is held.
const examining = "examining: "

// examine holds a candidate against the gates in this process.
func examine(ctx context.Context, w world, job *probeJob) (_ *swap.Report, err error) {
	rules, err := router.ParseConfig([]byte(job.Config), "serving config", w.getenv)
	if err != nil {
		return nil, err
	}
	sources, err := replaySources(job.Policy.Replay.Sets)
	if err != nil {
		return nil, err
	}
	rt, err := onnx.Start(onnx.RuntimeConfig{LibraryPath: job.Library})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	exam := swap.Exam{
		Job: job.Job, Rules: rules, Sources: sources, CacheDir: job.Cache, Cover: vocabulary(job.Candidate),
		Open: func(ctx context.Context, dir string) (swap.Bundle, error) {
			b, err := rt.Open(ctx, dir, onnx.Config{MaxConcurrent: 1})
			if err != nil {
				return nil, err
			}
			return b, nil
		},
		Refusals: func(err error) []swap.Gate { return gatesOf(err, job.Candidate) },
		// Should this process have to be ended, its parent says where it was.
		Progress: func(gate string) { fmt.Fprintln(w.stderr, examining+gate) },
	}
	return exam.Run(ctx)
}

// maxCover bounds the words of a vocabulary that are scored one by one.
const maxCover = 60_000

// vocabulary returns the words of a bundle's tokenizers, those that only continue a
// word behind a beginning. A tokenizer of another kind than WordPiece gives what reads
// as its words; one that cannot be read gives none, and the gates will say why.
func vocabulary(dir string) []string {
	m, err := onnx.ReadManifest(dir)
	if err != nil {
		return nil
	}
	names := map[string]bool{m.Lanes.Fast.Tokenizer: true}
	if m.Lanes.Base != nil {
		names[m.Lanes.Base.Tokenizer] = true
	}
	out := []string{"\u2603", "\u5b57"} // what a vocabulary most likely does not have
	for _, name := range slices.Sorted(maps.Keys(names)) {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		var t struct {
			Model struct {
				Vocab map[string]int `json:"vocab"`
			} `json:"model"`
		}
		if err != nil || json.Unmarshal(raw, &t) != nil {
			continue
		}
		for i, word := range slices.Sorted(maps.Keys(t.Model.Vocab)) {
			if raceDetector && i%16 != 0 {
				continue // it is for tests, and ten times as slow
			}
			words := []string{strings.ReplaceAll(word, "Ġ", " ")}
			if rest, ok := strings.CutPrefix(word, "##"); ok {
				// The beginning must not join with the rest to another word: try some.
				words = []string{"q" + rest, "zz" + rest, "7" + rest}
			}
			if out = append(out, words...); len(out) >= maxCover {
				return out
			}
		}
	}
	return out
}

// replaySources opens the sets that a gate policy names.
func replaySources(specs []string) ([]eval.Source, error) {
	var out []eval.Source
	for _, spec := range specs {
		if spec == swap.ShippedSet {
			out = append(out, sets.WeirLocal())
			continue
		}
		sources, err := eval.Open(spec)
		if err != nil {
			return nil, fmt.Errorf("gate policy: replay.sets: %w, or %s", err, swap.ShippedSet)
		}
		out = append(out, sources...)
	}
	return out, nil
}

// examiner runs examinations in child processes.
type examiner struct {
	// program is the executable, args what makes it examine.
	program string
	args    []string
	env     []string
	library string
	cache   string
	// waited is how long a process's threads waited for a core; nil asks the system.
	waited func(pid int) time.Duration
}

// killGrace is how long a child that was told to end may take.
const killGrace = 2 * time.Second

// examine implements swap.Config.Examine. A child that crashes, hangs or runs out
// of memory is the candidate's fault: the gate "load" refuses.
func (e *examiner) examine(ctx context.Context, job swap.Job) (*swap.Report, error) {
	input, err := json.Marshal(probeJob{Job: job, Library: e.library, Cache: e.cache})
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, job.Policy.Timeout, errExamTimeout)
	defer cancel()
	cmd := exec.CommandContext(bounded, e.program, e.args...) //nolint:gosec // this very program
	cmd.Env = e.env
	cmd.WaitDelay = killGrace
	waiting := time.Duration(0)
	cmd.Cancel = func() error {
		waited := e.waited
		if waited == nil {
			waited = waitedForCore
		}
		waiting = waited(cmd.Process.Pid)
		return cmd.Process.Kill()
	}
	var stdout bytes.Buffer
	stderr := &tail{most: 2048}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the examining process: %w", err)
	}
	_, writeErr := stdin.Write(input) // it stays open until the answer is there
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var answer probeAnswer
	if err := json.Unmarshal(stdout.Bytes(), &answer); err == nil && waitErr == nil {
		if answer.Fault != "" {
			return nil, errors.New(answer.Fault)
		}
		if answer.Report != nil {
			return answer.Report, nil
		}
	}
	var exit *exec.ExitError
	switch {
	case errors.Is(context.Cause(bounded), errExamTimeout):
		if waiting > job.Policy.Timeout/2 {
			// It wanted to run and was not let: that is no fault of the candidate's.
			return nil, fmt.Errorf("the machine was too busy: the examining process waited %s of %s for a core%s: choose priority: low in the gate policy, raise its timeout, or try again",
				waiting.Round(time.Millisecond), job.Policy.Timeout, stderr.words())
		}
		used := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(10 * time.Millisecond)
		return loadRefusal("the first load and the gates took longer than %s (timeout in the gate policy), %s of it on a core%s; the process was ended",
			job.Policy.Timeout, used, stderr.words()), nil
	case errors.As(waitErr, &exit) && (exit.ExitCode() != exitUsage || !strings.HasPrefix(string(stderr.last), "weir:")):
		// Go itself exits with 2 when it crashes.
		return loadRefusal("the process that loaded it ended: %s%s", exit.ProcessState, stderr.words()), nil
	}
	return nil, fmt.Errorf("the examining process gave no answer: %w%s", errors.Join(waitErr, writeErr), stderr.words())
}

var errExamTimeout = errors.New("the examination took too long")

func loadRefusal(format string, args ...any) *swap.Report {
	return &swap.Report{Gates: []swap.Gate{{Name: swap.GateLoad, Detail: fmt.Sprintf(format, args...)}}}
}

// tail keeps the last of what is written.
type tail struct {
	most int
	last []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-t.most):]
	return len(p), nil
}

// words are the last line or two, for an error.
func (t *tail) words() string {
	lines := strings.Split(strings.TrimSpace(string(t.last)), "\n")
	for _, l := range lines {
		// A Go crash begins with its reason; what follows are stacks.
		if strings.HasPrefix(l, "fatal error:") || strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "SIG") {
			return ": " + strings.TrimSpace(l)
		}
	}
	if last := lines[len(lines)-1]; last != "" {
		return ": " + strings.ToValidUTF8(last, "")
	}
	return ""
}
