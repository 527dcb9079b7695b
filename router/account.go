package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/classifier"
)

// Ledger keeps what was reserved and spent. It is safe for concurrent use. A
// conformance suite, internal/ledger/ledgertest, runs on every implementation.
type Ledger interface {
	// Reserve holds a call's bound against the budget before the call. Errors:
	// *BudgetError when the budget does not pay for it, *DuplicateError when the
	// idempotency key was used before; any other error means that the store
	// failed, and the call must not be made.
	Reserve(ctx context.Context, r *Reservation) error
	// Settle closes a reservation with what was spent: one row an attempt, one
	// transaction, synced to the disk before it returns. A second Settle of the
	// same call changes nothing and returns the first's receipt.
	Settle(ctx context.Context, s *Settlement) (Receipt, error)
	// Usage sums settled calls, a row a group, in the order of the groups' values.
	Usage(ctx context.Context, q *UsageQuery) ([]UsageRow, error)
}

// Reservation is what a call may cost at most.
type Reservation struct {
	// CallID is the decision's id.
	CallID string
	Time   time.Time
	// Bound is held until Settle. It counts only when BoundKnown; a call of
	// unknown price is refused where a budget is set.
	Bound      NanoUSD
	BoundKnown bool
	// Budget is what the config allows; its zero value is no budget.
	Budget Budget
	// IdempotencyKey makes a repeated call a *DuplicateError; "" for none.
	// RequestDigest is "sha256:…" of the request: the same key with another
	// digest is a conflict.
	IdempotencyKey, RequestDigest string
	// What the rows are grouped by.
	Model, Policy, Bundle, Config string
	Tier                          Tier
	Domain                        classifier.Domain
}

// Budget is the most that may be spent and held in one window.
type Budget struct {
	Limit NanoUSD
	// Window is day, month (both UTC) or total; "" for no budget.
	Window string
}

// AttemptRecord is one call of one deployment, as the ledger keeps it.
type AttemptRecord struct {
	Model, Upstream string
	// Outcome is "ok" or a FailureKind's name.
	Outcome string
	Usage   Usage
	// Cost counts only when CostKnown.
	Cost      NanoUSD
	CostKnown bool
	Start     time.Time
	// FirstContent is 0 when there was none.
	FirstContent, Duration time.Duration
}

// Settlement is how a call ended.
type Settlement struct {
	CallID string
	Time   time.Time
	// Status is complete, incomplete, failed or cancelled.
	Status   string
	Attempts []AttemptRecord
	// PriceVersion is the config's digest.
	PriceVersion string
	// Baseline names a model, BaselineCost what it would have cost; the cost
	// counts only when BaselineKnown.
	Baseline      string
	BaselineCost  NanoUSD
	BaselineKnown bool
	// Overhead is what routing itself cost, in the same money.
	Overhead NanoUSD
	// ScoreCached is whether the prompt's scores were kept from an earlier call.
	ScoreCached bool
}

// Receipt is what the ledger holds of a call.
type Receipt struct {
	CallID, PriceVersion string
	// Open is true while the call has not been settled.
	Open bool
	// Status is the settlement's.
	Status string
	// Booked is the sum of the attempts' costs and the overhead.
	Booked NanoUSD
	// Savings is the baseline's cost less Booked; it may be negative. It counts
	// only when SavingsKnown.
	Savings      NanoUSD
	SavingsKnown bool
	Baseline     string
	Usage        Usage
	// ScoreCached is the settlement's.
	ScoreCached bool
}

// UsageQuery asks for sums.
type UsageQuery struct {
	// From is included, To is not; zero means no bound.
	From, To time.Time
	// GroupBy holds some of model, provider, tier, domain, policy, day, outcome
	// (of an attempt) and status (of the call).
	GroupBy []string
}

// UsageRow sums the calls of one group.
type UsageRow struct {
	// Group has a value for each name of GroupBy, in its order.
	Group           []string
	Calls, Attempts int64
	Usage           Usage
	Cost, Savings   NanoUSD
	// Answered is the tokens of the calls' last attempts, as a baseline would have
	// used them; none of calls that failed.
	Answered Usage
	// Unpriced counts attempts of unknown cost, which Cost leaves out; Uncompared
	// the calls of unknown saving, which Savings leaves out.
	Unpriced, Uncompared int64
	// Baseline is the baseline of all calls of the group; "mixed" where they differ.
	Baseline string
}

// ErrIdempotencyConflict means that an idempotency key was used with another request.
var ErrIdempotencyConflict = errors.New("idempotency key was used with another request")

// BudgetError means that the budget does not pay for a call.
type BudgetError struct {
	Budget Budget
	// Spent is settled, Held reserved by open calls, Asked this call's bound.
	Spent, Held, Asked NanoUSD
	// Resets is when the window ends; zero for a total budget.
	Resets time.Time
}

// Error says all four amounts.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("budget of %s a %s: %s spent, %s held by open calls, this call may cost %s; lower max_output_tokens or max_cost, or raise the budget",
		e.Budget.Limit, e.Budget.Window, e.Spent, e.Held, e.Asked)
}

// DuplicateError means that the idempotency key was used before by the same request.
type DuplicateError struct {
	Receipt Receipt
}

// Error names the first call.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("the idempotency key was used by call %s; its receipt is in the details", e.Receipt.CallID)
}
