package eval

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestInterpIsNumpys holds interp against what numpy.interp answered, most of
// it on curves that go up and down, where only the same search finds the same
// crossing.
func TestInterpIsNumpys(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "interp.json"))
	require.NoError(t, err)
	var cases []struct {
		X, Want float64
		XP, FP  []float64
	}
	require.NoError(t, json.Unmarshal(raw, &cases))
	require.Len(t, cases, 300)
	for _, c := range cases {
		assert.InDelta(t, c.Want, interp(c.X, c.XP, c.FP), 1e-9, "%+v", c)
	}
}

func TestExactCurveWithTies(t *testing.T) {
	// Two scores only: one threshold between the ends, and a straight line across ties.
	score := []float64{0, 0, 1, 1}
	diff := []float64{0, 0, 1, 1}
	o, s := newOrder(score, diff, make([]float64, 4)), newSums(4)
	ones := []uint16{1, 1, 1, 1}
	s.fill(o, ones)
	b := base{n: 4, weak: 1, strong: 3}
	apgr, least := s.exact(o, &b, []float64{.5, 1, 1.5})
	assert.InDelta(t, .75, apgr, 1e-12, "half the calls bring everything: (0,0) (.5,1) (1,1)")
	assert.Equal(t, []float64{50, 50}, least[:2])
	assert.True(t, math.IsNaN(least[2]), "a PGR that is never reached has no share")
	p := s.points(o, &b)
	assert.True(t, p.tied)
	assert.InDelta(t, 0, p.share[0], 0)
	assert.InDelta(t, 1, p.share[edges], 0)
}

func TestPointsAreOfTheResampleAlone(t *testing.T) {
	// Doubling every count changes neither shares nor qualities of a curve
	// without interpolated edges.
	n := 101
	score, diff, ones, twice := make([]float64, n), make([]float64, n), make([]uint16, n), make([]uint16, n)
	for i := range score {
		score[i], diff[i], ones[i], twice[i] = float64(i*37%n), float64(i%3)-.5, 1, 2
	}
	o := newOrder(score, diff, make([]float64, n))
	a, z := newSums(n), newSums(n)
	a.fill(o, ones)
	z.fill(o, twice)
	x, _ := a.exact(o, &base{n: 101, strong: 50}, nil)
	y, _ := z.exact(o, &base{n: 202, strong: 100}, nil)
	assert.InDelta(t, x, y, 1e-12)
}

func TestHull(t *testing.T) {
	for name, tc := range map[string]struct{ x, y, want []float64 }{
		"a point below the line is not on it":   {[]float64{0, 1, 2}, []float64{0, .1, 1}, []float64{0, 0, 2, 1}},
		"quality that money loses is not on it": {[]float64{0, 1, 2}, []float64{0, 1, .5}, []float64{0, 0, 1, 1}},
		"a dearer model that is worse":          {[]float64{0, 1}, []float64{1, 0}, []float64{0, 1}},
		"the better of equals in cost":          {[]float64{0, 0, 1}, []float64{0, .5, 1}, []float64{0, .5, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []float64
			for _, p := range upperHull(tc.x, tc.y) {
				got = append(got, p[0], p[1])
			}
			assert.Equal(t, tc.want, got)
		})
	}
	paper, code := aiq([]float64{1, 3}, []float64{.5, .7})
	assert.InDelta(t, .6, paper, 1e-12)
	assert.InDelta(t, .4, code, 1e-12, "the code divides by the greatest cost")
}
