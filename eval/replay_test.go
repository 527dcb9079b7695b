package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

func TestASkilfulRouterHasSkillAndASkilllessOneHasNone(t *testing.T) {
	for seed := range uint64(3) {
		good, _ := runOne(t, Config{Sources: []Source{simulatedSource(3000, seed, 1)}, Classifier: &spoken{}, Bootstrap: 300, Seed: seed})
		assert.Greater(t, good.APGR.Lo, .5)
		assert.True(t, good.Skill)
		assert.False(t, flagged(good, FlagNoSkill))

		bad, _ := runOne(t, Config{Sources: []Source{simulatedSource(3000, seed, 0)}, Classifier: &spoken{}, Bootstrap: 300, Seed: seed})
		assert.InDelta(t, .5, bad.APGR.Value, .06, "no advantage")
		assert.InDelta(t, bad.Baselines[BaselineRandom].Quality.Value, bad.Policy.Quality.Value, .05)
		assert.False(t, bad.Skill)
		assert.True(t, flagged(bad, FlagNoSkill))
	}
}

// lengthOnly is a router whose gain is the prompt's length.
type lengthOnly struct{ spoken }

func (l *lengthOnly) Classify(_ context.Context, text string) (classifier.Scores, error) {
	high := .5 + float64(len(text))/1e4
	out := classifier.Scores{QEfficient: classifier.Estimate{Value: .5, Low: .5, High: .5}, QHigh: classifier.Estimate{Value: high, Low: high, High: high}, OutputTokens: 1, OutputTokensP90: 1}
	out.Domains[0] = 1
	return out, nil
}

func TestARouterThatOnlyMeasuresLengthHasNoSkill(t *testing.T) {
	cases := simulated(2000, 5, 1)
	for i := range cases { // here, length does tell the gain
		diff := cases[i].Outcomes["large"] - cases[i].Outcomes["small"]
		cases[i].Prompt = strings.Repeat("x", 100+int(50*diff)+i%40)
	}
	got, _ := runOne(t, Config{Sources: []Source{{Name: "s", Weak: "small", Strong: "large", Cases: seqOf(cases...)}}, Classifier: &lengthOnly{}, Bootstrap: 200})
	assert.Greater(t, got.APGROverRandom.Lo, 0.0, "it beats random")
	assert.InDelta(t, 0, got.APGROverLength.Value, 1e-12)
	assert.True(t, flagged(got, FlagNoSkill), "and yet shows no learning")
}

func TestDecisionsAreCommittedBeforeOutcomesAreSeen(t *testing.T) {
	run := func(change func(*Case), c classifier.Classifier) (*Result, *Sample) {
		cases := simulated(300, 9, 1)
		for i := range cases {
			change(&cases[i])
		}
		return runOne(t, Config{Sources: []Source{{Name: "s", Weak: "small", Strong: "large", Cases: seqOf(cases...)}}, Classifier: c, Bootstrap: -1})
	}
	a, sa := run(func(*Case) {}, &spoken{})
	b, sb := run(func(c *Case) {
		c.Outcomes["small"], c.Outcomes["large"] = 1-c.Outcomes["small"], c.Outcomes["large"]/2+.5
		c.Domain = "relabelled"
	}, &spoken{})
	assert.Equal(t, a.CommitDigest, b.CommitDigest, "other outcomes and labels change no choice")
	assert.Equal(t, sa.Policy, sb.Policy)
	assert.NotEqual(t, a.Weak, b.Weak)
	require.Len(t, a.CommitDigest, 5)
	c, _ := run(func(c *Case) { c.Prompt = strings.Replace(c.Prompt, "low 0.", "low 0.0", 1) }, &spoken{})
	for _, name := range []string{"policy", "gain"} {
		assert.NotEqual(t, a.CommitDigest[name], c.CommitDigest[name], "another choice has another digest")
	}
	assert.Equal(t, a.CommitDigest[BaselineRandom], c.CommitDigest[BaselineRandom], "random looks at the id alone")
}

