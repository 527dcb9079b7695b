package router

import (
	"math"
	"slices"
	"time"
)

// standing is how a deployment stands at one moment.
type standing uint8

const (
	// shut: it may not be called at all.
	shut standing = iota
	// resort: left out after failures; called only when nothing else is left.
	resort
	// due: its time is over and one call may probe it.
	due
	// open: it may be called.
	open
)

// option is a deployment as the choice sees it.
type option struct {
	deployment Deployment
	standing   standing
	// cost is what the call is expected to cost there, -1 when unknown.
	cost    NanoUSD
	running int
	// ttft is the observed time to the first content, 0 when never seen.
	ttft time.Duration
	// used is the larger share used of rpm and tpm, 0-1.
	used float64
}

// latencyBuffer is how much slower than the fastest still counts as fast.
const latencyBuffer = 1.2

// choose returns the index of the option to call, -1 when there is none. It is
// pure: random is a number of [0, 1). Of options that stand differently only the
// best standing counts; one that is due for a probe goes first where another is
// open, so that a caller is protected if it fails.
func choose(s Strategy, order []string, options []option, random float64) int {
	best := shut
	for i := range options {
		best = max(best, options[i].standing)
	}
	if best == shut {
		return -1
	}
	// The request's own order beats the probe and the config's strategy.
	for _, id := range order {
		for i := range options {
			if options[i].standing >= min(best, due) && options[i].deployment.Upstream.ID == id {
				return i
			}
		}
	}
	if i := slices.IndexFunc(options, func(o option) bool { return o.standing == due }); i >= 0 {
		return i
	}
	among := make([]int, 0, len(options))
	for i := range options {
		if options[i].standing == best {
			among = append(among, i)
		}
	}
	return pick(s, options, among, random)
}

func pick(s Strategy, options []option, among []int, random float64) int {
	switch s {
	case InOrder:
		return among[0]
	case ByWeight:
		return draw(among, random, func(i int) float64 { return options[i].deployment.Weight })
	case ByLatency:
		fastest := time.Duration(math.MaxInt64)
		for _, i := range among {
			if t := options[i].ttft; t > 0 {
				fastest = min(fastest, t)
			}
		}
		return draw(among, random, func(i int) float64 {
			if float64(options[i].ttft) > latencyBuffer*float64(fastest) {
				return 0
			}
			return 1
		})
	case ByLoad:
		return least(among, random, func(i int) float64 { return float64(options[i].running) })
	case ByCost:
		return least(among, random, func(i int) float64 { return costOf(&options[i]) })
	case ByRate:
		return least(among, random, func(i int) float64 { return options[i].used })
	default:
		cheapest := math.Inf(1)
		for _, i := range among {
			cheapest = min(cheapest, costOf(&options[i]))
		}
		return draw(among, random, func(i int) float64 {
			c := costOf(&options[i])
			if c == cheapest { // also where both are free, or unknown
				return 1
			}
			return (cheapest / c) * (cheapest / c)
		})
	}
}

// costOf puts unknown prices behind every known one.
func costOf(o *option) float64 {
	if o.cost < 0 {
		return math.Inf(1)
	}
	return float64(o.cost)
}

// draw picks by weight; all alike where no weight is above zero.
func draw(among []int, random float64, weight func(int) float64) int {
	sum := 0.0
	for _, i := range among {
		sum += weight(i)
	}
	if !(sum > 0) {
		return among[int(random*float64(len(among)))%len(among)]
	}
	at := random * sum
	last := among[0]
	for _, i := range among {
		w := weight(i)
		if w <= 0 {
			continue
		}
		last = i
		if at -= w; at < 0 {
			return i
		}
	}
	return last
}

// least picks the smallest; one of them at random where several are.
func least(among []int, random float64, of func(int) float64) int {
	low := math.Inf(1)
	for _, i := range among {
		low = min(low, of(i))
	}
	return draw(among, random, func(i int) float64 {
		if of(i) == low {
			return 1
		}
		return 0
	})
}
