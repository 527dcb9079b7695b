"""Leaves out of training what repeats an evaluation prompt: 13-gram overlap, or the same normalised text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from weirtrain.data import Row

GRAM = 13
_WORD = re.compile(r"\w+", re.UNICODE)


def words(text: str) -> list[str]:
    """Lower-case words, punctuation dropped."""
    return _WORD.findall(text.lower())


def grams(tokens: Sequence[str]) -> set[int]:
    """Hashes of all 13-grams; of a shorter text one hash of the whole."""
    if len(tokens) < GRAM:
        return {hash(tuple(tokens))}
    return {hash(tuple(tokens[i : i + GRAM])) for i in range(len(tokens) - GRAM + 1)}


def split_clean(rows: Iterable[Row], held_out: Iterable[str]) -> tuple[list[Row], list[Row]]:
    """Parts rows into those free of any held-out text and those that repeat one."""
    seen: set[int] = set()
    for text in held_out:
        seen |= grams(words(text))
    clean: list[Row] = []
    dirty: list[Row] = []
    for row in rows:
        (dirty if seen & grams(words(row.text)) else clean).append(row)
    return clean, dirty
