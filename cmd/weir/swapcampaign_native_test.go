//go:build native && cgo && linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/classifier/onnx"
	"github.com/weirhq/weir/internal/swap"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// campaign tells whether the long forms of the tests are asked for.
func campaign() bool { return os.Getenv("WEIR_CAMPAIGN") == "1" }

// process is a server in a process of its own, whose memory counts.
type process struct {
	*served
	pid int
}

// startProcess serves models/tiny by this test's own program.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	s := &served{
		t: t, listen: freePort(t), admin: freePort(t), logs: &lockedBuffer{},
		live: copyBundle(t, "tiny", filepath.Join(dir, "live")), root: filepath.Join(dir, "root"), state: filepath.Join(dir, "state"),
	}
	require.NoError(t, os.Mkdir(s.root, 0o755))
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program, append([]string{ //nolint:gosec,noctx // this very test; its end is awaited
		"serve", "--bundle", s.live, "--bundle-root", s.root, "--bundle-state", s.state, "--listen", s.listen, "--admin-listen", s.admin,
		"--metrics-listen", "off", "--no-access-log", "--ledger", "memory",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = s.logs, s.logs
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		assert.NoError(t, cmd.Wait(), "log: %s", s.logs)
	})
	s.client = weirv1.NewRouterServiceClient(dialTest(t, s.listen))
	s.operator = weirv1.NewAdminServiceClient(dialTest(t, s.admin))
	s.ready()
	return &process{s, cmd.Process.Pid}
}

// usage is what the process holds: resident KiB, threads and descriptors.
func (p *process) usage() (rss, threads, files int) {
	p.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	require.NoError(p.t, err)
	for _, line := range strings.Split(string(raw), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.Atoi(fields[1])
		switch fields[0] {
		case "VmRSS:":
			rss = n
		case "Threads:":
			threads = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	require.NoError(p.t, err)
	return rss, threads, len(fds)
}

// load asks without pause, or at a rate, and holds every answer against the first
// of its bundle: a mixture of two versions shows as other scores.
type load struct {
	p      *process
	expect sync.Map // bundle digest -> the scores of the one prompt
	mixed  atomic.Int64
	failed atomic.Int64
	// unscored answers came without scores: a timeout, or a bundle closed too early.
	unscored atomic.Int64
	asked    atomic.Int64
	mu       sync.Mutex
	latency  []time.Duration
}

// forget begins a new measurement.
func (l *load) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency = nil
}

func (l *load) p99() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := slices.Clone(l.latency)
	slices.Sort(d)
	if len(d) == 0 {
		return 0
	}
	return d[len(d)*99/100]
}

// run asks from workers until ctx ends; rate 0 is as fast as it goes.
func (l *load) run(ctx context.Context, workers int, rate float64) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			next := time.Now()
			for ctx.Err() == nil {
				if rate > 0 {
					next = next.Add(time.Duration(float64(workers) / rate * float64(time.Second)))
					if d := time.Until(next); d > 0 {
						time.Sleep(d)
					} else if d < -time.Second {
						next = time.Now() // others had the machine
					}
				}
				l.one()
			}
		})
	}
	wg.Wait()
}

func (l *load) one() {
	start := time.Now()
	got, err := l.p.client.Route(context.Background(), &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: "prove that the sum of two odd numbers is even"}})
	took := time.Since(start)
	l.asked.Add(1)
	if err != nil {
		l.failed.Add(1)
		l.p.t.Log("failed: ", err)
		return
	}
	d := got.GetDecision()
	scores := fmt.Sprint(d.GetScores().GetQEfficient(), d.GetScores().GetQHigh(), d.GetScores().GetDomain())
	if d.GetScores() == nil {
		l.unscored.Add(1)
		return
	}
	if first, seen := l.expect.LoadOrStore(d.GetBundleDigest(), scores); seen && first != scores {
		l.mixed.Add(1)
	}
	l.mu.Lock()
	l.latency = append(l.latency, took)
	l.mu.Unlock()
}

// for runs the load for some time.
func (l *load) lasting(t *testing.T, d time.Duration, workers int, rate float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	l.run(ctx, workers, rate)
}

