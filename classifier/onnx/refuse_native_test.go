//go:build native && cgo

package onnx

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// TestOpenRefuses holds every bad bundle against Open: what a manifest, a file or a
// graph tells by itself, and what only a run tells.
func TestOpenRefuses(t *testing.T) {
	for _, r := range slices.Concat(manifestRefusals(), fileRefusals(), runRefusals()) {
		t.Run(r.name, func(t *testing.T) {
			dir := tinyCopy(t)
			r.spoil(t, dir)
			_, err := shared.Open(t.Context(), dir, Config{})
			require.ErrorContains(t, err, r.want)
			require.ErrorContains(t, err, "open bundle "+dir)
			assert.NotContains(t, err.Error(), "%!")
		})
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	assert.Zero(t, shared.open, "a refused bundle counts as open")
}

// TestOpenRefusesExternalDataWhereverItLies moves a tensor that the graph needs out
// of the model, to places where ONNX Runtime could find it.
func TestOpenRefusesExternalDataWhereverItLies(t *testing.T) {
	const name, weights = "ood_mean", "weights.bin"
	for place, locate := range map[string]func(t *testing.T, dir string) string{
		"within the folder": func(*testing.T, string) string { return weights },
		"upward":            func(*testing.T, string) string { return "../" + weights },
		"absolute":          func(_ *testing.T, dir string) string { return filepath.Join(dir, weights) },
		"symbolic link": func(t *testing.T, dir string) string {
			require.NoError(t, os.Symlink(filepath.Join(dir, weights), filepath.Join(dir, "link")))
			return "link"
		},
		"hard link": func(t *testing.T, dir string) string {
			require.NoError(t, os.Link(filepath.Join(dir, weights), filepath.Join(dir, "link")))
			return "link"
		},
	} {
		t.Run(place, func(t *testing.T) {
			dir := tinyCopy(t)
			var data []byte
			editGraph(t, dir, "fast.onnx", func(model []byte) []byte {
				out := inTensor(t, model, name, func(num protowire.Number, value []byte) []byte {
					if num != 9 {
						return nil
					}
					data = slices.Clone(value)
					return pb(pbInt(14, 1), pbBytes(13, pb(pbString(1, "location"), pbString(2, weights))))
				})
				return out
			})
			require.NotEmpty(t, data)
			writeTest(t, dir, weights, data)
			writeTest(t, filepath.Dir(dir), weights, data)
			where := locate(t, dir)
			editGraph(t, dir, "fast.onnx", func(model []byte) []byte {
				return inTensor(t, model, name, func(num protowire.Number, _ []byte) []byte {
					if num != 13 {
						return nil
					}
					return pbBytes(13, pb(pbString(1, "location"), pbString(2, where)))
				})
			})
			_, err := shared.Open(t.Context(), dir, Config{})
			require.ErrorIs(t, err, errExternalData)
			require.ErrorContains(t, err, "fast.onnx")
		})
	}
}

// runRefusals are told by the native parts and by the probes.
func runRefusals() []refusal {
	graph := func(name, want string, change func(t *testing.T, model []byte) []byte) refusal {
		return refusal{name, want, func(t *testing.T, dir string) {
			editGraph(t, dir, "fast.onnx", func(model []byte) []byte { return change(t, model) })
		}}
	}
	return []refusal{
		graph("NaN in the weights", "holds NaN, want finite numbers", setFloat("ood_mean", float32(math.NaN()))),
		graph("infinity in the weights", "want finite numbers", setFloat("quality_high_0_bias", float32(math.Inf(1)))),
		graph("other weights", "is not the graph that the bundle was built with", setFloat("quality_high_0_bias", 0.125)),
		graph("unknown operator", "Gexm", func(_ *testing.T, model []byte) []byte {
			return bytes.ReplaceAll(model, []byte("Gemm"), []byte("Gexm"))
		}),
		graph("opset of the future", "fast.onnx: load graph", func(t *testing.T, model []byte) []byte {
			return mapFields(t, model, func(num protowire.Number, _ []byte) []byte {
				if num != 8 {
					return nil
				}
				return pbBytes(8, pbInt(2, 999))
			})
		}),
		graph("2^60 values", "fast.onnx: load graph", func(t *testing.T, model []byte) []byte {
			return inGraph(t, model, func(num protowire.Number, value []byte) []byte {
				if num != 5 || !bytes.Contains(value, pbString(8, "ood_mean")) {
					return nil
				}
				return pbBytes(5, append(bytes.Clone(value), pbInt(1, 1<<60)...)) // one more dimension
			})
		}),
		graph("cyclic graph", "fast.onnx: load graph", func(t *testing.T, model []byte) []byte {
			return addToGraph(t, model, pbBytes(1, pb(pbString(1, "b"), pbString(2, "a"), pbString(4, "Neg"))),
				pbBytes(1, pb(pbString(1, "a"), pbString(2, "b"), pbString(4, "Neg"))))
		}),
		{"base lane of other weights", "lane base", func(t *testing.T, dir string) {
			editGraph(t, dir, "base.onnx", func(model []byte) []byte { return setFloat("quality_high_1_bias", 0.125)(t, model) })
		}},
		{"tokenizer of another vocabulary", "the tokenizer gives", func(t *testing.T, dir string) {
			edit(t, dir, "tokenizer.json", func(d object) {
				vocab := at(d, "model", "vocab")
				vocab["the"], vocab["is"] = vocab["is"], vocab["the"]
			})
		}},
		{"tokenizer with other special tokens", "do not begin with special_tokens.prefix [2]", func(t *testing.T, dir string) {
			edit(t, dir, "tokenizer.json", func(d object) { d["post_processor"] = nil })
		}},
		{"tokenizer of an unknown kind", "open tokenizer", func(t *testing.T, dir string) {
			edit(t, dir, "tokenizer.json", func(d object) { at(d, "model")["type"] = "Nonsense" })
		}},
		{"special tokens misstated", "do not begin with special_tokens.prefix [7]", func(t *testing.T, dir string) {
			edit(t, dir, manifestName, func(m object) { at(fastLane(m), "special_tokens")["prefix"] = []any{7} })
		}},
		{"another window", "the tokenizer gives", func(t *testing.T, dir string) {
			edit(t, dir, manifestName, func(m object) { at(fastLane(m), "window")["head_tokens"] = 33 })
		}},
		{"probe ids tampered with", "probe 4, lane fast: the tokenizer gives", func(t *testing.T, dir string) {
			edit(t, dir, "probes.json", func(d object) {
				lane := at(d["probes"].([]any)[4].(object), "lanes", "fast")
				lane["ids"] = append(lane["ids"].([]any), 5)
			})
		}},
		{"probe output tampered with", "probe 3, lane base: quality_efficient is", func(t *testing.T, dir string) {
			edit(t, dir, "probes.json", func(d object) {
				at(d["probes"].([]any)[3].(object), "lanes", "base", "outputs")["quality_efficient"] = 0.5
			})
		}},
		{"probe domains too few", "domain has 8 values, recorded are 1", func(t *testing.T, dir string) {
			edit(t, dir, "probes.json", func(d object) {
				at(d["probes"].([]any)[3].(object), "lanes", "fast", "outputs")["domain"] = 0.5
			})
		}},
	}
}

// setFloat puts v in place of the first value of a float tensor: raw_data = 9.
func setFloat(name string, v float32) func(*testing.T, []byte) []byte {
	return func(t *testing.T, model []byte) []byte {
		return inTensor(t, model, name, func(num protowire.Number, value []byte) []byte {
			if num != 9 {
				return nil
			}
			changed := bytes.Clone(value)
			binary.LittleEndian.PutUint32(changed, math.Float32bits(v))
			return pbBytes(9, changed)
		})
	}
}

// inTensor changes the fields of the initializer of that name.
func inTensor(t testing.TB, model []byte, name string, change func(num protowire.Number, value []byte) []byte) []byte {
	t.Helper()
	found := false
	out := inGraph(t, model, func(num protowire.Number, value []byte) []byte {
		if num != 5 || !bytes.Contains(value, pbString(8, name)) {
			return nil
		}
		found = true
		return pbBytes(5, mapFields(t, value, change))
	})
	require.True(t, found, "the graph has no tensor %s", name)
	return out
}
