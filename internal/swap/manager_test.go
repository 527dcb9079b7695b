package swap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

func TestStagePromoteRollback(t *testing.T) {
	b := newBench(t, nil)
	put(t, filepath.Join(b.root, "two"), recipe{Name: "b", Version: "2", Kind: "shifted"})
	staged, err := b.m.Stage(t.Context(), "two")
	require.NoError(t, err)
	assert.FileExists(t, staged.Page)
	assert.Equal(t, "1", b.serving(), "staging changes nothing")
	assert.Equal(t, GateNames()[0], staged.Report.Gates[0].Name)
	for _, g := range staged.Report.Gates {
		assert.True(t, g.Passed, g.Name)
	}
	assert.Equal(t, staged.Digest, b.m.Status().Staged.Digest)

	_, err = b.m.Promote(t.Context(), "sha256:other")
	require.ErrorIs(t, err, ErrNotStaged)
	// What was accepted is a copy: the folder may go.
	require.NoError(t, os.RemoveAll(filepath.Join(b.root, "two")))
	id, err := b.m.Promote(t.Context(), staged.Digest)
	require.NoError(t, err)
	assert.Equal(t, staged.Identity, id)
	assert.Equal(t, "2", b.serving())
	s := b.m.Status()
	assert.Equal(t, "settling", s.State)
	assert.True(t, s.Loaded)
	assert.Equal(t, "1", s.Previous.Version)
	assert.Equal(t, int64(2), b.factory.open.Load(), "the one before stays loaded")
	_, err = b.m.Promote(t.Context(), staged.Digest)
	require.ErrorIs(t, err, ErrNotStaged, "promoted once")

	opened := b.factory.opened.Load()
	id, err = b.m.Rollback(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1", id.Version)
	assert.Equal(t, "1", b.serving())
	assert.Equal(t, opened, b.factory.opened.Load(), "a rollback while settling opens nothing")
	assert.Less(t, b.last().Took, 100*time.Millisecond)
	_, err = b.m.Rollback(t.Context())
	require.ErrorIs(t, err, ErrNoPrevious)
	require.Eventually(t, func() bool { return b.factory.open.Load() == 1 }, 5*time.Second, time.Millisecond, "the one that was rolled back is closed")

	var how []string
	for _, e := range b.m.History() {
		how = append(how, e.Version+" "+e.How)
	}
	assert.Equal(t, []string{"1 rolled back to", "2 promoted", "1 start"}, how)
	assert.Equal(t, []EventKind{EventStaged, EventPromoted, EventRolledBack}, b.told())
}

func TestSettlingEnds(t *testing.T) {
	b := newBench(t, func(b *bench, _ *Config) { b.policy.Settle.For = 30 * time.Millisecond })
	put(t, filepath.Join(b.root, "two"), recipe{Name: "b", Version: "2"})
	staged, err := b.m.Stage(t.Context(), "two")
	require.NoError(t, err)
	lease := b.store.Acquire()
	_, err = b.m.Promote(t.Context(), staged.Digest)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.m.Status().State == "steady" }, 5*time.Second, time.Millisecond)
	time.Sleep(20 * time.Millisecond)
	assert.Equal(t, int64(2), b.factory.open.Load(), "a lease holds the old bundle")
	_, err = lease.Classifier.Classify(t.Context(), "still there?")
	require.NoError(t, err)
	lease.Release()
	require.Eventually(t, func() bool { return b.factory.open.Load() == 1 }, 5*time.Second, time.Millisecond)
	// The bundle before is opened from its copy.
	id, err := b.m.Rollback(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1", id.Version)
	assert.Equal(t, "1", b.serving())
}

func TestStageNames(t *testing.T) {
	b := newBench(t, nil)
	outside := put(t, filepath.Join(filepath.Dir(b.root), "outside"), recipe{Version: "x"})
	require.NoError(t, os.Symlink(outside, filepath.Join(b.root, "leaves")))
	require.NoError(t, os.Symlink("../outside", filepath.Join(b.root, "climbs")))
	put(t, filepath.Join(b.root, "real"), recipe{Version: "2"})
	require.NoError(t, os.Symlink("real", filepath.Join(b.root, "stays")))
	require.NoError(t, os.WriteFile(filepath.Join(b.root, "file"), nil, 0o600))
	for name, want := range map[string]error{
		"": ErrName, ".": ErrName, "..": ErrName, "../outside": ErrName, "real/": ErrName, "a/b": ErrName, `a\b`: ErrName, "/etc": ErrName, "a\x00b": ErrName,
		"leaves": ErrName, "climbs": ErrName, "nothing": ErrUnknown, "file": ErrUnknown,
	} {
		_, err := b.m.Stage(t.Context(), name)
		require.ErrorIs(t, err, want, "%q", name)
	}
	assert.Zero(t, b.exams.Load(), "nothing of that was examined")
	_, err := b.m.Stage(t.Context(), "stays")
	require.NoError(t, err)
}

