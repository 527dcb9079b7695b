package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

type benchFlags struct {
	classifierFlags
	duration time.Duration
	sizes    []int
	callers  []int
	addr     string
	write    string
	writeAs  string
}

func benchCommand(w world) *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure scoring and routing on this machine",
		Long: `Bench runs closed loops: every caller sends its next prompt when the last one is answered. With --addr it calls Route on a running
server, without it scores in process. Prompts are made of common words, as many tokens long as said.

  weir bench                            score, one caller and more
  weir bench --addr 127.0.0.1:8080      Route over gRPC
  make bench-complete                   Complete beside a direct call and other proxies`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd.Context(), w, f) },
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&f.duration, "duration", 3*time.Second, "time for each row")
	cmd.Flags().IntSliceVar(&f.sizes, "tokens", []int{16, 32, 64, 128, 256, 512}, "prompt lengths in tokens")
	cmd.Flags().IntSliceVar(&f.callers, "callers", []int{1, 8, 64}, "closed-loop callers")
	cmd.Flags().StringVar(&f.addr, "addr", "", "call Route on this server, without TLS")
	cmd.Flags().StringVar(&f.write, "write", "", "also rewrite this Markdown file's table between <!-- NAME --> and <!-- /NAME -->")
	cmd.Flags().StringVar(&f.writeAs, "write-as", "bench", "NAME of the table for --write")
	cmd.AddCommand(benchCompleteCommand(w))
	return cmd
}

func runBench(ctx context.Context, w world, f *benchFlags) (err error) {
	if f.maxQueue == 0 {
		f.maxQueue = 4096 // measure the wait, not the shedding
	}
	o, err := f.open(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	call, name := o.callScore, "score in process"
	if f.addr != "" {
		conn, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		client := weirv1.NewRouterServiceClient(conn)
		call = func(ctx context.Context, text string) error {
			_, err := client.Route(ctx, &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: text}})
			return err
		}
		name = "Route over gRPC"
	}
	rows := []string{
		fmt.Sprintf("%s, %s, %d cores, %s, bundle %.19s…, %s a row", name, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), buildInfo(), o.classifier.Info().Digest, f.duration),
		"",
		"| tokens | callers | calls/s | p50 ms | p90 ms | p99 ms | allocations a call |",
		"|---|---|---|---|---|---|---|",
	}
	fmt.Fprintln(w.stdout, strings.Join(rows, "\n"))
	for _, size := range f.sizes {
		texts, err := benchTexts(o, size)
		if err != nil {
			return err
		}
		for _, callers := range f.callers {
			got, err := closedLoop(ctx, callers, f.duration, texts, call)
			if err != nil {
				return fmt.Errorf("bench with %d tokens and %d callers: %w", size, callers, err)
			}
			row := got.row(size, callers, f.addr == "")
			fmt.Fprintln(w.stdout, row)
			rows = append(rows, row)
		}
	}
	if f.write == "" {
		return nil
	}
	return rewriteTable(f.write, f.writeAs, strings.Join(rows, "\n"))
}

func (o *opened) callScore(ctx context.Context, text string) error {
	_, err := o.classifier.Classify(ctx, text)
	return err
}

// benchTexts makes 64 prompts of common words, of so many tokens, or a few more
// where the vocabulary cuts a word in pieces.
func benchTexts(o *opened, size int) ([]string, error) {
	words := strings.Fields("the time of a person or year way day thing man world life hand part child eye woman place work week case point company number group problem fact")
	rng := rand.New(rand.NewPCG(1, uint64(size))) //nolint:gosec // a seeded load, no secret
	texts := make([]string, 64)
	for i := range texts {
		var picked []string
		for n := 0; n < size; {
			word := words[rng.IntN(len(words))]
			picked = append(picked, word)
			tokens := 1
			if o.bundle != nil {
				var err error
				if _, tokens, _, _, err = o.bundle.Encode(word); err != nil {
					return nil, err
				}
			}
			n += tokens
		}
		texts[i] = strings.Join(picked, " ")
	}
	return texts, nil
}

type loopResult struct {
	latencies []time.Duration
	elapsed   time.Duration
	mallocs   uint64
}

// closedLoop calls with so many callers for the duration, after a warm-up of a
// tenth of it, and returns every latency.
func closedLoop(ctx context.Context, callers int, d time.Duration, texts []string, call func(context.Context, string) error) (loopResult, error) {
	var out loopResult
	var before, after runtime.MemStats
	for _, phase := range []time.Duration{d / 10, d} {
		perCaller := make([][]time.Duration, callers)
		errs := make([]error, callers)
		runtime.ReadMemStats(&before)
		start := time.Now()
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for i := c; time.Since(start) < phase && errs[c] == nil; i++ {
					begin := time.Now()
					err := call(ctx, texts[i%len(texts)])
					perCaller[c] = append(perCaller[c], time.Since(begin))
					errs[c] = err
				}
			})
		}
		wg.Wait()
		runtime.ReadMemStats(&after)
		if err := errors.Join(errs...); err != nil {
			return out, err
		}
		out = loopResult{latencies: slices.Concat(perCaller...), elapsed: time.Since(start), mallocs: after.Mallocs - before.Mallocs}
	}
	slices.Sort(out.latencies)
	return out, nil
}

func (r *loopResult) row(tokens, callers int, allocations bool) string {
	at := func(p float64) float64 {
		return float64(r.latencies[min(int(p*float64(len(r.latencies))), len(r.latencies)-1)]) / float64(time.Millisecond)
	}
	allocs := "-"
	if allocations {
		allocs = fmt.Sprintf("%.0f", float64(r.mallocs)/float64(len(r.latencies)))
	}
	return fmt.Sprintf("| %d | %d | %.0f | %.3f | %.3f | %.3f | %s |", tokens, callers, float64(len(r.latencies))/r.elapsed.Seconds(), at(.5), at(.9), at(.99), allocs)
}

// rewriteTable puts the table between the named marks of a Markdown file.
func rewriteTable(file, name, table string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	open, end := "<!-- "+name+" -->", "<!-- /"+name+" -->"
	head, rest, ok1 := strings.Cut(string(raw), open)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s lacks the marks %s and %s", file, open, end)
	}
	return os.WriteFile(file, []byte(head+open+"\n"+table+"\n"+end+tail), 0o644) //nolint:gosec // documentation
}
