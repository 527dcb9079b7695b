package eval

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mathext"

	"github.com/weirhq/weir/classifier"
)

// GuaranteeConfig is what a promise is calibrated from: one row a prompt of the
// traffic that it is to hold for.
type GuaranteeConfig struct {
	// Gap is the strong model's expected quality less the weak one's, as Decide
	// sees them; Loss the strong outcome less the weak one. They are of equal length.
	Gap, Loss []float64
	// Domain is each prompt's predicted domain; nil leaves the domains out.
	Domain []classifier.Domain
	// Epsilon is the loss of quality that counts as a violation, Alpha the share
	// of violations allowed, Delta the chance that the promise is wrong; all
	// between 0 and 1.
	Epsilon, Alpha, Delta float64
}

// Guaranteed is a calibrated threshold: prompts whose gap is at most Threshold
// go to the weak model.
type Guaranteed struct {
	// Threshold is what a policy calls max_quality_gap.
	Threshold float64 `json:"max_quality_gap"`
	// N prompts were calibrated on; at the threshold Weak of them go to the weak
	// model and Violations lose more than epsilon.
	N          int `json:"n"`
	Weak       int `json:"weak"`
	Violations int `json:"violations"`
	// Bound is the upper confidence bound of the share of violations
	// (Clopper-Pearson at 1 - delta): at most alpha.
	Bound float64 `json:"bound"`
	// Delta is the part of delta that this threshold spends.
	Delta float64 `json:"delta"`
	// Hoeffding is the threshold that Hoeffding's inequality would allow, to show
	// what the exact bound is worth; -1 where it allows none.
	Hoeffding float64 `json:"hoeffding_max_quality_gap"`
}

// Promise is the answer of CalibrateGuarantee.
type Promise struct {
	Epsilon float64 `json:"epsilon"`
	Alpha   float64 `json:"alpha"`
	Delta   float64 `json:"delta"`
	// All holds over the whole traffic.
	All Guaranteed `json:"all"`
	// Domains hold within a predicted domain, all of them and All together with
	// confidence 1 - delta. Refused says why a domain has none. All is of one gap for
	// every prompt: it does not hold for the rest where Domains' gaps are served.
	Domains map[string]Guaranteed `json:"domains,omitempty"`
	Refused map[string]string     `json:"refused,omitempty"`
}

// NotEnoughError means that a promise cannot be kept with the data given.
type NotEnoughError struct {
	// N prompts were given, Needed are the fewest that could ever do.
	N, Needed int
	// Violations are those that no threshold avoids.
	Violations int
}

// Error says what would help.
func (e *NotEnoughError) Error() string {
	if e.N < e.Needed {
		return fmt.Sprintf("%d prompts are too few: without a single violation at least %d are needed; calibrate on more, or ask for a larger alpha or delta", e.N, e.Needed)
	}
	return fmt.Sprintf("%d of %d prompts lose too much at the strictest threshold already: ask for a larger epsilon or alpha, or send everything to the strong model", e.Violations, e.N)
}

// thresholdStep is the grid of thresholds, fixed before any data is seen.
const thresholdStep = 0.002

// CalibrateGuarantee chooses the loosest threshold at which the share of prompts
// that lose more than epsilon is at most alpha with confidence 1 - delta.
//
// Learn then test (Angelopoulos, Bates, Candès, Jordan, Lei, 2021) with fixed
// sequence testing: the thresholds are tried from the strictest, each by the
// exact binomial test of "the risk is above alpha" at level delta (the test
// behind the Clopper-Pearson bound), and the last before the first failure is
// taken. The family-wise error is at most delta, whatever the data, as long as
// they are independent draws of the traffic. Domains share delta evenly with the
// whole. It returns a *NotEnoughError where no threshold passes.
func CalibrateGuarantee(cfg *GuaranteeConfig) (*Promise, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("calibrate: %w", err)
	}
	byDomain := map[classifier.Domain][]int{}
	for i, d := range cfg.Domain {
		byDomain[d] = append(byDomain[d], i)
	}
	out := &Promise{Epsilon: cfg.Epsilon, Alpha: cfg.Alpha, Delta: cfg.Delta}
	// A domain that cannot pass spends nothing.
	var domains []classifier.Domain
	for d := classifier.Domain(1); int(d) <= classifier.NumDomains; d++ {
		if n := len(byDomain[d]); n > 0 && n < fewest(cfg.Alpha, cfg.Delta/(classifier.NumDomains+1)) {
			out.refuse(d, &NotEnoughError{N: n, Needed: fewest(cfg.Alpha, cfg.Delta/(classifier.NumDomains+1))})
		} else if n > 0 {
			domains = append(domains, d)
		}
	}
	delta := cfg.Delta / float64(1+len(domains))
	all := make([]int, len(cfg.Gap))
	for i := range all {
		all[i] = i
	}
	var err error
	if out.All, err = cfg.choose(all, delta); err != nil {
		return nil, fmt.Errorf("calibrate: %w", err)
	}
	for _, d := range domains {
		g, err := cfg.choose(byDomain[d], delta)
		if err != nil {
			out.refuse(d, err)
			continue
		}
		if out.Domains == nil {
			out.Domains = map[string]Guaranteed{}
		}
		out.Domains[d.String()] = g
	}
	return out, nil
}

