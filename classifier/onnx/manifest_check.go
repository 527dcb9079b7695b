package onnx

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirhq/weir/classifier"
)

// The version of the contract, and the bounds that keep a manifest's mistake from
// becoming a slow or dead service.
const (
	schemaVersion   = 1
	maxWindowTokens = 8192
	maxWindowBytes  = 64 << 10
	maxTolerance    = 0.1
	maxFileBytes    = math.MaxInt32 // a protobuf cannot be larger
)

// check reports everything that is wrong with the manifest by itself.
func (m *Manifest) check() error {
	var faults faults
	if m.Schema != schemaVersion {
		faults.add("schema is %d, want %d: this build reads no other contract", m.Schema, schemaVersion)
	}
	faults.notEmpty("name", m.Name)
	faults.notEmpty("version", m.Version)
	faults.notEmpty("references.efficient", m.References.Efficient)
	faults.notEmpty("references.high_performance", m.References.HighPerformance)
	m.checkFiles(&faults)
	m.checkDomains(&faults)
	for _, l := range m.lanes() {
		l.lane.check("lanes."+l.name, &faults, m)
	}
	switch {
	case m.Lanes.Base != nil && m.Cascade == nil:
		faults.add("cascade is missing: lanes.base needs it, or remove that lane")
	case m.Lanes.Base == nil && m.Cascade != nil:
		faults.add("cascade is given without lanes.base: add that lane, or remove cascade")
	case m.Cascade != nil && !(m.Cascade.Low <= m.Cascade.High):
		faults.add("cascade is %v..%v: low must not be above high", m.Cascade.Low, m.Cascade.High)
	case m.Cascade != nil:
		m.checkDomainBelow(&faults)
	}
	return errors.Join(faults...)
}

func (m *Manifest) checkDomainBelow(faults *faults) {
	switch below := m.Cascade.DomainBelow; {
	case !(below >= 0 && below <= 1):
		faults.add("cascade.domain_below is %v: give a probability, 0 to 1", below)
	case below > 0 && m.Lanes.Fast != nil && m.Lanes.Fast.Outputs.Domain == nil:
		faults.add("cascade.domain_below is %v, and lanes.fast.outputs has no domain: name that output, or remove the bound", below)
	}
}

type namedLane struct {
	name string
	lane *Lane
}

// lanes returns the lanes that are there, fast first.
func (m *Manifest) lanes() []namedLane {
	var out []namedLane
	if m.Lanes.Fast != nil {
		out = append(out, namedLane{"fast", m.Lanes.Fast})
	}
	if m.Lanes.Base != nil {
		out = append(out, namedLane{"base", m.Lanes.Base})
	}
	return out
}

func (m *Manifest) checkFiles(faults *faults) {
	for name, f := range m.Files {
		path := join("files", name)
		if !plainName(name) {
			faults.add("%s: a file's name must be a plain name within the folder, without separators", path)
		}
		if name == manifestName {
			faults.add("%s: a manifest cannot hold its own digest: remove it", path)
		}
		if len(f.SHA256) != 64 || strings.Trim(f.SHA256, "0123456789abcdef") != "" {
			faults.add("%s.sha256 is %.80q, want 64 lower-case hex digits", path, f.SHA256)
		}
		if f.Bytes <= 0 || f.Bytes > maxFileBytes {
			faults.add("%s.bytes is %d, want 1..%d", path, f.Bytes, maxFileBytes)
		}
	}
	m.named(faults, "probes", m.Probes)
	for _, l := range m.lanes() {
		m.named(faults, "lanes."+l.name+".graph", l.lane.Graph)
		m.named(faults, "lanes."+l.name+".tokenizer", l.lane.Tokenizer)
	}
}

// named checks that a field names a file whose digest the manifest knows.
func (m *Manifest) named(faults *faults, path, name string) {
	if _, ok := m.Files[name]; !ok {
		faults.add("%s is %q, which files does not list: add it there with its sha256 and bytes", path, name)
	}
}

// plainName tells names within a folder from paths, on any system.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\:\x00") && filepath.IsLocal(name)
}

func (m *Manifest) checkDomains(faults *faults) {
	seen := map[string]bool{}
	for i, name := range m.Domains {
		if _, err := classifier.ParseDomain(name); err != nil {
			faults.add("domains[%d]: %w", i, err)
		}
		if seen[name] {
			faults.add("domains[%d] is %q for a second time: each domain has one place", i, name)
		}
		seen[name] = true
	}
}

func (l *Lane) check(path string, faults *faults, m *Manifest) {
	faults.notEmpty(path+".inputs.input_ids", l.Inputs.InputIDs)
	l.checkInputs(path, faults)
	l.checkOutputs(path+".outputs", faults, m)
	l.checkWindow(path+".window", faults)
	l.checkCalibration(path, faults)
	for _, id := range slices.Concat(l.SpecialTokens.Prefix, l.SpecialTokens.Suffix) {
		if id < 0 || id > math.MaxUint32 {
			faults.add("%s.special_tokens holds %d, want token ids of 0..%d", path, id, uint32(math.MaxUint32))
		}
	}
	t := l.OutputTokens
	if !(t.Min > 0 && t.Min <= t.Default && t.Default <= t.Max) {
		faults.add("%s.output_tokens has min %v, default %v, max %v, want 0 < min <= default <= max", path, t.Min, t.Default, t.Max)
	}
	if t.P90Offset < 0 {
		faults.add("%s.output_tokens.p90_offset is %v, want 0 or more", path, t.P90Offset)
	}
	if _, ok := l.Tolerance["default"]; !ok {
		faults.add(`%s.tolerance has no "default": add it, such as 0.0005`, path)
	}
	for family, v := range l.Tolerance {
		if !slices.Contains(cpuFamilies(), family) {
			faults.add("%s is no CPU family: use one of %s", join(path+".tolerance", family), strings.Join(cpuFamilies(), ", "))
		}
		if !(v >= 0 && v <= maxTolerance) {
			faults.add("%s is %v, want 0..%v: a wider one proves nothing", join(path+".tolerance", family), v, maxTolerance)
		}
	}
}

