package router

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/weirhq/weir/classifier"
)

type fileRule struct {
	ID   string   `yaml:"id"`
	When fileWhen `yaml:"when"`
	Then fileThen `yaml:"then"`
}

type fileWhen struct {
	Text        string            `yaml:"text"`
	Metadata    map[string]string `yaml:"metadata"`
	Tenant      string            `yaml:"tenant"`
	Intent      []string          `yaml:"intent"`
	Language    []string          `yaml:"language"`
	Requires    []string          `yaml:"requires"`
	OverBytes   *int64            `yaml:"over_bytes"`
	UnderBytes  *int64            `yaml:"under_bytes"`
	OverTokens  *int64            `yaml:"over_tokens"`
	UnderTokens *int64            `yaml:"under_tokens"`
	HasTools    *bool             `yaml:"has_tools"`
	HasMedia    *bool             `yaml:"has_media"`
}

type fileThen struct {
	Models      []string `yaml:"models"`
	Tier        string   `yaml:"tier"`
	Policy      string   `yaml:"policy"`
	MinTier     string   `yaml:"min_tier"`
	MaxTier     string   `yaml:"max_tier"`
	DenyModels  []string `yaml:"deny_models"`
	SkipScoring bool     `yaml:"skip_scoring"`
}

type fileSessions struct {
	TTL      string `yaml:"ttl"`
	CacheTTL string `yaml:"cache_ttl"`
	Turns    *int   `yaml:"turns"`
}

type fileGuarantee struct {
	CalibrationID string                `yaml:"calibration_id"`
	Epsilon       float64               `yaml:"epsilon"`
	Alpha         float64               `yaml:"alpha"`
	Delta         float64               `yaml:"delta"`
	MaxQualityGap *float64              `yaml:"max_quality_gap"`
	Samples       int                   `yaml:"samples"`
	Domains       []fileGuaranteeDomain `yaml:"domains"`
	BundleDigest  string                `yaml:"bundle_digest"`
	Models        []string              `yaml:"models"`
}

type fileGuaranteeDomain struct {
	Domain        string  `yaml:"domain"`
	MaxQualityGap float64 `yaml:"max_quality_gap"`
	Samples       int     `yaml:"samples"`
}

func (b *builder) sessions(path string, f *fileSessions) SessionPolicy {
	s := defaultSessions()
	for _, x := range [...]struct {
		key, text string
		to        *time.Duration
	}{{"ttl", f.TTL, &s.TTL}, {"cache_ttl", f.CacheTTL, &s.CacheTTL}} {
		if x.text != "" {
			*x.to = b.duration(path+"."+x.key, x.text)
		}
	}
	if f.Turns != nil {
		s.Turns = *f.Turns
		b.within(path+".turns", float64(s.Turns), 0, maxTurns)
	}
	return s
}

// rules reads the rules and reports those that can never match: conditions that
// contradict themselves, and rules that an earlier one always beats.
func (b *builder) rules(files []fileRule, r *Rules) []*Rule {
	out := make([]*Rule, 0, len(files))
	for i := range files {
		at := fmt.Sprintf("rules[%d]", i)
		f := &files[i]
		b.id(at+".id", f.ID)
		rule := &Rule{ID: f.ID, When: b.when(at+".when", &f.When), Then: b.then(at+".then", &f.Then, r)}
		rule.deny = newGlobSet(rule.Then.Deny, r.Catalog)
		for j, earlier := range out {
			if earlier.ID == f.ID {
				b.fault(at+".id", "%q is there twice: ids are unique", f.ID)
			}
			if files[j].When.covers(&f.When) {
				b.fault(at+".when", "can never decide: whatever matches it matches rule %q before it, which counts first; move this rule up or narrow that one", earlier.ID)
				break
			}
		}
		out = append(out, rule)
	}
	return out
}

