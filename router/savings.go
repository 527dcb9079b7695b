package router

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Plus adds; ErrOverflow wrapped where the sum does not fit.
func (n NanoUSD) Plus(m NanoUSD) (NanoUSD, error) {
	sum := n + m
	if (m > 0 && sum < n) || (m < 0 && sum > n) {
		return 0, fmt.Errorf("%s plus %s: %w", n, m, ErrOverflow)
	}
	return sum, nil
}

// Minus subtracts; ErrOverflow wrapped where the difference does not fit.
func (n NanoUSD) Minus(m NanoUSD) (NanoUSD, error) {
	diff := n - m
	if (m > 0 && diff > n) || (m < 0 && diff < n) {
		return 0, fmt.Errorf("%s minus %s: %w", n, m, ErrOverflow)
	}
	return diff, nil
}

// BaselineCost is what the same calls would have cost at the baseline: the same
// text in, an answer of the same text out. Token counts are turned from the
// serving model's tokenizer to the baseline's by the ratio of the two cards'
// token_ratio, kind by kind. That the baseline would have answered equally long
// is an assumption: a terser baseline saves less than this says, a wordier one
// more. u is of the calls that answered, calls their number; retries and failed
// attempts belong to what was spent, not to the baseline.
//
// It returns ErrPriceUnknown or ErrOverflow wrapped.
func BaselineCost(baseline, served *Model, calls int64, u Usage) (NanoUSD, error) {
	if err := u.Validate(); err != nil {
		return 0, fmt.Errorf("baseline cost: %w", err)
	}
	if calls < 0 {
		return 0, fmt.Errorf("baseline cost: %d calls: want 0 or more", calls)
	}
	ratio := 1.0
	if baseline.TokenRatio > 0 && served.TokenRatio > 0 {
		ratio = baseline.TokenRatio / served.TokenRatio
	}
	fresh, cached, write := u.Input-u.CachedInput-u.CacheWrite, u.CachedInput, u.CacheWrite
	said, thought := u.Output-u.Reasoning, u.Reasoning
	for _, n := range [...]*int64{&fresh, &cached, &write, &said, &thought} {
		there := math.RoundToEven(float64(*n) * ratio)
		if there > 1<<60 {
			return 0, fmt.Errorf("baseline cost of %d tokens: %w", *n, ErrOverflow)
		}
		if ratio != 1 {
			*n = int64(there)
		}
	}
	price := baseline.Price
	price.PerRequest = Rate{}
	cost, err := price.Cost(Usage{Input: fresh + cached + write, CachedInput: cached, CacheWrite: write, Output: said + thought, Reasoning: thought})
	if err != nil {
		return 0, fmt.Errorf("baseline %s: %w", baseline.ID, err)
	}
	var requests wide
	if !requests.addProduct(uint64(calls), uint64(max(baseline.Price.PerRequest.Nano, 0))) || requests.hi > 0 || requests.lo > math.MaxInt64 {
		return 0, fmt.Errorf("baseline %s: %d requests: %w", baseline.ID, calls, ErrOverflow)
	}
	return cost.Plus(NanoUSD(requests.lo))
}

// GatewayFee is what a hosted gateway would take for the same calls: any of a
// share of what is spent, an amount a call, and an amount a million tokens.
type GatewayFee struct {
	// Share is in millionths: 5.5 % is 55,000.
	Share int64
	// PerCall is for one call, PerMillion for a million tokens, input and
	// output together.
	PerCall, PerMillion NanoUSD
}

// IsZero tells whether no fee was entered.
func (f GatewayFee) IsZero() bool { return f == GatewayFee{} }

// Of is the fee for what was spent, exactly and rounded once, half to even. No
// argument may be negative; ErrOverflow wrapped.
func (f GatewayFee) Of(spent NanoUSD, calls, tokens int64) (NanoUSD, error) {
	if spent < 0 || calls < 0 || tokens < 0 || f.Share < 0 || f.PerCall < 0 || f.PerMillion < 0 {
		return 0, fmt.Errorf("gateway fee of %s, %d calls, %d tokens: an amount is negative", spent, calls, tokens)
	}
	hi, lo := bits.Mul64(uint64(calls), million)
	var sum wide
	ok := hi == 0 && sum.addProduct(uint64(spent), uint64(f.Share)) && sum.addProduct(lo, uint64(f.PerCall)) && sum.addProduct(uint64(tokens), uint64(f.PerMillion))
	if !ok {
		return 0, fmt.Errorf("gateway fee: %w", ErrOverflow)
	}
	n, ok := sum.dividedByMillion()
	if !ok {
		return 0, fmt.Errorf("gateway fee: %w", ErrOverflow)
	}
	return n, nil
}

