package ledger

import (
	"context"
	"fmt"
	"time"
)

// applicationID marks the file as a ledger: "weir".
const applicationID = 0x77656972

// migrations bring an empty file to the present schema, a version each. A
// published one is never edited.
func migrations() []string {
	return []string{schemaV1, schemaV2}
}

const schemaV2 = `ALTER TABLE calls ADD COLUMN score_cached INTEGER NOT NULL DEFAULT 0;`

// Amounts are nano-dollars, times nanoseconds since 1970, durations nanoseconds,
// days since 1970 in UTC. STRICT refuses a sum that became a float.
const schemaV1 = `
CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT;
CREATE TABLE calls (
  id INTEGER PRIMARY KEY,
  call_id TEXT NOT NULL UNIQUE,
  day INTEGER NOT NULL,
  reserved_at INTEGER NOT NULL,
  bound INTEGER NOT NULL CHECK (bound >= 0),
  bound_known INTEGER NOT NULL,
  model TEXT NOT NULL, policy TEXT NOT NULL, bundle TEXT NOT NULL, config TEXT NOT NULL, tier TEXT NOT NULL, domain TEXT NOT NULL,
  open INTEGER NOT NULL,
  settled_at INTEGER NOT NULL DEFAULT 0,
  status TEXT NOT NULL DEFAULT '',
  attempts INTEGER NOT NULL DEFAULT 0,
  price_version TEXT NOT NULL DEFAULT '',
  baseline TEXT NOT NULL DEFAULT '',
  baseline_cost INTEGER CHECK (baseline_cost >= 0),
  booked INTEGER NOT NULL DEFAULT 0 CHECK (booked >= 0),
  extra INTEGER NOT NULL DEFAULT 0 CHECK (extra >= 0),
  savings INTEGER,
  input INTEGER NOT NULL DEFAULT 0, cached_input INTEGER NOT NULL DEFAULT 0, cache_write INTEGER NOT NULL DEFAULT 0,
  output INTEGER NOT NULL DEFAULT 0, reasoning INTEGER NOT NULL DEFAULT 0, estimated INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX calls_open ON calls(id) WHERE open = 1;
CREATE INDEX calls_time ON calls(reserved_at);
CREATE TABLE attempts (
  call INTEGER NOT NULL REFERENCES calls(id), n INTEGER NOT NULL,
  model TEXT NOT NULL, upstream TEXT NOT NULL, outcome TEXT NOT NULL,
  input INTEGER NOT NULL, cached_input INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  output INTEGER NOT NULL, reasoning INTEGER NOT NULL, estimated INTEGER NOT NULL,
  cost INTEGER CHECK (cost >= 0),
  started_at INTEGER NOT NULL, first_content INTEGER NOT NULL, duration INTEGER NOT NULL,
  PRIMARY KEY (call, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE days (day INTEGER PRIMARY KEY, spent INTEGER NOT NULL CHECK (spent >= 0), held INTEGER NOT NULL CHECK (held >= 0)) STRICT;
CREATE TABLE keys (key TEXT PRIMARY KEY, digest TEXT NOT NULL, call_id TEXT NOT NULL, time INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX keys_time ON keys(time);
-- A line an attempt, or one for a call without any. The last line of a call
-- carries what is the call's own: its overhead, its baseline, itself.
CREATE VIEW lines AS
SELECT c.reserved_at AS reserved_at,
  COALESCE(a.model, c.model) AS model, COALESCE(a.upstream, '') AS provider, c.tier AS tier, c.domain AS domain, c.policy AS policy,
  date(c.day * 86400, 'unixepoch') AS day, COALESCE(a.outcome, c.status) AS outcome, c.status AS status,
  (a.n IS NULL OR a.n = c.attempts - 1) AS last, a.n IS NOT NULL AS attempt,
  COALESCE(a.input, 0) AS input, COALESCE(a.cached_input, 0) AS cached_input, COALESCE(a.cache_write, 0) AS cache_write,
  COALESCE(a.output, 0) AS output, COALESCE(a.reasoning, 0) AS reasoning, COALESCE(a.estimated, c.estimated) AS estimated,
  CASE WHEN a.n IS NULL THEN c.status = 'unknown' AND c.bound_known = 0 ELSE a.cost IS NULL END AS unpriced,
  COALESCE(a.cost, 0) + CASE WHEN a.n IS NULL OR a.n = c.attempts - 1 THEN c.extra ELSE 0 END AS cost,
  c.savings IS NOT NULL AS saved, c.baseline AS baseline, COALESCE(c.baseline_cost, 0) AS baseline_cost
FROM calls c LEFT JOIN attempts a ON a.call = c.id WHERE c.open = 0;
`

