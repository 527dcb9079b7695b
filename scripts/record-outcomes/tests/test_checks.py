"""Every kind of check, both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recordoutcomes import checks, shots
from recordoutcomes.checks import Check

SET = Path(__file__).parents[3] / "eval" / "sets" / "weir-local.jsonl"
OPTIONS = "Which is a fruit?\nA) brick\nB) plum\nC) nail\nD) sock"


def number(value: float, tolerance: float = 0) -> Check:
    return {"kind": "number", "value": value, "tolerance": tolerance}


def holds(*groups: list[str], forbidden: tuple[str, ...] = ()) -> Check:
    return {"kind": "contains_all", "groups": list(groups), "forbidden": list(forbidden)}


@pytest.mark.parametrize(
    ("check", "prompt", "answer", "want"),
    [
        ({"kind": "exact", "answers": ["Yes"]}, "say yes", ' "yes". ', 1),
        ({"kind": "exact", "answers": ["yes"]}, "say yes", "yes, sure", 0),
        (number(42), "17 + 25", "17 + 25 = 42.", 1),
        (number(42), "17 + 25", "17 + 25 = 32.", 0),
        (number(14), "days in two weeks?", "There are 14 days in 2 weeks.", 1),
        (number(8), "legs of a spider", "A spider has eight legs.", 1),
        (number(1200), "sum?", "It is 1,200 dollars", 1),
        (number(12), "net force?", "12 m/s^2", 1),
        (number(6), "H2SO4?", "C6 is carbon", 0),
        (number(-4, 0.001), "change?", "-4%", 1),
        (number(4), "change?", "-4%", 0),
        (number(25), "25 plus 0?", "25", 1),
        (number(5), "no digits", "", 0),
        ({"kind": "choice", "answer": "B", "options": 4}, OPTIONS, "B", 1),
        ({"kind": "choice", "answer": "B", "options": 4}, OPTIONS, "(B) plum", 1),
        ({"kind": "choice", "answer": "B", "options": 4}, OPTIONS, "The answer is B.", 1),
        ({"kind": "choice", "answer": "B", "options": 4}, OPTIONS, "A plum is a fruit.", 1),
        ({"kind": "choice", "answer": "B", "options": 4}, OPTIONS, "plum or sock", 0),
        ({"kind": "choice", "answer": "B", "options": 4}, OPTIONS, "C", 0),
        (holds(["lima"]), "capital", "It's Lima.", 1),
        (holds(["ran"]), "past of run", "it rained", 0),
        (holds(["peru"], ["bolivia", "bolivian"]), "which two", "Peru and Bolivia", 1),
        (holds(["peru"], ["bolivia"]), "which two", "Peru and Chile", 0),
        (holds(["theft"], forbidden=("gift",)), "theft or gift", "theft or gift", 0),
        (holds([".py"]), "extension", "They end in .py", 1),
        (holds(["she doesn't like tea"]), "fix", "She doesn’t like tea.", 1),
        ({"kind": "regex", "pattern": r"\bNa\b"}, "sodium", "Na", 1),
        ({"kind": "regex", "pattern": r"\bNa\b"}, "sodium", "NaCl", 0),
    ],
)
def test_score(check: Check, prompt: str, answer: str, want: int) -> None:
    checks.validate({k: v for k, v in check.items() if v != []}, prompt)
    assert checks.score(check, prompt, answer) == want


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        ({"min_words": 3, "max_words": 3}, "cold, white, still", "it's very cold outside"),
        ({"min_lines": 2, "max_lines": 2}, "one\n\ntwo", "one two"),
        ({"max_sentences": 1}, "Rain fell on the 3.5 acre field.", "Rain fell. It stopped."),
        ({"required": ["river"]}, "The river sings", "The rivers sing"),
        ({"required_any": ["plant", "plants"]}, "my plants", "my flowers"),
        ({"required_cased": ["APPLE"]}, "APPLE", "apple"),
        ({"forbidden": ["i am tired"]}, "I feel weary", "I am  tired"),
        ({"forbidden_letters": "e"}, "A dim town", "The town"),
        ({"forbidden_pattern": r"\d"}, "cat\ndog", "1. cat\n2. dog"),
        ({"starts": "once upon a time"}, "Once upon a time, a fox ran.", "A fox ran once upon a time."),
        ({"sentence_starts": "the"}, "The sun. The rain.", "The sun. A rain."),
        ({"acrostic": "SUN"}, "- Sea\n- Up\n- Now", "Sea\nUp\nThen"),
        ({"word_initial": "s"}, "Silly Sam sang", "Silly Sam ran"),
        ({"word_initials": "abc"}, "A bear came", "A cat came"),
        ({"word_lengths": [1, 2, 3]}, "I am old", "I was old"),
        ({"line_words": [1, 2]}, "night\nno moon", "night\nmoon"),
        ({"sentence_words": [1, 2]}, "Go. Run now!", "Go now. Run now!"),
        ({"line_ends": "door"}, "the door,\nmy door.", "the door\nmy house"),
        ({"same_first_last": True}, "Home is my home.", "Home is my house."),
    ],
)
def test_constraints(rules: Check, good: str, bad: str) -> None:
    check = {"kind": "constraints", **rules}
    checks.validate(check, "")
    assert checks.score(check, "", good) == 1
    assert checks.score(check, "", bad) == 0
    assert checks.score(check, "", "  ") == 0


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "guess"},
        {"kind": "number", "value": 3},
        {"kind": "constraints", "min_word": 3},
        {"kind": "choice", "answer": "E", "options": 4},
    ],
)
def test_validate_refuses(check: Check) -> None:
    with pytest.raises(ValueError, match="check"):
        checks.validate(check, OPTIONS)


def test_the_set_is_whole() -> None:
    cases = [json.loads(line) for line in SET.read_text(encoding="utf-8").split("\n") if line]
    rows = [json.loads(line) for line in (SET.with_suffix("") / "checks.jsonl").read_text().split("\n") if line]
    assert [c["id"] for c in cases] == [r["id"] for r in rows]
    assert len({c["prompt"] for c in cases}) == len(cases) >= 500
    for case, row in zip(cases, rows, strict=True):
        checks.validate(row["check"], case["prompt"])


def test_examples_are_not_prompts_of_the_set() -> None:
    cases = [json.loads(line) for line in SET.read_text(encoding="utf-8").split("\n") if line]
    prompts = {checks.normalise(c["prompt"]) for c in cases}
    examples = [q for given in shots.BY_DOMAIN.values() for q, _ in given]
    assert not prompts & {checks.normalise(q) for q in examples}
