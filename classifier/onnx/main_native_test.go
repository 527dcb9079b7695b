//go:build native && cgo

package onnx

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/classifier/classifiertest"
)

// shared is the one Runtime of the test process.
var shared *Runtime

func TestMain(m *testing.M) {
	var err error
	if shared, err = Start(RuntimeConfig{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

func open(t testing.TB, dir string, cfg Config) *Bundle {
	t.Helper()
	b, err := shared.Open(t.Context(), dir, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestBundleKeepsTheContract(t *testing.T) {
	classifiertest.Run(t, open(t, bundleDir("tiny"), Config{}))
}
