package onnx

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// graph is what the protobuf of an ONNX model says of its inputs and outputs. It is
// read here, in Go and before ONNX Runtime sees the model, because external data must
// be refused unseen: a model that names a file as its weights is loaded from wherever
// that leads.
type graph struct {
	inputs, outputs map[string]tensorType
}

// tensorType is the declared type of an input or output.
type tensorType struct {
	elem int64 // ONNX's TensorProto.DataType; 0 for what is no tensor
	// dims are the sizes, -1 for one that is not fixed; meaningless unless ranked.
	dims   []int64
	ranked bool
}

// ONNX's element types that the contract knows.
const (
	elemFloat32 = 1
	elemInt64   = 7
)

func elemName(elem int64) string {
	names := []string{
		"no tensor", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string",
		"bool", "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
	}
	if elem >= 0 && elem < int64(len(names)) {
		return names[elem]
	}
	return fmt.Sprintf("type %d", elem)
}

func (t tensorType) String() string {
	if !t.ranked {
		return elemName(t.elem)
	}
	s := elemName(t.elem) + " ["
	for i, d := range t.dims {
		if i > 0 {
			s += ", "
		}
		if d < 0 {
			s += "?"
		} else {
			s += fmt.Sprint(d)
		}
	}
	return s + "]"
}

// maxDepth bounds subgraphs within subgraphs. Real models have two or three.
const maxDepth = 32

// errExternalData refuses a model whose weights lie elsewhere.
var errExternalData = errors.New("keeps a tensor as external data: " +
	"save the model as one file (onnx.save_model with save_as_external_data=False)")

// readGraph walks the protobuf of an ONNX model. It fails on what is no ONNX model
// and on external data wherever it stands: in initializers, sparse initializers, the
// attributes of nodes, subgraphs, functions or training information.
func readGraph(data []byte) (graph, error) {
	g := graph{inputs: map[string]tensorType{}, outputs: map[string]tensorType{}}
	found := false
	err := fields(data, func(num protowire.Number, b []byte) error {
		switch num {
		case 7: // ModelProto.graph
			found = true
			if err := g.readIO(b); err != nil {
				return err
			}
			return checkGraph(b, 0)
		case 20: // training_info: initialization = 1, algorithm = 2
			return fields(b, func(num protowire.Number, b []byte) error {
				if num == 1 || num == 2 {
					return checkGraph(b, 0)
				}
				return nil
			})
		case 25: // functions
			return checkFunction(b)
		}
		return nil
	})
	if err != nil {
		return graph{}, err
	}
	if !found {
		return graph{}, errors.New("is no ONNX model: it holds no graph")
	}
	return g, nil
}

// readIO reads GraphProto.input (11) and output (12), without the inputs that have an
// initializer, as models of old IR versions have.
func (g *graph) readIO(data []byte) error {
	weights := map[string]bool{}
	err := fields(data, func(num protowire.Number, b []byte) error {
		switch num {
		case 5: // initializer: name = 8
			return fields(b, func(num protowire.Number, b []byte) error {
				if num == 8 {
					weights[string(b)] = true
				}
				return nil
			})
		case 11, 12:
			name, t, err := readValueInfo(b)
			if err != nil {
				return err
			}
			if num == 11 {
				g.inputs[name] = t
			} else {
				g.outputs[name] = t
			}
		}
		return nil
	})
	for name := range weights {
		delete(g.inputs, name)
	}
	return err
}

// readValueInfo reads ValueInfoProto: name = 1, type = 2 (tensor_type = 1: elem_type = 1, shape = 2).
func readValueInfo(data []byte) (name string, t tensorType, err error) {
	err = fields(data, func(num protowire.Number, b []byte) error {
		switch num {
		case 1:
			name = string(b)
		case 2:
			return fields(b, func(num protowire.Number, b []byte) error {
				if num != 1 {
					return nil
				}
				return t.read(b)
			})
		}
		return nil
	})
	return name, t, err
}

