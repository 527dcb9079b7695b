package router_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

const guaranteeConfig = `
version: 1
default_policy: kept
upstreams: [{id: u, dialect: openai, base_url: "http://localhost/"}]
models:
  - {id: weak, tier: EFFICIENT, context_window: 10000, max_output_tokens: 4000, price: {input: "$0.10/M", output: "$0.40/M", source: t, date: "2026-01-01"}, capabilities: [tools], deployments: [{upstream: u, name: a}]}
  - {id: strong, tier: HIGH_PERFORMANCE, context_window: 100000, max_output_tokens: 8000, price: {input: "$2.00/M", output: "$10.00/M", source: t, date: "2026-01-01"}, capabilities: [tools, vision], deployments: [{upstream: u, name: b}]}
  - {id: new, tier: HIGH_PERFORMANCE, context_window: 100000, max_output_tokens: 8000, price: {input: "$1.00/M", output: "$5.00/M", source: t, date: "2026-01-01"}, capabilities: [tools], deployments: [{upstream: u, name: c}]}
rules:
  - {id: r, when: {tenant: t}, then: {min_tier: EFFICIENT}}
policies:
  - id: kept
    promise: loses more than .05 on at most a tenth of the calibration set.
    deny_models: [new]
    guarantee: &g
      calibration_id: cal-1
      epsilon: 0.05
      alpha: 0.1
      delta: 0.05
      max_quality_gap: 0.2
      samples: 900
      domains: [{domain: coding, max_quality_gap: 0.05, samples: 400}]
      bundle_digest: "sha256:b"
      models: [weak, strong]
  - {id: open, guarantee: *g}
  - id: coding
    deny_models: [new]
    guarantee: {calibration_id: cal-2, epsilon: 0.05, alpha: 0.1, delta: 0.05, domains: [{domain: coding, max_quality_gap: 0.05}], bundle_digest: "sha256:b", models: [weak, strong]}
`

func TestGuarantee(t *testing.T) {
	r := rules(t, guaranteeConfig)
	base := demand(0.6, 0.75) // a gap of .15
	base.BundleDigest = "sha256:b"
	with := func(change func(*router.Demand)) router.Demand {
		d := base
		change(&d)
		return d
	}
	for name, tc := range map[string]struct {
		in         router.Demand
		model, why string
	}{
		"under the pooled gap":              {base, "weak", ""},
		"above it":                          {with(func(d *router.Demand) { d.Scores = scored(0.5, 0.75, classifier.General) }), "strong", ""},
		"a domain has its own":              {with(func(d *router.Demand) { d.Scores = scored(0.6, 0.75, classifier.Coding) }), "strong", ""},
		"another bundle":                    {with(func(d *router.Demand) { d.BundleDigest = "sha256:c" }), "weak", "other_bundle"},
		"out of distribution":               {with(func(d *router.Demand) { d.Scores.OutOfDistribution = true }), "weak", "out_of_distribution"},
		"not scored":                        {with(func(d *router.Demand) { d.Scored = false }), "strong", "unscored"},
		"a rule":                            {with(func(d *router.Demand) { d.Rule = "r" }), "weak", "rule"},
		"a named tier":                      {with(func(d *router.Demand) { d.Override.Tier = router.HighPerformance }), "strong", "override"},
		"a gap of the request":              {with(func(d *router.Demand) { d.Limits.MaxQualityGap = router.Some(0.2) }), "weak", "limit"},
		"a budget that the strong breaks":   {with(func(d *router.Demand) { d.Limits.MaxCost = router.Some(router.NanoUSD(1_000_000)) }), "weak", "limit"},
		"a budget that neither breaks":      {with(func(d *router.Demand) { d.Limits.MaxCost = router.Some(router.NanoUSD(1_000_000_000)) }), "weak", ""},
		"a capability that the weak lacks":  {with(func(d *router.Demand) { d.Required = router.Vision }), "strong", "limit"},
		"a model that was not calibrated":   {with(func(d *router.Demand) { d.Policy, d.Scores = "open", scored(0.3, 0.75, classifier.General) }), "new", "unmeasured_model"},
		"a session that moved it":           {withSession(base, router.SessionState{Need: router.HighPerformance}), "strong", "session"},
		"a session that moved nothing":      {withSession(base, router.SessionState{PreviousModel: "weak", Need: router.Efficient}), "weak", ""},
		"a domain that was not calibrated":  {with(func(d *router.Demand) { d.Policy = "coding" }), "strong", "domain_not_calibrated"},
		"the one domain that was, under it": {with(func(d *router.Demand) { d.Policy, d.Scores = "coding", scored(0.71, 0.75, classifier.Coding) }), "weak", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Decide(tc.in)
			require.NoError(t, err)
			assert.Equal(t, tc.model, got.Chosen.Model.ID)
			assert.Equal(t, tc.why, got.Guarantee.Why)
			assert.Equal(t, tc.why == "", got.Guarantee.Valid)
			assert.InDelta(t, 0.05, got.Guarantee.Delta, 0)
		})
	}
	got, err := r.Decide(base)
	require.NoError(t, err)
	assert.Equal(t, router.Applied{Name: "max_quality_gap", Value: "0.2", Source: router.FromPolicy}, got.Limits[0])
	assert.True(t, got.ClaimFor("weak").Valid)
	assert.Equal(t, "fallback", got.ClaimFor("strong").Why)
	assert.Contains(t, got.Explanation(), "Policy kept: loses more than .05")
	plain, err := rules(t, tableConfig).Decide(base)
	require.NoError(t, err)
	assert.Zero(t, plain.Guarantee, "nothing is promised where nothing was calibrated")
	assert.NotContains(t, plain.Explanation(), "Policy")
}

