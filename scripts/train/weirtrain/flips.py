"""`weirtrain flips`: how often an edit that must not count moves a prompt to the other side of the median gain.

The edits are the benign ones of attacks A1, A2 and A5-A8: case, spacing, greeting and thanks, typos, "think step by
step", quotes, and padding at the head or the tail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from weirtrain.data import read_folder
from weirtrain.score import Bundle

_FILLER = "The weather has been fine this week and we went for a walk by the river. "


def _typo(text: str) -> str:
    rng = random.Random(len(text))
    chars = list(text)
    for _ in range(max(1, len(chars) // 60)):
        i = rng.randrange(max(1, len(chars) - 1))
        if chars[i : i + 2] and all(c.isalpha() for c in chars[i : i + 2]):
            chars[i : i + 2] = chars[i : i + 2][::-1]
    return "".join(chars)


EDITS: dict[str, Callable[[str], str]] = {
    "lower case": str.lower,
    "upper case": str.upper,
    "double spaces": lambda t: t.replace(" ", "  "),
    "two trailing newlines": lambda t: t + "\n\n",
    "greeting": lambda t: "Hi there! " + t,
    "thanks": lambda t: t + " Thanks a lot!",
    "think step by step": lambda t: t + "\nThink step by step.",
    "typos": _typo,
    "quotes": lambda t: f'"{t}"',
    "padded head": lambda t: _FILLER * 2 + "\n\n" + t,
    "padded tail": lambda t: t + "\n\n" + _FILLER * 2,
}


def flip_rates(bundle: Bundle, texts: Sequence[str]) -> dict[str, float]:
    """The share of texts that each edit moves across the median of the unedited gains."""
    before = np.array([bundle.classify(t).gain for t in tqdm(texts, desc="unedited", mininterval=2.0)])
    middle = float(np.median(before))
    rates = {}
    for name, edit in EDITS.items():
        after = np.array([bundle.classify(edit(t)).gain for t in tqdm(texts, desc=name, mininterval=2.0)])
        rates[name] = float(((after > middle) != (before > middle)).mean())
    return rates


def report(bundle: Bundle, corpus: Path, show: Callable[[str], None]) -> None:
    """Prints the rate of each edit on the corpus's evaluation prompts, and the mean of all."""
    texts = [r.text for r in read_folder(corpus) if r.split == "eval"]
    rates = flip_rates(bundle, texts)
    show(f"{len(texts)} prompts; flips across the median gain:")
    for name, rate in rates.items():
        show(f"  {name:22s} {100 * rate:5.1f} %")
    show(f"  {'mean':22s} {100 * float(np.mean(list(rates.values()))):5.1f} %")
