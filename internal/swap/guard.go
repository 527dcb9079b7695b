package swap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// guard counts what comes of the serving bundle's scores, and compares a bundle
// that settles with the one before. It is safe for concurrent use and does little
// for each decision.
type guard struct {
	policy SettlePolicy
	now    func() time.Time

	mu sync.Mutex
	// digest is whose decisions count: those of leases on another are left out.
	digest string
	// recent and older are the last two spans: a baseline that is neither of one
	// minute nor of last month.
	recent, older counts
	began         time.Time
	// baseline is the bundle's before while this one settles; else nil.
	baseline *counts
	judged   int64
	tripped  bool
}

// span is how long counts are gathered before they grow old.
const span = 5 * time.Minute

// judgeEvery is how many decisions lie between two judgements.
const judgeEvery = 25

// counts are of one bundle.
type counts struct {
	requests, failed int64
	// unmet found no model within the caller's limits: the limits', the config's or the
	// scores' fault, so that only a share that grew counts against the bundle.
	unmet          int64
	scored, strong int64
	// latency is by lane: that a new lane is slower is no fault of the old one's.
	latency map[string]*times
}

// times counts durations.
type times [latencyBuckets]int64

// latencyBuckets are a fifth of an octave wide from a microsecond on: up to about
// half a minute, and beyond that the last.
const (
	latencyBuckets = 125
	perOctave      = 5
)

func bucketOf(d time.Duration) int {
	us := d.Seconds() * 1e6
	if us <= 1 {
		return 0
	}
	return min(int(perOctave*math.Log2(us)), latencyBuckets-1)
}

func (t *times) total() int64 {
	var sum int64
	for _, n := range t {
		sum += n
	}
	return sum
}

// median is the middle of the bucket that holds it; 0 without requests.
func (t *times) median() time.Duration {
	total, seen := t.total(), int64(0)
	for i, n := range t {
		if seen += n; n > 0 && 2*seen >= total {
			return time.Duration(math.Exp2((float64(i)+0.5)/perOctave) * float64(time.Microsecond))
		}
	}
	return 0
}

// lane are the times of a lane, made where there are none.
func (c *counts) lane(name string) *times {
	t := c.latency[name]
	if t == nil {
		if c.latency == nil {
			c.latency = map[string]*times{}
		}
		t = &times{}
		c.latency[name] = t
	}
	return t
}

func (c *counts) plus(o *counts) *counts {
	sum := *c
	sum.requests += o.requests
	sum.failed += o.failed
	sum.unmet += o.unmet
	sum.scored += o.scored
	sum.strong += o.strong
	sum.latency = map[string]*times{}
	for _, from := range []*counts{c, o} {
		for lane, t := range from.latency {
			into := sum.lane(lane)
			for i, n := range t {
				into[i] += n
			}
		}
	}
	return &sum
}

