"""Outcome sets and the project's own corpus, read into one kind of row."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from weirtrain.bundle import DOMAINS
from weirtrain.text import render

DOMAIN_MAP = {
    **{d: d for d in DOMAINS},
    **dict.fromkeys(("biology", "chemistry", "physics", "engineering"), "science"),
    **dict.fromkeys(("business", "economics"), "finance"),
    "computer science": "coding",
    "health": "medical",
    "law": "legal",
    **dict.fromkeys(("history", "philosophy", "psychology", "commonsense", "other"), "general"),
}

# The same model under its spellings in different sets.
ALIASES = {
    "gpt4_1106_preview": "gpt-4-1106-preview",
    "gpt-4-turbo-2024-04-09": "gpt-4-1106-preview",
    "mixtral-8x7b-chat": "mixtral-8x7b-instruct",
    "mixtral-8x7b-instruct-v0.1": "mixtral-8x7b-instruct",
    "mistral-7b-chat": "mistral-7b-instruct-v0.1",
    "meta-llama-3-8b-instruct": "meta-llama-3-8b-instruct",
    "meta-llama-3_1-8b-instruct": "meta-llama-3.1-8b-instruct",
    "llama-3.1-8b-instruct": "meta-llama-3.1-8b-instruct",
    "meta-llama-3_1-70b-instruct": "meta-llama-3.1-70b-instruct",
    "gpt-3.5-turbo-0125": "gpt-3.5-turbo-1106",
}


@dataclass(frozen=True)
class Labels:
    """The mean of a corpus prompt's labellings."""

    complexity: float
    q_efficient: float
    q_high: float
    output_tokens: float
    count: int


@dataclass(frozen=True)
class Row:
    """One prompt with what is known about it."""

    id: str
    set: str
    split: str
    text: str
    domain: str
    src: str
    outcomes: Mapping[str, float]
    output_chars: Mapping[str, float]
    difficulty: float | None
    labels: Labels | None

    @property
    def group(self) -> str:
        """The set, or for a set that joins several tasks the task."""
        return f"{self.set}/{self.src}" if self.set == "llmrouter" else self.set


def canonical(model: str) -> str:
    """The model's one name: provider and host suffixes dropped, aliases joined."""
    name = model.split("@", maxsplit=1)[0]
    return ALIASES.get(name, name)


def _merged(values: Mapping[str, float]) -> dict[str, float]:
    """Means over the spellings of each model."""
    parts: dict[str, list[float]] = {}
    for model, value in values.items():
        parts.setdefault(canonical(model), []).append(float(value))
    return {m: sum(v) / len(v) for m, v in parts.items()}


def _geometric(values: list[float]) -> float:
    product = 1.0
    for v in values:
        product *= max(v, 1.0)
    return float(product ** (1.0 / len(values)))


def _labels(entries: list[Mapping[str, Any]]) -> Labels | None:
    if not entries:
        return None

    def mean(key: str) -> float:
        return sum(float(e[key]) for e in entries) / len(entries)

    return Labels(
        mean("complexity"),
        mean("q_efficient"),
        mean("q_high"),
        _geometric([float(e["output_tokens"]) for e in entries]),
        len(entries),
    )


def parse(record: Mapping[str, Any]) -> Row:
    """Makes a row of one record of the shared format."""
    text = record["prompt"] if "prompt" in record else render(record["messages"])
    difficulty = record.get("difficulty")
    return Row(
        id=record["id"],
        set=record["set"],
        split=record["split"],
        text=text.replace("\x00", "\ufffd"),
        domain=DOMAIN_MAP.get(record.get("domain", ""), ""),
        src=str(record.get("src", "")),
        outcomes=_merged(record.get("outcomes", {})),
        output_chars=_merged(record.get("output_chars", {})),
        difficulty=None if difficulty is None else float(difficulty),
        labels=_labels(list(record.get("labels", []))),
    )


def _lines(path: Path) -> Iterator[str]:
    """Lines of a plain or zstd-compressed file, split at newlines only."""
    with path.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw) if path.suffix == ".zst" else raw
        yield from io.TextIOWrapper(stream, encoding="utf-8", newline="\n")


def read_file(path: Path) -> list[Row]:
    """Reads one set. `overlap` rows are left out: nothing may use them."""
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if record["split"] != "overlap":
                rows.append(parse(record))
        except (ValueError, KeyError, TypeError) as err:
            raise ValueError(f"{path}, line {number}: not a record of the shared format ({err!r})") from err
    return rows


def read_folder(folder: Path) -> list[Row]:
    """Reads every .jsonl and .jsonl.zst of a folder, in the order of their names."""
    paths = sorted(p for p in folder.iterdir() if p.name.endswith((".jsonl", ".jsonl.zst")))
    return [row for path in paths for row in read_file(path)]
