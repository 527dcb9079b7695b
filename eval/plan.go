package eval

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// PlanConfig is what a plan is made from.
type PlanConfig struct {
	// Traffic is a sample of the prompts to come. Where a case records the outcome
	// and the cost of the model that would be chosen, these count; else what the
	// config and the classifier expect.
	Traffic    iter.Seq2[Case, error]
	Classifier classifier.Classifier
	Rules      *router.Rules
	// Policy names the policy whose max_quality_gap is planned; "" the default.
	Policy string
	// Requests is how many requests there will be; 0 means as many as the sample.
	Requests int64
	// Budget is the most to spend on them, or Quality the least share of the best
	// eligible quality to keep, 0 to 1. Exactly one is set.
	Budget  router.NanoUSD
	Quality float64
	// Seed and Bootstrap are as in Config.
	Seed      uint64
	Bootstrap int
}

// PlanPoint is one setting of the policy and what it would come to. Intervals
// are 90 % prediction intervals: they hold the sample's error and that of the
// requests to come.
type PlanPoint struct {
	MaxQualityGap float64 `json:"max_quality_gap"`
	// SpendUSD is for all requests.
	SpendUSD Interval `json:"spend_usd"`
	// Quality is the mean, QualityKept its share of always choosing the best
	// eligible model.
	Quality     Interval `json:"quality"`
	QualityKept Interval `json:"quality_kept"`
	// Models are the shares of requests by chosen model.
	Models map[string]float64 `json:"models"`
}

// Plan is the answer of MakePlan.
type Plan struct {
	Version int `json:"version"`
	// N is the sample's size, Requests what the spend is for.
	N        int    `json:"n"`
	Requests int64  `json:"requests"`
	Policy   string `json:"policy"`
	// Chosen is the point that keeps the bound; Points are all settings, from the
	// best quality to the cheapest.
	Chosen PlanPoint   `json:"chosen"`
	Points []PlanPoint `json:"points"`
	// Recorded is the share of choices whose outcome and cost were recorded. The
	// rest is expected, and the intervals know nothing of how wrong expectations are.
	Recorded float64 `json:"recorded"`
	// Unscored counts prompts that were left out because they cannot be scored,
	// Refused those that no model may answer.
	Unscored int `json:"unscored"`
	Refused  int `json:"refused"`
	// Notes say what to know before the plan is trusted.
	Notes []string `json:"notes"`
}

// PlanError means that no setting keeps the bound. Nearest is the one that comes
// closest.
type PlanError struct {
	Nearest PlanPoint
	What    string
}

// Error says how far off the nearest is.
func (e *PlanError) Error() string { return e.What }

// planSteps are the settings of max_quality_gap that are tried: 0, .02, ... .60.
const (
	planSteps = 31
	planStep  = 0.02
	// planFewest prompts make a plan.
	planFewest = 100
)

// planRow is one prompt under every setting.
type planRow struct {
	cost, quality [planSteps]float64
	best          float64
	model         [planSteps]uint16
}

// MakePlan finds the setting of max_quality_gap that keeps a budget or a
// quality. It asks the Decide that serves for every prompt of the sample and
// every setting. A budget is kept where the upper end of the spend's interval is
// below it; a quality where the lower end of the share that is kept is above it.
// It returns a *PlanError where no setting does.
func MakePlan(ctx context.Context, cfg PlanConfig) (*Plan, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	p := &planning{cfg: &cfg, plan: &Plan{Version: 1, Policy: cfg.Policy}, index: map[string]uint16{}}
	if p.plan.Policy == "" {
		p.plan.Policy = cfg.Rules.DefaultPolicy
	}
	for c, err := range cfg.Traffic {
		if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		if err := p.add(ctx, &c); err != nil {
			return nil, fmt.Errorf("plan: id %q: %w", c.ID, err)
		}
	}
	if len(p.rows) < planFewest {
		return nil, fmt.Errorf("plan: %d prompts can be planned with (%d cannot be scored, %d no model may answer): take a sample of at least %d",
			len(p.rows), p.plan.Unscored, p.plan.Refused, planFewest)
	}
	p.measure()
	return p.plan, p.choose()
}

func (c *PlanConfig) check() error {
	var errs []error
	if c.Traffic == nil || c.Classifier == nil || c.Rules == nil {
		errs = append(errs, errors.New("traffic, classifier and rules are all needed"))
	}
	if (c.Budget != 0) == (c.Quality != 0) {
		errs = append(errs, errors.New("give either a budget or a quality"))
	}
	if c.Budget < 0 || c.Requests < 0 {
		errs = append(errs, fmt.Errorf("budget %s and %d requests: give positive numbers", c.Budget, c.Requests))
	}
	if !(c.Quality >= 0 && c.Quality <= 1) {
		errs = append(errs, fmt.Errorf("quality %v: give the share of the best quality to keep, 0 to 1", c.Quality))
	}
	return errors.Join(errs...)
}

type planning struct {
	cfg    *PlanConfig
	plan   *Plan
	rows   []planRow
	index  map[string]uint16
	names  []string
	direct int // choices with recorded outcome and cost
}

