// Package ledgertest is the contract of router.Ledger as one test suite, run on
// every implementation and form of storage, so that they cannot drift apart.
package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// Start is the time of the suite's first calls: minutes before a day, a month
// and a year end.
func Start() time.Time { return time.Date(2026, 12, 31, 23, 30, 0, 0, time.UTC) }

// Reservation is a call of a known bound without a budget.
func Reservation(id string, bound router.NanoUSD) *router.Reservation {
	return &router.Reservation{
		CallID: id, Time: Start(), Bound: bound, BoundKnown: true, Model: "big", Policy: "balanced",
		Bundle: "sha256:b", Config: "sha256:c", Tier: router.HighPerformance, Domain: classifier.Coding,
	}
}

// Settlement ends a call with one attempt of that cost.
func Settlement(id string, cost router.NanoUSD) *router.Settlement {
	return &router.Settlement{
		CallID: id, Time: Start().Add(time.Second), Status: "complete", PriceVersion: "sha256:c",
		Attempts: []router.AttemptRecord{{
			Model: "big", Upstream: "one", Outcome: "ok", Usage: router.Usage{Input: 100, CachedInput: 40, Output: 20, Reasoning: 5},
			Cost: cost, CostKnown: true, Start: Start(), FirstContent: time.Millisecond, Duration: 2 * time.Millisecond,
		}},
		Baseline: "big", BaselineCost: 2 * cost, BaselineKnown: true,
	}
}

