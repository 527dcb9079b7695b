package swap

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/eval"
	"github.com/weirhq/weir/router"
)

// noTier is the tier of a prompt for which the catalog has no model.
const noTier = "NONE"

// checkReplay decides every prompt on the scores of both bundles, by the rules
// that serve, and replays the sets with their recorded outcomes.
func (e *Exam) checkReplay(ctx context.Context, r *Report, serving, candidate Bundle, texts []string) error {
	p := &e.Policy.Replay
	if len(texts) == 0 {
		r.pass(GateReplay, "not held: the gate policy names no sets and no prompts were captured")
		return nil
	}
	if len(texts) < p.MinPrompts {
		r.refuse(GateReplay, "%d prompts to replay, want at least %d (replay.min_prompts): name another set", len(texts), p.MinPrompts)
		return nil
	}
	a, err := e.decideAll(ctx, serving, texts)
	if err != nil {
		return fmt.Errorf("replay through the serving bundle: %w", err)
	}
	b, err := e.decideAll(ctx, candidate, texts)
	if err != nil {
		return fmt.Errorf("replay through the candidate: %w", err)
	}
	r.Replay = hold(a, b, p.Bootstrap)
	r.Replay.Captured, r.Replay.Policy = len(e.Texts), e.Rules.DefaultPolicy
	if err := e.replaySets(ctx, r, serving, candidate); err != nil {
		return err
	}
	if faults := r.Replay.faults(p); len(faults) > 0 {
		r.refuse(GateReplay, "%s", strings.Join(faults, "\n"))
		return nil
	}
	x := r.Replay
	r.pass(GateReplay, "%d prompts: agreement %.3f, %.1f %% change their tier, %.1f %% above the cheapest tier (serving %.1f %%)",
		x.Prompts, x.Agreement, 100*x.Flipped, 100*x.StrongCandidate, 100*x.StrongServing)
	return nil
}

// decided is what one bundle makes of the prompts.
type decided struct {
	tier   []router.Tier // 0 for none
	gain   []float64
	cost   []float64
	priced []bool
}

func (e *Exam) decideAll(ctx context.Context, b Bundle, texts []string) (_ *decided, err error) {
	scorer, err := eval.NewScorer(b, e.CacheDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scorer.Close()) }()
	out := &decided{}
	for _, t := range texts {
		scores, ok, err := scorer.Score(ctx, t)
		if err != nil {
			return nil, err
		}
		out.add(e.Rules, &scores, ok)
	}
	return out, nil
}

func (d *decided) add(rules *router.Rules, scores *classifier.Scores, scored bool) {
	demand, gain := router.Demand{Scored: scored}, 1.0
	if scored {
		demand.Scores, gain = *scores, scores.Gain()
	}
	tier, cost, priced := router.Tier(0), 0.0, false
	if got, err := rules.Decide(demand); err == nil {
		c := &got.Chosen
		tier, cost, priced = c.Model.EffectiveTier(), float64(c.Expected), c.PriceKnown
	}
	d.tier, d.gain = append(d.tier, tier), append(d.gain, gain)
	d.cost, d.priced = append(d.cost, cost), append(d.priced, priced)
}

// hold compares the decisions of the serving bundle a and the candidate b.
func hold(a, b *decided, resamples int) *Replay {
	n := len(a.tier)
	tiers := slices.Concat(a.tier, b.tier)
	slices.Sort(tiers)
	tiers = slices.Compact(tiers)
	out := &Replay{Prompts: n, Agreement: spearman(a.gain, b.gain), Flips: make([][]int, len(tiers))}
	for i, t := range tiers {
		name := noTier
		if t != 0 {
			name = t.String()
		}
		out.Tiers, out.Flips[i] = append(out.Tiers, name), make([]int, len(tiers))
	}
	var costA, costB []float64
	for i := range n {
		from, to := slices.Index(tiers, a.tier[i]), slices.Index(tiers, b.tier[i])
		out.Flips[from][to]++
		if from != to {
			out.Flipped += 1 / float64(n)
		}
		if a.tier[i] > router.Efficient {
			out.StrongServing += 1 / float64(n)
		}
		if b.tier[i] > router.Efficient {
			out.StrongCandidate += 1 / float64(n)
		}
		if a.priced[i] && b.priced[i] {
			costA, costB = append(costA, a.cost[i]), append(costB, b.cost[i])
		}
	}
	out.Cost = relativeChange(costA, costB, resamples)
	return out
}

// spearman is the rank correlation, ties at their mean rank; 0 where a side is
// constant, because a constant agrees with nothing.
func spearman(a, b []float64) float64 {
	r := stat.Correlation(ranks(a), ranks(b), nil)
	if math.IsNaN(r) {
		return 0
	}
	return r
}

func ranks(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(v[i], v[j]) })
	out := make([]float64, len(v))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && v[order[j]] == v[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			out[k] = float64(i+j-1) / 2
		}
		i = j
	}
	return out
}