// covers tells whether whatever matches w surely matches f: each condition of f
// is there in w too. It does not find every case, and no false one.
func (f *fileWhen) covers(w *fileWhen) bool {
	for key, v := range f.Metadata {
		if other, ok := w.Metadata[key]; !ok || (other != v && v != "*") {
			return false
		}
	}
	low := func(f, w *int64) bool { return f == nil || (w != nil && *w >= *f) }
	high := func(f, w *int64) bool { return f == nil || (w != nil && *w <= *f) }
	set := func(f, w []string) bool {
		return len(f) == 0 || (len(w) > 0 && !slices.ContainsFunc(w, func(s string) bool { return !slices.Contains(f, s) }))
	}
	for _, s := range f.Requires {
		if !slices.Contains(w.Requires, s) {
			return false
		}
	}
	return (f.Text == "" || f.Text == w.Text) && (f.Tenant == "" || f.Tenant == w.Tenant || (f.Tenant == "*" && w.Tenant != "")) &&
		set(f.Intent, w.Intent) && set(f.Language, w.Language) &&
		low(f.OverBytes, w.OverBytes) && high(f.UnderBytes, w.UnderBytes) && low(f.OverTokens, w.OverTokens) && high(f.UnderTokens, w.UnderTokens) &&
		(f.HasTools == nil || reflect.DeepEqual(f.HasTools, w.HasTools)) && (f.HasMedia == nil || reflect.DeepEqual(f.HasMedia, w.HasMedia))
}

// maxRuleText bounds a rule's expression, and with it the work of a match.
const maxRuleText = 1000

func (b *builder) when(path string, f *fileWhen) RuleConditions {
	w := RuleConditions{
		Metadata: f.Metadata, Tenant: f.Tenant, Intent: f.Intent, Language: f.Language,
		OverBytes: someOf(f.OverBytes), UnderBytes: someOf(f.UnderBytes), OverTokens: someOf(f.OverTokens), UnderTokens: someOf(f.UnderTokens),
		HasTools: someOf(f.HasTools), HasMedia: someOf(f.HasMedia),
	}
	if f.Text != "" {
		re, err := regexp.Compile(f.Text)
		switch {
		case len(f.Text) > maxRuleText:
			b.fault(path+".text", "has %d bytes: use at most %d, or several rules", len(f.Text), maxRuleText)
		case err != nil:
			b.fault(path+".text", "is no regular expression: %v; write RE2 syntax, which has no look-around and no back references", err)
		default:
			w.Text = re
		}
	}
	for key, glob := range f.Metadata {
		b.check(path+".metadata."+key, CheckGlob(glob))
		if glob == "" {
			b.fault(path+".metadata."+key, `is empty, which never matches: write "*" for any value`)
		}
	}
	b.check(path+".tenant", CheckGlob(f.Tenant))
	for i, s := range f.Intent {
		if s == "" {
			b.fault(fmt.Sprintf("%s.intent[%d]", path, i), "is empty: name the intent")
		}
	}
	for i, s := range f.Language {
		if !slices.Contains(Languages(), s) {
			b.fault(fmt.Sprintf("%s.language[%d]", path, i), "%q is never found: use some of %v", s, Languages())
		}
	}
	for i, s := range f.Requires {
		c, err := ParseCapability(s)
		b.check(fmt.Sprintf("%s.requires[%d]", path, i), err)
		w.Requires |= c
	}
	if f.HasTools != nil && !*f.HasTools && w.Requires&Tools != 0 {
		b.fault(path+".has_tools", "is false, but requires has tools: this never matches")
	}
	b.bounds(path, "bytes", w.OverBytes, w.UnderBytes)
	b.bounds(path, "tokens", w.OverTokens, w.UnderTokens)
	return w
}

// bounds reports bounds between which nothing lies: both ends are left out.
func (b *builder) bounds(path, unit string, over, under Opt[int64]) {
	low := int64(-1)
	if over.Set {
		if low = over.Value; low < 0 {
			b.fault(path+".over_"+unit, "is %d, want 0 or more", low)
		}
	}
	if under.Set && under.Value <= low+1 {
		b.fault(path+".under_"+unit, "is %d, and nothing is above %d and under it: this never matches", under.Value, low)
	}
}

func someOf[T any](v *T) Opt[T] {
	if v == nil {
		return Opt[T]{}
	}
	return Some(*v)
}

