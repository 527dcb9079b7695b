package swap

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// Manager swaps bundles. Make one by New, Run it, and Close it when nobody uses
// the Store any more. Its methods are safe for concurrent use. It implements
// router.Observer: give it every decision, so that a new bundle is watched.
type Manager struct {
	cfg   Config
	guard *guard
	// loading has one place: one bundle is examined or opened at a time.
	loading chan struct{}
	// wake makes Run look again; trips carries the guard's verdict to it.
	wake  chan struct{}
	trips chan trip
	done  chan struct{}
	abort func() // closes done, once

	// mu guards what follows and every publication. Nothing slow is done under it
	// but the writing of the history.
	mu        sync.Mutex
	closed    bool
	serving   *loaded
	since     time.Time
	previous  *loaded // nil unless it is still loaded, while serving settles
	settlesAt time.Time
	staged    *Identity
	against   string // the digest that staged was held against
	gates     []Gate
	page      string
	refusal   *Event
	retired   []*retirement
}

// loaded is an opened bundle.
type loaded struct {
	bundle Bundle
	id     Identity
	// last is the snapshot by which it last served; nil while it serves.
	last *router.Snapshot
}

// retirement is a bundle that is closed once nobody leases it.
type retirement struct {
	*loaded
	closing bool
}

type trip struct{ digest, why string }

// New checks the config and notes in the history what serves. It starts nothing.
func New(cfg Config) (*Manager, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, guard: &guard{policy: cfg.Policy.Settle, now: cfg.Now},
		loading: make(chan struct{}, 1), wake: make(chan struct{}, 1), trips: make(chan trip, 1), done: make(chan struct{}),
		serving: &loaded{bundle: cfg.Serving, id: identityOf(cfg.Serving.Info())}, since: cfg.Now(),
	}
	m.abort = sync.OnceFunc(func() { close(m.done) })
	m.guard.serve(m.serving.id.Digest, false)
	err := cfg.State.update(func(h *history) {
		if n := len(h.Line); n == 0 || h.Line[n-1].Digest != m.serving.id.Digest {
			h.Line = append(h.Line, m.serving.id)
		}
		h.began(m.serving.id, m.since, "start", "")
	})
	if err == nil {
		err = cfg.State.prune(m.serving.id.Digest)
	}
	if err != nil {
		return nil, fmt.Errorf("swap: %w", err)
	}
	return m, nil
}

// Boot notes the digest of the folder that the server was configured with, for the
// next start. See State.LastServed.
func (m *Manager) Boot(digest string) error {
	return m.cfg.State.update(func(h *history) { h.Boot = digest })
}

// Run watches what was promoted and closes what nobody leases any more, until ctx
// ends; it returns nil then. Every goroutine has ended when it returns.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		m.closeRetired(ctx, &wg)
		if left, settling := m.settlesIn(); settling {
			timer.Reset(left)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			m.settle()
		case t := <-m.trips:
			m.giveUp(ctx, t)
		case <-m.wake:
		}
	}
}

func (m *Manager) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// settlesIn is how long the serving bundle is still watched.
func (m *Manager) settlesIn() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.settlesAt.Sub(m.cfg.Now()), 0), m.previous != nil
}

// settle lets the previous bundle go when its time has come.
func (m *Manager) settle() {
	m.mu.Lock()
	if m.previous == nil || m.cfg.Now().Before(m.settlesAt) {
		m.mu.Unlock()
		return
	}
	m.retire(m.previous)
	m.previous, m.settlesAt = nil, time.Time{}
	m.guard.settled()
	e := Event{Kind: EventSettled, Bundle: m.serving.id, Took: m.cfg.Now().Sub(m.since)}
	m.mu.Unlock()
	m.tell(e)
}

// retire puts a bundle on the list of those to close. The caller holds mu.
func (m *Manager) retire(l *loaded) {
	m.retired = append(m.retired, &retirement{loaded: l})
	m.wakeUp()
}

