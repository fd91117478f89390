from __future__ import annotations

import pytest

from bot.errors import SearchError
from bot.followups import parse
from bot.language import detect
from bot.moderation import WordList
from bot.types import Said
from tests.bot.conftest import Desk, passage
from tests.emulators.model import ModelEmulator

REFUND = passage("七个工作日内原路退回。", question="退款多久到账？", title="常见问题")
SHIPPING = passage("满 199 元包邮。", question="运费多少钱？", title="常见问题", score=0.5)
INVOICE = passage("可以开电子发票。", heading="售后 › 发票", title="售后说明", score=0.2)
HOURS = passage("Nine to six.", question="When are you open?", title="FAQ", score=0.4)
DELIVERY = passage("Two days.", heading="Shop › Delivery times", title="Delivery", score=0.4)
ALL = (REFUND, SHIPPING, INVOICE, HOURS, DELIVERY)


def test_they_come_from_what_stands_near_and_in_the_questions_language(desk: Desk) -> None:
    desk.finds = ALL
    assert desk.ask_and_suggest("退款多久到账") == ["运费多少钱？", "请介绍一下“发票”"]
    assert desk.ask_and_suggest("How long does a refund take?") == [
        "When are you open?",
        "What should I know about “Delivery times”?",
    ]


def test_what_was_asked_is_not_suggested_again(desk: Desk) -> None:
    desk.finds = ALL
    desk.remembers = (Said("user", "运费多少钱"), Said("assistant", "满 199 元包邮。"))
    assert desk.ask_and_suggest("你好，请问退款多久到账？") == ["请介绍一下“发票”"]


def test_there_are_no_more_than_asked_for(desk: Desk) -> None:
    desk.near = [passage("x", question=f"第{n}种商品的保修期限是几年？") for n in "一二三四五六七八九"] + [
        passage("x", question=question)
        for question in ("怎么申请会员卡？", "门店地址在哪里？", "支持货到付款吗？", "如何修改收货地址？")
    ]
    desk.finds = [REFUND]
    assert len(desk.ask_and_suggest("退款多久到账")) == 3
    assert len(desk.configured(followups={"count": 5}).ask_and_suggest("退款多久到账")) == 5
    assert desk.configured(followups={"count": 0}).ask_and_suggest("退款多久到账") == []
    assert desk.configured(followups={"enabled": False}).ask_and_suggest("退款多久到账") == []


def test_small_talk_is_followed_by_the_bots_own_questions(desk: Desk) -> None:
    desk.configured(suggested_questions=["退款多久到账？", "How much is shipping?"])
    assert desk.ask_and_suggest("你好") == ["退款多久到账？"]
    assert desk.ask_and_suggest("hello") == ["How much is shipping?"]


def test_a_refused_or_failed_answer_is_followed_by_nothing(desk: Desk, modelled: Desk, model: ModelEmulator) -> None:
    desk.finds = ALL
    desk.forbids = [WordList("house", ("abc",))]
    assert desk.ask_and_suggest("abc") == []
    model.always(status=500)
    assert modelled.ask_and_suggest("退款多久到账") == []


def test_nothing_forbidden_is_suggested(desk: Desk, modelled: Desk, model: ModelEmulator) -> None:
    desk.finds = ALL
    desk.forbids = [WordList("house", ("运费",))]
    assert desk.ask_and_suggest("退款多久到账") == ["请介绍一下“发票”"]
    modelled.forbids = [WordList("house", ("运费",), "mask")]
    model.will_say("七个工作日。")
    model.will_say('["运费多少钱？", "怎么开发票？"]')
    assert modelled.ask_and_suggest("退款多久到账") == ["怎么开发票？"]


def test_a_model_suggests_in_the_language_it_was_asked(modelled: Desk, model: ModelEmulator) -> None:
    modelled.finds = ALL
    model.will_say("七个工作日 [1]。")
    model.will_say(
        '```json\n["退款会退到哪里？", "When are you open?", "退款多久到账？", "退款会退到哪里？", "怎么开发票？"]\n```'
    )
    assert modelled.ask_and_suggest("退款多久到账") == ["退款会退到哪里？", "怎么开发票？"]
    assert "in Chinese" in model.was_asked[-1].text or "Chinese" in model.was_asked[-1].text
    assert modelled.span("followups")["out"]


@pytest.mark.parametrize("nonsense", ["I cannot do that.", "[1, 2, 3]", "{}", '["', "When are you open?", "[]", "好" * 500])
def test_what_a_model_says_badly_is_replaced_by_the_documents(nonsense: str, modelled: Desk, model: ModelEmulator) -> None:
    modelled.finds = ALL
    model.will_say("七个工作日 [1]。")
    model.will_say(nonsense)
    assert modelled.ask_and_suggest("退款多久到账") == ["运费多少钱？", "请介绍一下“发票”"]


def test_a_model_that_fails_now_costs_only_its_suggestions(modelled: Desk, model: ModelEmulator) -> None:
    modelled.finds = ALL
    model.will_say("七个工作日 [1]。")
    model.will_fail(500)
    assert modelled.ask_and_suggest("退款多久到账") == ["运费多少钱？", "请介绍一下“发票”"]
    assert "500" in str(modelled.span("followups")["error"])


def test_an_index_that_fails_leaves_what_was_found(desk: Desk) -> None:
    desk.finds, desk.near = ALL, SearchError("milvus", "gone", permanent=False)
    assert desk.ask_and_suggest("退款多久到账") == ["运费多少钱？", "请介绍一下“发票”"]
    assert desk.span("followups")["error"] == "gone"


@pytest.mark.parametrize(
    ("said", "questions"),
    [
        ('["a?", "b?"]', ["a?", "b?"]),
        ('Here: [{"question": "a?"}, {"question": "b?"}] done', ["a?", "b?"]),
        ("1. a?\n2) b?\n- c？\nno question", ["a?", "b?", "c？"]),
        ("Sure!\n\n“怎么退款？”\n", ["怎么退款？"]),
        ("", []),
    ],
)
def test_a_models_list_is_read_in_the_forms_models_use(said: str, questions: list[str]) -> None:
    assert parse(said) == questions


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("退款多久到账？", "zh"),
        ("退款 policy 是什么", "zh"),
        ("What does 退款 mean in your shop?", "en"),
        ("返金はいつですか", "ja"),
        ("환불은 언제 되나요?", "ko"),
        ("Когда вернут деньги?", "ru"),
        ("متى يصل المبلغ؟", "ar"),
        ("𠮷野家", "zh"),
        ("123 !?", "en"),
        ("", "en"),
    ],
)
def test_a_language_is_told_by_its_script(text: str, language: str) -> None:
    assert detect(text) == language
