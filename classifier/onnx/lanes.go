package onnx

import (
	"context"
	"fmt"

	"github.com/weirhq/weir/classifier"
)

// Lanes returns the bundle's lanes by their names, each as a classifier that answers
// whatever the cascade would ask. They share the bundle's life and its limits of
// concurrency. They are for those who look at a bundle: what serves is the bundle.
func (b *Bundle) Lanes() map[string]classifier.Classifier {
	out := map[string]classifier.Classifier{}
	for _, l := range []*lane{b.fast, b.base} {
		if l != nil {
			out[l.scorer.name] = single{b, l}
		}
	}
	return out
}

// single is one lane of a bundle.
type single struct {
	bundle *Bundle
	lane   *lane
}

// Classify implements classifier.Classifier.
func (s single) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	scores, err := s.bundle.admit(ctx, text, func(text string, shape []float32) (classifier.Scores, error) {
		return asked{s.lane, shape}.Classify(ctx, text)
	})
	if err != nil {
		return classifier.Scores{}, fmt.Errorf("classify: %w", err)
	}
	return scores, nil
}

// Info implements classifier.Classifier: it is the bundle's.
func (s single) Info() classifier.Info { return s.bundle.info }
