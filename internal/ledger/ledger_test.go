package ledger

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/internal/ledger/ledgertest"
	"github.com/weirhq/weir/router"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

func campaign() bool { return os.Getenv("WEIR_CAMPAIGN") != "" }

func openAt(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), Config{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

func TestConformance(t *testing.T) {
	file := 200
	if raceDetector && !campaign() {
		file = 20
	}
	t.Run("memory", func(t *testing.T) {
		ledgertest.Run(t, 200, func(t *testing.T) router.Ledger { return openAt(t, "") })
	})
	t.Run("file", func(t *testing.T) {
		ledgertest.Run(t, file, func(t *testing.T) router.Ledger { return openAt(t, filepath.Join(t.TempDir(), "ledger.db")) })
	})
}

// books is what the counters say and what the rows add up to.
type books struct {
	spent, held       router.NanoUSD
	rowSpent, rowHeld router.NanoUSD
	lines             router.NanoUSD
	calls, open       int64
	drifting          int64
}

func readBooks(t require.TestingT, l *Ledger) (b books) {
	err := l.submit(&op{run: func(c *conn) error {
		_, err := c.row("SELECT COALESCE(SUM(spent), 0), COALESCE(SUM(held), 0) FROM days", nil, &b.spent, &b.held)
		if err != nil {
			return err
		}
		_, err = c.row("SELECT COALESCE(SUM(booked), 0), COALESCE(SUM(CASE WHEN open THEN bound END), 0), COUNT(*), COALESCE(SUM(open), 0) FROM calls", nil,
			&b.rowSpent, &b.rowHeld, &b.calls, &b.open)
		if err != nil {
			return err
		}
		_, err = c.row(`SELECT COUNT(*) FROM days d WHERE spent != (SELECT COALESCE(SUM(booked), 0) FROM calls c WHERE c.day = d.day)
			OR held != (SELECT COALESCE(SUM(bound), 0) FROM calls c WHERE c.day = d.day AND open)`, nil, &b.drifting)
		if err != nil {
			return err
		}
		_, err = c.row("SELECT COALESCE(SUM(cost), 0) FROM lines", nil, &b.lines)
		return err
	}})
	require.NoError(t, err)
	return b
}

func (b *books) check(t require.TestingT) {
	require.Equal(t, b.rowSpent, b.spent, "the counter of spent money is the rows' sum")
	require.Equal(t, b.rowHeld, b.held, "the counter of held money is the rows' sum")
	require.Equal(t, b.rowSpent, b.lines, "the lines of usage add up to it too")
	require.Zero(t, b.drifting, "on every day")
}

// TestNothingLeaks: many calls at once, three in ten of them cancelled, failed
// or cut, and at the end nothing is held.
func TestNothingLeaks(t *testing.T) {
	calls := 2_000
	if raceDetector {
		calls = 500
	}
	if campaign() {
		calls = 10_000
	}
	l := openAt(t, filepath.Join(t.TempDir(), "ledger.db"))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var want router.NanoUSD
	for worker := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(worker)))
			for i := range calls / 16 {
				id := fmt.Sprint(worker, ".", i)
				r := ledgertest.Reservation(id, 1000)
				r.Budget = router.Budget{Limit: 1 << 40, Window: router.WindowMonth}
				if !assert.NoError(t, l.Reserve(t.Context(), r)) {
					return
				}
				s := ledgertest.Settlement(id, router.NanoUSD(rng.Int64N(1000)))
				switch rng.IntN(10) {
				case 0:
					s.Status, s.Attempts = "cancelled", nil
				case 1:
					s.Status = "incomplete"
				case 2:
					s.Status, s.Attempts[0].Outcome = "failed", "timeout"
				}
				got, err := l.Settle(t.Context(), s)
				assert.NoError(t, err)
				mu.Lock()
				want += got.Booked
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	b := readBooks(t, l)
	b.check(t)
	assert.Zero(t, b.open)
	assert.Zero(t, b.held)
	assert.Equal(t, want, b.spent)
	assert.EqualValues(t, calls/16*16, b.calls)
	log, err := os.Stat(l.cfg.Path + "-wal")
	require.NoError(t, err)
	assert.Less(t, log.Size(), int64(64<<20), "the log is moved to the main file")
	assert.Positive(t, l.commits)
}

