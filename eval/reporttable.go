package eval

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// tableWidth is what a table keeps to.
const tableWidth = 120

// WriteTable writes the report for a terminal of 120 columns: a summary of all
// sets, then a block a set with its baselines, savings and warnings.
func WriteTable(w io.Writer, r *Report) error {
	buf := bufio.NewWriter(w)
	for i := range r.Sets {
		if err := tableSet(buf, &r.Sets[i]); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	m := &r.Manifest
	wrapTo(buf, "", fmt.Sprintf("policy %s; bundle %s %s; config %s; binary %s %s; seed %d, %d resamples, intervals 95 %% paired bootstrap; * uses outcomes, no router can know them",
		m.Policy, m.BundleName, shortDigest(m.Bundle), shortDigest(m.Config), m.Version, shortDigest(m.Binary), m.Seed, m.Bootstrap))
	if r.Routing != nil {
		wrapTo(buf, "", "routing itself: "+routingLine(r.Routing))
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// routingLine says what routing itself took.
func routingLine(r *Routing) string {
	return fmt.Sprintf("%s ms a prompt (mean of %s scored here), $%s a million prompts at $%g an hour of one core",
		showNumber(r.MeanMS, 3), showCount(int(r.Scored)), showNumber(r.USDPerMillion, 4), r.CoreHourUSD)
}

func tableSet(buf *bufio.Writer, s *Result) error {
	fmt.Fprintf(buf, "%s  n %s\n", s.Name, showCount(s.N))
	wrapTo(buf, "  ", fmt.Sprintf("efficient %s %s, strong %s %s, gap %s", s.WeakModel, showNumber(s.Weak, 4), s.StrongModel, showNumber(s.Strong, 4), showInterval(s.Gap, 1, 4)))
	t := tabwriter.NewWriter(buf, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  \tAPGR\tCPT20\tCPT50\tCPT80\tstrong %%\tquality kept %%\tcost saved %%\n")
	row := func(name string, apgr Interval, cpt map[string]Interval, share, kept, saved Interval) {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, showInterval(apgr, 1, 3), cptCell(cpt, "20"), cptCell(cpt, "50"), cptCell(cpt, "80"),
			showNumber(100*share.Value, 1), showInterval(kept, 100, 1), showInterval(saved, 100, 1))
	}
	row("weir", s.APGR, s.CPT, s.Policy.Share, s.QualityKept, s.CostSaved)
	for _, name := range baselineNames() {
		b, ok := s.Baselines[name]
		if ok {
			row(baselineTitle(name), b.APGR, b.CPT, b.Share, b.QualityKept, b.CostSaved)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(buf)
	if s.CostSavedNet.Known() {
		wrapTo(buf, "  ", fmt.Sprintf("cost saved after paying for the routing itself: %s %%", showInterval(s.CostSavedNet, 100, 2)))
	}
	wrapTo(buf, "  ", fmt.Sprintf("APGR over random %s, over prompt length %s; CPT is the %% of calls to strong at that %% of the gap",
		showInterval(s.APGROverRandom, 1, 3), showInterval(s.APGROverLength, 1, 3)))
	t = tabwriter.NewWriter(buf, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  savings at\tstrong %%\tmoney saved %%\tstrong calls, fewer than random by\tcalls not to strong %%\n")
	for _, v := range s.Savings {
		fmt.Fprintf(t, "  %s %% quality\t%s\t%s\t%s\t%s\n", showNumber(100*v.QualityKept, 0), showInterval(v.Share, 100, 1),
			showInterval(v.OverStrong, 100, 1), showInterval(v.OverRandom, 1, 2), showInterval(v.ByCalls, 100, 1))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range s.Flags {
		wrapTo(buf, "  ", f.Code+": "+f.Detail)
	}
	fmt.Fprintln(buf)
	return nil
}

// cptCell prints a CPT without its interval, which the other formats have.
func cptCell(cpt map[string]Interval, q string) string {
	if i, ok := cpt[q]; ok {
		return showNumber(i.Value, 1)
	}
	return "-"
}

// shortDigest is enough of a digest to tell two apart by eye.
func shortDigest(d string) string {
	name, hex, ok := strings.Cut(d, ":")
	if !ok || len(hex) <= 12 {
		return d
	}
	return name + ":" + hex[:12]
}

// wrapTo writes a sentence in lines of at most tableWidth columns; what follows
// the first line is indented by two more.
func wrapTo(buf *bufio.Writer, indent, text string) {
	line := indent
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > tableWidth:
			fmt.Fprintln(buf, line)
			line = indent + "  " + word
		default:
			line += " " + word
		}
	}
	fmt.Fprintln(buf, line)
}
