"""ONNX graphs of the static lane: token embeddings, a weighted mean, small heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from weirtrain.shape import SIZE as SHAPE_SIZE

OPSET = 17
IR_VERSION = 8

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Dense:
    """y = act(x @ weight + bias); `act` is an ONNX operator's name or empty."""

    weight: Floats
    bias: Floats
    act: str = ""


@dataclass(frozen=True)
class Head:
    """An output of the graph: a chain of layers over the feature vector."""

    output: str
    layers: tuple[Dense, ...]


@dataclass(frozen=True)
class Ood:
    """Distance of the pooled embedding in a whitened space: the root of the mean
    square of (pooled - mean) @ basis."""

    mean: Floats
    basis: Floats


@dataclass(frozen=True)
class Kernel:
    """exp(-gamma |x - point|^2) for every landmark [m, d]."""

    points: Floats
    gamma: float


@dataclass(frozen=True)
class Top:
    """What a lane computes from its pooled embedding.

    The features are the pooled embedding and, where `use_shape`, the shape vector,
    moved by `shift` and divided by `spread`. With `centre` [D] the embedding is
    first moved by it and scaled to length 1, so that a short prompt lies no
    farther out than a long one. With `kernel` the heads see its values instead.
    """

    shift: Floats
    spread: Floats
    heads: tuple[Head, ...]
    ood: Ood
    use_shape: bool = True
    centre: Floats | None = None
    kernel: Kernel | None = None


@dataclass(frozen=True)
class StaticLane:
    """All weights of a static lane: `table` [V, D] holds int8 rows, `scale` [V]
    their scales, `weight` [V] the share of a token in the mean."""

    table: npt.NDArray[np.int8]
    scale: Floats
    weight: Floats
    top: Top
    use_types: bool = False


def quantize_rows(matrix: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Quantizes each row to int8 with its own scale: row = table * scale."""
    top = np.abs(matrix).max(axis=1)
    scale = np.where(top > 0, top / 127.0, 1.0).astype(np.float32)
    table = np.clip(np.rint(matrix / scale[:, None]), -127, 127).astype(np.int8)
    return table, scale


@dataclass
class Builder:
    """Nodes and constants of a graph in the making."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def const(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """Adds a constant, once a name, and returns the name."""
        if any(c.name == name for c in self.constants):
            return name
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, inputs: list[str], out: str, **attrs: Any) -> str:
        """Adds a node and returns the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, **attrs))
        return out


