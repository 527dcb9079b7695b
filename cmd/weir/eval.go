package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/router"
)

func evalCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Replay benchmark sets: what routing would have cost, and how good it would have been",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(evalRunCommand(w), evalImportCommand(w), evalReportCommand(w), evalLintCommand(w), evalCompareCommand(w))
	return cmd
}

// setHelp lists the kinds of sets.
const setHelp = `weir:FILE (JSONL, plain or .zst; #SET for one set in it), routellm:DIR, routerbench:PATH, mmlu-pro:DIR, zeroeval:DIR, journal:FILE or labels:DIR`

// evalFlags are what a replay needs; other verbs of eval use them too.
type evalFlags struct {
	classifierFlags
	sets                   []string
	config, policy         string
	weak, strong           string
	weakPrice, strongPrice float64
	splits                 []string
	calibrate, cache, gate string
	seed                   uint64
	bootstrap              int
	asJSON, asTable        bool
	coreHour               float64
}

func (f *evalFlags) add(cmd *cobra.Command) {
	f.classifierFlags.add(cmd)
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "benchmark set, repeatable: "+setHelp+" (required)")
	cmd.Flags().StringVar(&f.config, "config", "", "routing config whose policy is replayed (default: the embedded one)")
	cmd.Flags().StringVar(&f.policy, "policy", "", "policy to replay (default: the config's default)")
	cmd.Flags().StringVar(&f.weak, "weak", "", "model that stands for EFFICIENT in sets that define no pair (default: the worse of two)")
	cmd.Flags().StringVar(&f.strong, "strong", "", "model that stands for HIGH_PERFORMANCE in such sets")
	cmd.Flags().Float64Var(&f.weakPrice, "weak-price", eval.RouteLLMWeakPrice, "notional dollars for a million tokens, where a set records no costs")
	cmd.Flags().Float64Var(&f.strongPrice, "strong-price", eval.RouteLLMStrongPrice, "the same for the strong model")
	cmd.Flags().StringSliceVar(&f.splits, "split", nil, "splits to measure: eval, train (default: both; overlap rows are never measured)")
	cmd.Flags().StringVar(&f.calibrate, "calibrate", "", "set that freezes thresholds before the others are measured")
	cmd.Flags().StringVar(&f.cache, "cache", "", "folder that keeps scores between runs (default: none)")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "seed of everything random")
	cmd.Flags().Float64Var(&f.coreHour, "core-hour-price", 0.05, "dollars for an hour of one core, to price the routing itself; 0 leaves it out, so that runs repeat to the byte")
	cmd.Flags().IntVar(&f.bootstrap, "bootstrap", 1000, "resamples behind every interval; 0 for none")
}

