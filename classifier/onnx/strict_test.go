package onnx

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDecodeStrictJoinsFaults reads every fault of one document at once.
func TestDecodeStrictJoinsFaults(t *testing.T) {
	var m Manifest
	err := decodeStrict([]byte(`{"schema": "one", "names": "x", "version": "1", "version": "2", "domains": "coding",
		"files": {"a.b": {"bytes": 1.5}}, "lanes": {"fast": []}, "cascade": {"low": null, "high": 1}, "provenance": 7}`), &m)
	for _, want := range []string{
		`schema is "one", want a whole number`, "names is an unknown field", "name is missing", "version is given twice",
		`domains is "coding", want a list`, `files."a.b".sha256 is missing`, `files."a.b".bytes is 1.5`,
		"lanes.fast is [], want an object", "cascade.low is null", "provenance is 7, want an object", "references is missing",
	} {
		require.ErrorContains(t, err, want)
	}
	assert.Equal(t, "1", m.Version, "what can be read is read")
	assert.InDelta(t, 1, m.Cascade.High, 0)
}

// FuzzDecodeStrict takes any bytes: what it accepts, encoding/json accepts with the
// same result.
func FuzzDecodeStrict(f *testing.F) {
	f.Add(readTest(f, bundleDir("tiny"), manifestName))
	f.Add([]byte(`{"schema": 1, "Schema": 2}`))
	f.Add([]byte(`{"files": {"": {}}, "domains": [null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, loose Manifest
		if err := decodeStrict(data, &strict); err != nil {
			return
		}
		require.NoError(t, json.Unmarshal(data, &loose))
		require.Equal(t, loose, strict)
		_ = strict.check() // what counts is that it returns
	})
}