func (b *builder) then(path string, f *fileThen, r *Rules) RuleAction {
	a := RuleAction{Models: f.Models, Policy: f.Policy, Deny: f.DenyModels, SkipScoring: f.SkipScoring}
	for i, id := range f.Models {
		if _, ok := r.Catalog.Model(id); !ok {
			b.fault(fmt.Sprintf("%s.models[%d]", path, i), "%q is no model of this config", id)
		}
	}
	if f.Tier != "" {
		a.Tier = b.tier(path+".tier", f.Tier)
		if len(f.Models) > 0 {
			b.fault(path+".tier", "stands beside models: keep one of the two")
		}
	}
	if _, ok := r.Policies[f.Policy]; f.Policy != "" && !ok {
		b.fault(path+".policy", "%q is no policy of this config: use one of %v", f.Policy, sortedKeys(r.Policies))
	}
	b.bound(path+".min_tier", f.MinTier, &a.MinTier)
	b.bound(path+".max_tier", f.MaxTier, &a.MaxTier)
	if a.MinTier.Set && a.MaxTier.Set && a.MinTier.Value > a.MaxTier.Value {
		b.fault(path+".min_tier", "is above max_tier: no model could answer")
	}
	b.globs(path+".deny_models", f.DenyModels, r.Catalog)
	named := len(f.Models) > 0 || f.Tier != ""
	if f.SkipScoring && !named {
		b.fault(path+".skip_scoring", "stands alone: name models or a tier that answers without a score")
	}
	if !named && f.Policy == "" && f.MinTier == "" && f.MaxTier == "" && len(f.DenyModels) == 0 {
		b.fault(path, "does nothing: give models, tier, policy, min_tier, max_tier or deny_models")
	}
	return a
}

// bound reads a tier that bounds, where one is given.
func (b *builder) bound(path, text string, to *Opt[Tier]) {
	if text == "" {
		return
	}
	*to = Some(b.tier(path, text))
	if to.Value == DomainSpecialist {
		b.fault(path, "is DOMAIN_SPECIALIST: a floor or ceiling is EFFICIENT or HIGH_PERFORMANCE")
	}
}

func (b *builder) globs(path string, globs []string, c *Catalog) {
	for i, g := range globs {
		at := fmt.Sprintf("%s[%d]", path, i)
		b.check(at, CheckGlob(g))
		if !slices.ContainsFunc(c.models, func(m *Model) bool { return matchAny([]string{g}, m.ID) }) {
			b.fault(at, "%q matches no model of this config", g)
		}
	}
}

func (b *builder) guarantee(path string, f *fileGuarantee, p *Policy, c *Catalog) *Guarantee {
	if f == nil {
		return nil
	}
	g := &Guarantee{
		CalibrationID: f.CalibrationID, Epsilon: f.Epsilon, Alpha: f.Alpha, Delta: f.Delta,
		BundleDigest: f.BundleDigest, Models: f.Models,
	}
	b.id(path+".calibration_id", f.CalibrationID)
	b.within(path+".epsilon", f.Epsilon, 0, 1)
	b.within(path+".alpha", f.Alpha, 0, 1)
	b.within(path+".delta", f.Delta, 0, 1)
	b.share(path+".max_quality_gap", f.MaxQualityGap, &g.MaxQualityGap)
	if f.BundleDigest == "" {
		b.fault(path+".bundle_digest", "is empty: name the bundle whose scores were calibrated; weir calibrate policy writes it")
	}
	if len(f.Models) == 0 {
		b.fault(path+".models", "is empty: name the models whose outcomes were measured")
	}
	for i, id := range f.Models {
		if _, ok := c.Model(id); !ok {
			b.fault(fmt.Sprintf("%s.models[%d]", path, i), "%q is no model of this config", id)
		}
	}
	for i := range f.Domains {
		at, d := fmt.Sprintf("%s.domains[%d]", path, i), &f.Domains[i]
		domain, err := classifier.ParseDomain(d.Domain)
		if err != nil {
			b.fault(at+".domain", "%v", err)
			continue
		}
		b.within(at+".max_quality_gap", d.MaxQualityGap, 0, 1)
		g.Domains[domain.Index()] = Some(d.MaxQualityGap)
	}
	if f.MaxQualityGap == nil && len(f.Domains) == 0 {
		b.fault(path+".max_quality_gap", "is missing, and no domain has one: nothing is promised")
	}
	if l := p.Limits; l.MaxQualityGap.Set || l.MinQuality.Set || l.Alpha.Set {
		b.fault(path, "stands beside a quality limit of the policy: the guarantee's own gap decides, remove the limit")
	}
	return g
}
