"""Edited copies keep what they are about and lose what must not count."""

from __future__ import annotations

from weirtrain import augment
from weirtrain.data import parse

LABEL = {"complexity": 3, "q_efficient": 0.6, "q_high": 0.8, "output_tokens": 80}


def test_options_are_left_out_and_nothing_else() -> None:
    text = "Which metal is liquid at room temperature?\nA. iron\nB. mercury\nC. tin\nAnswer:"
    assert augment.without_options(text) == "Which metal is liquid at room temperature?\nAnswer:"
    assert augment.without_options("A. Smith asked me twice.") == "A. Smith asked me twice."


def test_copies_keep_the_labels_and_differ_in_text() -> None:
    record = {"id": "x", "set": "corpus", "split": "train", "prompt": "why is the sky blue at noon", "labels": [LABEL]}
    row = parse(record)
    copies = augment.variants([row], 4)
    assert len(copies) == 4
    assert all(c.labels == row.labels for c in copies)
    assert len({c.text for c in copies} - {row.text}) >= 3
    assert [c.text for c in augment.variants([row], 4)] == [c.text for c in copies]
