package router

import (
	"strconv"
	"strings"
	"time"
)

// Opt is a limit that may be absent.
type Opt[T any] struct {
	Value T
	Set   bool
}

// Some is a limit that is there.
func Some[T any](v T) Opt[T] { return Opt[T]{Value: v, Set: true} }

func (o Opt[T]) or(other Opt[T]) Opt[T] {
	if o.Set {
		return o
	}
	return other
}

// Limits bound the choice. Each is independent of the others, and an absent one
// falls from the request to the policy to the default.
type Limits struct {
	// MinQuality is the lowest expected quality wanted, 0-1. When no model
	// reaches it, the best one answers and the decision says so.
	MinQuality Opt[float64]
	// MaxQualityGap is how far the chosen expected quality may lie below the
	// best eligible one, 0-1.
	MaxQualityGap Opt[float64]
	// MaxCost is what the call may cost at most. Hard.
	MaxCost Opt[NanoUSD]
	// MaxOutputPrice is the highest output price for a million tokens.
	MaxOutputPrice Opt[NanoUSD]
	// MaxTTFT is the longest expected time to the first token.
	MaxTTFT Opt[time.Duration]
	// Alpha trades cost for quality in one dial, 0 cheapest to 1 best, in place
	// of the policy's quality limits.
	Alpha Opt[float64]
	// MinTier and MaxTier bound the effective tier.
	MinTier, MaxTier Opt[Tier]
	// SpecialistConfidence is the least probability that a specialist's domains
	// must have together, SpecialistMargin how far that must be above the
	// likeliest other domain; 0-1.
	SpecialistConfidence, SpecialistMargin Opt[float64]
	// AllowDowngrade lets a fallback go below the floor when all above it fail.
	AllowDowngrade Opt[bool]
}

// Policy is a named set of limits with what else operators settle once.
type Policy struct {
	ID, Description string
	Limits          Limits
	// UnscoredTier answers when scoring fails.
	UnscoredTier Tier
	// Allow and Deny are globs over model ids, before the request's own.
	Allow, Deny []string
	// Promise is what the policy was measured to do, for people; "" where
	// nothing was.
	Promise string
	// Guarantee is nil where nothing was calibrated.
	Guarantee *Guarantee

	// barred is what the two lists say of each model of the catalog of, by its
	// place, found once: a decision looks at every model, and lists are long.
	barred []Rejection
	of     *Catalog
}

// settleLists matches the lists against the catalog's models.
func (p *Policy) settleLists(c *Catalog) {
	p.of, p.barred = c, make([]Rejection, len(c.models))
	for i, m := range c.models {
		p.barred[i] = p.match(m)
	}
}

// bars is what the lists say of a model of a catalog: 0, RejectedNotAllowed or
// RejectedDenied.
func (p *Policy) bars(c *Catalog, m *Model) Rejection {
	if p.of == c && c != nil {
		return p.barred[m.place]
	}
	return p.match(m) // a policy that no config made, or another catalog's
}

func (p *Policy) match(m *Model) Rejection {
	switch {
	case len(p.Allow) > 0 && !matchAny(p.Allow, m.ID):
		return RejectedNotAllowed
	case matchAny(p.Deny, m.ID):
		return RejectedDenied
	default:
		return 0
	}
}

// Source says where a limit came from.
type Source uint8

// The sources.
const (
	FromRequest Source = iota + 1
	FromPolicy
	FromDefault
	// A rule stands between request and policy; what a session holds, beside
	// them. Their numbers are younger than the others'.
	FromRule
	FromSession
)

// Applied is a limit that counted.
type Applied struct {
	Name, Value string
	Source      Source
	// Binding is whether it removed a candidate.
	Binding bool
}

// defaultLimits is what counts when neither request nor policy says anything: a
// gap of .05 is half of what the efficient reference model loses on MMLU.
func defaultLimits() Limits {
	return Limits{MaxQualityGap: Some(0.05), AllowDowngrade: Some(false), SpecialistConfidence: Some(0.6)}
}

// resolve merges the three sources. An alpha replaces the quality limits of the
// weaker sources, and a request's quality limit the policy's alpha: two goals
// at once would hide which one decided.
func resolve(request, policy Limits) Limits {
	def := defaultLimits()
	if request.Alpha.Set {
		policy.MinQuality, policy.MaxQualityGap, def.MaxQualityGap = Opt[float64]{}, Opt[float64]{}, Opt[float64]{}
	} else if request.MinQuality.Set || request.MaxQualityGap.Set {
		policy.Alpha = Opt[float64]{}
	}
	if policy.Alpha.Set {
		def.MaxQualityGap = Opt[float64]{}
	}
	return Limits{
		MinQuality:     request.MinQuality.or(policy.MinQuality),
		MaxQualityGap:  request.MaxQualityGap.or(policy.MaxQualityGap).or(def.MaxQualityGap),
		MaxCost:        request.MaxCost.or(policy.MaxCost),
		MaxOutputPrice: request.MaxOutputPrice.or(policy.MaxOutputPrice),
		MaxTTFT:        request.MaxTTFT.or(policy.MaxTTFT),
		Alpha:          request.Alpha.or(policy.Alpha),
		MinTier:        request.MinTier.or(policy.MinTier),
		MaxTier:        request.MaxTier.or(policy.MaxTier),
		AllowDowngrade: request.AllowDowngrade.or(policy.AllowDowngrade).or(def.AllowDowngrade),

		SpecialistConfidence: request.SpecialistConfidence.or(policy.SpecialistConfidence).or(def.SpecialistConfidence),
		SpecialistMargin:     request.SpecialistMargin.or(policy.SpecialistMargin),
	}
}

