package router

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/weirhq/weir/classifier"
)

// Snapshot is the pair that decides: a classifier and rules, each named by its
// digest. A request leases one snapshot and sees nothing else, so no answer
// ever mixes two versions.
type Snapshot struct {
	Classifier classifier.Classifier
	Rules      *Rules

	leases  atomic.Int64
	retired atomic.Bool
	once    sync.Once
	drained chan struct{}
	// before is the snapshot that this one replaced, while that is leased: it may
	// hold the same classifier.
	before atomic.Pointer[Snapshot]
}

// Store holds the snapshot that serves, behind one pointer. Config reload and
// model swap both publish through it. It is safe for concurrent use.
type Store struct {
	current atomic.Pointer[Snapshot]
	publish sync.Mutex
}

// NewStore makes a store that serves the pair.
func NewStore(c classifier.Classifier, r *Rules) (*Store, error) {
	if c == nil || r == nil {
		return nil, fmt.Errorf("snapshot needs a classifier and rules")
	}
	s := &Store{}
	s.current.Store(&Snapshot{Classifier: c, Rules: r, drained: make(chan struct{})})
	return s, nil
}

// Acquire leases the serving snapshot. Call Release on it exactly once; until
// then its classifier stays open.
func (s *Store) Acquire() *Snapshot {
	for {
		snap := s.current.Load()
		snap.leases.Add(1)
		// A snapshot that was replaced between the two lines may be drained
		// already: let it go and take the new one.
		if s.current.Load() == snap {
			return snap
		}
		snap.Release()
	}
}

// Release ends a lease.
func (s *Snapshot) Release() {
	if s.leases.Add(-1) == 0 && s.retired.Load() {
		s.once.Do(func() { close(s.drained) })
	}
}

// Drained waits until a replaced snapshot has no lease left, nor any that served
// before it. After it returned nil, nobody uses its classifier, which earlier
// snapshots may have held beside other rules.
func (s *Snapshot) Drained(ctx context.Context) error {
	if b := s.before.Load(); b != nil {
		if err := b.Drained(ctx); err != nil {
			return err
		}
		s.before.Store(nil)
	}
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain %d leases: %w", s.leases.Load(), context.Cause(ctx))
	}
}

// Publish replaces what serves: change gets the serving pair and returns the
// new one; where it returns an error, nothing changes. Publishers wait for each
// other, requests never wait. It returns the replaced snapshot: a publisher of
// a new classifier waits for Drained and then closes the old classifier.
func (s *Store) Publish(change func(classifier.Classifier, *Rules) (classifier.Classifier, *Rules, error)) (*Snapshot, error) {
	s.publish.Lock()
	defer s.publish.Unlock()
	old := s.current.Load()
	c, r, err := change(old.Classifier, old.Rules)
	if err != nil {
		return nil, err
	}
	if c == nil || r == nil {
		return nil, fmt.Errorf("publish: snapshot needs a classifier and rules")
	}
	old.forget()
	next := &Snapshot{Classifier: c, Rules: r, drained: make(chan struct{})}
	next.before.Store(old)
	s.current.Store(next)
	old.retired.Store(true)
	if old.leases.Load() == 0 {
		old.once.Do(func() { close(old.drained) })
	}
	return old, nil
}

// forget lets go of the snapshots before s that nobody leases any more, so that
// reloads do not make an endless chain of them.
func (s *Snapshot) forget() {
	b := s.before.Load()
	if b == nil {
		return
	}
	b.forget()
	select {
	case <-b.drained:
		if b.before.Load() == nil {
			s.before.Store(nil)
		}
	default:
	}
}
