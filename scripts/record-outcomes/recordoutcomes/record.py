"""Runs a configuration over the set and keeps every answer, one a line; a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recordoutcomes import checks, shots, tools
from recordoutcomes.configs import CONFIGS, PRICES, Config, Member
from recordoutcomes.models import Model, Reply

Row = dict[str, Any]
SEED = 20240117


def read_jsonl(path: Path) -> list[Row]:
    """The objects of a file; lines are split at line feeds only."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def write_jsonl(path: Path, rows: list[Row]) -> None:
    """Writes one object a line, replacing the file in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    temporary.replace(path)


def folder(set_path: Path) -> Path:
    """The folder of a set's checks and answers: beside it, of the same name."""
    return set_path.with_suffix("")


def prompt_digest(prompt: str) -> str:
    """Names a prompt's text, so that an answer to another wording is never graded."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def sample_seed(seed: int, case_id: str, model: str, index: int) -> int:
    """A seed that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}/{case_id}/{model}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _support(prompt: str, key: str, keys: list[str], texts: list[str]) -> int:
    """How many samples give an answer: as their whole text, or inside a longer one where the prompt does not say it."""
    echoed = checks.contains(checks.normalise(prompt), key)
    return sum(
        other == key or (not echoed and len(key) > 1 and checks.contains(checks.normalise(text), key))
        for other, text in zip(keys, texts, strict=True)
    )


def vote(prompt: str, texts: list[str]) -> str:
    """The answer that most samples give, the earliest among equals.

    Answers are equal when they pick the same lettered option, or read the same but for case, space and
    punctuation at the edges; a longer answer also counts for the shorter one that it holds. The checker has no part
    in it.
    """
    keys = [checks.choice_letter(prompt, t) or checks.normalise(t) for t in texts]
    valid = [k for k in keys if k]
    if not valid:
        return texts[0]
    best = max(valid, key=lambda k: (_support(prompt, k, keys, texts), -keys.index(k)))
    return texts[keys.index(best)]


def _examples(member: Member, domain: str) -> list[shots.Shot]:
    match member.shots:
        case "general":
            return shots.general()
        case "matched":
            return shots.matched(domain)
        case "tools":
            return shots.tools(domain)
        case _:
            return []


def answer(config: Config, models: dict[str, Model], case: Row, max_tokens: int, seed: int = SEED) -> Row:
    """All samples of a configuration for one case, and the answer it gives."""
    replies: list[Reply] = []
    texts: list[str] = []
    nano_usd = 0
    for member in config.members:
        examples = _examples(member, case["domain"])
        prompt_price, output_price = PRICES[member.model]
        for index in range(member.samples):
            drawn = sample_seed(seed, case["id"], member.model, index)
            reply = models[member.model].answer(examples, case["prompt"], max_tokens, member.temperature, drawn)
            nano_usd += reply.prompt_tokens * prompt_price + reply.output_tokens * output_price
            replies.append(reply)
            texts.append(tools.resolve(reply.text) if member.shots == "tools" else reply.text)
    chosen = vote(case["prompt"], texts)
    said = [r.text for r in replies]
    return {
        "id": case["id"],
        "prompt_sha256_16": prompt_digest(case["prompt"]),
        "answer": chosen,
        "samples": [] if said == [chosen] else said,
        "prompt_tokens": sum(r.prompt_tokens for r in replies),
        "output_tokens": sum(r.output_tokens for r in replies),
        "nano_usd": nano_usd,
        "seed": seed,
    }


def compose(config: Config, case: Row, parts: list[Row]) -> Row:
    """What answer would return, from rows that its members recorded alone with the same seed.

    A greedy answer and a seeded sample come out the same again, so nothing is gained by asking for them twice.
    """
    said = [part["samples"] or [part["answer"]] for part in parts]
    texts = [
        tools.resolve(text) if member.shots == "tools" else text
        for member, given in zip(config.members, said, strict=True)
        for text in given
    ]
    sums = {field: sum(part[field] for part in parts) for field in ("prompt_tokens", "output_tokens", "nano_usd")}
    return {
        "id": case["id"],
        "prompt_sha256_16": prompt_digest(case["prompt"]),
        "answer": vote(case["prompt"], texts),
        "samples": [text for given in said for text in given],
        **sums,
        "seed": parts[0]["seed"],
    }


def recorded_parts(set_path: Path, config: Config) -> dict[tuple[str, str], list[Row]]:
    """For a configuration of several members, the rows that each recorded alone, by prompt; only where all did."""
    alone = {c.members[0]: c.name for c in CONFIGS.values() if len(c.members) == 1}
    if len(config.members) < 2 or any(member not in alone for member in config.members):
        return {}
    files = [read_jsonl(folder(set_path) / "answers" / f"{alone[member]}.jsonl") for member in config.members]
    by_prompt = [{(r["id"], r["prompt_sha256_16"]): r for r in rows if r["seed"] == SEED} for rows in files]
    return {key: [rows[key] for rows in by_prompt] for key in by_prompt[0] if all(key in rows for rows in by_prompt)}


def pending(cases: list[Row], done: list[Row]) -> Iterator[Row]:
    """The cases without an answer to their present wording."""
    have = {(r["id"], r["prompt_sha256_16"]) for r in done}
    return (c for c in cases if (c["id"], prompt_digest(c["prompt"])) not in have)


def tidy(cases: list[Row], answers: Path) -> None:
    """Drops answers to prompts or wordings that the set no longer has, and puts the rest in the set's order."""
    recorded = {(r["id"], r["prompt_sha256_16"]): r for r in read_jsonl(answers)}
    keys = [(c["id"], prompt_digest(c["prompt"])) for c in cases]
    write_jsonl(answers, [recorded[key] for key in keys if key in recorded])


def run(set_path: Path, config: Config, load: Callable[[str], Model], limit: int | None = None) -> int:
    """Answers what is not answered yet and returns how many that were; load opens a model by its name."""
    answers = folder(set_path) / "answers" / f"{config.name}.jsonl"
    cases = read_jsonl(set_path)
    budget = {r["id"]: r["max_tokens"] for r in read_jsonl(folder(set_path) / "checks.jsonl")}
    todo = list(pending(cases, read_jsonl(answers)))[:limit]
    if not todo:
        return 0
    parts = recorded_parts(set_path, config)
    digests = [(case["id"], prompt_digest(case["prompt"])) for case in todo]
    models: dict[str, Model] = {}
    if not all(key in parts for key in digests):
        models = {member.model: load(member.model) for member in config.members}
    answers.parent.mkdir(parents=True, exist_ok=True)
    with answers.open("a", encoding="utf-8") as out:
        for number, (case, key) in enumerate(zip(todo, digests, strict=True), 1):
            known = parts.get(key)
            row = compose(config, case, known) if known else answer(config, models, case, budget[case["id"]])
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            if number % 25 == 0 or number == len(todo):
                print(f"{config.name}: {number}/{len(todo)}", file=sys.stderr)
    tidy(cases, answers)
    return len(todo)
