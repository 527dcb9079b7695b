"""The tiny bundle is reproducible, small, and the committed one is what the command writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weirtrain import tiny
from weirtrain.score import Bundle
from weirtrain.tiny_words import PROBES

COMMITTED = Path(__file__).resolve().parents[3] / "models" / "tiny"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly made bundle."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    tiny.make(folder)
    return folder


def test_the_command_writes_the_committed_graphs_and_tokenizer(made: Path) -> None:
    for name in ("fast.onnx", "base.onnx", "tokenizer.json", "MODEL_CARD.md"):
        assert (made / name).read_bytes() == (COMMITTED / name).read_bytes(), name


def test_it_is_below_one_megabyte(made: Path) -> None:
    assert sum(f.stat().st_size for f in made.iterdir()) < 1_000_000


def test_the_committed_bundle_opens_and_every_probe_covers_both_lanes() -> None:
    Bundle(COMMITTED)
    probes = json.loads((COMMITTED / "probes.json").read_text(encoding="utf-8"))["probes"]
    assert len(probes) >= 8
    assert all(set(p["lanes"]) == {"fast", "base"} for p in probes)


def test_the_cascade_asks_the_base_lane_only_inside_the_band() -> None:
    bundle = Bundle(COMMITTED)
    lanes = {bundle.classify(text).lane for text in PROBES}
    assert lanes == {"fast", "base"}
    for text in PROBES:
        gain = bundle.lanes["fast"].classify(text).gain
        assert (bundle.classify(text).lane == "base") == (0.13 <= gain <= 0.22)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "tiny"
    tiny.make(made)
    graph = bytearray((made / "fast.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (made / "fast.onnx").write_bytes(bytes(graph))
    with pytest.raises(ValueError, match=r"fast\.onnx"):
        Bundle(made)
