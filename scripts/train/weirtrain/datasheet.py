"""`weirtrain datasheet`: what went into training, what was held out, what was left out and why."""

from __future__ import annotations

from collections import Counter

from weirtrain.gather import Rows

HEAD = """# What the trainer reads

Written by `python -m weirtrain datasheet`. *Fitted* rows fit the heads; *held out* rows (one in ten, by the SHA-256
of their id) fit the calibration and give the held-out figures; *evaluation* rows do neither. *Repeated* rows share 13
words in a row, or their whole text, with an evaluation prompt and are left out. Rows that repeat questions of the
public test sets were never read.

| set | fitted | held out | evaluation | repeated, left out |
|---|---|---|---|---|
"""


def render(rows: Rows) -> str:
    """The datasheet as Markdown."""
    fit, held, evaluation = (Counter(r.group for r in part) for part in (rows.fit, rows.held, rows.evaluation))
    columns = (fit, held, evaluation, rows.repeated)
    lines = [
        f"| {name} | " + " | ".join(f"{c[name]:,}" if c[name] else "" for c in columns) + " |"
        for name in sorted({n for c in columns for n in c})
    ]
    total = "| **all** | " + " | ".join(f"{sum(c.values()):,}" for c in columns) + " |"
    return HEAD + "\n".join([*lines, total]) + "\n"
