package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/eval"
)

// evalCompareFlags are those of `weir eval compare`: the flags of a replay are
// side A, those that begin with other- change side B.
type evalCompareFlags struct {
	evalFlags
	other      classifierFlags
	otherRules struct{ config, policy string }
	requests   int64
	tokens     int64
	thresholds []float64
	reach      []string
}

func evalCompareCommand(w world) *cobra.Command {
	f := &evalCompareFlags{}
	cmd := &cobra.Command{
		Use:   "compare --set routellm:DIR --other-policy best",
		Short: "Hold two bundles, policies or catalogs against each other, or ask what a threshold would do",
		Long: `Compare replays every set twice: as the flags say, and with what --other-bundle, --other-policy and --other-config change. Differences are
paired: both sides see the same resampled prompts. --threshold says what sending prompts of at least that gain to the strong model does; --reach
cost_saved=0.5 or --reach quality_kept=0.95 looks for the threshold on one half of the set and measures it on the other. These
thresholds are on gain; where no card has a quality curve of its own, they are what a policy calls max_quality_gap.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEvalCompare(cmd.Context(), w, f) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.other.kind, "other-classifier", "", "the other side's classifier: onnx or lexical")
	cmd.Flags().StringVar(&f.other.bundle, "other-bundle", "", "the other side's model bundle")
	cmd.Flags().StringVar(&f.otherRules.config, "other-config", "", "the other side's routing config")
	cmd.Flags().StringVar(&f.otherRules.policy, "other-policy", "", "the other side's policy")
	cmd.Flags().Int64Var(&f.requests, "requests", 1_000_000, "requests of the projected cost")
	cmd.Flags().Int64Var(&f.tokens, "tokens-per-request", 359, "tokens of a request where costs are notional")
	cmd.Flags().Float64SliceVar(&f.thresholds, "threshold", nil, "thresholds on gain to try")
	cmd.Flags().StringArrayVar(&f.reach, "reach", nil, "goal to look for a threshold for, repeatable: cost_saved=X or quality_kept=X, 0 to 1")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

// compared is what compare says of one set.
type compared struct {
	Set        string           `json:"set"`
	Comparison *eval.Comparison `json:"comparison,omitempty"`
	WhatIf     []eval.WhatIf    `json:"what_if,omitempty"`
	Targets    []*eval.Target   `json:"targets,omitempty"`
}

func runEvalCompare(ctx context.Context, w world, f *evalCompareFlags) error {
	goals, levels, err := parseGoals(f.reach)
	if err != nil {
		return err
	}
	two := f.other.kind != "" || f.other.bundle != "" || f.otherRules.config != "" || f.otherRules.policy != ""
	if !two && len(f.thresholds) == 0 && len(goals) == 0 {
		return usageError("compare needs another side (--other-bundle, --other-policy, --other-config, --other-classifier), --threshold or --reach")
	}
	a, samples, err := f.replay(ctx, w)
	if err != nil {
		return err
	}
	resamples := f.bootstrap
	if resamples == 0 {
		resamples = -1
	}
	out := struct {
		Version int            `json:"version"`
		Sets    []compared     `json:"sets"`
		A       eval.Manifest  `json:"manifest_a"`
		B       *eval.Manifest `json:"manifest_b,omitempty"`
	}{Version: 1, A: a.Manifest}
	var others []*eval.Sample
	if two {
		side := f.otherSide()
		b, s, err := side.replay(ctx, w)
		if err != nil {
			return fmt.Errorf("the other side: %w", err)
		}
		others, out.B = s, &b.Manifest
	}
	for i, s := range samples {
		c := compared{Set: s.Name}
		if two {
			c.Comparison, err = eval.Compare(eval.CompareConfig{
				A: s, B: others[i], NameA: sideName(&out.A), NameB: sideName(out.B), Seed: f.seed, Bootstrap: resamples, Requests: f.requests, TokensPerRequest: f.tokens,
			})
			if err != nil {
				return err
			}
		}
		if c.WhatIf, err = eval.AtThresholds(s, f.thresholds, resamples, f.seed); err != nil {
			return err
		}
		for k, goal := range goals {
			t, err := eval.FindThreshold(s, goal, levels[k], resamples, f.seed)
			if err != nil {
				return err
			}
			c.Targets = append(c.Targets, t)
		}
		out.Sets = append(out.Sets, c)
	}
	if f.asJSON {
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(out)
	}
	return comparisonTable(w.stdout, out.Sets)
}

// otherSide is the flags of side B.
func (f *evalCompareFlags) otherSide() *evalFlags {
	side := f.evalFlags
	if f.other.kind != "" {
		side.kind = f.other.kind
	}
	if f.other.bundle != "" {
		side.bundle = f.other.bundle
	}
	if f.otherRules.config != "" {
		side.config = f.otherRules.config
	}
	if f.otherRules.policy != "" {
		side.policy = f.otherRules.policy
	}
	return &side
}

// sideName is enough of a manifest to tell two sides apart.
func sideName(m *eval.Manifest) string {
	_, config, _ := strings.Cut(m.Config, ":")
	return fmt.Sprintf("%s, policy %s, config %.8s", m.BundleName, m.Policy, config)
}

func parseGoals(reach []string) (goals []string, levels []float64, err error) {
	for _, r := range reach {
		goal, text, ok := strings.Cut(r, "=")
		level, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil || (goal != "cost_saved" && goal != "quality_kept") {
			return nil, nil, usageError("--reach %s: write cost_saved=0.5 or quality_kept=0.95", r)
		}
		goals, levels = append(goals, goal), append(levels, level)
	}
	return goals, levels, nil
}

func comparisonTable(to io.Writer, sets []compared) error {
	buf := bufio.NewWriter(to)
	for _, s := range sets {
		fmt.Fprintln(buf, s.Set)
		t := tabwriter.NewWriter(buf, 0, 0, 2, ' ', 0)
		if c := s.Comparison; c != nil {
			fmt.Fprintf(buf, "  n %d\n  A: %s\n  B: %s\n", c.N, c.A.Name, c.B.Name)
			fmt.Fprintln(t, "  \tA\tB\tB - A, paired")
			row := func(name string, a, b, d eval.Interval, scale float64, digits int) {
				fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", name, scaled(a, scale, digits), scaled(b, scale, digits), scaled(d, scale, digits))
			}
			row("to strong, %", c.A.Share, c.B.Share, c.Difference.Share, 100, 1)
			row("quality kept, %", c.A.QualityKept, c.B.QualityKept, c.Difference.QualityKept, 100, 2)
			row("cost saved, %", c.A.CostSaved, c.B.CostSaved, c.Difference.CostSaved, 100, 1)
			row("APGR", c.A.APGR, c.B.APGR, c.Difference.APGR, 1, 3)
			row(fmt.Sprintf("$ for %d requests", c.Requests), c.A.ProjectedUSD, c.B.ProjectedUSD, c.Difference.ProjectedUSD, 1, 2)
			if err := t.Flush(); err != nil {
				return err
			}
			m := c.Flips
			fmt.Fprintf(buf, "  same: %d weak, %d strong; flips: %d weak to strong (%d better, %d worse), %d strong to weak (%d better, %d worse)\n",
				m.BothWeak, m.BothStrong, m.WeakToStrong, m.UpGained, m.UpLost, m.StrongToWeak, m.DownGained, m.DownLost)
			if c.Notional {
				fmt.Fprintf(buf, "  costs are notional, at %d tokens a request\n", c.TokensPerRequest)
			}
		}
		whatIfTable(t, &s)
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(buf)
	}
	return buf.Flush()
}

func whatIfTable(t io.Writer, s *compared) {
	if len(s.WhatIf)+len(s.Targets) == 0 {
		return
	}
	fmt.Fprintln(t, "  \tthreshold\tto strong, %\tquality kept, %\tcost saved, %")
	row := func(name string, v eval.WhatIf) {
		fmt.Fprintf(t, "  %s\t%.4f\t%s\t%s\t%s\n", name, v.Threshold, scaled(v.Share, 100, 1), scaled(v.QualityKept, 100, 1), scaled(v.CostSaved, 100, 1))
	}
	for _, v := range s.WhatIf {
		row("what if", v)
	}
	for _, g := range s.Targets {
		name := fmt.Sprintf("%s %g", g.Goal, g.Level)
		if !g.Reached {
			fmt.Fprintf(t, "  %s: %s\n", name, g.Why)
			continue
		}
		row(name+", half that chose", g.Chosen)
		row(name+", other half", g.Held)
	}
}

// scaled prints a figure with its interval; "-" where there is none.
func scaled(i eval.Interval, scale float64, digits int) string {
	if !i.Known() {
		return "-"
	}
	s := fmt.Sprintf("%.*f", digits, i.Value*scale)
	if math.IsNaN(i.Lo) || math.IsNaN(i.Hi) {
		return s
	}
	return fmt.Sprintf("%s [%.*f, %.*f]", s, digits, i.Lo*scale, digits, i.Hi*scale)
}
