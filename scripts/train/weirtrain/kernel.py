"""A Gaussian kernel between a prompt's features and landmarks: what a linear head can then bend.

Landmarks are rows of the training set, and the kernel's values at them are whitened (Williams and Seeger 2001, the
Nystrom method), so that ridge regression on the result is kernel ridge regression with as many terms as landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weirtrain.heads import Linear

Array = npt.NDArray[np.float64]
BLOCK = 4096
FLOOR = 1e-4  # of the kernel matrix's eigenvalues: below it there is nothing but rounding


@dataclass(frozen=True)
class Landmarks:
    """exp(-gamma |x - point|^2) for every point [m, d]; `whiten` [m, m] makes uncorrelated features of it."""

    points: Array
    gamma: float
    whiten: Array

    def values(self, x: Array) -> Array:
        """The kernel's values, one row for each of x."""
        square = np.square(x).sum(axis=1)[:, None] + np.square(self.points).sum(axis=1)[None]
        out: Array = np.exp(-self.gamma * np.maximum(square - 2.0 * x @ self.points.T, 0.0))
        return out

    def features(self, x: Array) -> Array:
        """The whitened values, on which heads are fitted."""
        blocks = [self.values(x[i : i + BLOCK]) @ self.whiten for i in range(0, len(x), BLOCK)]
        return np.concatenate(blocks)

    def fold(self, head: Linear) -> Linear:
        """The same head as a map of the plain values."""
        return Linear(self.whiten @ head.weight, head.bias)


def choose(x: Array, weight: Array, count: int, gamma: float, seed: int) -> Landmarks:
    """Draws landmarks from the rows of x, each as likely as its weight says."""
    at = np.random.default_rng(seed).choice(len(x), min(count, len(x)), replace=False, p=weight / weight.sum())
    # In the graph's precision, so that the heads see what the graph will compute.
    points = x[np.sort(at)].astype(np.float32).astype(np.float64)
    bare = Landmarks(points, gamma, np.eye(len(points)))
    values, axes = np.linalg.eigh(bare.values(points) + FLOOR * np.eye(len(points)))
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(points))])
    return Landmarks(points, gamma, axes / np.sqrt(np.maximum(values, FLOOR)))
