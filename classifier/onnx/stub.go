//go:build !(native && cgo)

package onnx

func startEngine(string) (engine, error) { return nil, errNoEngine }
