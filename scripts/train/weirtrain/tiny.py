"""The tiny bundle: seeded, under 1 MB, two lanes and a cascade; for native tests.

Its scores are not learned. Words of a domain point the embedding that way and
hard words lower the efficient model's quality, so that a test can tell prompts
apart; everything else is seeded noise.
"""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weirtrain import tiny_words
from weirtrain.bundle import DOMAINS, BundleSpec, LaneSpec, write
from weirtrain.calibrate import Knot
from weirtrain.graph import Dense, Head, Ood, StaticLane, Top, build, quantize_rows
from weirtrain.shape import SIZE as SHAPE_SIZE
from weirtrain.text import Window

SEED = 7
WIDTH = 16
HARDNESS = 8
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLS, SEP = 2, 3
VERSION = "2026.11.22"

Floats = npt.NDArray[np.float32]


def vocabulary() -> list[str]:
    """The vocabulary in the order of its ids."""
    words = dict.fromkeys(SPECIAL)
    letters = string.ascii_lowercase
    singles = string.digits + letters + string.punctuation + "\u20ac\u00a3\u00a7"
    words.update(dict.fromkeys(singles))
    words.update(dict.fromkeys("##" + c for c in string.digits + letters))
    for block in (*tiny_words.WORDS.values(), tiny_words.HARD, tiny_words.CONTEXT):
        words.update(dict.fromkeys(block.split()))
    words.update(dict.fromkeys(f"##{a}{b}" for a in letters for b in letters))
    endings = "ing tion ment able ally ized ization ical ology ically ative eous ious less ful ward wise ship hood"
    words.update(dict.fromkeys("##" + e for e in endings.split()))
    return list(words)


def tokenizer_json(vocab: list[str]) -> str:
    """A WordPiece tokenizer.json with neither padding nor truncation."""
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, token in enumerate(SPECIAL)
    ]
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", SEP], "cls": ["[CLS]", CLS]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: i for i, token in enumerate(vocab)},
        },
    }
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def _embeddings(vocab: list[str], rng: np.random.Generator) -> Floats:
    """Noise, plus one direction a domain and one for hard words."""
    rows = rng.uniform(-0.2, 0.2, (len(vocab), WIDTH))
    at = {token: i for i, token in enumerate(vocab)}
    for d, words in enumerate(tiny_words.WORDS.values()):
        for word in words.split():
            rows[at[word], d] += 0.4 if d == 0 else 2.0
    for word in tiny_words.HARD.split():
        rows[at[word], HARDNESS] += 3.0
    return rows.astype(np.float32)


def _direction(width: int, weights: dict[int, float]) -> Floats:
    column = np.zeros((width, 1))
    for i, w in weights.items():
        column[i, 0] = w
    return column.astype(np.float32)


def _bias(value: float) -> Floats:
    return np.array([value], dtype=np.float32)


def _domain_weights(width: int, rng: np.random.Generator) -> Floats:
    weights = rng.uniform(-0.1, 0.1, (width, len(DOMAINS)))
    weights[: len(DOMAINS)] += 8.0 * np.eye(len(DOMAINS))
    return weights.astype(np.float32)


def fast_lane(vocab: list[str], rng: np.random.Generator) -> StaticLane:
    """Linear heads over the pooled embedding and the shape vector."""
    table, scale = quantize_rows(_embeddings(vocab, rng))
    width = WIDTH + SHAPE_SIZE
    size, digits, code = WIDTH, WIDTH + 4, WIDTH + 8
    efficient = {HARDNESS: -4.0, 0: 2.0, 7: 1.0, size: -0.35, digits: -3.0, code: -2.0, 12: 1.5}
    high = {HARDNESS: -2.0, 0: 1.5, 7: 0.8, size: -0.15, digits: -1.5, code: -1.0, 13: 1.5}
    heads = (
        Head("quality_efficient", (Dense(_direction(width, efficient), _bias(2.0)),)),
        Head("quality_high", (Dense(_direction(width, high), _bias(2.4)),)),
        Head("domain", (Dense(_domain_weights(width, rng), np.zeros(len(DOMAINS), dtype=np.float32)),)),
        Head("output_tokens", (Dense(_direction(width, {size: 0.3, 1: 2.0, 7: 1.5}), _bias(3.5)),)),
    )
    weight = np.ones(len(vocab), dtype=np.float32)
    weight[: len(SPECIAL)] = 0.1
    top = Top(
        shift=np.zeros(width, dtype=np.float32),
        spread=np.ones(width, dtype=np.float32),
        heads=heads,
        ood=Ood(np.zeros(WIDTH, dtype=np.float32), (4.0 * np.eye(WIDTH)).astype(np.float32)),
    )
    return StaticLane(table=table, scale=scale, weight=weight, top=top)


