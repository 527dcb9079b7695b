"""The quality heads: what is fitted, what is drawn in, and where zero is."""

from __future__ import annotations

import numpy as np
import pytest

from weirtrain import heads


def _task() -> heads.QualityTask:
    """Two sets of rows whose qualities are linear in the features; the second set lies elsewhere."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 3))
    group = np.repeat(np.array([-1, 0], dtype=np.int64), 200)
    away = np.where(group == 0, -0.2, 0.0)
    efficient, high = 0.5 + 0.1 * x[:, 0] + away, 0.8 + 0.05 * x[:, 1] + away
    return heads.QualityTask(x, efficient, high, np.ones(400), group, np.zeros((0, 3)))


def _fit(share: float) -> np.ndarray:
    task = _task()
    fitted = heads.fit_quality(task, heads.Ridge(np.full(3, 1e-9), 0.0, share))
    return 0.5 + fitted.apply(task.features) / 4.0


def test_both_qualities_are_found_at_the_level_of_the_corpus() -> None:
    task, found = _task(), _fit(1.0)
    anchor = task.group == -1
    assert found[anchor, 0] == pytest.approx(task.efficient[anchor], abs=1e-6)
    assert found[anchor, 1] == pytest.approx(task.high[anchor], abs=1e-6)
    assert found[~anchor, 0] == pytest.approx(task.efficient[~anchor] + 0.2, abs=1e-6)


def test_the_high_share_draws_the_high_quality_to_its_mean_and_leaves_the_other() -> None:
    task, whole, drawn = _task(), _fit(1.0), _fit(0.25)
    anchor = task.group == -1
    assert drawn[:, 0] == pytest.approx(whole[:, 0], abs=1e-9)
    assert drawn[anchor, 1].mean() == pytest.approx(whole[anchor, 1].mean(), abs=1e-9)
    assert drawn[:, 1].std() == pytest.approx(0.25 * whole[:, 1].std(), rel=1e-6)
