"""Answer checkers: one function per kind, no model, no randomness.

A checker sees the prompt and the answer and says right or wrong. It is strict on
what was asked (a count, a form, a letter) and lenient on how a chat answer wraps
it ("The capital is Lima." passes where "Lima" is asked for).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

Check = dict[str, Any]

_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:[,\u202f]\d{3})*(?:\.\d+)?|(?<![\w.])[-−]?\.\d+")
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
# fmt: off
_SPELLED = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)
# fmt: on
_WORDS_TO_NUMBERS = {word: float(value) for value, word in enumerate(_SPELLED)}
_EDGES = " \t\r\n\"'`*“”‘’.,:;!?()[]"


def normalise(text: str) -> str:
    """Folds case, width and white space, and drops punctuation at the edges."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return re.sub(r"\s+", " ", text).strip(_EDGES)


def numbers(text: str) -> list[float]:
    """The numbers of a text in order; spelled ones (zero to twenty) only where there are no digits."""
    text = re.sub(r"(?<=[A-Za-z])\^\{?-?\d+\}?", "", text)
    found = [float(re.sub("[,\u202f]", "", m).replace("−", "-")) for m in _NUMBER.findall(text)]
    if found:
        return found
    return [_WORDS_TO_NUMBERS[w] for w in re.findall(r"[a-z]+", text.casefold()) if w in _WORDS_TO_NUMBERS]


