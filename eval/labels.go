package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
)

// The two models that a labelled corpus speaks of.
const (
	LabelledEfficient = "labelled-efficient"
	LabelledHigh      = "labelled-high"
)

// labelledCase is a record of training-data/corpus.
type labelledCase struct {
	ID       string    `json:"id"`
	Set      string    `json:"set"`
	Split    string    `json:"split"`
	Prompt   string    `json:"prompt"`
	Messages []Message `json:"messages"`
	Domain   string    `json:"domain"`
	Kind     string    `json:"kind"`
	Lang     string    `json:"lang"`
	Labels   []struct {
		By           string   `json:"by"`
		Complexity   int      `json:"complexity"`
		QEfficient   *float64 `json:"q_efficient"`
		QHigh        *float64 `json:"q_high"`
		Domain       string   `json:"domain"`
		OutputTokens float64  `json:"output_tokens"`
	} `json:"labels"`
}

// Labels reads the evaluation rows of a labelled corpus (training-data/README.md
// has its format) as one set. The mean of the labels stands for the outcome of
// the two imagined models, so figures on it say how well a classifier agrees
// with the labels, and nothing of money or of answers that were really given:
// every case carries that note. Rows that were labelled once only are left out:
// one labeller's word is no measure.
func Labels(dir string) ([]Source, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, fmt.Errorf("labels %s: no *.jsonl there: name the folder of a labelled corpus, such as training-data/corpus", dir))
	}
	slices.Sort(files)
	cases := func(yield func(Case, error) bool) {
		for _, file := range files {
			for c, err := range labelledFile(file) {
				if !yield(c, err) || err != nil {
					return
				}
			}
		}
	}
	return []Source{{Name: "labels", Weak: LabelledEfficient, Strong: LabelledHigh, Cases: cases}}, nil
}

func labelledFile(name string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		f, err := os.Open(name) //nolint:gosec // a file that the operator named
		if err != nil {
			yield(Case{}, fmt.Errorf("read labels: %w", err))
			return
		}
		defer f.Close() //nolint:errcheck // it was only read
		err = eachLine(f, func(line []byte, number int) error {
			c, labels, err := decodeLabelled(line)
			if err != nil {
				return fmt.Errorf("%s line %d: %w", name, number, err)
			}
			if c.Split == SplitEval && labels > 1 && !yield(c, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Case{}, fmt.Errorf("read labels: %w", err))
		}
	}
}

// decodeLabelled also returns how often the case was labelled.
func decodeLabelled(line []byte) (Case, int, error) {
	var l labelledCase
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return Case{}, 0, fmt.Errorf("is no record of a labelled corpus: %w", err)
	}
	if len(l.Labels) == 0 {
		return Case{}, 0, fmt.Errorf("(id %q) labels is empty: give at least one", l.ID)
	}
	var efficient, high float64
	for i, x := range l.Labels {
		if x.QEfficient == nil || x.QHigh == nil {
			return Case{}, 0, fmt.Errorf("(id %q) labels[%d]: q_efficient or q_high is missing or null: give both, or leave the label out", l.ID, i)
		}
		efficient += *x.QEfficient
		high += *x.QHigh
	}
	n := float64(len(l.Labels))
	c := Case{
		ID: l.ID, Set: "labels", Split: l.Split, Prompt: l.Prompt, Messages: l.Messages, Domain: l.Domain, Src: l.Set,
		Outcomes: map[string]float64{LabelledEfficient: efficient / n, LabelledHigh: high / n},
		Note:     "outcomes are judgements by a rubric, not answers: the figures say how well the classifier agrees with the labels",
	}
	return c, len(l.Labels), c.Validate()
}
