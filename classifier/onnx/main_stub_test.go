//go:build !(native && cgo)

package onnx

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStartWithoutNativeNamesTheRemedy(t *testing.T) {
	_, err := Start(RuntimeConfig{})
	require.ErrorIs(t, err, errNoEngine)
	require.ErrorContains(t, err, "make build")
	require.ErrorContains(t, err, "-tags native")
}
