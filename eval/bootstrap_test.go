package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// drawWorld draws rows whose truth is known: gain is uniform, the strong model is
// right with .5 + gain/2, the weak one with .5 - gain/2, and the policy sends
// gains above .4 to the strong model.
func drawWorld(n int, rng *rand.Rand) *replayed {
	s := &Sample{WeakPrice: RouteLLMWeakPrice, StrongPrice: RouteLLMStrongPrice, DomainNames: []string{"a"}}
	r := &replayed{sample: s}
	for range n {
		gain := rng.Float64()
		right := func(p float64) float64 {
			if rng.Float64() < p {
				return 1
			}
			return 0
		}
		s.IDs, s.Domain, s.Scored = append(s.IDs, ""), append(s.Domain, 0), append(s.Scored, true)
		s.QEfficient, s.QHigh = append(s.QEfficient, .5-gain/2), append(s.QHigh, .5+gain/2)
		s.WeakScore, s.StrongScore = append(s.WeakScore, right(.5-gain/2)), append(s.StrongScore, right(.5+gain/2))
		choice := ChooseWeak
		if gain > .4 {
			choice = ChooseStrong
		}
		s.Policy, s.AlphaFirst, s.AlphaStep = append(s.Policy, choice), append(s.AlphaFirst, ChooseWeak), append(s.AlphaStep, AlphaSteps)
		for k, v := range []float64{gain, rng.Float64(), rng.Float64()} {
			r.ranks[k] = append(r.ranks[k], v)
		}
	}
	s.Gain = r.ranks[0]
	return r
}

// truth of drawWorld. With g uniform, weak is .25, strong .75, and the mean
// gain above t is (1-t^2)/2. The eleven-point trapezoid of PGR over shares
// x = 1-t, PGR(x) = 2(1-(1-x)^2)/2, is computed at the tenths.
func worldTruth() (costSaved, kept, apgr float64) {
	share := .6
	costSaved = 1 - (share*RouteLLMStrongPrice+(1-share)*RouteLLMWeakPrice)/RouteLLMStrongPrice
	kept = (.25 + (1-.16)/2) / .75
	pgr := func(x float64) float64 { return 1 - (1-x)*(1-x) }
	for k := range edges {
		apgr += .1 * (pgr(float64(k)/10) + pgr(float64(k+1)/10)) / 2
	}
	return costSaved, kept, apgr
}

// TestIntervalsCoverTheTruth simulates sets of 1,000 and counts how often the
// 95 % intervals hold the truth. 50 runs here, where chance alone spreads the
// rate over 88 to 100 %; 500 runs, held to 92 to 98 %, with WEIR_CAMPAIGN=1.
func TestIntervalsCoverTheTruth(t *testing.T) {
	runs, resamples, least, most := 50, 400, .86, 1.0
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		runs, resamples, least, most = 500, 1000, .92, .98
	}
	saved, kept, apgr := worldTruth()
	truth := map[string]float64{"policy/cost_saved": saved, "policy/quality_kept": kept, "gain/apgr": apgr, "over/" + BaselineRandom: apgr - .5}
	held := map[string]int{}
	for run := range runs {
		r := drawWorld(1000, rand.New(rand.NewPCG(uint64(run), 77)))
		got := bootstrap(1000, resamples, uint64(run), newMeasurement(r, nil).newWorker)
		for name, want := range truth {
			iv := got.get(name)
			require.False(t, math.IsNaN(iv.Lo) || math.IsNaN(iv.Hi), name)
			require.LessOrEqual(t, iv.Lo, iv.Value)
			require.GreaterOrEqual(t, iv.Hi, iv.Value)
			if iv.Lo <= want && want <= iv.Hi {
				held[name]++
			}
		}
	}
	for name := range truth {
		rate := float64(held[name]) / float64(runs)
		t.Logf("%s: %.1f %% of %d runs", name, 100*rate, runs)
		assert.GreaterOrEqual(t, rate, least, name)
		assert.LessOrEqual(t, rate, most, name)
	}
}

// counting returns the mean of a column.
type counting struct{ column []float64 }

func (c counting) evaluate(counts []uint16, out *figures) {
	var sum, n float64
	for i, k := range counts {
		sum += float64(k) * c.column[i]
		n += float64(k)
	}
	out.put(sum/n, "mean")
	out.put(n, "n")
	nan := math.NaN()
	if counts[0]%2 == 1 {
		nan = 1
	}
	out.put(nan, "half")
}

func TestBootstrapDrawsNRowsAndRepeats(t *testing.T) {
	column := make([]float64, 400)
	for i := range column {
		column[i] = float64(i % 2)
	}
	run := func(seed uint64) intervals {
		return bootstrap(len(column), 2000, seed, func() evaluator { return counting{column} })
	}
	got := run(1)
	assert.Equal(t, Interval{400, 400, 400}, got.get("n"), "every resample draws n rows")
	mean := got.get("mean")
	assert.InDelta(t, .5, mean.Value, 0)
	// A mean of 400 fair coins has a standard error of .025.
	assert.InDelta(t, .5-1.96*.025, mean.Lo, .006)
	assert.InDelta(t, .5+1.96*.025, mean.Hi, .006)
	assert.Equal(t, got.get("mean"), run(1).get("mean"))
	assert.NotEqual(t, got.get("mean"), run(2).get("mean"))
	assert.True(t, math.IsNaN(got.get("half").Lo), "a figure that most resamples lack has no interval")
	none := bootstrap(len(column), 0, 1, func() evaluator { return counting{column} }).get("mean")
	assert.InDelta(t, .5, none.Value, 0)
	assert.True(t, math.IsNaN(none.Lo))
}

func TestDifferencesArePaired(t *testing.T) {
	// The same ranking twice: each APGR has a wide interval, their difference none.
	r := drawWorld(500, rand.New(rand.NewPCG(3, 3)))
	r.ranks[1] = r.ranks[0]
	got := bootstrap(500, 200, 1, newMeasurement(r, nil).newWorker)
	assert.Greater(t, got.get("gain", "apgr").Hi-got.get("gain", "apgr").Lo, .05)
	assert.Equal(t, Interval{}, got.get("over", BaselineLength))
}

func ExampleSavings() {
	overStrong, overRandom, byCalls := Savings(0.134, 0.4903, RouteLLMWeakPrice, RouteLLMStrongPrice)
	fmt.Printf("money against always strong %.3f, strong calls against random %.2f times fewer, calls %.3f\n", overStrong, overRandom, byCalls)
	// Output: money against always strong 0.858, strong calls against random 3.66 times fewer, calls 0.866
}
