"""Grades recorded answers, writes the outcomes into the set and says how far the configurations differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recordoutcomes import checks
from recordoutcomes.configs import CONFIGS
from recordoutcomes.record import Row, folder, prompt_digest, read_jsonl, write_jsonl

_RESAMPLES = 10_000
_SEED = 7
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Graded:
    """The graded set: rows with outcomes, and the configurations that answered every prompt, weakest first."""

    rows: list[Row]
    order: list[str]

    def scores(self, config: str, domain: str | None = None) -> Scores:
        """A configuration's scores in the set's order."""
        return np.array([r["outcomes"][config] for r in self.rows if domain in (None, r["domain"])], dtype=np.float64)

    def mean_nano_usd(self, config: str) -> float:
        """What an answer costs on average, at the notional prices."""
        return float(np.mean([r["cost_usd"][config] for r in self.rows]) * 1e9)


def interval(scores: Scores) -> tuple[float, float, float]:
    """Mean of per-prompt scores (or of paired differences) with its 95 % percentile-bootstrap interval."""
    rng = np.random.default_rng(_SEED)
    means = np.concatenate(
        [scores[rng.integers(0, len(scores), (500, len(scores)))].mean(axis=1) for _ in range(_RESAMPLES // 500)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(scores.mean()), float(low), float(high)


def grade(set_path: Path) -> Graded:
    """Writes outcomes, output_chars and cost_usd of every complete configuration into the set.

    A configuration that has not answered every prompt is left out whole: a gap would be graded as if it were chance.
    Raises ValueError when a prompt has no check, or a check is malformed.
    """
    cases = read_jsonl(set_path)
    given = {r["id"]: r["check"] for r in read_jsonl(folder(set_path) / "checks.jsonl")}
    for case in cases:
        if case["id"] not in given:
            raise ValueError(f"{case['id']} has no line in checks.jsonl: add one")
        checks.validate(given[case["id"]], case["prompt"])
        case |= {"outcomes": {}, "output_chars": {}, "cost_usd": {}}
    complete: list[str] = []
    for name in CONFIGS:
        recorded = {
            (r["id"], r["prompt_sha256_16"]): r for r in read_jsonl(folder(set_path) / "answers" / f"{name}.jsonl")
        }
        keys = [(c["id"], prompt_digest(c["prompt"])) for c in cases]
        if not all(key in recorded for key in keys):
            continue
        complete.append(name)
        for case, key in zip(cases, keys, strict=True):
            row = recorded[key]
            case["outcomes"][name] = checks.score(given[case["id"]], case["prompt"], row["answer"])
            case["output_chars"][name] = len(row["answer"])
            case["cost_usd"][name] = row["nano_usd"] / 1e9
    graded = Graded(cases, complete)
    graded.order.sort(key=lambda name: float(graded.scores(name).mean()))
    for case in cases:
        for field in ("outcomes", "output_chars", "cost_usd"):
            case[field] = {name: case[field][name] for name in graded.order}
    write_jsonl(set_path, [{k: v for k, v in case.items() if v != {}} for case in cases])
    return graded


def _percent(values: tuple[float, float, float]) -> str:
    mean, low, high = (100 * v for v in values)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _grid(head: list[str], body: list[list[str]]) -> str:
    marks = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, marks, *body])


def _by_level(graded: Graded) -> list[list[str]]:
    body = []
    for level in sorted({r["difficulty"] for r in graded.rows}):
        rows = [r for r in graded.rows if r["difficulty"] == level]
        means = [np.mean([r["outcomes"][c] for r in rows]) for c in graded.order]
        body.append([f"difficulty {level}", str(len(rows)), *[f"{100 * m:.0f}" for m in means]])
    return body


def table(graded: Graded) -> str:
    """The README's tables, in Markdown."""
    order = graded.order
    if not order:
        return "no configuration has answered every prompt yet"
    bases = (order[0], min(order, key=graded.mean_nano_usd))
    overall = [
        [
            f"`{c}`",
            _percent(interval(graded.scores(c))),
            *["" if c == base else _percent(interval(graded.scores(c) - graded.scores(base))) for base in bases],
            f"{graded.mean_nano_usd(c):,.0f}",
        ]
        for c in order
    ]
    domains = sorted({r["domain"] for r in graded.rows})
    split = [
        [d, str(len(graded.scores(order[0], d))), *[f"{100 * graded.scores(c, d).mean():.0f}" for c in order]]
        for d in domains
    ]
    oracle = np.max([graded.scores(c) for c in order], axis=0)
    return "\n\n".join(
        [
            f"{len(graded.rows)} prompts; right answers in percent with 95 % bootstrap intervals.",
            _grid(
                ["configuration", "right %", "minus the weakest", "minus the cheapest", "notional nano-USD an answer"],
                overall,
            ),
            f"At least one configuration right: {100 * oracle.mean():.1f} %.",
            _grid(["", "n", *[f"`{c}`" for c in order]], split + _by_level(graded)),
        ]
    )
