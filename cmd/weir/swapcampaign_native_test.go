//go:build native && cgo && linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/classifier/onnx"
	"github.com/weirhq/weir/internal/swap"
	"github.com/weirhq/weir/router"
)

// corpus are prompts that no probe and no replay set has.
func corpus(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	names, err := filepath.Glob(filepath.Join("..", "..", "training-data", "corpus", "*.jsonl"))
	require.NoError(t, err)
	for _, name := range names {
		f, err := os.Open(name)
		require.NoError(t, err)
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for k := 0; k < n/len(names)+1 && lines.Scan(); {
			var row struct{ Prompt string }
			require.NoError(t, json.Unmarshal(lines.Bytes(), &row))
			if row.Prompt != "" {
				out = append(out, row.Prompt)
				k++
			}
		}
		require.NoError(t, f.Close())
	}
	require.GreaterOrEqual(t, len(out), n)
	return out[:n]
}

// mutants is what became of them.
type mutants struct {
	mu       sync.Mutex
	refused  map[string]int
	accepted int
	worst    float64
}

// TestSwapMutants holds randomly damaged graphs, for which a forged manifest
// vouches, against the gates, each in a process of its own as a server does. None
// may end this process, and none that is accepted may score otherwise on 500
// prompts that are neither probes nor replayed. scripts/campaign mutants runs it
// whole. A quarter as many again are of the base lane.
func TestSwapMutants(t *testing.T) {
	if raceDetector {
		t.Skip("the examining process bounds its memory, which the race detector does not take, and sees few words with it")
	}
	total, _ := campaignCount(t, "WEIR_MUTANTS", 8)
	rt, err := onnx.Start(onnx.RuntimeConfig{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, rt.Close()) }()
	program, err := os.Executable()
	require.NoError(t, err)
	e := &examiner{program: program, args: []string{"model", "probe"}, cache: t.TempDir()}
	policy := swap.DefaultPolicy()
	policy.Replay.Bootstrap, policy.Priority = 100, swap.PriorityLow
	texts := corpus(t, 500)
	truth := scoresOf(t, rt, bundleDir("tiny"), texts)
	seen := &mutants{refused: map[string]int{}}
	var wg sync.WaitGroup
	var next atomic.Int64
	all := int64(total + total/4)
	for range 2 {
		wg.Go(func() {
			dir, out := filepath.Join(t.TempDir(), "mutant"), t.TempDir()
			for i := next.Add(1) - 1; i < all; i = next.Add(1) - 1 {
				file := "fast.onnx"
				if i >= int64(total) {
					file = "base.onnx"
				}
				copyBundle(t, "tiny", dir)
				vouch(t, dir, file, mutate(readIn(t, dir, file), uint64(i)))
				gate := "static"
				if _, gates := identify(dir); len(gates) == 0 {
					r, err := e.examine(t.Context(), swap.Job{Candidate: dir, Serving: bundleDir("tiny"), Out: out, Config: string(router.DefaultConfig()), Policy: policy})
					if !assert.NoError(t, err, "mutant %d", i) {
						return
					}
					if gate = "accepted"; !r.Passed() {
						gate = r.Failed()[0].Name
					}
				}
				seen.count(t, gate, i, func() float64 { return distance(truth, scoresOf(t, rt, dir, texts)) })
			}
		})
	}
	wg.Wait()
	t.Logf("\n%d mutants, %d of them of the base lane\ndeaths of the serving process 0 (this line is written by it); of examining processes %d\naccepted %d\n"+
		"largest difference of those %.3g on %d prompts, by either lane and by both together\nrefused by gate %v",
		all, total/4, seen.refused[swap.GateLoad], seen.accepted, seen.worst, len(texts), seen.refused)
}

func (m *mutants) count(t *testing.T, gate string, i int64, gap func() float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if gate != "accepted" {
		m.refused[gate]++
		return
	}
	m.accepted++
	d := gap()
	m.worst = max(m.worst, d)
	assert.LessOrEqual(t, d, 1e-3, "mutant %d was accepted and scores otherwise", i)
}

// scoresOf are the scores of a bundle and of each of its lanes.
func scoresOf(t *testing.T, rt *onnx.Runtime, dir string, texts []string) (out []classifier.Scores) {
	t.Helper()
	b, err := rt.Open(t.Context(), dir, onnx.Config{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, b.Close()) }()
	lanes := b.Lanes()
	for _, c := range []classifier.Classifier{b, lanes["fast"], lanes["base"]} {
		for _, text := range texts {
			s, err := c.Classify(t.Context(), text)
			require.NoError(t, err)
			out = append(out, s)
		}
	}
	return out
}

func distance(a, b []classifier.Scores) float64 {
	worst := 0.0
	for i := range a {
		worst = max(worst, math.Abs(a[i].QEfficient.Value-b[i].QEfficient.Value), math.Abs(a[i].QHigh.Value-b[i].QHigh.Value))
		for d := range a[i].Domains {
			worst = max(worst, math.Abs(a[i].Domains[d]-b[i].Domains[d]))
		}
	}
	return worst
}

