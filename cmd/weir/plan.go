package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/router"
)

type planFlags struct {
	classifierFlags
	traffic, budget, config, policy string
	quality                         float64
	requests                        int64
	seed                            uint64
	asJSON                          bool
}

func planCommand(w world) *cobra.Command {
	f := &planFlags{}
	cmd := &cobra.Command{
		Use:   "plan --traffic FILE.jsonl --budget 500/month --requests 100000",
		Short: "Find the policy that keeps a budget or a quality, with intervals",
		Long: `Plan decides a sample of your traffic under every setting of max_quality_gap and says what each would cost and keep, with 90 % prediction
intervals for the requests to come. --budget takes the best quality whose spend stays below it, --quality the cheapest setting that keeps that share
of the best quality. Recorded outcomes and costs count where the sample has them; the rest is what the classifier and the catalog expect, and the
plan says how much that is.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPlan(cmd.Context(), w, f) },
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.traffic, "traffic", "", "sample of prompts, JSONL in the record format; only id and prompt are needed (required)")
	flags.StringVar(&f.budget, "budget", "", "most to spend, such as 500/month; what follows the slash is your word for the time of --requests")
	flags.Float64Var(&f.quality, "quality", 0, "share of the best quality to keep, 0-1")
	flags.Int64Var(&f.requests, "requests", 0, "requests in that time (default: as many as the sample)")
	flags.StringVar(&f.config, "config", "", "routing config (default: the embedded one)")
	flags.StringVar(&f.policy, "policy", "", "policy whose other limits hold (default: the config's default)")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of the intervals")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

func runPlan(ctx context.Context, w world, f *planFlags) (err error) {
	if f.traffic == "" {
		return usageError("plan needs --traffic FILE.jsonl, a sample of prompts")
	}
	if (f.budget == "") == (f.quality == 0) {
		return usageError("plan needs one of --budget and --quality")
	}
	cfg := eval.PlanConfig{Traffic: eval.ReadFile(f.traffic), Policy: f.policy, Requests: f.requests, Quality: f.quality, Seed: f.seed}
	amount, period, _ := strings.Cut(f.budget, "/")
	if f.budget != "" {
		if !strings.HasPrefix(amount, "$") {
			amount = "$" + amount
		}
		if cfg.Budget, err = router.ParseUSD(amount); err != nil {
			return usageError("--budget %q: %w", f.budget, err)
		}
	}
	if cfg.Rules, err = router.LoadConfig(f.config, w.getenv); err != nil {
		return err
	}
	o, err := f.open(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	cfg.Classifier = o.classifier
	plan, err := eval.MakePlan(ctx, cfg)
	var none *eval.PlanError
	if errors.As(err, &none) {
		return faultsError(err)
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(plan)
	}
	return printPlan(w.stdout, plan, period)
}

func printPlan(to io.Writer, p *eval.Plan, period string) error {
	out := bufio.NewWriter(to)
	if period != "" {
		period = " a " + period
	}
	fmt.Fprintf(out, "%d prompts planned with, %d requests%s, policy %s; intervals are 90 %%\n\n", p.N, p.Requests, period, p.Policy)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  max_quality_gap\tspend\tquality kept %\tmodels")
	last := eval.PlanPoint{MaxQualityGap: -1}
	for _, x := range p.Points {
		chosen := x.MaxQualityGap == p.Chosen.MaxQualityGap
		if !chosen && maps.Equal(x.Models, last.Models) {
			continue // nothing changes here
		}
		mark := "  "
		if chosen {
			mark = "> "
		}
		fmt.Fprintf(t, "%s%g\t$%.4g [%.4g, %.4g]\t%.1f [%.1f, %.1f]\t%s\n", mark, x.MaxQualityGap, x.SpendUSD.Value, x.SpendUSD.Lo, x.SpendUSD.Hi,
			100*x.QualityKept.Value, 100*x.QualityKept.Lo, 100*x.QualityKept.Hi, shares(x.Models))
		last = x
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	fmt.Fprintf(out, "\nIn the policy %s:\n\n  max_quality_gap: %g\n", p.Policy, p.Chosen.MaxQualityGap)
	for _, n := range p.Notes {
		fmt.Fprintf(out, "\nNote: %s.\n", n)
	}
	return out.Flush()
}

// shares lists the models that get most, at most three.
func shares(models map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(models), func(a, b string) int {
		if models[a] != models[b] {
			if models[a] > models[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for i, n := range names {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("and %d more", len(names)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s %.0f %%", n, 100*models[n]))
	}
	return strings.Join(parts, ", ")
}
