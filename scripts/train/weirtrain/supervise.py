"""What each row teaches: both qualities, how much it weighs, its set, the length of an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weirtrain import heads, targets
from weirtrain.config import Config, Heads
from weirtrain.data import Row

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Targets:
    """Soft targets of rows: both qualities, and what was truly observed of them."""

    efficient: Array
    high: Array


def quality_targets(rows: Sequence[Row], config: Config) -> Targets:
    """Factorised outcomes, or the labels where the row has them."""
    efficient, high = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    at = np.array([i for i, r in enumerate(rows) if r.outcomes], dtype=np.int64)
    if len(at):
        options = targets.Options(rank=config.targets.rank, steps=config.targets.steps, seed=config.seed)
        view = targets.fit([rows[i] for i in at], options)
        efficient[at] = heads.sigmoid(view.quality(targets.EFFICIENT))
        high[at] = heads.sigmoid(view.quality(targets.HIGH))
    for i, r in enumerate(rows):
        if r.labels is not None:
            efficient[i], high[i] = r.labels.q_efficient, r.labels.q_high
    return Targets(efficient, high)


def row_weights(rows: Sequence[Row], config: Config, h: Heads) -> Array:
    """Big sets count less than their size, the corpus more, a prompt that was labelled once half."""
    sizes = Counter(r.group for r in rows)
    w = config.weights

    def one(row: Row) -> float:
        if row.labels is not None:
            return h.corpus / (1 + w.copies) * (1.0 if row.labels.count > 1 else 0.5)
        level = min(1.0, (w.set_size / sizes[row.group]) ** 0.5)
        return float(level * (w.medical if row.set.startswith("medical") else 1.0))

    return np.array([one(r) for r in rows])


def group_numbers(rows: Sequence[Row]) -> Ints:
    names = sorted({r.group for r in rows if r.labels is None})
    at = {g: i for i, g in enumerate(names)}
    return np.array([-1 if r.labels is not None else at[r.group] for r in rows], dtype=np.int64)


def output_tokens(row: Row) -> float:
    """ln of the expected answer length in tokens, NaN where nothing is known."""
    if row.labels is not None:
        return float(np.log(row.labels.output_tokens))
    lengths = [max(c / 4.0, 1.0) for c in row.output_chars.values() if c > 0]
    return float(np.mean(np.log(lengths))) if lengths else float("nan")