func TestServingIsNotStagedAgain(t *testing.T) {
	b := newBench(t, nil)
	put(t, filepath.Join(b.root, "same"), recipe{Name: "b", Version: "1"})
	_, err := b.m.Stage(t.Context(), "same")
	require.ErrorIs(t, err, ErrServing)
	assert.Empty(t, b.told())
}

func TestRefusalsKeepWhatServes(t *testing.T) {
	b := newBench(t, nil)
	stage := func(name string, r recipe, spoil func(dir string)) *RefusedError {
		dir := put(t, filepath.Join(b.root, name), r)
		if spoil != nil {
			spoil(dir)
		}
		_, err := b.m.Stage(t.Context(), name)
		var refused *RefusedError
		require.ErrorAs(t, err, &refused, name)
		assert.Equal(t, "1", b.serving())
		assert.FileExists(t, refused.Page)
		assert.Equal(t, EventRefused, b.last().Kind)
		require.NotNil(t, b.m.Status().Refusal)
		return refused
	}
	r := stage("replay", recipe{Version: "3", Kind: "swapped"}, nil)
	assert.Equal(t, GateReplay, r.Report.Failed()[0].Name)
	r = stage("probes", recipe{Version: "4", Kind: "refuses to open"}, nil)
	assert.Equal(t, GateProbes, r.Report.Failed()[0].Name)
	r = stage("manifest", recipe{}, func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{"), 0o600))
	})
	assert.Equal(t, GateManifest, r.Report.Failed()[0].Name)
	r = stage("link", recipe{}, func(dir string) { require.NoError(t, os.Symlink("/etc/hostname", filepath.Join(dir, "fast.onnx"))) })
	assert.Equal(t, GateFolder, r.Report.Failed()[0].Name)
	r = stage("large", recipe{}, func(dir string) {
		require.NoError(t, os.Truncate(filepath.Join(put(t, dir, recipe{}), "manifest.json"), b.policy.MaxBytes+1))
	})
	assert.Equal(t, GateSize, r.Report.Failed()[0].Name)
	r = stage("many", recipe{}, func(dir string) {
		for i := range maxFiles + 1 {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
		}
	})
	assert.Equal(t, GateFolder, r.Report.Failed()[0].Name)
	left, err := os.ReadDir(filepath.Join(b.state, "incoming"))
	require.NoError(t, err)
	assert.Empty(t, left, "refused copies are removed")
	copies, err := os.ReadDir(filepath.Join(b.state, "bundles"))
	require.NoError(t, err)
	assert.Len(t, copies, 1)
}

// TestExamFaults: what goes wrong with an exam is told as such, and never
// publishes anything.
func TestExamFaults(t *testing.T) {
	b := newBench(t, nil)
	put(t, filepath.Join(b.root, "two"), recipe{Version: "2"})
	b.examFault = func(Job) (*Report, error) { return nil, errors.New("no memory") }
	_, err := b.m.Stage(t.Context(), "two")
	require.ErrorContains(t, err, "no memory")
	var refused *RefusedError
	require.NotErrorAs(t, err, &refused)
	assert.Equal(t, EventFailed, b.last().Kind)
	for name, fault := range map[string]func(Job) (*Report, error){
		"no gates":           func(Job) (*Report, error) { return &Report{}, nil },
		"another's report":   func(Job) (*Report, error) { return &Report{Candidate: Identity{Digest: "sha256:x"}}, nil },
		"the child crashed":  func(Job) (*Report, error) { return &Report{Gates: []Gate{{Name: GateLoad, Detail: "signal"}}}, nil },
		"a gate of no name":  func(Job) (*Report, error) { return &Report{Gates: []Gate{{Detail: "?"}}}, nil },
		"the copy is forged": nil,
	} {
		b.examFault = fault
		if fault == nil {
			b.examFault = func(job Job) (*Report, error) {
				// Somebody changes the accepted copy between exam and promotion.
				put(t, job.Candidate, recipe{Version: "2", Kind: "swapped"})
				return &Report{Gates: []Gate{{Name: GateReplay, Passed: true}}}, nil
			}
		}
		staged, err := b.m.Stage(t.Context(), "two")
		if fault == nil {
			require.NoError(t, err)
			_, err = b.m.Promote(t.Context(), staged.Digest)
		}
		require.Error(t, err, name)
		assert.Equal(t, "1", b.serving(), name)
	}
}

