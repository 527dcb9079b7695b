package onnx

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// refusal is a bundle that must not be opened, and why.
type refusal struct {
	name, want string
	spoil      func(t *testing.T, dir string)
}

// manifestRefusals are told by manifest.json alone.
func manifestRefusals() []refusal {
	field := func(name, want string, change func(m object)) refusal {
		return refusal{name, want, func(t *testing.T, dir string) { edit(t, dir, manifestName, change) }}
	}
	return []refusal{
		{"no folder", "no such file", func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(dir)) }},
		{"no manifest", "manifest.json", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, manifestName))) }},
		{"not JSON", "not JSON", func(t *testing.T, dir string) { writeTest(t, dir, manifestName, []byte("{")) }},
		{"two manifests in one", "something follows", func(t *testing.T, dir string) {
			writeTest(t, dir, manifestName, append(readTest(t, dir, manifestName), "{}"...))
		}},
		{"too large", "want at most", func(t *testing.T, dir string) {
			writeTest(t, dir, manifestName, bytes.Repeat([]byte(" "), maxManifestBytes+1))
		}},
		{"field twice", `name is given twice`, func(t *testing.T, dir string) {
			data := readTest(t, dir, manifestName)
			writeTest(t, dir, manifestName, append([]byte(`{"name": "other",`), bytes.TrimSpace(data)[1:]...))
		}},
		field("unknown field", "lanes.fast.windows is an unknown field", func(m object) { fastLane(m)["windows"] = 1 }),
		field("other case", "Schema is an unknown field", func(m object) { m["Schema"] = m["schema"]; delete(m, "schema") }),
		field("null", "cascade is null", func(m object) { m["cascade"] = nil }),
		field("wrong kind", `lanes.fast.window.head_tokens is "many", want a whole number`, func(m object) { at(fastLane(m), "window")["head_tokens"] = "many" }),
		field("schema", "schema is 2, want 1", func(m object) { m["schema"] = 2 }),
		field("no name", "name is empty", func(m object) { m["name"] = " " }),
		field("no references", "references is missing", func(m object) { delete(m, "references") }),
		field("no probes", "probes is missing", func(m object) { delete(m, "probes") }),
		field("no fast lane", "lanes.fast is missing", func(m object) { delete(at(m, "lanes"), "fast") }),
		field("file not listed", `lanes.fast.graph is "other.onnx", which files does not list`, func(m object) { fastLane(m)["graph"] = "other.onnx" }),
		field("path upward", "must be a plain name", func(m object) { at(m, "files")["../fast.onnx"] = at(m, "files", "fast.onnx") }),
		field("path absolute", "must be a plain name", func(m object) { at(m, "files")["/etc/hostname"] = at(m, "files", "fast.onnx") }),
		field("own digest", "cannot hold its own digest", func(m object) { at(m, "files")[manifestName] = at(m, "files", "fast.onnx") }),
		field("digest malformed", "want 64 lower-case hex", func(m object) { at(m, "files", "fast.onnx")["sha256"] = strings.Repeat("F", 64) }),
		field("size zero", "bytes is 0", func(m object) { at(m, "files", "fast.onnx")["bytes"] = 0 }),
		field("domain misspelt", `domains[1]: domain "code" is unknown`, func(m object) { m["domains"].([]any)[1] = "code" }),
		field("domain twice", `domains[1] is "general" for a second time`, func(m object) { m["domains"].([]any)[1] = "general" }),
		field("no domains", "domains is missing", func(m object) { delete(m, "domains") }),
		field("cascade without base", "cascade is given without lanes.base", func(m object) { delete(at(m, "lanes"), "base") }),
		field("base without cascade", "cascade is missing", func(m object) { delete(m, "cascade") }),
		field("a domain's doubt beyond 1", "cascade.domain_below is 1.5: give a probability", func(m object) { at(m, "cascade")["domain_below"] = 1.5 }),
		field("a doubted domain that is not there", "lanes.fast.outputs has no domain", func(m object) {
			at(m, "cascade")["domain_below"] = 0.5
			delete(at(at(at(m, "lanes"), "fast"), "outputs"), "domain")
		}),
		field("cascade upside down", "low must not be above high", func(m object) { at(m, "cascade")["low"] = 0.9 }),
		field("window zero", "lanes.fast.window.head_tokens is 0, want 1..", func(m object) { at(fastLane(m), "window")["head_tokens"] = 0 }),
		field("window negative", "lanes.fast.window.tail_bytes is -1", func(m object) { at(fastLane(m), "window")["tail_bytes"] = -1 }),
		field("window huge", "lanes.fast.window.head_bytes is 1000000000", func(m object) { at(fastLane(m), "window")["head_bytes"] = 1_000_000_000 }),
		field("token id", "special_tokens holds -1", func(m object) { at(fastLane(m), "special_tokens")["prefix"] = []any{-1} }),
		field("shape version", "shape_version is 2", func(m object) { fastLane(m)["shape_version"] = 2 }),
		field("input twice", `names "input_ids" twice`, func(m object) { at(fastLane(m), "inputs")["attention_mask"] = "input_ids" }),
		field("calibration flat", "calibration.quality_high: knot 1: x and y must both be above", func(m object) {
			knot := object{"x": 0, "y": 0, "lo": 0, "hi": 0}
			at(fastLane(m), "calibration", "quality_high")["knots"] = []any{knot, knot}
		}),
		field("calibration of one knot", "1 knots, want at least 2", func(m object) {
			at(fastLane(m), "calibration", "quality_high")["knots"] = []any{object{"x": 0, "y": 0, "lo": 0, "hi": 0}}
		}),
		field("no calibration", "calibration.quality_high is missing", func(m object) { delete(at(fastLane(m), "calibration"), "quality_high") }),
		field("one quality", "lacks a quality", func(m object) { delete(at(fastLane(m), "outputs"), "quality_high") }),
		field("complexity beside qualities", "complexity and a quality", func(m object) { at(fastLane(m), "outputs")["complexity"] = object{"name": "ood"} }),
		field("line without complexity", "high_from_efficient goes with outputs.complexity only", func(m object) { fastLane(m)["high_from_efficient"] = object{"a": 1, "b": 0.5} }),
		field("index negative", "quality_high.index is -1", func(m object) { at(fastLane(m), "outputs", "quality_high")["index"] = -1 }),
		field("domain with index", "takes only a name", func(m object) { at(fastLane(m), "outputs", "domain")["index"] = 0 }),
		field("lengths", "want 0 < min <= default <= max", func(m object) { at(fastLane(m), "output_tokens")["min"] = 1e9 }),
		field("p90 below the mean", "p90_offset is -1", func(m object) { at(fastLane(m), "output_tokens")["p90_offset"] = -1 }),
		field("ood without threshold", "needs the lane's ood.threshold", func(m object) { delete(fastLane(m), "ood") }),
		field("no tolerance", "tolerance is missing", func(m object) { delete(fastLane(m), "tolerance") }),
		field("no default tolerance", `tolerance has no "default"`, func(m object) { fastLane(m)["tolerance"] = object{"amd64": 0.001} }),
		field("family misspelt", "tolerance.amd64+avx3 is no CPU family", func(m object) { at(fastLane(m), "tolerance")["amd64+avx3"] = 0.001 }),
		field("tolerance that proves nothing", "tolerance.default is 5, want 0..", func(m object) { at(fastLane(m), "tolerance")["default"] = 5 }),
	}
}

