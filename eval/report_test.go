package eval

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
)

const hostile = `<script>alert("x")</script>&`

// reported replays a made-up set whose names are hostile and one prompt of
// which holds HTML.
func reported(t *testing.T) (*Report, []*Sample, Source) {
	t.Helper()
	cases := honest(300, 21)
	for i := range cases {
		cases[i].Outcomes = map[string]float64{"weak" + hostile: float64((i % 3) / 2), "strong": float64(min(1, i%5))}
		cases[i].CostUSD, cases[i].OutputChars = nil, nil
		cases[i].Domain = []string{"math", "writing" + hostile}[i%2]
		cases[i].Prompt += hostile
	}
	src := sourceOf(cases)
	src.Name = "set" + hostile
	r, samples, err := Run(t.Context(), Config{Sources: []Source{src}, Classifier: classifier.Lexical{}, Seed: 1, Bootstrap: 60, Version: "test"})
	require.NoError(t, err)
	return r, samples, src
}

func TestDetail(t *testing.T) {
	_, samples, src := reported(t)
	s := samples[0]
	d := DetailOf(s, 40, 1)
	counts := 0
	for _, row := range []MatrixRow{d.Matrix.Weak, d.Matrix.Strong} {
		counts += row.WeakBetter + row.Same + row.StrongBetter
	}
	assert.Equal(t, s.Len(), counts)

	// Against the policy's regret to the oracle.
	regret := 0.0
	for i := range s.IDs {
		regret += (max(s.WeakScore[i], s.StrongScore[i]) - s.chosenScore(i)) / float64(s.Len())
	}
	assert.InDelta(t, regret, d.Matrix.Weak.Lost+d.Matrix.Strong.Lost, 1e-12)
	lost := d.Matrix.Weak.StrongBetter + d.Matrix.Strong.WeakBetter
	require.Len(t, d.Worst, min(lost, WorstDecisions))
	assert.NotEmpty(t, d.Worst)
	for i, w := range d.Worst {
		assert.Positive(t, w.Lost)
		assert.Empty(t, w.Text)
		if i > 0 {
			assert.GreaterOrEqual(t, d.Worst[i-1].Lost, w.Lost)
		}
	}
	require.Len(t, d.Domains, 2)
	for _, c := range d.Domains {
		assert.Equal(t, 150, c.N)
		require.Len(t, c.Curve, 11)
		assert.Equal(t, 0.0, c.Curve[0].Share)
		assert.InDelta(t, c.Weak, c.Curve[0].Quality.Value, 1e-12)
		assert.InDelta(t, c.Strong, c.Curve[10].Quality.Value, 1e-12)
		assert.Less(t, c.Curve[5].Quality.Lo, c.Curve[5].Quality.Value)
	}
	require.NoError(t, d.AddTexts(src))
	for _, w := range d.Worst {
		assert.Equal(t, w.Chars, utf8.RuneCountInString(w.Text), "the text is that of the id")
	}
	broken := Source{Name: "b", Cases: func(yield func(Case, error) bool) { yield(Case{}, assert.AnError) }}
	assert.ErrorIs(t, d.AddTexts(broken), assert.AnError)
}

