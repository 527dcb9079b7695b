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
	// needed is the expected quality that is good enough.
	needed float64
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
func (f *filter) assess(m *Model, c *Candidate) {
	c.Model = m
	f.estimate(c)
	c.Rejection = f.reject(c)
	f.removed[c.Rejection] = true
}

// estimate fills in tokens, costs and quality.
func (f *filter) estimate(c *Candidate) {
	d, m := f.demand, c.Model
	expected, p90, scored := float64(unscoredOutput), float64(unscoredOutputP90), 0.0
	if d.Scored {
		expected, p90, scored = d.Scores.OutputTokens, d.Scores.OutputTokensP90, float64(d.Scores.InputTokens)
	}
	c.InputTokens = ceil(m.TokenRatio * (scored + float64(d.UnscoredTokens)))
	// A window or a budget too small for the 90th percentile is a reason to reject.
	c.P90Output = min(ceil(m.TokenRatio*p90), m.MaxOutputTokens)
	c.MaxOutput = min(m.MaxOutputTokens, max(m.ContextWindow-c.InputTokens, 0))
	if d.MaxOutputTokens > 0 {
		c.MaxOutput, c.P90Output = min(c.MaxOutput, d.MaxOutputTokens), min(c.P90Output, d.MaxOutputTokens)
	}
	c.OutputTokens = min(ceil(m.TokenRatio*expected), c.P90Output)
	f.price(c)
	c.Unmeasured = true
	if d.Scored {
		c.Quality, c.Unmeasured = m.quality(&d.Scores)
	}
}

// ceil rounds up to tokens, within what a float holds exactly.
func ceil(x float64) int64 { return int64(math.Ceil(min(x, 1<<53))) }