func TestGuaranteeFaults(t *testing.T) {
	_, err := router.ParseConfig([]byte(tableConfig+`
  - id: g
    min_quality: 0.5
    guarantee: {calibration_id: "a b", epsilon: 2, alpha: 0.1, delta: 0.1, models: [nope], domains: [{domain: cooking, max_quality_gap: 1}]}
  - {id: h, guarantee: {calibration_id: c, epsilon: 0, alpha: 0.1, delta: 0.1, bundle_digest: x}}
`), "g.yaml", none)
	var bad *router.ConfigError
	require.ErrorAs(t, err, &bad)
	for _, want := range []string{
		"g.yaml:23: policies[5].guarantee.calibration_id: \"a b\" is no id",
		"policies[5].guarantee.epsilon: is 2", "policies[5].guarantee.bundle_digest: is empty", "policies[5].guarantee.models[0]: \"nope\" is no model",
		"policies[5].guarantee.domains[0].domain: domain \"cooking\"", "policies[5].guarantee: stands beside a quality limit",
		"g.yaml:24: policies[6].guarantee.models: is empty", "policies[6].guarantee.max_quality_gap: is missing",
	} {
		assert.Contains(t, err.Error(), want)
	}
}

func TestSpecialistKnobs(t *testing.T) {
	r := rules(t, tableConfig)
	d := router.Demand{Scores: scored(0.3, 0.8, classifier.Legal), Scored: true}
	d.Scores.Domains = [classifier.NumDomains]float64{}
	d.Scores.Domains[classifier.Legal.Index()], d.Scores.Domains[classifier.Finance.Index()] = 0.65, 0.35
	model := func() string {
		got, err := r.Decide(d)
		require.NoError(t, err)
		return got.Chosen.Model.ID
	}
	assert.Equal(t, "s/law", model(), "the default wants .6 and no margin")
	d.Limits.SpecialistMargin = router.Some(0.31)
	assert.Equal(t, "h/cheap", model())
	d.Limits.SpecialistMargin = router.Some(0.29)
	assert.Equal(t, "s/law", model())
	d.Limits.SpecialistConfidence = router.Some(0.7)
	d.Explain = true
	got, err := r.Decide(d)
	require.NoError(t, err)
	assert.Equal(t, "h/cheap", got.Chosen.Model.ID)
	assert.Contains(t, got.Limits, router.Applied{Name: "specialist_min_confidence", Value: "0.7", Source: router.FromRequest, Binding: true})
	for _, c := range got.Rejected {
		if c.Model.ID == "s/law" {
			assert.Contains(t, c.Detail, "needed is 0.70 and 0.29 more than any other domain's, 0.35")
		}
	}
}
