//go:build native && cgo

package onnx

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/classifier/classifiertest"
)

// node is a NodeProto: input = 1, output = 2, op_type = 4, attribute = 5.
func node(op string, inputs, outputs []string, attributes ...[]byte) []byte {
	var out []byte
	for _, in := range inputs {
		out = append(out, pbString(1, in)...)
	}
	for _, o := range outputs {
		out = append(out, pbString(2, o)...)
	}
	out = append(out, pbString(4, op)...)
	for _, a := range attributes {
		out = append(out, pbBytes(5, a)...)
	}
	return pbBytes(1, out)
}

// Attributes: name = 1, i = 3, g = 6, ints = 8, type = 20 (INT 2, GRAPH 5, INTS 7).
func intAttr(name string, v int64) []byte { return pb(pbString(1, name), pbInt(3, v), pbInt(20, 2)) }

func intsAttr(name string, v int64) []byte { return pb(pbString(1, name), pbInt(8, v), pbInt(20, 7)) }

func graphAttr(name string, g []byte) []byte {
	return pb(pbString(1, name), pbBytes(6, g), pbInt(20, 5))
}

// constant is an initializer of one value, with the dims given.
func constant(name string, elem int64, raw []byte, dims ...int64) []byte {
	out := pb(pbInt(2, elem), pbString(8, name), pbBytes(9, raw))
	for _, d := range dims {
		out = append(out, pbInt(1, d)...)
	}
	return pbBytes(5, out)
}

func floatBytes(v float32) []byte {
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))
}

// model is a ModelProto of IR version 8 and opset 13.
func model(graph ...[]byte) []byte {
	return pb(pbInt(1, 8), pbBytes(7, pb(append(graph, pbString(2, "g"))...)), pbBytes(8, pbInt(2, 13)))
}

// meanGraph is a text classifier as others export them: tokens in, two class logits
// out, -0.001 and +0.002 times the mean id.
func meanGraph() []byte {
	return model(
		node("Cast", []string{"tokens"}, []string{"f"}, intAttr("to", elemFloat32)),
		node("ReduceMean", []string{"f"}, []string{"m"}, intsAttr("axes", 1), intAttr("keepdims", 1)),
		node("Mul", []string{"m", "down"}, []string{"easy"}),
		node("Mul", []string{"m", "up"}, []string{"hard"}),
		node("Concat", []string{"easy", "hard"}, []string{"logits"}, intAttr("axis", 1)),
		constant("down", elemFloat32, floatBytes(-0.001)),
		constant("up", elemFloat32, floatBytes(0.002)),
		pbBytes(11, valueInfo("tokens", elemInt64, 1, -1)),
		pbBytes(12, valueInfo("logits", elemFloat32, 1, 2)),
	)
}

// slowGraph is a graph whose run takes (highest id - 1000)^4 turns of a loop: none for
// a text of letters, hours for one with the last id of tiny's vocabulary.
func slowGraph() []byte {
	body := pb(
		node("Identity", []string{"go"}, []string{"go_on"}),
		node("Add", []string{"v", "zero"}, []string{"v_next"}),
		pbString(2, "body"),
		pbBytes(11, valueInfo("i", elemInt64)), pbBytes(11, valueInfo("go", 9)), pbBytes(11, valueInfo("v", elemFloat32, 1, 1)),
		pbBytes(12, valueInfo("go_on", 9)), pbBytes(12, valueInfo("v_next", elemFloat32, 1, 1)),
	)
	return model(
		node("Cast", []string{"tokens"}, []string{"f"}, intAttr("to", elemFloat32)),
		node("ReduceMean", []string{"f"}, []string{"m"}, intsAttr("axes", 1), intAttr("keepdims", 1)),
		node("ReduceMax", []string{"f"}, []string{"highest"}, intAttr("keepdims", 0)),
		node("Sub", []string{"highest", "thousand"}, []string{"above"}),
		node("Relu", []string{"above"}, []string{"n"}),
		node("Mul", []string{"n", "n"}, []string{"n2"}),
		node("Mul", []string{"n2", "n2"}, []string{"n4"}),
		node("Cast", []string{"n4"}, []string{"turns"}, intAttr("to", elemInt64)),
		node("Loop", []string{"turns", "true", "m"}, []string{"logits"}, graphAttr("body", body)),
		constant("thousand", elemFloat32, floatBytes(1000)),
		constant("true", 9, []byte{1}),
		constant("zero", elemFloat32, floatBytes(0), 1, 1),
		pbBytes(11, valueInfo("tokens", elemInt64, 1, -1)),
		pbBytes(12, valueInfo("logits", elemFloat32, 1, 1)),
	)
}

// knots is the calibration y = x, half a logit wide on each side.
func knots() object {
	return object{"knots": []any{
		object{"x": -4, "y": -4, "lo": -4.5, "hi": -3.5}, object{"x": 4, "y": 4, "lo": 3.5, "hi": 4.5},
	}}
}