func (t *tensorType) read(data []byte) error {
	return eachField(data, func(num protowire.Number, typ protowire.Type, b []byte) error {
		switch {
		case num == 1 && typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			t.elem = int64(v)
		case num == 2 && typ == protowire.BytesType: // TensorShapeProto: dim = 1
			t.ranked = true
			return fields(b, func(num protowire.Number, b []byte) error {
				if num != 1 {
					return nil
				}
				dim := int64(-1)
				err := eachField(b, func(num protowire.Number, typ protowire.Type, b []byte) error {
					if num == 1 && typ == protowire.VarintType { // dim_value
						v, _ := protowire.ConsumeVarint(b)
						dim = int64(v)
					}
					return nil
				})
				t.dims = append(t.dims, dim)
				return err
			})
		}
		return nil
	})
}

// checkGraph looks through a GraphProto: node = 1, initializer = 5, sparse_initializer = 15.
func checkGraph(data []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nests subgraphs more than %d deep", maxDepth)
	}
	return fields(data, func(num protowire.Number, b []byte) error {
		switch num {
		case 1:
			return checkNode(b, depth)
		case 5:
			return checkTensor(b)
		case 15:
			return checkSparse(b)
		}
		return nil
	})
}

// checkNode looks through a NodeProto: attribute = 5.
func checkNode(data []byte, depth int) error {
	return fields(data, func(num protowire.Number, b []byte) error {
		if num == 5 {
			return checkAttribute(b, depth)
		}
		return nil
	})
}

// checkFunction looks through a FunctionProto: node = 7, attribute_proto = 11.
func checkFunction(data []byte) error {
	return fields(data, func(num protowire.Number, b []byte) error {
		switch num {
		case 7:
			return checkNode(b, 0)
		case 11:
			return checkAttribute(b, 0)
		}
		return nil
	})
}

// checkAttribute looks through an AttributeProto: t = 5, g = 6, tensors = 10,
// graphs = 11, sparse_tensor = 22, sparse_tensors = 23.
func checkAttribute(data []byte, depth int) error {
	return fields(data, func(num protowire.Number, b []byte) error {
		switch num {
		case 5, 10:
			return checkTensor(b)
		case 6, 11:
			return checkGraph(b, depth+1)
		case 22, 23:
			return checkSparse(b)
		}
		return nil
	})
}

// checkSparse looks through a SparseTensorProto: values = 1, indices = 2.
func checkSparse(data []byte) error {
	return fields(data, func(num protowire.Number, b []byte) error {
		if num == 1 || num == 2 {
			return checkTensor(b)
		}
		return nil
	})
}

// checkTensor refuses a TensorProto with external_data = 13, or a data_location = 14
// that is not DEFAULT (0).
func checkTensor(data []byte) error {
	return eachField(data, func(num protowire.Number, typ protowire.Type, b []byte) error {
		if num == 13 {
			return errExternalData
		}
		if num == 14 {
			if v, _ := protowire.ConsumeVarint(b); typ != protowire.VarintType || v != 0 {
				return errExternalData
			}
		}
		return nil
	})
}

// fields calls f with the content of every length-delimited field of a message.
func fields(data []byte, f func(num protowire.Number, b []byte) error) error {
	return eachField(data, func(num protowire.Number, typ protowire.Type, b []byte) error {
		if typ != protowire.BytesType {
			return nil
		}
		return f(num, b)
	})
}

// eachField calls f with every field of a message: the content of a length-delimited
// one, the encoded value of any other.
func eachField(data []byte, f func(num protowire.Number, typ protowire.Type, b []byte) error) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return fmt.Errorf("is no ONNX model, or a damaged one: %w", protowire.ParseError(n))
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(num, typ, data)
		if size < 0 {
			return fmt.Errorf("is no ONNX model, or a damaged one: %w", protowire.ParseError(size))
		}
		value := data[:size]
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		if err := f(num, typ, value); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}
