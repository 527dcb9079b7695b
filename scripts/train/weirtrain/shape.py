"""The shape vector (version 1): 12 values over the bytes of a whole text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZE = 12
VERSION = 1

Floats = npt.NDArray[np.float32]


def _table(chars: bytes) -> npt.NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[list(chars)] = True
    return table


_SPACE = _table(b" \t\n\v\f\r")
_DIGIT = _table(b"0123456789")
_UPPER = _table(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PUNCT = _table(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_HIGH = _table(bytes(range(0x80, 0x100)))
_CODE = _table(b"{};=_<>()[]`")
_MATH = _table(b"+-*/^%$\\=")


def _word_lengths(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Lengths of the maximal runs of bytes that are not white space."""
    inside = np.concatenate(([0], (~_SPACE[data]).astype(np.int8), [0]))
    edges = np.diff(inside)
    return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)


def shape_vector(text: str) -> Floats:
    """Computes the vector that models/README.md defines, over clean text."""
    data = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    n = len(data)
    count = np.bincount(data, minlength=256)
    words = _word_lengths(data)

    def total(table: npt.NDArray[np.bool_]) -> int:
        return int(count[table].sum())

    def share(table: npt.NDArray[np.bool_]) -> float:
        return total(table) / max(n, 1)

    sizes = np.log1p(
        np.array(
            [
                n,
                len(words),
                count[ord("\n")] + 1,
                total(_DIGIT),
                count[ord("?")],
                int(words.max()) if len(words) else 0,
            ],
            dtype=np.float64,
        )
    )
    shares = [share(t) for t in (_DIGIT, _UPPER, _PUNCT, _HIGH, _CODE, _MATH)]
    return np.array([*sizes[:4], *shares, *sizes[4:]], dtype=np.float32)
