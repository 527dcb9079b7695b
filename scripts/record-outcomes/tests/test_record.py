"""Recording with a model that is a table: resuming, seeds, votes, prices, grading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recordoutcomes import configs, grade, models, record, shots, tools
from recordoutcomes.configs import Config, Member
from recordoutcomes.shots import Shot


class Scripted:
    """Says the next text of a list and remembers what it was asked."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.asked: list[tuple[str, int, float, int]] = []

    def answer(self, shots: list[Shot], prompt: str, max_tokens: int, temperature: float, seed: int) -> models.Reply:
        self.asked.append((prompt, max_tokens, temperature, seed))
        return models.Reply(self.texts[(len(self.asked) - 1) % len(self.texts)], 10, 2)


SMOL, GEMMA = "smollm2-135m", "gemma3-270m"
GREEDY = Config(SMOL, (Member(SMOL, "none"),))
VOTE = Config("v", (Member(SMOL, "general", 3, 0.7),))


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
    row = record.answer(VOTE, {SMOL: model}, {"id": "x", "prompt": "capital?", "domain": "general"}, 8)
    assert row["answer"] == "Quito"
    assert row["samples"] == ["Lima", "Quito", "quito."]
    assert row["nano_usd"] == 3 * (10 * 10 + 2 * 40)
    assert (row["prompt_tokens"], row["output_tokens"]) == (30, 6)
    assert len({asked[3] for asked in model.asked}) == 3
    again = Scripted(["Lima"])
    record.answer(VOTE, {SMOL: again}, {"id": "x", "prompt": "capital?", "domain": "general"}, 8)
    assert [a[3] for a in again.asked] == [a[3] for a in model.asked]


def test_vote_reads_letters_and_breaks_ties_by_order() -> None:
    options = "Pick\nA) plum\nB) nail"
    assert record.vote(options, ["A", "(B) nail", "B"]) == "(B) nail"
    assert record.vote("capital?", ["Lima", "Quito"]) == "Lima"
    assert record.vote("capital?", ["", "Quito"]) == "Quito"
    assert record.vote("capital?", ["", ""]) == ""


def test_a_long_answer_counts_for_the_short_one_it_holds() -> None:
    long = "The capital of Peru is Lima, a large city."
    assert record.vote("capital of peru?", [long, "Quito", "Lima"]) == "Lima"
    assert record.vote("capital of peru?", [long, "Peru", "Quito"]) == long
    assert record.vote("capital of peru?", [long, "Quito", "Quito", "Lima"]) == "Quito"


def test_a_panel_asks_every_member_at_its_own_price() -> None:
    config = Config("p", (Member(SMOL, "none"), Member(GEMMA, "tools", 2, 0.5)))
    chat, base = Scripted(["The sum is 8."]), Scripted(["calc(3 + 4)"])
    row = record.answer(config, {SMOL: chat, GEMMA: base}, {"id": "x", "prompt": "3 + 4", "domain": "math"}, 8)
    assert row["answer"] == "7"
    assert row["samples"] == ["The sum is 8.", "calc(3 + 4)", "calc(3 + 4)"]
    assert row["nano_usd"] == (100 + 80) + 2 * (200 + 160)


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
    assert rows[0]["cost_usd"] == {"smollm2-135m": 180e-9}
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
    ("model", "examples", "samples", "temperature"),
    [
        (SMOL, "some", 1, 0.0),
        (SMOL, "none", 1, 0.7),
        (SMOL, "none", 3, 0.0),
        (SMOL, "none", 0, 0.7),
        ("m", "none", 1, 0.0),
    ],
)
def test_member_refuses(model: str, examples: str, samples: int, temperature: float) -> None:
    with pytest.raises(ValueError, match=r"shots|samples|model"):
        Member(model, examples, samples, temperature)


def test_templates() -> None:
    given = [("2+2", "4")]
    assert [m["role"] for m in models.chat_messages(given, "3+3")] == ["user", "assistant", "user"]
    assert models.completion_text(given, "3+3") == "Question: 2+2\nAnswer: 4\n\nQuestion: 3+3\nAnswer:"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("calc(12 + 9)", "21"),
        ("calc((38 - 3) / 5)", "7"),
        ("calc(2 ** 9)\n", "512"),
        ("calc(1 / 3)", "0.3333333333"),
        ("calc(-3 // 2)", "-2"),
        ("21", "21"),
        ("calc(1 / 0)", "calc(1 / 0)"),
        ("calc(9 ** 9 ** 9)", "calc(9 ** 9 ** 9)"),
        ("calc(2 ** 0.5 ** -99)", "calc(2 ** 0.5 ** -99)"),
        ("calc((-8) ** 0.5)", "calc((-8) ** 0.5)"),
        ("calc(__import__('os').getcwd())", "calc(__import__('os').getcwd())"),
        ("calc(True + 1)", "calc(True + 1)"),
        ("calc(3 +)", "calc(3 +)"),
        ("the calc(3 + 4)", "the calc(3 + 4)"),
    ],
)
def test_calculator(text: str, want: str) -> None:
    assert tools.resolve(text) == want


def test_calls_in_examples_compute_what_the_plain_examples_say() -> None:
    plain = {q: a for given in shots.BY_DOMAIN.values() for q, a in given}
    seen = 0
    for domain in shots.BY_DOMAIN:
        for question, answer in shots.tools(domain):
            if question in plain:
                assert tools.resolve(answer) == plain[question]
                seen += answer.startswith("calc(")
    assert seen > 15


def test_a_call_is_answered_before_the_vote() -> None:
    config = Config("t", (Member(SMOL, "tools", 3, 0.5),))
    row = record.answer(
        config,
        {SMOL: Scripted(["9", "calc(3 + 4)", "calc(4 + 3)"])},
        {"id": "x", "prompt": "3 + 4", "domain": "math"},
        8,
    )
    assert row["answer"] == "7"
    assert row["samples"] == ["9", "calc(3 + 4)", "calc(4 + 3)"]


def test_a_panel_is_put_together_from_what_its_members_recorded(set_path: Path) -> None:
    panel = configs.CONFIGS["panel"]
    seen: list[str] = []

    def load(name: str) -> Scripted:
        seen.append(name)
        return Scripted(["The sum is 2."] if name == SMOL else ["calc(1 + 1)", "3", "calc(4 - 2)", "5", "6"])

    case = record.read_jsonl(set_path)[0]
    both: dict[str, models.Model] = {SMOL: load(SMOL), GEMMA: load(GEMMA)}
    asked = record.answer(panel, both, case, 8)
    for name in ("smollm2-135m", "gemma3-270m-tools-vote5"):
        record.run(set_path, configs.CONFIGS[name], load)
    seen.clear()
    assert record.run(set_path, panel, load) == 4
    assert seen == []
    assert record.read_jsonl(set_path.with_suffix("") / "answers" / "panel.jsonl")[0] == asked
