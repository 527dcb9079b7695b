"""`weirtrain train`: from outcome sets and the corpus to a bundle, in cached stages."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from weirtrain import augment, card, cascade, lane, minilm
from weirtrain.bundle import DOMAINS, BundleSpec, LaneSpec, write
from weirtrain.config import Config, WindowConfig
from weirtrain.data import Row
from weirtrain.encodergraph import ContextLane, build_context, build_pooled
from weirtrain.features import counts, make_table, pool, readable, smooth_weights, tokenize
from weirtrain.gather import Sources, Vocabulary, cached, gather, vocabulary
from weirtrain.graph import StaticLane, build
from weirtrain.probes import PROBES
from weirtrain.runtime import Graph, Outputs, Pooler
from weirtrain.supervise import Targets, group_numbers, output_tokens, quality_targets
from weirtrain.text import Encoder, Window, open_tokenizer

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rowset:
    """Training rows with their edited copies behind them, the place of each one's source, and soft targets."""

    rows: list[Row]
    originals: int
    source: npt.NDArray[np.int64]
    soft: Targets


def _augmented(rows: Sequence[Row], encoder: Encoder, config: Config) -> Rowset:
    """The rows and their edited copies, which keep the targets of what they were made from."""
    soft = quality_targets(rows, config)
    copies = [r for r in augment.variants(rows, config.weights.copies) if readable(encoder, r.text)]
    at = {(r.set, r.id): i for i, r in enumerate(rows)}
    source = np.array([*range(len(rows)), *(at[r.set, r.id] for r in copies)], dtype=np.int64)
    return Rowset([*rows, *copies], len(rows), source, Targets(soft.efficient[source], soft.high[source]))


@dataclass(frozen=True)
class Lane:
    """A finished lane: its graph and what its heads were."""

    graph: bytes
    fitted: lane.Fitted


def fast_lane(data: Rowset, words: Vocabulary, encoder: Encoder, config: Config) -> Lane:
    """Static token vectors, a weighted mean, linear heads."""
    tokens = tokenize(encoder, [r.text for r in data.rows])
    matrix = counts(tokens.ids, len(words.vectors))
    table = make_table(words.vectors, smooth_weights(matrix, config.embedding.smooth, words.silent))
    seen = lane.Seen(data.rows, data.originals, data.source, data.soft, pool(table, matrix), tokens.shapes)
    fitted = lane.fit(seen, config, config.fast)
    static = StaticLane(table=table.rows, scale=table.scale, weight=table.weight, top=lane.top(fitted))
    return Lane(build(static, f"{config.name}-fast"), fitted)


def _tuned(data: Rowset, words: Vocabulary, encoder: Encoder, config: Config, cache: Path) -> dict[str, minilm.Floats]:
    """The encoder's weights: tuned on the rows, or MiniLM's own where `tune.epochs` is 0."""
    if config.tune.epochs == 0:
        return words.encoder
    try:
        from weirtrain import tune  # noqa: PLC0415 - PyTorch is needed here alone
    except ModuleNotFoundError as err:
        raise ValueError(
            f"tune.epochs is {config.tune.epochs}, and tuning needs PyTorch: scripts/setup-python --base installs it, "
            "0 trains without"
        ) from err

    rows, soft = data.rows[: data.originals], data.soft
    n = data.originals
    sizes = Counter(r.group for r in rows)
    corpus = np.array([r.labels is not None for r in rows])
    once = np.array([r.labels is not None and r.labels.count < 2 for r in rows])
    outcome = (
        np.where([r.set.startswith("medical") for r in rows], config.weights.medical, 1.0) * config.tune.set_weight
    )
    task = tune.Task(
        rows=rows,
        gain=soft.high[:n] - soft.efficient[:n],
        efficient=soft.efficient[:n],
        domain=np.array([DOMAINS.index(r.domain) if r.domain else -1 for r in rows], dtype=np.int64),
        length=np.array([output_tokens(r) for r in rows]),
        group=group_numbers(rows),
        weight=np.where(corpus, np.where(once, 0.5, 1.0), outcome),
        draw=np.array([1.0 if r.labels else min(1.0, (config.tune.set_draw / sizes[r.group]) ** 0.5) for r in rows]),
    )
    return tune.tune(task, encoder, config.tune, words.encoder, cache)


