package router

import (
	"slices"

	"github.com/weirhq/weir/classifier"
)

// Guarantee is a calibrated promise of a policy: with confidence 1 - Delta, the
// quality loss is above Epsilon for at most Alpha of the traffic that is like
// the calibration set. `weir calibrate policy` writes it.
//
// Where a policy has one, its gaps stand in for the policy's own
// max_quality_gap: the domain's where the prompt's likeliest domain has one,
// else the pooled one. A request's limit beats it, and then nothing is promised.
type Guarantee struct {
	CalibrationID         string
	Epsilon, Alpha, Delta float64
	// MaxQualityGap holds for every domain without one of its own; absent where
	// only the domains of Domains are promised anything.
	MaxQualityGap Opt[float64]
	// Domains holds the gaps of domains that were calibrated by themselves;
	// index it by Domain.Index.
	Domains [classifier.NumDomains]Opt[float64]
	// BundleDigest is the bundle whose scores were calibrated.
	BundleDigest string
	// Models are those whose outcomes were measured, at least one.
	Models []string
}

// gap is the calibrated gap for a prompt's scores; absent where nothing is
// promised for its domain.
func (g *Guarantee) gap(s *classifier.Scores) Opt[float64] {
	domain, _ := s.Domain()
	return g.Domains[domain.Index()].or(g.MaxQualityGap)
}

// Claim is what a decision says of its policy's guarantee. It has one where
// CalibrationID is set.
type Claim struct {
	CalibrationID         string
	Epsilon, Alpha, Delta float64
	// Valid is whether the promise holds for this decision; Why says in one word
	// why not.
	Valid bool
	Why   string
}

// ClaimFor is the claim for an answer by the model of that id: a fallback's
// answer is outside the promise.
func (d *Decision) ClaimFor(model string) Claim {
	c := d.Guarantee
	if c.Valid && model != d.Chosen.Model.ID {
		c.Valid, c.Why = false, "fallback"
	}
	return c
}

// claim holds the decision against the guarantee's terms. It errs on the side
// of promising nothing.
func (f *filter) claim(out *Decision) Claim {
	g := f.policy.Guarantee
	if g == nil {
		return Claim{}
	}
	c := Claim{CalibrationID: g.CalibrationID, Epsilon: g.Epsilon, Alpha: g.Alpha, Delta: g.Delta}
	c.Why = f.broken(g, out)
	c.Valid = c.Why == ""
	return c
}

func (f *filter) broken(g *Guarantee, out *Decision) string {
	d := f.demand
	request, policy := &f.request, &f.policy.Limits
	switch {
	case !d.Scored:
		return "unscored"
	case d.Scores.OutOfDistribution:
		return "out_of_distribution"
	case d.BundleDigest != g.BundleDigest:
		return "other_bundle"
	case !g.gap(&d.Scores).Set:
		return "domain_not_calibrated"
	case f.rule != nil:
		return "rule"
	case len(d.Override.Models) > 0 || d.Override.Tier != 0:
		return "override"
	case out.Session.Kept || out.Session.FloorBound:
		return "session"
	case request.Alpha.Set || request.MinQuality.Set || request.MaxQualityGap.Set,
		policy.Alpha.Set || policy.MinQuality.Set:
		return "limit"
	}
	// A model that was calibrated and could not take part, or one that was not
	// and did.
	for _, id := range g.Models {
		m, ok := f.catalog.Model(id)
		if !ok || !f.all[m.place].eligible() {
			return "limit"
		}
	}
	if !slices.Contains(g.Models, out.Chosen.Model.ID) {
		return "unmeasured_model"
	}
	return ""
}
