"""The text path: render, clean, cut, window, shape."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from weirtrain import tiny
from weirtrain.shape import shape_vector
from weirtrain.text import Encoder, TextError, Window, clean, cut_window, open_tokenizer, render


def _encoder(window: Window) -> Encoder:
    return Encoder(open_tokenizer(tiny.tokenizer_json(tiny.vocabulary())), window, (tiny.CLS,), (tiny.SEP,))


def test_render_is_the_twin_of_go() -> None:
    cases = json.loads((Path(__file__).parents[3] / "classifier" / "testdata" / "render.json").read_text())
    assert cases
    for case in cases:
        assert render(case["messages"]) == case["want"], case["name"]


def test_render_takes_the_last_ask_after_three_earlier_ones() -> None:
    chat = [{"role": "user", "content": str(i)} for i in range(6)]
    chat.insert(4, {"role": "assistant", "content": "no"})
    chat.append({"role": "user", "content": " \u00a0\n"})
    assert render(chat) == "2\n\n3\n\n4\n\n5"
    assert render([{"role": "system", "content": "x"}]) == ""


def test_clean_replaces_nul_trims_and_refuses_what_cannot_be_scored() -> None:
    assert clean("a\x00b") == "a\ufffdb"
    assert clean("\u2003\t\n a  b\x00 \n\n\u3000") == "a  b\ufffd"
    assert clean("\x1c") == "\x1c"  # a control character, not white space to Go
    for empty in ("", " \t\u2003\u3000", "\ud800"):
        with pytest.raises(TextError):
            clean(empty)


def test_cut_moves_inward_to_rune_boundaries() -> None:
    assert cut_window("\u20ac" * 4, 7, 5) == ["\u20ac" * 4]
    assert cut_window("\u20ac" * 5, 7, 5) == ["\u20ac\u20ac", "\u20ac"]


def test_one_piece_keeps_head_and_tail() -> None:
    got = _encoder(Window(2, 1, 400, 100)).encode("what is the price of bread")
    whole = _encoder(Window(50, 50, 400, 100)).encode("what is the price of bread")
    assert got.ids == [*whole.ids[:3], *whole.ids[-2:]]
    assert (got.input_tokens, got.truncated_tokens, got.estimated) == (6, 3, False)


def test_two_pieces_estimate_what_lies_between_them() -> None:
    got = _encoder(Window(3, 2, 20, 10)).encode("bread " * 30)
    # 20 bytes hold "bread bread bread br", 4 ids and more; the rest goes by ids per byte, rounded up.
    whole = _encoder(Window(99, 99, 999, 999))
    head, tail = (len(whole.encode(t).ids) - 2 for t in ("bread bread bread br", "ead bread "))
    assert got.estimated
    assert got.input_tokens == head + tail + math.ceil(150 * (head + tail) / 30)
    assert got.truncated_tokens == got.input_tokens - 5


def test_special_tokens_in_text_stay_text() -> None:
    ids = _encoder(Window(50, 50, 400, 100)).encode("[SEP] [CLS]").ids
    assert ids.count(tiny.SEP) == 1
    assert ids.count(tiny.CLS) == 1


def test_text_of_which_no_id_is_left_is_refused() -> None:
    with pytest.raises(TextError):
        _encoder(Window(50, 50, 400, 100)).encode("\x01\x02")


def test_shape_counts_bytes() -> None:
    got = shape_vector("Ab 12?\n{x} \u20ac+")
    n = 15
    want = [
        math.log1p(n), math.log1p(4), math.log1p(2), math.log1p(2),
        2 / n, 1 / n, 4 / n, 3 / n, 2 / n, 1 / n, math.log1p(1), math.log1p(4),
    ]  # fmt: skip
    assert got.tolist() == pytest.approx(want, rel=1e-6)
