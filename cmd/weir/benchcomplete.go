package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

type benchCompleteFlags struct {
	direct, bare, weir, litellm string

	duration time.Duration
	callers  int
	chunks   int
	note     string
	write    string
	writeAs  string
}

func benchCompleteCommand(w world) *cobra.Command {
	f := &benchCompleteFlags{}
	cmd := &cobra.Command{
		Use:   "complete",
		Short: "Measure Complete beside a direct call, a bare proxy and LiteLLM's; see make bench-complete",
		Long: `Complete asks the same of every path to one provider, in turns, so that what else the machine does strikes all alike: first one caller, an answer of one
chunk and one of many; then many callers at once. It starts nothing: scripts/bench-complete starts the provider, the bare proxy and Weir, each in a process
of its own, and LiteLLM's proxy where it is asked to.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), w.stdout) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.direct, "direct", "", "the provider, as http://HOST:PORT/v1")
	flags.StringVar(&f.bare, "bare", "", "the bare proxy, HOST:PORT")
	flags.StringVar(&f.weir, "weir", "", "Weir, HOST:PORT")
	flags.StringVar(&f.litellm, "litellm", "", "LiteLLM's proxy, as http://HOST:PORT/v1; none where empty")
	flags.DurationVar(&f.duration, "duration", 3*time.Second, "time for each path, for each of the two tables")
	flags.IntVar(&f.callers, "callers", 64, "closed-loop callers of the second table")
	flags.IntVar(&f.chunks, "chunks", 200, "chunks of a long answer")
	flags.StringVar(&f.note, "note", "", "words for the tables' first line, such as LiteLLM's version")
	flags.StringVar(&f.write, "write", "", "also rewrite this Markdown file's table between <!-- NAME --> and <!-- /NAME -->")
	flags.StringVar(&f.writeAs, "write-as", "complete", "NAME of the table for --write")
	cmd.AddCommand(benchUpstreamCommand(w), benchBareCommand(w))
	return cmd
}

// took is how long one answer took: to its first piece, and whole.
type took struct{ first, whole time.Duration }

// path is one way to an answer of so many chunks. ask fails where the answer is
// not whole: a path that loses something is not faster.
type path struct {
	name string
	ask  func(ctx context.Context, chunks int) (took, error)
	// streams is false for Route, which answers no prompt.
	streams bool
	// every is how many turns of the others come to one of it; 0 for as many.
	every int

	short, long []took
	answers     int
	elapsed     time.Duration
}

const (
	pathDirect = "direct: HTTP, SSE"
	pathBare   = "bare proxy: SSE to gRPC"
	pathWeir   = "Weir: Complete"
	pathRoute  = "Weir: Route alone"
	pathOther  = "LiteLLM's proxy: HTTP, SSE"
)

func (f *benchCompleteFlags) run(ctx context.Context, out io.Writer) (err error) {
	if f.direct == "" || f.bare == "" || f.weir == "" || f.callers < 1 || f.chunks < 1 {
		return usageError("--direct, --bare and --weir are all needed, and at least one caller and chunk: scripts/bench-complete gives them")
	}
	bare, closeBare, err := askGRPC(f.bare)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBare()) }()
	weir, closeWeir, err := askGRPC(f.weir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeWeir()) }()
	direct := newAskSSE(f.direct)
	defer direct.http.CloseIdleConnections()
	paths := []*path{
		{name: pathDirect, ask: direct.ask, streams: true},
		{name: pathBare, ask: bare.complete, streams: true},
		{name: pathWeir, ask: weir.complete, streams: true},
		{name: pathRoute, ask: weir.route},
	}
	if f.litellm != "" {
		other := newAskSSE(f.litellm)
		defer other.http.CloseIdleConnections()
		paths = append(paths, &path{name: pathOther, ask: other.ask, streams: true, every: 8})
	}
	if err := f.oneCaller(ctx, paths); err != nil {
		return err
	}
	if err := f.manyCallers(ctx, paths); err != nil {
		return err
	}
	text := f.report(paths)
	if _, err := io.WriteString(out, text+"\n"); err != nil {
		return err
	}
	if f.write == "" {
		return nil
	}
	return rewriteTable(f.write, f.writeAs, text)
}

// oneCaller asks the paths in turns, each time in another order; the first tenth
// is not counted.
func (f *benchCompleteFlags) oneCaller(ctx context.Context, paths []*path) error {
	total := f.duration * time.Duration(len(paths))
	order := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // an order of turns, no secret
	for _, span := range []time.Duration{total / 10, total} {
		for _, p := range paths {
			p.short, p.long = nil, nil
		}
		start := time.Now()
		for turn := 0; turn == 0 || time.Since(start) < span; turn++ {
			for _, i := range order.Perm(len(paths)) {
				if p := paths[i]; p.every == 0 || turn%p.every == 0 {
					if err := f.askOnce(ctx, p); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// askOnce asks for a short answer and a long one.
func (f *benchCompleteFlags) askOnce(ctx context.Context, p *path) error {
	short, err := p.ask(ctx, 1)
	if err != nil {
		return fmt.Errorf("%s, one chunk: %w", p.name, err)
	}
	p.short = append(p.short, short)
	if !p.streams {
		return nil
	}
	long, err := p.ask(ctx, f.chunks)
	if err != nil {
		return fmt.Errorf("%s, %d chunks: %w", p.name, f.chunks, err)
	}
	p.long = append(p.long, long)
	return nil
}

// rounds is into how many slices the time of a path with many callers is cut, so
// that the paths take turns there too. The first is not counted.
const rounds = 6

func (f *benchCompleteFlags) manyCallers(ctx context.Context, paths []*path) error {
	for round := range rounds {
		for i := range paths {
			p := paths[(i+round)%len(paths)]
			if !p.streams {
				continue
			}
			answers, elapsed, err := f.loop(ctx, p, f.duration/(rounds-1))
			if err != nil {
				return fmt.Errorf("%s, %d callers: %w", p.name, f.callers, err)
			}
			if round > 0 {
				p.answers += answers
				p.elapsed += elapsed
			}
		}
	}
	return nil
}

func (f *benchCompleteFlags) loop(ctx context.Context, p *path, span time.Duration) (int, time.Duration, error) {
	counts, errs := make([]int, f.callers), make([]error, f.callers)
	start := time.Now()
	var wg sync.WaitGroup
	for c := range f.callers {
		wg.Go(func() {
			for errs[c] == nil && (counts[c] == 0 || time.Since(start) < span) {
				_, errs[c] = p.ask(ctx, f.chunks)
				counts[c]++
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum, time.Since(start), errors.Join(errs...)
}

func (p *path) rate() float64 { return float64(p.answers) / p.elapsed.Seconds() }

// percentile is in milliseconds.
func percentile(all []took, q float64, of func(took) time.Duration) float64 {
	sorted := make([]time.Duration, len(all))
	for i, t := range all {
		sorted[i] = of(t)
	}
	slices.Sort(sorted)
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]) / float64(time.Millisecond)
}

func first(t took) time.Duration { return t.first }
func whole(t took) time.Duration { return t.whole }

// report makes both tables and says what became of the goals.
func (f *benchCompleteFlags) report(paths []*path) string {
	by := map[string]*path{}
	for _, p := range paths {
		by[p.name] = p
	}
	head := fmt.Sprintf("%s, %d cores, %s, %s a path and table", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), buildInfo(), f.duration)
	if f.note != "" {
		head += "; " + f.note
	}
	rows := []string{
		head, "", "One caller, milliseconds:", "",
		fmt.Sprintf("| path | calls | one chunk p50 | p99 | first of %d chunks p50 | p99 | all %d p50 | p99 |", f.chunks, f.chunks),
		"|---|---|---|---|---|---|---|---|",
	}
	for _, p := range paths {
		row := fmt.Sprintf("| %s | %d | %.3f | %.3f |", p.name, len(p.short), percentile(p.short, .5, whole), percentile(p.short, .99, whole))
		if p.streams {
			row += fmt.Sprintf(" %.3f | %.3f | %.3f | %.3f |", percentile(p.long, .5, first), percentile(p.long, .99, first), percentile(p.long, .5, whole), percentile(p.long, .99, whole))
		} else {
			row += " - | - | - | - |"
		}
		rows = append(rows, row)
	}
	over := func(name string, of func(*path) float64) float64 { return of(by[name]) - of(by[pathDirect]) }
	oneChunk := func(p *path) float64 { return percentile(p.short, .5, whole) }
	firstOf := func(p *path) float64 { return percentile(p.long, .5, first) }
	goal := oneChunk(by[pathRoute]) + 1
	rows = append(rows, "",
		fmt.Sprintf("For an answer of one chunk, Complete's p50 is %.3f ms over direct, the bare proxy's %.3f ms. The goal is at most Route + 1 ms, %.3f ms: %s.",
			over(pathWeir, oneChunk), over(pathBare, oneChunk), goal, met(over(pathWeir, oneChunk) <= goal)),
		fmt.Sprintf("The first of %d chunks without a pause between them comes %.3f ms later than direct, through the bare proxy %.3f ms.",
			f.chunks, over(pathWeir, firstOf), over(pathBare, firstOf)),
		"", fmt.Sprintf("%d callers, answers of %d chunks:", f.callers, f.chunks), "",
		"| path | answers/s | of the bare proxy's |", "|---|---|---|",
	)
	for _, p := range paths {
		if p.streams {
			rows = append(rows, fmt.Sprintf("| %s | %.0f | %.0f %% |", p.name, p.rate(), 100*p.rate()/by[pathBare].rate()))
		}
	}
	share := by[pathWeir].rate() / by[pathBare].rate()
	rows = append(rows, "", fmt.Sprintf("The goal is at least 70 %% of the bare proxy's: %s.", met(share >= .7)))
	return strings.Join(rows, "\n")
}

func met(is bool) string {
	if is {
		return "met"
	}
	return "not met"
}
