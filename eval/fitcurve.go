package eval

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// Graded is a prompt's scores, and how good one model's answer to it was.
type Graded struct {
	Scores classifier.Scores
	// Outcome is 0 to 1.
	Outcome float64
}

// FitConfig is what a card's quality curve is fitted from.
type FitConfig struct {
	Graded []Graded
	// Tier is the model's effective tier: its reference curve is where the fit
	// starts from and stays while the data say little.
	Tier router.Tier
	// Evidence goes into the card: what was graded, how, when.
	Evidence string
}

// Fit is a fitted curve and how far to trust it.
type Fit struct {
	Curve router.QualityCurve `json:"-"`
	N     int                 `json:"n"`
	// LogLoss is that of the curve on prompts it was not fitted on (ten folds),
	// ReferenceLogLoss that of the tier's reference curve: where the first is not
	// below the second, the fit has taught nothing.
	LogLoss          float64 `json:"log_loss"`
	ReferenceLogLoss float64 `json:"reference_log_loss"`
	// Mean is the mean outcome, Predicted the mean of what the curve expects of
	// the same prompts when fitted without them.
	Mean      float64 `json:"mean"`
	Predicted float64 `json:"predicted"`
	// Errors are the standard errors of intercept, efficient and high, in logits.
	Errors [3]float64 `json:"standard_errors"`
}

// The fewest graded prompts that are fitted, and the fewest of a domain that
// gives the domain a term of its own.
const (
	fewestGraded    = 50
	fewestForDomain = 10
)

// The widths of the normal priors, in logits: the intercept is nearly free, the
// slopes and the domains stay near the tier's reference unless the data speak.
const (
	interceptWidth = 2.0
	slopeWidth     = 0.5
	domainWidth    = 0.5
)

// FitCurve fits sigmoid(a + b*logit(q_efficient) + c*logit(q_high) + d[domain])
// to graded answers: penalised maximum likelihood (a Gaussian prior around the
// tier's reference curve) by Newton's method, slopes not below 0, intervals by
// Laplace's approximation. Fifty to two hundred graded prompts suffice to place
// a model of this month beside those that are measured. Outcomes between 0 and 1
// count as shares.
func FitCurve(cfg *FitConfig) (*Fit, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("fit curve: %w", err)
	}
	m := newCurveModel(cfg)
	beta, inverse, err := m.fit(m.all())
	if err != nil {
		return nil, fmt.Errorf("fit curve: %w", err)
	}
	out := &Fit{N: len(cfg.Graded)}
	out.Curve = m.curve(beta, inverse)
	out.Curve.Evidence = cfg.Evidence
	for i := range out.Errors {
		out.Errors[i] = math.Sqrt(max(inverse.At(i, i), 0))
	}
	return out, m.crossValidate(out)
}

func (c *FitConfig) check() error {
	var errs []error
	if len(c.Graded) < fewestGraded {
		errs = append(errs, fmt.Errorf("%d graded prompts: grade at least %d", len(c.Graded), fewestGraded))
	}
	if c.Tier != router.Efficient && c.Tier != router.HighPerformance {
		errs = append(errs, fmt.Errorf("tier %s: use the tier that the model counts as, EFFICIENT or HIGH_PERFORMANCE", c.Tier))
	}
	if c.Evidence == "" {
		errs = append(errs, errors.New("evidence is empty: say what was graded, how and when"))
	}
	for i, g := range c.Graded {
		if !(g.Outcome >= 0 && g.Outcome <= 1) {
			errs = append(errs, fmt.Errorf("graded[%d]: outcome %v: grades are 0 to 1", i, g.Outcome))
			break
		}
		if err := g.Scores.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("graded[%d]: %w", i, err))
			break
		}
	}
	return errors.Join(errs...)
}

// curveModel is the design of one fit: columns intercept, efficient, high, then
// the domains that have enough prompts.
type curveModel struct {
	x       [][]float64
	y       []float64
	prior   []float64
	width   []float64
	domains []int // domain index by column beyond the third
}

func newCurveModel(cfg *FitConfig) *curveModel {
	m := &curveModel{prior: []float64{0, 1, 0}, width: []float64{interceptWidth, slopeWidth, slopeWidth}}
	if cfg.Tier == router.HighPerformance {
		m.prior = []float64{0, 0, 1}
	}
	var counts [classifier.NumDomains]int
	for _, g := range cfg.Graded {
		d, _ := g.Scores.Domain()
		counts[d.Index()]++
	}
	column := map[int]int{}
	for d, n := range counts {
		if n >= fewestForDomain {
			column[d] = len(m.prior)
			m.domains = append(m.domains, d)
			m.prior, m.width = append(m.prior, 0), append(m.width, domainWidth)
		}
	}
	for _, g := range cfg.Graded {
		row := make([]float64, len(m.prior))
		row[0], row[1], row[2] = 1, classifier.Logit(g.Scores.QEfficient.Value), classifier.Logit(g.Scores.QHigh.Value)
		d, _ := g.Scores.Domain()
		if at, ok := column[d.Index()]; ok {
			row[at] = 1
		}
		m.x, m.y = append(m.x, row), append(m.y, g.Outcome)
	}
	return m
}

