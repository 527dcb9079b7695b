package router

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/weirhq/weir/classifier"
)

// filter holds what the assessment of every candidate shares.
type filter struct {
	demand  *Demand
	policy  *Policy
	limits  Limits
	removed [numRejections]bool
}

// MediaTokens is what one image, audio or document part is taken to cost in
// input tokens, from above: providers bill a large image as 1,100 to 1,600.
const MediaTokens = 2000

// Without a score, an answer is taken to be this long.
const (
	unscoredOutput    = 512
	unscoredOutputP90 = 2048
)

// assess says what is expected of one model and whether it may serve.
func (f *filter) assess(m *Model) Candidate {
	c := Candidate{Model: m}
	f.estimate(&c)
	if reject, detail := f.reject(&c); reject != 0 {
		c.Rejection, c.Detail = reject, detail
		f.removed[reject] = true
	}
	return c
}

// estimate fills in tokens, costs and quality.
func (f *filter) estimate(c *Candidate) {
	d, m := f.demand, c.Model
	expected, p90, scored := float64(unscoredOutput), float64(unscoredOutputP90), 0.0
	if d.Scored {
		expected, p90, scored = d.Scores.OutputTokens, d.Scores.OutputTokensP90, float64(d.Scores.InputTokens)
	}
	ceil := func(x float64) int64 { return int64(math.Ceil(math.Min(x, 1<<53))) }
	c.InputTokens = ceil(m.TokenRatio * (scored + float64(d.UnscoredTokens)))
	limit := min(m.MaxOutputTokens, max(m.ContextWindow-c.InputTokens, 0))
	if d.MaxOutputTokens > 0 {
		limit = min(limit, d.MaxOutputTokens)
	}
	// A window or a budget too small for the 90th percentile is a reason to reject.
	c.P90Output = min(ceil(m.TokenRatio*p90), m.MaxOutputTokens)
	if d.MaxOutputTokens > 0 {
		c.P90Output = min(c.P90Output, d.MaxOutputTokens)
	}
	c.MaxOutput = limit
	c.PriceKnown = m.Price.Input.Known && m.Price.Output.Known
	if c.PriceKnown && f.limits.MaxCost.Set {
		input, err := m.Price.Cost(Usage{Input: c.InputTokens})
		if err != nil {
			c.MaxOutput = 0
		} else {
			c.MaxOutput = min(limit, m.Price.affords(f.limits.MaxCost.Value, input))
		}
	}
	c.OutputTokens = min(ceil(m.TokenRatio*expected), c.P90Output)
	if c.PriceKnown {
		f.price(c)
	}
	if d.Scored {
		c.Quality, c.Unmeasured = m.quality(&d.Scores)
	} else {
		c.Unmeasured = true
	}
}

// price sets the three costs; a sum that overflows counts as unknown.
func (f *filter) price(c *Candidate) {
	for _, x := range [...]struct {
		to     *NanoUSD
		output int64
	}{{&c.Expected, c.OutputTokens}, {&c.P90, c.P90Output}, {&c.Bound, c.MaxOutput}} {
		cost, err := c.Model.Price.upper().Cost(Usage{Input: c.InputTokens, Output: x.output})
		if err != nil {
			c.PriceKnown = false
			return
		}
		*x.to = cost
	}
}

// upper prices output at the dearer of output and reasoning, so that a bound
// holds whatever the model does.
func (p Price) upper() Price {
	if p.Reasoning.Known && p.Reasoning.Nano > p.Output.Nano {
		p.Output = p.Reasoning
	}
	if p.CacheWrite.Known && p.CacheWrite.Nano > p.Input.Nano {
		p.Input = p.CacheWrite
	}
	return p
}

// quality is the model's expected quality: its own curve where outcomes were
// recorded, else its tier's reference curve with an interval that spans both.
func (m *Model) quality(s *classifier.Scores) (q classifier.Estimate, unmeasured bool) {
	if k := m.Quality; k != nil {
		domain, _ := s.Domain()
		y := k.Intercept + k.Efficient*classifier.Logit(s.QEfficient.Value) + k.High*classifier.Logit(s.QHigh.Value) + k.Domain[domain.Index()]
		return classifier.Estimate{
			Value: classifier.Sigmoid(y),
			Low:   classifier.Sigmoid(y - k.HalfWidth),
			High:  classifier.Sigmoid(y + k.HalfWidth),
		}, false
	}
	e, h := s.QEfficient, s.QHigh
	own := e
	if m.EffectiveTier() == HighPerformance {
		own = h
	}
	return classifier.Estimate{Value: own.Value, Low: min(e.Low, h.Low), High: max(e.High, h.High)}, true
}

