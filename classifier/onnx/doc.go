// Package onnx is the classifier over a model bundle: an ONNX graph or two, a
// Hugging Face tokenizer and the manifest that says what their numbers mean
// (models/README.md is the contract of the folder).
//
// It is the only room with cgo. The native parts, ONNX Runtime and
// daulet/tokenizers, are built in with the tag `native`; without it the package
// compiles, ReadManifest works, and Start returns an error that says what to do.
// cmd makes one Runtime, which opens bundles:
//
//	rt, err := onnx.Start(onnx.RuntimeConfig{})
//	bundle, err := rt.Open(ctx, "models/default", onnx.Config{})
//	scores, err := bundle.Classify(ctx, text)
//	err = bundle.Close()
//	err = rt.Close()
//
// A bundle that was opened has been proven: every digest, the graph's inputs and
// outputs, and the golden probes, run through the very path that serves.
//
// Everything that decides what a score is (windows, calibration, the manifest, the
// queue, closing) is plain Go behind two small interfaces, so that it is tested
// without a native library; only session_native.go, tokenizer_native.go and
// runtime_native.go touch C. Three rules hold there. Native memory is freed by the
// function that made it or by Bundle.Close, never by a finalizer. A cancelled run is
// waited for, because C still reads its tensors. One prompt is run at a time: int8
// graphs quantise over the batch, so that neighbours would change a score.
package onnx
