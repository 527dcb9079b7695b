package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/weirhq/weir/classifier"
)

// scoreLine is a line of the output. Numbers have full precision.
type scoreLine struct {
	ID                  string             `json:"id"`
	Complexity          float64            `json:"complexity"`
	Gain                float64            `json:"gain"`
	QEfficient          float64            `json:"q_efficient"`
	QHigh               float64            `json:"q_high"`
	Domain              string             `json:"domain"`
	DomainProbabilities map[string]float64 `json:"domain_probabilities"`
	OutputTokens        float64            `json:"output_tokens"`
	OutputTokensP90     float64            `json:"output_tokens_p90"`
	InputTokens         int                `json:"input_tokens"`
	TruncatedTokens     int                `json:"truncated_tokens"`
	TokensEstimated     bool               `json:"tokens_estimated"`
	OutOfDistribution   bool               `json:"out_of_distribution"`
	Lane                string             `json:"lane"`
	BundleDigest        string             `json:"bundle_digest"`
	IDs                 []int64            `json:"ids,omitempty"`
}

// failedLine stands in for a prompt that cannot be scored, so that one such
// prompt does not lose the others.
type failedLine struct {
	ID           string `json:"id"`
	Error        string `json:"error"`
	BundleDigest string `json:"bundle_digest"`
}

type scoreFlags struct {
	classifierFlags
	in, out string
	ids     bool
}

