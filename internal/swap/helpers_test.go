package swap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recipe is a bundle for these tests: manifest.json holds it, and how it scores
// follows from Kind.
type recipe struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Kind: "" scores as the baseline does; other kinds are bad in one way each.
	Kind string `json:"kind"`
}

// fakeBundle is an opened recipe.
type fakeBundle struct {
	classifier.Lexical
	info    classifier.Info
	kind    string
	closed  atomic.Bool
	running atomic.Int64
	factory *factory
	fail    atomic.Bool
}

func (b *fakeBundle) Info() classifier.Info { return b.info }

func (b *fakeBundle) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	b.running.Add(1)
	defer b.running.Add(-1)
	if b.closed.Load() {
		b.factory.usedAfterClose.Add(1)
		return classifier.Scores{}, classifier.ErrClosed
	}
	if b.fail.Load() {
		return classifier.Scores{}, errors.New("the graph broke")
	}
	start := time.Now()
	s, err := b.Lexical.Classify(ctx, text)
	if err != nil {
		return s, err
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	chance := float64(h.Sum64()%1000) / 1000
	switch b.kind {
	case "swapped":
		s.QEfficient, s.QHigh = s.QHigh, s.QEfficient
	case "always strong":
		s.QEfficient, s.QHigh = classifier.Estimate{Value: 0.1 + chance/1e6, Low: 0.05, High: 0.2}, classifier.Estimate{Value: 0.9, Low: 0.8, High: 0.95}
	case "other weights":
		s.QEfficient = classifier.Estimate{Value: 0.2 + chance/2, Low: 0.1, High: 0.9}
		s.QHigh = classifier.Estimate{Value: 0.8, Low: 0.1, High: 0.9}
	case "NaN":
		s.QEfficient.Value = math.NaN()
	case "slow":
		for took := time.Since(start); time.Since(start) < 12*took+200*time.Microsecond; {
			continue
		}
	case "breaks a row":
		if text == "broken row" {
			return classifier.Scores{}, errors.New("holds +Inf")
		}
	case "damaged":
		if text == "broken row" {
			s.QHigh.Value -= 0.1
		}
	case "shifted":
		s.QEfficient.Value = classifier.Sigmoid(classifier.Logit(s.QEfficient.Value) - 0.05)
	}
	return s, nil
}

func (b *fakeBundle) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.factory.open.Add(-1)
		if b.running.Load() > 0 {
			b.factory.closedWhileUsed.Add(1)
		}
	}
	return nil
}

// factory opens recipes and counts.
type factory struct {
	open, opened, usedAfterClose, closedWhileUsed atomic.Int64
	loading, mostLoading                          atomic.Int64
	last                                          atomic.Pointer[fakeBundle]
}

func readRecipe(dir string) (recipe, string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return recipe{}, "", err
	}
	sum := sha256.Sum256(raw)
	var r recipe
	err = json.Unmarshal(raw, &r)
	return r, "sha256:" + hex.EncodeToString(sum[:]), err
}

func (f *factory) Open(_ context.Context, dir string) (Bundle, error) {
	f.enter()
	defer f.loading.Add(-1)
	r, digest, err := readRecipe(dir)
	if err != nil {
		return nil, err
	}
	if r.Kind == "refuses to open" {
		return nil, errors.New("probe 3: other scores")
	}
	f.open.Add(1)
	f.opened.Add(1)
	b := &fakeBundle{info: classifier.Info{Name: r.Name, Version: r.Version, Digest: digest}, kind: r.Kind, factory: f}
	f.last.Store(b)
	return b, nil
}

// enter counts loads that overlap.
func (f *factory) enter() {
	n := f.loading.Add(1)
	for most := f.mostLoading.Load(); n > most && !f.mostLoading.CompareAndSwap(most, n); most = f.mostLoading.Load() {
		continue
	}
}

func identifyRecipe(dir string) (Identity, []Gate) {
	r, digest, err := readRecipe(dir)
	id := Identity{Name: r.Name, Version: r.Version, Digest: digest}
	if err != nil {
		return id, []Gate{{Name: GateManifest, Detail: err.Error()}}
	}
	return id, nil
}

// cases are prompts of growing difficulty with outcomes that fit.
func cases(n int) eval.Source {
	return eval.Source{Name: "made", Weak: "weak", Strong: "strong", Cases: iter.Seq2[eval.Case, error](func(yield func(eval.Case, error) bool) {
		for i := range n {
			text := fmt.Sprintf("what is %d", i)
			if i%2 == 0 {
				text = fmt.Sprintf("Prove by induction that the sum of the first %d odd integers is a square, then derive the asymptotic complexity "+
					"of the algorithm and implement it:\n```go\nfunc f(n int) int { return %d*n }\n```", i, i)
			}
			c := eval.Case{
				ID: fmt.Sprint(i), Prompt: text, Outcomes: map[string]float64{"weak": float64(i % 2), "strong": 1},
				CostUSD: map[string]float64{"weak": 1e-5, "strong": 1e-3},
			}
			if !yield(c, nil) {
				return
			}
		}
	})}
}

