from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.citations import SNIPPET_CHARS, cited, clean, snippet
from tests.bot.conftest import passage

PASSAGES = (passage("One.", title="First", url="https://shop.example/1"), passage("二。", question="几？", title="Second"))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Fine [1].", "Fine [1]."),
        ("Fine [3].", "Fine."),
        ("七天[1][2]。", "七天[1][2]。"),
        ("七天[1][9]。", "七天[1]。"),
        ("七天【2】。", "七天【2】。"),
        ("七天【7】。", "七天。"),
        ("Both [1, 2].", "Both [1, 2]."),
        ("Some [1, 5].", "Some [1]."),
        ("Zero [0] and [00].", "Zero and."),
        ("A link [1](https://x.example) stays", "A link [1](https://x.example) stays"),
        ("`code[9]` and\n```\na[9]\n```", "`code[9]` and\n```\na[9]\n```"),
        ("Read a[0], b_[9] and café[7]", "Read a[0], b_[9] and café[7]"),
        ("days[1][9]", "days[1]"),
        ("[2026] is a year", "[2026] is a year"),
        ("[x] [ ] []", "[x] [ ] []"),
    ],
)
def test_only_marks_that_name_a_passage_stay(said: str, kept: str) -> None:
    assert clean(said, 2, cite=True) == kept


def test_without_citing_no_mark_stays() -> None:
    assert clean("Fine [1]. 好【2】。", 2, cite=False) == "Fine. 好。"
    assert clean("Fine[1], a[0].", 2, cite=False) == "Fine, a[0]."


def test_the_passages_cited_are_told_once_in_the_order_of_the_text() -> None:
    found = cited("B [2], A [1], B again [2], none [7].", PASSAGES)
    assert [(citation.n, citation.title, citation.snippet, citation.url) for citation in found] == [
        (2, "Second", "几？ 二。", None),
        (1, "First", "One.", "https://shop.example/1"),
    ]


def test_marks_in_code_cite_nothing() -> None:
    assert cited("`a[1]`", PASSAGES) == ()


@given(st.text(max_size=600))
def test_a_snippet_is_one_short_line(text: str) -> None:
    short = snippet(text)
    assert len(short) <= SNIPPET_CHARS + 1
    assert "\n" not in short


@given(st.text(st.sampled_from("[]12【】 ,a`\n("), max_size=60), st.integers(0, 3))
def test_after_cleaning_every_mark_names_a_passage(text: str, passages: int) -> None:
    once = clean(text, passages, cite=True)
    assert clean(once, passages, cite=True) == once or "[" in once
    assert len(once) <= len(text) + 2 * text.count(",")
