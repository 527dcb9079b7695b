package eval

import (
	"encoding/json"
	"math"
)

// Interval is a figure with its 95 % percentile interval from the paired
// bootstrap. Value is what the set itself gives, not a mean of resamples. NaN
// means that the figure does not exist here; it is null in JSON.
type Interval struct {
	Value, Lo, Hi float64
}

type intervalJSON struct {
	Value *float64 `json:"value"`
	Lo    *float64 `json:"lo"`
	Hi    *float64 `json:"hi"`
}

// MarshalJSON writes {"value", "lo", "hi"} with null for what is not a number.
func (i Interval) MarshalJSON() ([]byte, error) {
	return json.Marshal(intervalJSON{finite(i.Value), finite(i.Lo), finite(i.Hi)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (i *Interval) UnmarshalJSON(raw []byte) error {
	var j intervalJSON
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	*i = Interval{orNaN(j.Value), orNaN(j.Lo), orNaN(j.Hi)}
	return nil
}

// Known tells whether the figure exists.
func (i Interval) Known() bool { return !math.IsNaN(i.Value) && !math.IsInf(i.Value, 0) }

// Above tells whether the whole interval lies above x.
func (i Interval) Above(x float64) bool { return i.Known() && i.Lo > x }

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// Report is the answer of Run, and the document that `weir eval run --json`
// writes. Fields may be added; none is renamed or given another unit without a
// new Version.
type Report struct {
	// Version of the schema: 1.
	Version  int      `json:"version"`
	Sets     []Result `json:"sets"`
	Manifest Manifest `json:"manifest"`
	// Routing is what the routing itself took; nil when it was not timed.
	Routing *Routing `json:"routing,omitempty"`
}

// Routing is what it took to score: time, and money at the price of a core. It
// is measured on the machine and at the load of the run, so it is the one part
// of a report that another run does not repeat. A call waits for a core while
// all are busy, and that counts: the figures are from above.
type Routing struct {
	// Scored is how many prompts were scored; the cache's are not among them.
	Scored int64 `json:"scored"`
	// MeanMS is the mean time to score a prompt, in milliseconds.
	MeanMS float64 `json:"mean_ms"`
	// CoreHourUSD is what an hour of one core was taken to cost.
	CoreHourUSD float64 `json:"core_hour_usd"`
	// USDPerMillion is what scoring a million prompts costs at that price.
	USDPerMillion float64 `json:"usd_per_million_prompts"`
}

// Manifest says what a report was made of, so that another can be held beside it.
type Manifest struct {
	// Binary is "sha256:" and the digest of the program file; Version its version.
	Binary  string `json:"binary"`
	Version string `json:"version"`
	// Bundle is the classifier's digest, BundleName its name and version.
	Bundle     string `json:"bundle"`
	BundleName string `json:"bundle_name"`
	// Config is the digest of the routing config whose policy was replayed.
	Config string `json:"config"`
	Policy string `json:"policy"`
	// Sets holds "sha256:" digests of the cases as read, by set name.
	Sets map[string]string `json:"sets"`
	// Seed and Bootstrap are the seed and the number of resamples.
	Seed      uint64 `json:"seed"`
	Bootstrap int    `json:"bootstrap"`
}

// Flag is a warning that belongs beside the figures.
type Flag struct {
	// Code is one of the Flag constants.
	Code string `json:"code"`
	// Detail says it in a sentence.
	Detail string `json:"detail"`
}

// The codes of flags.
const (
	// FlagNoSkill: the ranking by gain does not beat both random and prompt
	// length: the interval of a paired difference of APGR reaches 0 or below.
	FlagNoSkill = "NO_SKILL"
	// FlagGap: strong minus weak is not above 0 with its whole interval, so PGR,
	// APGR and CPT mean nothing and are not given.
	FlagGap = "GAP_NOT_POSITIVE"
	// FlagSmallGap: strong minus weak is under .10, so PGR is noisy.
	FlagSmallGap = "SMALL_GAP"
	// FlagNonMonotone: the 11-point curve goes down somewhere, so that the
	// interpolated CPT is one of several crossings. See Result.CPTTrue.
	FlagNonMonotone = "NON_MONOTONE"
	// FlagTiedEdges: scores tie at quantile edges; RouteLLM's code would refuse
	// this set, and the shares are not the tenths.
	FlagTiedEdges = "TIED_EDGES"
	// FlagTrainRows: rows of the train split were measured.
	FlagTrainRows = "TRAIN_ROWS"
	// FlagDropped: rows without an outcome of both models were left out.
	FlagDropped = "DROPPED_ROWS"
	// FlagUnscored: some prompts could not be scored.
	FlagUnscored = "UNSCORED"
	// FlagCollapsed: the policy sends nearly everything (99 %) to one model.
	FlagCollapsed = "COLLAPSED"
	// FlagNotional: costs are notional prices a call, not recorded money.
	FlagNotional = "NOTIONAL_COST"
	// FlagSmall: fewer than 200 cases.
	FlagSmall = "SMALL_SET"
	// FlagNote: the source itself warns of something, such as a few-shot prefix.
	FlagNote = "SOURCE_NOTE"
)

// Result is what one set says.
type Result struct {
	Name string `json:"name"`
	// N is the number of cases measured.
	N int `json:"n"`
	// Weak and Strong are the two models' mean outcomes, 0 to 1.
	Weak        float64 `json:"weak"`
	Strong      float64 `json:"strong"`
	WeakModel   string  `json:"weak_model"`
	StrongModel string  `json:"strong_model"`
	// Gap is Strong - Weak.
	Gap Interval `json:"gap"`
	// Left says what was read and not measured.
	Left Left `json:"left_out"`
	// CommitDigest binds every strategy's choices before outcomes were opened:
	// SHA-256 over id and choice, by strategy.
	CommitDigest map[string]string `json:"commit_digest"`

	// APGR ranks by gain, by RouteLLM's code: 11 thresholds at the 0, 10, ... 100 %
	// quantiles of the scores (linear interpolation), strong at or above the
	// threshold (above, for the last), trapezoid over the achieved shares. 0.5
	// is random; 1 is not the ceiling.
	APGR Interval `json:"apgr"`
	// CPT by q in percent ("20", "50", "80"): the share of strong calls in
	// percent at PGR q, interpolated on the 11 points as numpy.interp does
	// (RouteLLM's code), which is one of several crossings where the curve is
	// not monotone.
	CPT map[string]Interval `json:"cpt"`
	// CostSaved and QualityKept are of the replayed policy: 1 - cost/cost of
	// always strong, and quality/quality of always strong.
	CostSaved   Interval `json:"cost_saved"`
	QualityKept Interval `json:"quality_kept"`
	// CostSavedNet is CostSaved after paying for the routing itself; null where
	// costs are not recorded money, or routing was not timed.
	CostSavedNet Interval `json:"cost_saved_net"`
	// Baselines by name; see the Baseline constants.
	Baselines map[string]Baseline `json:"baselines"`
	Flags     []Flag              `json:"flags"`

	// APGRExact is the area with a threshold at every score, ties joined by a
	// straight line: what the 11 points approximate.
	APGRExact Interval `json:"apgr_exact"`
	// CPTTrue is the least share in percent at which PGR reaches q, over every
	// threshold (the paper's definition).
	CPTTrue map[string]Interval `json:"cpt_true"`
	// Monotone is whether the 11-point curve never goes down.
	Monotone bool `json:"monotone"`
	// APGROverRandom and APGROverLength are the paired differences of APGR to
	// random (its expectation, .5) and to prompt length.
	APGROverRandom Interval `json:"apgr_over_random"`
	APGROverLength Interval `json:"apgr_over_length"`
	// Skill is false when NO_SKILL is raised.
	Skill bool `json:"skill"`
	// Curve holds the 11 points from 0 % to 100 % strong.
	Curve []Point `json:"curve"`
	// Policy is the replayed policy as one point.
	Policy PolicyPoint `json:"policy"`
	// Costs says how calls were priced.
	Costs Costs `json:"costs"`
	// Savings holds the three definitions side by side at 90, 95 and 99 % of
	// always-strong quality, thresholds read off this very set.
	Savings []Saving `json:"savings"`
	// AIQPaper is RouterBench's (paper): the area under the non-decreasing convex
	// hull of (cost, quality), divided by the range of cost. AIQCode is what its
	// code computes: hull at the router's own points from its least cost, divided
	// by the greatest cost.
	AIQPaper Interval `json:"aiq_paper"`
	AIQCode  Interval `json:"aiq_code"`
	// PerfGain is the best quality on the curve over the best single model minus 1;
	// CostSave the largest saving against the best single model at no less quality
	// (null when never reached). LLMRouterBench; both chosen on this set.
	PerfGain Interval `json:"perf_gain"`
	CostSave Interval `json:"cost_save"`
	// AlphaSweep is Decide with alpha 0, .05, ... 1 in place of the policy's limits.
	AlphaSweep []AlphaPoint `json:"alpha_sweep"`
	// Calibration of q_efficient against the weak model's outcomes, and of q_high
	// against the strong one's.
	CalibrationEfficient Calibration `json:"calibration_efficient"`
	CalibrationHigh      Calibration `json:"calibration_high"`
	// Frozen is the realised share at thresholds taken from other data; empty
	// when no calibration set was given.
	Frozen []FrozenPoint `json:"frozen"`
	// Domains is a row a domain, most cases first.
	Domains []DomainRow `json:"domains"`
	// Singles are all models of the set, best first.
	Singles []Single `json:"singles"`
	// Notes of the source, each once.
	Notes []string `json:"notes,omitempty"`
}

// Left counts what was read and not measured.
type Left struct {
	// Overlap rows repeat held-out questions; Split rows are of a split not asked for.
	Overlap int `json:"overlap"`
	Split   int `json:"split"`
	// Missing rows lack an outcome of one of the two models.
	Missing int `json:"missing"`
	// Train counts measured rows of the train split, Unscored measured rows that
	// the classifier could not score.
	Train    int `json:"train_measured"`
	Unscored int `json:"unscored_measured"`
}

// The names of baselines in Result.Baselines.
const (
	// One seeded order; its point is at the policy's share.
	BaselineRandom = "random"
	// Longer prompts first, in characters; its point is at the policy's share.
	BaselineLength       = "length"
	BaselineAlwaysStrong = "always_strong"
	BaselineAlwaysWeak   = "always_weak"
	// The better of the two models on the whole set.
	BaselineBestSingle = "best_single"
	// A mix along the hull of the two models, at the policy's cost (RouterBench).
	BaselineZero = "zero_router"
	// Its ranking: domains by the gap that the other half of the set shows, ties
	// at random. Its point: each domain's better model, on the whole set.
	BaselineDomain = "domain_oracle"
	// Its ranking: by strong minus weak. Its point: each prompt's better model,
	// the cheaper of equals.
	BaselineOracle = "oracle"
)

// Baseline is a reference strategy.
type Baseline struct {
	// APGR by the 11 points; null for what is no ranking.
	APGR Interval `json:"apgr"`
	// CPT as Result.CPT; empty for what is no ranking.
	CPT map[string]Interval `json:"cpt,omitempty"`
	// Share, Quality, CostSaved, QualityKept: at one point. For rankings, the
	// policy's share on this set.
	Share       Interval `json:"share"`
	Quality     Interval `json:"quality"`
	CostSaved   Interval `json:"cost_saved"`
	QualityKept Interval `json:"quality_kept"`
	// UsesOutcomes marks what no router can know.
	UsesOutcomes bool `json:"uses_outcomes"`
	// Curve holds the 11 points; empty for what is no ranking.
	Curve []Point `json:"curve,omitempty"`
}

// Point is a point of a curve.
type Point struct {
	// Threshold on the score; calls at or above it go to the strong model. Null at
	// the ends where it does not matter is never used: it is always a number.
	Threshold float64 `json:"threshold"`
	// Share of strong calls, 0 to 1.
	Share float64 `json:"share"`
	// Quality is the mean outcome, CostSaved against always strong.
	Quality   Interval `json:"quality"`
	CostSaved Interval `json:"cost_saved"`
}

// PolicyPoint is the replayed policy.
type PolicyPoint struct {
	Share   Interval `json:"share"`
	Quality Interval `json:"quality"`
	PGR     Interval `json:"pgr"`
	// CostUSD per 1,000 calls; null where costs are not recorded money.
	CostPer1K Interval `json:"cost_usd_per_1000"`
	// RegretToOracle is the oracle's mean outcome minus the policy's.
	RegretToOracle Interval `json:"regret_to_oracle"`
	// Arena is RouterArena's score, b = .1, 0 to 1; null where costs are not
	// recorded money.
	Arena Interval `json:"arena"`
	// Entropy of the call rates in bits: 0 is one model only, 1 an even split.
	Entropy Interval `json:"entropy_bits"`
	// Savings by the three definitions at the policy's point.
	Savings Saving `json:"savings"`
}

// Costs says how calls were priced.
type Costs struct {
	// Basis is "recorded" (money of each call, from the set) or "notional" (a
	// price a call for each of the two models, all calls alike).
	Basis string `json:"basis"`
	// WeakUSD and StrongUSD are the mean cost of a call ("recorded") or the
	// price for a million tokens ("notional").
	WeakUSD   float64 `json:"weak_usd"`
	StrongUSD float64 `json:"strong_usd"`
}

// Saving is what is saved at one level of quality, by three definitions that
// the literature mixes.
type Saving struct {
	// QualityKept is the level, as a share of always-strong quality; Reached is
	// false where no threshold reaches it (then the rest is null).
	QualityKept float64 `json:"quality_kept"`
	Reached     bool    `json:"reached"`
	// Share of strong calls at that level.
	Share Interval `json:"share"`
	// OverStrong is money saved against always strong: 1 - cost/cost(strong).
	OverStrong Interval `json:"over_strong"`
	// OverRandom is how many times fewer strong calls than random needs for the
	// same quality (RouteLLM's Table 6).
	OverRandom Interval `json:"over_random_factor"`
	// ByCalls is the share of calls that did not go to the strong model.
	ByCalls Interval `json:"by_calls"`
}

// AlphaPoint is a point of the alpha sweep.
type AlphaPoint struct {
	Alpha     float64  `json:"alpha"`
	Share     Interval `json:"share"`
	Quality   Interval `json:"quality"`
	CostSaved Interval `json:"cost_saved"`
}

// Calibration holds a predicted probability against what happened.
type Calibration struct {
	// ECE is the expected calibration error over ten equal bins: the mean of
	// |mean predicted - mean observed|, weighted by the bins' counts. Its
	// bootstrap interval is biased upward for small sets.
	ECE Interval `json:"ece"`
	// Bins are the reliability diagram; empty bins are left out.
	Bins []Bin `json:"bins"`
}

// Bin is one bar of a reliability diagram.
type Bin struct {
	Low       float64  `json:"low"`
	High      float64  `json:"high"`
	N         int      `json:"n"`
	Predicted float64  `json:"predicted"`
	Observed  Interval `json:"observed"`
}

// FrozenPoint is a threshold that other data chose, held against this set.
type FrozenPoint struct {
	// TargetShare is the share that the threshold gives on the calibration data.
	TargetShare float64  `json:"target_share"`
	Threshold   float64  `json:"threshold"`
	Share       Interval `json:"share"`
	Quality     Interval `json:"quality"`
	CostSaved   Interval `json:"cost_saved"`
	QualityKept Interval `json:"quality_kept"`
}

// DomainRow is one domain of a set, under the set's own label, or the
// classifier's likeliest domain where the set has none.
type DomainRow struct {
	Domain string  `json:"domain"`
	N      int     `json:"n"`
	Weak   float64 `json:"weak"`
	Strong float64 `json:"strong"`
	// APGR within the domain by gain; null under 50 cases or without a gap.
	APGR        Interval `json:"apgr"`
	Share       Interval `json:"share"`
	Quality     Interval `json:"quality"`
	CostSaved   Interval `json:"cost_saved"`
	QualityKept Interval `json:"quality_kept"`
}

// Single is one model of the set on its own.
type Single struct {
	Model string `json:"model"`
	// N is on how many measured cases it has an outcome.
	N       int     `json:"n"`
	Quality float64 `json:"quality"`
	// CostPer1K in dollars; null (NaN) when not recorded on all of them.
	CostPer1K Interval `json:"cost_usd_per_1000"`
}
