package router

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func deployment(id string, weight float64) Deployment {
	return Deployment{Upstream: &Upstream{ID: id}, Weight: weight}
}

// shares draws evenly over [0, 1) and counts.
func shares(s Strategy, options []option) []int {
	out := make([]int, len(options))
	for i := range 1000 {
		out[choose(s, nil, options, (float64(i)+0.5)/1000)]++
	}
	return out
}

func TestStrategies(t *testing.T) {
	three := func(change func(o []option)) []option {
		o := []option{
			{deployment: deployment("a", 1), standing: open, cost: 100},
			{deployment: deployment("b", 3), standing: open, cost: 200},
			{deployment: deployment("c", 0), standing: open, cost: 100},
		}
		if change != nil {
			change(o)
		}
		return o
	}
	for _, x := range []struct {
		name     string
		strategy Strategy
		options  []option
		want     []int
	}{
		{"by the inverse square of the price", ByPrice, three(nil), []int{444, 111, 445}},
		{"a free one takes all", ByPrice, three(func(o []option) { o[1].cost = 0 }), []int{0, 1000, 0}},
		{"an unknown price is dearest", ByPrice, three(func(o []option) { o[0].cost, o[2].cost = -1, -1 }), []int{0, 1000, 0}},
		{"none known, all alike", ByPrice, three(func(o []option) { o[0].cost, o[1].cost, o[2].cost = -1, -1, -1 }), []int{333, 334, 333}},
		{"by weight", ByWeight, three(nil), []int{250, 750, 0}},
		{"fast ones alike, slow ones never", ByLatency, three(func(o []option) {
			o[0].ttft, o[1].ttft, o[2].ttft = 100*time.Millisecond, 119*time.Millisecond, 121*time.Millisecond
		}), []int{500, 500, 0}},
		{"never seen is worth a try", ByLatency, three(func(o []option) { o[0].ttft, o[1].ttft = 100*time.Millisecond, time.Second }), []int{500, 0, 500}},
		{"the least busy", ByLoad, three(func(o []option) { o[0].running, o[1].running, o[2].running = 2, 1, 2 }), []int{0, 1000, 0}},
		{"the cheapest", ByCost, three(func(o []option) { o[2].cost = 99 }), []int{0, 0, 1000}},
		{"the most room", ByRate, three(func(o []option) { o[0].used, o[1].used, o[2].used = 0.5, 0.4, 0.9 }), []int{0, 1000, 0}},
		{"in order", InOrder, three(nil), []int{1000, 0, 0}},
		{"shut ones never", InOrder, three(func(o []option) { o[0].standing = shut }), []int{0, 1000, 0}},
		{"left out ones only as the last resort", InOrder, three(func(o []option) { o[0].standing, o[1].standing = resort, resort }), []int{0, 0, 1000}},
		{"the last resort", InOrder, three(func(o []option) { o[0].standing, o[1].standing, o[2].standing = shut, resort, resort }), []int{0, 1000, 0}},
		{"a probe goes first", InOrder, three(func(o []option) { o[2].standing = due }), []int{0, 0, 1000}},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := shares(x.strategy, x.options)
			for i := range got {
				assert.InDelta(t, x.want[i], got[i], 2)
			}
		})
	}
	assert.Equal(t, -1, choose(ByPrice, nil, nil, 0))
	assert.Equal(t, -1, choose(ByPrice, nil, three(func(o []option) { o[0].standing, o[1].standing, o[2].standing = shut, shut, shut }), 0.3))
	assert.Equal(t, 1, choose(InOrder, []string{"zz", "b", "a"}, three(nil), 0), "the request's order beats the strategy")
	assert.Equal(t, 1, choose(InOrder, []string{"b"}, three(func(o []option) { o[2].standing = due }), 0), "and a probe")
	assert.Equal(t, 0, choose(InOrder, []string{"b"}, three(func(o []option) { o[1].standing = resort }), 0), "but not an outage")
}

func TestConfiguredLimitsShutADeployment(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var c condition
	d := Deployment{RPM: 2, TPM: 100, MaxParallel: 3}
	shutAt := func(at time.Time, tokens int64) bool {
		s, _, own := c.stands(&d, tokens, at)
		assert.Equal(t, s == shut, own)
		return s == shut
	}
	assert.False(t, shutAt(now, 1000), "one call may be larger than a minute's tokens")
	c.add(now, 1, 60)
	assert.False(t, shutAt(now, 40))
	assert.True(t, shutAt(now, 41), "tpm")
	c.add(now.Add(10*time.Second), 1, 0)
	assert.True(t, shutAt(now.Add(10*time.Second), 0), "rpm")
	_, wait, _ := c.stands(&d, 0, now.Add(10*time.Second))
	assert.Equal(t, 50*time.Second, wait, "until the first call's second leaves the minute")
	assert.False(t, shutAt(now.Add(60*time.Second), 0))
	c.running = 3
	assert.True(t, shutAt(now.Add(time.Hour), 0), "max_parallel")
}

