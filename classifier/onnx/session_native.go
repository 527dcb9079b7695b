//go:build native && cgo

package onnx

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/weirhq/weir/classifier"
)

// ortSession runs one graph. The binding's Run only reads the session, so that many
// may run at once; Destroy frees it whatever runs, so that Bundle.Close waits first.
type ortSession struct {
	session *ort.DynamicAdvancedSession
	inputs  []input
	outputs []string
	// ones and zeros are the attention mask and the token types of the longest run.
	ones, zeros []int64
}

// openSession makes a session of bytes, never of a path, so that nothing else can be
// read, with one thread a run: the gate bounds how many run.
func (ortEngine) openSession(graph []byte, lane *Lane) (_ session, err error) {
	options, err := newOptions()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	s := &ortSession{inputs: lane.inputs()}
	var names []string
	for _, in := range s.inputs {
		names = append(names, in.name)
	}
	all := lane.Outputs.all()
	for _, kind := range lane.Outputs.given() {
		s.outputs = append(s.outputs, all[kind].Name)
	}
	longest := lane.Window.HeadTokens + lane.Window.TailTokens + len(lane.SpecialTokens.Prefix) + len(lane.SpecialTokens.Suffix)
	s.ones, s.zeros = slices.Repeat([]int64{1}, longest), make([]int64, longest)
	s.session, err = ort.NewDynamicAdvancedSessionWithONNXData(graph, names, s.outputs, options)
	if err != nil {
		return nil, fmt.Errorf("load graph: %w", err)
	}
	return s, nil
}

// newOptions returns session options that the caller destroys.
func newOptions() (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("make session options: %w", err)
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(1),
		o.SetInterOpNumThreads(1),
		o.SetExecutionMode(ort.ExecutionModeSequential),
		o.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		o.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
		// Bytes are ONNX's protobuf, which has been looked through, and nothing else.
		o.AddSessionConfigEntry("session.load_model_format", "ONNX"),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set session options: %w", err), o.Destroy())
	}
	return o, nil
}

// run implements session. When ctx ends, the run is told to stop and waited for: C
// reads the tensors until Run returns.
func (s *ortSession) run(ctx context.Context, ids []int64, shape []float32) (_ [][]float32, err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if len(ids) == 0 || len(ids) > len(s.ones) || len(shape) != classifier.ShapeSize {
		return nil, fmt.Errorf("run of %d ids and %d shape values, want 1..%d and %d", len(ids), len(shape), len(s.ones), classifier.ShapeSize)
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, fmt.Errorf("make run options: %w", err)
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()

	var pinned runtime.Pinner // the tensors keep pointers to Go memory while C runs
	defer pinned.Unpin()
	in, err := s.feed(&pinned, ids, shape)
	defer func() { err = errors.Join(err, destroy(in)) }()
	if err != nil {
		return nil, err
	}
	out := make([]ort.Value, len(s.outputs))
	defer func() { err = errors.Join(err, destroy(out)) }()

	if err := s.runUntil(ctx, in, out, options); err != nil {
		return nil, err
	}
	return s.vectors(out)
}

// runUntil runs the graph until it is done or ctx ends. It returns when no other
// goroutine uses options any more.
func (s *ortSession) runUntil(ctx context.Context, in, out []ort.Value, options *ort.RunOptions) error {
	var terminated error
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		terminated = options.Terminate()
	})
	err := s.session.RunWithOptions(in, out, options)
	if !stop() {
		<-told
		return errors.Join(context.Cause(ctx), terminated)
	}
	if err != nil {
		return fmt.Errorf("run graph: %w", err)
	}
	return nil
}

// feed makes the input tensors. Those made before an error come back with it.
func (s *ortSession) feed(pinned *runtime.Pinner, ids []int64, shape []float32) ([]ort.Value, error) {
	in := make([]ort.Value, 0, len(s.inputs))
	tokens := ort.NewShape(1, int64(len(ids)))
	for _, i := range s.inputs {
		var v ort.Value
		var err error
		switch i.field {
		case "input_ids":
			v, err = newTensor(pinned, tokens, ids)
		case "attention_mask":
			v, err = newTensor(pinned, tokens, s.ones[:len(ids)])
		case "token_type_ids":
			v, err = newTensor(pinned, tokens, s.zeros[:len(ids)])
		default:
			v, err = newTensor(pinned, ort.NewShape(1, classifier.ShapeSize), shape)
		}
		if err != nil {
			return in, fmt.Errorf("make tensor %s: %w", i.field, err)
		}
		in = append(in, v)
	}
	return in, nil
}

func newTensor[T ort.TensorData](pinned *runtime.Pinner, shape ort.Shape, data []T) (ort.Value, error) {
	pinned.Pin(&data[0])
	t, err := ort.NewTensor(shape, data)
	if err != nil {
		return nil, err // not t: a nil *Tensor in a Value is no nil Value
	}
	return t, nil
}

// vectors reads the outputs, whose memory is Go's and outlives the tensors.
func (s *ortSession) vectors(out []ort.Value) ([][]float32, error) {
	vectors := make([][]float32, len(out))
	for i, v := range out {
		t, ok := v.(*ort.Tensor[float32])
		if !ok {
			return nil, fmt.Errorf("output %q of the graph is a %T, want float32", s.outputs[i], v)
		}
		dims := t.GetShape()
		for j, d := range dims {
			if j < len(dims)-1 && d != 1 {
				return nil, fmt.Errorf("output %q of the graph has the shape %v, want one row", s.outputs[i], dims)
			}
		}
		vectors[i] = t.GetData()
	}
	return vectors, nil
}

func destroy(values []ort.Value) error {
	var errs []error
	for _, v := range values {
		if v != nil {
			errs = append(errs, v.Destroy())
		}
	}
	return errors.Join(errs...)
}

func (s *ortSession) close() error { return s.session.Destroy() }
