//go:build native && cgo && linux

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHangupRereadsTheBundle: with the watch off, SIGHUP alone takes up what the folder
// holds, and leaves out what a gate refuses.
func TestHangupRereadsTheBundle(t *testing.T) {
	p := startProcess(t, "tiny", "--watch=false", "--gate", quickGate(t))
	before := p.route("hello").GetBundleDigest()
	setVersion(t, p.live, "2")
	require.NoError(t, syscall.Kill(p.pid, syscall.SIGHUP))
	p.logged(`msg="bundle promoted" bundle="tiny 2"`)
	second := p.route("hello").GetBundleDigest()
	assert.NotEqual(t, before, second)
	writeIn(t, p.live, "fast.onnx", []byte("half"))
	require.NoError(t, syscall.Kill(p.pid, syscall.SIGHUP))
	p.logged("fast.onnx has 4 bytes, the manifest says")
	assert.Equal(t, second, p.route("hello").GetBundleDigest())
}

// TestSwapThroughGrpcurl lives the runbook with a client that knows nothing of Weir.
func TestSwapThroughGrpcurl(t *testing.T) {
	grpcurl, err := filepath.Abs(filepath.Join("..", "..", "build", "bin", "grpcurl"))
	require.NoError(t, err)
	if _, err := os.Stat(grpcurl); err != nil {
		t.Skip("grpcurl is not there: scripts/tool grpcurl builds it")
	}
	s := serveTiny(t)
	call := func(method, request string) (object, string, error) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), grpcurl, "-plaintext", "-d", request, s.admin, "weir.v1.AdminService/"+method) //nolint:gosec // a pinned tool
		raw, err := cmd.CombinedOutput()
		var out object
		if err == nil {
			require.NoError(t, json.Unmarshal(raw, &out), "%s", raw)
		}
		return out, string(raw), err
	}
	must := func(method, request string) object {
		t.Helper()
		out, raw, err := call(method, request)
		require.NoError(t, err, raw)
		return out
	}
	before := s.route("hello").GetBundleDigest()
	setVersion(t, copyBundle(t, "tiny", filepath.Join(s.root, "two")), "2")
	digest := must("StageBundle", `{"name": "two"}`)["bundle"].(object)["digest"].(string)
	assert.Equal(t, before, s.route("hello").GetBundleDigest())
	must("PromoteBundle", `{"digest": "`+digest+`"}`)
	assert.Equal(t, digest, s.route("hello").GetBundleDigest())
	assert.Equal(t, "BUNDLE_STATE_SETTLING", must("GetBundle", "{}")["state"])
	must("RollbackBundle", "{}")
	assert.Equal(t, before, s.route("hello").GetBundleDigest())
	assert.Len(t, must("ListBundles", "{}")["bundles"], 3)
	writeIn(t, copyBundle(t, "tiny", filepath.Join(s.root, "bad")), "fast.onnx", []byte("half"))
	_, raw, err := call("StageBundle", `{"name": "bad"}`)
	require.Error(t, err)
	for _, want := range []string{"FailedPrecondition", "BUNDLE_REFUSED", "digests", "fast.onnx has 4 bytes"} {
		assert.Contains(t, raw, want)
	}
	_, raw, err = call("StageBundle", `{"name": "../live"}`)
	require.Error(t, err)
	assert.Contains(t, raw, "InvalidArgument")
}
