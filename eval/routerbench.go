package eval

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// sharedPrefix is from how many characters on a prefix that all prompts of a
// file share is worth a note.
const sharedPrefix = 60

// RouterBench opens tables in the layout of withmartian/routerbench's 0-shot
// data: sample_id, prompt, eval_name, and for every model a column of its score
// (0 to 1) and one of its cost in dollars, MODEL|total_cost. path is a CSV file,
// a folder of them, or a clone of shuhao02/RouterDC, which has some in
// datasets/routerbench_zs; each file is a set, routerbench-NAME.
//
// Prompts that are written as a Python list of strings are joined by line
// feeds. An empty score is an absent outcome. A few-shot prefix is kept, since
// the models saw it, and said in every case's note: a classifier that cuts on
// the right never sees the question behind it.
func RouterBench(path string) ([]Source, error) {
	files := []string{path}
	info, err := os.Stat(path) //nolint:gosec // a file that the operator named
	if err != nil {
		return nil, fmt.Errorf("open RouterBench data: %w", err)
	}
	if info.IsDir() {
		if sub := filepath.Join(path, "datasets", "routerbench_zs"); isDir(sub) {
			path = sub
		}
		if files, err = filepath.Glob(filepath.Join(path, "*.csv")); err != nil || len(files) == 0 {
			return nil, errors.Join(fmt.Errorf("open RouterBench data: %s holds no .csv file", path), err)
		}
	}
	var out []Source
	for _, f := range files {
		set := "routerbench-" + strings.ReplaceAll(stem(f), "_", "-")
		out = append(out, Source{Name: set, Cases: routerBench(f, set)})
	}
	return out, nil
}

func routerBench(name, set string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		note, err := prefixNote(name)
		if err == nil {
			err = eachCSV(name, func(row map[string]string, number int) error {
				c, err := routerBenchCase(row, number, set)
				if err != nil {
					return err
				}
				c.Note = note
				if !yield(c, nil) {
					return errStop
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(Case{}, fmt.Errorf("read %s: %w", name, err))
		}
	}
}

func routerBenchCase(row map[string]string, number int, set string) (Case, error) {
	c := Case{ID: row["sample_id"], Set: set, Split: SplitEval, Domain: row["eval_name"], Outcomes: map[string]float64{}, CostUSD: map[string]float64{}}
	prompt, ok := row["prompt"]
	if c.ID == "" || !ok {
		return c, fmt.Errorf("row %d: columns sample_id and prompt are needed", number)
	}
	c.Prompt = pythonStrings(prompt)
	for _, column := range slices.Sorted(maps.Keys(row)) {
		model, ok := strings.CutSuffix(column, "|total_cost")
		if !ok || row[model] == "" {
			continue
		}
		score, err := strconv.ParseFloat(row[model], 64)
		if err != nil || !(score >= 0 && score <= 1) {
			return c, fmt.Errorf("row %d: column %q is %q, want a score of 0 to 1", number, model, briefly(row[model]))
		}
		c.Outcomes[model] = score
		if row[column] == "" {
			continue
		}
		cost, err := strconv.ParseFloat(row[column], 64)
		if err != nil || !(cost >= 0 && cost <= maxCostUSD) {
			return c, fmt.Errorf("row %d: column %q is %q, want dollars", number, column, briefly(row[column]))
		}
		c.CostUSD[model] = cost
	}
	return c, nil
}

// prefixNote reads a file's prompts once and says whether all share a prefix.
func prefixNote(name string) (string, error) {
	prefix, rows := "", 0
	err := eachCSV(name, func(row map[string]string, _ int) error {
		p := pythonStrings(row["prompt"])
		if rows++; rows == 1 {
			prefix = p
			return nil
		}
		n := min(len(prefix), len(p))
		for i := range n {
			if prefix[i] != p[i] {
				n = i
				break
			}
		}
		prefix = prefix[:n]
		return nil
	})
	if n := utf8.RuneCountInString(prefix); err == nil && rows > 1 && n >= sharedPrefix {
		return fmt.Sprintf("all %d prompts begin with the same %d characters (a few-shot prefix, kept): prompt length says little, and the question stands at the end", rows, n), nil
	}
	return "", err
}

// pythonStrings undoes the repr of a Python list of strings, and returns other
// text as it is.
func pythonStrings(s string) string {
	if len(s) < 4 || s[0] != '[' || s[len(s)-1] != ']' {
		return s
	}
	body := s[1 : len(s)-1]
	var parts []string
	for {
		part, rest, ok := pythonString(body)
		if !ok {
			return s
		}
		parts = append(parts, part)
		if rest == "" {
			return strings.Join(parts, "\n")
		}
		if body, ok = strings.CutPrefix(rest, ", "); !ok {
			return s
		}
	}
}

// pythonString reads one quoted string as Python's repr writes it.
func pythonString(s string) (text, rest string, ok bool) {
	if s == "" || (s[0] != '\'' && s[0] != '"') {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return b.String(), s[i+1:], true
		case s[i] != '\\':
			b.WriteByte(s[i])
			continue
		case i+1 == len(s):
			return "", "", false
		}
		i++
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[i]]
		plain, known := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '\\': '\\', '\'': '\'', '"': '"'}[s[i]]
		switch {
		case known:
			b.WriteByte(plain)
		case digits > 0 && i+digits < len(s):
			code, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err != nil {
				return "", "", false
			}
			b.WriteRune(rune(code))
			i += digits
		default:
			return "", "", false
		}
	}
	return "", "", false
}
