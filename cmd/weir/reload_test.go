package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/telemetry"
	"github.com/weirhq/weir/router"
)

// syncLog is a log that a test reads while a server writes.
type syncLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// configVersion is the default config with a default policy named after the
// version, so that a decision says which version made it.
func configVersion(t *testing.T, n int) string {
	t.Helper()
	text := string(router.DefaultConfig())
	require.Contains(t, text, "default_policy: balanced")
	text = strings.Replace(text, "default_policy: balanced", fmt.Sprintf("default_policy: v%d", n), 1)
	before, after, ok := strings.Cut(text, "\npolicies:\n")
	require.True(t, ok)
	return before + fmt.Sprintf("\npolicies:\n  - id: v%d\n    max_quality_gap: 0.05\n", n) + after
}

// breakConfig spoils a config in one of several ways; says is what the refusal has
// to name: the line, the key and the remedy.
func breakConfig(text string, way int) (broken, says string) {
	switch way % 4 {
	case 0:
		return "version: 1\n\tmodels: [", "weir.yaml:2"
	case 1:
		return strings.Replace(text, "version: 1", "version: 1\nspeed: fast", 1), "speed"
	case 2:
		return strings.Replace(text, "max_quality_gap: 0.05", "max_quality_gap: 5", 1), "max_quality_gap"
	default:
		return strings.Replace(text, "default_policy: v", "default_policy: nobody-", 1), "default_policy"
	}
}

// TestReloadsUnderLoad changes the config file again and again, half of the time to
// a broken one, in the ways of editors, scripts and clusters: no call fails, none
// sees two versions, each broken one is refused with its reason, and the watcher
// lives.
func TestReloadsUnderLoad(t *testing.T) {
	reloads := 50
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		reloads = 500
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "weir.yaml")
	require.NoError(t, os.WriteFile(file, []byte(configVersion(t, 0)), 0o600))
	getenv := func(string) string { return "" }
	rules, err := router.LoadConfig(file, getenv)
	require.NoError(t, err)
	metrics, err := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.Build{})
	require.NoError(t, err)
	r, store, err := newRouter(classifier.Lexical{}, rules, metrics, 100, time.Second)
	require.NoError(t, err)
	log := &syncLog{}
	logger := slog.New(slog.NewTextHandler(io.MultiWriter(log), nil))
	adm := &admin{file: file, getenv: getenv, store: store, metrics: metrics}
	adm.swaps, err = metrics.Swaps()
	require.NoError(t, err)
	stop, err := adm.follow(t.Context(), logger, &swapping{flags: &swapFlags{watch: true, debounce: 15 * time.Millisecond}})
	require.NoError(t, err)
	defer stop()

	var policyOf sync.Map // config digest -> default policy
	policyOf.Store(rules.Digest, "v0")
	var calls atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				rec, err := r.Route(t.Context(), &router.Request{Messages: []classifier.Message{{Role: classifier.User, Text: "what is one and one"}}})
				if !assert.NoError(t, err) {
					return
				}
				want, known := policyOf.Load(rec.ConfigDigest)
				assert.True(t, known, "a broken config decided")
				assert.Equal(t, want, rec.Decision.Policy, "two versions in one answer")
				calls.Add(1)
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	serving := func() string {
		snap := store.Acquire()
		defer snap.Release()
		return snap.Rules.Digest
	}
	refused := 0
	for i := 1; i <= reloads; i++ {
		text, says := configVersion(t, i), ""
		before := serving()
		if i%2 == 0 {
			text, says = breakConfig(text, i/2)
		} else {
			good, err := router.ParseConfig([]byte(text), file, getenv)
			require.NoError(t, err)
			policyOf.Store(good.Digest, fmt.Sprintf("v%d", i))
		}
		replaceAs(t, i/2, file, text)
		if says == "" {
			require.Eventually(t, func() bool { return serving() != before }, 10*time.Second, time.Millisecond, "reload %d did not come: %s", i, log)
			continue
		}
		refused++
		last := func() string {
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			return lines[len(lines)-1]
		}
		require.Eventually(t, func() bool {
			return strings.Contains(last(), "config refused") && strings.Contains(last(), "weir.yaml:") && strings.Contains(last(), says)
		}, 10*time.Second, time.Millisecond, "refusal %d does not say %s: %s", i, says, log)
		assert.Equal(t, before, serving(), "the old one keeps deciding")
	}
	cancel()
	wg.Wait()
	t.Logf("%d reloads, %d of them refused, %d calls", reloads, refused, calls.Load())
	assert.Equal(t, reloads/2, strings.Count(log.String(), "config reloaded"))
}

// replaceAs puts the text in place: in one write, by a rename, or by a link that
// moves to another folder.
func replaceAs(t *testing.T, way int, file, text string) {
	t.Helper()
	dir := filepath.Dir(file)
	switch way % 3 {
	case 0:
		if info, err := os.Lstat(file); err == nil && info.Mode()&os.ModeSymlink != 0 {
			require.NoError(t, os.Remove(file))
		}
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	case 1:
		aside := filepath.Join(dir, ".weir.yaml.swp")
		require.NoError(t, os.WriteFile(aside, []byte(text), 0o600))
		require.NoError(t, os.Rename(aside, file))
	default:
		data, err := os.MkdirTemp(dir, "..data-*")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(data, "weir.yaml"), []byte(text), 0o600))
		require.NoError(t, os.Symlink(filepath.Join(filepath.Base(data), "weir.yaml"), filepath.Join(dir, "next")))
		require.NoError(t, os.Rename(filepath.Join(dir, "next"), file))
	}
}

// Without --watch a change of the file changes nothing.
func TestNoWatch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	require.NoError(t, os.WriteFile(file, []byte(configVersion(t, 0)), 0o600))
	getenv := func(string) string { return "" }
	rules, err := router.LoadConfig(file, getenv)
	require.NoError(t, err)
	metrics, err := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.Build{})
	require.NoError(t, err)
	_, store, err := newRouter(classifier.Lexical{}, rules, metrics, 100, time.Second)
	require.NoError(t, err)
	adm := &admin{file: file, getenv: getenv, store: store, metrics: metrics}
	adm.swaps, err = metrics.Swaps()
	require.NoError(t, err)
	stop, err := adm.follow(t.Context(), slog.New(slog.DiscardHandler), &swapping{flags: &swapFlags{debounce: time.Millisecond}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(configVersion(t, 1)), 0o600))
	time.Sleep(100 * time.Millisecond)
	stop()
	snap := store.Acquire()
	defer snap.Release()
	assert.Equal(t, rules.Digest, snap.Rules.Digest)
}
