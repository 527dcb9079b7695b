package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Complete decides, calls the chosen model and streams its answer: one Decided,
// Deltas of one model, one Done. Before the first content a failed attempt is
// followed by another, of the same model elsewhere or of the next candidate
// that keeps the request's floor; after it never. Whatever happens after
// Decided, one Done follows, and by then the ledger has settled the call; where
// the answer is not whole, an error follows the Done: *PartialError after
// content, *AttemptsError before, the cause of ctx where the caller gave up.
// An error in place of Decided means that no provider was called: those of
// Route, ErrNoUpstream, ErrNoLedger, ErrUnpriced, *NotCallableError,
// *BudgetError, *DuplicateError, ErrIdempotencyConflict, and ErrLedger.
//
// A receiver that leaves the loop ends the provider's stream; what it cost is
// settled before the iterator returns. The sequence can be used once.
func (r *Router) Complete(ctx context.Context, req *CompleteRequest) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		c, err := r.begin(ctx, req)
		if err != nil {
			yield(nil, fmt.Errorf("complete: %w", err))
			return
		}
		c.run(ctx, yield)
	}
}

// completion is one call on its way.
type completion struct {
	r     *Router
	req   *CompleteRequest
	rec   Record
	rules *Rules
	plan  []Candidate
	// most is how many attempts may be made, bound what all may cost.
	most       int
	bound      NanoUSD
	boundKnown bool

	attempts []AttemptRecord
	booked   NanoUSD
	unpriced bool // an attempt of unknown price was billed
	tried    map[deploymentKey]bool
	shunned  map[string]bool // models
	avoided  map[string]bool // upstreams
	only     string          // the one upstream allowed
	window   int64           // a model's window must be larger
	last     *tryAgain
	refused  refusal
	kinds    map[FailureKind]int
	wait     time.Duration // the shortest that a rate limit asked for
	settled  bool
	gone     bool // the receiver left
}

// tryAgain is the last attempt's deployment, where it may be asked again.
type tryAgain struct {
	candidate  Candidate
	key        deploymentKey
	retryAfter time.Duration
}

// begin routes and reserves.
func (r *Router) begin(ctx context.Context, req *CompleteRequest) (*completion, error) {
	if r.cfg.Caller == nil {
		return nil, ErrNoUpstream
	}
	if req.IdempotencyKey != "" && r.cfg.Ledger == nil {
		return nil, ErrNoLedger
	}
	in := req.Request
	in.Demand.CallableOnly, in.Demand.Spends = true, true
	rec, rules, err := r.route(ctx, &in)
	if err != nil {
		return nil, refusedBecause(err, rules, &in.Demand)
	}
	c := &completion{
		r: r, req: req, rec: rec, rules: rules, most: max(rules.Completion.MaxAttempts, 1),
		tried: map[deploymentKey]bool{}, shunned: map[string]bool{}, avoided: map[string]bool{}, kinds: map[FailureKind]int{},
	}
	c.plan = c.candidates()
	r.health.retries.call(r.cfg.Now())
	if err := c.reserve(ctx, c.limit(&in.Demand)); err != nil {
		return nil, err
	}
	return c, nil
}

// refusedBecause turns the refusal of models that only lack a key into one that
// says which, and that of models that only lack a price into ErrUnpriced.
func refusedBecause(err error, rules *Rules, d *Demand) error {
	var none *NoEligibleError
	if !errors.As(err, &none) {
		return err
	}
	unpriced := 0
	if rules.Accounts.Budget.Window != "" {
		unpriced = none.Removed[RejectedPriceUnknown]
	}
	switch {
	case none.Removed[RejectedNotCallable] == 0 && unpriced == 0:
		return err
	case none.Removed[RejectedNotCallable] == 0:
		return ErrUnpriced
	}
	e := &NotCallableError{Models: none.Removed[RejectedNotCallable], Unpriced: unpriced}
	for _, m := range rules.Catalog.Models() {
		if len(d.Override.Models) > 0 && !slices.Contains(d.Override.Models, m.ID) {
			continue
		}
		for _, dep := range m.Deployments {
			key := cmp.Or(dep.Upstream.KeyEnv, dep.Upstream.KeyFile)
			if d.Provider.admits(dep.Upstream) && key != "" && !slices.Contains(e.Keys, key) {
				e.Keys = append(e.Keys, key)
			}
		}
	}
	slices.Sort(e.Keys)
	return e
}

