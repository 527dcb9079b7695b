package router

import (
	"strconv"
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
	// AllowDowngrade lets a fallback go below the floor when all above it fail.
	AllowDowngrade Opt[bool]
}

// Policy is a named set of limits with what else operators settle once.
type Policy struct {
	ID, Description string
	Limits          Limits
	// UnscoredTier answers when scoring fails.
	UnscoredTier Tier
	// SpecialistMinConfidence is the least probability that a specialist's
	// domains must have together, 0-1.
	SpecialistMinConfidence float64
	// Allow and Deny are globs over model ids, before the request's own.
	Allow, Deny []string

	// barred is what the two lists say of each model of the config's catalog,
	// found once: a decision looks at every model, and lists are long.
	barred map[*Model]Rejection
}

// settleLists matches the lists against the catalog's models.
func (p *Policy) settleLists(c *Catalog) {
	p.barred = make(map[*Model]Rejection, len(c.models))
	for _, m := range c.models {
		p.barred[m] = p.match(m)
	}
}

// bars is what the lists say of a model: 0, RejectedNotAllowed or RejectedDenied.
func (p *Policy) bars(m *Model) Rejection {
	if r, ok := p.barred[m]; ok {
		return r
	}
	return p.match(m) // a policy that no config made, or another catalog's model
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

// The sources, strongest first.
const (
	FromRequest Source = iota + 1
	FromPolicy
	FromDefault
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
	return Limits{MaxQualityGap: Some(0.05), AllowDowngrade: Some(false)}
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
	}
}

// applied lists the resolved limits that are set, with their sources, in a
// fixed order, and whether each removed a candidate.
func applied(request, policy *Limits, f *filter) []Applied {
	out := make([]Applied, 0, 4)
	add := func(name string, by Rejection, set, req, pol bool, value func() string) {
		if !set {
			return
		}
		src := FromDefault
		if req {
			src = FromRequest
		} else if pol {
			src = FromPolicy
		}
		out = append(out, Applied{Name: name, Value: value(), Source: src, Binding: by != 0 && f.removed[by]})
	}
	number := func(o Opt[float64]) func() string {
		return func() string { return strconv.FormatFloat(o.Value, 'g', -1, 64) }
	}
	r := &f.limits
	add("min_quality", RejectedQuality, r.MinQuality.Set, request.MinQuality.Set, policy.MinQuality.Set, number(r.MinQuality))
	add("max_quality_gap", RejectedQuality, r.MaxQualityGap.Set, request.MaxQualityGap.Set, policy.MaxQualityGap.Set, number(r.MaxQualityGap))
	add("max_cost", RejectedMaxCost, r.MaxCost.Set, request.MaxCost.Set, policy.MaxCost.Set, r.MaxCost.Value.String)
	add("max_price_per_million_output_tokens", RejectedMaxPrice, r.MaxOutputPrice.Set, request.MaxOutputPrice.Set, policy.MaxOutputPrice.Set, r.MaxOutputPrice.Value.String)
	add("max_ttft", RejectedMaxTTFT, r.MaxTTFT.Set, request.MaxTTFT.Set, policy.MaxTTFT.Set, r.MaxTTFT.Value.String)
	add("alpha", 0, r.Alpha.Set, request.Alpha.Set, policy.Alpha.Set, number(r.Alpha))
	add("min_tier", RejectedBelowMinTier, r.MinTier.Set, request.MinTier.Set, policy.MinTier.Set, r.MinTier.Value.String)
	add("max_tier", RejectedAboveMaxTier, r.MaxTier.Set, request.MaxTier.Set, policy.MaxTier.Set, r.MaxTier.Value.String)
	add("allow_downgrade", 0, r.AllowDowngrade.Value, request.AllowDowngrade.Set, policy.AllowDowngrade.Set, func() string { return "true" })
	return out
}
