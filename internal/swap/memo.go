package swap

import (
	"context"
	"sync"

	"github.com/weirhq/weir/classifier"
)

// memo is a bundle that scores a text once.
type memo struct {
	Bundle
	mu   sync.Mutex
	seen map[string]classifier.Scores
}

func remember(b Bundle) *memo { return &memo{Bundle: b, seen: map[string]classifier.Scores{}} }

// Classify implements classifier.Classifier. Errors are not kept.
func (m *memo) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	m.mu.Lock()
	s, ok := m.seen[text]
	m.mu.Unlock()
	if ok {
		return s, nil
	}
	s, err := m.Bundle.Classify(ctx, text)
	if err == nil {
		m.mu.Lock()
		m.seen[text] = s
		m.mu.Unlock()
	}
	return s, err
}
