package swap

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Policy says what a candidate has to keep to before it is published, and for how
// long and within what it is watched afterwards. A policy file is YAML of the same
// shape, read over DefaultPolicy; see docs/swap.md.
type Policy struct {
	// Version of the format: 1.
	Version int `yaml:"version" json:"version"`
	// MaxBytes bounds the files of a bundle together.
	MaxBytes int64 `yaml:"max_bytes" json:"max_bytes"`
	// Timeout bounds an examination; MaxMemoryBytes is the address space that the
	// child process gets for it, 0 for no bound.
	Timeout        time.Duration `yaml:"timeout" json:"timeout"`
	MaxMemoryBytes int64         `yaml:"max_memory_bytes" json:"max_memory_bytes"`
	// Priority of the child process: PriorityIdle or PriorityLow.
	Priority string        `yaml:"priority" json:"priority"`
	Latency  LatencyPolicy `yaml:"latency" json:"latency"`
	Memory   MemoryPolicy  `yaml:"memory" json:"memory"`
	Replay   ReplayPolicy  `yaml:"replay" json:"replay"`
	Settle   SettlePolicy  `yaml:"settle" json:"settle"`
}

// LatencyPolicy bounds the time to score a prompt, measured in one process with
// the serving bundle, in turns.
type LatencyPolicy struct {
	// MaxRatio is how many times as long a lane may take as the serving bundle's lane
	// of that name, at the median over the prompts.
	MaxRatio float64 `yaml:"max_ratio" json:"max_ratio"`
	// NewLane bounds the median of a lane that the serving bundle does not have: it
	// is added for being slower and better, and has nothing to be compared with.
	NewLane time.Duration `yaml:"new_lane" json:"new_lane"`
	// MaxP99 bounds the slowest prompt in a hundred, whichever lanes answer.
	MaxP99 time.Duration `yaml:"max_p99" json:"max_p99"`
}

// MemoryPolicy bounds what an opened bundle adds to the process.
type MemoryPolicy struct {
	// MaxRatio is how many times the serving bundle's memory the candidate's may
	// be. AllowBytes is always allowed, so that a small bundle may grow by a lane.
	MaxRatio   float64 `yaml:"max_ratio" json:"max_ratio"`
	AllowBytes int64   `yaml:"allow_bytes" json:"allow_bytes"`
}

// ReplayPolicy bounds how the decisions may change when the same prompts are
// decided on the scores of both bundles.
type ReplayPolicy struct {
	// Sets are replayed: weir-local for the shipped one, or KIND:PATH. Without
	// sets and captured prompts there is no replay.
	Sets []string `yaml:"sets" json:"sets"`
	// Weak and Strong name the pair for sets that define none.
	Weak   string `yaml:"weak" json:"weak"`
	Strong string `yaml:"strong" json:"strong"`
	// MinPrompts is how many prompts a replay has at least.
	MinPrompts int `yaml:"min_prompts" json:"min_prompts"`
	// MinAgreement is the least rank correlation of the two bundles' gains, -1 to
	// 1: the guard against swapped labels and another model's weights.
	MinAgreement float64 `yaml:"min_agreement" json:"min_agreement"`
	// MaxFlips is the largest share of prompts that change their tier.
	MaxFlips float64 `yaml:"max_flips" json:"max_flips"`
	// MinStrong and MaxStrong bound the share of prompts above the cheapest tier:
	// the guard against a model that always says the same. A candidate outside is
	// let through only where the serving bundle's share is equal.
	MinStrong float64 `yaml:"min_strong" json:"min_strong"`
	MaxStrong float64 `yaml:"max_strong" json:"max_strong"`
	// MaxCostIncrease bounds the upper end of the interval of the relative change
	// of projected cost; MaxQualityLoss the lower end of that of mean quality,
	// both by outcomes recorded in the sets.
	MaxCostIncrease float64 `yaml:"max_cost_increase" json:"max_cost_increase"`
	MaxQualityLoss  float64 `yaml:"max_quality_loss" json:"max_quality_loss"`
	// Bootstrap is the number of resamples behind every interval.
	Bootstrap int `yaml:"bootstrap" json:"bootstrap"`
}

// SettlePolicy says how long a promoted bundle is watched, and what makes the
// manager go back. Shares are compared with those of the bundle before.
type SettlePolicy struct {
	// For is how long; 0 not at all, so that the bundle before is let go at once.
	For time.Duration `yaml:"for" json:"for"`
	// MinRequests are seen before anything is judged.
	MinRequests int `yaml:"min_requests" json:"min_requests"`
	// MaxFailures is by how much the share of prompts that could not be scored may
	// exceed the bundle's before.
	MaxFailures float64 `yaml:"max_failures" json:"max_failures"`
	// MaxLatencyRatio is how many times a lane's median time to score may be, once
	// that is above MinLatency. Prompts whose scores were kept do not count.
	MaxLatencyRatio float64       `yaml:"max_latency_ratio" json:"max_latency_ratio"`
	MinLatency      time.Duration `yaml:"min_latency" json:"min_latency"`
	// MaxNewLane bounds the median of a lane that the bundle before does not have.
	MaxNewLane time.Duration `yaml:"max_new_lane" json:"max_new_lane"`
	// MaxTierChange is by how much the share above the cheapest tier may differ,
	// beyond chance.
	MaxTierChange float64 `yaml:"max_tier_change" json:"max_tier_change"`
}

