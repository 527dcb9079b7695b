// Package classifier says what a score of a prompt means.
//
// A Classifier reads one text and answers with Scores: the calibrated chances
// that the reference efficient and the reference high-performance model answer
// it well, what it is about, and how long an answer to expect. A chat becomes
// one text by Render; text is made safe for native code by Clean; Shape is the
// fixed vector that a graph may read beside the tokens. Curve turns a graph's
// logit into a probability, Cascade asks a cheap classifier first, and Lexical
// is the baseline that needs no model.
//
// The package knows neither models, prices nor graphs, and imports the standard
// library only. The contract of Classifier is a test suite: classifiertest.
package classifier

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Errors that every Classifier reports in the same way.
var (
	// ErrInvalidText means that the text is not valid UTF-8.
	ErrInvalidText = errors.New("text is not valid UTF-8")
	// ErrNoContent means that nothing of the text can be scored: it is empty,
	// or only white space and control characters.
	ErrNoContent = errors.New("text holds nothing to score")
	// ErrOverloaded means that the classifier's queue is full. The call did no
	// work; try again later.
	ErrOverloaded = errors.New("classifier queue is full")
	// ErrClosed means that the classifier has been closed.
	ErrClosed = errors.New("classifier is closed")
)

// Classifier scores prompts.
type Classifier interface {
	// Classify scores one text, as Render makes it. It is safe for concurrent
	// use and deterministic: the same text has the same scores, whatever runs
	// beside it. It honours ctx: after cancellation it returns soon with
	// context.Cause(ctx) wrapped, and native work that it started has ended
	// when it returns. Errors wrap ErrInvalidText, ErrNoContent, ErrOverloaded,
	// ErrClosed or the context's cause; any other error is the classifier's
	// own fault. Scores returned without an error pass Scores.Validate.
	Classify(ctx context.Context, text string) (Scores, error)
	// Info tells which classifier this is. It never changes.
	Info() Info
}

// Info names a classifier and what its qualities refer to.
type Info struct {
	// Name and Version are for people.
	Name, Version string
	// Digest identifies everything that decides a score: "sha256:" and 64 hex
	// digits for a bundle, "lexical:" and a version for the baseline.
	Digest string
	// ReferenceEfficient and ReferenceHigh name the models whose chances of a
	// good answer the two qualities are.
	ReferenceEfficient, ReferenceHigh string
}

// Estimate is a probability with a 90 % interval around it.
type Estimate struct {
	Value, Low, High float64
}

// Scores is what a classifier says of one prompt.
type Scores struct {
	// QEfficient and QHigh are the chances that the reference efficient and
	// the reference high-performance model answer the prompt well.
	QEfficient, QHigh Estimate
	// Domains is a distribution over the domains; index it by Domain.Index.
	Domains [NumDomains]float64
	// OutputTokens is the expected length of an answer, OutputTokensP90 the
	// length that nine in ten answers stay under; in tokens of the classifier.
	OutputTokens, OutputTokensP90 float64
	// InputTokens counts the text's tokens, TruncatedTokens those that the
	// graph did not see. They are exact unless TokensEstimated.
	InputTokens, TruncatedTokens int
	TokensEstimated              bool
	// OutOfDistribution means that the text is unlike what the classifier was
	// trained on, so that its scores deserve less trust.
	OutOfDistribution bool
	// Lane names the part that answered: "fast", "base" or "lexical".
	Lane string
}

// Complexity is the chance that the efficient model is not good enough: 1 - q_efficient.
func (s Scores) Complexity() float64 { return 1 - s.QEfficient.Value }

// Gain is what going up is worth: q_high - q_efficient. Rankings use it.
func (s Scores) Gain() float64 { return s.QHigh.Value - s.QEfficient.Value }

// Domain returns the likeliest domain and its probability; the first in the
// order of the enumeration where two tie.
func (s Scores) Domain() (Domain, float64) {
	best := 0
	for i, p := range s.Domains {
		if p > s.Domains[best] {
			best = i
		}
	}
	return Domain(best + 1), s.Domains[best]
}

// Validate reports every way in which s is not a set of scores: a probability
// outside 0..1, an interval that misses its value, a distribution that does not
// sum to one, a length or count that is negative or not a number.
func (s Scores) Validate() error {
	var faults []error
	faults = append(faults, s.QEfficient.validate("q_efficient"), s.QHigh.validate("q_high"))
	sum := 0.0
	for i, p := range s.Domains {
		if !(p >= 0 && p <= 1) {
			faults = append(faults, fmt.Errorf("domain %s has probability %v, want 0..1", Domain(i+1), p))
		}
		sum += p
	}
	if !(math.Abs(sum-1) < 1e-6) {
		faults = append(faults, fmt.Errorf("domain probabilities sum to %v, want 1", sum))
	}
	if !(s.OutputTokens > 0) || math.IsInf(s.OutputTokens, 0) {
		faults = append(faults, fmt.Errorf("output tokens are %v, want a positive number", s.OutputTokens))
	}
	if !(s.OutputTokensP90 >= s.OutputTokens) || math.IsInf(s.OutputTokensP90, 0) {
		faults = append(faults, fmt.Errorf("output tokens p90 is %v, want at least the expected %v", s.OutputTokensP90, s.OutputTokens))
	}
	if s.InputTokens < 0 || s.TruncatedTokens < 0 || s.TruncatedTokens > s.InputTokens {
		faults = append(faults, fmt.Errorf("truncated tokens are %d of %d input tokens", s.TruncatedTokens, s.InputTokens))
	}
	if s.Lane == "" {
		faults = append(faults, errors.New("lane is empty"))
	}
	return errors.Join(faults...)
}

func (e Estimate) validate(name string) error {
	if !(e.Low >= 0 && e.Low <= e.Value && e.Value <= e.High && e.High <= 1) {
		return fmt.Errorf("%s is %v in [%v, %v], want 0 <= low <= value <= high <= 1", name, e.Value, e.Low, e.High)
	}
	return nil
}
