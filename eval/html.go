package eval

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

//go:embed assets
var assets embed.FS

// maxSmall is how many domains get a picture; all of them are in the table.
const maxSmall = 24

// WriteHTML writes the report as one page that loads nothing: no script, no
// font, no picture from elsewhere; light or dark as the reader has it. details
// may lack sets, or be nil: a report read from a file has figures only, and
// then the page has no single decisions and no curves by domain. Prompt text is
// on the page only where Detail.AddTexts put it.
func WriteHTML(w io.Writer, r *Report, details []*Detail) error {
	t, err := template.New("report.html.tmpl").Funcs(htmlFuncs()).ParseFS(assets, "assets/report.html.tmpl")
	if err != nil {
		return fmt.Errorf("write HTML: %w", err)
	}
	css, err := assets.ReadFile("assets/page.css")
	if err != nil {
		return fmt.Errorf("write HTML: %w", err)
	}
	page := htmlPage{Report: r, CSS: template.CSS(themeCSS + string(css) + chartCSS)} //nolint:gosec // the program's own style sheets
	for i := range r.Sets {
		s := &r.Sets[i]
		at := slices.IndexFunc(details, func(d *Detail) bool { return d != nil && d.Set == s.Name })
		one := htmlSet{Result: s, Anchor: fmt.Sprintf("set-%d", i+1), Headline: picture(headline(s, false))}
		if at >= 0 {
			one.detail(details[at])
		}
		for _, name := range baselineNames() {
			if b, ok := s.Baselines[name]; ok {
				one.Baselines = append(one.Baselines, htmlBaseline{name, b})
			}
		}
		if len(s.CalibrationEfficient.Bins) > 0 {
			one.Efficient = picture(reliability(&s.CalibrationEfficient, "efficient"))
		}
		if len(s.CalibrationHigh.Bins) > 0 {
			one.High = picture(reliability(&s.CalibrationHigh, "high"))
		}
		page.Sets = append(page.Sets, one)
	}
	if err := t.Execute(w, page); err != nil {
		return fmt.Errorf("write HTML: %w", err)
	}
	return nil
}

// htmlFuncs are what the template prints with. Every number goes through the
// same few functions as the other formats.
func htmlFuncs() template.FuncMap {
	return template.FuncMap{
		"iv": showInterval, "num": showNumber, "count": showCount, "short": shortDigest, "title": baselineTitle,
		"cpt": cptCell, "bounds": rangeOf,
		"value":   func(i Interval, scale float64, digits int) string { return showNumber(i.Value*scale, digits) },
		"routing": routingLine,
		"times":   func(v, scale float64) float64 { return v * scale },
		"cell": func(i Interval, scale float64, digits int) htmlCell {
			return htmlCell{showNumber(i.Value*scale, digits), rangeOf(i, scale, digits)}
		},
		"hard": func(code string) bool {
			return slices.Contains([]string{FlagNoSkill, FlagGap, FlagTrainRows, FlagCollapsed, FlagUnscored, FlagDropped}, code)
		},
		"side": func(c Choice) string {
			if c == ChooseStrong {
				return "strong"
			}
			return "efficient"
		},
		"figures": htmlFigures,
	}
}

// htmlCell is a figure with its interval apart, which is set smaller.
type htmlCell struct{ Value, Range string }

type htmlFigure struct{ Name, Text string }

// htmlFigures are those that the page does not show above.
func htmlFigures(s *Result) []htmlFigure {
	var out []htmlFigure
	for _, m := range metricsOf(s) {
		if m.name != "n" && m.name != "weak" && m.name != "strong" && m.value.Known() {
			out = append(out, htmlFigure{m.name, showInterval(m.value, 1, 4)})
		}
	}
	return out
}

// picture marks a drawing as HTML: charts escape every name that they write.
func picture(svg string) template.HTML {
	return template.HTML(strings.TrimSpace(svg)) //nolint:gosec // chart.text and its like escape what is not ours
}

// rangeOf prints an interval without its value; "" where there is none.
func rangeOf(i Interval, scale float64, digits int) string {
	_, tail, ok := strings.Cut(showInterval(i, scale, digits), " ")
	if !ok {
		return ""
	}
	return tail
}

type htmlPage struct {
	Report *Report
	CSS    template.CSS
	Sets   []htmlSet
}

type htmlSet struct {
	*Result
	Anchor          string
	Headline        template.HTML
	Efficient, High template.HTML
	Baselines       []htmlBaseline
	Small           []template.HTML
	MoreDomains     int
	Detail          *Detail
	LostCases       int
	Texts           bool
}

type htmlBaseline struct {
	Name string
	Baseline
}

func (h *htmlSet) detail(d *Detail) {
	h.Detail = d
	for i := range d.Domains[:min(len(d.Domains), maxSmall)] {
		h.Small = append(h.Small, picture(small(&d.Domains[i])))
	}
	h.MoreDomains = len(h.Domains) - len(h.Small)
	h.LostCases = d.Matrix.Weak.StrongBetter + d.Matrix.Strong.WeakBetter
	h.Texts = slices.ContainsFunc(d.Worst, func(w Decision) bool { return w.Text != "" })
}
