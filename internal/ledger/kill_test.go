package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/ledger/ledgertest"
	"github.com/weirhq/weir/router"
)

// childEnv makes the test binary keep a ledger at that path and acknowledge on
// standard output, until it is killed: "settled ID COST". childCalls bounds it.
const (
	childEnv   = "WEIR_LEDGER_CHILD"
	childCalls = "WEIR_LEDGER_CHILD_CALLS"
	childRun   = "WEIR_LEDGER_CHILD_RUN"
	// childAlone makes one caller of the four.
	childAlone = "WEIR_LEDGER_CHILD_ALONE"
)

// child is the other process. It returns its exit code.
func child(path string) int {
	l, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	r := l.Recovery()
	fmt.Println("open", r.Calls, int64(r.Charged), int64(r.Drift))
	calls, _ := strconv.Atoi(os.Getenv(childCalls))
	var wg sync.WaitGroup
	workers := 4
	if os.Getenv(childAlone) != "" {
		workers = 1
	}
	for worker := range workers {
		wg.Go(func() {
			for i := 0; calls == 0 || i < calls; i++ {
				id := fmt.Sprint("run", os.Getenv(childRun), ".", worker, ".", i)
				r := ledgertest.Reservation(id, 100)
				r.Budget = router.Budget{Limit: 1 << 50, Window: router.WindowDay}
				r.IdempotencyKey, r.RequestDigest = id, "sha256:1"
				if err := l.Reserve(context.Background(), r); err != nil {
					fmt.Println("refused", id, err)
					continue
				}
				got, err := l.Settle(context.Background(), ledgertest.Settlement(id, router.NanoUSD(i%90+1)))
				if err != nil {
					fmt.Println("failed", id, err)
					continue
				}
				// One write: a line is there whole or not at all.
				_, _ = os.Stdout.WriteString(fmt.Sprintln("settled", id, int64(got.Booked)))
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

func childCommand(t *testing.T, path string, run, calls int, tool ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	args := append(tool, exe) //nolint:gocritic // tool is the caller's own
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+path, fmt.Sprint(childRun, "=", run), fmt.Sprint(childCalls, "=", calls))
	return cmd
}

// TestKill kills the writing process at random points: no acknowledged charge is
// lost or doubled, and after recovery nothing is open.
func TestKill(t *testing.T) {
	kills := 10
	if campaign() {
		kills = 100
	}
	path := filepath.Join(t.TempDir(), "ledger.db")
	rng := rand.New(rand.NewPCG(11, 12))
	acknowledged := map[string]int64{}
	recovered := int64(0)
	for run := range kills {
		cmd := childCommand(t, path, run, 0)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan())
		first := strings.Fields(lines.Text())
		require.Equal(t, "open", first[0], lines.Text())
		require.Equal(t, "0", first[3], "drift")
		n, err := strconv.ParseInt(first[1], 10, 64)
		require.NoError(t, err)
		recovered += n
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(120*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			require.Equal(t, "settled", f[0], lines.Text())
			require.NotContains(t, acknowledged, f[1], "acknowledged twice")
			acknowledged[f[1]], err = strconv.ParseInt(f[2], 10, 64)
			require.NoError(t, err)
		}
		timer.Stop()
		require.Error(t, cmd.Wait(), "it was killed")
	}
	l := openAt(t, path)
	recovered += l.Recovery().Calls
	b := readBooks(t, l)
	b.check(t)
	assert.Zero(t, b.open)
	assert.Zero(t, b.held)
	for id, cost := range acknowledged {
		var r router.Receipt
		require.NoError(t, l.submit(&op{run: func(c *conn) (err error) { r, _, err = receiptOf(c, id); return err }}))
		require.Equal(t, "complete", r.Status, "an acknowledged charge was lost: %s", id)
		require.EqualValues(t, cost, r.Booked, id)
	}
	unacknowledged := b.calls - int64(len(acknowledged)) - recovered
	assert.GreaterOrEqual(t, unacknowledged, int64(0))
	if campaign() {
		assert.GreaterOrEqual(t, len(acknowledged), 1000)
	}
	t.Logf("%d kills: %d calls, %d acknowledged, %d settled without acknowledgement, %d closed by recovery", kills, b.calls, len(acknowledged), unacknowledged, recovered)
}

// straced runs the child under strace, or skips where that cannot be.
func straced(t *testing.T, path string, calls int, flags ...string) (trace, out string) {
	t.Helper()
	tool, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	log := filepath.Join(t.TempDir(), "trace")
	args := append([]string{tool, "-f", "-qq", "-o", log, "-s", "64", "-y"}, flags...)
	probe := exec.CommandContext(t.Context(), tool, "-f", "-qq", "-o", os.DevNull, "-e", "trace=none", "true")
	if err := probe.Run(); err != nil {
		t.Skipf("strace may not trace here: %v", err)
	}
	cmd := childCommand(t, path, 0, calls, args...)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	_ = cmd.Run() // what it printed tells
	raw, err := os.ReadFile(log)
	require.NoError(t, err)
	return string(raw), stdout.String()
}

// TestSyncBeforeAcknowledgement: every acknowledgement follows a sync of the log.
// With one caller the rule is strict: nothing was written to the log between the
// sync's begin and the acknowledgement. With four that share commits: a sync
// began and ended well since the caller's previous acknowledgement.
func TestSyncBeforeAcknowledgement(t *testing.T) {
	for _, alone := range []bool{true, false} {
		t.Run(fmt.Sprint("alone=", alone), func(t *testing.T) {
			calls := 40
			if campaign() {
				calls = 1000
			}
			want := 4 * calls
			if alone {
				t.Setenv(childAlone, "1")
				want = calls
			}
			trace, out := straced(t, filepath.Join(t.TempDir(), "ledger.db"), calls, "-e", "trace=write,pwrite64,fsync,fdatasync")
			require.NotContains(t, out, "error")
			got := walkTrace(trace, alone)
			assert.Equal(t, want, got.acks)
			assert.Zero(t, got.uncovered, "acknowledgements without their sync")
			t.Logf("%d acknowledgements, each after its sync; %d syncs of the log", got.acks, got.syncs)

			// The check can fail: the same trace with syncs taken out, every third
			// where one caller waits for its own, all where callers share them.
			var without []string
			n := 0
			for line := range strings.Lines(trace) {
				if strings.Contains(line, "sync") && strings.Contains(line, "-wal>") {
					if n++; n%3 == 0 || !alone {
						continue
					}
				}
				without = append(without, line)
			}
			assert.Positive(t, walkTrace(strings.Join(without, ""), alone).uncovered)
		})
	}
}

type traced struct{ acks, uncovered, syncs int }

// walkTrace follows the calls of all threads, a line a call or half of one.
func walkTrace(trace string, strict bool) (out traced) {
	worker := regexp.MustCompile(`settled run0\.(\d+)\.`)
	lastAck, began := map[string]int{}, map[string]int{}
	// lastSync is when the last sync that ended well began, lastWrite when the
	// log was last written.
	lastSync, lastWrite, n := 0, 0, 0
	for line := range strings.Lines(trace) {
		n++
		pid, call, _ := strings.Cut(line, " ")
		call = strings.TrimSpace(call)
		name, _, _ := strings.Cut(strings.TrimPrefix(call, "<... "), "(")
		isSync, isLog := strings.HasPrefix(name, "fsync") || strings.HasPrefix(name, "fdatasync"), strings.Contains(call, "-wal>")
		switch {
		case isSync && isLog && strings.HasSuffix(call, "<unfinished ...>"):
			began[pid] = n
		case isSync && strings.HasSuffix(call, "= 0") && (isLog || began[pid] > 0):
			lastSync = max(lastSync, n)
			if began[pid] > 0 {
				lastSync = began[pid]
			}
			delete(began, pid)
			out.syncs++
		case isLog && strings.HasPrefix(name, "pwrite64"):
			lastWrite = n
		default:
			for _, m := range worker.FindAllStringSubmatch(call, -1) {
				out.acks++
				if lastSync <= lastAck[m[1]] || (strict && lastSync < lastWrite) {
					out.uncovered++
				}
				lastAck[m[1]] = n
			}
		}
	}
	return out
}

// TestDiskFaults: a write or sync of the log that fails is never acknowledged,
// and when the disk serves again the ledger does too.
func TestDiskFaults(t *testing.T) {
	for fault, every := range map[string]int{"fdatasync,fsync:error=EIO": 5, "pwrite64:error=ENOSPC": 60, "pwrite64:error=EIO": 60} {
		t.Run(fault, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			l, err := Open(t.Context(), Config{Path: path})
			require.NoError(t, err)
			require.NoError(t, l.Close())
			_, out := straced(t, path, 40, "-e", "trace=fsync,fdatasync,pwrite64", "-e", fmt.Sprintf("inject=%s:when=10+%d", fault, every))
			acknowledged, failed := map[string]string{}, 0
			for line := range strings.Lines(out) {
				f := strings.Fields(line)
				switch f[0] {
				case "settled":
					acknowledged[f[1]] = f[2]
				case "failed", "refused":
					failed++
				}
			}
			require.Positive(t, failed, "faults were injected: %.500s", out)
			require.NotEmpty(t, acknowledged, "it serves again after a fault: %.500s", out)
			l = openAt(t, path)
			b := readBooks(t, l)
			b.check(t)
			assert.Zero(t, b.open)
			for id, cost := range acknowledged {
				var r router.Receipt
				require.NoError(t, l.submit(&op{run: func(c *conn) (err error) { r, _, err = receiptOf(c, id); return err }}))
				require.Equal(t, cost, fmt.Sprint(int64(r.Booked)), id)
				require.Equal(t, "complete", r.Status)
			}
			t.Logf("%d acknowledged, %d refused or failed, %d closed by recovery", len(acknowledged), failed, l.Recovery().Calls)
		})
	}
}

// TestSyncFailureIsHealed: after a sync of the log that failed, nothing is
// acknowledged before the log was emptied, which SQLite does when all of it is
// in the main file and synced: a kernel may report a lost page once only, so the
// next sync of the log proves nothing.
func TestSyncFailureIsHealed(t *testing.T) {
	t.Setenv(childAlone, "1")
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(t.Context(), Config{Path: path})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	trace, out := straced(t, path, 40, "-e", "trace=write,fsync,fdatasync,ftruncate", "-e", "inject=fdatasync,fsync:error=EIO:when=6+5")
	failed, acks, faults := false, 0, 0
	for line := range strings.Lines(trace) {
		switch {
		case strings.Contains(line, "sync") && strings.Contains(line, "EIO"):
			failed = true
			faults++
		case strings.Contains(line, "ftruncate") && strings.Contains(line, "-wal>, 0"):
			failed = false
		case strings.Contains(line, "settled run0"):
			acks++
			assert.False(t, failed, "acknowledged after a failed sync while the log was still in use: %s", line)
		}
	}
	assert.Positive(t, acks, out)
	assert.Positive(t, faults)
}

// TestFailedCommit holds the same in process, without strace: while the store
// fails nothing is acknowledged; afterwards the failed settlement is booked by
// itself, once.
func TestFailedCommit(t *testing.T) {
	l := openAt(t, filepath.Join(t.TempDir(), "ledger.db"))
	require.NoError(t, l.Reserve(t.Context(), ledgertest.Reservation("a", 100)))
	// A trigger refuses as a full disk would: the statement fails, the batch is undone.
	require.NoError(t, l.submit(&op{run: func(c *conn) error {
		return c.raw("CREATE TEMP TRIGGER full BEFORE UPDATE ON calls BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
	}}))
	_, err := l.Settle(t.Context(), ledgertest.Settlement("a", 30))
	require.ErrorContains(t, err, "disk is full")
	b := readBooks(t, l)
	b.check(t)
	assert.EqualValues(t, 100, b.held, "nothing was acknowledged and the money is still held")
	refused := &op{run: func(*conn) error { return errors.New("still full") }}
	require.ErrorContains(t, l.submit(refused), "still full")
	require.NoError(t, l.submit(&op{run: func(c *conn) error { return c.raw("DROP TRIGGER full") }}))
	require.NoError(t, l.Reserve(t.Context(), ledgertest.Reservation("b", 1)))
	b = readBooks(t, l)
	b.check(t)
	assert.EqualValues(t, 30, b.spent, "booked with the next write")
	assert.EqualValues(t, 1, b.held)
	got, err := l.Settle(t.Context(), ledgertest.Settlement("a", 30))
	require.NoError(t, err)
	assert.EqualValues(t, 30, got.Booked)
}
