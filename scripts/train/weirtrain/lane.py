"""One lane's heads and calibration, fitted on what the lane's own pooling makes of the rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from weirtrain import calibrate, heads, kernel, targets
from weirtrain.bundle import DOMAINS
from weirtrain.config import Config, Heads
from weirtrain.data import Row
from weirtrain.features import unit
from weirtrain.graph import Dense, Head, Kernel, Ood, Top
from weirtrain.runtime import Graph, Outputs
from weirtrain.supervise import Targets, group_numbers, output_tokens, row_weights
from weirtrain.text import Encoder, clean

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """Rows, their edited copies behind them, and what the lane makes of each: the pooled embedding and the shape
    vector. `source` is the place of the row that each one was made from."""

    rows: Sequence[Row]
    originals: int
    source: Ints
    soft: Targets
    pooled: Array
    shapes: Array


@dataclass(frozen=True)
class Fitted:
    """Everything that a lane computes from its pooled embedding. The heads are maps of the kernel's plain values
    where there are landmarks, else of the features."""

    shift: Array
    spread: Array
    landmarks: kernel.Landmarks | None
    quality: heads.Linear
    domain: heads.Linear
    tokens: heads.Linear
    tokens_p90: float
    centre: Array
    ood_basis: Array


def _domain_head(x: Array, rows: Sequence[Row], config: Config, h: Heads) -> heads.Linear:
    at = np.array([i for i, r in enumerate(rows) if r.domain], dtype=np.int64)
    label = np.array([DOMAINS.index(rows[i].domain) for i in at], dtype=np.int64)
    sizes = Counter((rows[i].set, rows[i].domain) for i in at)
    weight = np.array(
        [
            h.domain_corpus
            if rows[i].labels
            else min(1.0, (config.weights.set_size / sizes[rows[i].set, rows[i].domain]) ** 0.5)
            for i in at
        ]
    )
    return heads.fit_domain(x[at], label, weight, h.domain_c, len(DOMAINS))


def _tokens_head(x: Array, rows: Sequence[Row], weight: Array, l2: float) -> tuple[heads.Linear, float]:
    length = np.array([output_tokens(r) for r in rows])
    known = np.flatnonzero(~np.isnan(length))
    head = heads.fit_ridge(x[known], length[known], weight[known], l2)
    miss = length[known] - head.apply(x[known])[:, 0]
    return head, float(np.quantile(miss, 0.9))


def _scale(raw: Array, width: int, config: Config, h: Heads) -> tuple[Array, Array]:
    """What the features are moved by and divided by: all standardised; for a kernel the embedding stays as it is."""
    shift, spread = raw.mean(axis=0), raw.std(axis=0) + 1e-6
    if h.landmarks:
        shift[:width], spread[:width] = 0.0, 1.0
        spread[width:] /= config.kernel.shape
    return shift, spread


def _ood_basis(away: Array, components: int) -> Array:
    values, axes = np.linalg.eigh(np.cov(away.T))
    largest = np.argsort(values)[::-1][:components]
    basis: Array = axes[:, largest] / np.sqrt(values[largest] + 1e-9)
    basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(len(largest))])
    return basis


def fit(seen: Seen, config: Config, h: Heads) -> Fitted:
    """Fits the heads and the out-of-distribution space."""
    centre, width = seen.pooled.mean(axis=0), seen.pooled.shape[1]
    raw = np.concatenate([unit(seen.pooled - centre), seen.shapes], axis=1)
    shift, spread = _scale(raw, width, config, h)
    x = (raw - shift) / spread
    weight = row_weights(seen.rows, config, h)
    l2 = np.concatenate([np.full(width, h.quality_l2), np.full(seen.shapes.shape[1], h.shape_l2)])
    landmarks = None
    if h.landmarks:
        n = seen.originals
        landmarks = kernel.choose(x[:n], weight[:n], h.landmarks, config.kernel.gamma, config.seed)
        x = landmarks.features(x)
        l2 = np.full(x.shape[1], h.quality_l2)
    known = np.flatnonzero(~np.isnan(seen.soft.efficient))
    edits = (x - x[seen.source])[seen.originals :]
    task = heads.QualityTask(
        x[known],
        seen.soft.efficient[known],
        seen.soft.high[known],
        weight[known],
        group_numbers(seen.rows)[known],
        edits,
    )
    quality = heads.fit_quality(task, heads.Ridge(l2, h.invariance, h.high_share))
    tokens_head, p90 = _tokens_head(x, seen.rows, weight, h.tokens_l2)
    domain = _domain_head(x, seen.rows, config, h)
    if landmarks is not None:
        quality, tokens_head, domain = (landmarks.fold(head) for head in (quality, tokens_head, domain))
    basis = _ood_basis(seen.pooled - centre, config.ood.components)
    return Fitted(shift, spread, landmarks, quality, domain, tokens_head, p90, centre, basis)


def _dense(part: heads.Linear) -> Dense:
    return Dense(part.weight.astype(np.float32), part.bias.astype(np.float32))


def top(fitted: Fitted) -> Top:
    """The fitted heads as the graph holds them."""
    chain = {
        "quality_efficient": heads.Linear(fitted.quality.weight[:, :1], fitted.quality.bias[:1]),
        "quality_high": heads.Linear(fitted.quality.weight[:, 1:], fitted.quality.bias[1:]),
        "domain": fitted.domain,
        "output_tokens": fitted.tokens,
    }
    at = fitted.landmarks
    return Top(
        shift=fitted.shift.astype(np.float32),
        spread=fitted.spread.astype(np.float32),
        kernel=None if at is None else Kernel(at.points.astype(np.float32), at.gamma),
        heads=tuple(Head(output, (_dense(part),)) for output, part in chain.items()),
        ood=Ood(fitted.centre.astype(np.float32), fitted.ood_basis.astype(np.float32)),
        centre=fitted.centre.astype(np.float32),
    )


def run_graph(graph: Graph, encoder: Encoder, texts: Sequence[str], title: str) -> list[Outputs]:
    """The graph's own outputs, one prompt a run."""
    done = []
    for text in tqdm(texts, desc=title, unit="prompt", mininterval=1.0):
        cleaned = clean(text)
        done.append(graph.run(encoder.encode(cleaned).ids, cleaned))
    return done


