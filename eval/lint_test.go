package eval

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// honest makes a set without a fault: prompts of random words, two models,
// lengths and costs that vary.
func honest(n int, seed uint64) []Case {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]Case, n)
	for i := range out {
		out[i] = Case{
			ID: fmt.Sprintf("h%d-%d", seed, i), Split: SplitEval, Prompt: sentence(rng, 5+rng.IntN(60)) + "?", Domain: "general",
			Outcomes:    map[string]float64{"a": float64(rng.IntN(2)), "b": float64(rng.IntN(2))},
			OutputChars: map[string]int64{"a": 20 + int64(rng.IntN(400)), "b": 20 + int64(rng.IntN(400))},
			CostUSD:     map[string]float64{"a": rng.Float64(), "b": rng.Float64()},
		}
	}
	return out
}

func trained(n int, seed uint64) []Case {
	out := honest(n, seed)
	for i := range out {
		out[i].Split = SplitTrain
	}
	return out
}

func sentence(rng *rand.Rand, words int) string {
	out := make([]string, words)
	for i := range out {
		out[i] = fmt.Sprintf("w%d", rng.IntN(5000))
	}
	return strings.Join(out, " ")
}

func sourceOf(cases []Case) Source {
	return Source{Name: "planted", Cases: func(yield func(Case, error) bool) {
		for _, c := range cases {
			if !yield(c, nil) {
				return
			}
		}
	}}
}

// answers is an honest submission: half of the prompts to each model.
func answers(cases []Case) []Row {
	var out []Row
	for i, c := range cases {
		m := []string{"a", "b"}[i%2]
		score, tokens := c.Outcomes[m], c.OutputChars[m]/4+1
		out = append(out, Row{ID: c.ID, Model: m, Score: &score, OutputTokens: &tokens})
	}
	return out
}

func lint(t *testing.T, cfg LintConfig) []Finding {
	t.Helper()
	r, err := Lint(cfg)
	require.NoError(t, err)
	return r.Findings
}

