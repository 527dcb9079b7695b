"""Calibration: strictly increasing piecewise linear maps from a graph's logit to a calibrated one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


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
