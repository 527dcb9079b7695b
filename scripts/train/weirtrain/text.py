"""From text to ids: the Python twin of the Go classifier's Render, Clean and window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

EARLIER_ASKS = 3

# Unicode's White_Space, which is what Go's strings.TrimSpace removes.
# Python's str.strip removes U+001C..U+001F besides.
WHITE_SPACE = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


class TextError(ValueError):
    """A text that cannot be scored: not UTF-8, or nothing in it."""


@dataclass(frozen=True)
class Window:
    """How much of a text a lane sees; the manifest's `window`."""

    head_tokens: int
    tail_tokens: int
    head_bytes: int
    tail_bytes: int


@dataclass(frozen=True)
class Encoded:
    """Ids as the graph gets them, and how much of the text they leave out."""

    ids: list[int]
    input_tokens: int
    truncated_tokens: int
    estimated: bool


def render(messages: Sequence[dict[str, str]]) -> str:
    """Makes the one text of a chat: the last user message with something in it,
    after up to three earlier ones, oldest first, parted by a blank line."""
    asks = [m["content"] for m in messages if m["role"] == "user" and m["content"].strip(WHITE_SPACE)]
    return "\n\n".join(asks[-(EARLIER_ASKS + 1) :])


def clean(text: str) -> str:
    """Replaces NUL by U+FFFD; refuses lone surrogates and texts of only white space."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as err:
        raise TextError("text is not valid UTF-8") from err
    if not text.strip(WHITE_SPACE):
        raise TextError("text holds nothing to score")
    return text.replace("\x00", "\ufffd")


def _is_rune_start(byte: int) -> bool:
    return byte & 0xC0 != 0x80


def cut_window(text: str, head_bytes: int, tail_bytes: int) -> list[str]:
    """Cuts a text of more than head_bytes + tail_bytes into a head and a tail,
    each moved inward to a rune boundary; a shorter one stays one piece."""
    data = text.encode("utf-8")
    if len(data) <= head_bytes + tail_bytes:
        return [text]
    end = head_bytes
    while end > 0 and not _is_rune_start(data[end]):
        end -= 1
    start = len(data) - tail_bytes
    while start < len(data) and not _is_rune_start(data[start]):
        start += 1
    return [data[:end].decode("utf-8"), data[start:].decode("utf-8")]


def open_tokenizer(raw: str) -> Tokenizer:
    """Opens a tokenizer.json that holds neither padding nor truncation."""
    tokenizer = Tokenizer.from_str(raw)
    if tokenizer.padding is not None or tokenizer.truncation is not None:
        raise ValueError("tokenizer.json carries padding or truncation: set both to null")
    tokenizer.encode_special_tokens = True
    return tokenizer


def _tail(ids: list[int], n: int) -> list[int]:
    return ids[-n:] if n > 0 else []


@dataclass(frozen=True)
class Encoder:
    """A lane's way from clean text to ids."""

    tokenizer: Tokenizer
    window: Window
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def _piece(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=True).ids
        if not ids:
            raise ValueError("the tokenizer gave no ids at all: it is broken")
        start, end = len(self.prefix), len(ids) - len(self.suffix)
        if tuple(ids[:start]) != self.prefix or tuple(ids[end:]) != self.suffix or end < start:
            raise ValueError("the tokenizer's special tokens are not the manifest's prefix and suffix")
        return ids[start:end]

    def encode(self, text: str) -> Encoded:
        """Encodes clean text; raises TextError when no id is left."""
        w = self.window
        parts = cut_window(text, w.head_bytes, w.tail_bytes)
        pieces = [self._piece(p) for p in parts]
        count = sum(len(p) for p in pieces)
        if count == 0:
            raise TextError("text holds nothing to score")
        if len(pieces) == 1:
            ids, total = pieces[0], count
            if count > w.head_tokens + w.tail_tokens:
                ids = ids[: w.head_tokens] + _tail(ids, w.tail_tokens)
        else:
            ids = pieces[0][: w.head_tokens] + _tail(pieces[1], w.tail_tokens)
            seen = sum(len(p.encode("utf-8")) for p in parts)
            left_out = len(text.encode("utf-8")) - seen
            total = count + -(-left_out * count // seen)
        return Encoded([*self.prefix, *ids, *self.suffix], total, total - len(ids), len(pieces) == 2)
