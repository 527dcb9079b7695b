"""Calibration: strictly increasing piecewise linear maps from a graph's logit to a calibrated one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]

LEAST_STEP = 0.02


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


def _basis(x: Array, places: Array) -> Array:
    """Share of each knot in the value at each x, the end pieces carried on."""
    piece = np.clip(np.searchsorted(places, x) - 1, 0, len(places) - 2)
    t = (x - places[piece]) / (places[piece + 1] - places[piece])
    out = np.zeros((len(x), len(places)))
    rows = np.arange(len(x))
    out[rows, piece] = 1.0 - t
    out[rows, piece + 1] = t
    return out


def _heights(basis: Array, places: Array, truth: Array, weight: Array, smooth: float) -> Array:
    """Knot heights of least cross-entropy, steps above LEAST_STEP, slopes even."""
    share = weight / weight.sum()
    gaps = np.diff(places)

    def heights(flat: Array) -> Array:
        return np.concatenate([flat[:1], flat[0] + np.cumsum(flat[1:])])

    def loss(flat: Array) -> tuple[float, Array]:
        z = basis @ heights(flat)
        q = 1.0 / (1.0 + np.exp(-z))
        value = float(share @ (np.logaddexp(0.0, z) - truth * z))
        by_knot = basis.T @ (share * (q - truth))
        grad = np.concatenate([[by_knot.sum()], np.cumsum(by_knot[::-1])[::-1][1:]])
        slopes = flat[1:] / gaps
        bend = np.diff(slopes)
        value += smooth * float(np.square(bend).sum())
        pull = np.zeros_like(slopes)
        pull[1:] += 2.0 * smooth * bend
        pull[:-1] -= 2.0 * smooth * bend
        grad[1:] += pull / gaps
        return value, grad

    start = np.concatenate([[places[0]], gaps])
    bounds = [(None, None)] + [(LEAST_STEP, None)] * len(gaps)
    done = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    return heights(done.x)


@dataclass(frozen=True)
class Options:
    """Knots of a curve, bootstrap rounds for its interval, and how even its slope is kept."""

    knots: int
    rounds: int
    seed: int
    smooth: float = 0.01


def fit(x: Array, truth: Array, weight: Array, options: Options) -> list[Knot]:
    """Fits a curve to held-out logits and outcomes 0..1; `lo` and `hi` are the 5th
    and 95th percentile of bootstrap resamples."""
    places = np.unique(np.quantile(x, np.linspace(0.01, 0.99, options.knots)).round(6))
    if len(places) < 2:
        raise ValueError("calibration needs at least two different logits")
    basis = _basis(x, places)
    height = _heights(basis, places, truth, weight, options.smooth)
    rng = np.random.default_rng(options.seed)
    resampled = np.empty((options.rounds, len(places)))
    for r in range(options.rounds):
        at = rng.integers(0, len(x), len(x))
        resampled[r] = _heights(basis[at], places, truth[at], weight[at], options.smooth)
    low, high = np.quantile(resampled, [0.05, 0.95], axis=0)
    return [
        Knot(float(p), round(float(y), 6), round(min(float(a), float(y)), 6), round(max(float(b), float(y)), 6))
        for p, y, a, b in zip(places, height, low, high, strict=True)
    ]


def expected_error(q: Array, truth: Array, bins: int = 10) -> float:
    """ECE: mean distance of predicted and observed quality over equally full bins."""
    order = np.argsort(q, kind="stable")
    gaps = [abs(float(q[part].mean() - truth[part].mean())) * len(part) for part in np.array_split(order, bins)]
    return sum(gaps) / len(q)
