"""Text into pieces: nothing lost, nothing too large, nothing torn."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.split import BUDGET, OVERLAP, Section, sentences, split, weight

LONG = "".join(f"这是第{n}句话，说的是第{n}件事。" for n in range(80))


def test_pieces_stay_below_the_budget_and_share_a_sentence() -> None:
    pieces = list(split([Section(LONG, ("店铺", "退货"))]))
    assert len(pieces) > 3
    assert all(weight(piece.text) <= BUDGET for piece in pieces)
    assert min(weight(piece.text) for piece in pieces) > BUDGET / 3  # of like size: no tail of ten characters
    assert {piece.heading for piece in pieces} == {"店铺 › 退货"}
    for piece, following in pairwise(pieces):
        shared = sentences(piece.text)[-1]
        assert following.text.startswith(shared) or shared in following.text[: int(OVERLAP)]


def test_pieces_begin_and_end_with_sentences() -> None:
    for piece in split([Section(LONG)]):
        assert piece.text.startswith("这是第")
        assert piece.text.endswith("。")


def test_a_piece_never_crosses_a_heading() -> None:
    sections = [Section("一", ("甲",)), Section("二", ("甲",)), Section("三", ("乙",))]
    assert [(piece.heading, piece.text) for piece in split(sections)] == [("甲", "一\n二"), ("乙", "三")]


def test_a_heading_becomes_a_piece_only_where_nothing_stands_under_it() -> None:
    sections = [
        Section("甲", ("甲",), "heading"),
        Section("乙", ("甲", "乙"), "heading"),
        Section("内容", ("甲", "乙")),
        Section("丙", ("丙",), "heading"),
    ]
    assert [piece.text for piece in split(sections)] == ["内容", "丙"]


def test_each_part_of_a_long_table_repeats_its_header() -> None:
    rows = "\n".join(f"茶叶{n}号 | {n} 元 | 产自第{n}座山" for n in range(60))
    pieces = list(split([Section("品名 | 价格 | 产地\n" + rows, kind="table")]))
    assert len(pieces) > 1
    assert all(piece.text.startswith("品名 | 价格 | 产地\n") for piece in pieces)
    assert sum(piece.text.count("茶叶7号 ") for piece in pieces) == 1


def test_a_sentence_without_end_is_cut_by_force() -> None:
    pieces = list(split([Section("茶" * 1000)]))
    assert "".join(piece.text for piece in pieces) == "茶" * 1000
    assert all(weight(piece.text) <= BUDGET for piece in pieces)


def test_english_is_cut_at_sentences_and_not_at_decimal_points() -> None:
    assert sentences("It costs 3.50 yuan. Is that all? Yes!") == ["It costs 3.50 yuan. ", "Is that all? ", "Yes!"]
    assert sentences("他说：“三天。”然后走了。") == ["他说：“三天。”", "然后走了。"]


def test_the_page_of_a_piece_is_where_it_begins() -> None:
    pieces = list(split([Section("一" * 200 + "。", page=1), Section("二" * 200 + "。", page=2)]))
    assert [piece.page for piece in pieces] == [1, 2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("退款。，！a b.1\n\U00020000é"), max_size=400), max_size=4))
def test_nothing_is_lost(texts: list[str]) -> None:
    pieces = list(split([Section(text) for text in texts], overlap=0))
    assert "".join("".join(piece.text.split()) for piece in pieces) == "".join("".join(text.split()) for text in texts)
    assert all(weight(piece.text) <= BUDGET for piece in pieces)