func scoreCommand(w world) *cobra.Command {
	f := &scoreFlags{}
	cmd := &cobra.Command{
		Use:   "score --in prompts.jsonl --out scores.jsonl",
		Short: "Score many prompts through the classifier that serves",
		Long: `Score reads one JSON object a line, with an id and either a prompt or messages, and writes one a line, in the same order. It goes
on where an earlier run of the same file and bundle stopped, and refuses to mix the scores of two bundles in one file.
Names that end in .zst are decompressed; - is standard input or output.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runScore(cmd.Context(), w, f) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.in, "in", "", "prompts, JSONL (required)")
	cmd.Flags().StringVar(&f.out, "out", "-", "scores, JSONL")
	cmd.Flags().BoolVar(&f.ids, "ids", false, "write the token ids that the fast lane reads, too")
	return cmd
}

func runScore(ctx context.Context, w world, f *scoreFlags) (err error) {
	if f.in == "" {
		return usageError("score needs --in FILE; see `weir score --help`")
	}
	o, err := f.open(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if f.ids && o.bundle == nil {
		return usageError("--ids needs a model bundle, not the baseline")
	}
	if sameFile(f.in, f.out) {
		return usageError("--in and --out are the same file: name another --out")
	}
	lines, err := openLines(f.in, w.stdin)
	if err != nil {
		return fmt.Errorf("score: %w", err)
	}
	defer func() { err = errors.Join(err, lines.closer()) }()
	out, err := openScores(f.out, w.stdout, o.classifier.Info().Digest)
	if err != nil {
		return fmt.Errorf("score: %w", err)
	}
	if err := out.skip(lines); err != nil {
		return errors.Join(fmt.Errorf("score: %w", err), out.close())
	}
	job := &scoring{opened: o, ids: f.ids, lines: lines, out: out, bar: progress(w, lines, out.done)}
	err = errors.Join(job.run(ctx), out.close())
	if err != nil {
		return fmt.Errorf("score: %w; what was written is kept: once that is mended, the same command goes on from there", err)
	}
	if job.failed > 0 {
		return faultsError(fmt.Errorf("score: %d of %d prompts could not be scored, their lines say why", job.failed, job.written))
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// progress is a bar over the input's bytes, on a terminal only.
func progress(w world, lines *lineReader, done int) *progressbar.ProgressBar {
	file, ok := w.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	total := lines.size
	if total == 0 {
		total = -1
	}
	bar := progressbar.NewOptions64(total, progressbar.OptionSetWriter(file), progressbar.OptionShowBytes(true),
		progressbar.OptionSetDescription(fmt.Sprintf("scoring, %d done before", done)), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	return bar
}

// scoring is one run over a file.
type scoring struct {
	*opened
	ids             bool
	lines           *lineReader
	out             *scoresFile
	bar             *progressbar.ProgressBar
	written, failed int
}

type scoreJob struct {
	record promptRecord
	result any
	err    error
	at     int64
	done   chan struct{}
}

// run scores the rest of the input on every core and writes in order.
func (s *scoring) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	work, order := make(chan *scoreJob), make(chan *scoreJob, 4*workers)
	group.Go(func() error {
		defer close(work)
		defer close(order)
		for {
			record, err := s.lines.nextRecord()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			job := &scoreJob{record: record, at: s.lines.read, done: make(chan struct{})}
			for _, to := range []chan *scoreJob{order, work} {
				select {
				case to <- job:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
	})
	for range workers {
		group.Go(func() error {
			for job := range work {
				job.result, job.err = s.score(ctx, &job.record)
				close(job.done)
			}
			return nil
		})
	}
	group.Go(func() error { return s.write(ctx, order) })
	return group.Wait()
}

func (s *scoring) write(ctx context.Context, order <-chan *scoreJob) error {
	for job := range order {
		select {
		case <-job.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if job.err != nil {
			return job.err
		}
		if _, failed := job.result.(failedLine); failed {
			s.failed++
		}
		if err := s.out.write(job.result); err != nil {
			return err
		}
		s.written++
		if s.bar != nil {
			_ = s.bar.Set64(job.at)
		}
	}
	return nil
}

// score returns the line of one record. Only what is wrong with the record
// itself becomes a failed line; a fault of the classifier ends the run.
func (s *scoring) score(ctx context.Context, r *promptRecord) (any, error) {
	digest := s.classifier.Info().Digest
	text, err := r.text()
	if err != nil {
		return failedLine{r.ID, err.Error(), digest}, nil
	}
	got, err := s.classifier.Classify(ctx, text)
	if errors.Is(err, classifier.ErrNoContent) || errors.Is(err, classifier.ErrInvalidText) {
		return failedLine{r.ID, err.Error(), digest}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("id %q: %w", r.ID, err)
	}
	domain, _ := got.Domain()
	line := scoreLine{
		ID: r.ID, Complexity: got.Complexity(), Gain: got.Gain(), QEfficient: got.QEfficient.Value, QHigh: got.QHigh.Value,
		Domain: domain.String(), DomainProbabilities: map[string]float64{}, OutputTokens: got.OutputTokens, OutputTokensP90: got.OutputTokensP90,
		InputTokens: got.InputTokens, TruncatedTokens: got.TruncatedTokens, TokensEstimated: got.TokensEstimated,
		OutOfDistribution: got.OutOfDistribution, Lane: got.Lane, BundleDigest: digest,
	}
	for _, d := range classifier.Domains() {
		line.DomainProbabilities[d.String()] = got.Domains[d.Index()]
	}
	if s.ids {
		if line.IDs, _, _, _, err = s.bundle.Encode(text); err != nil {
			return nil, fmt.Errorf("id %q: %w", r.ID, err)
		}
	}
	return line, nil
}

// scoresFile is the output, with what an earlier run left in it.
type scoresFile struct {
	w      *bufio.Writer
	file   *os.File // nil for standard output
	done   int
	ids    []string
	digest string
}

// openScores opens the output. A file of an earlier run is gone on with: whole
// lines are kept, a half line at its end is cut off, and lines of another
// digest are refused.
func openScores(name string, stdout io.Writer, digest string) (*scoresFile, error) {
	if name == "-" {
		return &scoresFile{w: bufio.NewWriter(stdout), digest: digest}, nil
	}
	// A device or a pipe is opened by nobody here: reading one back has no end.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("--out %s is no regular file: name a file, or - for standard output", name)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // the operator named it; scores are no secret
	if err != nil {
		return nil, err
	}
	out := &scoresFile{file: f, digest: digest}
	if err := out.readBack(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	out.w = bufio.NewWriterSize(f, 1<<16)
	return out, nil
}

// readBack keeps the whole lines and cuts off a half line that began as one of
// ours. Anything else in the file is somebody's, and is refused untouched.
func (s *scoresFile) readBack(name string) error {
	foreign := func(what string) error {
		return fmt.Errorf("%s line %d %s: name another --out, or remove the file", name, s.done+1, what)
	}
	lines := &lineReader{r: bufio.NewReaderSize(s.file, 1<<16)}
	var whole int64
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read back %s: %w", name, err)
		}
		if lines.half {
			if !ourHalf(line) {
				return foreign("is no line of scores")
			}
			break
		}
		var before failedLine
		if err := json.Unmarshal(line, &before); err != nil || before.ID == "" || before.BundleDigest == "" {
			return foreign("is no line of scores")
		}
		if before.BundleDigest != s.digest {
			return foreign(fmt.Sprintf("holds scores of %s, this is %s", before.BundleDigest, s.digest))
		}
		s.ids = append(s.ids, before.ID)
		s.done++
		whole = lines.read
	}
	if err := s.file.Truncate(whole); err != nil {
		return err
	}
	_, err := s.file.Seek(whole, io.SeekStart)
	return err
}

// ourHalf tells whether a line without an end is the beginning of one of ours,
// and not a whole object such as a prompt.
func ourHalf(line []byte) bool {
	const begin = `{"id":"`
	n := min(len(line), len(begin))
	return string(line[:n]) == begin[:n] && !json.Valid(line)
}

// skip passes over the records that an earlier run has scored, and refuses an
// input that does not begin with them.
func (s *scoresFile) skip(lines *lineReader) error {
	for i, id := range s.ids {
		r, err := lines.nextRecord()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the output has %d lines, the input only %d: it is the output of another input", s.done, i)
		}
		if err != nil {
			return err
		}
		if r.ID != id {
			return fmt.Errorf("output line %d is of id %q, the input has %q there: it is the output of another input; name another --out", i+1, id, r.ID)
		}
	}
	s.ids = nil
	return nil
}

func (s *scoresFile) write(line any) error {
	raw, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := s.w.Write(append(raw, '\n')); err != nil {
		return err
	}
	return nil
}

func (s *scoresFile) close() error {
	err := s.w.Flush()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
