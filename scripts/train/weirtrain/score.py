"""`weirtrain score`: the Python twin of `weir score`, for parity tests and evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weirtrain.bundle import DOMAINS, read_files, tolerance_of, worst_difference
from weirtrain.calibrate import Knot, calibrated_logit, sigmoid
from weirtrain.runtime import Graph, Outputs
from weirtrain.text import Encoder, Window, clean, open_tokenizer, render


@dataclass(frozen=True)
class Scores:
    """What a bundle says of one prompt."""

    q_efficient: float
    q_high: float
    domains: dict[str, float]
    output_tokens: float
    output_tokens_p90: float
    input_tokens: int
    truncated_tokens: int
    ood: float
    out_of_distribution: bool
    lane: str
    ids: list[int]
    raw: Outputs

    @property
    def complexity(self) -> float:
        """The chance that the efficient model is not good enough."""
        return 1.0 - self.q_efficient

    @property
    def gain(self) -> float:
        """What going up is worth; rankings use it."""
        return self.q_high - self.q_efficient

    @property
    def domain(self) -> str:
        """The likeliest domain, the first of the fixed order where two tie."""
        return max(DOMAINS, key=lambda d: self.domains[d])


def _knots(curve: Mapping[str, Any]) -> list[Knot]:
    return [Knot(k["x"], k["y"], k["lo"], k["hi"]) for k in curve["knots"]]


def softmax(values: Iterable[float]) -> list[float]:
    """Probabilities that sum to 1, in double precision."""
    logits = list(values)
    top = max(logits)
    powers = [math.exp(v - top) for v in logits]
    total = sum(powers)
    return [p / total for p in powers]


class Lane:
    """One lane of an opened bundle."""

    def __init__(self, name: str, entry: Mapping[str, Any], files: Mapping[str, bytes], domains: list[str]) -> None:
        self.name = name
        self._entry = entry
        self._domains = domains
        special = entry["special_tokens"]
        self.encoder = Encoder(
            open_tokenizer(files[entry["tokenizer"]].decode("utf-8")),
            Window(**entry["window"]),
            tuple(special["prefix"]),
            tuple(special["suffix"]),
        )
        self.graph = Graph(files[entry["graph"]])
        self._efficient = _knots(entry["calibration"]["quality_efficient"])
        self._high = _knots(entry["calibration"]["quality_high"])

    def classify(self, text: str) -> Scores:
        """Scores one text; raises TextError when it holds nothing to score."""
        cleaned = clean(text)
        encoded = self.encoder.encode(cleaned)
        raw = self.graph.run(encoded.ids, cleaned)
        bounds = self._entry["output_tokens"]
        expected, high_end = float(bounds["default"]), float(bounds["default"])
        if "output_tokens" in raw.scalars:
            value = raw.scalars["output_tokens"]
            expected, high_end = math.exp(value), math.exp(value + bounds["p90_offset"])
        domains = dict.fromkeys(DOMAINS, 0.0)
        if len(raw.domain):
            domains.update(zip(self._domains, softmax(raw.domain.tolist()), strict=True))
        ood = raw.scalars.get("ood", 0.0)
        return Scores(
            q_efficient=sigmoid(calibrated_logit(self._efficient, raw.scalars["quality_efficient"])),
            q_high=sigmoid(calibrated_logit(self._high, raw.scalars["quality_high"])),
            domains=domains,
            output_tokens=min(max(expected, bounds["min"]), bounds["max"]),
            output_tokens_p90=min(max(high_end, bounds["min"]), bounds["max"]),
            input_tokens=encoded.input_tokens,
            truncated_tokens=encoded.truncated_tokens,
            ood=ood,
            out_of_distribution=ood > self._entry["ood"]["threshold"],
            lane=self.name,
            ids=encoded.ids,
            raw=raw,
        )


class Bundle:
    """An opened bundle: digests and golden probes are checked, as the service does.

    `only` names the one lane to ask; without it the cascade decides.
    """

    def __init__(self, folder: Path, only: str = "") -> None:
        self.manifest, files, digest = read_files(folder)
        self.digest = f"sha256:{digest}"
        domains = self.manifest["domains"]
        self.lanes = {n: Lane(n, e, files, domains) for n, e in self.manifest["lanes"].items()}
        if only and only not in self.lanes:
            raise ValueError(f"{folder} has no lane {only!r}: it has {', '.join(self.lanes)}")
        self._only = only
        self._cascade = self.manifest.get("cascade")
        self._check_probes(json.loads(files[self.manifest["probes"]]))

    def _check_probes(self, probes: Mapping[str, Any]) -> None:
        for i, probe in enumerate(probes["probes"]):
            for name, want in probe["lanes"].items():
                lane = self.lanes[name]
                cleaned = clean(probe["text"])
                ids = lane.encoder.encode(cleaned).ids
                if ids != want["ids"]:
                    raise ValueError(f"probe {i}, lane {name}: the ids differ from the recorded ones")
                gap = worst_difference(want["outputs"], lane.graph.run(ids, cleaned))
                allowed = tolerance_of(self.manifest["lanes"][name])
                if not gap <= allowed:
                    raise ValueError(f"probe {i}, lane {name}: outputs differ by {gap:.3g}, allowed {allowed:.3g}")

    def classify(self, text: str) -> Scores:
        """Scores one text through the cascade, as the service does; `ids` are the fast lane's."""
        if self._only:
            return self.lanes[self._only].classify(text)
        fast = self.lanes["fast"].classify(text)
        if self._cascade is None:
            return fast
        in_band = self._cascade["low"] <= fast.gain <= self._cascade["high"]
        if not in_band and max(fast.domains.values()) >= self._cascade.get("domain_below", 0.0):
            return fast
        return replace(self.lanes["base"].classify(text), ids=fast.ids)


def text_of(record: Mapping[str, Any]) -> str:
    """The text of a record: its `prompt`, or its `messages` rendered."""
    if "prompt" in record:
        return str(record["prompt"])
    return render(record["messages"])


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Reads JSON lines, split at newlines only: texts hold other line breaks."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as err:
                raise ValueError(f"{path}, line {number}: not a JSON object ({err})") from err


def score_line(bundle: Bundle, record: Mapping[str, Any], with_ids: bool) -> dict[str, Any]:
    """One line of the output file."""
    s = bundle.classify(text_of(record))
    line: dict[str, Any] = {
        "id": record["id"],
        "complexity": s.complexity,
        "gain": s.gain,
        "q_efficient": s.q_efficient,
        "q_high": s.q_high,
        "domain": s.domain,
        "domain_probabilities": s.domains,
        "output_tokens": s.output_tokens,
        "truncated_tokens": s.truncated_tokens,
        "bundle_digest": bundle.digest,
    }
    if with_ids:
        line["ids"] = s.ids
    return line


def score_file(folder: Path, source: Path, target: Path, with_ids: bool) -> int:
    """Scores every line of source into target; returns how many."""
    bundle = Bundle(folder)
    count = 0
    with target.open("w", encoding="utf-8", newline="\n") as out:
        for record in read_lines(source):
            line = score_line(bundle, record, with_ids)
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count
