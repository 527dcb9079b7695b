package eval

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// answered is one question with what the models of a result folder made of it.
type answered struct {
	order []string
	cases map[string]*Case
}

func (a *answered) put(c Case, model string, score float64, chars int) {
	have, ok := a.cases[c.ID]
	if !ok {
		c.Outcomes, c.OutputChars = map[string]float64{}, map[string]int64{}
		have = &c
		a.cases[c.ID] = have
		a.order = append(a.order, c.ID)
	}
	have.Outcomes[model], have.OutputChars[model] = score, int64(chars)
}

func (a *answered) seq(read func() error) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		a.order, a.cases = nil, map[string]*Case{}
		if err := read(); err != nil {
			yield(Case{}, err)
			return
		}
		for _, id := range a.order {
			if !yield(*a.cases[id], nil) {
				return
			}
		}
	}
}

// MMLUPro opens the result folder of TIGER-AI-Lab/MMLU-Pro (eval_results, or a
// clone's root): MODEL/CATEGORY_result.json, and model_outputs_MODEL_Nshots.json
// or .zip of one JSON file. Each is a list of questions with question_id,
// question, options, answer (a letter), category, src, and pred or the answer's
// text as model_outputs or response.
//
// Where pred is missing or null, the letter is taken from the text as the
// repository's scripts do; where that fails too, the answer is wrong (the
// scripts guess at random). The prompt is the question, a blank line, and the
// options as "A. ..." lines.
func MMLUPro(dir string) ([]Source, error) {
	if isDir(filepath.Join(dir, "eval_results")) {
		dir = filepath.Join(dir, "eval_results")
	}
	var files []string
	for _, glob := range []string{"*/*_result.json", "model_outputs_*.json", "model_outputs_*.zip"} {
		found, err := filepath.Glob(filepath.Join(dir, glob))
		if err != nil {
			return nil, fmt.Errorf("open MMLU-Pro results: %w", err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("open MMLU-Pro results: %s holds neither MODEL/CATEGORY_result.json nor model_outputs_MODEL files", dir)
	}
	a := &answered{}
	return []Source{{Name: "mmlu-pro", Cases: a.seq(func() error {
		for _, name := range files {
			if err := eachResult(name, func(q *mmluProResult) error { return a.mmluPro(mmluProModel(name), q) }); err != nil {
				return fmt.Errorf("read MMLU-Pro results %s: %w", name, err)
			}
		}
		return nil
	})}}, nil
}

type mmluProResult struct {
	ID       int      `json:"question_id"`
	Question string   `json:"question"`
	Options  []string `json:"options"`
	Answer   string   `json:"answer"`
	Category string   `json:"category"`
	Src      string   `json:"src"`
	Pred     *string  `json:"pred"`
	Outputs  *string  `json:"model_outputs"`
	Response *string  `json:"response"`
}

func mmluProModel(name string) string {
	base := filepath.Base(name)
	model, ok := strings.CutPrefix(base, "model_outputs_")
	if !ok {
		return filepath.Base(filepath.Dir(name))
	}
	model = strings.TrimSuffix(model, filepath.Ext(model))
	return shots().ReplaceAllString(model, "")
}

func shots() *regexp.Regexp { return regexp.MustCompile(`_\d+shots?$`) }

func (a *answered) mmluPro(model string, q *mmluProResult) error {
	if q.Question == "" || len(q.Answer) != 1 {
		return fmt.Errorf("question %d has no text or no answer letter", q.ID)
	}
	var b strings.Builder
	b.WriteString(q.Question + "\n\n")
	letter := 'A'
	for _, o := range q.Options {
		if o != "N/A" {
			fmt.Fprintf(&b, "%c. %s\n", letter, o)
			letter++
		}
	}
	text := ""
	for _, t := range []*string{q.Outputs, q.Response} {
		if t != nil {
			text = *t
		}
	}
	if q.Pred == nil {
		found := mmluProLetter(text)
		q.Pred = &found
	}
	score := 0.0
	if *q.Pred == q.Answer {
		score = 1
	}
	c := Case{ID: fmt.Sprintf("mmlu-pro/%d", q.ID), Set: "mmlu-pro", Split: SplitEval, Prompt: strings.TrimRight(b.String(), "\n"), Domain: q.Category, Src: q.Src}
	a.put(c, model, score, utf8.RuneCountInString(text))
	return nil
}

// mmluProLetter finds the answer's letter as the repository does: after "answer
// is", after "answer:", else the last letter that stands alone.
func mmluProLetter(text string) string {
	for _, pattern := range []string{`answer is \(?([A-J])\)?`, `[aA]nswer:\s*([A-J])`} {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
			return m[1]
		}
	}
	if all := regexp.MustCompile(`\b[A-J]\b`).FindAllString(text, -1); all != nil {
		return all[len(all)-1]
	}
	return ""
}

// eachResult decodes a file that is one JSON list, or a zip of such a file,
// element by element.
func eachResult[T any](name string, f func(*T) error) error {
	var r io.ReadCloser
	if strings.HasSuffix(name, ".zip") {
		z, err := zip.OpenReader(name)
		if err != nil {
			return err
		}
		defer z.Close() //nolint:errcheck // it was only read
		at := slices.IndexFunc(z.File, func(m *zip.File) bool {
			return strings.HasSuffix(m.Name, ".json") && !strings.HasPrefix(m.Name, "__MACOSX")
		})
		if at < 0 {
			return errors.New("the archive holds no .json file")
		}
		if r, err = z.File[at].Open(); err != nil {
			return err
		}
	} else {
		var err error
		if r, err = os.Open(name); err != nil { //nolint:gosec // a file that the operator named
			return err
		}
	}
	defer r.Close() //nolint:errcheck // it was only read
	dec := json.NewDecoder(r)
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errors.New("is no JSON list")
	}
	for i := 0; dec.More(); i++ {
		var row T
		if err := dec.Decode(&row); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		if err := f(&row); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}