func TestReplayIsTheServiceItself(t *testing.T) {
	rules, err := router.LoadConfig("", func(string) string { return "" })
	require.NoError(t, err)
	for policy, p := range rules.Policies {
		got, s := runOne(t, Config{Sources: []Source{simulatedSource(500, 2, 1)}, Classifier: &spoken{}, Policy: policy, Rules: rules, Bootstrap: -1})
		gap := p.Limits.MaxQualityGap.Value
		strong := 0
		for i, choice := range s.Policy {
			want := ChooseWeak
			if s.QHigh[i]-s.QEfficient[i] > gap+1e-9 {
				want = ChooseStrong
			}
			require.Equal(t, want, choice, "%s: gain %v against a gap of %v", policy, s.Gain[i], gap)
			if choice == ChooseStrong {
				strong++
			}
		}
		share := float64(strong) / 500
		assert.InDelta(t, share, got.Policy.Share.Value, 1e-12)
		assert.InDelta(t, share, got.Baselines[BaselineRandom].Share.Value, 1e-12, "random plays at the same share")
		assert.InDelta(t, share, got.Baselines[BaselineLength].Share.Value, 1e-12)
		money, _, calls := Savings(share, 0, RouteLLMWeakPrice, RouteLLMStrongPrice)
		assert.InDelta(t, money, got.CostSaved.Value, 1e-12)
		assert.InDelta(t, calls, got.Policy.Savings.ByCalls.Value, 1e-12)
		assert.InDelta(t, entropy(share), got.Policy.Entropy.Value, 1e-12)
	}
	_, _, err = Run(t.Context(), Config{Sources: []Source{simulatedSource(5, 2, 1)}, Classifier: &spoken{}, Policy: "nowhere"})
	require.ErrorIs(t, err, router.ErrUnknownPolicy)
}

func TestAlphaSweepAsksDecide(t *testing.T) {
	got, s := runOne(t, Config{Sources: []Source{simulatedSource(200, 4, 1)}, Classifier: &spoken{}, Bootstrap: -1})
	rules, err := router.LoadConfig("", func(string) string { return "" })
	require.NoError(t, err)
	p, err := newPair(rules, "", "small", "large", RouteLLMWeakPrice, RouteLLMStrongPrice)
	require.NoError(t, err)
	for step, point := range got.AlphaSweep {
		strong := 0
		for i := range s.IDs {
			scores, err := (&spoken{}).Classify(t.Context(), simulated(200, 4, 1)[i].Prompt)
			require.NoError(t, err)
			choice, err := p.decide(&scores, true, float64(step)/20)
			require.NoError(t, err)
			if choice == ChooseStrong {
				strong++
			}
		}
		require.InDelta(t, float64(strong)/200, point.Share.Value, 1e-12, "alpha %v: bisection finds what asking every step would", point.Alpha)
	}
	assert.Zero(t, got.AlphaSweep[0].Share.Value, "alpha 0 is the cheapest")
	assert.InDelta(t, 1, got.AlphaSweep[20].Share.Value, 0, "alpha 1 is the best")
}

func TestCardsOfTheConfigCount(t *testing.T) {
	card := func(id, tier, price, quality string) string {
		return fmt.Sprintf("  - {id: %s, tier: %s, context_window: 1000, max_output_tokens: 900, deployments: [{upstream: u, name: x}], price: {input: %q, output: %q, source: s, date: \"2024-01-01\"}%s}\n",
			id, tier, price, price, quality)
	}
	run := func(weakPrice, strongPrice, quality string) *Result {
		text := "version: 1\ndefault_policy: p\nupstreams: [{id: u, dialect: openai, base_url: \"http://localhost\"}]\npolicies: [{id: p, max_quality_gap: 0.01, deny_models: [small]}]\nmodels:\n" +
			card("small", "EFFICIENT", weakPrice, quality) + card("large", "HIGH_PERFORMANCE", strongPrice, "")
		rules, err := router.ParseConfig([]byte(text), "test", func(string) string { return "" })
		require.NoError(t, err)
		got, _ := runOne(t, Config{Sources: []Source{simulatedSource(300, 1, 1)}, Classifier: &spoken{}, Bootstrap: -1, Rules: rules})
		return got
	}
	base := run("$1.00/M", "$5.00/M", "").Policy.Share.Value
	assert.Greater(t, base, .9, "a gap of .01 is seldom kept")
	assert.Less(t, base, 1.0, "the deny list is not of this replay")
	fitted := ", quality: {intercept: 9, efficient: 0, high: 0, half_width: 1, evidence: test}"
	assert.Zero(t, run("$1.00/M", "$5.00/M", fitted).Policy.Share.Value, "a fitted curve that says the small one is always right")
	assert.InDelta(t, 1, run("$5.00/M", "$1.00/M", "").Policy.Share.Value, 0, "a small model that is dearer and no better is never chosen")
}

