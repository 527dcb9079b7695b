package router

import (
	"context"
	"errors"
	"time"
)

// errSilent ends an attempt that brings nothing, errLong one that goes on.
var (
	errSilent = errors.New("the provider sent nothing for too long")
	errLong   = errors.New("the call took longer than attempt_timeout")
)

// picked is the deployment that is called next.
type picked struct {
	candidate Candidate
	lease     *lease
}

// ending is how an attempt ended: failure is nil where the answer is whole.
type ending struct {
	picked
	heard
	failure *UpstreamError
	// late is whether the caller's own deadline ended it.
	late  bool
	err   error
	usage Usage
}

// run streams the call to its end.
func (c *completion) run(ctx context.Context, yield func(Event, error) bool) {
	inner, cancel := withMargin(ctx)
	defer cancel()
	// Whatever ends the loop, a panic of the receiver included, the call is settled.
	var end *ending
	defer func() {
		if !c.settled {
			c.gone = true
			_, _ = c.close(ctx, end) // nobody is there to hear it
		}
	}()
	p, ok := c.next(inner)
	if ok && p.candidate.Model == c.rec.Decision.Chosen.Model {
		c.rec.Provider = p.lease.deployment.Upstream.ID
	}
	if !yield(&Decided{Record: c.rec, Reserved: c.bound, ReservedKnown: c.boundKnown}, nil) {
		if ok {
			c.r.health.release(p.lease, FailureCancelled, 0, false, 0, c.r.cfg.Now())
		}
		return
	}
	for ok {
		end = c.attempt(inner, p, yield)
		if c.gone {
			return
		}
		if end.failure == nil || end.pieces > 0 || !c.learn(inner, end) {
			break
		}
		p, ok = c.next(inner)
	}
	done, err := c.close(ctx, end)
	if yield(done, nil) && err != nil {
		yield(nil, err)
	}
}

// withMargin leaves a little of the caller's time, so that the end of the
// stream, with what was used, still reaches the caller.
func withMargin(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(50*time.Millisecond, time.Until(deadline)/20)))
}

// next picks what is called next: first what can be called, the chosen model's
// deployments before the next model's; then the last deployment again, after a
// pause; then what is left out after failures.
func (c *completion) next(ctx context.Context) (picked, bool) {
	c.refused = refusal{}
	if ctx.Err() != nil || len(c.attempts) >= c.most {
		return picked{}, false
	}
	untried := func(d *Deployment) bool { return c.usable(d) && !c.tried[keyOf(d)] }
	if p, ok, found := c.among(c.plan, untried, due); found {
		return p, ok
	}
	if last := c.last; last != nil {
		wait := pause(len(c.attempts)-1, c.r.cfg.Random(), last.retryAfter)
		if wait <= longestWait && rest(ctx, wait) {
			again := func(d *Deployment) bool { return keyOf(d) == last.key }
			if p, ok, found := c.among([]Candidate{last.candidate}, again, resort); found {
				return p, ok
			}
		}
	}
	p, ok, _ := c.among(c.plan, untried, resort)
	return p, ok
}

// among picks of some candidates. found is true where a deployment can be
// called; ok is false where it would be a retry that the budget does not allow.
func (c *completion) among(plan []Candidate, usable func(*Deployment) bool, least standing) (p picked, ok, found bool) {
	now := c.r.cfg.Now()
	for i := range plan {
		x, affordable := c.affordable(&plan[i])
		if !affordable || c.shunned[x.Model.ID] || x.Model.ContextWindow <= c.window {
			continue
		}
		l, proven, refused := c.r.health.acquire(&ask{
			candidate: &x, usable: usable, order: c.req.Request.Demand.Provider.Order, random: c.r.cfg.Random(), least: least,
		}, now)
		if l == nil {
			c.refused.join(refused)
			continue
		}
		if len(c.attempts) > 0 && !proven && !c.r.health.retries.take(now, c.rules.Completion.RetryBudget) {
			c.r.health.release(l, FailureCancelled, 0, false, 0, now)
			return picked{}, false, true
		}
		return picked{x, l}, true, true
	}
	return picked{}, false, false
}

// affordable lowers the output limit to what is left of the reservation.
func (c *completion) affordable(x *Candidate) (Candidate, bool) {
	out := *x
	if !c.boundKnown || c.booked == 0 {
		return out, true
	}
	input, ok := x.Model.rates.cost(x.InputTokens, 0)
	out.MaxOutput = min(x.MaxOutput, x.Model.rates.affords(c.bound-c.booked, input))
	return out, ok && out.MaxOutput >= max(x.P90Output, 1)
}