func codesOf(found []Finding) []string {
	out := []string{}
	for _, f := range found {
		out = append(out, f.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestLintIsSilentOnCleanSets(t *testing.T) {
	for seed := range uint64(20) {
		cases := honest(400, seed)
		assert.Empty(t, lint(t, LintConfig{Set: sourceOf(cases), Train: []Source{sourceOf(trained(400, seed+1000))}, Submission: answers(cases)}), "seed %d", seed)
	}
}

// Each fraud is planted alone in a clean set and has to be the only finding.
func TestLintCatchesEachPlantedFraud(t *testing.T) {
	type planted struct {
		set   []Case
		train []Case
		rows  []Row
	}
	for name, tc := range map[string]struct {
		plant func(*planted)
		code  string
	}{
		"constant output lengths": {func(p *planted) {
			for i := range p.set {
				p.set[i].OutputChars["a"] = 1024
			}
		}, LintConstantTokens},
		"constant costs": {func(p *planted) {
			for i := range p.set {
				p.set[i].CostUSD["b"] = 0.002
			}
		}, LintConstantTokens},
		"constant token counts in a submission": {func(p *planted) {
			tokens := int64(256)
			for i := range p.rows {
				p.rows[i].OutputTokens = &tokens
			}
		}, LintConstantTokens},
		"a model scored on fewer rows": {func(p *planted) {
			for i := range 20 {
				delete(p.set[2*i+1].Outcomes, "a") // the submission chose b there
			}
		}, LintUnequal},
		"hard rows dropped": {func(p *planted) { p.rows = p.rows[:380] }, LintDropped},
		"rows without an outcome counted right": {func(p *planted) {
			one := 1.0
			for i := range 3 {
				p.rows[i] = Row{ID: p.rows[i].ID, Model: "c", Score: &one}
			}
		}, LintCountedRight},
		"an empty answer counted right": {func(p *planted) {
			p.set[1].OutputChars["a"], p.set[1].Outcomes["a"] = 0, 1
		}, LintCountedRight},
		"a failure claimed as a success": {func(p *planted) {
			i := slices.IndexFunc(p.set, func(c Case) bool { return c.Outcomes["b"] == 0 })
			one := 1.0
			p.rows[i] = Row{ID: p.set[i].ID, Model: "b", Score: &one}
		}, LintCountedRight},
		"a training prompt with a word changed": {func(p *planted) {
			for i := range 10 {
				words := strings.Fields(p.set[i].Prompt)
				if len(words) < 40 {
					words = append(words, strings.Fields(p.set[i+20].Prompt)...)
					p.set[i].Prompt = strings.Join(words, " ")
				}
				words[len(words)/2] = "changed"
				p.train[i].Prompt = strings.Join(words, " ")
			}
		}, LintLeak},
		"a short training prompt with other signs": {func(p *planted) {
			for i := range 10 {
				p.set[i].Prompt = fmt.Sprintf("What is the capital of land %d?", i)
				p.train[i].Prompt = fmt.Sprintf("what is the CAPITAL of land %d", i)
			}
		}, LintLeak},
		"choices made with the outcomes known": {func(p *planted) {
			for i, c := range p.set {
				m := "a"
				if c.Outcomes["b"] > c.Outcomes["a"] {
					m = "b"
				}
				score := c.Outcomes[m]
				p.rows[i].Model, p.rows[i].Score = m, &score
			}
		}, LintOutcomeDerived},
		"exact duplicates": {func(p *planted) {
			for i := range 12 {
				p.set[100+i].Prompt = strings.ToUpper(p.set[i].Prompt)
			}
		}, LintDuplicates},
		"prompts cut at a length": {func(p *planted) {
			for i := range p.set {
				p.set[i].Prompt = p.set[i].Prompt[:min(len(p.set[i].Prompt), 150)]
			}
		}, LintTruncated},
		"prompts cut inside a letter": {func(p *planted) {
			for i := range p.set {
				text := strings.ReplaceAll(p.set[i].Prompt, "w", "ж")
				text = text[:min(len(text), 151)]
				p.set[i].Prompt = strings.ToValidUTF8(text, "")
			}
		}, LintTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			p := planted{set: honest(400, 7), train: trained(400, 8)}
			p.rows = answers(p.set)
			tc.plant(&p)
			cfg := LintConfig{Set: sourceOf(p.set), Train: []Source{sourceOf(p.train)}, Submission: p.rows}
			found := lint(t, cfg)
			require.Equal(t, []string{tc.code}, codesOf(found), "%+v", found)
			for _, f := range found {
				assert.Equal(t, SeverityFault, f.Severity, "%+v", f)
				assert.NotEmpty(t, f.IDs)
				assert.LessOrEqual(t, len(f.IDs), 10)
				for _, c := range p.set {
					assert.NotContains(t, f.Detail, c.Prompt)
				}
			}
		})
	}
}

// What only looks like a fraud is none.
func TestLintKnowsWhatIsNatural(t *testing.T) {
	cases := honest(400, 9)
	rng := rand.New(rand.NewPCG(3, 3))
	instruction := sentence(rng, 40)
	train := trained(400, 10)
	for i := range cases {
		// A fixed instruction before every prompt of both sets is not a leak.
		cases[i].Prompt = instruction + " " + cases[i].Prompt
		train[i].Prompt = instruction + " " + train[i].Prompt
		// Options' letters are all one character long.
		cases[i].OutputChars = map[string]int64{"a": 1, "b": 1}
	}
	assert.Empty(t, lint(t, LintConfig{Set: sourceOf(cases), Train: []Source{sourceOf(train)}}))

	// A template whose prompts are all of one length.
	for i := range cases {
		cases[i].Prompt = fmt.Sprintf("Compute %04d plus %04d", i, 1000+7*i)
	}
	found := lint(t, LintConfig{Set: sourceOf(cases)})
	assert.NotContains(t, codesOf(found), LintLeak)

	// A strong model that is nearly always the better one may be chosen always.
	for i := range cases {
		cases[i].Outcomes = map[string]float64{"a": 0, "b": 1}
		if i%50 == 0 {
			cases[i].Outcomes = map[string]float64{"a": 1, "b": 0}
		}
	}
	rows := []Row{}
	for i, c := range cases {
		rows = append(rows, Row{ID: c.ID, Model: []string{"b", "b", "b", "b", "b", "b", "b", "b", "b", "a"}[min(i%400/39, 9)]})
	}
	assert.NotContains(t, codesOf(lint(t, LintConfig{Set: sourceOf(cases), Submission: rows})), LintOutcomeDerived)
}

func TestLintPassesFaultsOfSourcesOn(t *testing.T) {
	_, err := Lint(LintConfig{})
	require.ErrorContains(t, err, "a set is required")
	broken := Source{Name: "broken", Cases: func(yield func(Case, error) bool) { yield(Case{}, assert.AnError) }}
	_, err = Lint(LintConfig{Set: broken})
	require.ErrorIs(t, err, assert.AnError)
	_, err = Lint(LintConfig{Set: sourceOf(honest(30, 1)), Train: []Source{broken}})
	require.ErrorIs(t, err, assert.AnError)
}

func TestReadSubmission(t *testing.T) {
	rows, err := ReadSubmission(strings.NewReader("{\"id\":\"1\",\"model\":\"a\",\"score\":1}\n\n{\"id\":\"2\",\"model\":\"b\"}\n"), "s")
	require.NoError(t, err)
	assert.Len(t, rows, 2)
	for line, says := range map[string]string{
		`{"id":"1"}`:                         "line 1: give every row an id and a model",
		`{"id":"1","model":"a","grade":1}`:   "grade",
		`{"id":"1","model":"a","score":1.5}`: "scores are 0 to 1",
		`{"id":"1","model":"a"}{}`:           "more than one",
	} {
		_, err := ReadSubmission(strings.NewReader(line), "s")
		assert.ErrorContains(t, err, says)
	}
}

// The sets that are here, if any, have no fault that is not known.
func TestLintOfPublicSets(t *testing.T) {
	data, benchmarks := os.Getenv("WEIR_DATA"), os.Getenv("WEIR_BENCHMARKS")
	if data == "" || benchmarks == "" {
		t.Skip("WEIR_DATA or WEIR_BENCHMARKS is not set")
	}
	files, err := filepath.Glob(filepath.Join(data, "*.jsonl.zst"))
	require.NoError(t, err)
	var train []Source
	for _, f := range files {
		train = append(train, Source{Name: filepath.Base(f), Cases: ReadFile(f)})
	}
	sets, err := Open("routellm:" + filepath.Join(benchmarks, "routellm"))
	require.NoError(t, err)
	faults := map[string]string{}
	for _, s := range sets {
		r, err := Lint(LintConfig{Set: s, Train: train})
		require.NoError(t, err)
		for _, f := range r.Findings {
			t.Logf("%s: %s %s: %s", s.Name, f.Severity, f.Code, f.Detail)
			if f.Severity == SeverityFault {
				faults[s.Name+" "+f.Code] = f.Detail
			}
		}
	}
	for _, s := range train {
		r, err := Lint(LintConfig{Set: s})
		require.NoError(t, err)
		for _, f := range r.Findings {
			t.Logf("%s: %s %s: %s", s.Name, f.Severity, f.Code, f.Detail)
		}
	}
	assert.Empty(t, slices.Sorted(maps.Keys(faults)))
}
