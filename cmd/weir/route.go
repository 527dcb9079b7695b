package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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
	minTier, maxTier              string
	intent, receipt               string
	metadata                      map[string]string
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
  weir route --max-cost '$0.01' --explain - < prompt.txt
  weir route --receipt decision.json "Prove it."

What is printed is wrapped at $COLUMNS, else at 80.`,
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
	flags.StringVar(&f.minTier, "min-tier", "", "lowest tier")
	flags.StringVar(&f.maxTier, "max-tier", "", "highest tier")
	flags.StringVar(&f.intent, "intent", "", "what the prompt is for, as the config's rules name intents")
	flags.StringToStringVar(&f.metadata, "metadata", nil, "labels that the config's rules look at, such as tenant=acme")
	flags.StringSliceVar(&f.allow, "allow", nil, "globs of model ids, one of which must match")
	flags.StringSliceVar(&f.deny, "deny", nil, "globs of model ids, none of which may match")
	flags.Float64Var(&f.minQuality, "min-quality", 0, "lowest expected quality, 0-1")
	flags.Float64Var(&f.maxGap, "max-quality-gap", 0, "most that the quality may lie below the best, 0-1")
	flags.Float64Var(&f.alpha, "alpha", 0, "one dial: 0 cheapest, 1 best")
	flags.StringVar(&f.maxCost, "max-cost", "", `most that the call may cost, such as "$0.01"`)
	flags.Int64Var(&f.maxOutput, "max-output-tokens", 0, "longest answer wanted")
	flags.BoolVar(&f.explain, "explain", false, "show every candidate with its rejection")
	flags.StringVar(&f.receipt, "receipt", "", "write the decision's receipt into this file; see `weir receipt verify`")
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
		MaxOutputTokens: f.maxOutput, Explain: f.explain || f.receipt != "", Limits: &weirv1.Limits{},
		Intent: f.intent, Metadata: f.metadata,
	}
	switch len(f.models) {
	case 0:
	case 1:
		req.Model = f.models[0]
	default:
		req.Models = f.models
	}
	for _, t := range []struct {
		flag, text string
		to         *weirv1.Tier
	}{{"tier", f.tier, &req.Tier}, {"min-tier", f.minTier, &req.Limits.MinTier}, {"max-tier", f.maxTier, &req.Limits.MaxTier}} {
		if t.text == "" {
			continue
		}
		tier, err := router.ParseTier(strings.ToUpper(strings.ReplaceAll(t.text, "-", "_")))
		if err != nil {
			return nil, usageError("--%s: %w", t.flag, err)
		}
		*t.to = weirv1.Tier(tier)
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
	if f.receipt != "" {
		if err := writeReceipt(f.receipt, resp.GetDecision(), f.explain); err != nil {
			return err
		}
	}
	if f.asJSON {
		raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Multiline: true}.Marshal(resp.GetDecision())
		if err != nil {
			return fmt.Errorf("print decision: %w", err)
		}
		_, err = fmt.Fprintln(w.stdout, string(raw))
		return err
	}
	return printDecision(w.stdout, resp.GetDecision(), columns(w.getenv))
}