func TestReportsRepeatWhateverTheCores(t *testing.T) {
	report := func(workers int) string {
		r, _, err := Run(t.Context(), Config{Sources: []Source{simulatedSource(700, 1, 1)}, Classifier: &spoken{}, Bootstrap: 50, Seed: 3, Workers: workers})
		require.NoError(t, err)
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		return string(raw)
	}
	assert.Equal(t, report(1), report(7))
}

func TestReportSurvivesJSON(t *testing.T) {
	r, _, err := Run(t.Context(), Config{Sources: []Source{simulatedSource(300, 1, 1)}, Classifier: &spoken{}, Bootstrap: 50})
	require.NoError(t, err)
	raw, err := json.Marshal(r)
	require.NoError(t, err)
	var back Report
	require.NoError(t, json.Unmarshal(raw, &back))
	again, err := json.Marshal(&back)
	require.NoError(t, err)
	assert.JSONEq(t, string(raw), string(again))
	// The part of the schema that others build on.
	var schema struct {
		Sets []struct {
			Name         string
			N            int
			Weak, Strong float64
			APGR         struct{ Value, Lo, Hi *float64 }
			CPT          map[string]struct{ Value, Lo, Hi *float64 }
			CostSaved    struct{ Value *float64 } `json:"cost_saved"`
			QualityKept  struct{ Value *float64 } `json:"quality_kept"`
			Baselines    map[string]struct{ APGR struct{ Value *float64 } }
		}
	}
	require.NoError(t, json.Unmarshal(raw, &schema))
	s := schema.Sets[0]
	assert.Equal(t, "simulated", s.Name)
	assert.Equal(t, 300, s.N)
	for _, v := range []*float64{s.APGR.Value, s.APGR.Lo, s.APGR.Hi, s.CPT["20"].Value, s.CPT["50"].Lo, s.CPT["80"].Hi, s.CostSaved.Value, s.QualityKept.Value} {
		require.NotNil(t, v)
	}
	assert.Len(t, s.Baselines, 8)
	assert.NotNil(t, s.Baselines["length"].APGR.Value)
	assert.Nil(t, s.Baselines["always_strong"].APGR.Value, "what is no ranking has no APGR")
}

func TestPGRIsRefusedWithoutAGap(t *testing.T) {
	cases := simulated(400, 3, 1)
	for i := range cases {
		cases[i].Outcomes["large"] = cases[(i+1)%400].Outcomes["small"]
	}
	got, _ := runOne(t, Config{Sources: []Source{{Name: "s", Weak: "small", Strong: "large", Cases: seqOf(cases...)}}, Classifier: &spoken{}, Bootstrap: 200})
	assert.True(t, flagged(got, FlagGap))
	assert.False(t, got.APGR.Known())
	assert.False(t, got.CPT["50"].Known())
	assert.True(t, got.CostSaved.Known(), "money is saved all the same")
	assert.True(t, flagged(got, FlagNoSkill))
}

