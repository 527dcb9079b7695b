package watch

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched runs a watcher whose changes a test waits for.
type watched struct {
	t       *testing.T
	changes chan struct{}
	calls   atomic.Int64
}

func start(t *testing.T, cfg Config) *watched {
	t.Helper()
	w := &watched{t: t, changes: make(chan struct{}, 1000)}
	cfg.Changed = func(context.Context) {
		w.calls.Add(1)
		w.changes <- struct{}{}
	}
	if cfg.Debounce == 0 {
		cfg.Debounce = 30 * time.Millisecond
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Hour // what is found is found by notices
	}
	watcher, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, watcher.Run(ctx)) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	time.Sleep(20 * time.Millisecond) // let it begin: New has noted the state before
	return w
}

// one waits for a change and then for rest.
func (w *watched) one(what string) {
	w.t.Helper()
	select {
	case <-w.changes:
	case <-time.After(10 * time.Second):
		require.Fail(w.t, "no change was told", what)
	}
}

func (w *watched) none(what string) {
	w.t.Helper()
	select {
	case <-w.changes:
		require.Fail(w.t, "a change was told that was none", what)
	case <-time.After(150 * time.Millisecond):
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

func TestFileChanges(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "weir.yaml")
	put(t, file, "one")
	w := start(t, Config{Paths: []string{file}})
	w.none("nothing has happened")

	put(t, file, "three")
	w.one("written in place")

	// As editors do it: aside, then renamed over; of the same size.
	put(t, filepath.Join(dir, "weir.yaml~"), "seven")
	require.NoError(t, os.Rename(filepath.Join(dir, "weir.yaml~"), file))
	w.one("renamed over")
	put(t, file, "after a rename")
	w.one("written in place after a rename")

	put(t, filepath.Join(dir, "other"), "x")
	require.NoError(t, os.Remove(filepath.Join(dir, "other")))
	w.none("another file of the folder")

	require.NoError(t, os.Remove(file))
	w.one("removed")
	put(t, file, "back")
	w.one("back")
	require.NoError(t, os.Chmod(file, 0))
	w.one("permission lost")
}

// TestConfigMap swaps as Kubernetes does: weir.yaml -> ..data/weir.yaml, and
// ..data, a link to a folder, is renamed over.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		put(t, filepath.Join(dir, name, "weir.yaml"), text)
		require.NoError(t, os.Symlink(name, filepath.Join(dir, "..tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", "one")
	require.NoError(t, os.Symlink(filepath.Join("..data", "weir.yaml"), filepath.Join(dir, "weir.yaml")))
	w := start(t, Config{Paths: []string{filepath.Join(dir, "weir.yaml")}})
	for i := 2; i < 5; i++ {
		version(fmt.Sprintf("..%d", i), "one")
		require.NoError(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", i-1))))
		w.one("swapped")
	}
	require.Eventually(t, func() bool { return w.calls.Load() <= 6 }, time.Second, time.Millisecond)
}

func TestFolderChanges(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, v), 0o755))
		put(t, filepath.Join(dir, v, "fast.onnx"), v)
	}
	link := filepath.Join(dir, "current")
	require.NoError(t, os.Symlink("v1", link))
	w := start(t, Config{Paths: []string{link}})
	put(t, filepath.Join(dir, "v1", "fast.onnx"), "v1 again")
	w.one("a file within")
	put(t, filepath.Join(dir, "v1", "probes.json"), "{}")
	w.one("another file within")

	require.NoError(t, os.Symlink("v2", filepath.Join(dir, "next")))
	require.NoError(t, os.Rename(filepath.Join(dir, "next"), link))
	w.one("the link moved")
	put(t, filepath.Join(dir, "v2", "fast.onnx"), "v2 again")
	w.one("a file of the new folder")
	put(t, filepath.Join(dir, "v1", "fast.onnx"), "nobody serves this")
	w.none("a file of the old folder")

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "v2")))
	w.one("the folder is gone")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v2"), 0o755))
	put(t, filepath.Join(dir, "v2", "fast.onnx"), "back")
	w.one("the folder is back")
	put(t, filepath.Join(dir, "v2", "fast.onnx"), "and changed")
	// The folder came back before it was followed: allow for two tellings.
	w.one("a file of the folder that came back")
}

// TestManyWritesAreOneChange writes a file in many pieces.
func TestManyWritesAreOneChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.onnx")
	put(t, file, "")
	w := start(t, Config{Paths: []string{file}, Debounce: 150 * time.Millisecond})
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	for range 60 { // longer than it has to rest, without a rest
		_, err := f.WriteString("piece")
		require.NoError(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	require.NoError(t, f.Close())
	w.one("written")
	w.none("it was one change")
	assert.Equal(t, int64(1), w.calls.Load())
}

// TestNeverAtRest changes a file without a pause: it is told all the same.
func TestNeverAtRest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	put(t, file, "")
	w := start(t, Config{Paths: []string{file}, Debounce: 5 * time.Second, MaxWait: 5*time.Second + 1})
	w.none("it rests")
	w2 := start(t, Config{Paths: []string{file}, Debounce: 100 * time.Millisecond, MaxWait: 300 * time.Millisecond})
	for i := 0; w2.calls.Load() < 2; i++ {
		require.Less(t, i, 2000, "never told")
		put(t, file, fmt.Sprint(i))
		time.Sleep(5 * time.Millisecond)
	}
}

func TestPollFindsWhatNoNoticeTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	put(t, file, "one")
	w := &Watcher{cfg: Config{Paths: []string{file}, Debounce: time.Millisecond, MaxWait: time.Second}}
	w.told = fingerprint(w.cfg.Paths)
	told := false
	w.cfg.Changed = func(context.Context) { told = true }
	r := restTimer{timer: time.NewTimer(time.Hour)}
	w.look(&r)
	require.Empty(t, r.seen)
	put(t, file, "changed")
	w.look(&r)
	require.NotEmpty(t, r.seen)
	<-r.timer.C
	w.rested(t.Context(), &r, nil)
	assert.True(t, told)
}

func TestAtStart(t *testing.T) {
	w := start(t, Config{Paths: []string{filepath.Join(t.TempDir(), "none")}, AtStart: true})
	w.one("at the start")
	w.none("once")
}

// TestOneAtATime changes a file while Changed runs: the next call follows.
func TestOneAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	put(t, file, "one")
	var running, calls atomic.Int64
	entered, leave := make(chan struct{}), make(chan struct{})
	w, err := New(Config{Paths: []string{file}, Debounce: 10 * time.Millisecond, Poll: time.Hour, Changed: func(context.Context) {
		assert.Equal(t, int64(1), running.Add(1), "two at once")
		calls.Add(1)
		entered <- struct{}{}
		<-leave
		running.Add(-1)
	}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, w.Run(ctx)) })
	defer wg.Wait()
	defer cancel()
	put(t, file, "two")
	<-entered
	for i := range 20 {
		put(t, file, fmt.Sprint("while it runs ", i))
	}
	time.Sleep(50 * time.Millisecond)
	leave <- struct{}{}
	<-entered
	leave <- struct{}{}
	assert.Equal(t, int64(2), calls.Load())
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Config{Paths: []string{""}, Debounce: -1})
	require.ErrorContains(t, err, "paths are")
	require.ErrorContains(t, err, "changed is nil")
	require.ErrorContains(t, err, "debounce is -1ns")
}

func TestFingerprintBoundsFolders(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		put(t, filepath.Join(dir, fmt.Sprint(i)), "x")
	}
	assert.Equal(t, 21, bytes.Count([]byte(fingerprint([]string{dir})), []byte("\n")))
}
