package swap

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// JournalEntry is a line of the journal: what happened to a bundle, when and why. It
// holds no prompts.
type JournalEntry struct {
	Time time.Time `json:"time"`
	Kind EventKind `json:"kind"`
	// Bundle is the candidate, or what serves since; From what served before.
	Bundle Identity  `json:"bundle"`
	From   *Identity `json:"from,omitempty"`
	// Gates are those that refused, with their reasons.
	Gates     []Gate        `json:"gates,omitempty"`
	Automatic bool          `json:"automatic,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	Took      time.Duration `json:"took_ns"`
	// Report is the page for people, as long as it is kept.
	Report string `json:"report,omitempty"`
}

// maxJournal is where the journal begins anew; the one before is kept beside it.
const maxJournal = 4 << 20

// note writes an event to the end of the journal.
func (s *State) note(e *Event) error {
	entry := JournalEntry{
		Time: e.Time, Kind: e.Kind, Bundle: e.Bundle, Gates: e.Gates, Automatic: e.Automatic, Reason: e.Reason, Took: e.Took, Report: e.Page,
	}
	if e.From.Digest != "" {
		entry.From = &e.From
	}
	line, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	s.journal.Lock()
	defer s.journal.Unlock()
	path := s.path("journal.jsonl")
	if info, err := os.Stat(path); err == nil && info.Size() > s.journalBytes {
		if err := os.Rename(path, s.path("journal.1.jsonl")); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = f.Write(append(line, '\n')) // one write: a kill leaves no half line that others follow
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}