// relativeChange is sum(b)/sum(a) - 1 with its paired bootstrap interval.
func relativeChange(a, b []float64, resamples int) eval.Interval {
	change := func(pick func() int) float64 {
		var sa, sb float64
		for range a {
			i := pick()
			sa, sb = sa+a[i], sb+b[i]
		}
		return sb/sa - 1
	}
	nan := eval.Interval{Value: math.NaN(), Lo: math.NaN(), Hi: math.NaN()}
	if len(a) == 0 {
		return nan
	}
	next := -1
	value := change(func() int { next++; return next })
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return nan
	}
	random := rand.New(rand.NewPCG(1, 8)) //nolint:gosec // a resample is no secret, and is to repeat
	got := make([]float64, resamples)
	for k := range got {
		got[k] = change(func() int { return random.IntN(len(a)) })
	}
	slices.Sort(got)
	return eval.Interval{Value: value, Lo: stat.Quantile(0.025, stat.LinInterp, got, nil), Hi: stat.Quantile(0.975, stat.LinInterp, got, nil)}
}

// replaySets measures both bundles on every set with outcomes, compares them, and
// writes the pages.
func (e *Exam) replaySets(ctx context.Context, r *Report, serving, candidate Bundle) error {
	if len(e.Sources) == 0 {
		return nil
	}
	run := func(b Bundle) (*eval.Report, []*eval.Sample, error) {
		return eval.Run(ctx, eval.Config{
			Sources: e.Sources, Classifier: b, Rules: e.Rules, Weak: e.Policy.Replay.Weak, Strong: e.Policy.Replay.Strong,
			Seed: 1, Bootstrap: e.Policy.Replay.Bootstrap, CacheDir: e.CacheDir, Workers: 1,
		})
	}
	before, a, err := run(serving)
	if err != nil {
		return fmt.Errorf("replay through the serving bundle: %w", err)
	}
	after, b, err := run(candidate)
	if err != nil {
		return fmt.Errorf("replay through the candidate: %w", err)
	}
	for i := range a {
		c, err := eval.Compare(eval.CompareConfig{
			A: a[i], B: b[i], NameA: "serving", NameB: "candidate", Seed: 1, Bootstrap: e.Policy.Replay.Bootstrap,
		})
		if err != nil {
			return err
		}
		r.Replay.Sets = append(r.Replay.Sets, c)
	}
	if e.Out == "" {
		return nil
	}
	return e.pages(r, before, after, b)
}

// pages writes the candidate's whole evaluation, and a curve of either bundle for
// each set.
func (e *Exam) pages(r *Report, before, after *eval.Report, samples []*eval.Sample) error {
	put := func(name string, write func(*bytes.Buffer) error) error {
		var page bytes.Buffer
		if err := write(&page); err != nil {
			return err
		}
		r.Pages = append(r.Pages, name)
		return os.WriteFile(filepath.Join(e.Out, name), page.Bytes(), 0o600)
	}
	var details []*eval.Detail
	for _, s := range samples {
		details = append(details, eval.DetailOf(s, 200, 1))
	}
	err := put("replay.html", func(b *bytes.Buffer) error { return eval.WriteHTML(b, after, details) })
	for i := range after.Sets {
		name := after.Sets[i].Name
		err = errors.Join(err,
			put(fmt.Sprintf("set-%d-serving.svg", i+1), func(b *bytes.Buffer) error { return eval.WriteSVG(b, before, name) }),
			put(fmt.Sprintf("set-%d-candidate.svg", i+1), func(b *bytes.Buffer) error { return eval.WriteSVG(b, after, name) }))
	}
	if err != nil {
		return fmt.Errorf("write the replay's pages: %w", err)
	}
	return nil
}

// faults are the bounds that a replay breaks, one a sentence.
func (x *Replay) faults(p *ReplayPolicy) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if !(x.Agreement >= p.MinAgreement) {
		kind := "it ranks prompts otherwise than what serves"
		if x.Agreement < -p.MinAgreement {
			kind = "it ranks prompts the other way round, as with swapped labels"
		}
		say("agreement is %.3f, at least %g is asked for (replay.min_agreement): %s", x.Agreement, p.MinAgreement, kind)
	}
	if x.Flipped > p.MaxFlips {
		say("%.1f %% of the prompts change their tier, at most %.1f %% may (replay.max_flips)", 100*x.Flipped, 100*p.MaxFlips)
	}
	if s := x.StrongCandidate; (s < p.MinStrong || s > p.MaxStrong) && s != x.StrongServing {
		say("%.1f %% of the prompts go above the cheapest tier, %.1f to %.1f %% are asked for (replay.min_strong, replay.max_strong), serving sends %.1f %%",
			100*s, 100*p.MinStrong, 100*p.MaxStrong, 100*x.StrongServing)
	}
	if x.Cost.Known() && x.Cost.Hi > p.MaxCostIncrease {
		say("projected cost changes by %.1f %% [%.1f, %.1f], at most %.1f %% may be the upper end (replay.max_cost_increase)",
			100*x.Cost.Value, 100*x.Cost.Lo, 100*x.Cost.Hi, 100*p.MaxCostIncrease)
	}
	for _, c := range x.Sets {
		if q := c.Difference.Quality; q.Known() && q.Lo < -p.MaxQualityLoss {
			say("%s: mean quality changes by %.3f [%.3f, %.3f], the lower end may be -%g (replay.max_quality_loss)", c.Set, q.Value, q.Lo, q.Hi, p.MaxQualityLoss)
		}
		if hi := c.Difference.ProjectedUSD.Hi / c.A.ProjectedUSD.Value; hi > p.MaxCostIncrease {
			say("%s: cost changes by up to %.1f %%, at most %.1f %% may it (replay.max_cost_increase)", c.Set, 100*hi, 100*p.MaxCostIncrease)
		}
	}
	return out
}