func TestWhatIsLeftOutIsSaid(t *testing.T) {
	cases := simulated(300, 3, 1)
	cases[0].Split, cases[1].Split, cases[2].Split = SplitOverlap, SplitTrain, SplitTrain
	delete(cases[3].Outcomes, "large")
	cases[4].Prompt = "nothing that the classifier can read"
	cases[5].Note = "a prefix"
	src := Source{Name: "s", Weak: "small", Strong: "large", Cases: seqOf(cases...)}
	got, s := runOne(t, Config{Sources: []Source{src}, Classifier: &spoken{}, Bootstrap: 50})
	assert.Equal(t, Left{Overlap: 1, Missing: 1, Train: 2, Unscored: 1}, got.Left)
	assert.Equal(t, 298, got.N)
	assert.Equal(t, []string{"a prefix"}, got.Notes)
	for _, code := range []string{FlagTrainRows, FlagDropped, FlagUnscored, FlagNote, FlagNotional} {
		assert.True(t, flagged(got, code), code)
	}
	for i, id := range s.IDs {
		if id == "sim-4" {
			assert.Equal(t, ChooseStrong, s.Policy[i], "the unscored tier answers")
			assert.False(t, s.Scored[i])
			assert.InDelta(t, 1, s.Gain[i], 0)
		}
	}
	only, _ := runOne(t, Config{Sources: []Source{src}, Classifier: &spoken{}, Bootstrap: -1, Splits: []string{SplitEval}})
	assert.Equal(t, 2, only.Left.Split)
	assert.Equal(t, 296, only.N)
	assert.False(t, flagged(only, FlagTrainRows))
}

func TestFrozenThresholds(t *testing.T) {
	cfg := Config{Sources: []Source{simulatedSource(4000, 1, 1)}, Classifier: &spoken{}, Bootstrap: 50, Calibration: simulatedSource(4000, 99, 1)}
	got, s := runOne(t, cfg)
	require.Len(t, got.Frozen, 9)
	for _, f := range got.Frozen {
		assert.InDelta(t, f.TargetShare, f.Share.Value, .03, "the same world, other draws")
		above := 0
		for _, g := range s.Gain {
			if g >= f.Threshold {
				above++
			}
		}
		assert.InDelta(t, float64(above)/4000, f.Share.Value, 1e-12)
	}
	cfg.Calibration = simulatedSource(20, 99, 1)
	_, _, err := Run(t.Context(), cfg)
	require.ErrorContains(t, err, "at least 100")
}

func TestReferencePoints(t *testing.T) {
	got, s := runOne(t, Config{Sources: []Source{simulatedSource(1000, 8, 1)}, Classifier: &spoken{}, Bootstrap: 50})
	var best, oracleShare float64
	for i := range s.IDs {
		best += max(s.WeakScore[i], s.StrongScore[i]) / 1000
		if s.StrongScore[i] > s.WeakScore[i] {
			oracleShare += 1. / 1000
		}
	}
	b := got.Baselines
	assert.InDelta(t, best, b[BaselineOracle].Quality.Value, 1e-9)
	assert.InDelta(t, oracleShare, b[BaselineOracle].Share.Value, 1e-9, "of equals the cheaper one")
	assert.InDelta(t, best-got.Policy.Quality.Value, got.Policy.RegretToOracle.Value, 1e-9)
	assert.InDelta(t, got.Strong, b[BaselineAlwaysStrong].Quality.Value, 1e-9)
	assert.InDelta(t, got.Weak, b[BaselineAlwaysWeak].Quality.Value, 1e-9)
	assert.InDelta(t, got.Strong, b[BaselineBestSingle].Quality.Value, 1e-9)
	// The zero router mixes the two models without looking, at the policy's cost.
	assert.InDelta(t, got.Weak+got.Policy.Share.Value*(got.Strong-got.Weak), b[BaselineZero].Quality.Value, 1e-9)
	assert.InDelta(t, got.CostSaved.Value, b[BaselineZero].CostSaved.Value, 1e-9)
	assert.Greater(t, b[BaselineOracle].APGR.Value, got.APGR.Value)
	for name, base := range b {
		uses := name == BaselineBestSingle || name == BaselineZero || name == BaselineDomain || name == BaselineOracle
		assert.Equal(t, uses, base.UsesOutcomes, name)
	}
	n := 0
	for _, d := range got.Domains {
		n += d.N
		assert.True(t, d.APGR.Known(), d.Domain)
	}
	assert.Equal(t, 1000, n)
	assert.Len(t, got.Curve, 11)
	assert.InDelta(t, got.Weak, got.Curve[0].Quality.Value, 1e-9)
	assert.InDelta(t, got.Strong, got.Curve[10].Quality.Value, 1e-9)
}

