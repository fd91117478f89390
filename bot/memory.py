"""What was said before, as much of it as a budget of tokens allows (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bot.types import Said

HISTORY_TOKENS = 4000  # at most this much of a conversation is told to a model
TOKENS_PER_MESSAGE = 4  # role and separators
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff\ufe30-\uffef\U00010000-\U0010ffff]")


def estimate_tokens(text: str) -> int:
    """About how many tokens a model counts: one for each CJK character or emoji, one for each 3.5 others, rounded up.

    An estimate from above for most texts: today's tokenizers need 0.6–1 a Chinese character, one for 4 letters of English.
    """
    wide = len(_WIDE.findall(text))
    return wide + -(-(len(text) - wide) * 2 // 7)


def message_tokens(text: str) -> int:
    """estimate_tokens, and what a message costs beside its text."""
    return estimate_tokens(text) + TOKENS_PER_MESSAGE


def fit(history: Sequence[Said], budget_tokens: int = HISTORY_TOKENS, recent_turns: int | None = None) -> tuple[Said, ...]:
    """The latest part of history that fits, oldest first; it begins with the user where a user spoke at all.

    recent_turns: at most this many questions (each with its answers). A last message that alone is too long is cut at
    its end. A message is never left out from between two that are kept.
    """
    kept: list[Said] = []
    left = budget_tokens
    questions = 0
    for said in reversed(history):
        if recent_turns is not None and questions >= recent_turns:
            break
        cost = message_tokens(said.text)
        if cost > left:
            if not kept and left > TOKENS_PER_MESSAGE:
                kept.append(replace(said, text=cut(said.text, left - TOKENS_PER_MESSAGE)))
            break
        kept.append(said)
        left -= cost
        questions += said.role == "user"
    kept.reverse()
    first = next((n for n, said in enumerate(kept) if said.role == "user"), 0)
    return tuple(kept[first:])


def cut(text: str, limit_tokens: int) -> str:
    """The beginning of text, of at most limit_tokens by estimate; an ellipsis tells that it was cut."""
    if estimate_tokens(text) <= limit_tokens:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle]) < limit_tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low] + "…" if limit_tokens > 0 else ""
