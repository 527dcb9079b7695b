package eval

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
)

// WriteCSV writes the report as one long table: set, part, name, metric, value,
// lo, hi. A figure is a row, so that a new one adds rows and no column; what
// does not exist is left empty. Fractions are 0 to 1 and CPT is in percent, as
// in the JSON.
func WriteCSV(w io.Writer, r *Report) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"set", "part", "name", "metric", "value", "lo", "hi"}); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	for i := range r.Sets {
		c := csvSet{out: out, set: r.Sets[i].Name}
		c.result(&r.Sets[i])
		if c.err != nil {
			return fmt.Errorf("write CSV: set %s: %w", c.set, c.err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

type csvSet struct {
	out *csv.Writer
	set string
	err error
}

func (c *csvSet) row(part, name, metric string, v Interval) {
	if c.err == nil {
		c.err = c.out.Write([]string{c.set, part, name, metric, csvNumber(v.Value), csvNumber(v.Lo), csvNumber(v.Hi)})
	}
}

func (c *csvSet) exact(part, name, metric string, v float64) {
	c.row(part, name, metric, Interval{v, math.NaN(), math.NaN()})
}

func csvNumber(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func (c *csvSet) result(s *Result) {
	for _, m := range metricsOf(s) {
		c.row("set", "weir", m.name, m.value)
	}
	c.curve("weir", s.Curve)
	for _, name := range baselineNames() {
		b, ok := s.Baselines[name]
		if !ok {
			continue
		}
		for _, m := range []metric{{"apgr", b.APGR}, {"share", b.Share}, {"quality", b.Quality}, {"cost_saved", b.CostSaved}, {"quality_kept", b.QualityKept}} {
			c.row("baseline", name, m.name, m.value)
		}
		for _, q := range sortedKeys(b.CPT) {
			c.row("baseline", name, "cpt"+q, b.CPT[q])
		}
		c.curve(name, b.Curve)
	}
	for _, v := range s.Savings {
		name := showNumber(100*v.QualityKept, 0)
		for _, m := range []metric{{"share", v.Share}, {"over_strong", v.OverStrong}, {"over_random_factor", v.OverRandom}, {"by_calls", v.ByCalls}} {
			c.row("savings", name, m.name, m.value)
		}
	}
	for _, p := range s.AlphaSweep {
		for _, m := range []metric{{"share", p.Share}, {"quality", p.Quality}, {"cost_saved", p.CostSaved}} {
			c.row("alpha", showNumber(p.Alpha, 2), m.name, m.value)
		}
	}
	for _, p := range s.Frozen {
		for _, m := range []metric{{"share", p.Share}, {"quality", p.Quality}, {"cost_saved", p.CostSaved}, {"quality_kept", p.QualityKept}} {
			c.row("frozen", showNumber(p.TargetShare, 2), m.name, m.value)
		}
	}
	c.calibration("calibration_efficient", &s.CalibrationEfficient)
	c.calibration("calibration_high", &s.CalibrationHigh)
	for _, d := range s.Domains {
		c.exact("domain", d.Domain, "n", float64(d.N))
		c.exact("domain", d.Domain, "weak", d.Weak)
		c.exact("domain", d.Domain, "strong", d.Strong)
		for _, m := range []metric{{"apgr", d.APGR}, {"share", d.Share}, {"quality", d.Quality}, {"cost_saved", d.CostSaved}, {"quality_kept", d.QualityKept}} {
			c.row("domain", d.Domain, m.name, m.value)
		}
	}
	for _, one := range s.Singles {
		c.exact("model", one.Model, "n", float64(one.N))
		c.exact("model", one.Model, "quality", one.Quality)
		c.row("model", one.Model, "cost_usd_per_1000", one.CostPer1K)
	}
}

func (c *csvSet) calibration(part string, cal *Calibration) {
	for _, b := range cal.Bins {
		bin := showNumber(b.Low, 1) + "-" + showNumber(b.High, 1)
		c.exact(part, bin, "n", float64(b.N))
		c.exact(part, bin, "predicted", b.Predicted)
		c.row(part, bin, "observed", b.Observed)
	}
}

func (c *csvSet) curve(name string, points []Point) {
	for _, p := range points {
		at := name + "@" + showNumber(100*p.Share, 2)
		c.exact("curve", at, "threshold", p.Threshold)
		c.exact("curve", at, "share", p.Share)
		c.row("curve", at, "quality", p.Quality)
		c.row("curve", at, "cost_saved", p.CostSaved)
	}
}