// fileRefusals are told by the files, before any runs.
func fileRefusals() []refusal {
	refuse := func(name, want string, spoil func(t *testing.T, dir string)) refusal {
		return refusal{name, want, spoil}
	}
	list := []refusal{
		refuse("missing", "fast.onnx", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "fast.onnx"))) }),
		refuse("truncated", "the manifest says", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "fast.onnx"), 1000))
		}),
		refuse("longer", "copy the bundle again", func(t *testing.T, dir string) {
			writeTest(t, dir, "fast.onnx", append(readTest(t, dir, "fast.onnx"), 0))
		}),
		refuse("one bit", "fast.onnx has SHA-256", func(t *testing.T, dir string) {
			data := readTest(t, dir, "fast.onnx")
			data[len(data)/2] ^= 1
			writeTest(t, dir, "fast.onnx", data)
		}),
		refuse("symbolic link", "is no regular file", func(t *testing.T, dir string) {
			outside := filepath.Join(t.TempDir(), "fast.onnx")
			require.NoError(t, os.Rename(filepath.Join(dir, "fast.onnx"), outside))
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "fast.onnx")))
		}),
		refuse("folder", "is no regular file", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "fast.onnx")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "fast.onnx"), 0o755))
		}),
		refuse("tokenizer pads", `padding is {"strategy"`, func(t *testing.T, dir string) {
			edit(t, dir, "tokenizer.json", func(d object) { d["padding"] = object{"strategy": object{"Fixed": 128}} })
		}),
		refuse("tokenizer truncates", `truncation is {"max_length":128`, func(t *testing.T, dir string) {
			edit(t, dir, "tokenizer.json", func(d object) { d["truncation"] = object{"max_length": 128} })
		}),
		refuse("tokenizer without a model", "it has no model", func(t *testing.T, dir string) { swap(t, dir, "tokenizer.json", []byte("{}")) }),
		refuse("seven probes", "holds 7 probes, want at least 8", func(t *testing.T, dir string) {
			edit(t, dir, "probes.json", func(d object) { d["probes"] = d["probes"].([]any)[:7] })
		}),
		refuse("probe without a lane", "probes[2].lanes.base is missing", func(t *testing.T, dir string) {
			edit(t, dir, "probes.json", func(d object) { delete(at(d["probes"].([]any)[2].(object), "lanes"), "base") })
		}),
		refuse("probe without an output", "want what the manifest names", func(t *testing.T, dir string) {
			edit(t, dir, "probes.json", func(d object) { delete(at(d["probes"].([]any)[2].(object), "lanes", "fast", "outputs"), "ood") })
		}),
		refuse("probe of nothing", "probes[0].text: text holds nothing", func(t *testing.T, dir string) {
			edit(t, dir, "probes.json", func(d object) { d["probes"].([]any)[0].(object)["text"] = " " })
		}),
	}
	return append(list, graphRefusals()...)
}

