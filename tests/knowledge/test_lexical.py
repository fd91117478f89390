"""Words that find each other, whatever their form; and scores that mean the same."""

from __future__ import annotations

import numpy as np
import pytest

from knowledge.embed import E5_SCALE
from knowledge.fuse import fuse, usual_cosine
from knowledge.lexical import MAX_SEGMENTS, Lexicon, coverage
from knowledge.terms import fold, lines_to_index, mostly_latin, terms

NONE = np.empty(0, dtype=np.int64)


def lexicon_of(*texts: str) -> Lexicon:
    return Lexicon().changed([(number, terms(text)) for number, text in enumerate(texts, 1)], NONE)


def best(lexicon: Lexicon, question: str, depth: int = 10) -> list[int]:
    return coverage([lexicon], terms(question)).best(depth)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("退款三天到账", "退款"), ("臺灣退貨運費", "台湾退货运费"), ("台湾退货运费", "臺灣退貨運費"), ("ＶＩＰ会员", "vip"),
        ("iPhone15 的价格", "iphone 15"), ("Refund policy", "REFUNDS"), ("ｶﾞｲﾄﾞ", "ガイド"), ("１２３元", "123"),
        ("𠮷野家", "𠮷野家"), ("Größe wählen", "GRÖSSE"), ("환불 정책", "환불"), ("нет возврата", "ВОЗВРАТА"),
    ],
)  # fmt: skip
def test_forms_find_each_other(written: str, asked: str) -> None:
    assert best(lexicon_of("营业时间 opening hours", written), asked)[:1] == [2]


def test_folding_is_traditional_full_width_and_case() -> None:
    assert fold("臺灣ＡＢＣ，Ⅷ") == "台湾abc,viii"


@pytest.mark.parametrize(
    ("text", "latin"), [("退款多久到账", False), ("How long?", True), ("iPhone 15 多少钱", False), ("", False)]
)
def test_the_script_of_a_question_is_known(text: str, latin: bool) -> None:
    assert mostly_latin(text) is latin


def test_a_question_without_words_finds_nothing_by_words() -> None:
    lexicon = lexicon_of("退款三天到账")
    for question in ("", "？！…", "\u200b", "\ud800"):
        assert best(lexicon, question) == []
    assert coverage([Lexicon()], terms("退款")).best(5) == []


def test_coverage_is_the_share_of_what_the_question_asks() -> None:
    lexicon = lexicon_of("退款三天到账", "运费由买家承担")
    whole = coverage([lexicon], terms("退款三天到账"))
    half = coverage([lexicon], terms("退款三天到账 qwerty uiop asdf ghjk zxcv"))
    foreign = coverage([lexicon], terms("when do I get my money back"))
    assert 1 >= whole.scores[0] > 0.4
    assert half.scores[0] < whole.scores[0] * 0.75
    assert foreign.scores.max() == 0


def test_changes_leave_the_same_scores_as_a_new_index() -> None:
    texts = [f"第{n}条规定：商品{n}可以在{n}天内退货，运费{n}元。" for n in range(1, 60)]
    lexicon = Lexicon()
    for start in range(0, 60, 4):
        lexicon = lexicon.changed([(n, terms(texts[n - 1])) for n in range(start + 1, min(start + 5, 60))], NONE)
    lexicon = lexicon.changed([(100, terms("临时"))], np.array([1, 2, 3]))
    lexicon = lexicon.changed([(n, terms(texts[n - 1])) for n in (1, 2, 3)], np.array([100]))
    assert len(lexicon.segments) <= MAX_SEGMENTS
    fresh = lexicon_of(*texts)
    for question in ("商品7可以退货吗", "运费", "第12条"):
        assert best(lexicon, question, 5) == best(fresh, question, 5)
    assert sorted(lexicon.ids.tolist()) == list(range(1, 60))
    assert best(lexicon, "临时") == []


def test_a_part_that_is_said_twice_is_indexed_once() -> None:
    assert lines_to_index(("退货", "", None, "退货", " 七天内可退。 ")) == "退货\n七天内可退。"


def scored(cosine: float, words: float, spaced: bool = False, foreign: bool = False) -> float:
    usual = usual_cosine(E5_SCALE, np.empty(0, dtype=np.float32), spaced, foreign)
    return float(fuse(np.array([words], "f4"), np.array([cosine], "f4"), usual, spaced, foreign, E5_SCALE)[0])


def test_a_side_that_knows_nothing_adds_nothing() -> None:
    assert scored(0.90, 0.5) > scored(0.90, 0.0) > 0
    assert scored(0.79, 0.0, spaced=True, foreign=True) > 0.35  # as near as questions and answers in two languages come


def test_the_default_line_lies_between_answers_and_the_rest() -> None:
    """Medians measured on question sets: cosine and coverage of right passages, and of the best for what nothing answers."""
    assert scored(0.915, 0.35) > 0.35 > scored(0.868, 0.126)
    assert scored(0.864, 0.34, spaced=True) > 0.35


def test_a_passage_without_a_vector_is_judged_by_its_words() -> None:
    assert scored(float("nan"), 0.4) > 0.35 > scored(float("nan"), 0.1)


def test_what_is_usual_in_a_base_counts_for_more_the_more_is_known_of_it() -> None:
    few, many = (usual_cosine(E5_SCALE, np.full(count, 0.88, "f4"), False, False) for count in (2, 128))
    assert E5_SCALE.usual < few < many < 0.88
