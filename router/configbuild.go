package router

import (
	"fmt"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/classifier"
)

// builder turns the file into rules and collects every fault on the way.
type builder struct {
	source string
	lines  map[string]int
	faults []*Fault
}

// fault records a problem at a path. A path that the text lacks is blamed on
// the line of its nearest parent.
func (b *builder) fault(path, format string, args ...any) {
	line, at := 0, path
	for at != "" {
		if n, ok := b.lines[at]; ok {
			line = n
			break
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	b.faults = append(b.faults, &Fault{Source: b.source, Line: line, Path: path, Problem: fmt.Sprintf(format, args...)})
}

func (b *builder) check(path string, err error) {
	if err != nil {
		b.fault(path, "%v", err)
	}
}

func (b *builder) build(file *fileConfig, getenv func(string) string) *Rules {
	if file.Version != 1 {
		b.fault("version", "is %d, this program reads version 1: write \"version: 1\"", file.Version)
	}
	rules := &Rules{DefaultPolicy: file.DefaultPolicy, Policies: map[string]*Policy{}, Completion: b.completion("completion", &file.Completion)}
	upstreams := map[string]*Upstream{}
	for i := range file.Upstreams {
		u := b.upstream(fmt.Sprintf("upstreams[%d]", i), &file.Upstreams[i], getenv)
		if _, twice := upstreams[u.ID]; twice {
			b.fault(fmt.Sprintf("upstreams[%d].id", i), "%q is there twice: ids are unique", u.ID)
		}
		upstreams[u.ID] = u
		rules.Upstreams = append(rules.Upstreams, u)
	}
	if len(file.Models) == 0 {
		b.fault("models", "is empty: at least one model is needed")
	}
	models := make([]*Model, 0, len(file.Models))
	seen := map[string]bool{}
	for i := range file.Models {
		m := b.model(fmt.Sprintf("models[%d]", i), &file.Models[i], upstreams)
		if seen[m.ID] {
			b.fault(fmt.Sprintf("models[%d].id", i), "%q is there twice: ids are unique", m.ID)
		}
		seen[m.ID] = true
		models = append(models, m)
	}
	rules.Catalog = newCatalog(models)
	b.fallbacks(rules.Catalog)
	rules.Accounts = b.accounts("accounts", &file.Accounts, rules.Catalog)
	for i := range file.Policies {
		p := b.policy(fmt.Sprintf("policies[%d]", i), &file.Policies[i], rules.Catalog)
		if _, twice := rules.Policies[p.ID]; twice {
			b.fault(fmt.Sprintf("policies[%d].id", i), "%q is there twice: ids are unique", p.ID)
		}
		rules.Policies[p.ID] = p
	}
	rules.callable = callableIDs(rules.Upstreams)
	rules.Sessions = b.sessions("sessions", &file.Sessions)
	rules.Rules = b.rules(file.Rules, rules)
	if _, ok := rules.Policies[file.DefaultPolicy]; !ok {
		b.fault("default_policy", "%q is no policy of this config: use one of %v", file.DefaultPolicy, sortedKeys(rules.Policies))
	}
	return rules
}

func (b *builder) id(path, id string) {
	if id == "" || len(id) > 128 || strings.ContainsAny(id, " \t\n\"'*?[]\x00") {
		b.fault(path, "%q is no id: use 1 to 128 letters, digits and any of - _ . / :", id)
	}
}

func (b *builder) upstream(path string, f *fileUpstream, getenv func(string) string) *Upstream {
	b.id(path+".id", f.ID)
	if !slices.Contains([]string{"openai", "anthropic", "gemini"}, f.Dialect) {
		b.fault(path+".dialect", "%q is unknown: use openai, anthropic or gemini", f.Dialect)
	}
	u, err := url.Parse(f.BaseURL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil {
		b.fault(path+".base_url", "%q is not an http(s) address without user info", redactURL(u))
	}
	if f.KeyEnv != "" && f.KeyFile != "" {
		b.fault(path+".key_file", "stands beside key_env: keep one of the two")
	}
	out := &Upstream{
		ID: f.ID, Dialect: f.Dialect, BaseURL: f.BaseURL, KeyEnv: f.KeyEnv, KeyFile: f.KeyFile, Region: f.Region, Data: DataAllow,
		AllowPrivate: f.AllowPrivate, Proxy: b.proxy(path+".proxy", f.Proxy), Timeouts: b.timeouts(path, &f.Timeouts),
	}
	switch f.DataCollection {
	case "", "allow":
	case "deny":
		out.Data = DataDeny
	default:
		b.fault(path+".data_collection", "%q is unknown: use allow or deny", f.DataCollection)
	}
	switch {
	case f.KeyEnv != "":
		out.Callable = getenv(f.KeyEnv) != ""
	case f.KeyFile != "":
		info, err := os.Stat(f.KeyFile)
		out.Callable = err == nil && info.Mode().IsRegular() && info.Size() > 0
	default:
		out.Callable = true
	}
	return out
}

// proxy reads a proxy's address. One with a password is refused: secrets never
// stand in a config.
func (b *builder) proxy(path, text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		b.fault(path, "%q is no proxy's http(s) address: write scheme, host and port, such as http://proxy.internal:3128, without user info", redactURL(u))
	}
	return text
}

func redactURL(u *url.URL) string {
	if u == nil {
		return "(unreadable)"
	}
	return u.Redacted()
}

func (b *builder) model(path string, f *fileModel, upstreams map[string]*Upstream) *Model {
	b.id(path+".id", f.ID)
	m := &Model{
		ID: f.ID, ContextWindow: f.ContextWindow, MaxOutputTokens: f.MaxOutputTokens, Modalities: f.Modalities,
		TokenRatio: f.TokenRatio, TokensPerSecond: f.TokensPerSecond, Fallbacks: f.Fallbacks,
		Tier: b.tier(path+".tier", f.Tier), Price: b.price(path+".price", &f.Price), TTFT: b.duration(path+".ttft", f.TTFT),
	}
	b.specialist(path, f, m)
	if f.ContextWindow < 1 {
		b.fault(path+".context_window", "is %d, want a positive number of tokens", f.ContextWindow)
	}
	if f.MaxOutputTokens < 1 || f.MaxOutputTokens > f.ContextWindow {
		b.fault(path+".max_output_tokens", "is %d, want 1 to the context window, %d", f.MaxOutputTokens, f.ContextWindow)
	}
	if m.TokenRatio == 0 {
		m.TokenRatio = defaultTokenRatio
	}
	b.within(path+".token_ratio", m.TokenRatio, 0.1, 10)
	b.within(path+".tokens_per_second", m.TokensPerSecond, 0, 1e6)
	for i, s := range f.Modalities {
		if !slices.Contains([]string{"text", "image", "audio", "document"}, s) {
			b.fault(fmt.Sprintf("%s.modalities[%d]", path, i), "%q is unknown: use text, image, audio or document", s)
		}
	}
	for i, s := range f.Capabilities {
		c, err := ParseCapability(s)
		b.check(fmt.Sprintf("%s.capabilities[%d]", path, i), err)
		m.Capabilities |= c
	}
	if len(f.Deployments) == 0 {
		b.fault(path+".deployments", "is empty: name at least one upstream")
	}
	for i, d := range f.Deployments {
		at := fmt.Sprintf("%s.deployments[%d]", path, i)
		u, ok := upstreams[d.Upstream]
		if !ok {
			b.fault(at+".upstream", "%q is no upstream of this config: use one of %v", d.Upstream, sortedKeys(upstreams))
			u = &Upstream{ID: d.Upstream}
		}
		if d.Name == "" {
			b.fault(at+".name", "is empty: write the model's name at the upstream")
		}
		m.Deployments = append(m.Deployments, b.traffic(at, &d, Deployment{Upstream: u, Name: d.Name, Price: b.ownPrice(at+".price", d.Price, &m.Price)}))
	}
	m.Strategy = b.strategy(path+".strategy", f.Strategy)
	m.Quality = b.quality(path+".quality", f.Quality)
	return m
}

// defaultTokenRatio bounds provider tokens a classifier token from above: the
// classifier's WordPiece cuts English prose finer than providers' tokenizers do,
// code about as fine, and other scripts coarser by unknown tokens.
const defaultTokenRatio = 1.25

func (b *builder) specialist(path string, f *fileModel, m *Model) {
	for i, s := range f.Domains {
		d, err := classifier.ParseDomain(s)
		b.check(fmt.Sprintf("%s.domains[%d]", path, i), err)
		m.Domains = append(m.Domains, d)
	}
	if m.Tier != DomainSpecialist {
		if len(f.Domains) > 0 || f.StandsInFor != "" {
			b.fault(path+".tier", "is %s, but domains and stands_in_for belong to DOMAIN_SPECIALIST: remove them or change the tier", f.Tier)
		}
		return
	}
	if len(f.Domains) == 0 {
		b.fault(path+".domains", "is empty: a specialist names its domains")
	}
	m.StandsInFor = b.tier(path+".stands_in_for", f.StandsInFor)
	if m.StandsInFor == DomainSpecialist {
		b.fault(path+".stands_in_for", "is DOMAIN_SPECIALIST: use EFFICIENT or HIGH_PERFORMANCE")
	}
}

func (b *builder) quality(path string, f *fileQuality) *QualityCurve {
	if f == nil {
		return nil
	}
	q := &QualityCurve{Intercept: f.Intercept, Efficient: f.Efficient, High: f.High, HalfWidth: f.HalfWidth, Evidence: f.Evidence}
	b.within(path+".intercept", f.Intercept, -20, 20)
	b.within(path+".efficient", f.Efficient, 0, 20)
	b.within(path+".high", f.High, 0, 20)
	b.within(path+".half_width", f.HalfWidth, 0, 20)
	if f.Evidence == "" {
		b.fault(path+".evidence", "is empty: say from which outcomes the curve was fitted")
	}
	for name, v := range f.Domains {
		d, err := classifier.ParseDomain(name)
		if err != nil {
			b.fault(path+".domains."+name, "%v", err)
			continue
		}
		b.within(path+".domains."+name, v, -20, 20)
		q.Domain[d.Index()] = v
	}
	return q
}

func (b *builder) within(path string, v, low, high float64) {
	if math.IsNaN(v) || v < low || v > high {
		b.fault(path, "is %g, want %g to %g", v, low, high)
	}
}

func (b *builder) tier(path, s string) Tier {
	t, err := ParseTier(s)
	b.check(path, err)
	return t
}

func (b *builder) duration(path, s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		b.fault(path, "%q is no positive duration: write one with its unit, such as 800ms or 1.5s", s)
	}
	return d
}

func (b *builder) price(path string, f *filePrice) Price {
	p := Price{Source: f.Source, Date: f.Date}
	for _, x := range [...]struct {
		key, text, unit string
		to              *Rate
	}{
		{"input", f.Input, "/M", &p.Input},
		{"cached_input", f.CachedInput, "/M", &p.CachedInput},
		{"cache_write", f.CacheWrite, "/M", &p.CacheWrite},
		{"output", f.Output, "/M", &p.Output},
		{"reasoning", f.Reasoning, "/M", &p.Reasoning},
		{"per_request", f.PerRequest, "", &p.PerRequest},
	} {
		if x.text != "" {
			*x.to = RateOf(b.amount(path+"."+x.key, x.text, x.unit))
		}
	}
	if p.Input.Known != p.Output.Known {
		b.fault(path, "knows only one of input and output: give both, or neither while the price is unknown")
	}
	if p.Input.Known && (f.Source == "" || f.Date == "") {
		b.fault(path+".source", "source and date are needed: say where and when the price was read")
	}
	if _, err := time.Parse(time.DateOnly, f.Date); f.Date != "" && err != nil {
		b.fault(path+".date", "%q is no day: write YYYY-MM-DD", f.Date)
	}
	return p
}

// ownPrice reads a deployment's price and holds it under the model's, kind by
// kind: the model's bounds every call, whichever deployment serves it.
func (b *builder) ownPrice(path string, f *filePrice, card *Price) *Price {
	if f == nil {
		return nil
	}
	p := b.price(path, f)
	if !p.Input.Known {
		b.fault(path, "has no figures: give input and output, or leave it out where the model's price holds")
		return nil
	}
	if !card.Input.Known {
		b.fault(path, "is known, but the model's is not: give the model the dearest of its deployments' prices")
		return &p
	}
	of := func(p *Price) [6]Rate {
		return [6]Rate{p.Input, p.CachedInput.or(p.Input), p.CacheWrite.or(p.Input), p.Output, p.Reasoning.or(p.Output), p.PerRequest}
	}
	own, most := of(&p), of(card)
	for i, key := range [...]string{"input", "cached_input", "cache_write", "output", "reasoning", "per_request"} {
		if own[i].Nano > most[i].Nano {
			b.fault(path+"."+key, "costs %s, more than the model's %s: raise the model's price, which bounds every deployment", own[i].Nano, most[i].Nano)
		}
	}
	return &p
}

// amount reads "$2.50/M" (for a million tokens) or "$2.50", by the unit wanted.
func (b *builder) amount(path, s, unit string) NanoUSD {
	digits, ok := strings.CutSuffix(s, unit)
	n, err := ParseUSD(digits)
	switch {
	case !ok:
		b.fault(path, "%q has the wrong unit: write dollars for a million tokens, such as \"$2.50/M\"", s)
	case err != nil && unit != "":
		b.fault(path, "%v, and \"/M\" for a million tokens", err)
	case err != nil:
		b.fault(path, "%v", err)
	}
	return n
}

// fallbacks checks that every fallback is a model of the catalog and that they
// do not go in a circle.
func (b *builder) fallbacks(c *Catalog) {
	for i, m := range c.models {
		for j, id := range m.Fallbacks {
			if _, ok := c.byID[id]; !ok {
				b.fault(fmt.Sprintf("models[%d].fallbacks[%d]", i, j), "%q is no model of this config", id)
			}
		}
	}
	state := map[string]int{} // 1: on the way, 2: done
	var visit func(i int, m *Model, trail []string)
	visit = func(i int, m *Model, trail []string) {
		trail = append(trail, m.ID)
		if state[m.ID] == 1 {
			b.fault(fmt.Sprintf("models[%d].fallbacks", i), "go in a circle: %s", strings.Join(trail[slices.Index(trail, m.ID):], " -> "))
		}
		if state[m.ID] != 0 {
			return
		}
		state[m.ID] = 1
		for _, id := range m.Fallbacks {
			if next, ok := c.byID[id]; ok {
				visit(i, next, trail)
			}
		}
		state[m.ID] = 2
	}
	for i, m := range c.models {
		visit(i, m, nil)
	}
}

func (b *builder) policy(path string, f *filePolicy, c *Catalog) *Policy {
	b.id(path+".id", f.ID)
	p := &Policy{ID: f.ID, Description: f.Description, UnscoredTier: HighPerformance, Allow: f.AllowModels, Deny: f.DenyModels, Promise: f.Promise}
	l := &p.Limits
	b.share(path+".min_quality", f.MinQuality, &l.MinQuality)
	b.share(path+".max_quality_gap", f.MaxQualityGap, &l.MaxQualityGap)
	b.share(path+".alpha", f.Alpha, &l.Alpha)
	if f.Alpha != nil && (f.MinQuality != nil || f.MaxQualityGap != nil) {
		b.fault(path+".alpha", "stands beside a quality limit: keep the one dial or the limits")
	}
	if f.MaxCost != "" {
		l.MaxCost = Some(b.amount(path+".max_cost", f.MaxCost, ""))
	}
	if f.MaxOutputPrice != "" {
		l.MaxOutputPrice = Some(b.amount(path+".max_price_per_million_output_tokens", f.MaxOutputPrice, "/M"))
	}
	if f.MaxTTFT != "" {
		l.MaxTTFT = Some(b.duration(path+".max_ttft", f.MaxTTFT))
	}
	if f.AllowDowngrade != nil {
		l.AllowDowngrade = Some(*f.AllowDowngrade)
	}
	b.policyTiers(path, f, p)
	b.share(path+".specialist_min_confidence", f.SpecialistMinConfidence, &l.SpecialistConfidence)
	b.share(path+".specialist_min_margin", f.SpecialistMinMargin, &l.SpecialistMargin)
	p.Guarantee = b.guarantee(path+".guarantee", f.Guarantee, p, c)
	for key, globs := range map[string][]string{"allow_models": f.AllowModels, "deny_models": f.DenyModels} {
		for i, g := range globs {
			at := fmt.Sprintf("%s.%s[%d]", path, key, i)
			b.check(at, CheckGlob(g))
			if !slices.ContainsFunc(c.models, func(m *Model) bool { return matchAny([]string{g}, m.ID) }) {
				b.fault(at, "%q matches no model of this config", g)
			}
		}
	}
	p.settleLists(c)
	return p
}

func (b *builder) policyTiers(path string, f *filePolicy, p *Policy) {
	for _, x := range [...]struct {
		key, text string
		to        *Opt[Tier]
	}{{"min_tier", f.MinTier, &p.Limits.MinTier}, {"max_tier", f.MaxTier, &p.Limits.MaxTier}} {
		if x.text == "" {
			continue
		}
		*x.to = Some(b.tier(path+"."+x.key, x.text))
		if x.to.Value == DomainSpecialist {
			b.fault(path+"."+x.key, "is DOMAIN_SPECIALIST: a floor or ceiling is EFFICIENT or HIGH_PERFORMANCE")
		}
	}
	if l := p.Limits; l.MinTier.Set && l.MaxTier.Set && l.MinTier.Value > l.MaxTier.Value {
		b.fault(path+".min_tier", "is above max_tier: no model could answer")
	}
	if f.UnscoredTier != "" {
		p.UnscoredTier = b.tier(path+".unscored_tier", f.UnscoredTier)
		if p.UnscoredTier == DomainSpecialist {
			b.fault(path+".unscored_tier", "is DOMAIN_SPECIALIST: without a score the domain is unknown")
		}
	}
}

func (b *builder) share(path string, v *float64, to *Opt[float64]) {
	if v != nil {
		b.within(path, *v, 0, 1)
		*to = Some(*v)
	}
}
