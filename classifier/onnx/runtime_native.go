//go:build native && cgo

package onnx

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void trim(void) { malloc_trim(0); }
#else
static void trim(void) {}
#endif
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ort "github.com/yalue/onnxruntime_go"
)

// ortEngine is ONNX Runtime. Its binding keeps library and environment in globals, so
// that there can be one only.
type ortEngine struct{}

// startEngine loads the library. Every error names the remedy: it is the first thing
// that goes wrong on a new machine.
func startEngine(library string) (engine, error) {
	if library != filepath.Base(library) {
		if _, err := os.Stat(library); err != nil {
			return nil, fmt.Errorf("%w: run `make setup`, or set WEIR_ONNXRUNTIME to the library", err)
		}
	}
	if ort.IsInitialized() {
		return nil, errors.New("it has been started already: use that Runtime, or close it first")
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return nil, fmt.Errorf("%w: run `make setup`, or set WEIR_ONNXRUNTIME to a libonnxruntime of version 1.24 or later", err)
	}
	if err := ort.DisableTelemetry(); err != nil {
		return nil, errors.Join(fmt.Errorf("turn telemetry off: %w", err), ort.DestroyEnvironment())
	}
	return ortEngine{}, nil
}

func (ortEngine) version() string { return ort.GetVersion() }

func (ortEngine) close() error { return ort.DestroyEnvironment() }

// trimHeap gives freed native memory back to the system. Without it a process that
// swaps bundles grows to three times its size.
func trimHeap() { C.trim() }
