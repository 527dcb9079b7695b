package ledger

import (
	"errors"
	"fmt"
)

// op is one call's part of a batch.
type op struct {
	// run reads and writes inside the batch's transaction. A refusal goes to
	// refused; the error is the store's and undoes the whole batch.
	run     func(c *conn) error
	refused error
	// sync wants the batch on the disk before anybody is told.
	sync bool
	// tries counts the commits of a settlement that nobody waits for any more.
	tries int

	err  error
	turn chan bool // true: lead; false: err is there
}

// maxBatch bounds what one commit carries, and so how long a caller waits for
// others' work.
const maxBatch = 256

// submit runs the op in a batch and returns when that batch is committed. One
// waiting caller at a time leads: it commits for all that wait, and while the
// disk syncs the next batch gathers.
func (l *Ledger) submit(o *op) error {
	o.turn = make(chan bool, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.queue = append(l.queue, o)
	lead := !l.leading
	l.leading = true
	l.mu.Unlock()
	if lead || <-o.turn {
		l.lead(o)
	}
	if o.err != nil {
		return o.err
	}
	return o.refused
}

// lead commits one batch, its own op among them, and hands the lead on.
func (l *Ledger) lead(self *op) {
	l.mu.Lock()
	n := min(len(l.queue), maxBatch)
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	l.mu.Unlock()

	l.settleOrphans()
	err := l.commit(batch)
	for _, o := range batch {
		o.err = err
		if err != nil && o.sync && len(l.orphans) < maxOrphans {
			l.orphans = append(l.orphans, &op{run: o.run, sync: true})
		}
		if o != self {
			o.turn <- false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		l.queue[0].turn <- true
		return
	}
	l.leading = false
	l.idle.Broadcast()
}

// maxOrphans bounds the settlements that are kept while the disk refuses,
// orphansATime those that one leader commits for nobody, maxTries how often one
// is tried.
const (
	maxOrphans   = 10_000
	orphansATime = 16
	maxTries     = 1000
)

// settleOrphans commits settlements whose first commit failed, each by itself:
// the call was made, so its charge must not wait for a restart, and one that the
// store never takes must not take others with it. A caller that settles again
// meanwhile changes nothing. What is left when the process ends is closed by
// recovery.
func (l *Ledger) settleOrphans() {
	for range min(len(l.orphans), orphansATime) {
		o := l.orphans[0]
		if err := l.commit(l.orphans[:1]); err != nil {
			if o.tries++; o.tries < maxTries {
				l.orphans = append(l.orphans, o)
			}
			l.orphans = l.orphans[1:]
			return
		}
		l.orphans = l.orphans[1:]
	}
}

func (l *Ledger) commit(batch []*op) (err error) {
	if err := l.heal(); err != nil {
		return err
	}
	want := false
	for _, o := range batch {
		want = want || o.sync
	}
	if err := l.syncMode(want); err != nil {
		return err
	}
	c := l.writer
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		l.broken = true
		return fmt.Errorf("begin: %w", err)
	}
	for _, o := range batch {
		o.refused = nil
		if err = o.run(c); err != nil {
			break
		}
	}
	if err == nil {
		if err = c.exec("COMMIT"); err == nil {
			l.tidy()
			return nil
		}
		err = fmt.Errorf("commit: %w", err)
	}
	// SQLite may have rolled back by itself: then this says that nothing is open.
	l.broken = true
	_ = c.exec("ROLLBACK")
	return err
}

// tidyEvery is how many commits the log gathers before they go to the main file:
// a few megabytes.
const tidyEvery = 256

// tidy moves the log to the main file now and then. SQLite would do it by
// itself, and keep to itself that a sync of it failed.
func (l *Ledger) tidy() {
	if l.commits++; l.commits%tidyEvery != 0 || l.cfg.Path == "" {
		return
	}
	var busy, pages, done int64
	if _, err := l.writer.row("PRAGMA wal_checkpoint(PASSIVE)", nil, &busy, &pages, &done); err != nil {
		l.broken = true
	}
}

// heal makes the file trustworthy after a failed write.
func (l *Ledger) heal() error {
	if !l.broken {
		return nil
	}
	if l.cfg.Path != "" {
		if err := errors.Join(l.syncMode(true), l.writer.checkpoint()); err != nil {
			return fmt.Errorf("the last write failed and the file cannot be made sure of: %w", err)
		}
	}
	l.broken = false
	return nil
}

// syncMode sets whether a commit syncs. A sync covers all earlier commits too:
// the log is one file.
func (l *Ledger) syncMode(want bool) error {
	if l.synced == want || l.cfg.Path == "" {
		return nil
	}
	mode := "PRAGMA synchronous = NORMAL"
	if want {
		mode = "PRAGMA synchronous = FULL"
	}
	if err := l.writer.raw(mode); err != nil {
		return fmt.Errorf("sync mode: %w", err)
	}
	l.synced = want
	return nil
}
