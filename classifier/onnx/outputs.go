package onnx

import (
	"fmt"
	"math"

	"github.com/weirhq/weir/classifier"
)

// outputKind is what an output of a graph means.
type outputKind int

const (
	outEfficient outputKind = iota
	outHigh
	outComplexity
	outDomain
	outTokens
	outOOD
	numOutputs
)

// outputNames are the manifest's names of the outputs.
func outputNames() [numOutputs]string {
	return [numOutputs]string{"quality_efficient", "quality_high", "complexity", "domain", "output_tokens", "ood"}
}

// all returns the outputs by kind, nil for those that the graph does not have.
func (o *Outputs) all() [numOutputs]*Output {
	return [numOutputs]*Output{o.QualityEfficient, o.QualityHigh, o.Complexity, o.Domain, o.OutputTokens, o.OOD}
}

// given returns the kinds that the graph has, in order.
func (o *Outputs) given() []outputKind {
	var kinds []outputKind
	for kind, out := range o.all() {
		if out != nil {
			kinds = append(kinds, outputKind(kind))
		}
	}
	return kinds
}

// at is the index of the value that counts.
func (o *Output) at() int {
	if o.Index == nil {
		return 0
	}
	return *o.Index
}

// least is how many values the output must have at least; exact says that it must
// have no more.
func (o *Output) least() (n int, exact bool) {
	n = o.at() + 1
	if o.MinusIndex != nil {
		n = max(n, *o.MinusIndex+1)
	}
	return n, o.Index == nil && o.MinusIndex == nil
}

// raw are a graph's outputs as picked from its vectors, before probability, negate
// and calibration: what probes record.
type raw struct {
	value  [numOutputs]float64
	domain []float32
}

// readRaw picks the numbers from the outputs of a run, in the order of given. It
// refuses a vector of another length than the manifest says, and any number that is
// not finite.
func (l *Lane) readRaw(vectors [][]float32, domains int) (raw, error) {
	var r raw
	outputs := l.Outputs.all()
	for i, kind := range l.Outputs.given() {
		out, values := outputs[kind], vectors[i]
		for _, v := range values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return raw{}, fmt.Errorf("output %q of the graph holds %v, want finite numbers", out.Name, v)
			}
		}
		if kind == outDomain {
			if len(values) != domains {
				return raw{}, fmt.Errorf("output %q of the graph has %d values for %d domains", out.Name, len(values), domains)
			}
			r.domain = values
			continue
		}
		if n, exact := out.least(); len(values) < n || exact && len(values) != n {
			return raw{}, fmt.Errorf("output %q of the graph has %d values, want %d: say which one counts by index", out.Name, len(values), n)
		}
		r.value[kind] = float64(values[out.at()])
		if out.MinusIndex != nil {
			r.value[kind] -= float64(values[*out.MinusIndex])
		}
	}
	return r, nil
}

// logit is the number that calibration takes.
func (o *Output) logit(v float64) float64 {
	if o.Probability {
		v = classifier.Logit(v)
	}
	if o.Negate {
		v = -v
	}
	return v
}

// scorer makes scores of a lane's raw outputs.
type scorer struct {
	name            string
	lane            *Lane
	domains         []classifier.Domain
	efficient, high classifier.Curve
}

func newScorer(name string, m *Manifest, lane *Lane) (scorer, error) {
	s := scorer{name: name, lane: lane}
	for _, d := range m.Domains {
		domain, err := classifier.ParseDomain(d)
		if err != nil {
			return scorer{}, err
		}
		s.domains = append(s.domains, domain)
	}
	var err error
	if s.efficient, err = classifier.NewCurve(lane.Calibration.QualityEfficient.knots()); err != nil {
		return scorer{}, err
	}
	if lane.Calibration.QualityHigh != nil {
		s.high, err = classifier.NewCurve(lane.Calibration.QualityHigh.knots())
	}
	return s, err
}

func (s *scorer) scores(r raw, e encoded) classifier.Scores {
	out := classifier.Scores{
		Domains:         s.distribution(r.domain),
		InputTokens:     e.inputTokens,
		TruncatedTokens: e.truncated,
		TokensEstimated: e.estimated,
		Lane:            s.name,
	}
	outputs := &s.lane.Outputs
	if c := outputs.Complexity; c != nil {
		out.QEfficient = s.efficient.At(-c.logit(r.value[outComplexity]))
		out.QHigh = s.lane.HighFromEfficient.of(out.QEfficient)
	} else {
		out.QEfficient = s.efficient.At(outputs.QualityEfficient.logit(r.value[outEfficient]))
		out.QHigh = s.high.At(outputs.QualityHigh.logit(r.value[outHigh]))
	}
	t := s.lane.OutputTokens
	expected := math.Log(t.Default)
	if o := outputs.OutputTokens; o != nil {
		expected = o.logit(r.value[outTokens])
	}
	out.OutputTokens = min(max(math.Exp(expected), t.Min), t.Max)
	out.OutputTokensP90 = min(max(math.Exp(expected+t.P90Offset), t.Min), t.Max)
	if o := outputs.OOD; o != nil {
		out.OutOfDistribution = o.logit(r.value[outOOD]) > s.lane.OOD.Threshold
	}
	return out
}

// distribution spreads the graph's domains over all of them. A graph without a domain
// output knows nothing of domains, which is the same chance for each.
func (s *scorer) distribution(logits []float32) (out [classifier.NumDomains]float64) {
	if len(logits) == 0 {
		for i := range out {
			out[i] = 1.0 / classifier.NumDomains
		}
		return out
	}
	wide := make([]float64, len(logits))
	for i, v := range logits {
		wide[i] = float64(v)
	}
	for i, p := range classifier.Softmax(wide) {
		out[s.domains[i].Index()] = p
	}
	return out
}

// of maps an estimate through the line in logits, which rises, so that its interval
// keeps its order.
func (l *Line) of(e classifier.Estimate) classifier.Estimate {
	at := func(p float64) float64 { return classifier.Sigmoid(l.A + l.B*classifier.Logit(p)) }
	return classifier.Estimate{Value: at(e.Value), Low: at(e.Low), High: at(e.High)}
}
