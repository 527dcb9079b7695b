package onnx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// Sealed is a bundle's manifest and probes made anew for the files that its folder
// holds. Seal makes it; nothing is written.
type Sealed struct {
	// Manifest is manifest.json, Probes the file that Manifest's field probes names.
	Manifest, Probes []byte
	ProbesName       string
	// Before and After are the files as the old and the new manifest list them.
	Before, After map[string]File
	// Drift is how far each output of a probe moved at most, by "LANE OUTPUT"; an
	// output that was not recorded before is left out.
	Drift map[string]float64
}

// Seal makes the manifest vouch for the files in folder dir as they are: it reads
// every graph and tokenizer that the lanes name, checks what can be checked without
// trusting them, runs the probes' texts and records what comes out. It is for whoever
// has replaced a graph on purpose; nothing that serves calls it. The manifest keeps
// all but its files, and its version where another is given. The manifest may lack
// files and the probes may be texts alone: a bundle of one's own starts so.
func (r *Runtime) Seal(ctx context.Context, dir, version string) (*Sealed, error) {
	s, err := r.seal(ctx, dir, version)
	if err != nil {
		return nil, fmt.Errorf("seal bundle %s: %w", dir, err)
	}
	return s, nil
}

func (r *Runtime) seal(ctx context.Context, dir, version string) (_ *Sealed, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	draft, err := readFile(root, manifestName, maxManifestBytes)
	if err != nil {
		return nil, err
	}
	c := content{files: map[string][]byte{}}
	names, err := c.readDraft(root, draft)
	if err != nil {
		return nil, err
	}
	out := &Sealed{ProbesName: names.Probes, Before: names.Files, After: map[string]File{}, Drift: map[string]float64{}}
	var texts probeTexts
	if err := json.Unmarshal(c.files[names.Probes], &texts); err != nil {
		return nil, fmt.Errorf("%s: %w: write {\"probes\": [{\"text\": \"…\"}, …]}", names.Probes, err)
	}
	for name, data := range c.files {
		out.After[name] = File{SHA256: digest(data), Bytes: int64(len(data))}
	}
	// The probes' digest is known at the end; the rest of the manifest is checked now.
	if out.Manifest, err = rewrite(draft, out.After, version); err != nil {
		return nil, err
	}
	if err := decodeStrict(out.Manifest, &c.manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", manifestName, err)
	}
	if err := c.manifest.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", manifestName, err)
	}
	unproven := c
	unproven.files = maps.Clone(c.files)
	delete(unproven.files, names.Probes)
	if err := unproven.checkFiles(); err != nil {
		return nil, err
	}
	recorded, err := r.record(ctx, &c, texts)
	if err != nil {
		return nil, err
	}
	texts.drift(recorded, out.Drift)
	if err := recorded.check(&c.manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", names.Probes, err)
	}
	if out.Probes, err = recorded.encode(); err != nil {
		return nil, err
	}
	out.After[names.Probes] = File{SHA256: digest(out.Probes), Bytes: int64(len(out.Probes))}
	out.Manifest, err = rewrite(draft, out.After, version)
	return out, err
}

// manifestDraft is what a draft of a manifest has to say already.
type manifestDraft struct {
	Files  map[string]File            `json:"files"`
	Probes string                     `json:"probes"`
	Lanes  map[string]json.RawMessage `json:"lanes"`
}

// readDraft reads every file that the lanes and probes name, as it is.
func (c *content) readDraft(root *os.Root, draft []byte) (manifestDraft, error) {
	var m manifestDraft
	if err := json.Unmarshal(draft, &m); err != nil {
		return m, fmt.Errorf("%s: %w", manifestName, err)
	}
	names := []string{m.Probes}
	for _, raw := range m.Lanes {
		var lane struct{ Graph, Tokenizer string }
		if err := json.Unmarshal(raw, &lane); err != nil {
			return m, fmt.Errorf("%s: lanes: %w", manifestName, err)
		}
		names = append(names, lane.Graph, lane.Tokenizer)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !plainName(name) {
			return m, fmt.Errorf("%s names the file %q: give a plain name within the folder", manifestName, name)
		}
		data, err := readFile(root, name, maxFileBytes)
		if err != nil {
			return m, err
		}
		c.files[name] = data
	}
	return m, nil
}

// probeTexts are probes of which only the texts have to be there.
type probeTexts struct {
	Probes []probe `json:"probes"`
}

