"""The heads of a static lane: linear maps on standardised features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Linear:
    """y = x @ weight + bias."""

    weight: Array
    bias: Array

    def apply(self, x: Array) -> Array:
        """Applies the map to rows of x."""
        out: Array = x @ self.weight + self.bias
        return out


@dataclass(frozen=True)
class QualityTask:
    """Soft targets of both qualities. `group` numbers the outcome sets; rows of
    group -1 (the project's own corpus) say where zero is. `edits` holds what
    edits that must not count did to the features, one a row."""

    features: Array
    efficient: Array
    high: Array
    weight: Array
    group: Ints
    edits: Array


def sigmoid(x: Array) -> Array:
    """Logistic function of an array."""
    out: Array = 1.0 / (1.0 + np.exp(-np.clip(x, -40, 40)))
    return out


def _centred(task: QualityTask) -> tuple[Array, Array, Array, Array]:
    """Features and targets (efficient, gain) less their means in each group, and
    the means of the anchoring group."""
    targets = np.stack([task.efficient, task.high - task.efficient], axis=1)
    x, y = task.features.copy(), targets.copy()
    anchor = -1 if (task.group == -1).any() else int(task.group[0])
    level_x, level_y = np.zeros(x.shape[1]), np.zeros(2)
    for group in np.unique(task.group):
        at = np.flatnonzero(task.group == group)
        mean_x, mean_y = task.features[at].mean(axis=0), targets[at].mean(axis=0)
        x[at] -= mean_x
        y[at] -= mean_y
        if group == anchor:
            level_x, level_y = mean_x, mean_y
    return x, y, level_x, level_y


@dataclass(frozen=True)
class Ridge:
    """Regularisation of the quality heads: `l2` a feature; `invariance`, the price of the mean squared change that
    the edits make; `high_share`, how far the high model's quality may go from its mean, 1 for all of the fit."""

    l2: Array
    invariance: float
    high_share: float


def fit_quality(task: QualityTask, ridge: Ridge) -> Linear:
    """Fits both quality logits, [d, 2], by ridge regression of the efficient
    model's quality and of the gain. Every outcome set keeps its own
    level, so that neither a set's difficulty nor its format carries score; the
    level of the result is the corpus's. The high model's fit is then drawn to its
    mean: what it fails at carries over to other prompts worse than what the
    efficient one fails at (docs/model-log.md). A probability p becomes the logit
    4 (p - 1/2): the line that meets the logistic curve in its middle."""
    x, y, level_x, level_y = _centred(task)
    share = task.weight / task.weight.sum()
    gram = (x * share[:, None]).T @ x + np.diag(ridge.l2)
    if len(task.edits):
        gram += ridge.invariance * task.edits.T @ task.edits / len(task.edits)
    w = np.linalg.solve(gram, (x * share[:, None]).T @ y)
    both = np.stack([w[:, 0], ridge.high_share * (w[:, 0] + w[:, 1])], axis=1)
    levels = np.array([level_y[0], level_y[0] + level_y[1]]) - level_x @ both
    return Linear(4.0 * both, 4.0 * (levels - 0.5))


def fit_ridge(features: Array, target: Array, weight: Array, l2: float) -> Linear:
    """Weighted ridge regression on standardised features, the intercept free."""
    share = weight / weight.sum()
    centre = share @ features
    level = float(share @ target)
    x = features - centre
    gram = (x * share[:, None]).T @ x + l2 * np.eye(x.shape[1])
    w = np.linalg.solve(gram, (x * share[:, None]).T @ (target - level))
    return Linear(w[:, None], np.array([level - float(centre @ w)]))


def fit_domain(features: Array, label: Ints, weight: Array, c: float, classes: int) -> Linear:
    """Multinomial logistic regression; a class without rows keeps a logit of -8."""
    model = LogisticRegression(C=c, max_iter=400)
    model.fit(features, label, sample_weight=weight)
    w = np.zeros((features.shape[1], classes))
    b = np.full(classes, -8.0)
    if len(model.classes_) == 2:
        w[:, model.classes_[1]] = model.coef_[0]
        b[model.classes_] = [0.0, model.intercept_[0]]
    else:
        w[:, model.classes_] = model.coef_.T
        b[model.classes_] = model.intercept_
    return Linear(w, b)
