package onnx

import (
	"context"
	"sync/atomic"

	"github.com/weirhq/weir/classifier"
)

// gate lets so many callers in at once and so many wait.
type gate struct {
	places  chan struct{}
	waiting *atomic.Int64
	most    int64
	closing chan struct{} // closed: nobody waits any longer
}

func newGate(cfg Config) gate {
	return gate{
		places:  make(chan struct{}, cfg.MaxConcurrent),
		waiting: new(atomic.Int64),
		most:    int64(cfg.MaxQueue),
		closing: make(chan struct{}),
	}
}

// enter takes a place, which leave gives back. It waits for one until ctx ends, and
// fails at once when too many wait already.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	if g.waiting.Add(1) > g.most {
		g.waiting.Add(-1)
		return classifier.ErrOverloaded
	}
	defer g.waiting.Add(-1)
	select {
	case g.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-g.closing:
		return classifier.ErrClosed
	}
}

func (g *gate) leave() { <-g.places }
