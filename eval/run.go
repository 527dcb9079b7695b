package eval

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/stat"

	"github.com/weirhq/weir/router"
)

// defaultResamples is the number of bootstrap resamples when none is given.
const defaultResamples = 1000

// Run replays every source and measures it. The report and the samples are in
// the order of the sources. It returns the first fault of a source, a
// classifier or the config; scores made until then stay in the cache, so that
// the next run goes on from there.
func Run(ctx context.Context, cfg Config) (_ *Report, _ []*Sample, err error) {
	if err := cfg.check(); err != nil {
		return nil, nil, fmt.Errorf("eval: %w", err)
	}
	if err := cfg.defaults(); err != nil {
		return nil, nil, fmt.Errorf("eval: %w", err)
	}
	scorer, err := NewScorer(cfg.Classifier, cfg.CacheDir)
	if err != nil {
		return nil, nil, fmt.Errorf("eval: %w", err)
	}
	defer func() { err = errors.Join(err, scorer.Close()) }()
	scorer.now = cfg.Now
	info := cfg.Classifier.Info()
	report := &Report{Version: 1, Manifest: Manifest{
		Binary: cfg.Binary, Version: cfg.Version, Bundle: info.Digest, BundleName: info.Name + " " + info.Version,
		Config: cfg.Rules.Digest, Policy: cfg.Policy, Sets: map[string]string{}, Seed: cfg.Seed, Bootstrap: max(cfg.Bootstrap, 0),
	}}
	frozen, err := freeze(ctx, &cfg, scorer)
	if err != nil {
		return nil, nil, fmt.Errorf("eval: %w", err)
	}
	var samples []*Sample
	for _, src := range cfg.Sources {
		result, r, err := runSet(ctx, &cfg, scorer, src, slices.Clone(frozen))
		if err != nil {
			return nil, nil, fmt.Errorf("eval: %w", err)
		}
		report.Sets = append(report.Sets, *result)
		report.Manifest.Sets[src.Name] = r.digest
		samples = append(samples, r.sample)
	}
	report.price(scorer, cfg.CoreHourUSD)
	return report, samples, nil
}

// price says what scoring cost, and takes it off what was saved: a router that
// costs more than it saves must show it.
func (r *Report) price(s *Scorer, coreHour float64) {
	if n := s.timed.Load(); n > 0 {
		mean := float64(s.spent.Load()) / float64(n) // nanoseconds
		r.Routing = &Routing{Scored: n, MeanMS: mean / 1e6, CoreHourUSD: coreHour, USDPerMillion: 1e6 * mean / 3.6e12 * coreHour}
	}
	for i := range r.Sets {
		set := &r.Sets[i]
		set.CostSavedNet = unknown()
		if r.Routing == nil || set.Costs.Basis != "recorded" || !(set.Costs.StrongUSD > 0) {
			continue
		}
		share := r.Routing.USDPerMillion / 1e6 / set.Costs.StrongUSD
		saved := set.CostSaved
		set.CostSavedNet = Interval{saved.Value - share, saved.Lo - share, saved.Hi - share}
	}
}

