package router

import (
	"container/list"
	"sync"
	"time"
)

// SessionState is what the earlier turns of a session say to the next decision.
// Its zero value is a session without a past.
type SessionState struct {
	// PreviousModel is the model of the last turn; "" for the first.
	PreviousModel string
	// Need is the highest tier that one of the recent turns needed by itself; 0
	// when none is known.
	Need Tier
	// CachedTokens is how much input the previous model's provider may hold in
	// its prompt cache, in its own tokens; Age is how long ago that was.
	CachedTokens int64
	Age          time.Duration
}

// SessionUse is what a session did to a decision. It has a session where Used.
type SessionUse struct {
	Used bool
	// Pinned is whether the session's model answers again.
	Pinned bool
	// Kept is whether it does only because of the session: what another model
	// would save is less than leaving the warm cache costs.
	Kept bool
	// FloorBound is whether a candidate was left out because a recent turn
	// needed a higher tier.
	FloorBound    bool
	PreviousModel string
	// SwitchCost is what leaving the previous model's warm cache costs: its
	// cached tokens at the difference of its input and its cached input price. 0
	// when the cache is cold; it counts only when SwitchCostKnown.
	SwitchCost      NanoUSD
	SwitchCostKnown bool
}

// SessionPolicy is how the config wants sessions treated.
type SessionPolicy struct {
	// TTL ends a session that was not used for so long.
	TTL time.Duration
	// CacheTTL is how long a provider keeps a prompt cache warm.
	CacheTTL time.Duration
	// Turns is of how many recent turns the need is kept.
	Turns int
}

func defaultSessions() SessionPolicy {
	return SessionPolicy{TTL: time.Hour, CacheTTL: 5 * time.Minute, Turns: 5}
}

// maxTurns bounds SessionPolicy.Turns: what a session store keeps of one session.
const maxTurns = 16

// SessionTurn is one decision of a session.
type SessionTurn struct {
	Model string
	// Need is the tier that the turn needed by itself, without the session.
	Need Tier
	// InputTokens is the input that the provider has read.
	InputTokens int64
	Time        time.Time
}

// SessionStore remembers the last turns of sessions: models, tiers, counts and
// times, never a text. It is safe for concurrent use.
type SessionStore interface {
	// Recall returns what a session's turns say at a time; the zero state for a
	// session that is unknown or older than the policy's TTL.
	Recall(id string, now time.Time, p SessionPolicy) SessionState
	// Remember adds a turn to a session.
	Remember(id string, t SessionTurn)
}

// DefaultSessionCapacity is how many sessions a Router keeps by itself: about
// 300 bytes each.
const DefaultSessionCapacity = 10_000

// MemorySessions keeps the most recently used sessions in memory. Make one by
// NewMemorySessions.
type MemorySessions struct {
	mu       sync.Mutex
	capacity int
	byID     map[string]*list.Element
	recent   list.List // of *session, the most recently used first
}

type session struct {
	id    string
	turns [maxTurns]Tier
	count int
	last  SessionTurn
}

// NewMemorySessions makes a store of at most capacity sessions; below 1 means
// DefaultSessionCapacity.
func NewMemorySessions(capacity int) *MemorySessions {
	if capacity < 1 {
		capacity = DefaultSessionCapacity
	}
	return &MemorySessions{capacity: capacity, byID: map[string]*list.Element{}}
}

// Recall implements SessionStore.
func (m *MemorySessions) Recall(id string, now time.Time, p SessionPolicy) SessionState {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.byID[id]
	if !ok {
		return SessionState{}
	}
	s, _ := at.Value.(*session)
	age := max(now.Sub(s.last.Time), 0)
	if age > p.TTL {
		m.recent.Remove(at)
		delete(m.byID, id)
		return SessionState{}
	}
	state := SessionState{PreviousModel: s.last.Model, CachedTokens: s.last.InputTokens, Age: age}
	for i := range min(s.count, max(p.Turns, 0), maxTurns) {
		state.Need = max(state.Need, s.turns[(s.count-1-i)%maxTurns])
	}
	return state
}

// Remember implements SessionStore; the session unused for longest makes room.
func (m *MemorySessions) Remember(id string, t SessionTurn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.byID[id]
	if ok {
		m.recent.MoveToFront(at)
	} else {
		if m.recent.Len() >= m.capacity {
			if oldest, ok := m.recent.Remove(m.recent.Back()).(*session); ok {
				delete(m.byID, oldest.id)
			}
		}
		at = m.recent.PushFront(&session{id: id})
		m.byID[id] = at
	}
	s, _ := at.Value.(*session)
	s.turns[s.count%maxTurns] = t.Need
	s.count++
	s.last = t
}