// applied lists the resolved limits that are set, with their sources, in a
// fixed order, and whether each removed a candidate.
func applied(f *filter) []Applied {
	out := make([]Applied, 0, 8)
	request, policy, r := &f.request, &f.policy.Limits, &f.limits
	var rule RuleAction
	if f.rule != nil {
		rule = f.rule.Then
	}
	add := func(name string, by Rejection, set, req, ruled, pol bool, value func() string) {
		if !set {
			return
		}
		src := FromDefault
		switch {
		case req:
			src = FromRequest
		case ruled:
			src = FromRule
		case pol:
			src = FromPolicy
		}
		out = append(out, Applied{Name: name, Value: value(), Source: src, Binding: by != 0 && f.removed[by]})
	}
	number := func(o Opt[float64]) func() string {
		return func() string { return strconv.FormatFloat(o.Value, 'g', -1, 64) }
	}
	add("min_quality", RejectedQuality, r.MinQuality.Set, request.MinQuality.Set, false, policy.MinQuality.Set, number(r.MinQuality))
	add("max_quality_gap", RejectedQuality, r.MaxQualityGap.Set, request.MaxQualityGap.Set, false, policy.MaxQualityGap.Set || f.calibrated, number(r.MaxQualityGap))
	add("max_cost", RejectedMaxCost, r.MaxCost.Set, request.MaxCost.Set, false, policy.MaxCost.Set, r.MaxCost.Value.String)
	add("max_price_per_million_output_tokens", RejectedMaxPrice, r.MaxOutputPrice.Set, request.MaxOutputPrice.Set, false, policy.MaxOutputPrice.Set, r.MaxOutputPrice.Value.String)
	add("max_ttft", RejectedMaxTTFT, r.MaxTTFT.Set, request.MaxTTFT.Set, false, policy.MaxTTFT.Set, r.MaxTTFT.Value.String)
	add("alpha", 0, r.Alpha.Set, request.Alpha.Set, false, policy.Alpha.Set, number(r.Alpha))
	add("min_tier", RejectedBelowMinTier, r.MinTier.Set, request.MinTier.Set, rule.MinTier.Set, policy.MinTier.Set, r.MinTier.Value.String)
	add("max_tier", RejectedAboveMaxTier, r.MaxTier.Set, request.MaxTier.Set, rule.MaxTier.Set, policy.MaxTier.Set, r.MaxTier.Value.String)
	add("allow_downgrade", 0, r.AllowDowngrade.Value, request.AllowDowngrade.Set, false, policy.AllowDowngrade.Set, func() string { return "true" })
	// Said only where someone asked: the default keeps specialists out of most answers.
	asked := request.SpecialistConfidence.Set || policy.SpecialistConfidence.Set
	add("specialist_min_confidence", RejectedDomain, asked, request.SpecialistConfidence.Set, false, asked, number(r.SpecialistConfidence))
	add("specialist_min_margin", RejectedDomain, r.SpecialistMargin.Set, request.SpecialistMargin.Set, false, policy.SpecialistMargin.Set, number(r.SpecialistMargin))
	add("session_min_tier", RejectedSession, f.sessionFloor != 0, false, false, false, f.sessionFloor.String)
	if f.sessionFloor != 0 {
		out[len(out)-1].Source = FromSession
	}
	return f.appliedRule(out)
}

// appliedRule adds what a rule did beside bounding tiers.
func (f *filter) appliedRule(out []Applied) []Applied {
	if f.rule == nil {
		return out
	}
	then := &f.rule.Then
	add := func(name, value string, by Rejection) {
		out = append(out, Applied{Name: name, Value: value, Source: FromRule, Binding: f.removed[by]})
	}
	if f.ruleNamed && len(then.Models) > 0 {
		add("models", strings.Join(then.Models, ", "), RejectedNotNamed)
	}
	if f.ruleNamed && then.Tier != 0 {
		add("tier", then.Tier.String(), RejectedNotNamed)
	}
	if len(then.Deny) > 0 {
		add("deny_models", strings.Join(then.Deny, ", "), RejectedDenied)
	}
	if f.rulePolicy {
		out = append(out, Applied{Name: "policy", Value: f.policy.ID, Source: FromRule})
	}
	return out
}
