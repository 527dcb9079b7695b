package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// CompleteRequest is a prompt to be routed and answered.
type CompleteRequest struct {
	// Request is what Route takes: the same prompt, as the classifier reads it.
	Request Request
	// Input is what the model is given.
	Input Input
	// IdempotencyKey makes a retry safe: a repeated key is answered with a
	// *DuplicateError and no second upstream call. "" for none.
	IdempotencyKey string
	// RequestDigest is "sha256:…" of the request; needed with a key.
	RequestDigest string
}

// Event is one event of a completion: Decided first, then Deltas, then exactly
// one Done.
type Event interface{ event() }

// Decided says what was decided. The record is the receiver's own; its provider
// is the upstream that is tried first.
type Decided struct {
	Record Record
	// Reserved is what the ledger holds for the call; it counts only when
	// ReservedKnown.
	Reserved      NanoUSD
	ReservedKnown bool
}

// Delta is a piece of the answer; exactly one of its fields is set. All deltas
// of a completion are one model's.
type Delta struct {
	Text, Reasoning string
	Tool            *ToolCallDelta
}

// Done ends a completion. The ledger has settled the call when it is handed out.
type Done struct {
	// Complete is whether the provider ended the answer by itself.
	Complete bool
	// Finish is why the model stopped; 0 when it was cut.
	Finish FinishReason
	// Incomplete says in one word why the answer is not whole: a FailureKind's
	// name, deadline or failed; "" when it is.
	Incomplete string
	// Model and Upstream answered; "" when none did.
	Model, Upstream string
	// Usage is that of the attempt that answered, Cost that of all attempts; the
	// cost counts only when CostKnown.
	Usage     Usage
	Cost      NanoUSD
	CostKnown bool
	Attempts  []AttemptRecord
	Receipt   Receipt
	// ScoreCached is whether the prompt's scores were kept from an earlier call.
	ScoreCached bool
	// Exceeded is whether more was booked than reserved: a provider billed more
	// than the request allowed for.
	Exceeded bool
}

func (*Decided) event() {}
func (*Delta) event()   {}
func (*Done) event()    {}

// CompletionObserver is told of completions. Implementations must not block and
// must not keep what they are given.
type CompletionObserver interface {
	// AttemptDone reports one call of one deployment when it has ended; ctx is
	// the completion's, so that a span can be made under it from the attempt's
	// times. err is nil where the attempt answered.
	AttemptDone(ctx context.Context, rec *Record, a *AttemptRecord, err error)
	// CallDone reports a completion that was decided and settled; err is what
	// the caller got, nil for a complete answer.
	CallDone(ctx context.Context, rec *Record, done *Done, err error)
}

// Errors of a completion, beside those of Route, *BudgetError, *DuplicateError
// and ErrIdempotencyConflict.
var (
	// ErrNoUpstream means that the router has no Caller: it routes only.
	ErrNoUpstream = errors.New("this router calls no models")
	// ErrNoLedger means that a request needs a ledger and the router has none.
	ErrNoLedger = errors.New("no ledger is kept: an idempotency key cannot be honoured")
	// ErrLedger means that the ledger could not be written: the call was not
	// made, or what it cost could not be settled.
	ErrLedger = errors.New("the ledger could not be written")
	// ErrUnpriced means that a budget is set and the price of what may be called
	// is not known.
	ErrUnpriced = errors.New("a budget is set and the price is unknown: give the models prices, or name a model that has one")
)

// NotCallableError means that models pass the constraints but none can be
// called: their upstreams have no key here.
type NotCallableError struct {
	// Models counts them. Keys names the environment variables and files that
	// were looked at, sorted.
	Models int
	Keys   []string
	// Unpriced counts those that may not be called because a budget is set and
	// their price is unknown.
	Unpriced int
}

// Error says how to add a key or a local server.
func (e *NotCallableError) Error() string {
	keys := "one of the upstreams' keys"
	if len(e.Keys) > 0 {
		keys = "one of " + strings.Join(e.Keys, ", ")
	}
	also := ""
	if e.Unpriced > 0 {
		also = fmt.Sprintf("%d more have no price, which a budget needs: give them one in the config. ", e.Unpriced)
	}
	return fmt.Sprintf("no model can be called: %d fit the request and none of their upstreams has a key here. %s"+
		"Set %s and start the server again, or add an upstream without a key to the config, "+
		`such as a local server: {id: local, dialect: openai, base_url: "http://127.0.0.1:8000/v1"}`, e.Models, also, keys)
}

// AttemptsError means that no attempt brought any content. The caller may be
// told to come again after RetryAfter; 0 means that nothing is known.
type AttemptsError struct {
	Attempts []AttemptRecord
	// Kind is what all attempts have in common: FailureRateLimit when every
	// deployment was rate limited or full, FailureContextLength,
	// FailureContentPolicy or FailureBadRequest when all attempts ended so; 0
	// for anything else.
	Kind FailureKind
	// Own is whether the limit is this server's configured one, not a provider's.
	Own        bool
	RetryAfter time.Duration
	// Err is the last attempt's failure, for the log.
	Err error
}

// Error counts the attempts and says how each ended.
func (e *AttemptsError) Error() string {
	if len(e.Attempts) == 0 {
		return "no deployment can be called now: " + e.why()
	}
	parts := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		parts[i] = a.Model + " at " + a.Upstream + ": " + a.Outcome
	}
	return fmt.Sprintf("%d attempts failed before any content (%s): %s", len(e.Attempts), strings.Join(parts, "; "), e.why())
}

func (e *AttemptsError) why() string {
	switch e.Kind {
	case FailureRateLimit:
		if e.Own {
			return "all are at their configured limits; come again after the delay in the details"
		}
		return "all are rate limited; come again after the delay in the details"
	case FailureContextLength:
		return "the input is too long for every model that may answer; shorten it"
	case FailureContentPolicy:
		return "the provider will not answer this prompt"
	case FailureBadRequest:
		return "the provider calls the request malformed; look at tools, format and sampling"
	default:
		return "come again later, or allow more models"
	}
}

// Unwrap returns the last attempt's failure.
func (e *AttemptsError) Unwrap() error { return e.Err }

// PartialError means that the answer broke after content was handed out; the
// Done before it is incomplete.
type PartialError struct {
	Kind FailureKind
	Err  error
}

// Error says what broke it.
func (e *PartialError) Error() string {
	return fmt.Sprintf("the answer broke after content was sent (%s): what arrived is not the whole answer; ask again", e.Kind)
}

// Unwrap returns the cause.
func (e *PartialError) Unwrap() error { return e.Err }
