package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// conn is one connection with its prepared statements. It is used by one caller
// at a time.
type conn struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newConn(ctx context.Context, name string) (*conn, error) {
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &conn{db: db, conn: c, stmts: map[string]*sql.Stmt{}}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.conn.Close(), c.db.Close())...)
}

// A statement that has begun is not cancelled: half a batch is nobody's answer.
func (c *conn) stmt(text string) (*sql.Stmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	s, err := c.conn.PrepareContext(context.Background(), text)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	c.stmts[text] = s
	return s, nil
}

// exec runs a statement, prepared once.
func (c *conn) exec(text string, args ...any) error {
	s, err := c.stmt(text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.Background(), args...)
	return err
}

// row reads one row; found is false where there is none.
func (c *conn) row(text string, args []any, to ...any) (found bool, err error) {
	s, err := c.stmt(text)
	if err != nil {
		return false, err
	}
	err = s.QueryRowContext(context.Background(), args...).Scan(to...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// raw runs a text of any number of statements.
func (c *conn) raw(text string) error {
	_, err := c.conn.ExecContext(context.Background(), text)
	return err
}

// checkpoint rewrites the main file with all that the log holds, syncs it and
// empties the log.
func (c *conn) checkpoint() error {
	var busy, pages, done int64
	if _, err := c.row("PRAGMA wal_checkpoint(TRUNCATE)", nil, &busy, &pages, &done); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if busy != 0 {
		return errors.New("checkpoint: a reader holds the log")
	}
	return nil
}

// sqliteBusy is SQLITE_BUSY, the low byte of its extended codes.
const sqliteBusy = 5

func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqliteBusy
}
