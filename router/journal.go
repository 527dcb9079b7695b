package router

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Outcome is how good the answer to a decision was.
type Outcome struct {
	// Score is 0-1.
	Score float64
	// Source says who says so.
	Source string
	Time   time.Time
}

// Record is a decision as the journal keeps it: metadata only, never a text.
type Record struct {
	ID       string
	Time     time.Time
	Decision Decision
	// Provider is the upstream of the chosen model's first deployment.
	Provider                   string
	BundleDigest, ConfigDigest string
	Classify, Decide, Total    time.Duration
	Explain                    bool
	SessionID, ConversationID  string
	Metadata                   map[string]string
	// Propensity is the chance with which this choice was made.
	Propensity float64
	// Demand is what Decide was asked: scores, counts and limits. With Decision,
	// the digests and CallableUpstreams it makes the decision anew; see Receipt.
	Demand Demand
	// CallableUpstreams are the ids of the upstreams that had a key.
	CallableUpstreams []string
	// ScoringError says in one word why the prompt was not scored: timeout, closed,
	// failed, media_only or rule; "" when it was.
	ScoringError string
	// ScoreCached is whether the scores were kept from an earlier call.
	ScoreCached bool
}

// Why a prompt was left unscored on purpose.
const (
	scoringSkipped   = "rule"
	scoringMediaOnly = "media_only"
)

// Unasked tells that no classifier was asked about the prompt, by a rule or because
// there was no text.
func (r *Record) Unasked() bool {
	return r.ScoringError == scoringSkipped || r.ScoringError == scoringMediaOnly
}

// BestCandidates is how many candidates an answer shows, and the journal keeps,
// of a decision that was not asked to explain itself.
const BestCandidates = 5

// kept is the record as it is kept: a catalog of fifty models would otherwise
// cost the journal 15 KB a decision.
func (r Record) kept() Record {
	if !r.Explain {
		d := &r.Decision
		d.Ranked, d.Rejected = slices.Clone(d.Ranked[:min(len(d.Ranked), BestCandidates)]), nil
	}
	return r
}

// Journal keeps decisions and their outcomes. It is safe for concurrent use.
type Journal interface {
	// Append keeps a record.
	Append(r Record)
	// Get returns a record and its outcomes in the order of their report;
	// ErrUnknownDecision wrapped when it does not hold it (any more).
	Get(id string) (Record, []Outcome, error)
	// Report adds an outcome. The same key with the same outcome changes
	// nothing and is a duplicate; with another it is ErrOutcomeConflict wrapped.
	Report(id, key string, o Outcome) (duplicate bool, err error)
}

// MemoryJournal keeps the last decisions in memory. Its zero value keeps none;
// make one by NewMemoryJournal.
type MemoryJournal struct {
	mu   sync.Mutex
	ring []string
	next int
	byID map[string]*entry
}

type entry struct {
	record   Record
	outcomes []Outcome
	keys     map[string]Outcome
}

// maxOutcomes bounds what one decision can hold, so that reports cannot fill
// the memory.
const maxOutcomes = 64

// NewMemoryJournal makes a journal of the last capacity decisions.
func NewMemoryJournal(capacity int) (*MemoryJournal, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("journal capacity is %d, want at least 1", capacity)
	}
	return &MemoryJournal{ring: make([]string, capacity), byID: make(map[string]*entry, capacity)}, nil
}

// Append implements Journal; the oldest record makes room.
func (j *MemoryJournal) Append(r Record) {
	e := &entry{record: r}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.ring) == 0 {
		return
	}
	delete(j.byID, j.ring[j.next])
	j.ring[j.next] = r.ID
	j.next = (j.next + 1) % len(j.ring)
	j.byID[r.ID] = e
}

// Get implements Journal.
func (j *MemoryJournal) Get(id string) (Record, []Outcome, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.byID[id]
	if !ok {
		return Record{}, nil, fmt.Errorf("journal: %w %q: it was never made here, or %d newer ones have replaced it", ErrUnknownDecision, id, len(j.ring))
	}
	return e.record, append([]Outcome(nil), e.outcomes...), nil
}

// Report implements Journal.
func (j *MemoryJournal) Report(id, key string, o Outcome) (bool, error) {
	if key == "" {
		key = fmt.Sprintf("\x00%v|%s", o.Score, o.Source)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.byID[id]
	if !ok {
		return false, fmt.Errorf("report outcome: %w %q", ErrUnknownDecision, id)
	}
	if before, ok := e.keys[key]; ok {
		if before.Score != o.Score || before.Source != o.Source {
			return false, fmt.Errorf("report outcome: %w: it reported score %v by %q", ErrOutcomeConflict, before.Score, before.Source)
		}
		return true, nil
	}
	if len(e.outcomes) >= maxOutcomes {
		return false, fmt.Errorf("report outcome: decision %q already has %d outcomes, the most it can have: %w", id, maxOutcomes, ErrOutcomeConflict)
	}
	if e.keys == nil {
		e.keys = map[string]Outcome{}
	}
	e.keys[key] = o
	e.outcomes = append(e.outcomes, o)
	return false, nil
}
