package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// usd is for people: cents where they tell something, else three digits
// that do.
func usd(nano int64) string {
	n := router.NanoUSD(nano)
	if n == 0 || n >= 100_000_000 || n <= -100_000_000 {
		near, err := n.Plus(half(n))
		if err != nil {
			return n.String()
		}
		s := (near / 10_000_000 * 10_000_000).String()
		return group(s)
	}
	digits := 0
	for step := router.NanoUSD(1_000_000_000); step > 0 && n/step == 0; step /= 10 {
		digits++
	}
	unit := int64(1)
	for range max(9-digits-2, 0) {
		unit *= 10
	}
	sign := int64(1)
	if nano < 0 {
		sign = -1
	}
	return router.NanoUSD((nano + sign*unit/2) / unit * unit).String()
}

func half(n router.NanoUSD) router.NanoUSD {
	if n < 0 {
		return -5_000_000
	}
	return 5_000_000
}

// group parts thousands in the digits before the point.
func group(s string) string {
	whole, frac, _ := strings.Cut(s, ".")
	start := strings.IndexAny(whole, "0123456789")
	for i := len(whole) - 3; i > start; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if frac == "" {
		return whole
	}
	return whole + "." + frac
}

// short counts in thousands, millions or billions, three digits.
func short(n int64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "B"}, {1e6, "M"}, {1e3, "k"}} {
		if v := float64(n) / u.size; v >= 0.9995 {
			switch {
			case v < 9.995:
				return strconv.FormatFloat(v, 'f', 2, 64) + u.name
			case v < 99.95:
				return strconv.FormatFloat(v, 'f', 1, 64) + u.name
			default:
				return strconv.FormatFloat(v, 'f', 0, 64) + u.name
			}
		}
	}
	return strconv.FormatInt(n, 10)
}

// percent is of a whole; "-" where there is none.
func percent(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + "%"
}

// usageTable prints a row a group and the total, 80 columns wide where the
// groups' names let it.
func usageTable(out io.Writer, by []string, resp *weirv1.UsageResponse) error {
	total := resp.GetTotal()
	if total.GetCalls() == 0 {
		_, err := fmt.Fprintln(out, "No completed calls in this time.")
		return err
	}
	lines := [][]string{append(append([]string(nil), by...), "calls", "tries", "in", "out", "spent", "share", "saved")}
	row := func(names []string, r *weirv1.UsageRow) {
		saved := usd(r.GetSavingsNanoUsd())
		if r.GetUncomparedCalls() == r.GetCalls() && r.GetSavingsNanoUsd() == 0 {
			saved = "-"
		}
		lines = append(lines, append(names, group(strconv.FormatInt(r.GetCalls(), 10)), group(strconv.FormatInt(r.GetAttempts(), 10)),
			short(r.GetUsage().GetInputTokens()), short(r.GetUsage().GetOutputTokens()), usd(r.GetCostNanoUsd()),
			percent(r.GetCostNanoUsd(), total.GetCostNanoUsd()), saved))
	}
	for _, r := range resp.GetRows() {
		names := make([]string, len(by))
		for i, g := range by {
			if names[i] = r.GetGroup()[g]; names[i] == "" {
				names[i] = "(none)"
			}
		}
		row(names, r)
	}
	names := make([]string, len(by))
	if len(by) > 0 {
		names[0] = "total"
	}
	row(names, total)
	if err := printColumns(out, lines, len(by)); err != nil {
		return err
	}
	return usageSummary(out, total)
}

