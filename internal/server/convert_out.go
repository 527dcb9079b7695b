package server

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// decisionOf turns a record into the wire's decision.
func decisionOf(rec *router.Record) *weirv1.Decision {
	d := &rec.Decision
	c := &d.Chosen
	out := &weirv1.Decision{
		DecisionId:      rec.ID,
		CreateTime:      timestamppb.New(rec.Time),
		Model:           c.Model.ID,
		Tier:            weirv1.Tier(c.Model.Tier),
		Provider:        rec.Provider,
		Reason:          weirv1.Reason(d.Reason),
		Explanation:     d.Explanation(),
		Policy:          d.Policy,
		MaxOutputTokens: c.MaxOutput,
		ExpectedQuality: c.Quality.Value,
		QualityGap:      d.Best - c.Quality.Value,
		MinQualityMet:   d.MinQualityMet,
		Candidates:      candidatesOf(rec),
		Limits:          appliedOf(d.Limits),
		BundleDigest:    rec.BundleDigest,
		ConfigDigest:    rec.ConfigDigest,
		Timings: &weirv1.Timings{
			Classify: durationpb.New(rec.Classify), Decide: durationpb.New(rec.Decide), Total: durationpb.New(rec.Total),
		},
		Propensity:     rec.Propensity,
		Rule:           d.Rule,
		EngineVersion:  router.EngineVersion,
		UnscoredReason: rec.ScoringError,
		Guarantee:      guaranteeOf(&d.Guarantee),
		Session:        sessionOf(d),
	}
	if rec.Explain {
		// A receipt is made of what is well already: figures and names.
		if receipt, err := rec.Receipt(); err == nil {
			out.Receipt = string(receipt)
		}
	}
	if d.Scored {
		out.Scores = scoresOf(&d.Scores)
	}
	if c.PriceKnown {
		out.EstimatedCostNanoUsd, out.CostBoundNanoUsd = nano(c.Expected), nano(c.Bound)
	}
	return out
}

func guaranteeOf(c *router.Claim) *weirv1.Guarantee {
	if c.CalibrationID == "" {
		return nil
	}
	return &weirv1.Guarantee{Epsilon: c.Epsilon, Alpha: c.Alpha, Delta: c.Delta, Valid: c.Valid, CalibrationId: c.CalibrationID, InvalidReason: c.Why}
}

func sessionOf(d *router.Decision) *weirv1.Session {
	s := &d.Session
	if !s.Used {
		return nil
	}
	return &weirv1.Session{Pinned: s.Pinned, PreviousModel: s.PreviousModel, SwitchCostNanoUsd: int64(s.SwitchCost), NeededTier: weirv1.Tier(d.Need)}
}

// candidatesOf are the five best, or all of them, those that no limit removed
// first. They are made in one piece: each call has them.
func candidatesOf(rec *router.Record) []*weirv1.Candidate {
	ranked, rejected := rec.Decision.Ranked, rec.Decision.Rejected
	if !rec.Explain {
		ranked, rejected = ranked[:min(len(ranked), router.BestCandidates)], nil
	}
	n := len(ranked) + len(rejected)
	cards, intervals := make([]weirv1.Candidate, n), make([]weirv1.Interval, n)
	out := make([]*weirv1.Candidate, 0, n)
	for _, list := range [...][]router.Candidate{ranked, rejected} {
		for i := range list {
			at := len(out)
			fillCandidate(&cards[at], &intervals[at], &list[i], rec.Decision.Scored)
			out = append(out, &cards[at])
		}
	}
	return out
}

func fillCandidate(to *weirv1.Candidate, interval *weirv1.Interval, c *router.Candidate, scored bool) {
	to.Model = c.Model.ID
	to.Tier = weirv1.Tier(c.Model.Tier)
	to.ExpectedQuality = c.Quality.Value
	if scored {
		interval.Low, interval.High = c.Quality.Low, c.Quality.High
		to.QualityInterval = interval
	}
	to.Unmeasured = c.Unmeasured
	if c.PriceKnown {
		to.EstimatedCostNanoUsd, to.P90CostNanoUsd = nano(c.Expected), nano(c.P90)
	}
	to.ExpectedOutputTokens = c.OutputTokens
	to.Rejection = weirv1.Rejection(c.Rejection)
	if c.Rejection != 0 {
		to.RejectionDetail = c.Detail
	}
}