// graphRefusals are told by the graph's protobuf.
func graphRefusals() []refusal {
	graph := func(name, want string, change func(t *testing.T, model []byte) []byte) refusal {
		return refusal{name, want, func(t *testing.T, dir string) {
			editGraph(t, dir, "fast.onnx", func(model []byte) []byte { return change(t, model) })
		}}
	}
	add := func(fields ...[]byte) func(*testing.T, []byte) []byte {
		return func(t *testing.T, model []byte) []byte { return addToGraph(t, model, fields...) }
	}
	// An attribute of a node: NodeProto.attribute = 5.
	attribute := func(fields ...[]byte) []byte {
		return pbBytes(1, pb(pbString(2, "made"), pbString(4, "Constant"), pbBytes(5, pb(fields...))))
	}
	away := external("away", "../weights.bin")
	return []refusal{
		graph("vouched for but cut", "is no ONNX model, or a damaged one", func(_ *testing.T, model []byte) []byte { return model[:len(model)/2] }),
		graph("no model", "is no ONNX model", func(*testing.T, []byte) []byte { return []byte("hello") }),
		graph("no graph", "it holds no graph", func(*testing.T, []byte) []byte { return pbInt(1, 8) }),
		graph("an input too many", `has an input "extra" that inputs does not name`, add(pbBytes(11, valueInfo("extra", elemInt64, 1, -1)))),
		{"input renamed", `has no input "ids" (inputs.input_ids)`, func(t *testing.T, dir string) {
			edit(t, dir, manifestName, func(m object) { at(fastLane(m), "inputs")["input_ids"] = "ids" })
		}},
		{"output renamed", `has no output "easy" (outputs.quality_efficient)`, func(t *testing.T, dir string) {
			edit(t, dir, manifestName, func(m object) { at(fastLane(m), "outputs", "quality_efficient")["name"] = "easy" })
		}},
		graph("input of another type", `has input "input_ids" (inputs.input_ids) as int32 [1, ?]`, retype(11, "input_ids", 6, 1, -1)),
		graph("input of one length", `has input "input_ids" (inputs.input_ids) as int64 [1, 128]`, retype(11, "input_ids", elemInt64, 1, 128)),
		graph("shape too short", `has input "shape" (inputs.shape) as float32 [1, 5]`, retype(11, "shape", elemFloat32, 1, 5)),
		graph("output of another type", `(outputs.ood) as float64 [1, 1], want float32`, retype(12, "ood", 11, 1, 1)),
		graph("output of two values", `(outputs.ood) as float32 [1, 2], want 1 values`, retype(12, "ood", elemFloat32, 1, 2)),
		graph("output of two rows", `(outputs.ood) as float32 [2, 1], want 1 values`, retype(12, "ood", elemFloat32, 2, 1)),
		{"domains of another number", `(outputs.domain) as float32 [1, 8], want 7 values`, func(t *testing.T, dir string) {
			edit(t, dir, manifestName, func(m object) { m["domains"] = m["domains"].([]any)[:7] })
		}},
		graph("external initializer", "external data", add(pbBytes(5, away))),
		graph("external by absolute path", "external data", add(pbBytes(5, external("away", "/dev/zero")))),
		graph("external by memory address", "external data", add(pbBytes(5, external("away", "*/_ORT_MEM_ADDR_/*")))),
		graph("external without a place", "external data", add(pbBytes(5, tensor("away", []int64{4}, pbInt(14, 1))))),
		graph("a place without saying external", "external data", add(pbBytes(5, tensor("away", []int64{4}, pbBytes(13, pbString(1, "location")))))),
		graph("external in a second graph", "external data", func(_ *testing.T, model []byte) []byte {
			return append(model, pbBytes(7, pbBytes(5, away))...) // protobuf merges the two
		}),
		graph("external sparse values", "external data", add(pbBytes(15, pbBytes(1, away)))),
		graph("external sparse indices", "external data", add(pbBytes(15, pbBytes(2, away)))),
		graph("external in an attribute", "external data", add(attribute(pbBytes(5, away)))),
		graph("external in a list attribute", "external data", add(attribute(pbBytes(10, away)))),
		graph("external in a sparse attribute", "external data", add(attribute(pbBytes(22, pbBytes(1, away))))),
		graph("external in sparse attributes", "external data", add(attribute(pbBytes(23, pbBytes(1, away))))),
		graph("external in a subgraph", "external data", add(attribute(pbBytes(6, pbBytes(5, away))))),
		graph("external in subgraphs", "external data", add(attribute(pbBytes(11, attribute(pbBytes(6, pbBytes(5, away))))))),
		graph("external in a function", "external data", func(_ *testing.T, model []byte) []byte {
			return append(model, pbBytes(25, pbBytes(7, pbBytes(5, pbBytes(5, away))))...)
		}),
		graph("external in a function's default", "external data", func(_ *testing.T, model []byte) []byte {
			return append(model, pbBytes(25, pbBytes(11, pbBytes(5, away)))...)
		}),
		graph("external in training", "external data", func(_ *testing.T, model []byte) []byte {
			return append(model, pbBytes(20, pbBytes(1, pbBytes(5, away)))...)
		}),
		graph("bottomless subgraphs", "nests subgraphs more than", func(t *testing.T, model []byte) []byte {
			inner := []byte{}
			for range maxDepth + 2 {
				inner = attribute(pbBytes(6, inner))
			}
			return addToGraph(t, model, inner)
		}),
	}
}

