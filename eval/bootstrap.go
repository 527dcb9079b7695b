package eval

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/stat"
)

// figures collects the values of one resample under names. The names are made
// once, on the set itself; every resample reports the same ones in the same
// order.
type figures struct {
	names  []string // nil on resamples
	naming bool
	values []float64
}

func (f *figures) put(v float64, name ...string) {
	if f.naming {
		f.names = append(f.names, strings.Join(name, "/"))
	}
	f.values = append(f.values, v)
}

// intervals are the finished figures by name.
type intervals map[string]Interval

func (m intervals) get(name ...string) Interval {
	if i, ok := m[strings.Join(name, "/")]; ok {
		return i
	}
	return unknown()
}

// evaluator computes every figure of a set for given counts of its rows. It is
// one goroutine's; scratch space is its own.
type evaluator interface {
	evaluate(counts []uint16, out *figures)
}

// bootstrap computes every figure on the set itself, and on resamples of its
// rows: n drawn with replacement, the same draws for all figures, so that
// differences are paired. Resample b is drawn from (seed, b), whatever the
// number of cores. With resamples < 1, intervals are unknown.
func bootstrap(n, resamples int, seed uint64, newEvaluator func() evaluator) intervals {
	ones := make([]uint16, n)
	for i := range ones {
		ones[i] = 1
	}
	first := figures{naming: true}
	newEvaluator().evaluate(ones, &first)
	k := len(first.values)
	var all []float64
	if resamples > 0 {
		all = make([]float64, k*resamples) // figure by figure
		var group errgroup.Group
		workers := min(runtime.GOMAXPROCS(0), resamples)
		for w := range workers {
			group.Go(func() error {
				e, counts := newEvaluator(), make([]uint16, n)
				var out figures
				for b := w; b < resamples; b += workers {
					draw(counts, rand.NewPCG(seed, uint64(b)))
					out.values = out.values[:0]
					e.evaluate(counts, &out)
					for i, v := range out.values {
						all[i*resamples+b] = v
					}
				}
				return nil
			})
		}
		_ = group.Wait() // no worker fails
	}
	out := make(intervals, k)
	for i, name := range first.names {
		iv := Interval{first.values[i], math.NaN(), math.NaN()}
		if resamples > 0 {
			iv.Lo, iv.Hi = percentiles(all[i*resamples : (i+1)*resamples])
		}
		out[name] = iv
	}
	return out
}

// draw counts how often each row is drawn in n draws with replacement.
func draw(counts []uint16, rng *rand.PCG) {
	clear(counts)
	n := uint64(len(counts))
	for range counts {
		at, _ := bits.Mul64(rng.Uint64(), n)
		counts[at]++
	}
}

// percentiles are the 2.5 and 97.5 % quantiles. Resamples in which the figure
// does not exist are left out, and where they are more than one in twenty the
// interval does not exist either.
func percentiles(v []float64) (lo, hi float64) {
	kept := make([]float64, 0, len(v))
	for _, x := range v {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			kept = append(kept, x)
		}
	}
	if 20*len(kept) < 19*len(v) || len(kept) == 0 {
		return math.NaN(), math.NaN()
	}
	slices.Sort(kept)
	return stat.Quantile(0.025, stat.LinInterp, kept, nil), stat.Quantile(0.975, stat.LinInterp, kept, nil)
}
