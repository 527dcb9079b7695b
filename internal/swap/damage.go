package swap

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirhq/weir/classifier"
)

// The gate "damage" tells a graph that was damaged from one that was retrained,
// where digests and probes do not: a manifest may vouch for anything, and probes see
// few rows of a table. A retrained graph moves nearly every score. A damaged one, of
// which most bytes are the serving graph's, moves some and leaves the rest exactly
// as they were. Prompts are counted by the lane that answered before, because one lane
// alone may have been retrained.

const (
	// sameBytes is the share of a file that makes it a version of another one.
	sameBytes = 0.5
	// sameScores is the share of prompts whose scores did not move at all.
	sameScores = 0.2
	// moved is the least difference of a probability that counts.
	moved = 1e-3
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
	lanes := map[string]*laneMoves{}
	all := append(append([]string(nil), texts...), e.Cover...)
	for _, t := range all {
		a, errA := serving.Classify(ctx, t)
		b, errB := candidate.Classify(ctx, t)
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if errors.Is(errA, classifier.ErrNoContent) || errors.Is(errB, classifier.ErrNoContent) {
			continue
		}
		if errA != nil {
			return fmt.Errorf("compare scores: the serving bundle: %w", errA)
		}
		if errB == nil {
			errB = b.Validate()
		}
		if errB != nil {
			r.refuse(GateDamage, "a text of the vocabulary gives no sound score: %v", errB)
			return nil
		}
		if lanes[a.Lane] == nil {
			lanes[a.Lane] = &laneMoves{}
		}
		lanes[a.Lane].add(&a, &b)
	}
	if l, name := damaged(lanes); l != nil {
		r.refuse(GateDamage, "%s shares %.1f %% of its bytes with the serving one; %d of %d texts (lane %s) score otherwise, by up to %.3g, and %d exactly as before: "+
			"a retrained graph moves nearly all of them, a damaged one some; copy it again, or train it anew",
			file, 100*share, l.differ+l.switched, l.all, name, l.worst, l.same)
		return nil
	}
	r.pass(GateDamage, "%s shares %.1f %% of its bytes with the serving one, and moves the scores of %d texts as a whole or not at all", file, 100*share, len(all))
	return nil
}

// laneMoves counts the texts that a lane of the serving bundle answers.
type laneMoves struct {
	// same of them score exactly as before, differ otherwise by the same lane, and
	// switched by another lane.
	same, differ, switched, all int
	worst                       float64
}

func (l *laneMoves) add(a, b *classifier.Scores) {
	l.all++
	d := distance(a, b)
	switch {
	case d == 0:
		l.same++
		return
	case d <= moved:
		return
	case a.Lane != b.Lane:
		l.switched++
	default:
		l.differ++
	}
	l.worst = max(l.worst, d)
}

// whole tells a lane that moved as one.
func (l *laneMoves) whole() bool { return float64(l.same) < sameScores*float64(l.all) }

// damaged finds a lane of which some texts moved and many did not. That texts moved
// to another lane is no sign where a lane has been retrained: it decides who answers.
func damaged(lanes map[string]*laneMoves) (*laneMoves, string) {
	retrained := false
	for _, l := range lanes {
		retrained = retrained || l.whole()
	}
	for name, l := range lanes {
		if !l.whole() && (l.differ > 0 || l.switched > 0 && !retrained) {
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
