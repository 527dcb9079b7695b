package router_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers with what it is told, and knows whether it was closed.
type fake struct {
	digest string
	err    error
	block  bool
	mu     sync.Mutex
	closed bool
	seen   []string
}

func (f *fake) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, text)
	if f.closed {
		return classifier.Scores{}, errors.New("used after it was closed")
	}
	if f.block {
		<-ctx.Done()
		return classifier.Scores{}, fmt.Errorf("classify: %w", context.Cause(ctx))
	}
	if f.err != nil {
		return classifier.Scores{}, fmt.Errorf("classify: %w", f.err)
	}
	return scored(0.3, 0.8, classifier.General), nil
}

func (f *fake) Info() classifier.Info { return classifier.Info{Name: "fake", Digest: f.digest} }

func (f *fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

type observed struct {
	mu   sync.Mutex
	errs []error
	recs []router.Record
}

func (o *observed) Routed(r *router.Record, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recs, o.errs = append(o.recs, *r), append(o.errs, err)
}

func newRouter(t *testing.T, c classifier.Classifier) (*router.Router, *router.Store, *observed) {
	t.Helper()
	store, err := router.NewStore(c, rules(t, tableConfig))
	require.NoError(t, err)
	journal, err := router.NewMemoryJournal(100)
	require.NoError(t, err)
	seen := &observed{}
	n := 0
	var mu sync.Mutex
	r, err := router.New(router.Config{
		Store: store, Journal: journal, Observer: seen, ClassifyTimeout: 20 * time.Millisecond,
		Now: time.Now,
		NewID: func() string {
			mu.Lock()
			defer mu.Unlock()
			n++
			return fmt.Sprintf("id-%d", n)
		},
	})
	require.NoError(t, err)
	return r, store, seen
}

func ask(text string) *router.Request {
	return &router.Request{Messages: []classifier.Message{{Role: classifier.User, Text: text}}}
}

func TestRoute(t *testing.T) {
	c := &fake{digest: "sha256:a"}
	r, _, seen := newRouter(t, c)
	req := ask("what now")
	req.Messages = append([]classifier.Message{{Role: classifier.System, Text: "be brief"}, {Role: classifier.User, Text: "first"}, {Role: classifier.Assistant, Text: "an answer"}}, req.Messages...)
	req.MediaParts, req.OtherBytes, req.SessionID = 1, 30, "s"
	rec, err := r.Route(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, []string{"first\n\nwhat now"}, c.seen)
	assert.Equal(t, "id-1", rec.ID)
	assert.Equal(t, "h/cheap", rec.Decision.Chosen.Model.ID)
	assert.Equal(t, "u", rec.Provider)
	assert.Equal(t, "sha256:a", rec.BundleDigest)
	assert.Regexp(t, "^sha256:", rec.ConfigDigest)
	// 100 scored tokens, (8+9+30-2)/3 of other text, 8 a message, 2,000 for the media, times 1.25.
	assert.InDelta(t, 1.25*(100+16+32+2000), float64(rec.Decision.Chosen.InputTokens), 3)
	kept, outcomes, err := r.Decision("id-1")
	require.NoError(t, err)
	assert.Equal(t, rec.Decision.Chosen.Model.ID, kept.Decision.Chosen.Model.ID)
	assert.Empty(t, outcomes)
	assert.Nil(t, kept.Decision.Rejected, "the journal does not hold the whole catalog")
	assert.NotEmpty(t, rec.Decision.Rejected, "the answer does")
	req.Explain = true
	rec, err = r.Route(t.Context(), req)
	require.NoError(t, err)
	kept, _, err = r.Decision(rec.ID)
	require.NoError(t, err)
	assert.Equal(t, rec.Decision, kept.Decision, "asked to explain, it keeps everything")
	require.Len(t, seen.recs, 2)
	require.NoError(t, errors.Join(seen.errs...))
}

// TestTextThatLooksShortIsCountedByItsBytes: the fake says 100 tokens, as
// WordPiece says few of what it does not know.
func TestTextThatLooksShortIsCountedByItsBytes(t *testing.T) {
	prose := strings.Repeat("Please read the report and tell me what it means. ", 80)
	for name, tc := range map[string]struct {
		text string
		want int64
	}{
		"Thai":                   {strings.Repeat("ไทย", 1000), 9000 / 3},
		"emoji with spaces":      {strings.Repeat("\U0001F642 ", 1000), 4000/3 + 1000/6},
		"hex":                    {strings.Repeat("deadbeef", 1000), 8000 / 3},
		"hex behind prose":       {prose + strings.Repeat("deadbeef", 3000), 24000/3 + 4000/6},
		"hex in between prose":   {prose + strings.Repeat("deadbeef", 3000) + " " + prose, 24000/3 + 8000/6},
		"NULs":                   {"a" + strings.Repeat("\x00", 3000), 1000},
		"a hundred letters a go": {strings.Repeat(strings.Repeat("a", 101)+" ", 100), 10100/3 + 100/6},
	} {
		r, _, _ := newRouter(t, &fake{})
		req := ask(tc.text)
		req.Demand.Override.Models = []string{"h/dear"}
		rec, err := r.Route(t.Context(), req)
		require.NoError(t, err, name)
		// h/dear's ratio is 1.25, and a message's role markers are 8 tokens.
		assert.InDelta(t, 1.25*float64(tc.want+8), float64(rec.Decision.Chosen.InputTokens), 3, name)
	}
	r, _, _ := newRouter(t, &fake{})
	rec, err := r.Route(t.Context(), ask(strings.Repeat("word ", 100)))
	require.NoError(t, err)
	assert.Less(t, rec.Decision.Chosen.InputTokens, int64(140), "ordinary text is counted by its tokens")
}

func BenchmarkRouteTokensOf4MB(b *testing.B) {
	for name, unit := range map[string]string{"words": "what it means ", "emoji": "\U0001F642", "NUL": "\x00"} {
		text := strings.Repeat(unit, (4<<20)/len(unit))
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				router.LeastTokensForTest(text)
			}
		})
	}
}

