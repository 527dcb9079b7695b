package router_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

const ruleLines = `
rules:
  - {id: secret, when: {text: '(?i)patient|diagnos'}, then: {deny_models: ["e/*"]}}
  - {id: acme, when: {tenant: "acme*"}, then: {models: [h/dear, h/cheap]}}
  - {id: bulk, when: {intent: [bulk, draft]}, then: {tier: EFFICIENT, skip_scoring: true}}
  - {id: german, when: {language: [de]}, then: {min_tier: HIGH_PERFORMANCE}}
  - {id: long, when: {over_bytes: 2000}, then: {policy: best}}
  - {id: agents, when: {has_tools: true, metadata: {env: "prod-?"}}, then: {max_tier: EFFICIENT}}
`

func TestRulesDecideBeforeScores(t *testing.T) {
	r, _ := ruleRouter(t, tableConfig+ruleLines, 0.85, 0.9)
	route := func(text string, change func(*router.Request)) *router.Record {
		req := ask(text)
		if change != nil {
			change(req)
		}
		rec, err := r.Route(context.Background(), req)
		require.NoError(t, err)
		return &rec
	}
	limit := func(rec *router.Record, name string) router.Applied {
		for _, l := range rec.Decision.Limits {
			if l.Name == name {
				return l
			}
		}
		return router.Applied{}
	}
	plain := route("what is the capital of France?", nil)
	assert.Empty(t, plain.Decision.Rule)
	assert.Equal(t, "e/cheap", plain.Decision.Chosen.Model.ID)

	rec := route("the Patient has a fever", nil)
	assert.Equal(t, "secret", rec.Decision.Rule)
	assert.Equal(t, "h/cheap", rec.Decision.Chosen.Model.ID)
	assert.Equal(t, router.Applied{Name: "deny_models", Value: "e/*", Source: router.FromRule, Binding: true}, limit(rec, "deny_models"))

	rec = route("hello", func(q *router.Request) { q.Metadata = map[string]string{"tenant": "acme/eu"} })
	assert.Equal(t, router.ByRule, rec.Decision.Reason)
	assert.Equal(t, "h/dear", rec.Decision.Chosen.Model.ID)
	assert.Contains(t, rec.Decision.Explanation(), "Rule acme matched")
	assert.Equal(t, router.FromRule, limit(rec, "models").Source)

	rec = route("hello", func(q *router.Request) {
		q.Metadata, q.Demand.Override.Tier = map[string]string{"tenant": "acme"}, router.Efficient
	})
	assert.Equal(t, "e/cheap", rec.Decision.Chosen.Model.ID, "the request's own wish beats the rule")
	assert.Equal(t, router.ByOverride, rec.Decision.Reason)

	rec = route("hello", func(q *router.Request) { q.Intent = "draft" })
	assert.False(t, rec.Decision.Scored)
	assert.Equal(t, router.ByRule, rec.Decision.Reason)
	assert.Equal(t, "e/cheap", rec.Decision.Chosen.Model.ID, "a skipped score is no broken classifier")
	assert.Equal(t, "rule", rec.ScoringError)

	rec = route("Kannst du mir bitte sagen, was das ist und wie es geht?", nil)
	assert.Equal(t, "german", rec.Decision.Rule)
	assert.Equal(t, router.Applied{Name: "min_tier", Value: "HIGH_PERFORMANCE", Source: router.FromRule, Binding: true}, limit(rec, "min_tier"))

	rec = route(strings.Repeat("x ", 1500), nil)
	assert.Equal(t, "best", rec.Decision.Policy)
	assert.Equal(t, router.FromRule, limit(rec, "policy").Source)

	tools := func(env string) func(*router.Request) {
		return func(q *router.Request) {
			q.Demand.Required, q.Metadata = router.Tools, map[string]string{"env": env}
		}
	}
	assert.Equal(t, "agents", route("hi", tools("prod-1")).Decision.Rule)
	assert.Empty(t, route("hi", tools("dev")).Decision.Rule)
	both := route("the patient", func(q *router.Request) { q.Metadata = map[string]string{"tenant": "acme"} })
	assert.Equal(t, "secret", both.Decision.Rule, "the first that matches counts")
	end := route(strings.Repeat("y ", 20_000)+"patient", nil)
	assert.Equal(t, "secret", end.Decision.Rule, "the end of a long ask is looked at")
}

// ruleRouter makes a router of a config and fixed scores, with a clock that a
// test moves.
func ruleRouter(t *testing.T, config string, efficient, high float64) (*router.Router, *time.Time) {
	t.Helper()
	store, err := router.NewStore(fixed{scored(efficient, high, classifier.General)}, rules(t, config))
	require.NoError(t, err)
	journal, err := router.NewMemoryJournal(100)
	require.NoError(t, err)
	now := time.Unix(1_000_000, 0)
	r, err := router.New(router.Config{Store: store, Journal: journal, Now: func() time.Time { return now }, NewID: func() string { return "id" }})
	require.NoError(t, err)
	return r, &now
}

// fixed scores everything alike.
type fixed struct{ scores classifier.Scores }

func (f fixed) Classify(_ context.Context, text string) (classifier.Scores, error) {
	if _, err := classifier.Clean(text); err != nil {
		return classifier.Scores{}, err
	}
	return f.scores, nil
}

func (fixed) Info() classifier.Info { return classifier.Info{Name: "fixed", Digest: "fixed:1"} }

