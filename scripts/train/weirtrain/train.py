"""`weirtrain train`: from outcome sets and the corpus to a bundle, in cached stages."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from weirtrain import augment, calibrate, card, heads, minilm, routellm, targets, tiny
from weirtrain.bundle import DOMAINS, PREFIX, SUFFIX, BundleSpec, LaneSpec, plain_tokenizer, write
from weirtrain.config import Config
from weirtrain.data import Row, read_folder
from weirtrain.decontaminate import split_clean
from weirtrain.features import Table, counts, make_table, pool, readable, smooth_weights, tokenize, unit
from weirtrain.graph import Dense, Head, Ood, StaticLane, build
from weirtrain.probes import PROBES
from weirtrain.runtime import Graph, Outputs
from weirtrain.text import Encoder, Window, clean, open_tokenizer

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sources:
    """Where rows come from; any of the first three may be missing."""

    data: Path | None
    corpus: Path | None
    benchmarks: Path | None
    cache: Path


@dataclass(frozen=True)
class Rows:
    """Training rows, the held-out share of them, and what was left out."""

    fit: list[Row]
    held: list[Row]
    evaluation: list[Row]
    repeated: Counter[str]


def _held(row: Row, share: int) -> bool:
    return int(hashlib.sha256(row.id.encode("utf-8")).hexdigest(), 16) % share == 0


def gather(sources: Sources, config: Config, encoder: Encoder) -> Rows:
    """Reads every row, drops what repeats an evaluation prompt, parts off the held-out share."""
    if sources.data is None:
        print("warning: WEIR_DATA is not set: training on the project's own corpus alone", file=sys.stderr)
    if sources.benchmarks is None:
        print("warning: WEIR_BENCHMARKS is not set: rows are checked against no benchmark's prompts", file=sys.stderr)
    rows = [r for folder in (sources.data, sources.corpus) if folder is not None for r in read_folder(folder)]
    rows = [r for r in rows if readable(encoder, r.text)]
    evaluation = [r for r in rows if r.split == "eval"]
    held_out = [r.text for r in evaluation]
    if sources.benchmarks is not None:
        held_out += [p for s in routellm.load(sources.benchmarks / "routellm") for p in s.prompts]
    train, repeated = split_clean((r for r in rows if r.split == "train"), held_out)
    if not train:
        raise ValueError("no training rows: set WEIR_DATA to a folder of outcome sets, or give --corpus")
    share = config.calibration.held_out
    return Rows(
        [r for r in train if not _held(r, share)],
        [r for r in train if _held(r, share)],
        evaluation,
        Counter(r.group for r in repeated),
    )


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and a vector for each of its tokens."""

    tokenizer: str
    vectors: Floats
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    silent: tuple[int, ...]


def _cached(path: Path, make: Callable[[], Floats]) -> Floats:
    """A stage's array, kept on disk so that a stopped run goes on where it was."""
    if path.exists():
        kept: Floats = np.load(path)
        return kept
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    np.save(part, made)
    part.rename(path)
    return made


def vocabulary(config: Config, cache: Path) -> Vocabulary:
    """The tokenizer and its vectors, by `embedding.source`."""
    source = config.embedding.source
    if source == "seeded":
        words = tiny.vocabulary()
        rng = np.random.default_rng(config.seed)
        vectors = rng.normal(0, 1, (len(words), config.embedding.width)).astype(np.float32)
        return Vocabulary(tiny.tokenizer_json(words), vectors, (tiny.CLS,), (tiny.SEP,), (0, tiny.CLS, tiny.SEP, 4))
    raw = plain_tokenizer(minilm.package_file("tokenizer.json").read_text(encoding="utf-8"))
    weights = minilm.read_safetensors(minilm.package_file("model.safetensors"))
    if source == "encoder":
        vectors = _cached(cache / "token-vectors.npy", lambda: minilm.token_vectors(weights))
    elif source == "words":
        vectors = weights["embeddings.word_embeddings.weight"]
    else:
        raise ValueError(f"embedding.source {source!r} is unknown: use encoder, words or seeded")
    return Vocabulary(raw, vectors, PREFIX, SUFFIX, (0, *PREFIX, *SUFFIX, 103))


@dataclass(frozen=True)
class Targets:
    """Soft targets of rows: both qualities, and what was truly observed of them."""

    efficient: Array
    high: Array


def gather_all(config: Config, sources: Sources) -> Rows:
    """The rows that `train` would read with the same configuration."""
    words = vocabulary(config, sources.cache)
    encoder = Encoder(open_tokenizer(words.tokenizer), Window(**asdict(config.window)), words.prefix, words.suffix)
    return gather(sources, config, encoder)


