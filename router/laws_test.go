package router_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// drawDemand makes a demand with any mix of limits. Named models and alpha are
// left out: a named model is nobody's choice, and one dial trades quality away.
func drawDemand(t *rapid.T) router.Demand {
	share := rapid.Float64Range(0, 1)
	high := share.Draw(t, "q_high")
	d := router.Demand{Scored: true, Scores: scored(share.Draw(t, "q_efficient"), high, classifier.Domain(rapid.IntRange(1, 8).Draw(t, "domain")))}
	d.Scores.OutputTokens = rapid.Float64Range(1, 2000).Draw(t, "output")
	d.Scores.OutputTokensP90 = d.Scores.OutputTokens * rapid.Float64Range(1, 4).Draw(t, "p90")
	d.Scores.InputTokens = rapid.IntRange(1, 20000).Draw(t, "input")
	d.UnscoredTokens = rapid.Int64Range(0, 20000).Draw(t, "unscored")
	d.MaxOutputTokens = rapid.Int64Range(0, 4000).Draw(t, "max output")
	d.Required = router.Capabilities(rapid.SampledFrom([]int{0, 0, 1, 2, 4, 32}).Draw(t, "capabilities"))
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	l := &d.Limits
	if maybe("has min quality") {
		l.MinQuality = router.Some(share.Draw(t, "min quality"))
	}
	if maybe("has gap") {
		l.MaxQualityGap = router.Some(share.Draw(t, "gap"))
	}
	if maybe("has cost") {
		l.MaxCost = router.Some(router.NanoUSD(rapid.Int64Range(0, 60_000_000).Draw(t, "cost")))
	}
	if maybe("has ttft") {
		l.MaxTTFT = router.Some(time.Duration(rapid.Int64Range(1, 3000).Draw(t, "ttft")) * time.Millisecond)
	}
	if maybe("has floor") {
		l.MinTier = router.Some(rapid.SampledFrom([]router.Tier{router.Efficient, router.HighPerformance}).Draw(t, "floor"))
	}
	if maybe("has price") {
		l.MaxOutputPrice = router.Some(router.NanoUSD(rapid.Int64Range(0, 30e9).Draw(t, "price")))
	}
	if maybe("has ceiling") {
		l.MaxTier = router.Some(rapid.SampledFrom([]router.Tier{router.Efficient, router.HighPerformance, router.HighPerformance}).Draw(t, "ceiling"))
	}
	if maybe("specialists") {
		l.SpecialistConfidence, l.SpecialistMargin = router.Some(share.Draw(t, "confidence")), router.Some(share.Draw(t, "margin"))
	}
	d.Deny = rapid.SampledFrom([][]string{nil, nil, {"h/dear"}, {"e/*"}}).Draw(t, "deny")
	d.Allow = rapid.SampledFrom([][]string{nil, nil, nil, {"h/*", "e/*"}}).Draw(t, "allow")
	d.CallableOnly = rapid.SampledFrom([]bool{false, false, true}).Draw(t, "callable")
	d.Provider.Data = rapid.SampledFrom([]router.DataCollection{0, 0, 0, router.DataDeny}).Draw(t, "data")
	if maybe("downgrade") {
		l.AllowDowngrade = router.Some(true)
	}
	return d
}

func TestNeverOverTheCostBound(t *testing.T) {
	r := rules(t, tableConfig)
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		d.Limits.MaxCost = router.Some(router.NanoUSD(rapid.Int64Range(0, 60_000_000).Draw(t, "hard cost")))
		got, err := r.Decide(d)
		if err != nil {
			return
		}
		for _, c := range got.Ranked {
			require.True(t, c.PriceKnown)
			require.LessOrEqual(t, c.Bound, d.Limits.MaxCost.Value)
			require.LessOrEqual(t, c.P90Output, c.MaxOutput)
			exact, err := c.Model.Price.Cost(router.Usage{Input: c.InputTokens, Output: c.MaxOutput})
			require.NoError(t, err)
			require.Equal(t, exact, c.Bound)
		}
	})
}

func TestHarderNeverLandsLower(t *testing.T) {
	r := rules(t, tableConfig)
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		easy, err := r.Decide(d)
		if err != nil {
			return
		}
		d.Scores.QEfficient.Value *= rapid.Float64Range(0, 1).Draw(t, "harder by")
		d.Scores.QEfficient.Low = 0
		hard, err := r.Decide(d)
		require.NoError(t, err)
		// Where the high tier is expected to do worse than the efficient one, a
		// lower efficient quality rightly changes nothing or lifts.
		require.GreaterOrEqual(t, hard.Chosen.Model.EffectiveTier(), easy.Chosen.Model.EffectiveTier())
	})
}

func TestMoreMoneyNeverBuysLess(t *testing.T) {
	r := rules(t, tableConfig)
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		d.Limits.MaxCost = router.Some(router.NanoUSD(rapid.Int64Range(0, 60_000_000).Draw(t, "budget")))
		before, err := r.Decide(d)
		if err != nil {
			return
		}
		d.Limits.MaxCost.Value += router.NanoUSD(rapid.Int64Range(0, 60_000_000).Draw(t, "more"))
		after, err := r.Decide(d)
		require.NoError(t, err, "a larger budget made an eligible request fail")
		require.GreaterOrEqual(t, after.Chosen.Quality.Value, before.Chosen.Quality.Value)
	})
}