// record runs every text through every lane, as prompts are.
func (r *Runtime) record(ctx context.Context, c *content, texts probeTexts) (_ *probeFile, err error) {
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.open++
	}
	r.mu.Unlock()
	if closed {
		return nil, errors.New("ONNX Runtime is closed")
	}
	defer r.released()
	out := &probeFile{}
	for _, p := range texts.Probes {
		out.Probes = append(out.Probes, probe{Text: p.Text, Lanes: map[string]probeLane{}})
	}
	c.probes = out.Probes
	var owned closers
	defer func() {
		err = errors.Join(err, owned.close())
		trimHeap()
	}()
	for _, l := range c.manifest.lanes() {
		t, err := r.engine.openTokenizer(c.files[l.lane.Tokenizer])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.lane.Tokenizer, err)
		}
		owned.add(t.close)
		t = withWordPiece(t, c.files[l.lane.Tokenizer], c.texts())
		s, err := r.engine.openSession(c.files[l.lane.Graph], l.lane)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.lane.Graph, err)
		}
		owned.add(s.close)
		scorer, err := newScorer(l.name, &c.manifest, l.lane)
		if err != nil {
			return nil, fmt.Errorf("lane %s: %w", l.name, err)
		}
		opened := &lane{session: s, scorer: scorer, encoder: encoder{tokenizer: t, window: l.lane.Window, special: l.lane.SpecialTokens}}
		for i := range out.Probes {
			e, got, err := opened.runText(ctx, out.Probes[i].Text)
			if err != nil {
				return nil, fmt.Errorf("probe %d, lane %s: %w", i, l.name, err)
			}
			out.Probes[i].Lanes[l.name] = probeLane{IDs: slices.Clone(e.ids), Outputs: l.lane.recordOf(&got)}
		}
	}
	return out, nil
}

// recordOf is what a probe records of a run.
func (l *Lane) recordOf(got *raw) map[string]recorded {
	out := map[string]recorded{}
	for _, kind := range l.Outputs.given() {
		values := recorded{got.value[kind]}
		if kind == outDomain {
			values = values[:0]
			for _, v := range got.domain {
				values = append(values, float64(v))
			}
		}
		out[outputNames()[kind]] = values
	}
	return out
}

// drift notes how far each output moved from what was recorded before.
func (p *probeTexts) drift(now *probeFile, into map[string]float64) {
	for i := range now.Probes {
		for name, lane := range now.Probes[i].Lanes {
			for output, values := range lane.Outputs {
				before := p.Probes[i].Lanes[name].Outputs[output]
				for k := range min(len(before), len(values)) {
					key := name + " " + output
					into[key] = max(into[key], math.Abs(values[k]-before[k]))
				}
			}
		}
	}
}

// encode writes probes one a line, so that a change of one shows as one.
func (p *probeFile) encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("{\"probes\": [\n")
	for i, one := range p.Probes {
		line, err := json.Marshal(one)
		if err != nil {
			return nil, err
		}
		b.Write(line)
		if i < len(p.Probes)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]}\n")
	return b.Bytes(), nil
}

// MarshalJSON writes a single number as one.
func (r recorded) MarshalJSON() ([]byte, error) {
	if len(r) == 1 {
		return json.Marshal(r[0])
	}
	return json.Marshal([]float64(r))
}

// rewrite puts files, and a version where one is given, into a manifest, and keeps
// everything else and its order.
func rewrite(draft []byte, files map[string]File, version string) ([]byte, error) {
	members, faults := decodeObject("", draft)
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("%s: %w", manifestName, err)
	}
	put := func(key string, value any) error {
		raw, err := json.Marshal(value)
		if err != nil {
			return err
		}
		for i := range members {
			if members[i].key == key {
				members[i].raw = raw
				return nil
			}
		}
		members = append(members, member{key: key, raw: raw})
		return nil
	}
	err := put("files", files)
	if version = strings.TrimSpace(version); version != "" {
		err = errors.Join(err, put("version", version))
	}
	if err != nil {
		return nil, err
	}
	var flat, out bytes.Buffer
	flat.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			flat.WriteByte(',')
		}
		key, err := json.Marshal(m.key)
		if err != nil {
			return nil, err
		}
		flat.Write(key)
		flat.WriteByte(':')
		flat.Write(m.raw)
	}
	flat.WriteByte('}')
	if err := json.Indent(&out, flat.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
