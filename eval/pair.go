package eval

import (
	"fmt"
	"math"
	"strings"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// The ids that the two models have in a replay's catalog.
const (
	weakID   = "weak"
	strongID = "strong"
)

// RouteLLM's prices in dollars for a million tokens (its paper, appendix D):
// Mixtral-8x7B, and GPT-4-1106 at its mean of 95 tokens in and 264 out.
const (
	RouteLLMWeakPrice   = 0.24
	RouteLLMStrongPrice = 24.7
)

// pair is the two-model routing config of one replay.
type pair struct {
	rules  *router.Rules
	policy string
}

// newPair builds a catalog of the two models, tiers EFFICIENT and
// HIGH_PERFORMANCE, under the policies of the rules. Where the rules' catalog
// has cards of both models, their prices, quality curves and token ratios
// count in decisions; else the prices given and the reference curves. Allow and
// deny lists are left out: both models are always there.
func newPair(rules *router.Rules, policy, weak, strong string, weakPrice, strongPrice float64) (*pair, error) {
	if policy == "" {
		policy = rules.DefaultPolicy
	}
	if _, ok := rules.Policies[policy]; !ok {
		return nil, fmt.Errorf("build the pair: %w %q: the config's policies are %v", router.ErrUnknownPolicy, policy, sortedKeys(rules.Policies))
	}
	models := [2]pairModel{{id: weakID, tier: router.Efficient}, {id: strongID, tier: router.HighPerformance}}
	for i, usd := range [...]float64{weakPrice, strongPrice} {
		n := router.NanoUSD(math.RoundToEven(usd * 1e9))
		models[i].input, models[i].output = n, n
	}
	w, hasWeak := rules.Catalog.Model(weak)
	s, hasStrong := rules.Catalog.Model(strong)
	if hasWeak && hasStrong {
		models[0].takeCard(w)
		models[1].takeCard(s)
	}
	var text strings.Builder
	text.WriteString("version: 1\ndefault_policy: replay\nupstreams:\n  - {id: none, dialect: openai, base_url: \"http://localhost\"}\npolicies:\n  - {id: replay}\nmodels:\n")
	for _, m := range models {
		fmt.Fprintf(&text, "  - {id: %s, tier: %s, context_window: 100000000, max_output_tokens: 10000000, token_ratio: 1, deployments: [{upstream: none, name: x}], price: {input: \"%s/M\", output: \"%s/M\", source: replay, date: \"2024-01-01\"}}\n",
			m.id, m.tier, m.input, m.output)
	}
	built, err := router.ParseConfig([]byte(text.String()), "replay", func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("build the pair: %w", err)
	}
	for _, m := range models {
		if card, ok := built.Catalog.Model(m.id); ok && m.card != nil {
			card.Quality, card.TokenRatio = m.card.Quality, m.card.TokenRatio
		}
	}
	built.Policies, built.DefaultPolicy = map[string]*router.Policy{}, policy
	for id, p := range rules.Policies {
		q := *p
		q.Allow, q.Deny = nil, nil
		built.Policies[id] = &q
	}
	return &pair{rules: built, policy: policy}, nil
}

// pairModel is one of the two models on its way into the catalog.
type pairModel struct {
	id            string
	tier          router.Tier
	input, output router.NanoUSD
	card          *router.Model
}

func (m *pairModel) takeCard(card *router.Model) {
	m.card = card
	if card.Price.Input.Known && card.Price.Output.Known {
		m.input, m.output = card.Price.Input.Nano, card.Price.Output.Nano
	}
}

// decide asks the routing core. alpha below 0 replays the policy.
func (p *pair) decide(scores *classifier.Scores, scored bool, alpha float64) (Choice, error) {
	c, _, err := p.decideGap(scores, scored, alpha)
	return c, err
}

// decideGap also returns the strong model's expected quality less the weak
// one's, as Decide sees them: 1 where the prompt was not scored.
func (p *pair) decideGap(scores *classifier.Scores, scored bool, alpha float64) (Choice, float64, error) {
	d := router.Demand{Scored: scored, Policy: p.policy}
	if scored {
		d.Scores = *scores
	}
	if alpha >= 0 {
		d.Limits.Alpha = router.Some(alpha)
	}
	got, err := p.rules.Decide(d)
	if err != nil {
		return 0, 0, err
	}
	gap := 1.0
	if scored {
		gap = 0
		for _, list := range [][]router.Candidate{got.Ranked, got.Rejected} {
			for i := range list {
				if list[i].Model.ID == strongID {
					gap += list[i].Quality.Value
				} else {
					gap -= list[i].Quality.Value
				}
			}
		}
	}
	if got.Chosen.Model.ID == strongID {
		return ChooseStrong, gap, nil
	}
	return ChooseWeak, gap, nil
}

// alphaSwitch finds the step of the alpha sweep at which the choice changes.
// Each model's utility is linear in alpha, so the choice between two changes at
// most once, and bisection asks Decide seven times in place of 21.
func (p *pair) alphaSwitch(scores *classifier.Scores, scored bool) (first Choice, step uint8, err error) {
	at := func(i int) (Choice, error) { return p.decide(scores, scored, float64(i)/(AlphaSteps-1)) }
	if first, err = at(0); err != nil {
		return 0, 0, err
	}
	last, err := at(AlphaSteps - 1)
	if err != nil {
		return 0, 0, err
	}
	if first == last {
		return first, AlphaSteps, nil
	}
	lo, hi := 0, AlphaSteps-1
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		c, err := at(mid)
		if err != nil {
			return 0, 0, err
		}
		if c == first {
			lo = mid
		} else {
			hi = mid
		}
	}
	return first, uint8(hi), nil
}
