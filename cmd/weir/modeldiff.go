package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/classifier/onnx"
	"github.com/weirhq/weir/internal/swap"
	"github.com/weirhq/weir/router"
)

// diffFlags are those of `weir model diff`.
type diffFlags struct {
	library, config, gate, out string
	sets                       []string
	weak, strong               string
	asJSON                     bool
}

func modelDiffCommand(w world) *cobra.Command {
	f := &diffFlags{}
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Hold two bundles against each other: manifest, speed, memory, and the decisions that change on a set",
		Long: `Diff holds bundle B against bundle A as a server that serves A would before it published B, and prints what their manifests say differently,
what each costs to run, and how decisions change on the sets. It exits with 3 when a gate would refuse B. No server is asked.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runDiff(cmd.Context(), w, f, args[0], args[1]) },
	}
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "set to replay, repeatable: weir-local, "+setHelp+" (default: the gate policy's)")
	cmd.Flags().StringVar(&f.weak, "weak", "", "model that stands for EFFICIENT in sets that define no pair")
	cmd.Flags().StringVar(&f.strong, "strong", "", "model that stands for HIGH_PERFORMANCE in such sets")
	cmd.Flags().StringVar(&f.config, "config", "", "routing config that decides (default: the embedded one)")
	cmd.Flags().StringVar(&f.gate, "gate", "", "gate policy, YAML (default: built in)")
	cmd.Flags().StringVar(&f.out, "out", "", "folder for the report's pages")
	cmd.Flags().StringVar(&f.library, "onnxruntime", "", "ONNX Runtime library (default: $WEIR_ONNXRUNTIME, else beside the binary, else third_party/lib)")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

func runDiff(ctx context.Context, w world, f *diffFlags, a, b string) (err error) {
	policy, err := (&swapFlags{gate: f.gate, settle: -1}).policy()
	if err != nil {
		return usageError("%w", err)
	}
	if len(f.sets) > 0 {
		policy.Replay.Sets = f.sets
	}
	if f.weak != "" || f.strong != "" {
		policy.Replay.Weak, policy.Replay.Strong = f.weak, f.strong
	}
	if err := policy.Validate(); err != nil {
		return usageError("%w", err)
	}
	sources, err := replaySources(policy.Replay.Sets)
	if err != nil {
		return usageError("%w", err)
	}
	rules, err := router.LoadConfig(f.config, w.getenv)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := os.MkdirAll(f.out, 0o750); err != nil {
			return fmt.Errorf("diff: %w", err)
		}
	}
	differences, err := manifestDiff(a, b)
	if err != nil {
		return faultsError(err)
	}
	rt, err := startRuntime(f.library, w.getenv)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	exam := swap.Exam{
		Job:   swap.Job{Candidate: b, Serving: a, Out: f.out, Policy: *policy},
		Rules: rules, Sources: sources, Cover: vocabulary(b),
		Open: func(ctx context.Context, dir string) (swap.Bundle, error) {
			got, err := rt.Open(ctx, dir, onnx.Config{MaxConcurrent: 1})
			if err != nil {
				return nil, err
			}
			return got, nil
		},
		Refusals: func(err error) []swap.Gate { return gatesOf(err, b) },
	}
	report, err := exam.Run(ctx)
	if err != nil {
		return err
	}
	report.Time = time.Now()
	if f.out != "" {
		if err := report.Write(f.out); err != nil {
			return err
		}
	}
	if f.asJSON {
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(struct {
			Manifest []difference `json:"manifest"`
			*swap.Report
		}{differences, report})
	} else {
		err = printDiff(w.stdout, differences, report)
	}
	if err == nil && !report.Passed() {
		err = faultsError(fmt.Errorf("%d gates would refuse it", len(report.Failed())))
	}
	return err
}

// difference is a field that two manifests have differently.
type difference struct {
	Field string `json:"field"`
	A     string `json:"a"`
	B     string `json:"b"`
}

// manifestDiff compares what two bundles say of themselves, field by field.
func manifestDiff(a, b string) ([]difference, error) {
	var flat [2]map[string]string
	for i, dir := range []string{a, b} {
		m, err := onnx.ReadManifest(dir)
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		var doc any
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, err
		}
		flat[i] = map[string]string{"digest": m.Digest}
		flatten("", doc, flat[i])
	}
	names := maps.Clone(flat[0])
	maps.Copy(names, flat[1])
	var out []difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if flat[0][name] != flat[1][name] {
			out = append(out, difference{name, flat[0][name], flat[1][name]})
		}
	}
	return out, nil
}

// flatten gives every value of a document by its path. Lists are values.
func flatten(path string, v any, into map[string]string) {
	if m, ok := v.(map[string]any); ok {
		for key, item := range m {
			flatten(strings.TrimPrefix(path+"."+key, "."), item, into)
		}
		return
	}
	if v == nil || reflect.ValueOf(v).IsZero() {
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return // what came out of JSON goes into it
	}
	into[path] = strings.TrimSpace(b.String())
}

func printDiff(out io.Writer, differences []difference, r *swap.Report) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "manifest\tA\tB")
	for _, d := range differences {
		fmt.Fprintf(t, "  %s\t%.60s\t%.60s\n", d.Field, d.A, d.B)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, g := range r.Gates {
		verdict := "passed"
		if !g.Passed {
			verdict = "refused"
		}
		for i, line := range strings.Split(g.Detail, "\n") {
			if i == 0 {
				fmt.Fprintf(t, "gate %s\t%s\t%s\n", g.Name, verdict, line)
			} else {
				fmt.Fprintf(t, "\t\t%s\n", line)
			}
		}
	}
	if err := t.Flush(); err != nil || r.Replay == nil {
		return err
	}
	x := r.Replay
	fmt.Fprintf(out, "\ntier under A (rows) and under B (columns), %d prompts, policy %s\n", x.Prompts, x.Policy)
	t = tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\t\n", strings.Join(x.Tiers, "\t"))
	for i, row := range x.Flips {
		fmt.Fprintf(t, "%s\t", x.Tiers[i])
		for _, n := range row {
			fmt.Fprintf(t, "%d\t", n)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "expected cost by the catalog's prices: %s %%\n", scaled(x.Cost, 100, 1))
	for _, c := range x.Sets {
		if err := comparisonTable(out, []compared{{Set: c.Set, Comparison: c}}); err != nil {
			return err
		}
	}
	return nil
}