func scoresOf(s *classifier.Scores) *weirv1.Scores {
	domain, _ := s.Domain()
	probabilities := make([]weirv1.DomainProbability, len(s.Domains))
	list := make([]*weirv1.DomainProbability, len(s.Domains))
	for i, d := range classifier.Domains() {
		probabilities[i].Domain, probabilities[i].Probability = weirv1.Domain(d), s.Domains[d.Index()]
		list[i] = &probabilities[i]
	}
	return &weirv1.Scores{
		Complexity: s.Complexity(),
		// Complexity falls as q_efficient rises, so the ends change places.
		ComplexityInterval:  &weirv1.Interval{Low: 1 - s.QEfficient.High, High: 1 - s.QEfficient.Low},
		Gain:                s.Gain(),
		QEfficient:          s.QEfficient.Value,
		QEfficientInterval:  &weirv1.Interval{Low: s.QEfficient.Low, High: s.QEfficient.High},
		QHigh:               s.QHigh.Value,
		QHighInterval:       &weirv1.Interval{Low: s.QHigh.Low, High: s.QHigh.High},
		Domain:              weirv1.Domain(domain),
		DomainProbabilities: list,
		InputTokens:         int64(s.InputTokens),
		TruncatedTokens:     int64(s.TruncatedTokens),
		TokensEstimated:     s.TokensEstimated,
		OutputTokens:        s.OutputTokens,
		OutputTokensP90:     s.OutputTokensP90,
		OutOfDistribution:   s.OutOfDistribution,
		Lane:                s.Lane,
	}
}

func appliedOf(limits []router.Applied) []*weirv1.AppliedLimit {
	out := make([]*weirv1.AppliedLimit, len(limits))
	for i, l := range limits {
		out[i] = &weirv1.AppliedLimit{Name: l.Name, Value: l.Value, Source: weirv1.Source(l.Source), Binding: l.Binding}
	}
	return out
}

func nano(n router.NanoUSD) *int64 {
	v := int64(n)
	return &v
}

func outcomesOf(list []router.Outcome) []*weirv1.Outcome {
	out := make([]*weirv1.Outcome, len(list))
	for i, o := range list {
		out[i] = &weirv1.Outcome{Score: &o.Score, Source: o.Source, ObserveTime: timestamppb.New(o.Time)}
	}
	return out
}

// modelOf turns a card of the catalog into the wire's.
func modelOf(m *router.Model) *weirv1.Model {
	out := &weirv1.Model{
		Id:              m.ID,
		Tier:            weirv1.Tier(m.Tier),
		StandsInFor:     weirv1.Tier(m.StandsInFor),
		ContextWindow:   m.ContextWindow,
		MaxOutputTokens: m.MaxOutputTokens,
		Modalities:      m.Modalities,
		Capabilities:    capabilitiesList(m.Capabilities),
		Price:           priceOf(m.Price),
		TokensPerSecond: m.TokensPerSecond,
		Unmeasured:      m.Quality == nil,
		Callable:        m.Callable(),
		Ttft:            knownDuration(m.TTFT),
	}
	for _, d := range m.Domains {
		out.Domains = append(out.Domains, weirv1.Domain(d))
	}
	for _, d := range m.Deployments {
		out.Deployments = append(out.Deployments, &weirv1.Deployment{
			Provider: d.Upstream.ID, Name: d.Name, Callable: d.Upstream.Callable,
			DataCollection: weirv1.DataCollection(d.Upstream.Data), Region: d.Upstream.Region,
		})
	}
	return out
}

// addHealth adds what was seen of a model's deployments, in the same order.
func addHealth(to *weirv1.Model, seen []router.DeploymentHealth) {
	for i, h := range seen {
		d := to.GetDeployments()[i]
		d.ObservedTtft = knownDuration(h.TTFT)
		switch {
		case !h.Until.IsZero():
			d.Health = weirv1.Health_HEALTH_COOLDOWN
		case h.Known:
			d.Health = weirv1.Health_HEALTH_OK
		}
	}
}

func knownDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func capabilitiesList(set router.Capabilities) []weirv1.Capability {
	var out []weirv1.Capability
	for c := weirv1.Capability_CAPABILITY_TOOLS; c <= weirv1.Capability_CAPABILITY_REASONING; c++ {
		if set&(1<<(c-1)) != 0 {
			out = append(out, c)
		}
	}
	return out
}

func priceOf(p router.Price) *weirv1.Price {
	return &weirv1.Price{
		InputPerMillionNanoUsd:       rate(p.Input),
		CachedInputPerMillionNanoUsd: rate(p.CachedInput),
		CacheWritePerMillionNanoUsd:  rate(p.CacheWrite),
		OutputPerMillionNanoUsd:      rate(p.Output),
		ReasoningPerMillionNanoUsd:   rate(p.Reasoning),
		PerRequestNanoUsd:            rate(p.PerRequest),
		Source:                       p.Source,
		Date:                         p.Date,
	}
}

// rate is nil for an unknown price, which is not a free one.
func rate(r router.Rate) *int64 {
	if !r.Known {
		return nil
	}
	return nano(r.Nano)
}
