package eval

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirhq/weir/classifier"
)

// Scorer scores prompts through a classifier and remembers the scores on disk,
// under the classifier's digest and the prompt's SHA-256. It is safe for
// concurrent use. Close it.
type Scorer struct {
	classifier classifier.Classifier
	cache      *scoreCache
	// now times the classifier; nil where nobody asks.
	now          func() time.Time
	timed, spent atomic.Int64
}

// NewScorer makes a scorer. It keeps scores in dir, one file a classifier, and
// takes up what an earlier run left there; with dir "" it keeps none.
func NewScorer(c classifier.Classifier, dir string) (*Scorer, error) {
	if c == nil {
		return nil, errors.New("new scorer: a classifier is required")
	}
	s := &Scorer{classifier: c}
	if dir == "" {
		return s, nil
	}
	var err error
	if s.cache, err = openCache(dir, c.Info().Digest); err != nil {
		return nil, fmt.Errorf("new scorer: %w", err)
	}
	return s, nil
}

// Score scores one text. ok is false, with no error, for a text that cannot be
// scored: it is empty, blank or not UTF-8. An error is a fault of the
// classifier or the cache.
func (s *Scorer) Score(ctx context.Context, text string) (scores classifier.Scores, ok bool, err error) {
	key := sha256.Sum256([]byte(text))
	if s.cache != nil {
		if scores, ok, err = s.cache.get(key); ok || err != nil {
			return scores, ok, err
		}
	}
	scores, err = s.classify(ctx, text)
	if errors.Is(err, classifier.ErrNoContent) || errors.Is(err, classifier.ErrInvalidText) {
		return classifier.Scores{}, false, nil
	}
	if err != nil {
		return classifier.Scores{}, false, err
	}
	if s.cache != nil {
		err = s.cache.put(key, &scores)
	}
	return scores, true, err
}

// classify scores, and counts the time where a clock was given.
func (s *Scorer) classify(ctx context.Context, text string) (classifier.Scores, error) {
	if s.now == nil {
		return s.classifier.Classify(ctx, text)
	}
	start := s.now()
	scores, err := s.classifier.Classify(ctx, text)
	s.spent.Add(int64(s.now().Sub(start)))
	s.timed.Add(1)
	return scores, err
}

// Hits tells how many scores came from the cache.
func (s *Scorer) Hits() int64 {
	if s.cache == nil {
		return 0
	}
	return s.cache.hits.Load()
}

// Close writes what is not written yet.
func (s *Scorer) Close() error {
	if s.cache == nil {
		return nil
	}
	return s.cache.close()
}
