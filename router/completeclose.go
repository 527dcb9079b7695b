package router

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settleTimeout bounds the last write of a call, which the caller's own
// cancellation does not stop.
const settleTimeout = 5 * time.Second

// close settles the call and says how it ended.
func (c *completion) close(ctx context.Context, end *ending) (*Done, error) {
	c.settled = true
	done := &Done{
		Attempts: c.attempts, Cost: c.booked, CostKnown: !c.unpriced, ScoreCached: c.rec.ScoreCached,
		Exceeded: c.boundKnown && c.booked > c.bound,
	}
	var err error
	status := "failed"
	switch {
	case end != nil && end.failure == nil:
		status, done.Complete, done.Finish = "complete", true, end.finish
	case end != nil && end.pieces > 0:
		status, done.Incomplete = "incomplete", end.failure.Kind.String()
		err = &PartialError{Kind: end.failure.Kind, Err: end.failure}
	case ctx.Err() != nil || (end != nil && end.late):
		done.Incomplete, err = "deadline", context.DeadlineExceeded
		if errors.Is(ctx.Err(), context.Canceled) {
			done.Incomplete, err = FailureCancelled.String(), context.Cause(ctx)
		}
		err = fmt.Errorf("complete: %w", err)
	default:
		done.Incomplete, err = "failed", c.failed(end)
	}
	if c.gone || errors.Is(ctx.Err(), context.Canceled) {
		status = "cancelled"
	}
	if end != nil && (end.failure == nil || end.pieces > 0) {
		done.Model, done.Upstream, done.Usage = end.candidate.Model.ID, end.lease.deployment.Upstream.ID, end.usage
	}
	settleErr := c.settle(ctx, status, done, end)
	if settleErr != nil {
		// What arrived is whole or not as Done says; that it is booked is not so.
		err = errors.Join(settleErr, err)
	}
	if o := c.r.cfg.Completion; o != nil {
		o.CallDone(ctx, &c.rec, done, err)
	}
	return done, err
}

// failed sums the attempts up.
func (c *completion) failed(end *ending) *AttemptsError {
	e := &AttemptsError{Attempts: c.attempts}
	if end != nil {
		e.Err = end.failure
	}
	switch {
	case len(c.attempts) == 0:
		e.RetryAfter = c.refused.wait
		if c.refused.count > 0 && c.refused.own+c.refused.limited == c.refused.count {
			e.Kind, e.Own = FailureRateLimit, c.refused.own == c.refused.count
		}
	case len(c.kinds) == 1:
		for kind := range c.kinds {
			switch kind {
			case FailureRateLimit, FailureContextLength, FailureContentPolicy, FailureBadRequest:
				e.Kind = kind
			default:
			}
		}
		e.RetryAfter = c.wait
	}
	return e
}

func (c *completion) settle(ctx context.Context, status string, done *Done, end *ending) error {
	s := &Settlement{
		CallID: c.rec.ID, Time: c.r.cfg.Now(), Status: status, Attempts: c.attempts,
		PriceVersion: c.rec.ConfigDigest, Overhead: c.rules.Accounts.Overhead, ScoreCached: c.rec.ScoreCached,
	}
	if m := c.baseline(); m != nil {
		s.Baseline = m.ID
		cost, err := NanoUSD(0), error(nil)
		if done.Model != "" {
			cost, err = BaselineCost(m, end.candidate.Model, 1, done.Usage)
		}
		s.BaselineCost, s.BaselineKnown = cost, err == nil
	}
	if c.r.cfg.Ledger == nil {
		done.Receipt = s.receipt(done)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	receipt, err := c.r.cfg.Ledger.Settle(ctx, s)
	if err != nil {
		return fmt.Errorf("settle call %s: %w: %w", c.rec.ID, ErrLedger, err)
	}
	done.Receipt = receipt
	return nil
}

// receipt is what a ledger would hold.
func (s *Settlement) receipt(done *Done) Receipt {
	r := Receipt{
		CallID: s.CallID, PriceVersion: s.PriceVersion, Status: s.Status, Booked: done.Cost + s.Overhead,
		Baseline: s.Baseline, Usage: done.Usage, ScoreCached: s.ScoreCached,
	}
	if r.SavingsKnown = s.BaselineKnown && done.CostKnown; r.SavingsKnown {
		r.Savings = s.BaselineCost - r.Booked
	}
	return r
}

// baseline is the model that savings are counted against: the config's, else
// the one of the best expected quality that the request allowed.
func (c *completion) baseline() *Model {
	if id := c.rules.Accounts.Baseline; id != "" {
		if m, ok := c.rules.Catalog.Model(id); ok {
			return m
		}
	}
	best := &c.rec.Decision.Chosen
	for i := range c.rec.Decision.Ranked {
		if x := &c.rec.Decision.Ranked[i]; x.Quality.Value > best.Quality.Value {
			best = x
		}
	}
	return best.Model
}