// rest waits; false where the deadline would not be kept.
func rest(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt makes one call and hands its content on.
func (c *completion) attempt(ctx context.Context, p picked, yield func(Event, error) bool) *ending {
	end := &ending{picked: p}
	start := c.r.cfg.Now()
	record := AttemptRecord{Model: p.candidate.Model.ID, Upstream: p.lease.deployment.Upstream.ID, Start: start}
	if c.only == "" && c.confined() {
		c.only = record.Upstream
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	returned := false
	defer func() {
		if !returned { // the receiver panicked: end and count it as one that left
			c.gone = true
			c.note(ctx, end, &record)
		}
	}()
	limits := c.rules.Completion.of(p.lease.deployment.Upstream)
	silence := time.AfterFunc(limits.FirstContent, func() { cancel(errSilent) })
	defer silence.Stop()
	if limits.Attempt > 0 {
		defer time.AfterFunc(limits.Attempt, func() { cancel(errLong) }).Stop()
	}
	call := &Call{
		Model: p.candidate.Model, Deployment: p.lease.deployment, Input: &c.req.Input, MaxOutputTokens: p.candidate.MaxOutput, Timeouts: limits,
	}
	for chunk, err := range c.r.cfg.Caller.Stream(ctx, call) {
		if err != nil {
			end.err = err
			break
		}
		end.chunk(&chunk)
		if !chunk.Content() {
			if end.pieces > 0 {
				silence.Reset(limits.Idle)
			}
			continue
		}
		silence.Stop() // a slow receiver is not a silent provider
		if end.pieces == 1 {
			now := c.r.cfg.Now()
			record.FirstContent = now.Sub(start)
			c.r.health.answered(p.lease, record.FirstContent, now)
		}
		if !yield(&Delta{Text: chunk.Text, Reasoning: chunk.Reasoning, Tool: chunk.Tool}, nil) {
			c.gone = true
			break
		}
		silence.Reset(limits.Idle)
	}
	returned = true
	c.note(ctx, end, &record)
	return end
}

// confined tells whether only the first upstream may serve.
func (c *completion) confined() bool {
	p := &c.req.Request.Demand.Provider
	return p.AllowFallbacks.Set && !p.AllowFallbacks.Value && len(p.Order) == 0
}

// note classifies an attempt's end, prices it and writes its record.
func (c *completion) note(ctx context.Context, end *ending, a *AttemptRecord) {
	now := c.r.cfg.Now()
	a.Duration = now.Sub(a.Start)
	up := a.Upstream
	counts := true
	switch {
	case c.gone:
		end.failure, counts = &UpstreamError{Kind: FailureCancelled, Upstream: up, Err: context.Canceled}, false
	case end.err == nil && end.finish != 0:
	case end.err == nil:
		end.failure = &UpstreamError{Kind: FailureProtocol, Upstream: up, Err: errors.New("the stream ended without a finish reason")}
	case errors.Is(context.Cause(ctx), errSilent), errors.Is(context.Cause(ctx), errLong):
		end.failure = &UpstreamError{Kind: FailureTimeout, Upstream: up, Err: context.Cause(ctx)}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		end.failure, end.late = &UpstreamError{Kind: FailureTimeout, Upstream: up, Err: context.DeadlineExceeded}, true
		counts = end.pieces == 0 && a.Duration >= patience
	case ctx.Err() != nil:
		end.failure, counts = &UpstreamError{Kind: FailureCancelled, Upstream: up, Err: context.Cause(ctx)}, false
	default:
		end.failure = failureOf(up, end.err)
	}
	a.Outcome = "ok"
	kind, retryAfter := FailureKind(0), time.Duration(0)
	if end.failure != nil {
		kind, retryAfter = end.failure.Kind, end.failure.RetryAfter
		a.Outcome = kind.String()
	}
	usage, billed := end.billed(&c.req.Input, &end.candidate, end.failure)
	a.Usage, end.usage = usage, usage
	if a.CostKnown = true; billed {
		price := end.candidate.Model.PriceAt(end.lease.deployment)
		cost, err := price.Cost(usage)
		a.Cost, a.CostKnown = cost, err == nil
		c.booked += cost
		c.unpriced = c.unpriced || err != nil
	}
	c.attempts = append(c.attempts, *a)
	c.r.health.release(end.lease, kind, retryAfter, counts, usage.Input+usage.Output, now)
	if o := c.r.cfg.Completion; o != nil {
		var err error
		if end.failure != nil {
			err = end.failure
		}
		o.AttemptDone(ctx, &c.rec, &c.attempts[len(c.attempts)-1], err)
	}
}

// learn takes from a failure without content what may be tried next; false
// where nothing may.
func (c *completion) learn(ctx context.Context, end *ending) bool {
	kind, m, d := end.failure.Kind, end.candidate.Model, &end.lease.deployment
	c.kinds[kind]++
	rule := ruleOf(kind)
	c.tried[keyOf(d)] = true
	if !rule.sibling {
		c.shunned[m.ID] = true
	}
	if rule.elsewhere {
		c.avoided[d.Upstream.ID] = true
	}
	if rule.larger {
		c.window = max(c.window, m.ContextWindow)
	}
	c.last = nil
	if rule.again {
		retryAfter := end.failure.RetryAfter
		if kind == FailureRateLimit && retryAfter == 0 {
			retryAfter = rateLimitCooldown
		}
		c.last = &tryAgain{end.candidate, keyOf(d), retryAfter}
	}
	if kind == FailureRateLimit {
		c.wait = soonest(c.wait, orCooldown(end.failure.RetryAfter))
	}
	return rule.next && ctx.Err() == nil
}

// orCooldown is how long to leave a provider alone that limits rates.
func orCooldown(d time.Duration) time.Duration {
	if d <= 0 {
		return rateLimitCooldown
	}
	return min(d, maxRetryAfter)
}

func soonest(a, b time.Duration) time.Duration {
	if a == 0 || (b > 0 && b < a) {
		return b
	}
	return a
}
