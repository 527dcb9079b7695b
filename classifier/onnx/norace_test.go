//go:build native && cgo && !race

package onnx

const raceEnabled = false
