package eval

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func limit(v float64) *float64 { return &v }

func gated() *Report {
	r := &Report{Version: 1, Sets: []Result{{Name: "one", N: 500}, {Name: "two", N: 500}}}
	for i := range r.Sets {
		s := &r.Sets[i]
		s.APGR, s.QualityKept = Interval{0.6, 0.55, 0.65}, Interval{0.98, 0.97, 0.99}
		s.CPT = map[string]Interval{"50": {35, 30, 40}}
		s.PerfGain = unknown()
		s.CalibrationEfficient.ECE = Interval{0.05, 0.04, 0.07}
	}
	r.Sets[1].Flags = []Flag{{FlagNoSkill, "no better than length"}}
	return r
}

func gateOf(set string, bounds map[string]Bound, forbid ...string) *Gate {
	return &Gate{Version: 1, Sets: map[string]SetGate{set: {Bounds: bounds, Forbid: forbid}}}
}

func TestGateLetsThroughWhatHolds(t *testing.T) {
	g := gateOf("one", map[string]Bound{
		"apgr": {Min: limit(0.6), MinLo: limit(0.55), Max: limit(0.6), MaxHi: limit(0.65)}, "cpt50": {Max: limit(35)},
		"ece_efficient": {Max: limit(0.06)}, "n": {Min: limit(500)},
	}, FlagNoSkill)
	assert.NoError(t, g.Check(gated()))
	assert.NoError(t, gateOf(EverySet, map[string]Bound{"quality_kept": {Min: limit(0.95)}}).Check(gated()))
}

func TestGateSaysEveryReason(t *testing.T) {
	for name, tc := range map[string]struct {
		gate *Gate
		says []string
	}{
		"too small":           {gateOf("one", map[string]Bound{"apgr": {Min: limit(0.61)}}), []string{"one: apgr is 0.6, at least 0.61"}},
		"too large":           {gateOf("one", map[string]Bound{"cpt50": {Max: limit(34)}}), []string{"cpt50 is 35, at most 34"}},
		"lower end":           {gateOf("one", map[string]Bound{"apgr": {MinLo: limit(0.56)}}), []string{"lower end of the interval of apgr is 0.55"}},
		"upper end":           {gateOf("one", map[string]Bound{"ece_efficient": {MaxHi: limit(0.06)}}), []string{"upper end of the interval of ece_efficient is 0.07"}},
		"a figure is missing": {gateOf("one", map[string]Bound{"perf_gain": {Max: limit(1)}, "cpt80": {Max: limit(90)}}), []string{"perf_gain does not exist", "cpt80 does not exist"}},
		"a forbidden flag":    {gateOf(EverySet, nil, FlagNoSkill), []string{"two: NO_SKILL: no better than length"}},
		"a set is missing":    {gateOf("three", nil, FlagNoSkill), []string{"three: the set is not in the report"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.gate.Check(gated())
			var failed *GateError
			require.ErrorAs(t, err, &failed)
			assert.Len(t, failed.Reasons, len(tc.says))
			for _, s := range tc.says {
				assert.ErrorContains(t, err, s)
			}
		})
	}
	var failed *GateError
	require.ErrorAs(t, gateOf(EverySet, nil, FlagNoSkill).Check(&Report{}), &failed, "nothing measured does not pass")
	require.ErrorAs(t, gateOf(EverySet, nil, FlagNoSkill).Check(nil), &failed)
}

// A figure of nothing divided by nothing is shown as absent, and fails its bound.
func TestGateFailsOnWhatIsNotFinite(t *testing.T) {
	r := gated()
	r.Sets[0].QualityKept = Interval{math.Inf(1), math.Inf(1), math.Inf(1)}
	var failed *GateError
	require.ErrorAs(t, gateOf("one", map[string]Bound{"quality_kept": {Min: limit(0.9)}}).Check(r), &failed)
	assert.Equal(t, []string{"one: quality_kept does not exist, and a bound of 0.9 is asked for"}, failed.Reasons)
}

func TestGateRefusesToMeanNothing(t *testing.T) {
	for says, g := range map[string]*Gate{
		"version is 0":       {Sets: map[string]SetGate{"one": {Forbid: []string{FlagNoSkill}}}},
		"sets is empty":      {Version: 1},
		"bounds nothing":     gateOf("one", nil),
		"is no figure":       gateOf("one", map[string]Bound{"agpr": {Min: limit(0)}}),
		"give min, max":      gateOf("one", map[string]Bound{"apgr": {}}),
		"is no flag":         gateOf("one", nil, "NOSKILL"),
		"finite number":      gateOf("one", map[string]Bound{"apgr": {Min: limit(math.NaN())}}),
		"use one of n, weak": gateOf("one", map[string]Bound{"x": {Min: limit(0)}}),
	} {
		err := g.Check(gated())
		require.ErrorContains(t, err, says)
		var failed *GateError
		assert.False(t, strings.Contains(err.Error(), "\n  ") && assert.ErrorAs(t, err, &failed), "a wrong gate is no verdict on a report")
	}
}