// Run tests one implementation; open gives a new, empty ledger each time and
// closes it with the test. rounds is how often 64 callers race for a budget.
func Run(t *testing.T, rounds int, open func(t *testing.T) router.Ledger) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, router.Ledger){
		"a call is reserved and settled once": settledOnce,
		"a repeated key":                      repeatedKey,
		"a repeated key races":                keyRace,
		"a budget admits what it pays for":    budgetAdmits,
		"a budget's windows":                  windows,
		"callers race for a budget":           func(t *testing.T, l router.Ledger) { race(t, l, rounds) },
		"an unknown price":                    unknownPrice,
		"wrong amounts":                       wrongAmounts,
		"sums that overflow":                  overflow,
		"usage adds up in every grouping":     usageAddsUp,
		"usage of a time":                     usageOfTime,
		"a cancelled caller reserves nothing": cancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func total(t *testing.T, l router.Ledger) router.UsageRow {
	t.Helper()
	rows, err := l.Usage(t.Context(), &router.UsageQuery{})
	require.NoError(t, err)
	if len(rows) == 0 {
		return router.UsageRow{}
	}
	require.Len(t, rows, 1)
	return rows[0]
}

func settledOnce(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	require.NoError(t, l.Reserve(ctx, Reservation("a", 50)))
	require.Error(t, l.Reserve(ctx, Reservation("a", 50)), "an id is used once")
	assert.Zero(t, total(t, l).Calls, "an open call is not usage")

	s := Settlement("a", 30)
	s.Overhead, s.ScoreCached = 4, true
	first, err := l.Settle(ctx, s)
	require.NoError(t, err)
	assert.Equal(t, router.Receipt{
		CallID: "a", PriceVersion: "sha256:c", Status: "complete", Booked: 34, Savings: 26, SavingsKnown: true, Baseline: "big",
		Usage: s.Attempts[0].Usage, ScoreCached: true,
	}, first)

	again := Settlement("a", 9999)
	again.Status = "failed"
	second, err := l.Settle(ctx, again)
	require.NoError(t, err)
	assert.Equal(t, first, second, "a second settlement changes nothing")
	assert.EqualValues(t, 34, total(t, l).Cost)

	_, err = l.Settle(ctx, Settlement("never reserved", 1))
	require.Error(t, err)
	assert.EqualValues(t, 1, total(t, l).Calls)
}

func keyed(id, key, digest string) *router.Reservation {
	r := Reservation(id, 10)
	r.IdempotencyKey, r.RequestDigest = key, digest
	return r
}

func repeatedKey(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	require.NoError(t, l.Reserve(ctx, keyed("a", "k", "sha256:1")))

	var dup *router.DuplicateError
	require.ErrorAs(t, l.Reserve(ctx, keyed("b", "k", "sha256:1")), &dup)
	assert.True(t, dup.Receipt.Open)
	assert.Equal(t, "a", dup.Receipt.CallID)
	require.ErrorIs(t, l.Reserve(ctx, keyed("b", "k", "sha256:2")), router.ErrIdempotencyConflict)

	receipt, err := l.Settle(ctx, Settlement("a", 7))
	require.NoError(t, err)
	require.ErrorAs(t, l.Reserve(ctx, keyed("b", "k", "sha256:1")), &dup)
	assert.Equal(t, receipt, dup.Receipt)

	late := keyed("b", "k", "sha256:1")
	late.Time = late.Time.Add(23*time.Hour + 59*time.Minute)
	require.ErrorAs(t, l.Reserve(ctx, late), &dup, "a key is kept a day at least")
	require.NoError(t, l.Reserve(ctx, keyed("b", "another", "sha256:1")))
	assert.EqualValues(t, 7, total(t, l).Cost)
}

// keyRace sends every call four times at once: one is admitted.
func keyRace(t *testing.T, l router.Ledger) {
	for n := range 50 {
		var admitted, duplicates atomic.Int64
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				err := l.Reserve(t.Context(), keyed(fmt.Sprint("call", n, ".", i), fmt.Sprint("key", n), "sha256:1"))
				var dup *router.DuplicateError
				switch {
				case err == nil:
					admitted.Add(1)
				case errors.As(err, &dup):
					duplicates.Add(1)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 1, admitted.Load())
		assert.EqualValues(t, 3, duplicates.Load())
	}
}

func under(id string, bound router.NanoUSD, at time.Time, limit router.NanoUSD, window string) *router.Reservation {
	r := Reservation(id, bound)
	r.Time, r.Budget = at, router.Budget{Limit: limit, Window: window}
	return r
}

func budgetAdmits(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	require.NoError(t, l.Reserve(ctx, under("a", 60, Start(), 100, router.WindowDay)))
	var e *router.BudgetError
	require.ErrorAs(t, l.Reserve(ctx, under("b", 41, Start(), 100, router.WindowDay)), &e)
	assert.Equal(t, router.BudgetError{
		Budget: router.Budget{Limit: 100, Window: router.WindowDay}, Held: 60, Asked: 41, Resets: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}, *e)
	require.NoError(t, l.Reserve(ctx, under("b", 40, Start(), 100, router.WindowDay)), "exactly the rest")
	require.ErrorAs(t, l.Reserve(ctx, under("c", 1, Start(), 100, router.WindowDay)), &e)

	_, err := l.Settle(ctx, Settlement("a", 25))
	require.NoError(t, err)
	require.ErrorAs(t, l.Reserve(ctx, under("c", 36, Start(), 100, router.WindowDay)), &e)
	assert.EqualValues(t, 25, e.Spent)
	assert.EqualValues(t, 40, e.Held)
	require.NoError(t, l.Reserve(ctx, under("c", 35, Start(), 100, router.WindowDay)), "what was held and not spent is free again")

	// A call that failed before any attempt frees all of its bound.
	_, err = l.Settle(ctx, &router.Settlement{CallID: "b", Time: Start(), Status: "cancelled"})
	require.NoError(t, err)
	require.NoError(t, l.Reserve(ctx, under("d", 40, Start(), 100, router.WindowDay)))
}

// windows: a window starts anew once, whatever the clock does.
func windows(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	n := 0
	try := func(at time.Time, window string, want bool) {
		t.Helper()
		n++
		id := fmt.Sprint("call", n)
		err := l.Reserve(ctx, under(id, 10, at, 10, window))
		if want {
			require.NoError(t, err)
			_, err = l.Settle(ctx, Settlement(id, 10))
			require.NoError(t, err)
			return
		}
		var e *router.BudgetError
		require.ErrorAs(t, err, &e)
		if window == router.WindowTotal {
			assert.True(t, e.Resets.IsZero())
		} else {
			assert.True(t, e.Resets.After(at))
		}
	}
	eve := Start()
	try(eve, router.WindowDay, true)
	try(eve.Add(29*time.Minute), router.WindowDay, false)
	// The same instant on a wall that is nine hours ahead is the same day.
	try(eve.In(time.FixedZone("", 9*3600)), router.WindowDay, false)
	try(eve.Add(time.Hour), router.WindowDay, true)
	// The clock goes back an hour: the old day is still spent, and so is the new one.
	try(eve, router.WindowDay, false)
	try(eve.Add(time.Hour), router.WindowDay, false)

	try(eve.AddDate(0, 0, -20), router.WindowMonth, false)
	try(eve.Add(2*time.Hour), router.WindowMonth, false)
	february := time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
	try(february.Add(-time.Nanosecond), router.WindowMonth, false)
	try(february.Add(-time.Nanosecond).In(time.FixedZone("", 9*3600)), router.WindowMonth, false)
	try(february, router.WindowMonth, true)
	try(time.Date(2027, 2, 28, 23, 59, 59, 0, time.UTC), router.WindowMonth, false)
	try(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), router.WindowTotal, false)

	// A call that is settled in another day than its own is charged to its own.
	late := eve.AddDate(1, 0, 0)
	require.NoError(t, l.Reserve(ctx, under("late", 10, late, 10, router.WindowDay)))
	s := Settlement("late", 10)
	s.Time = late.Add(3 * time.Hour)
	_, err := l.Settle(ctx, s)
	require.NoError(t, err)
	try(late.Add(3*time.Hour), router.WindowDay, true)
	try(late, router.WindowDay, false)
}

