//go:build native && cgo && race

package onnx

// raceEnabled says that memory cannot be measured: the detector keeps its own.
const raceEnabled = true