// foreignBundle makes a bundle of a graph with tiny's tokenizer. Its complexity output
// is as given; the probes are recorded from the graph itself.
func foreignBundle(t testing.TB, graph []byte, complexity object) string {
	t.Helper()
	dir := t.TempDir()
	writeTest(t, dir, manifestName, []byte(`{"files": {}}`))
	swap(t, dir, "model.onnx", graph)
	swap(t, dir, "tok.json", readTest(t, bundleDir("tiny"), "tokenizer.json"))
	complexity["name"] = "logits"
	edit(t, dir, manifestName, func(m object) {
		for k, v := range (object{
			"schema": 1, "name": "foreign", "version": "1", "probes": "p.json",
			"references": object{"efficient": "small", "high_performance": "large"},
			"lanes": object{"fast": object{
				"graph": "model.onnx", "tokenizer": "tok.json",
				"special_tokens":      object{"prefix": []any{2}, "suffix": []any{3}},
				"inputs":              object{"input_ids": "tokens"},
				"outputs":             object{"complexity": complexity},
				"high_from_efficient": object{"a": 1.2, "b": 0.6},
				"window":              object{"head_tokens": 384, "tail_tokens": 0, "head_bytes": 4096, "tail_bytes": 0},
				"calibration":         object{"quality_efficient": knots()},
				"output_tokens":       object{"p90_offset": 0.7, "default": 100, "min": 1, "max": 150},
				"tolerance":           object{"default": 0.001},
			}},
		}) {
			m[k] = v
		}
	})
	recordProbes(t, dir)
	return dir
}

// recordProbes writes p.json from what the bundle's graph gives.
func recordProbes(t testing.TB, dir string) {
	t.Helper()
	var m Manifest
	require.NoError(t, decodeStrict(readTest(t, dir, manifestName), &m))
	tok, err := shared.engine.openTokenizer(readTest(t, dir, "tok.json"))
	require.NoError(t, err)
	s, err := shared.engine.openSession(readTest(t, dir, "model.onnx"), m.Lanes.Fast)
	require.NoError(t, err)
	scorer, err := newScorer("fast", &m, m.Lanes.Fast)
	require.NoError(t, err)
	l := lane{session: s, scorer: scorer, encoder: encoder{tok, m.Lanes.Fast.Window, m.Lanes.Fast.SpecialTokens}}
	var probes []any
	for i := range minProbes {
		text := strings.Repeat("a ", i+1)
		e, r, err := l.runText(t.Context(), text)
		require.NoError(t, err)
		probes = append(probes, object{"text": text, "lanes": object{
			"fast": object{"ids": e.ids, "outputs": object{"complexity": r.value[outComplexity]}},
		}})
	}
	data, err := json.Marshal(object{"probes": probes})
	require.NoError(t, err)
	swap(t, dir, "p.json", data)
	require.NoError(t, s.close())
	require.NoError(t, tok.close())
}

// TestForeignClassifier opens a graph with other names, one output for complexity,
// no mask, no shape, no domains and no lengths, by its manifest alone.
func TestForeignClassifier(t *testing.T) {
	const text = "please explain the tax"
	for name, tc := range map[string]struct {
		complexity object
		logit      func(easy, hard float64) float64
	}{
		"two classes":            {object{"index": 1, "minus_index": 0}, func(easy, hard float64) float64 { return hard - easy }},
		"one of a vector":        {object{"index": 1}, func(_, hard float64) float64 { return hard }},
		"the other, sign turned": {object{"index": 0, "negate": true}, func(easy, _ float64) float64 { return -easy }},
		"a probability":          {object{"index": 1, "probability": true}, func(_, hard float64) float64 { return math.Log(hard / (1 - hard)) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := foreignBundle(t, meanGraph(), tc.complexity)
			b := open(t, dir, Config{})
			ids, n, _, _, err := b.Encode(text)
			require.NoError(t, err)
			mean := 0.0
			for _, id := range ids {
				mean += float64(id) / float64(len(ids))
			}
			complexity := tc.logit(-0.001*mean, 0.002*mean)
			s, err := b.Classify(t.Context(), text)
			require.NoError(t, err)
			require.NoError(t, s.Validate())
			assert.InDelta(t, 1/(1+math.Exp(complexity)), s.QEfficient.Value, 1e-5)
			assert.InDelta(t, 1/(1+math.Exp(complexity+0.5)), s.QEfficient.Low, 1e-5)
			assert.InDelta(t, 1/(1+math.Exp(-(1.2-0.6*complexity))), s.QHigh.Value, 1e-5)
			assert.InDelta(t, 100, s.OutputTokens, 1e-9)
			assert.InDelta(t, 150, s.OutputTokensP90, 1e-9, "the clamp")
			assert.Equal(t, n, s.InputTokens)
			assert.InDelta(t, 1.0/classifier.NumDomains, s.Domains[3], 1e-12)
			assert.False(t, s.OutOfDistribution)
			assert.Equal(t, "fast", s.Lane)
		})
	}
}

func TestForeignClassifierKeepsTheContract(t *testing.T) {
	classifiertest.Run(t, open(t, foreignBundle(t, meanGraph(), object{"index": 1, "minus_index": 0}), Config{}))
}

// TestForeignClassifierNeedsItsIndex refuses to guess which value of two counts.
func TestForeignClassifierNeedsItsIndex(t *testing.T) {
	dir := foreignBundle(t, meanGraph(), object{"index": 1})
	edit(t, dir, manifestName, func(m object) {
		at(fastLane(m), "outputs")["complexity"] = object{"name": "logits"}
	})
	_, err := shared.Open(t.Context(), dir, Config{})
	require.ErrorContains(t, err, "as float32 [1, 2], want 1 values")
}
