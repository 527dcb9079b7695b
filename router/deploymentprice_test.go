package router_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/router"
)

const twoPrices = `version: 1
default_policy: p
upstreams:
  - {id: dear, dialect: openai, base_url: "https://dear.example/v1"}
  - {id: cheap, dialect: openai, base_url: "https://cheap.example/v1"}
models:
  - id: m
    tier: EFFICIENT
    context_window: 10000
    max_output_tokens: 1000
    price: {input: "$2.00/M", cached_input: "$0.50/M", output: "$8.00/M", source: s, date: "2026-01-02"}
    deployments:
      - {upstream: dear, name: m}
      - {upstream: cheap, name: m, price: PRICE}
policies: [{id: p}]
`

func withPrice(price string) ([]byte, string) {
	return []byte(strings.Replace(twoPrices, "PRICE", price, 1)), "two.yaml"
}

func TestADeploymentHasItsOwnPrice(t *testing.T) {
	text, source := withPrice(`{input: "$1.00/M", cached_input: "$0.10/M", output: "$3.00/M", source: s, date: "2026-01-02"}`)
	r, err := router.ParseConfig(text, source, none)
	require.NoError(t, err)
	m, _ := r.Catalog.Model("m")
	use := router.Usage{Input: 1000, CachedInput: 400, Output: 100}
	for i, want := range []router.NanoUSD{1000*2000 - 400*1500 + 100*8000, 1000*1000 - 400*900 + 100*3000} {
		got, err := m.PriceAt(m.Deployments[i]).Cost(use)
		require.NoError(t, err)
		assert.Equal(t, want, got, m.Deployments[i].Upstream.ID)
	}
	d, err := r.Decide(router.Demand{Scored: true, Scores: scored(0.5, 0.6, 1)})
	require.NoError(t, err)
	dearest, err := m.Price.Cost(router.Usage{Input: d.Chosen.InputTokens, Output: d.Chosen.MaxOutput})
	require.NoError(t, err)
	assert.Equal(t, dearest, d.Chosen.Bound, "the bound is that of the dearest deployment")
}

func TestADeploymentsPriceStaysUnderTheModels(t *testing.T) {
	for price, want := range map[string]string{
		`{input: "$2.01/M", cached_input: "$0.10/M", output: "$3.00/M", source: s, date: "2026-01-02"}`:                       `two.yaml:14: models[0].deployments[1].price.input: costs $2.01, more than the model's $2.00: raise`,
		`{input: "$1.00/M", output: "$3.00/M", source: s, date: "2026-01-02"}`:                                                `price.cached_input: costs $1.00, more than the model's $0.50`,
		`{input: "$1.00/M", cached_input: "$0.10/M", output: "$8.01/M", source: s, date: "2026-01-02"}`:                       `price.output: costs $8.01`,
		`{input: "$1.00/M", cached_input: "$0.10/M", output: "$3.00/M", reasoning: "$9.00/M", source: s, date: "2026-01-02"}`: `price.reasoning: costs $9.00`,
		`{input: "$1.00/M", cached_input: "$0.10/M", output: "$3.00/M", per_request: "$0.01", source: s, date: "2026-01-02"}`: `price.per_request: costs $0.01`,
		`{input: "$1.00/M", cached_input: "$0.10/M", output: "$3.00/M"}`:                                                      `price.source: source and date are needed`,
		`{}`: `price: has no figures`,
	} {
		text, source := withPrice(price)
		_, err := router.ParseConfig(text, source, none)
		require.ErrorContains(t, err, want, price)
	}
	text, source := withPrice(`{input: "$1.00/M", output: "$3.00/M", source: s, date: "2026-01-02"}`)
	text = []byte(strings.Replace(string(text), `    price: {input: "$2.00/M", cached_input: "$0.50/M", output: "$8.00/M", source: s, date: "2026-01-02"}`+"\n", "", 1))
	_, err := router.ParseConfig(text, source, none)
	require.ErrorContains(t, err, "is known, but the model's is not")
}

// TestTheBoundHoldsWhereverACallLands bills every use within a candidate's
// limits at every deployment of the shipped catalog.
func TestTheBoundHoldsWhereverACallLands(t *testing.T) {
	r, err := router.ParseConfig(router.DefaultConfig(), "embedded", none)
	require.NoError(t, err)
	several := 0
	for _, m := range r.Catalog.Models() {
		for _, d := range m.Deployments {
			if d.Price != nil {
				several++
			}
		}
	}
	require.Positive(t, several, "no shipped deployment has a price of its own: nothing is tested")
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		d.Policy = "open"
		d.Limits.MaxCost = router.Some(router.NanoUSD(rapid.Int64Range(0, 60_000_000).Draw(t, "hard cost")))
		got, err := r.Decide(d)
		if err != nil {
			return
		}
		share := rapid.Float64Range(0, 1)
		for _, c := range got.Ranked {
			use := router.Usage{Input: c.InputTokens, Output: c.MaxOutput}
			use.CachedInput = int64(share.Draw(t, "cached") * float64(use.Input))
			use.CacheWrite = int64(share.Draw(t, "written") * float64(use.Input-use.CachedInput))
			use.Reasoning = int64(share.Draw(t, "reasoning") * float64(use.Output))
			for _, dep := range c.Model.Deployments {
				cost, err := c.Model.PriceAt(dep).Cost(use)
				require.NoError(t, err)
				require.LessOrEqual(t, cost, c.Bound, "%s at %s", c.Model.ID, dep.Upstream.ID)
				require.LessOrEqual(t, cost, d.Limits.MaxCost.Value)
			}
		}
	})
}
