package swap

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/eval"
)

//go:embed assets/gate.html.tmpl
var gatePage string //nolint:gochecknoglobals // embedding needs a variable; nothing changes it

// picture is one set's curve under both bundles.
type picture struct{ Serving, Candidate string }

// writeHTML writes the page for people. It loads nothing but the pictures beside it.
func (r *Report) writeHTML(w io.Writer) error {
	t, err := template.New("gate").Funcs(template.FuncMap{
		"time":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"took":     took,
		"percent":  func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) },
		"number":   func(v float64) string { return fmt.Sprintf("%.3f", v) },
		"interval": func(i eval.Interval) string { return spell(i, 100, 1) + percentSign(i) },
		"plain":    func(i eval.Interval) string { return spell(i, 1, 3) },
		"shade":    func(n, of int) string { return fmt.Sprintf("%.2f", 0.6*float64(n)/float64(max(of, 1))) },
	}).Parse(gatePage)
	if err != nil {
		return err
	}
	page := struct {
		*Report
		Pictures []picture
	}{Report: r}
	for _, p := range r.Pages {
		if base, ok := strings.CutSuffix(p, "-serving.svg"); ok && slices.Contains(r.Pages, base+"-candidate.svg") {
			page.Pictures = append(page.Pictures, picture{p, base + "-candidate.svg"})
		}
	}
	return t.Execute(w, page)
}

// took is a time for people; "-" for none.
func took(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f ms", d.Seconds()*1e3)
}

func percentSign(i eval.Interval) string {
	if !i.Known() {
		return ""
	}
	return " %"
}

func spell(i eval.Interval, scale float64, digits int) string {
	if !i.Known() {
		return "-"
	}
	return fmt.Sprintf("%.*f [%.*f, %.*f]", digits, scale*i.Value, digits, scale*i.Lo, digits, scale*i.Hi)
}
