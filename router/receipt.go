package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DecisionReceipt holds all that makes a decision anew: what was asked of
// Decide, the versions of everything that decided, and what it said. It holds
// names, counts, scores and figures, never a text. Its canonical form is its
// JSON as Receipt writes it: one spelling, so that a changed byte shows.
type DecisionReceipt struct {
	Version    int    `json:"version"`
	DecisionID string `json:"decision_id"`
	Time       string `json:"time"`
	Engine     string `json:"engine_version"`
	Bundle     string `json:"bundle_digest"`
	Config     string `json:"config_digest"`
	// Callable are the upstreams that had a key.
	Callable []string        `json:"callable_upstreams"`
	Demand   Demand          `json:"demand"`
	Decision ReceiptDecision `json:"decision"`
	// Digest is "sha256:…" of the JSON with an empty digest.
	Digest string `json:"digest"`
}

// ReceiptDecision is a decision as a receipt keeps it.
type ReceiptDecision struct {
	Model         string             `json:"model"`
	Provider      string             `json:"provider"`
	Reason        string             `json:"reason"`
	Policy        string             `json:"policy"`
	Rule          string             `json:"rule"`
	Best          float64            `json:"best_quality"`
	Needed        float64            `json:"needed_quality"`
	Need          Tier               `json:"needed_tier"`
	MinQualityMet bool               `json:"min_quality_met"`
	Limits        []Applied          `json:"limits"`
	Candidates    []ReceiptCandidate `json:"candidates"`
	Session       SessionUse         `json:"session"`
	Guarantee     Claim              `json:"guarantee"`
	Promise       string             `json:"promise"`
}

// ReceiptCandidate is one of the BestCandidates best of a decision.
type ReceiptCandidate struct {
	Model      string     `json:"model"`
	Quality    [3]float64 `json:"quality"` // value, low, high
	Unmeasured bool       `json:"unmeasured"`
	// CostKnown says whether the costs count, which are nano-dollars.
	CostKnown bool    `json:"cost_known"`
	Expected  NanoUSD `json:"expected_nano_usd"`
	P90       NanoUSD `json:"p90_nano_usd"`
	Bound     NanoUSD `json:"bound_nano_usd"`
	Input     int64   `json:"input_tokens"`
	Output    int64   `json:"output_tokens"`
	MaxOutput int64   `json:"max_output_tokens"`
	Rejection string  `json:"rejection"`
}

const receiptVersion = 1

// Receipt is the record's receipt in its canonical form, on one line.
func (r *Record) Receipt() ([]byte, error) {
	d := DecisionReceipt{
		Version: receiptVersion, DecisionID: r.ID, Time: r.Time.UTC().Format(time.RFC3339Nano),
		Engine: EngineVersion, Bundle: r.BundleDigest, Config: r.ConfigDigest, Callable: r.CallableUpstreams,
		Demand: r.Demand, Decision: receiptOf(&r.Decision, r.Provider),
	}
	// What the receipt keeps of a decision has no sentence of an explanation in it.
	d.Demand.Explain = false
	return d.seal()
}

// seal sets the digest and returns the canonical form.
func (d *DecisionReceipt) seal() ([]byte, error) {
	d.Digest = ""
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	sum := sha256.Sum256(raw)
	d.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return json.Marshal(d)
}

func receiptOf(d *Decision, provider string) ReceiptDecision {
	out := ReceiptDecision{
		Model: d.Chosen.Model.ID, Provider: provider, Reason: d.Reason.String(), Policy: d.Policy, Rule: d.Rule,
		Best: d.Best, Needed: d.Needed, Need: d.Need, MinQualityMet: d.MinQualityMet, Limits: d.Limits,
		Session: d.Session, Guarantee: d.Guarantee, Promise: d.Promise,
	}
	for i := range d.Ranked[:min(len(d.Ranked), BestCandidates)] {
		c := &d.Ranked[i]
		kept := ReceiptCandidate{
			Model: c.Model.ID, Quality: [3]float64{c.Quality.Value, c.Quality.Low, c.Quality.High}, Unmeasured: c.Unmeasured,
			CostKnown: c.PriceKnown, Input: c.InputTokens, Output: c.OutputTokens, MaxOutput: c.MaxOutput,
		}
		if c.PriceKnown {
			kept.Expected, kept.P90, kept.Bound = c.Expected, c.P90, c.Bound
		}
		if c.Rejection != 0 {
			kept.Rejection = c.Rejection.String()
		}
		out.Candidates = append(out.Candidates, kept)
	}
	return out
}