func (l *Lane) checkInputs(path string, faults *faults) {
	in := l.Inputs
	seen := map[string]bool{}
	for _, name := range []string{in.InputIDs, in.AttentionMask, in.TokenTypeIDs, in.Shape} {
		if name != "" && seen[name] {
			faults.add("%s.inputs names %q twice: each input has its own name", path, name)
		}
		seen[name] = true
	}
	if in.Shape != "" && l.ShapeVersion != classifier.ShapeVersion {
		faults.add("%s.shape_version is %d, want %d, the only one there is", path, l.ShapeVersion, classifier.ShapeVersion)
	}
}

func (l *Lane) checkOutputs(path string, faults *faults, m *Manifest) {
	o := l.Outputs
	if o.Complexity != nil {
		if o.QualityEfficient != nil || o.QualityHigh != nil {
			faults.add("%s has complexity and a quality: keep complexity alone, or both qualities", path)
		}
	} else if o.QualityEfficient == nil || o.QualityHigh == nil {
		faults.add("%s lacks a quality: give quality_efficient and quality_high, or complexity alone", path)
	}
	for kind, out := range o.all() {
		if out != nil {
			out.check(path+"."+outputNames()[kind], outputKind(kind), faults)
		}
	}
	if o.Domain != nil && len(m.Domains) == 0 {
		faults.add("domains is missing: it labels %s.domain", path)
	}
	if o.OOD != nil && l.OOD == nil {
		faults.add("%s.ood needs the lane's ood.threshold: add it, or remove the output", path)
	}
}

func (o *Output) check(path string, kind outputKind, faults *faults) {
	faults.notEmpty(path+".name", o.Name)
	for field, index := range map[string]*int{"index": o.Index, "minus_index": o.MinusIndex} {
		if index != nil && *index < 0 {
			faults.add("%s.%s is %d, want 0 or more", path, field, *index)
		}
	}
	if o.MinusIndex != nil && o.at() == *o.MinusIndex {
		faults.add("%s.minus_index is %d, as index is: their difference is always 0", path, *o.MinusIndex)
	}
	if kind == outDomain && (o.Index != nil || o.MinusIndex != nil || o.Probability || o.Negate) {
		faults.add("%s takes only a name: it is read as a whole", path)
	}
	if o.Probability && (kind == outTokens || kind == outOOD) {
		faults.add("%s.probability is true, but it is none: remove it", path)
	}
	if o.Probability && o.MinusIndex != nil {
		faults.add("%s has probability and minus_index: a difference is no probability, remove one", path)
	}
}

func (l *Lane) checkWindow(path string, faults *faults) {
	bound := func(field string, v, least, most int) {
		if v < least || v > most {
			faults.add("%s.%s is %d, want %d..%d", path, field, v, least, most)
		}
	}
	bound("head_tokens", l.Window.HeadTokens, 1, maxWindowTokens)
	bound("tail_tokens", l.Window.TailTokens, 0, maxWindowTokens)
	// A rune has up to four bytes: fewer could leave a head without any.
	bound("head_bytes", l.Window.HeadBytes, 4, maxWindowBytes)
	bound("tail_bytes", l.Window.TailBytes, 0, maxWindowBytes)
}

func (l *Lane) checkCalibration(path string, faults *faults) {
	curve := func(field string, c *CurveKnots) {
		if c == nil {
			return
		}
		if _, err := classifier.NewCurve(c.knots()); err != nil {
			faults.add("%s.calibration.%s: %w", path, field, err)
		}
	}
	curve("quality_efficient", l.Calibration.QualityEfficient)
	curve("quality_high", l.Calibration.QualityHigh)
	if l.Outputs.Complexity == nil {
		if l.HighFromEfficient != nil {
			faults.add("%s.high_from_efficient goes with outputs.complexity only: remove it", path)
		}
		if l.Calibration.QualityHigh == nil {
			faults.add("%s.calibration.quality_high is missing: add it", path)
		}
		return
	}
	if l.Calibration.QualityHigh != nil {
		faults.add("%s.calibration.quality_high has no output to calibrate: remove it, high_from_efficient gives q_high", path)
	}
	if h := l.HighFromEfficient; h == nil {
		faults.add("%s.high_from_efficient is missing: outputs.complexity needs it, to make up q_high", path)
	} else if !(h.B >= 0 && h.B < 1) {
		faults.add("%s.high_from_efficient.b is %v, want 0 <= b < 1", path, h.B)
	}
}

func (c *CurveKnots) knots() []classifier.Knot {
	out := make([]classifier.Knot, len(c.Knots))
	for i, k := range c.Knots {
		out[i] = classifier.Knot(k)
	}
	return out
}

// faults collects errors.
type faults []error

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

func (f *faults) notEmpty(path, value string) {
	if strings.TrimSpace(value) == "" {
		f.add("%s is empty: give it", path)
	}
}
