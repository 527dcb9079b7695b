package router_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// tableConfig has a cheap and a dear model of each tier, a specialist of each
// kind, one model without a price and one with a measured curve.
const tableConfig = `
version: 1
default_policy: balanced
upstreams:
  - {id: u, dialect: openai, base_url: "http://localhost:1/v1"}
  - {id: keyed, dialect: openai, base_url: "http://localhost:1/v1", key_env: KEY, data_collection: deny}
models:
  - {id: e/cheap, tier: EFFICIENT, context_window: 8000, max_output_tokens: 4000, price: {input: "$0.10/M", output: "$0.40/M", source: t, date: "2026-01-01"}, ttft: 300ms, capabilities: [tools], deployments: [{upstream: u, name: a}], fallbacks: [e/dear]}
  - {id: e/dear, tier: EFFICIENT, context_window: 100000, max_output_tokens: 8000, price: {input: "$0.50/M", output: "$2.00/M", source: t, date: "2026-01-01"}, ttft: 500ms, capabilities: [tools, json, vision], deployments: [{upstream: keyed, name: b}]}
  - {id: h/cheap, tier: HIGH_PERFORMANCE, context_window: 100000, max_output_tokens: 8000, price: {input: "$2.00/M", output: "$10.00/M", source: t, date: "2026-01-01"}, capabilities: [tools, json, reasoning], deployments: [{upstream: u, name: c}]}
  - {id: h/dear, tier: HIGH_PERFORMANCE, context_window: 400000, max_output_tokens: 32000, price: {input: "$5.00/M", output: "$25.00/M", source: t, date: "2026-01-01"}, ttft: 2s, capabilities: [tools, json, vision, reasoning], deployments: [{upstream: keyed, name: d}, {upstream: u, name: d}]}
  - {id: s/law, tier: DOMAIN_SPECIALIST, stands_in_for: HIGH_PERFORMANCE, domains: [legal], context_window: 32000, max_output_tokens: 8000, price: {input: "$1.00/M", output: "$4.00/M", source: t, date: "2026-01-01"}, deployments: [{upstream: u, name: e}]}
  - {id: h/unpriced, tier: HIGH_PERFORMANCE, context_window: 32000, max_output_tokens: 8000, deployments: [{upstream: u, name: f}]}
policies:
  - {id: balanced, max_quality_gap: 0.1}
  - {id: best, max_quality_gap: 0}
  - {id: cheap, max_tier: EFFICIENT}
  - {id: dial, alpha: 0.5}
  - {id: unsure, unscored_tier: EFFICIENT}
`

func rules(t testing.TB, text string) *router.Rules {
	t.Helper()
	r, err := router.ParseConfig([]byte(text), "test", none)
	require.NoError(t, err)
	return r
}

// scored makes scores with the two qualities and one sure domain.
func scored(efficient, high float64, domain classifier.Domain) classifier.Scores {
	s := classifier.Scores{
		QEfficient:   classifier.Estimate{Value: efficient, Low: efficient / 2, High: (1 + efficient) / 2},
		QHigh:        classifier.Estimate{Value: high, Low: high / 2, High: (1 + high) / 2},
		OutputTokens: 200, OutputTokensP90: 800, InputTokens: 100, Lane: "fast",
	}
	for i := range s.Domains {
		s.Domains[i] = 0.2 / (classifier.NumDomains - 1)
	}
	s.Domains[domain.Index()] = 0.8
	return s
}

func demand(efficient, high float64) router.Demand {
	return router.Demand{Scores: scored(efficient, high, classifier.General), Scored: true}
}

