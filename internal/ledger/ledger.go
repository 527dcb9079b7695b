// Package ledger keeps what completions reserved and spent, in one SQLite file
// without cgo.
//
// What it promises:
//
//   - No overshoot: a call is admitted only when spent plus held plus its bound
//     fit the budget's window, all in one transaction. A charge belongs to the
//     UTC day of its reservation, whenever it is settled, so a clock that goes
//     back opens no second window, and a window never spends another's money.
//   - No drift: the counters that a budget is held against are changed in the
//     transaction that writes the rows; Open holds the two together.
//   - Acknowledged is durable: Settle returns after the disk has it. Concurrent
//     settlements share one sync (queue.go). A reservation is written but not
//     synced: it survives the process's death; a power cut can lose open
//     reservations, and nothing else.
//   - No reservation outlives its process: Open closes those that a dead process
//     left as outcome "unknown" and charges their whole bound, flagged as
//     estimated. The provider may have billed up to that, so a budget holds even
//     across a crash; the price of caution is at most the calls that were open.
//   - After a failed write or sync nothing is acknowledged until a checkpoint
//     has rewritten and synced the main file: a kernel may report a lost page
//     only once, and a later sync would then be a lie.
//
// A Ledger starts no goroutine: a caller that waits commits for the others.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/weirhq/weir/router"
)

// Errors beside those of router.Ledger.
var (
	// ErrClosed means that the ledger was closed.
	ErrClosed = errors.New("the ledger is closed")
	// ErrLocked means that another process, or another Ledger of this one, has
	// the file open.
	ErrLocked = errors.New("the ledger is open elsewhere: one server keeps a ledger; stop the other, or name another file")
	// ErrNewer means that a newer program wrote the file.
	ErrNewer = errors.New("the ledger was written by a newer weir: use that one, or name another file")
	// ErrForeign means that the file is some other database.
	ErrForeign = errors.New("the file is no ledger: name another")
	// ErrNoReservation means that a call was settled that was never reserved, or
	// whose unsynced reservation a power cut took.
	ErrNoReservation = errors.New("the call was not reserved")
)

// DefaultKeyRetention is how long an idempotency key answers, MinKeyRetention
// the least.
const (
	DefaultKeyRetention = 72 * time.Hour
	MinKeyRetention     = 24 * time.Hour
)

// Config says where a ledger is.
type Config struct {
	// Path is the file; its folder is made when it is not there. "" keeps the
	// ledger in memory: it ends with the process.
	Path string
	// KeyRetention is how long an idempotency key is kept, 24 hours or more; 0
	// for the default.
	KeyRetention time.Duration
	// Now dates migrations and what recovery closes; nil for time.Now.
	Now func() time.Time
}

// Recovery is what Open found and closed.
type Recovery struct {
	// Calls were open when their process died; Charged is the sum of their
	// bounds, which were booked. Unpriced of them had no known bound.
	Calls, Unpriced int64
	Charged         router.NanoUSD
	// Drift is by how much the counters of spent and held money were away from
	// the rows' sums; it was put right. It is 0 unless the file was changed by
	// something else.
	Drift router.NanoUSD
}

// Ledger implements router.Ledger. It is safe for concurrent use. Make one by
// Open; Close it.
type Ledger struct {
	cfg      Config
	recovery Recovery
	lock     *sql.DB // holds the file for this process; nil in memory
	writer   *conn
	reader   *sql.DB // nil in memory

	mu      sync.Mutex
	idle    *sync.Cond
	queue   []*op
	leading bool
	closed  bool

	// What only the leader touches.
	broken    bool  // a write failed: heal first
	synced    bool  // the connection's present mode
	orphans   []*op // settlements whose commit failed
	nextPrune time.Time
	commits   int64
}

var _ router.Ledger = (*Ledger)(nil)

// Open opens a ledger, makes it when it is not there, brings its schema up to
// date, and closes what a dead process left open. Errors: ErrLocked, ErrNewer,
// ErrForeign wrapped, or what the file system says.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	if cfg.KeyRetention == 0 {
		cfg.KeyRetention = DefaultKeyRetention
	}
	if cfg.KeyRetention < MinKeyRetention {
		return nil, fmt.Errorf("open ledger: keys are kept %s: want %s or more, so that a day's retries are safe", cfg.KeyRetention, MinKeyRetention)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Ledger{cfg: cfg}
	l.idle = sync.NewCond(&l.mu)
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", l.name(), err), l.release())
	}
	return l, nil
}

func (l *Ledger) name() string {
	if l.cfg.Path == "" {
		return "in memory"
	}
	return l.cfg.Path
}

func (l *Ledger) open(ctx context.Context) error {
	name := ":memory:"
	if l.cfg.Path != "" {
		if err := os.MkdirAll(filepath.Dir(l.cfg.Path), 0o700); err != nil {
			return err
		}
		if err := l.hold(ctx); err != nil {
			return err
		}
		name = fileURL(l.cfg.Path, nil)
	}
	var err error
	if l.writer, err = newConn(ctx, name); err != nil {
		return err
	}
	if err := l.writer.prepareFile(ctx, l.cfg.Path != "", l.cfg.Now()); err != nil {
		return err
	}
	if l.recovery, err = l.writer.recover(l.cfg.Now()); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if l.cfg.Path == "" {
		return nil
	}
	// What a dead process wrote and did not sync becomes durable before anybody
	// is told of it.
	if err := l.writer.checkpoint(); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(l.cfg.Path)); err != nil {
		return err
	}
	l.synced = true
	l.reader, err = openReader(l.cfg.Path)
	return err
}

// hold takes the file for this process until it ends, however it ends: a lock
// of SQLite's on a file beside, which the system drops with the process.
func (l *Ledger) hold(ctx context.Context) error {
	db, err := sql.Open("sqlite", fileURL(l.cfg.Path+".lock", nil))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	l.lock = db
	if _, err := db.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		if isBusy(err) {
			return ErrLocked
		}
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// Recovery tells what Open found and closed, for the log.
func (l *Ledger) Recovery() Recovery { return l.recovery }

// Close waits for running calls and closes the file. Open reservations stay; the
// next Open closes them. A second Close does nothing.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for l.leading {
		l.idle.Wait()
	}
	l.mu.Unlock()
	l.settleOrphans()
	return l.release()
}

func (l *Ledger) release() error {
	var errs []error
	if l.reader != nil {
		errs = append(errs, l.reader.Close())
	}
	if l.writer != nil {
		errs = append(errs, l.writer.close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

// fileURL names a file to the driver so that no letter of it is taken for an
// option.
func fileURL(path string, options url.Values) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(), RawQuery: options.Encode()}
	return u.String()
}

// syncDir makes new names of a folder durable.
func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