// closeRetired closes every retired bundle once its last lease has ended.
func (m *Manager) closeRetired(ctx context.Context, wg *sync.WaitGroup) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.retired {
		if r.closing {
			continue
		}
		r.closing = true
		wg.Go(func() {
			err := r.last.Drained(ctx)
			if ctx.Err() == nil {
				err = errors.Join(err, r.bundle.Close())
				// A swap leaves tens of megabytes behind that were read to open and to prove
				// bundles. They are given back now, not when the collector comes to it.
				debug.FreeOSMemory()
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if ctx.Err() != nil {
				r.closing = false // Close does it
				return
			}
			for i := range m.retired {
				if m.retired[i] == r {
					m.retired = append(m.retired[:i], m.retired[i+1:]...)
					break
				}
			}
			if err != nil {
				m.cfg.Logger.Error("bundle not closed cleanly", "bundle_digest", r.id.Digest, "error", err)
			}
		})
	}
}

// Routed implements router.Observer.
func (m *Manager) Routed(r *router.Record, err error) {
	if why := m.guard.observe(r, err); why != "" {
		select {
		case m.trips <- trip{r.BundleDigest, why}:
		default: // one verdict is enough
		}
	}
}

// giveUp goes back from a settling bundle by itself.
func (m *Manager) giveUp(ctx context.Context, t trip) {
	m.mu.Lock()
	still := m.previous != nil && m.serving.id.Digest == t.digest
	m.mu.Unlock()
	if !still {
		return
	}
	if _, err := m.rollback(ctx, t.why, true); err != nil {
		m.tell(Event{Kind: EventFailed, Bundle: Identity{Digest: t.digest}, Reason: fmt.Sprintf("roll back because %s: %v", t.why, err)})
	}
}

// Promote publishes the staged bundle. The digest has to be its own: ErrNotStaged
// otherwise. It ends early only with the manager, not with ctx.
func (m *Manager) Promote(ctx context.Context, digest string) (Identity, error) {
	ctx, cancel := m.bound(context.WithoutCancel(ctx))
	defer cancel()
	if err := m.take(ctx); err != nil {
		return Identity{}, fmt.Errorf("promote: %w", err)
	}
	defer m.leave()
	return m.promote(ctx, digest)
}

// promote has the place in loading.
func (m *Manager) promote(ctx context.Context, digest string) (Identity, error) {
	m.mu.Lock()
	staged, err := m.promotable(digest)
	m.mu.Unlock()
	if err != nil {
		return Identity{}, fmt.Errorf("promote: %w", err)
	}
	start := m.cfg.Now()
	next, err := m.openCopy(ctx, staged)
	if err != nil {
		err = fmt.Errorf("promote: %w", err)
		m.tell(Event{Kind: EventFailed, Bundle: staged, Reason: err.Error()})
		return Identity{}, err
	}
	e := Event{Kind: EventPromoted, Bundle: next.id}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return Identity{}, errors.Join(ErrClosed, next.bundle.Close())
	}
	var old *loaded
	if _, err = m.promotable(digest); err == nil { // a rollback may have come between
		old, err = m.publish(next)
	}
	if err != nil {
		m.mu.Unlock()
		return Identity{}, errors.Join(fmt.Errorf("promote: %w", err), next.bundle.Close())
	}
	e.From = old.id
	m.staged, m.refusal = nil, nil
	if m.previous != nil {
		m.retire(m.previous)
	}
	m.previous, m.settlesAt = old, m.since.Add(m.cfg.Policy.Settle.For)
	m.guard.serve(next.id.Digest, true)
	err = m.cfg.State.update(func(h *history) {
		h.Line = append(h.Line, next.id)
		h.began(next.id, m.since, "promoted", "")
		delete(h.Rejected, next.id.Digest)
	})
	e.Took = m.cfg.Now().Sub(start)
	m.mu.Unlock()
	m.noHistory(errors.Join(err, m.cfg.State.prune(next.id.Digest)))
	m.tell(e)
	m.wakeUp()
	return next.id, nil
}