// TestExaminerTellsHowItsChildEnded plants children that crash, hang, babble and
// refuse to begin.
func TestExaminerTellsHowItsChildEnded(t *testing.T) {
	policy := swap.DefaultPolicy()
	policy.Timeout = time.Second
	job := swap.Job{Policy: policy}
	for name, tc := range map[string]struct{ script, says, fault string }{
		"crash":         {"cat >/dev/null & kill -SEGV $$", "signal: segmentation fault", ""},
		"out of memory": {"kill -KILL $$", "signal: killed", ""},
		"fatal":         {"echo 'fatal error: runtime: out of memory' >&2; echo stack >&2; exit 2", "fatal error: runtime: out of memory", ""},
		"wrong usage":   {"echo 'weir: unknown flag' >&2; exit 2", "", "weir: unknown flag"},
		"abort":         {"echo 'terminate called' >&2; kill -ABRT $$", "signal: aborted: terminate called", ""},
		"exit":          {"echo bad >&2; exit 1", "exit status 1: bad", ""},
		"hang":          {"echo 'examining: replay' >&2; exec sleep 60", "took longer than 1s (timeout in the gate policy), 0s of it on a core: examining: replay", ""},
		"its own fault": {`echo '{"fault": "the set is gone"}'`, "", "the set is gone"},
		"babble":        {"echo hello", "", "gave no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &examiner{program: "/bin/sh", args: []string{"-c", tc.script}}
			r, err := e.examine(t.Context(), job)
			if tc.fault != "" {
				require.ErrorContains(t, err, tc.fault)
				return
			}
			require.NoError(t, err)
			require.Len(t, r.Failed(), 1)
			assert.Equal(t, swap.GateLoad, r.Failed()[0].Name)
			assert.Contains(t, r.Failed()[0].Detail, tc.says)
		})
	}
	// A process that was not let run says nothing about the candidate.
	busy := &examiner{program: "/bin/sh", args: []string{"-c", "exec sleep 60"}, waited: func(int) time.Duration { return 900 * time.Millisecond }}
	_, err := busy.examine(t.Context(), job)
	require.ErrorContains(t, err, "waited 900ms of 1s for a core")
	_, err = (&examiner{program: "/nowhere"}).examine(t.Context(), job)
	require.ErrorContains(t, err, "start the examining process")
}

// probing starts an examination that will not be done before its input is closed.
func probing(t *testing.T) (cmd *exec.Cmd, stdin io.Closer, out *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd = exec.CommandContext(t.Context(), program, "model", "probe")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out = &bytes.Buffer{}
	cmd.Stdout = out
	require.NoError(t, cmd.Start())
	policy := swap.DefaultPolicy()
	policy.Replay.Bootstrap = 1_000_000
	job := probeJob{Job: swap.Job{Candidate: bundleDir("tiny"), Serving: bundleDir("tiny"), Out: t.TempDir(), Config: string(router.DefaultConfig()), Policy: policy}}
	require.NoError(t, json.NewEncoder(in).Encode(job))
	return cmd, in, out
}

// TestTheExaminingProcessStandsBack looks at every thread of it: one that was not
// lowered would take a core from callers.
func TestTheExaminingProcessStandsBack(t *testing.T) {
	cmd, stdin, _ := probing(t)
	defer func() { _ = cmd.Wait() }()
	defer stdin.Close() //nolint:errcheck // it ends the process
	ahead := func() (names []string) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", cmd.Process.Pid))
		require.NoError(t, err)
		require.NotEmpty(t, tasks, "it has ended")
		for _, task := range tasks {
			raw, err := os.ReadFile(task)
			if err != nil {
				continue // that thread has ended
			}
			// What follows the name begins with the third field; nice is the 19th, the
			// scheduling policy the 41st.
			fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
			if nice, policy := fields[19-3], fields[41-3]; policy != strconv.Itoa(schedIdle) || nice != strconv.Itoa(examNice) {
				names = append(names, fmt.Sprintf("%s: nice %s, policy %s", task, nice, policy))
			}
		}
		return names
	}
	require.Eventually(t, func() bool { return len(ahead()) == 0 }, 30*time.Second, 5*time.Millisecond)
	for range 40 { // threads that begin later are lowered too
		assert.Empty(t, ahead())
		time.Sleep(5 * time.Millisecond)
	}
}

// Many threads on few cores wait, and the system tells.
func TestWaitedForCore(t *testing.T) {
	var wg sync.WaitGroup
	before := waitedForCore(os.Getpid())
	for range 4 * runtime.NumCPU() {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for i := 0; i < 20 && waitedForCore(os.Getpid()) == before; i++ {
				for begin := time.Now(); time.Since(begin) < 5*time.Millisecond; {
					continue
				}
			}
		})
	}
	wg.Wait()
	assert.Greater(t, waitedForCore(os.Getpid()), before)
	assert.Zero(t, waitedForCore(-1))
}

// TestTheExaminingProcessEndsWithItsParent closes the pipe that a server holds.
func TestTheExaminingProcessEndsWithItsParent(t *testing.T) {
	cmd, stdin, out := probing(t)
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, stdin.Close())
	require.Error(t, cmd.Wait())
	assert.Empty(t, out.String())
}
