package swap

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weirhq/weir/eval"
)

// The gates, in the order in which they are held.
const (
	GateFolder    = "folder"    // it can be read, and holds plain files only
	GateSize      = "size"      // its files are within the bound
	GateManifest  = "manifest"  // the manifest keeps its schema
	GateDigests   = "digests"   // every file has the size and digest that the manifest says
	GateExternal  = "external"  // no graph keeps weights elsewhere
	GateGraph     = "graph"     // the graph's inputs, outputs, operators and opset
	GateTokenizer = "tokenizer" // the tokenizer is the one that the bundle was built with
	GateProbes    = "probes"    // golden probes give what they gave
	GateRange     = "range"     // every output is finite and every score within its range
	GateLoad      = "load"      // the first load neither crashed, hung nor ate the memory
	GateDamage    = "damage"    // a graph that is nearly the serving one's was retrained, not damaged
	GateLatency   = "latency"   // it is not much slower than what serves
	GateMemory    = "memory"    // nor much larger
	GateReplay    = "replay"    // nor decides otherwise on the same prompts
)

// GateNames lists the gates in their order.
func GateNames() []string {
	return []string{
		GateFolder, GateSize, GateManifest, GateDigests, GateExternal, GateGraph, GateTokenizer, GateProbes, GateRange, GateLoad,
		GateDamage, GateLatency, GateMemory, GateReplay,
	}
}

// Gate is what one check of a candidate said.
type Gate struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	// Detail says why, with figures; a refusal names the remedy.
	Detail string `json:"detail"`
}

// Report is an examination.
type Report struct {
	Version   int       `json:"version"`
	Time      time.Time `json:"time"`
	Candidate Identity  `json:"candidate"`
	Serving   Identity  `json:"serving"`
	Gates     []Gate    `json:"gates"`
	Speed     *Speed    `json:"speed,omitempty"`
	Size      *Size     `json:"size,omitempty"`
	Replay    *Replay   `json:"replay,omitempty"`
	// Pages are files beside the report.
	Pages []string `json:"pages,omitempty"`
}

// Speed is the time to score one prompt.
type Speed struct {
	Prompts int `json:"prompts"`
	// Serving and Candidate are the medians of the whole bundle, Ratio the median
	// over the prompts of candidate by serving, P99 the candidate's slowest in a
	// hundred.
	Serving   time.Duration `json:"serving_median_ns"`
	Candidate time.Duration `json:"candidate_median_ns"`
	P99       time.Duration `json:"candidate_p99_ns"`
	Ratio     float64       `json:"ratio"`
	// The means say what the bundle costs to run.
	MeanServing   time.Duration `json:"serving_mean_ns"`
	MeanCandidate time.Duration `json:"candidate_mean_ns"`
	// Lanes are the candidate's, each by itself.
	Lanes []LaneSpeed `json:"lanes"`
}

// LaneSpeed is the median time of one lane, asked by itself. Serving and Ratio are
// zero where only the candidate has that lane.
type LaneSpeed struct {
	Lane      string        `json:"lane"`
	Serving   time.Duration `json:"serving_median_ns,omitempty"`
	Candidate time.Duration `json:"candidate_median_ns"`
	Ratio     float64       `json:"ratio,omitempty"`
}

// Size is what an opened bundle adds to the process's memory.
type Size struct {
	Serving   int64 `json:"serving_bytes"`
	Candidate int64 `json:"candidate_bytes"`
}

// Replay is what the same prompts become under both bundles.
type Replay struct {
	Prompts int `json:"prompts"`
	// Captured of them are prompts of this server's callers.
	Captured int    `json:"captured"`
	Policy   string `json:"policy"`
	// Tiers name rows and columns of Flips: Flips[i][j] prompts go from tier i
	// under the serving bundle to tier j under the candidate.
	Tiers []string `json:"tiers"`
	Flips [][]int  `json:"flips"`
	// Flipped is the share of prompts off the diagonal; Strong the share above
	// the cheapest tier.
	Flipped         float64 `json:"flipped"`
	StrongServing   float64 `json:"strong_serving"`
	StrongCandidate float64 `json:"strong_candidate"`
	// Agreement is the rank correlation of the gains.
	Agreement float64 `json:"agreement"`
	// Cost is the change of the expected cost by the catalog's prices, relative;
	// null where the catalog has no prices.
	Cost eval.Interval `json:"cost_change"`
	// Sets hold the same by recorded outcomes.
	Sets []*eval.Comparison `json:"sets,omitempty"`
}

// Passed tells whether no gate refused.
func (r *Report) Passed() bool { return len(r.Failed()) == 0 && len(r.Gates) > 0 }

// Failed are the gates that refused.
func (r *Report) Failed() []Gate {
	var out []Gate
	for _, g := range r.Gates {
		if !g.Passed {
			out = append(out, g)
		}
	}
	return out
}

func (r *Report) pass(gate, format string, args ...any) {
	r.Gates = append(r.Gates, Gate{Name: gate, Passed: true, Detail: fmt.Sprintf(format, args...)})
}

func (r *Report) refuse(gate, format string, args ...any) {
	r.Gates = append(r.Gates, Gate{Name: gate, Detail: fmt.Sprintf(format, args...)})
}

// Write puts report.json and index.html into a folder.
func (r *Report) Write(dir string) error {
	_, err := r.write(dir)
	return err
}

// write puts report.json and the page for people into dir, and returns the page.
func (r *Report) write(dir string) (page string, err error) {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(raw, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("write report: %w", err)
	}
	page = filepath.Join(dir, "index.html")
	f, err := os.OpenFile(page, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(r.writeHTML(f), f.Close()); err != nil {
		return "", fmt.Errorf("write report: %w", err)
	}
	return page, nil
}
