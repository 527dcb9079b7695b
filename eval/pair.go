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
// has cards of both models, their price, quality curve and token ratio count;
// else the prices given and the reference curves. Allow and deny lists are left
// out: both models are always there.
func newPair(rules *router.Rules, policy, weak, strong string, weakPrice, strongPrice float64) (*pair, error) {
	if rules == nil {
		var err error
		if rules, err = router.LoadConfig("", func(string) string { return "" }); err != nil {
			return nil, fmt.Errorf("build the pair: %w", err)
		}
	}
	if policy == "" {
		policy = rules.DefaultPolicy
	}
	if _, ok := rules.Policies[policy]; !ok {
		return nil, fmt.Errorf("build the pair: %w %q", router.ErrUnknownPolicy, policy)
	}
	var text strings.Builder
	text.WriteString("version: 1\ndefault_policy: replay\nupstreams:\n  - {id: none, dialect: openai, base_url: \"http://localhost\"}\npolicies:\n  - {id: replay}\nmodels:\n")
	for _, m := range []struct {
		id, tier string
		price    float64
	}{{weakID, "EFFICIENT", weakPrice}, {strongID, "HIGH_PERFORMANCE", strongPrice}} {
		usd := router.NanoUSD(math.RoundToEven(m.price * 1e9))
		fmt.Fprintf(&text, "  - {id: %s, tier: %s, context_window: 100000000, max_output_tokens: 10000000, token_ratio: 1, deployments: [{upstream: none, name: x}], price: {input: \"%s/M\", output: \"%s/M\", source: replay, date: \"2024-01-01\"}}\n",
			m.id, m.tier, usd, usd)
	}
	built, err := router.ParseConfig([]byte(text.String()), "replay", func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("build the pair: %w", err)
	}
	if w, ok := rules.Catalog.Model(weak); ok {
		if s, ok := rules.Catalog.Model(strong); ok {
			if built, err = withCards(built, w, s); err != nil {
				return nil, err
			}
		}
	}
	built.Policies = map[string]*router.Policy{}
	for id, p := range rules.Policies {
		q := *p
		q.Allow, q.Deny = nil, nil
		built.Policies[id] = &q
	}
	built.DefaultPolicy = policy
	return &pair{rules: built, policy: policy}, nil
}

// withCards checks that real cards make the pair that a replay needs and gives
// their quality curves and ratios to the built ones.
func withCards(built *router.Rules, weak, strong *router.Model) (*router.Rules, error) {
	for id, card := range map[string]*router.Model{weakID: weak, strongID: strong} {
		m, ok := built.Catalog.Model(id)
		if !ok {
			return nil, fmt.Errorf("build the pair: %w %q", router.ErrUnknownModel, id)
		}
		m.Quality, m.TokenRatio = card.Quality, card.TokenRatio
	}
	return built, nil
}

// decide asks the routing core. alpha below 0 replays the policy.
func (p *pair) decide(scores *classifier.Scores, scored bool, alpha float64) (Choice, error) {
	d := router.Demand{Scored: scored, Policy: p.policy}
	if scored {
		d.Scores = *scores
	}
	if alpha >= 0 {
		d.Limits.Alpha = router.Some(alpha)
	}
	got, err := p.rules.Decide(d)
	if err != nil {
		return 0, err
	}
	if got.Chosen.Model.ID == strongID {
		return ChooseStrong, nil
	}
	return ChooseWeak, nil
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
