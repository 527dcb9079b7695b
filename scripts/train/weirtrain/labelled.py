"""`weirtrain labels`: what a bundle says of the corpus's evaluation prompts, beside their labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from weirtrain.calibrate import expected_error
from weirtrain.data import Labels, Row, read_folder
from weirtrain.score import Bundle, Scores


def _known(rows: list[Row]) -> list[tuple[Row, Labels]]:
    return [(r, r.labels) for r in rows if r.split == "eval" and r.labels is not None]


def report(bundle: Bundle, corpus: Path, show: Callable[[str], None]) -> None:
    """Prints rank agreement, calibration, domain accuracy and recall, and answer lengths."""
    rows = _known(read_folder(corpus))
    scores: list[Scores] = [bundle.classify(r.text) for r, _ in tqdm(rows, desc="corpus", mininterval=2.0)]
    pairs = {
        "gain": ([s.gain for s in scores], [x.q_high - x.q_efficient for _, x in rows]),
        "q_efficient": ([s.q_efficient for s in scores], [x.q_efficient for _, x in rows]),
        "q_high": ([s.q_high for s in scores], [x.q_high for _, x in rows]),
        "complexity": ([s.complexity for s in scores], [x.complexity for _, x in rows]),
    }
    show(f"{len(rows)} evaluation prompts of the corpus, bundle {bundle.manifest['version']}")
    for name, (got, want) in pairs.items():
        line = f"{name}: Spearman {spearmanr(got, want)[0]:.3f}"
        if name.startswith("q_"):
            line += f", ECE {expected_error(np.array(got), np.array(want)):.3f}"
        show(line)
    right = np.array([s.domain == r.domain for s, (r, _) in zip(scores, rows, strict=True)])
    show(f"domain: {right.mean():.3f}")
    for domain in sorted({r.domain for r, _ in rows}):
        at = np.array([r.domain == domain for r, _ in rows])
        show(f"  recall of {domain}: {right[at].mean():.3f} ({at.sum()})")
    near = [
        abs(math.log(s.output_tokens) - math.log(x.output_tokens)) <= math.log(2.0)
        for s, (_, x) in zip(scores, rows, strict=True)
    ]
    show(f"answer length within a factor of 2: {np.mean(near):.3f}")
    asked = np.mean([s.lane == "base" for s in scores])
    show(f"base lane asked: {asked:.3f}; out of distribution: {np.mean([s.out_of_distribution for s in scores]):.3f}")