// candidates are those that this call may try: the first in Next's order that
// can be called now, and one of a larger window should the first turn out too
// small. A bound over every model of a catalog would hold ten times the money.
func (c *completion) candidates() []Candidate {
	now := c.r.cfg.Now()
	var ready, rest []Candidate
	var larger *Candidate
	failed := map[string]bool{}
	for {
		next, err := Next(&c.rec.Decision, failed)
		if err != nil {
			break
		}
		failed[next.Model.ID] = true
		if larger == nil && next.Model.ContextWindow > c.rec.Decision.Chosen.Model.ContextWindow {
			larger = &next
		}
		if c.r.health.ready(&next, c.usable, now) {
			ready = append(ready, next)
		} else {
			rest = append(rest, next)
		}
	}
	plan := append(ready, rest...)
	plan = plan[:min(len(plan), c.most)]
	if larger != nil && c.most > 1 && !slices.ContainsFunc(plan, func(x Candidate) bool { return x.Model.ContextWindow >= larger.Model.ContextWindow }) {
		plan = append(plan, *larger)
	}
	return plan
}

// ready tells whether a deployment of the candidate can be called now.
func (h *health) ready(c *Candidate, usable func(*Deployment) bool, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range c.Model.Deployments {
		d := &c.Model.Deployments[i]
		if !d.Upstream.Callable || !usable(d) {
			continue
		}
		if s, _, _ := h.of(d, now).stands(d, c.InputTokens+c.OutputTokens, now); s >= due {
			return true
		}
	}
	return false
}

// usable tells whether this call may ask a deployment, apart from its health.
func (c *completion) usable(d *Deployment) bool {
	return c.req.Request.Demand.Provider.admits(d.Upstream) && !c.avoided[d.Upstream.ID] && (c.only == "" || c.only == d.Upstream.ID)
}

// limit is max_cost as it counted.
func (c *completion) limit(d *Demand) Opt[NanoUSD] {
	policy, ok := c.rules.Policies[c.rec.Decision.Policy]
	if !ok {
		return d.Limits.MaxCost
	}
	return d.Limits.MaxCost.or(policy.Limits.MaxCost)
}

// reserve holds what the call may cost at most: one whole answer and the inputs
// of the attempts that may fail before it. Providers do not bill what they
// refuse, but they bill the input of what they began. Where the budget does not
// pay for retries, the chosen model gets one attempt.
func (c *completion) reserve(ctx context.Context, maxCost Opt[NanoUSD]) error {
	budget := c.rules.Accounts.Budget
	if budget.Window != "" {
		if c.r.cfg.Ledger == nil {
			return fmt.Errorf("reserve: %w: a budget is set and no ledger is kept", ErrLedger)
		}
	}
	c.hold(maxCost)
	if c.r.cfg.Ledger == nil {
		return nil
	}
	err := c.book(ctx, budget)
	var poor *BudgetError
	if errors.As(err, &poor) && (len(c.plan) > 1 || c.most > 1) {
		c.plan, c.most = c.plan[:1], 1
		c.hold(maxCost)
		err = c.book(ctx, budget)
	}
	var twice *DuplicateError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &poor), errors.As(err, &twice), errors.Is(err, ErrIdempotencyConflict), errors.Is(err, ErrUnpriced):
		return fmt.Errorf("reserve: %w", err)
	case ctx.Err() != nil:
		return fmt.Errorf("reserve: %w", context.Cause(ctx))
	default:
		return fmt.Errorf("reserve: %w: %w", ErrLedger, err)
	}
}

// hold computes the bound.
func (c *completion) hold(maxCost Opt[NanoUSD]) {
	var answer, failed NanoUSD
	c.boundKnown = true
	for i := range c.plan {
		x := &c.plan[i]
		input, ok := x.Model.rates.cost(x.InputTokens, 0)
		c.boundKnown = c.boundKnown && x.PriceKnown && ok
		answer, failed = max(answer, x.Bound), max(failed, input)
	}
	c.bound = answer
	for range c.most - 1 {
		if c.bound += failed; c.bound < answer { // overflow
			c.boundKnown = false
		}
	}
	if maxCost.Set {
		c.bound, c.boundKnown = min(c.bound, maxCost.Value), true
	}
	if !c.boundKnown {
		c.bound = 0
	}
}

func (c *completion) book(ctx context.Context, budget Budget) error {
	d := &c.rec.Decision
	res := &Reservation{
		CallID: c.rec.ID, Time: c.r.cfg.Now(), Bound: c.bound, BoundKnown: c.boundKnown, Budget: budget,
		IdempotencyKey: c.req.IdempotencyKey, RequestDigest: c.req.RequestDigest,
		Model: d.Chosen.Model.ID, Policy: d.Policy, Bundle: c.rec.BundleDigest, Config: c.rec.ConfigDigest, Tier: d.Chosen.Model.Tier,
	}
	if d.Scored {
		res.Domain, _ = d.Scores.Domain()
	}
	if o := c.rules.Accounts.Overhead; res.BoundKnown && o > 0 {
		res.Bound += o
	}
	return c.r.cfg.Ledger.Reserve(ctx, res) //nolint:wrapcheck // reserve wraps it
}