// How the examining process stands back behind what serves.
const (
	// PriorityIdle runs only where a core has nothing else to do, so that callers
	// notice least. Where cores never rest, it takes long.
	PriorityIdle = "idle"
	// PriorityLow is the lowest ordinary one: a few hundredths of a busy core.
	PriorityLow = "low"
)

// ShippedSet is the name in ReplayPolicy.Sets of the set that is built in.
const ShippedSet = "weir-local"

// DefaultPolicy lets a retrained model of the same kind through, and refuses one
// that decides otherwise, is slow or large, or says nothing.
func DefaultPolicy() Policy {
	return Policy{
		Version: 1, MaxBytes: 2 << 30, Timeout: 5 * time.Minute, MaxMemoryBytes: 16 << 30, Priority: PriorityIdle,
		Latency: LatencyPolicy{MaxRatio: 3, NewLane: 20 * time.Millisecond, MaxP99: 100 * time.Millisecond},
		Memory:  MemoryPolicy{MaxRatio: 2, AllowBytes: 128 << 20},
		Replay: ReplayPolicy{
			Sets: []string{ShippedSet}, MinPrompts: 100, MinAgreement: 0.5, MaxFlips: 0.35, MinStrong: 0.01, MaxStrong: 0.95,
			MaxCostIncrease: 0.25, MaxQualityLoss: 0.05, Bootstrap: 1000,
		},
		Settle: SettlePolicy{
			For: 10 * time.Minute, MinRequests: 200, MaxFailures: 0.02, MaxLatencyRatio: 4, MinLatency: time.Millisecond, MaxNewLane: 50 * time.Millisecond,
			MaxTierChange: 0.25,
		},
	}
}

// Validate reports everything that is wrong with the policy, by field.
func (p *Policy) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("gate policy: "+format, args...))
	}
	if p.Version != 1 {
		fault("version is %d: this program reads version 1", p.Version)
	}
	number := func(name string, v, least, most float64) {
		if !(v >= least && v <= most) {
			fault("%s is %v: give a number of %g to %g", name, v, least, most)
		}
	}
	number("max_bytes", float64(p.MaxBytes), 1, 1<<40)
	number("timeout", p.Timeout.Seconds(), 1, 3600)
	number("max_memory_bytes", float64(p.MaxMemoryBytes), 0, 1<<50)
	if p.Priority != PriorityIdle && p.Priority != PriorityLow {
		fault("priority is %q: give %s or %s", p.Priority, PriorityIdle, PriorityLow)
	}
	number("latency.max_ratio", p.Latency.MaxRatio, 1, 1e6)
	number("latency.new_lane", p.Latency.NewLane.Seconds(), 0, 3600)
	number("latency.max_p99", p.Latency.MaxP99.Seconds(), 1e-6, 3600)
	number("memory.max_ratio", p.Memory.MaxRatio, 1, 1e6)
	number("memory.allow_bytes", float64(p.Memory.AllowBytes), 0, 1<<50)
	r, s := &p.Replay, &p.Settle
	if (r.Weak == "") != (r.Strong == "") {
		fault("replay has weak %q and strong %q: give both or neither", r.Weak, r.Strong)
	}
	number("replay.min_prompts", float64(r.MinPrompts), 2, 1e9)
	number("replay.min_agreement", r.MinAgreement, -1, 1)
	number("replay.max_flips", r.MaxFlips, 0, 1)
	number("replay.min_strong", r.MinStrong, 0, 1)
	number("replay.max_strong", r.MaxStrong, r.MinStrong, 1)
	number("replay.max_cost_increase", r.MaxCostIncrease, 0, 1e6)
	number("replay.max_quality_loss", r.MaxQualityLoss, 0, 1)
	number("replay.bootstrap", float64(r.Bootstrap), 100, 1e6)
	number("settle.for", s.For.Seconds(), 0, 7*24*3600)
	number("settle.min_requests", float64(s.MinRequests), 1, 1e9)
	number("settle.max_failures", s.MaxFailures, 0, 1)
	number("settle.max_latency_ratio", s.MaxLatencyRatio, 1, 1e6)
	number("settle.min_latency", s.MinLatency.Seconds(), 0, math.MaxInt32)
	number("settle.max_new_lane", s.MaxNewLane.Seconds(), 1e-6, 3600)
	number("settle.max_tier_change", s.MaxTierChange, 0, 1)
	return errors.Join(errs...)
}
