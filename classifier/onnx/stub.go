//go:build !(native && cgo)

package onnx

import "errors"

// errNoEngine tells the remedy to whoever reads the log.
var errNoEngine = errors.New("this build has no native classifier: " +
	"build with `make build` (or `go build -tags native` after `make setup`), or serve with --classifier lexical")

// startEngine fails: there is no native code in this build.
func startEngine(string) (engine, error) { return nil, errNoEngine }

// trimHeap has nothing to give back without native code.
func trimHeap() {}
