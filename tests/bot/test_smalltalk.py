from __future__ import annotations

import time

import pytest

from bot.config import BotConfig
from bot.smalltalk import reply_text, small_talk


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            "hello",
            "你好 您好！ 你好呀 哈喽 嗨～ 在吗 在吗？ 有人在吗 亲在吗 早上好 下午好 hello Hi! hey,there good_morning Hello?",
        ),
        ("thanks", "谢谢 谢谢你！ 多谢 感谢 好的谢谢 非常感谢 謝謝 thanks Thank_you! thx thanks_a_lot ok_thanks"),
        ("who", "你是谁 你是谁？ 您是誰 你是机器人吗 你叫什么名字 自我介绍一下 who_are_you? What's_your_name are_you_a_bot"),
        ("help", "你能做什么 你会什么？ 你有什么功能 帮助 help what_can_you_do? How_can_you_help_me?"),
        ("bye", "再见 拜拜 晚安 bye Goodbye! see_you good_night"),
        ("ok", "好的 嗯嗯 知道了 明白了 ok OK! got_it 好的好的"),
    ],
)
def test_small_talk_is_known_by_the_whole_message(kind: str, texts: str) -> None:
    for text in texts.split():
        assert small_talk(text.replace("_", " ")) == kind, text


@pytest.mark.parametrize(
    "text",
    [
        "你好，退款多久到账？",
        "在吗，想问下发货时间",
        "hello, how long does a refund take?",
        "thanks, and what about cards?",
        "谢谢，那运费呢",
        "帮助中心在哪里",
        "你们几点开门",
        "who are your suppliers",
        "ok so what is the price",
        "退款",
        "好评返现怎么领",
        "再见面礼盒有货吗",
        "?",
        "123",
        "你好" * 100,
        "",
    ],
)
def test_what_asks_something_is_no_small_talk(text: str) -> None:
    assert small_talk(text) is None


@pytest.mark.parametrize(
    "word", [*"好早哈嗨嗯行哦亲在的拜谢嘿喂", "哈喽", "好的", "没有", "在在", "hi", "ok ", "hello ", "good ", "k "]
)
def test_a_message_made_to_take_long_takes_no_time(word: str) -> None:
    began = time.thread_time()
    small_talk((word * 39)[:39] + "退")
    assert time.thread_time() - began < 0.2


def test_the_answer_names_the_bot_and_what_it_can_help_with() -> None:
    bot = BotConfig(name="shop", title="小店客服", suggested_questions=("退款多久到账？", "How much is shipping?"))
    for kind in ("hello", "who", "help"):
        assert "小店客服" in reply_text(kind, bot, "zh")  # type: ignore[arg-type]
        assert "退款多久到账？" in reply_text(kind, bot, "zh")  # type: ignore[arg-type]
        assert "退款" not in reply_text(kind, bot, "en")  # type: ignore[arg-type]
        assert "How much is shipping?" in reply_text(kind, bot, "en")  # type: ignore[arg-type]
    assert "shop" in reply_text("hello", BotConfig(name="shop"), "en")