def quality_targets(rows: Sequence[Row], config: Config) -> Targets:
    """Factorised outcomes, or the labels where the row has them."""
    efficient, high = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    at = np.array([i for i, r in enumerate(rows) if r.outcomes], dtype=np.int64)
    if len(at):
        options = targets.Options(rank=config.targets.rank, steps=config.targets.steps, seed=config.seed)
        view = targets.fit([rows[i] for i in at], options)
        efficient[at] = heads.sigmoid(view.quality(targets.EFFICIENT))
        high[at] = heads.sigmoid(view.quality(targets.HIGH))
    for i, r in enumerate(rows):
        if r.labels is not None:
            efficient[i], high[i] = r.labels.q_efficient, r.labels.q_high
    return Targets(efficient, high)


def row_weights(rows: Sequence[Row], config: Config) -> Array:
    """Big sets count less than their size, the corpus more."""
    sizes = Counter(r.group for r in rows)
    w = config.weights

    def one(row: Row) -> float:
        if row.labels is not None:
            return w.corpus / (1 + w.copies)
        level = min(1.0, (w.set_size / sizes[row.group]) ** 0.5)
        return float(level * (w.medical if row.set.startswith("medical") else 1.0))

    return np.array([one(r) for r in rows])


def _group_numbers(rows: Sequence[Row]) -> Ints:
    names = sorted({r.group for r in rows if r.labels is None})
    at = {g: i for i, g in enumerate(names)}
    return np.array([-1 if r.labels is not None else at[r.group] for r in rows], dtype=np.int64)


def _output_tokens(row: Row) -> float:
    """ln of the expected answer length in tokens, NaN where nothing is known."""
    if row.labels is not None:
        return float(np.log(row.labels.output_tokens))
    lengths = [max(c / 4.0, 1.0) for c in row.output_chars.values() if c > 0]
    return float(np.mean(np.log(lengths))) if lengths else float("nan")


@dataclass(frozen=True)
class Fitted:
    """Everything that the graph holds, on standardised features."""

    table: Table
    shift: Array
    spread: Array
    quality: heads.Linear
    domain: heads.Linear
    tokens: heads.Linear
    tokens_p90: float
    centre: Array
    ood_basis: Array


def _domain_head(x: Array, rows: Sequence[Row], config: Config) -> heads.Linear:
    at = np.array([i for i, r in enumerate(rows) if r.domain], dtype=np.int64)
    label = np.array([DOMAINS.index(rows[i].domain) for i in at], dtype=np.int64)
    sizes = Counter((rows[i].set, rows[i].domain) for i in at)
    boost = config.heads.domain_corpus
    weight = np.array(
        [
            boost if rows[i].labels else min(1.0, (config.weights.set_size / sizes[rows[i].set, rows[i].domain]) ** 0.5)
            for i in at
        ]
    )
    return heads.fit_domain(x[at], label, weight, config.heads.domain_c, len(DOMAINS))


def _tokens_head(x: Array, rows: Sequence[Row], weight: Array, l2: float) -> tuple[heads.Linear, float]:
    length = np.array([_output_tokens(r) for r in rows])
    known = np.flatnonzero(~np.isnan(length))
    head = heads.fit_ridge(x[known], length[known], weight[known], l2)
    miss = length[known] - head.apply(x[known])[:, 0]
    return head, float(np.quantile(miss, 0.9))


def _augmented(rows: Sequence[Row], soft: Targets, encoder: Encoder, config: Config) -> tuple[list[Row], Targets, Ints]:
    """The rows and their edited copies, which keep the targets of what they were
    made from, and the place of each one's source."""
    copies = [r for r in augment.variants(rows, config.weights.copies) if readable(encoder, r.text)]
    at = {(r.set, r.id): i for i, r in enumerate(rows)}
    source = np.array([*range(len(rows)), *(at[r.set, r.id] for r in copies)], dtype=np.int64)
    return [*rows, *copies], Targets(soft.efficient[source], soft.high[source]), source


def fit_heads(rows: Sequence[Row], words: Vocabulary, encoder: Encoder, config: Config) -> Fitted:
    """Fits table weights, heads and the out-of-distribution space on the training rows."""
    soft = quality_targets(rows, config)
    originals = len(rows)
    rows, soft, source = _augmented(rows, soft, encoder, config)
    tokens = tokenize(encoder, [r.text for r in rows])
    matrix = counts(tokens.ids, len(words.vectors))
    table = make_table(words.vectors, smooth_weights(matrix, config.embedding.smooth, words.silent))
    pooled = pool(table, matrix)
    centre = pooled.mean(axis=0)
    raw = np.concatenate([unit(pooled - centre), tokens.shapes], axis=1)
    shift, spread = raw.mean(axis=0), raw.std(axis=0) + 1e-6
    x = (raw - shift) / spread
    weight = row_weights(rows, config)
    known = np.flatnonzero(~np.isnan(soft.efficient))
    group = _group_numbers(rows)
    edits = (x - x[source])[originals:]
    task = heads.QualityTask(x[known], soft.efficient[known], soft.high[known], weight[known], group[known], edits)
    h = config.heads
    l2 = np.concatenate([np.full(pooled.shape[1], h.quality_l2), np.full(tokens.shapes.shape[1], h.shape_l2)])
    quality = heads.fit_quality(task, l2, h.invariance)
    tokens_head, p90 = _tokens_head(x, rows, weight, h.tokens_l2)
    values, axes = np.linalg.eigh(np.cov((pooled - centre).T))
    top = np.argsort(values)[::-1][: config.ood.components]
    basis = axes[:, top] / np.sqrt(values[top] + 1e-9)
    basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(len(top))])
    return Fitted(table, shift, spread, quality, _domain_head(x, rows, config), tokens_head, p90, centre, basis)


