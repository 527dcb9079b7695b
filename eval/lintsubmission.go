package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// ReadSubmission reads rows, one JSON object a line, and refuses fields that Row
// lacks and rows without an id or a model.
func ReadSubmission(r io.Reader, name string) ([]Row, error) {
	out := []Row{}
	err := eachLine(r, func(line []byte, number int) error {
		var row Row
		if err := strictJSON(line, &row); err != nil {
			return fmt.Errorf("%s line %d: %w", name, number, err)
		}
		if row.ID == "" || row.Model == "" {
			return fmt.Errorf("%s line %d: give every row an id and a model", name, number)
		}
		if row.Score != nil && !(*row.Score >= 0 && *row.Score <= 1) {
			return fmt.Errorf("%s line %d: score is %v: scores are 0 to 1", name, number, *row.Score)
		}
		out = append(out, row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read submission: %w", err)
	}
	return out, nil
}

// submission holds claims against the set.
func (l *linter) submission(rows []Row) {
	byID := map[string]*lintRow{}
	for i := range l.rows {
		byID[l.rows[i].id] = &l.rows[i]
	}
	seen := map[string]int{}
	var twice, strange, right []string
	var tokens, costs []modelValue
	for i := range rows {
		r := &rows[i]
		if seen[r.ID]++; seen[r.ID] == 2 {
			twice = append(twice, r.ID)
		}
		c, ok := byID[r.ID]
		if !ok {
			strange = append(strange, r.ID)
			continue
		}
		if r.claimsTooMuch(c) {
			right = append(right, r.ID)
		}
		if r.OutputTokens != nil {
			tokens = append(tokens, modelValue{r.ID, float64(*r.OutputTokens)})
		}
		if r.CostUSD != nil {
			costs = append(costs, modelValue{r.ID, *r.CostUSD})
		}
	}
	var dropped []string
	for i := range l.rows {
		if seen[l.rows[i].id] == 0 {
			dropped = append(dropped, l.rows[i].id)
		}
	}
	n := len(l.rows)
	l.report(LintDropped, 0, dropped, n, "the submission lacks %d of the set's %d rows: a mean over the rest is of another set", len(dropped), n)
	l.report(LintUnequal, 0, strange, len(rows), "%d rows of the submission are not in the set", len(strange))
	l.report(LintDuplicates, 0, twice, len(rows), "%d ids are in the submission twice", len(twice))
	l.report(LintCountedRight, 0, right, n, "%d rows claim a score that the set does not record, or a success without an answer", len(right))
	l.constant("output length in the submission", shortAnswer, tokens)
	l.constant("cost in the submission", 0, costs)
	l.derived(rows, byID)
}

func (r *Row) claimsTooMuch(c *lintRow) bool {
	recorded, ok := c.outcomes[r.Model]
	empty := r.OutputTokens != nil && *r.OutputTokens == 0
	if r.Score == nil {
		return false
	}
	return (*r.Score > 0 && (!ok || empty)) || (ok && *r.Score > recorded+1e-9)
}

const (
	// derivedRows is the least number of rows on which models differ.
	derivedRows = 30
	// derivedShare is how often the best model may be picked at most, where models
	// differ. Published routers reach .6 to .75.
	derivedShare = 0.9
)

// derived finds choices that were made with the outcomes known: on rows where
// the submission's models differ, the best one is picked in more than nine of
// ten, and much more often than any one model is best.
func (l *linter) derived(rows []Row, byID map[string]*lintRow) {
	pool := map[string]bool{}
	for i := range rows {
		pool[rows[i].Model] = true
	}
	var n, hits float64
	best := map[string]float64{} // how often each is among the best
	var ids []string
	for i := range rows {
		c, ok := byID[rows[i].ID]
		if !ok {
			continue
		}
		low, high := math.Inf(1), math.Inf(-1)
		for m := range pool {
			if v, ok := c.outcomes[m]; ok {
				low, high = min(low, v), max(high, v)
			}
		}
		if !(high > low) {
			continue
		}
		n++
		for m := range pool {
			if v, ok := c.outcomes[m]; ok && v == high {
				best[m]++
			}
		}
		if v, ok := c.outcomes[rows[i].Model]; ok && v == high {
			hits++
			ids = append(ids, rows[i].ID)
		}
	}
	if n < derivedRows {
		return
	}
	single := 0.0
	for _, v := range best {
		single = max(single, v/n)
	}
	if low := wilsonLow(hits, n); low > max(derivedShare, single+(1-single)/2) {
		slices.Sort(ids)
		l.report(LintOutcomeDerived, 0, ids, int(n), "on %.0f rows where its models differ, the submission picks the best one in %.1f %% (one model alone would in %.1f %%): choices were made with the outcomes known", n, 100*hits/n, 100*single)
	}
}

// wilsonLow is the lower end of Wilson's 95 % interval of a share.
func wilsonLow(hits, n float64) float64 {
	z := distuv.UnitNormal.Quantile(0.975)
	p := hits / n
	return (p + z*z/(2*n) - z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))) / (1 + z*z/n)
}

// strictJSON decodes one object and refuses unknown fields and anything after it.
func strictJSON(raw []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return fmt.Errorf("not a JSON object of the format: %w", err)
	}
	if dec.More() {
		return errors.New("more than one JSON object: part them by line feeds")
	}
	return nil
}