// blameless tells the errors that say nothing about the bundle.
func blameless(err error) bool {
	if long := (*router.ContextTooLongError)(nil); errors.As(err, &long) {
		return true
	}
	for _, target := range []error{
		context.Canceled, context.DeadlineExceeded, classifier.ErrInvalidText, classifier.ErrNoContent,
		router.ErrUnknownModel, router.ErrUnknownPolicy, router.ErrUnknownRule,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// unmet tells that no model was within the caller's limits.
func unmet(err error) bool {
	none := (*router.NoEligibleError)(nil)
	return errors.As(err, &none)
}

// serve says which bundle's decisions count from now on. settling compares them
// with the one that served until now.
func (g *guard) serve(digest string, settling bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.baseline = nil
	if settling {
		g.baseline = g.recent.plus(&g.older)
	}
	g.digest, g.recent, g.older = digest, counts{}, counts{}
	g.began, g.judged, g.tripped = g.now(), 0, false
}

// settled ends the comparison.
func (g *guard) settled() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.baseline = nil
}

// observe counts a decision. It returns why the settling bundle must go, once; ""
// as long as it may stay.
func (g *guard) observe(r *router.Record, err error) string {
	if err != nil && blameless(err) || r.Unasked() {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.BundleDigest != g.digest {
		return ""
	}
	c := &g.recent
	c.requests++
	switch {
	case err != nil && unmet(err):
		c.unmet++
	case err != nil || r.ScoringError != "":
		c.failed++
	default:
		c.scored++
		if m := r.Decision.Chosen.Model; m != nil && m.EffectiveTier() > router.Efficient {
			c.strong++
		}
		// Scores that were kept from an earlier call took no time, and a bundle begins
		// with none.
		if !r.ScoreCached {
			c.lane(r.Demand.Scores.Lane)[bucketOf(r.Classify)]++
		}
	}
	if g.baseline == nil {
		if g.now().Sub(g.began) > span {
			g.older, g.recent, g.began = g.recent, counts{}, g.now()
		}
		return ""
	}
	if g.tripped || c.requests < int64(g.policy.MinRequests) || c.requests-g.judged < judgeEvery {
		return ""
	}
	g.judged = c.requests
	why := g.policy.judge(g.baseline, c)
	g.tripped = why != ""
	return why
}

// judge compares a settling bundle with the one before. Where that saw too little,
// only failures are judged: they need no comparison.
func (p *SettlePolicy) judge(before, now *counts) string {
	enough := before.requests >= int64(p.MinRequests)
	share := func(k, n int64) float64 { return float64(k) / float64(max(n, 1)) }
	f0, f1 := 0.0, share(now.failed, now.requests)
	n0 := now.requests
	if enough {
		f0, n0 = share(before.failed+before.unmet, before.requests), before.requests
		f1 = share(now.failed+now.unmet, now.requests)
	}
	if f1-f0 > p.MaxFailures && beyondChance(f0, n0, f1, now.requests) {
		return fmt.Sprintf("%.1f %% of %d prompts failed, %.1f %% did before: at most %.1f points more are allowed (settle.max_failures)",
			100*f1, now.requests, 100*f0, 100*p.MaxFailures)
	}
	if !enough || now.scored < int64(p.MinRequests) {
		return ""
	}
	if why := p.judgeLatency(before, now); why != "" {
		return why
	}
	s0, s1 := share(before.strong, before.scored), share(now.strong, now.scored)
	if math.Abs(s1-s0) > p.MaxTierChange && beyondChance(s0, before.scored, s1, now.scored) {
		return fmt.Sprintf("%.1f %% of %d prompts go above the cheapest tier, %.1f %% did before: at most %.0f points of difference are allowed (settle.max_tier_change)",
			100*s1, now.scored, 100*s0, 100*p.MaxTierChange)
	}
	return ""
}

// judgeLatency compares every lane with itself. One that the bundle before did not
// have, or hardly asked, has a bound of its own.
func (p *SettlePolicy) judgeLatency(before, now *counts) string {
	few := int64(p.MinRequests)
	for _, lane := range slices.Sorted(maps.Keys(now.latency)) {
		t1 := now.latency[lane]
		m1 := t1.median()
		t0 := before.latency[lane]
		switch {
		case t1.total() < few:
		case t0 == nil || t0.total() < few:
			if m1 > p.MaxNewLane {
				return fmt.Sprintf("lane %s takes %s at the median, and scored too little before to compare: at most %s are allowed (settle.max_new_lane)", lane, m1, p.MaxNewLane)
			}
		case m1 > p.MinLatency && m1.Seconds() > p.MaxLatencyRatio*t0.median().Seconds():
			return fmt.Sprintf("scoring takes %s at the median (lane %s), %s before: at most %g times are allowed (settle.max_latency_ratio)", m1, lane, t0.median(), p.MaxLatencyRatio)
		}
	}
	return ""
}

// beyondChance tells a difference of two shares of more than four standard errors:
// it is asked many times while a bundle settles.
func beyondChance(p0 float64, n0 int64, p1 float64, n1 int64) bool {
	pooled := (p0*float64(n0) + p1*float64(n1)) / float64(n0+n1)
	se := math.Sqrt(pooled * (1 - pooled) * (1/float64(n0) + 1/float64(n1)))
	return math.Abs(p1-p0) > 4*se
}
