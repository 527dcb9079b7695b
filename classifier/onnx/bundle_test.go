package onnx

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
)

// fakeEngine stands for native code: it counts what is open.
type fakeEngine struct {
	opened, closed int
	sessionErr     error
	run            func(ctx context.Context, ids []int64) ([][]float32, error)
}

func (f *fakeEngine) openSession([]byte, *Lane) (session, error) {
	if f.sessionErr != nil {
		return nil, f.sessionErr
	}
	f.opened++
	return fakeSession{f}, nil
}

func (f *fakeEngine) openTokenizer([]byte) (tokenizer, error) {
	f.opened++
	return letters{closed: &f.closed}, nil
}

func (f *fakeEngine) version() string { return "0" }

func (f *fakeEngine) close() error { return nil }

type fakeSession struct{ f *fakeEngine }

func (s fakeSession) run(ctx context.Context, ids []int64, _ []float32) ([][]float32, error) {
	return s.f.run(ctx, ids)
}

func (s fakeSession) close() error {
	s.f.closed++
	return nil
}

// unknown answers as no probe expects.
func unknown(context.Context, []int64) ([][]float32, error) {
	return [][]float32{{0}, {0}, make([]float32, 8), {0}, {0}}, nil
}

// fakeBundle is a bundle over one lane whose session is f, without any proof.
func fakeBundle(t *testing.T, f *fakeEngine, cfg Config, released func()) *Bundle {
	t.Helper()
	m, err := ReadManifest(bundleDir("tiny"))
	require.NoError(t, err)
	scorer, err := newScorer("fast", &m, m.Lanes.Fast)
	require.NoError(t, err)
	b := &Bundle{manifest: m, gate: newGate(cfg.withDefaults())}
	b.fast = &lane{
		session: fakeSession{f}, scorer: scorer,
		encoder: encoder{letters{}, m.Lanes.Fast.Window, SpecialTokens{Prefix: []int64{101}, Suffix: []int64{102}}},
	}
	b.close = b.closer(closers{fakeSession{f}.close}, released)
	return b
}

// TestOpenFreesWhatItMade refuses at different stages and counts.
func TestOpenFreesWhatItMade(t *testing.T) {
	// letters gives other special tokens than tiny's manifest says, so that the
	// first probe fails with tokenizer and session open.
	f := &fakeEngine{run: unknown}
	r := &Runtime{engine: f}
	_, err := r.Open(t.Context(), bundleDir("tiny"), Config{})
	require.ErrorContains(t, err, "probe 0, lane fast")
	assert.Equal(t, 2, f.opened)
	assert.Equal(t, 2, f.closed)
	f = &fakeEngine{sessionErr: errors.New("no such operator")}
	r = &Runtime{engine: f}
	_, err = r.Open(t.Context(), bundleDir("tiny"), Config{})
	require.ErrorContains(t, err, "fast.onnx: no such operator")
	assert.Equal(t, 1, f.opened)
	assert.Equal(t, 1, f.closed)
	require.NoError(t, r.Close(), "a refused bundle does not hold the runtime open")
	_, err = r.Open(t.Context(), bundleDir("tiny"), Config{})
	require.ErrorContains(t, err, "ONNX Runtime is closed")
	require.NoError(t, r.Close())
}

func TestOpenHonoursItsContext(t *testing.T) {
	f := &fakeEngine{run: unknown}
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err := (&Runtime{engine: f}).Open(ctx, bundleDir("tiny"), Config{})
	require.ErrorIs(t, err, cause)
	assert.Equal(t, f.opened, f.closed)
}

// TestGate fills the places and the queue, then empties them.
func TestGate(t *testing.T) {
	held, free := make(chan struct{}), make(chan struct{})
	f := &fakeEngine{run: func(context.Context, []int64) ([][]float32, error) {
		held <- struct{}{}
		<-free
		return unknown(t.Context(), nil)
	}}
	released := 0
	b := fakeBundle(t, f, Config{MaxConcurrent: 1, MaxQueue: 1}, func() { released++ })
	results := make(chan error, 2)
	call := func(ctx context.Context) {
		_, err := b.Classify(ctx, "hello")
		results <- err
	}
	go call(t.Context())
	<-held
	ctx, cancel := context.WithCancelCause(t.Context())
	go call(ctx)
	for b.gate.waiting.Load() == 0 {
		runtime.Gosched()
	}
	_, err := b.Classify(t.Context(), "hello")
	require.ErrorIs(t, err, classifier.ErrOverloaded)
	_, err = b.Classify(t.Context(), " ")
	require.ErrorIs(t, err, classifier.ErrNoContent, "what cannot be scored needs no place")
	cause := errors.New("gone")
	cancel(cause)
	require.ErrorIs(t, <-results, cause)
	go call(t.Context())
	for b.gate.waiting.Load() == 0 {
		runtime.Gosched()
	}
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	require.ErrorIs(t, <-results, classifier.ErrClosed, "who waits is told")
	assert.Zero(t, f.closed, "freed under a running call")
	close(free)
	require.NoError(t, <-results)
	require.NoError(t, <-closed)
	assert.Equal(t, 1, f.closed)
	assert.Equal(t, 1, released)
	require.NoError(t, b.Close())
	assert.Equal(t, 1, f.closed, "freed twice")
	_, err = b.Classify(t.Context(), "hello")
	require.ErrorIs(t, err, classifier.ErrClosed)
}

func TestConfigDefaults(t *testing.T) {
	n := runtime.GOMAXPROCS(0)
	assert.Equal(t, Config{n, 64 * n}, Config{}.withDefaults())
	assert.Equal(t, Config{3, 192}, Config{MaxConcurrent: 3}.withDefaults())
	assert.Equal(t, Config{3, 0}, Config{MaxConcurrent: 3, MaxQueue: -1}.withDefaults())
	assert.Equal(t, Config{3, 7}, Config{MaxConcurrent: 3, MaxQueue: 7}.withDefaults())
}

