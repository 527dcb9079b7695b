package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sampleOf makes a replay: gain tells which prompts need the strong model when
// skilled, else it is noise. The policy sends gain at or above .5 up.
func sampleOf(n int, seed uint64, skilled bool) *Sample {
	rng, noise := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(seed, 2))
	s := &Sample{Name: "made", WeakModel: "w", StrongModel: "s", DomainNames: []string{"x", "y"}, WeakPrice: 1, StrongPrice: 10}
	for i := range n {
		need := rng.Float64()
		gain := noise.Float64()
		if skilled {
			gain = 0.8*need + 0.2*gain
		}
		score := func(ok bool) float64 {
			if ok {
				return 1
			}
			return 0
		}
		choice := ChooseWeak
		if gain >= 0.5 {
			choice = ChooseStrong
		}
		s.IDs, s.Domain, s.Chars = append(s.IDs, fmt.Sprint("id", i)), append(s.Domain, uint16(i%2)), append(s.Chars, int32(i))
		s.Gain, s.QEfficient, s.QHigh = append(s.Gain, gain), append(s.QEfficient, 1-gain), append(s.QHigh, 1)
		s.Scored, s.Policy = append(s.Scored, true), append(s.Policy, choice)
		s.AlphaStep, s.AlphaFirst = append(s.AlphaStep, 0), append(s.AlphaFirst, ChooseWeak)
		s.WeakScore, s.StrongScore = append(s.WeakScore, score(rng.Float64() > need)), append(s.StrongScore, score(rng.Float64() < 0.95))
	}
	return s
}

func TestCompareIsPaired(t *testing.T) {
	a, b := sampleOf(2000, 1, false), sampleOf(2000, 2, true)
	c, err := Compare(CompareConfig{A: a, B: b, NameA: "noise", NameB: "skilled", Bootstrap: 300})
	require.NoError(t, err)
	assert.Equal(t, "skilled minus noise", c.Difference.Name)
	assert.True(t, c.Difference.APGR.Above(0.05), "%+v", c.Difference.APGR)
	assert.True(t, c.Difference.Quality.Above(0))

	// Against a plain count.
	var quality, cost [2]float64
	flips := FlipMatrix{}
	for i := range a.IDs {
		for k, s := range []*Sample{a, b} {
			quality[k] += s.chosenScore(i) / 2000
			cost[k] += map[Choice]float64{ChooseWeak: 1, ChooseStrong: 10}[s.Policy[i]] / 2000
		}
		if a.Policy[i] == ChooseWeak && b.Policy[i] == ChooseStrong {
			flips.WeakToStrong++
		}
		if a.Policy[i] == ChooseStrong && b.Policy[i] == ChooseWeak {
			flips.StrongToWeak++
		}
	}
	assert.InDelta(t, quality[1]-quality[0], c.Difference.Quality.Value, 1e-12)
	assert.InDelta(t, 1-cost[1]/10, c.B.CostSaved.Value, 1e-12)
	assert.InDelta(t, 1e6*359/1e6*cost[0], c.A.ProjectedUSD.Value, 1e-6, "a million requests of 359 tokens")
	assert.Equal(t, flips.WeakToStrong, c.Flips.WeakToStrong)
	assert.Equal(t, flips.StrongToWeak, c.Flips.StrongToWeak)
	assert.Equal(t, 2000, c.Flips.BothWeak+c.Flips.BothStrong+c.Flips.WeakToStrong+c.Flips.StrongToWeak)
	assert.InDelta(t, c.Difference.Quality.Value, c.Flips.QualityOfUps.Value+c.Flips.QualityOfDowns.Value, 1e-12, "flips add up to the difference")

	// Paired: the difference of a replay to itself is nothing, without any width.
	same, err := Compare(CompareConfig{A: a, B: a, Bootstrap: 100})
	require.NoError(t, err)
	for _, d := range []Interval{same.Difference.Quality, same.Difference.APGR, same.Difference.CostSaved, same.Difference.ProjectedUSD} {
		assert.Equal(t, Interval{}, d)
	}
	again, err := Compare(CompareConfig{A: a, B: b, NameA: "noise", NameB: "skilled", Bootstrap: 300})
	require.NoError(t, err)
	assert.Equal(t, c, again, "the same inputs give the same answer")
}

