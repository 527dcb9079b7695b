package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/internal/catalog"
	"github.com/weirhq/weir/router"
)

func catalogImportCommand(w world) *cobra.Command {
	var from, date, source, tier string
	var globs, providers []string
	var whole bool
	cmd := &cobra.Command{
		Use:   "import --from FORMAT FILE",
		Short: "Write models of a public catalog as a config has them",
		Long: `Import reads a file in the layout of LiteLLM's model_prices_and_context_window.json (--from litellm) or of OpenRouter's
/api/v1/models (--from openrouter), and writes the upstreams and the models for a config. Prices are converted exactly. A price that
the catalog does not state stays unknown, and so does $0 from a provider that bills. What you must settle yourself, the tier before
all, stands there as a comment.

  weir catalog import --from litellm --provider openai --match 'gpt-6*' model_prices_and_context_window.json
  weir catalog import --from openrouter --match 'qwen/*' --whole models.json > weir.yaml && weir check weir.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			format := catalog.Format(from)
			if format != catalog.LiteLLM && format != catalog.OpenRouter {
				return usageError("--from %q: use litellm or openrouter", from)
			}
			o := catalog.WriteOptions{Source: source, Date: date, Whole: whole}
			if tier != "" {
				t, err := tierNamed(tier)
				if err != nil || t == router.DomainSpecialist {
					return usageError("--tier %q: use efficient or high-performance", tier)
				}
				o.Tier = t
			}
			if _, err := time.Parse(time.DateOnly, date); date != "" && err != nil {
				return usageError("--date %q: write the day as YYYY-MM-DD", date)
			}
			for _, g := range globs {
				if err := router.CheckGlob(g); err != nil {
					return usageError("--match: %w", err)
				}
			}
			return importCatalog(w, args[0], format, globs, providers, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "layout of the file: litellm or openrouter")
	flags.StringArrayVar(&globs, "match", nil, "only models of which the catalog's key, the id or the provider's name matches (may be repeated)")
	flags.StringArrayVar(&providers, "provider", nil, "only models of this provider, as the catalog or a config calls it (may be repeated)")
	flags.StringVar(&date, "date", "", "day on which the file was fetched, YYYY-MM-DD (default: the file's own)")
	flags.StringVar(&source, "source", "", "what to name as the source of the prices (default: the format and the file's name)")
	flags.StringVar(&tier, "tier", "", "tier of all (default: guessed from the output price, and marked as a guess)")
	flags.BoolVar(&whole, "whole", false, "write a config that stands by itself")
	return cmd
}

func importCatalog(w world, name string, format catalog.Format, globs, providers []string, o catalog.WriteOptions) error {
	file, err := readCatalog(name, format)
	if err != nil {
		return err
	}
	entries := file.Match(globs, providers)
	if len(entries) == 0 {
		return faultsError(fmt.Errorf("no model matches: %d chat models are in %s", len(file.Entries), name))
	}
	if o.Date == "" {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("read the file's day: %w", err)
		}
		o.Date = info.ModTime().UTC().Format(time.DateOnly)
	}
	if o.Source == "" {
		o.Source = string(format) + " " + filepath.Base(name)
	}
	return catalog.Write(w.stdout, entries, o)
}