func evalRunCommand(w world) *cobra.Command {
	f := &evalFlags{}
	cmd := &cobra.Command{
		Use:   "run --set routellm:DIR --set weir:FILE",
		Short: "Replay sets through a classifier and a policy, and measure",
		Long: `Run scores every prompt of every set, lets the policy decide through the core that serves, commits to all decisions, opens the recorded
outcomes, and prints what was saved and kept with 95 % paired-bootstrap intervals, beside the baselines that a router has to beat.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEval(cmd.Context(), w, f) },
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&f.asTable, "table", false, "print the report as a table (the default)")
	cmd.Flags().StringVar(&f.gate, "gate", "", "bounds that the report has to keep, YAML; exit with 3 and every reason when it does not")
	return cmd
}

func runEval(ctx context.Context, w world, f *evalFlags) error {
	if f.asJSON && f.asTable {
		return usageError("give one of --json and --table")
	}
	gate, err := f.openGate() // before the work, not after it
	if err != nil {
		return err
	}
	report, _, err := f.replay(ctx, w)
	if err != nil {
		return err
	}
	if f.asJSON {
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = eval.WriteTable(w.stdout, report)
	}
	if err != nil || gate == nil {
		return err
	}
	return checkGate(gate, report)
}

// replay opens what the flags name and runs it.
func (f *evalFlags) replay(ctx context.Context, w world) (_ *eval.Report, _ []*eval.Sample, err error) {
	cfg, err := f.evalConfig(w)
	if err != nil {
		return nil, nil, err
	}
	o, err := f.open(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	cfg.Classifier = o.classifier
	var done func()
	cfg.Progress, done = evalProgress(w)
	defer done()
	return eval.Run(ctx, *cfg)
}

// evalConfig checks the flags and opens the sets, before a model is loaded.
func (f *evalFlags) evalConfig(w world) (*eval.Config, error) {
	if len(f.sets) == 0 {
		return nil, usageError("eval needs --set KIND:PATH, one of %s", setHelp)
	}
	if f.bootstrap < 0 {
		return nil, usageError("--bootstrap %d is negative: give a number of resamples, 0 for none", f.bootstrap)
	}
	rules, err := router.LoadConfig(f.config, w.getenv)
	if err != nil {
		return nil, err
	}
	cfg := &eval.Config{
		Rules: rules, Policy: f.policy, Weak: f.weak, Strong: f.strong, WeakPrice: f.weakPrice, StrongPrice: f.strongPrice,
		Splits: f.splits, Seed: f.seed, Bootstrap: f.bootstrap, CacheDir: f.cache, Version: version,
		CoreHourUSD: f.coreHour,
	}
	if f.coreHour != 0 {
		cfg.Now = time.Now
	}
	if f.bootstrap == 0 {
		cfg.Bootstrap = -1
	}
	for _, spec := range f.sets {
		sources, err := eval.Open(spec)
		if err != nil {
			return nil, err
		}
		cfg.Sources = append(cfg.Sources, sources...)
	}
	if f.calibrate != "" {
		sources, err := eval.Open(f.calibrate)
		if err != nil {
			return nil, err
		}
		if len(sources) != 1 {
			return nil, usageError("--calibrate %s holds %d sets: name one, for example by `weir eval import` and weir:FILE", f.calibrate, len(sources))
		}
		cfg.Calibration = sources[0]
	}
	cfg.Binary, err = binaryDigest()
	return cfg, err
}

// binaryDigest is the digest of the program that runs.
func binaryDigest() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("digest of the binary: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("digest of the binary: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("digest of the binary: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// evalProgress is a bar on a terminal, and nothing elsewhere.
func evalProgress(w world) (tell func(set, stage string, done int), end func()) {
	file, ok := w.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(file), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	return func(set, stage string, done int) {
		bar.Describe(set + ": " + stage)
		_ = bar.Set(done)
	}, func() { _ = bar.Finish() }
}

func evalImportCommand(w world) *cobra.Command {
	var from, out string
	cmd := &cobra.Command{
		Use:   "import --from routellm:DIR --out FILE.jsonl",
		Short: "Turn a public benchmark's files into the record format",
		Long: `Import reads a benchmark in the layout that its authors publish and writes one JSON object a line. A name that ends in .zst is compressed;
- is standard output. Sets of one source are written one after the other, told apart by their field set.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if from == "" {
				return usageError("import needs --from KIND:PATH, one of %s", setHelp)
			}
			return runImport(w, from, out)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "source: "+setHelp+" (required)")
	cmd.Flags().StringVar(&out, "out", "-", "cases, JSONL")
	return cmd
}

func runImport(w world, from, out string) (err error) {
	sources, err := eval.Open(from)
	if err != nil {
		return err
	}
	if out == "-" {
		return importTo(w, w.stdout, sources)
	}
	// Written aside and renamed, so that a failed import leaves no half a set.
	f, err := os.CreateTemp(filepath.Dir(out), ".import-*")
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if strings.HasSuffix(out, ".zst") {
		z, err := zstd.NewWriter(f)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		err = errors.Join(importTo(w, z, sources), z.Close())
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	} else if err := errors.Join(importTo(w, f, sources), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), out); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

func importTo(w world, to io.Writer, sources []eval.Source) error {
	for _, s := range sources {
		n, err := eval.Write(to, s.Cases)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		fmt.Fprintf(w.stderr, "%s: %d cases\n", s.Name, n)
	}
	return nil
}
