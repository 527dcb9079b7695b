package swap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/router"
)

// Exam holds a candidate against the gates that need it to run. It belongs into a
// process of its own.
type Exam struct {
	Job
	// Open opens the bundle in a folder; Refusals turns its error into the gates
	// that refuse.
	Open     func(ctx context.Context, dir string) (Bundle, error)
	Refusals func(err error) []Gate
	// Rules decide in the replay; Sources are its sets.
	Rules   *router.Rules
	Sources []eval.Source
	// Cover are texts that between them reach every row of the candidate's tables,
	// such as the words of its vocabulary; the gate "damage" scores them.
	Cover []string
	// CacheDir keeps scores between exams; "" keeps none.
	CacheDir string
	// Progress is told the gate that is about to be held; nil for nobody.
	Progress func(gate string)
	// Resident returns the process's resident memory in bytes; nil reads /proc.
	Resident func() (int64, error)
}

// Run examines. The report lists every gate that was held; after a refusal the
// gates that need what was refused are left out. An error is a fault of the
// examination, such as a set that is not there or a serving bundle that does not
// open: it says nothing about the candidate.
func (e *Exam) Run(ctx context.Context) (_ *Report, err error) {
	r := &Report{Version: 1}
	if e.Resident == nil {
		e.Resident = resident
	}
	if e.Progress == nil {
		e.Progress = func(string) {}
	}
	e.Progress(GateLoad)
	serving, candidate, err := e.openBoth(ctx, r)
	defer func() {
		for _, b := range []Bundle{candidate, serving} {
			if b != nil {
				err = errors.Join(err, b.Close())
			}
		}
	}()
	if err != nil || candidate == nil {
		return r, err
	}
	texts, err := e.texts()
	if err != nil {
		return r, err
	}
	// Every prompt is scored once by either bundle, however many gates look at it: a
	// base lane takes milliseconds.
	knownServing, known := remember(serving), remember(candidate)
	e.Progress(GateRange)
	if !e.checkRange(ctx, r, known, lanesOf(candidate), texts) || ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	e.Progress(GateDamage)
	if err := e.checkDamage(ctx, r, serving, candidate, texts); err != nil {
		return r, err
	}
	e.Progress(GateLatency)
	if err := e.checkSpeed(ctx, r, serving, candidate, texts); err != nil {
		return r, err
	}
	e.checkMemory(r)
	e.Progress(GateReplay)
	err = e.checkReplay(ctx, r, knownServing, known, texts)
	return r, err
}

// openBoth opens the serving bundle and then the candidate, and weighs them. The
// serving one is opened twice: what the first opening of any bundle costs the
// process must not be counted as one bundle's.
func (e *Exam) openBoth(ctx context.Context, r *Report) (serving, candidate Bundle, err error) {
	first, err := e.Open(ctx, e.Serving)
	if err != nil {
		return nil, nil, fmt.Errorf("open the copy of the serving bundle: %w", err)
	}
	if err := first.Close(); err != nil {
		return nil, nil, err
	}
	before, known := e.weigh()
	if serving, err = e.Open(ctx, e.Serving); err != nil {
		return nil, nil, fmt.Errorf("open the copy of the serving bundle: %w", err)
	}
	r.Serving = identityOf(serving.Info())
	between, _ := e.weigh()
	candidate, err = e.Open(ctx, e.Candidate)
	if ctx.Err() != nil {
		return serving, candidate, context.Cause(ctx)
	}
	if err != nil {
		r.Gates = append(r.Gates, e.Refusals(err)...)
		return serving, nil, nil
	}
	after, _ := e.weigh()
	r.Candidate = identityOf(candidate.Info())
	if known {
		r.Size = &Size{Serving: max(between-before, 0), Candidate: max(after-between, 0)}
	}
	for _, g := range []struct{ name, detail string }{
		{GateManifest, "its schema and contract hold"},
		{GateDigests, "every file is what the manifest says"},
		{GateExternal, "no weights are kept elsewhere"},
		{GateGraph, "inputs, outputs, operators and opset are known"},
		{GateTokenizer, "it gives the recorded ids"},
		{GateProbes, "every golden probe gives what was recorded"},
	} {
		r.pass(g.name, "%s", g.detail)
	}
	return serving, candidate, nil
}

func (e *Exam) weigh() (int64, bool) {
	debug.FreeOSMemory() // what Go has freed and kept is no bundle's
	n, err := e.Resident()
	return n, err == nil
}

// resident reads this process's resident memory where the system has /proc.
func resident() (int64, error) {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/self/statm has %d fields", len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// texts are the prompts of the sets and then the captured ones, without those that
// no bundle can score, each once.
func (e *Exam) texts() ([]string, error) {
	var out []string
	seen := map[string]bool{}
	add := func(text string) {
		if clean, err := classifier.Clean(text); err == nil && strings.TrimSpace(clean) != "" && !seen[text] {
			seen[text] = true
			out = append(out, text)
		}
	}
	for _, s := range e.Sources {
		for c, err := range s.Cases {
			if err != nil {
				return nil, fmt.Errorf("replay set %s: %w", s.Name, err)
			}
			if c.Split == eval.SplitOverlap {
				continue
			}
			text, err := c.Text()
			if err != nil {
				return nil, fmt.Errorf("replay set %s: %w", s.Name, err)
			}
			add(text)
		}
	}
	for _, t := range e.Texts {
		add(t)
	}
	return out, nil
}

// checkRange scores every prompt: probes are few, and a fault may sit in one row of a
// table. Where there are several lanes, each is asked about every prompt by itself:
// callers will ask what the cascade did not ask here.
func (e *Exam) checkRange(ctx context.Context, r *Report, whole classifier.Classifier, lanes map[string]classifier.Classifier, texts []string) bool {
	if faults := unsound(ctx, whole, "", texts); faults != "" {
		r.refuse(GateRange, "%s", faults)
		return false
	}
	if len(lanes) > 1 {
		for _, name := range slices.Sorted(maps.Keys(lanes)) {
			if faults := unsound(ctx, lanes[name], " of lane "+name, texts); faults != "" {
				r.refuse(GateRange, "%s", faults)
				return false
			}
		}
	}
	r.pass(GateRange, "%d prompts give sound scores", len(texts))
	return true
}

// unsound says how many prompts give no sound score; "" where all do.
func unsound(ctx context.Context, c classifier.Classifier, which string, texts []string) string {
	faults, first := 0, error(nil)
	for _, t := range texts {
		s, err := c.Classify(ctx, t)
		if errors.Is(err, classifier.ErrNoContent) {
			continue
		}
		if err == nil {
			err = s.Validate()
		}
		if err != nil {
			if faults++; first == nil {
				first = err
			}
		}
	}
	if faults == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d prompts give no sound score%s, the first: %v", faults, len(texts), which, first)
}

func (e *Exam) checkMemory(r *Report) {
	p, s := e.Policy.Memory, r.Size
	if s == nil {
		r.pass(GateMemory, "not measured: this system does not tell")
		return
	}
	limit := max(p.AllowBytes, int64(p.MaxRatio*float64(s.Serving)))
	if s.Candidate > limit {
		r.refuse(GateMemory, "opening it takes %s, serving takes %s, allowed are %s (memory.max_ratio, memory.allow_bytes)", mib(s.Candidate), mib(s.Serving), mib(limit))
		return
	}
	r.pass(GateMemory, "opening it takes %s, serving takes %s", mib(s.Candidate), mib(s.Serving))
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
