package swap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// Bundle is an opened model bundle. *onnx.Bundle is one.
type Bundle interface {
	classifier.Classifier
	// Close waits for running calls and gives the memory back. It may be called
	// again.
	Close() error
}

// The errors of a manager, beside *RefusedError.
var (
	// ErrName means that a name is no plain name of a folder under the root.
	ErrName = errors.New("is no bundle's name: give the name of a folder under the server's bundle root, without separators")
	// ErrUnknown means that there is no such bundle.
	ErrUnknown = errors.New("no such bundle")
	// ErrNoRoot means that the server has no bundle root, so that nothing can be named.
	ErrNoRoot = errors.New("this server has no bundle root: start it with --bundle-root")
	// ErrServing means that the candidate is what serves already.
	ErrServing = errors.New("that bundle serves already")
	// ErrNotStaged means that the digest is not the staged bundle's.
	ErrNotStaged = errors.New("that bundle is not staged")
	// ErrNoPrevious means that no bundle served before this one.
	ErrNoPrevious = errors.New("no bundle served before this one")
	// ErrRolledBack means that a candidate which was rolled back is not tried again
	// by itself.
	ErrRolledBack = errors.New("that bundle was rolled back: stage it by name to try it again")
	// errOvertaken is part of ErrNotStaged, and says that staging again may help.
	errOvertaken = errors.New("was held against a bundle that serves no more: stage it again")
	// ErrClosed means that the manager has been closed.
	ErrClosed = errors.New("the bundle manager is closed")
)

// RefusedError is a candidate that a gate refused. What serves is unchanged.
type RefusedError struct {
	Report *Report
	// Page is the file of the report for people; "" where none was written.
	Page string
}

// Error says which gates refused, and why.
func (e *RefusedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "candidate %s refused:", e.Report.Candidate)
	for _, g := range e.Report.Failed() {
		fmt.Fprintf(&b, "\n  %s: %s", g.Name, strings.ReplaceAll(g.Detail, "\n", "\n    "))
	}
	return b.String()
}

// Identity names a bundle.
type Identity struct {
	Name               string `json:"name"`
	Version            string `json:"version"`
	Digest             string `json:"digest"`
	ReferenceEfficient string `json:"reference_efficient,omitempty"`
	ReferenceHigh      string `json:"reference_high,omitempty"`
}

// String is how logs and pages call it.
func (i Identity) String() string {
	name := strings.TrimSpace(i.Name + " " + i.Version)
	if i.Digest == "" {
		return strings.TrimSpace(name + " (unread)")
	}
	return strings.TrimSpace(name + " (" + short(i.Digest) + ")")
}

// short is a digest as people read it.
func short(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(len(hex), 12)]
}

func identityOf(info classifier.Info) Identity {
	return Identity{
		Name: info.Name, Version: info.Version, Digest: info.Digest,
		ReferenceEfficient: info.ReferenceEfficient, ReferenceHigh: info.ReferenceHigh,
	}
}

// Job is one examination.
type Job struct {
	// Candidate and Serving are folders: copies that nobody else changes.
	Candidate string `json:"candidate"`
	Serving   string `json:"serving"`
	// Out is an existing folder for the report's pages.
	Out string `json:"out"`
	// Config is the text of the routing config that decides now.
	Config string `json:"config"`
	// Policy is what the candidate has to keep to.
	Policy Policy `json:"policy"`
	// Texts are prompts of this server's callers, where keeping them was opted in.
	Texts []string `json:"texts,omitempty"`
}

// Config is what a Manager is made of. Store, Serving, Open, Identify, Examine and
// State are required; the zero value of anything else is its default.
type Config struct {
	Store *router.Store
	// Serving is the bundle that Store serves, opened from its copy in State. Who
	// opened it closes it; the manager may close it too.
	Serving Bundle
	// Open opens the bundle in a folder, proven and ready to serve.
	Open func(ctx context.Context, dir string) (Bundle, error)
	// Identify reads a folder without running it: who it is, as far as that can be
	// told, and the gates that refuse it. It needs no time and no native code.
	Identify func(dir string) (Identity, []Gate)
	// Examine runs an Exam where it can do no harm. An error is a fault of the
	// examination and says nothing about the candidate.
	Examine func(ctx context.Context, job Job) (*Report, error)
	// Root is the folder under which Stage finds names; "" for none.
	Root string
	// Watched is the folder or link that Reread reads; "" for none.
	Watched string
	// State is the manager's own folder. Who opened it closes it, after the manager.
	State *State
	// Policy is what candidates have to keep to; nil for DefaultPolicy.
	Policy *Policy
	// Texts returns prompts of callers for the replay; nil for none.
	Texts func() []string
	// Notify is told of every event, one at a time; it must not block. nil for none.
	Notify func(Event)
	// Logger gets one line an event; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// EventKind says what happened.
type EventKind string

// The events.
const (
	// EventStaged: a candidate passed every gate and may be promoted.
	EventStaged EventKind = "staged"
	// EventRefused: a gate refused a candidate.
	EventRefused EventKind = "refused"
	// EventFailed: a candidate could not be examined, copied or opened.
	EventFailed EventKind = "failed"
	// EventPromoted: another bundle serves.
	EventPromoted EventKind = "promoted"
	// EventSettled: the settling time has passed within the limits; the previous
	// bundle's memory is given back.
	EventSettled EventKind = "settled"
	// EventRolledBack: the bundle before serves again.
	EventRolledBack EventKind = "rolled_back"
)

// Event is something that happened to a bundle.
type Event struct {
	Kind EventKind
	Time time.Time
	// Bundle is the candidate, or what serves now; From what served before.
	Bundle, From Identity
	// Gates are those that refused.
	Gates []Gate
	// Automatic tells a rollback by the limits from an operator's.
	Automatic bool
	// Reason says why, for a rollback or a failure.
	Reason string
	// Took is how long it took: the examination of a candidate, or the exchange.
	Took time.Duration
	// Page is the report for people, where there is one.
	Page string
}

// Status is where a manager stands.
type Status struct {
	// State is "steady", or "settling" while the previous bundle stays loaded.
	State string
	// Serving decides since Since; Staged may be promoted.
	Serving Identity
	Since   time.Time
	Staged  *Identity
	// Previous is what Rollback goes to; Loaded tells that it is at once.
	Previous *Identity
	Loaded   bool
	// SettlesAt is when the settling time ends; zero when steady.
	SettlesAt time.Time
	// Gates and Page are the last examination's.
	Gates []Gate
	Page  string
	// Refusal is the last event that left a candidate out; nil when none did since
	// the last promotion.
	Refusal *Event
}

func (c *Config) check() error {
	var faults []error
	if c.Store == nil || c.Serving == nil {
		faults = append(faults, errors.New("store and serving are both needed"))
	}
	if c.Open == nil || c.Identify == nil || c.Examine == nil {
		faults = append(faults, errors.New("open, identify and examine are all needed"))
	}
	if c.State == nil {
		faults = append(faults, errors.New("state is needed: make it by OpenState"))
	}
	if c.Policy == nil {
		p := DefaultPolicy()
		c.Policy = &p
	}
	faults = append(faults, c.Policy.Validate())
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Notify == nil {
		c.Notify = func(Event) {}
	}
	if c.Texts == nil {
		c.Texts = func() []string { return nil }
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	return nil
}
