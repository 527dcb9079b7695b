//go:build native && cgo

package onnx

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
)

// forever is a text whose run by slowGraph ends only when it is told to: its last
// token is ##hood.
const forever = "xhood"

// start runs Classify in a goroutine and returns when it is inside the graph.
func start(t *testing.T, b *Bundle, ctx context.Context) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := b.Classify(ctx, forever)
		done <- err
	}()
	require.Eventually(t, func() bool { return len(b.gate.places) > 0 }, 10*time.Second, time.Millisecond)
	time.Sleep(20 * time.Millisecond) // past the tokenizer, into the loop
	return done
}

// TestCancelInFlight would never end if a run were not told to stop.
func TestCancelInFlight(t *testing.T) {
	b := open(t, foreignBundle(t, slowGraph(), object{}), Config{MaxConcurrent: 1})
	for range 20 {
		cause := errors.New("the caller hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := start(t, b, ctx)
		cancel(cause)
		require.ErrorIs(t, <-done, cause)
	}
	s, err := b.Classify(t.Context(), "a b c")
	require.NoError(t, err)
	require.NoError(t, s.Validate())
}

func TestDeadlineInFlight(t *testing.T) {
	b := open(t, foreignBundle(t, slowGraph(), object{}), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := b.Classify(ctx, forever)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestOpenIsCancelled stops a bundle whose probe never ends.
func TestOpenIsCancelled(t *testing.T) {
	dir := foreignBundle(t, slowGraph(), object{})
	edit(t, dir, "p.json", func(d object) { d["probes"].([]any)[0].(object)["text"] = forever })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := shared.Open(ctx, dir, Config{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestQueueIsBounded(t *testing.T) {
	b := open(t, foreignBundle(t, slowGraph(), object{}), Config{MaxConcurrent: 1, MaxQueue: 1})
	ctx, cancel := context.WithCancel(t.Context())
	running := start(t, b, ctx)
	waiting := make(chan error, 1)
	go func() {
		_, err := b.Classify(t.Context(), "a")
		waiting <- err
	}()
	require.Eventually(t, func() bool { return b.gate.waiting.Load() == 1 }, 10*time.Second, time.Millisecond)
	_, err := b.Classify(t.Context(), "c")
	require.ErrorIs(t, err, classifier.ErrOverloaded)
	cancel()
	require.ErrorIs(t, <-running, context.Canceled)
	require.NoError(t, <-waiting, "who waited is served")
	_, err = b.Classify(t.Context(), "d")
	require.NoError(t, err)
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	b := open(t, foreignBundle(t, slowGraph(), object{}), Config{MaxConcurrent: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	running := start(t, b, ctx)
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	_, err := b.Classify(short, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	cancel()
	require.ErrorIs(t, <-running, context.Canceled)
}

// TestCloseWaitsForRuns closes under a run, a caller in the queue and a late one.
func TestCloseWaitsForRuns(t *testing.T) {
	b, err := shared.Open(t.Context(), foreignBundle(t, slowGraph(), object{}), Config{MaxConcurrent: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	running := start(t, b, ctx)
	waiting := make(chan error, 1)
	go func() {
		_, err := b.Classify(t.Context(), "a")
		waiting <- err
	}()
	require.Eventually(t, func() bool { return b.gate.waiting.Load() == 1 }, 10*time.Second, time.Millisecond)
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- b.Close() }()
	}
	require.ErrorIs(t, <-waiting, classifier.ErrClosed)
	_, err = b.Classify(t.Context(), "too late")
	require.ErrorIs(t, err, classifier.ErrClosed)
	_, _, _, _, err = b.Encode("too late")
	require.ErrorIs(t, err, classifier.ErrClosed)
	select {
	case <-closed:
		t.Fatal("Close returned while a run was using the session")
	case <-time.After(30 * time.Millisecond):
	}
	cancel()
	require.ErrorIs(t, <-running, context.Canceled)
	require.NoError(t, <-closed)
	require.NoError(t, <-closed)
	require.NoError(t, b.Close())
}

// TestCloseUnderTraffic is for the race detector and for use after free: bundles
// close at any moment of other goroutines' calls.
func TestCloseUnderTraffic(t *testing.T) {
	for range 30 {
		b, err := shared.Open(t.Context(), bundleDir("tiny"), Config{MaxConcurrent: 2, MaxQueue: 2})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					ctx, cancel := context.WithTimeout(context.Background(), 200*time.Microsecond)
					s, err := b.Classify(ctx, "is this one fast enough?")
					cancel()
					if errors.Is(err, classifier.ErrClosed) {
						return
					}
					if err == nil {
						assert.NoError(t, s.Validate())
						continue
					}
					if !errors.Is(err, context.DeadlineExceeded) {
						assert.ErrorIs(t, err, classifier.ErrOverloaded)
					}
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		require.NoError(t, b.Close())
		wg.Wait()
	}
}

func TestRuntime(t *testing.T) {
	_, err := Start(RuntimeConfig{})
	require.ErrorContains(t, err, "started already")
	_, err = Start(RuntimeConfig{LibraryPath: filepath.Join(t.TempDir(), "libonnxruntime.so")})
	require.ErrorContains(t, err, "make setup")
	assert.Regexp(t, `^1\.\d+\.\d+$`, shared.Version())
	b := open(t, bundleDir("tiny"), Config{})
	require.ErrorContains(t, shared.Close(), "bundles are open")
	_, err = b.Classify(t.Context(), "a refused Close changes nothing")
	require.NoError(t, err)
}