func TestRecovery(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(t.Context(), Config{Path: path})
	require.NoError(t, err)
	assert.Zero(t, l.Recovery())
	budget := router.Budget{Limit: 100, Window: router.WindowDay}
	for id, bound := range map[string]router.NanoUSD{"done": 20, "open": 30, "open too": 40} {
		r := ledgertest.Reservation(id, bound)
		r.Budget = budget
		if id == "open" {
			r.IdempotencyKey, r.RequestDigest = "key", "sha256:1"
		}
		require.NoError(t, l.Reserve(t.Context(), r))
	}
	free := ledgertest.Reservation("unpriced", 0)
	free.BoundKnown = false
	require.NoError(t, l.Reserve(t.Context(), free))
	_, err = l.Settle(t.Context(), ledgertest.Settlement("done", 5))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close(), "a second close does nothing")
	require.ErrorIs(t, l.Reserve(t.Context(), ledgertest.Reservation("x", 1)), ErrClosed)

	l, err = Open(t.Context(), Config{Path: path})
	require.NoError(t, err)
	assert.Equal(t, Recovery{Calls: 3, Unpriced: 1, Charged: 70}, l.Recovery())
	b := readBooks(t, l)
	b.check(t)
	assert.Zero(t, b.open)
	assert.EqualValues(t, 75, b.spent)

	var dup *router.DuplicateError
	r := ledgertest.Reservation("again", 1)
	r.IdempotencyKey, r.RequestDigest = "key", "sha256:1"
	require.ErrorAs(t, l.Reserve(t.Context(), r), &dup, "a key outlives its process")
	assert.Equal(t, StatusUnknown, dup.Receipt.Status)
	assert.EqualValues(t, 30, dup.Receipt.Booked)
	assert.True(t, dup.Receipt.Usage.Estimated)
	got, err := l.Settle(t.Context(), ledgertest.Settlement("open", 1))
	require.NoError(t, err)
	assert.EqualValues(t, 30, got.Booked, "what recovery closed stays closed")

	over := ledgertest.Reservation("over", 26)
	over.Budget = budget
	var poor *router.BudgetError
	require.ErrorAs(t, l.Reserve(t.Context(), over), &poor, "the charge of a dead process counts")
	assert.EqualValues(t, 75, poor.Spent)

	rows, err := l.Usage(t.Context(), &router.UsageQuery{GroupBy: []string{"outcome"}})
	require.NoError(t, err)
	require.Len(t, rows, 2)
	assert.Equal(t, []string{"unknown"}, rows[1].Group)
	assert.EqualValues(t, 3, rows[1].Calls)
	assert.EqualValues(t, 70, rows[1].Cost)
	assert.EqualValues(t, 1, rows[1].Unpriced)
	assert.True(t, rows[1].Usage.Estimated)
	require.NoError(t, l.Close())
	l = openAt(t, path)
	assert.Zero(t, l.Recovery(), "once")
}

func TestDriftIsPutRight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(t.Context(), Config{Path: path})
	require.NoError(t, err)
	require.NoError(t, l.Reserve(t.Context(), ledgertest.Reservation("a", 10)))
	_, err = l.Settle(t.Context(), ledgertest.Settlement("a", 8))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	change(t, path, "UPDATE days SET spent = 3, held = 1")
	l = openAt(t, path)
	assert.EqualValues(t, 6, l.Recovery().Drift)
	b := readBooks(t, l)
	b.check(t)
}

func change(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", fileURL(path, nil))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), text)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with spaces ?#%41&mode=ro", "ledger.db")
	l, err := Open(t.Context(), Config{Path: path})
	require.NoError(t, err)
	_, err = os.Stat(path)
	require.NoError(t, err, "the file has the name that was given")
	_, err = Open(t.Context(), Config{Path: path})
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, path)
	require.NoError(t, l.Close())
	l, err = Open(t.Context(), Config{Path: path})
	require.NoError(t, err, "closing gives the lock back, and a refused Open takes nothing")
	require.NoError(t, l.Close())

	change(t, path, "PRAGMA user_version = 99")
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = Open(t.Context(), Config{Path: path})
	require.ErrorIs(t, err, ErrNewer)
	_, err = OpenReader(t.Context(), path)
	require.ErrorIs(t, err, ErrNewer)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, before, after, "a refused file is left alone")

	other := filepath.Join(t.TempDir(), "other.db")
	change(t, other, "CREATE TABLE t (x)")
	_, err = Open(t.Context(), Config{Path: other})
	require.ErrorIs(t, err, ErrForeign)
	_, err = OpenReader(t.Context(), other)
	require.ErrorIs(t, err, ErrForeign)
	_, err = OpenReader(t.Context(), filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, make([]byte, 4096), 0o600))
	_, err = Open(t.Context(), Config{Path: text})
	require.Error(t, err)
	_, err = Open(t.Context(), Config{KeyRetention: time.Hour})
	require.Error(t, err, "less than a day")
}

