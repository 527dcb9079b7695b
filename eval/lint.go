package eval

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The codes of what Lint finds.
const (
	// LintConstantTokens: a model's output lengths or costs are one value for
	// nearly every row: filled in, not measured.
	LintConstantTokens = "CONSTANT_TOKENS"
	// LintUnequal: models are scored on different rows, so that their means do not
	// compare.
	LintUnequal = "UNEQUAL_DENOMINATORS"
	// LintDropped: a submission lacks rows of the set.
	LintDropped = "MISSING_ROWS_DROPPED"
	// LintCountedRight: a row without an answer has a score above 0, or a
	// submission claims a score that the set does not record.
	LintCountedRight = "MISSING_ROWS_COUNTED_RIGHT"
	// LintLeak: prompts to measure with are nearly those of training rows.
	LintLeak = "TRAIN_EVAL_NEAR_DUPLICATES"
	// LintOutcomeDerived: a submission picks the better model far more often than
	// anything could that does not know the outcomes.
	LintOutcomeDerived = "OUTCOME_DERIVED_CHOICES"
	// LintDuplicates: the same prompt, or the same id, is in the set twice.
	LintDuplicates = "EXACT_DUPLICATES"
	// LintTruncated: prompts were cut at one length.
	LintTruncated = "TRUNCATED_PROMPTS"
)

// Severity tells a fault, which spoils figures, from a note, which a reader
// should know.
type Severity string

// The severities.
const (
	SeverityFault Severity = "fault"
	SeverityNote  Severity = "note"
)

// Finding is one thing that Lint found.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	// Detail says it in a sentence, without any prompt text.
	Detail string `json:"detail"`
	// Count is how many rows it is about, of Of.
	Count int `json:"count"`
	Of    int `json:"of"`
	// IDs are some of the rows, at most ten.
	IDs []string `json:"ids,omitempty"`
}

// Row is what a submission says of one case.
type Row struct {
	ID string `json:"id"`
	// Model is the one chosen.
	Model string `json:"model"`
	// Score, where given, is the claimed outcome, 0 to 1.
	Score *float64 `json:"score,omitempty"`
	// OutputTokens and CostUSD, where given, are the claimed length and cost.
	OutputTokens *int64   `json:"output_tokens,omitempty"`
	CostUSD      *float64 `json:"cost_usd,omitempty"`
}

// LintConfig is what Lint reads. Set is required.
type LintConfig struct {
	Set Source
	// Train holds sets that a classifier was trained on; their rows of any split
	// but eval are held against the set's rows of any split but train. Rows of the
	// set's own train split count as trained on too.
	Train []Source
	// Submission, if not nil, is held against the set.
	Submission []Row
}

// LintReport is the answer of Lint.
type LintReport struct {
	Set string `json:"set"`
	// Digest is of the rows as read: SHA-256 over ids, texts and outcomes.
	Digest string `json:"digest"`
	N      int    `json:"n"`
	// Findings, faults first.
	Findings []Finding `json:"findings"`
}

// Faults counts the findings that spoil figures.
func (r *LintReport) Faults() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == SeverityFault {
			n++
		}
	}
	return n
}

// lintRow is what rules read of a case: prompts are kept as words' digests.
type lintRow struct {
	id, split string
	outcomes  map[string]float64
	chars     map[string]int64
	costs     map[string]float64
	text      textShape
}

// Lint reads a set, and what is held against it, and reports what would make
// figures untrue. Overlap rows are read past, as Run does. Memory grows with the
// set: about 10 bytes a byte of prompt.
func Lint(cfg LintConfig) (*LintReport, error) {
	if cfg.Set.Cases == nil {
		return nil, errors.New("lint: a set is required")
	}
	var rows []lintRow
	h := sha256.New()
	for c, err := range cfg.Set.Cases {
		if err != nil {
			return nil, fmt.Errorf("lint: set %s: %w", cfg.Set.Name, err)
		}
		if c.Split == SplitOverlap {
			continue
		}
		text, err := c.Text()
		if err != nil {
			return nil, fmt.Errorf("lint: set %s: id %q: %w", cfg.Set.Name, c.ID, err)
		}
		digestCase(h, &c, text)
		rows = append(rows, lintRow{c.ID, splitOf(&c), c.Outcomes, c.OutputChars, c.CostUSD, shapeOf(text)})
	}
	l := &linter{rows: rows}
	l.constants()
	l.denominators()
	l.duplicates()
	l.truncated()
	if err := l.leaks(cfg.Train); err != nil {
		return nil, err
	}
	if cfg.Submission != nil {
		l.submission(cfg.Submission)
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int { return strings.Compare(string(a.Severity), string(b.Severity)) })
	return &LintReport{Set: cfg.Set.Name, Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), N: len(rows), Findings: append([]Finding{}, l.found...)}, nil
}

type linter struct {
	rows  []lintRow
	found []Finding
}

// report adds a finding if ids holds any. Rows beyond a share of the whole make
// a fault, fewer a note.
func (l *linter) report(code string, faultShare float64, ids []string, of int, format string, args ...any) {
	if len(ids) == 0 {
		return
	}
	severity := SeverityNote
	if float64(len(ids)) > faultShare*float64(of) {
		severity = SeverityFault
	}
	l.found = append(l.found, Finding{code, severity, fmt.Sprintf(format, args...), len(ids), of, ids[:min(len(ids), 10)]})
}