// prepareFile sets the connection up and brings the schema to date, one
// transaction a version.
func (c *conn) prepareFile(ctx context.Context, file bool, now time.Time) error {
	if err := c.raw("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON"); err != nil {
		return err
	}
	var version, application, objects int64
	for pragma, to := range map[string]*int64{"PRAGMA user_version": &version, "PRAGMA application_id": &application, "SELECT count(*) FROM sqlite_schema": &objects} {
		// Not by row: a prepared reader of the schema would keep its table busy.
		if err := c.conn.QueryRowContext(ctx, pragma).Scan(to); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
	}
	if (application != 0 || objects != 0) && application != applicationID {
		return ErrForeign
	}
	todo := migrations()
	if version > int64(len(todo)) {
		return fmt.Errorf("schema %d, this program knows %d: %w", version, len(todo), ErrNewer)
	}
	if file {
		if err := c.raw("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0"); err != nil {
			return fmt.Errorf("write-ahead log: %w", err)
		}
	}
	for i := version; i < int64(len(todo)); i++ {
		text := fmt.Sprintf("BEGIN IMMEDIATE; %s INSERT INTO migrations VALUES (%d, %d); PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT",
			todo[i], i+1, now.UnixNano(), i+1, applicationID)
		if err := c.raw(text); err != nil {
			return fmt.Errorf("migrate to schema %d: %w", i+1, err)
		}
	}
	return nil
}

// recover closes what a dead process left open and holds the counters against
// the rows, in one transaction.
func (c *conn) recover(now time.Time) (Recovery, error) {
	var r Recovery
	if err := c.raw("BEGIN IMMEDIATE"); err != nil {
		return r, err
	}
	err := c.recoverRows(now, &r)
	if err != nil {
		// The first error is the one to tell; a rollback that fails as well
		// leaves what the next open finds.
		_ = c.raw("ROLLBACK")
		return Recovery{}, err
	}
	return r, c.raw("COMMIT")
}

func (c *conn) recoverRows(now time.Time, r *Recovery) error {
	_, err := c.row(`SELECT COALESCE(SUM(ABS(s - spent) + ABS(h - held)), 0) FROM (
		SELECT d.day, d.spent AS spent, d.held AS held, COALESCE(SUM(c.booked), 0) AS s, COALESCE(SUM(CASE WHEN c.open THEN c.bound END), 0) AS h
		FROM days d LEFT JOIN calls c ON c.day = d.day GROUP BY d.day)`, nil, &r.Drift)
	if err != nil {
		return err
	}
	_, err = c.row(`SELECT COUNT(*), COALESCE(SUM(bound), 0), COALESCE(SUM(1 - bound_known), 0) FROM calls WHERE open = 1`, nil, &r.Calls, &r.Charged, &r.Unpriced)
	if err != nil {
		return err
	}
	if r.Calls == 0 && r.Drift == 0 {
		return nil
	}
	err = c.exec(`UPDATE calls SET open = 0, status = 'unknown', settled_at = ?, booked = bound, extra = bound, estimated = 1, price_version = config WHERE open = 1`, now.UnixNano())
	if err != nil {
		return err
	}
	return c.exec(`INSERT OR REPLACE INTO days SELECT day, SUM(booked), SUM(CASE WHEN open THEN bound ELSE 0 END) FROM calls GROUP BY day`)
}
