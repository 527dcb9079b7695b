package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/router"
)

func calibrateCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "calibrate",
		Short: "Fit a model's quality curve, or a promise, from graded answers",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(calibrateModelCommand(w), calibratePolicyCommand(w))
	return cmd
}

func calibrateModelCommand(w world) *cobra.Command {
	var classifiers classifierFlags
	var set, model, tier string
	cmd := &cobra.Command{
		Use:   "model --set weir:FILE --model ID --tier EFFICIENT",
		Short: "Fit a card's quality curve from 50 to 200 graded answers",
		Long: `Model scores the prompts of a set, fits the chance of a good answer of one model to the scores and the recorded outcomes, and prints the
"quality" block to put into the model's card. Overlap rows are left out. The fit is worth having where its log loss, on answers it was not
fitted on, is below that of the tier's reference curve; it says so when it is not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := router.ParseTier(tier)
			if err != nil {
				return usageError("--tier: %w", err)
			}
			if set == "" || model == "" {
				return usageError("calibrate model needs --set KIND:PATH and --model ID")
			}
			return runCalibrateModel(cmd.Context(), w, &classifiers, set, model, t)
		},
	}
	classifiers.add(cmd)
	cmd.Flags().StringVar(&set, "set", "", "graded answers: "+setHelp+" (required)")
	cmd.Flags().StringVar(&model, "model", "", "the model whose outcomes are fitted, as the set spells it (required)")
	cmd.Flags().StringVar(&tier, "tier", "EFFICIENT", "the tier that the model counts as")
	return cmd
}

func runCalibrateModel(ctx context.Context, w world, f *classifierFlags, set, model string, tier router.Tier) (err error) {
	sources, err := eval.Open(set)
	if err != nil {
		return err
	}
	if len(sources) != 1 {
		return usageError("--set %s holds %d sets: name one", set, len(sources))
	}
	o, err := f.open(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	cfg := eval.FitConfig{Tier: tier}
	for c, err := range sources[0].Cases {
		if err != nil {
			return err
		}
		outcome, ok := c.Outcomes[model]
		if !ok || c.Split == eval.SplitOverlap {
			continue
		}
		text, err := c.Text()
		if err != nil {
			return fmt.Errorf("id %q: %w", c.ID, err)
		}
		scores, err := o.classifier.Classify(ctx, text)
		if errors.Is(err, classifier.ErrNoContent) || errors.Is(err, classifier.ErrInvalidText) {
			continue
		}
		if err != nil {
			return fmt.Errorf("id %q: %w", c.ID, err)
		}
		cfg.Graded = append(cfg.Graded, eval.Graded{Scores: scores, Outcome: outcome})
	}
	cfg.Evidence = fmt.Sprintf("%d graded answers of %s in %s, scored by bundle %s", len(cfg.Graded), model, sources[0].Name, shortDigest(o.classifier.Info().Digest))
	fit, err := eval.FitCurve(&cfg)
	if err != nil {
		return err
	}
	return printFit(w.stdout, fit)
}

func printFit(to io.Writer, fit *eval.Fit) error {
	out := bufio.NewWriter(to)
	fmt.Fprintf(out, "# fitted on %d answers; mean outcome %.3f, expected without seeing them %.3f\n", fit.N, fit.Mean, fit.Predicted)
	fmt.Fprintf(out, "# log loss %.4f on answers it was not fitted on, the tier's reference curve %.4f\n", fit.LogLoss, fit.ReferenceLogLoss)
	if fit.LogLoss >= fit.ReferenceLogLoss {
		fmt.Fprintln(out, "# NO BETTER than the reference curve: grade more answers before you use it")
	}
	fmt.Fprintf(out, "# standard errors: intercept %.2f, efficient %.2f, high %.2f logits\n", fit.Errors[0], fit.Errors[1], fit.Errors[2])
	round := func(v float64) float64 { return math.Round(v*1e4) / 1e4 }
	c := &fit.Curve
	fmt.Fprintf(out, "quality:\n  intercept: %v\n  efficient: %v\n  high: %v\n  half_width: %v\n", round(c.Intercept), round(c.Efficient), round(c.High), round(c.HalfWidth))
	first := true
	for d := classifier.Domain(1); int(d) <= classifier.NumDomains; d++ {
		if v := round(c.Domain[d.Index()]); v != 0 {
			if first {
				fmt.Fprintln(out, "  domains:")
				first = false
			}
			fmt.Fprintf(out, "    %s: %v\n", d, v)
		}
	}
	evidence, err := json.Marshal(c.Evidence)
	if err != nil {
		return fmt.Errorf("print the fit: %w", err)
	}
	fmt.Fprintf(out, "  evidence: %s\n", evidence)
	return out.Flush()
}

func calibratePolicyCommand(w world) *cobra.Command {
	f := &evalFlags{}
	cfg := eval.GuaranteeConfig{}
	var domains, asJSON bool
	cmd := &cobra.Command{
		Use:   "policy --set weir:FILE --weak ID --strong ID --epsilon 0.1 --alpha 0.1 --delta 0.1",
		Short: "Choose the loosest max_quality_gap of which a promise can be kept",
		Long: `Policy replays recorded outcomes of two models and chooses the loosest max_quality_gap at which, with confidence 1 - delta, at most a share alpha
of the prompts lose more than epsilon against the strong model. Exact binomial tests from the strictest threshold on (learn then test), so that
the promise holds whatever the data, for traffic like the set. It prints the "guarantee" block for the policy, and refuses where the data do not suffice.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCalibratePolicy(cmd.Context(), w, f, &cfg, domains, asJSON)
		},
	}
	f.add(cmd)
	cmd.Flags().Float64Var(&cfg.Epsilon, "epsilon", 0.1, "loss of quality that counts as a violation, 0-1")
	cmd.Flags().Float64Var(&cfg.Alpha, "alpha", 0.1, "share of violations allowed")
	cmd.Flags().Float64Var(&cfg.Delta, "delta", 0.1, "chance that the promise is wrong")
	cmd.Flags().BoolVar(&domains, "domains", false, "calibrate each domain with enough prompts by itself too; they share delta")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runCalibratePolicy(ctx context.Context, w world, f *evalFlags, cfg *eval.GuaranteeConfig, domains, asJSON bool) error {
	f.bootstrap = 0
	report, samples, err := f.replay(ctx, w)
	if err != nil {
		return err
	}
	if len(samples) != 1 {
		return usageError("calibrate one set at a time: %d are named", len(samples))
	}
	s := samples[0]
	for i := range s.IDs {
		// Strange prompts are outside every promise, so they are no evidence for one.
		if !s.Scored[i] || s.Strange[i] {
			continue
		}
		cfg.Gap, cfg.Loss = append(cfg.Gap, s.Gap[i]), append(cfg.Loss, s.StrongScore[i]-s.WeakScore[i])
		if domains {
			cfg.Domain = append(cfg.Domain, s.Predicted[i])
		}
	}
	promise, err := eval.CalibrateGuarantee(cfg)
	var few *eval.NotEnoughError
	if errors.As(err, &few) {
		return faultsError(err)
	}
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(promise)
	}
	id := fmt.Sprintf("%s/%s", s.Name, time.Now().UTC().Format(time.DateOnly))
	return printPromise(w.stdout, promise, id, report.Manifest.Bundle, s)
}