// promotable returns the staged bundle if it has that digest and was held against the
// one that serves now: gates compare. The caller holds mu.
func (m *Manager) promotable(digest string) (Identity, error) {
	switch now := m.serving.id.Digest; {
	case m.staged == nil:
		return Identity{}, fmt.Errorf("%w: none is, stage one first", ErrNotStaged)
	case m.staged.Digest != digest:
		return Identity{}, fmt.Errorf("%w: %s is, not %s", ErrNotStaged, m.staged.Digest, digest)
	case digest == now:
		return Identity{}, ErrServing
	case m.against != now:
		return Identity{}, fmt.Errorf("%w: %s %w", ErrNotStaged, digest, errOvertaken)
	}
	return *m.staged, nil
}

// publish makes a bundle serve, and returns the one that did. The caller holds mu.
func (m *Manager) publish(next *loaded) (*loaded, error) {
	snapshot, err := m.cfg.Store.Publish(func(_ classifier.Classifier, r *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return next.bundle, r, nil
	})
	if err != nil {
		return nil, err
	}
	old := m.serving
	old.last = snapshot
	m.serving, m.since = next, m.cfg.Now()
	return old, nil
}

// openCopy opens an accepted copy. The caller has the place in loading.
func (m *Manager) openCopy(ctx context.Context, id Identity) (*loaded, error) {
	b, err := m.cfg.Open(ctx, m.cfg.State.Folder(id.Digest))
	if err != nil {
		return nil, err
	}
	if got := b.Info().Digest; got != id.Digest {
		return nil, errors.Join(fmt.Errorf("the copy of %s is %s: stage it again", id.Digest, got), b.Close())
	}
	return &loaded{bundle: b, id: id}, nil
}

// noHistory logs that the history could not be written: what serves is right all
// the same.
func (m *Manager) noHistory(err error) {
	if err != nil {
		m.cfg.Logger.Error("the bundles' history is not up to date", "error", err)
	}
}

// take waits for the place in loading; leave gives it back.
func (m *Manager) take(ctx context.Context) error {
	select {
	case m.loading <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := context.Cause(ctx); err != nil {
		m.leave()
		return err
	}
	return nil
}

func (m *Manager) leave() { <-m.loading }

// bound ends with the manager.
func (m *Manager) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	select {
	case <-m.done:
		cancel(ErrClosed)
	default:
	}
	stopped := make(chan struct{})
	go func() {
		select {
		case <-m.done:
			cancel(ErrClosed)
		case <-stopped:
		}
	}()
	return ctx, sync.OnceFunc(func() { close(stopped); cancel(nil) })
}

// Status tells where the manager stands.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		State: "steady", Serving: m.serving.id, Since: m.since, Previous: m.before(), Loaded: m.previous != nil,
		Gates: m.gates, Page: m.page, Refusal: m.refusal,
	}
	if m.staged != nil {
		id := *m.staged
		s.Staged = &id
	}
	if m.previous != nil {
		s.State, s.SettlesAt = "settling", m.settlesAt
	}
	return s
}

// History are the times that bundles served, newest first.
func (m *Manager) History() []Entry { return m.cfg.State.Entries() }

// Abort ends what is examined or opened and lets nothing more begin, so that no caller
// holds a server's stop. What serves goes on serving until Close.
func (m *Manager) Abort() { m.abort() }

// Close ends what runs, and closes every bundle that is open, the serving one
// included. Call it after Run has returned, when nobody uses the Store any more.
func (m *Manager) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	m.Abort()
	m.loading <- struct{}{} // whoever loads sees done, and ends
	defer m.leave()
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := []error{m.serving.bundle.Close()}
	if m.previous != nil {
		errs = append(errs, m.previous.bundle.Close())
	}
	for _, r := range m.retired {
		errs = append(errs, r.bundle.Close())
	}
	m.previous, m.retired = nil, nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close bundles: %w", err)
	}
	return nil
}