func TestDecide(t *testing.T) {
	easy, hard := demand(0.85, 0.9), demand(0.3, 0.8)
	with := func(d router.Demand, change func(*router.Demand)) router.Demand {
		change(&d)
		return d
	}
	legal := with(hard, func(d *router.Demand) { d.Scores = scored(0.3, 0.8, classifier.Legal) })
	for name, tc := range map[string]struct {
		in     router.Demand
		model  string
		reason router.Reason
	}{
		"an easy prompt goes to the cheapest":          {easy, "e/cheap", router.CheapestGoodEnough},
		"a hard one goes up":                           {hard, "h/cheap", router.QualityNeeded},
		"a specialist of the field is cheaper":         {legal, "s/law", router.Specialist},
		"a hopeless one gains nothing by going up":     {demand(0.05, 0.08), "e/cheap", router.CheapestGoodEnough},
		"the policy's gap":                             {with(easy, func(d *router.Demand) { d.Policy = "best" }), "h/cheap", router.QualityNeeded},
		"the request's gap beats the policy's":         {with(easy, func(d *router.Demand) { d.Policy, d.Limits.MaxQualityGap = "best", router.Some(0.06) }), "e/cheap", router.CheapestGoodEnough},
		"min_quality lifts":                            {with(easy, func(d *router.Demand) { d.Limits.MinQuality = router.Some(0.88) }), "h/cheap", router.QualityNeeded},
		"min_quality out of reach takes the best":      {with(hard, func(d *router.Demand) { d.Limits.MinQuality = router.Some(0.99) }), "h/cheap", router.BestEffort},
		"a wide gap stays low":                         {with(hard, func(d *router.Demand) { d.Limits.MaxQualityGap = router.Some(0.5) }), "e/cheap", router.CheapestGoodEnough},
		"a tight budget keeps it low":                  {with(hard, func(d *router.Demand) { d.Limits.MaxCost = router.Some(router.NanoUSD(1_000_000)) }), "e/cheap", router.CheapestGoodEnough},
		"a price ceiling":                              {with(hard, func(d *router.Demand) { d.Limits.MaxOutputPrice = router.Some(router.NanoUSD(2e9)) }), "e/cheap", router.CheapestGoodEnough},
		"a floor lifts":                                {with(easy, func(d *router.Demand) { d.Limits.MinTier = router.Some(router.HighPerformance) }), "h/cheap", router.CheapestGoodEnough},
		"a ceiling holds":                              {with(hard, func(d *router.Demand) { d.Limits.MaxTier = router.Some(router.Efficient) }), "e/cheap", router.CheapestGoodEnough},
		"the policy's ceiling holds":                   {with(hard, func(d *router.Demand) { d.Policy = "cheap" }), "e/cheap", router.CheapestGoodEnough},
		"tools and JSON":                               {with(easy, func(d *router.Demand) { d.Required = router.Tools | router.JSON }), "e/dear", router.CheapestGoodEnough},
		"an input too long for the cheapest":           {with(easy, func(d *router.Demand) { d.UnscoredTokens = 7000 }), "e/dear", router.CheapestGoodEnough},
		"an allow list":                                {with(easy, func(d *router.Demand) { d.Allow = []string{"h/*"} }), "h/cheap", router.CheapestGoodEnough},
		"a deny list":                                  {with(easy, func(d *router.Demand) { d.Deny = []string{"*/cheap"} }), "e/dear", router.CheapestGoodEnough},
		"time to first token, unknown counts as above": {with(hard, func(d *router.Demand) { d.Limits.MaxTTFT = router.Some(3 * time.Second) }), "h/dear", router.QualityNeeded},
		"a named model":                                {with(easy, func(d *router.Demand) { d.Override.Models = []string{"h/dear"} }), "h/dear", router.ByOverride},
		"named models in their order":                  {with(easy, func(d *router.Demand) { d.Override.Models = []string{"h/dear", "e/cheap"} }), "h/dear", router.ByOverride},
		"the first named one that is eligible":         {with(easy, func(d *router.Demand) { d.Override.Models, d.Required = []string{"e/cheap", "h/dear"}, router.Vision }), "h/dear", router.ByOverride},
		"a named specialist out of its field":          {with(easy, func(d *router.Demand) { d.Override.Models = []string{"s/law"} }), "s/law", router.ByOverride},
		"a named tier":                                 {with(easy, func(d *router.Demand) { d.Override.Tier = router.HighPerformance }), "h/cheap", router.ByOverride},
		"alpha 1 is the best":                          {with(hard, func(d *router.Demand) { d.Limits.Alpha = router.Some(1.0) }), "h/cheap", router.TradeOff},
		"alpha 0 is the cheapest":                      {with(hard, func(d *router.Demand) { d.Limits.Alpha = router.Some(0.0) }), "e/cheap", router.TradeOff},
		"a request's gap beats the policy's alpha":     {with(hard, func(d *router.Demand) { d.Policy, d.Limits.MaxQualityGap = "dial", router.Some(0.0) }), "h/cheap", router.QualityNeeded},
		"no score costs money, not quality":            {router.Demand{}, "h/cheap", router.ClassifierUnavailable},
		"no score, the policy's unscored tier":         {router.Demand{Policy: "unsure"}, "e/cheap", router.ClassifierUnavailable},
		"no score under a ceiling takes what is left":  {router.Demand{Policy: "cheap"}, "e/cheap", router.ClassifierUnavailable},
		"only upstreams that keep nothing":             {with(easy, func(d *router.Demand) { d.Provider.Data = router.DataDeny }), "e/dear", router.CheapestGoodEnough},
		"only a named upstream":                        {with(easy, func(d *router.Demand) { d.Provider.Only = []string{"keyed"} }), "e/dear", router.CheapestGoodEnough},
		"never a named upstream":                       {with(easy, func(d *router.Demand) { d.Provider.Ignore = []string{"u"} }), "e/dear", router.CheapestGoodEnough},
		"a strict order": {with(easy, func(d *router.Demand) {
			d.Provider.Order, d.Provider.AllowFallbacks = []string{"keyed"}, router.Some(false)
		}), "e/dear", router.CheapestGoodEnough},
		"callable only": {with(easy, func(d *router.Demand) { d.CallableOnly, d.Required = true, router.Vision }), "h/dear", router.CheapestGoodEnough},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := rules(t, tableConfig).Decide(tc.in)
			require.NoError(t, err)
			assert.Equal(t, tc.model, d.Chosen.Model.ID, d.Explanation())
			assert.Equal(t, tc.reason, d.Reason)
			assert.Equal(t, d.Chosen, d.Ranked[0])
			assert.Len(t, append(d.Ranked, d.Rejected...), 6, "every model is accounted for")
			assert.Contains(t, d.Explanation(), tc.model)
		})
	}
}

