package ledger

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/internal/ledger/ledgertest"
	"github.com/weirhq/weir/router"
)

// checks makes rapid run so many histories.
func checks(t *testing.T, n int) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	old := f.Value.String()
	require.NoError(t, f.Value.Set(fmt.Sprint(n)))
	t.Cleanup(func() { require.NoError(t, f.Value.Set(old)) })
}

// modelCall is a call as the model knows it.
type modelCall struct {
	day           int64
	bound, booked router.NanoUSD
	open          bool
}

// machine holds a ledger beside the simplest thing that could be right: a list
// of calls, summed anew at every question.
type machine struct {
	l      *Ledger
	path   string
	now    time.Time
	budget router.Budget
	calls  map[string]*modelCall
	keys   map[string][2]string // key to digest and call
	ids    []string
}

func (m *machine) used(from, to int64) (spent, held router.NanoUSD) {
	for _, c := range m.calls {
		if c.day < from || c.day >= to {
			continue
		}
		if c.open {
			held += c.bound
		}
		spent += c.booked
	}
	return spent, held
}

func (m *machine) reserve(t *rapid.T) {
	r := ledgertest.Reservation(fmt.Sprint("call", len(m.ids)), router.NanoUSD(rapid.Int64Range(0, 60).Draw(t, "bound")))
	r.Time, r.Budget = m.now, m.budget
	if rapid.Bool().Draw(t, "keyed") {
		r.IdempotencyKey = rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(t, "key")
		r.RequestDigest = rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "digest")
	}
	err := m.l.Reserve(t.Context(), r)
	var dup *router.DuplicateError
	var poor *router.BudgetError
	if was, ok := m.keys[r.IdempotencyKey]; ok && r.IdempotencyKey != "" {
		if was[0] != r.RequestDigest {
			require.ErrorIs(t, err, router.ErrIdempotencyConflict)
			return
		}
		require.ErrorAs(t, err, &dup)
		require.Equal(t, was[1], dup.Receipt.CallID)
		require.Equal(t, m.calls[was[1]].open, dup.Receipt.Open)
		require.Equal(t, m.calls[was[1]].booked, dup.Receipt.Booked)
		return
	}
	from, to, _, werr := windowOf(m.budget.Window, m.now)
	require.NoError(t, werr)
	spent, held := m.used(from, to)
	if m.budget.Window != "" && spent+held+r.Bound > m.budget.Limit {
		require.ErrorAs(t, err, &poor)
		require.Equal(t, spent, poor.Spent)
		require.Equal(t, held, poor.Held)
		return
	}
	require.NoError(t, err)
	m.ids = append(m.ids, r.CallID)
	m.calls[r.CallID] = &modelCall{day: dayOf(m.now), bound: r.Bound, open: true}
	if r.IdempotencyKey != "" {
		m.keys[r.IdempotencyKey] = [2]string{r.RequestDigest, r.CallID}
	}
}

func (m *machine) settle(t *rapid.T) {
	if len(m.ids) == 0 {
		_, err := m.l.Settle(t.Context(), ledgertest.Settlement("none", 1))
		require.ErrorIs(t, err, ErrNoReservation)
		return
	}
	id := rapid.SampledFrom(m.ids).Draw(t, "call")
	c := m.calls[id]
	s := ledgertest.Settlement(id, router.NanoUSD(rapid.Int64Range(0, max(int64(c.bound), 1)).Draw(t, "cost")))
	s.Time = m.now
	if rapid.Bool().Draw(t, "cancelled") {
		s.Status, s.Attempts = "cancelled", nil
	}
	r, err := m.l.Settle(t.Context(), s)
	require.NoError(t, err)
	if c.open {
		c.open = false
		if s.Attempts != nil {
			c.booked = s.Attempts[0].Cost
		}
	}
	require.Equal(t, c.booked, r.Booked)
	require.False(t, r.Open)
}

// move sets the clock on, or back, within the time that keys are kept.
func (m *machine) move(t *rapid.T) {
	hours := rapid.IntRange(-1, 20).Draw(t, "hours")
	if m.now.Sub(ledgertest.Start()) < 45*time.Hour {
		m.now = m.now.Add(time.Duration(hours) * time.Hour)
	}
}

func (m *machine) configure(t *rapid.T) {
	m.budget = router.Budget{
		Limit:  router.NanoUSD(rapid.Int64Range(0, 300).Draw(t, "limit")),
		Window: rapid.SampledFrom([]string{"", router.WindowDay, router.WindowMonth, router.WindowTotal}).Draw(t, "window"),
	}
}

// reopen ends the process, as the ledger sees it.
func (m *machine) reopen(t *rapid.T) {
	if m.path == "" {
		return
	}
	require.NoError(t, m.l.Close())
	l, err := Open(t.Context(), Config{Path: m.path})
	require.NoError(t, err)
	m.l = l
	var want Recovery
	for _, c := range m.calls {
		if c.open {
			want.Calls++
			want.Charged += c.bound
			c.open, c.booked = false, c.bound
		}
	}
	require.Equal(t, want, l.Recovery())
}

func (m *machine) check(t *rapid.T) {
	b := readBooks(t, m.l)
	b.check(t)
	spent, held := m.used(0, 1<<40)
	require.Equal(t, spent, b.spent)
	require.Equal(t, held, b.held)
}

func histories(t *testing.T, n int, path func() string) {
	t.Helper()
	checks(t, n)
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{path: path(), now: ledgertest.Start(), calls: map[string]*modelCall{}, keys: map[string][2]string{}}
		var err error
		m.l, err = Open(rt.Context(), Config{Path: m.path})
		require.NoError(rt, err)
		defer func() { require.NoError(rt, m.l.Close()) }()
		rt.Repeat(map[string]func(*rapid.T){
			"reserve": m.reserve, "settle": m.settle, "clock": m.move, "config": m.configure, "restart": m.reopen, "": m.check,
		})
	})
}

func TestHistories(t *testing.T) {
	memory, file := 1000, 15
	if raceDetector {
		// A history has one caller: there is nothing to detect.
		memory, file = 20, 3
	}
	if campaign() {
		memory, file = 10_000, 500
	}
	histories(t, memory, func() string { return "" })
	n, dir := 0, t.TempDir()
	histories(t, file, func() string {
		n++
		return filepath.Join(dir, fmt.Sprint(n), "ledger.db")
	})
}
