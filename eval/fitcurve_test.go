package eval

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// gradedBy draws prompts and grades them by a curve.
func gradedBy(n int, seed uint64, truth router.QualityCurve) []Graded {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]Graded, n)
	for i := range out {
		qe := 0.1 + 0.8*rng.Float64()
		qh := min(qe+0.3*rng.Float64(), 0.97)
		s := classifier.Scores{
			QEfficient: classifier.Estimate{Value: qe, Low: qe, High: qe}, QHigh: classifier.Estimate{Value: qh, Low: qh, High: qh},
			OutputTokens: 10, OutputTokensP90: 20, Lane: "test",
		}
		d := rng.IntN(classifier.NumDomains)
		s.Domains[d] = 1
		out[i].Scores = s
		if rng.Float64() < classifier.Sigmoid(at(truth, &s)) {
			out[i].Outcome = 1
		}
	}
	return out
}

func at(c router.QualityCurve, s *classifier.Scores) float64 {
	d, _ := s.Domain()
	return c.Intercept + c.Efficient*classifier.Logit(s.QEfficient.Value) + c.High*classifier.Logit(s.QHigh.Value) + c.Domain[d.Index()]
}

func TestFitCurveFindsTheCurve(t *testing.T) {
	truth := router.QualityCurve{Intercept: 0.8, Efficient: 0.7, High: 0.4}
	truth.Domain[2] = -0.6
	fit, err := FitCurve(&FitConfig{Graded: gradedBy(20000, 1, truth), Tier: router.Efficient, Evidence: "simulated"})
	require.NoError(t, err)
	assert.InDelta(t, truth.Intercept, fit.Curve.Intercept, 0.12)
	assert.InDelta(t, truth.Efficient, fit.Curve.Efficient, 0.1)
	assert.InDelta(t, truth.High, fit.Curve.High, 0.1)
	assert.InDelta(t, truth.Domain[2]-truth.Domain[3], fit.Curve.Domain[2]-fit.Curve.Domain[3], 0.15)
	assert.Less(t, fit.LogLoss, fit.ReferenceLogLoss)
	assert.InDelta(t, fit.Mean, fit.Predicted, 0.01)
	assert.Equal(t, "simulated", fit.Curve.Evidence)
}

// From 50 to 200 graded prompts the curve has to be nearer to the truth than
// the tier's reference is, and its interval has to hold what it says.
func TestAFewGradedPromptsSuffice(t *testing.T) {
	truth := router.QualityCurve{Intercept: 1.0, Efficient: 0.8}
	reference := router.QualityCurve{Efficient: 1}
	for _, n := range []int{50, 100, 200} {
		covered, of, better := 0, 0, 0
		const runs = 60
		for seed := range uint64(runs) {
			fit, err := FitCurve(&FitConfig{Graded: gradedBy(n, 100+seed, truth), Tier: router.Efficient, Evidence: "simulated"})
			require.NoError(t, err)
			var off, offReference float64
			for _, g := range gradedBy(100, 9000+seed, truth) {
				want := at(truth, &g.Scores)
				got := at(fit.Curve, &g.Scores)
				off += math.Abs(classifier.Sigmoid(got) - classifier.Sigmoid(want))
				offReference += math.Abs(classifier.Sigmoid(at(reference, &g.Scores)) - classifier.Sigmoid(want))
				of++
				if math.Abs(got-want) <= fit.Curve.HalfWidth {
					covered++
				}
			}
			if off < offReference {
				better++
			}
		}
		assert.Greater(t, better, runs*3/4, "n %d: nearer to the truth than the tier's reference", n)
		share := float64(covered) / float64(of)
		t.Logf("n %d: better in %d of %d, 90 %% interval covers %.2f", n, better, runs, share)
		assert.InDelta(t, 0.9, share, 0.08, "n %d", n)
	}
}

func TestSlopesDoNotFall(t *testing.T) {
	truth := router.QualityCurve{Intercept: 0, Efficient: -2, High: -2}
	fit, err := FitCurve(&FitConfig{Graded: gradedBy(3000, 4, truth), Tier: router.HighPerformance, Evidence: "simulated"})
	require.NoError(t, err)
	assert.InDelta(t, 0, fit.Curve.Efficient, 0)
	assert.InDelta(t, 0, fit.Curve.High, 0)
}

func TestFitCurveRefuses(t *testing.T) {
	good := gradedBy(60, 1, router.QualityCurve{})
	bad := gradedBy(60, 1, router.QualityCurve{})
	bad[3].Outcome = 2
	for want, cfg := range map[string]FitConfig{
		"grade at least 50": {Graded: good[:49], Tier: router.Efficient, Evidence: "x"},
		"DOMAIN_SPECIALIST": {Graded: good, Tier: router.DomainSpecialist, Evidence: "x"},
		"evidence is empty": {Graded: good, Tier: router.Efficient},
		"graded[3]":         {Graded: bad, Tier: router.Efficient, Evidence: "x"},
	} {
		_, err := FitCurve(&cfg)
		require.ErrorContains(t, err, want)
	}
}
