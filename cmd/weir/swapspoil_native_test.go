//go:build native && cgo

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// Helpers that copy models/tiny and change the copy, as whoever built it would, or
// whoever broke it.

type object = map[string]any

func bundleDir(name string) string { return filepath.Join("..", "..", "models", name) }

// copyBundle puts a shipped bundle in the place of dir.
func copyBundle(t testing.TB, name, dir string) string {
	t.Helper()
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.CopyFS(dir, os.DirFS(bundleDir(name))))
	return dir
}

func readIn(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return data
}

func writeIn(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
}

// editJSON changes a JSON file of the bundle and vouches for it.
func editJSON(t testing.TB, dir, name string, change func(object)) {
	t.Helper()
	var doc object
	dec := json.NewDecoder(bytes.NewReader(readIn(t, dir, name)))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&doc))
	change(doc)
	data, err := json.Marshal(doc)
	require.NoError(t, err)
	if name == "manifest.json" {
		writeIn(t, dir, name, data)
		return
	}
	vouch(t, dir, name, data)
}

// vouch puts a file in, and its digest into the manifest.
func vouch(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	writeIn(t, dir, name, data)
	sum := sha256.Sum256(data)
	editJSON(t, dir, "manifest.json", func(m object) {
		m["files"].(object)[name] = object{"sha256": hex.EncodeToString(sum[:]), "bytes": len(data)}
	})
}

func setVersion(t testing.TB, dir, version string) string {
	t.Helper()
	editJSON(t, dir, "manifest.json", func(m object) { m["version"] = version })
	return dir
}

// lanesOf are the lanes of a manifest.
func lanesOf(m object) []object {
	var out []object
	for _, lane := range m["lanes"].(object) {
		out = append(out, lane.(object))
	}
	return out
}

// editGraph changes a graph and vouches for it.
func editGraph(t testing.TB, dir, name string, change func([]byte) []byte) {
	t.Helper()
	vouch(t, dir, name, change(readIn(t, dir, name)))
}

// mapFields rebuilds a protobuf message; change returns a field's whole encoding,
// or nil to keep it.
func mapFields(t testing.TB, msg []byte, change func(num protowire.Number, value []byte) []byte) []byte {
	t.Helper()
	var out []byte
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeField(msg)
		require.Positive(t, n)
		field := msg[:n]
		msg = msg[n:]
		if typ == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(field)
			value, _ := protowire.ConsumeBytes(field[tag:])
			if other := change(num, value); other != nil {
				field = other
			}
		}
		out = append(out, field...)
	}
	return out
}

func pbBytes(num protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
}

func pbInt(num protowire.Number, value int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(value))
}

// inGraph changes fields of the model's graph, and may append some.
func inGraph(t testing.TB, model, more []byte, change func(num protowire.Number, value []byte) []byte) []byte {
	t.Helper()
	return mapFields(t, model, func(num protowire.Number, value []byte) []byte {
		if num != 7 {
			return nil
		}
		return pbBytes(7, append(mapFields(t, value, change), more...))
	})
}

func nothing(protowire.Number, []byte) []byte { return nil }

// inTensor changes the raw data (9) of the initializer (5) of that name (8).
func inTensor(t testing.TB, model []byte, name string, change func([]byte) []byte) []byte {
	t.Helper()
	found := false
	out := inGraph(t, model, nil, func(num protowire.Number, value []byte) []byte {
		if num != 5 || !bytes.Contains(value, pbBytes(8, []byte(name))) {
			return nil
		}
		return pbBytes(5, mapFields(t, value, func(num protowire.Number, raw []byte) []byte {
			if num != 9 {
				return nil
			}
			found = true
			return pbBytes(9, change(bytes.Clone(raw)))
		}))
	})
	require.True(t, found, "the graph has no tensor %s", name)
	return out
}

// setFloat puts v in the place of a tensor's first value.
func setFloat(t testing.TB, name string, v float32) func([]byte) []byte {
	return func(model []byte) []byte {
		return inTensor(t, model, name, func(raw []byte) []byte {
			binary.LittleEndian.PutUint32(raw, math.Float32bits(v))
			return raw
		})
	}
}

