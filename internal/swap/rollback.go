package swap

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Rollback publishes the bundle that served before: at once while that is still
// loaded, else after opening its copy. ErrNoPrevious when there is none.
func (m *Manager) Rollback(ctx context.Context) (Identity, error) {
	return m.rollback(ctx, "an operator asked for it", false)
}

func (m *Manager) rollback(ctx context.Context, why string, automatic bool) (Identity, error) {
	start := m.cfg.Now()
	ctx, cancel := m.bound(context.WithoutCancel(ctx))
	defer cancel()
	m.mu.Lock()
	to := m.before()
	ready := m.previous != nil
	m.mu.Unlock()
	if to == nil {
		return Identity{}, fmt.Errorf("roll back: %w", ErrNoPrevious)
	}
	var opened *loaded
	if !ready {
		if err := m.take(ctx); err != nil {
			return Identity{}, fmt.Errorf("roll back: %w", err)
		}
		defer m.leave()
		var err error
		if opened, err = m.openCopy(ctx, *to); err != nil {
			return Identity{}, fmt.Errorf("roll back: %w", err)
		}
	}
	e, err := m.publishPrevious(*to, opened, why)
	if err != nil {
		if opened != nil {
			err = errors.Join(err, opened.bundle.Close())
		}
		return Identity{}, fmt.Errorf("roll back: %w", err)
	}
	e.Took, e.Reason, e.Automatic = m.cfg.Now().Sub(start), why, automatic
	m.tell(e)
	m.wakeUp()
	return *to, nil
}

// before is what a rollback goes to; nil for nothing. The caller holds mu.
func (m *Manager) before() *Identity {
	if m.previous != nil {
		id := m.previous.id
		return &id
	}
	s := m.cfg.State
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.history.Line); n > 1 {
		id := s.history.Line[n-2]
		return &id
	}
	return nil
}

// publishPrevious makes the bundle before serve: the one still loaded, or opened.
func (m *Manager) publishPrevious(to Identity, opened *loaded, why string) (Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := opened
	if next == nil {
		next = m.previous
	}
	switch now := m.before(); {
	case m.closed:
		return Event{}, ErrClosed
	case next == nil || now == nil || now.Digest != to.Digest:
		return Event{}, errors.New("another bundle was published meanwhile: look at it and ask again")
	}
	old, err := m.publish(next)
	if err != nil {
		return Event{}, err
	}
	if next == m.previous {
		m.previous = nil
	}
	next.last = nil
	m.settlesAt = time.Time{}
	m.retire(old)
	if m.previous != nil { // it was opened anew although it was loaded meanwhile
		m.retire(m.previous)
		m.previous = nil
	}
	m.guard.serve(next.id.Digest, false)
	m.noHistory(m.cfg.State.update(func(h *history) {
		h.Line = h.Line[:max(len(h.Line)-1, 0)]
		h.began(next.id, m.since, "rolled back to", why)
		if h.Rejected == nil {
			h.Rejected = map[string]string{}
		}
		h.Rejected[old.id.Digest] = why
	}))
	return Event{Kind: EventRolledBack, Bundle: next.id, From: old.id}, nil
}
