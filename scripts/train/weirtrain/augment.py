"""Edits that must not change a score: copies of training rows with the same targets.

Case, spacing, typos, small talk around the prompt, quotes, padding, and
multiple-choice options left out, so that neither manners nor format carry score.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from weirtrain.data import Row

_HEADS = ("Hello, ", "Good morning! ", "hey, quick one: ", "Dear assistant,\n\n", "Sorry to bother you. ")
_TAILS = (" Thank you!", "\n\nCheers", " pls", "\nMany thanks for your help.", "\nTake your time and reason carefully.")
_PADDING = (
    "I have been meaning to ask this for a while. ",
    "Below is what I would like to know. ",
    "It is late here and the house is quiet. ",
    "My colleague sends his regards. ",
)
_OPTION = re.compile(r"^\(?[A-J][.):]\s.*$", re.MULTILINE)
_BLANK = re.compile(r"\n\s*\n+")


def _typos(text: str, rng: random.Random) -> str:
    """Swaps two neighbouring letters about once in fifty characters."""
    chars = list(text)
    for _ in range(max(1, len(chars) // 50)):
        i = rng.randrange(max(1, len(chars) - 1))
        if chars[i : i + 2] and all(c.isalpha() for c in chars[i : i + 2]):
            chars[i : i + 2] = chars[i : i + 2][::-1]
    return "".join(chars)


def _padding(rng: random.Random) -> str:
    return "".join(rng.choice(_PADDING) for _ in range(rng.randint(1, 5)))


def _edits(rng: random.Random) -> list[Callable[[str], str]]:
    return [
        str.upper,
        str.lower,
        lambda t: t + "\n" * rng.randint(1, 4),
        lambda t: t.replace(" ", "  "),
        lambda t: _typos(t, rng),
        lambda t: rng.choice(_HEADS) + t,
        lambda t: t + rng.choice(_TAILS),
        lambda t: f'"{t}"',
        lambda t: _padding(rng) + "\n" + t,
        lambda t: t + "\n" + _padding(rng),
    ]


def without_options(text: str) -> str:
    """The text without the lines of its multiple-choice options, if it has at least two."""
    if len(_OPTION.findall(text)) < 2:
        return text
    return _BLANK.sub("\n", _OPTION.sub("", text)).strip()


def variants(rows: Sequence[Row], copies: int) -> list[Row]:
    """Edited copies: `copies` of each corpus row, one without options of each row that has them."""
    made = []
    for row in rows:
        rng = random.Random(hashlib.sha256(row.id.encode("utf-8")).digest())
        if row.labels is not None:
            made += [replace(row, text=edit(row.text)) for edit in rng.sample(_edits(rng), copies)]
        else:
            bare = without_options(row.text)
            if bare and bare != row.text:
                made.append(replace(row, text=bare))
    return made


def one_edit(row: Row, rng: random.Random) -> str:
    """The row's text under one edit drawn from `rng`; a question with options loses them half of the time."""
    if rng.random() < 0.5:
        bare = without_options(row.text)
        if bare and bare != row.text:
            return bare
    return rng.choice(_edits(rng))(row.text)