func TestDecideRefuses(t *testing.T) {
	r := rules(t, tableConfig)
	_, err := r.Decide(router.Demand{Policy: "x"})
	require.ErrorIs(t, err, router.ErrUnknownPolicy)
	assert.Contains(t, err.Error(), "balanced")
	_, err = r.Decide(router.Demand{Override: router.Override{Models: []string{"e/cheap", "nope"}}})
	require.ErrorIs(t, err, router.ErrUnknownModel)

	d := demand(0.9, 0.9)
	d.UnscoredTokens = 10_000_000
	_, err = r.Decide(d)
	var long *router.ContextTooLongError
	require.ErrorAs(t, err, &long)
	assert.Equal(t, int64(400_000), long.Max)

	d = demand(0.9, 0.9)
	d.Required, d.Limits.MaxCost = router.Vision, router.Some(router.NanoUSD(1000))
	_, err = r.Decide(d)
	var noneLeft *router.NoEligibleError
	require.ErrorAs(t, err, &noneLeft)
	assert.Equal(t, map[router.Rejection]int{router.RejectedCapability: 4, router.RejectedMaxCost: 2}, noneLeft.Removed)
	assert.Contains(t, err.Error(), "capability removed 4, max_cost removed 2")
	assert.Len(t, noneLeft.Details, 6)
}

func TestMaxCostIsHard(t *testing.T) {
	r := rules(t, tableConfig)
	d := demand(0.3, 0.8)
	d.Override.Models = []string{"h/cheap"}
	free, err := r.Decide(d)
	require.NoError(t, err)
	assert.Equal(t, int64(8000), free.Chosen.MaxOutput)
	// 125 input tokens are $0.00025; the 90th percentile, 1,000 tokens, is $0.01.
	assert.Equal(t, router.NanoUSD(250_000+10_000_000), free.Chosen.P90)
	assert.Equal(t, router.NanoUSD(250_000+2_500_000), free.Chosen.Expected) //nolint:testifylint // Expected is a cost here

	d.Limits.MaxCost = router.Some(router.NanoUSD(250_000 + 12_345_678))
	tight, err := r.Decide(d)
	require.NoError(t, err)
	assert.Equal(t, int64(1234), tight.Chosen.MaxOutput, "the output limit is what the budget affords")
	assert.GreaterOrEqual(t, d.Limits.MaxCost.Value, tight.Chosen.Bound)

	d.Limits.MaxCost = router.Some(router.NanoUSD(250_000 + 9_999_999))
	_, err = r.Decide(d)
	var noneLeft *router.NoEligibleError
	require.ErrorAs(t, err, &noneLeft, "one token short of the 90th percentile")
	assert.Equal(t, 1, noneLeft.Removed[router.RejectedMaxCost])

	d.Override.Models = []string{"h/unpriced"}
	_, err = r.Decide(d)
	require.ErrorAs(t, err, &noneLeft)
	assert.Equal(t, 1, noneLeft.Removed[router.RejectedPriceUnknown], "unknown is not free")
}

