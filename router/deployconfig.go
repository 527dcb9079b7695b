package router

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Strategy is how a model's deployment is chosen among those that can be called.
type Strategy uint8

// The strategies.
const (
	// ByPrice draws by the inverse square of the price: the default.
	ByPrice Strategy = iota + 1
	// ByWeight draws by the deployments' weights.
	ByWeight
	// ByLatency draws among those whose observed time to the first token is
	// within a fifth of the fastest's, and those never called.
	ByLatency
	// ByLoad takes the one with the fewest calls running.
	ByLoad
	// ByCost takes the cheapest.
	ByCost
	// ByRate takes the one with the most of its rpm and tpm left.
	ByRate
	// InOrder takes the first of the config's order.
	InOrder
)

const strategyNames = "price_weighted weighted latency least_busy lowest_cost rate_limit order"

// String returns the strategy as configs spell it.
func (s Strategy) String() string {
	names := strings.Fields(strategyNames)
	if s < 1 || int(s) > len(names) {
		return fmt.Sprintf("strategy(%d)", uint8(s))
	}
	return names[s-1]
}

// CompletionRules bound the attempts of a completion.
type CompletionRules struct {
	// MaxAttempts counts all calls of providers for one completion.
	MaxAttempts int
	// RetryBudget is the share of the last calls that may be retries of
	// deployments not known to work; three are always allowed.
	RetryBudget float64
	// Timeouts are those of upstreams that set none of their own.
	Timeouts Timeouts
}

// of returns the timeouts of calls of an upstream.
func (r *CompletionRules) of(u *Upstream) Timeouts {
	own, all := &u.Timeouts, &r.Timeouts
	return Timeouts{
		Connect: cmp.Or(own.Connect, all.Connect), FirstContent: cmp.Or(own.FirstContent, all.FirstContent),
		Idle: cmp.Or(own.Idle, all.Idle), Attempt: cmp.Or(own.Attempt, all.Attempt),
	}
}

// The defaults of CompletionRules: a model that reasons may be silent for long.
const (
	DefaultMaxAttempts         = 3
	DefaultRetryBudget         = 0.2
	DefaultConnectTimeout      = 10 * time.Second
	DefaultFirstContentTimeout = 2 * time.Minute
	DefaultIdleTimeout         = time.Minute
)

// maxAttempts bounds what a config may ask for: each may be billed.
const maxAttempts = 5

// Accounts is what completions are held against. Its zero value is no budget
// and the default baseline.
type Accounts struct {
	Budget Budget
	// Baseline is the model that savings are counted against; "" for the one of
	// the best expected quality of each decision.
	Baseline string
	// Overhead is what routing one call costs by itself.
	Overhead NanoUSD
	// GatewayFee is what a hosted gateway would take; usage shows it beside.
	GatewayFee GatewayFee
}

func (b *builder) strategy(path, s string) Strategy {
	if s == "" {
		return ByPrice
	}
	for i, name := range strings.Fields(strategyNames) {
		if name == s {
			return Strategy(i + 1)
		}
	}
	b.fault(path, "%q is unknown: use one of %s", s, strings.Join(strings.Fields(strategyNames), ", "))
	return ByPrice
}

// traffic reads what bounds and weighs a deployment's share of the calls.
func (b *builder) traffic(path string, f *fileDeployment, d Deployment) Deployment {
	d.Weight, d.RPM, d.TPM, d.MaxParallel = 1, f.RPM, f.TPM, f.MaxParallel
	if f.Weight != nil {
		d.Weight = *f.Weight
		b.within(path+".weight", d.Weight, 0, 1e6)
	}
	for _, x := range [...]struct {
		key string
		n   int64
	}{{"rpm", f.RPM}, {"tpm", f.TPM}, {"max_parallel", int64(f.MaxParallel)}} {
		if x.n < 0 {
			b.fault(path+"."+x.key, "is %d: want 1 or more, or leave it out for no bound", x.n)
		}
	}
	return d
}

func (b *builder) completion(path string, f *fileCompletion) CompletionRules {
	r := CompletionRules{
		MaxAttempts: DefaultMaxAttempts, RetryBudget: DefaultRetryBudget,
		Timeouts: Timeouts{Connect: DefaultConnectTimeout, FirstContent: DefaultFirstContentTimeout, Idle: DefaultIdleTimeout},
	}
	if f.MaxAttempts != 0 {
		r.MaxAttempts = f.MaxAttempts
	}
	if r.MaxAttempts < 1 || r.MaxAttempts > maxAttempts {
		b.fault(path+".max_attempts", "is %d, want 1 to %d", f.MaxAttempts, maxAttempts)
	}
	if f.RetryBudget != nil {
		r.RetryBudget = *f.RetryBudget
		b.within(path+".retry_budget", r.RetryBudget, 0, 1)
	}
	set := b.timeouts(path, &f.Timeouts)
	r.Timeouts = r.of(&Upstream{Timeouts: set})
	return r
}

// timeouts reads those that are written; the others are 0.
func (b *builder) timeouts(path string, f *fileTimeouts) Timeouts {
	t := Timeouts{
		Connect: b.duration(path+".connect_timeout", f.Connect), FirstContent: b.duration(path+".first_content_timeout", f.FirstContent),
		Idle: b.duration(path+".idle_timeout", f.Idle), Attempt: b.duration(path+".attempt_timeout", f.Attempt),
	}
	if t.Attempt > 0 && t.FirstContent > t.Attempt {
		b.fault(path+".first_content_timeout", "is %s, longer than attempt_timeout, %s, which ends the call before: lower the one or raise the other", t.FirstContent, t.Attempt)
	}
	return t
}
