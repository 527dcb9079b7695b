package upstream

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirhq/weir/router"
)

// maxErrorBody bounds what is read of an error body.
const maxErrorBody = 64 << 10

// protocolError is an answer that is not what the dialect promises. Its text
// names what was wrong and never holds a piece of the answer.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return e.what }

func protocolFault(format string, args ...any) error {
	return &protocolError{what: fmt.Sprintf(format, args...)}
}

// fault is what a provider says of a failure, in a body or in a stream.
type fault struct {
	status int      // HTTP's, or the number that stands for it in a stream; 0 unknown
	codes  []string // machine codes and types, the most telling first
	// message is looked at for phrases and never repeated.
	message string
	// wait is how long the body asks to be left alone; 0 when it does not.
	wait time.Duration
}

func (f *fault) Error() string { return f.cause().Error() }

// cause names the provider's machine code, if it is one.
func (f *fault) cause() error {
	for _, c := range f.codes {
		if safe := machineCode(c); safe != "" {
			return errors.New("the provider says " + safe)
		}
	}
	return errors.New("the provider answered with an error")
}

// machineCode returns a code that may be repeated: up to 64 letters, digits and
// . _ - and nothing that could be a key or a sentence.
func machineCode(s string) string {
	if len(s) > 64 || len(s) == 0 {
		return ""
	}
	letters := 0
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '_':
			letters++
		case r >= '0' && r <= '9', r == '.', r == '-':
		default:
			return ""
		}
	}
	// Keys are long and full of digits; codes are words, or short numbers.
	if strings.HasPrefix(s, "sk-") || len(s)-letters > 8 {
		return ""
	}
	return s
}

// kind classifies: codes first, for they say most, then phrases of the message
// where providers have no code of their own, then the status.
func (f *fault) kind() router.FailureKind {
	message := strings.ToLower(f.message)
	byPhrase := phraseKind(message)
	for _, c := range f.codes {
		k := codeKind(strings.ToLower(c))
		// The widest codes give way to a phrase and to a status that says more:
		// an "invalid_request_error" comes with a 401 too.
		switch byStatus := statusKind(f.status); {
		case k == 0:
		case k == router.FailureBadRequest && byPhrase != 0:
			return byPhrase
		case k == router.FailureBadRequest && f.status >= 400, k == router.FailureOverload && f.status >= 400 && f.status < 500:
			return byStatus
		default:
			return k
		}
	}
	// A phrase must not turn a 5xx or a refused key into the caller's fault.
	if byPhrase != 0 && (f.status == 0 || f.status == http.StatusBadRequest || f.status == http.StatusRequestEntityTooLarge ||
		f.status == http.StatusUnprocessableEntity || f.status == http.StatusForbidden || f.status == http.StatusTooManyRequests) {
		return byPhrase
	}
	return statusKind(f.status)
}

// codeKind is the table of providers' codes and types; 0 for one that says
// nothing.
func codeKind(code string) router.FailureKind {
	switch code {
	case "context_length_exceeded", "exceed_context_size_error", "context_window_exceeded", "model_context_window_exceeded",
		"input_too_long", "max_tokens_exceeded", "context_length", "prompt_too_long", "request_too_large", "input_length_exceeded":
		return router.FailureContextLength
	case "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "content_policy", "moderation_blocked",
		"data_inspection_failed", "safety", "prohibited_content", "moderation", "cyber_policy", "refusal":
		return router.FailureContentPolicy
	case "insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance",
		"quota_exceeded", "credits_exhausted", "payment_required", "exceeded_current_quota_error", "insufficient_credits":
		return router.FailureQuota
	case "rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests", "tokens", "requests", "tokens_per_min",
		"requests_per_min", "rate_limit_reached_error", "resource_exhausted", "throttling", "limit_requests":
		return router.FailureRateLimit
	case "authentication_error", "permission_error", "invalid_api_key", "incorrect_api_key_provided", "invalid_authentication_error",
		"permission_denied", "unauthenticated", "api_key_invalid", "unauthorized", "forbidden", "account_deactivated", "access_denied":
		return router.FailureAuth
	case "overloaded_error", "overloaded", "server_error", "internal_server_error", "internal_error", "api_error", "unavailable",
		"service_unavailable", "engine_overloaded", "engine_overloaded_error", "server_overloaded", "slow_down", "internal", "unknown",
		"capacity_exceeded", "insufficient_system_resource", "internalservererror", "service_unavailable_error", "bad_gateway":
		return router.FailureOverload
	case "timeout_error", "timeout", "deadline_exceeded", "gateway_timeout", "request_timeout":
		return router.FailureTimeout
	case "cancelled":
		return router.FailureOverload // we did not cancel it, so the provider did
	case "invalid_request_error", "invalid_argument", "bad_request", "badrequesterror", "not_found_error", "model_not_found",
		"invalid_parameter", "unsupported_parameter", "unsupported_value", "failed_precondition", "not_found", "out_of_range",
		"string_above_max_length", "invalid_prompt", "invalidparameter":
		return router.FailureBadRequest
	default:
		return 0
	}
}

// phraseKind finds what providers say only in words. The message is in lower
// case.
func phraseKind(message string) router.FailureKind {
	has := func(phrases ...string) bool {
		return slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(message, p) })
	}
	switch {
	case has("maximum context length", "context window", "context length", "context size", "prompt is too long", "input is too long",
		"input token count", "maximum input length", "exceeds the maximum number of tokens", "too many input tokens", "max_prompt_length"):
		return router.FailureContextLength
	case has("credit balance is too low", "insufficient balance", "exceeded your current quota, please check your plan and billing", "insufficient credits"):
		return router.FailureQuota
	case has("api key not valid", "invalid api key", "incorrect api key"):
		return router.FailureAuth
	case has("content management policy", "content policy", "flagged by moderation", "flagged for", "content filtering policy", "safety system"):
		return router.FailureContentPolicy
	default:
		return 0
	}
}

func statusKind(status int) router.FailureKind {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return router.FailureAuth
	case status == http.StatusPaymentRequired:
		return router.FailureQuota
	case status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout:
		return router.FailureTimeout
	case status == http.StatusRequestEntityTooLarge:
		return router.FailureContextLength
	case status == http.StatusTooManyRequests:
		return router.FailureRateLimit
	case status == http.StatusFailedDependency, status == http.StatusTooEarly, status == 498, status == 499, status >= 500:
		return router.FailureOverload
	case status >= 400:
		return router.FailureBadRequest
	default:
		// An error inside a stream that says nothing of itself is the provider's.
		return router.FailureOverload
	}
}

// retryAfter reads how long a provider wants to be left alone: retry-after-ms,
// or Retry-After in seconds or as a date. 0 when it does not say, or says what
// makes no sense; never more than a year, which the caller caps.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if d := seconds(h.Get("Retry-After-Ms"), time.Millisecond); d > 0 {
		return d
	}
	text := strings.TrimSpace(h.Get("Retry-After"))
	if d := seconds(text, time.Second); d > 0 {
		return d
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), longestAsked)
	}
	return 0
}

const longestAsked = 365 * 24 * time.Hour

// seconds reads a non-negative decimal number of units.
func seconds(text string, unit time.Duration) time.Duration {
	text = strings.TrimSpace(text)
	if text == "" || strings.Trim(text, "0123456789.") != "" {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 1) || f < 0 || math.IsNaN(f) {
		return 0
	}
	if f *= float64(unit); f >= float64(longestAsked) {
		return longestAsked
	}
	return time.Duration(f)
}
