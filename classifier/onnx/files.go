package onnx

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/weirhq/weir/classifier"
)

const (
	manifestName     = "manifest.json"
	maxManifestBytes = 1 << 20
)

// content is a bundle as read from its folder and checked, before any of it runs.
type content struct {
	manifest Manifest
	files    map[string][]byte
	probes   []probe
}

// ReadManifest reads and checks the bundle in folder dir without running it: the
// manifest, the digest and size of every file, the graphs' inputs and outputs, the
// tokenizers' settings and the probes. It needs no native library. The error joins
// every fault, each with field, value and remedy; the Manifest that comes with an
// error holds what could be read.
func ReadManifest(dir string) (Manifest, error) {
	c, err := readBundle(dir)
	if err != nil {
		err = fmt.Errorf("read bundle %s: %w", dir, err)
	}
	return c.manifest, err
}

// readBundle reads every file once: what is checked is what will run.
func readBundle(dir string) (content, error) {
	c := content{files: map[string][]byte{}}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return c, err
	}
	data, err := readFile(root, manifestName, maxManifestBytes)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%s is not there: a bundle is a folder with a manifest, a graph, a tokenizer and probes (models/README.md): %w", manifestName, err)
	}
	if err == nil {
		c.manifest.Digest = "sha256:" + digest(data)
		var faults []error
		if faults = append(faults, decodeStrict(data, &c.manifest)); faults[0] == nil {
			faults = append(faults, c.manifest.check())
		}
		err = errors.Join(faults...)
		if err != nil {
			err = fmt.Errorf("%s: %w", manifestName, err)
		}
	}
	broken := err != nil
	err = errors.Join(err, c.readFiles(root))
	if !broken {
		err = errors.Join(err, c.checkFiles())
	}
	return c, errors.Join(err, root.Close())
}

// texts are those of the probes, as they are encoded.
func (c *content) texts() []string {
	var texts []string
	for _, p := range c.probes {
		if text, err := classifier.Clean(p.Text); err == nil {
			texts = append(texts, text)
		}
	}
	return texts
}

