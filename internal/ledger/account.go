package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// StatusUnknown is the status of a call whose process died before it settled.
const StatusUnknown = "unknown"

// Reserve implements router.Ledger. It refuses a call of unknown price where a
// budget is set with router.ErrUnpriced wrapped.
func (l *Ledger) Reserve(ctx context.Context, r *router.Reservation) error {
	if err := checkReservation(r); err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	o := &op{}
	o.run = func(c *conn) (err error) {
		if o.refused = ctx.Err(); o.refused != nil {
			return nil
		}
		o.refused, err = l.reserve(c, r)
		return err
	}
	return wrap("reserve", l.submit(o))
}

// wrap names the operation; the typed answers stay as they are.
func wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", operation, err)
}

func checkReservation(r *router.Reservation) error {
	switch {
	case r.CallID == "":
		return errors.New("the call has no id")
	case r.Time.Unix() <= 0 || r.Time.Year() > lastYear:
		return fmt.Errorf("time %s: want one from 1970 to %d", r.Time, lastYear)
	case r.Bound < 0 || r.Budget.Limit < 0:
		return fmt.Errorf("bound %s under budget %s: an amount is negative", r.Bound, r.Budget.Limit)
	case r.Bound > 0 && !r.BoundKnown:
		return fmt.Errorf("bound %s is marked unknown: leave it 0", r.Bound)
	case (r.IdempotencyKey == "") != (r.RequestDigest == ""):
		return errors.New("an idempotency key and the request's digest come together")
	}
	_, _, _, err := windowOf(r.Budget.Window, r.Time)
	return err
}

func (l *Ledger) reserve(c *conn, r *router.Reservation) (refused, err error) {
	if err := l.prune(c, r.Time); err != nil {
		return nil, err
	}
	if r.IdempotencyKey != "" {
		if refused, err := l.duplicate(c, r); refused != nil || err != nil {
			return refused, err
		}
	}
	var id int64
	if found, err := c.row("SELECT id FROM calls WHERE call_id = ?", []any{r.CallID}, &id); found || err != nil {
		return fmt.Errorf("call %s was reserved before: every call has an id of its own", r.CallID), err
	}
	if refused, err := budget(c, r); refused != nil || err != nil {
		return refused, err
	}
	if refused, err := addDay(c, dayOf(r.Time), 0, r.Bound); refused != nil || err != nil {
		return refused, err
	}
	err = c.exec(`INSERT INTO calls (call_id, day, reserved_at, bound, bound_known, model, policy, bundle, config, tier, domain, open) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`,
		r.CallID, dayOf(r.Time), r.Time.UnixNano(), int64(r.Bound), bit(r.BoundKnown), r.Model, r.Policy, r.Bundle, r.Config, tierName(r.Tier), domainName(r.Domain))
	if err != nil || r.IdempotencyKey == "" {
		return nil, err
	}
	return nil, c.exec("INSERT INTO keys VALUES (?, ?, ?, ?)", r.IdempotencyKey, r.RequestDigest, r.CallID, r.Time.UnixNano())
}

// duplicate answers a key that was used; an expired one is forgotten.
func (l *Ledger) duplicate(c *conn, r *router.Reservation) (refused, err error) {
	var digest, callID string
	var at int64
	found, err := c.row("SELECT digest, call_id, time FROM keys WHERE key = ?", []any{r.IdempotencyKey}, &digest, &callID, &at)
	switch {
	case err != nil || !found:
		return nil, err
	case r.Time.Sub(time.Unix(0, at)) > l.cfg.KeyRetention:
		return nil, c.exec("DELETE FROM keys WHERE key = ?", r.IdempotencyKey)
	case digest != r.RequestDigest:
		return router.ErrIdempotencyConflict, nil
	}
	receipt, _, err := receiptOf(c, callID)
	return &router.DuplicateError{Receipt: receipt}, err
}

// prune forgets old keys, some at a time, at most every ten minutes.
func (l *Ledger) prune(c *conn, now time.Time) error {
	if now.Before(l.nextPrune) {
		return nil
	}
	l.nextPrune = now.Add(10 * time.Minute)
	return c.exec("DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE time < ? LIMIT 1000)", now.Add(-l.cfg.KeyRetention).UnixNano())
}

