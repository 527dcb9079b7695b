"""The trainer's configuration: a strict TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Embedding:
    """Where token vectors come from."""

    source: str
    smooth: float
    width: int


@dataclass(frozen=True)
class WindowConfig:
    """How much of a text the lane sees."""

    head_tokens: int
    tail_tokens: int
    head_bytes: int
    tail_bytes: int


@dataclass(frozen=True)
class TargetsConfig:
    """The factorisation of outcomes."""

    rank: int
    steps: int


@dataclass(frozen=True)
class Weights:
    """How much a row counts in the fits."""

    set_size: int
    copies: int
    medical: float


@dataclass(frozen=True)
class Heads:
    """How a lane's heads are fitted: regularisation, and what a corpus row weighs beside one of an outcome set.
    With `landmarks` they are linear in a Gaussian kernel's values there, and `shape_l2` has no use; with 0 in the
    features themselves. `high_share` is how much of the fit of the high model's quality is kept, 0 to 1: less carries
    over better to prompts of another kind."""

    landmarks: int
    corpus: float
    quality_l2: float
    shape_l2: float
    invariance: float
    high_share: float
    domain_c: float
    domain_corpus: float
    tokens_l2: float


@dataclass(frozen=True)
class KernelConfig:
    """The kernel of lanes with landmarks: exp(-gamma d^2) on the embedding at length 1 and the shape vector at a
    standard deviation of `shape`."""

    gamma: float
    shape: float


@dataclass(frozen=True)
class Calibration:
    """Held-out share and curve."""

    held_out: int
    rounds: int


@dataclass(frozen=True)
class OodConfig:
    """The whitened space of the out-of-distribution signal."""

    components: int
    quantile: float


@dataclass(frozen=True)
class TuneConfig:
    """The base lane's encoder: how its layers are tuned. `edited` is the share of
    rows seen under an edit; `set_draw` how much of a large outcome set an epoch sees;
    `blend` how far the tuned weights go from the first ones, 0 to 1."""

    layers: int
    epochs: int
    rate: float
    dropout: float
    edited: float
    gain_weight: float
    domain_weight: float
    length_weight: float
    set_weight: float
    set_draw: int
    most_tokens: int
    batch_tokens: int
    threads: int
    bfloat16: bool
    checkpoint_seconds: int
    seed: int
    blend: float


@dataclass(frozen=True)
class Config:
    """The whole file."""

    name: str
    version: str
    seed: int
    embedding: Embedding
    window: WindowConfig
    base_window: WindowConfig
    targets: TargetsConfig
    weights: Weights
    kernel: KernelConfig
    fast: Heads
    base: Heads
    calibration: Calibration
    ood: OodConfig
    tune: TuneConfig


_SECTIONS: dict[str, type[Any]] = {
    "embedding": Embedding,
    "window": WindowConfig,
    "base_window": WindowConfig,
    "targets": TargetsConfig,
    "weights": Weights,
    "kernel": KernelConfig,
    "fast": Heads,
    "base": Heads,
    "calibration": Calibration,
    "ood": OodConfig,
    "tune": TuneConfig,
}


def _section(kind: type[Any], values: dict[str, Any], place: str) -> Any:
    names = {f.name for f in fields(kind)}
    for wrong in sorted(set(values) ^ names):
        fault = "is unknown" if wrong in values else "is missing"
        raise ValueError(f"{place}.{wrong} {fault}: the fields are {', '.join(sorted(names))}")
    return kind(**values)


def load(path: Path) -> Config:
    """Reads a config; unknown and missing fields are errors that name the field."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = {name: _section(kind, data.pop(name, {}), name) for name, kind in _SECTIONS.items()}
    config: Config = _section(Config, {**data, **parts}, "config")
    return config
