package eval

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
)

// The pair of RouteLLM's evaluation data.
const (
	RouteLLMWeak   = "mistralai/Mixtral-8x7B-Instruct-v0.1"
	RouteLLMStrong = "gpt-4-1106-preview"
)

// RouteLLM opens the evaluation data of lm-sys/RouteLLM: dir is its evals
// folder, a folder that holds one, or a clone's root. It returns the sets that
// are there: routellm-mmlu (mmlu/responses/*.csv), routellm-gsm8k
// (gsm8k/gsm8k_responses.csv) and routellm-mt-bench (mt_bench/question.jsonl and
// judgements.jsonl).
//
// Prompts that contaminated_prompts.jsonl lists as eval_prompt are dropped, by
// exact equality; a MT-Bench question goes when either turn matches. The prompt
// is what RouteLLM scores: the question with its choices for MMLU, the question
// for GSM8K, the first turn for MT-Bench, whose outcome is the mean score of
// the judged turns divided by 10. Domains are MMLU's subjects and MT-Bench's
// categories.
func RouteLLM(dir string) ([]Source, error) {
	root := ""
	for _, sub := range []string{".", "evals", "routellm/evals"} {
		at := filepath.Join(dir, sub)
		if isDir(filepath.Join(at, "mmlu", "responses")) || isDir(filepath.Join(at, "gsm8k")) || isDir(filepath.Join(at, "mt_bench")) {
			root = at
			break
		}
	}
	if root == "" {
		return nil, fmt.Errorf("open RouteLLM data: %s holds no mmlu/responses, gsm8k or mt_bench, nor do its evals or routellm/evals", dir)
	}
	var out []Source
	add := func(name, need string, cases iter.Seq2[Case, error]) {
		if _, err := os.Stat(filepath.Join(root, need)); err == nil { //nolint:gosec // a folder that the operator named
			out = append(out, Source{Name: name, Weak: RouteLLMWeak, Strong: RouteLLMStrong, Cases: cases})
		}
	}
	add("routellm-mmlu", "mmlu/responses", routeLLMCSV(filepath.Join(root, "mmlu"), "responses/mmlu_*.csv", "routellm-mmlu"))
	add("routellm-gsm8k", "gsm8k/gsm8k_responses.csv", routeLLMCSV(filepath.Join(root, "gsm8k"), "gsm8k_responses.csv", "routellm-gsm8k"))
	add("routellm-mt-bench", "mt_bench/judgements.jsonl", routeLLMMTBench(filepath.Join(root, "mt_bench")))
	return out, nil
}

func isDir(name string) bool {
	info, err := os.Stat(name) //nolint:gosec // a folder that the operator named
	return err == nil && info.IsDir()
}

// contaminated reads the eval_prompt of every line. RouteLLM compares them as
// they are, so do we.
func contaminated(dir string) (map[string]bool, error) {
	name := filepath.Join(dir, "contaminated_prompts.jsonl")
	f, err := os.Open(name) //nolint:gosec // a folder that the operator named
	if err != nil {
		return nil, fmt.Errorf("read the contamination list: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	out := map[string]bool{}
	err = eachLine(f, func(line []byte, number int) error {
		var row struct {
			EvalPrompt *string `json:"eval_prompt"`
		}
		if err := json.Unmarshal(line, &row); err != nil || row.EvalPrompt == nil {
			return fmt.Errorf("line %d is no JSON object with eval_prompt", number)
		}
		out[*row.EvalPrompt] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return out, nil
}

// routeLLMCSV reads tables of a prompt and True or False a model.
func routeLLMCSV(dir, glob, set string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		drop, err := contaminated(dir)
		if err != nil {
			yield(Case{}, err)
			return
		}
		files, err := filepath.Glob(filepath.Join(dir, glob))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("no file matches %s in %s", glob, dir)
		}
		if err != nil {
			yield(Case{}, fmt.Errorf("read %s: %w", set, err))
			return
		}
		for _, name := range files {
			stem := strings.TrimSuffix(filepath.Base(name), ".csv")
			domain := "math"
			if subject, ok := strings.CutPrefix(stem, "mmlu_"); ok {
				domain = subject
			}
			err := eachCSV(name, func(row map[string]string, number int) error {
				prompt := row["prompt"]
				if drop[prompt] {
					return nil
				}
				c := Case{ID: fmt.Sprintf("%s/%d", stem, number), Set: set, Split: SplitEval, Prompt: prompt, Domain: domain, Outcomes: map[string]float64{}, Src: stem}
				for _, m := range []string{RouteLLMWeak, RouteLLMStrong} {
					v, err := truth(row[m])
					if err != nil {
						return fmt.Errorf("row %d, column %q: %w", number, m, err)
					}
					c.Outcomes[m] = v
					if text, ok := row[m+"_response"]; ok {
						if c.OutputChars == nil {
							c.OutputChars = map[string]int64{}
						}
						c.OutputChars[m] = int64(len([]rune(text)))
					}
				}
				if !yield(c, nil) {
					return errStop
				}
				return nil
			})
			if errors.Is(err, errStop) {
				return
			}
			if err != nil {
				yield(Case{}, fmt.Errorf("read %s: %w", name, err))
				return
			}
		}
	}
}

func truth(s string) (float64, error) {
	switch s {
	case "True":
		return 1, nil
	case "False":
		return 0, nil
	default:
		return 0, fmt.Errorf("%q is neither True nor False", briefly(s))
	}
}

// briefly keeps other people's text out of errors.
func briefly(s string) string {
	if len(s) > 12 {
		return fmt.Sprintf("(%d bytes)", len(s))
	}
	return s
}

// eachCSV calls f with every row by column name, and its number from 1.
func eachCSV(name string, f func(row map[string]string, number int) error) error {
	file, err := os.Open(name) //nolint:gosec // a folder that the operator named
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	r := csv.NewReader(file)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return fmt.Errorf("read the header: %w", err)
	}
	columns := make([]string, len(head))
	copy(columns, head)
	row := make(map[string]string, len(columns))
	for number := 1; ; number++ {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("row %d: %w", number, err)
		}
		for i, v := range record {
			row[columns[i]] = v
		}
		if err := f(row, number); err != nil {
			return err
		}
	}
}

