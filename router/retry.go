package router

import (
	"errors"
	"sync"
	"time"
)

// failureRule says what follows a failed attempt. The table below is the only
// place where that is said.
type failureRule struct {
	// outage failures count towards leaving a deployment out: the provider is
	// at fault, not the prompt.
	outage bool
	// lockout leaves the deployment out at once and for long: nothing but an
	// operator mends it.
	lockout bool
	// cools honours the provider's Retry-After; without one it waits cooldown.
	cools    bool
	cooldown time.Duration
	// sibling allows the model's other deployments, again the same deployment
	// after a pause, next another model.
	sibling, again, next bool
	// elsewhere forbids every deployment of the same upstream, larger every
	// model whose window is not larger.
	elsewhere, larger bool
}

// ruleOf is the table of what follows each kind of failure.
//
//	kind            counts as outage  other deployment  same again      another model
//	auth, quota     left out long     yes               no              yes
//	rate_limit      left out          yes               by Retry-After  yes
//	overload        yes               yes               after a pause   yes
//	network         yes               yes               after a pause   yes
//	timeout         yes               yes               after a pause   yes
//	protocol        yes               yes               no              yes
//	context_length  no                no                no              of a larger window
//	content_policy  no                no                no              of another upstream
//	bad_request     no                no                no              of another upstream
//	cancelled       no                no                no              no
func ruleOf(kind FailureKind) failureRule {
	switch kind {
	case FailureAuth, FailureQuota:
		return failureRule{lockout: true, sibling: true, next: true}
	case FailureRateLimit:
		return failureRule{cools: true, cooldown: rateLimitCooldown, sibling: true, again: true, next: true}
	case FailureOverload:
		return failureRule{outage: true, cools: true, sibling: true, again: true, next: true}
	case FailureNetwork, FailureTimeout:
		return failureRule{outage: true, sibling: true, again: true, next: true}
	case FailureProtocol:
		return failureRule{outage: true, sibling: true, next: true}
	case FailureContextLength:
		return failureRule{next: true, larger: true}
	case FailureContentPolicy, FailureBadRequest:
		return failureRule{next: true, elsewhere: true}
	default:
		return failureRule{}
	}
}

// Pauses and bounds of them.
const (
	// rateLimitCooldown leaves a deployment out that did not say for how long.
	rateLimitCooldown = 5 * time.Second
	// maxRetryAfter bounds what a provider may ask for.
	maxRetryAfter = time.Hour
	// longestWait is the longest that a call waits before it asks the same
	// deployment again.
	longestWait = 5 * time.Second
	pauseBase   = 100 * time.Millisecond
	pauseMost   = 2 * time.Second
)

// pause is the time before the same deployment is asked again: full jitter under
// a bound that doubles, but never earlier than the provider allows.
func pause(retries int, random float64, retryAfter time.Duration) time.Duration {
	most := min(pauseBase<<min(retries, 10), pauseMost)
	return max(time.Duration(random*float64(most)), retryAfter)
}

// failureOf is an attempt's failure as one kind of error.
func failureOf(upstream string, err error) *UpstreamError {
	var e *UpstreamError
	if errors.As(err, &e) && e.Kind != 0 {
		return e
	}
	return &UpstreamError{Kind: FailureProtocol, Upstream: upstream, Err: err}
}

// retryBudget bounds retries to a share of the calls of the last ten seconds,
// three at least, so that a failing provider is not hit by a storm. It is safe
// for concurrent use.
type retryBudget struct {
	mu    sync.Mutex
	slots [retrySlots]retrySlot
}

type retrySlot struct {
	second         int64
	calls, retries int
}

const (
	retrySlots = 10
	retryFloor = 3
)

// call counts a completion.
func (b *retryBudget) call(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slot(now).calls++
}

// take counts a retry where the budget has one left.
func (b *retryBudget) take(now time.Time, share float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls, retries := 0, 0
	for _, s := range b.slots {
		if s.second > now.Unix()-retrySlots {
			calls, retries = calls+s.calls, retries+s.retries
		}
	}
	if retries+1 > max(retryFloor, int(share*float64(calls))) {
		return false
	}
	b.slot(now).retries++
	return true
}

func (b *retryBudget) slot(now time.Time) *retrySlot {
	s := &b.slots[now.Unix()%retrySlots]
	if s.second != now.Unix() {
		*s = retrySlot{second: now.Unix()}
	}
	return s
}