func TestHTMLIsOnePageThatLoadsNothing(t *testing.T) {
	r, samples, src := reported(t)
	d := DetailOf(samples[0], 40, 1)
	page := func(details ...*Detail) string {
		var b bytes.Buffer
		require.NoError(t, WriteHTML(&b, r, details))
		return b.String()
	}
	got := page(d)
	assert.NotContains(t, got, "<script", "nothing runs, and names are escaped")
	for _, ref := range regexp.MustCompile(`(?i)(?:href|src|action|data)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(got, -1) {
		assert.True(t, strings.HasPrefix(ref[1], "#"), "%s leads away", ref[1])
	}
	assert.NotRegexp(t, `(?i)@import|url\(|<link|<iframe|<object`, got)
	for _, m := range regexp.MustCompile(`https?://[^"' <]+`).FindAllString(got, -1) {
		assert.Equal(t, "http://www.w3.org/2000/svg", m, "an address is a name of a namespace only")
	}
	for _, want := range []string{"prefers-color-scheme:dark", "per-query oracle", "By domain", "Calibration", "worst decisions", "Against the baselines", d.Worst[0].ID, r.Manifest.Config} {
		assert.Contains(t, got, want)
	}
	assert.NotContains(t, got, "ZgotmplZ")
	assert.NotRegexp(t, `NaN|Inf\b|%!`, got)
	word := strings.Fields(textOf(t, src, d.Worst[0].ID))[0]
	assert.NotRegexp(t, `>`+word+` `, got, "no text unless asked for")

	require.NoError(t, d.AddTexts(src))
	asked := page(d)
	assert.Contains(t, asked, ">"+word+" ")
	assert.NotContains(t, asked, "<script")

	figures := page()
	assert.NotContains(t, figures, "worst decisions")
	assert.Contains(t, figures, "Against the baselines")
}

func textOf(t *testing.T, src Source, id string) string {
	t.Helper()
	for c := range src.Cases {
		if c.ID == id {
			return c.Prompt
		}
	}
	t.Fatal(id)
	return ""
}

// wellFormed reads a drawing as XML and returns its numbers of places.
func wellFormed(t *testing.T, svg string) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestSVGIsWellFormedAndInside(t *testing.T) {
	r, samples, _ := reported(t)
	var b bytes.Buffer
	require.NoError(t, WriteSVG(&b, r, r.Sets[0].Name))
	pictures := []string{b.String(), reliability(&r.Sets[0].CalibrationHigh, "high")}
	for _, d := range DetailOf(samples[0], 20, 1).Domains {
		pictures = append(pictures, small(&d))
	}
	for _, svg := range pictures {
		wellFormed(t, svg)
		assert.NotRegexp(t, `NaN|Inf`, svg)
		box := regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`).FindStringSubmatch(svg)
		require.NotNil(t, box)
		width, err := strconv.ParseFloat(box[1], 64)
		require.NoError(t, err)
		height, err := strconv.ParseFloat(box[2], 64)
		require.NoError(t, err)
		for _, d := range regexp.MustCompile(` d="([ML0-9. -]+)Z?"`).FindAllStringSubmatch(svg, -1) {
			for _, p := range regexp.MustCompile(`[ML](-?[0-9.]+) (-?[0-9.]+)`).FindAllStringSubmatch(d[1], -1) {
				x, _ := strconv.ParseFloat(p[1], 64)
				y, _ := strconv.ParseFloat(p[2], 64)
				assert.True(t, x >= 0 && x <= width && y >= 0 && y <= height, "%s is outside", p[0])
			}
		}
	}
	assert.ErrorContains(t, WriteSVG(io.Discard, r, "none"), "is not in the report")
}

// A report without resamples, gap or skill is drawn too.
func TestReportsOfPoorSets(t *testing.T) {
	cases := honest(60, 4)
	for i := range cases {
		cases[i].Outcomes = map[string]float64{"w": 1, "s": 1}
	}
	r, samples, err := Run(t.Context(), Config{Sources: []Source{sourceOf(cases)}, Classifier: classifier.Lexical{}, Weak: "w", Strong: "s", Bootstrap: -1})
	require.NoError(t, err)
	var page, table, sheet bytes.Buffer
	require.NoError(t, WriteHTML(&page, r, []*Detail{DetailOf(samples[0], -1, 1)}))
	require.NoError(t, WriteTable(&table, r))
	require.NoError(t, WriteCSV(&sheet, r))
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page.String(), -1) {
		wellFormed(t, svg)
		assert.NotRegexp(t, `NaN|Inf`, svg)
	}
	assert.Contains(t, table.String(), FlagGap)
}

func TestTableFits(t *testing.T) {
	r, _, _ := reported(t)
	r.Sets[0].Name = "routellm-mmlu"
	var b bytes.Buffer
	require.NoError(t, WriteTable(&b, r))
	for _, line := range strings.Split(b.String(), "\n") {
		assert.LessOrEqual(t, utf8.RuneCountInString(line), tableWidth, line)
	}
	for _, name := range baselineNames() {
		assert.Contains(t, b.String(), baselineTitle(name))
	}
}

// Every figure of the report is in the sheet, as it is.
func TestCSVHoldsTheFigures(t *testing.T) {
	r, _, _ := reported(t)
	var b bytes.Buffer
	require.NoError(t, WriteCSV(&b, r))
	rows, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	s := &r.Sets[0]
	find := func(part, name, metric string) Interval {
		at := slices.IndexFunc(rows, func(row []string) bool {
			return row[0] == s.Name && row[1] == part && row[2] == name && row[3] == metric
		})
		require.GreaterOrEqual(t, at, 0, "%s %s %s", part, name, metric)
		number := func(text string) float64 {
			if text == "" {
				return math.NaN()
			}
			v, err := strconv.ParseFloat(text, 64)
			require.NoError(t, err)
			return v
		}
		return Interval{number(rows[at][4]), number(rows[at][5]), number(rows[at][6])}
	}
	assert.Equal(t, s.APGR, find("set", "weir", "apgr"))
	assert.Equal(t, s.CPT["50"], find("set", "weir", "cpt50"))
	assert.Equal(t, s.Baselines[BaselineLength].APGR, find("baseline", BaselineLength, "apgr"))
	assert.Equal(t, s.Domains[1].QualityKept, find("domain", s.Domains[1].Domain, "quality_kept"))
	assert.Equal(t, s.AlphaSweep[3].Share, find("alpha", "0.15", "share"))
	assert.Equal(t, s.Savings[1].OverStrong, find("savings", "95", "over_strong"))
	for _, name := range GateFigures() {
		find("set", "weir", name)
	}
}

// The picture in the docs is drawn by this code: its style is the one embedded.
func TestPictureOfTheDocsIsCurrent(t *testing.T) {
	raw, err := os.ReadFile("../docs/img/routellm-mmlu.svg")
	require.NoError(t, err)
	wellFormed(t, string(raw))
	assert.Contains(t, string(raw), themeCSS+chartCSS, "draw it again: docs/evaluation.md has the command")
}

func TestTicksAndLabels(t *testing.T) {
	assert.Equal(t, []float64{0, 20, 40, 60, 80, 100}, ticks(0, 100, 5))
	got := ticks(68.2, 80.9, 6)
	require.NotEmpty(t, got)
	assert.GreaterOrEqual(t, got[0], 68.2)
	assert.LessOrEqual(t, got[len(got)-1], 80.9+1e-9)
	places := []float64{10, 11, 12, 60}
	apart(places, 15)
	for i := 1; i < len(places); i++ {
		assert.GreaterOrEqual(t, places[i]-places[i-1], 14.0)
	}
	assert.Equal(t, "0.00", showNumber(-1e-9, 2))
	assert.Equal(t, "1,234,567", showCount(1234567))
	assert.Equal(t, "-", showInterval(unknown(), 1, 2))
}
