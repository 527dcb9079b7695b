package eval

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/weirhq/weir/classifier"
)

// Prompt is all that a strategy sees of a case: no outcome, no label.
type Prompt struct {
	ID string
	// Chars is the length of the scored text in characters.
	Chars int
	// Scores count only when Scored.
	Scores classifier.Scores
	Scored bool
}

// ranking is a strategy that orders prompts: the higher, the sooner to the
// strong model.
type ranking struct {
	name string
	rank func(Prompt) float64
}

// gainOf is Weir's ranking. What could not be scored ranks first, as the
// unscored tier of a policy would have it.
func gainOf(p Prompt) float64 {
	if !p.Scored {
		return 1
	}
	return p.Scores.Gain()
}

func lengthOf(p Prompt) float64 { return float64(p.Chars) }

// randomOf gives each id a fixed place by the seed, whatever the order of the set.
func randomOf(seed uint64) func(Prompt) float64 {
	return func(p Prompt) float64 {
		b := binary.LittleEndian.AppendUint64(nil, seed)
		sum := sha256.Sum256(append(b, p.ID...))
		return float64(binary.LittleEndian.Uint64(sum[:])>>11) / (1 << 53)
	}
}