func TestARuleThatLeavesNothingSaysSo(t *testing.T) {
	r, _ := ruleRouter(t, tableConfig+ruleLines, 0.85, 0.9)
	req := ask("hello")
	req.Metadata = map[string]string{"tenant": "acme"}
	req.Demand.Limits.MaxCost = router.Some(router.NanoUSD(1))
	_, err := r.Route(context.Background(), req)
	var none *router.NoEligibleError
	require.ErrorAs(t, err, &none, "a rule never lifts max_cost")
	assert.Contains(t, err.Error(), `rule "acme"`)
	rs := rules(t, tableConfig+ruleLines)
	_, err = rs.Decide(router.Demand{Rule: "gone"})
	require.ErrorIs(t, err, router.ErrUnknownRule)
}

func TestRuleFaults(t *testing.T) {
	_, err := router.ParseConfig([]byte(tableConfig+`
rules:
  - {id: one, when: {text: "("}, then: {tier: EFFICIENT}}
  - {id: two, when: {text: "(?=x)"}, then: {tier: EFFICIENT}}
  - {id: three, when: {language: [xx]}, then: {tier: EFFICIENT}}
  - {id: four, when: {over_bytes: 10, under_bytes: 11}, then: {tier: EFFICIENT}}
  - {id: five, when: {intent: [a, b]}, then: {tier: EFFICIENT}}
  - {id: six, when: {intent: [a], tenant: x}, then: {tier: EFFICIENT}}
  - {id: six, when: {requires: [fly]}, then: {models: [nope], tier: EFFICIENT}}
  - {id: seven, when: {tenant: y}, then: {}}
  - {id: eight, when: {tenant: z}, then: {skip_scoring: true, min_tier: HIGH_PERFORMANCE, max_tier: EFFICIENT}}
  - {id: nine, then: {policy: none}}
  - {id: ten, when: {text: z}, then: {deny_models: ["zz*"]}}
  - {id: eleven, when: {has_tools: false, requires: [tools]}, then: {tier: EFFICIENT}}
sessions: {ttl: soon, turns: 99}
`), "r.yaml", none)
	var bad *router.ConfigError
	require.ErrorAs(t, err, &bad)
	for _, want := range []string{
		`r.yaml:22: rules[0].when.text: is no regular expression`,
		`r.yaml:23: rules[1].when.text: is no regular expression`,
		`r.yaml:24: rules[2].when.language[0]: "xx" is never found`,
		`r.yaml:25: rules[3].when.under_bytes: is 11, and nothing is above 10`,
		`r.yaml:27: rules[5].when: can never decide: whatever matches it matches rule "five"`,
		`r.yaml:28: rules[6].id: "six" is there twice`,
		`r.yaml:28: rules[6].when.requires[0]: capability "fly"`,
		`r.yaml:28: rules[6].then.models[0]: "nope" is no model`,
		`r.yaml:28: rules[6].then.tier: stands beside models`,
		`r.yaml:29: rules[7].then: does nothing`,
		`r.yaml:30: rules[8].then.skip_scoring: stands alone`,
		`r.yaml:30: rules[8].then.min_tier: is above max_tier`,
		`r.yaml:31: rules[9].then.policy: "none" is no policy`,
		`r.yaml:32: rules[10].when: can never decide: whatever matches it matches rule "nine"`,
		`r.yaml:32: rules[10].then.deny_models[0]: "zz*" matches no model`,
		`r.yaml:33: rules[11].when.has_tools: is false, but requires has tools`,
		`sessions.ttl: "soon" is no positive duration`,
		`sessions.turns: is 99, want 0 to 16`,
	} {
		assert.Contains(t, err.Error(), want)
	}
}

func TestLanguage(t *testing.T) {
	for text, want := range map[string]string{
		"What is the difference between a stack and a queue?":             "en",
		"Was ist der Unterschied zwischen einem Stapel und der Schlange?": "de",
		"Quelle est la différence entre une pile et une file ?":           "fr",
		"¿Cuál es la diferencia entre una pila y una cola?":               "es",
		"Qual è la differenza tra una pila e una coda? Non lo so.":        "it",
		"Como é que eu faço isso com uma fila? Não sei o que é.":          "pt",
		"Wat is het verschil tussen een stapel en een wachtrij?":          "nl",
		"Czy możesz powiedzieć, jak to jest i dlaczego się tak nie da?":   "pl",
		"Vad är det för skillnad och hur kan jag göra det?":               "sv",
		"Bu nasıl çok daha iyi olarak yapılır ve bir örnek var mı?":       "tr",
		"В чём разница между стеком и очередью?":                          "ru",
		"Яка різниця між стеком і чергою? Поясни її.":                     "uk",
		"栈和队列有什么区别？":                                                      "zh", "スタックとキューの違いは何ですか？": "ja", "스택과 큐의 차이는 무엇인가요?": "ko",
		"ما الفرق بين المكدس والطابور؟": "ar", "स्टैक और क्यू में क्या अंतर है?": "hi",
		"Ποια είναι η διαφορά;": "el", "מה ההבדל?": "he", "ต่างกันอย่างไร": "th",
		"": "", "12345 + 67": "", "foo bar baz": "", "x": "",
	} {
		assert.Equal(t, want, router.Language(text), text)
	}
	assert.Len(t, router.Languages(), 20)
}
