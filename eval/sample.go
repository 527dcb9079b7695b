package eval

import (
	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// Choice is one of the two models of a replay.
type Choice uint8

// The choices.
const (
	ChooseWeak Choice = iota + 1
	ChooseStrong
)

// Sample is the columns behind a Result: one entry a measured case, in the
// order of the set. It holds no text. Do not change the slices.
type Sample struct {
	// Name is the set's; WeakModel and StrongModel the pair.
	Name, WeakModel, StrongModel string
	IDs                          []string
	// Domain indexes DomainNames: the set's label, or the classifier's.
	Domain      []uint16
	DomainNames []string
	// Chars is the length of the scored text in characters.
	Chars []int32
	// Gain, QEfficient and QHigh are the classifier's; 1, 0 and 1 where a prompt
	// could not be scored, so that it ranks first for the strong model.
	Gain, QEfficient, QHigh []float64
	// Scored is false where a prompt could not be scored.
	Scored []bool
	// Gap is the strong model's expected quality less the weak one's, as Decide
	// sees them: the gain, unless a card has a quality curve of its own. 1 where a
	// prompt could not be scored.
	Gap []float64
	// Strange is whether the classifier called the prompt out of distribution;
	// Predicted its likeliest domain, 0 where it was not scored.
	Strange   []bool
	Predicted []classifier.Domain
	// Policy is what Decide chose.
	Policy []Choice
	// AlphaStep is the least step of the alpha sweep (alpha = step/20) at which
	// Decide chooses the strong model; AlphaSteps where it never does. Where a
	// dearer-than-strong weak model makes it start strong, AlphaFirst is strong
	// and AlphaStep the first step that chooses weak.
	AlphaStep  []uint8
	AlphaFirst []Choice
	// WeakScore and StrongScore are the outcomes, 0 to 1.
	WeakScore, StrongScore []float64
	// WeakCost and StrongCost are recorded costs; both nil where not every case
	// has both.
	WeakCost, StrongCost []router.NanoUSD
	// WeakPrice and StrongPrice are the notional dollars for a million tokens that count
	// where costs are not recorded.
	WeakPrice, StrongPrice float64
}

// AlphaSteps is the number of points of the alpha sweep: 0, .05, ... 1.
const AlphaSteps = 21

// Len is the number of cases.
func (s *Sample) Len() int { return len(s.IDs) }
