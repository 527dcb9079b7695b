"""Rows for training: read, decontaminated, parted; and the vocabulary that lanes see them through."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weirtrain import minilm, routellm, tiny
from weirtrain.bundle import PREFIX, SUFFIX, plain_tokenizer
from weirtrain.config import Config
from weirtrain.data import Row, read_folder
from weirtrain.decontaminate import split_clean
from weirtrain.features import readable
from weirtrain.text import Encoder, Window, open_tokenizer

Floats = npt.NDArray[np.float32]


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
    """A tokenizer, a vector for each of its tokens, and the encoder that the base lane starts from."""

    tokenizer: str
    vectors: Floats
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    silent: tuple[int, ...]
    encoder: dict[str, Floats]


def cached(path: Path, make: Callable[[], Floats]) -> Floats:
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
        return Vocabulary(
            tiny.tokenizer_json(words),
            vectors,
            (tiny.CLS,),
            (tiny.SEP,),
            (0, tiny.CLS, tiny.SEP, 4),
            minilm.seeded(vectors, rng),
        )
    raw = plain_tokenizer(minilm.package_file("tokenizer.json").read_text(encoding="utf-8"))
    weights = minilm.read_safetensors(minilm.package_file("model.safetensors"))
    if source == "encoder":
        vectors = cached(cache / "token-vectors.npy", lambda: minilm.token_vectors(weights))
    elif source == "words":
        vectors = weights["embeddings.word_embeddings.weight"]
    else:
        raise ValueError(f"embedding.source {source!r} is unknown: use encoder, words or seeded")
    return Vocabulary(raw, vectors, PREFIX, SUFFIX, (0, *PREFIX, *SUFFIX, 103), weights)


def gather_all(config: Config, sources: Sources) -> Rows:
    """The rows that `train` would read with the same configuration."""
    words = vocabulary(config, sources.cache)
    encoder = Encoder(open_tokenizer(words.tokenizer), Window(**asdict(config.window)), words.prefix, words.suffix)
    return gather(sources, config, encoder)