// TestReread changes the watched folder as people and machines do.
func TestReread(t *testing.T) {
	b := newBench(t, nil)
	_, err := b.m.Reread(t.Context())
	require.ErrorIs(t, err, ErrServing)
	put(t, b.watched, recipe{Name: "b", Version: "2"})
	id, err := b.m.Reread(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "2", id.Version)
	assert.Equal(t, "2", b.serving())

	require.NoError(t, os.RemoveAll(b.watched))
	_, err = b.m.Reread(t.Context())
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, GateFolder, refused.Report.Failed()[0].Name)
	assert.Equal(t, "2", b.serving())
	_, err = b.router.Route(t.Context(), ask("hello"))
	require.NoError(t, err)

	// A bundle that was rolled back is not tried again by itself, but by name.
	_, err = b.m.Rollback(t.Context())
	require.NoError(t, err)
	put(t, b.watched, recipe{Name: "b", Version: "2"})
	_, err = b.m.Reread(t.Context())
	require.ErrorIs(t, err, ErrRolledBack)
	assert.Equal(t, "1", b.serving())
	put(t, filepath.Join(b.root, "two"), recipe{Name: "b", Version: "2"})
	staged, err := b.m.Stage(t.Context(), "two")
	require.NoError(t, err)
	_, err = b.m.Promote(t.Context(), staged.Digest)
	require.NoError(t, err)
	put(t, b.watched, recipe{Name: "b", Version: "3"})
	_, err = b.m.Reread(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "3", b.serving())
}

// TestHistoryOutlivesTheProcess restarts on the same state.
func TestHistoryOutlivesTheProcess(t *testing.T) {
	b := newBench(t, nil)
	put(t, b.watched, recipe{Name: "b", Version: "2"})
	two, err := b.m.Reread(t.Context())
	require.NoError(t, err)
	b.stop()
	state, err := OpenState(b.state)
	require.NoError(t, err)
	last, _ := state.LastServed()
	assert.Equal(t, two, last)
	_, err = OpenState(b.state)
	require.ErrorContains(t, err, "another server uses it")
	require.NoError(t, state.Close())

	require.NoError(t, os.MkdirAll(filepath.Join(b.state, "incoming", "half"), 0o700))
	b2 := &bench{t: t, factory: &factory{}, root: b.root, watched: b.watched, state: b.state, policy: b.policy}
	b2.start(nil)
	assert.Equal(t, "2", b2.serving())
	assert.NoDirExists(t, filepath.Join(b.state, "incoming", "half"))
	id, err := b2.m.Rollback(t.Context())
	require.NoError(t, err, "what served in the process before can be rolled back to")
	assert.Equal(t, "1", id.Version)
}

func TestHistoryThatCannotBeReadIsKeptAside(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "history.json"), []byte(`{"version": 1, "li`), 0o600))
	s, err := OpenState(dir)
	require.NoError(t, err)
	defer s.Close()
	assert.FileExists(t, filepath.Join(dir, "history.json.unreadable"))
	last, _ := s.LastServed()
	assert.Empty(t, last.Digest)
}

// TestSwapsUnderLoad swaps while many ask: no call fails, none sees two versions,
// no closed bundle is used, one bundle is loaded at a time.
func TestSwapsUnderLoad(t *testing.T) {
	b := newBench(t, func(b *bench, _ *Config) {
		b.policy.Settle.For = time.Millisecond
		b.examFault = func(Job) (*Report, error) {
			time.Sleep(5 * time.Millisecond) // long enough to meet another
			return &Report{Gates: []Gate{{Name: GateReplay, Passed: true}}}, nil
		}
	})
	var versions sync.Map
	var asked atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				rec, err := b.router.Route(t.Context(), ask("what is one and one"))
				if !assert.NoError(t, err) || !assert.Empty(t, rec.ScoringError) {
					return
				}
				versions.Store(rec.BundleDigest, true)
				asked.Add(1)
			}
		})
	}
	wg.Go(func() { // configs are reloaded all the while
		for ctx.Err() == nil {
			_, err := b.store.Publish(func(c classifier.Classifier, r *router.Rules) (classifier.Classifier, *router.Rules, error) {
				return c, r, nil
			})
			assert.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
	})
	const swaps = 50
	for i := range swaps {
		put(t, b.watched, recipe{Name: "b", Version: fmt.Sprint(i + 2)})
		var both sync.WaitGroup
		both.Go(func() { _, _ = b.m.Reread(t.Context()) }) // a watcher and an operator at once
		_, _ = b.m.Reread(t.Context())
		both.Wait()
		assert.Equal(t, fmt.Sprint(i+2), b.serving())
		if i%5 == 4 {
			_, err := b.m.Rollback(t.Context())
			require.NoError(t, err)
		}
	}
	cancel()
	wg.Wait()
	n := 0
	versions.Range(func(any, any) bool { n++; return true })
	assert.Greater(t, n, swaps/2, "%d calls saw %d versions", asked.Load(), n)
	assert.Equal(t, int64(1), b.factory.mostLoading.Load(), "two bundles were loaded at once")
	require.Eventually(t, func() bool { return b.factory.open.Load() <= 2 }, 5*time.Second, time.Millisecond, "bundles pile up")
}

