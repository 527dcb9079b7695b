"""Bundle folders: writing them by the contract of models/README.md, and reading them back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weirtrain.calibrate import Knot
from weirtrain.runtime import Graph, Outputs
from weirtrain.text import Encoder, Window, clean, open_tokenizer

DOMAINS = ("general", "coding", "math", "science", "medical", "legal", "finance", "writing")
SCALARS = ("quality_efficient", "quality_high", "output_tokens", "ood")
PREFIX = (101,)
SUFFIX = (102,)


@dataclass(frozen=True)
class LaneSpec:
    """A lane of a bundle to be written."""

    graph: bytes
    window: Window
    calibration: Mapping[str, Sequence[Knot]]
    ood_threshold: float
    output_tokens: Mapping[str, float]
    tolerance: Mapping[str, float]
    prefix: tuple[int, ...] = PREFIX
    suffix: tuple[int, ...] = SUFFIX
    use_types: bool = False
    use_shape: bool = True


@dataclass(frozen=True)
class BundleSpec:
    """All that `write` needs for a bundle folder."""

    name: str
    version: str
    description: str
    references: Mapping[str, str]
    tokenizer: str
    lanes: Mapping[str, LaneSpec]
    probes: Sequence[str]
    provenance: Mapping[str, Any]
    cascade: Mapping[str, float] | None = None


def plain_tokenizer(raw: str) -> str:
    """Strips padding and truncation from a tokenizer.json."""
    data = json.loads(raw)
    data["padding"] = None
    data["truncation"] = None
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"


def sha256(data: bytes) -> str:
    """The SHA-256 of data as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def _significant(value: float) -> float:
    return float(f"{value:.7g}")


def recorded(outputs: Outputs) -> dict[str, float | list[float]]:
    """Raw outputs as probes.json holds them: seven significant digits."""
    done: dict[str, float | list[float]] = {k: _significant(outputs.scalars[k]) for k in SCALARS}
    done["domain"] = [_significant(float(v)) for v in outputs.domain]
    return done


def _probe(text: str, lanes: Mapping[str, tuple[Encoder, Graph]]) -> dict[str, Any]:
    cleaned = clean(text)
    done: dict[str, Any] = {}
    for lane, (encoder, graph) in lanes.items():
        ids = encoder.encode(cleaned).ids
        done[lane] = {"ids": ids, "outputs": recorded(graph.run(ids, cleaned))}
    return {"text": text, "lanes": done}


def _lane_entry(lane: str, spec: LaneSpec) -> dict[str, Any]:
    w = spec.window
    entry: dict[str, Any] = {
        "graph": f"{lane}.onnx",
        "tokenizer": "tokenizer.json",
        "special_tokens": {"prefix": list(spec.prefix), "suffix": list(spec.suffix)},
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "token_type_ids": "token_type_ids" if spec.use_types else "",
            "shape": "shape" if spec.use_shape else "",
        },
        "shape_version": 1,
        "outputs": {name: {"name": name} for name in (*SCALARS[:2], "domain", *SCALARS[2:])},
        "window": {
            "head_tokens": w.head_tokens,
            "tail_tokens": w.tail_tokens,
            "head_bytes": w.head_bytes,
            "tail_bytes": w.tail_bytes,
        },
        "calibration": {name: {"knots": [k.as_json() for k in knots]} for name, knots in spec.calibration.items()},
        "output_tokens": dict(spec.output_tokens),
        "ood": {"threshold": spec.ood_threshold},
        "tolerance": dict(spec.tolerance),
    }
    return entry


def write(folder: Path, spec: BundleSpec) -> str:
    """Writes the bundle's files and returns the bundle's digest. MODEL_CARD.md
    is the caller's: the manifest does not name it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"tokenizer.json": spec.tokenizer.encode("utf-8")}
    engines: dict[str, tuple[Encoder, Graph]] = {}
    for lane, part in spec.lanes.items():
        files[f"{lane}.onnx"] = part.graph
        encoder = Encoder(open_tokenizer(spec.tokenizer), part.window, part.prefix, part.suffix)
        engines[lane] = (encoder, Graph(part.graph))
    probes = {"probes": [_probe(text, engines) for text in spec.probes]}
    files["probes.json"] = (json.dumps(probes, ensure_ascii=False, indent=1) + "\n").encode("utf-8")
    manifest: dict[str, Any] = {
        "schema": 1,
        "name": spec.name,
        "version": spec.version,
        "description": spec.description,
        "license": "Apache-2.0",
        "files": {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in sorted(files.items())},
        "references": dict(spec.references),
        "domains": list(DOMAINS),
        "lanes": {lane: _lane_entry(lane, part) for lane, part in spec.lanes.items()},
    }
    if spec.cascade is not None:
        manifest["cascade"] = dict(spec.cascade)
    manifest["probes"] = "probes.json"
    manifest["provenance"] = dict(spec.provenance)
    files["manifest.json"] = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return sha256(files["manifest.json"])


def _check_file(folder: Path, name: str, want: Mapping[str, Any]) -> bytes:
    data = (folder / name).read_bytes()
    if len(data) != want["bytes"] or sha256(data) != want["sha256"]:
        raise ValueError(f"{folder / name} is not the file that manifest.json describes: rebuild the bundle")
    return data


def read_files(folder: Path) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """Reads a bundle: its manifest, its files (digests checked) and its digest."""
    raw = (folder / "manifest.json").read_bytes()
    manifest: dict[str, Any] = json.loads(raw)
    if manifest.get("schema") != 1:
        raise ValueError(f"{folder}/manifest.json has schema {manifest.get('schema')!r}, want 1")
    files = {name: _check_file(folder, name, want) for name, want in manifest["files"].items()}
    return manifest, files, sha256(raw)


def tolerance_of(lane: Mapping[str, Any]) -> float:
    """The tolerance that holds on every machine."""
    return float(lane["tolerance"]["default"])


def worst_difference(want: Mapping[str, Any], got: Outputs) -> float:
    """The largest distance between recorded raw outputs and those of a run."""
    pairs = [(want[k], got.scalars[k]) for k in SCALARS if k in want]
    pairs += list(zip(want.get("domain", []), got.domain.tolist(), strict=False))
    gaps: npt.NDArray[np.float64] = np.array([abs(a - b) for a, b in pairs])
    return float(gaps.max())
