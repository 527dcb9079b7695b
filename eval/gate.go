package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// EverySet is the name in Gate.Sets whose bounds hold for every set of a report.
const EverySet = "*"

// Gate says what a report has to show. A gate file is YAML of the same shape;
// see docs/evaluation.md. The zero value lets everything through and is refused
// by Validate.
type Gate struct {
	// Version of the format: 1.
	Version int `yaml:"version"`
	// Sets holds the bounds by the name of a set. A set that is named must be in the
	// report; EverySet names all that are.
	Sets map[string]SetGate `yaml:"sets"`
}

// SetGate is what one set has to show.
type SetGate struct {
	// Bounds by the name of a figure; GateFigures lists them. A figure that a report
	// does not give is a failure.
	Bounds map[string]Bound `yaml:"bounds"`
	// Forbid lists codes of flags that must not be raised, such as NO_SKILL.
	Forbid []string `yaml:"forbid"`
}

// Bound is what a figure has to keep to; every limit that is set counts.
// Fractions are 0 to 1; CPT is in percent of calls.
type Bound struct {
	// Min and Max bound the figure itself.
	Min *float64 `yaml:"min"`
	Max *float64 `yaml:"max"`
	// MinLo bounds the lower end of its 95 % interval from below, MaxHi the upper
	// end from above.
	MinLo *float64 `yaml:"min_lo"`
	MaxHi *float64 `yaml:"max_hi"`
}

// GateError is a report that does not pass: every reason, one a sentence.
type GateError struct {
	Reasons []string
}

// Error says every reason, one a line.
func (e *GateError) Error() string {
	return fmt.Sprintf("gate: %d bounds do not hold:\n  %s", len(e.Reasons), strings.Join(e.Reasons, "\n  "))
}

// GateFigures lists the names that Bounds knows.
func GateFigures() []string {
	var out []string
	for _, m := range metricsOf(&Result{}) {
		out = append(out, m.name)
	}
	return out
}

// Validate reports everything that is wrong with the gate itself, by field.
func (g *Gate) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("gate: "+format, args...)) }
	if g.Version != 1 {
		fault("version is %d: this program reads version 1", g.Version)
	}
	if len(g.Sets) == 0 {
		fault("sets is empty: a gate without bounds would let everything through; name a set, or %q for all", EverySet)
	}
	names := GateFigures()
	for _, set := range sortedKeys(g.Sets) {
		s := g.Sets[set]
		if len(s.Bounds) == 0 && len(s.Forbid) == 0 {
			fault("sets.%s bounds nothing: give bounds or forbid", set)
		}
		for _, name := range sortedKeys(s.Bounds) {
			at := "sets." + set + ".bounds." + name
			if !slices.Contains(names, name) {
				fault("%s is no figure: use one of %s", at, strings.Join(names, ", "))
			}
			b := s.Bounds[name]
			if b.Min == nil && b.Max == nil && b.MinLo == nil && b.MaxHi == nil {
				fault("%s bounds nothing: give min, max, min_lo or max_hi", at)
			}
			for _, v := range []*float64{b.Min, b.Max, b.MinLo, b.MaxHi} {
				if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
					fault("%s holds %v: give a finite number", at, *v)
				}
			}
		}
		for _, code := range s.Forbid {
			if !slices.Contains(flagCodes(), code) {
				fault("sets.%s.forbid: %q is no flag: use one of %s", set, code, strings.Join(flagCodes(), ", "))
			}
		}
	}
	return errors.Join(errs...)
}

// flagCodes are all codes that a Result may raise.
func flagCodes() []string {
	return []string{
		FlagNoSkill, FlagGap, FlagSmallGap, FlagNonMonotone, FlagTiedEdges, FlagTrainRows, FlagDropped, FlagUnscored,
		FlagCollapsed, FlagNotional, FlagSmall, FlagNote,
	}
}

