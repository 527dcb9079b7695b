//go:build native && cgo && linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
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

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// campaignCount is how many swaps or mutants scripts/campaign asks for, and otherwise
// a few. Both campaigns want the machine for themselves, so that the other long tests
// do not bring them along.
func campaignCount(t *testing.T, name string, otherwise int) (n int, whole bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise, false
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "%s is how many", name)
	require.Positive(t, n)
	return n, true
}

// process is a server in a process of its own, whose memory counts.
type process struct {
	*served
	pid int
}

// startProcess serves a copy of a shipped bundle by this test's own program. No scores are kept, so
// that every call is scored.
func startProcess(t *testing.T, bundle string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	s := &served{
		t: t, listen: freePort(t), admin: freePort(t), logs: &lockedBuffer{},
		live: copyBundle(t, bundle, filepath.Join(dir, "live")), root: filepath.Join(dir, "root"), state: filepath.Join(dir, "state"),
	}
	require.NoError(t, os.Mkdir(s.root, 0o755))
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program, append([]string{ //nolint:gosec,noctx // this very test; its end is awaited
		"serve", "--bundle", s.live, "--bundle-root", s.root, "--bundle-state", s.state, "--listen", s.listen, "--admin-listen", s.admin,
		"--metrics-listen", "off", "--no-access-log", "--ledger", "memory", "--score-cache", "0",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = s.logs, s.logs
	cmd.Env = append(os.Environ(), "MALLOC_ARENA_MAX=2") // as deploy/ sets it
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

// held is what a process holds: resident KiB, threads and descriptors.
type held struct{ rss, threads, files int }

func (p *process) holds() (h held) {
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
			h.rss = n
		case "Threads:":
			h.threads = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	require.NoError(p.t, err)
	h.files = len(fds)
	return h
}

// load asks many prompts, without pause or at a rate, and holds every answer against
// the first that its bundle gave to that prompt: a mixture of two versions shows as
// other scores.
type load struct {
	p       *process
	prompts []string
	expect  sync.Map // answerKey -> the scores
	seen    sync.Map // bundle digest -> true
	mixed   atomic.Int64
	failed  atomic.Int64
	asked   atomic.Int64
	turn    atomic.Int64

	mu sync.Mutex
	// unscored answers came without scores, by reason: the bound of scoring was hit,
	// or a bundle was closed too early.
	unscored map[string]int
	latency  []time.Duration
}

type answerKey struct {
	digest string
	prompt int
}

// measured is what a span of the load saw.
type measured struct {
	calls               int
	p50, p99, p999, top time.Duration
}

func (m measured) String() string {
	return fmt.Sprintf("%d calls, p50 %s, p99 %s, p99.9 %s, slowest %s", m.calls, m.p50, m.p99, m.p999, m.top)
}

// measure sums the latencies up, and begins anew.
func (l *load) measure() measured {
	l.mu.Lock()
	d := l.latency
	l.latency = nil
	l.mu.Unlock()
	if len(d) == 0 {
		return measured{}
	}
	slices.Sort(d)
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))] }
	return measured{len(d), at(0.5), at(0.99), at(0.999), at(1)}
}

// forgive leaves what came before out: the measuring of the capacity asks for more
// than the server can do.
func (l *load) forgive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unscored) > 0 {
		l.p.t.Logf("before the swaps: unscored %v", l.unscored)
	}
	l.unscored = map[string]int{}
}

// withoutScores is how many answers came without.
func (l *load) withoutScores() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.unscored {
		n += k
	}
	return n
}

// run asks from workers until ctx ends; rate 0 is as fast as it goes.
func (l *load) run(ctx context.Context, workers int, rate float64) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var took []time.Duration
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
				if d, ok := l.one(); ok {
					took = append(took, d)
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.latency = append(l.latency, took...)
		})
	}
	wg.Wait()
}

// one asks the next prompt. ok is false where no scored answer came.
func (l *load) one() (took time.Duration, ok bool) {
	i := int(l.turn.Add(1)) % len(l.prompts)
	start := time.Now()
	got, err := l.p.client.Route(context.Background(), &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: l.prompts[i]}})
	took = time.Since(start)
	l.asked.Add(1)
	if err != nil {
		l.failed.Add(1)
		l.p.t.Log("failed: ", err)
		return 0, false
	}
	d := got.GetDecision()
	if d.GetScores() == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unscored[fmt.Sprintf("%s of %s", d.GetUnscoredReason(), d.GetBundleDigest())]++
		l.p.t.Logf("unscored after %s: %s", took, d.GetUnscoredReason())
		return 0, false
	}
	scores := [3]float64{d.GetScores().GetQEfficient(), d.GetScores().GetQHigh(), d.GetScores().GetOutputTokens()}
	if first, seen := l.expect.LoadOrStore(answerKey{d.GetBundleDigest(), i}, scores); seen && first != scores {
		l.mixed.Add(1)
	}
	l.seen.Store(d.GetBundleDigest(), true)
	return took, true
}

// lasting runs the load for some time.
func (l *load) lasting(t *testing.T, d time.Duration, workers int, rate float64) measured {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	l.run(ctx, workers, rate)
	return l.measure()
}