func (c *Config) check() error {
	var errs []error
	if len(c.Sources) == 0 {
		errs = append(errs, errors.New("no set is given: name at least one source"))
	}
	names := map[string]bool{}
	for _, s := range c.Sources {
		if s.Name == "" || s.Cases == nil {
			errs = append(errs, fmt.Errorf("source %q needs a name and cases", s.Name))
		}
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("source %q is there twice: names are unique", s.Name))
		}
		names[s.Name] = true
	}
	if c.Classifier == nil {
		errs = append(errs, errors.New("a classifier is required"))
	}
	if (c.Weak == "") != (c.Strong == "") || (c.Weak != "" && c.Weak == c.Strong) {
		errs = append(errs, fmt.Errorf("weak %q and strong %q: give two different models, or neither", c.Weak, c.Strong))
	}
	if !(c.CoreHourUSD >= 0 && c.CoreHourUSD <= 1e6) {
		errs = append(errs, fmt.Errorf("core hour price %v: give dollars for an hour of one core, 0 to 1e6", c.CoreHourUSD))
	}
	for name, p := range map[string]float64{"weak": c.WeakPrice, "strong": c.StrongPrice} {
		if !(p >= 0 && p <= 1e6) {
			errs = append(errs, fmt.Errorf("%s price %v: give dollars for a million tokens, 0 to 1e6", name, p))
		}
	}
	for _, s := range c.Splits {
		if s != SplitTrain && s != SplitEval {
			errs = append(errs, fmt.Errorf("split %q cannot be measured: use train or eval", s))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) defaults() (err error) {
	if c.Rules == nil {
		if c.Rules, err = router.LoadConfig("", func(string) string { return "" }); err != nil {
			return err
		}
	}
	if c.Policy == "" {
		c.Policy = c.Rules.DefaultPolicy
	}
	if c.WeakPrice == 0 && c.StrongPrice == 0 {
		c.WeakPrice, c.StrongPrice = RouteLLMWeakPrice, RouteLLMStrongPrice
	}
	if c.Bootstrap == 0 {
		c.Bootstrap = defaultResamples
	}
	return nil
}

// runSet replays and measures one source.
func runSet(ctx context.Context, cfg *Config, scorer *Scorer, src Source, frozen []FrozenPoint) (*Result, *replayed, error) {
	weak, strong := src.Weak, src.Strong
	if weak == "" || strong == "" {
		weak, strong = cfg.Weak, cfg.Strong
	}
	var err error
	if weak == "" {
		if weak, strong, err = findPair(src.Cases, src.Name); err != nil {
			return nil, nil, err
		}
	}
	p, err := newPair(cfg.Rules, cfg.Policy, weak, strong, cfg.WeakPrice, cfg.StrongPrice)
	if err != nil {
		return nil, nil, err
	}
	tell := func(stage string, done int) {
		if cfg.Progress != nil {
			cfg.Progress(src.Name, stage, done)
		}
	}
	pass := &replaying{
		src: src, weak: weak, strong: strong, splits: cfg.Splits, pair: p, scorer: scorer, workers: cfg.Workers,
		rankings: []ranking{{"gain", gainOf}, {BaselineLength, lengthOf}, {BaselineRandom, randomOf(cfg.Seed)}},
		progress: func(done int) { tell("score", done) },
	}
	r, err := pass.run(ctx)
	if err != nil {
		return nil, nil, err
	}
	if r.sample.Len() < 2 {
		return nil, nil, fmt.Errorf("set %s has %d cases with outcomes of both %q and %q (%d without, %d overlap, %d of other splits): check the names of the models",
			src.Name, r.sample.Len(), weak, strong, r.left.Missing, r.left.Overlap, r.left.Split)
	}
	r.sample.WeakPrice, r.sample.StrongPrice = cfg.WeakPrice, cfg.StrongPrice
	tell("measure", r.sample.Len())
	m := newMeasurement(r, frozen)
	got := bootstrap(r.sample.Len(), cfg.Bootstrap, cfg.Seed, m.newWorker)
	result := m.result(r, got)
	domains := m.domainAPGR(cfg.Bootstrap, cfg.Seed)
	for i := range result.Domains {
		result.Domains[i].APGR = domains[slices.Index(r.sample.DomainNames, result.Domains[i].Domain)]
	}
	tell("done", r.sample.Len())
	return result, r, nil
}

// freeze takes thresholds from the calibration source: the quantile 1-p of its
// gains for a target share p, as RouteLLM calibrates.
func freeze(ctx context.Context, cfg *Config, scorer *Scorer) ([]FrozenPoint, error) {
	if cfg.Calibration.Cases == nil {
		return nil, nil
	}
	gains, err := gainsOf(ctx, cfg.Calibration, scorer, cfg.Workers)
	if err != nil {
		return nil, err
	}
	if len(gains) < 100 {
		return nil, fmt.Errorf("calibration set %s has %d scored prompts: at least 100 are needed", cfg.Calibration.Name, len(gains))
	}
	slices.Sort(gains)
	var out []FrozenPoint
	for k := 1; k <= 9; k++ {
		p := float64(k) / 10
		out = append(out, FrozenPoint{TargetShare: p, Threshold: stat.Quantile(1-p, stat.LinInterp, gains, nil)})
	}
	return out, nil
}

func gainsOf(ctx context.Context, src Source, scorer *Scorer, workers int) ([]float64, error) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var mu sync.Mutex
	var gains []float64
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	var failed error
	for c, err := range src.Cases {
		if err != nil || gctx.Err() != nil {
			failed = err
			break
		}
		if c.Split == SplitOverlap {
			continue
		}
		text, err := c.Text()
		if err != nil {
			failed = err
			break
		}
		group.Go(func() error {
			scores, ok, err := scorer.Score(gctx, text)
			if err != nil || !ok {
				return err
			}
			mu.Lock()
			gains = append(gains, scores.Gain())
			mu.Unlock()
			return nil
		})
	}
	if err := errors.Join(failed, group.Wait()); err != nil {
		return nil, fmt.Errorf("calibration set %s: %w", src.Name, err)
	}
	return gains, context.Cause(ctx)
}

