"""What a static lane sees of a text: the weighted mean of its tokens' vectors, and its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from weirtrain.graph import quantize_rows
from weirtrain.shape import shape_vector
from weirtrain.text import Encoder, TextError, clean

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tokens:
    """Ids (prefix and suffix taken off) and shape vectors of some texts."""

    ids: list[list[int]]
    shapes: Array


@dataclass(frozen=True)
class Table:
    """Static token vectors as the graph holds them: int8 rows, scales, weights in the mean."""

    rows: npt.NDArray[np.int8]
    scale: Floats
    weight: Floats


def readable(encoder: Encoder, text: str) -> bool:
    """Whether the text has anything that the lane can score."""
    try:
        encoder.encode(clean(text))
    except TextError:
        return False
    return True


def tokenize(encoder: Encoder, texts: Sequence[str]) -> Tokens:
    """Encodes texts as the lane will, without the special tokens."""
    start, end = len(encoder.prefix), len(encoder.suffix)
    cleaned = [clean(t) for t in texts]
    ids = [encoder.encode(t).ids for t in cleaned]
    shapes = np.stack([shape_vector(t) for t in cleaned]).astype(np.float64)
    return Tokens([row[start : len(row) - end] for row in ids], shapes)


def counts(ids: Sequence[Sequence[int]], vocabulary: int) -> sparse.csr_matrix:
    """Token counts, one row a text."""
    columns = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
    ends = np.cumsum([0] + [len(row) for row in ids])
    matrix = sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(ids), vocabulary))
    matrix.sum_duplicates()
    return matrix


def smooth_weights(matrix: sparse.csr_matrix, a: float, silent: Sequence[int]) -> Floats:
    """Smooth inverse frequency, a / (a + p): common tokens say little. Tokens in
    `silent` (the special ones) say nothing."""
    seen = np.asarray(matrix.sum(axis=0)).ravel() + 1.0
    weight = np.asarray(a / (a + seen / seen.sum()), dtype=np.float32)
    weight[list(silent)] = 0.0
    return weight


def make_table(vectors: Floats, weight: Floats) -> Table:
    """Quantizes token vectors a row."""
    rows, scale = quantize_rows(vectors)
    return Table(rows, scale, weight)


def pool(table: Table, matrix: sparse.csr_matrix) -> Array:
    """The graph's pooled embedding of each text, in double precision."""
    weighted = matrix.multiply(table.weight[None, :].astype(np.float64)).tocsr()
    total = np.asarray(weighted.sum(axis=1))
    vectors = table.rows.astype(np.float64) * table.scale[:, None].astype(np.float64)
    pooled: Array = (weighted @ vectors) / np.maximum(total, 1e-6)
    return pooled


def unit(rows: Array) -> Array:
    """Rows scaled to length 1, as the graph does it."""
    lengths: Array = np.sqrt(np.maximum(np.square(rows).sum(axis=1, keepdims=True), 1e-8))
    return rows / lengths
