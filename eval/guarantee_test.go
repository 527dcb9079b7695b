package eval

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/weirhq/weir/classifier"
)

// recorded replays the set of the repository with the baseline classifier: real
// outcomes of real models, scores that need no native library.
func recorded(t *testing.T) *Sample {
	t.Helper()
	sources, err := Open("weir:" + filepath.Join("sets", "weir-local.jsonl"))
	require.NoError(t, err)
	_, samples, err := Run(t.Context(), Config{
		Sources: sources, Classifier: classifier.Lexical{}, Weak: "smollm2-135m-fewshot", Strong: "quartet", Bootstrap: -1,
	})
	require.NoError(t, err)
	return samples[0]
}

// risk is the share of the pool that loses more than epsilon at a threshold.
func risk(gap, loss []float64, threshold, epsilon float64) float64 {
	k := 0
	for i := range gap {
		if gap[i] <= threshold+1e-9 && loss[i] > epsilon {
			k++
		}
	}
	return float64(k) / float64(len(gap))
}

// empirical is a threshold that is a step too loose on purpose: the largest at
// which the sample itself keeps alpha, without any confidence.
func empirical(gap, loss []float64, alpha, epsilon float64) float64 {
	best := -1.0
	for at := 0.0; at <= 1; at += thresholdStep {
		if risk(gap, loss, at, epsilon) > alpha {
			break
		}
		best = at
	}
	return best
}

// Calibrated on draws with replacement from recorded outcomes, the promise is
// broken over the whole pool in at most a share delta of the draws.
func TestTheGuaranteeHolds(t *testing.T) {
	s := recorded(t)
	draws := 250
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		draws = 1000
	}
	loss := make([]float64, s.Len())
	for i := range loss {
		loss[i] = s.StrongScore[i] - s.WeakScore[i]
	}
	const epsilon, delta = 0.5, 0.1
	for _, alpha := range []float64{0.06, 0.10, 0.15} {
		rng := rand.New(rand.NewPCG(3, uint64(alpha*1000)))
		broken, loose, found := 0, 0, 0
		for range draws {
			gap, lost := make([]float64, s.Len()), make([]float64, s.Len())
			for i := range gap {
				j := rng.IntN(s.Len())
				gap[i], lost[i] = s.Gap[j], loss[j]
			}
			p, err := CalibrateGuarantee(&GuaranteeConfig{Gap: gap, Loss: lost, Epsilon: epsilon, Alpha: alpha, Delta: delta})
			if err == nil {
				found++
				if risk(s.Gap, loss, p.All.Threshold, epsilon) > alpha {
					broken++
				}
				assert.LessOrEqual(t, p.All.Bound, alpha)
				assert.LessOrEqual(t, p.All.Hoeffding, p.All.Threshold, "the exact bound is never the looser promise")
			}
			if risk(s.Gap, loss, empirical(gap, lost, alpha, epsilon), epsilon) > alpha {
				loose++
			}
		}
		// What delta allows in so many draws, with a chance of one in a thousand.
		most := distuv.Binomial{N: float64(draws), P: delta}
		allowed := 0.0
		for most.CDF(allowed) < 0.999 {
			allowed++
		}
		t.Logf("alpha %.2f: broken in %d of %d draws (a threshold was found in %d), without confidence in %d", alpha, broken, draws, found, loose)
		assert.LessOrEqual(t, float64(broken), allowed, "alpha %v", alpha)
		assert.Greater(t, float64(loose), allowed, "alpha %v: a looser step has to fail this very test", alpha)
		assert.Greater(t, found, draws/2, "alpha %v: a promise that is never made proves nothing", alpha)
	}
}

func TestClopperPearsonIsExact(t *testing.T) {
	for _, c := range []struct {
		k, n         int
		alpha, delta float64
	}{{0, 58, 0.05, 0.05}, {3, 100, 0.1, 0.05}, {40, 500, 0.1, 0.1}, {1, 10, 0.5, 0.01}} {
		want := distuv.Binomial{N: float64(c.n), P: c.alpha}.CDF(float64(c.k)) <= c.delta
		assert.Equal(t, want, passes(c.k, c.n, c.alpha, c.delta), c)
		bound := upperBound(c.k, c.n, c.delta)
		assert.InDelta(t, c.delta, distuv.Binomial{N: float64(c.n), P: bound}.CDF(float64(c.k)), 1e-9, c)
	}
	assert.Equal(t, 59, fewest(0.05, 0.05), "the textbook's rule of 59")
	assert.False(t, passes(0, 58, 0.05, 0.05))
	assert.True(t, passes(0, 59, 0.05, 0.05))
	assert.InDelta(t, 1, upperBound(5, 5, 0.1), 0)
}

func TestAPromiseIsRefusedWhereTheDataDoNotSuffice(t *testing.T) {
	cfg := &GuaranteeConfig{Gap: make([]float64, 40), Loss: make([]float64, 40), Epsilon: 0.1, Alpha: 0.05, Delta: 0.05}
	_, err := CalibrateGuarantee(cfg)
	var few *NotEnoughError
	require.ErrorAs(t, err, &few)
	assert.Equal(t, 59, few.Needed)

	cfg = &GuaranteeConfig{Epsilon: 0.1, Alpha: 0.05, Delta: 0.05}
	for i := range 400 { // half of what even the strictest threshold sends down is lost
		cfg.Gap, cfg.Loss = append(cfg.Gap, -0.1), append(cfg.Loss, float64(i%2))
	}
	_, err = CalibrateGuarantee(cfg)
	require.ErrorAs(t, err, &few)
	assert.Equal(t, 200, few.Violations)

	cfg = &GuaranteeConfig{Epsilon: 0.1, Alpha: 0.1, Delta: 0.1}
	for i := range 1000 { // law loses nothing, medicine is small, coding always loses
		d := classifier.Domain(1)
		gap, loss := 0.3, 0.0
		switch {
		case i < 10:
			d = classifier.Domain(2)
		case i < 200:
			d, gap, loss = classifier.Domain(3), -0.1, 1
		}
		cfg.Gap, cfg.Loss, cfg.Domain = append(cfg.Gap, gap), append(cfg.Loss, loss), append(cfg.Domain, d)
	}
	_, err = CalibrateGuarantee(cfg)
	require.ErrorAs(t, err, &few, "19 % lose: the whole cannot be promised")
	cfg.Alpha = 0.25
	p, err := CalibrateGuarantee(cfg)
	require.NoError(t, err)
	assert.Contains(t, p.Domains, classifier.Domain(1).String())
	assert.Contains(t, p.Refused[classifier.Domain(2).String()], "too few")
	assert.Contains(t, p.Refused[classifier.Domain(3).String()], "lose too much")
	assert.InDelta(t, cfg.Delta/3, p.All.Delta, 1e-12, "the whole and two domains that could pass share delta")

	for _, bad := range []GuaranteeConfig{
		{Epsilon: -1, Alpha: 0.1, Delta: 0.1},
		{Epsilon: 0.1, Alpha: 0, Delta: 0.1},
		{Epsilon: 0.1, Alpha: 0.1, Delta: 1},
		{Epsilon: 0.1, Alpha: 0.1, Delta: 0.1, Gap: []float64{1}},
		{Epsilon: 0.1, Alpha: 0.1, Delta: 0.1, Gap: []float64{math.NaN()}, Loss: []float64{0}},
	} {
		_, err := CalibrateGuarantee(&bad)
		require.Error(t, err)
		require.NotErrorAs(t, err, &few)
	}
}
