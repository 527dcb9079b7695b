package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/eval"
)

// evalReportFlags are those of `weir eval report`.
type evalReportFlags struct {
	evalFlags
	from, only string
	outs       []string
	showText   bool
}

func evalReportCommand(w world) *cobra.Command {
	f := &evalReportFlags{}
	cmd := &cobra.Command{
		Use:   "report --set routellm:DIR --out report.html",
		Short: "Write a report as a page, a picture or a table",
		Long: `Report replays sets as run does (with --cache, without scoring anything twice) and writes what the names after --out end in: .html (one page that
loads nothing), .svg (the headline curve of one set), .csv, .json or .txt. With --from it reads a report that run --json or report wrote; such a
report holds figures and no single decisions, so that a page made from it has no list of the worst ones and no curves by domain.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEvalReport(cmd.Context(), w, f) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.from, "from", "", "report as JSON, in place of --set")
	cmd.Flags().StringArrayVar(&f.outs, "out", nil, "file to write, repeatable; its ending names the format (default: a table on standard output)")
	cmd.Flags().StringVar(&f.only, "only", "", "write this set only, by its name in the report")
	cmd.Flags().BoolVar(&f.showText, "show-text", false, "put the prompts of the worst decisions on the page")
	return cmd
}

func runEvalReport(ctx context.Context, w world, f *evalReportFlags) error {
	for _, out := range f.outs {
		if !slices.Contains(reportFormats(), filepath.Ext(out)) {
			return usageError("--out %s: end the name in one of %s", out, strings.Join(reportFormats(), ", "))
		}
	}
	if f.from != "" && (len(f.sets) > 0 || f.showText) {
		return usageError("--from reads figures only: leave --set and --show-text out")
	}
	report, details, err := f.load(ctx, w)
	if err != nil {
		return err
	}
	if f.only != "" {
		at := slices.IndexFunc(report.Sets, func(s eval.Result) bool { return s.Name == f.only })
		if at < 0 {
			return fmt.Errorf("--only %s is not in the report", f.only)
		}
		report.Sets = report.Sets[at : at+1]
	}
	if len(f.outs) == 0 {
		return eval.WriteTable(w.stdout, report)
	}
	for _, out := range f.outs {
		err := writeAside(out, func(to io.Writer) error { return writeReport(to, filepath.Ext(out), report, details) })
		if err != nil {
			return fmt.Errorf("report: %s: %w", out, err)
		}
		fmt.Fprintln(w.stderr, "wrote", out)
	}
	return nil
}

func reportFormats() []string { return []string{".html", ".svg", ".csv", ".json", ".txt"} }

// load replays the sets, or reads a report.
func (f *evalReportFlags) load(ctx context.Context, w world) (*eval.Report, []*eval.Detail, error) {
	if f.from != "" {
		report, err := readReport(f.from)
		return report, nil, err
	}
	report, samples, err := f.replay(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(f.outs, func(out string) bool { return filepath.Ext(out) == ".html" }) {
		return report, nil, nil
	}
	var details []*eval.Detail
	for _, s := range samples {
		details = append(details, eval.DetailOf(s, f.bootstrap, f.seed))
	}
	if f.showText {
		err = f.texts(details)
	}
	return report, details, err
}

// texts reads the sets once more for the prompts of the worst decisions.
func (f *evalReportFlags) texts(details []*eval.Detail) error {
	sources, err := openSets(f.sets)
	if err != nil {
		return err
	}
	for _, s := range sources {
		for _, d := range details {
			if d.Set == s.Name {
				if err := d.AddTexts(s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// openSets opens every set that flags name.
func openSets(specs []string) ([]eval.Source, error) {
	var out []eval.Source
	for _, spec := range specs {
		sources, err := eval.Open(spec)
		if err != nil {
			return nil, err
		}
		out = append(out, sources...)
	}
	return out, nil
}

// readReport reads what run --json wrote.
func readReport(name string) (*eval.Report, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var r eval.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", name, err)
	}
	if r.Version != 1 {
		return nil, fmt.Errorf("read report %s: version is %d: this program reads version 1, written by `weir eval run --json`", name, r.Version)
	}
	return &r, nil
}

func writeReport(to io.Writer, format string, r *eval.Report, details []*eval.Detail) error {
	switch format {
	case ".html":
		return eval.WriteHTML(to, r, details)
	case ".svg":
		if len(r.Sets) != 1 {
			return usageError("a picture shows one set and the report has %d: name one by --only", len(r.Sets))
		}
		return eval.WriteSVG(to, r, r.Sets[0].Name)
	case ".csv":
		return eval.WriteCSV(to, r)
	case ".json":
		enc := json.NewEncoder(to)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	default:
		return eval.WriteTable(to, r)
	}
}

// writeAside writes a file aside and renames it, so that a failure leaves the
// old one or none, never half a one.
func writeAside(name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".weir-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	buf := bufio.NewWriter(f)
	if err := errors.Join(write(buf), buf.Flush(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
