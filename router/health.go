package router

import (
	"sync"
	"time"
)

// The rules by which a deployment is left out of the choice and comes back.
const (
	// ejectStreak failures in a row leave a deployment out.
	ejectStreak = 5
	// healthWindow is how far back failures count; of at least windowCalls in
	// it, windowShare failed leave it out too.
	healthWindow = 30
	windowCalls  = 10
	windowShare  = 0.5
	// provenShare of failures in the window is too many to be known to work.
	provenShare = 0.2
	// Left out for ejectBase, then twice as long each time up to ejectMost: a
	// deployment that works again is back within a minute.
	ejectBase = 10 * time.Second
	ejectMost = 45 * time.Second
	// The same for refused keys and empty accounts.
	lockoutBase = 5 * time.Minute
	lockoutMost = 30 * time.Minute
	// patience is how long an attempt must have been silent before a caller's
	// own deadline counts against the deployment.
	patience = 5 * time.Second
	// ttftShare is the weight of the newest time to the first content.
	ttftShare = 0.2
	// maxDeployments bounds what is kept over config reloads.
	maxDeployments = 4096
)

// deploymentKey is a deployment's identity: health survives a config reload
// where it is the same, and the health of another key or address starts anew.
type deploymentKey struct{ upstream, address, key, name string }

func keyOf(d *Deployment) deploymentKey {
	return deploymentKey{d.Upstream.ID, d.Upstream.BaseURL, d.Upstream.KeyEnv + "\x00" + d.Upstream.KeyFile, d.Name}
}

// health is what the router has seen of every deployment. It is safe for
// concurrent use.
type health struct {
	mu      sync.Mutex
	byKey   map[deploymentKey]*condition
	retries retryBudget
}

// condition is what was seen of one deployment.
type condition struct {
	window  [healthWindow]tally
	minute  [60]load
	streak  int
	times   int // left out, in a row
	until   time.Time
	reason  FailureKind
	hard    bool // until holds even when nothing else is left
	probing bool
	running int
	ttft    time.Duration
	called  bool
	seen    time.Time
}

type tally struct {
	second     int64
	ok, failed int
}

type load struct {
	second, requests, tokens int64
}

func (h *health) of(d *Deployment, now time.Time) *condition {
	key := keyOf(d)
	c, ok := h.byKey[key]
	if !ok {
		if h.byKey == nil {
			h.byKey = map[deploymentKey]*condition{}
		}
		if len(h.byKey) >= maxDeployments {
			h.forget(now)
		}
		c = &condition{}
		h.byKey[key] = c
	}
	c.seen = now
	return c
}

// forget drops what no call has touched for an hour.
func (h *health) forget(now time.Time) {
	for key, c := range h.byKey {
		if c.running == 0 && now.Sub(c.seen) > time.Hour {
			delete(h.byKey, key)
		}
	}
}

// stands tells whether the deployment may be called, when that changes, and
// whether this server's own limits shut it.
func (c *condition) stands(d *Deployment, tokens int64, now time.Time) (s standing, wait time.Duration, own bool) {
	if wait := c.overLimit(d, tokens, now); wait > 0 {
		return shut, wait, true
	}
	switch {
	case c.until.IsZero():
		return open, 0, false
	case now.Before(c.until) && c.hard:
		return shut, c.until.Sub(now), false
	case now.Before(c.until):
		return resort, c.until.Sub(now), false
	case c.reason == FailureRateLimit:
		return open, 0, false
	case c.probing:
		return resort, time.Second, false
	default:
		return due, 0, false
	}
}

// overLimit is how long the configured limits shut the deployment, about.
func (c *condition) overLimit(d *Deployment, tokens int64, now time.Time) time.Duration {
	if d.MaxParallel > 0 && c.running >= d.MaxParallel {
		return time.Second
	}
	requests, used := c.used(now)
	if (d.RPM > 0 && requests >= d.RPM) || (d.TPM > 0 && used > 0 && used+tokens > d.TPM) {
		oldest := now.Unix()
		for i := range c.minute {
			if s := &c.minute[i]; s.second > now.Unix()-60 && s.requests+s.tokens > 0 {
				oldest = min(oldest, s.second)
			}
		}
		return time.Unix(oldest+60, 0).Sub(now.Truncate(time.Second)) // the oldest second leaves the minute
	}
	return 0
}

func (c *condition) used(now time.Time) (requests, tokens int64) {
	for i := range c.minute {
		if c.minute[i].second > now.Unix()-60 {
			requests, tokens = requests+c.minute[i].requests, tokens+c.minute[i].tokens
		}
	}
	return requests, max(tokens, 0)
}

