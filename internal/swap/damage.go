package swap

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/classifier"
)

// The gate "damage" tells a graph that was damaged from one that was retrained,
// where digests and probes do not: a manifest may vouch for anything, and probes see
// few rows of a table. A retrained graph moves every score. A damaged one, of
// which most bytes are the serving graph's, moves some and leaves the rest, as good
// as, where they were. Each lane is judged by itself, because one alone may have been
// retrained.

const (
	// sameBytes is the share of a file that makes it a version of another one.
	sameBytes = 0.5
	// still is the difference that counts as none.
	still = 1e-9
	// spread is how many times as far the farthest text may move as the fifth of
	// the texts that move least: a retrained graph's moves are within a few dozen.
	spread = 300
)

// coverTime is about how long a lane's vocabulary may take through both bundles.
const coverTime = 15 * time.Second

// checkDamage holds the candidate's scores against the serving bundle's on the
// prompts and on every word of the vocabulary. Each lane that both have is asked by
// itself, so that a word reaches a lane that the cascade would not ask about it.
func (e *Exam) checkDamage(ctx context.Context, r *Report, serving, candidate Bundle, texts []string) error {
	file, share, err := retouched(e.Serving, e.Candidate)
	if err != nil {
		return fmt.Errorf("compare files: %w", err)
	}
	if file == "" {
		r.pass(GateDamage, "no graph is a version of the serving one's")
		return nil
	}
	moves, n := map[string]*laneMoves{}, 0
	before, after := lanesOf(serving), lanesOf(candidate)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if before[name] == nil {
			continue // the cascade asked it on every prompt; there is nothing to compare
		}
		l := &laneCover{before: before[name], after: after[name], moves: moves}
		if err := l.run(ctx, texts, e.Cover); err != nil {
			return err
		}
		if n += l.texts; l.bad != "" {
			r.refuse(GateDamage, "%s", l.bad)
			return nil
		}
	}
	if l, name := damaged(moves); l != nil {
		least, farthest := l.extent()
		r.refuse(GateDamage, "%s shares %.1f %% of its bytes with the serving one; of %d texts (lane %s) a fifth moved by at most %.2g, and one by %.2g, %d to another lane: "+
			"a retrained graph moves all of them, a damaged one some; copy it again, or train it anew",
			file, 100*share, len(l.stayed)+l.switched, name, least, farthest, l.switched)
		return nil
	}
	r.pass(GateDamage, "%s shares %.1f %% of its bytes with the serving one, and moves the scores of %d texts as a whole or not at all", file, 100*share, n)
	return nil
}

// laneCover compares one lane of both bundles.
type laneCover struct {
	before, after classifier.Classifier
	moves         map[string]*laneMoves
	texts         int
	// bad says which text gives no sound score any more.
	bad string
}

// run compares the lane on the prompts and the words, in as many ways as there is
// time for.
func (l *laneCover) run(ctx context.Context, texts, words []string) error {
	c := &carrier{}
	for _, t := range texts {
		a, err := l.compare(ctx, t)
		if err != nil || l.bad != "" {
			return err
		}
		if a != nil {
			c.offer(t, a.Gain())
		}
	}
	// The first words say how long one takes: the median, because others use the machine.
	first := words[:min(len(words), 50)]
	took := make([]time.Duration, 1, len(first)+1)
	for _, w := range first {
		begin := time.Now()
		if _, err := l.compare(ctx, w); err != nil || l.bad != "" {
			return err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	for _, t := range coverTexts(words[len(first):], first, c, took[len(took)/2]) {
		if err := l.whole(ctx, t); err != nil || l.bad != "" {
			return err
		}
	}
	return nil
}

// whole compares a text of words, in halves where the lane does not see all of it.
func (l *laneCover) whole(ctx context.Context, words []string) error {
	a, err := l.compare(ctx, strings.Join(words, " "))
	if err != nil || l.bad != "" || a == nil || a.TruncatedTokens == 0 || len(words) == 1 {
		return err
	}
	half := len(words) / 2
	if err := l.whole(ctx, words[:half]); err != nil {
		return err
	}
	return l.whole(ctx, words[half:])
}

// compare scores a text by both. It returns the serving lane's scores, nil where there
// are none.
func (l *laneCover) compare(ctx context.Context, text string) (*classifier.Scores, error) {
	if l.bad != "" {
		return nil, nil //nolint:nilnil // no scores, and no fault
	}
	a, errA := l.before.Classify(ctx, text)
	b, errB := l.after.Classify(ctx, text)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(errA, classifier.ErrNoContent) || errors.Is(errB, classifier.ErrNoContent):
		return nil, nil //nolint:nilnil // no scores, and no fault
	case errA != nil:
		return nil, fmt.Errorf("compare scores: the serving bundle: %w", errA)
	case errB == nil:
		errB = b.Validate()
	}
	if errB != nil {
		l.bad = fmt.Sprintf("a text of the vocabulary gives no sound score: %v", errB)
		return nil, nil //nolint:nilnil // no scores, and no fault
	}
	if l.moves[a.Lane] == nil {
		l.moves[a.Lane] = &laneMoves{}
	}
	l.moves[a.Lane].add(&a, &b)
	l.texts++
	return &a, nil
}

// carrier are the short prompts whose gains in a lane lie farthest apart: behind them a
// word is seen as it is in a prompt.
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

// packed is how many words share a text where there is no time for more.
const packed = 24

// coverTexts are every word alone, and behind the carriers too: a row of a table may
// count only beside others. Where a word takes long they are left out, and where it
// takes very long several words share a text. first are words that were scored alone
// already.
func coverTexts(rest, first []string, c *carrier, aWord time.Duration) [][]string {
	all := slices.Concat(first, rest)
	var out [][]string
	if time.Duration(len(all))*aWord > coverTime {
		for chunk := range slices.Chunk(rest, packed) {
			out = append(out, chunk)
		}
		return out
	}
	for _, w := range rest {
		out = append(out, []string{w})
	}
	// Behind a carrier a text has some ten times the tokens of a word.
	if 10*time.Duration(len(all))*aWord > 4*coverTime {
		return out
	}
	for i, before := range []string{c.low, c.high} {
		if before == "" || i == 1 && before == c.low {
			continue
		}
		for _, w := range all {
			out = append(out, []string{before + " " + w})
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
