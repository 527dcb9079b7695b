package swap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/classifier"
)

// The gate "latency" times each lane of the candidate against the serving bundle's
// lane of that name, on the same prompts, in turns. A base lane is many times dearer
// than a fast one, on purpose, so that a bundle as a whole is not compared with one
// of other lanes: a lane that the serving bundle does not have has a bound of its own,
// and the slowest prompts of the whole have theirs.

// speedTexts bounds the prompts that are timed, speedRounds how often each is; the
// best time of each counts, because others only add to it. With slow lanes fewer
// prompts are timed, so that about speedTime is enough for all. What lies far within
// its bounds after speedFew rounds is not timed any longer: more rounds would lower its
// times and the serving bundle's alike.
const (
	speedTexts  = 128
	speedLeast  = 24
	speedRounds = 5
	speedFew    = 2
	speedTime   = 6 * time.Second
)

// lanesOf are a bundle's lanes by name; one that does not show them is a lane itself.
func lanesOf(b Bundle) map[string]classifier.Classifier {
	if l, ok := b.(interface {
		Lanes() map[string]classifier.Classifier
	}); ok {
		return l.Lanes()
	}
	return map[string]classifier.Classifier{"": b}
}

// subject is what is timed: a lane or a whole bundle, and its best time a prompt.
type subject struct {
	classifier.Classifier
	best []time.Duration
}

// race are a lane, or the whole, of both bundles; serving is nil where only the
// candidate has it.
type race struct {
	lane               string
	serving, candidate *subject
}

// races are those of every lane of the candidate, and of the whole last.
func races(serving, candidate Bundle) []*race {
	s, c := lanesOf(serving), lanesOf(candidate)
	var out []*race
	for _, name := range slices.Sorted(maps.Keys(c)) {
		r := &race{lane: name, candidate: &subject{Classifier: c[name]}}
		if s[name] != nil {
			r.serving = &subject{Classifier: s[name]}
		}
		out = append(out, r)
	}
	return append(out, &race{lane: wholeBundle, serving: &subject{Classifier: serving}, candidate: &subject{Classifier: candidate}})
}

// wholeBundle stands where a lane's name would.
const wholeBundle = "*"

// checkSpeed holds every lane against its bound. What refuses is measured again: noise
// does not repeat.
func (e *Exam) checkSpeed(ctx context.Context, r *Report, serving, candidate Bundle, texts []string) error {
	if len(texts) == 0 {
		r.pass(GateLatency, "not measured: no prompts are replayed")
		return nil
	}
	var faults []string
	for range 2 {
		s, err := timeAll(ctx, races(serving, candidate), texts, e.Policy.Latency.halved())
		if err != nil {
			return err
		}
		r.Speed = s
		if faults = s.faults(&e.Policy.Latency); len(faults) == 0 {
			r.pass(GateLatency, "%s", strings.Join(s.words(), "\n"))
			return nil
		}
	}
	r.refuse(GateLatency, "%s", strings.Join(faults, "\n"))
	return nil
}

// timeAll times every subject on the same prompts, in turns, so that whatever else the
// machine does happens to all. It ends early with what keeps to enough.
func timeAll(ctx context.Context, all []*race, texts []string, enough *LatencyPolicy) (*Speed, error) {
	var subjects []*subject
	for _, r := range all {
		if r.serving != nil {
			subjects = append(subjects, r.serving)
		}
		subjects = append(subjects, r.candidate)
	}
	some := spreadOut(texts, speedTexts)
	begin := time.Now()
	for _, t := range some[:min(speedLeast, len(some))] {
		if _, err := timeText(ctx, subjects, t); err != nil {
			return nil, err
		}
	}
	// That round warmed up, and says how many prompts there is time for.
	perText := time.Since(begin) / time.Duration(min(speedLeast, len(some)))
	some = spreadOut(some, max(speedLeast, int(speedTime/max(perText*speedRounds, 1))))
	for _, s := range subjects {
		s.best = make([]time.Duration, len(some))
	}
	for round := range speedRounds {
		for i, t := range some {
			took, err := timeText(ctx, subjects, t)
			if err != nil {
				return nil, err
			}
			for k, s := range subjects {
				if round == 0 || took[k] < s.best[i] {
					s.best[i] = took[k]
				}
			}
		}
		if round+1 == speedFew {
			if s := speedOf(all, len(some)); len(s.faults(enough)) == 0 {
				return s, nil
			}
		}
	}
	return speedOf(all, len(some)), nil
}