// printColumns sets the first columns left, the others right, with lines under
// the head and over the last.
func printColumns(out io.Writer, lines [][]string, left int) error {
	width := make([]int, len(lines[0]))
	sum := 2 * (len(width) - 1)
	for i := range width {
		for _, l := range lines {
			width[i] = max(width[i], utf8.RuneCountInString(l[i]))
		}
		sum += width[i]
	}
	for n, l := range lines {
		if n == 1 || (n == len(lines)-1 && n > 1) {
			fmt.Fprintln(out, strings.Repeat("─", sum))
		}
		var b strings.Builder
		for i, cell := range l {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if i < left {
				b.WriteString(cell + pad)
			} else {
				b.WriteString(pad + cell)
			}
		}
		if _, err := fmt.Fprintln(out, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// usageSummary says in sentences what the columns cannot.
func usageSummary(out io.Writer, t *weirv1.UsageRow) error {
	fmt.Fprintln(out)
	saved, cost := t.GetSavingsNanoUsd(), t.GetCostNanoUsd()
	verb := func(n int64) string {
		if n < 0 {
			return "lost"
		}
		return "saved"
	}
	switch {
	case t.GetUncomparedCalls() >= t.GetCalls() && saved == 0:
		fmt.Fprintln(out, "No saving is known: no baseline was booked with these calls.")
	case t.GetUncomparedCalls() > 0:
		fmt.Fprintf(out, "%s %s on the calls that have a baseline; %s without one.\n", title(verb(saved)), usd(abs(saved)), count(t.GetUncomparedCalls(), "call"))
	default:
		fmt.Fprintf(out, "%s %s, %s of what %s would have cost.\n", title(verb(saved)), usd(abs(saved)), percent(abs(saved), saved+cost), baselineName(t.GetBaseline()))
	}
	for _, b := range t.GetBaselines() {
		fmt.Fprintf(out, "Against %s at today's prices, %s: %s %s, %s.\n", b.GetModel(), usd(b.GetCostNanoUsd()), verb(b.GetSavingsNanoUsd()),
			usd(abs(b.GetSavingsNanoUsd())), percent(abs(b.GetSavingsNanoUsd()), b.GetCostNanoUsd()))
	}
	fmt.Fprintln(out, "Net of retries, failed attempts and routing; answers taken as equally long.")
	if t.GatewayFeeNanoUsd != nil {
		fmt.Fprintf(out, "A hosted gateway at the fee entered would have taken %s for these calls.\n", usd(t.GetGatewayFeeNanoUsd()))
	}
	if n := t.GetUnpricedAttempts(); n > 0 {
		fmt.Fprintf(out, "Not in these sums: %s of unknown price.\n", count(n, "attempt"))
	}
	if t.GetUsage().GetEstimated() {
		fmt.Fprintln(out, "Some tokens were counted here, because the provider did not say.")
	}
	return nil
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return group(strconv.FormatInt(n, 10)) + " " + thing
}

func baselineName(id string) string {
	if id == "mixed" {
		return "the baselines"
	}
	return id
}

// usageCSV prints exact amounts in dollars, a row a group, the total alone
// where nothing is grouped.
func usageCSV(out io.Writer, by []string, resp *weirv1.UsageResponse) error {
	w := csv.NewWriter(out)
	head := append(append([]string(nil), by...), "calls", "attempts", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
		"tokens_estimated", "cost_usd", "savings_usd", "baseline", "unpriced_attempts", "uncompared_calls", "gateway_fee_usd")
	for _, b := range resp.GetTotal().GetBaselines() {
		head = append(head, "cost_usd "+b.GetModel(), "savings_usd "+b.GetModel())
	}
	lines := [][]string{head}
	rows := resp.GetRows()
	if len(by) == 0 {
		rows = []*weirv1.UsageRow{resp.GetTotal()}
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	exact := func(n int64) string { return strings.Replace(router.NanoUSD(n).String(), "$", "", 1) }
	for _, r := range rows {
		u := r.GetUsage()
		var line []string
		for _, g := range by {
			line = append(line, r.GetGroup()[g])
		}
		fee := ""
		if r.GatewayFeeNanoUsd != nil {
			fee = exact(r.GetGatewayFeeNanoUsd())
		}
		line = append(line, number(r.GetCalls()), number(r.GetAttempts()), number(u.GetInputTokens()), number(u.GetCachedInputTokens()), number(u.GetCacheWriteTokens()),
			number(u.GetOutputTokens()), number(u.GetReasoningTokens()), strconv.FormatBool(u.GetEstimated()), exact(r.GetCostNanoUsd()), exact(r.GetSavingsNanoUsd()),
			r.GetBaseline(), number(r.GetUnpricedAttempts()), number(r.GetUncomparedCalls()), fee)
		for _, b := range r.GetBaselines() {
			line = append(line, exact(b.GetCostNanoUsd()), exact(b.GetSavingsNanoUsd()))
		}
		lines = append(lines, line)
	}
	return w.WriteAll(lines)
}

// The chart: bars of 44 columns beside a day and two amounts fit 80.
const (
	chartWidth = 44
	chartDays  = 62
)

// usageChart prints a bar a day: spent, and beside it what was saved, so that
// the whole bar is what the baseline would have cost. Days without calls are
// shown, so that the eye can count them.
func usageChart(out io.Writer, resp *weirv1.UsageResponse) error {
	rows := map[string]*weirv1.UsageRow{}
	var first, last time.Time
	for _, r := range resp.GetRows() {
		d, err := time.Parse(time.DateOnly, r.GetGroup()["day"])
		if err != nil {
			return fmt.Errorf("chart: day %q: %w", r.GetGroup()["day"], err)
		}
		if first.IsZero() {
			first = d
		}
		last = d
		rows[r.GetGroup()["day"]] = r
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, "No completed calls in this time.")
		return err
	}
	if from := last.AddDate(0, 0, 1-chartDays); first.Before(from) {
		fmt.Fprintf(out, "The last %d days; --csv --group-by day has them all.\n", chartDays)
		first = from
	}
	most := float64(1)
	for d := first; !d.After(last); d = d.AddDate(0, 0, 1) {
		r := rows[d.Format(time.DateOnly)]
		most = max(most, float64(r.GetCostNanoUsd()), float64(r.GetCostNanoUsd())+float64(r.GetSavingsNanoUsd()))
	}
	fmt.Fprintf(out, "%-10s  %-*s  %9s  %9s\n", "day (UTC)", chartWidth, "█ spent  ░ saved", "spent", "saved")
	for d := first; !d.After(last); d = d.AddDate(0, 0, 1) {
		r := rows[d.Format(time.DateOnly)]
		bar := bars(float64(r.GetCostNanoUsd()), float64(max(r.GetSavingsNanoUsd(), 0)), most)
		fmt.Fprintf(out, "%s  %s%s  %9s  %9s\n", d.Format(time.DateOnly), bar, strings.Repeat(" ", chartWidth-utf8.RuneCountInString(bar)),
			usd(r.GetCostNanoUsd()), usd(r.GetSavingsNanoUsd()))
	}
	return usageSummary(out, resp.GetTotal())
}

// bars draws what was spent in eighths of a column, and what was saved after it
// in whole ones. What is not zero is seen.
func bars(spent, saved, most float64) string {
	eighths := int(spent/most*chartWidth*8 + 0.5)
	if spent > 0 {
		eighths = max(eighths, 1)
	}
	bar := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		bar += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	end := int((spent+saved)/most*chartWidth + 0.5)
	if n := min(end, chartWidth) - utf8.RuneCountInString(bar); n > 0 && saved > 0 {
		bar += strings.Repeat("░", n)
	}
	return bar
}
