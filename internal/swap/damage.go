package swap

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirhq/weir/classifier"
)

// The gate "damage" tells a graph that was damaged from one that was retrained,
// where digests and probes do not: a manifest may vouch for anything, and probes see
// few rows of a table. A retrained graph moves every score. A damaged one, of
// which most bytes are the serving graph's, moves some and leaves the rest, as good
// as, where they were. Prompts are counted by the lane that answered before, because one lane
// alone may have been retrained.

const (
	// sameBytes is the share of a file that makes it a version of another one.
	sameBytes = 0.5
	// still is the difference that counts as none.
	still = 1e-9
	// spread is how many times as far the farthest text may move as the fifth of
	// the texts that move least: a retrained graph's moves are within a few dozen.
	spread = 300
)

// checkDamage holds the candidate's scores against the serving bundle's on the
// prompts and on every word of the vocabulary.
func (e *Exam) checkDamage(ctx context.Context, r *Report, serving, candidate Bundle, texts []string) error {
	file, share, err := retouched(e.Serving, e.Candidate)
	if err != nil {
		return fmt.Errorf("compare files: %w", err)
	}
	if file == "" {
		r.pass(GateDamage, "no graph is a version of the serving one's")
		return nil
	}
	lanes, carriers := map[string]*laneMoves{}, map[string]*carrier{}
	n := 0
	compare := func(t string) (string, *classifier.Scores, error) {
		a, errA := serving.Classify(ctx, t)
		b, errB := candidate.Classify(ctx, t)
		switch {
		case ctx.Err() != nil:
			return "", nil, context.Cause(ctx)
		case errors.Is(errA, classifier.ErrNoContent) || errors.Is(errB, classifier.ErrNoContent):
			return "", nil, nil
		case errA != nil:
			return "", nil, fmt.Errorf("compare scores: the serving bundle: %w", errA)
		case errB == nil:
			errB = b.Validate()
		}
		if errB != nil {
			return fmt.Sprintf("a text of the vocabulary gives no sound score: %v", errB), nil, nil
		}
		if lanes[a.Lane] == nil {
			lanes[a.Lane] = &laneMoves{}
		}
		lanes[a.Lane].add(&a, &b)
		n++
		return "", &a, nil
	}
	for _, t := range texts {
		bad, a, err := compare(t)
		if err != nil || bad != "" {
			return r.refuseDamage(bad, err)
		}
		if a == nil {
			continue
		}
		if carriers[a.Lane] == nil {
			carriers[a.Lane] = &carrier{}
		}
		carriers[a.Lane].offer(t, a.Gain())
	}
	for _, t := range coverTexts(e.Cover, carriers) {
		if bad, _, err := compare(t); err != nil || bad != "" {
			return r.refuseDamage(bad, err)
		}
	}
	if l, name := damaged(lanes); l != nil {
		least, farthest := l.extent()
		r.refuse(GateDamage, "%s shares %.1f %% of its bytes with the serving one; of %d texts (lane %s) a fifth moved by at most %.2g, and one by %.2g, %d to another lane: "+
			"a retrained graph moves all of them, a damaged one some; copy it again, or train it anew",
			file, 100*share, len(l.stayed)+l.switched, name, least, farthest, l.switched)
		return nil
	}
	r.pass(GateDamage, "%s shares %.1f %% of its bytes with the serving one, and moves the scores of %d texts as a whole or not at all", file, 100*share, n)
	return nil
}

func (r *Report) refuseDamage(bad string, err error) error {
	if err == nil {
		r.refuse(GateDamage, "%s", bad)
	}
	return err
}

// carrier are the short prompts of a lane whose gains lie farthest apart: a word
// behind one of them is most likely to stay in the lane, which alone would be
// answered by another.
type carrier struct {
	low, high         string
	lowGain, highGain float64
}

// carrierBytes bounds a carrier, so that the word behind it is still seen.
const carrierBytes = 80

func (c *carrier) offer(text string, gain float64) {
	if len(text) > carrierBytes {
		return
	}
	if c.low == "" || gain < c.lowGain {
		c.low, c.lowGain = text, gain
	}
	if c.high == "" || gain > c.highGain {
		c.high, c.highGain = text, gain
	}
}

// coverTexts are every word alone and behind the carriers of every lane.
func coverTexts(words []string, carriers map[string]*carrier) []string {
	var before []string
	for _, c := range carriers {
		for _, text := range []string{c.low, c.high} {
			if text != "" && !slices.Contains(before, text) {
				before = append(before, text)
			}
		}
	}
	out := slices.Clone(words)
	for _, text := range before {
		for _, w := range words {
			out = append(out, text+" "+w)
		}
	}
	return out
}

