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
// A classifier that others trained fits by its manifest alone. This lane is for a
// sentence classifier with two classes, easy and hard, whose graph has no mask, no
// shape vector and no second quality:
//
//	"fast": {
//	  "graph": "model.onnx", "tokenizer": "tokenizer.json",
//	  "special_tokens": {"prefix": [101], "suffix": [102]},
//	  "inputs": {"input_ids": "tokens"},
//	  "outputs": {"complexity": {"name": "logits", "index": 1, "minus_index": 0}},
//	  "high_from_efficient": {"a": 1.2, "b": 0.6},
//	  "window": {"head_tokens": 384, "tail_tokens": 0, "head_bytes": 4096, "tail_bytes": 0},
//	  "calibration": {"quality_efficient": {"knots": [
//	    {"x": -4, "y": -4, "lo": -4.5, "hi": -3.5}, {"x": 4, "y": 4, "lo": 3.5, "hi": 4.5}]}},
//	  "output_tokens": {"p90_offset": 0.7, "default": 256, "min": 1, "max": 4096},
//	  "tolerance": {"default": 0.001}
//	}
//
// Its probes record the logit under "complexity": value 1 less value 0, before
// probability and negate.
//
// Everything that decides what a score is (windows, calibration, the manifest, the
// queue, closing) is plain Go behind small interfaces, so that it is tested without a
// native library. wordpiece.go encodes plain text in Go where that agrees with the
// native tokenizer. Only session_native.go, tokenizer_native.go and runtime_native.go
// touch C. Three rules hold there. Native memory is freed by the function that made it
// or by Bundle.Close, never by a finalizer. A cancelled run is waited for, because C
// still reads its tensors. A run takes one prompt: int8 graphs quantise over the
// batch, so that neighbours would change a score.
package onnx