type mtQuestion struct {
	ID       int      `json:"question_id"`
	Category string   `json:"category"`
	Turns    []string `json:"turns"`
}

type mtJudgement struct {
	ID    int      `json:"question_id"`
	Model string   `json:"model"`
	Turn  int      `json:"turn"`
	Score *float64 `json:"score"`
}

func routeLLMMTBench(dir string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		cases, err := mtBench(dir)
		if err != nil {
			yield(Case{}, fmt.Errorf("read routellm-mt-bench: %w", err))
			return
		}
		for i := range cases {
			if !yield(cases[i], nil) {
				return
			}
		}
	}
}

// mtBench joins the questions with their judgements. Questions that nobody
// judged are left out.
func mtBench(dir string) ([]Case, error) {
	drop, err := contaminated(dir)
	if err != nil {
		return nil, err
	}
	type mean struct{ sum, n float64 }
	scores := map[int]map[string]*mean{}
	err = eachJSON(filepath.Join(dir, "judgements.jsonl"), func(j *mtJudgement, number int) error {
		if j.Score == nil || !(*j.Score >= 0 && *j.Score <= 10) {
			return fmt.Errorf("line %d: the score is not 0 to 10: a failed judgement must be judged again", number)
		}
		if scores[j.ID] == nil {
			scores[j.ID] = map[string]*mean{}
		}
		if scores[j.ID][j.Model] == nil {
			scores[j.ID][j.Model] = &mean{}
		}
		m := scores[j.ID][j.Model]
		m.sum += *j.Score
		m.n++
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []Case
	err = eachJSON(filepath.Join(dir, "question.jsonl"), func(q *mtQuestion, number int) error {
		if len(q.Turns) == 0 {
			return fmt.Errorf("line %d: question %d has no turns", number, q.ID)
		}
		if scores[q.ID] == nil {
			return nil
		}
		for _, t := range q.Turns {
			if drop[t] {
				return nil
			}
		}
		c := Case{ID: fmt.Sprintf("mt_bench/%d", q.ID), Set: "routellm-mt-bench", Split: SplitEval, Prompt: q.Turns[0], Domain: q.Category, Outcomes: map[string]float64{}}
		for m, s := range scores[q.ID] {
			c.Outcomes[m] = s.sum / s.n / 10
		}
		out = append(out, c)
		return nil
	})
	return out, err
}

// eachJSON calls f with every line of a JSONL file; unknown fields are let be.
func eachJSON[T any](name string, f func(row *T, number int) error) error {
	file, err := os.Open(name) //nolint:gosec // a folder that the operator named
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	err = eachLine(file, func(line []byte, number int) error {
		var row T
		if err := json.Unmarshal(line, &row); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		return f(&row, number)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
