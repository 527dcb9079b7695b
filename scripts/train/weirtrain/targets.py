"""Soft targets: what the two reference models would score on each row.

An item-response view over all recorded models: the logit that model m answers
row i of group g well is a_m + v_m . (mu_g + theta_i), with theta_i ~ N(0, I)
and few dimensions. It shares strength between models and rows, so that one
noisy outcome a row becomes an estimate of both qualities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weirtrain.data import Row

EFFICIENT = "mixtral-8x7b-instruct"
HIGH = "gpt-4-1106-preview"

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Options:
    """How the factorisation is fitted."""

    rank: int = 4
    steps: int = 300
    rate: float = 0.05
    prior_item: float = 1.0
    prior_group: float = 0.3
    prior_model: float = 0.3
    seed: int = 7


@dataclass(frozen=True)
class Observations:
    """Recorded outcomes in coordinate form."""

    rows: int
    models: list[str]
    groups: list[str]
    row: Ints
    model: Ints
    group_of_row: Ints
    value: Array


@dataclass(frozen=True)
class Factors:
    """The fitted view."""

    observations: Observations
    ability: Array
    direction: Array
    group: Array
    item: Array

    def quality(self, model: str, with_group: bool = True) -> Array:
        """The logit of `model` on every row; without groups, the set's own level is left out."""
        m = self.observations.models.index(model)
        place = self.item + (self.group[self.observations.group_of_row] if with_group else 0.0)
        logits: Array = self.ability[m] + place @ self.direction[m]
        return logits


def observe(rows: Sequence[Row]) -> Observations:
    """Collects the outcomes of all rows."""
    models = sorted({m for r in rows for m in r.outcomes} | {EFFICIENT, HIGH})
    groups = sorted({r.group for r in rows})
    model_at = {m: i for i, m in enumerate(models)}
    group_at = {g: i for i, g in enumerate(groups)}
    row_i, model_i, value = [], [], []
    for i, r in enumerate(rows):
        for m, v in sorted(r.outcomes.items()):
            row_i.append(i)
            model_i.append(model_at[m])
            value.append(v)
    return Observations(
        len(rows),
        models,
        groups,
        np.array(row_i, dtype=np.int64),
        np.array(model_i, dtype=np.int64),
        np.array([group_at[r.group] for r in rows], dtype=np.int64),
        np.array(value, dtype=np.float64),
    )


class _Adam:
    """Adam over a list of arrays, in place."""

    def __init__(self, params: list[Array], rate: float) -> None:
        self.params, self.rate, self.step_no = params, rate, 0
        self.mean = [np.zeros_like(p) for p in params]
        self.square = [np.zeros_like(p) for p in params]

    def step(self, grads: list[Array], decay: float) -> None:
        self.step_no += 1
        for i, g in enumerate(grads):
            self.mean[i] += 0.1 * (g - self.mean[i])
            self.square[i] += 0.001 * (g * g - self.square[i])
            at = self.mean[i] / (1 - 0.9**self.step_no)
            size = np.sqrt(self.square[i] / (1 - 0.999**self.step_no)) + 1e-8
            self.params[i] -= self.rate * decay * at / size


def _sum_by(index: Ints, values: Array, size: int) -> Array:
    """Sums rows of values by index."""
    columns = [np.bincount(index, weights=values[:, k], minlength=size) for k in range(values.shape[1])]
    return np.stack(columns, axis=1)


def _row_weights(o: Observations) -> Array:
    """Every row's outcomes weigh as at most eight, and big groups less than their size."""
    per_row = np.bincount(o.row, minlength=o.rows)
    per_group = np.bincount(o.group_of_row)
    weight = np.minimum(8.0 / np.maximum(per_row, 1), 1.0)
    level: Array = weight * np.minimum(1.0, np.sqrt(500.0 / per_group[o.group_of_row]))
    return level


def fit(rows: Sequence[Row], options: Options) -> Factors:
    """Fits the factorisation by full-batch Adam on the penalised cross-entropy."""
    o = observe(rows)
    rng = np.random.default_rng(options.seed)
    k = options.rank
    ability = np.zeros(len(o.models))
    direction = rng.normal(0, 0.1, (len(o.models), k))
    direction[:, 0] += 1.0
    group = np.zeros((len(o.groups), k))
    item = rng.normal(0, 0.1, (o.rows, k))
    shared = _row_weights(o)[o.row]
    adam = _Adam([ability, direction, group, item], options.rate)
    centre = np.zeros(k)
    centre[0] = 1.0
    for step in range(options.steps):
        place = item[o.row] + group[o.group_of_row[o.row]]
        logits = ability[o.model] + np.einsum("nk,nk->n", place, direction[o.model])
        miss = 1.0 / (1.0 + np.exp(-logits)) - o.value
        shared_miss = miss * shared
        by_place = miss[:, None] * direction[o.model]
        grad_item = _sum_by(o.row, by_place, o.rows) + options.prior_item * item
        grad_group = _sum_by(o.group_of_row[o.row], by_place * shared[:, None], len(o.groups))
        grads = [
            np.bincount(o.model, weights=shared_miss, minlength=len(o.models)) + 0.1 * options.prior_model * ability,
            _sum_by(o.model, place * shared_miss[:, None], len(o.models)) + options.prior_model * (direction - centre),
            grad_group + options.prior_group * group,
            grad_item,
        ]
        adam.step(grads, decay=0.5 * (1 + np.cos(np.pi * step / options.steps)))
    return Factors(o, ability, direction, group, item)