// valueInfo is a ValueInfoProto; see readValueInfo.
func valueInfo(name string, elem int64, dims ...int64) []byte {
	var shape []byte
	for _, d := range dims {
		dim := pbString(2, "n") // dim_param
		if d >= 0 {
			dim = pbInt(1, d)
		}
		shape = append(shape, pbBytes(1, dim)...)
	}
	return pb(pbString(1, name), pbBytes(2, pbBytes(1, pb(pbInt(1, elem), pbBytes(2, shape)))))
}

// retype declares an input (11) or output (12) anew.
func retype(list protowire.Number, name string, elem int64, dims ...int64) func(*testing.T, []byte) []byte {
	return func(t *testing.T, model []byte) []byte {
		return inGraph(t, model, func(num protowire.Number, value []byte) []byte {
			if num != list || !bytes.HasPrefix(value, pbString(1, name)) {
				return nil
			}
			return pbBytes(list, valueInfo(name, elem, dims...))
		})
	}
}

func TestReadManifestRefuses(t *testing.T) {
	for _, r := range append(manifestRefusals(), fileRefusals()...) {
		t.Run(r.name, func(t *testing.T) {
			dir := tinyCopy(t)
			r.spoil(t, dir)
			_, err := ReadManifest(dir)
			require.ErrorContains(t, err, r.want)
			assert.NotContains(t, err.Error(), "%!")
		})
	}
}

func TestReadManifestTellsEveryFault(t *testing.T) {
	dir := tinyCopy(t)
	edit(t, dir, manifestName, func(m object) {
		m["schema"] = 7
		m["domains"].([]any)[0] = "chat"
		at(fastLane(m), "window")["head_bytes"] = 0
	})
	require.NoError(t, os.Remove(filepath.Join(dir, "probes.json")))
	_, err := ReadManifest(dir)
	for _, want := range []string{"schema is 7", `"chat"`, "head_bytes is 0", "probes.json"} {
		require.ErrorContains(t, err, want)
	}
}

func TestReadManifest(t *testing.T) {
	m, err := ReadManifest(bundleDir("tiny"))
	require.NoError(t, err)
	assert.Equal(t, "sha256:"+digest(readTest(t, bundleDir("tiny"), manifestName)), m.Digest)
	assert.Len(t, m.Domains, 8)
	assert.NotNil(t, m.Lanes.Base)
	var all object
	require.NoError(t, json.Unmarshal(readTest(t, bundleDir("tiny"), manifestName), &all))
	assert.Equal(t, fmt.Sprint(all["version"]), m.Version)
}