def _dense(part: heads.Linear) -> Dense:
    return Dense(part.weight.astype(np.float32), part.bias.astype(np.float32))


def lane_graph(fitted: Fitted, name: str) -> bytes:
    """The ONNX graph of the fitted lane."""
    efficient = heads.Linear(fitted.quality.weight[:, :1], fitted.quality.bias[:1])
    high = heads.Linear(fitted.quality.weight[:, 1:], fitted.quality.bias[1:])
    chain = {
        "quality_efficient": efficient,
        "quality_high": high,
        "domain": fitted.domain,
        "output_tokens": fitted.tokens,
    }
    lane = StaticLane(
        table=fitted.table.rows,
        scale=fitted.table.scale,
        weight=fitted.table.weight,
        shift=fitted.shift.astype(np.float32),
        spread=fitted.spread.astype(np.float32),
        heads=tuple(Head(output, (_dense(part),)) for output, part in chain.items()),
        ood=Ood(fitted.centre.astype(np.float32), fitted.ood_basis.astype(np.float32)),
        centre=fitted.centre.astype(np.float32),
    )
    return build(lane, name)


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


def _held_out_figures(rows: Sequence[Row], outputs: Sequence[Outputs]) -> dict[str, float]:
    """Domain accuracy and answer lengths on rows that no head was fitted on."""
    figures: dict[str, float] = {}
    right: dict[str, list[bool]] = {}
    within: list[bool] = []
    for r, o in zip(rows, outputs, strict=True):
        if r.domain:
            kind = "corpus" if r.labels else r.set
            right.setdefault(kind, []).append(DOMAINS[int(o.domain.argmax())] == r.domain)
        length = _output_tokens(r)
        if not np.isnan(length):
            within.append(abs(o.scalars["output_tokens"] - length) <= np.log(2.0))
    for kind in ("mmlu-pro", "corpus"):
        if kind in right:
            figures[f"domain_accuracy_{kind}"] = float(np.mean(right[kind]))
    if within:
        figures["output_tokens_within_2x"] = float(np.mean(within))
    return figures


def train(config: Config, sources: Sources, out: Path, command: str) -> dict[str, Any]:
    """Trains a bundle into `out` and returns its digest and held-out figures."""
    started = time.monotonic()
    words = vocabulary(config, sources.cache)
    window = Window(**asdict(config.window))
    encoder = Encoder(open_tokenizer(words.tokenizer), window, words.prefix, words.suffix)
    rows = gather(sources, config, encoder)
    fitted = fit_heads(rows.fit, words, encoder, config)
    graph = lane_graph(fitted, f"{config.name}-fast")
    everything = quality_targets([*rows.fit, *rows.held], config)
    n = len(rows.fit)
    soft = Targets(everything.efficient[n:], everything.high[n:])
    outputs = run_graph(Graph(graph), encoder, [r.text for r in rows.held], "held-out rows")
    calibrated = fit_calibration(rows.held, soft, outputs, config)
    figures = {**calibrated.figures, **_held_out_figures(rows.held, outputs)}
    trained_on = Counter(r.set for r in rows.fit)
    lane = LaneSpec(
        graph=graph,
        window=window,
        calibration=calibrated.curves,
        ood_threshold=round(calibrated.threshold, 4),
        output_tokens={"p90_offset": round(max(fitted.tokens_p90, 0.0), 4), "default": 256, "min": 1, "max": 8192},
        tolerance={"default": 0.0002},
        prefix=words.prefix,
        suffix=words.suffix,
    )
    digest = write(
        out,
        BundleSpec(
            name=config.name,
            version=config.version,
            description="static token embeddings with small heads",
            references=card.REFERENCES,
            tokenizer=words.tokenizer,
            lanes={"fast": lane},
            probes=PROBES,
            provenance={
                "trained_on": [f"{name}: {count} rows" for name, count in sorted(trained_on.items())],
                "command": command,
                "seed": config.seed,
                "notes": json.dumps({k: round(v, 4) for k, v in figures.items()}, sort_keys=True),
            },
        ),
    )
    return {
        "digest": digest,
        "figures": figures,
        "rows": dict(trained_on),
        "held": len(rows.held),
        "repeated": dict(rows.repeated),
        "seconds": round(time.monotonic() - started, 1),
    }
