package onnx

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// Helpers that copy models/tiny and break the copy.

func bundleDir(name string) string { return filepath.Join("..", "..", "models", name) }

type object = map[string]any

// tinyCopy returns a copy of models/tiny to be spoiled.
func tinyCopy(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(bundleDir("tiny"))))
	return dir
}

func readTest(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return data
}

func writeTest(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
}

// edit changes a JSON file of the bundle.
func edit(t testing.TB, dir, name string, change func(object)) {
	t.Helper()
	var doc object
	dec := json.NewDecoder(bytes.NewReader(readTest(t, dir, name)))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&doc))
	change(doc)
	data, err := json.Marshal(doc)
	require.NoError(t, err)
	if name == manifestName {
		writeTest(t, dir, name, data)
		return
	}
	swap(t, dir, name, data)
}

// swap puts a file in and makes the manifest vouch for it, as whoever built the
// bundle wrongly would.
func swap(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	writeTest(t, dir, name, data)
	edit(t, dir, manifestName, func(m object) {
		m["files"].(object)[name] = object{"sha256": digest(data), "bytes": len(data)}
	})
}

// editGraph changes a graph in place, or returns another.
func editGraph(t testing.TB, dir, name string, change func([]byte) []byte) {
	t.Helper()
	swap(t, dir, name, change(readTest(t, dir, name)))
}

// at walks down a document: at(m, "lanes", "fast").
func at(doc object, path ...string) object {
	for _, key := range path {
		doc = doc[key].(object)
	}
	return doc
}

func fastLane(m object) object { return at(m, "lanes", "fast") }

// Protobuf, written by hand: pb builds a message of its fields.

func pb(fields ...[]byte) []byte { return bytes.Join(fields, nil) }

func pbBytes(num protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
}

func pbString(num protowire.Number, value string) []byte { return pbBytes(num, []byte(value)) }

func pbInt(num protowire.Number, value int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(value))
}

// mapFields rebuilds a message; change returns a field's whole encoding, or nil to
// keep it.
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

// inGraph changes fields of the model's graph.
func inGraph(t testing.TB, model []byte, change func(num protowire.Number, value []byte) []byte) []byte {
	t.Helper()
	return mapFields(t, model, func(num protowire.Number, value []byte) []byte {
		if num != 7 {
			return nil
		}
		return pbBytes(7, mapFields(t, value, change))
	})
}

// addToGraph appends fields to the model's graph.
func addToGraph(t testing.TB, model []byte, fields ...[]byte) []byte {
	t.Helper()
	return mapFields(t, model, func(num protowire.Number, value []byte) []byte {
		if num != 7 {
			return nil
		}
		return pbBytes(7, append(bytes.Clone(value), pb(fields...)...))
	})
}

// tensor is a TensorProto of floats: dims = 1, data_type = 2, float_data = 4, name = 8.
func tensor(name string, dims []int64, values ...[]byte) []byte {
	out := pb(pbInt(2, elemFloat32), pbString(8, name))
	for _, d := range dims {
		out = append(out, pbInt(1, d)...)
	}
	return append(out, pb(values...)...)
}

// external is a TensorProto whose data lie in a file: external_data = 13, data_location = 14.
func external(name, location string) []byte {
	entry := func(key, value string) []byte { return pbBytes(13, pb(pbString(1, key), pbString(2, value))) }
	return tensor(name, []int64{4}, entry("location", location), entry("length", "16"), pbInt(14, 1))
}
