package router

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// NanoUSD is an amount of money in nano-dollars: 1e-9 US dollars. Micros are
// too coarse: 40 cached tokens at $0.007 a million are 280 nano-dollars.
type NanoUSD int64

// Errors of money arithmetic.
var (
	// ErrPriceUnknown means that tokens were used whose price is not known.
	// Unknown is not free.
	ErrPriceUnknown = errors.New("price is unknown")
	// ErrOverflow means that a sum does not fit 63 bits of nano-dollars.
	ErrOverflow = errors.New("amount overflows")
)

// String writes the amount in dollars with as many digits as it needs, two at
// least: $0.25, $0.00000028, -$1.50.
func (n NanoUSD) String() string {
	u, sign := uint64(n), ""
	if n < 0 {
		u, sign = -u, "-"
	}
	frac := strings.TrimRight(fmt.Sprintf("%09d", u%1e9), "0")
	for len(frac) < 2 {
		frac += "0"
	}
	return fmt.Sprintf("%s$%d.%s", sign, u/1e9, frac)
}

// ParseUSD reads an exact amount such as "$0.25"; at most nine decimals, no
// sign, no exponent.
func ParseUSD(s string) (NanoUSD, error) {
	digits, ok := strings.CutPrefix(s, "$")
	if !ok {
		return 0, fmt.Errorf("amount %q has no unit: write dollars, such as \"$0.25\"", s)
	}
	whole, frac, _ := strings.Cut(digits, ".")
	if whole == "" || len(frac) > 9 || strings.HasSuffix(digits, ".") || !onlyDigits(whole) || !onlyDigits(frac) {
		return 0, fmt.Errorf("amount %q is not dollars with at most nine decimals, such as \"$0.25\"", s)
	}
	n, err := strconv.ParseInt(whole+frac+strings.Repeat("0", 9-len(frac)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("amount %q: %w", s, ErrOverflow)
	}
	return NanoUSD(n), nil
}

func onlyDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// Rate is a price that may be unknown: nano-dollars for a million tokens, or
// for one request.
type Rate struct {
	Nano  NanoUSD
	Known bool
}

// RateOf is a known rate.
func RateOf(n NanoUSD) Rate { return Rate{Nano: n, Known: true} }

// Price is what a model costs by kind of token. Cached input and cache writes
// of unknown price are billed as input, reasoning as output, a request as free:
// that is how providers bill what they do not list.
type Price struct {
	Input, CachedInput, CacheWrite, Output, Reasoning, PerRequest Rate
	// Source and Date say where and when (YYYY-MM-DD) the figures were read.
	Source, Date string
}

// Usage counts tokens as providers bill them: Input includes CachedInput and
// CacheWrite, Output includes Reasoning.
type Usage struct {
	Input, CachedInput, CacheWrite, Output, Reasoning int64
	// Estimated marks counts that the provider did not report.
	Estimated bool
}

// Validate reports a negative count, or a part that is larger than its whole.
func (u Usage) Validate() error {
	if min(u.Input, u.CachedInput, u.CacheWrite, u.Output, u.Reasoning) < 0 {
		return fmt.Errorf("usage %+v has a negative count", u)
	}
	if u.CachedInput > u.Input-u.CacheWrite || u.Reasoning > u.Output {
		return fmt.Errorf("usage %+v has a part larger than its whole", u)
	}
	return nil
}

const million = 1_000_000

// Cost prices a usage exactly: 128-bit products, summed, then rounded once,
// half to even. It returns ErrPriceUnknown when a used kind has no price and
// ErrOverflow above about nine billion dollars.
func (p Price) Cost(u Usage) (NanoUSD, error) {
	if err := u.Validate(); err != nil {
		return 0, fmt.Errorf("cost: %w", err)
	}
	var sum wide
	for _, part := range [...]struct {
		tokens int64
		rate   Rate
		name   string
	}{
		{u.Input - u.CachedInput - u.CacheWrite, p.Input, "input"},
		{u.CachedInput, p.CachedInput.or(p.Input), "cached input"},
		{u.CacheWrite, p.CacheWrite.or(p.Input), "cache write"},
		{u.Output - u.Reasoning, p.Output, "output"},
		{u.Reasoning, p.Reasoning.or(p.Output), "reasoning"},
		{million, p.PerRequest.or(RateOf(0)), "per request"},
	} {
		if part.tokens == 0 {
			continue
		}
		if !part.rate.Known {
			return 0, fmt.Errorf("cost of %d %s tokens: %w", part.tokens, part.name, ErrPriceUnknown)
		}
		if part.rate.Nano < 0 {
			return 0, fmt.Errorf("cost of %s tokens: negative price %d", part.name, part.rate.Nano)
		}
		if !sum.addProduct(uint64(part.tokens), uint64(part.rate.Nano)) {
			return 0, fmt.Errorf("cost: %w", ErrOverflow)
		}
	}
	n, ok := sum.dividedByMillion()
	if !ok {
		return 0, fmt.Errorf("cost: %w", ErrOverflow)
	}
	return n, nil
}

func (r Rate) or(other Rate) Rate {
	if r.Known {
		return r
	}
	return other
}

// upperRates are the dearest rates that a call's input and output can be billed
// at, so that a bound holds whatever a model caches or thinks.
type upperRates struct {
	input, output, perRequest NanoUSD
	known                     bool
}

func (p *Price) upper() upperRates {
	u := upperRates{known: p.Input.Known && p.Output.Known, input: p.Input.Nano, output: p.Output.Nano, perRequest: p.PerRequest.Nano}
	if p.CacheWrite.Known {
		u.input = max(u.input, p.CacheWrite.Nano)
	}
	if p.Reasoning.Known {
		u.output = max(u.output, p.Reasoning.Nano)
	}
	return u
}

// cost is the most that a call can cost; false where it overflows.
func (u *upperRates) cost(input, output int64) (NanoUSD, bool) {
	var sum wide
	ok := sum.addProduct(uint64(input), uint64(u.input)) && sum.addProduct(uint64(output), uint64(u.output)) && sum.addProduct(million, uint64(u.perRequest))
	if !ok {
		return 0, false
	}
	return sum.dividedByMillion()
}

// affords returns how many output tokens a budget pays for beside what is
// already spent of it: the floor, so that the bound holds.
func (u *upperRates) affords(budget, spent NanoUSD) int64 {
	if budget < spent {
		return 0
	}
	if u.output <= 0 {
		return math.MaxInt64
	}
	hi, lo := bits.Mul64(uint64(budget-spent), million)
	if hi >= uint64(u.output) {
		return math.MaxInt64
	}
	n, _ := bits.Div64(hi, lo, uint64(u.output))
	return int64(min(n, math.MaxInt64))
}

// wide is an unsigned 128-bit sum.
type wide struct{ hi, lo uint64 }

func (w *wide) addProduct(a, b uint64) bool {
	hi, lo := bits.Mul64(a, b)
	var carry uint64
	w.lo, carry = bits.Add64(w.lo, lo, 0)
	w.hi, carry = bits.Add64(w.hi, hi, carry)
	return carry == 0
}

func (w *wide) dividedByMillion() (NanoUSD, bool) {
	if w.hi >= million {
		return 0, false
	}
	q, rem := w.lo/million, w.lo%million
	if w.hi != 0 {
		q, rem = bits.Div64(w.hi, w.lo, million)
	}
	if rem > million/2 || (rem == million/2 && q%2 == 1) {
		q++
	}
	if q > math.MaxInt64 {
		return 0, false
	}
	return NanoUSD(q), true
}
