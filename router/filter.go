package router

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/weirhq/weir/classifier"
)

// filter holds what the assessment of every candidate shares, and where it
// stands.
type filter struct {
	demand  *Demand
	policy  *Policy
	catalog *Catalog
	// rule is the rule that matched, nil for none; ruleNamed is whether its
	// models or tier count, rulePolicy whether its policy does.
	rule                  *Rule
	ruleNamed, rulePolicy bool
	// request holds the request's own limits, limits what counts of all.
	request, limits Limits
	// calibrated is whether the gap is the guarantee's.
	calibrated bool
	// budgeted is whether the call is held against a budget.
	budgeted bool
	sessions SessionPolicy
	removed  [numRejections]bool
	// needed is the expected quality that is good enough.
	needed float64
	// sessionFloor is the tier that the session holds; 0 where it removed nothing.
	sessionFloor Tier
	// all holds a candidate for every model, in the catalog's order; keys says
	// which of them are eligible, and in which order.
	all  []Candidate
	keys []sortKey
	// effort is the logit of q_efficient, high that of q_high, domain the
	// likeliest: all that a measured curve needs.
	effort, high float64
	domain       int
}

// sortKey stands for a candidate while candidates are put in order.
type sortKey struct {
	// cost is the one at the 90th percentile of output, the largest number where
	// it is unknown.
	cost NanoUSD
	// score orders by itself where it is used: larger first.
	score float64
	at    int32
}

// MediaTokens is what any image, audio or document part is taken to cost in input
// tokens at least: providers bill a large image as 1,100 to 1,600. See MediaBytes.
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
		f.quality(c)
	}
}

// ceil rounds up to tokens, within what a float holds exactly.
func ceil(x float64) int64 { return int64(math.Ceil(min(x, 1<<53))) }

// price sets the costs, and lowers the output limit to what max_cost affords. A
// sum that overflows counts as an unknown price.
func (f *filter) price(c *Candidate) {
	rates := &c.Model.rates
	if !rates.known {
		return
	}
	var input wide
	if !input.addProduct(uint64(c.InputTokens), uint64(rates.input)) || !input.addProduct(million, uint64(rates.perRequest)) {
		return
	}
	if f.limits.MaxCost.Set {
		spent, ok := input.dividedByMillion()
		if !ok {
			return
		}
		c.MaxOutput = min(c.MaxOutput, rates.affords(f.limits.MaxCost.Value, spent))
	}
	var ok bool
	if c.Expected, ok = input.plus(c.OutputTokens, rates.output); !ok {
		return
	}
	if c.P90, ok = input.plus(c.P90Output, rates.output); !ok {
		return
	}
	c.Bound, c.PriceKnown = input.plus(c.MaxOutput, rates.output)
}

// plus is the sum with some tokens at a rate; false where it overflows.
func (w wide) plus(tokens int64, rate NanoUSD) (NanoUSD, bool) {
	if !w.addProduct(uint64(tokens), uint64(rate)) {
		return 0, false
	}
	return w.dividedByMillion()
}

// settleScores finds once what the curves of all models need.
func (f *filter) settleScores() {
	s := &f.demand.Scores
	f.effort, f.high = classifier.Logit(s.QEfficient.Value), classifier.Logit(s.QHigh.Value)
	domain, _ := s.Domain()
	f.domain = domain.Index()
}

// quality is the model's expected quality: its own curve where outcomes were
// recorded, else its tier's reference curve with an interval that spans both.
func (f *filter) quality(c *Candidate) {
	if k := c.Model.Quality; k != nil {
		// 1/(1+exp(-y)) at y and y ± half: two exponentials in place of three.
		e, widen := math.Exp(-(k.Intercept + k.Efficient*f.effort + k.High*f.high + k.Domain[f.domain])), math.Exp(k.HalfWidth)
		c.Quality = classifier.Estimate{Value: 1 / (1 + e), Low: 1 / (1 + e*widen), High: 1 / (1 + e/widen)}
		c.Unmeasured = false
		return
	}
	q := &f.demand.Scores
	own := q.QEfficient.Value
	if c.Model.EffectiveTier() == HighPerformance {
		own = q.QHigh.Value
	}
	c.Quality = classifier.Estimate{Value: own, Low: min(q.QEfficient.Low, q.QHigh.Low), High: max(q.QEfficient.High, q.QHigh.High)}
}

// reject returns the first filter that the candidate fails, or zero. The tier
// floor is the last one, because a downgrade may use what only it removed.
func (f *filter) reject(c *Candidate) Rejection {
	d, m, l := f.demand, c.Model, &f.limits
	barred := f.policy.bars(f.catalog, m)
	switch {
	case len(d.Override.Models) > 0 && !slices.Contains(d.Override.Models, m.ID), d.Override.Tier != 0 && d.Override.Tier != m.Tier:
		return RejectedNotNamed
	case len(d.Allow) > 0 && !matchAny(d.Allow, m.ID), barred == RejectedNotAllowed:
		return RejectedNotAllowed
	case matchAny(d.Deny, m.ID), barred == RejectedDenied, f.rule != nil && f.rule.deny.has(f.rule.Then.Deny, f.catalog, m):
		return RejectedDenied
	case d.Required&^m.Capabilities != 0:
		return RejectedCapability
	case c.InputTokens+c.P90Output > m.ContextWindow:
		return RejectedContextWindow
	case m.Tier == DomainSpecialist && !f.inDomain(m):
		return RejectedDomain
	case (l.MaxCost.Set || l.MaxOutputPrice.Set || f.budgeted) && !c.PriceKnown:
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
	need, margin := f.limits.SpecialistConfidence.Value, f.limits.SpecialistMargin.Value
	if d.Override.Tier == DomainSpecialist {
		need, margin = 1.0/classifier.NumDomains, 0
	}
	if !d.Scored {
		return false
	}
	share := m.domainShare(&d.Scores)
	return share >= need && (margin == 0 || share-m.otherShare(&d.Scores) >= margin)
}

// otherShare is the largest probability of a domain that is not the model's.
func (m *Model) otherShare(s *classifier.Scores) float64 {
	most := 0.0
	for i, p := range s.Domains {
		if !slices.Contains(m.Domains, classifier.Domain(i+1)) {
			most = max(most, p)
		}
	}
	return most
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
	if !f.demand.CallableOnly && p.admitsAll() && len(m.Deployments) > 0 {
		return 0
	}
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
		text := fmt.Sprintf("its domains %v have probability %.2f, needed is %.2f", m.Domains, m.domainShare(&d.Scores), l.SpecialistConfidence.Value)
		if l.SpecialistMargin.Value > 0 {
			text += fmt.Sprintf(" and %.2f more than any other domain's, %.2f", l.SpecialistMargin.Value, m.otherShare(&d.Scores))
		}
		return text
	case RejectedPriceUnknown:
		if f.budgeted {
			return "its price is unknown, and a budget is set"
		}
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
	case RejectedSession:
		return fmt.Sprintf("it counts as %s, and a recent turn of the session needed %s", m.EffectiveTier(), f.sessionFloor)
	default:
		return ""
	}
}

func (p *ProviderRules) strictOrder() bool {
	return len(p.Order) > 0 && p.AllowFallbacks.Set && !p.AllowFallbacks.Value
}

// admitsAll tells whether the rules leave no upstream out.
func (p *ProviderRules) admitsAll() bool {
	return len(p.Only) == 0 && len(p.Ignore) == 0 && len(p.Order) == 0 && p.Data != DataDeny
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