// add decides one prompt under every setting.
func (p *planning) add(ctx context.Context, c *Case) error {
	text, err := c.Text()
	if err != nil {
		return err
	}
	scores, err := p.cfg.Classifier.Classify(ctx, text)
	if errors.Is(err, classifier.ErrNoContent) || errors.Is(err, classifier.ErrInvalidText) {
		p.plan.Unscored++
		return nil
	}
	if err != nil {
		return err
	}
	var row planRow
	for step := range planSteps {
		d := router.Demand{Scores: scores, Scored: true, Policy: p.cfg.Policy}
		d.Limits.MaxQualityGap = router.Some(float64(step) * planStep)
		got, err := p.cfg.Rules.Decide(d)
		var none *router.NoEligibleError
		var long *router.ContextTooLongError
		if errors.As(err, &none) || errors.As(err, &long) {
			p.plan.Refused++
			return nil
		}
		if err != nil {
			return err
		}
		if _, billed := c.CostUSD[got.Chosen.Model.ID]; !billed && !got.Chosen.PriceKnown {
			return fmt.Errorf("model %s has no price, and the sample records no cost of it: unknown is not free; give it a price, or deny it in the policy", got.Chosen.Model.ID)
		}
		if step == 0 {
			row.best = p.bestOf(&got, c)
		}
		p.fill(&row, step, &got.Chosen, c)
	}
	p.rows = append(p.rows, row)
	return nil
}

// bestOf is the quality of the model that is expected to be best.
func (p *planning) bestOf(d *router.Decision, c *Case) float64 {
	best := d.Ranked[0]
	for _, m := range d.Ranked[1:] {
		if m.Quality.Value > best.Quality.Value {
			best = m
		}
	}
	if q, ok := c.Outcomes[best.Model.ID]; ok {
		return q
	}
	return best.Quality.Value
}

// fill takes what was recorded of the chosen model, else what is expected.
func (p *planning) fill(row *planRow, step int, m *router.Candidate, c *Case) {
	at, ok := p.index[m.Model.ID]
	if !ok {
		at = uint16(len(p.names))
		p.index[m.Model.ID] = at
		p.names = append(p.names, m.Model.ID)
	}
	row.model[step] = at
	row.cost[step], row.quality[step] = float64(m.Expected)/1e9, m.Quality.Value
	quality, graded := c.Outcomes[m.Model.ID]
	usd, billed := c.CostUSD[m.Model.ID]
	if graded {
		row.quality[step] = quality
	}
	if billed {
		row.cost[step] = usd
	}
	if graded && billed {
		p.direct++
	}
}

// measure turns the rows into points with prediction intervals.
func (p *planning) measure() {
	n := len(p.rows)
	p.plan.N, p.plan.Requests = n, p.cfg.Requests
	if p.plan.Requests == 0 {
		p.plan.Requests = int64(n)
	}
	p.plan.Recorded = float64(p.direct) / float64(n*planSteps)
	resamples := p.cfg.Bootstrap
	if resamples == 0 {
		resamples = defaultResamples
	}
	columns := make([]planColumns, planSteps)
	for step := range columns {
		columns[step] = p.columns(step, resamples)
	}
	rng := rand.New(rand.NewPCG(p.cfg.Seed, 0x706c616e)) //nolint:gosec // a repeatable bootstrap, no secret
	counts := make([]float64, n)
	for b := range resamples {
		clear(counts)
		for range n {
			counts[rng.IntN(n)]++
		}
		future := rng.NormFloat64() // the requests to come are a draw too
		for step := range columns {
			columns[step].resample(p, step, b, counts, future)
		}
	}
	for step := range columns {
		point := columns[step].point(float64(p.plan.Requests))
		point.MaxQualityGap = math.Round(float64(step)*planStep*1e9) / 1e9
		point.Models = map[string]float64{}
		for i := range p.rows {
			point.Models[p.names[p.rows[i].model[step]]] += 1 / float64(n)
		}
		p.plan.Points = append(p.plan.Points, point)
	}
	p.notes()
}

// planColumns are one setting's resampled means.
type planColumns struct {
	// The sample's own means.
	cost, quality, kept float64
	// What resamples give.
	costs, qualities, kepts []float64
	// The standard errors of the means over the requests to come.
	costSpread, qualitySpread, keptSpread float64
}

func (p *planning) columns(step, resamples int) planColumns {
	n := len(p.rows)
	cost, quality, best := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range p.rows {
		cost[i], quality[i], best[i] = p.rows[i].cost[step], p.rows[i].quality[step], p.rows[i].best
	}
	c := planColumns{costs: make([]float64, resamples), qualities: make([]float64, resamples), kepts: make([]float64, resamples)}
	future := math.Sqrt(float64(p.plan.Requests))
	c.cost, c.quality = stat.Mean(cost, nil), stat.Mean(quality, nil)
	meanBest := max(stat.Mean(best, nil), 1e-9)
	c.kept = c.quality / meanBest
	c.costSpread, c.qualitySpread = stat.StdDev(cost, nil)/future, stat.StdDev(quality, nil)/future
	for i := range quality { // the delta method for the ratio of two means
		quality[i] = (quality[i] - c.kept*best[i]) / meanBest
	}
	c.keptSpread = stat.StdDev(quality, nil) / future
	return c
}

