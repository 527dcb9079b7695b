"""RouteLLM's evaluation sets and its 11-point protocol."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

STRONG = "gpt-4-1106-preview"
WEAK = "mistralai/Mixtral-8x7B-Instruct-v0.1"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EvalSet:
    """Prompts with what both models of the pair scored on them, 0..1."""

    name: str
    prompts: list[str]
    weak: Array
    strong: Array


@dataclass(frozen=True)
class Result:
    """What the protocol says of one ranking."""

    apgr: float
    cpt50: float
    cpt80: float


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]


def _contaminated(folder: Path) -> set[str]:
    return {row["eval_prompt"] for row in _json_lines(folder / "contaminated_prompts.jsonl")}


def _from_tables(name: str, folder: Path, tables: list[Path]) -> EvalSet:
    skip = _contaminated(folder)
    prompts: list[str] = []
    weak: list[float] = []
    strong: list[float] = []
    for table in tables:
        with table.open(encoding="utf-8", newline="") as f:
            for row in csv.DictReader(f):
                if row["prompt"] not in skip:
                    prompts.append(row["prompt"])
                    weak.append(float(row[WEAK] == "True"))
                    strong.append(float(row[STRONG] == "True"))
    return EvalSet(name, prompts, np.array(weak), np.array(strong))


def _mt_bench(folder: Path) -> EvalSet:
    """First turns; a question's outcome is the mean of its two turns, out of 10."""
    skip = _contaminated(folder)
    questions = [q for q in _json_lines(folder / "question.jsonl") if not set(q["turns"]) & skip]
    scores: dict[tuple[int, str], list[float]] = {}
    for row in _json_lines(folder / "judgements.jsonl"):
        scores.setdefault((row["question_id"], row["model"]), []).append(row["score"] / 10.0)

    def outcomes(model: str) -> Array:
        return np.array([float(np.mean(scores[q["question_id"], model])) for q in questions])

    return EvalSet("mt_bench", [q["turns"][0] for q in questions], outcomes(WEAK), outcomes(STRONG))


def load(folder: Path) -> list[EvalSet]:
    """Reads `evals/` of a RouteLLM checkout: mmlu, gsm8k, mt_bench."""
    evals = folder / "evals"
    mmlu = sorted((evals / "mmlu" / "responses").glob("mmlu_*.csv"))
    return [
        _from_tables("mmlu", evals / "mmlu", mmlu),
        _from_tables("gsm8k", evals / "gsm8k", [evals / "gsm8k" / "gsm8k_responses.csv"]),
        _mt_bench(evals / "mt_bench"),
    ]


def protocol(scores: Array, weak: Array, strong: Array) -> Result:
    """The 11-point curve: thresholds at the deciles of the scores, `>=` at each
    but the last, trapezoid over the achieved share, CPT by interpolation."""
    edges = np.quantile(scores, np.linspace(0.0, 1.0, 11))
    chosen = [scores >= t for t in edges[:-1]] + [scores > edges[-1]]
    share = np.array([c.mean() for c in chosen])[::-1]
    quality = np.array([np.where(c, strong, weak).mean() for c in chosen])[::-1]
    low, high = float(weak.mean()), float(strong.mean())
    width = share[-1] - share[0]
    area = float(np.trapezoid(quality, share))
    apgr = (area - low * width) / ((high - low) * width)
    cpt = [100.0 * float(np.interp(low + q * (high - low), quality, share)) for q in (0.5, 0.8)]
    return Result(float(apgr), cpt[0], cpt[1])


def lengths(data: EvalSet) -> Array:
    """The baseline that any router must beat: the prompt's length in characters."""
    return np.array([len(p) for p in data.prompts], dtype=np.float64)


def bootstrap(
    data: EvalSet, scores: list[Array], statistic: Callable[[Array, Array, Array], float], rounds: int, seed: int
) -> Array:
    """Resamples questions; returns [rounds, len(scores)], paired over the scores."""
    rng = np.random.default_rng(seed)
    n = len(data.prompts)
    out = np.empty((rounds, len(scores)))
    for r in range(rounds):
        at = rng.integers(0, n, n)
        for j, s in enumerate(scores):
            out[r, j] = statistic(s[at], data.weak[at], data.strong[at])
    return out


def apgr(scores: Array, weak: Array, strong: Array) -> float:
    """APGR alone."""
    return protocol(scores, weak, strong).apgr