// ParseShare reads an exact percentage such as "5.5%", at most four decimals and
// at most 100 %, as millionths.
func ParseShare(s string) (int64, error) {
	fault := fmt.Errorf("%q is no percentage: write 0%% to 100%% with at most four decimals, such as \"5.5%%\"", s)
	digits, ok := strings.CutSuffix(s, "%")
	whole, frac, _ := strings.Cut(strings.TrimSpace(digits), ".")
	if !ok || whole == "" || len(frac) > 4 || !onlyDigits(whole) || !onlyDigits(frac) {
		return 0, fault
	}
	n, err := strconv.ParseInt(whole+frac+strings.Repeat("0", 4-len(frac)), 10, 64)
	if err != nil || n > million {
		return 0, fault
	}
	return n, nil
}

// Plus adds count by count; ErrOverflow wrapped. The sum is estimated where
// either is.
func (u Usage) Plus(v Usage) (Usage, error) {
	out := Usage{
		Input: u.Input + v.Input, CachedInput: u.CachedInput + v.CachedInput, CacheWrite: u.CacheWrite + v.CacheWrite,
		Output: u.Output + v.Output, Reasoning: u.Reasoning + v.Reasoning, Estimated: u.Estimated || v.Estimated,
	}
	for _, x := range [...]Usage{u, v, out} {
		if err := x.Validate(); err != nil {
			return Usage{}, fmt.Errorf("tokens: %w: %w", ErrOverflow, err)
		}
	}
	return out, nil
}

// The budget's windows. A day and a month are of UTC.
const (
	WindowDay   = "day"
	WindowMonth = "month"
	WindowTotal = "total"
)

type fileAccounts struct {
	Budget     *fileBudget     `yaml:"budget"`
	Baseline   string          `yaml:"baseline"`
	Overhead   string          `yaml:"overhead"`
	GatewayFee *fileGatewayFee `yaml:"gateway_fee"`
}

type fileBudget struct {
	Limit  string `yaml:"limit"`
	Window string `yaml:"window"`
}

type fileGatewayFee struct {
	Share   string `yaml:"share"`
	PerCall string `yaml:"per_call"`
	Tokens  string `yaml:"tokens"`
}

// accounts reads what calls are held against; the catalog names the baseline.
func (b *builder) accounts(path string, f *fileAccounts, c *Catalog) Accounts {
	out := Accounts{Baseline: f.Baseline}
	if f.Budget != nil {
		out.Budget = Budget{Limit: b.amount(path+".budget.limit", f.Budget.Limit, ""), Window: f.Budget.Window}
		switch f.Budget.Window {
		case WindowDay, WindowMonth, WindowTotal:
		default:
			b.fault(path+".budget.window", "%q is unknown: use day, month or total", f.Budget.Window)
		}
	}
	if f.Baseline != "" {
		if m, ok := c.Model(f.Baseline); !ok {
			b.fault(path+".baseline", "%q is no model of this config: name one of its models", f.Baseline)
		} else if !m.Price.Input.Known || !m.Price.Output.Known {
			b.fault(path+".baseline", "%q has no price: name a model that has one, or give it a price", f.Baseline)
		}
	}
	if f.Overhead != "" {
		out.Overhead = b.amount(path+".overhead", f.Overhead, "")
	}
	if g := f.GatewayFee; g != nil {
		out.GatewayFee = b.gatewayFee(path+".gateway_fee", g)
	}
	return out
}

func (b *builder) gatewayFee(path string, f *fileGatewayFee) GatewayFee {
	var out GatewayFee
	if f.Share != "" {
		var err error
		out.Share, err = ParseShare(f.Share)
		b.check(path+".share", err)
	}
	if f.PerCall != "" {
		out.PerCall = b.amount(path+".per_call", f.PerCall, "")
	}
	if f.Tokens != "" {
		out.PerMillion = b.amount(path+".tokens", f.Tokens, "/M")
	}
	return out
}
