package router_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// TestEveryShippedPriceSaysWhereAndWhen reads the source and the date of every
// price of the embedded config, the deployments' included.
func TestEveryShippedPriceSaysWhereAndWhen(t *testing.T) {
	r := rules(t, string(router.DefaultConfig()))
	models := r.Catalog.Models()
	assert.GreaterOrEqual(t, len(models), 40)
	source := regexp.MustCompile(`litellm \d+\.\d+\.\d+|[a-z]\.(com|dev|ai)/`)
	for _, m := range models {
		for _, d := range m.Deployments {
			p := m.PriceAt(d)
			assert.True(t, p.Input.Known && p.Output.Known && p.Input.Nano > 0 && p.Output.Nano > 0, "%s at %s has no price", m.ID, d.Upstream.ID)
			assert.Regexp(t, source, p.Source, m.ID)
			_, err := time.Parse(time.DateOnly, p.Date)
			require.NoError(t, err, m.ID)
		}
	}
}

// TestTierGoesWithPrice holds the bands that docs/catalog.md states.
func TestTierGoesWithPrice(t *testing.T) {
	for _, m := range rules(t, string(router.DefaultConfig())).Catalog.Models() {
		if m.EffectiveTier() == router.HighPerformance {
			assert.GreaterOrEqual(t, m.Price.Output.Nano, router.NanoUSD(3_500_000_000), "%s is too cheap for a flagship", m.ID)
		} else {
			assert.LessOrEqual(t, m.Price.Output.Nano, router.NanoUSD(7_500_000_000), "%s is too dear for a small model", m.ID)
		}
	}
}

func easyAndHard() (easy, hard router.Demand) {
	easy = router.Demand{Scored: true, Scores: scored(0.75, 0.8, classifier.General)}
	hard = router.Demand{Scored: true, Scores: scored(0.3, 0.7, classifier.Math)}
	for _, d := range []*router.Demand{&easy, &hard} {
		d.Scores.InputTokens, d.Scores.OutputTokens, d.Scores.OutputTokensP90 = 60, 200, 400
	}
	return easy, hard
}

// TestOneKeyIsEnough gives the server one provider's key at a time: easy and
// hard prompts must both find a model, and with the providers that have both
// tiers in the presets, one of its own tier each.
func TestOneKeyIsEnough(t *testing.T) {
	both := map[string]bool{"ANTHROPIC_API_KEY": true, "OPENAI_API_KEY": true, "GEMINI_API_KEY": true, "MOONSHOT_API_KEY": true, "META_API_KEY": true}
	says := map[string][2]string{ // as docs/catalog.md says
		"OPENAI_API_KEY":    {"openai/gpt-6-luna", "openai/gpt-6.1-terra"},
		"ANTHROPIC_API_KEY": {"anthropic/claude-haiku-5-5", "anthropic/claude-sonnet-5-5"},
		"GEMINI_API_KEY":    {"google/gemini-3.1-flash-lite", "google/gemini-4-argon"},
	}
	r := rules(t, string(router.DefaultConfig()))
	keys := map[string]bool{}
	for _, u := range r.Upstreams {
		keys[u.KeyEnv] = true
	}
	for key := range keys {
		r, err := router.ParseConfig(router.DefaultConfig(), "embedded", func(k string) string { return map[string]string{key: "x"}[k] })
		require.NoError(t, err)
		for policy := range r.Policies {
			easy, hard := easyAndHard()
			easy.CallableOnly, hard.CallableOnly, easy.Policy, hard.Policy = true, true, policy, policy
			low, err := r.Decide(easy)
			if key == "COHERE_API_KEY" || key == "NOVITA_API_KEY" {
				continue // what they serve here is for those who name it, or for the open policy
			}
			require.NoError(t, err, "%s with %s alone", policy, key)
			high, err := r.Decide(hard)
			require.NoError(t, err, "%s with %s alone", policy, key)
			if want, ok := says[key]; ok && policy == "balanced" {
				assert.Equal(t, want, [2]string{low.Chosen.Model.ID, high.Chosen.Model.ID}, key)
			}
			if both[key] && policy == "balanced" {
				assert.Equal(t, router.Efficient, low.Chosen.Model.Tier, "%s: an easy prompt went to %s", key, low.Chosen.Model.ID)
				assert.Equal(t, router.HighPerformance, high.Chosen.Model.Tier, "%s: a hard prompt went to %s", key, high.Chosen.Model.ID)
			}
		}
	}
}

// TestNoUnmeasuredBargainWins: with every key, the presets choose none of the
// models that have no public standing to their price.
func TestNoUnmeasuredBargainWins(t *testing.T) {
	r := rules(t, string(router.DefaultConfig()))
	easy, hard := easyAndHard()
	medical := hard
	medical.Scores = scored(0.75, 0.8, classifier.Medical)
	open := easy
	open.Policy = "open"
	cheapest, err := r.Decide(open)
	require.NoError(t, err)
	assert.Equal(t, "amazon/nova-micro", cheapest.Chosen.Model.ID, "the open policy leaves price alone to decide")
	for _, policy := range []string{"balanced", "saver", "quality"} {
		for _, d := range []router.Demand{easy, hard, medical} {
			d.Policy = policy
			got, err := r.Decide(d)
			require.NoError(t, err)
			for _, c := range got.Ranked {
				assert.NotEqual(t, cheapest.Chosen.Model.ID, c.Model.ID)
				assert.NotEqual(t, router.DomainSpecialist, c.Model.Tier, c.Model.ID)
			}
			assert.True(t, got.Chosen.Unmeasured)
			assert.Contains(t, []string{"openai/gpt-6-luna", "openai/gpt-6.1-terra"}, got.Chosen.Model.ID, policy)
		}
	}
}

// TestLongListsCostNothing: the presets' lists of names are matched when the
// config is read, not at every decision.
func TestLongListsCostNothing(t *testing.T) {
	r := rules(t, string(router.DefaultConfig()))
	require.Greater(t, len(r.Policies["balanced"].Deny), 10)
	allocations := func(policy string) float64 {
		d, _ := easyAndHard()
		d.Policy = policy
		return testing.AllocsPerRun(20, func() { _, _ = r.Decide(d) })
	}
	assert.InDelta(t, allocations("open"), allocations("balanced"), 2)
}
