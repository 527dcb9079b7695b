package classifier

import (
	"errors"
	"fmt"
	"math"
)

// Knot is a point of a calibration curve: at the graph's logit X the calibrated
// logit is Y, with a 90 % interval Low..High.
type Knot struct {
	X, Y, Low, High float64
}

// Curve maps a graph's logit to a calibrated probability. It is piecewise
// linear in logits and strictly increasing, so that calibration never ties or
// swaps two prompts (step functions, as plain isotonic regression has them,
// break rankings). Make one by NewCurve; a Curve is immutable.
type Curve struct {
	knots []Knot
}

// NewCurve checks the knots and makes a curve of them: at least two, finite, X
// and Y strictly increasing, Low <= Y <= High. The error joins every fault.
func NewCurve(knots []Knot) (Curve, error) {
	var faults []error
	if len(knots) < 2 {
		faults = append(faults, fmt.Errorf("%d knots, want at least 2", len(knots)))
	}
	for i, k := range knots {
		for _, v := range []float64{k.X, k.Y, k.Low, k.High} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				faults = append(faults, fmt.Errorf("knot %d holds %v, want finite numbers", i, v))
			}
		}
		if !(k.Low <= k.Y && k.Y <= k.High) {
			faults = append(faults, fmt.Errorf("knot %d: y %v is outside lo %v .. hi %v", i, k.Y, k.Low, k.High))
		}
		if i > 0 && !(k.X > knots[i-1].X && k.Y > knots[i-1].Y) {
			faults = append(faults, fmt.Errorf("knot %d: x and y must both be above those of knot %d", i, i-1))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Curve{}, err
	}
	return Curve{knots: append([]Knot(nil), knots...)}, nil
}

// At returns the calibrated probability and its 90 % interval at a graph's
// logit. Beyond the end knots the line goes on with the slope of its last
// piece, and the interval keeps the width that it has at the end knot.
func (c Curve) At(logit float64) Estimate {
	k := c.knots
	i := 1
	for i < len(k)-1 && logit > k[i].X {
		i++
	}
	a, b := k[i-1], k[i]
	t := (logit - a.X) / (b.X - a.X)
	y := a.Y + t*(b.Y-a.Y)
	w := min(max(t, 0), 1)
	below := (1-w)*(a.Y-a.Low) + w*(b.Y-b.Low)
	above := (1-w)*(a.High-a.Y) + w*(b.High-b.Y)
	return Estimate{Value: Sigmoid(y), Low: Sigmoid(y - below), High: Sigmoid(y + above)}
}

// Sigmoid is 1/(1+exp(-x)), computed so that it never overflows.
func Sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	e := math.Exp(x)
	return e / (1 + e)
}

// Logit is the inverse of Sigmoid, with p kept within 1e-9 of 0 and 1.
func Logit(p float64) float64 {
	p = min(max(p, 1e-9), 1-1e-9)
	return math.Log(p / (1 - p))
}

// Softmax turns logits into probabilities that sum to 1.
func Softmax(logits []float64) []float64 {
	top := math.Inf(-1)
	for _, x := range logits {
		top = max(top, x)
	}
	out := make([]float64, len(logits))
	sum := 0.0
	for i, x := range logits {
		out[i] = math.Exp(x - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}
