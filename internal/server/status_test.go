package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// details of a status by type; the zero value where there is none.
type details struct {
	info         *errdetails.ErrorInfo
	bad          *errdetails.BadRequest
	retry        *errdetails.RetryInfo
	resource     *errdetails.ResourceInfo
	precondition *errdetails.PreconditionFailure
	receipt      *weirv1.Receipt
}

func detailsIn(t *testing.T, st *status.Status) details {
	t.Helper()
	var d details
	for _, x := range st.Details() {
		switch x := x.(type) {
		case *errdetails.ErrorInfo:
			d.info = x
		case *errdetails.BadRequest:
			d.bad = x
		case *errdetails.RetryInfo:
			d.retry = x
		case *errdetails.ResourceInfo:
			d.resource = x
		case *errdetails.PreconditionFailure:
			d.precondition = x
		case *weirv1.Receipt:
			d.receipt = x
		default:
			t.Fatalf("unexpected detail %T", x)
		}
	}
	return d
}

func TestStatusTable(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("route: %w", err) }
	noEligible := &router.NoEligibleError{
		Removed: map[router.Rejection]int{router.RejectedMaxCost: 2, router.RejectedDenied: 1}, Details: []string{"m: too dear"},
	}
	refused := &router.ConfigError{Faults: []*router.Fault{{Source: "f.yaml", Line: 3, Path: "models[0].tier", Problem: "unknown"}}}
	tests := []struct {
		err    error
		code   codes.Code
		reason string
		check  func(*testing.T, details)
	}{
		{&invalidError{violations: []*errdetails.BadRequest_FieldViolation{{Field: "a", Description: "b"}}}, codes.InvalidArgument, "INVALID_REQUEST", func(t *testing.T, d details) {
			assert.Equal(t, "a", d.bad.GetFieldViolations()[0].GetField())
		}},
		{errTokenMissing, codes.Unauthenticated, "TOKEN_MISSING", nil},
		{errTokenInvalid, codes.Unauthenticated, "TOKEN_INVALID", nil},
		{&unavailableError{what: "no"}, codes.Unimplemented, "NOT_AVAILABLE", nil},
		{classifier.ErrInvalidText, codes.InvalidArgument, "INVALID_TEXT", func(t *testing.T, d details) {
			assert.Equal(t, "input", d.bad.GetFieldViolations()[0].GetField())
		}},
		{classifier.ErrNoContent, codes.InvalidArgument, "NO_CONTENT", func(t *testing.T, d details) { assert.NotNil(t, d.bad) }},
		{classifier.ErrOverloaded, codes.ResourceExhausted, "OVERLOADED", func(t *testing.T, d details) {
			assert.Equal(t, retryAfter, d.retry.GetRetryDelay().AsDuration())
			assert.Equal(t, "weir", d.info.GetMetadata()["limited_by"])
		}},
		{router.ErrUnknownModel, codes.NotFound, "UNKNOWN_MODEL", nil},
		{&namedError{kind: "weir.v1.Policy", name: "p", err: router.ErrUnknownPolicy}, codes.NotFound, "UNKNOWN_POLICY", func(t *testing.T, d details) {
			assert.Equal(t, "weir.v1.Policy", d.resource.GetResourceType())
			assert.Equal(t, "p", d.resource.GetResourceName())
		}},
		{router.ErrUnknownDecision, codes.NotFound, "UNKNOWN_DECISION", nil},
		{router.ErrOutcomeConflict, codes.AlreadyExists, "OUTCOME_CONFLICT", nil},
		{noEligible, codes.FailedPrecondition, "NO_ELIGIBLE_MODEL", func(t *testing.T, d details) {
			assert.Equal(t, map[string]string{"max_cost": "2", "denied": "1"}, d.info.GetMetadata())
			require.Len(t, d.precondition.GetViolations(), 3)
			assert.Equal(t, "denied", d.precondition.GetViolations()[0].GetSubject())
			assert.Equal(t, "m: too dear", d.precondition.GetViolations()[2].GetDescription())
		}},
		{&router.ContextTooLongError{Tokens: 9, Max: 5}, codes.OutOfRange, "CONTEXT_TOO_LONG", func(t *testing.T, d details) {
			assert.Equal(t, map[string]string{"tokens": "9", "max": "5"}, d.info.GetMetadata())
		}},
		{router.ErrExhausted, codes.Unavailable, "NO_CANDIDATE_LEFT", func(t *testing.T, d details) { assert.NotNil(t, d.retry) }},
		{ErrConfigEmbedded, codes.FailedPrecondition, "CONFIG_EMBEDDED", nil},
		{refused, codes.FailedPrecondition, "CONFIG_REFUSED", func(t *testing.T, d details) {
			require.Len(t, d.bad.GetFieldViolations(), 1)
			assert.Contains(t, d.bad.GetFieldViolations()[0].GetDescription(), "f.yaml:3")
		}},
		{&BundleRefusedError{Gates: []Gate{{Name: "digests", Detail: "changed"}}, Report: "/r", Err: errors.New("refused")}, codes.FailedPrecondition, "BUNDLE_REFUSED", func(t *testing.T, d details) {
			require.Len(t, d.precondition.GetViolations(), 1)
			assert.Equal(t, "digests", d.precondition.GetViolations()[0].GetSubject())
			assert.Equal(t, "/r", d.info.GetMetadata()["report"])
		}},
		{ErrBundleName, codes.InvalidArgument, "INVALID_BUNDLE_NAME", nil},
		{ErrUnknownBundle, codes.NotFound, "UNKNOWN_BUNDLE", nil},
		{ErrBundleServing, codes.AlreadyExists, "BUNDLE_SERVES", nil},
		{ErrNoBundleRoot, codes.FailedPrecondition, "NO_BUNDLE_ROOT", nil},
		{ErrNotStaged, codes.FailedPrecondition, "NOT_STAGED", nil},
		{ErrNoPreviousBundle, codes.FailedPrecondition, "NO_PREVIOUS_BUNDLE", nil},
		{&BundleFaultError{errors.New("disk full")}, codes.Unavailable, "BUNDLE_FAULT", nil},
		{&router.NotCallableError{Models: 2, Keys: []string{"A_KEY"}}, codes.FailedPrecondition, "NO_KEY", nil},
		{router.ErrNoLedger, codes.FailedPrecondition, "NO_LEDGER", nil},
		{router.ErrUnpriced, codes.FailedPrecondition, "PRICE_UNKNOWN", nil},
		{&router.BudgetError{Budget: router.Budget{Limit: 5, Window: "day"}, Spent: 3, Asked: 4}, codes.ResourceExhausted, "BUDGET", func(t *testing.T, d details) {
			assert.Equal(t, "3", d.info.GetMetadata()["spent_nano_usd"])
		}},
		{&router.DuplicateError{Receipt: router.Receipt{CallID: "c", Booked: 7}}, codes.AlreadyExists, "DUPLICATE_CALL", func(t *testing.T, d details) {
			assert.Equal(t, "c", d.receipt.GetDecisionId())
			assert.Equal(t, int64(7), d.receipt.GetBookedNanoUsd())
		}},
		{router.ErrIdempotencyConflict, codes.InvalidArgument, "IDEMPOTENCY_CONFLICT", nil},
		{&router.PartialError{Kind: router.FailureNetwork, Err: errors.New("x")}, codes.Unavailable, "PARTIAL_OUTPUT", nil},
		{&router.PartialError{Kind: router.FailureTimeout, Err: errors.New("x")}, codes.DeadlineExceeded, "PARTIAL_OUTPUT", nil},
		{&router.AttemptsError{Kind: router.FailureRateLimit, RetryAfter: time.Second}, codes.ResourceExhausted, "RATE_LIMITED", func(t *testing.T, d details) {
			assert.Equal(t, time.Second, d.retry.GetRetryDelay().AsDuration())
			assert.Equal(t, "provider", d.info.GetMetadata()["limited_by"])
		}},
		{&router.AttemptsError{Kind: router.FailureContextLength}, codes.OutOfRange, "CONTEXT_TOO_LONG", nil},
		{&router.AttemptsError{Kind: router.FailureContentPolicy}, codes.InvalidArgument, "CONTENT_POLICY", nil},
		{&router.AttemptsError{Kind: router.FailureBadRequest}, codes.InvalidArgument, "UPSTREAM_BAD_REQUEST", nil},
		{&router.AttemptsError{Err: errors.New("dial 10.0.0.1")}, codes.Unavailable, "ATTEMPTS_FAILED", func(t *testing.T, d details) { assert.Nil(t, d.retry) }},
		{fmt.Errorf("%w: disk full", router.ErrLedger), codes.Unavailable, "LEDGER", nil},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", nil},
		{context.Canceled, codes.Canceled, "CANCELLED", nil},
	}
	seen := map[string]bool{"INTERNAL": true}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			st := statusOf(wrap(tt.err), "id")
			assert.Equal(t, tt.code, st.Code())
			d := detailsIn(t, st)
			assert.Equal(t, tt.reason, d.info.GetReason())
			assert.Equal(t, errorDomain, d.info.GetDomain())
			assert.NotEmpty(t, st.Message())
			if tt.check != nil {
				tt.check(t, d)
			}
		})
		seen[tt.reason] = true
	}
	for _, r := range table() {
		assert.True(t, seen[r.reason], "row %s has no test", r.reason)
	}
}

func TestStatusOfUnknownErrorsSaysTheIDOnly(t *testing.T) {
	for _, err := range []error{
		errors.New("the disk at /secret is full"),
		&panicError{kind: "index out of range", stack: []byte("goroutine secret")},
		fmt.Errorf("secret: %w", status.Error(codes.Unknown, "secret")),
	} {
		st := statusOf(err, "req-7")
		assert.Equal(t, codes.Internal, st.Code())
		assert.NotContains(t, st.String(), "secret")
		assert.Contains(t, st.Message(), "req-7")
		assert.Equal(t, "req-7", detailsIn(t, st).info.GetMetadata()["request_id"])
	}
}

func TestStatusOfKeepsTheStatusesOfHealth(t *testing.T) {
	assert.Equal(t, codes.NotFound, statusOf(status.Error(codes.NotFound, "unknown service"), "id").Code())
}
