package eval

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ZeroEval opens the result folder of one task of WildEval/ZeroEval,
// result_dirs/TASK with a MODEL.json for every model, or a clone's result_dirs
// with such folders. Each file is a list of items with id, output and the
// task's question and right answer.
//
// Tasks are graded as the repository's scripts do: crux by equality of the
// answer's text, gsm and math-l5 by the first number, mmlu-redux by the letter
// of the choice. An answer that cannot be found is wrong. zebra-grid's answers
// are not public; that task is refused.
func ZeroEval(dir string) ([]Source, error) {
	var out []Source
	open := func(dir string) error {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			return err
		}
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".summary.json") })
		task := filepath.Base(dir)
		grade, ok := map[string]func(*zeroEvalItem) bool{"crux": gradeCrux, "gsm": gradeMath, "math-l5": gradeMath, "mmlu-redux": gradeChoice}[task]
		if len(files) == 0 || !ok {
			return nil
		}
		a := &answered{}
		out = append(out, Source{Name: "zeroeval-" + task, Cases: a.seq(func() error {
			for _, name := range files {
				model := strings.TrimSuffix(filepath.Base(name), ".json")
				if err := eachResult(name, func(q *zeroEvalItem) error { return a.zeroEval(task, model, q, grade) }); err != nil {
					return fmt.Errorf("read ZeroEval results %s: %w", name, err)
				}
			}
			return nil
		})})
		return nil
	}
	if err := open(dir); err != nil {
		return nil, fmt.Errorf("open ZeroEval results: %w", err)
	}
	for _, root := range []string{dir, filepath.Join(dir, "result_dirs")} {
		entries, err := os.ReadDir(root)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				if err := open(filepath.Join(root, e.Name())); err != nil {
					return nil, fmt.Errorf("open ZeroEval results: %w", err)
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("open ZeroEval results: %s is no folder of MODEL.json files of crux, gsm, math-l5 or mmlu-redux, nor holds one", dir)
	}
	return out, nil
}

type zeroEvalItem struct {
	ID       string   `json:"id"`
	Output   []string `json:"output"`
	Question string   `json:"question"`
	Answer   any      `json:"answer"`
	Choices  []string `json:"choices"`
	Correct  string   `json:"correct_answer"`
}

func (a *answered) zeroEval(task, model string, q *zeroEvalItem, grade func(*zeroEvalItem) bool) error {
	if q.ID == "" || q.Question == "" || len(q.Output) == 0 {
		return fmt.Errorf("item %q lacks id, question or output", q.ID)
	}
	prompt := q.Question
	for i, c := range q.Choices {
		prompt += fmt.Sprintf("\n%c) %s", 'A'+i, c)
	}
	score := 0.0
	if grade(q) {
		score = 1
	}
	domain := map[string]string{"crux": "coding", "gsm": "math", "math-l5": "math"}[task]
	a.put(Case{ID: q.ID, Set: "zeroeval-" + task, Split: SplitEval, Prompt: prompt, Domain: domain}, model, score, utf8.RuneCountInString(q.Output[0]))
	return nil
}

func gradeCrux(q *zeroEvalItem) bool {
	answer, ok := jsonAnswer(q.Output[0], false)
	if !ok {
		return false
	}
	text := pythonText(answer)
	if s, isText := answer.(string); isText && bareString(s) {
		text = "'" + s + "'"
	}
	return text == pythonText(q.Answer)
}

// bareString tells whether a model left the quotes of a Python string out.
func bareString(s string) bool {
	if strings.ContainsAny(s, "({[]})") || strings.EqualFold(s, "true") || strings.EqualFold(s, "false") {
		return false
	}
	digits := strings.Replace(s, ".", "", 1)
	return digits == "" || strings.Trim(digits, "0123456789") != ""
}

func gradeMath(q *zeroEvalItem) bool {
	answer, ok := jsonAnswer(q.Output[0], false)
	if !ok {
		return false
	}
	right, _ := q.Answer.(string)
	got, gotOK := firstNumber(pythonText(answer))
	want, wantOK := firstNumber(strings.ReplaceAll(right, "#", ""))
	return gotOK && wantOK && got == want
}

// firstNumber reads the first number of an answer without $ and thousands
// commas; a plain fraction counts as its value.
func firstNumber(s string) (float64, bool) {
	s = strings.NewReplacer("$", "", ",", "").Replace(strings.TrimSpace(s))
	if a, b, ok := strings.Cut(s, "/"); ok {
		x, err1 := strconv.ParseFloat(strings.TrimSpace(a), 64)
		y, err2 := strconv.ParseFloat(strings.TrimSpace(b), 64)
		if err1 == nil && err2 == nil && y != 0 {
			return x / y, true
		}
	}
	v, err := strconv.ParseFloat(regexp.MustCompile(`-?\d+(\.\d+)?`).FindString(s), 64)
	return v, err == nil
}

func gradeChoice(q *zeroEvalItem) bool {
	answer, ok := jsonAnswer(q.Output[0], true)
	at := slices.Index(q.Choices, q.Correct)
	return ok && at >= 0 && answer == string(rune('A'+at))
}

// jsonAnswer finds the answer field of the first (or last) complete JSON object
// in a model's output, else of something that looks like one.
func jsonAnswer(text string, last bool) (any, bool) {
	var found string
	depth, start := 0, -1
	for i := 0; i < len(text) && (found == "" || last); i++ {
		switch {
		case text[i] == '{':
			if depth++; depth == 1 {
				start = i
			}
		case text[i] == '}' && depth > 0:
			if depth--; depth == 0 {
				found = text[start : i+1]
			}
		}
	}
	var object map[string]any
	dec := json.NewDecoder(strings.NewReader(strings.ReplaceAll(found, "\n", "")))
	dec.UseNumber()
	if err := dec.Decode(&object); err == nil {
		if answer, ok := object["answer"]; ok {
			return answer, true
		}
	}
	for _, pattern := range []string{`(?s)"answer"\s*:\s*"([^"]*)"`, `"answer"\s*:\s*([^,\s]+)`, `answer\s*:\s*([^,\s]+)`} {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
			return m[1], true
		}
	}
	return nil, false
}

// pythonText is Python's str of a JSON value.
func pythonText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pythonRepr(v)
}

func pythonRepr(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case json.Number:
		return v.String()
	case string:
		quote := "'"
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			quote = `"`
		}
		return quote + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`, quote, `\`+quote).Replace(v) + quote
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = pythonRepr(x)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range sortedKeys(v) {
			parts = append(parts, pythonRepr(k)+": "+pythonRepr(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		return fmt.Sprint(v)
	}
}