func TestKeysAreForgotten(t *testing.T) {
	l := openAt(t, "")
	keyed := func(id string, age time.Duration) error {
		r := ledgertest.Reservation(id, 1)
		r.Time = r.Time.Add(age)
		r.IdempotencyKey, r.RequestDigest = "k", "sha256:1"
		return l.Reserve(t.Context(), r)
	}
	require.NoError(t, keyed("a", 0))
	require.Error(t, keyed("b", DefaultKeyRetention))
	require.NoError(t, keyed("b", DefaultKeyRetention+time.Nanosecond))
	plain := ledgertest.Reservation("c", 1)
	plain.Time = plain.Time.Add(3 * DefaultKeyRetention)
	require.NoError(t, l.Reserve(t.Context(), plain))
	var n int64
	require.NoError(t, l.submit(&op{run: func(c *conn) error {
		_, err := c.row("SELECT COUNT(*) FROM keys", nil, &n)
		return err
	}}))
	assert.Zero(t, n, "old keys do not pile up")
}

// TestReaderBesideWriter: a reader sees what is settled, at once, and holds
// nobody up; it also reads what a dead writer left.
func TestReaderBesideWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openAt(t, path)
	rd, err := OpenReader(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, rd.Close()) })
	for i := range 20 {
		id := fmt.Sprint(i)
		require.NoError(t, l.Reserve(t.Context(), ledgertest.Reservation(id, 10)))
		_, err := l.Settle(t.Context(), ledgertest.Settlement(id, 7))
		require.NoError(t, err)
		rows, err := rd.Usage(t.Context(), &router.UsageQuery{})
		require.NoError(t, err)
		require.Len(t, rows, 1)
		assert.EqualValues(t, i+1, rows[0].Calls)
	}
	// A copy of the files as they stand is what a kill leaves.
	left := filepath.Join(t.TempDir(), "left.db")
	for _, suffix := range []string{"", "-wal"} {
		raw, err := os.ReadFile(path + suffix)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(left+suffix, raw, 0o600))
	}
	dead, err := OpenReader(t.Context(), left)
	require.NoError(t, err)
	rows, err := dead.Usage(t.Context(), &router.UsageQuery{})
	require.NoError(t, err)
	assert.EqualValues(t, 20, rows[0].Calls)
	require.NoError(t, dead.Close())
}

// A ledger of the first schema is brought to the present one with all that it
// holds, and an old receipt answers as before.
func TestAnOlderLedgerIsBroughtUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	change(t, path, fmt.Sprintf("%s INSERT INTO migrations VALUES (1, 1); PRAGMA user_version = 1; PRAGMA application_id = %d", schemaV1, applicationID))
	change(t, path, `INSERT INTO calls (call_id, day, reserved_at, bound, bound_known, model, policy, bundle, config, tier, domain, open, status, booked) VALUES ('old', 1, 86400000000000, 9, 1, 'm', 'p', 'b', 'c', '', '', 0, 'complete', 7)`)
	change(t, path, "INSERT INTO days VALUES (1, 7, 0)")
	l, err := Open(t.Context(), Config{Path: path})
	require.NoError(t, err)
	assert.Equal(t, Recovery{}, l.Recovery())
	var r router.Receipt
	require.NoError(t, l.submit(&op{run: func(c *conn) (err error) { r, _, err = receiptOf(c, "old"); return err }}))
	assert.EqualValues(t, 7, r.Booked)
	assert.False(t, r.ScoreCached)
	require.NoError(t, l.Reserve(t.Context(), ledgertest.Reservation("new", 10)))
	_, err = l.Settle(t.Context(), ledgertest.Settlement("new", 5))
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