@dataclass(frozen=True)
class Calibrated:
    """Curves of both qualities, the threshold, and how well they hold."""

    curves: dict[str, list[calibrate.Knot]]
    threshold: float
    figures: dict[str, float]


def _truth(rows: Sequence[Row], model: str, estimate: Array) -> Array:
    """What the model truly scored where that is recorded, else the estimate."""
    return np.array([r.outcomes.get(model, e) for r, e in zip(rows, estimate, strict=True)])


def fit_calibration(rows: Sequence[Row], soft: Targets, outputs: Sequence[Outputs], config: Config) -> Calibrated:
    """Fits the curves on held-out rows and measures the error of one half by the other."""
    known = [int(i) for i in np.flatnonzero(~np.isnan(soft.efficient))]
    kept = [rows[i] for i in known]
    names = ("quality_efficient", "quality_high")
    logits = np.array([[outputs[i].scalars[n] for n in names] for i in known])
    truth = np.stack(
        [_truth(kept, targets.EFFICIENT, soft.efficient[known]), _truth(kept, targets.HIGH, soft.high[known])], axis=1
    )
    rounds = config.calibration.rounds
    curves = calibrate.fit_pair(calibrate.Held(logits, truth), rounds, config.seed)
    half = np.array([hashlib.sha256(r.id.encode("utf-8")).digest()[0] % 2 == 0 for r in kept])
    q = np.empty_like(truth)
    for part in (half, ~half):
        other = calibrate.fit_pair(calibrate.Held(logits[part], truth[part]), 2, config.seed)
        for k in (0, 1):
            values = [calibrate.calibrated_logit(other[k], x) for x in logits[~part, k]]
            q[~part, k] = heads.sigmoid(np.array(values))
    figures = {f"ece_{n}": calibrate.expected_error(q[:, k], truth[:, k]) for k, n in enumerate(names)}
    threshold = float(np.quantile([o.scalars["ood"] for o in outputs], config.ood.quantile))
    return Calibrated(dict(zip(names, curves, strict=True)), threshold, figures)


def held_out_figures(rows: Sequence[Row], outputs: Sequence[Outputs]) -> dict[str, float]:
    """Domain accuracy and answer lengths on rows that no head was fitted on."""
    figures: dict[str, float] = {}
    right: dict[str, list[bool]] = {}
    within: list[bool] = []
    for r, o in zip(rows, outputs, strict=True):
        if r.domain:
            kind = "corpus" if r.labels else r.set
            right.setdefault(kind, []).append(DOMAINS[int(o.domain.argmax())] == r.domain)
        length = output_tokens(r)
        if not np.isnan(length):
            within.append(abs(o.scalars["output_tokens"] - length) <= np.log(2.0))
    for kind in ("mmlu-pro", "corpus"):
        if kind in right:
            figures[f"domain_accuracy_{kind}"] = float(np.mean(right[kind]))
    if within:
        figures["output_tokens_within_2x"] = float(np.mean(within))
    return figures