def _pooled(pooler: Pooler, encoder: Encoder, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The int8 encoder's pooled embedding of every text, one prompt a run, two runs at a time."""
    tokens = tokenize(encoder, texts)
    whole = [[*encoder.prefix, *ids, *encoder.suffix] for ids in tokens.ids]
    with ThreadPoolExecutor(2) as threads:
        rows = tqdm(threads.map(pooler.run, whole), total=len(whole), desc="base lane's embeddings", mininterval=5.0)
        return np.stack(list(rows))


def base_lane(data: Rowset, words: Vocabulary, encoder: Encoder, config: Config, cache: Path) -> Lane:
    """The lower layers of MiniLM in int8; heads fitted on the int8 outputs."""
    weights = _tuned(data, words, encoder, config, cache)
    small = build_pooled(weights, config.tune.layers)
    texts = [r.text for r in data.rows]
    seen = "\x00".join([repr(encoder.window), *texts])
    key = hashlib.sha256(small + seen.encode("utf-8")).hexdigest()[:16]
    pooled = cached(cache / f"pooled-{key}.npy", lambda: _pooled(Pooler(small), encoder, texts)).astype(np.float64)
    shapes = tokenize(encoder, texts).shapes
    fitted = lane.fit(lane.Seen(data.rows, data.originals, data.source, data.soft, pooled, shapes), config, config.base)
    whole = ContextLane(weights, config.tune.layers, lane.top(fitted))
    return Lane(build_context(whole, f"{config.name}-base"), fitted)


@dataclass(frozen=True)
class Held:
    """Held-out rows and their soft targets."""

    rows: list[Row]
    soft: Targets


@dataclass(frozen=True)
class Proved:
    """A lane with its calibration, and its outputs on the held-out rows."""

    spec: LaneSpec
    outputs: list[Outputs]
    figures: dict[str, float]


def _prove(part: Lane, name: str, held: Held, encoder: Encoder, config: Config) -> Proved:
    outputs = lane.run_graph(Graph(part.graph), encoder, [r.text for r in held.rows], f"held-out rows, {name}")
    calibrated = lane.fit_calibration(held.rows, held.soft, outputs, config)
    figures = {**calibrated.figures, **lane.held_out_figures(held.rows, outputs)}
    spec = LaneSpec(
        graph=part.graph,
        window=encoder.window,
        calibration=calibrated.curves,
        ood_threshold=round(calibrated.threshold, 4),
        output_tokens={"p90_offset": round(max(part.fitted.tokens_p90, 0.0), 4), "default": 256, "min": 1, "max": 8192},
        tolerance=card.TOLERANCE[name],
        prefix=encoder.prefix,
        suffix=encoder.suffix,
    )
    return Proved(spec, outputs, {f"{name}_{k}": v for k, v in figures.items()})


def _cascade(held: Held, proved: Mapping[str, Proved], say: Callable[[str], None]) -> dict[str, float]:
    """Where the base lane is asked, by what both lanes say of the held-out labelled prompts."""
    at = [i for i, r in enumerate(held.rows) if r.labels is not None]
    fast, base = (cascade.gains(proved[name].spec, proved[name].outputs)[at] for name in ("fast", "base"))
    curve = cascade.curve(fast, base, held.soft.efficient[at], held.soft.high[at])
    band = cascade.choose(curve)
    say(cascade.table(curve, band))
    inside = (fast >= band.low) & (fast <= band.high) & (band.asked > 0)
    truth = [DOMAINS.index(held.rows[i].domain) for i in at]
    said = cascade.domains([proved["fast"].outputs[i] for i in at], [proved["base"].outputs[i] for i in at], truth)
    doubts = cascade.doubts(said, inside)
    doubt = cascade.choose_doubt(doubts)
    say(cascade.doubt_table(doubts, doubt))
    return {"low": band.low, "high": band.high, "domain_below": doubt.below}


def _encoder(words: Vocabulary, window: WindowConfig) -> Encoder:
    return Encoder(open_tokenizer(words.tokenizer), Window(**asdict(window)), words.prefix, words.suffix)


def train(
    config: Config, sources: Sources, out: Path, command: str, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Trains a bundle into `out` and returns its digest and held-out figures."""
    started = time.monotonic()
    words = vocabulary(config, sources.cache)
    encoders = {"fast": _encoder(words, config.window), "base": _encoder(words, config.base_window)}
    encoder = encoders["fast"]
    rows = gather(sources, config, encoder)
    data = _augmented(rows.fit, encoder, config)
    everything = quality_targets([*rows.fit, *rows.held], config)
    n = len(rows.fit)
    held = Held(rows.held, Targets(everything.efficient[n:], everything.high[n:]))
    lanes = {"fast": fast_lane(data, words, encoder, config)}
    if config.tune.layers:
        lanes["base"] = base_lane(data, words, encoders["base"], config, sources.cache)
    proved = {name: _prove(part, name, held, encoders[name], config) for name, part in lanes.items()}
    figures = {k: v for p in proved.values() for k, v in p.figures.items()}
    asks = None if "base" not in proved else _cascade(held, proved, say)
    trained_on = Counter(r.set for r in rows.fit)
    digest = write(
        out,
        BundleSpec(
            name=config.name,
            version=config.version,
            description=card.DESCRIPTION["base" if "base" in lanes else "fast"],
            references=card.REFERENCES,
            tokenizer=words.tokenizer,
            lanes={name: p.spec for name, p in proved.items()},
            probes=PROBES,
            provenance={
                "trained_on": [f"{name}: {count} rows" for name, count in sorted(trained_on.items())],
                "command": command,
                "seed": config.seed,
                "notes": json.dumps({k: round(v, 4) for k, v in figures.items()}, sort_keys=True),
            },
            cascade=asks,
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
