package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weirhq/weir/internal/server"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

type routeFlags struct {
	classifierFlags
	config, policy, tier, maxCost string
	models, allow, deny           []string
	minQuality, maxGap, alpha     float64
	maxOutput                     int64
	explain, asJSON               bool
}

func routeCommand(w world) *cobra.Command {
	f := &routeFlags{}
	cmd := &cobra.Command{
		Use:   `route "text"`,
		Short: "Decide once, in this process",
		Long: `Route decides which model a prompt should go to, exactly as the server would, and calls nobody. - reads the prompt from standard input.

  weir route "What is the capital of France?"
  weir route --max-cost '$0.01' --explain - < prompt.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := argText(args[0], w.stdin)
			if err != nil {
				return err
			}
			req, err := f.request(cmd, text)
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), w, req)
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "routing config (default: $WEIR_CONFIG, else the embedded one)")
	flags.StringVar(&f.policy, "policy", "", "policy (default: the config's)")
	flags.StringSliceVar(&f.models, "model", nil, "use this model, or the first eligible of several")
	flags.StringVar(&f.tier, "tier", "", "use this tier")
	flags.StringSliceVar(&f.allow, "allow", nil, "globs of model ids, one of which must match")
	flags.StringSliceVar(&f.deny, "deny", nil, "globs of model ids, none of which may match")
	flags.Float64Var(&f.minQuality, "min-quality", 0, "lowest expected quality, 0-1")
	flags.Float64Var(&f.maxGap, "max-quality-gap", 0, "most that the quality may lie below the best, 0-1")
	flags.Float64Var(&f.alpha, "alpha", 0, "one dial: 0 cheapest, 1 best")
	flags.StringVar(&f.maxCost, "max-cost", "", `most that the call may cost, such as "$0.01"`)
	flags.Int64Var(&f.maxOutput, "max-output-tokens", 0, "longest answer wanted")
	flags.BoolVar(&f.explain, "explain", false, "show every candidate with its rejection")
	flags.BoolVar(&f.asJSON, "json", false, "print the decision as JSON, as the wire has it")
	return cmd
}

// maxPrompt bounds what is read from standard input: the server's own limit.
const maxPrompt = server.DefaultMessageBytes

func argText(arg string, stdin io.Reader) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	raw, err := io.ReadAll(io.LimitReader(stdin, maxPrompt+1))
	if err != nil {
		return "", fmt.Errorf("read prompt: %w", err)
	}
	if len(raw) > maxPrompt {
		return "", fmt.Errorf("prompt is longer than %d bytes: shorten it", maxPrompt)
	}
	return string(raw), nil
}

func (f *routeFlags) request(cmd *cobra.Command, text string) (*weirv1.RouteRequest, error) {
	req := &weirv1.RouteRequest{
		Input: &weirv1.RouteRequest_Text{Text: text}, Policy: f.policy, AllowModels: f.allow, DenyModels: f.deny,
		MaxOutputTokens: f.maxOutput, Explain: f.explain, Limits: &weirv1.Limits{},
	}
	switch len(f.models) {
	case 0:
	case 1:
		req.Model = f.models[0]
	default:
		req.Models = f.models
	}
	if f.tier != "" {
		tier, err := router.ParseTier(strings.ToUpper(strings.ReplaceAll(f.tier, "-", "_")))
		if err != nil {
			return nil, usageError("--tier: %w", err)
		}
		req.Tier = weirv1.Tier(tier)
	}
	if f.maxCost != "" {
		n, err := router.ParseUSD(f.maxCost)
		if err != nil {
			return nil, usageError("--max-cost: %w", err)
		}
		cost := int64(n)
		req.Limits.MaxCostNanoUsd = &cost
	}
	for flag, to := range map[string]**float64{"min-quality": &req.Limits.MinQuality, "max-quality-gap": &req.Limits.MaxQualityGap, "alpha": &req.Limits.Alpha} {
		if cmd.Flags().Changed(flag) {
			v, err := cmd.Flags().GetFloat64(flag)
			if err != nil {
				return nil, err
			}
			*to = &v
		}
	}
	return req, nil
}

func (f *routeFlags) run(ctx context.Context, w world, req *weirv1.RouteRequest) (err error) {
	if f.config == "" {
		f.config = w.getenv("WEIR_CONFIG")
	}
	rules, err := router.LoadConfig(f.config, w.getenv)
	if err != nil {
		return err
	}
	o, err := f.open(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	// A first run pages the model in; a person's one decision may wait for it.
	r, store, err := newRouter(o.classifier, rules, nil, 1, 10*time.Second)
	if err != nil {
		return err
	}
	resp, err := server.NewRouterService(r, store).Route(ctx, req)
	if server.Invalid(err) {
		return usageError("%w", err)
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Multiline: true}.Marshal(resp.GetDecision())
		if err != nil {
			return fmt.Errorf("print decision: %w", err)
		}
		_, err = fmt.Fprintln(w.stdout, string(raw))
		return err
	}
	return printDecision(w.stdout, resp.GetDecision())
}

func printDecision(out io.Writer, d *weirv1.Decision) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("model", "%s (%s, %s)", d.GetModel(), word(d.GetTier().String(), "TIER_"), d.GetProvider())
	row("why", "%s", d.GetExplanation())
	if d.EstimatedCostNanoUsd != nil {
		row("cost", "about %s, at most %s with %d output tokens", router.NanoUSD(d.GetEstimatedCostNanoUsd()), router.NanoUSD(d.GetCostBoundNanoUsd()), d.GetMaxOutputTokens())
	}
	if c := d.GetCandidates(); len(c) > 0 && c[0].GetUnmeasured() && d.GetScores() != nil {
		row("caution", "the model is unmeasured: its quality is its tier's reference curve, from %.2f to %.2f", c[0].GetQualityInterval().GetLow(), c[0].GetQualityInterval().GetHigh())
	}
	if s := d.GetScores(); s != nil {
		row("complexity", "%.3f (%.3f to %.3f), gain of going up %.3f", s.GetComplexity(), s.GetComplexityInterval().GetLow(), s.GetComplexityInterval().GetHigh(), s.GetGain())
		row("domain", "%s", domains(s))
		row("tokens", "%d in (%d not read), about %.0f out, nine in ten under %.0f", s.GetInputTokens(), s.GetTruncatedTokens(), s.GetOutputTokens(), s.GetOutputTokensP90())
		if s.GetOutOfDistribution() {
			row("caution", "the prompt is unlike what the classifier was trained on")
		}
	}
	row("took", "%s to score, %s in all", d.GetTimings().GetClassify().AsDuration(), d.GetTimings().GetTotal().AsDuration())
	for _, l := range d.GetLimits() {
		bound := ""
		if l.GetBinding() {
			bound = ", it removed candidates"
		}
		row("limit", "%s %s, from the %s%s", l.GetName(), l.GetValue(), word(l.GetSource().String(), "SOURCE_"), bound)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	t = tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "candidate\ttier\tquality\tcost\tstands")
	for i, c := range d.GetCandidates() {
		cost := "unknown"
		if c.EstimatedCostNanoUsd != nil {
			cost = router.NanoUSD(c.GetEstimatedCostNanoUsd()).String()
		}
		stands := "fallback"
		switch {
		case c.GetRejection() != weirv1.Rejection_REJECTION_UNSPECIFIED && c.GetRejectionDetail() != "":
			stands = "rejected: " + c.GetRejectionDetail()
		case c.GetRejection() != weirv1.Rejection_REJECTION_UNSPECIFIED:
			stands = "rejected: " + word(c.GetRejection().String(), "REJECTION_")
		case i == 0:
			stands = "chosen"
		}
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%s\t%s\n", c.GetModel(), word(c.GetTier().String(), "TIER_"), c.GetExpectedQuality(), cost, stands)
	}
	return t.Flush()
}

// word makes an enumeration's value readable.
func word(value, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(value, prefix)), "_", " ")
}

func domains(s *weirv1.Scores) string {
	out := word(s.GetDomain().String(), "DOMAIN_")
	for _, p := range s.GetDomainProbabilities() {
		if p.GetDomain() == s.GetDomain() {
			out += fmt.Sprintf(" (%.0f %%)", 100*p.GetProbability())
		}
	}
	return out
}
