"""RouteLLM's protocol, decontamination and calibration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from weirtrain import calibrate, routellm
from weirtrain.data import parse
from weirtrain.decontaminate import split_clean


def test_perfect_reversed_and_random_rankings() -> None:
    rng = np.random.default_rng(1)
    weak = (rng.random(4000) < 0.6).astype(float)
    strong = np.maximum(weak, (rng.random(4000) < 0.5).astype(float))
    gap = strong - weak + rng.random(4000) * 1e-6
    assert routellm.apgr(gap, weak, strong) > 0.85
    assert routellm.apgr(-gap, weak, strong) < 0.15
    assert routellm.apgr(rng.random(4000), weak, strong) == pytest.approx(0.5, abs=0.05)


def test_the_curve_by_hand() -> None:
    # Ten prompts, the strong model gains on the best-ranked five: the curve climbs to half way and stays.
    scores = np.arange(10.0)
    weak = np.zeros(10)
    strong = (scores >= 5).astype(float)
    got = routellm.protocol(scores, weak, strong)
    assert got.apgr == pytest.approx(0.75)
    assert got.cpt50 == pytest.approx(25.0)
    assert got.cpt80 == pytest.approx(40.0)


def test_thirteen_shared_words_or_the_same_short_text_repeat() -> None:
    def row(text: str) -> object:
        return parse({"id": text, "set": "s", "split": "train", "prompt": text})

    held = [" ".join(f"w{i}" for i in range(20)), "Short one?"]
    texts = [
        "before " + " ".join(f"W{i}," for i in range(4, 17)) + " after",
        " ".join(f"w{i}" for i in range(4, 16)) + " after that it differs",
        "short ONE",
        "short one more",
    ]
    clean, dirty = split_clean([row(t) for t in texts], held)  # type: ignore[misc]
    assert [r.id for r in dirty] == [texts[0], texts[2]]
    assert [r.id for r in clean] == [texts[1], texts[3]]


def test_calibration_is_increasing_and_keeps_the_order_of_gains() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(0.2, 0.7, (3000, 2))
    truth = (rng.random((3000, 2)) < 0.1 + 0.8 * p).astype(float)
    low, high = calibrate.fit_pair(calibrate.Held(4 * (p - 0.5), truth), 40, 3)
    for curve in (low, high):
        assert all(a.x < b.x and a.y < b.y for a, b in itertools.pairwise(curve))
        assert all(k.lo <= k.y <= k.hi for k in curve)

    def q(curve: list[calibrate.Knot], v: float) -> float:
        return calibrate.sigmoid(calibrate.calibrated_logit(curve, 4 * (v - 0.5)))

    assert q(low, 0.5) == pytest.approx(0.5, abs=0.05)
    gains = [q(high, b) - q(low, a) for a, b in p]
    raw = p[:, 1] - p[:, 0]
    assert np.corrcoef(gains, raw)[0, 1] > 0.999
    got = np.array([q(low, v) for v in p[:, 0]])
    assert calibrate.expected_error(got, truth[:, 0]) < 0.04
    assert calibrate.expected_error(1 - got, truth[:, 0]) > 0.1
