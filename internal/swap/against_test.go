package swap

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func passes(Job) (*Report, error) {
	return &Report{Gates: []Gate{{Name: GateReplay, Passed: true}}}, nil
}

// TestPromotedOnlyOverWhatItWasHeldAgainst: gates compare, so that a rollback between
// staging and promoting asks for staging again.
func TestPromotedOnlyOverWhatItWasHeldAgainst(t *testing.T) {
	b := newBench(t, nil)
	swapTo(t, b, recipe{Version: "2"})
	put(t, filepath.Join(b.root, "3"), recipe{Version: "3"})
	staged, err := b.m.Stage(t.Context(), "3")
	require.NoError(t, err)
	_, err = b.m.Rollback(t.Context())
	require.NoError(t, err)
	_, err = b.m.Promote(t.Context(), staged.Digest)
	require.ErrorIs(t, err, ErrNotStaged)
	assert.ErrorContains(t, err, "was held against a bundle that serves no more: stage it again")
	assert.Equal(t, "1", b.serving())
	_, err = b.m.Stage(t.Context(), "3")
	require.NoError(t, err)
	_, err = b.m.Promote(t.Context(), staged.Digest)
	require.NoError(t, err)
	assert.Equal(t, "3", b.serving())
}

// TestRollbackDuringAnExamination: the watched folder is held against what serves now,
// and what serves already is not published over itself.
func TestRollbackDuringAnExamination(t *testing.T) {
	for name, tc := range map[string]struct {
		folder  recipe
		serving string
		is      error
	}{
		"another bundle":     {recipe{Name: "b", Version: "3"}, "3", nil},
		"the one restored":   {recipe{Name: "b", Version: "1"}, "1", ErrServing},
		"the one given up":   {recipe{Version: "2"}, "1", ErrServing},
		"an older one again": {recipe{Name: "b", Version: "0"}, "0", nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			swapTo(t, b, recipe{Version: "2"})
			require.NoError(t, os.RemoveAll(b.watched))
			put(t, b.watched, tc.folder)
			var once sync.Once
			b.examFault = func(j Job) (*Report, error) {
				once.Do(func() {
					_, err := b.m.Rollback(t.Context())
					assert.NoError(t, err)
				})
				return passes(j)
			}
			_, err := b.m.Reread(t.Context())
			if name == "the one given up" {
				require.ErrorIs(t, err, ErrServing, "it serves: there is no examination")
				assert.Equal(t, "2", b.serving())
				return
			}
			require.ErrorIs(t, err, tc.is)
			assert.Equal(t, tc.serving, b.serving())
			before := b.m.Status().Previous
			require.True(t, before == nil || before.Version != b.serving(), "a bundle lies over itself")
		})
	}
}

// TestAbortLetsCallersGo: who waits for an examination hears that it was ended, what
// serves goes on, and a rollback to what is loaded still works.
func TestAbortLetsCallersGo(t *testing.T) {
	entered := make(chan struct{}, 1)
	b := newBench(t, func(b *bench, cfg *Config) {
		cfg.Examine = func(ctx context.Context, job Job) (*Report, error) {
			if b.examFault != nil {
				return b.examFault(job)
			}
			entered <- struct{}{}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
	})
	swapTo(t, b, recipe{Version: "2"})
	b.examFault = nil
	put(t, filepath.Join(b.root, "3"), recipe{Version: "3"})
	failed := make(chan error, 1)
	go func() {
		_, err := b.m.Stage(t.Context(), "3")
		failed <- err
	}()
	<-entered
	b.m.Abort()
	require.ErrorIs(t, <-failed, ErrClosed)
	route(t, b, 10)
	_, err := b.m.Rollback(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1", b.serving())
}

// TestASecondServerTouchesNothing: who is refused the state leaves alone what is being
// copied there.
func TestASecondServerTouchesNothing(t *testing.T) {
	b := newBench(t, nil)
	half := filepath.Join(b.state, "incoming", "half")
	require.NoError(t, os.Mkdir(half, 0o700))
	_, err := OpenState(b.state)
	require.ErrorContains(t, err, "another server uses it")
	assert.DirExists(t, half)
}
