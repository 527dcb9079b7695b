//go:build native && cgo

package onnx

import (
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
	before := shared.opened()
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
	assert.Equal(t, before, shared.opened(), "a refused bundle counts as open")
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
