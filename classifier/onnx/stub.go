//go:build !(native && cgo)

package onnx

// startEngine fails: there is no native code in this build.
func startEngine(string) (engine, error) { return nil, errNoEngine }

// trimHeap has nothing to give back without native code.
func trimHeap() {}
