"""The values that flow from a question to its answer. Frozen; they know nothing of storage or platforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from bot.config import BotConfig

Finish = Literal["stop", "length", "blocked", "stopped", "handoff", "error"]
Role = Literal["user", "assistant", "system"]


@dataclass(frozen=True)
class Said:
    """One earlier utterance of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True)
class Incoming:
    """One message from a chat user, whatever the platform.

    message_id: the platform's own id, unique within the channel. sent_at: UTC.
    history: only for callers that bring their own (the OpenAI-compatible API); else None, and memory is asked.
    """

    channel: str
    message_id: str
    user_id: str
    chat_id: str
    text: str
    sent_at: datetime
    user_name: str = ""
    history: tuple[Said, ...] | None = None


@dataclass(frozen=True)
class Passage:
    """A piece of a document that was found for a question. score: 0 to 1, the larger the nearer."""

    chunk_id: int
    document_id: str
    base: str
    title: str
    heading: str
    text: str
    score: float
    url: str | None = None
    question: str | None = None  # of a curated question-answer pair; `text` is then the answer
    dense: float | None = None  # cosine, for the trace
    lexical: float | None = None  # share of the most this query could score, for the trace


@dataclass(frozen=True)
class Citation:
    """A passage that the answer rests on. n: the number in the text, as [1]."""

    n: int
    title: str
    snippet: str
    url: str | None = None


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Match:
    """A forbidden word that was found: its entry, and where in the original text (character offsets)."""

    word: str
    start: int
    end: int


@dataclass(frozen=True)
class Verdict:
    """What moderation says of a text. `text` is the text to go on with (masked where the action is mask)."""

    action: Literal["pass", "block", "mask", "review"]
    text: str
    matches: tuple[Match, ...] = ()

    @property
    def blocked(self) -> bool:
        return self.action == "block"


@dataclass(frozen=True)
class Turn:
    """One question on its way to an answer; each step returns a fuller copy."""

    id: str
    bot: BotConfig
    incoming: Incoming
    now: datetime  # in the operator's time zone
    history: tuple[Said, ...] = ()
    facts: tuple[str, ...] = ()
    summary: str = ""
    question: str = ""  # normalised, and rewritten to stand alone where needed
    passages: tuple[Passage, ...] = ()
    near: tuple[Passage, ...] = ()  # found too, but too weak to answer from; they tell what else there is


@dataclass(frozen=True)
class Reply:
    """A whole answer. `model` names who answered; `error_code` is set where finish is error.

    turn: the turn as the steps filled it (history, question, passages), for suggesting follow-ups.
    """

    text: str
    finish: Finish
    citations: tuple[Citation, ...] = ()
    usage: Usage = Usage()
    model: str = ""
    cost: float = 0.0
    error_code: str | None = None
    error_detail: str | None = None  # for the operator, never for the chat user
    turn: Turn | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Span:
    """One step in a turn's trace. start_ms counts from the turn's start; `detail` is JSON-able and free of secrets."""

    step: str
    start_ms: float
    ms: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


# What the agent tells while it works. `done`, `followups`, `error` and `end` are told by jobs/reply.py, after storing.
@dataclass(frozen=True)
class Status:
    stage: str  # moderating, recalling, retrieving, thinking, tool:NAME


@dataclass(frozen=True)
class Delta:
    text: str


@dataclass(frozen=True)
class Replace:
    text: str


Event = Status | Delta | Replace
Emit = Callable[[Event], None]