// A correction goes where its estimate stands: one that outlived it would make room for
// calls that are not there.
func TestCorrectionsLeaveWithTheirEstimates(t *testing.T) {
	var h health
	now := time.Unix(1_000_000, 0)
	m := &Model{ID: "m", Deployments: []Deployment{{Upstream: &Upstream{ID: "u"}, Name: "m", TPM: 100}}}
	used := func(at time.Time) int64 {
		var c int64
		cond := h.of(&m.Deployments[0], at)
		for i := range cond.minute {
			if cond.minute[i].second > at.Unix()-60 {
				c += cond.minute[i].tokens
			}
		}
		return c
	}
	take := func(tokens int64) *lease {
		h.of(&m.Deployments[0], now).add(now, 1, tokens)
		h.of(&m.Deployments[0], now).running++
		return &lease{deployment: m.Deployments[0], model: m, tokens: tokens, second: now.Unix()}
	}
	early, late, more := take(50), take(40), take(10)
	h.release(early, 0, 0, true, 20, now.Add(10*time.Second))
	assert.EqualValues(t, 70, used(now.Add(10*time.Second)), "within the minute the correction counts")
	h.release(late, 0, 0, true, 1, now.Add(65*time.Second))
	assert.EqualValues(t, 0, used(now.Add(65*time.Second)), "after it there is nothing to give back")
	h.release(more, 0, 0, true, 25, now.Add(65*time.Second))
	assert.EqualValues(t, 15, used(now.Add(65*time.Second)), "what was used beyond the estimate counts when it is known")
}

// What never left is not billed, what a provider had begun to answer is.
func TestWhatABrokenAttemptIsBilled(t *testing.T) {
	in := &Input{Messages: []ChatMessage{{Parts: []Part{{Text: "a few words of a prompt"}}}}}
	for name, tc := range map[string]struct {
		e      UpstreamError
		billed bool
	}{
		"no connection in time":          {UpstreamError{Kind: FailureTimeout, Unsent: true}, false},
		"no first byte in time":          {UpstreamError{Kind: FailureTimeout}, true},
		"refused":                        {UpstreamError{Kind: FailureNetwork}, false},
		"cut before the first piece":     {UpstreamError{Kind: FailureNetwork, Status: 200}, true},
		"ended before the first piece":   {UpstreamError{Kind: FailureProtocol, Status: 200}, true},
		"an error in place of an answer": {UpstreamError{Kind: FailureProtocol, Status: 500}, false},
	} {
		_, billed := new(heard).billed(in, &Candidate{InputTokens: 100, MaxOutput: 10}, &tc.e)
		assert.Equal(t, tc.billed, billed, name)
	}
}

func TestRetryBudget(t *testing.T) {
	var b retryBudget
	now := time.Unix(1_000_000, 0)
	take := func(at time.Time) (n int) {
		for b.take(at, 0.2) {
			n++
		}
		return n
	}
	assert.Equal(t, 3, take(now), "three are always allowed")
	for range 100 {
		b.call(now)
	}
	assert.Equal(t, 17, take(now), "a fifth of a hundred, less three")
	assert.Equal(t, 0, take(now.Add(9*time.Second)))
	assert.Equal(t, 3, take(now.Add(10*time.Second)), "the window slides")
}

func TestPause(t *testing.T) {
	assert.Equal(t, 50*time.Millisecond, pause(0, 0.5, 0))
	assert.Equal(t, 100*time.Millisecond, pause(1, 0.5, 0))
	assert.Equal(t, time.Second, pause(30, 0.5, 0), "bounded")
	assert.Equal(t, 3*time.Second, pause(0, 0.9, 3*time.Second), "never earlier than asked")
}

// Health is of the deployment, not of the config's version; another address or
// key starts anew.
func TestHealthSurvivesAReload(t *testing.T) {
	var h health
	now := time.Unix(1_000_000, 0)
	u := func(base string) Deployment {
		return Deployment{Upstream: &Upstream{ID: "u", BaseURL: base, Callable: true}, Name: "n"}
	}
	before, after, moved := u("http://x"), u("http://x"), u("http://y")
	m := &Model{Deployments: []Deployment{before}}
	h.of(&before, now).running++
	h.release(&lease{deployment: before, model: m}, FailureQuota, 0, true, 0, now)
	s, _, _ := h.of(&after, now).stands(&after, 0, now)
	assert.Equal(t, shut, s)
	s, _, _ = h.of(&moved, now).stands(&moved, 0, now)
	assert.Equal(t, open, s)
}

// A cooldown is extended, never shortened.
func TestCooldownExtends(t *testing.T) {
	var h health
	now := time.Unix(1_000_000, 0)
	d := Deployment{Upstream: &Upstream{ID: "u", Callable: true}}
	l := &lease{deployment: d, model: &Model{Deployments: []Deployment{d}}}
	for _, x := range []struct{ retryAfter, want time.Duration }{
		{10 * time.Second, 10 * time.Second}, {time.Second, 10 * time.Second}, {30 * time.Second, 30 * time.Second}, {1000 * time.Hour, time.Hour},
	} {
		h.of(&d, now).running++
		h.release(l, FailureRateLimit, x.retryAfter, true, 0, now)
		assert.Equal(t, x.want, h.of(&d, now).until.Sub(now))
	}
	s, _, _ := h.of(&d, now).stands(&d, 0, now.Add(time.Hour))
	assert.Equal(t, open, s)
}
