package eval

import (
	"iter"
	"time"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// Source is one benchmark set that can be read, from its start each time.
type Source struct {
	// Name of the set in reports.
	Name string
	// Weak and Strong name the pair where the source defines one; else "".
	Weak, Strong string
	// Cases reads the set. It yields an error as its last element, if any.
	Cases iter.Seq2[Case, error]
}

// Config is what Run replays. Sources, Classifier and Policy's rules are
// required; the zero value of anything else is its default.
type Config struct {
	Sources    []Source
	Classifier classifier.Classifier
	// Rules give the policies, and the cards of the two models where it has
	// them; nil for the defaults. Policy names one of them; "" the default.
	Rules  *router.Rules
	Policy string
	// Weak and Strong name the pair for sources that define none. A set of two
	// models needs none: the better one on average is the strong one.
	Weak, Strong string
	// WeakPrice and StrongPrice are notional dollars for a million tokens where a
	// set records no costs; 0 for RouteLLM's 0.24 and 24.7.
	WeakPrice, StrongPrice float64
	// Splits are those measured; empty for all but overlap. Overlap is refused.
	Splits []string
	// Calibration, if its Cases is set, gives thresholds that are frozen before
	// any set is measured; see Result.Frozen.
	Calibration Source
	// Seed seeds everything random; Bootstrap is the number of resamples, 0 for
	// 1,000, negative for none (intervals are then null).
	Seed      uint64
	Bootstrap int
	// CacheDir holds scores between runs; "" keeps none.
	CacheDir string
	// Workers is how many prompts are scored at once; 0 for one a core.
	Workers int
	// Progress, if set, is told how many cases of a set were read so far, and at
	// the end of each stage. It is called from one goroutine at a time.
	Progress func(set, stage string, done int)
	// Now, if set, times the classifier, and CoreHourUSD prices the time, in
	// dollars for an hour of one core: what routing itself costs. With Now nil
	// the report says nothing of it, and is the same in every run.
	Now         func() time.Time
	CoreHourUSD float64
	// Version and Binary go into the manifest.
	Version, Binary string
}