// TestRunsAreChecked refuses what a graph may answer at run time, whatever it
// declared and however it answered the probes.
func TestRunsAreChecked(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	eight := make([]float32, 8)
	for want, out := range map[string][][]float32{
		`output "quality_high" of the graph holds NaN`:           {{0}, {nan}, eight, {0}, {0}},
		`output "ood" of the graph holds -Inf`:                   {{0}, {0}, eight, {0}, {inf}},
		`output "domain" of the graph has 7 values`:              {{0}, {0}, eight[:7], {0}, {0}},
		`output "quality_efficient" of the graph has 2 values`:   {{0, 0}, {0}, eight, {0}, {0}},
		`output "output_tokens" of the graph has 0 values, want`: {{0}, {0}, eight, {}, {0}},
	} {
		f := &fakeEngine{run: func(context.Context, []int64) ([][]float32, error) { return out, nil }}
		b := fakeBundle(t, f, Config{}, func() {})
		s, err := b.Classify(t.Context(), "hello")
		require.ErrorContains(t, err, want)
		assert.Zero(t, s)
		require.NoError(t, b.Close())
	}
}

// TestScoresFromOutputs computes one answer by hand.
func TestScoresFromOutputs(t *testing.T) {
	domains := make([]float32, 8)
	domains[2] = 3
	var answer [][]float32
	f := &fakeEngine{run: func(context.Context, []int64) ([][]float32, error) { return answer, nil }}
	b := fakeBundle(t, f, Config{}, func() {})
	lane := b.fast.scorer.lane
	lane.OutputTokens = OutputTokens{P90Offset: 1, Default: 10, Min: 2, Max: 1000}
	for _, tc := range []struct {
		tokens, ood   float32
		expected, p90 float64
		out           bool
	}{
		{float32(math.Log(100)), 0, 100, 100 * math.E, false},
		{float32(math.Log(900)), float32(lane.OOD.Threshold) + 1, 900, 1000, true},
		{1e6, float32(lane.OOD.Threshold), 1000, 1000, false},
		{-1e6, 0, 2, 2, false},
	} {
		answer = [][]float32{{1e6}, {-1e6}, domains, {tc.tokens}, {tc.ood}}
		s, err := b.Classify(t.Context(), "hello")
		require.NoError(t, err)
		require.NoError(t, s.Validate())
		assert.InEpsilon(t, tc.expected, s.OutputTokens, 1e-6)
		assert.InEpsilon(t, tc.p90, s.OutputTokensP90, 1e-6)
		assert.Equal(t, tc.out, s.OutOfDistribution)
		assert.InDelta(t, math.Exp(3)/(math.Exp(3)+7), s.Domains[classifier.Math.Index()], 1e-9)
		assert.Greater(t, s.QEfficient.Value, 0.99)
		assert.Less(t, s.QHigh.Value, 0.01)
		assert.Equal(t, 5, s.InputTokens)
		assert.Equal(t, "fast", s.Lane)
	}
	require.NoError(t, b.Close())
}

// TestFewerDomains puts each label where it belongs.
func TestFewerDomains(t *testing.T) {
	f := &fakeEngine{run: func(context.Context, []int64) ([][]float32, error) {
		return [][]float32{{0}, {0}, {2, 1}, {0}, {0}}, nil
	}}
	b := fakeBundle(t, f, Config{}, func() {})
	b.fast.scorer.domains = []classifier.Domain{classifier.Legal, classifier.Coding}
	s, err := b.Classify(t.Context(), "hello")
	require.NoError(t, err)
	require.NoError(t, s.Validate())
	d, p := s.Domain()
	assert.Equal(t, classifier.Legal, d)
	assert.InDelta(t, 1/(1+math.Exp(-1)), p, 1e-9)
	assert.Zero(t, s.Domains[classifier.General.Index()])
	require.NoError(t, b.Close())
}

func TestTolerance(t *testing.T) {
	l := Lane{Tolerance: map[string]float64{"default": 1, "amd64": 2, "amd64+avx2": 3}}
	assert.InDelta(t, 3, l.tolerance("amd64+avx2"), 0)
	assert.InDelta(t, 2, l.tolerance("amd64+avx512vnni"), 0)
	assert.InDelta(t, 1, l.tolerance("arm64"), 0)
	assert.Contains(t, cpuFamily(), runtime.GOARCH)
}

func TestFindLibrary(t *testing.T) {
	name := libraryName(runtime.GOOS)
	given := filepath.Join(t.TempDir(), "mine.so")
	require.NoError(t, os.WriteFile(given, nil, 0o600))
	assert.Equal(t, given, FindLibrary("", filepath.Join(t.TempDir(), "missing.so"), given))
	module := t.TempDir()
	below := filepath.Join(module, "a", "b")
	require.NoError(t, os.MkdirAll(below, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(module, "third_party", "lib"), 0o755))
	library := filepath.Join(module, "third_party", "lib", name)
	require.NoError(t, os.WriteFile(library, nil, 0o600))
	t.Chdir(below)
	assert.Equal(t, name, FindLibrary(), "a folder that is no module is not searched")
	require.NoError(t, os.WriteFile(filepath.Join(module, "go.mod"), nil, 0o600))
	found, err := filepath.EvalSymlinks(FindLibrary())
	require.NoError(t, err)
	want, err := filepath.EvalSymlinks(library)
	require.NoError(t, err)
	assert.Equal(t, want, found)
}
