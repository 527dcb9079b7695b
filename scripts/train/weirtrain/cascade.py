"""Where the base lane is asked: between two gains of the fast lane, and where its domain is in doubt.

The band is a share of prompts around the fast lane's median gain, where most thresholds lie. Its price is the share
that is asked twice; what it buys is the base lane's ranking, here RouteLLM's APGR on held-out labelled prompts. The
doubt is a bound on the fast lane's likeliest domain; what it buys is the base lane's domain, here its accuracy on the
same prompts.
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
Bools = npt.NDArray[np.bool_]
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LOSS = 0.01
DOMAIN_LOSS = 0.01


@dataclass(frozen=True)
class Band:
    """`fast` decides alone where its gain lies below `low` or above `high`; `asked` is the share of prompts inside."""

    low: float
    high: float
    asked: float
    apgr: float


@dataclass(frozen=True)
class Doubt:
    """`fast` decides alone where its likeliest domain has at least the probability `below`; `asked` is the share of
    prompts that the band and the doubt ask about together, `accuracy` the domain's."""

    below: float
    asked: float
    accuracy: float


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


def _enough(values: Sequence[float], loss: float) -> int:
    """The first place from which on nothing lies more than `loss` below the last."""
    low = [i for i, v in enumerate(values) if v < values[-1] - loss]
    return low[-1] + 1 if low else 0


def choose(bands: Sequence[Band]) -> Band:
    """The smallest band from which on no band loses more than LOSS against the base lane alone."""
    return bands[_enough([b.apgr for b in bands], LOSS)]


@dataclass(frozen=True)
class Domains:
    """Of every prompt: the probability of the fast lane's likeliest domain, and whether each lane's is right."""

    sure: Array
    fast: Bools
    base: Bools


def domains(fast: Sequence[Outputs], base: Sequence[Outputs], truth: Sequence[int]) -> Domains:
    """What both lanes say of the domains `truth`, as their places in the outputs."""
    logits = np.stack([o.domain for o in fast]).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = shares.max(axis=1) / shares.sum(axis=1)
    right = [np.array([int(o.domain.argmax()) == t for o, t in zip(side, truth, strict=True)]) for side in (fast, base)]
    return Domains(sure, right[0], right[1])


def doubts(said: Domains, inside: Bools) -> list[Doubt]:
    """Bounds that ask about growing shares, from what the band asks alone to every prompt."""
    out = []
    for share in SHARES:
        below = float(np.ceil(1e4 * np.quantile(said.sure, share)) / 1e4) if share else 0.0
        asked = inside | (said.sure < below)
        accuracy = np.where(asked, said.base, said.fast).mean()
        out.append(Doubt(below, float(asked.mean()), float(accuracy)))
    return out


def choose_doubt(all_doubts: Sequence[Doubt]) -> Doubt:
    """The smallest bound from which on, up to the best, none loses more than DOMAIN_LOSS against the best: two lanes
    that are each asked what they know are better than either."""
    accuracy = [d.accuracy for d in all_doubts]
    return all_doubts[_enough(accuracy[: int(np.argmax(accuracy)) + 1], DOMAIN_LOSS)]


def doubt_table(all_doubts: Sequence[Doubt], chosen: Doubt) -> str:
    """The curve as Markdown."""
    lines = [
        "| base lane asked, the band included | likeliest domain below | domain accuracy by the labels |",
        "|---|---|---|",
    ]
    for d in all_doubts:
        mark = " (default)" if d == chosen else ""
        lines.append(f"| {100 * d.asked:.0f} %{mark} | {d.below:.3f} | {d.accuracy:.3f} |")
    return "\n".join(lines)


def table(bands: Sequence[Band], chosen: Band) -> str:
    """The curve as Markdown."""
    lines = ["| base lane asked | fast gain from | to | APGR by the labels |", "|---|---|---|---|"]
    for b in bands:
        mark = " (default)" if b == chosen else ""
        lines.append(f"| {100 * b.asked:.0f} %{mark} | {b.low:.3f} | {b.high:.3f} | {b.apgr:.3f} |")
    return "\n".join(lines)