// race: 64 callers and money for 10, over and over.
func race(t *testing.T, l router.Ledger, rounds int) {
	const callers, limit = 64, 1000
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test that repeats
	for round := range rounds {
		at := Start().AddDate(0, 0, round)
		// Equal bounds in one half of the rounds: then all ten must be admitted.
		bounds := make([]router.NanoUSD, callers)
		for i := range bounds {
			bounds[i] = limit / 10
			if round%2 == 1 {
				bounds[i] = 60 + router.NanoUSD(rng.Int64N(51))
			}
		}
		var wg sync.WaitGroup
		var held, admitted atomic.Int64
		ids := make(chan int, callers)
		for i := range callers {
			wg.Go(func() {
				err := l.Reserve(context.Background(), under(fmt.Sprint("r", round, ".", i), bounds[i], at, limit, router.WindowDay))
				if err == nil {
					admitted.Add(1)
					held.Add(int64(bounds[i]))
					ids <- i
				}
			})
		}
		wg.Wait()
		close(ids)
		require.LessOrEqual(t, held.Load(), int64(limit), "round %d: overshoot", round)
		require.GreaterOrEqual(t, admitted.Load(), int64(9), "round %d: false refusals", round)
		if round%2 == 0 {
			require.EqualValues(t, 10, admitted.Load())
		}
		for i := range ids {
			wg.Go(func() {
				_, err := l.Settle(context.Background(), Settlement(fmt.Sprint("r", round, ".", i), bounds[i]))
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	}
}

func unknownPrice(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	r := under("a", 0, Start(), 100, router.WindowTotal)
	r.BoundKnown = false
	require.ErrorIs(t, l.Reserve(ctx, r), router.ErrUnpriced, "unknown is not free")
	r.Budget = router.Budget{}
	require.NoError(t, l.Reserve(ctx, r))
	s := Settlement("a", 0)
	s.Attempts[0].CostKnown = false
	receipt, err := l.Settle(ctx, s)
	require.NoError(t, err)
	assert.False(t, receipt.SavingsKnown, "the saving of a call of unknown cost is unknown")
	row := total(t, l)
	assert.EqualValues(t, 1, row.Unpriced)
	assert.EqualValues(t, 1, row.Uncompared)
	assert.Zero(t, row.Savings)
}

func wrongAmounts(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	for name, change := range map[string]func(*router.Reservation){
		"no id":          func(r *router.Reservation) { r.CallID = "" },
		"no time":        func(r *router.Reservation) { r.Time = time.Time{} },
		"negative bound": func(r *router.Reservation) { r.Bound = -1 },
		"negative limit": func(r *router.Reservation) { r.Budget = router.Budget{Limit: -1, Window: router.WindowDay} },
		"unknown window": func(r *router.Reservation) { r.Budget = router.Budget{Limit: 1, Window: "week"} },
		"key alone":      func(r *router.Reservation) { r.IdempotencyKey = "k" },
	} {
		r := Reservation("x", 10)
		change(r)
		assert.Error(t, l.Reserve(ctx, r), name)
	}
	require.NoError(t, l.Reserve(ctx, Reservation("a", 10)))
	for name, change := range map[string]func(*router.Settlement){
		"negative cost":     func(s *router.Settlement) { s.Attempts[0].Cost = -1 },
		"negative tokens":   func(s *router.Settlement) { s.Attempts[0].Usage.Output = -1 },
		"part over whole":   func(s *router.Settlement) { s.Attempts[0].Usage.CachedInput = 1000 },
		"negative overhead": func(s *router.Settlement) { s.Overhead = -1 },
		"negative baseline": func(s *router.Settlement) { s.BaselineCost = -1 },
		"no status":         func(s *router.Settlement) { s.Status = "" },
	} {
		s := Settlement("a", 5)
		change(s)
		_, err := l.Settle(ctx, s)
		assert.Error(t, err, name)
	}
	_, err := l.Settle(ctx, Settlement("a", 5))
	require.NoError(t, err, "what was refused left the call open")
	assert.EqualValues(t, 5, total(t, l).Cost)
	for _, group := range []string{"call_id", "model; DROP TABLE calls", "Model", ""} {
		_, err := l.Usage(ctx, &router.UsageQuery{GroupBy: []string{group}})
		assert.Error(t, err, group)
	}
	_, err = l.Usage(ctx, &router.UsageQuery{GroupBy: []string{"model", "model"}})
	assert.Error(t, err)
}

func overflow(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	const most = router.NanoUSD(math.MaxInt64)
	require.NoError(t, l.Reserve(ctx, Reservation("a", most)))
	require.ErrorIs(t, l.Reserve(ctx, Reservation("b", 1)), router.ErrOverflow, "held money would overflow")
	var e *router.BudgetError
	require.ErrorAs(t, l.Reserve(ctx, under("b", most, Start(), most, router.WindowTotal)), &e)

	s := Settlement("a", 0)
	s.Attempts = append(s.Attempts, s.Attempts[0])
	s.Attempts[0].Cost, s.Attempts[1].Cost = most, 1
	_, err := l.Settle(ctx, s)
	require.ErrorIs(t, err, router.ErrOverflow, "attempts")
	s.Attempts[1].Cost, s.Overhead = 0, 1
	_, err = l.Settle(ctx, s)
	require.ErrorIs(t, err, router.ErrOverflow, "overhead")
	s.Overhead, s.Attempts[0].Usage = 0, router.Usage{Input: math.MaxInt64}
	_, err = l.Settle(ctx, s)
	require.ErrorIs(t, err, router.ErrOverflow, "tokens")
	s.Attempts[0].Usage.Input = 1
	s.BaselineCost = 0
	receipt, err := l.Settle(ctx, s)
	require.NoError(t, err, "the largest amount is an amount")
	assert.Equal(t, -most, receipt.Savings)

	require.NoError(t, l.Reserve(ctx, Reservation("b", 0)))
	_, err = l.Settle(ctx, Settlement("b", 1))
	require.ErrorIs(t, err, router.ErrOverflow, "the day's sum")
	_, err = l.Settle(ctx, Settlement("b", 0))
	require.NoError(t, err)
	assert.Equal(t, most, total(t, l).Cost)
}

// usageAddsUp: calls of every kind, and the same sums in every grouping.
func usageAddsUp(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	statuses := []string{"complete", "incomplete", "failed", "cancelled"}
	var booked, savings router.NanoUSD
	for i := range 60 {
		id := fmt.Sprint("call", i)
		r := Reservation(id, 1000)
		r.Time = Start().AddDate(0, 0, i%5)
		r.Policy, r.Tier, r.Domain = fmt.Sprint("p", i%3), router.Tier(i%3+1), classifier.Domain(i%8+1)
		require.NoError(t, l.Reserve(ctx, r))
		s := Settlement(id, router.NanoUSD(i))
		s.Status, s.Overhead, s.BaselineCost, s.BaselineKnown = statuses[i%4], 2, router.NanoUSD(i%7*10), i%6 != 0
		s.Attempts = s.Attempts[:0]
		for a := range i % 4 {
			outcome := "ok"
			if a < i%4-1 {
				outcome = "overload"
			}
			s.Attempts = append(s.Attempts, router.AttemptRecord{
				Model: fmt.Sprint("m", a), Upstream: fmt.Sprint("u", a%2), Outcome: outcome, Usage: router.Usage{Input: 10, Output: int64(a)},
				Cost: router.NanoUSD(i + a), CostKnown: true, Start: r.Time,
			})
		}
		receipt, err := l.Settle(ctx, s)
		require.NoError(t, err)
		booked += receipt.Booked
		if receipt.SavingsKnown {
			savings += receipt.Savings
		}
	}
	all := total(t, l)
	assert.EqualValues(t, 60, all.Calls)
	assert.EqualValues(t, 90, all.Attempts)
	assert.EqualValues(t, 10, all.Uncompared)
	assert.Equal(t, booked, all.Cost)
	assert.Equal(t, savings, all.Savings)
	assert.Less(t, all.Savings, router.NanoUSD(0), "these calls cost more than their baseline, and it says so")
	for _, by := range []string{"model", "provider", "tier", "domain", "policy", "day", "outcome", "status", "model day outcome", "day model provider tier domain policy outcome status"} {
		groups := strings.Fields(by)
		rows, err := l.Usage(ctx, &router.UsageQuery{GroupBy: groups})
		require.NoError(t, err)
		var sum router.UsageRow
		for i := range rows {
			row := &rows[i]
			require.Len(t, row.Group, len(groups))
			if i > 0 {
				assert.NotEqual(t, rows[i-1].Group, row.Group)
			}
			sum.Calls += row.Calls
			sum.Attempts += row.Attempts
			sum.Cost += row.Cost
			sum.Savings += row.Savings
			sum.Uncompared += row.Uncompared
			sum.Usage.Input += row.Usage.Input
			sum.Usage.Output += row.Usage.Output
			sum.Answered.Input += row.Answered.Input
			sum.Answered.Output += row.Answered.Output
		}
		sum.Group, sum.Baseline = all.Group, all.Baseline
		sum.Usage.Estimated, sum.Answered.Estimated = all.Usage.Estimated, all.Answered.Estimated
		assert.Equal(t, all, sum, by)
	}
	rows, err := l.Usage(ctx, &router.UsageQuery{GroupBy: []string{"outcome"}})
	require.NoError(t, err)
	assert.Equal(t, []string{"complete"}, rows[0].Group, "a call without an attempt has its status")
	byStatus, err := l.Usage(ctx, &router.UsageQuery{GroupBy: []string{"status"}})
	require.NoError(t, err)
	for i := range byStatus {
		row := &byStatus[i]
		answered := row.Group[0] != "failed"
		assert.Equal(t, answered && row.Attempts > 0, row.Answered.Input > 0, "%s: a baseline would have answered only what was answered", row.Group)
	}
	byTier, err := l.Usage(ctx, &router.UsageQuery{GroupBy: []string{"tier"}})
	require.NoError(t, err)
	require.Len(t, byTier, 3)
	assert.Equal(t, "DOMAIN_SPECIALIST", byTier[0].Group[0], "in the order of the values")
}

func usageOfTime(t *testing.T, l router.Ledger) {
	ctx := t.Context()
	for i, baseline := range []string{"big", "big", "huge"} {
		r := Reservation(fmt.Sprint(i), 10)
		r.Time = Start().Add(time.Duration(i) * time.Hour)
		require.NoError(t, l.Reserve(ctx, r))
		s := Settlement(r.CallID, 5)
		s.Baseline = baseline
		_, err := l.Settle(ctx, s)
		require.NoError(t, err)
	}
	for _, x := range []struct {
		from, to time.Duration
		calls    int64
		baseline string
	}{{0, time.Hour, 1, "big"}, {0, time.Hour + 1, 2, "big"}, {1, 2*time.Hour + 1, 2, "mixed"}, {3 * time.Hour, 4 * time.Hour, 0, ""}} {
		rows, err := l.Usage(ctx, &router.UsageQuery{From: Start().Add(x.from), To: Start().Add(x.to)})
		require.NoError(t, err)
		if x.calls == 0 {
			assert.Empty(t, rows)
			continue
		}
		require.Len(t, rows, 1)
		assert.Equal(t, x.calls, rows[0].Calls)
		assert.Equal(t, x.baseline, rows[0].Baseline)
	}
	rows, err := l.Usage(ctx, &router.UsageQuery{From: time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	assert.EqualValues(t, 3, rows[0].Calls, "times that nanoseconds cannot count")
	rows, err = l.Usage(ctx, &router.UsageQuery{GroupBy: []string{"day"}})
	require.NoError(t, err)
	require.Len(t, rows, 2)
	assert.Equal(t, []string{"2026-12-31"}, rows[0].Group)
	assert.Equal(t, []string{"2027-01-01"}, rows[1].Group)
}

func cancelled(t *testing.T, l router.Ledger) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, l.Reserve(ctx, Reservation("a", 10)), context.Canceled)
	require.NoError(t, l.Reserve(t.Context(), Reservation("a", 10)), "nothing was reserved")
	_, err := l.Settle(ctx, Settlement("a", 5))
	require.NoError(t, err, "the money is spent: a caller that has gone does not undo it")
}