func TestCompareRefusesOtherCases(t *testing.T) {
	a := sampleOf(100, 1, true)
	other := sampleOf(100, 1, true)
	other.IDs[5] = "else"
	outcomes := sampleOf(100, 1, true)
	outcomes.WeakScore[5] = 0.25
	for says, b := range map[string]*Sample{"the same set": other, "other outcomes": outcomes, "two replays": nil, "101": sampleOf(101, 1, true)} {
		_, err := Compare(CompareConfig{A: a, B: b})
		assert.ErrorContains(t, err, says)
	}
	_, err := Compare(CompareConfig{A: a, B: a, Requests: -1})
	assert.ErrorContains(t, err, "requests -1")
}

func TestAtThresholds(t *testing.T) {
	s := sampleOf(1000, 3, true)
	got, err := AtThresholds(s, []float64{math.Inf(-1), 0.5, math.Inf(1)}, 100, 1)
	require.NoError(t, err)
	assert.Equal(t, 1.0, got[0].Share.Value)
	assert.Equal(t, 0.0, got[0].CostSaved.Value)
	assert.Equal(t, 1.0, got[0].QualityKept.Value)
	assert.Equal(t, 0.0, got[2].Share.Value)
	assert.InDelta(t, 0.9, got[2].CostSaved.Value, 1e-12)
	up := 0.0
	for _, c := range s.Policy {
		if c == ChooseStrong {
			up++
		}
	}
	assert.InDelta(t, up/1000, got[1].Share.Value, 1e-12)
	assert.Less(t, got[1].Share.Lo, got[1].Share.Value)
	_, err = AtThresholds(s, []float64{math.NaN()}, -1, 1)
	assert.Error(t, err)
}

func TestFindThreshold(t *testing.T) {
	s := sampleOf(4000, 3, true)
	got, err := FindThreshold(s, "cost_saved", 0.4, 100, 1)
	require.NoError(t, err)
	require.True(t, got.Reached)
	assert.GreaterOrEqual(t, got.Chosen.CostSaved.Value, 0.4)
	assert.InDelta(t, 0.4, got.Held.CostSaved.Value, 0.05, "the half that did not choose is near")
	assert.Greater(t, got.Held.QualityKept.Value, 0.85)

	got, err = FindThreshold(s, "quality_kept", 0.95, -1, 1)
	require.NoError(t, err)
	require.True(t, got.Reached)
	assert.GreaterOrEqual(t, got.Chosen.QualityKept.Value, 0.95)
	more, err := AtThresholds(s, []float64{got.Chosen.Threshold}, -1, 1)
	require.NoError(t, err)
	half := (got.Chosen.Share.Value + got.Held.Share.Value) / 2
	assert.InDelta(t, half, more[0].Share.Value, 0.01, "the halves are the whole, and differ")
	assert.NotEqual(t, got.Chosen.Share.Value, got.Held.Share.Value)

	got, err = FindThreshold(s, "cost_saved", 0.95, -1, 1) // the efficient model costs a tenth
	require.NoError(t, err)
	assert.False(t, got.Reached)
	assert.Contains(t, got.Why, "no threshold")
	got, err = FindThreshold(sampleOf(60, 3, true), "cost_saved", 0.5, -1, 1)
	require.NoError(t, err)
	assert.False(t, got.Reached)
	assert.Contains(t, got.Why, "60 cases")
	_, err = json.Marshal(got)
	assert.NoError(t, err)

	for _, goal := range []string{"", "quality"} {
		_, err := FindThreshold(s, goal, 0.5, -1, 1)
		assert.ErrorContains(t, err, "use cost_saved or quality_kept")
	}
	_, err = FindThreshold(s, "cost_saved", math.NaN(), -1, 1)
	assert.ErrorContains(t, err, "level")
}