def _pool(b: Builder, lane: StaticLane) -> str:
    """Weighted mean of the token rows: ([w*scale] @ rows) / sum(w)."""
    stats = np.stack([lane.scale * lane.weight, lane.weight], axis=1).astype(np.float32)
    rows8 = b.op("Gather", [b.const("table", lane.table), "input_ids"], "rows8", axis=0)
    rows = b.op("Cast", [rows8], "rows", to=TensorProto.FLOAT)
    both = b.op("Gather", [b.const("stats", stats), "input_ids"], "token_stats", axis=0)
    mask = b.op("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    if lane.use_types:
        types = b.op("Cast", ["token_type_ids"], "types", to=TensorProto.FLOAT)
        mask = b.op("Sub", [mask, types], "mask_of_first_text")
    axis = b.const("last_axis", np.array([-1], dtype=np.int64))
    mask3 = b.op("Unsqueeze", [mask, axis], "mask3")
    masked = b.op("Mul", [both, mask3], "masked_stats")
    halves = b.op("Transpose", [masked], "stat_rows", perm=[0, 2, 1])
    first = b.const("first", np.array([0], dtype=np.int64))
    second = b.const("second", np.array([1], dtype=np.int64))
    w = b.op("Gather", [halves, first], "row_weights", axis=1)
    summed = b.op("MatMul", [w, rows], "row_sum")
    plain = b.op("Gather", [halves, second], "plain_weights", axis=1)
    total = b.op("ReduceSum", [plain, axis], "weight_sum", keepdims=1)
    safe = b.op("Max", [total, b.const("least_weight", np.array([1e-6], dtype=np.float32))], "safe_sum")
    mean = b.op("Div", [summed, safe], "mean3")
    return b.op("Squeeze", [mean, b.const("token_axis", np.array([1], dtype=np.int64))], "pooled")


def _unit(b: Builder, centre: Floats, pooled: str) -> str:
    """(pooled - centre) scaled to length 1."""
    away = b.op("Sub", [pooled, b.const("centre", centre.astype(np.float32))], "centred")
    square = b.op("Mul", [away, away], "centred_square")
    axis = b.const("unit_axis", np.array([1], dtype=np.int64))
    total = b.op("ReduceSum", [square, axis], "square_length", keepdims=1)
    safe = b.op("Max", [total, b.const("least_length", np.array([1e-8], dtype=np.float32))], "safe_square")
    return b.op("Div", [away, b.op("Sqrt", [safe], "length")], "direction")


def _kernel(b: Builder, kernel: Kernel, x: str) -> str:
    """The kernel's values [1, m]: exp(2 gamma x.p - gamma |p|^2 - gamma |x|^2)."""
    gamma = np.float32(kernel.gamma)
    points = b.const("landmarks", (2.0 * gamma * kernel.points.T).astype(np.float32))
    lengths = b.const("landmark_lengths", (-gamma * np.square(kernel.points).sum(axis=1)).astype(np.float32))
    near = b.op("Gemm", [x, points, lengths], "kernel_near")
    square = b.op("Mul", [x, x], "kernel_square")
    axis = b.const("kernel_axis", np.array([1], dtype=np.int64))
    length = b.op("ReduceSum", [square, axis], "kernel_length", keepdims=1)
    scaled = b.op("Mul", [length, b.const("kernel_gamma", np.array([gamma], dtype=np.float32))], "kernel_scaled")
    return b.op("Exp", [b.op("Sub", [near, scaled], "kernel_log")], "kernel")


def _heads(b: Builder, top: Top, x: str) -> list[onnx.ValueInfoProto]:
    outputs = []
    for head in top.heads:
        at = x
        for i, layer in enumerate(head.layers):
            last = i == len(head.layers) - 1
            name = f"{head.output}_{i}"
            weight = b.const(f"{name}_weight", layer.weight.astype(np.float32))
            bias = b.const(f"{name}_bias", layer.bias.astype(np.float32))
            done = head.output if last and not layer.act else f"{name}_sum"
            at = b.op("Gemm", [at, weight, bias], done)
            if layer.act:
                at = b.op(layer.act, [at], head.output if last else f"{name}_act")
        width = head.layers[-1].bias.shape[0]
        outputs.append(helper.make_tensor_value_info(head.output, TensorProto.FLOAT, [1, width]))
    return outputs


def _ood(b: Builder, ood: Ood, pooled: str) -> onnx.ValueInfoProto:
    away = b.op("Sub", [pooled, b.const("ood_mean", ood.mean.astype(np.float32))], "ood_away")
    inside = b.op("MatMul", [away, b.const("ood_basis", ood.basis.astype(np.float32))], "ood_white")
    square = b.op("Mul", [inside, inside], "ood_square")
    mean = b.op("ReduceMean", [square], "ood_mean_square", axes=[-1], keepdims=1)
    b.op("Sqrt", [mean], "ood")
    return helper.make_tensor_value_info("ood", TensorProto.FLOAT, [1, 1])


def top_of(b: Builder, top: Top, pooled: str) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Adds features, heads and distance; returns the further inputs and all outputs."""
    inputs = []
    features = pooled if top.centre is None else _unit(b, top.centre, pooled)
    if top.use_shape:
        inputs.append(helper.make_tensor_value_info("shape", TensorProto.FLOAT, [1, SHAPE_SIZE]))
        features = b.op("Concat", [features, "shape"], "raw_features", axis=1)
    away = b.op("Sub", [features, b.const("shift", top.shift.astype(np.float32))], "moved")
    x = b.op("Div", [away, b.const("spread", top.spread.astype(np.float32))], "features")
    if top.kernel is not None:
        x = _kernel(b, top.kernel, x)
    return inputs, [*_heads(b, top, x), _ood(b, top.ood, pooled)]


def build(lane: StaticLane, name: str) -> bytes:
    """Serialises the lane's graph; the same weights give the same bytes."""
    b = Builder()
    tokens = ["input_ids", "attention_mask"] + (["token_type_ids"] if lane.use_types else [])
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, [1, "n"]) for n in tokens]
    more, outputs = top_of(b, lane.top, _pool(b, lane))
    graph = helper.make_graph(b.nodes, name, [*inputs, *more], outputs, b.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="weirtrain")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
