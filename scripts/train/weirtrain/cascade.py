"""The cascade's band: the gains of the fast lane between which the base lane is asked.

A band is a share of prompts around the fast lane's median gain, where most thresholds lie. Its price is the share that
is asked twice; what it buys is the base lane's ranking, here RouteLLM's APGR on held-out labelled prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weirtrain.bundle import LaneSpec
from weirtrain.calibrate import calibrated_logit, sigmoid
from weirtrain.routellm import apgr
from weirtrain.runtime import Outputs

Array = npt.NDArray[np.float64]
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LOSS = 0.01


@dataclass(frozen=True)
class Band:
    """`fast` decides alone where its gain lies below `low` or above `high`; `asked` is the share of prompts inside."""

    low: float
    high: float
    asked: float
    apgr: float


def gains(spec: LaneSpec, outputs: Sequence[Outputs]) -> Array:
    """The calibrated gain of every prompt."""
    names = ("quality_efficient", "quality_high")
    q = [[sigmoid(calibrated_logit(spec.calibration[n], o.scalars[n])) for n in names] for o in outputs]
    both = np.array(q)
    out: Array = both[:, 1] - both[:, 0]
    return out


def curve(fast: Array, base: Array, weak: Array, strong: Array) -> list[Band]:
    """Bands of growing share around the median, from none to every prompt."""
    bands = []
    for share in SHARES:
        low, high = np.quantile(fast, [0.5 - share / 2, 0.5 + share / 2])
        asked = (fast >= low) & (fast <= high) if share else np.zeros(len(fast), dtype=bool)
        mixed = np.where(asked, base, fast)
        score = apgr(mixed, weak, strong)
        bands.append(Band(round(float(low), 4), round(float(high), 4), float(asked.mean()), score))
    return bands


def choose(bands: Sequence[Band]) -> Band:
    """The smallest band from which on no band loses more than LOSS against the base lane alone."""
    least = bands[-1].apgr - LOSS
    for i, band in enumerate(bands):
        if all(b.apgr >= least for b in bands[i:]):
            return band
    return bands[-1]


def table(bands: Sequence[Band], chosen: Band) -> str:
    """The curve as Markdown."""
    lines = ["| base lane asked | fast gain from | to | APGR by the labels |", "|---|---|---|---|"]
    for b in bands:
        mark = " (default)" if b == chosen else ""
        lines.append(f"| {100 * b.asked:.0f} %{mark} | {b.low:.3f} | {b.high:.3f} | {b.apgr:.3f} |")
    return "\n".join(lines)