// laneMoves are how far the texts that a lane of the serving bundle answers moved.
type laneMoves struct {
	// stayed are the differences of those that the same lane still answers;
	// switched counts those that moved to another.
	stayed   []float64
	switched int
}

func (l *laneMoves) add(a, b *classifier.Scores) {
	if a.Lane != b.Lane {
		l.switched++
		return
	}
	l.stayed = append(l.stayed, distance(a, b))
}

// extent is how far the fifth that moved least did at most, and the farthest text.
func (l *laneMoves) extent() (least, farthest float64) {
	if len(l.stayed) == 0 {
		return 0, 0
	}
	slices.Sort(l.stayed)
	return l.stayed[len(l.stayed)/5], l.stayed[len(l.stayed)-1]
}

// damaged finds a lane of which some texts moved far and many did not. That texts
// moved to another lane is no sign where a lane has been retrained: it decides who
// answers.
func damaged(lanes map[string]*laneMoves) (*laneMoves, string) {
	retrained := false
	for name, l := range lanes {
		least, farthest := l.extent()
		if farthest > still && farthest > spread*least {
			return l, name
		}
		retrained = retrained || least > still
	}
	for name, l := range lanes {
		if l.switched > 0 && !retrained {
			return l, name
		}
	}
	return nil, ""
}

// distance is the largest difference of anything that decides.
func distance(a, b *classifier.Scores) float64 {
	d := max(math.Abs(a.QEfficient.Value-b.QEfficient.Value), math.Abs(a.QHigh.Value-b.QHigh.Value))
	for i := range a.Domains {
		d = max(d, math.Abs(a.Domains[i]-b.Domains[i]))
	}
	d = max(d, math.Abs(math.Log(max(a.OutputTokens, 1)/max(b.OutputTokens, 1))))
	if a.OutOfDistribution != b.OutOfDistribution {
		d = max(d, 1)
	}
	return d
}

// retouched finds the graph of the candidate that is a version of the serving
// bundle's of the same name, and how much of it is shared; "" for none. Of several,
// the most alike.
func retouched(serving, candidate string) (file string, share float64, err error) {
	entries, err := os.ReadDir(candidate)
	if err != nil {
		return "", 0, err
	}
	for _, entry := range entries {
		name := entry.Name()
		if !entry.Type().IsRegular() || !strings.HasSuffix(name, ".onnx") {
			continue
		}
		a, errA := os.ReadFile(filepath.Join(serving, name))
		b, errB := os.ReadFile(filepath.Join(candidate, name))
		if errors.Is(errA, os.ErrNotExist) {
			continue
		}
		if err := errors.Join(errA, errB); err != nil {
			return "", 0, err
		}
		if string(a) == string(b) {
			continue
		}
		if s := alike(a, b); s >= sameBytes && s > share {
			file, share = name, s
		}
	}
	return file, share, nil
}

// alike is the share of b's bytes that lie in pieces which a has too. Pieces end
// where their own bytes say so, so that bytes put in or taken out move nothing else.
func alike(a, b []byte) float64 {
	have := map[uint64]bool{}
	pieces(a, func(_ []byte, sum uint64) { have[sum] = true })
	shared := 0
	pieces(b, func(piece []byte, sum uint64) {
		if have[sum] {
			shared += len(piece)
		}
	})
	return float64(shared) / float64(max(len(b), 1))
}

// pieces cuts data by a rolling sum of its last bytes, about 256 bytes apart.
func pieces(data []byte, visit func(piece []byte, sum uint64)) {
	const window, least, most, mask = 32, 64, 4096, 255
	emit := func(piece []byte) {
		h := fnv.New64a()
		_, _ = h.Write(piece) // a hash never fails
		visit(piece, h.Sum64())
	}
	start, rolling, oldest := 0, uint64(0), power(window)
	for i, c := range data {
		rolling = rolling*1099511628211 + uint64(c) + 1
		if i >= window {
			rolling -= (uint64(data[i-window]) + 1) * oldest
		}
		if n := i + 1 - start; n >= least && (rolling>>24)&mask == mask || n >= most {
			emit(data[start : i+1])
			start = i + 1
		}
	}
	if start < len(data) {
		emit(data[start:])
	}
}

// power is the rolling sum's factor to the n-th.
func power(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 1099511628211
	}
	return p
}