// Check holds a report against the gate. It returns nil when everything holds,
// a *GateError with every reason when not, and another error for a gate that is
// wrong itself. It changes nothing and may be called concurrently.
func (g *Gate) Check(r *Report) error {
	if err := g.Validate(); err != nil {
		return err
	}
	if r == nil || len(r.Sets) == 0 {
		return &GateError{Reasons: []string{"the report has no set: nothing was measured"}}
	}
	var reasons []string
	for _, name := range sortedKeys(g.Sets) {
		found := false
		for i := range r.Sets {
			if name == EverySet || name == r.Sets[i].Name {
				found = true
				reasons = append(reasons, g.Sets[name].check(&r.Sets[i])...)
			}
		}
		if !found {
			reasons = append(reasons, fmt.Sprintf("%s: the set is not in the report", name))
		}
	}
	if len(reasons) > 0 {
		return &GateError{Reasons: reasons}
	}
	return nil
}

func (g SetGate) check(s *Result) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, s.Name+": "+fmt.Sprintf(format, args...)) }
	for _, m := range metricsOf(s) {
		b, ok := g.Bounds[m.name]
		if !ok {
			continue
		}
		// A figure that does not exist fails: every comparison is false for NaN.
		for _, limit := range []struct {
			what  string
			value float64
			bound *float64
			least bool
		}{
			{"", m.value.Value, b.Min, true},
			{"", m.value.Value, b.Max, false},
			{"lower end of the interval of ", m.value.Lo, b.MinLo, true},
			{"upper end of the interval of ", m.value.Hi, b.MaxHi, false},
		} {
			switch {
			case limit.bound == nil:
			case math.IsNaN(limit.value) || math.IsInf(limit.value, 0):
				say("%s%s does not exist, and a bound of %v is asked for", limit.what, m.name, *limit.bound)
			case limit.least && !(limit.value >= *limit.bound):
				say("%s%s is %.6g, at least %v is asked for", limit.what, m.name, limit.value, *limit.bound)
			case !limit.least && !(limit.value <= *limit.bound):
				say("%s%s is %.6g, at most %v is asked for", limit.what, m.name, limit.value, *limit.bound)
			}
		}
	}
	for _, f := range s.Flags {
		if slices.Contains(g.Forbid, f.Code) {
			say("%s: %s", f.Code, f.Detail)
		}
	}
	return out
}

// metric is a named figure of a Result.
type metric struct {
	name  string
	value Interval
}

// metricsOf lists a set's figures by the names that gates and CSV use.
func metricsOf(s *Result) []metric {
	sure := func(v float64) Interval { return Interval{v, v, v} }
	cpt := func(m map[string]Interval, q string) Interval {
		if i, ok := m[q]; ok {
			return i
		}
		return unknown()
	}
	return []metric{
		{"n", sure(float64(s.N))},
		{"weak", Interval{s.Weak, math.NaN(), math.NaN()}},
		{"strong", Interval{s.Strong, math.NaN(), math.NaN()}},
		{"gap", s.Gap},
		{"apgr", s.APGR},
		{"apgr_exact", s.APGRExact},
		{"apgr_over_random", s.APGROverRandom},
		{"apgr_over_length", s.APGROverLength},
		{"cpt20", cpt(s.CPT, "20")},
		{"cpt50", cpt(s.CPT, "50")},
		{"cpt80", cpt(s.CPT, "80")},
		{"cpt20_true", cpt(s.CPTTrue, "20")},
		{"cpt50_true", cpt(s.CPTTrue, "50")},
		{"cpt80_true", cpt(s.CPTTrue, "80")},
		{"cost_saved", s.CostSaved},
		{"cost_saved_net", s.CostSavedNet},
		{"quality_kept", s.QualityKept},
		{"share", s.Policy.Share},
		{"quality", s.Policy.Quality},
		{"pgr", s.Policy.PGR},
		{"cost_usd_per_1000", s.Policy.CostPer1K},
		{"regret_to_oracle", s.Policy.RegretToOracle},
		{"arena", s.Policy.Arena},
		{"entropy_bits", s.Policy.Entropy},
		{"aiq_paper", s.AIQPaper},
		{"aiq_code", s.AIQCode},
		{"perf_gain", s.PerfGain},
		{"cost_save", s.CostSave},
		{"ece_efficient", s.CalibrationEfficient.ECE},
		{"ece_high", s.CalibrationHigh.ECE},
	}
}