func (c *planColumns) resample(p *planning, step, b int, counts []float64, future float64) {
	var cost, quality, best float64
	for i, k := range counts {
		if k == 0 {
			continue
		}
		r := &p.rows[i]
		cost += k * r.cost[step]
		quality += k * r.quality[step]
		best += k * r.best
	}
	n := float64(len(counts))
	c.costs[b] = cost/n + future*c.costSpread
	c.qualities[b] = quality/n + future*c.qualitySpread
	c.kepts[b] = quality/max(best, 1e-9) + future*c.keptSpread
}

func (c *planColumns) point(requests float64) PlanPoint {
	interval := func(value float64, draws []float64, scale float64) Interval {
		slices.Sort(draws)
		return Interval{value * scale, stat.Quantile(0.05, stat.LinInterp, draws, nil) * scale, stat.Quantile(0.95, stat.LinInterp, draws, nil) * scale}
	}
	return PlanPoint{
		SpendUSD:    interval(c.cost, c.costs, requests),
		Quality:     interval(c.quality, c.qualities, 1),
		QualityKept: interval(c.kept, c.kepts, 1),
	}
}

// choose picks the point that keeps the bound.
func (p *planning) choose() error {
	points := p.plan.Points
	if p.cfg.Budget > 0 {
		budget := float64(p.cfg.Budget) / 1e9
		best := -1
		for i := range points {
			if points[i].SpendUSD.Hi <= budget && (best < 0 || points[i].Quality.Value > points[best].Quality.Value) {
				best = i
			}
		}
		if best >= 0 {
			p.plan.Chosen = points[best]
			return nil
		}
		nearest := slices.MinFunc(points, func(a, b PlanPoint) int { return compareFloat(a.SpendUSD.Hi, b.SpendUSD.Hi) })
		return &PlanError{nearest, fmt.Sprintf("plan: no setting keeps a budget of %s: the cheapest, max_quality_gap %g, comes to $%.4g [%.4g, %.4g] for %d requests; raise the budget, or allow cheaper models",
			p.cfg.Budget, nearest.MaxQualityGap, nearest.SpendUSD.Value, nearest.SpendUSD.Lo, nearest.SpendUSD.Hi, p.plan.Requests)}
	}
	best := -1
	for i := range points {
		if points[i].QualityKept.Lo >= p.cfg.Quality && (best < 0 || points[i].SpendUSD.Value < points[best].SpendUSD.Value) {
			best = i
		}
	}
	if best >= 0 {
		p.plan.Chosen = points[best]
		return nil
	}
	nearest := slices.MaxFunc(points, func(a, b PlanPoint) int { return compareFloat(a.QualityKept.Lo, b.QualityKept.Lo) })
	return &PlanError{nearest, fmt.Sprintf("plan: no setting keeps %g of the best quality with confidence: the nearest, max_quality_gap %g, keeps %.4g [%.4g, %.4g]; ask for less, or take a larger sample",
		p.cfg.Quality, nearest.MaxQualityGap, nearest.QualityKept.Value, nearest.QualityKept.Lo, nearest.QualityKept.Hi)}
}

// Widths above which a plan says that its sample is too small: of the spend's
// half interval relative to the spend, and of the quality's.
const (
	wideSpend   = 0.10
	wideQuality = 0.02
)

func (p *planning) notes() {
	note := func(format string, args ...any) { p.plan.Notes = append(p.plan.Notes, fmt.Sprintf(format, args...)) }
	if p.plan.Recorded < 1 {
		note("%.0f %% of the choices have no recorded outcome and cost: they count as the classifier and the catalog expect them, and the intervals know nothing of how wrong that is",
			100*(1-p.plan.Recorded))
	}
	factor := 0.0
	for _, x := range p.plan.Points {
		if x.SpendUSD.Value > 0 {
			factor = max(factor, (x.SpendUSD.Hi-x.SpendUSD.Lo)/2/x.SpendUSD.Value/wideSpend)
		}
		factor = max(factor, (x.Quality.Hi-x.Quality.Lo)/2/wideQuality)
	}
	if factor > 1 {
		note("intervals are wider than 10 %% of the spend or .02 of the quality: a sample of about %d prompts would narrow them to that",
			int(math.Ceil(factor*factor*float64(p.plan.N)/100))*100)
	}
	if p.plan.Requests == int64(p.plan.N) && p.cfg.Requests == 0 {
		note("the sample is taken for all of the traffic: say how many requests there are")
	}
	if p.plan.Unscored+p.plan.Refused > 0 {
		note("%d prompts are left out because they cannot be scored, %d because no model may answer them", p.plan.Unscored, p.plan.Refused)
	}
}
