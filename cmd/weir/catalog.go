package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

func catalogCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "Look at the models of a config, compare prices, import models",
		Long: `Catalog works on the models of a routing config. It calls nobody: public catalogs are files that you fetched (docs/catalog.md).

  weir catalog list --tier high-performance
  weir catalog diff default model_prices_and_context_window.json
  weir catalog import --from litellm --match 'gpt-6*' model_prices_and_context_window.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(catalogListCommand(w), catalogDiffCommand(w), catalogImportCommand(w))
	return cmd
}

type catalogListFlags struct {
	config, tier, domain, provider string
	asJSON                         bool
}

func catalogListCommand(w world) *cobra.Command {
	f := &catalogListFlags{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the models with what they cost and can do",
		Long: `List prints the models of a config: prices in dollars for a million tokens of input and output, at the dearest deployment; the
context window; the providers in their order, one in brackets without its key here. Models without measured quality stand on their
tier's reference curve: the list says how many.

  weir catalog list --tier efficient --provider groq
  weir catalog list --domain coding --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return f.run(w) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "routing config (default: $WEIR_CONFIG, else the embedded one)")
	flags.StringVar(&f.tier, "tier", "", "only this tier: efficient, high-performance or domain-specialist")
	flags.StringVar(&f.domain, "domain", "", "only specialists of this domain")
	flags.StringVar(&f.provider, "provider", "", "only models that this upstream serves")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON, with every price and its source")
	return cmd
}

func (f *catalogListFlags) run(w world) error {
	if f.config == "" {
		f.config = w.getenv("WEIR_CONFIG")
	}
	rules, err := router.LoadConfig(f.config, w.getenv)
	if err != nil {
		return err
	}
	models, err := f.selected(rules)
	if err != nil {
		return err
	}
	if f.asJSON {
		return printModelsJSON(w.stdout, models)
	}
	return printModels(w.stdout, models)
}

func (f *catalogListFlags) selected(rules *router.Rules) ([]*router.Model, error) {
	var tier router.Tier
	var domain classifier.Domain
	var err error
	if f.tier != "" {
		if tier, err = tierNamed(f.tier); err != nil {
			return nil, usageError("--tier: %w", err)
		}
	}
	if f.domain != "" {
		if domain, err = classifier.ParseDomain(f.domain); err != nil {
			return nil, usageError("--domain: %w", err)
		}
	}
	if f.provider != "" && !slices.ContainsFunc(rules.Upstreams, func(u *router.Upstream) bool { return u.ID == f.provider }) {
		ids := make([]string, len(rules.Upstreams))
		for i, u := range rules.Upstreams {
			ids[i] = u.ID
		}
		return nil, usageError("--provider: %q is no upstream of this config: use one of %s", f.provider, strings.Join(ids, ", "))
	}
	var out []*router.Model
	for _, m := range rules.Catalog.Models() {
		if (f.tier == "" || m.Tier == tier) && (f.domain == "" || slices.Contains(m.Domains, domain)) &&
			(f.provider == "" || slices.ContainsFunc(m.Deployments, func(d router.Deployment) bool { return d.Upstream.ID == f.provider })) {
			out = append(out, m)
		}
	}
	return out, nil
}

// tierNamed reads a tier as flags spell it, or as configs do.
func tierNamed(s string) (router.Tier, error) {
	return router.ParseTier(strings.ToUpper(strings.ReplaceAll(s, "-", "_")))
}

func printModels(out io.Writer, models []*router.Model) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "model\ttier\tin $/M\tout $/M\twindow\tproviders")
	unmeasured := 0
	for _, m := range models {
		if m.Quality == nil {
			unmeasured++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", m.ID, shortTier(m), dollars(m.Price.Input), dollars(m.Price.Output), thousands(m.ContextWindow), providersOf(m))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d models, %d of unmeasured quality\n", len(models), unmeasured)
	return err
}

// shortTier is a tier in a table: a specialist's with what it stands in for.
func shortTier(m *router.Model) string {
	short := map[router.Tier]string{router.Efficient: "efficient", router.HighPerformance: "high"}
	if m.Tier != router.DomainSpecialist {
		return short[m.Tier]
	}
	names := make([]string, len(m.Domains))
	for i, d := range m.Domains {
		names[i] = d.String()
	}
	return short[m.StandsInFor] + ", " + strings.Join(names, " ")
}

func dollars(r router.Rate) string {
	if !r.Known {
		return "unknown"
	}
	return strings.TrimPrefix(r.Nano.String(), "$")
}

func thousands(n int64) string {
	if n < 10_000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%dk", n/1000)
}

// providersOf names the first upstream and counts the others; brackets mark one
// without its key.
func providersOf(m *router.Model) string {
	first := m.Deployments[0].Upstream
	s := first.ID
	if !first.Callable {
		s = "(" + s + ")"
	}
	if n := len(m.Deployments) - 1; n > 0 {
		s += fmt.Sprintf(" +%d", n)
	}
	return s
}

// listedModel is a model as --json prints it. Prices are dollars, written as
// configs write them; absent is unknown.
type listedModel struct {
	ID              string             `json:"id"`
	Tier            string             `json:"tier"`
	StandsInFor     string             `json:"stands_in_for,omitempty"`
	Domains         []string           `json:"domains,omitempty"`
	ContextWindow   int64              `json:"context_window"`
	MaxOutputTokens int64              `json:"max_output_tokens"`
	Modalities      []string           `json:"modalities"`
	Capabilities    []string           `json:"capabilities"`
	Quality         string             `json:"quality"`
	Price           map[string]string  `json:"price"`
	Deployments     []listedDeployment `json:"deployments"`
	Callable        bool               `json:"callable"`
}

type listedDeployment struct {
	Upstream string            `json:"upstream"`
	Name     string            `json:"name"`
	Callable bool              `json:"callable"`
	Price    map[string]string `json:"price,omitempty"`
}

func printModelsJSON(out io.Writer, models []*router.Model) error {
	list := make([]listedModel, len(models))
	for i, m := range models {
		l := listedModel{
			ID: m.ID, Tier: m.Tier.String(), ContextWindow: m.ContextWindow, MaxOutputTokens: m.MaxOutputTokens, Modalities: m.Modalities,
			Capabilities: m.Capabilities.Names(), Quality: "unmeasured", Price: priceFields(&m.Price), Callable: m.Callable(),
		}
		if m.Quality != nil {
			l.Quality = m.Quality.Evidence
		}
		if m.Tier == router.DomainSpecialist {
			l.StandsInFor = m.StandsInFor.String()
			for _, d := range m.Domains {
				l.Domains = append(l.Domains, d.String())
			}
		}
		for _, d := range m.Deployments {
			own := listedDeployment{Upstream: d.Upstream.ID, Name: d.Name, Callable: d.Upstream.Callable}
			if d.Price != nil {
				own.Price = priceFields(d.Price)
			}
			l.Deployments = append(l.Deployments, own)
		}
		list[i] = l
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(list)
}

func priceFields(p *router.Price) map[string]string {
	out := map[string]string{}
	for _, x := range [...]struct {
		key, unit string
		rate      router.Rate
	}{
		{"input", "/M", p.Input},
		{"cached_input", "/M", p.CachedInput},
		{"cache_write", "/M", p.CacheWrite},
		{"output", "/M", p.Output},
		{"reasoning", "/M", p.Reasoning},
		{"per_request", "", p.PerRequest},
	} {
		if x.rate.Known {
			out[x.key] = x.rate.Nano.String() + x.unit
		}
	}
	if p.Source != "" {
		out["source"], out["date"] = p.Source, p.Date
	}
	return out
}
