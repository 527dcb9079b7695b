package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/router"
)

// GroupNames are what usage can be grouped by. outcome is an attempt's, status
// the call's; a call without attempts has its status for both.
func GroupNames() []string {
	return []string{"model", "provider", "tier", "domain", "policy", "day", "outcome", "status"}
}

// Usage implements router.Ledger. Attempts, tokens and costs count where the
// attempt was made; what is a call's own (itself, its overhead and its baseline)
// where its last attempt was made. So the rows of every grouping add up to the
// same sums, and a provider that only fails shows what it lost.
func (l *Ledger) Usage(ctx context.Context, q *router.UsageQuery) ([]router.UsageRow, error) {
	text, args, err := usageText(q)
	if err != nil {
		return nil, err
	}
	if l.reader != nil {
		rows, err := l.reader.QueryContext(ctx, text, args...)
		return usageRows(rows, err, len(q.GroupBy))
	}
	var out []router.UsageRow
	err = l.submit(&op{run: func(c *conn) error {
		rows, err := c.conn.QueryContext(context.Background(), text, args...)
		out, err = usageRows(rows, err, len(q.GroupBy))
		return err
	}})
	return out, err
}

func usageText(q *router.UsageQuery) (text string, args []any, err error) {
	for i, g := range q.GroupBy {
		if !slices.Contains(GroupNames(), g) || slices.Contains(q.GroupBy[:i], g) {
			return "", nil, fmt.Errorf("usage: group %q is unknown or there twice: use some of %s", g, strings.Join(GroupNames(), ", "))
		}
	}
	var b strings.Builder
	b.WriteString("SELECT ")
	for _, g := range q.GroupBy {
		b.WriteString(g + ", ")
	}
	b.WriteString(`SUM(last), SUM(attempt), SUM(input), SUM(cached_input), SUM(cache_write), SUM(output), SUM(reasoning), MAX(estimated),
  SUM(CASE WHEN last AND status <> 'failed' THEN input ELSE 0 END), SUM(CASE WHEN last AND status <> 'failed' THEN cached_input ELSE 0 END), SUM(CASE WHEN last AND status <> 'failed' THEN cache_write ELSE 0 END),
  SUM(CASE WHEN last AND status <> 'failed' THEN output ELSE 0 END), SUM(CASE WHEN last AND status <> 'failed' THEN reasoning ELSE 0 END),
  SUM(cost), SUM(CASE WHEN saved THEN CASE WHEN last THEN baseline_cost ELSE 0 END - cost ELSE 0 END),
  SUM(unpriced), SUM(last AND NOT saved),
  COALESCE(CASE WHEN MIN(CASE WHEN saved THEN baseline END) = MAX(CASE WHEN saved THEN baseline END) THEN MIN(CASE WHEN saved THEN baseline END)
    WHEN MAX(saved) THEN 'mixed' END, '')
FROM lines WHERE 1`)
	if !q.From.IsZero() {
		b.WriteString(" AND reserved_at >= ?")
		args = append(args, nanosOf(q.From))
	}
	if !q.To.IsZero() {
		b.WriteString(" AND reserved_at < ?")
		args = append(args, nanosOf(q.To))
	}
	if len(q.GroupBy) > 0 {
		names := strings.Join(q.GroupBy, ", ")
		b.WriteString(" GROUP BY " + names + " ORDER BY " + names)
	} else {
		b.WriteString(" HAVING COUNT(*) > 0")
	}
	return b.String(), args, nil
}

// nanosOf counts nanoseconds since 1970; what they cannot count is before or
// after every call.
func nanosOf(t time.Time) int64 {
	switch {
	case t.Year() < 1970:
		return 0
	case t.Year() > lastYear:
		return math.MaxInt64
	default:
		return t.UnixNano()
	}
}

// lastYear is the last that nanoseconds of 63 bits count whole.
const lastYear = 2261

func usageRows(rows *sql.Rows, err error, groups int) (out []router.UsageRow, _ error) {
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is rows.Err
	for rows.Next() {
		r := router.UsageRow{Group: make([]string, groups)}
		to := make([]any, 0, groups+18)
		for i := range r.Group {
			to = append(to, &r.Group[i])
		}
		u, a := &r.Usage, &r.Answered
		to = append(to, &r.Calls, &r.Attempts, &u.Input, &u.CachedInput, &u.CacheWrite, &u.Output, &u.Reasoning, &u.Estimated,
			&a.Input, &a.CachedInput, &a.CacheWrite, &a.Output, &a.Reasoning, &r.Cost, &r.Savings, &r.Unpriced, &r.Uncompared, &r.Baseline)
		if err := rows.Scan(to...); err != nil {
			return nil, fmt.Errorf("usage: %w", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return out, nil
}

// Reader reads a ledger that another process may be writing, without disturbing
// it. It is safe for concurrent use; Close it.
type Reader struct {
	db *sql.DB
}

// OpenReader opens a ledger's file for reading. Errors: fs.ErrNotExist,
// ErrNewer, ErrForeign wrapped.
func OpenReader(ctx context.Context, path string) (*Reader, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	db, err := openReader(path)
	if err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", path, err)
	}
	var version, application int64
	err = errors.Join(db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version), db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&application))
	switch {
	case err != nil:
	case application != applicationID:
		err = ErrForeign
	case version != int64(len(migrations())):
		err = fmt.Errorf("schema %d, this program reads %d: %w", version, len(migrations()), ErrNewer)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read ledger %s: %w", path, err), db.Close())
	}
	return &Reader{db}, nil
}

func openReader(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", fileURL(path, url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)"}}))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(2)
	return db, nil
}

// Usage is Ledger.Usage.
func (r *Reader) Usage(ctx context.Context, q *router.UsageQuery) ([]router.UsageRow, error) {
	text, args, err := usageText(q)
	if err != nil {
		return nil, err
	}
	rows, err := r.db.QueryContext(ctx, text, args...)
	return usageRows(rows, err, len(q.GroupBy))
}

// Close closes the file.
func (r *Reader) Close() error { return r.db.Close() }