// result reads the figures into their places.
func (m *measurement) result(r *replayed, got intervals) *Result {
	s := m.s
	gap := got.get("gap")
	usable := gap.Value > 0 && (math.IsNaN(gap.Lo) || gap.Lo > 0)
	pgr := func(name ...string) Interval { // a figure that needs a gap
		if !usable {
			return unknown()
		}
		return got.get(name...)
	}
	cpt := func(prefix ...string) map[string]Interval {
		out := map[string]Interval{}
		for _, q := range cptLevels() {
			out[percent(q)] = pgr(append(slices.Clone(prefix), percent(q))...)
		}
		return out
	}
	curve := m.curveOf("gain")
	out := &Result{
		Name: s.Name, N: s.Len(), Weak: got.get("weak").Value, Strong: got.get("strong").Value,
		WeakModel: s.WeakModel, StrongModel: s.StrongModel, Gap: gap, Left: r.left, CommitDigest: maps.Clone(r.digests),
		APGR: pgr("gain", "apgr"), CPT: cpt("gain", "cpt"), APGRExact: pgr("exact"), CPTTrue: cpt("true"),
		CostSaved: got.get("policy", "cost_saved"), QualityKept: got.get("policy", "quality_kept"),
		APGROverRandom: pgr("over", BaselineRandom), APGROverLength: pgr("over", BaselineLength),
		Monotone: curve.monotone(), Curve: m.pointsOf(&curve, "gain", got),
		AIQPaper: got.get("aiq_paper"), AIQCode: got.get("aiq_code"), PerfGain: got.get("perf_gain"), CostSave: got.get("cost_save"),
		Singles: r.singles, Notes: r.notes,
	}
	out.Skill = out.APGROverRandom.Above(0) && out.APGROverLength.Above(0)
	m.baselines(out, got, pgr, cpt)
	m.policy(out, got, pgr)
	m.tables(out, got)
	m.flags(out, r, curve.tied, usable)
	return out
}

func (m *measurement) curveOf(name string) points {
	k := slices.IndexFunc(m.rankings, func(r namedOrder) bool { return r.name == name })
	n := m.s.Len()
	ones := make([]uint16, n)
	var b base
	for i := range ones {
		ones[i] = 1
		b.add(1, m.s.WeakScore[i], m.s.StrongScore[i], m.weakCost[i], m.strongCost[i])
	}
	sums := newSums(n)
	sums.fill(m.rankings[k].order, ones)
	return sums.points(m.rankings[k].order, &b)
}

func (m *measurement) pointsOf(c *points, name string, got intervals) []Point {
	out := make([]Point, 0, edges+1)
	for i := range c.share {
		at := strconv.Itoa(i)
		out = append(out, Point{c.threshold[i], c.share[i], got.get(name, "curve", at, "quality"), got.get(name, "curve", at, "cost_saved")})
	}
	return out
}

func (m *measurement) baselines(out *Result, got intervals, pgr func(...string) Interval, cpt func(...string) map[string]Interval) {
	out.Baselines = map[string]Baseline{}
	for _, name := range []string{BaselineRandom, BaselineLength, BaselineAlwaysStrong, BaselineAlwaysWeak, BaselineBestSingle, BaselineZero, BaselineDomain, BaselineOracle} {
		b := Baseline{
			APGR: unknown(), Share: got.get(name, "share"), Quality: got.get(name, "quality"),
			CostSaved: got.get(name, "cost_saved"), QualityKept: got.get(name, "quality_kept"),
			UsesOutcomes: name == BaselineBestSingle || name == BaselineZero || name == BaselineDomain || name == BaselineOracle,
		}
		if slices.ContainsFunc(m.rankings, func(r namedOrder) bool { return r.name == name }) {
			c := m.curveOf(name)
			b.APGR, b.CPT, b.Curve = pgr(name, "apgr"), cpt(name, "cpt"), m.pointsOf(&c, name, got)
		}
		out.Baselines[name] = b
	}
}

func (m *measurement) policy(out *Result, got intervals, pgr func(...string) Interval) {
	out.Policy = PolicyPoint{
		Share: got.get("policy", "share"), Quality: got.get("policy", "quality"), PGR: pgr("policy", "pgr"),
		CostPer1K: got.get("policy", "per1k"), RegretToOracle: got.get("policy", "regret"),
		Arena: got.get("policy", "arena"), Entropy: got.get("policy", "entropy"),
		Savings: Saving{
			QualityKept: got.get("policy", "quality_kept").Value, Reached: true, Share: got.get("policy", "share"),
			OverStrong: got.get("policy", "cost_saved"), OverRandom: pgr("policy", "random"), ByCalls: got.get("policy", "calls"),
		},
	}
	for _, kept := range keptLevels() {
		s := Saving{QualityKept: kept, Share: unknown(), OverStrong: unknown(), OverRandom: unknown(), ByCalls: unknown()}
		if s.Reached = out.Strong > 0; s.Reached {
			p := percent(kept)
			s.Share, s.OverStrong = got.get("saving", p, "share"), got.get("saving", p, "strong")
			s.OverRandom, s.ByCalls = pgr("saving", p, "random"), got.get("saving", p, "calls")
		}
		out.Savings = append(out.Savings, s)
	}
	out.Costs = Costs{"notional", m.s.WeakPrice, m.s.StrongPrice}
	if m.recorded {
		out.Costs = Costs{"recorded", stat.Mean(m.weakCost, nil), stat.Mean(m.strongCost, nil)}
	}
}