func (c *condition) share(d *Deployment, now time.Time) float64 {
	requests, tokens := c.used(now)
	share := 0.0
	if d.RPM > 0 {
		share = float64(requests) / float64(d.RPM)
	}
	if d.TPM > 0 {
		share = max(share, float64(tokens)/float64(d.TPM))
	}
	return share
}

func (c *condition) add(now time.Time, requests, tokens int64) {
	s := &c.minute[now.Unix()%60]
	if s.second != now.Unix() {
		*s = load{second: now.Unix()}
	}
	s.requests += requests
	s.tokens += tokens
}

// correct puts what a call used in place of its estimate, where that stands: a
// correction that outlived its estimate would make room that is not there.
func (c *condition) correct(l *lease, tokens int64, now time.Time) {
	if s := &c.minute[l.second%60]; s.second == l.second && l.second > now.Unix()-60 {
		s.tokens += tokens - l.tokens
	} else if tokens > l.tokens {
		c.add(now, 0, tokens-l.tokens)
	}
}

func (c *condition) counts(now time.Time) (ok, failed int) {
	for i := range c.window {
		if c.window[i].second > now.Unix()-healthWindow {
			ok, failed = ok+c.window[i].ok, failed+c.window[i].failed
		}
	}
	return ok, failed
}

func (c *condition) slot(now time.Time) *tally {
	s := &c.window[now.Unix()%healthWindow]
	if s.second != now.Unix() {
		*s = tally{second: now.Unix()}
	}
	return s
}

// proven tells whether the deployment is known to work: retries there need no
// budget.
func (c *condition) proven(now time.Time) bool {
	ok, failed := c.counts(now)
	return c.streak == 0 && ok > 0 && float64(failed) < provenShare*float64(ok+failed)
}

// lease is one call of a deployment, from acquire to release.
type lease struct {
	deployment Deployment
	model      *Model
	// probe and resort say how it stood when it was chosen.
	probe, resort bool
	// tokens were counted in second, a Unix time.
	tokens, second int64
}

// ask is what a choice among one model's deployments needs to know.
type ask struct {
	candidate *Candidate
	// usable tells which deployments may be asked at all.
	usable func(*Deployment) bool
	order  []string
	random float64
	// least is the worst standing that will do.
	least standing
}

