package onnx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"github.com/weirhq/weir/classifier"
)

// minProbes is how many golden probes a bundle has at least.
const minProbes = 8

// probeFile is probes.json.
type probeFile struct {
	Probes []probe `json:"probes" want:"required"`
}

// probe is a text with what a lane made of it when the bundle was built.
type probe struct {
	Text  string               `json:"text" want:"required"`
	Lanes map[string]probeLane `json:"lanes" want:"required"`
}

type probeLane struct {
	IDs     []int64             `json:"ids" want:"required"`
	Outputs map[string]recorded `json:"outputs" want:"required"`
}

// recorded is a number or a list of numbers.
type recorded []float64

// UnmarshalJSON reads either form.
func (r *recorded) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, (*[]float64)(r)); err == nil {
		return nil
	}
	var v float64
	if err := json.Unmarshal(data, &v); err != nil {
		return errors.New("want a number or a list of numbers")
	}
	*r = recorded{v}
	return nil
}

// check holds probes against the manifest: enough of them, each with every lane, and
// in it every output that the lane has and no other.
func (p *probeFile) check(m *Manifest) error {
	var faults faults
	if len(p.Probes) < minProbes {
		faults.add("holds %d probes, want at least %d", len(p.Probes), minProbes)
	}
	for i, probe := range p.Probes {
		if _, err := classifier.Clean(probe.Text); err != nil {
			faults.add("probes[%d].text: %w", i, err)
		}
		for _, l := range m.lanes() {
			path := fmt.Sprintf("probes[%d].lanes.%s", i, l.name)
			want, ok := probe.Lanes[l.name]
			if !ok {
				faults.add("%s is missing: record it", path)
				continue
			}
			var names []string
			for _, kind := range l.lane.Outputs.given() {
				names = append(names, outputNames()[kind])
			}
			slices.Sort(names)
			if got := slices.Sorted(maps.Keys(want.Outputs)); !slices.Equal(got, names) {
				faults.add("%s.outputs has %s, want what the manifest names: %s", path, strings.Join(got, ", "), strings.Join(names, ", "))
			}
		}
	}
	return errors.Join(faults...)
}

// prove runs every probe through the lane as prompts are, and compares.
func (l *lane) prove(ctx context.Context, probes []probe) error {
	tolerance := l.scorer.lane.tolerance(cpuFamily())
	var faults faults
	for i, p := range probes {
		want := p.Lanes[l.scorer.name]
		enc, got, err := l.runText(ctx, p.Text)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil:
			faults.add("probe %d, lane %s: %w", i, l.scorer.name, err)
		default:
			if err := compare(want, enc, got, l.scorer.lane, tolerance); err != nil {
				faults.add("probe %d, lane %s: %w", i, l.scorer.name, err)
			}
		}
	}
	return errors.Join(faults...)
}

// runText is what Bundle.Classify does to a text before calibration.
func (l *lane) runText(ctx context.Context, text string) (encoded, raw, error) {
	text, err := classifier.Clean(text)
	if err != nil {
		return encoded{}, raw{}, err
	}
	shape := classifier.Shape(text)
	return l.run(ctx, text, shape[:])
}

func compare(want probeLane, enc encoded, got raw, lane *Lane, tolerance float64) error {
	if !slices.Equal(want.IDs, enc.ids) {
		at := 0
		for at < min(len(want.IDs), len(enc.ids)) && want.IDs[at] == enc.ids[at] {
			at++
		}
		return fmt.Errorf("the tokenizer gives %d ids, other than the %d recorded ones from place %d on: "+
			"%s is not the tokenizer that the bundle was built with", len(enc.ids), len(want.IDs), at, lane.Tokenizer)
	}
	var faults faults
	for _, kind := range lane.Outputs.given() {
		name := outputNames()[kind]
		values := []float64{got.value[kind]}
		if kind == outDomain {
			values = values[:0]
			for _, v := range got.domain {
				values = append(values, float64(v))
			}
		}
		if len(values) != len(want.Outputs[name]) {
			faults.add("%s has %d values, recorded are %d", name, len(values), len(want.Outputs[name]))
			continue
		}
		for i, v := range values {
			if gap := math.Abs(v - want.Outputs[name][i]); !(gap <= tolerance) {
				faults.add("%s is %v, recorded is %v: they differ by %.3g, allowed are %v (CPU family %s): "+
					"%s is not the graph that the bundle was built with", name, v, want.Outputs[name][i], gap, tolerance, cpuFamily(), lane.Graph)
				break
			}
		}
	}
	return errors.Join(faults...)
}

// tolerance is the most specific one for a CPU family: its own, its GOARCH's, the default.
func (l *Lane) tolerance(family string) float64 {
	arch, _, _ := strings.Cut(family, "+")
	for _, key := range []string{family, arch} {
		if v, ok := l.Tolerance[key]; ok {
			return v
		}
	}
	return l.Tolerance["default"]
}

// cpuFamilies are the keys that a tolerance may have.
func cpuFamilies() []string {
	return []string{"default", "amd64", "amd64+avx2", "amd64+avx512vnni", "arm64"}
}

// cpuFamily names what decides how int8 is multiplied here.
func cpuFamily() string {
	switch {
	case runtime.GOARCH == "amd64" && cpu.X86.HasAVX512VNNI:
		return "amd64+avx512vnni"
	case runtime.GOARCH == "amd64" && cpu.X86.HasAVX2:
		return "amd64+avx2"
	}
	return runtime.GOARCH
}
