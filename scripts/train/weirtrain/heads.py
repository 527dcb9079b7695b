"""The heads of a static lane, fitted by convex or nearly convex optimisation on standardised features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
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
    group -1 (the project's own corpus) have no offset of their own."""

    features: Array
    efficient: Array
    high: Array
    weight: Array
    group: Ints


@dataclass(frozen=True)
class QualityOptions:
    """`l2` shrinks the weights, `offset_l2` the sets' own levels, `gain` is the
    share of the loss that looks at the difference of both qualities."""

    l2: float = 0.01
    offset_l2: float = 0.001
    gain: float = 2.0
    steps: int = 80


def sigmoid(x: Array) -> Array:
    """Logistic function of an array."""
    out: Array = 1.0 / (1.0 + np.exp(-np.clip(x, -40, 40)))
    return out


def fit_quality(task: QualityTask, options: QualityOptions) -> Linear:
    """Fits both quality logits at once, [d, 2]: squared errors of both
    probabilities and of their difference, every outcome set with two offsets of
    its own, so that a set's level (and its format) carries no score."""
    d = task.features.shape[1]
    sets = int(task.group.max()) + 1
    weight = task.weight / task.weight.sum()
    x = task.features.astype(np.float32)
    own = (task.group >= 0).astype(np.float64)[:, None]
    at = np.maximum(task.group, 0)
    target = np.stack([task.efficient, task.high], axis=1)

    def unpack(flat: Array) -> tuple[Array, Array, Array]:
        w = flat[: 2 * d].reshape(d, 2)
        return w, flat[2 * d : 2 * d + 2], flat[2 * d + 2 :].reshape(max(sets, 1), 2)

    def loss(flat: Array) -> tuple[float, Array]:
        w, b, offsets = unpack(flat)
        q = sigmoid((x @ w.astype(np.float32)).astype(np.float64) + b + own * offsets[at])
        miss = q - target
        gain_miss = miss[:, 1] - miss[:, 0]
        value = float(weight @ (np.square(miss).sum(axis=1) + options.gain * np.square(gain_miss)))
        value += options.l2 * float(np.square(w).sum()) + options.offset_l2 * float(np.square(offsets).sum())
        slope = 2.0 * miss
        slope[:, 0] -= 2.0 * options.gain * gain_miss
        slope[:, 1] += 2.0 * options.gain * gain_miss
        slope *= q * (1.0 - q) * weight[:, None]
        grad_w = (x.T @ slope.astype(np.float32)).astype(np.float64) + 2.0 * options.l2 * w
        by_set = np.stack([np.bincount(at, weights=(slope * own)[:, k], minlength=max(sets, 1)) for k in (0, 1)], 1)
        grad_offsets = by_set + 2.0 * options.offset_l2 * offsets
        return value, np.concatenate([grad_w.ravel(), slope.sum(axis=0), grad_offsets.ravel()])

    start = np.zeros(2 * d + 2 + 2 * max(sets, 1))
    start[2 * d : 2 * d + 2] = np.log(target.mean(axis=0) / (1 - target.mean(axis=0)))
    done = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": options.steps})
    w, b, _ = unpack(done.x)
    return Linear(w.copy(), b.copy())


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
