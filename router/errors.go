package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors of a decision. Each kind has one row in the status table of the RPC
// edge.
var (
	// ErrUnknownModel means that a request names a model that the catalog lacks.
	ErrUnknownModel = errors.New("unknown model")
	// ErrUnknownPolicy means that a request names a policy that the config lacks.
	ErrUnknownPolicy = errors.New("unknown policy")
	// ErrUnknownRule means that a demand names a rule that the config lacks.
	ErrUnknownRule = errors.New("unknown rule")
	// ErrUnknownDecision means that the journal does not hold a decision.
	ErrUnknownDecision = errors.New("unknown decision")
	// ErrOutcomeConflict means that an idempotency key was used with another report.
	ErrOutcomeConflict = errors.New("idempotency key was used with another outcome")
	// ErrExhausted means that every candidate that keeps the floor has failed.
	ErrExhausted = errors.New("no candidate is left above the floor")
)

// NoEligibleError means that no model passes the constraints. Removed counts
// the models that each filter removed; a model counts for the first filter that
// it fails.
type NoEligibleError struct {
	Removed map[Rejection]int
	// Details holds one sentence a model, in the catalog's order, at most 20.
	Details []string
	// Hints name what of the demand is nothing of this config.
	Hints []string
}

// Error lists what each filter removed, most first.
func (e *NoEligibleError) Error() string {
	kinds := make([]Rejection, 0, len(e.Removed))
	for k := range e.Removed {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b Rejection) int {
		if d := e.Removed[b] - e.Removed[a]; d != 0 {
			return d
		}
		return int(a) - int(b)
	})
	parts := make([]string, len(kinds))
	for i, k := range kinds {
		parts[i] = fmt.Sprintf("%s removed %d", k, e.Removed[k])
	}
	text := "no model is eligible: " + strings.Join(parts, ", ") + "; loosen the limit that removed the model you want, or ask again with explain"
	return strings.Join(append([]string{text}, e.Hints...), "; ")
}

// ContextTooLongError means that the input is longer than every model's window.
type ContextTooLongError struct {
	// Tokens is the estimated input, Max the largest window of the catalog.
	Tokens, Max int64
}

// Error says both figures.
func (e *ContextTooLongError) Error() string {
	return fmt.Sprintf("input of about %d tokens is longer than the largest context window, %d: shorten it", e.Tokens, e.Max)
}