def base_lane(fast: StaticLane, rng: np.random.Generator) -> StaticLane:
    """A hidden layer before each head, token types instead of the shape vector."""
    hidden = Dense(
        np.concatenate([np.eye(WIDTH), -np.eye(WIDTH)], axis=1).astype(np.float32),
        rng.uniform(-0.05, 0.05, 2 * WIDTH).astype(np.float32),
        "Relu",
    )

    def deepen(head: Head) -> Head:
        last = head.layers[-1]
        weight = np.concatenate([last.weight[:WIDTH], -last.weight[:WIDTH]]).astype(np.float32)
        return Head(head.output, (hidden, Dense(weight, last.bias)))

    top = replace(
        fast.top,
        heads=tuple(deepen(h) for h in fast.top.heads),
        shift=np.zeros(WIDTH, dtype=np.float32),
        spread=np.ones(WIDTH, dtype=np.float32),
        use_shape=False,
    )
    return replace(fast, top=top, use_types=True)


def _curve(slope: float, offset: float) -> list[Knot]:
    points = [(x, slope * x + offset + 0.1 * i) for i, x in enumerate((-4.0, -1.0, 1.0, 4.0))]
    return [Knot(x, round(y, 4), round(y - 0.5, 4), round(y + 0.5, 4)) for x, y in points]


def _spec(graph: bytes, window: Window, use_types: bool) -> LaneSpec:
    return LaneSpec(
        graph=graph,
        window=window,
        calibration={"quality_efficient": _curve(0.9, -0.2), "quality_high": _curve(0.8, 0.3)},
        ood_threshold=0.65,
        output_tokens={"p90_offset": 0.9, "default": 256, "min": 1, "max": 8192},
        tolerance={"default": 0.0002},
        prefix=(CLS,),
        suffix=(SEP,),
        use_types=use_types,
        use_shape=not use_types,
    )


CARD = """# tiny

A bundle for tests, made by `python -m weirtrain tiny --out models/tiny`, the same bytes every time. Its weights are
seeded and not learned: words of a domain point its embedding that way, hard words lower the efficient model's quality.
It has both lanes, a cascade, a small vocabulary of its own and every output of the contract. Route no traffic by it.

Licence: Apache-2.0. No data of others went into it.
"""


def make(folder: Path) -> str:
    """Writes the bundle and returns its digest."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    vocab = vocabulary()
    fast = fast_lane(vocab, rng)
    base = base_lane(fast, rng)
    spec = BundleSpec(
        name="tiny",
        version=VERSION,
        description="seeded weights for tests: static token embeddings with linear heads, not learned",
        references={
            "efficient": "mistralai/mixtral-8x7b-instruct",
            "high_performance": "openai/gpt-4-1106-preview",
        },
        tokenizer=tokenizer_json(vocab),
        lanes={
            "fast": _spec(build(fast, "tiny-fast"), Window(32, 16, 256, 128), False),
            "base": _spec(build(base, "tiny-base"), Window(48, 16, 512, 128), True),
        },
        probes=tiny_words.PROBES,
        provenance={
            "trained_on": [],
            "command": "python -m weirtrain tiny",
            "seed": SEED,
            "notes": "weights are seeded, not learned",
        },
        cascade={"low": 0.13, "high": 0.22},
    )
    digest = write(folder, spec)
    (folder / "MODEL_CARD.md").write_text(CARD, encoding="utf-8")
    return digest
