package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/weirhq/weir/eval"
)

func evalLintCommand(w world) *cobra.Command {
	var sets, train []string
	var submission string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint --set weir:FILE --train weir:FILE",
		Short: "Look for what would make a set's figures untrue",
		Long: `Lint looks for constant token counts, unequal denominators, missing rows that were dropped or counted right, prompts to measure with that are nearly
those of training rows, choices made with the outcomes known, exact duplicates, and prompts that were cut. It exits with 3 when there is a fault;
notes are what a reader should know. A submission is JSONL: {"id", "model", "score", "output_tokens", "cost_usd"}, the last three where known.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if len(sets) == 0 {
				return usageError("lint needs --set KIND:PATH, one of %s", setHelp)
			}
			reports, err := lintAll(sets, train, submission)
			if err != nil {
				return err
			}
			if err := printLint(w.stdout, reports, asJSON); err != nil {
				return err
			}
			faults := 0
			for _, r := range reports {
				faults += r.Faults()
			}
			if faults > 0 {
				return faultsError(fmt.Errorf("lint: %d faults", faults))
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&sets, "set", nil, "set to look at, repeatable: "+setHelp+" (required)")
	cmd.Flags().StringArrayVar(&train, "train", nil, "set that a classifier was trained on, repeatable")
	cmd.Flags().StringVar(&submission, "submission", "", "choices to hold against the set, JSONL")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func lintAll(sets, train []string, submission string) ([]*eval.LintReport, error) {
	sources, err := openSets(sets)
	if err != nil {
		return nil, err
	}
	cfg := eval.LintConfig{}
	if cfg.Train, err = openSets(train); err != nil {
		return nil, err
	}
	if submission != "" {
		if len(sources) != 1 {
			return nil, usageError("--submission belongs to one set, and --set names %d", len(sources))
		}
		f, err := os.Open(submission)
		if err != nil {
			return nil, fmt.Errorf("lint: %w", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		if cfg.Submission, err = eval.ReadSubmission(f, submission); err != nil {
			return nil, err
		}
	}
	var out []*eval.LintReport
	for _, s := range sources {
		cfg.Set = s
		r, err := eval.Lint(cfg)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func printLint(to io.Writer, reports []*eval.LintReport, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(to)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"version": 1, "binary_version": version, "sets": reports})
	}
	buf := bufio.NewWriter(to)
	for _, r := range reports {
		fmt.Fprintf(buf, "%s: n %d, %d findings (%s)\n", r.Set, r.N, len(r.Findings), r.Digest)
		for _, f := range r.Findings {
			fmt.Fprintf(buf, "  %s %s: %s\n    for example %s\n", f.Severity, f.Code, f.Detail, strings.Join(f.IDs, ", "))
		}
	}
	return buf.Flush()
}

// openGate reads the gate that the flags name, or none.
func (f *evalFlags) openGate() (*eval.Gate, error) {
	if f.gate == "" {
		return nil, nil
	}
	return readGate(f.gate)
}

// readGate reads a gate file: YAML, strict about names and about what follows
// the document.
func readGate(name string) (*eval.Gate, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read gate: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	var g eval.Gate
	if err := dec.Decode(&g); err != nil {
		return nil, fmt.Errorf("read gate %s: %w", name, err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read gate %s: more than one YAML document: keep one", name)
	}
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("read gate %s: %w", name, err)
	}
	return &g, nil
}

// checkGate holds a report against the gate file; a report that does not pass
// asks for the exit code of faults.
func checkGate(g *eval.Gate, r *eval.Report) error {
	err := g.Check(r)
	var failed *eval.GateError
	if errors.As(err, &failed) {
		return faultsError(err)
	}
	return err
}
