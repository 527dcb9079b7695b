package onnx

import (
	"context"
	"errors"

	"github.com/weirhq/weir/classifier"
)

// Bundle is an opened model bundle, ready to score. It is safe for concurrent use.
// Make one by Runtime.Open; whoever opened it closes it.
type Bundle struct {
	manifest Manifest
	digest   string
	info     classifier.Info
}

// Classify implements classifier.Classifier. At most Config.MaxConcurrent prompts are
// scored at once and at most Config.MaxQueue wait, until they are served, their ctx
// ends or the bundle is closed. A run that ctx ends is stopped and waited for.
func (b *Bundle) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	return classifier.Scores{}, errors.New("not there yet")
}

// Info implements classifier.Classifier.
func (b *Bundle) Info() classifier.Info { return b.info }

// Digest is the bundle's identity: "sha256:" and the digest of manifest.json in hex.
// The manifest holds the digests of all other files.
func (b *Bundle) Digest() string { return b.digest }

// Manifest is what the bundle says of itself. It shares memory with the bundle: do
// not change it.
func (b *Bundle) Manifest() Manifest { return b.manifest }

// Encode returns the ids that the fast lane's graph is given for a text, with how
// many tokens the text has, how many of them the graph does not see, and whether
// those counts are estimates. It is for comparing tokenizers, keeps to no limit of
// concurrency, and has the errors of Classify.
func (b *Bundle) Encode(text string) (ids []int64, inputTokens, truncated int, estimated bool, err error) {
	return nil, 0, 0, false, errors.New("not there yet")
}

// Close refuses new calls with classifier.ErrClosed, as it does those that still
// wait in the queue, waits for the running ones, frees sessions and tokenizers, and
// gives the memory back to the system. Further calls wait for the first and return
// its error.
func (b *Bundle) Close() error { return nil }

// ReadManifest reads and checks the bundle in folder dir without running it: the
// manifest, the digest and size of every file, the graphs' inputs and outputs, the
// tokenizers' settings and the probes. It needs no native library. The error joins
// every fault, each with field, value and remedy; the Manifest that comes with an
// error holds what could be read.
func ReadManifest(dir string) (Manifest, error) {
	return Manifest{}, errors.New("not there yet")
}

func openBundle(ctx context.Context, e engine, dir string, cfg Config, released func()) (*Bundle, error) {
	return nil, errors.New("not there yet")
}

type raw struct{}