// budget refuses a call that its window does not pay for.
func budget(c *conn, r *router.Reservation) (refused, err error) {
	if r.Budget.Window == "" {
		return nil, nil
	}
	if !r.BoundKnown {
		return router.ErrUnpriced, nil
	}
	from, to, resets, err := windowOf(r.Budget.Window, r.Time)
	if err != nil {
		return err, nil
	}
	e := &router.BudgetError{Budget: r.Budget, Asked: r.Bound, Resets: resets}
	// SUM over integers fails where it overflows.
	_, err = c.row("SELECT COALESCE(SUM(spent), 0), COALESCE(SUM(held), 0) FROM days WHERE day >= ? AND day < ?", []any{from, to}, &e.Spent, &e.Held)
	if err != nil {
		return nil, err
	}
	used, err := e.Spent.Plus(e.Held)
	if err == nil {
		used, err = used.Plus(e.Asked)
	}
	if err != nil || used > r.Budget.Limit {
		return e, nil //nolint:nilerr // a sum that overflows is above every limit
	}
	return nil, nil
}

const day = 24 * time.Hour

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// windowOf returns the window's days, to excluded, and when the next begins.
func windowOf(window string, t time.Time) (from, to int64, resets time.Time, err error) {
	t = t.UTC()
	switch window {
	case "", router.WindowTotal:
		return 0, 1 << 40, time.Time{}, nil
	case router.WindowDay:
		from = dayOf(t)
		return from, from + 1, time.Unix((from+1)*int64(day/time.Second), 0).UTC(), nil
	case router.WindowMonth:
		first := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
		next := first.AddDate(0, 1, 0)
		return dayOf(first), dayOf(next), next, nil
	default:
		return 0, 0, time.Time{}, fmt.Errorf("budget window %q is unknown: use day, month or total", window)
	}
}

// addDay changes a day's counters; a sum that does not fit is refused.
func addDay(c *conn, day int64, spent, held router.NanoUSD) (refused, err error) {
	var s, h router.NanoUSD
	if _, err := c.row("SELECT spent, held FROM days WHERE day = ?", []any{day}, &s, &h); err != nil {
		return nil, err
	}
	if s, err = s.Plus(spent); err != nil {
		return err, nil
	}
	if h, err = h.Plus(held); err != nil {
		return err, nil
	}
	return nil, c.exec("INSERT INTO days VALUES (?, ?, ?) ON CONFLICT (day) DO UPDATE SET spent = excluded.spent, held = excluded.held", day, int64(s), int64(h))
}

// Settle implements router.Ledger. Once begun it is not cancelled by ctx: the
// money is spent. After an error it can be repeated; a Ledger also repeats it by
// itself with the next call that it writes. ErrNoReservation wrapped for a call
// that was never reserved.
func (l *Ledger) Settle(_ context.Context, s *router.Settlement) (router.Receipt, error) {
	sums, err := sumOf(s)
	if err != nil {
		return router.Receipt{}, fmt.Errorf("settle: %w", err)
	}
	var receipt router.Receipt
	o := &op{sync: true}
	// An orphan runs again after Settle has returned, so it keeps its own copy.
	kept := *s
	kept.Attempts = append([]router.AttemptRecord(nil), s.Attempts...)
	o.run = func(c *conn) (err error) {
		receipt, o.refused, err = settle(c, &kept, sums)
		return err
	}
	if err := l.submit(o); err != nil {
		return router.Receipt{}, wrap("settle", err)
	}
	return receipt, nil
}

// sums is what a settlement adds up to.
type sums struct {
	usage          router.Usage
	attempts       router.NanoUSD
	booked, saving router.NanoUSD
	savingKnown    bool
}

