package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/classifier/onnx"
)

// classifierFlags say which classifier to open.
type classifierFlags struct {
	kind, bundle, library   string
	maxConcurrent, maxQueue int
}

func (f *classifierFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "classifier", "onnx", "onnx (a model bundle) or lexical (the baseline, no native library)")
	cmd.Flags().StringVar(&f.bundle, "bundle", "", "model bundle folder (default: $WEIR_BUNDLE, else models/default here, else beside the binary)")
	cmd.Flags().StringVar(&f.library, "onnxruntime", "", "ONNX Runtime library (default: $WEIR_ONNXRUNTIME, else beside the binary, else third_party/lib)")
	cmd.Flags().IntVar(&f.maxConcurrent, "max-concurrent", 0, "prompts scored at once (default: one a core)")
	cmd.Flags().IntVar(&f.maxQueue, "max-queue", 0, "prompts that wait for a free core before the rest is refused (default: 64 a core)")
}

// teardown is what has to be closed, in the order in which it was opened.
type teardown []func() error

func (t *teardown) push(name string, f func() error) {
	*t = append(*t, func() error {
		if err := f(); err != nil {
			return fmt.Errorf("close %s: %w", name, err)
		}
		return nil
	})
}

// close runs the steps in reverse and joins their errors.
func (t *teardown) close() error {
	var errs []error
	for _, f := range slices.Backward(*t) {
		errs = append(errs, f())
	}
	*t = nil
	return errors.Join(errs...)
}

// opened is a classifier with its runtime; close gives both back.
type opened struct {
	classifier classifier.Classifier
	// bundle is nil for the baseline.
	bundle *onnx.Bundle
	dir    string
	// runtime opens further bundles; library is what it was started with, "" for
	// the one that onnx.FindLibrary finds.
	runtime *onnx.Runtime
	library string
	teardown
}

// open opens the classifier that the flags name. It tells what to do when that
// needs something that is not there: it never falls back to the baseline by itself.
func (f *classifierFlags) open(ctx context.Context, w world) (*opened, error) {
	switch f.kind {
	case "lexical":
		return &opened{classifier: classifier.Lexical{}}, nil
	case "onnx":
	default:
		return nil, usageError("--classifier %q is unknown: use onnx or lexical", f.kind)
	}
	dir, err := findBundle(f.bundle, w.getenv)
	if err != nil {
		return nil, err
	}
	out := &opened{dir: dir}
	library, err := findRuntime(f.library, w.getenv)
	if err != nil {
		return nil, err
	}
	rt, err := onnx.Start(onnx.RuntimeConfig{LibraryPath: library})
	if err != nil {
		return nil, err
	}
	out.runtime, out.library = rt, library
	out.push("ONNX Runtime", rt.Close)
	out.bundle, err = rt.Open(ctx, dir, onnx.Config{MaxConcurrent: f.maxConcurrent, MaxQueue: f.maxQueue})
	if err != nil {
		return nil, errors.Join(err, out.close())
	}
	out.push("model bundle", out.bundle.Close)
	out.classifier = out.bundle
	return out, nil
}

// findRuntime resolves the library: the flag, WEIR_ONNXRUNTIME, or "" for the one
// that onnx.FindLibrary finds.
func findRuntime(flag string, getenv func(string) string) (string, error) {
	library := flag
	if library == "" {
		library = getenv("WEIR_ONNXRUNTIME")
	}
	// The system's loader looks a bare name up in its own folders, not here.
	if _, err := os.Stat(library); library != "" && err == nil {
		if library, err = filepath.Abs(library); err != nil {
			return "", fmt.Errorf("library path: %w", err)
		}
	}
	return library, nil
}

// startRuntime starts ONNX Runtime for verbs that open bundles themselves.
func startRuntime(flag string, getenv func(string) string) (*onnx.Runtime, error) {
	library, err := findRuntime(flag, getenv)
	if err != nil {
		return nil, err
	}
	return onnx.Start(onnx.RuntimeConfig{LibraryPath: library})
}

// findBundle resolves the bundle's folder: the flag, WEIR_BUNDLE, the working
// directory, beside the binary.
func findBundle(flag string, getenv func(string) string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if dir := getenv("WEIR_BUNDLE"); dir != "" {
		return dir, nil
	}
	places := []string{filepath.Join("models", "default")}
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir := filepath.Dir(exe)
		places = append(places, filepath.Join(dir, "models", "default"), filepath.Join(dir, "..", "models", "default"))
	}
	for _, dir := range places {
		if _, err := os.Stat(filepath.Join(dir, "manifest.json")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no model bundle found, looked in %v: name one by --bundle or WEIR_BUNDLE, or use --classifier lexical", places)
}

func buildInfo() string {
	return fmt.Sprintf("%s, %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