const (
	// lintRows is the least number of rows of which a pattern is said.
	lintRows = 20
	// constantShare of rows with one value is a constant.
	constantShare = 0.9
	// shortAnswer is the length up to which equal answers are natural: an option's
	// letter, a number, yes or no.
	shortAnswer = 8
)

// constants finds lengths and costs that were filled in.
func (l *linter) constants() {
	for _, what := range []struct {
		name  string
		least float64
		of    func(*lintRow) map[string]float64
	}{
		{"output length", shortAnswer, func(r *lintRow) map[string]float64 {
			out := map[string]float64{}
			for m, n := range r.chars {
				out[m] = float64(n)
			}
			return out
		}},
		{"cost", 0, func(r *lintRow) map[string]float64 { return r.costs }},
	} {
		values := map[string][]modelValue{}
		for i := range l.rows {
			for m, v := range what.of(&l.rows[i]) {
				values[m] = append(values[m], modelValue{l.rows[i].id, v})
			}
		}
		for _, m := range sortedKeys(values) {
			l.constant(what.name+" of "+m, what.least, values[m])
		}
	}
}

type modelValue struct {
	id    string
	value float64
}

func (l *linter) constant(what string, least float64, values []modelValue) {
	counts, mode := map[float64]int{}, 0.0
	for _, v := range values {
		counts[v.value]++
		if counts[v.value] > counts[mode] {
			mode = v.value
		}
	}
	if len(values) < lintRows || mode <= least || float64(counts[mode]) < constantShare*float64(len(values)) {
		return
	}
	var ids []string
	for _, v := range values {
		if v.value == mode {
			ids = append(ids, v.id)
		}
	}
	l.report(LintConstantTokens, 0, ids, len(values), "%s is %v on %d of %d rows: measure it, or leave it out", what, mode, len(ids), len(values))
}

// denominators finds models that were scored on other rows than the rest, and
// scores without an answer.
func (l *linter) denominators() {
	n := map[string]int{}
	for i := range l.rows {
		for m := range l.rows[i].outcomes {
			n[m]++
		}
	}
	most := 0
	for _, k := range n {
		most = max(most, k)
	}
	var short []string
	for _, m := range sortedKeys(n) {
		if n[m] < most {
			short = append(short, fmt.Sprintf("%s %d", m, n[m]))
		}
	}
	var ids, right []string
	for i := range l.rows {
		r := &l.rows[i]
		if len(r.outcomes) < len(n) && len(r.outcomes) > 0 {
			ids = append(ids, r.id)
		}
		for m, v := range r.outcomes {
			if chars, ok := r.chars[m]; ok && chars == 0 && v > 0 {
				right = append(right, r.id+" "+m)
			}
		}
	}
	slices.Sort(right)
	if len(short) > 0 {
		l.report(LintUnequal, 0.01, ids, len(l.rows), "%d rows lack an outcome of some of %d models, and the fullest has %d (%s): compare means on the rows that all have", len(ids), len(n), most, joinSome(short))
	}
	l.report(LintCountedRight, 0, right, len(l.rows), "%d scores above 0 have an empty answer: no answer is no success", len(right))
}

func joinSome(s []string) string {
	if len(s) > 6 {
		return strings.Join(s[:6], ", ") + fmt.Sprintf(" and %d more", len(s)-6)
	}
	return strings.Join(s, ", ")
}

// duplicates finds prompts that are there twice, by their letters and digits.
func (l *linter) duplicates() {
	first, byID := map[[16]byte]string{}, map[string]bool{}
	var ids, twice []string
	for i := range l.rows {
		r := &l.rows[i]
		if _, ok := first[r.text.exact]; ok {
			ids = append(ids, r.id)
		} else {
			first[r.text.exact] = r.id
		}
		if byID[r.id] {
			twice = append(twice, r.id)
		}
		byID[r.id] = true
	}
	l.report(LintDuplicates, 0.02, ids, len(l.rows), "%d rows repeat the prompt of another: they count twice, and intervals are too narrow", len(ids))
	l.report(LintDuplicates, 0, twice, len(l.rows), "%d rows repeat an id", len(twice))
}

// truncated finds a pile of prompts at the greatest length that end in the
// middle of something, each in another way. A template's prompts end alike, and
// whole ones at a stop.
func (l *linter) truncated() {
	for _, unit := range []struct {
		name string
		of   func(*textShape) int
	}{{"characters", func(s *textShape) int { return s.runes }}, {"bytes", func(s *textShape) int { return s.bytes }}} {
		longest := 0
		for i := range l.rows {
			longest = max(longest, unit.of(&l.rows[i].text))
		}
		var ids []string
		pile, tails := 0, map[string]bool{}
		for i := range l.rows {
			// A cut inside a multi-byte letter loses up to three bytes more.
			s := &l.rows[i].text
			if n := unit.of(s); n == longest || (unit.name == "bytes" && n > longest-utf8Slack) {
				pile++
				if s.open {
					ids, tails[s.tail] = append(ids, l.rows[i].id), true
				}
			}
		}
		enough := max(5, len(l.rows)/200)
		if pile >= enough && 2*len(ids) > pile && 2*len(tails) > len(ids) {
			l.report(LintTruncated, 0, ids, len(l.rows), "%d prompts are %d %s long, the longest of the set, and end without a stop: they were cut there", len(ids), longest, unit.name)
			return
		}
	}
	var cut []string
	for i := range l.rows {
		if l.rows[i].text.marked {
			cut = append(cut, l.rows[i].id)
		}
	}
	l.report(LintTruncated, 0, cut, len(l.rows), "%d prompts end in a mark of truncation", len(cut))
}

const utf8Slack = 3