// A strong model that costs no more is the whole hull: nothing is to be mixed with it.
func TestTheHullOfADominatedModel(t *testing.T) {
	for name, prices := range map[string][2]float64{"equal": {1, 1}, "cheaper": {2, 1}} {
		got, _ := runOne(t, Config{
			Sources: []Source{simulatedSource(1000, 8, 1)}, Classifier: &spoken{}, Bootstrap: -1, WeakPrice: prices[0], StrongPrice: prices[1],
		})
		assert.InDelta(t, got.Strong, got.Baselines[BaselineZero].Quality.Value, 1e-9, name)
	}
}

// What was not graded or not billed is written as null by many: it is no 0.
func TestNullsAreAbsent(t *testing.T) {
	var got []Case
	line := `{"id":"q1","prompt":"x","outcomes":{"small":null,"large":1},"cost_usd":{"small":null,"large":0.004},"output_chars":{"small":null,"large":7}}`
	for c, err := range Read(strings.NewReader(line+"\n"), "nulls") {
		require.NoError(t, err)
		got = append(got, c)
	}
	require.Len(t, got, 1)
	assert.Equal(t, map[string]float64{"large": 1}, got[0].Outcomes)
	assert.Equal(t, map[string]float64{"large": 0.004}, got[0].CostUSD)
	assert.Equal(t, map[string]int64{"large": 7}, got[0].OutputChars)
}

func TestAnInterruptedRunGoesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	down := errors.New("the classifier broke")
	c := &spoken{fail: down, after: 600}
	cfg := Config{Sources: []Source{simulatedSource(1000, 1, 1)}, Classifier: c, Bootstrap: -1, CacheDir: dir, Workers: 2}
	_, _, err := Run(t.Context(), cfg)
	require.ErrorIs(t, err, down)
	again := &spoken{}
	cfg.Classifier = again
	got, _ := runOne(t, cfg)
	assert.Equal(t, int64(400), again.calls.Load(), "600 scores were kept")
	fresh, _ := runOne(t, Config{Sources: cfg.Sources, Classifier: &spoken{}, Bootstrap: -1})
	assert.Equal(t, fresh.CommitDigest, got.CommitDigest, "cached scores are the scores")

	other := &spoken{digest: "test:other"}
	cfg.Classifier = other
	runOne(t, cfg)
	assert.Equal(t, int64(1000), other.calls.Load(), "another bundle shares no score")
}

func TestRunHonoursCancellation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	_, _, err := Run(ctx, Config{
		Sources: []Source{simulatedSource(5000, 1, 1)}, Classifier: &spoken{}, Bootstrap: -1,
		Progress: func(_, _ string, _ int) { cancel(stop) },
	})
	require.ErrorIs(t, err, stop)
}