// loosen is every way to take a limit away.
func loosen() map[string]func(*router.Demand) {
	return map[string]func(*router.Demand){
		"min quality": func(d *router.Demand) { d.Limits.MinQuality = router.Opt[float64]{} },
		"gap":         func(d *router.Demand) { d.Limits.MaxQualityGap = router.Some(1.0) },
		"cost":        func(d *router.Demand) { d.Limits.MaxCost = router.Opt[router.NanoUSD]{} },
		"price":       func(d *router.Demand) { d.Limits.MaxOutputPrice = router.Opt[router.NanoUSD]{} },
		"ttft":        func(d *router.Demand) { d.Limits.MaxTTFT = router.Opt[time.Duration]{} },
		"floor":       func(d *router.Demand) { d.Limits.MinTier = router.Opt[router.Tier]{} },
		"ceiling":     func(d *router.Demand) { d.Limits.MaxTier = router.Opt[router.Tier]{} },
		"specialists": func(d *router.Demand) { d.Limits.SpecialistConfidence = router.Some(0.0) },
		"margin":      func(d *router.Demand) { d.Limits.SpecialistMargin = router.Some(0.0) },
		"capability":  func(d *router.Demand) { d.Required = 0 },
		"deny":        func(d *router.Demand) { d.Deny = nil },
		"allow":       func(d *router.Demand) { d.Allow = nil },
		"data":        func(d *router.Demand) { d.Provider = router.ProviderRules{} },
		"callable":    func(d *router.Demand) { d.CallableOnly = false },
	}
}

func TestLooserNeverFails(t *testing.T) {
	r := rules(t, tableConfig)
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		if _, err := r.Decide(d); err != nil {
			return
		}
		before, _ := r.Decide(d)
		for name, change := range loosen() {
			looser := d
			change(&looser)
			after, err := r.Decide(looser)
			require.NoError(t, err, name)
			if after.Needed == before.Needed && before.Chosen.PriceKnown {
				require.LessOrEqual(t, after.Chosen.P90, before.Chosen.P90, "%s: the same floor came dearer", name)
			}
		}
	})
}

// TestNoFallbackBreaksAFloor kills every subset of the models and looks at what
// Next offers.
func TestNoFallbackBreaksAFloor(t *testing.T) {
	r := rules(t, tableConfig)
	models := r.Catalog.Models()
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		got, err := r.Decide(d)
		if err != nil {
			return
		}
		allowed := d.Limits.AllowDowngrade.Value
		needed := got.Best - 0.1
		if d.Limits.MaxQualityGap.Set {
			needed = got.Best - d.Limits.MaxQualityGap.Value
		}
		if d.Limits.MinQuality.Set {
			needed = max(needed, min(d.Limits.MinQuality.Value, got.Best))
		}
		for dead := range 1 << len(models) {
			failed := map[string]bool{}
			for i, m := range models {
				failed[m.ID] = dead&(1<<i) != 0
			}
			next, err := router.Next(&got, failed)
			if err != nil {
				require.ErrorIs(t, err, router.ErrExhausted)
				continue
			}
			require.False(t, failed[next.Model.ID])
			require.Zero(t, d.Required&^next.Model.Capabilities)
			if d.Limits.MaxCost.Set {
				require.LessOrEqual(t, next.Bound, d.Limits.MaxCost.Value, "not even a downgrade may break the budget")
			}
			if allowed {
				continue
			}
			require.GreaterOrEqual(t, next.Quality.Value, needed-1e-9)
			if d.Limits.MinTier.Set {
				require.GreaterOrEqual(t, next.Model.EffectiveTier(), d.Limits.MinTier.Value)
			}
		}
	})
}

// TestRulesNeverLiftAHardLimit: under any rule, whatever Next offers keeps the
// request's budget, lists, capabilities and data policy, and the rule's denials.
func TestRulesNeverLiftAHardLimit(t *testing.T) {
	r := rules(t, tableConfig+ruleLines)
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		rule := rapid.SampledFrom(r.Rules).Draw(t, "rule")
		d.Rule = rule.ID
		if rule.Then.SkipScoring {
			d.Scored, d.Scores = false, classifier.Scores{}
		}
		got, err := r.Decide(d)
		if err != nil {
			return
		}
		for failed := map[string]bool{}; ; {
			c, err := router.Next(&got, failed)
			if err != nil {
				break
			}
			failed[c.Model.ID] = true
			require.Zero(t, d.Required&^c.Model.Capabilities)
			if d.Limits.MaxCost.Set {
				require.True(t, c.PriceKnown)
				require.LessOrEqual(t, c.Bound, d.Limits.MaxCost.Value)
			}
			if d.Limits.MaxOutputPrice.Set {
				require.LessOrEqual(t, c.Model.Price.Output.Nano, d.Limits.MaxOutputPrice.Value)
			}
			for _, deny := range append([]string{}, append(d.Deny, rule.Then.Deny...)...) {
				require.False(t, strings.HasPrefix(c.Model.ID, strings.TrimSuffix(deny, "*")), "%s is denied by %s", c.Model.ID, deny)
			}
			if d.Provider.Data == router.DataDeny {
				dep, ok := d.Provider.FirstDeployment(c.Model)
				require.True(t, ok && dep.Upstream.Data == router.DataDeny)
			}
			if m := rule.Then.MaxTier; m.Set && !d.Limits.MaxTier.Set {
				require.LessOrEqual(t, c.Model.EffectiveTier(), m.Value)
			}
		}
	})
}

func TestDecideIsPure(t *testing.T) {
	r := rules(t, tableConfig)
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		a, errA := r.Decide(d)
		b, errB := r.Decide(d)
		require.Equal(t, a, b)
		require.Equal(t, errA, errB)
	})
}