func printPromise(to io.Writer, p *eval.Promise, id, bundle string, s *eval.Sample) error {
	out := bufio.NewWriter(to)
	line := func(name string, g eval.Guaranteed) {
		fmt.Fprintf(out, "# %s: %d prompts, %d to the weak model, %d lose more than %g; at most %.1f %% with confidence %.3g (Hoeffding would allow a gap of %g)\n",
			name, g.N, g.Weak, g.Violations, p.Epsilon, 100*g.Bound, 1-g.Delta, g.Hoeffding)
	}
	// The pooled gap was tested as the gap of every prompt: beside looser ones of some
	// domains it would promise what nobody tested.
	pooled := len(p.Domains) == 0
	if pooled {
		line("all", p.All)
	}
	for d := classifier.Domain(1); int(d) <= classifier.NumDomains; d++ {
		if g, ok := p.Domains[d.String()]; ok {
			line(d.String(), g)
		}
		if why, ok := p.Refused[d.String()]; ok {
			if pooled {
				why = "the pooled gap counts, it has none of its own: " + why
			} else {
				why = "nothing is promised: " + why
			}
			fmt.Fprintf(out, "# %s: %s\n", d, why)
		}
	}
	quoted := func(v string) string { raw, _ := json.Marshal(v); return string(raw) }
	fmt.Fprintf(out, "guarantee:\n  calibration_id: %s\n  epsilon: %g\n  alpha: %g\n  delta: %g\n", quoted(id), p.Epsilon, p.Alpha, p.Delta)
	if pooled {
		fmt.Fprintf(out, "  max_quality_gap: %g\n  samples: %d\n", p.All.Threshold, p.All.N)
	} else {
		fmt.Fprintln(out, "  domains:")
		for d := classifier.Domain(1); int(d) <= classifier.NumDomains; d++ {
			if g, ok := p.Domains[d.String()]; ok {
				fmt.Fprintf(out, "    - {domain: %s, max_quality_gap: %g, samples: %d}\n", d, g.Threshold, g.N)
			}
		}
	}
	fmt.Fprintf(out, "  bundle_digest: %s\n  models: [%s, %s]\n", quoted(bundle), quoted(s.WeakModel), quoted(s.StrongModel))
	return out.Flush()
}
