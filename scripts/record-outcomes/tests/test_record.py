"""Recording with a model that is a table: resuming, seeds, votes, prices, grading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recordoutcomes import configs, grade, models, record
from recordoutcomes.configs import Config
from recordoutcomes.shots import Shot


class Scripted:
    """Says the next text of a list and remembers what it was asked."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.asked: list[tuple[str, int, float, int]] = []

    def answer(self, shots: list[Shot], prompt: str, max_tokens: int, temperature: float, seed: int) -> models.Reply:
        self.asked.append((prompt, max_tokens, temperature, seed))
        return models.Reply(self.texts[(len(self.asked) - 1) % len(self.texts)], 10, 2)


GREEDY = Config("smollm2-135m", ("m",), "none", 1, 0.0, ((3, 5),))
VOTE = Config("v", ("m",), "general", 3, 0.7, ((3, 5),))


@pytest.fixture
def set_path(tmp_path: Path) -> Path:
    cases = [
        {"id": f"s-{i}", "set": "s", "split": "eval", "prompt": f"{i} + 1?", "domain": "math", "difficulty": 1}
        for i in range(4)
    ]
    path = tmp_path / "s.jsonl"
    record.write_jsonl(path, cases)
    (tmp_path / "s").mkdir()
    record.write_jsonl(
        tmp_path / "s" / "checks.jsonl",
        [
            {"id": f"s-{i}", "max_tokens": 8, "check": {"kind": "number", "value": i + 1, "tolerance": 0}}
            for i in range(4)
        ],
    )
    return path


def test_a_stopped_run_goes_on(set_path: Path) -> None:
    model = Scripted(["1"])
    assert record.run(set_path, GREEDY, lambda _: model, limit=3) == 3
    assert record.run(set_path, GREEDY, lambda _: model) == 1
    assert record.run(set_path, GREEDY, lambda _: pytest.fail("nothing is left to load a model for")) == 0
    assert [asked[0] for asked in model.asked] == ["0 + 1?", "1 + 1?", "2 + 1?", "3 + 1?"]


def test_a_reworded_prompt_is_asked_again(set_path: Path) -> None:
    record.run(set_path, GREEDY, lambda _: Scripted(["1"]))
    cases = record.read_jsonl(set_path)
    cases[2]["prompt"] = "two and one?"
    record.write_jsonl(set_path, cases)
    model = Scripted(["3"])
    assert record.run(set_path, GREEDY, lambda _: model) == 1
    assert model.asked[0][0] == "two and one?"
    rows = record.read_jsonl(set_path.with_suffix("") / "answers" / "smollm2-135m.jsonl")
    assert [(r["id"], r["answer"]) for r in rows] == [("s-0", "1"), ("s-1", "1"), ("s-2", "3"), ("s-3", "1")]


def test_votes_and_prices() -> None:
    model = Scripted(["Lima", "Quito", "quito."])
    row = record.answer(VOTE, {"m": model}, {"id": "x", "prompt": "capital?", "domain": "general"}, 8)
    assert row["answer"] == "Quito"
    assert row["samples"] == ["Lima", "Quito", "quito."]
    assert row["nano_usd"] == 3 * (10 * 3 + 2 * 5)
    assert (row["prompt_tokens"], row["output_tokens"]) == (30, 6)
    assert len({asked[3] for asked in model.asked}) == 3
    again = Scripted(["Lima"])
    record.answer(VOTE, {"m": again}, {"id": "x", "prompt": "capital?", "domain": "general"}, 8)
    assert [a[3] for a in again.asked] == [a[3] for a in model.asked]


def test_vote_reads_letters_and_breaks_ties_by_order() -> None:
    options = "Pick\nA) plum\nB) nail"
    assert record.vote(options, ["A", "(B) nail", "B"]) == "(B) nail"
    assert record.vote("capital?", ["Lima", "Quito"]) == "Lima"
    assert record.vote("capital?", ["", "Quito"]) == "Quito"
    assert record.vote("capital?", ["", ""]) == ""


def test_grading_writes_outcomes_and_leaves_out_what_is_not_complete(set_path: Path) -> None:
    answers = set_path.with_suffix("") / "answers"
    record.run(set_path, GREEDY, lambda _: Scripted(["1"]))
    half = configs.CONFIGS["smollm2-135m-fewshot"]
    record.run(set_path, half, lambda _: Scripted(["1"]), limit=2)
    assert len(record.read_jsonl(answers / "smollm2-135m-fewshot.jsonl")) == 2
    graded = grade.grade(set_path)
    assert graded.order == ["smollm2-135m"]
    rows = [json.loads(line) for line in set_path.read_text().split("\n") if line]
    assert [r["outcomes"] for r in rows] == [{"smollm2-135m": s} for s in (1, 0, 0, 0)]
    assert rows[0]["output_chars"] == {"smollm2-135m": 1}
    assert rows[0]["cost_usd"] == {"smollm2-135m": 40e-9}
    assert "25.0" in grade.table(graded)


def test_interval_holds_the_mean_and_narrows() -> None:
    few = np.array([0.0, 1.0] * 20)
    many = np.array([0.0, 1.0] * 500)
    mean, low, high = grade.interval(few)
    assert mean == 0.5
    assert low < 0.5 < high
    _, low_many, high_many = grade.interval(many)
    assert high_many - low_many < high - low
    assert grade.interval(many) == (0.5, low_many, high_many)


@pytest.mark.parametrize(
    ("shots", "samples", "temperature", "prices"),
    [("some", 1, 0.0, ((1, 1),)), ("none", 1, 0.7, ((1, 1),)), ("none", 3, 0.0, ((1, 1),)), ("none", 1, 0.0, ())],
)
def test_config_refuses(shots: str, samples: int, temperature: float, prices: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError):
        Config("x", ("m",), shots, samples, temperature, prices)


def test_templates() -> None:
    shots = [("2+2", "4")]
    assert [m["role"] for m in models.chat_messages(shots, "3+3")] == ["user", "assistant", "user"]
    assert models.completion_text(shots, "3+3") == "Question: 2+2\nAnswer: 4\n\nQuestion: 3+3\nAnswer:"
