package onnx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/weirhq/weir/classifier"
)

// Bundle is an opened model bundle, ready to score. It is safe for concurrent use.
// Make one by Runtime.Open; whoever opened it closes it.
type Bundle struct {
	manifest Manifest
	info     classifier.Info
	fast     *lane
	base     *lane // nil where the bundle has none
	gate     gate

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup

	close func() error // sync.OnceValue: frees everything
}

// Classify implements classifier.Classifier. At most Config.MaxConcurrent prompts are
// scored at once and at most Config.MaxQueue wait, until they are served, their ctx
// ends or the bundle is closed. A run that ctx ends is stopped and waited for.
func (b *Bundle) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	s, err := b.classify(ctx, text)
	if err != nil {
		return classifier.Scores{}, fmt.Errorf("classify: %w", err)
	}
	return s, nil
}

func (b *Bundle) classify(ctx context.Context, text string) (classifier.Scores, error) {
	return b.admit(ctx, text, func(text string, shape []float32) (classifier.Scores, error) {
		fast := asked{b.fast, shape}
		if b.base == nil {
			return fast.Classify(ctx, text)
		}
		cascade, err := classifier.NewCascade(fast, asked{b.base, shape}, classifier.Band(*b.manifest.Cascade), b.info)
		if err != nil {
			return classifier.Scores{}, err
		}
		return cascade.Classify(ctx, text)
	})
}

// admit keeps the bundle open, takes a place in the gate and hands the clean text
// with its shape on.
func (b *Bundle) admit(ctx context.Context, text string, score func(text string, shape []float32) (classifier.Scores, error)) (classifier.Scores, error) {
	if err := context.Cause(ctx); err != nil {
		return classifier.Scores{}, err
	}
	if !b.lease() {
		return classifier.Scores{}, classifier.ErrClosed
	}
	defer b.running.Done()
	text, err := classifier.Clean(text)
	if err != nil {
		return classifier.Scores{}, err
	}
	// One place in the gate for both lanes: a base lane with a queue of its own would
	// make the answer depend on what else runs.
	if err := b.gate.enter(ctx); err != nil {
		return classifier.Scores{}, err
	}
	defer b.gate.leave()
	shape := classifier.Shape(text) // of the whole text, so read once for both lanes
	return score(text, shape[:])
}

// Info implements classifier.Classifier.
func (b *Bundle) Info() classifier.Info { return b.info }

// Digest is the bundle's identity: "sha256:" and the digest of manifest.json in hex.
// The manifest holds the digests of all other files.
func (b *Bundle) Digest() string { return b.manifest.Digest }

// Manifest is what the bundle says of itself. It shares memory with the bundle: do
// not change it.
func (b *Bundle) Manifest() Manifest { return b.manifest }

// Encode returns the ids that the fast lane's graph is given for a text, with how
// many tokens the text has, how many of them the graph does not see, and whether
// those counts are estimates. It is for comparing tokenizers, keeps to no limit of
// concurrency, and has the errors of Classify.
func (b *Bundle) Encode(text string) (ids []int64, inputTokens, truncated int, estimated bool, err error) {
	if !b.lease() {
		return nil, 0, 0, false, fmt.Errorf("encode: %w", classifier.ErrClosed)
	}
	defer b.running.Done()
	var e encoded
	if text, err = classifier.Clean(text); err == nil {
		e, err = b.fast.encoder.encode(text)
	}
	if err != nil {
		return nil, 0, 0, false, fmt.Errorf("encode: %w", err)
	}
	return e.ids, e.inputTokens, e.truncated, e.estimated, nil
}

// lease keeps the bundle open for a call: running.Done ends it. It reports whether
// the bundle was still open.
func (b *Bundle) lease() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Add(1)
	return true
}

// Close refuses new calls with classifier.ErrClosed, as it does those that still
// wait in the queue, waits for the running ones, frees sessions and tokenizers, and
// gives the memory back to the system. Further calls wait for the first and return
// its error.
func (b *Bundle) Close() error { return b.close() }

// closer returns what Close does, once.
func (b *Bundle) closer(owned closers, released func()) func() error {
	return sync.OnceValue(func() error {
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		close(b.gate.closing)
		b.running.Wait()
		err := owned.close()
		trimHeap()
		released()
		if err != nil {
			return fmt.Errorf("close bundle %s: %w", b.info.Name, err)
		}
		return nil
	})
}

