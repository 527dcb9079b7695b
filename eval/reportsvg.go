package eval

import (
	_ "embed" // the style sheets
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

//go:embed assets/theme.css
var themeCSS string //nolint:gochecknoglobals // embedding needs a variable; nothing changes it

//go:embed assets/chart.css
var chartCSS string //nolint:gochecknoglobals // embedding needs a variable; nothing changes it

// WriteSVG writes the headline curve of one set as a picture of its own:
// quality against cost with its 95 % band, beside the baselines. It follows the
// reader's light or dark scheme and loads nothing.
func WriteSVG(w io.Writer, r *Report, set string) error {
	i := slices.IndexFunc(r.Sets, func(s Result) bool { return s.Name == set })
	if i < 0 {
		return fmt.Errorf("write SVG: set %q is not in the report: it has %s", set, strings.Join(setNames(r), ", "))
	}
	if _, err := io.WriteString(w, headline(&r.Sets[i], true)); err != nil {
		return fmt.Errorf("write SVG: %w", err)
	}
	return nil
}

func setNames(r *Report) []string {
	var out []string
	for i := range r.Sets {
		out = append(out, r.Sets[i].Name)
	}
	return out
}

// curveColumns are a curve as a chart needs it: cost in percent of always
// strong, quality in percent.
func curveColumns(points []Point) (x, y, lo, hi []float64) {
	for _, p := range points {
		x, y = append(x, 100*(1-p.CostSaved.Value)), append(y, 100*p.Quality.Value)
		lo, hi = append(lo, 100*p.Quality.Lo), append(hi, 100*p.Quality.Hi)
	}
	return x, y, lo, hi
}

// headline draws quality against cost. alone adds a title and the colours.
func headline(s *Result, alone bool) string {
	c := &chart{width: 880, height: 470, left: 58, right: 118, top: 58, bottom: 46}
	title := fmt.Sprintf("%s: quality against cost", s.Name)
	if alone {
		c.height, c.top = 520, 108
		c.text("title", "start", c.left, 26, title)
		c.text("label", "start", c.left, 46, fmt.Sprintf("n %s · APGR %s · shaded: 95 %% paired-bootstrap interval", showCount(s.N), showInterval(s.APGR, 1, 3)))
	}
	c.fit(s)
	curves, entries := headlineCurves(s)
	c.legend(c.left, c.top-38, c.width-c.left-20, entries)
	c.axes(ticks(c.x0, c.x1, 10), ticks(c.y0, c.y1, 6), "cost, % of always strong", "quality, % (mean outcome)", func(v float64) string { return showNumber(v, tickDigits(c.y1-c.y0)) })
	c.references(s)
	wx, wy, lo, hi := curveColumns(s.Curve)
	c.band("band", wx, lo, hi)
	weak, strong := s.Baselines[BaselineAlwaysWeak], s.Baselines[BaselineAlwaysStrong]
	c.path("curve random", []float64{costOf(weak), costOf(strong)}, []float64{100 * weak.Quality.Value, 100 * strong.Quality.Value})
	for _, name := range curves {
		x, y, _, _ := curveColumns(s.Baselines[name].Curve)
		c.path("curve "+curveClass(name), x, y)
	}
	c.path("curve weir", wx, wy)
	c.whiskers(s)
	pointTitle := func(name string, b Baseline) string {
		return fmt.Sprintf("%s: quality %s %%, cost %s %%", name, showInterval(b.Quality, 100, 1), showNumber(costOf(b), 1))
	}
	c.mark("dot weak", "circle", c.px(costOf(weak)), c.py(100*weak.Quality.Value), pointTitle("always efficient", weak))
	c.mark("dot strong", "circle", c.px(costOf(strong)), c.py(100*strong.Quality.Value), pointTitle("always strong", strong))
	oracle := s.Baselines[BaselineOracle]
	c.mark("dot oracle", "triangle", c.px(costOf(oracle)), c.py(100*oracle.Quality.Value), pointTitle("per-query oracle", oracle))
	c.mark("dot weir", "diamond", c.px(100*(1-s.CostSaved.Value)), c.py(100*s.Policy.Quality.Value),
		fmt.Sprintf("the policy: quality %s %%, cost saved %s %%", showInterval(s.Policy.Quality, 100, 1), showInterval(s.CostSaved, 100, 1)))
	style := ""
	if alone {
		style = themeCSS + chartCSS
	}
	return c.svg(title, style)
}

func costOf(b Baseline) float64 { return 100 * (1 - b.CostSaved.Value) }

func curveClass(name string) string {
	switch name {
	case BaselineLength:
		return "length"
	case BaselineDomain:
		return "domain"
	default:
		return "oracle"
	}
}

// headlineCurves tells which baselines have a curve, and the legend.
func headlineCurves(s *Result) (curves []string, entries []legendEntry) {
	random := "random"
	if weak, strong := s.Baselines[BaselineAlwaysWeak], s.Baselines[BaselineAlwaysStrong]; s.Strong > s.Weak && costOf(strong) > costOf(weak) {
		random = "random (and zero router)" // the hull of two models is the line between them
	}
	entries = []legendEntry{{"curve weir", "line", "Weir, by gain"}, {"curve random", "line", random}}
	for _, one := range []legendEntry{{BaselineLength, "line", "prompt length"}, {BaselineDomain, "line", "domain oracle"}, {BaselineOracle, "line", "per-query oracle"}} {
		if len(s.Baselines[one.class].Curve) > 0 {
			curves = append(curves, one.class)
			entries = append(entries, legendEntry{"curve " + curveClass(one.class), one.shape, one.name})
		}
	}
	return curves, append(entries,
		legendEntry{"dot weir", "diamond", "the policy"}, legendEntry{"dot weak", "circle", "always efficient"},
		legendEntry{"dot strong", "circle", "always strong"}, legendEntry{"dot oracle", "triangle", "better model each time"})
}

// fit chooses the axes so that everything drawn is inside.
func (c *chart) fit(s *Result) {
	x, y := []float64{0, 100}, []float64{100 * s.Weak, 100 * s.Strong}
	add := func(points []Point) {
		px, py, lo, hi := curveColumns(points)
		x, y = append(x, px...), slices.Concat(y, py, lo, hi)
	}
	add(s.Curve)
	y = append(y, 100*s.Policy.Quality.Lo, 100*s.Policy.Quality.Hi)
	for _, name := range baselineNames() {
		b := s.Baselines[name]
		x, y = append(x, costOf(b)), append(y, 100*b.Quality.Value)
		for _, p := range b.Curve {
			x, y = append(x, 100*(1-p.CostSaved.Value)), append(y, 100*p.Quality.Value)
		}
	}
	exists := func(v []float64) []float64 {
		return slices.DeleteFunc(v, func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) })
	}
	x, y = exists(x), exists(y)
	c.x0, c.x1 = slices.Min(x), slices.Max(x)
	pad := max((slices.Max(y)-slices.Min(y))*0.06, 0.5)
	c.y0, c.y1 = max(slices.Min(y)-pad, -pad), min(slices.Max(y)+pad, 100+pad)
}

