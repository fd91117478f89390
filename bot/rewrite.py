"""A question that leans on what was said before, made to stand alone, so that a search can understand it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bot.builtin import terms
from bot.language import detect
from bot.types import Said

CONTEXT_CHARS = 200  # of the user's earlier words
TOLD_CHARS = 300  # of each earlier utterance, to a model
# Words that ask about a quality: of what, was said before.
_QUALITIES = terms("钱 价格 价钱 颜色 尺寸 大小 规格 库存 现货 有货 price cost size color colour stock available expensive")
ENOUGH_TERMS = 5  # a question that says this much is about itself, whatever pronoun it holds
_LEANING = re.compile(
    "它|他们|她们|这个|那个|这些|那些|這個|那個|這些|这种|那种|这样|那样|上面|刚才|剛才|前面|前者|后者|後者|其中|继续|繼續|详细|詳細|具体|具體"
    r"|第[一二三四五六七八九十]个|\b(it|its|they|them|their|that|this|these|those|one|ones|he|she|him|her|former|latter|same|else)\b",
    re.IGNORECASE,
)
_GOING_ON = re.compile(
    "^(那|如果|要是|再|另外|还有|還有|然后|為什麼|为什么)|[^ ]呢[?？]?$"
    r"|^(and|but|or|so|then|also|what about|how about|why|how come|really|more|continue)\b",
    re.IGNORECASE,
)


def needs_context(question: str, history: Sequence[Said]) -> bool:
    """Whether question can hardly be understood without what was said before: it points back, goes on, or names nothing.

    A short question that names its subject ("运费多少") stands alone: the words of the one before would drown it.
    """
    if not any(said.role == "user" for said in history):
        return False
    return len(question) <= CONTEXT_CHARS and _leans(question)


def _leans(question: str) -> bool:
    about = terms(question)
    if about <= _QUALITIES:
        return True
    said = len(about)
    return bool(_GOING_ON.search(question.strip())) or (said < ENOUGH_TERMS and bool(_LEANING.search(question)))


def by_rule(question: str, history: Sequence[Said]) -> str:
    """question behind what the user last asked that could stand alone."""
    asked = [said.text for said in history if said.role == "user"]
    context: list[str] = []
    for text in reversed(asked[-3:]):
        context.insert(0, text[:CONTEXT_CHARS])
        if not _leans(text):
            break
    return "\n".join([*context, question])


def messages(question: str, history: Sequence[Said]) -> list[dict[str, str]]:
    """What to ask a model."""
    talk = "\n".join(f"{said.role}: {' '.join(said.text.split())[:TOLD_CHARS]}" for said in history[-6:])
    return [
        {
            "role": "system",
            "content": "Rewrite the user's last question so that it can be understood without the conversation, in its own "
            "language. Do not answer it. Reply with the question alone, on one line.",
        },
        {"role": "user", "content": f"Conversation:\n{talk}\n\nLast question: {question}"},
    ]


def usable(rewritten: str, question: str) -> str | None:
    """A model's rewriting, on one line; None when it is empty, in another script, or too long to be a question."""
    text = " ".join(rewritten.split()).strip("\"'“”")
    if not text or len(text) > 4 * len(question) + CONTEXT_CHARS or detect(text, "") != detect(question, ""):
        return None
    return text
