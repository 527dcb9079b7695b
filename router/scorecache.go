package router

import (
	"container/list"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/weirhq/weir/classifier"
)

// ScoreCache keeps the scores of the texts seen last. A text is found again
// byte by byte only, under the bundle that scored it: a swap of the model needs
// no flush. It holds digests, never a text. Make one by NewScoreCache; it is
// safe for concurrent use.
type ScoreCache struct {
	capacity int

	mu           sync.Mutex
	byKey        map[scoreKey]*list.Element
	order        *list.List // of scored, the latest first
	hits, misses int64
}

type scoreKey struct {
	bundle string
	text   [sha256.Size]byte
}

type scored struct {
	key    scoreKey
	scores classifier.Scores
}

// DefaultScoreCache is how many texts are kept by default: about 5 MB.
const DefaultScoreCache = 10_000

// NewScoreCache makes a cache of the last capacity texts.
func NewScoreCache(capacity int) (*ScoreCache, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("score cache capacity is %d, want at least 1, or no cache", capacity)
	}
	return &ScoreCache{capacity: capacity, byKey: make(map[scoreKey]*list.Element), order: list.New()}, nil
}

// Counts returns how many texts were found and how many were not.
func (c *ScoreCache) Counts() (hits, misses int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

func (c *ScoreCache) get(key scoreKey) (classifier.Scores, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		c.misses++
		return classifier.Scores{}, false
	}
	c.hits++
	c.order.MoveToFront(e)
	return e.Value.(*scored).scores, true //nolint:errcheck // the list holds nothing else
}

func (c *ScoreCache) put(key scoreKey, s classifier.Scores) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byKey[key]; ok {
		return
	}
	if c.order.Len() == c.capacity {
		last := c.order.Back()
		delete(c.byKey, last.Value.(*scored).key) //nolint:errcheck // the list holds nothing else
		c.order.Remove(last)
	}
	c.byKey[key] = c.order.PushFront(&scored{key, s})
}

// classify asks the cache, then the classifier. Errors are never kept.
func (c *ScoreCache) classify(ctx context.Context, by classifier.Classifier, text string) (s classifier.Scores, cached bool, err error) {
	if c == nil {
		s, err = by.Classify(ctx, text)
		return s, false, err
	}
	key := scoreKey{by.Info().Digest, sha256.Sum256([]byte(text))}
	if s, ok := c.get(key); ok {
		return s, true, nil
	}
	// Scores given when the time was up may be a cascade's first guess: they answer this call and no later one.
	if s, err = by.Classify(ctx, text); err == nil && ctx.Err() == nil {
		c.put(key, s)
	}
	return s, false, err
}
