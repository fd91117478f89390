from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.normalise import LIMIT_CHARS, normalise


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("", ""),
        (" \u3000\t\n ", ""),
        ("\u200b\u200c\u200d\ufeff\u2060", ""),
        ("\x00\x01退\x07款\x1b[31m", "退款[31m"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("tab\tstays", "tab\tstays"),
        ("退\u200b款", "退款"),
        ("soft\u00adhyphen", "softhyphen"),
        ("cafe\u0301", "café"),
        ("\u1112\u1161\u11ab", "한"),
        ("\ud800 alone", "\ufffd alone"),
        ("alone \udc00", "alone \ufffd"),
        ("\ud83d\ude00", "😀"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"),
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        ),
        ("hidden\U000e0068\U000e0069", "hidden"),
        ("𠮷野家在哪里？", "𠮷野家在哪里？"),
        ("👍🏽 5️⃣", "👍🏽 5️⃣"),
        ("متى يصل المبلغ؟", "متى يصل المبلغ؟"),
        ("\u202eevil\u202c", "evil"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("a\u200db", "ab"),
    ],
)
def test_what_was_typed_becomes_fit_to_work_with(typed: str, kept: str) -> None:
    assert normalise(typed) == kept


def test_a_hundred_thousand_characters_stay_and_more_are_cut() -> None:
    assert len(normalise("退" * LIMIT_CHARS)) == LIMIT_CHARS
    assert len(normalise("退" * (LIMIT_CHARS + 5))) == LIMIT_CHARS
    assert len(normalise("\u0958" * LIMIT_CHARS)) == LIMIT_CHARS  # a character that composing makes two


def test_a_tower_of_accents_costs_no_more_than_other_text() -> None:
    began = time.thread_time()
    text = normalise("a" + "\u0301\u0316" * 50_000)
    assert time.thread_time() - began < 2  # composing it as it is takes 8 s
    assert len(text) <= 11


@given(st.text(st.characters(), max_size=200))
def test_any_text_comes_out_composed_trimmed_and_the_same_the_second_time(text: str) -> None:
    once = normalise(text)
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)
    assert normalise(once) == once
    once.encode("utf-8")