// ErrReceipt means that a text is no receipt, or not as it was written.
var ErrReceipt = errors.New("not a receipt as it was written")

// ReceiptCheck is what VerifyReceipt found. The receipt holds where Faults is
// empty.
type ReceiptCheck struct {
	Receipt DecisionReceipt
	// Faults says what differs, a line each.
	Faults []string
}

// VerifyReceipt makes a receipt's decision anew under a config and says what
// differs. It needs neither the bundle nor the prompt: the scores are in the
// receipt. source names the config in faults. Errors: ErrReceipt wrapped for a
// text that is no receipt or was changed, those of ParseConfig. A digest is no
// signature: it shows slips and clumsy changes; who can write a receipt can
// write another.
func VerifyReceipt(text, config []byte, source string) (*ReceiptCheck, error) {
	var check ReceiptCheck
	if err := readReceipt(text, &check.Receipt); err != nil {
		return nil, err
	}
	rules, err := ParseConfig(config, source, func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("verify receipt: %w", err)
	}
	d := &check.Receipt
	for _, u := range rules.Upstreams {
		u.Callable = slices.Contains(d.Callable, u.ID)
	}
	if d.Engine != EngineVersion {
		check.differ("engine_version", d.Engine, EngineVersion+" (use a program of the receipt's version)")
	}
	if d.Config != rules.Digest {
		check.differ("config_digest", d.Config, rules.Digest+" (is "+source+" the config that decided?)")
	}
	again, err := rules.Decide(d.Demand)
	if err != nil {
		check.Faults = append(check.Faults, "the decision cannot be made anew: "+err.Error())
		return &check, nil
	}
	provider := ""
	if dep, ok := d.Demand.Provider.FirstDeployment(again.Chosen.Model); ok {
		provider = dep.Upstream.ID
	}
	return &check, check.compare(receiptOf(&again, provider))
}

// readReceipt decodes a receipt strictly and holds it against its digest and
// its one spelling.
func readReceipt(text []byte, to *DecisionReceipt) error {
	text = bytes.TrimSpace(text)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return fmt.Errorf("verify receipt: %w: %w", ErrReceipt, err)
	}
	if to.Version != receiptVersion {
		return fmt.Errorf("verify receipt: %w: its version is %d, this program reads %d", ErrReceipt, to.Version, receiptVersion)
	}
	copied := *to
	sealed, err := copied.seal()
	if err != nil {
		return fmt.Errorf("verify receipt: %w: %w", ErrReceipt, err)
	}
	switch {
	case copied.Digest != to.Digest:
		return fmt.Errorf("verify receipt: %w: its digest is %s, its content has %s: it was changed after it was written", ErrReceipt, to.Digest, copied.Digest)
	case !bytes.Equal(sealed, text):
		return fmt.Errorf("verify receipt: %w: the content is whole, but spelled in another way: keep the line as the server gave it", ErrReceipt)
	}
	return nil
}

func (c *ReceiptCheck) differ(field, was, is string) {
	c.Faults = append(c.Faults, fmt.Sprintf("%s: the receipt says %s, now %s", field, was, is))
}

// compare lists the fields of the decision that differ, bit for bit.
func (c *ReceiptCheck) compare(again ReceiptDecision) error {
	fields := func(d ReceiptDecision) (map[string]json.RawMessage, error) {
		raw, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("verify receipt: %w", err)
		}
		var out map[string]json.RawMessage
		return out, json.Unmarshal(raw, &out)
	}
	was, err := fields(c.Receipt.Decision)
	if err != nil {
		return err
	}
	is, err := fields(again)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(was) {
		if !bytes.Equal(was[name], is[name]) {
			c.differ("decision."+name, strings.TrimSpace(string(was[name])), string(is[name]))
		}
	}
	return nil
}

func callableIDs(upstreams []*Upstream) []string {
	out := make([]string, 0, len(upstreams))
	for _, u := range upstreams {
		if u.Callable {
			out = append(out, u.ID)
		}
	}
	return out
}
