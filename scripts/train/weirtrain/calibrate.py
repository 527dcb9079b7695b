"""Calibration: strictly increasing piecewise linear maps from a graph's logit to a calibrated one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Knot:
    """At the graph's logit x the calibrated logit is y, within lo..hi nine times in ten."""

    x: float
    y: float
    lo: float
    hi: float

    def as_json(self) -> dict[str, float]:
        """The knot as the manifest spells it."""
        return {"x": self.x, "y": self.y, "lo": self.lo, "hi": self.hi}


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def calibrated_logit(knots: Sequence[Knot], x: float) -> float:
    """The calibrated logit at x; beyond the ends the last piece's slope goes on."""
    i = 1
    while i < len(knots) - 1 and x > knots[i].x:
        i += 1
    a, b = knots[i - 1], knots[i]
    return a.y + (x - a.x) / (b.x - a.x) * (b.y - a.y)


# Calibrated probabilities at which a curve has its knots: a line between two of
# them strays from the true curve by less than 0.002.
LEVELS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
LEAST_SLOPE = 0.05


@dataclass(frozen=True)
class Held:
    """Held-out logits of both qualities (efficient, high) and what was observed, [n, 2] each."""

    logits: Array
    truth: Array


def _line(held: Held, at: npt.NDArray[np.int64]) -> Array:
    """Least squares of truth = level + slope * p with one slope for both
    qualities, p = 1/2 + logit/4; returns (level efficient, level high, slope)."""
    p, t = 0.5 + held.logits[at] / 4.0, held.truth[at]
    away, miss = p - p.mean(axis=0), t - t.mean(axis=0)
    slope = max(float((away * miss).sum() / np.square(away).sum()), LEAST_SLOPE)
    return np.array([*(t.mean(axis=0) - slope * p.mean(axis=0)), slope])


def _logit(p: Array) -> Array:
    kept = np.clip(p, 0.005, 0.995)
    out: Array = np.log(kept / (1.0 - kept))
    return out


def fit_pair(held: Held, rounds: int, seed: int) -> tuple[list[Knot], list[Knot]]:
    """Fits the curves of both qualities. They share one slope, so that calibration
    never changes which of two prompts gains more: two curves with a slope each
    let the level of a prompt leak into its gain. `lo` and `hi` are the 5th and
    95th percentile of bootstrap resamples."""
    rng = np.random.default_rng(seed)
    n = len(held.truth)
    best = _line(held, np.arange(n))
    drawn = np.stack([_line(held, rng.integers(0, n, n)) for _ in range(rounds)])
    levels = np.array(LEVELS)
    curves = []
    for k in (0, 1):
        x = 4.0 * ((levels - best[k]) / best[2] - 0.5)
        spread = drawn[:, k, None] + drawn[:, 2, None] * (0.5 + x / 4.0)
        low, high = np.quantile(_logit(spread), [0.05, 0.95], axis=0)
        y = _logit(levels)
        curves.append(
            [
                Knot(*(round(float(v), 6) for v in (p, q, min(lo, q), max(hi, q))))
                for p, q, lo, hi in zip(x, y, low, high, strict=True)
            ]
        )
    return curves[0], curves[1]


def expected_error(q: Array, truth: Array, bins: int = 10) -> float:
    """ECE: mean distance of predicted and observed quality over equally full bins."""
    order = np.argsort(q, kind="stable")
    gaps = [abs(float(q[part].mean() - truth[part].mean())) * len(part) for part in np.array_split(order, bins)]
    return sum(gaps) / len(q)