// TestCloseEndsAnExamination stops a manager in the middle of one.
func TestCloseEndsAnExamination(t *testing.T) {
	entered := make(chan struct{})
	b := newBench(t, func(_ *bench, cfg *Config) {
		cfg.Examine = func(ctx context.Context, _ Job) (*Report, error) {
			close(entered)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
	})
	put(t, filepath.Join(b.root, "two"), recipe{Version: "2"})
	failed := make(chan error, 1)
	go func() {
		_, err := b.m.Stage(t.Context(), "two")
		failed <- err
	}()
	<-entered
	require.NoError(t, b.m.Close())
	require.ErrorIs(t, <-failed, ErrClosed)
	_, err := b.m.Stage(t.Context(), "two")
	require.ErrorIs(t, err, ErrClosed)
	_, err = b.m.Rollback(t.Context())
	require.Error(t, err)
}

func TestStagingGoesOnWithoutItsCaller(t *testing.T) {
	b := newBench(t, nil)
	put(t, filepath.Join(b.root, "two"), recipe{Version: "2"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.m.Stage(ctx, "two")
	require.NoError(t, err)
	assert.NotNil(t, b.m.Status().Staged)
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Config{Policy: &Policy{}})
	for _, want := range []string{"store and serving", "open, identify and examine", "state is needed", "version is 0"} {
		require.ErrorContains(t, err, want)
	}
}

// A state that lives for years does not grow.
func TestStateIsPruned(t *testing.T) {
	s, err := OpenState(t.TempDir())
	require.NoError(t, err)
	defer s.Close()
	for i := range 60 {
		require.NoError(t, os.WriteFile(filepath.Join(s.Scores(), fmt.Sprint(i)), nil, 0o600))
		require.NoError(t, os.Mkdir(s.Folder(fmt.Sprintf("sha256:%03d", i)), 0o700))
		_, err := s.newReport(time.Unix(int64(i), 0), fmt.Sprintf("sha256:%03d", i))
		require.NoError(t, err)
		require.NoError(t, s.update(func(h *history) {
			id := Identity{Digest: fmt.Sprintf("sha256:%03d", i)}
			h.Line = append(h.Line, id)
			for range 10 {
				h.began(id, time.Unix(int64(i), 0), "promoted", "")
			}
		}))
	}
	require.NoError(t, s.prune())
	for folder, most := range map[string]int{"scores": maxScores, "bundles": maxLine, "reports": maxReports} {
		entries, err := os.ReadDir(s.path(folder))
		require.NoError(t, err)
		assert.Len(t, entries, most, folder)
	}
	assert.Len(t, s.Entries(), maxEntries)
}

// journal reads the journal's entries.
func journal(t *testing.T, path string) (out []JournalEntry) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		var e JournalEntry
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		out = append(out, e)
	}
	return out
}

// TestJournal: every event is in the journal, over restarts too.
func TestJournal(t *testing.T) {
	b := newBench(t, nil)
	put(t, filepath.Join(b.root, "bad"), recipe{Name: "b", Version: "bad", Kind: "swapped"})
	_, err := b.m.Stage(t.Context(), "bad")
	require.Error(t, err)
	put(t, filepath.Join(b.root, "two"), recipe{Name: "b", Version: "2"})
	staged, err := b.m.Stage(t.Context(), "two")
	require.NoError(t, err)
	_, err = b.m.Promote(t.Context(), staged.Digest)
	require.NoError(t, err)
	_, err = b.m.Rollback(t.Context())
	require.NoError(t, err)
	got := journal(t, filepath.Join(b.state, "journal.jsonl"))
	require.Len(t, got, 4)
	for i, kind := range []EventKind{EventRefused, EventStaged, EventPromoted, EventRolledBack} {
		assert.Equal(t, kind, got[i].Kind)
		assert.False(t, got[i].Time.IsZero())
	}
	assert.Equal(t, GateReplay, got[0].Gates[0].Name)
	assert.FileExists(t, got[0].Report)
	assert.Equal(t, []string{"2", "1"}, []string{got[2].Bundle.Version, got[2].From.Version})
	assert.Equal(t, []string{"1", "2"}, []string{got[3].Bundle.Version, got[3].From.Version})
	assert.Equal(t, "an operator asked for it", got[3].Reason)
	b.stop()
	b.start(func(_ *bench, c *Config) { c.State.journalBytes = 100 })
	_, err = b.m.Stage(t.Context(), "bad")
	require.Error(t, err)
	assert.Len(t, journal(t, filepath.Join(b.state, "journal.jsonl")), 1, "it began anew")
	assert.Len(t, journal(t, filepath.Join(b.state, "journal.1.jsonl")), 4, "and the one before is kept")
}