def words(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, inner apostrophes and hyphens kept."""
    return _WORD.findall(text)


def lines(text: str) -> list[str]:
    """The lines that are not blank, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def sentences(text: str) -> list[str]:
    """The sentences of a text: split after . ! or ? where white space follows."""
    return [s.strip() for s in re.split(r"(?<=[.!?])[\"'”’)]*\s+", text.strip()) if words(s)]


def contains(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a normalised text, not inside a longer word."""
    phrase = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", phrase).casefold().replace("’", "'"))
    left = r"(?<!\w)" if phrase[:1].isalnum() else ""
    right = r"(?!\w)" if phrase[-1:].isalnum() else ""
    return re.search(left + re.escape(phrase) + right, text) is not None


def _fold(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))


def _exact(check: Check, _prompt: str, answer: str) -> bool:
    return normalise(answer) in {normalise(a) for a in check["answers"]}


def _number(check: Check, prompt: str, answer: str) -> bool:
    found = numbers(answer)
    if not found:
        return False
    given = numbers(prompt)
    fresh = [n for n in found if n not in given]
    candidates = [fresh[0], fresh[-1]] if fresh else [found[-1]]
    value, tolerance = float(check["value"]), float(check["tolerance"])
    return any(abs(n - value) <= tolerance + 1e-9 for n in candidates)


def options(prompt: str) -> dict[str, str]:
    """The lettered options of a prompt: lines that begin with "A) "."""
    return dict(re.findall(r"(?m)^([A-J])\) (.+)$", prompt))


def choice_letter(prompt: str, answer: str) -> str | None:
    """The option that an answer picks, or None when it picks none or several."""
    given = options(prompt)
    text = answer.strip(" \t\n\"'*`")
    for pattern in (
        r"^\(?([A-J])(?:[).:,\s]|$)",
        r"(?i:answer|option|choice)(?:\s+(?i:is|would be))?\s*:?\s*[\"'(*]*([A-J])\b",
    ):
        match = re.search(pattern, text)
        if match and match.group(1) in given and not re.match(r"A [a-z]", text):
            return match.group(1)
    named = [letter for letter, option in given.items() if contains(_fold(text), option)]
    return named[0] if len(named) == 1 else None


def _choice(check: Check, prompt: str, answer: str) -> bool:
    return choice_letter(prompt, answer) == str(check["answer"])


def _contains_all(check: Check, _prompt: str, answer: str) -> bool:
    text = _fold(answer)
    if any(contains(text, bad) for bad in check.get("forbidden", [])):
        return False
    return all(any(contains(text, phrase) for phrase in group) for group in check["groups"])


def _regex(check: Check, _prompt: str, answer: str) -> bool:
    return re.search(check["pattern"], answer) is not None


def _between(count: int, check: Check, what: str) -> bool:
    return int(check.get(f"min_{what}", 0)) <= count <= int(check.get(f"max_{what}", 10**9))


def _initials(parts: list[str]) -> str:
    return "".join(part[:1] for part in parts).casefold()


def _same_ends(text: str) -> bool:
    found = [w.casefold() for w in words(text)]
    return len(found) > 1 and found[0] == found[-1]


def _begins(text: str, start: str) -> bool:
    return normalise(text).startswith(start.casefold())


def _ends(line: str, end: str) -> bool:
    found = words(line)
    return bool(found) and found[-1].casefold() == end.casefold()


# Each rule of a `constraints` check: its value and the stripped answer.
_RULES: dict[str, Callable[[Any, str], bool]] = {
    "required": lambda v, t: all(contains(_fold(t), w) for w in v),
    "required_any": lambda v, t: any(contains(_fold(t), w) for w in v),
    "required_cased": lambda v, t: all(w in words(t) for w in v),
    "forbidden": lambda v, t: not any(contains(_fold(t), w) for w in v),
    "forbidden_letters": lambda v, t: not set(v) & set(t.casefold()),
    "forbidden_pattern": lambda v, t: re.search(v, t) is None,
    "starts": lambda v, t: _begins(t, v),
    "sentence_starts": lambda v, t: all(normalise(words(s)[0]) == v for s in sentences(t)),
    "acrostic": lambda v, t: _initials([line.lstrip(_EDGES + "-") for line in lines(t)]) == v.casefold(),
    "word_initial": lambda v, t: all(w.casefold().startswith(v) for w in words(t)),
    "word_initials": lambda v, t: _initials(words(t)) == v.casefold(),
    "word_lengths": lambda v, t: [len(w) for w in words(t)] == v,
    "line_words": lambda v, t: [len(words(line)) for line in lines(t)] == v,
    "sentence_words": lambda v, t: [len(words(s)) for s in sentences(t)] == v,
    "line_ends": lambda v, t: all(_ends(line, v) for line in lines(t)),
    "same_first_last": lambda v, t: _same_ends(t) == v,
}
_COUNTS = ("words", "lines", "sentences")


def _constraints(check: Check, _prompt: str, answer: str) -> bool:
    text = answer.strip()
    if not words(text):
        return False
    counted = {"words": len(words(text)), "lines": len(lines(text)), "sentences": len(sentences(text))}
    if not all(_between(counted[what], check, what) for what in _COUNTS):
        return False
    return all(_RULES[rule](value, text) for rule, value in check.items() if rule in _RULES)


_KINDS: dict[str, Callable[[Check, str, str], bool]] = {
    "exact": _exact,
    "number": _number,
    "choice": _choice,
    "contains_all": _contains_all,
    "regex": _regex,
    "constraints": _constraints,
}
_FIELDS = {
    "exact": {"answers"},
    "number": {"value", "tolerance"},
    "choice": {"answer", "options"},
    "contains_all": {"groups"},
    "regex": {"pattern"},
    "constraints": set[str](),
}


def validate(check: Check, prompt: str) -> None:
    """Raises ValueError naming the field of a check that is not of a known form."""
    kind = check.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"check.kind {kind!r} is unknown: use one of {', '.join(_KINDS)}")
    missing = _FIELDS[kind] - check.keys()
    if missing:
        raise ValueError(f"check of kind {kind} lacks {sorted(missing)}")
    allowed = _FIELDS[kind] | {"kind"}
    if kind == "contains_all":
        allowed |= {"forbidden"}
    if kind == "constraints":
        allowed |= set(_RULES) | {f"{end}_{what}" for end in ("min", "max") for what in _COUNTS}
    unknown = check.keys() - allowed
    if unknown:
        raise ValueError(f"check of kind {kind} has unknown fields {sorted(unknown)}")
    if kind == "regex":
        re.compile(check["pattern"])
    if kind == "choice" and (len(options(prompt)) != check["options"] or check["answer"] not in options(prompt)):
        raise ValueError(f"check.answer {check['answer']!r}: the prompt has options {sorted(options(prompt))}")


def score(check: Check, prompt: str, answer: str) -> int:
    """1 when the answer passes its check, else 0."""
    return int(_KINDS[check["kind"]](check, prompt, answer))
