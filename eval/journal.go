package eval

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"

	"github.com/weirhq/weir/router"
)

// JournalLine is one decision of Weir's journal as it is exported for
// evaluation, one JSON object a line. Prompt or Messages are there only where
// content capture was opted in.
type JournalLine struct {
	DecisionID string    `json:"decision_id"`
	Prompt     string    `json:"prompt,omitempty"`
	Messages   []Message `json:"messages,omitempty"`
	Domain     string    `json:"domain,omitempty"`
	// Model answered, at CostNanoUSD where Priced.
	Model       string         `json:"model"`
	CostNanoUSD router.NanoUSD `json:"cost_nano_usd,omitempty"`
	Priced      bool           `json:"priced,omitempty"`
	// Outcomes are the reports on this decision, each 0 to 1.
	Outcomes []JournalOutcome `json:"outcomes,omitempty"`
}

// JournalOutcome is one report on a decision. A score that is missing or null is
// refused: it is not the answer that scored 0.
type JournalOutcome struct {
	Score  *float64 `json:"score"`
	Source string   `json:"source,omitempty"`
}

// Journal reads an export of Weir's journal. Decisions on the same text become
// one case, each model's outcome the mean of what was reported on it and its
// cost the mean of its priced calls. Decisions without text or outcome are left
// out; an export of only such is an error, as nothing can be replayed. A
// prompt that only one model ever answered has one outcome: replaying a pair
// leaves it out and says how many.
func Journal(name string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		cases, err := journalCases(name)
		if err != nil {
			yield(Case{}, fmt.Errorf("read journal: %w", err))
			return
		}
		for i := range cases {
			if !yield(cases[i], nil) {
				return
			}
		}
	}
}

func journalCases(name string) ([]Case, error) {
	type sums struct{ score, n, cost, priced float64 }
	var out []Case
	index := map[string]int{}
	models := []map[string]*sums{}
	lines := 0
	err := eachJSON(name, func(l *JournalLine, number int) error {
		lines++
		c := Case{ID: l.DecisionID, Split: SplitEval, Prompt: l.Prompt, Messages: l.Messages, Domain: l.Domain, Set: stem(name)}
		if len(l.Outcomes) == 0 || (l.Prompt == "" && len(l.Messages) == 0) {
			return nil
		}
		if l.Model == "" || l.DecisionID == "" {
			return fmt.Errorf("line %d: decision_id and model are needed", number)
		}
		text, err := c.Text()
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		sum := sha256.Sum256([]byte(text))
		key := hex.EncodeToString(sum[:])
		at, ok := index[key]
		if !ok {
			at = len(out)
			index[key] = at
			out, models = append(out, c), append(models, map[string]*sums{})
		}
		m := models[at][l.Model]
		if m == nil {
			m = &sums{}
			models[at][l.Model] = m
		}
		for i, o := range l.Outcomes {
			if o.Score == nil {
				return fmt.Errorf("line %d: outcomes[%d].score is missing or null: give it, 0 to 1, or leave the outcome out", number, i)
			}
			if !(*o.Score >= 0 && *o.Score <= 1) {
				return fmt.Errorf("line %d: outcomes[%d].score is %v: scores are 0 to 1", number, i, *o.Score)
			}
			m.score += *o.Score
			m.n++
		}
		if l.Priced {
			m.cost += float64(l.CostNanoUSD)
			m.priced++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Outcomes, out[i].CostUSD = map[string]float64{}, map[string]float64{}
		for name, m := range models[i] {
			out[i].Outcomes[name] = m.score / m.n
			if m.priced > 0 {
				out[i].CostUSD[name] = m.cost / m.priced / 1e9
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: none of %d decisions has both text and an outcome: replay needs content capture and reported outcomes", name, lines)
	}
	return slices.Clip(out), nil
}