// TestSwapsUnderTraffic swaps two real bundles, each through every gate, while
// callers ask at 70 % of what the server can do.
func TestSwapsUnderTraffic(t *testing.T) {
	swaps, span := 3, 300*time.Millisecond
	var gate []string
	if campaign() {
		swaps, span = 1000, 10*time.Second
	} else {
		gate = []string{"--gate", quickGate(t)}
	}
	// Scoring gets long: others may have the machine, and a bundle that was closed too
	// early is what an answer without scores has to mean here.
	p := startProcess(t, append(gate, "--settle", "0s", "--watch=false", "--classify-timeout", "20s", "--request-timeout", "60s")...)
	for i, name := range []string{"a", "b"} {
		dir := setVersion(t, copyBundle(t, "tiny", filepath.Join(p.root, name)), name)
		if i == 1 { // other scores, so that a mixture shows
			writeIn(t, dir, "fast.onnx", addFloat(t, "quality_high_0_bias", 0.03)(readIn(t, dir, "fast.onnx")))
			code, _, stderr := weirChild(t, "model", "seal", dir)
			require.Equal(t, exitOK, code, stderr)
		}
	}
	l := &load{p: p}
	l.lasting(t, span, 8, 0)
	capacity := float64(l.asked.Load()) / span.Seconds()
	l.forget()
	l.lasting(t, span, 8, 0.7*capacity)
	baseline := l.p99()
	l.forget()
	asked := l.asked.Load()

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, 8, 0.7*capacity) })
	var rss10, rssEnd, threads10, threadsEnd, files10, filesEnd, peak int
	for i := range swaps {
		name := []string{"b", "a"}[i%2]
		staged, err := p.operator.StageBundle(t.Context(), &weirv1.StageBundleRequest{Name: name})
		require.NoError(t, err, "swap %d: %s", i, p.logs)
		_, err = p.operator.PromoteBundle(t.Context(), &weirv1.PromoteBundleRequest{Digest: staged.GetBundle().GetDigest()})
		require.NoError(t, err)
		rss, threads, files := p.usage()
		peak = max(peak, rss)
		if i == min(9, swaps-1) {
			rss10, threads10, files10 = rss, threads, files
		}
		rssEnd, threadsEnd, filesEnd = rss, threads, files
	}
	cancel()
	wg.Wait()
	p99 := l.p99()
	t.Logf("%d swaps, %d calls at 70 %% of %.0f a second; p99 %s without swaps, %s with (%.2f times); "+
		"RSS %d KiB after swap 10, %d after swap %d (%.3f times), peak %d; threads %d to %d, descriptors %d to %d",
		swaps, l.asked.Load()-asked, capacity, baseline, p99, p99.Seconds()/baseline.Seconds(), rss10, rssEnd, swaps, float64(rssEnd)/float64(rss10), peak,
		threads10, threadsEnd, files10, filesEnd)
	assert.Zero(t, l.failed.Load(), "calls failed")
	assert.Zero(t, l.unscored.Load(), "answers have no scores")
	assert.Zero(t, l.mixed.Load(), "answers mix two versions")
	seen := 0
	l.expect.Range(func(any, any) bool { seen++; return true })
	assert.Equal(t, 3, seen, "the start, a and b")
	if campaign() {
		assert.LessOrEqual(t, p99.Seconds(), 2*baseline.Seconds())
		assert.LessOrEqual(t, float64(rssEnd), 1.05*float64(rss10))
		assert.LessOrEqual(t, threadsEnd, threads10+2)
		assert.LessOrEqual(t, filesEnd, files10+2)
	}
}

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

// TestSwapMutants holds randomly damaged graphs, for which a forged manifest
// vouches, against the gates, each in a process of its own as a server does. None
// may end this process, and none that is accepted may score otherwise on 500
// prompts that are neither probes nor replayed.
func TestSwapMutants(t *testing.T) {
	if raceDetector {
		t.Skip("the examining process bounds its memory, which the race detector does not take, and sees few words with it")
	}
	total := 8
	if campaign() {
		total = 4000
	}
	rt, err := onnx.Start(onnx.RuntimeConfig{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, rt.Close()) }()
	program, err := os.Executable()
	require.NoError(t, err)
	e := &examiner{program: program, args: []string{"model", "probe"}, cache: t.TempDir()}
	policy := swap.DefaultPolicy()
	policy.Replay.Bootstrap = 100
	texts := corpus(t, 500)
	truth := scoresOf(t, rt, bundleDir("tiny"), texts)
	original := readIn(t, bundleDir("tiny"), "fast.onnx")
	var mu sync.Mutex
	refused, accepted, worst := map[string]int{}, 0, 0.0
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 2 {
		wg.Go(func() {
			dir, out := copyBundle(t, "tiny", filepath.Join(t.TempDir(), "mutant")), t.TempDir()
			for i := next.Add(1) - 1; i < int64(total); i = next.Add(1) - 1 {
				vouch(t, dir, "fast.onnx", mutate(original, uint64(i)))
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
				mu.Lock()
				if gate == "accepted" {
					accepted++
					gap := distance(truth, scoresOf(t, rt, dir, texts))
					worst = max(worst, gap)
					assert.LessOrEqual(t, gap, 1e-3, "mutant %d was accepted and scores otherwise", i)
				} else {
					refused[gate]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d mutants: %d accepted, which differ by at most %.3g on %d prompts; refused by %v (load: the process ended)", total, accepted, worst, len(texts), refused)
}

func scoresOf(t *testing.T, rt *onnx.Runtime, dir string, texts []string) []classifier.Scores {
	t.Helper()
	b, err := rt.Open(t.Context(), dir, onnx.Config{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, b.Close()) }()
	out := make([]classifier.Scores, len(texts))
	for i, text := range texts {
		out[i], err = b.Classify(t.Context(), text)
		require.NoError(t, err)
	}
	return out
}

func distance(a, b []classifier.Scores) float64 {
	worst := 0.0
	for i := range a {
		worst = max(worst, math.Abs(a[i].QEfficient.Value-b[i].QEfficient.Value), math.Abs(a[i].QHigh.Value-b[i].QHigh.Value))
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
		"hang":          {"exec sleep 60", "took longer than 1s", ""},
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
	_, err := (&examiner{program: "/nowhere"}).examine(t.Context(), job)
	require.ErrorContains(t, err, "start the examining process")
}

// TestTheExaminingProcessEndsWithItsParent closes the pipe that a server holds.
func TestTheExaminingProcessEndsWithItsParent(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "model", "probe")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	var out bytes.Buffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	policy := swap.DefaultPolicy()
	policy.Replay.Bootstrap = 1_000_000 // it will not be done before the pipe is closed
	job := probeJob{Job: swap.Job{Candidate: bundleDir("tiny"), Serving: bundleDir("tiny"), Out: t.TempDir(), Config: string(router.DefaultConfig()), Policy: policy}}
	require.NoError(t, json.NewEncoder(stdin).Encode(job))
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, stdin.Close())
	require.Error(t, cmd.Wait())
	assert.Empty(t, out.String())
}