func TestRunRefuses(t *testing.T) {
	ok := simulatedSource(50, 1, 1)
	three := simulated(50, 1, 1)
	three[7].Outcomes["third"] = 1
	twice := simulated(50, 1, 1)
	twice[9].ID = twice[8].ID
	for name, tc := range map[string]struct {
		cfg  Config
		says string
	}{
		"no set":               {Config{Classifier: &spoken{}}, "no set"},
		"no classifier":        {Config{Sources: []Source{ok}}, "classifier"},
		"a set twice":          {Config{Sources: []Source{ok, ok}, Classifier: &spoken{}}, "twice"},
		"half a pair":          {Config{Sources: []Source{ok}, Classifier: &spoken{}, Weak: "small"}, "two different models"},
		"the overlap split":    {Config{Sources: []Source{ok}, Classifier: &spoken{}, Splits: []string{SplitOverlap}}, "use train or eval"},
		"a price below 0":      {Config{Sources: []Source{ok}, Classifier: &spoken{}, WeakPrice: -1}, "weak price"},
		"a price of NaN":       {Config{Sources: []Source{ok}, Classifier: &spoken{}, StrongPrice: math.NaN()}, "strong price"},
		"three models":         {Config{Sources: []Source{{Name: "s", Cases: seqOf(three...)}}, Classifier: &spoken{}}, "name two of them"},
		"a model nobody has":   {Config{Sources: []Source{{Name: "s", Weak: "small", Strong: "x", Cases: ok.Cases}}, Classifier: &spoken{}}, "check the names"},
		"an id twice":          {Config{Sources: []Source{{Name: "s", Weak: "small", Strong: "large", Cases: seqOf(twice...)}}, Classifier: &spoken{}}, `"sim-8" is there twice`},
		"a set that is broken": {Config{Sources: []Source{{Name: "s", Weak: "small", Strong: "large", Cases: ReadFile("nowhere.jsonl")}}, Classifier: &spoken{}}, "nowhere.jsonl"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Run(t.Context(), tc.cfg)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestRoutingItselfIsPricedByTheClock(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(0, 0)
	clock := func() time.Time { // each reading is 1 ms after the last: a prompt takes 1 ms
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Millisecond)
		return now
	}
	cases := simulated(300, 2, 1)
	for i := range cases {
		cases[i].CostUSD = map[string]float64{"small": 0.0001, "large": 0.001}
	}
	cfg := Config{
		Sources: []Source{{Name: "s", Weak: "small", Strong: "large", Cases: seqOf(cases...)}}, Classifier: &spoken{}, Bootstrap: 50,
		Workers: 1, Now: clock, CoreHourUSD: 3.6,
	}
	report, _, err := Run(t.Context(), cfg)
	require.NoError(t, err)
	assert.Equal(t, int64(300), report.Routing.Scored)
	assert.InDelta(t, 1, report.Routing.MeanMS, 1e-9)
	assert.InDelta(t, 1, report.Routing.USDPerMillion, 1e-9, "$3.60 an hour is $0.001 a second: a million ms cost $1")
	s := report.Sets[0]
	assert.InDelta(t, s.CostSaved.Value-1e-6/0.001, s.CostSavedNet.Value, 1e-12, "a thousandth of a strong call")

	cfg.Now, cfg.Sources = nil, []Source{{Name: "s", Weak: "small", Strong: "large", Cases: seqOf(cases...)}}
	report, _, err = Run(t.Context(), cfg)
	require.NoError(t, err)
	assert.Nil(t, report.Routing)
	assert.False(t, report.Sets[0].CostSavedNet.Known())
}

func TestLabelsAreReadAsASet(t *testing.T) {
	dir := t.TempDir()
	line := func(id, split, labels string) string {
		return `{"id":"` + id + `","set":"corpus-x","split":"` + split + `","prompt":"p","domain":"legal","kind":"question","lang":"en","labels":[` + labels + `]}` + "\n"
	}
	a := `{"by":"a","complexity":1,"q_efficient":0.5,"q_high":0.9,"domain":"legal","output_tokens":10}`
	b := `{"by":"b","complexity":2,"q_efficient":0.7,"q_high":0.8,"domain":"legal","output_tokens":20}`
	writeFile(t, dir, "x.jsonl", line("1", "train", a+","+b)+line("2", "eval", a+","+b)+line("3", "eval", a))
	sources, err := Open("labels:" + dir)
	require.NoError(t, err)
	var got []Case
	for c, err := range sources[0].Cases {
		require.NoError(t, err)
		got = append(got, c)
	}
	require.Len(t, got, 1, "neither training rows nor rows with one labelling measure")
	assert.InDelta(t, .6, got[0].Outcomes[LabelledEfficient], 1e-12)
	assert.InDelta(t, .85, got[0].Outcomes[LabelledHigh], 1e-12)
	assert.Contains(t, got[0].Note, "not answers")

	for text, want := range map[string]string{
		line("3", "eval", ""): "labels is empty", "{\"id\":1}\n": "is no record", `{"unknown":1}` + "\n": "unknown field",
		line("3", "eval", a+`,{"by":"b","q_efficient":null,"q_high":1}`): "labels[1]: q_efficient or q_high is missing or null",
	} {
		writeFile(t, dir, "x.jsonl", text)
		for _, err := range sources[0].Cases {
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, "x.jsonl line 1")
		}
	}
	_, err = Open("labels:" + t.TempDir())
	require.ErrorContains(t, err, "training-data/corpus")
}