func TestBrokenClassifierCostsMoneyNotAvailability(t *testing.T) {
	for name, c := range map[string]*fake{"fails": {err: errors.New("boom")}, "hangs": {block: true}, "closed": {err: classifier.ErrClosed}} {
		r, _, _ := newRouter(t, c)
		rec, err := r.Route(t.Context(), ask("hi"))
		require.NoError(t, err, name)
		assert.Equal(t, router.ClassifierUnavailable, rec.Decision.Reason)
		assert.Equal(t, router.HighPerformance, rec.Decision.Chosen.Model.EffectiveTier(), "never the cheap tier in silence")
		assert.Equal(t, map[string]string{"fails": "failed", "hangs": "timeout", "closed": "closed"}[name], rec.ScoringError)
	}
}

func TestRouteErrors(t *testing.T) {
	for _, want := range []error{classifier.ErrInvalidText, classifier.ErrNoContent, classifier.ErrOverloaded} {
		r, _, seen := newRouter(t, &fake{err: want})
		_, err := r.Route(t.Context(), ask("hi"))
		require.ErrorIs(t, err, want)
		require.ErrorIs(t, seen.errs[0], want)
	}
	gone := errors.New("caller hung up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	r, _, _ := newRouter(t, &fake{block: true})
	_, err := r.Route(ctx, ask("hi"))
	require.ErrorIs(t, err, gone)
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := router.New(router.Config{ClassifyTimeout: -1})
	for _, want := range []string{"store", "journal", "now and new id", "classify timeout"} {
		require.ErrorContains(t, err, want)
	}
	_, err = router.NewStore(nil, nil)
	require.Error(t, err)
	_, err = router.NewMemoryJournal(0)
	require.ErrorContains(t, err, "capacity is 0")
}

func TestOutcomesAreIdempotent(t *testing.T) {
	r, _, _ := newRouter(t, &fake{})
	rec, err := r.Route(t.Context(), ask("hi"))
	require.NoError(t, err)
	report := func(key string, score float64) (bool, error) {
		return r.ReportOutcome(rec.ID, key, router.Outcome{Score: score, Source: "user"})
	}
	for i, tc := range []struct {
		key       string
		score     float64
		duplicate bool
		err       error
	}{
		{"k", 0.5, false, nil},
		{"k", 0.5, true, nil},
		{"k", 0.6, false, router.ErrOutcomeConflict},
		{"", 0.5, false, nil},
		{"", 0.5, true, nil},
		{"", 0.7, false, nil},
	} {
		duplicate, err := report(tc.key, tc.score)
		require.ErrorIs(t, err, tc.err, i)
		assert.Equal(t, tc.duplicate, duplicate, i)
	}
	_, outcomes, err := r.Decision(rec.ID)
	require.NoError(t, err)
	require.Len(t, outcomes, 3)
	assert.False(t, outcomes[0].Time.IsZero())
	for i := range 100 {
		_, err = report(fmt.Sprint("fill", i), 0)
	}
	require.ErrorContains(t, err, "64 outcomes", "reports cannot fill the memory")
	_, err = r.ReportOutcome("nope", "", router.Outcome{})
	require.ErrorIs(t, err, router.ErrUnknownDecision)
}

func TestJournalForgetsTheOldest(t *testing.T) {
	j, err := router.NewMemoryJournal(2)
	require.NoError(t, err)
	for _, id := range []string{"a", "b", "c"} {
		j.Append(router.Record{ID: id})
	}
	_, _, err = j.Get("a")
	require.ErrorIs(t, err, router.ErrUnknownDecision)
	for _, id := range []string{"b", "c"} {
		_, _, err = j.Get(id)
		require.NoError(t, err)
	}
}

// TestSwapUnderLoad publishes new pairs while requests run: no request uses a
// classifier that was closed, or sees the halves of two versions.
func TestSwapUnderLoad(t *testing.T) {
	version := func(i int) (*fake, *router.Rules) {
		text := fmt.Sprintf("%s# %d\n", tableConfig, i)
		return &fake{digest: rules(t, text).Digest}, rules(t, text)
	}
	c, rs := version(0)
	r, store, _ := newRouter(t, c)
	_, err := store.Publish(func(classifier.Classifier, *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return c, rs, nil
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				rec, err := r.Route(t.Context(), ask("hi"))
				if !assert.NoError(t, err) || !assert.Equal(t, rec.BundleDigest, rec.ConfigDigest, "two versions were mixed") ||
					!assert.Equal(t, router.QualityNeeded, rec.Decision.Reason, "a closed classifier was used") {
					return
				}
			}
		})
	}
	for i := 1; i <= 100; i++ {
		next, nextRules := version(i)
		old, err := store.Publish(func(classifier.Classifier, *router.Rules) (classifier.Classifier, *router.Rules, error) {
			return next, nextRules, nil
		})
		require.NoError(t, err)
		require.NoError(t, old.Drained(t.Context()))
		old.Classifier.(*fake).Close()
	}
	cancel()
	wg.Wait()
}

func TestPublishKeepsTheOldOnError(t *testing.T) {
	_, store, _ := newRouter(t, &fake{digest: "old"})
	refused := errors.New("refused")
	_, err := store.Publish(func(classifier.Classifier, *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return nil, nil, refused
	})
	require.ErrorIs(t, err, refused)
	_, err = store.Publish(func(classifier.Classifier, *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return nil, nil, nil
	})
	require.Error(t, err)
	snap := store.Acquire()
	assert.Equal(t, "old", snap.Classifier.Info().Digest)

	old, err := store.Publish(func(c classifier.Classifier, r *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return c, r, nil
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, old.Drained(ctx), context.DeadlineExceeded, "a lease is out")
	snap.Release()
	require.NoError(t, old.Drained(t.Context()))
}