// addFloat moves every value of a tensor.
func addFloat(t testing.TB, name string, by float32) func([]byte) []byte {
	return func(model []byte) []byte {
		return inTensor(t, model, name, func(raw []byte) []byte {
			for i := 0; i+4 <= len(raw); i += 4 {
				v := math.Float32frombits(binary.LittleEndian.Uint32(raw[i:]))
				binary.LittleEndian.PutUint32(raw[i:], math.Float32bits(v+by))
			}
			return raw
		})
	}
}

// otherWeights shuffles the values of every tensor that is a table of floats: right
// sizes, another model.
func otherWeights(t testing.TB, model []byte) []byte {
	r := rand.New(rand.NewPCG(3, 5))
	return inGraph(t, model, nil, func(num protowire.Number, value []byte) []byte {
		if num != 5 || !bytes.Contains(value, pbInt(2, 1)) {
			return nil
		}
		return pbBytes(5, mapFields(t, value, func(num protowire.Number, raw []byte) []byte {
			if num != 9 {
				return nil
			}
			raw = bytes.Clone(raw)
			r.Shuffle(len(raw)/4, func(i, j int) {
				var keep [4]byte
				copy(keep[:], raw[4*i:])
				copy(raw[4*i:4*i+4], raw[4*j:])
				copy(raw[4*j:4*j+4], keep[:])
			})
			return pbBytes(9, raw)
		}))
	})
}

// busyWork makes a graph compute much for nothing: the output goes through the sum
// of many products of another of its rows, times zero.
func busyWork(t testing.TB, output, from string, values int) func([]byte) []byte {
	const width, layers = 512, 40
	tensor := func(name string, values int, dims ...int64) []byte {
		out := append(pbInt(2, 1), pbBytes(8, []byte(name))...)
		for _, d := range dims {
			out = append(out, pbInt(1, d)...)
		}
		return pbBytes(5, append(out, pbBytes(9, make([]byte, 4*values))...))
	}
	node := func(op, out string, in ...string) []byte {
		var b []byte
		for _, name := range in {
			b = append(b, pbBytes(1, []byte(name))...)
		}
		b = append(b, pbBytes(2, []byte(out))...)
		return pbBytes(1, append(b, pbBytes(4, []byte(op))...))
	}
	return func(model []byte) []byte {
		more := append(tensor("busy_in", values*width, int64(values), width), tensor("busy_w", width*width, width, width)...)
		more = append(more, tensor("busy_out", width, width, 1)...)
		more = append(more, node("MatMul", "busy_0", from, "busy_in")...)
		last := "busy_0"
		for i := range layers {
			next := last + "x"
			_ = i
			more = append(more, node("MatMul", next, last, "busy_w")...)
			last = next
		}
		more = append(more, node("MatMul", "busy_sum", last, "busy_out")...)
		more = append(more, node("Add", output, "busy_raw", "busy_sum")...)
		found := false
		out := inGraph(t, model, more, func(num protowire.Number, value []byte) []byte {
			if num != 1 || !bytes.Contains(value, pbBytes(2, []byte(output))) {
				return nil
			}
			found = true
			return pbBytes(1, mapFields(t, value, func(num protowire.Number, name []byte) []byte {
				if num == 2 && string(name) == output {
					return pbBytes(2, []byte("busy_raw"))
				}
				return nil
			}))
		})
		require.True(t, found, "no node makes %s", output)
		return out
	}
}

// mutate changes one to four places of a file: bits, bytes, cuts and copies.
func mutate(original []byte, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 8))
	data := bytes.Clone(original)
	for range 1 + r.IntN(4) {
		at := r.IntN(len(data))
		switch r.IntN(5) {
		case 0:
			data[at] ^= 1 << r.IntN(8)
		case 1:
			data[at] = byte(r.IntN(256))
		case 2:
			data[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 3:
			data = append(data[:at], data[min(at+1+r.IntN(8), len(data)):]...)
		default:
			end := min(at+1+r.IntN(16), len(data))
			data = append(data[:end], append(bytes.Clone(data[at:end]), data[end:]...)...)
		}
	}
	return data
}

// oneRow changes how one token of a vocabulary counts: damage that few prompts show.
func oneRow(t testing.TB, model []byte) []byte {
	return inTensor(t, model, "stats", func(raw []byte) []byte {
		const row = 700
		v := math.Float32frombits(binary.LittleEndian.Uint32(raw[8*row:]))
		binary.LittleEndian.PutUint32(raw[8*row:], math.Float32bits(-30*v))
		return raw
	})
}