// price sets the costs, and lowers the output limit to what max_cost affords. A
// sum that overflows counts as an unknown price.
func (f *filter) price(c *Candidate) {
	rates := &c.Model.rates
	input, ok := rates.cost(c.InputTokens, 0)
	if c.PriceKnown = rates.known && ok; !c.PriceKnown {
		return
	}
	if f.limits.MaxCost.Set {
		c.MaxOutput = min(c.MaxOutput, rates.affords(f.limits.MaxCost.Value, input))
	}
	for _, x := range [...]struct {
		to     *NanoUSD
		output int64
	}{{&c.Expected, c.OutputTokens}, {&c.P90, c.P90Output}, {&c.Bound, c.MaxOutput}} {
		if *x.to, ok = rates.cost(c.InputTokens, x.output); !ok {
			c.PriceKnown = false
			return
		}
	}
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

// reject returns the first filter that the candidate fails, or zero. The tier
// floor is the last one, because a downgrade may use what only it removed.
func (f *filter) reject(c *Candidate) Rejection {
	d, m, l := f.demand, c.Model, &f.limits
	barred := f.policy.bars(m)
	switch {
	case len(d.Override.Models) > 0 && !slices.Contains(d.Override.Models, m.ID), d.Override.Tier != 0 && d.Override.Tier != m.Tier:
		return RejectedNotNamed
	case len(d.Allow) > 0 && !matchAny(d.Allow, m.ID), barred == RejectedNotAllowed:
		return RejectedNotAllowed
	case matchAny(d.Deny, m.ID), barred == RejectedDenied:
		return RejectedDenied
	case d.Required&^m.Capabilities != 0:
		return RejectedCapability
	case c.InputTokens+c.P90Output > m.ContextWindow:
		return RejectedContextWindow
	case m.Tier == DomainSpecialist && !f.inDomain(m):
		return RejectedDomain
	case (l.MaxCost.Set || l.MaxOutputPrice.Set) && !c.PriceKnown:
		return RejectedPriceUnknown
	case l.MaxOutputPrice.Set && m.rates.output > l.MaxOutputPrice.Value:
		return RejectedMaxPrice
	case l.MaxCost.Set && (c.P90 > l.MaxCost.Value || c.MaxOutput < c.P90Output):
		return RejectedMaxCost
	}
	if reject := f.rejectProvider(m); reject != 0 {
		return reject
	}
	switch {
	case l.MaxTTFT.Set && (m.TTFT == 0 || m.TTFT > l.MaxTTFT.Value):
		return RejectedMaxTTFT
	case l.MaxTier.Set && m.EffectiveTier() > l.MaxTier.Value:
		return RejectedAboveMaxTier
	case l.MinTier.Set && m.EffectiveTier() < l.MinTier.Value:
		return RejectedBelowMinTier
	}
	return 0
}

// inDomain keeps specialists to their domains. A request that named the model
// has settled that itself; one that named the specialists' tier, half.
func (f *filter) inDomain(m *Model) bool {
	d := f.demand
	if len(d.Override.Models) > 0 {
		return true
	}
	need := f.policy.SpecialistMinConfidence
	if d.Override.Tier == DomainSpecialist {
		need = 1.0 / classifier.NumDomains
	}
	return d.Scored && m.domainShare(&d.Scores) >= need
}

func (m *Model) domainShare(s *classifier.Scores) float64 {
	sum := 0.0
	for _, domain := range m.Domains {
		sum += s.Domains[domain.Index()]
	}
	return sum
}

func (f *filter) rejectProvider(m *Model) Rejection {
	p, usable, callable := &f.demand.Provider, false, false
	for _, dep := range m.Deployments {
		if p.admits(dep.Upstream) {
			usable, callable = true, callable || dep.Upstream.Callable
		}
	}
	switch {
	case !usable:
		return RejectedProvider
	case f.demand.CallableOnly && !callable:
		return RejectedNotCallable
	}
	return 0
}

// detail is a candidate's rejection in a sentence, with its figures.
func (f *filter) detail(c *Candidate) string {
	d, m, l := f.demand, c.Model, &f.limits
	switch c.Rejection {
	case RejectedNotNamed:
		return "the request named other models or another tier"
	case RejectedNotAllowed:
		return "no glob of the allow list matches it"
	case RejectedDenied:
		return "a glob of the deny list matches it"
	case RejectedCapability:
		return fmt.Sprintf("it lacks %v", (d.Required &^ m.Capabilities).Names())
	case RejectedContextWindow:
		return fmt.Sprintf("about %d input and %d output tokens do not fit its window of %d", c.InputTokens, c.P90Output, m.ContextWindow)
	case RejectedDomain:
		return fmt.Sprintf("its domains %v have probability %.2f, needed is %.2f", m.Domains, m.domainShare(&d.Scores), f.policy.SpecialistMinConfidence)
	case RejectedPriceUnknown:
		return "its price is unknown, and a limit on cost was set"
	case RejectedMaxPrice:
		return fmt.Sprintf("its output price is %s/M, the ceiling %s/M", m.rates.output, l.MaxOutputPrice.Value)
	case RejectedMaxCost:
		return fmt.Sprintf("%d output tokens cost %s, the limit is %s", c.P90Output, c.P90, l.MaxCost.Value)
	case RejectedProvider:
		return "no deployment of it passes the provider rules"
	case RejectedNotCallable:
		return "none of its upstreams has a key on this server"
	case RejectedMaxTTFT:
		if m.TTFT == 0 {
			return "its time to the first token is unknown, and a limit was set"
		}
		return fmt.Sprintf("its time to the first token is %s, the limit %s", m.TTFT, l.MaxTTFT.Value)
	case RejectedAboveMaxTier:
		return fmt.Sprintf("it counts as %s, above the ceiling %s", m.EffectiveTier(), l.MaxTier.Value)
	case RejectedBelowMinTier:
		return fmt.Sprintf("it counts as %s, below the floor %s", m.EffectiveTier(), l.MinTier.Value)
	case RejectedQuality:
		return fmt.Sprintf("expected quality %.3f is below the needed %.3f", c.Quality.Value, f.needed)
	default:
		return ""
	}
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
