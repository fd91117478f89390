"""The marks [1], [2] in an answer, and the passages behind them.

A mark's number is the passage's place in the prompt, in the stream and in the final text alike, so that nothing that was
already shown changes its meaning. Marks without a passage go from the final text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bot.types import Citation, Passage

SNIPPET_CHARS = 200
# [1], [1, 2] and 【1】; not the text of a link, nor what defines a footnote
_MARK = re.compile(r"[ \t]?(?:\[(\d{1,3}(?:\s*[,，、]\s*\d{1,3})*)\]|【(\d{1,3})】)(?![(:])")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)


def clean(text: str, passages: int, cite: bool) -> str:
    """text without the marks that name none of so many passages; without any mark when cite is false.

    A number glued to a word, as in a[0], is one of the text's own, unless it names a passage.
    """

    def mend(match: re.Match[str]) -> str:
        if _is_glued(match) and not all(1 <= n <= passages for n in _numbers(match)):
            return match[0]
        numbers = [n for n in _numbers(match) if cite and 1 <= n <= passages]
        if len(numbers) == len(_numbers(match)):
            return match[0]
        lead = match[0][: len(match[0]) - len(match[0].lstrip(" \t"))] if numbers else ""
        return lead + "".join(f"[{n}]" for n in numbers)

    return _outside_code(text, mend)


def cited(text: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """The passages that text names, each once, in the order in which it names them first."""
    seen: dict[int, None] = {}
    _outside_code(text, lambda match: seen.update(dict.fromkeys(_numbers(match))) or match[0])
    return tuple(_citation(n, passages[n - 1]) for n in seen if 1 <= n <= len(passages))


def snippet(text: str, limit_chars: int = SNIPPET_CHARS) -> str:
    """The beginning of a passage on one line, ended at a sentence or a word where that is near."""
    text = " ".join(text.split())
    if len(text) <= limit_chars:
        return text
    head = text[:limit_chars]
    at = max(head.rfind(mark) for mark in ("。", "！", "？", "；", ". ", "! ", "? ", " ", "，"))
    return (head[: at + 1].rstrip() if at > limit_chars * 2 // 3 else head) + "…"


def _citation(n: int, passage: Passage) -> Citation:
    title = passage.title or passage.heading or passage.question or passage.base
    text = f"{passage.question}\n{passage.text}" if passage.question else passage.text
    return Citation(n=n, title=title, snippet=snippet(text), url=passage.url)


def _is_glued(match: re.Match[str]) -> bool:
    """Whether a letter or digit of a script that parts its words stands right before."""
    before = match.string[match.start() - 1 : match.start()] if match.start() and match[0][0] not in " \t" else ""
    return before == "_" or (before.isalnum() and before < "\u2e80")


def _numbers(match: re.Match[str]) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", match[1] or match[2])]


def _outside_code(text: str, mend: object) -> str:
    """text with every mark outside code blocks and code spans put through mend."""
    pieces: list[str] = []
    last = 0
    for code in _CODE.finditer(text):
        pieces += [_MARK.sub(mend, text[last : code.start()]), code[0]]  # type: ignore[call-overload]
        last = code.end()
    pieces.append(_MARK.sub(mend, text[last:]))  # type: ignore[call-overload]
    return "".join(pieces)