// openBundle reads, opens and proves. released is called when the bundle is closed.
func openBundle(ctx context.Context, e engine, dir string, cfg Config, released func()) (*Bundle, error) {
	c, err := readBundle(dir)
	if err != nil {
		return nil, err
	}
	b := &Bundle{manifest: c.manifest, gate: newGate(cfg), info: classifier.Info{
		Name: c.manifest.Name, Version: c.manifest.Version, Digest: c.manifest.Digest,
		ReferenceEfficient: c.manifest.References.Efficient, ReferenceHigh: c.manifest.References.HighPerformance,
	}}
	var owned closers
	if err := b.openLanes(ctx, e, c, &owned); err != nil {
		err = errors.Join(err, owned.close())
		trimHeap()
		return nil, err
	}
	b.close = b.closer(owned, released)
	return b, nil
}

// openLanes makes the native parts, handing each to owned, and proves every lane.
func (b *Bundle) openLanes(ctx context.Context, e engine, c content, owned *closers) error {
	tokenizers := map[string]tokenizer{}
	var lanes []*lane
	for _, l := range c.manifest.lanes() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		t, ok := tokenizers[l.lane.Tokenizer]
		if !ok {
			var err error
			if t, err = e.openTokenizer(c.files[l.lane.Tokenizer]); err != nil {
				return fmt.Errorf("%s: %w", l.lane.Tokenizer, err)
			}
			owned.add(t.close)
			t = withWordPiece(t, c.files[l.lane.Tokenizer], c.texts())
			tokenizers[l.lane.Tokenizer] = t
		}
		s, err := e.openSession(c.files[l.lane.Graph], l.lane)
		if err != nil {
			return fmt.Errorf("%s: %w", l.lane.Graph, err)
		}
		owned.add(s.close)
		scorer, err := newScorer(l.name, &c.manifest, l.lane)
		if err != nil {
			return fmt.Errorf("lane %s: %w", l.name, err)
		}
		opened := &lane{
			session: s, scorer: scorer,
			encoder: encoder{tokenizer: t, window: l.lane.Window, special: l.lane.SpecialTokens},
		}
		if err := opened.prove(ctx, c.probes); err != nil {
			return err
		}
		if err := opened.warm(ctx, c.probes[0].Text); err != nil {
			return err
		}
		lanes = append(lanes, opened)
	}
	b.fast = lanes[0]
	if len(lanes) > 1 {
		b.base = lanes[1]
	}
	return nil
}

// lane is one graph with its tokenizer. It takes clean text.
type lane struct {
	encoder encoder
	session session
	scorer  scorer
}

// run gives a text's ids and the graph's raw outputs.
func (l *lane) run(ctx context.Context, text string, shape []float32) (encoded, raw, error) {
	e, err := l.encoder.encode(text)
	if err != nil {
		return encoded{}, raw{}, err
	}
	vectors, err := l.session.run(ctx, e.ids, shape)
	if err != nil {
		return encoded{}, raw{}, err
	}
	r, err := l.scorer.lane.readRaw(vectors, len(l.scorer.domains))
	return e, r, err
}

// asked is a lane that is asked about one text, whose shape is known.
type asked struct {
	*lane
	shape []float32
}

// Classify implements classifier.Classifier.
func (a asked) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	e, r, err := a.run(ctx, text, a.shape)
	if err != nil {
		return classifier.Scores{}, fmt.Errorf("lane %s: %w", a.scorer.name, err)
	}
	return a.scorer.scores(r, e), nil
}

// Info implements classifier.Classifier; the cascade has the bundle's.
func (a asked) Info() classifier.Info { return classifier.Info{Name: a.scorer.name} }

// warm scores a text that fills the window, so that the session has grown to its
// full size before the first prompt, and checks that calibration gives scores.
func (l *lane) warm(ctx context.Context, text string) error {
	w := l.scorer.lane.Window
	text, err := classifier.Clean(strings.Repeat(text+" ", 1+(w.HeadBytes+w.TailBytes)/len(text)))
	if err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	shape := classifier.Shape(text)
	s, err := asked{l, shape[:]}.Classify(ctx, text)
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return nil
}
