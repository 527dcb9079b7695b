package eval

import (
	"archive/zip"
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func all(t *testing.T, cases iter.Seq2[Case, error]) []Case {
	t.Helper()
	var out []Case
	for c, err := range cases {
		require.NoError(t, err)
		require.NoError(t, c.Validate())
		out = append(out, c)
	}
	return out
}

func lastError(cases iter.Seq2[Case, error]) error {
	for _, err := range cases {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestReadRefusesByLineAndNeverQuotesThePrompt(t *testing.T) {
	const good = `{"id":"a","prompt":"secret words","outcomes":{"m":1}}`
	for name, tc := range map[string]struct{ line, says string }{
		"no JSON":              {"secret words", "line 2 is not a JSON object"},
		"an unknown field":     {`{"id":"a","prompt":"secret words","outcome":{"m":1}}`, `unknown field "outcome"`},
		"two objects":          {good + good, "more than one JSON object"},
		"no id":                {`{"prompt":"secret words"}`, "id is missing"},
		"no text":              {`{"id":"a"}`, "either prompt or messages"},
		"both texts":           {`{"id":"a","prompt":"secret words","messages":[{"role":"user","content":"x"}]}`, "either prompt or messages"},
		"a role misspelt":      {`{"id":"a","messages":[{"role":"human","content":"secret words"}]}`, `messages[0].role "human"`},
		"a split misspelt":     {`{"id":"a","prompt":"secret words","split":"test"}`, `split "test"`},
		"a score above 1":      {`{"id":"a","prompt":"secret words","outcomes":{"m":1.5}}`, `outcomes["m"] is 1.5`},
		"a negative cost":      {`{"id":"a","prompt":"secret words","cost_usd":{"m":-1}}`, `cost_usd["m"] is -1`},
		"a negative length":    {`{"id":"a","prompt":"secret words","output_chars":{"m":-1}}`, `output_chars["m"] is -1`},
		"a difficulty above 5": {`{"id":"a","prompt":"secret words","difficulty":6}`, "difficulty 6"},
	} {
		t.Run(name, func(t *testing.T) {
			err := lastError(Read(strings.NewReader(good+"\n"+tc.line+"\n"), "set.jsonl"))
			require.ErrorContains(t, err, tc.says)
			require.ErrorContains(t, err, "set.jsonl line 2")
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestReadPartsOnLineFeedsOnly(t *testing.T) {
	text := "one\u2028two\u0085three\vfour\ffive"
	lines := fmt.Sprintf("{\"id\":\"a\",\"prompt\":%q}\r\n\n  \n{\"id\":\"b\",\"prompt\":\"%s\"}", "x", strings.Repeat("long ", 40_000))
	lines = strings.Replace(lines, `"x"`, `"`+strings.NewReplacer("\v", `\u000b`, "\f", `\f`).Replace(text)+`"`, 1)
	got := all(t, Read(strings.NewReader(lines), "s"))
	require.Len(t, got, 2)
	assert.Equal(t, text, got[0].Prompt)
	assert.Len(t, got[1].Prompt, 200_000, "a line longer than the buffer, without a line feed at its end")
}

func TestReadFilePlainAndCompressed(t *testing.T) {
	dir := t.TempDir()
	cases := simulated(500, 1, 1)
	var plain bytes.Buffer
	n, err := Write(&plain, seqOf(cases...))
	require.NoError(t, err)
	require.Equal(t, 500, n)
	z, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	name := writeFile(t, dir, "s.jsonl", plain.String())
	packed := writeFile(t, dir, "s.jsonl.zst", string(z.EncodeAll(plain.Bytes(), nil)))
	assert.Equal(t, cases, all(t, ReadFile(name)))
	assert.Equal(t, cases, all(t, ReadFile(packed)))
	assert.Equal(t, cases, all(t, ReadFile(packed)), "a set can be read again")
	for range ReadFile(name) {
		break // a reader that stops early must not hurt
	}
	require.Error(t, lastError(ReadFile(writeFile(t, dir, "bad.zst", "not zstd"))))
	_, err = Write(&plain, seqOf(Case{ID: "x"}))
	require.ErrorContains(t, err, "prompt")
}

func TestDataFolderReads(t *testing.T) {
	dir := os.Getenv("WEIR_DATA")
	if dir == "" {
		t.Skip("WEIR_DATA is not set: it names a folder of outcome sets in the record format")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl.zst"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		n := 0
		for _, err := range ReadFile(f) {
			require.NoError(t, err)
			n++
		}
		assert.Positive(t, n, f)
	}
}

func routeLLMFixture(t *testing.T, root string) {
	t.Helper()
	head := "prompt," + RouteLLMWeak + "," + RouteLLMStrong + "\n"
	writeFile(t, root, "mmlu/responses/mmlu_birds.csv", head+"\"Do birds fly?\nA. Yes\nB. No\nAnswer:\",True,True\nleaked,True,False\nleaked too,False,True\n")
	writeFile(t, root, "mmlu/responses/mmlu_stones.csv", head+"Do stones fly?,False,True\n")
	writeFile(t, root, "mmlu/contaminated_prompts.jsonl", `{"train_prompt":"x","eval_prompt":"leaked"}`+"\n")
	writeFile(t, root, "gsm8k/gsm8k_responses.csv", "prompt,"+RouteLLMWeak+","+RouteLLMStrong+","+RouteLLMWeak+"_response,"+RouteLLMStrong+"_response\n1+1?,False,True,é,two\n")
	writeFile(t, root, "gsm8k/contaminated_prompts.jsonl", `{"eval_prompt":"1+1? "}`+"\n")
	questions, judged := "", ""
	for id, turns := range []string{`["write","again"]`, `["draw","leaked"]`, `["sing","louder"]`, `["nobody judged","this"]`} {
		questions += fmt.Sprintf(`{"question_id":%d,"category":"writing","turns":%s}`+"\n", id, turns)
		if id == 3 {
			continue
		}
		for turn, score := range []int{6, 9} {
			judged += fmt.Sprintf(`{"question_id":%d,"model":%q,"judge":["x"],"score":%d,"turn":%d}`+"\n", id, RouteLLMWeak, score-id, turn+1)
			judged += fmt.Sprintf(`{"question_id":%d,"model":%q,"score":%d,"turn":%d}`+"\n", id, RouteLLMStrong, 10, turn+1)
		}
	}
	writeFile(t, root, "mt_bench/question.jsonl", questions)
	writeFile(t, root, "mt_bench/judgements.jsonl", judged)
	writeFile(t, root, "mt_bench/contaminated_prompts.jsonl", `{"eval_prompt":"leaked"}`+"\n")
}

func TestRouteLLMImport(t *testing.T) {
	for _, below := range []string{".", "evals", "routellm/evals"} {
		dir := t.TempDir()
		routeLLMFixture(t, filepath.Join(dir, below))
		sources, err := RouteLLM(dir)
		require.NoError(t, err)
		require.Len(t, sources, 3)
		assert.Equal(t, []string{"routellm-mmlu", "routellm-gsm8k", "routellm-mt-bench"}, []string{sources[0].Name, sources[1].Name, sources[2].Name})

		mmlu := all(t, sources[0].Cases)
		require.Len(t, mmlu, 3, "the listed prompt goes, by exact equality; its neighbour stays")
		assert.Equal(t, "Do birds fly?\nA. Yes\nB. No\nAnswer:", mmlu[0].Prompt)
		assert.Equal(t, "birds", mmlu[0].Domain)
		assert.Equal(t, "mmlu_birds/3", mmlu[1].ID, "ids are rows of the file, dropped ones counted")
		assert.Equal(t, map[string]float64{RouteLLMWeak: 0, RouteLLMStrong: 1}, mmlu[2].Outcomes)

		gsm := all(t, sources[1].Cases)
		require.Len(t, gsm, 1, "a trailing space is another prompt")
		assert.Equal(t, map[string]int64{RouteLLMWeak: 1, RouteLLMStrong: 3}, gsm[0].OutputChars)

		mt := all(t, sources[2].Cases)
		require.Len(t, mt, 2, "a question goes when either turn is listed, or nobody judged it")
		assert.Equal(t, "sing", mt[1].Prompt, "the first turn alone")
		assert.InDelta(t, (6.-2+9-2)/2/10, mt[1].Outcomes[RouteLLMWeak], 1e-12)
		assert.InDelta(t, 1, mt[1].Outcomes[RouteLLMStrong], 1e-12)
	}
}

func TestRouteLLMImportRefuses(t *testing.T) {
	_, err := RouteLLM(t.TempDir())
	require.ErrorContains(t, err, "holds no")
	for name, tc := range map[string]struct{ file, text, says string }{
		"neither True nor False":  {"gsm8k/gsm8k_responses.csv", "prompt," + RouteLLMWeak + "," + RouteLLMStrong + "\nsecret words,True,maybe\n", "neither True nor False"},
		"a model column missing":  {"gsm8k/gsm8k_responses.csv", "prompt," + RouteLLMWeak + "\nsecret words,True\n", RouteLLMStrong},
		"a row cut short":         {"gsm8k/gsm8k_responses.csv", "prompt," + RouteLLMWeak + "," + RouteLLMStrong + "\nsecret words\n", "row 1"},
		"a failed judgement":      {"mt_bench/judgements.jsonl", `{"question_id":0,"model":"m","score":-1}` + "\n", "judged again"},
		"a list without the key":  {"gsm8k/contaminated_prompts.jsonl", `{"train_prompt":"secret words"}` + "\n", "line 1"},
		"no contamination list":   {"gsm8k/contaminated_prompts.jsonl", "", ""},
		"a question without turn": {"mt_bench/question.jsonl", `{"question_id":0,"turns":[]}` + "\n", "no turns"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			routeLLMFixture(t, dir)
			if file := writeFile(t, dir, tc.file, tc.text); tc.text == "" {
				require.NoError(t, os.Remove(file))
			}
			sources, err := RouteLLM(dir)
			require.NoError(t, err)
			var errs []string
			for _, s := range sources {
				if err := lastError(s.Cases); err != nil {
					errs = append(errs, err.Error())
				}
			}
			require.Len(t, errs, 1)
			assert.Contains(t, errs[0], tc.says)
			assert.NotContains(t, errs[0], "secret")
		})
	}
}

func TestRouterBenchImport(t *testing.T) {
	dir := t.TempDir()
	prefix := strings.Repeat("An example that every prompt begins with. ", 3)
	text := "Unnamed: 0,sample_id,prompt,eval_name,big/model,small,big/model|total_cost,small|total_cost,oracle_model_to_route_to\n" +
		`0,t.1,"['` + prefix + `It\'s \\ one\nline \u00e9\x41']",task,1.0,0.5,0.0054,5e-05,small` + "\n" +
		`1,t.2,"['` + prefix + `first', ""second's""]",task,,0.0,0.0054,5e-05,small` + "\n"
	name := writeFile(t, dir, "my_task.csv", text)
	for _, path := range []string{dir, name} {
		sources, err := RouterBench(path)
		require.NoError(t, err)
		require.Len(t, sources, 1)
		assert.Equal(t, "routerbench-my-task", sources[0].Name)
		got := all(t, sources[0].Cases)
		require.Len(t, got, 2)
		assert.Equal(t, prefix+"It's \\ one\nline éA", got[0].Prompt)
		assert.Equal(t, prefix+"first\nsecond's", got[1].Prompt)
		assert.Equal(t, map[string]float64{"big/model": 1, "small": .5}, got[0].Outcomes)
		assert.Equal(t, map[string]float64{"big/model": .0054, "small": 5e-05}, got[0].CostUSD)
		assert.Equal(t, map[string]float64{"small": 0}, got[1].Outcomes, "an empty score is no outcome, not a wrong one")
		assert.Contains(t, got[0].Note, "few-shot prefix")
	}
	plain := writeFile(t, t.TempDir(), "bare.csv", strings.ReplaceAll(text, prefix, ""))
	sources, err := RouterBench(plain)
	require.NoError(t, err)
	assert.Empty(t, all(t, sources[0].Cases)[0].Note)
	_, err = RouterBench(t.TempDir())
	require.ErrorContains(t, err, "no .csv")
	sources, err = RouterBench(writeFile(t, t.TempDir(), "bad.csv", strings.Replace(text, "1.0,0.5", "1.0,7", 1)))
	require.NoError(t, err)
	require.ErrorContains(t, lastError(sources[0].Cases), `row 1: column "small"`)
	for _, s := range []string{"plain text", "[1, 2]", "['open", "['a' 'b']", "[]", "['bad \\q']", "['\\x4']"} {
		assert.Equal(t, s, pythonStrings(s), "what is no list of strings stays")
	}
}

func TestMMLUProImport(t *testing.T) {
	dir := t.TempDir()
	item := func(id int, answer, rest string) string {
		return fmt.Sprintf(`{"question_id":%d,"question":"Which?","options":["one","N/A","two"],"answer":%q,"answer_index":0,"cot_content":"","category":"law","src":"s"%s}`, id, answer, rest)
	}
	writeFile(t, dir, "eval_results/modelA/law_result.json", "["+item(1, "A", `,"pred":"A","response":"é"`)+","+item(2, "B", `,"pred":null,"response":"so the answer is (B)."`)+"]")
	writeFile(t, dir, "eval_results/modelA/law_summary.json", `{"total":{}}`)
	writeFile(t, dir, "eval_results/model_outputs_modelB_5shots.json", "["+item(1, "A", `,"model_outputs":"Answer: B or A"`)+","+item(2, "B", `,"model_outputs":"I think A, no, B"`)+"]")
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	w, err := z.Create("model_outputs_modelC_5shots.json")
	require.NoError(t, err)
	_, err = w.Write([]byte("[" + item(2, "B", `,"model_outputs":"no idea"`) + "]"))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	writeFile(t, dir, "eval_results/model_outputs_modelC_5shots.zip", packed.String())
	sources, err := MMLUPro(dir)
	require.NoError(t, err)
	got := all(t, sources[0].Cases)
	require.Len(t, got, 2)
	assert.Equal(t, "Which?\n\nA. one\nB. two", got[0].Prompt)
	assert.Equal(t, map[string]float64{"modelA": 1, "modelB": 0}, got[0].Outcomes)
	assert.Equal(t, map[string]float64{"modelA": 1, "modelB": 1, "modelC": 0}, got[1].Outcomes, "no letter is a wrong answer, not a guess")
	assert.Equal(t, int64(1), got[0].OutputChars["modelA"], "characters, not bytes")
	assert.Equal(t, "law", got[0].Domain)
	_, err = MMLUPro(t.TempDir())
	require.ErrorContains(t, err, "holds neither")
}

func TestZeroEvalImport(t *testing.T) {
	dir := t.TempDir()
	out := func(answer string) string {
		return `"output":["words {\"reasoning\": \"r\",\n \"answer\": ` + answer + `} {"]`
	}
	crux := func(id int, answer, output string) string {
		return fmt.Sprintf(`{"id":"c%d","question":"f()==??","answer":%q,%s,"session_id":"x","configs":{"t":0.0}}`, id, answer, output)
	}
	writeFile(t, dir, "result_dirs/crux/m1.json", "["+strings.Join([]string{
		crux(1, "'abc'", out(`\"abc\"`)), crux(2, "[1, 'a', None, True]", out(`[1, \"a\", null, true]`)), crux(3, "3", out(`\"4\"`)), crux(4, "5", `"output":["nothing"]`),
		crux(5, "12", `"output":["so answer: 12"]`),
	}, ",")+"]")
	writeFile(t, dir, "result_dirs/crux/m2.json", "["+crux(1, "'abc'", out(`\"abd\"`))+"]")
	writeFile(t, dir, "result_dirs/gsm/m1.json", `[{"id":"g1","question":"how much?","answer":"1,234",`+out(`\"$1234 dollars\"`)+`},{"id":"g2","question":"how much?","answer":"#### 0.5",`+out(`\"1/2\"`)+`},{"id":"g3","question":"how much?","answer":"7",`+out(`\"-7\"`)+`}]`)
	writeFile(t, dir, "result_dirs/mmlu-redux/m1.json", `[{"id":"r1","question":"which?","choices":["x","y"],"correct_answer":"y",`+strings.Replace(out(`\"B\"`), "words {", `{\"answer\": \"A\"} words {`, 1)+`}]`)
	writeFile(t, dir, "result_dirs/zebra-grid/m1.json", `[]`)
	writeFile(t, dir, "result_dirs/crux.summary.json", `[]`)
	sources, err := ZeroEval(dir)
	require.NoError(t, err)
	require.Len(t, sources, 3, "crux, gsm, mmlu-redux")
	crx := all(t, sources[0].Cases)
	require.Len(t, crx, 5)
	var marks []float64
	for _, c := range crx {
		marks = append(marks, c.Outcomes["m1"])
	}
	assert.Equal(t, []float64{1, 1, 0, 0, 1}, marks)
	assert.Equal(t, map[string]float64{"m1": 1, "m2": 0}, crx[0].Outcomes)
	gsm := all(t, sources[1].Cases)
	assert.Equal(t, []float64{1, 1, 0}, []float64{gsm[0].Outcomes["m1"], gsm[1].Outcomes["m1"], gsm[2].Outcomes["m1"]})
	redux := all(t, sources[2].Cases)
	assert.Equal(t, "which?\nA) x\nB) y", redux[0].Prompt)
	assert.InDelta(t, 1, redux[0].Outcomes["m1"], 0, "the last object counts")
	one, err := ZeroEval(filepath.Join(dir, "result_dirs", "gsm"))
	require.NoError(t, err)
	require.Len(t, one, 1)
	_, err = ZeroEval(filepath.Join(dir, "result_dirs", "zebra-grid"))
	require.ErrorContains(t, err, "crux, gsm")
}

func TestJournalImport(t *testing.T) {
	dir := t.TempDir()
	name := writeFile(t, dir, "export.jsonl", strings.Join([]string{
		`{"decision_id":"d1","prompt":"same","model":"small","outcomes":[{"score":0},{"score":1}],"cost_nano_usd":1000,"priced":true}`,
		`{"decision_id":"d2","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"same"}],"model":"large","outcomes":[{"score":1,"source":"judge"}],"cost_nano_usd":5000,"priced":true}`,
		`{"decision_id":"d3","prompt":"same","model":"small","outcomes":[{"score":0}],"cost_nano_usd":3000,"priced":true}`,
		`{"decision_id":"d4","model":"small","outcomes":[{"score":1}]}`,
		`{"decision_id":"d5","prompt":"no report","model":"small"}`,
	}, "\n"))
	got := all(t, Journal(name))
	require.Len(t, got, 1, "the same text is one case; no text or no outcome is none")
	assert.Equal(t, "d1", got[0].ID)
	assert.InDelta(t, 1./3, got[0].Outcomes["small"], 1e-12)
	assert.InDelta(t, 1, got[0].Outcomes["large"], 0)
	assert.InDelta(t, 2e-6, got[0].CostUSD["small"], 1e-15)
	err := lastError(Journal(writeFile(t, dir, "bare.jsonl", `{"decision_id":"d","model":"m","outcomes":[{"score":1}]}`)))
	require.ErrorContains(t, err, "content capture")
	err = lastError(Journal(writeFile(t, dir, "bad.jsonl", `{"decision_id":"d","prompt":"secret","model":"m","outcomes":[{"score":2}]}`)))
	require.ErrorContains(t, err, "line 1")
	assert.NotContains(t, err.Error(), "secret")
	for _, none := range []string{`{}`, `{"score":null}`} {
		err = lastError(Journal(writeFile(t, dir, "null.jsonl", `{"decision_id":"d","prompt":"p","model":"m","outcomes":[`+none+`]}`)))
		require.ErrorContains(t, err, "outcomes[0].score is missing or null", "no score is no 0")
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	routeLLMFixture(t, dir)
	sources, err := Open("routellm:" + dir)
	require.NoError(t, err)
	assert.Len(t, sources, 3)
	sources, err = Open("weir:/some/folder/my-set.jsonl.zst")
	require.NoError(t, err)
	assert.Equal(t, "my-set", sources[0].Name)
	mixed := simulated(40, 1, 1)
	for i := range mixed {
		mixed[i].Set = []string{"odd", "even"}[i%2]
	}
	var text bytes.Buffer
	_, err = Write(&text, seqOf(mixed...))
	require.NoError(t, err)
	name := writeFile(t, dir, "mixed.jsonl", text.String())
	sources, err = Open("weir:" + name + "#even")
	require.NoError(t, err)
	assert.Equal(t, "even", sources[0].Name)
	assert.Len(t, all(t, sources[0].Cases), 20)
	one, _ := runOne(t, Config{Sources: sources, Classifier: &spoken{}, Bootstrap: -1})
	assert.Empty(t, one.Notes)
	sources, err = Open("weir:" + name)
	require.NoError(t, err)
	both, _ := runOne(t, Config{Sources: sources, Classifier: &spoken{}, Bootstrap: -1})
	require.Len(t, both.Notes, 1)
	assert.Contains(t, both.Notes[0], "weir:FILE#SET")
	for spec, says := range map[string]string{"x": "KIND:PATH", "weir:": "KIND:PATH", "hf:x": `kind "hf"`, "routellm:" + t.TempDir(): "holds no", "mmlu-pro:" + t.TempDir(): "neither", "zeroeval:" + t.TempDir(): "crux", "routerbench:/nowhere": "nowhere"} {
		_, err := Open(spec)
		require.ErrorContains(t, err, says, spec)
	}
}
