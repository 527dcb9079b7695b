package eval

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// chart draws one set of axes as SVG. Colours are classes, so that a page and a
// file of its own both follow the reader's light or dark scheme; see
// assets/chart.css.
type chart struct {
	b                        strings.Builder
	width, height            float64
	left, right, top, bottom float64 // margins
	x0, x1, y0, y1           float64 // data at the plot's edges
}

func (c *chart) px(x float64) float64 {
	return c.left + (x-c.x0)/(c.x1-c.x0)*(c.width-c.left-c.right)
}

func (c *chart) py(y float64) float64 {
	return c.height - c.bottom - (y-c.y0)/(c.y1-c.y0)*(c.height-c.top-c.bottom)
}

// coordinate prints a place to a tenth of a pixel.
func coordinate(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func (c *chart) line(class string, x0, y0, x1, y1 float64) {
	fmt.Fprintf(&c.b, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, coordinate(x0), coordinate(y0), coordinate(x1), coordinate(y1))
}

func (c *chart) text(class, anchor string, x, y float64, s string) {
	fmt.Fprintf(&c.b, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, coordinate(x), coordinate(y), html.EscapeString(s))
}

// path joins points of data; those that do not exist are left out.
func (c *chart) path(class string, x, y []float64) {
	var d strings.Builder
	for i := range x {
		if math.IsNaN(x[i]) || math.IsNaN(y[i]) {
			continue
		}
		d.WriteByte("ML"[min(d.Len(), 1)])
		d.WriteString(coordinate(c.px(x[i])) + " " + coordinate(c.py(y[i])))
	}
	if d.Len() > 0 {
		fmt.Fprintf(&c.b, `<path class="%s" d="%s"/>`, class, d.String())
	}
}

// band fills between two lines over the same x.
func (c *chart) band(class string, x, lo, hi []float64) {
	var d strings.Builder
	point := func(i int, y float64) {
		d.WriteByte("ML"[min(d.Len(), 1)])
		d.WriteString(coordinate(c.px(x[i])) + " " + coordinate(c.py(y)))
	}
	for i := range x {
		if !math.IsNaN(hi[i]) {
			point(i, hi[i])
		}
	}
	for i := len(x) - 1; i >= 0; i-- {
		if !math.IsNaN(lo[i]) {
			point(i, lo[i])
		}
	}
	if d.Len() > 0 {
		fmt.Fprintf(&c.b, `<path class="%s" d="%sZ"/>`, class, d.String())
	}
}

// mark draws a sign at a place of the picture, with what it says on hovering.
func (c *chart) mark(class, shape string, x, y float64, title string) {
	if math.IsNaN(x) || math.IsNaN(y) {
		return
	}
	const r = 5.0
	var body string
	switch shape {
	case "diamond":
		body = fmt.Sprintf(`<path class="%s" d="M%s %sl6.5 6.5l-6.5 6.5l-6.5 -6.5Z">`, class, coordinate(x), coordinate(y-6.5))
		body += "<title>" + html.EscapeString(title) + "</title></path>"
	case "triangle":
		body = fmt.Sprintf(`<path class="%s" d="M%s %sl6 10.5l-12 0Z">`, class, coordinate(x), coordinate(y-6.5))
		body += "<title>" + html.EscapeString(title) + "</title></path>"
	default:
		body = fmt.Sprintf(`<circle class="%s" cx="%s" cy="%s" r="%s">`, class, coordinate(x), coordinate(y), coordinate(r))
		body += "<title>" + html.EscapeString(title) + "</title></circle>"
	}
	c.b.WriteString(body)
}

// axes draws the grid, the frame's lower and left edge and the numbers.
func (c *chart) axes(xTicks, yTicks []float64, xLabel, yLabel string, show func(float64) string) {
	bottom, right := c.height-c.bottom, c.width-c.right
	for _, t := range yTicks {
		c.line("grid", c.left, c.py(t), right, c.py(t))
		c.text("tick", "end", c.left-7, c.py(t)+4, show(t))
	}
	for _, t := range xTicks {
		c.line("grid", c.px(t), c.top, c.px(t), bottom)
		c.text("tick", "middle", c.px(t), bottom+17, show(t))
	}
	c.line("axis", c.left, bottom, right, bottom)
	c.line("axis", c.left, c.top, c.left, bottom)
	if xLabel != "" {
		c.text("label", "middle", (c.left+right)/2, c.height-5, xLabel)
	}
	if yLabel != "" {
		y := (c.top + bottom) / 2
		fmt.Fprintf(&c.b, `<text class="label" text-anchor="middle" transform="translate(14 %s) rotate(-90)">%s</text>`, coordinate(y), html.EscapeString(yLabel))
	}
}

// svg closes the drawing. style, if given, goes into a file of its own.
func (c *chart) svg(title, style string) string {
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="%s" viewBox="0 0 %s %s"`, html.EscapeString(title), coordinate(c.width), coordinate(c.height))
	if style != "" {
		fmt.Fprintf(&out, ` width="%s" height="%s"><style>%s</style><rect class="paper" width="100%%" height="100%%"/`, coordinate(c.width), coordinate(c.height), style)
	}
	out.WriteString(">" + c.b.String() + "</svg>\n")
	return out.String()
}

// legendEntry is a sign with its name.
type legendEntry struct {
	class, shape, name string // shape "line" draws a stroke
}

// legend writes entries from left to right and breaks lines at the plot's
// width. It returns the height that it took.
func (c *chart) legend(x, y, width float64, entries []legendEntry) float64 {
	const glyph, gap, perRune, row = 30.0, 16.0, 6.6, 19.0
	at, top := x, y
	for _, e := range entries {
		need := glyph + perRune*float64(len([]rune(e.name)))
		if at > x && at+need > x+width {
			at, y = x, y+row
		}
		if e.shape == "line" {
			c.line(e.class, at, y-4, at+24, y-4)
		} else {
			c.mark(e.class, e.shape, at+12, y-4, e.name)
		}
		c.text("key", "start", at+glyph, y, e.name)
		at += need + gap
	}
	return y - top + row
}

// ticks gives round numbers from at least lo to at most hi, about n of them.
func ticks(lo, hi float64, n int) []float64 {
	raw := (hi - lo) / float64(n)
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if step*m >= raw {
			step *= m
			break
		}
	}
	var out []float64
	for k := math.Ceil(lo/step - 1e-9); k*step <= hi+1e-9*step; k++ {
		out = append(out, k*step)
	}
	return out
}

// apart moves labels down or up so that neighbours are at least gap apart. The
// places are in the order from the top.
func apart(y []float64, gap float64) {
	for range 20 {
		moved := false
		for i := 1; i < len(y); i++ {
			if lack := gap - (y[i] - y[i-1]); lack > 0.1 {
				y[i-1] -= lack / 2
				y[i] += lack / 2
				moved = true
			}
		}
		if !moved {
			return
		}
	}
}
