package server

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weirhq/weir/router"
)

// partial matches an answer that broke after content: by the caller's deadline
// or a provider that fell silent (late), or otherwise.
func partial(late bool) func(error) bool {
	return func(err error) bool {
		var p *router.PartialError
		return errors.As(err, &p) && late == (p.Kind == router.FailureTimeout || errors.Is(err, context.DeadlineExceeded))
	}
}

// attempts matches a completion of which every attempt ended in one kind.
func attempts(kind router.FailureKind) func(error) bool {
	return func(err error) bool {
		var a *router.AttemptsError
		return errors.As(err, &a) && a.Kind == kind
	}
}

// completeMessage is what a person reads of a completion's errors: the causes,
// which the log has, may hold a provider's address. "" for other errors.
func completeMessage(err error) string {
	var (
		broke  *router.PartialError
		failed *router.AttemptsError
		poor   *router.BudgetError
		twice  *router.DuplicateError
		nobody *router.NotCallableError
	)
	switch {
	case errors.As(err, &nobody):
		return nobody.Error()
	case errors.As(err, &broke):
		return broke.Error()
	case errors.As(err, &failed):
		return failed.Error()
	case errors.As(err, &poor):
		return poor.Error()
	case errors.As(err, &twice):
		return twice.Error()
	case errors.Is(err, router.ErrIdempotencyConflict):
		return "the idempotency key was used with another request: use a new key for a new request"
	case errors.Is(err, router.ErrUnpriced):
		return router.ErrUnpriced.Error()
	case errors.Is(err, router.ErrNoLedger):
		return "this server keeps no ledger, so it cannot honour an idempotency key: start it with --ledger, or send no key"
	case errors.Is(err, router.ErrLedger):
		return "the ledger could not be written: come again later; the server's log has the cause"
	default:
		return ""
	}
}

// completeDetails are the details beside ErrorInfo, and what goes into its metadata.
func completeDetails(err error, info *errdetails.ErrorInfo) []protoadapt.MessageV1 {
	var (
		failed *router.AttemptsError
		poor   *router.BudgetError
		twice  *router.DuplicateError
	)
	nano := func(n router.NanoUSD) string { return strconv.FormatInt(int64(n), 10) }
	switch {
	case errors.As(err, &twice):
		return []protoadapt.MessageV1{protoadapt.MessageV1Of(receiptOf(&twice.Receipt))}
	case errors.As(err, &poor):
		info.Metadata = map[string]string{
			"limit_nano_usd": nano(poor.Budget.Limit), "spent_nano_usd": nano(poor.Spent), "held_nano_usd": nano(poor.Held),
			"asked_nano_usd": nano(poor.Asked), "window": poor.Budget.Window,
		}
		if !poor.Resets.IsZero() {
			info.Metadata["resets"] = poor.Resets.UTC().Format(time.RFC3339)
		}
	case errors.As(err, &failed):
		info.Metadata = map[string]string{"attempts": strconv.Itoa(len(failed.Attempts)), "limited_by": "provider"}
		if failed.Own {
			info.Metadata["limited_by"] = "weir"
		}
		if failed.RetryAfter > 0 {
			return []protoadapt.MessageV1{&errdetails.RetryInfo{RetryDelay: durationpb.New(failed.RetryAfter)}}
		}
	}
	return nil
}
