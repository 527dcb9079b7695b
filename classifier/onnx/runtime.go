package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/weirhq/weir/classifier"
)

// RuntimeConfig says where ONNX Runtime is.
type RuntimeConfig struct {
	// LibraryPath is the shared library's file; "" means FindLibrary().
	LibraryPath string
}

// Runtime is the process-wide ONNX Runtime environment. There is one at a time;
// make it by Start, in cmd. It is safe for concurrent use.
type Runtime struct {
	engine engine

	mu     sync.Mutex
	open   int
	closed bool
}

// Config bounds what a bundle does at once.
type Config struct {
	// MaxConcurrent is how many prompts are scored at the same time; 0 means
	// GOMAXPROCS. Every run uses one thread.
	MaxConcurrent int
	// MaxQueue is how many callers wait beyond those; 0 means 64 for each of
	// MaxConcurrent, a negative number none. A caller that finds the queue full
	// gets classifier.ErrOverloaded.
	MaxQueue int
}

// queuePerRun is the default length of the queue for each concurrent run: at a
// third of a millisecond a run, the last in a full queue waits some 20 ms.
const queuePerRun = 64

func (c Config) withDefaults() Config {
	if c.MaxConcurrent <= 0 {
		c.MaxConcurrent = runtime.GOMAXPROCS(0)
	}
	switch {
	case c.MaxQueue == 0:
		c.MaxQueue = queuePerRun * c.MaxConcurrent
	case c.MaxQueue < 0:
		c.MaxQueue = 0
	}
	return c
}

// Start loads ONNX Runtime and makes the environment, with its logging off: what
// goes wrong comes back as an error. It fails when the library is missing or too
// old, when a Runtime is already there, and in a build without the tag native.
// Close the Runtime after the last bundle.
func Start(cfg RuntimeConfig) (*Runtime, error) {
	if cfg.LibraryPath == "" {
		cfg.LibraryPath = FindLibrary()
	}
	e, err := startEngine(cfg.LibraryPath)
	if err != nil {
		return nil, fmt.Errorf("start ONNX Runtime: %w", err)
	}
	return &Runtime{engine: e}, nil
}

// Version is ONNX Runtime's version, such as "1.24.4".
func (r *Runtime) Version() string { return r.engine.version() }

// Open reads the bundle in folder dir, proves it and makes it ready to serve. The
// error joins every fault that can be told without running the graph, each with
// field, value and remedy; then come the graph, the tokenizer and the probes. A
// bundle that is refused leaves no native memory behind. Cancelling ctx makes Open
// return its cause. The caller closes the bundle.
func (r *Runtime) Open(ctx context.Context, dir string, cfg Config) (*Bundle, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, fmt.Errorf("open bundle %s: ONNX Runtime is closed", dir)
	}
	r.open++
	r.mu.Unlock()
	b, err := openBundle(ctx, r.engine, dir, cfg.withDefaults(), r.released)
	if err != nil {
		r.released()
		return nil, fmt.Errorf("open bundle %s: %w", dir, err)
	}
	return b, nil
}

func (r *Runtime) released() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
}

// Close frees the environment. It refuses, and changes nothing, while a bundle is
// open: native code must not lose the ground that it stands on.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	if r.open > 0 {
		return fmt.Errorf("close ONNX Runtime: %d bundles are open, close them first", r.open)
	}
	r.closed = true
	if err := r.engine.close(); err != nil {
		return fmt.Errorf("close ONNX Runtime: %w", err)
	}
	return nil
}

// FindLibrary returns the path of the ONNX Runtime library: the first of candidates
// that is a file, else the library beside the executable, in ../lib or
// ../third_party/lib from there, or in third_party/lib of the Go module that holds
// the working directory. When none of them is there it returns the bare file name,
// which the system's loader looks up (LD_LIBRARY_PATH, ld.so.conf).
func FindLibrary(candidates ...string) string {
	name := libraryName(runtime.GOOS)
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir := filepath.Dir(exe)
		candidates = append(candidates, filepath.Join(dir, name),
			filepath.Join(dir, "..", "lib", name), filepath.Join(dir, "..", "third_party", "lib", name))
	}
	if wd, err := os.Getwd(); err == nil {
		for dir := wd; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				candidates = append(candidates, filepath.Join(dir, "third_party", "lib", name))
				break
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	for _, c := range candidates {
		if info, err := os.Stat(c); c != "" && err == nil && info.Mode().IsRegular() {
			return c
		}
	}
	return name
}

func libraryName(goos string) string {
	switch goos {
	case "darwin":
		return "libonnxruntime.dylib"
	case "windows":
		return "onnxruntime.dll"
	}
	return "libonnxruntime.so"
}

// engine is what native code gives: runtime_native.go, and fakes in tests.
type engine interface {
	// openSession makes a session of a graph's bytes, without reading any file.
	openSession(graph []byte, lane *Lane) (session, error)
	// openTokenizer makes a tokenizer of the bytes of a tokenizer.json.
	openTokenizer(json []byte) (tokenizer, error)
	version() string
	// close frees the environment. Every session has been closed.
	close() error
}

// session runs one graph. run is safe for concurrent use; close comes after the last run.
type session interface {
	// run scores one prompt. After ctx ends it returns soon, and native code has
	// ended when it returns.
	run(ctx context.Context, ids []int64, shape []float32) ([][]float32, error)
	close() error
}

// tokenizer turns text into ids, special tokens added, those in the text encoded
// as text. encode is safe for concurrent use; close comes after the last encode.
type tokenizer interface {
	encode(text string) []uint32
	close() error
}

// closers closes what was made, last first, and joins the errors.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for i := len(*c) - 1; i >= 0; i-- {
		errs = append(errs, (*c)[i]())
	}
	*c = nil
	return errors.Join(errs...)
}

var _ classifier.Classifier = (*Bundle)(nil)
