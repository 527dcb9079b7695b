package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/internal/catalog"
	"github.com/weirhq/weir/router"
)

// maxCatalog bounds a catalog's file; LiteLLM's has 3 MB.
const maxCatalog = 64 << 20

// embedded is how a command line names the embedded config.
const embedded = "default"

func catalogDiffCommand(w world) *cobra.Command {
	var asJSON, check bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say what changed between two configs, or which prices are out of date",
		Long: `Diff compares the models of two routing configs: which came and went, prices, limits, tiers, deployments. Where B is a public catalog
(LiteLLM's model_prices_and_context_window.json, or the answer of OpenRouter's /api/v1/models), it lists the prices of A that the
catalog states otherwise, and limits of A beyond the catalog's. "default" names the embedded config.

  weir catalog diff default weir.yaml
  weir catalog diff weir.yaml model_prices_and_context_window.json --check`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			d, public, err := compare(w, args[0], args[1])
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(w.stdout)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				err = enc.Encode(d)
			} else {
				err = printDifference(w.stdout, d, public)
			}
			if err == nil && check && len(d.Changes) > 0 {
				err = faultsError(fmt.Errorf("%d differences", len(d.Changes)))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&check, "check", false, "exit with code 3 when anything differs")
	return cmd
}

func compare(w world, a, b string) (d catalog.Difference, public bool, err error) {
	before, err := loadNamed(w, a)
	if err != nil {
		return d, false, err
	}
	if b != embedded && strings.EqualFold(filepath.Ext(b), ".json") {
		file, err := readCatalog(b, "")
		if err != nil {
			return d, false, err
		}
		return catalog.CompareWith(before, file), true, nil
	}
	after, err := loadNamed(w, b)
	if err != nil {
		return d, false, err
	}
	return catalog.Compare(before, after), false, nil
}

func loadNamed(w world, name string) (*router.Rules, error) {
	if name == embedded {
		name = ""
	}
	rules, err := router.LoadConfig(name, w.getenv)
	var bad *router.ConfigError
	if errors.As(err, &bad) {
		return nil, faultsError(fmt.Errorf("%d faults\n%w", len(bad.Faults), bad))
	}
	return rules, err
}

func readCatalog(name string, format catalog.Format) (file *catalog.File, err error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(in, maxCatalog+1))
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	if len(raw) > maxCatalog {
		return nil, fmt.Errorf("read catalog: %s is larger than %d bytes", name, maxCatalog)
	}
	if file, err = catalog.Read(raw, format); err != nil {
		return nil, faultsError(fmt.Errorf("%s: %w", name, err))
	}
	return file, nil
}

func printDifference(out io.Writer, d catalog.Difference, public bool) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, c := range d.Changes {
		switch {
		case c.Before == "":
			fmt.Fprintf(t, "+ %s\t%s\t%s\n", c.Model, c.What, c.After)
		case c.After == "":
			fmt.Fprintf(t, "- %s\t%s\t%s\n", c.Model, c.What, c.Before)
		default:
			fmt.Fprintf(t, "~ %s\t%s\t%s -> %s\n", c.Model, c.What, c.Before, c.After)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(d.Unknown) > 0 {
		fmt.Fprintf(out, "? not in the catalog: %s\n", strings.Join(d.Unknown, ", "))
	}
	what := "models on both sides"
	if public {
		what = "deployments found in the catalog"
	}
	_, err := fmt.Fprintf(out, "%d differences, %d %s\n", len(d.Changes), d.Compared, what)
	return err
}