func (p *Promise) refuse(d classifier.Domain, err error) {
	if p.Refused == nil {
		p.Refused = map[string]string{}
	}
	p.Refused[d.String()] = err.Error()
}

func (c *GuaranteeConfig) check() error {
	var errs []error
	for name, v := range map[string]float64{"epsilon": c.Epsilon, "alpha": c.Alpha, "delta": c.Delta} {
		if low := name == "epsilon" && v == 0; !low && !(v > 0 && v < 1) {
			errs = append(errs, fmt.Errorf("%s is %v: give a number between 0 and 1", name, v))
		}
	}
	if len(c.Gap) != len(c.Loss) || (c.Domain != nil && len(c.Domain) != len(c.Gap)) {
		errs = append(errs, fmt.Errorf("%d gaps, %d losses and %d domains: give one of each a prompt", len(c.Gap), len(c.Loss), len(c.Domain)))
	}
	for i := range c.Gap {
		if math.IsNaN(c.Gap[i]) || (i < len(c.Loss) && math.IsNaN(c.Loss[i])) {
			errs = append(errs, fmt.Errorf("row %d is not a number", i))
			break
		}
	}
	return errors.Join(errs...)
}

// choose walks the grid from the strictest threshold up to 1.
func (c *GuaranteeConfig) choose(rows []int, delta float64) (Guaranteed, error) {
	n := len(rows)
	// A threshold at or above the gap sends the prompt to the weak model: count
	// by the first grid step that does.
	steps := int(math.Round(1 / thresholdStep))
	weak, lost := make([]int, steps+1), make([]int, steps+1)
	for _, i := range rows {
		at := max(int(math.Ceil(c.Gap[i]/thresholdStep-1e-9)), 0)
		if at > steps {
			continue
		}
		weak[at]++
		if c.Loss[i] > c.Epsilon {
			lost[at]++
		}
	}
	best := Guaranteed{N: n, Delta: delta, Threshold: -1, Hoeffding: -1}
	sent, violations, exact, loose := 0, 0, true, true
	strictest := 0
	for at := range weak {
		sent, violations = sent+weak[at], violations+lost[at]
		if at == 0 {
			strictest = violations
		}
		if exact = exact && passes(violations, n, c.Alpha, delta); exact {
			best.Threshold, best.Weak, best.Violations = threshold(at), sent, violations
		}
		if loose = loose && hoeffdingPasses(violations, n, c.Alpha, delta); loose {
			best.Hoeffding = threshold(at)
		}
	}
	if best.Threshold < 0 {
		return best, &NotEnoughError{N: n, Needed: fewest(c.Alpha, delta), Violations: strictest}
	}
	best.Bound = upperBound(best.Violations, n, delta)
	return best, nil
}

// threshold is the grid's step at, without the noise of floating point.
func threshold(at int) float64 { return math.Round(float64(at)*thresholdStep*1e9) / 1e9 }

// passes tests "the risk is above alpha" with k violations in n: the chance of
// so few under a risk of alpha is at most delta.
func passes(k, n int, alpha, delta float64) bool {
	if n == 0 || k >= n {
		return false
	}
	// P(Binomial(n, alpha) <= k) is the regularised incomplete beta function.
	return mathext.RegIncBeta(float64(n-k), float64(k+1), 1-alpha) <= delta
}

func hoeffdingPasses(k, n int, alpha, delta float64) bool {
	if n == 0 {
		return false
	}
	short := alpha - float64(k)/float64(n)
	return short > 0 && math.Exp(-2*float64(n)*short*short) <= delta
}

// upperBound is the Clopper-Pearson upper bound of a share at confidence 1 - delta.
func upperBound(k, n int, delta float64) float64 {
	if k >= n {
		return 1
	}
	return mathext.InvRegIncBeta(float64(k+1), float64(n-k), 1-delta)
}

// fewest prompts with which a promise can pass: those without any violation.
func fewest(alpha, delta float64) int {
	return int(math.Ceil(math.Log(delta) / math.Log1p(-alpha)))
}
