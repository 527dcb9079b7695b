"""A tiny model trained end to end on the project's own corpus and a made-up outcome set."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from weirtrain import augment, cascade, config, heads, kernel, minilm, score, supervise, targets, tiny
from weirtrain.data import parse, read_folder
from weirtrain.encodergraph import build_pooled
from weirtrain.features import counts, make_table, pool, tokenize
from weirtrain.gather import Sources
from weirtrain.graph import Dense, Head, Kernel, Ood, StaticLane, Top, build
from weirtrain.runtime import Graph, Pooler
from weirtrain.text import Encoder, Window, open_tokenizer
from weirtrain.train import train

HERE = Path(__file__).resolve().parents[1]
CORPUS = HERE.parents[1] / "training-data" / "corpus"
MODELS = {targets.EFFICIENT: 0.0, targets.HIGH: 2.0, "small": -1.5, "other": 1.0}


def outcome_rows(n: int) -> list[dict[str, Any]]:
    """Sums of which the long ones are hard for weak models."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(n):
        terms = int(rng.integers(2, 12))
        text = "compute the sum of " + " and ".join(str(int(v)) for v in rng.integers(1, 99, terms))
        chance = {m: 1 / (1 + np.exp(-(a + 3.0 - 0.6 * terms))) for m, a in MODELS.items()}
        outcomes = {m: float(rng.random() < c) for m, c in chance.items()}
        record = {"id": f"sum-{i}", "set": "sums", "split": "train", "prompt": text, "domain": "math"}
        rows.append({**record, "outcomes": outcomes, "output_chars": {"small": 40.0 * terms}})
    return rows


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A data folder with one outcome set, and a quarter of the corpus."""
    folder = tmp_path_factory.mktemp("data")
    lines = "".join(json.dumps(r) + "\n" for r in outcome_rows(400))
    (folder / "sums.jsonl").write_text(lines, encoding="utf-8")
    corpus = tmp_path_factory.mktemp("corpus")
    for whole in CORPUS.glob("*.jsonl"):
        kept = whole.read_text(encoding="utf-8").split("\n")[::4]
        (corpus / whole.name).write_text("\n".join(kept), encoding="utf-8")
    return Sources(folder, corpus, None, folder / "cache")


@pytest.fixture(scope="module")
def small() -> config.Config:
    """The shipped configuration with seeded vectors and few landmarks."""
    whole = config.load(HERE / "config.toml")
    return replace(
        whole,
        name="check",
        fast=replace(whole.fast, landmarks=60),
        base=replace(whole.base, landmarks=80),
        embedding=replace(whole.embedding, source="seeded", width=24),
        ood=replace(whole.ood, components=8),
        tune=replace(whole.tune, layers=2, epochs=0),
    )


def test_training_gives_a_bundle_that_opens_and_has_learned(
    small: config.Config, sources: Sources, tmp_path: Path
) -> None:
    report = train(small, sources, tmp_path / "a", "test")
    again = train(small, sources, tmp_path / "b", "test")
    assert report["digest"] == again["digest"], "the same seed must give the same bytes"
    assert report["rows"]["sums"] > 300
    bundle = score.Bundle(tmp_path / "a")
    short, long = (f"compute the sum of {' and '.join(['17'] * n)}" for n in (2, 11))
    assert bundle.classify(long).complexity > bundle.classify(short).complexity
    assert bundle.classify(long).output_tokens > bundle.classify(short).output_tokens
    assert bundle.classify(short).domain == "math"
    base = onnx.load(tmp_path / "a" / "base.onnx").graph
    weights = {w.name: w.data_type for w in base.initializer}
    assert weights["landmarks"] == onnx.TensorProto.FLOAT, "the heads are not quantised with the encoder"
    assert any("MatMulInteger" in n.op_type for n in base.node), "the encoder is"
    asks = bundle.manifest["cascade"]
    for text in (short, long, "which court hears an appeal", "my knee hurts when it rains"):
        said = bundle.lanes["fast"].classify(text)
        unsure = asks["low"] <= said.gain <= asks["high"] or max(said.domains.values()) < asks["domain_below"]
        assert bundle.classify(text).lane == ("base" if unsure else "fast")
    held_out = [r for r in read_folder(CORPUS) if r.split == "eval" and r.domain]
    right = np.mean([bundle.classify(r.text).domain == r.domain for r in held_out])
    most = max(np.mean([r.domain == d for r in held_out]) for d in ("general", "math"))
    assert right > most + 0.05, "no better than the commonest domain"


def test_another_window_is_no_finished_stage(small: config.Config, sources: Sources, tmp_path: Path) -> None:
    short = replace(small, base_window=replace(small.base_window, head_tokens=4, tail_tokens=0))
    train(small, sources, tmp_path / "first", "test")
    kept = train(short, sources, tmp_path / "kept", "test")
    cold = train(short, replace(sources, cache=tmp_path / "empty"), tmp_path / "cold", "test")
    assert kept["digest"] == cold["digest"], "what an earlier window saw was taken for this one's"


def test_the_graph_computes_what_the_trainer_computed() -> None:
    rng = np.random.default_rng(3)
    words = tiny.vocabulary()
    encoder = Encoder(open_tokenizer(tiny.tokenizer_json(words)), Window(32, 16, 256, 128), (tiny.CLS,), (tiny.SEP,))
    table = make_table(
        rng.normal(0, 1, (len(words), 8)).astype(np.float32), rng.uniform(0, 1, len(words)).astype(np.float32)
    )
    table.weight[[tiny.CLS, tiny.SEP]] = 0.0
    centre = rng.normal(0, 0.1, 8)
    weight = rng.normal(0, 1, (20, 1)).astype(np.float32)
    dense = Dense(weight, np.zeros(1, dtype=np.float32))
    names = ("quality_efficient", "quality_high", "domain", "output_tokens")
    top = Top(
        np.zeros(20, dtype=np.float32), np.ones(20, dtype=np.float32), tuple(Head(n, (dense,)) for n in names),
        Ood(centre.astype(np.float32), np.eye(8, dtype=np.float32)), centre=centre.astype(np.float32),
    )  # fmt: skip
    lane = StaticLane(table.rows, table.scale, table.weight, top)
    graph = Graph(build(lane, "parity"))
    texts = ["what is the price of bread", "prove the theorem: x = 3", "bread " * 90 + "bread"]
    tokens = tokenize(encoder, texts)
    away = pool(table, counts(tokens.ids, len(words))) - centre
    direction = away / np.linalg.norm(away, axis=1, keepdims=True)
    want = np.concatenate([direction, tokens.shapes], axis=1) @ weight
    got = [graph.run(encoder.encode(t).ids, t) for t in texts]
    assert [g.scalars["quality_high"] for g in got] == pytest.approx(want[:, 0].tolist(), abs=1e-4)
    assert [g.scalars["ood"] for g in got] == pytest.approx(np.sqrt(np.square(away).mean(axis=1)).tolist(), abs=1e-4)


def test_the_graph_computes_the_kernel() -> None:
    """Heads fitted on the whitened values give the same from the graph's plain ones; far from every landmark the
    kernel has nothing to say."""
    rng = np.random.default_rng(3)
    table = rng.normal(size=(50, 6)).astype(np.float32)
    x = rng.normal(size=(200, 6))
    at = kernel.choose(x, np.ones(200), 120, 0.2, 7)
    want = np.stack([np.sin(x[:, 0]), x[:, 1] ** 2], axis=1)
    fits = [heads.fit_ridge(at.features(x), want[:, k], np.ones(200), 1e-4) for k in (0, 1)]
    assert np.corrcoef(fits[1].apply(at.features(x))[:, 0], want[:, 1])[0, 1] > 0.9, "a square is not linear"
    folded = [at.fold(f) for f in fits]
    chains = tuple(
        Head(f"out{k}", (Dense(f.weight.astype(np.float32), f.bias.astype(np.float32)),)) for k, f in enumerate(folded)
    )
    top = Top(
        shift=np.zeros(6, dtype=np.float32),
        spread=np.ones(6, dtype=np.float32),
        heads=chains,
        ood=Ood(np.zeros(6, dtype=np.float32), np.eye(6, dtype=np.float32)),
        use_shape=False,
        kernel=Kernel(at.points.astype(np.float32), at.gamma),
    )
    rows = make_table(table, np.ones(50, dtype=np.float32))
    graph = onnxruntime.InferenceSession(build(StaticLane(rows.rows, rows.scale, rows.weight, top), "kernel"))
    ids = [3, 17, 41]
    pooled = pool(rows, counts([ids], 50))
    feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, 3), dtype=np.int64)}
    for k, fit in enumerate(fits):
        got = graph.run([f"out{k}"], feed)[0][0, 0]
        assert got == pytest.approx(fit.apply(at.features(pooled))[0, 0], abs=1e-4)
    assert at.values(np.full((1, 6), 100.0)).max() < 1e-12


def test_factorisation_orders_models_and_rows() -> None:
    rows = [parse(r) for r in outcome_rows(400)]
    view = targets.fit(rows, targets.Options(rank=1, steps=150))
    weak, strong = view.quality(targets.EFFICIENT), view.quality(targets.HIGH)
    assert strong.mean() > weak.mean() + 0.5
    length = np.array([len(r.text) for r in rows])
    assert np.corrcoef(weak, length)[0, 1] < -0.3


def test_a_config_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    text = (HERE / "config.toml").read_text(encoding="utf-8")
    (tmp_path / "c.toml").write_text(text.replace("rank =", "ranks ="), encoding="utf-8")
    with pytest.raises(ValueError, match=r"targets\.rank"):
        config.load(tmp_path / "c.toml")


def test_overlap_rows_are_never_read(tmp_path: Path) -> None:
    rows = [{**r, "split": s} for r, s in zip(outcome_rows(3), ("train", "overlap", "eval"), strict=True)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    assert [r.split for r in read_folder(tmp_path)] == ["train", "eval"]


def test_score_writes_a_line_a_prompt(tmp_path: Path) -> None:
    bundle = HERE.parents[1] / "models" / "tiny"
    chat = [{"role": "user", "content": "hi"}, {"role": "user", "content": "prove it"}]
    source = [{"id": "1", "prompt": "line\u2028separator"}, {"id": "2", "messages": chat}]
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in source), encoding="utf-8"
    )
    assert score.score_file(bundle, tmp_path / "in.jsonl", tmp_path / "out.jsonl", True) == 2
    lines = list(score.read_lines(tmp_path / "out.jsonl"))
    assert [r["id"] for r in lines] == ["1", "2"]
    assert lines[1]["gain"] == score.Bundle(bundle).classify("hi\n\nprove it").gain
    assert lines[0]["bundle_digest"].startswith("sha256:")
    assert sum(lines[0]["domain_probabilities"].values()) == pytest.approx(1.0)


def test_the_int8_encoder_computes_what_the_encoder_computes() -> None:
    rng = np.random.default_rng(11)
    words = rng.normal(0, 1, (200, 24)).astype(np.float32)
    weights = minilm.seeded(words, rng)
    pooler = Pooler(build_pooled(weights, 2))
    for n in (1, 3, 40):
        ids = rng.integers(0, 200, n)
        want = minilm.Encoder(weights).forward(ids[None, :], 2).mean(axis=1)[0]
        got = pooler.run(ids.tolist())
        cosine = float(want @ got / np.linalg.norm(want) / np.linalg.norm(got))
        assert cosine > 0.99, f"{n} tokens"


def test_the_band_is_the_smallest_that_loses_little() -> None:
    rng = np.random.default_rng(2)
    strong, weak = np.full(1500, 0.9), 0.9 - rng.uniform(0, 0.6, 1500)
    base = strong - weak + rng.normal(0, 0.05, 1500)
    bands = cascade.curve(base + rng.normal(0, 0.3, 1500), base, weak, strong)
    chosen = cascade.choose(bands)
    assert 0.0 < chosen.asked < 1.0
    assert chosen.apgr >= bands[-1].apgr - cascade.LOSS > bands[0].apgr
    alike = cascade.curve(base, base, weak, strong)
    assert cascade.choose(alike).asked == 0.0, "two lanes that agree need no second one"
    assert "(default)" in cascade.table(bands, chosen)


def test_the_doubt_is_the_smallest_that_loses_little() -> None:
    rng = np.random.default_rng(4)
    sure = rng.uniform(0.2, 1.0, 2000)
    fast = rng.uniform(0, 1, 2000) < sure  # right as often as it is sure
    base = rng.uniform(0, 1, 2000) < 0.8
    said, inside = cascade.Domains(sure, fast, base), rng.uniform(0, 1, 2000) < 0.2
    doubts = cascade.doubts(said, inside)
    chosen = cascade.choose_doubt(doubts)
    assert doubts[0].asked == pytest.approx(inside.mean()), "without doubt the band asks alone"
    assert doubts[-1].accuracy == pytest.approx(base.mean(), abs=0.005)
    assert 0.2 < chosen.asked < 0.8
    assert chosen.accuracy >= max(d.accuracy for d in doubts) - cascade.DOMAIN_LOSS > doubts[0].accuracy
    assert "(default)" in cascade.doubt_table(doubts, chosen)
    peak = [cascade.Doubt(a, a, b) for a, b in ((0.0, 0.70), (0.3, 0.76), (0.5, 0.765), (1.0, 0.70))]
    assert cascade.choose_doubt(peak) == peak[1], "the best is where it is, not at the end"


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is here, so nothing is missing")
def test_tuning_without_pytorch_says_what_to_do(small: config.Config, sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="epochs is 1, and tuning needs PyTorch"):
        train(replace(small, tune=replace(small.tune, epochs=1)), sources, tmp_path, "test")


def test_tuning_learns_and_goes_on_from_its_checkpoint(small: config.Config, tmp_path: Path) -> None:
    tune = pytest.importorskip("weirtrain.tune", reason="tuning needs PyTorch: scripts/train/requirements-base.txt")

    rows = [parse(r) for r in outcome_rows(120)]
    soft = supervise.quality_targets(rows, small)
    words = tiny.vocabulary()
    encoder = Encoder(open_tokenizer(tiny.tokenizer_json(words)), Window(32, 16, 256, 128), (tiny.CLS,), (tiny.SEP,))
    rng = np.random.default_rng(1)
    weights = minilm.seeded(rng.normal(0, 1, (len(words), 24)).astype(np.float32), rng)
    flat = np.ones(len(rows))
    task = tune.Task(
        rows, soft.high - soft.efficient, soft.efficient, np.full(len(rows), 2), np.full(len(rows), 3.0),
        supervise.group_numbers(rows), flat, flat,
    )  # fmt: skip
    quick = replace(small.tune, epochs=2, bfloat16=False, checkpoint_seconds=0)
    whole = tune.tune(task, encoder, quick, weights, tmp_path / "a")
    name = "encoder.layer.1.output.dense.weight"
    assert not np.array_equal(whole[name], weights[name])
    stopped = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        tune.tune(task, encoder, quick, weights, stopped, on_batch=_stop_at(3))
    again = tune.tune(task, encoder, quick, weights, stopped)
    assert np.array_equal(again[name], whole[name]), "a resumed run must end where an unbroken one does"


def _stop_at(batch: int) -> Any:
    seen = iter(range(batch))

    def on_batch() -> None:
        if next(seen, None) is None:
            raise KeyboardInterrupt

    return on_batch


def test_an_edit_never_empties_a_prompt() -> None:
    rng = random.Random(4)
    for row in read_folder(CORPUS)[:300]:
        assert augment.one_edit(row, rng).strip()