func median(v []int) int {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// raised puts other calibrated scores into a bundle: the graph stays, so that it is
// another real bundle, and a mixture of both shows in every score.
func raised(t *testing.T, dir string, by float64) {
	t.Helper()
	editJSON(t, dir, "manifest.json", func(m object) {
		for _, lane := range lanesOf(m) {
			for _, knot := range lane["calibration"].(object)["quality_high"].(object)["knots"].([]any) {
				for _, key := range []string{"y", "lo", "hi"} {
					v, err := knot.(object)[key].(json.Number).Float64()
					require.NoError(t, err)
					knot.(object)[key] = v + by
				}
			}
		}
	})
}

// TestSwapsUnderTraffic swaps the bundle in turns: another one is put through every
// gate and promoted, and then rolled back, while callers ask at 70 % of what the server
// can do. scripts/campaign swaps runs it whole: with models/default, the bounds of scoring that a server has by itself, and the
// bounds of the campaign on latency and memory.
func TestSwapsUnderTraffic(t *testing.T) {
	swaps, whole := campaignCount(t, "WEIR_SWAPS", 3)
	bundle, span := "tiny", 300*time.Millisecond
	// Scoring gets long where others may have the machine, and a bundle that was closed
	// too early is what an answer without scores has to mean.
	args := []string{"--gate", quickGate(t), "--classify-timeout", "20s", "--request-timeout", "60s"}
	if whole {
		bundle, span, args = "default", 20*time.Second, nil
	}
	p := startProcess(t, bundle, append(args, "--settle", "0s", "--watch=false")...)
	for name, by := range map[string]float64{"a": 0.01, "b": 0.02} {
		raised(t, setVersion(t, copyBundle(t, bundle, filepath.Join(p.root, name)), name), by)
	}
	l := &load{p: p, prompts: corpus(t, 1000), unscored: map[string]int{}}
	l.lasting(t, span/4, 8, 0) // warm
	capacity := float64(l.lasting(t, span, 8, 0).calls) / span.Seconds()
	l.lasting(t, span/4, 8, 0.7*capacity)
	baseline := l.lasting(t, span, 8, 0.7*capacity)
	l.forgive()

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, 8, 0.7*capacity) })
	var first, last, peak held
	var all []int // resident KiB after each swap
	begin := time.Now()
	staged := 0
	for i := range swaps {
		if i%2 == 0 {
			p.promoteNew([]string{"b", "a"}[staged%2])
			staged++
		} else {
			// The bundle before was closed when it was replaced, so that it is opened again.
			_, err := p.operator.RollbackBundle(t.Context(), &weirv1.RollbackBundleRequest{})
			require.NoError(t, err, "swap %d: %s", i, p.logs)
		}
		last = p.holds()
		all = append(all, last.rss)
		if i == min(9, swaps-1) {
			first = last
		}
		if last.rss > peak.rss {
			peak = last
		}
		if (i+1)%100 == 0 {
			t.Logf("after %d swaps and %s: RSS %d KiB, %d unscored", i+1, time.Since(begin).Round(time.Second), last.rss, l.withoutScores())
		}
	}
	took := time.Since(begin)
	// Garbage comes and goes within a swap: ten of them say more than one.
	early, late := median(all[min(9, len(all)-1):min(19, len(all))]), median(all[max(len(all)-10, 0):])
	cancel()
	wg.Wait()
	during := l.measure()
	seen := 0
	l.seen.Range(func(any, any) bool { seen++; return true })
	t.Logf("\n%d swaps of models/%s, %d staged through every gate and promoted and %d rolled back, in %s, at 70 %% of %.0f calls a second\nfailed calls %d\nmixed versions %d\nunscored answers %d %v\n"+
		"without swaps: %s\nduring swaps:  %s\np99 during by without: %.2f\nRSS after swap 10 %d KiB, at the end %d KiB (%.3f times); medians of swaps 10 to 19 and of the last ten %d and %d KiB (%.3f times); peak %d KiB\nthreads %d, at the end %d\ndescriptors %d, at the end %d",
		swaps, bundle, staged, swaps-staged, took.Round(time.Second), capacity, l.failed.Load(), l.mixed.Load(), l.withoutScores(), l.unscored,
		baseline, during, during.p99.Seconds()/baseline.p99.Seconds(), first.rss, last.rss, float64(last.rss)/float64(first.rss), early, late, float64(late)/float64(early), peak.rss,
		first.threads, last.threads, first.files, last.files)
	assert.Zero(t, l.failed.Load(), "calls failed")
	assert.Zero(t, l.withoutScores(), "answers have no scores: %v", l.unscored)
	assert.Zero(t, l.mixed.Load(), "answers mix two versions")
	assert.Equal(t, min(staged, 2)+1, seen, "the start, a and b")
	if whole {
		assert.LessOrEqual(t, during.p99.Seconds(), 2*baseline.p99.Seconds(), "p99 during swaps")
		assert.LessOrEqual(t, float64(late), 1.05*float64(early), "RSS")
		assert.LessOrEqual(t, last.threads, first.threads+2)
		assert.LessOrEqual(t, last.files, first.files+2)
	}
}