func rules(t testing.TB) *router.Rules {
	t.Helper()
	r, err := router.LoadConfig("", func(string) string { return "" })
	require.NoError(t, err)
	return r
}

// put writes a recipe's folder.
func put(t testing.TB, dir string, r recipe) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	raw, err := json.Marshal(r)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "manifest.json"), raw, 0o600))
	return dir
}

// bench is a manager with everything around it.
type bench struct {
	t       testing.TB
	m       *Manager
	store   *router.Store
	router  *router.Router
	factory *factory
	root    string
	watched string
	state   string
	policy  Policy
	exams   atomic.Int64
	// examFault, where set, takes the exam's place.
	examFault func(Job) (*Report, error)
	// stop ends the manager, once.
	stop func()

	mu     sync.Mutex
	events []Event
}

func (b *bench) told() []EventKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []EventKind
	for _, e := range b.events {
		out = append(out, e.Kind)
	}
	return out
}

func (b *bench) last() Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events[len(b.events)-1]
}

// examine runs a real exam over the made cases, in this process.
func (b *bench) examine(ctx context.Context, job Job) (*Report, error) {
	b.exams.Add(1)
	b.factory.enter() // a load as well
	defer b.factory.loading.Add(-1)
	if b.examFault != nil {
		return b.examFault(job)
	}
	aside := &factory{}
	e := Exam{
		Job: job, Open: aside.Open, Rules: rules(b.t), Sources: []eval.Source{cases(100)}, Resident: func() (int64, error) { return 1, nil },
		Refusals: func(err error) []Gate { return []Gate{{Name: GateProbes, Detail: err.Error()}} },
	}
	r, err := e.Run(ctx)
	assert.Zero(b.t, aside.open.Load(), "an exam left a bundle open")
	return r, err
}

// newBench serves version 1 from a watched folder; change edits the config.
func newBench(t testing.TB, change func(*bench, *Config)) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{
		t: t, factory: &factory{}, root: filepath.Join(dir, "root"), watched: filepath.Join(dir, "live"), state: filepath.Join(dir, "state"),
		policy: DefaultPolicy(),
	}
	require.NoError(t, os.MkdirAll(b.root, 0o755))
	b.policy.Latency.MaxRatio = 1e6 // what is timed here is no graph
	b.policy.Replay.Bootstrap = 100
	put(t, b.watched, recipe{Name: "b", Version: "1"})
	b.start(change)
	return b
}

func (b *bench) start(change func(*bench, *Config)) {
	b.t.Helper()
	state, err := OpenState(b.state)
	require.NoError(b.t, err)
	dir, id, err := state.Import(b.t.Context(), b.watched, 1<<20, identifyRecipe)
	require.NoError(b.t, err)
	serving, err := b.factory.Open(b.t.Context(), dir)
	require.NoError(b.t, err)
	b.store, err = router.NewStore(serving, rules(b.t))
	require.NoError(b.t, err)
	cfg := Config{
		Store: b.store, Serving: serving, Open: b.factory.Open, Identify: identifyRecipe, Examine: b.examine,
		Root: b.root, Watched: b.watched, State: state, Policy: &b.policy, Logger: slog.New(slog.DiscardHandler),
		Notify: func(e Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		},
	}
	if change != nil {
		change(b, &cfg)
	}
	b.m, err = New(cfg)
	require.NoError(b.t, err)
	require.NoError(b.t, b.m.Boot(id.Digest))
	journal, err := router.NewMemoryJournal(10)
	require.NoError(b.t, err)
	var n atomic.Int64
	b.router, err = router.New(router.Config{
		Store: b.store, Journal: journal, Observer: b.m, Now: time.Now, ClassifyTimeout: time.Minute, NewID: func() string { return fmt.Sprint(n.Add(1)) },
	})
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(b.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(b.t, b.m.Run(ctx)) })
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			wg.Wait()
			assert.NoError(b.t, b.m.Close())
			assert.NoError(b.t, state.Close())
			assert.Zero(b.t, b.factory.open.Load(), "bundles are open after Close")
			assert.Zero(b.t, b.factory.usedAfterClose.Load(), "a closed bundle was used")
			assert.Zero(b.t, b.factory.closedWhileUsed.Load(), "a bundle was closed while it was used")
		})
	}
	b.t.Cleanup(b.stop)
}

func ask(text string) *router.Request {
	return &router.Request{Messages: []classifier.Message{{Role: classifier.User, Text: text}}}
}

// serving is the version that decides now.
func (b *bench) serving() string {
	snap := b.store.Acquire()
	defer snap.Release()
	return snap.Classifier.Info().Version
}
