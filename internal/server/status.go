package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "weir.v1"

// retryAfter is what an overloaded server asks for: the queue holds a few tens
// of milliseconds of work.
const retryAfter = 100 * time.Millisecond

var (
	errTokenMissing = errors.New("no bearer token: send metadata authorization: Bearer TOKEN")
	errTokenInvalid = errors.New("the bearer token is not one of this server's")
	errNoHandler    = errors.New("not available on this server")
)

// unavailableError means that this server does not offer a method.
type unavailableError struct{ what string }

// Error says what to do instead.
func (e *unavailableError) Error() string { return e.what }

// Is makes every unavailableError the same row of the table.
func (e *unavailableError) Is(target error) bool { return target == errNoHandler }

// namedError tells which resource was not found.
type namedError struct {
	kind, name string
	err        error
}

func (e *namedError) Error() string { return e.err.Error() }
func (e *namedError) Unwrap() error { return e.err }

// row is one row of the status table.
type row struct {
	is     func(error) bool
	code   codes.Code
	reason string
	// retry asks the caller to come again after retryAfter.
	retry bool
}

func sentinel(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func typed[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// table is the status table; the first row that fits counts. What fits none is
// INTERNAL.
func table() []row {
	return append(bundleRows(), []row{
		{is: typed[*panicError], code: codes.Internal, reason: "INTERNAL"},
		{is: typed[*invalidError], code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
		{is: sentinel(errTokenMissing), code: codes.Unauthenticated, reason: "TOKEN_MISSING"},
		{is: sentinel(errTokenInvalid), code: codes.Unauthenticated, reason: "TOKEN_INVALID"},
		{is: sentinel(errNoHandler), code: codes.Unimplemented, reason: "NOT_AVAILABLE"},
		{is: sentinel(classifier.ErrInvalidText), code: codes.InvalidArgument, reason: "INVALID_TEXT"},
		{is: sentinel(classifier.ErrNoContent), code: codes.InvalidArgument, reason: "NO_CONTENT"},
		{is: sentinel(classifier.ErrOverloaded), code: codes.ResourceExhausted, reason: "OVERLOADED", retry: true},
		{is: sentinel(router.ErrUnknownModel), code: codes.NotFound, reason: "UNKNOWN_MODEL"},
		{is: sentinel(router.ErrUnknownPolicy), code: codes.NotFound, reason: "UNKNOWN_POLICY"},
		{is: sentinel(router.ErrUnknownDecision), code: codes.NotFound, reason: "UNKNOWN_DECISION"},
		{is: sentinel(router.ErrOutcomeConflict), code: codes.AlreadyExists, reason: "OUTCOME_CONFLICT"},
		{is: typed[*router.NoEligibleError], code: codes.FailedPrecondition, reason: "NO_ELIGIBLE_MODEL"},
		{is: typed[*router.ContextTooLongError], code: codes.OutOfRange, reason: "CONTEXT_TOO_LONG"},
		{is: typed[*router.NotCallableError], code: codes.FailedPrecondition, reason: "NO_KEY"},
		{is: sentinel(router.ErrNoUpstream), code: codes.Unimplemented, reason: "NOT_AVAILABLE"},
		{is: sentinel(router.ErrNoLedger), code: codes.FailedPrecondition, reason: "NO_LEDGER"},
		{is: sentinel(router.ErrUnpriced), code: codes.FailedPrecondition, reason: "PRICE_UNKNOWN"},
		{is: typed[*router.BudgetError], code: codes.ResourceExhausted, reason: "BUDGET"},
		{is: typed[*router.DuplicateError], code: codes.AlreadyExists, reason: "DUPLICATE_CALL"},
		{is: sentinel(router.ErrIdempotencyConflict), code: codes.InvalidArgument, reason: "IDEMPOTENCY_CONFLICT"},
		{is: partial(true), code: codes.DeadlineExceeded, reason: "PARTIAL_OUTPUT"},
		{is: partial(false), code: codes.Unavailable, reason: "PARTIAL_OUTPUT"},
		{is: attempts(router.FailureRateLimit), code: codes.ResourceExhausted, reason: "RATE_LIMITED"},
		{is: attempts(router.FailureContextLength), code: codes.OutOfRange, reason: "CONTEXT_TOO_LONG"},
		{is: attempts(router.FailureContentPolicy), code: codes.InvalidArgument, reason: "CONTENT_POLICY"},
		{is: attempts(router.FailureBadRequest), code: codes.InvalidArgument, reason: "UPSTREAM_BAD_REQUEST"},
		{is: typed[*router.AttemptsError], code: codes.Unavailable, reason: "ATTEMPTS_FAILED"},
		{is: sentinel(router.ErrLedger), code: codes.Unavailable, reason: "LEDGER"},
		{is: sentinel(router.ErrExhausted), code: codes.Unavailable, reason: "NO_CANDIDATE_LEFT", retry: true},
		{is: sentinel(ErrConfigEmbedded), code: codes.FailedPrecondition, reason: "CONFIG_EMBEDDED"},
		{is: typed[*router.ConfigError], code: codes.FailedPrecondition, reason: "CONFIG_REFUSED"},
		{is: sentinel(context.DeadlineExceeded), code: codes.DeadlineExceeded, reason: "DEADLINE_EXCEEDED"},
		{is: sentinel(context.Canceled), code: codes.Canceled, reason: "CANCELLED"},
	}...)
}

// reasonOf is the reason by which logs name an error.
func reasonOf(err error) string {
	for _, r := range table() {
		if r.is(err) {
			return r.reason
		}
	}
	return ""
}

// statusOf turns an error into what the caller gets. An error that no row knows
// is INTERNAL with the request's id only: its words are for the log.
func statusOf(err error, requestID string) *status.Status {
	for _, r := range table() {
		if r.is(err) && r.code != codes.Internal {
			return r.status(err)
		}
	}
	// Health and reflection speak in statuses themselves.
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(err, &own) && own.GRPCStatus().Code() != codes.Unknown {
		return own.GRPCStatus()
	}
	st := status.New(codes.Internal, fmt.Sprintf("internal error: the server's log has the cause under request id %s", requestID))
	return withDetails(st, &errdetails.ErrorInfo{Reason: "INTERNAL", Domain: errorDomain, Metadata: map[string]string{"request_id": requestID}})
}

func (r row) status(err error) *status.Status {
	info := &errdetails.ErrorInfo{Reason: r.reason, Domain: errorDomain}
	details := append([]protoadapt.MessageV1{info}, detailsOf(err, info)...)
	details = append(details, completeDetails(err, info)...)
	if r.retry {
		// Tells this server's limit from a provider's.
		info.Metadata = map[string]string{"limited_by": "weir"}
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	return withDetails(status.New(r.code, message(err)), details...)
}

// message is what a person reads. The text of classifier's errors is completed
// with the remedy; a refused config's faults are in the details.
func message(err error) string {
	var refused *router.ConfigError
	if text := completeMessage(err); text != "" {
		return text
	}
	switch {
	case errors.Is(err, classifier.ErrInvalidText):
		return "the prompt is not valid UTF-8: convert it before it is sent"
	case errors.Is(err, classifier.ErrNoContent):
		return "the prompt holds nothing to score: send text with more than white space"
	case errors.Is(err, classifier.ErrOverloaded):
		return "the server is overloaded: come again after the delay in the details"
	case errors.Is(err, context.DeadlineExceeded):
		return "the deadline passed before the answer was ready"
	case errors.Is(err, context.Canceled):
		return "the call was cancelled"
	case errors.Is(err, ErrConfigEmbedded):
		return "the embedded config decides and there is no file to read again: start the server with a config file"
	case errors.As(err, &refused):
		return fmt.Sprintf("the config has %d faults, listed in the details; the old one keeps deciding", len(refused.Faults))
	default:
		return err.Error()
	}
}

// detailsOf returns the details beside ErrorInfo, and adds to its metadata.
func detailsOf(err error, info *errdetails.ErrorInfo) []protoadapt.MessageV1 {
	var (
		invalid  *invalidError
		named    *namedError
		none     *router.NoEligibleError
		tooLong  *router.ContextTooLongError
		refused  *router.ConfigError
		bundle   *BundleRefusedError
		noneLeft []protoadapt.MessageV1
	)
	switch {
	case errors.As(err, &invalid):
		return []protoadapt.MessageV1{&errdetails.BadRequest{FieldViolations: invalid.violations}}
	case errors.Is(err, classifier.ErrInvalidText), errors.Is(err, classifier.ErrNoContent):
		v := &errdetails.BadRequest_FieldViolation{Field: "input", Description: message(err)}
		return []protoadapt.MessageV1{&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{v}}}
	case errors.As(err, &named):
		return []protoadapt.MessageV1{&errdetails.ResourceInfo{ResourceType: named.kind, ResourceName: named.name, Description: message(err)}}
	case errors.As(err, &none):
		return []protoadapt.MessageV1{noEligible(none, info)}
	case errors.As(err, &tooLong):
		info.Metadata = map[string]string{"tokens": strconv.FormatInt(tooLong.Tokens, 10), "max": strconv.FormatInt(tooLong.Max, 10)}
	case errors.As(err, &refused):
		return []protoadapt.MessageV1{refusedConfig(refused)}
	case errors.As(err, &bundle):
		return []protoadapt.MessageV1{refusedBundle(bundle, info)}
	}
	return noneLeft
}

// noEligible lists what each filter removed, in the filters' order, and every
// model's own reason.
func noEligible(e *router.NoEligibleError, info *errdetails.ErrorInfo) *errdetails.PreconditionFailure {
	info.Metadata = make(map[string]string, len(e.Removed))
	p := &errdetails.PreconditionFailure{}
	for r := router.RejectedNotNamed; r <= router.RejectedSession; r++ {
		n, ok := e.Removed[r]
		if !ok {
			continue
		}
		info.Metadata[r.String()] = strconv.Itoa(n)
		p.Violations = append(p.Violations, &errdetails.PreconditionFailure_Violation{
			Type: "FILTER", Subject: r.String(), Description: fmt.Sprintf("removed %d models", n),
		})
	}
	for _, d := range e.Details {
		p.Violations = append(p.Violations, &errdetails.PreconditionFailure_Violation{Type: "MODEL", Description: d})
	}
	return p
}

func refusedConfig(e *router.ConfigError) *errdetails.BadRequest {
	b := &errdetails.BadRequest{}
	for i, f := range e.Faults {
		if i == maxViolations {
			break
		}
		b.FieldViolations = append(b.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f.Path, Description: f.Error()})
	}
	return b
}

// withDetails adds what can be encoded; these messages always can.
func withDetails(st *status.Status, details ...protoadapt.MessageV1) *status.Status {
	full, err := st.WithDetails(details...)
	if err != nil {
		return st
	}
	return full
}
