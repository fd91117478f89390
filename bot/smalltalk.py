"""Small talk: told from questions by the whole message, and answered without a search."""

from __future__ import annotations

import re
from typing import Literal

from bot.config import BotConfig
from bot.language import detect
from bot.texts import say

Kind = Literal["hello", "thanks", "who", "help", "bye", "ok"]

_LONGEST_CHARS = 40
_NOISE = re.compile(r"[\W_]+")  # punctuation, white space, emoji
# What repeats takes its repetitions once and for all (++): else a long "嗯嗯嗯…" would try every way to cut itself.
_PATTERNS: dict[Kind, tuple[str, ...]] = {
    "who": (
        "(你|您)(到底)?(是|系)(谁|誰|什么人|什麼人|机器人|機器人|真人|人工智能)(吗|嗎|呀|啊|呢|还是真人)?",
        "(你|您)叫(什么|什麼)(名字)?(呀|啊|呢)?|请?介绍一下(你|您)?自己|[请請]?自我(介绍|介紹)(一下)?吧?",
        "(who|what) are you|who is this|who am i (talking|speaking|chatting) (to|with)|what(s| is) your name",
        "(please )?introduce yourself|tell me about yourself",
        "are you (a |an )?(bot|robot|human|real|ai|chatbot|real person|person)",
    ),
    "help": (
        "(你|您)(能|会|可以|會)(做|帮我做|帮|幫)?我?些?(什么|什麼|啥|哪些)(忙|事|事情)?[呢呀啊]?",
        "(你|您)有(什么|什麼|哪些)功能|帮助|幫助|怎么用",
        "what can you do( for me)?|(how )?can you help( me)?|help( me)?|what can i ask( you)?|i need help",
    ),
    "thanks": (
        "(好的?|嗯+|行|知道了|明白了?)?(非常|多|太|真的?是?)?(谢+|謝+|感谢|感謝|多谢|多謝)(你|您|啦|了|哦|喔|呀|啊|咯|大家|们|亲|哈)*",
        "(辛苦|麻烦)(你|您)?(了|啦)",
        "(ok(ay)? |great |perfect |got it )?(many )?(thanks?|thank (you|u)|thx|ty|cheers)"
        + "( (a lot|so much|very much|a million|again|for (your|the|all your) help|bye|goodbye))?",
        "much appreciated|(i )?appreciate it",
    ),
    "bye": (
        "(拜+|再见|再見|再会|回见|下次见|晚安)(了|啦|咯|吧|哦)*",
        "bye( ?bye)?|good ?bye|see (you|ya)( later| soon| around)?|good ?night|cya",
        "have a (nice|good|great) (day|one|evening|weekend)",
    ),
    "hello": (
        "(?:(?:你|您|妳|大家|各位)好[呀啊哇吗嗎]?|哈[喽啰罗嘍囉]?[呀啊]?|[嗨嘿喂]|早(?:上好|安|啊|呀)?|(?:上午|中午|下午|晚上)好[呀啊]?"
        + "|(?:请问)?(?:有人)?在(?:[吗嗎么嘛]|不在)|在在[吗嗎]|有人[吗嗎么]|亲|客服|老板|小助手)++",
        "很高兴认识(你|您)",
        "(?:(?:hello|hi+|hey+|hiya|yo|howdy|good (?:morning|afternoon|evening|day)|there|all|everyone|again)(?: |$))++",
        "(hello |hi |hey )?(is )?(anyone|anybody|somebody) (there|here)|(hello |hi |hey )?are you there",
        "(hello |hi |hey )?how are you( doing| today)?|how is it going|whats up|sup|nice to meet you",
    ),
    "ok": (
        "(?:好[的滴哒吧呀啊嘞勒了]?|[嗯恩哦噢喔]|行[吧的啊]?|可以[的了]?|知道[了啦]|明白[了啦]?|了解了?|收到|懂了"
        + "|没事[了啦]?|没有?(?:了|问题))++",
        "(?:(?:ok+(?:ay)?|k|sure|fine|alright|all right|got it|i see|understood|great|cool|nice|perfect|good)(?: |$))++",
        "no problem|never mind|no( |,)*that is all|nothing( else)?",
    ),
}
_KINDS = tuple((kind, re.compile("|".join(patterns))) for kind, patterns in _PATTERNS.items())
MOST_TOPICS = 3


def small_talk(text: str) -> Kind | None:
    """Which kind of small talk the whole of text is; None for anything that says more, such as a greeting and a question."""
    if len(text) > _LONGEST_CHARS:
        return None
    spoken = _NOISE.sub(" ", text.lower().replace("'", "").replace("’", "")).strip()
    # Between Han characters a space is only what is left of punctuation.
    spoken = re.sub(r"(?<=[^\x00-\x7f]) (?=[^\x00-\x7f])", "", spoken)
    if not spoken:
        return "hello" if text.strip() in ("👋", "🙋", "🙋‍♀️", "🙋‍♂️") else None
    for kind, pattern in _KINDS:
        if pattern.fullmatch(spoken):
            return kind
    return None


def reply_text(kind: Kind, bot: BotConfig, locale: str) -> str:
    """A human answer that says who the bot is and what it can help with."""
    title = bot.title or bot.name
    if kind in ("thanks", "bye", "ok"):
        return say(f"smalltalk.{kind}", locale, title=title)
    return say(f"smalltalk.{kind}", locale, title=title) + _topics(bot, locale)


def _topics(bot: BotConfig, locale: str) -> str:
    if not bot.suggested_questions:
        return say("smalltalk.topics_none", locale)
    ours = [question for question in bot.suggested_questions if detect(question, locale) == locale.split("-", 1)[0]]
    questions = "\n".join(f"- {question}" for question in (ours or bot.suggested_questions)[:MOST_TOPICS])
    return say("smalltalk.topics", locale) + "\n\n" + questions
