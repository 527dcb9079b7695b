"""`weirtrain evaluate`: a bundle by RouteLLM's protocol, with bootstrap intervals, beside prompt length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from weirtrain import routellm
from weirtrain.score import Bundle

Array = npt.NDArray[np.float64]
RANDOM = 0.5


def _interval(values: Array) -> str:
    low, high = np.quantile(values, [0.025, 0.975])
    return f"[{low:.3f}, {high:.3f}]"


def _scores(bundle: Bundle, data: routellm.EvalSet) -> Array:
    prompts = tqdm(data.prompts, desc=data.name, unit="prompt", mininterval=1.0)
    return np.array([bundle.classify(p).gain for p in prompts], dtype=np.float64)


def evaluate(bundle: Bundle, benchmarks: Path, rounds: int, seed: int, show: Callable[[str], None]) -> None:
    """Prints APGR, CPT50 and CPT80 with 95 % intervals on each set and on their mean."""
    show(f"bundle {bundle.manifest['name']} {bundle.manifest['version']} {bundle.digest}")
    show("set        n     APGR  95 %             CPT50  CPT80  length APGR  minus length, paired 95 %")
    draws: list[Array] = []
    points: list[tuple[float, float]] = []
    for data in routellm.load(benchmarks / "routellm"):
        scores = _scores(bundle, data)
        by_length = routellm.lengths(data)
        got = routellm.protocol(scores, data.weak, data.strong)
        base = routellm.protocol(by_length, data.weak, data.strong)
        drawn = routellm.bootstrap(data, [scores, by_length], routellm.apgr, rounds, seed)
        draws.append(drawn)
        points.append((got.apgr, base.apgr))
        show(
            f"{data.name:9s} {len(data.prompts):5d}  {got.apgr:.3f}  {_interval(drawn[:, 0])}  {got.cpt50:5.1f}  "
            f"{got.cpt80:5.1f}  {base.apgr:.3f}        {got.apgr - base.apgr:+.3f} "
            f"{_interval(drawn[:, 0] - drawn[:, 1])}"
        )
    _show_mean("mean of 3", draws, points, show)
    _show_mean("mmlu+gsm", draws[:2], points[:2], show)


def _show_mean(name: str, draws: list[Array], points: list[tuple[float, float]], show: Callable[[str], None]) -> None:
    mean = np.mean(draws, axis=0)
    got, base = np.mean(points, axis=0)
    above = float((mean[:, 0] > RANDOM).mean())
    show(
        f"{name:9s}        {got:.3f}  {_interval(mean[:, 0])}                {base:.3f}        {got - base:+.3f} "
        f"{_interval(mean[:, 0] - mean[:, 1])}  share of resamples above random: {above:.3f}"
    )
