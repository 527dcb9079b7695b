package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// The narrowest and the usual width that decisions are printed for.
const (
	leastColumns = 60
	usualColumns = 80
)

func columns(getenv func(string) string) int {
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		return max(n, leastColumns)
	}
	return usualColumns
}

// sheet prints labelled rows, wrapped at its width.
type sheet struct {
	out   io.Writer
	width int
	err   error
}

// labelWidth is the column that rows' texts start in.
const labelWidth = 12

func (p *sheet) row(label, format string, args ...any) {
	for i, line := range wrap(fmt.Sprintf(format, args...), p.width-labelWidth-len(" %),")) {
		if i > 0 {
			label = ""
		}
		p.line(fmt.Sprintf("%-*s%s", labelWidth, label, line))
	}
}

func (p *sheet) line(text string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.out, strings.TrimRight(text, " "))
	}
}

// wrap breaks a text at spaces into lines of at most width letters; a longer
// word has a line of its own, and a percent sign stays with its number.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		switch {
		case line == "":
			line = w
		case strings.HasPrefix(w, "%") && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) <= width+len(" %),"):
			line += " " + w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width:
			lines = append(lines, line)
			line = w
		default:
			line += " " + w
		}
	}
	return append(lines, line)
}

func printDecision(out io.Writer, d *weirv1.Decision, width int) error {
	p := &sheet{out: out, width: width}
	p.row("model", "%s (%s, %s)", d.GetModel(), word(d.GetTier().String(), "TIER_"), d.GetProvider())
	p.row("why", "%s", d.GetExplanation())
	if d.EstimatedCostNanoUsd != nil {
		p.row("cost", "about %s, at most %s with %d output tokens", router.NanoUSD(d.GetEstimatedCostNanoUsd()), router.NanoUSD(d.GetCostBoundNanoUsd()), d.GetMaxOutputTokens())
	} else {
		p.row("cost", "unknown: the model has no price in this config")
	}
	if c := d.GetCandidates(); len(c) > 0 && c[0].GetUnmeasured() && d.GetScores() != nil {
		p.row("caution", "the model is unmeasured: its quality is its tier's reference curve, from %.2f to %.2f", c[0].GetQualityInterval().GetLow(), c[0].GetQualityInterval().GetHigh())
	}
	p.scores(d)
	p.terms(d)
	p.row("took", "%s to score, %s in all", d.GetTimings().GetClassify().AsDuration(), d.GetTimings().GetTotal().AsDuration())
	p.row("versions", "engine %s, config %s, bundle %s", d.GetEngineVersion(), shortDigest(d.GetConfigDigest()), shortDigest(d.GetBundleDigest()))
	p.line("")
	p.candidates(d.GetCandidates())
	return p.err
}

func (p *sheet) scores(d *weirv1.Decision) {
	s := d.GetScores()
	if s == nil {
		p.row("unscored", "%s", word(d.GetUnscoredReason(), ""))
		return
	}
	p.row("complexity", "%.3f (%.3f to %.3f), gain of going up %.3f", s.GetComplexity(), s.GetComplexityInterval().GetLow(), s.GetComplexityInterval().GetHigh(), s.GetGain())
	p.row("domain", "%s", domains(s))
	p.row("tokens", "%d in (%d not read), about %.0f out, nine in ten under %.0f", s.GetInputTokens(), s.GetTruncatedTokens(), s.GetOutputTokens(), s.GetOutputTokensP90())
	if s.GetOutOfDistribution() {
		p.row("caution", "the prompt is unlike what the classifier was trained on")
	}
}

// terms prints what bound the choice and what is promised of it.
func (p *sheet) terms(d *weirv1.Decision) {
	if d.GetRule() != "" {
		p.row("rule", "%s matched", d.GetRule())
	}
	for _, l := range d.GetLimits() {
		bound := ""
		if l.GetBinding() {
			bound = "; it removed candidates"
		}
		p.row("limit", "%s %s, from the %s%s", l.GetName(), l.GetValue(), word(l.GetSource().String(), "SOURCE_"), bound)
	}
	if s := d.GetSession(); s != nil && s.GetPreviousModel() != "" {
		kept := "left"
		if s.GetPinned() {
			kept = "kept"
		}
		p.row("session", "%s was %s; leaving its cache costs %s", s.GetPreviousModel(), kept, router.NanoUSD(s.GetSwitchCostNanoUsd()))
	}
	if g := d.GetGuarantee(); g != nil {
		valid := "it holds here"
		if !g.GetValid() {
			valid = "it does not hold here: " + word(g.GetInvalidReason(), "")
		}
		p.row("guarantee", "%s: more than %g lost on at most %g of the traffic, with confidence %g; %s", g.GetCalibrationId(), g.GetEpsilon(), g.GetAlpha(), 1-g.GetDelta(), valid)
	}
}

// candidates prints a line a model; a reason that does not fit has its own.
func (p *sheet) candidates(list []*weirv1.Candidate) {
	longest := len("candidate")
	for _, c := range list {
		longest = max(longest, len(c.GetModel()))
	}
	format := fmt.Sprintf("%%-%ds  %%-10s  %%7s  %%11s  ", longest)
	p.line(fmt.Sprintf(format, "candidate", "tier", "quality", "cost") + "stands")
	for i, c := range list {
		cost := "unknown"
		if c.EstimatedCostNanoUsd != nil {
			cost = router.NanoUSD(c.GetEstimatedCostNanoUsd()).String()
		}
		quality := fmt.Sprintf("%.3f", c.GetExpectedQuality())
		if c.GetQualityInterval() == nil {
			quality = "-"
		}
		head := fmt.Sprintf(format, c.GetModel(), tierWord(c.GetTier()), quality, cost)
		text := stands(i, c)
		if len(head)+utf8.RuneCountInString(text) <= p.width {
			p.line(head + text)
			continue
		}
		p.line(head)
		for _, line := range wrap(text, p.width-4) {
			p.line("    " + line)
		}
	}
}

func stands(i int, c *weirv1.Candidate) string {
	switch {
	case c.GetRejection() != weirv1.Rejection_REJECTION_UNSPECIFIED && c.GetRejectionDetail() != "":
		return "rejected: " + c.GetRejectionDetail()
	case c.GetRejection() != weirv1.Rejection_REJECTION_UNSPECIFIED:
		return "rejected: " + word(c.GetRejection().String(), "REJECTION_")
	case i == 0:
		return "chosen"
	default:
		return "fallback"
	}
}

// tierWord is a tier in one short word.
func tierWord(t weirv1.Tier) string {
	switch t {
	case weirv1.Tier_TIER_HIGH_PERFORMANCE:
		return "high"
	case weirv1.Tier_TIER_DOMAIN_SPECIALIST:
		return "specialist"
	default:
		return word(t.String(), "TIER_")
	}
}

// shortDigest is a digest's first letters, enough for the eye.
func shortDigest(digest string) string {
	kind, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return digest
	}
	return kind + ":" + hex[:min(len(hex), 12)]
}

// word makes an enumeration's value readable.
func word(value, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(value, prefix)), "_", " ")
}

func domains(s *weirv1.Scores) string {
	out := word(s.GetDomain().String(), "DOMAIN_")
	for _, p := range s.GetDomainProbabilities() {
		if p.GetDomain() == s.GetDomain() {
			out += fmt.Sprintf(" (%.0f %%)", 100*p.GetProbability())
		}
	}
	return out
}