func tickDigits(span float64) int {
	if span < 6 {
		return 1
	}
	return 0
}

// references draws the levels that people ask for, named in the right margin.
func (c *chart) references(s *Result) {
	type level struct {
		y    float64
		name string
	}
	levels := []level{{100 * s.Strong, "always strong"}, {95 * s.Strong, "95 % of strong"}, {100 * s.Weak, "always efficient"}}
	levels = slices.DeleteFunc(levels, func(l level) bool { return l.y < c.y0 || l.y > c.y1 })
	slices.SortFunc(levels, func(a, b level) int { return -compareFloat(a.y, b.y) })
	places := make([]float64, len(levels))
	for i, l := range levels {
		places[i] = c.py(l.y) + 4
		c.line("level", c.left, c.py(l.y), c.width-c.right, c.py(l.y))
	}
	apart(places, 15)
	for i, l := range levels {
		c.text("tick", "start", c.width-c.right+8, places[i], l.name)
	}
}

// whiskers draws the policy's intervals of cost and of quality.
func (c *chart) whiskers(s *Result) {
	x, y := 100*(1-s.CostSaved.Value), 100*s.Policy.Quality.Value
	if math.IsNaN(s.Policy.Quality.Lo) || math.IsNaN(s.CostSaved.Lo) {
		return
	}
	c.line("whisker", c.px(x), c.py(100*s.Policy.Quality.Lo), c.px(x), c.py(100*s.Policy.Quality.Hi))
	c.line("whisker", c.px(100*(1-s.CostSaved.Hi)), c.py(y), c.px(100*(1-s.CostSaved.Lo)), c.py(y))
}

