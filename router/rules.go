package router

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/weirhq/weir/classifier"
)

// Rule is a deterministic rule of the config, looked at before anything is
// scored. Rules are tried in the config's order and the first that matches
// counts; the others are not looked at.
type Rule struct {
	ID   string
	When RuleConditions
	Then RuleAction

	deny globSet
}

// RuleConditions must all hold. A zero condition always does.
type RuleConditions struct {
	// Text must match the last ask, as StripHarness leaves it; of a long one the
	// first and the last eight KiB are looked at.
	Text *regexp.Regexp
	// Metadata maps keys to globs of their values.
	Metadata map[string]string
	// Tenant is a glob of the metadata key tenant.
	Tenant string
	// Intent holds the intents that the request may state.
	Intent []string
	// Language holds ISO 639-1 codes, as Language finds them in the last ask.
	Language []string
	// Requires are capabilities that the request needs, all of them.
	Requires Capabilities
	// OverBytes and UnderBytes bound the last ask, OverTokens and UnderTokens the
	// whole input, estimated from above. Both ends are left out.
	OverBytes, UnderBytes, OverTokens, UnderTokens Opt[int64]
	HasTools, HasMedia                             Opt[bool]
}

// RuleAction is what a rule does. The request's own wish beats it, it beats the
// policy's. It never lifts a limit, a denial, a capability or a data policy.
type RuleAction struct {
	// Models are tried in this order, or a model of the tier is taken; both are
	// left aside where the request names a model or a tier itself.
	Models []string
	Tier   Tier
	// Policy decides where the request names none.
	Policy           string
	MinTier, MaxTier Opt[Tier]
	// Deny holds globs of models, beside the request's and the policy's.
	Deny []string
	// SkipScoring answers by Models or Tier without a score.
	SkipScoring bool
}

// ruleTextBytes is how much of an ask a rule's expression sees at each end.
const ruleTextBytes = 8 << 10

// asked is what rules look at of a request. Nothing of it leaves the server.
type asked struct {
	text     string
	tokens   int64
	request  *Request
	language string
	spoken   bool
}

// match returns the first rule that matches, or nil.
func (r *Rules) match(a *asked) *Rule {
	for _, rule := range r.Rules {
		if rule.When.hold(a) {
			return rule
		}
	}
	return nil
}

// rule returns the rule of that id, or nil.
func (r *Rules) rule(id string) *Rule {
	i := slices.IndexFunc(r.Rules, func(x *Rule) bool { return x.ID == id })
	if id == "" || i < 0 {
		return nil
	}
	return r.Rules[i]
}

func (w *RuleConditions) hold(a *asked) bool {
	req := a.request
	size := int64(len(a.text))
	switch {
	case w.Requires&^req.Demand.Required != 0,
		w.OverBytes.Set && size <= w.OverBytes.Value, w.UnderBytes.Set && size >= w.UnderBytes.Value,
		w.OverTokens.Set && a.tokens <= w.OverTokens.Value, w.UnderTokens.Set && a.tokens >= w.UnderTokens.Value,
		w.HasTools.Set && w.HasTools.Value != (req.Demand.Required&Tools != 0),
		w.HasMedia.Set && w.HasMedia.Value != (req.MediaParts > 0),
		len(w.Intent) > 0 && !slices.Contains(w.Intent, req.Intent),
		w.Tenant != "" && !globMatches(w.Tenant, req.Metadata["tenant"]):
		return false
	}
	for key, glob := range w.Metadata {
		if v, ok := req.Metadata[key]; !ok || !globMatches(glob, v) {
			return false
		}
	}
	if len(w.Language) > 0 && !slices.Contains(w.Language, a.spokenLanguage()) {
		return false
	}
	if w.Text == nil {
		return true
	}
	head, tail, cut := classifier.CutWindow(a.text, ruleTextBytes, ruleTextBytes)
	return w.Text.MatchString(head) || (cut && w.Text.MatchString(tail))
}

func (a *asked) spokenLanguage() string {
	if !a.spoken {
		a.language, a.spoken = Language(a.text), true
	}
	return a.language
}

// globMatches tells whether a glob matches a value; * also matches slashes.
func globMatches(glob, value string) bool {
	if glob == value {
		return value != ""
	}
	ok, err := path.Match(strings.ReplaceAll(glob, "/", "\x01"), strings.ReplaceAll(value, "/", "\x01"))
	return err == nil && ok && value != ""
}

// globSet holds the verdict of globs on every model of one catalog, so that a
// decision matches no text.
type globSet struct {
	of    *Catalog
	match []bool
}

func newGlobSet(globs []string, c *Catalog) globSet {
	g := globSet{of: c, match: make([]bool, len(c.models))}
	for i, m := range c.models {
		g.match[i] = matchAny(globs, m.ID)
	}
	return g
}

// has tells whether one of the globs, which the set was made of, matches.
func (g *globSet) has(globs []string, c *Catalog, m *Model) bool {
	switch {
	case len(globs) == 0:
		return false
	case g.of == c:
		return g.match[m.place]
	default:
		return matchAny(globs, m.ID)
	}
}
