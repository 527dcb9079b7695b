"""ONNX graphs of the base lane: the lower layers of MiniLM in signed int8, a mean over tokens, linear heads.

The weights of every layer are quantised per output channel by ONNX Runtime's own dynamic quantisation, the word
table per row. Two graphs are built from the same nodes: one that ends in the pooled embedding, on whose int8 outputs
the heads are fitted, and the lane itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from weirtrain import minilm
from weirtrain.graph import IR_VERSION, OPSET, Builder, Top, quantize_rows, top_of

Floats = npt.NDArray[np.float32]
PLACES = 512


@dataclass(frozen=True)
class ContextLane:
    """All weights of a base lane: MiniLM's names and tensors, how many of its layers are used, and the heads on top."""

    weights: Mapping[str, Floats]
    layers: int
    top: Top


def _linear(b: Builder, weights: Mapping[str, Floats], name: str, x: str, out: str) -> str:
    product = b.op("MatMul", [x, b.const(f"{out}_weight", weights[f"{name}.weight"].T)], f"{out}_product")
    return b.op("Add", [product, b.const(f"{out}_bias", weights[f"{name}.bias"])], out)


def _norm(b: Builder, weights: Mapping[str, Floats], name: str, x: str, out: str) -> str:
    scale = b.const(f"{out}_gamma", weights[f"{name}.weight"])
    shift = b.const(f"{out}_beta", weights[f"{name}.bias"])
    return b.op("LayerNormalization", [x, scale, shift], out, axis=-1, epsilon=1e-12)


def _gelu(b: Builder, x: str, out: str) -> str:
    root = b.const("root_two", np.array(np.sqrt(2.0), dtype=np.float32))
    curve = b.op("Erf", [b.op("Div", [x, root], f"{out}_scaled")], f"{out}_erf")
    above = b.op("Add", [curve, b.const("one", np.array(1.0, dtype=np.float32))], f"{out}_above")
    product = b.op("Mul", [x, above], f"{out}_product")
    return b.op("Mul", [product, b.const("half", np.array(0.5, dtype=np.float32))], out)


def _attention(b: Builder, weights: Mapping[str, Floats], layer: str, x: str, tag: str) -> str:
    width = weights[f"{layer}attention.self.query.bias"].shape[0]
    split = b.const("head_split", np.array([0, 0, minilm.HEADS, width // minilm.HEADS], dtype=np.int64))
    joined = b.const("head_join", np.array([0, 0, width], dtype=np.int64))

    def heads(name: str, perm: list[int]) -> str:
        flat = _linear(b, weights, f"{layer}attention.self.{name}", x, f"{tag}_{name}")
        return b.op("Transpose", [b.op("Reshape", [flat, split], f"{tag}_{name}_heads")], f"{tag}_{name}_t", perm=perm)

    query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    size = b.const("head_size", np.array(np.sqrt(width // minilm.HEADS), dtype=np.float32))
    scores = b.op("Div", [b.op("MatMul", [query, key], f"{tag}_raw"), size], f"{tag}_scores")
    shares = b.op("Softmax", [scores], f"{tag}_shares", axis=-1)
    mixed = b.op("Transpose", [b.op("MatMul", [shares, value], f"{tag}_mixed")], f"{tag}_back", perm=[0, 2, 1, 3])
    flat = b.op("Reshape", [mixed, joined], f"{tag}_flat")
    return _linear(b, weights, f"{layer}attention.output.dense", flat, f"{tag}_attended")


def _encoder(b: Builder, weights: Mapping[str, Floats], layers: int) -> str:
    """Nodes from `input_ids` and `attention_mask` to the mean over tokens, `pooled` [1, d]. One prompt a run, so that
    nothing is masked inside the layers."""
    table, scale = quantize_rows(weights["embeddings.word_embeddings.weight"])
    rows8 = b.op("Gather", [b.const("table", table), "input_ids"], "rows8", axis=0)
    rows = b.op("Cast", [rows8], "rows_raw", to=TensorProto.FLOAT)
    scales = b.op("Gather", [b.const("table_scale", scale[:, None]), "input_ids"], "row_scales", axis=0)
    words = b.op("Mul", [rows, scales], "words")
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    count = b.op("Shape", ["input_ids"], "count", start=1, end=2)
    zero = b.const("zero", np.array([0], dtype=np.int64))
    place = b.op("Slice", [b.const("places", places[:PLACES]), zero, count, zero], "place")
    x = _norm(b, weights, "embeddings.LayerNorm", b.op("Add", [words, place], "embedded"), "layer_in")
    for i in range(layers):
        layer, tag = f"encoder.layer.{i}.", f"layer{i}"
        attended = _attention(b, weights, layer, x, tag)
        x = _norm(
            b, weights, f"{layer}attention.output.LayerNorm", b.op("Add", [x, attended], f"{tag}_sum"), f"{tag}_mid"
        )
        inner = _gelu(b, _linear(b, weights, f"{layer}intermediate.dense", x, f"{tag}_inner"), f"{tag}_gelu")
        outer = _linear(b, weights, f"{layer}output.dense", inner, f"{tag}_outer")
        x = _norm(b, weights, f"{layer}output.LayerNorm", b.op("Add", [x, outer], f"{tag}_total"), f"{tag}_out")
    mask = b.op("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    last = b.const("last_axis", np.array([-1], dtype=np.int64))
    tokens = b.const("token_axis", np.array([1], dtype=np.int64))
    kept = b.op("Mul", [x, b.op("Unsqueeze", [mask, last], "mask3")], "kept_states")
    total = b.op("ReduceSum", [kept, tokens], "state_sum", keepdims=0)
    number = b.op("ReduceSum", [mask, tokens], "token_count", keepdims=1)
    return b.op("Div", [total, number], "pooled")


def _token_inputs() -> list[onnx.ValueInfoProto]:
    names = ("input_ids", "attention_mask")
    return [helper.make_tensor_value_info(n, TensorProto.INT64, [1, "n"]) for n in names]


def _quantized(weights: Mapping[str, Floats], layers: int) -> onnx.ModelProto:
    """The encoder alone, its products in int8; the output is `pooled`."""
    b = Builder()
    pooled = _encoder(b, weights, layers)
    width = weights["embeddings.LayerNorm.bias"].shape[0]
    output = helper.make_tensor_value_info(pooled, TensorProto.FLOAT, [1, width])
    graph = helper.make_graph(b.nodes, "pooled", _token_inputs(), [output], b.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="weirtrain")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        small = onnx.load(path)
    small.ir_version = IR_VERSION
    return small


def _serialized(model: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def build_pooled(weights: Mapping[str, Floats], layers: int) -> bytes:
    """The encoder alone in int8: its output is `pooled` [1, d]."""
    return _serialized(_quantized(weights, layers))


def build_context(lane: ContextLane, name: str) -> bytes:
    """Serialises the lane's graph; the same weights give the same bytes. The heads are put on the quantised encoder:
    quantising them with it would cost their precision, and save nothing."""
    model = _quantized(lane.weights, lane.layers)
    b = Builder()
    inputs, outputs = top_of(b, lane.top, model.graph.output[0].name)
    model.graph.name = name
    model.graph.node.extend(b.nodes)
    model.graph.initializer.extend(b.constants)
    model.graph.input.extend(inputs)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return _serialized(model)