func (m *curveModel) all() []int {
	rows := make([]int, len(m.y))
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// fit maximises the penalised likelihood over the rows. A slope that would fall
// below 0 is fixed at 0, and the rest fitted again: a curve that falls as the
// prompt gets easier is noise.
func (m *curveModel) fit(rows []int) (beta []float64, inverse *mat.SymDense, err error) {
	fixed := make([]bool, len(m.prior))
	for {
		if beta, inverse, err = m.newton(rows, fixed); err != nil {
			return nil, nil, err
		}
		again := false
		for _, k := range []int{1, 2} {
			if beta[k] < 0 && !fixed[k] {
				fixed[k], again = true, true
			}
		}
		if !again {
			return beta, inverse, nil
		}
	}
}

const (
	newtonSteps = 100
	newtonTiny  = 1e-10
)

func (m *curveModel) newton(rows []int, fixed []bool) ([]float64, *mat.SymDense, error) {
	p := len(m.prior)
	beta := append([]float64(nil), m.prior...)
	for k, f := range fixed {
		if f {
			beta[k] = 0
		}
	}
	var chol mat.Cholesky
	for range newtonSteps {
		gradient, hessian := mat.NewVecDense(p, nil), mat.NewSymDense(p, nil)
		for k := range p {
			precision := 1 / (m.width[k] * m.width[k])
			gradient.SetVec(k, (m.prior[k]-beta[k])*precision)
			hessian.SetSym(k, k, precision)
		}
		for _, i := range rows {
			q := classifier.Sigmoid(dot(beta, m.x[i]))
			for a := range p {
				gradient.SetVec(a, gradient.AtVec(a)+(m.y[i]-q)*m.x[i][a])
				for b := a; b < p; b++ {
					hessian.SetSym(a, b, hessian.At(a, b)+q*(1-q)*m.x[i][a]*m.x[i][b])
				}
			}
		}
		for k, f := range fixed {
			if f { // a column of the identity keeps it where it is
				gradient.SetVec(k, 0)
				for b := range p {
					hessian.SetSym(min(k, b), max(k, b), 0)
				}
				hessian.SetSym(k, k, 1)
			}
		}
		if !chol.Factorize(hessian) {
			return nil, nil, errors.New("the prompts are too much alike to fit a curve: grade more varied ones")
		}
		step := mat.NewVecDense(p, nil)
		if err := chol.SolveVecTo(step, gradient); err != nil {
			return nil, nil, fmt.Errorf("newton step: %w", err)
		}
		size := mat.Norm(step, math.Inf(1))
		damp := min(1, 2/max(size, newtonTiny)) // at most two logits a step
		for k := range beta {
			beta[k] += damp * step.AtVec(k)
		}
		if size < newtonTiny {
			break
		}
	}
	inverse := mat.NewSymDense(p, nil)
	if err := chol.InverseTo(inverse); err != nil {
		return nil, nil, fmt.Errorf("invert the curvature: %w", err)
	}
	for k, f := range fixed {
		if f {
			inverse.SetSym(k, k, 0)
		}
	}
	return beta, inverse, nil
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// curve reads the coefficients into a card. Its half-width is the 90 % interval
// of the linear predictor, at its root mean square over the prompts.
func (m *curveModel) curve(beta []float64, inverse *mat.SymDense) router.QualityCurve {
	c := router.QualityCurve{Intercept: beta[0], Efficient: beta[1], High: beta[2]}
	for k, d := range m.domains {
		c.Domain[d] = beta[3+k]
	}
	variance := 0.0
	for _, x := range m.x {
		v := mat.NewVecDense(len(x), x)
		variance += mat.Inner(v, inverse, v) / float64(len(m.x))
	}
	c.HalfWidth = normal90 * math.Sqrt(variance)
	return c
}

// normal90 is the 95th percentile of the standard normal.
const normal90 = 1.6448536269514722

// crossValidate fills in what the curve is worth on prompts it has not seen.
func (m *curveModel) crossValidate(out *Fit) error {
	const folds = 10
	for fold := range folds {
		var train, test []int
		for i := range m.y {
			if i%folds == fold {
				test = append(test, i)
			} else {
				train = append(train, i)
			}
		}
		beta, _, err := m.fit(train)
		if err != nil {
			return fmt.Errorf("cross-validate: %w", err)
		}
		for _, i := range test {
			q, reference := classifier.Sigmoid(dot(beta, m.x[i])), classifier.Sigmoid(dot(m.prior, m.x[i]))
			out.LogLoss += logLoss(m.y[i], q) / float64(len(m.y))
			out.ReferenceLogLoss += logLoss(m.y[i], reference) / float64(len(m.y))
			out.Predicted += q / float64(len(m.y))
			out.Mean += m.y[i] / float64(len(m.y))
		}
	}
	return nil
}

func logLoss(y, q float64) float64 {
	const tiny = 1e-12
	return -y*math.Log(max(q, tiny)) - (1-y)*math.Log(max(1-q, tiny))
}
