from __future__ import annotations

import pytest

from bot.rewrite import by_rule, messages, needs_context, usable
from bot.types import Said

TALK = (Said("user", "青瓷茶壶有货吗？"), Said("assistant", "有，还有 12 个。"))


@pytest.mark.parametrize(
    "question",
    [
        "多少钱？",
        "价格呢",
        "那茶杯呢？",
        "它可以退吗",
        "为什么？",
        "还有别的颜色吗",
        "what about cups?",
        "How much does it cost?",
        "why?",
    ],
)
def test_a_question_that_points_back_needs_what_was_said(question: str) -> None:
    assert needs_context(question, TALK)


@pytest.mark.parametrize(
    "question",
    [
        "运费多少",
        "退款多久到账？",
        "发票怎么开",
        "Which payment methods do you accept in the shop?",
        "opening hours",
        "x" * 300,
    ],
)
def test_a_question_that_names_its_subject_stands_alone(question: str) -> None:
    assert not needs_context(question, TALK)


def test_without_a_conversation_every_question_stands_alone() -> None:
    assert not needs_context("多少钱？", ())
    assert not needs_context("多少钱？", (Said("assistant", "您好！"),))


def test_the_rule_goes_back_to_the_last_question_that_stood_alone() -> None:
    talk = (*TALK, Said("user", "多少钱？"), Said("assistant", "128 元"))
    assert by_rule("那茶杯呢？", talk) == "青瓷茶壶有货吗？\n多少钱？\n那茶杯呢？"
    assert by_rule("那茶杯呢？", (Said("user", "运费多少"), *TALK)) == "青瓷茶壶有货吗？\n那茶杯呢？"


def test_a_model_is_told_the_conversation_and_not_to_answer() -> None:
    asked = messages("多少钱？", TALK)
    assert "青瓷茶壶有货吗？" in asked[1]["content"]
    assert "Do not answer" in asked[0]["content"]


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("青瓷茶壶多少钱？", "青瓷茶壶多少钱？"),
        (" “青瓷茶壶\n多少钱？” ", "青瓷茶壶 多少钱？"),
        ("", None),
        ("How much is the teapot?", None),
        ("...", None),
        ("青" * 1000, None),
    ],
)
def test_only_a_rewriting_that_can_be_one_is_taken(said: str, taken: str | None) -> None:
    assert usable(said, "多少钱？") == taken