// halved has bounds half as wide: a ratio half as far above 1, half the times.
func (p *LatencyPolicy) halved() *LatencyPolicy {
	return &LatencyPolicy{MaxRatio: 1 + (p.MaxRatio-1)/2, NewLane: p.NewLane / 2, MaxP99: p.MaxP99 / 2}
}

// spreadOut takes at most n of the texts, from the whole length of the list.
func spreadOut(texts []string, n int) []string {
	if len(texts) <= n {
		return texts
	}
	out := make([]string, n)
	for i := range out {
		out[i] = texts[i*len(texts)/n]
	}
	return out
}

func timeText(ctx context.Context, subjects []*subject, text string) ([]time.Duration, error) {
	took := make([]time.Duration, len(subjects))
	for k, s := range subjects {
		start := time.Now()
		if _, err := s.Classify(ctx, text); err != nil && !errors.Is(err, classifier.ErrNoContent) {
			return nil, fmt.Errorf("time a prompt: %w", err)
		}
		took[k] = time.Since(start)
	}
	return took, nil
}

func speedOf(all []*race, prompts int) *Speed {
	out := &Speed{Prompts: prompts}
	at := func(d []time.Duration, q float64) time.Duration {
		d = slices.Sorted(slices.Values(d))
		return d[int(q*float64(len(d)-1))]
	}
	for _, r := range all {
		l := LaneSpeed{Lane: r.lane, Candidate: at(r.candidate.best, 0.5)}
		if r.serving != nil {
			ratios := make([]float64, prompts)
			for i := range ratios {
				ratios[i] = float64(r.candidate.best[i]) / float64(max(r.serving.best[i], 1))
			}
			slices.Sort(ratios)
			l.Serving, l.Ratio = at(r.serving.best, 0.5), ratios[prompts/2]
		}
		if r.lane == wholeBundle {
			out.Serving, out.Candidate, out.Ratio, out.P99 = l.Serving, l.Candidate, l.Ratio, at(r.candidate.best, 0.99)
			out.MeanServing, out.MeanCandidate = mean(r.serving.best), mean(r.candidate.best)
			continue
		}
		out.Lanes = append(out.Lanes, l)
	}
	return out
}

func mean(d []time.Duration) time.Duration {
	var sum time.Duration
	for _, v := range d {
		sum += v
	}
	return sum / time.Duration(max(len(d), 1))
}

// words say how fast it is, one line a lane.
func (s *Speed) words() []string {
	var out []string
	for _, l := range s.Lanes {
		switch {
		case l.Serving == 0:
			out = append(out, fmt.Sprintf("%sa prompt takes %s, the serving bundle has no such lane", l.name(), l.Candidate))
		default:
			out = append(out, fmt.Sprintf("%sa prompt takes %s where serving takes %s (%.2f times)", l.name(), l.Candidate, l.Serving, l.Ratio))
		}
	}
	return append(out, fmt.Sprintf("on the whole %s on average, serving %s; the slowest in a hundred %s", s.MeanCandidate, s.MeanServing, s.P99))
}

// faults are the bounds that it breaks, one a sentence.
func (s *Speed) faults(p *LatencyPolicy) []string {
	var out []string
	for _, l := range s.Lanes {
		switch {
		case l.Serving == 0 && l.Candidate > p.NewLane:
			out = append(out, fmt.Sprintf("%sa prompt takes %s, allowed are %s for a lane that the serving bundle does not have (latency.new_lane)",
				l.name(), l.Candidate, p.NewLane))
		case l.Serving > 0 && l.Ratio > p.MaxRatio:
			out = append(out, fmt.Sprintf("%sa prompt takes %s where serving takes %s: %.2f times, allowed are %g (latency.max_ratio)",
				l.name(), l.Candidate, l.Serving, l.Ratio, p.MaxRatio))
		}
	}
	if s.P99 > p.MaxP99 {
		out = append(out, fmt.Sprintf("the slowest prompt in a hundred takes %s, allowed are %s (latency.max_p99)", s.P99, p.MaxP99))
	}
	return out
}

func (l *LaneSpeed) name() string {
	if l.Lane == "" {
		return ""
	}
	return "lane " + l.Lane + ": "
}