// small draws one domain.
func small(d *DomainCurve) string {
	c := &chart{width: 250, height: 176, left: 34, right: 18, top: 30, bottom: 24, x0: 0, x1: 100}
	x, y, lo, hi := curveColumns(d.Curve)
	all := slices.Concat(y, lo, hi, []float64{100 * d.Weak, 100 * d.Strong})
	all = slices.DeleteFunc(all, math.IsNaN)
	pad := max((slices.Max(all)-slices.Min(all))*0.06, 0.5)
	c.y0, c.y1 = slices.Min(all)-pad, min(slices.Max(all)+pad, 100+pad)
	c.x0, c.x1 = min(slices.Min(x), 0), max(slices.Max(x), 100)
	c.text("key strong-text", "start", 2, 13, shortName(d.Domain, 24))
	c.text("tick", "end", c.width-c.right, 13, "n "+showCount(d.N))
	c.axes([]float64{0, 50, 100}, ticks(c.y0, c.y1, 4), "", "", func(v float64) string { return showNumber(v, 0) })
	c.band("band", x, lo, hi)
	last := len(x) - 1
	c.path("curve random", []float64{x[0], x[last]}, []float64{y[0], y[last]})
	c.path("curve weir", x, y)
	return c.svg(d.Domain+": quality against cost", "")
}

// shortName shortens a name to what fits.
func shortName(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// reliability draws predicted against observed, with the bins' sizes below.
func reliability(cal *Calibration, name string) string {
	c := &chart{width: 400, height: 340, left: 52, right: 14, top: 14, bottom: 44, x0: 0, x1: 100, y0: 0, y1: 100}
	most := 0
	for _, b := range cal.Bins {
		most = max(most, b.N)
	}
	tens := []float64{0, 20, 40, 60, 80, 100}
	c.axes(tens, tens, "predicted, %", "observed, %", func(v float64) string { return showNumber(v, 0) })
	for _, b := range cal.Bins {
		h := 46 * float64(b.N) / float64(most)
		x := c.px(100 * b.Low)
		fmt.Fprintf(&c.b, `<rect class="bar" x="%s" y="%s" width="%s" height="%s"><title>%s cases</title></rect>`,
			coordinate(x+1), coordinate(c.py(0)-h), coordinate(c.px(100*b.High)-x-2), coordinate(h), showCount(b.N))
	}
	c.line("level", c.px(0), c.py(0), c.px(100), c.py(100))
	var x, y []float64
	for _, b := range cal.Bins {
		x, y = append(x, 100*b.Predicted), append(y, 100*b.Observed.Value)
		if !math.IsNaN(b.Observed.Lo) {
			c.line("whisker", c.px(100*b.Predicted), c.py(100*b.Observed.Lo), c.px(100*b.Predicted), c.py(100*b.Observed.Hi))
		}
	}
	c.path("curve weir thin", x, y)
	for i, b := range cal.Bins {
		c.mark("dot weir", "circle", c.px(x[i]), c.py(y[i]), fmt.Sprintf("%s cases: predicted %s %%, observed %s %%", showCount(b.N), showNumber(x[i], 1), showInterval(b.Observed, 100, 1)))
	}
	return c.svg(name+": predicted against observed", "")
}
