//go:build native && cgo

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// TestARolledBackBundleStaysOutOverARestart: the configured folder still holds it, and
// a start must not be the way around every gate and watch.
func TestARolledBackBundleStaysOutOverARestart(t *testing.T) {
	s := serveTiny(t)
	first := s.route("hello").GetBundleDigest()
	setVersion(t, s.live, "2")
	s.logged(`msg="bundle promoted" bundle="tiny 2"`)
	second := s.route("hello").GetBundleDigest()
	_, err := s.operator.RollbackBundle(t.Context(), &weirv1.RollbackBundleRequest{})
	require.NoError(t, err)
	for range 2 {
		s.stop()
		s.start()
		assert.Equal(t, first, s.route("hello").GetBundleDigest())
	}
	s.logged("the configured folder's bundle was rolled back, serving the one before")

	// By name it may serve again, and then goes on over a restart.
	setVersion(t, copyBundle(t, "tiny", filepath.Join(s.root, "two")), "2")
	s.promoteNew("two")
	s.stop()
	s.start()
	assert.Equal(t, second, s.route("hello").GetBundleDigest())
}

// TestAFolderThatDoesNotOpenIsTriedAtEveryStart: one start without it must not make the
// next one take it for known.
func TestAFolderThatDoesNotOpenIsTriedAtEveryStart(t *testing.T) {
	s := serveTiny(t, "--watch=false")
	first := s.route("hello").GetBundleDigest()
	aside := s.live + "-aside"
	require.NoError(t, os.Rename(s.live, aside))
	for range 2 {
		s.stop()
		s.logs.Reset()
		s.start("--watch=false")
		assert.Equal(t, first, s.route("hello").GetBundleDigest())
		s.logged("the configured bundle cannot be opened, serving the last good one")
	}
	require.NoError(t, os.Rename(setVersion(t, aside, "2"), s.live))
	s.stop()
	s.start("--watch=false")
	assert.NotEqual(t, first, s.route("hello").GetBundleDigest(), "it opens now, and serves")
}

// TestADamagedLastCopyDoesNotKeepAServerDown: the folder is sound, and serves.
func TestADamagedLastCopyDoesNotKeepAServerDown(t *testing.T) {
	s := serveTiny(t, "--watch=false")
	first := s.route("hello").GetBundleDigest()
	setVersion(t, copyBundle(t, "tiny", filepath.Join(s.root, "two")), "2")
	digest := s.promoteNew("two")
	s.stop()
	require.NoError(t, os.Truncate(filepath.Join(s.state, "bundles", digest[len("sha256:"):], "fast.onnx"), 100))
	s.start("--watch=false")
	s.logged("the bundle that was promoted last cannot be opened, serving the configured folder's")
	assert.Equal(t, first, s.route("hello").GetBundleDigest())
}