func TestLimitsSayWhereTheyCameFrom(t *testing.T) {
	d := demand(0.85, 0.9)
	d.Limits.MaxCost = router.Some(router.NanoUSD(5_000_000))
	got, err := rules(t, tableConfig).Decide(d)
	require.NoError(t, err)
	assert.Equal(t, []router.Applied{
		{Name: "max_quality_gap", Value: "0.1", Source: router.FromPolicy},
		{Name: "max_cost", Value: "$0.005", Source: router.FromRequest, Binding: true},
	}, got.Limits)
	d = demand(0.85, 0.9)
	d.Policy = "cheap"
	got, err = rules(t, tableConfig).Decide(d)
	require.NoError(t, err)
	assert.Equal(t, router.FromDefault, got.Limits[0].Source)
	assert.Equal(t, router.Applied{Name: "max_tier", Value: "EFFICIENT", Source: router.FromPolicy, Binding: true}, got.Limits[1])
}

func TestNext(t *testing.T) {
	r := rules(t, tableConfig)
	trail := func(d router.Demand) []string {
		decision, err := r.Decide(d)
		require.NoError(t, err)
		var out []string
		failed := map[string]bool{}
		for {
			c, err := router.Next(&decision, failed)
			if err != nil {
				require.ErrorIs(t, err, router.ErrExhausted)
				return out
			}
			out = append(out, c.Model.ID)
			failed[c.Model.ID] = true
		}
	}
	assert.Equal(t, []string{"e/cheap", "e/dear", "h/cheap", "h/dear", "h/unpriced"}, trail(demand(0.85, 0.9)), "own fallbacks first, then by cost")
	assert.Equal(t, []string{"h/cheap", "h/dear", "h/unpriced"}, trail(demand(0.3, 0.8)), "never below what the prompt needs")
	d := demand(0.3, 0.8)
	d.Limits.AllowDowngrade = router.Some(true)
	assert.Equal(t, []string{"h/cheap", "h/dear", "h/unpriced", "e/cheap", "e/dear"}, trail(d), "unless the caller allows it")
	d.Limits.MinTier = router.Some(router.HighPerformance)
	assert.Equal(t, []string{"h/cheap", "h/dear", "h/unpriced", "e/cheap", "e/dear"}, trail(d), "also below the floor")
	d.Limits.AllowDowngrade = router.Some(false)
	assert.Equal(t, []string{"h/cheap", "h/dear", "h/unpriced"}, trail(d))
	d = demand(0.85, 0.9)
	d.Override.Models = []string{"h/dear", "e/cheap"}
	assert.Equal(t, []string{"h/dear", "e/cheap"}, trail(d), "named models in their order and no other")
}

func TestMeasuredQuality(t *testing.T) {
	text := tableConfig + `
`
	r := rules(t, text)
	before, err := r.Decide(demand(0.3, 0.8))
	require.NoError(t, err)
	assert.True(t, before.Chosen.Unmeasured)
	assert.InDelta(t, 0.15, before.Chosen.Quality.Low, 1e-9, "an unmeasured model's interval spans both references")

	m, ok := r.Catalog.Model("e/dear")
	require.True(t, ok)
	m.Quality = &router.QualityCurve{Intercept: 0.1, Efficient: 0, High: 1, HalfWidth: 0.2}
	m.Quality.Domain[classifier.Legal.Index()] = -3
	after, err := r.Decide(demand(0.3, 0.8))
	require.NoError(t, err)
	assert.Equal(t, "e/dear", after.Chosen.Model.ID, "its outcomes say that it is as good as the high tier")
	assert.False(t, after.Chosen.Unmeasured)
	assert.InDelta(t, classifier.Sigmoid(classifier.Logit(0.8)+0.1), after.Chosen.Quality.Value, 1e-9)
	assert.InDelta(t, classifier.Sigmoid(classifier.Logit(0.8)+0.3), after.Chosen.Quality.High, 1e-9)
	legal, err := r.Decide(router.Demand{Scores: scored(0.3, 0.8, classifier.Legal), Scored: true})
	require.NoError(t, err)
	assert.Equal(t, "s/law", legal.Chosen.Model.ID, "but not in law")
}

func TestHugeNumbersDoNotWrap(t *testing.T) {
	d := demand(0.5, 0.8)
	d.UnscoredTokens = math.MaxInt64
	d.Scores.OutputTokens, d.Scores.OutputTokensP90 = 1e300, 1e301
	_, err := rules(t, tableConfig).Decide(d)
	var long *router.ContextTooLongError
	require.ErrorAs(t, err, &long)
}