func (m *measurement) tables(out *Result, got intervals) {
	for step := range AlphaSteps {
		at := strconv.Itoa(step)
		out.AlphaSweep = append(out.AlphaSweep, AlphaPoint{
			float64(step) / (AlphaSteps - 1), got.get("alpha", at, "share"), got.get("alpha", at, "quality"), got.get("alpha", at, "cost_saved"),
		})
	}
	for name, to := range map[string]*Calibration{"efficient": &out.CalibrationEfficient, "high": &out.CalibrationHigh} {
		to.ECE = got.get("ece", name)
		for i := range calibrationBins {
			at := strconv.Itoa(i)
			if n := got.get("bin", name, at, "n").Value; n > 0 {
				to.Bins = append(to.Bins, Bin{
					float64(i) / calibrationBins, float64(i+1) / calibrationBins, int(n),
					got.get("bin", name, at, "predicted").Value, got.get("bin", name, at, "observed"),
				})
			}
		}
	}
	for k, f := range m.frozen {
		at := strconv.Itoa(k)
		f.Share, f.Quality = got.get("frozen", at, "share"), got.get("frozen", at, "quality")
		f.CostSaved, f.QualityKept = got.get("frozen", at, "cost_saved"), got.get("frozen", at, "quality_kept")
		out.Frozen = append(out.Frozen, f)
	}
	s := m.s
	rows := make([]DomainRow, len(s.DomainNames))
	for i, d := range s.Domain {
		rows[d].N++
		rows[d].Weak += s.WeakScore[i]
		rows[d].Strong += s.StrongScore[i]
	}
	for d := range rows {
		r, at := &rows[d], strconv.Itoa(d)
		r.Domain = s.DomainNames[d]
		r.Weak /= float64(r.N)
		r.Strong /= float64(r.N)
		r.Share, r.Quality = got.get("domain", at, "share"), got.get("domain", at, "quality")
		r.CostSaved, r.QualityKept = got.get("domain", at, "cost_saved"), got.get("domain", at, "quality_kept")
	}
	slices.SortStableFunc(rows, func(a, b DomainRow) int { return b.N - a.N })
	out.Domains = rows
}

func (m *measurement) flags(out *Result, r *replayed, tied, usable bool) {
	flag := func(when bool, code, format string, args ...any) {
		if when {
			out.Flags = append(out.Flags, Flag{code, fmt.Sprintf(format, args...)})
		}
	}
	out.Flags = []Flag{}
	flag(!usable, FlagGap, "strong minus weak is %.4f [%.4f, %.4f], not above 0: PGR, APGR and CPT are not given", out.Gap.Value, out.Gap.Lo, out.Gap.Hi)
	flag(usable && out.Gap.Value < 0.1, FlagSmallGap, "strong minus weak is %.4f, under .10: PGR is noisy", out.Gap.Value)
	flag(!usable, FlagNoSkill, "without a gap between the models no router can show skill")
	flag(usable && !out.Skill, FlagNoSkill, "APGR minus random is %.4f [%.4f, %.4f], minus prompt length %.4f [%.4f, %.4f]: not both are above 0",
		out.APGROverRandom.Value, out.APGROverRandom.Lo, out.APGROverRandom.Hi, out.APGROverLength.Value, out.APGROverLength.Lo, out.APGROverLength.Hi)
	flag(!out.Monotone, FlagNonMonotone, "quality goes down along the curve: interpolated CPT is one of several crossings, cpt_true is the least share")
	flag(tied, FlagTiedEdges, "scores tie at quantile edges: shares are not the tenths, and RouteLLM's code refuses such scores")
	flag(r.left.Train > 0, FlagTrainRows, "%d of %d cases are of the train split", r.left.Train, out.N)
	flag(r.left.Missing > 0, FlagDropped, "%d cases lack an outcome of one of the two models and are left out", r.left.Missing)
	flag(r.left.Unscored > 0, FlagUnscored, "%d prompts could not be scored and rank first for the strong model", r.left.Unscored)
	share := out.Policy.Share.Value
	flag(share <= 0.01 || share >= 0.99, FlagCollapsed, "the policy sends %.1f %% to the strong model", 100*share)
	flag(!m.recorded, FlagNotional, "costs are notional: $%g and $%g for a million tokens, all calls alike", out.Costs.WeakUSD, out.Costs.StrongUSD)
	flag(out.N < 200, FlagSmall, "%d cases: differences of APGR under about .15 are noise", out.N)
	for _, n := range r.notes {
		flag(true, FlagNote, "%s", n)
	}
}
