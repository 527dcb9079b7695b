package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirhq/weir/router"
)

// Change is one difference between two catalogs. Before or After is empty where
// the thing is on one side only.
type Change struct {
	// Model is the model's id, or an upstream's behind "upstream ".
	Model string `json:"model"`
	// What is the config's key, such as price.input, or "model" or "upstream".
	What   string `json:"what"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Difference is what Compare and CompareWith found.
type Difference struct {
	Changes []Change `json:"changes"`
	// Compared counts models on both sides, or deployments that a public catalog
	// has.
	Compared int `json:"compared"`
	// Unknown names the deployments that a public catalog does not have.
	Unknown []string `json:"unknown,omitempty"`
}

// Compare lists what changed from one config's catalog to another's: models and
// upstreams that came and went, prices, limits, tiers, capabilities, deployments.
// Models come in the order of the first config, then the new ones.
func Compare(before, after *router.Rules) Difference {
	var d Difference
	d.upstreams(before, after)
	for _, m := range before.Catalog.Models() {
		n, ok := after.Catalog.Model(m.ID)
		if !ok {
			d.add(m.ID, "model", summary(m), "")
			continue
		}
		d.Compared++
		d.model(m, n)
	}
	for _, n := range after.Catalog.Models() {
		if _, ok := before.Catalog.Model(n.ID); !ok {
			d.add(n.ID, "model", "", summary(n))
		}
	}
	return d
}

func (d *Difference) add(model, what, before, after string) {
	if before != after {
		d.Changes = append(d.Changes, Change{Model: model, What: what, Before: before, After: after})
	}
}

func (d *Difference) upstreams(before, after *router.Rules) {
	find := func(r *router.Rules, id string) string {
		for _, u := range r.Upstreams {
			if u.ID == id {
				return u.Dialect + " " + u.BaseURL
			}
		}
		return ""
	}
	for _, u := range before.Upstreams {
		d.add("upstream "+u.ID, "upstream", find(before, u.ID), find(after, u.ID))
	}
	for _, u := range after.Upstreams {
		if find(before, u.ID) == "" {
			d.add("upstream "+u.ID, "upstream", "", find(after, u.ID))
		}
	}
}

func (d *Difference) model(m, n *router.Model) {
	d.add(m.ID, "tier", tierOf(m), tierOf(n))
	d.add(m.ID, "domains", fmt.Sprint(m.Domains), fmt.Sprint(n.Domains))
	d.add(m.ID, "context_window", fmt.Sprint(m.ContextWindow), fmt.Sprint(n.ContextWindow))
	d.add(m.ID, "max_output_tokens", fmt.Sprint(m.MaxOutputTokens), fmt.Sprint(n.MaxOutputTokens))
	d.add(m.ID, "modalities", strings.Join(m.Modalities, " "), strings.Join(n.Modalities, " "))
	d.add(m.ID, "capabilities", strings.Join(m.Capabilities.Names(), " "), strings.Join(n.Capabilities.Names(), " "))
	d.price(m.ID, "price", &m.Price, &n.Price)
	d.add(m.ID, "token_ratio", fmt.Sprint(m.TokenRatio), fmt.Sprint(n.TokenRatio))
	d.add(m.ID, "quality", evidence(m), evidence(n))
	d.add(m.ID, "fallbacks", strings.Join(m.Fallbacks, " "), strings.Join(n.Fallbacks, " "))
	d.add(m.ID, "deployments", deployments(m), deployments(n))
	for _, dep := range m.Deployments {
		if i := slices.IndexFunc(n.Deployments, func(o router.Deployment) bool { return o.Upstream.ID == dep.Upstream.ID && o.Name == dep.Name }); i >= 0 {
			// What follows the model's own price was said above.
			if dep.Price != nil || n.Deployments[i].Price != nil {
				p, q := m.PriceAt(dep), n.PriceAt(n.Deployments[i])
				d.price(m.ID, "price at "+dep.Upstream.ID, &p, &q)
			}
		}
	}
}

// price compares what is billed, kind by kind: a kind without a price of its own
// is billed as another, and does not differ from one that states the same.
func (d *Difference) price(model, what string, p, q *router.Price) {
	before, after := kinds(p), kinds(q)
	for i := range before {
		a, b := before[i], after[i]
		if billed(p, i) == billed(q, i) {
			continue
		}
		d.add(model, what+"."+a.Key, rateText(a.Rate, a.Unit), rateText(b.Rate, b.Unit))
	}
}

// billed is the rate of the i-th kind with what stands in for an unknown one.
func billed(p *router.Price, i int) router.Rate {
	k := kinds(p)
	if k[i].Rate.Known {
		return k[i].Rate
	}
	switch k[i].Key {
	case "cached_input", "cache_write":
		return p.Input
	case "reasoning":
		return p.Output
	case "per_request":
		return router.RateOf(0)
	default:
		return k[i].Rate
	}
}

func rateText(r router.Rate, unit string) string {
	if !r.Known {
		return "not stated"
	}
	return r.Nano.String() + unit
}

func tierOf(m *router.Model) string {
	if m.Tier == router.DomainSpecialist {
		return m.Tier.String() + " for " + m.StandsInFor.String()
	}
	return m.Tier.String()
}

func evidence(m *router.Model) string {
	if m.Quality == nil {
		return "unmeasured"
	}
	return m.Quality.Evidence
}

func deployments(m *router.Model) string {
	names := make([]string, len(m.Deployments))
	for i, d := range m.Deployments {
		names[i] = d.Upstream.ID + ":" + d.Name
	}
	return strings.Join(names, " ")
}

func summary(m *router.Model) string {
	return fmt.Sprintf("%s, %s in, %s out", tierOf(m), rateText(m.Price.Input, "/M"), rateText(m.Price.Output, "/M"))
}

// CompareWith lists the prices of a config that a public catalog states
// otherwise, and the limits where the config promises more than it. A
// deployment is looked up by its upstream's address and its name there; with
// OpenRouter's catalog those of openrouter.ai. A window below the catalog's is
// no difference: a config keeps to the part that one price holds for.
func CompareWith(config *router.Rules, public *File) Difference {
	index := map[string]*Entry{}
	for i := range public.Entries {
		e := &public.Entries[i]
		// Write keeps the first of two entries that name the same thing, and so does this.
		if key := e.Provider + "\x00" + e.Name; index[key] == nil {
			index[key] = e
		}
	}
	var d Difference
	for _, m := range config.Catalog.Models() {
		for _, dep := range m.Deployments {
			e, ok := index[providerOf(dep.Upstream)+"\x00"+dep.Name]
			if !ok {
				d.Unknown = append(d.Unknown, m.ID+" at "+dep.Upstream.ID)
				continue
			}
			d.Compared++
			at := m.ID + " at " + dep.Upstream.ID
			own := m.PriceAt(dep)
			d.price(at, "price", &own, &e.Price)
			if e.Window > 0 && m.ContextWindow > e.Window {
				d.add(at, "context_window", fmt.Sprint(m.ContextWindow), fmt.Sprint(e.Window))
			}
			if e.MaxOutput > 0 && m.MaxOutputTokens > e.MaxOutput {
				d.add(at, "max_output_tokens", fmt.Sprint(m.MaxOutputTokens), fmt.Sprint(e.MaxOutput))
			}
			if more := m.Capabilities &^ e.Capabilities; more != 0 {
				d.add(at, "capabilities", strings.Join(more.Names(), " "), "not stated")
			}
		}
	}
	return d
}