func sumOf(s *router.Settlement) (sums, error) {
	var out sums
	if s.CallID == "" || s.Status == "" || s.Status == StatusUnknown {
		return out, fmt.Errorf("call %q has status %q: want an id and how the call ended", s.CallID, s.Status)
	}
	if s.Overhead < 0 || s.BaselineCost < 0 {
		return out, fmt.Errorf("overhead %s, baseline cost %s: an amount is negative", s.Overhead, s.BaselineCost)
	}
	out.savingKnown = s.BaselineKnown
	var err error
	for i := range s.Attempts {
		a := &s.Attempts[i]
		if err := a.Usage.Validate(); err != nil {
			return out, fmt.Errorf("attempt %d: %w", i, err)
		}
		if a.Cost < 0 {
			return out, fmt.Errorf("attempt %d: cost %s is negative", i, a.Cost)
		}
		if out.usage, err = out.usage.Plus(a.Usage); err != nil {
			return out, fmt.Errorf("attempt %d: %w", i, err)
		}
		if !a.CostKnown {
			out.savingKnown = false
			continue
		}
		if out.attempts, err = out.attempts.Plus(a.Cost); err != nil {
			return out, err
		}
	}
	if out.booked, err = out.attempts.Plus(s.Overhead); err != nil {
		return out, err
	}
	out.saving, err = s.BaselineCost.Minus(out.booked)
	return out, err
}

func settle(c *conn, s *router.Settlement, sum sums) (receipt router.Receipt, refused, err error) {
	receipt, row, err := receiptOf(c, s.CallID)
	switch {
	case err != nil:
		return receipt, nil, err
	case row.id == 0:
		return receipt, fmt.Errorf("call %s: %w", s.CallID, ErrNoReservation), nil
	case !receipt.Open:
		return receipt, nil, nil
	}
	if refused, err := addDay(c, row.day, sum.booked, -row.bound); refused != nil || err != nil {
		return receipt, refused, err
	}
	for i := range s.Attempts {
		a := &s.Attempts[i]
		err := c.exec("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			row.id, i, a.Model, a.Upstream, a.Outcome, a.Usage.Input, a.Usage.CachedInput, a.Usage.CacheWrite, a.Usage.Output, a.Usage.Reasoning, bit(a.Usage.Estimated),
			known(a.Cost, a.CostKnown), a.Start.UnixNano(), int64(a.FirstContent), int64(a.Duration))
		if err != nil {
			return receipt, nil, err
		}
	}
	u := sum.usage
	err = c.exec(`UPDATE calls SET open = 0, settled_at = ?, status = ?, attempts = ?, price_version = ?, baseline = ?, baseline_cost = ?, booked = ?, extra = ?, savings = ?,
		input = ?, cached_input = ?, cache_write = ?, output = ?, reasoning = ?, estimated = ?, score_cached = ? WHERE id = ?`,
		s.Time.UnixNano(), s.Status, len(s.Attempts), s.PriceVersion, s.Baseline, known(s.BaselineCost, s.BaselineKnown), int64(sum.booked), int64(s.Overhead), known(sum.saving, sum.savingKnown),
		u.Input, u.CachedInput, u.CacheWrite, u.Output, u.Reasoning, bit(u.Estimated), bit(s.ScoreCached), row.id)
	if err != nil {
		return receipt, nil, err
	}
	receipt, _, err = receiptOf(c, s.CallID)
	return receipt, nil, err
}

type callRow struct {
	id, day int64
	bound   router.NanoUSD
}

func receiptOf(c *conn, callID string) (router.Receipt, callRow, error) {
	var row callRow
	r := router.Receipt{CallID: callID}
	var savings *int64
	u := &r.Usage
	_, err := c.row(`SELECT id, day, bound, open, status, price_version, booked, savings, baseline, input, cached_input, cache_write, output, reasoning, estimated, score_cached FROM calls WHERE call_id = ?`,
		[]any{callID}, &row.id, &row.day, &row.bound, &r.Open, &r.Status, &r.PriceVersion, &r.Booked, &savings, &r.Baseline,
		&u.Input, &u.CachedInput, &u.CacheWrite, &u.Output, &u.Reasoning, &u.Estimated, &r.ScoreCached)
	if savings != nil {
		r.Savings, r.SavingsKnown = router.NanoUSD(*savings), true
	}
	return r, row, err
}

func known(n router.NanoUSD, is bool) any {
	if !is {
		return nil
	}
	return int64(n)
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func tierName(t router.Tier) string {
	if t == 0 {
		return ""
	}
	return t.String()
}

func domainName(d classifier.Domain) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
