package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// evalSet writes a small set in the record format.
func evalSet(t *testing.T, models ...string) string {
	t.Helper()
	var b strings.Builder
	for i := range 60 {
		outcomes := make([]string, len(models))
		for k, m := range models {
			outcomes[k] = fmt.Sprintf("%q:%d", m, min(1, (i+1)%(k+2)*k+(i/4)%4/3)) // right in .20, .73 and .80 of the cases
		}
		fmt.Fprintf(&b, `{"id":"c%d","prompt":"Prove that %s holds.","domain":"math","outcomes":{%s}}`+"\n", i, strings.Repeat("x ", i), strings.Join(outcomes, ","))
	}
	return write(t, "set.jsonl", b.String())
}

func TestEvalRun(t *testing.T) {
	set := evalSet(t, "small", "large")
	code, out, stderr := weir(t, "", "eval", "run", "--classifier", "lexical", "--set", "weir:"+set, "--json", "--bootstrap", "50", "--seed", "4")
	require.Equal(t, exitOK, code, stderr)
	var report struct {
		Sets []struct {
			Name         string
			N            int
			Weak, Strong float64
			WeakModel    string `json:"weak_model"`
			APGR         map[string]*float64
			CPT          map[string]map[string]*float64
			CostSaved    map[string]*float64 `json:"cost_saved"`
			QualityKept  map[string]*float64 `json:"quality_kept"`
			Baselines    map[string]any
		}
		Routing struct {
			USDPerMillion float64 `json:"usd_per_million_prompts"`
		}
		Manifest struct {
			Binary, Bundle, Config string
			Sets                   map[string]string
			Seed                   uint64
			Bootstrap              int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	s := report.Sets[0]
	assert.Equal(t, "set", s.Name)
	assert.Equal(t, 60, s.N)
	assert.Equal(t, "small", s.WeakModel)
	for _, k := range []string{"20", "50", "80"} {
		require.NotNil(t, s.CPT[k]["value"])
	}
	for _, k := range []string{"value", "lo", "hi"} {
		require.NotNil(t, s.APGR[k])
		require.NotNil(t, s.CostSaved[k])
		require.NotNil(t, s.QualityKept[k])
	}
	assert.Contains(t, s.Baselines, "length")
	m := report.Manifest
	assert.Regexp(t, "^sha256:[0-9a-f]{64}$", m.Binary)
	assert.Regexp(t, "^sha256:[0-9a-f]{64}$", m.Config)
	assert.Regexp(t, "^sha256:[0-9a-f]{64}$", m.Sets["set"])
	assert.Equal(t, "lexical:1", m.Bundle)
	assert.Equal(t, uint64(4), m.Seed)
	assert.Equal(t, 50, m.Bootstrap)

	assert.Positive(t, report.Routing.USDPerMillion, "what routing itself costs is in the report")
	again := func() string {
		_, out, _ := weir(t, "", "eval", "run", "--classifier", "lexical", "--set", "weir:"+set, "--json", "--bootstrap", "50", "--seed", "4", "--core-hour-price", "0")
		return out
	}
	first, second := again(), again()
	assert.Equal(t, first, second, "the same inputs give the same report; only the time that scoring took differs")

	code, out, _ = weir(t, "", "eval", "run", "--classifier", "lexical", "--set", "weir:"+set, "--bootstrap", "0", "--cache", t.TempDir())
	require.Equal(t, exitOK, code)
	for _, want := range []string{"set  n 60\n  efficient small", "APGR", "always strong", "SMALL_SET", "lexical:1"} {
		assert.Contains(t, out, want)
	}
}

func TestEvalRefuses(t *testing.T) {
	three := evalSet(t, "a", "b", "c")
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no set":             {nil, exitUsage, "--set KIND:PATH"},
		"a kind misspelt":    {[]string{"--set", "hf:x"}, exitFailed, "use weir, routellm"},
		"json and table":     {[]string{"--set", "weir:" + three, "--json", "--table"}, exitUsage, "one of"},
		"three models":       {[]string{"--set", "weir:" + three}, exitFailed, "name two of them"},
		"half a pair":        {[]string{"--set", "weir:" + three, "--weak", "a"}, exitFailed, "two different models"},
		"negative resamples": {[]string{"--set", "weir:" + three, "--bootstrap", "-3"}, exitUsage, "negative"},
		"an unknown policy":  {[]string{"--set", "weir:" + three, "--weak", "a", "--strong", "c", "--policy", "x"}, exitFailed, "unknown policy"},
		"a set that is gone": {[]string{"--set", "weir:" + three + "x", "--weak", "a", "--strong", "c"}, exitFailed, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := weir(t, "", append([]string{"eval", "run", "--classifier", "lexical"}, tc.args...)...)
			assert.Equal(t, tc.code, code)
			assert.Contains(t, stderr, tc.says)
		})
	}
}

func TestEvalImport(t *testing.T) {
	bench := write(t, "my_task.csv", "sample_id,prompt,eval_name,m,m|total_cost\nt.1,['What?'],task,1.0,0.001\n")
	code, out, stderr := weir(t, "", "eval", "import", "--from", "routerbench:"+bench)
	require.Equal(t, exitOK, code, stderr)
	assert.JSONEq(t, `{"id":"t.1","set":"routerbench-my-task","split":"eval","prompt":"What?","domain":"task","outcomes":{"m":1},"cost_usd":{"m":0.001}}`, out)
	assert.Contains(t, stderr, "routerbench-my-task: 1 cases")
	dir := t.TempDir()
	for _, name := range []string{"a.jsonl", "a.jsonl.zst"} {
		file := filepath.Join(dir, name)
		code, _, stderr = weir(t, "", "eval", "import", "--from", "routerbench:"+bench, "--out", file)
		require.Equal(t, exitOK, code, stderr)
		code, back, stderr := weir(t, "", "eval", "import", "--from", "weir:"+file)
		require.Equal(t, exitOK, code, stderr)
		assert.Equal(t, out, back)
	}
	bad := write(t, "bad.csv", "sample_id,prompt,eval_name,m,m|total_cost\nt.1,secret words,task,7,0.001\n")
	gone := filepath.Join(dir, "gone.jsonl")
	code, _, stderr = weir(t, "", "eval", "import", "--from", "routerbench:"+bad, "--out", gone)
	assert.Equal(t, exitFailed, code)
	assert.NotContains(t, stderr, "secret")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 2, "a failed import leaves no half a set")
	code, _, stderr = weir(t, "", "eval", "import")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "--from")
}