// acquire chooses a deployment and counts the call as running. Where none will
// do, it says why.
func (h *health) acquire(a *ask, now time.Time) (l *lease, proven bool, refused refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := a.candidate
	tokens := c.InputTokens + c.OutputTokens
	options := make([]option, 0, len(c.Model.Deployments))
	for i := range c.Model.Deployments {
		d := &c.Model.Deployments[i]
		if !d.Upstream.Callable || !a.usable(d) {
			continue
		}
		cond := h.of(d, now)
		o := option{deployment: *d, running: cond.running, ttft: cond.ttft, used: cond.share(d, now), cost: -1}
		price := c.Model.PriceAt(*d)
		if cost, err := price.Cost(Usage{Input: c.InputTokens, Output: c.OutputTokens}); err == nil {
			o.cost = cost
		}
		var wait time.Duration
		var own bool
		if o.standing, wait, own = cond.stands(d, tokens, now); o.standing < a.least {
			refused.join(refusal{count: 1, wait: wait, own: count(own), limited: count(!own && cond.reason == FailureRateLimit)})
			o.standing = shut
		}
		options = append(options, o)
	}
	i := choose(c.Model.Strategy, a.order, options, a.random)
	if i < 0 {
		return nil, false, refused
	}
	l = &lease{deployment: options[i].deployment, model: c.Model, probe: options[i].standing == due, resort: options[i].standing == resort, tokens: tokens, second: now.Unix()}
	cond := h.of(&l.deployment, now)
	cond.called = true
	cond.running++
	cond.probing = cond.probing || l.probe
	cond.add(now, 1, tokens)
	return l, cond.proven(now), refusal{}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// refusal sums up why no deployment could be called: own counts those at this
// server's limits, limited those at a provider's.
type refusal struct {
	count, own, limited int
	wait                time.Duration
}

func (r *refusal) join(other refusal) {
	r.count, r.own, r.limited = r.count+other.count, r.own+other.own, r.limited+other.limited
	if r.wait == 0 || (other.wait > 0 && other.wait < r.wait) {
		r.wait = other.wait
	}
}

// answered notes the first content: the deployment works.
func (h *health) answered(l *lease, ttft time.Duration, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.of(&l.deployment, now)
	if c.ttft == 0 {
		c.ttft = ttft
	} else {
		c.ttft += time.Duration(ttftShare * float64(ttft-c.ttft))
	}
	c.ttft = max(c.ttft, 1) // 0 means never seen
	c.recover(l)
}

// recover lets a deployment back in that has answered a probe, or as the last
// resort. The answer of a call that began before it was left out proves little.
func (c *condition) recover(l *lease) {
	c.streak = 0
	if l.probe || (l.resort && !c.hard) {
		c.until, c.times, c.reason, c.hard = time.Time{}, 0, 0, false
	}
	if l.probe {
		c.probing = false
	}
}

// release ends a call. kind is 0 where it answered in full; counts is false
// where the failure says nothing about the deployment.
func (h *health) release(l *lease, kind FailureKind, retryAfter time.Duration, counts bool, tokens int64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.of(&l.deployment, now)
	c.running--
	c.correct(l, tokens, now)
	if l.probe {
		c.probing = false
	}
	rule := ruleOf(kind)
	switch {
	case kind == 0:
		c.slot(now).ok++
		c.recover(l)
		return
	case !counts:
		return
	case rule.outage:
		c.slot(now).failed++
		c.streak++
	}
	retryAfter = min(retryAfter, maxRetryAfter)
	switch {
	case rule.lockout:
		c.leave(now, kind, max(grown(lockoutBase, lockoutMost, c.times), retryAfter), true)
	case rule.cools && (rule.cooldown > 0 || retryAfter > 0):
		wait := retryAfter
		if wait == 0 {
			wait = rule.cooldown
		}
		c.leave(now, kind, wait, true)
		c.times = 0
	case rule.outage && h.failing(c, l, now):
		c.leave(now, kind, grown(ejectBase, ejectMost, c.times), false)
	}
}

// leave leaves the deployment out; never for a shorter time than it already is.
func (c *condition) leave(now time.Time, kind FailureKind, d time.Duration, hard bool) {
	if !c.until.IsZero() && now.Before(c.until) && c.hard && !hard {
		return
	}
	if until := now.Add(d); until.After(c.until) {
		c.until = until
	}
	c.reason, c.hard = kind, hard
	c.times++
}

func grown(base, most time.Duration, times int) time.Duration {
	return min(base<<min(times, 10), most)
}

// failing tells whether outages leave the deployment out: never more than half
// of a model's. A model's only one may be, as it is still asked when no other
// model can answer.
func (h *health) failing(c *condition, l *lease, now time.Time) bool {
	if now.Before(c.until) {
		return false
	}
	ok, failed := c.counts(now)
	many := ok+failed >= windowCalls && float64(failed) >= windowShare*float64(ok+failed)
	if !l.probe && c.streak < ejectStreak && !many {
		return false
	}
	n, out := 0, 0
	for i := range l.model.Deployments {
		d := &l.model.Deployments[i]
		if !d.Upstream.Callable {
			continue
		}
		n++
		if other := h.of(d, now); other != c && !other.until.IsZero() && !other.hard {
			out++
		}
	}
	return n == 1 || 2*(out+1) <= n
}

// DeploymentHealth is what was seen of a deployment.
type DeploymentHealth struct {
	Deployment Deployment
	// Known is whether it was ever called.
	Known bool
	// Until is when it may be called again; zero when it may be now. Reason is
	// why it is left out.
	Until  time.Time
	Reason FailureKind
	// TTFT is a moving average of the time to the first content; 0 when never seen.
	TTFT time.Duration
	// Running counts calls; OK and Failed those that ended in the last 30 s,
	// where Failed counts what speaks against the deployment.
	Running, OK, Failed int
}

// Health tells what was seen of a model's deployments, in the card's order.
func (r *Router) Health(m *Model) []DeploymentHealth {
	now := r.cfg.Now()
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]DeploymentHealth, len(m.Deployments))
	for i, d := range m.Deployments {
		out[i].Deployment = d
		c, ok := h.byKey[keyOf(&d)]
		if !ok {
			continue
		}
		out[i].Known, out[i].TTFT, out[i].Running = c.called, c.ttft, c.running
		out[i].OK, out[i].Failed = c.counts(now)
		if !c.until.IsZero() && (now.Before(c.until) || c.reason != FailureRateLimit) {
			out[i].Until, out[i].Reason = c.until, c.reason
		}
	}
	return out
}
