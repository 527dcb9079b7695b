"""One ONNX graph in ONNX Runtime: a single prompt a run, one thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from weirtrain.shape import shape_vector

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """Raw values of a graph's outputs under the manifest's names."""

    scalars: dict[str, float]
    domain: Floats


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Pooler:
    """An encoder's graph that ends in `pooled`. `run` may be called from several threads."""

    def __init__(self, model: bytes) -> None:
        self._session = _session(model)

    def run(self, ids: list[int]) -> Floats:
        """The pooled embedding of one prompt's ids, special ones included."""
        row = np.array([ids], dtype=np.int64)
        (pooled,) = self._session.run(["pooled"], {"input_ids": row, "attention_mask": np.ones_like(row)})
        out: Floats = np.asarray(pooled, dtype=np.float32)[0]
        return out


class Graph:
    """A graph with the default names of inputs and outputs."""

    def __init__(self, model: bytes) -> None:
        self._session = _session(model)
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._outputs = [o.name for o in self._session.get_outputs()]

    def run(self, ids: list[int], text: str) -> Outputs:
        """Runs the graph on one prompt: its ids, and the clean text they come from."""
        row = np.array([ids], dtype=np.int64)
        feed: dict[str, npt.NDArray[np.generic]] = {"input_ids": row}
        if "attention_mask" in self._inputs:
            feed["attention_mask"] = np.ones_like(row)
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(row)
        if "shape" in self._inputs:
            feed["shape"] = shape_vector(text)[None, :]
        values = self._session.run(self._outputs, feed)
        named = {n: np.asarray(v, dtype=np.float32).reshape(-1) for n, v in zip(self._outputs, values, strict=True)}
        domain = named.pop("domain", np.zeros(0, dtype=np.float32))
        return Outputs({k: float(v[0]) for k, v in named.items()}, domain)