// readFiles reads what the manifest lists, each of the size and digest that it says.
func (c *content) readFiles(root *os.Root) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(c.manifest.Files)) {
		want := c.manifest.Files[name]
		if !plainName(name) || want.Bytes <= 0 || want.Bytes > maxFileBytes {
			continue // Manifest.check says so
		}
		data, err := readFile(root, name, want.Bytes)
		switch {
		case err != nil:
		case int64(len(data)) != want.Bytes:
			err = fmt.Errorf("%s has %d bytes, the manifest says %d: copy the bundle again", name, len(data), want.Bytes)
		case digest(data) != want.SHA256:
			err = fmt.Errorf("%s has SHA-256 %s, the manifest says %.64s: copy the bundle again", name, digest(data), want.SHA256)
		default:
			c.files[name] = data
			continue
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// checkFiles looks into those files that could be read.
func (c *content) checkFiles() error {
	var faults []error
	checked := map[string]bool{}
	for _, l := range c.manifest.lanes() {
		if data, ok := c.files[l.lane.Graph]; ok {
			if err := l.lane.checkGraphFile(data, len(c.manifest.Domains)); err != nil {
				faults = append(faults, fmt.Errorf("lane %s, %s %w", l.name, l.lane.Graph, err))
			}
		}
		if data, ok := c.files[l.lane.Tokenizer]; ok && !checked[l.lane.Tokenizer] {
			checked[l.lane.Tokenizer] = true
			if err := checkTokenizer(data); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", l.lane.Tokenizer, err))
			}
		}
	}
	if data, ok := c.files[c.manifest.Probes]; ok {
		var probes probeFile
		err := decodeStrict(data, &probes)
		if err == nil {
			err = probes.check(&c.manifest)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", c.manifest.Probes, err))
		}
		c.probes = probes.Probes
	}
	return errors.Join(faults...)
}

// readFile reads a regular file of the folder, at most one byte more than most. It
// follows no symbolic link: a bundle is its folder and nothing else.
func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file (%s): put the file itself into the folder", name, info.Mode().Type())
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, want at most %d: copy the bundle again", name, info.Size(), most)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	_, err = buf.ReadFrom(io.LimitReader(f, most+1))
	return buf.Bytes(), errors.Join(err, f.Close())
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// checkTokenizer refuses a tokenizer.json that pads or truncates by itself: padding
// makes every prompt as long as the longest, truncation hides how long it was.
func checkTokenizer(data []byte) error {
	var t map[string]json.RawMessage
	if err := json.Unmarshal(data, &t); err != nil {
		return fmt.Errorf("is no tokenizer.json: %w", err)
	}
	var faults faults
	for _, field := range []string{"padding", "truncation"} {
		if v, ok := t[field]; ok && string(v) != "null" {
			faults.add("%s is %s: set it to null, the window decides", field, short(v))
		}
	}
	if _, ok := t["model"]; !ok {
		faults.add("is no tokenizer.json: it has no model")
	}
	return errors.Join(faults...)
}

// checkGraphFile holds a graph's inputs and outputs against the lane.
func (l *Lane) checkGraphFile(data []byte, domains int) error {
	g, err := readGraph(data)
	if err != nil {
		return err
	}
	var faults faults
	fed := map[string]bool{}
	for _, in := range l.inputs() {
		fed[in.name] = true
		got, ok := g.inputs[in.name]
		switch {
		case !ok:
			faults.add("has no input %q (inputs.%s): it has %v", in.name, in.field, slices.Sorted(maps.Keys(g.inputs)))
		case got.elem != in.elem || got.ranked && !fits(got.dims, in.dims):
			faults.add("has input %q (inputs.%s) as %v, want %v", in.name, in.field, got, tensorType{in.elem, in.dims, true})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.inputs)) {
		if !fed[name] {
			faults.add("has an input %q that inputs does not name: name it, or export the graph without it", name)
		}
	}
	for kind, out := range l.Outputs.all() {
		if out != nil {
			g.checkOutput(outputKind(kind), out, domains, &faults)
		}
	}
	return errors.Join(faults...)
}

func (g *graph) checkOutput(kind outputKind, out *Output, domains int, faults *faults) {
	field := "outputs." + outputNames()[kind]
	got, ok := g.outputs[out.Name]
	if !ok {
		faults.add("has no output %q (%s): it has %v", out.Name, field, slices.Sorted(maps.Keys(g.outputs)))
		return
	}
	if got.elem != elemFloat32 {
		faults.add("has output %q (%s) as %v, want float32", out.Name, field, got)
		return
	}
	if !got.ranked {
		return // the run will tell
	}
	width, rows := int64(1), int64(1)
	for i, d := range got.dims {
		if i == len(got.dims)-1 {
			width = d
		} else if d > 0 {
			rows *= d
		}
	}
	n, exact := out.least()
	if kind == outDomain {
		n, exact = domains, true
	}
	if rows != 1 || width >= 0 && (width < int64(n) || exact && width != int64(n)) {
		faults.add("has output %q (%s) as %v, want %d values in one row", out.Name, field, got, n)
	}
}

// input is an input of the graph that the manifest names.
type input struct {
	field, name string
	elem        int64
	dims        []int64
}

// inputs returns those that the manifest names, in a fixed order.
func (l *Lane) inputs() []input {
	var out []input
	tokens := []int64{1, -1}
	for _, in := range []input{
		{"input_ids", l.Inputs.InputIDs, elemInt64, tokens},
		{"attention_mask", l.Inputs.AttentionMask, elemInt64, tokens},
		{"token_type_ids", l.Inputs.TokenTypeIDs, elemInt64, tokens},
		{"shape", l.Inputs.Shape, elemFloat32, []int64{1, classifier.ShapeSize}},
	} {
		if in.name != "" {
			out = append(out, in)
		}
	}
	return out
}

// fits tells whether a declared shape takes what is fed: every size free or equal,
// and free where the length varies (want is -1).
func fits(dims, want []int64) bool {
	return slices.EqualFunc(dims, want, func(d, w int64) bool { return d < 0 || d == w })
}