// reject returns the first filter that the candidate fails, or zero.
func (f *filter) reject(c *Candidate) (Rejection, string) {
	d, m := f.demand, c.Model
	tier := m.EffectiveTier()
	switch {
	case len(d.Override.Models) > 0 && !slices.Contains(d.Override.Models, m.ID):
		return RejectedNotNamed, "the request named other models"
	case d.Override.Tier != 0 && d.Override.Tier != m.Tier:
		return RejectedNotNamed, fmt.Sprintf("its tier is %s, the request named %s", m.Tier, d.Override.Tier)
	case len(d.Allow) > 0 && !matchAny(d.Allow, m.ID), len(f.policy.Allow) > 0 && !matchAny(f.policy.Allow, m.ID):
		return RejectedNotAllowed, "no glob of the allow list matches it"
	case matchAny(d.Deny, m.ID) || matchAny(f.policy.Deny, m.ID):
		return RejectedDenied, "a glob of the deny list matches it"
	case d.Required&^m.Capabilities != 0:
		return RejectedCapability, fmt.Sprintf("it lacks %v", (d.Required &^ m.Capabilities).Names())
	case c.InputTokens+c.P90Output > m.ContextWindow:
		return RejectedContextWindow, fmt.Sprintf("about %d input and %d output tokens do not fit its window of %d", c.InputTokens, c.P90Output, m.ContextWindow)
	}
	if reject, detail := f.rejectDomain(c); reject != 0 {
		return reject, detail
	}
	if reject, detail := f.rejectMoney(c); reject != 0 {
		return reject, detail
	}
	if reject, detail := f.rejectProvider(m); reject != 0 {
		return reject, detail
	}
	switch {
	case f.limits.MaxTTFT.Set && (m.TTFT == 0 || m.TTFT > f.limits.MaxTTFT.Value):
		return RejectedMaxTTFT, fmt.Sprintf("its time to the first token is %s, the limit %s", ttftText(m), f.limits.MaxTTFT.Value)
	case f.limits.MaxTier.Set && tier > f.limits.MaxTier.Value:
		return RejectedAboveMaxTier, fmt.Sprintf("it counts as %s, above the ceiling %s", tier, f.limits.MaxTier.Value)
	case f.limits.MinTier.Set && tier < f.limits.MinTier.Value:
		// Last, because a downgrade may use what only this filter removed.
		return RejectedBelowMinTier, fmt.Sprintf("it counts as %s, below the floor %s", tier, f.limits.MinTier.Value)
	}
	return 0, ""
}

func ttftText(m *Model) string {
	if m.TTFT == 0 {
		return "unknown"
	}
	return m.TTFT.String()
}

// rejectDomain keeps specialists to their domains. A request that named the
// model, or the specialists' tier, has settled that itself.
func (f *filter) rejectDomain(c *Candidate) (Rejection, string) {
	d, m := f.demand, c.Model
	if m.Tier != DomainSpecialist || len(d.Override.Models) > 0 {
		return 0, ""
	}
	if !d.Scored {
		return RejectedDomain, "the prompt's domain is unknown"
	}
	sum := 0.0
	for _, domain := range m.Domains {
		sum += d.Scores.Domains[domain.Index()]
	}
	need := f.policy.SpecialistMinConfidence
	if d.Override.Tier == DomainSpecialist {
		need = 1.0 / classifier.NumDomains
	}
	if sum < need {
		return RejectedDomain, fmt.Sprintf("its domains have probability %.2f, needed is %.2f", sum, need)
	}
	return 0, ""
}

func (f *filter) rejectMoney(c *Candidate) (Rejection, string) {
	price, l := c.Model.Price, f.limits
	if (l.MaxCost.Set || l.MaxOutputPrice.Set) && !c.PriceKnown {
		return RejectedPriceUnknown, "its price is unknown"
	}
	if l.MaxOutputPrice.Set && price.upper().Output.Nano > l.MaxOutputPrice.Value {
		return RejectedMaxPrice, fmt.Sprintf("its output price is %s/M, the ceiling %s/M", price.upper().Output.Nano, l.MaxOutputPrice.Value)
	}
	if l.MaxCost.Set && (c.P90 > l.MaxCost.Value || c.MaxOutput < c.P90Output) {
		return RejectedMaxCost, fmt.Sprintf("%d output tokens cost %s, the limit is %s", c.P90Output, c.P90, l.MaxCost.Value)
	}
	return 0, ""
}

func (f *filter) rejectProvider(m *Model) (Rejection, string) {
	d := f.demand
	usable, callable := false, false
	for _, dep := range m.Deployments {
		if d.Provider.admits(dep.Upstream) {
			usable, callable = true, callable || dep.Upstream.Callable
		}
	}
	restricts := len(d.Provider.Only)+len(d.Provider.Ignore) > 0 || d.Provider.Data == DataDeny || d.Provider.strictOrder()
	switch {
	case restricts && !usable:
		return RejectedProvider, "no deployment of it passes the provider rules"
	case d.CallableOnly && !callable:
		return RejectedNotCallable, "none of its upstreams has a key on this server"
	}
	return 0, ""
}

func (p *ProviderRules) strictOrder() bool {
	return len(p.Order) > 0 && p.AllowFallbacks.Set && !p.AllowFallbacks.Value
}

func (p *ProviderRules) admits(u *Upstream) bool {
	switch {
	case len(p.Only) > 0 && !slices.Contains(p.Only, u.ID), slices.Contains(p.Ignore, u.ID):
		return false
	case p.Data == DataDeny && u.Data != DataDeny:
		return false
	default:
		return !p.strictOrder() || slices.Contains(p.Order, u.ID)
	}
}

// FirstDeployment is the deployment that serves a model first under the rules:
// the first of order, else the first that the rules admit, callable before not.
func (p *ProviderRules) FirstDeployment(m *Model) (Deployment, bool) {
	best, at := Deployment{}, math.MaxInt
	for i, dep := range m.Deployments {
		if !p.admits(dep.Upstream) {
			continue
		}
		rank := i
		if !dep.Upstream.Callable {
			rank += len(m.Deployments)
		}
		if o := slices.Index(p.Order, dep.Upstream.ID); o >= 0 {
			rank = o - len(p.Order)
		}
		if rank < at {
			best, at = dep, rank
		}
	}
	return best, at != math.MaxInt
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
