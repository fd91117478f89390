"""Puts together what the agent needs for a turn: where its `Parts` meet the rows, the index and the models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import redis
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from bot import followups
from bot.agent import Parts
from bot.config import BotConfig
from bot.memory import HISTORY_TOKENS, fit
from bot.moderation import WordList, check, guard_for
from bot.tables import Chunk, Document, KeywordList, KnowledgeBase, Message, Turn, TurnStatus
from bot.trace import Trace
from bot.types import Passage, Reply, Said
from bot.types import Turn as Question
from jobs import models
from jobs.kept import FRESH_S, remember
from jobs.services import Services
from knowledge.terms import fold

logger = logging.getLogger(__name__)

STOP_CHECK_S = 0.3
CANDIDATES = 20  # passages given to the agent, which cuts at the bot's own limits
NEARBY = 40
BEFORE_TURNS = 100  # rows looked at for recent turns; a budget of tokens cuts them anyway


def build(services: Services, bot: BotConfig, turn_id: str, conversation_id: str | None, sequence: int, trace: Trace) -> Parts:
    """The agent's parts for one turn. conversation_id: none for a question outside any conversation (`flask ask`)."""
    with services.db.read() as session:
        lists = word_lists(session, bot)
        names = (bot.model, *bot.fallback_models)
        key = services.settings.secret_key
        endpoints = remember(("models", names), FRESH_S, lambda: models.groups(session, names, key))
    asked = lists if bot.moderation.check in ("both", "input") else ()
    watched = lists if bot.moderation.check in ("both", "output") else ()
    return Parts(
        moderate=lambda text: check(text, asked),
        guard=lambda: guard_for(watched),
        recall=lambda turn: recall(services, turn, conversation_id, sequence, asked),
        search=lambda question, turn: services.searcher.search(turn.bot.knowledge.bases, question, CANDIDATES, 0.0),
        llm=services.llm,
        models=endpoints,
        stopped=_stopped(services, turn_id),
        nearby=lambda turn: nearby(services, turn),
        simplify=fold,
        trace=trace,
    )


def word_lists(session: Session, bot: BotConfig) -> tuple[WordList, ...]:
    """The bot's keyword lists."""
    names = bot.moderation.lists
    if not names:
        return ()

    def find() -> tuple[WordList, ...]:
        rows = session.exec(select(KeywordList).where(col(KeywordList.name).in_(names)).order_by(col(KeywordList.id))).all()
        return tuple(WordList(row.name, tuple(row.keywords), row.action) for row in rows)  # type: ignore[arg-type]

    return remember(("lists", names), FRESH_S, find)


def recall(
    services: Services, turn: Question, conversation_id: str | None, sequence: int, lists: Sequence[WordList] = ()
) -> Question:
    """The turn with what was said before it in its conversation; turns that failed or were refused are left out.

    lists: what moderation masks in questions stays masked here too.
    """
    most = turn.bot.memory.recent_turns
    if conversation_id is None or most == 0:
        return turn
    with services.db.read() as session:
        rows = session.connection().execute(
            select(col(Message.direction), col(Message.text))
            .join(Turn, col(Turn.id) == col(Message.turn_id))
            .where(
                col(Message.conversation_id) == conversation_id,
                col(Turn.sequence) < sequence,
                col(Turn.status) == TurnStatus.DONE,
                col(Turn.finish) != "blocked",
            )
            .order_by(col(Message.sequence).desc())
            .limit(2 * min(most, BEFORE_TURNS))
        )
        said = [
            Said("user", check(text, lists).text) if direction == "in" else Said("assistant", text) for direction, text in rows
        ]
    return replace(turn, history=fit(said[::-1], HISTORY_TOKENS, most))


def nearby(services: Services, turn: Question) -> Sequence[Passage]:
    """What stands in the same documents as the passages found, and the pairs of the same bases: food for follow-ups."""
    documents = list(dict.fromkeys(p.document_id for p in (*turn.passages, *turn.near)))[:3]
    with services.db.read() as session:
        in_bases = col(Chunk.base_id).in_(
            select(col(KnowledgeBase.id)).where(col(KnowledgeBase.name).in_(turn.bot.knowledge.bases))
        )
        wanted = (
            select(Chunk, col(Document.title))
            .join(Document, col(Document.id) == col(Chunk.document_id))
            .where(in_bases, col(Chunk.enabled))
            .options(defer(Chunk.vector))  # type: ignore[arg-type]
        )
        beside = session.exec(
            wanted.where(col(Chunk.document_id).in_(documents))
            .order_by(col(Chunk.document_id), col(Chunk.position))
            .limit(NEARBY)
        ).all()
        pairs = session.exec(wanted.where(col(Chunk.question).is_not(None)).order_by(col(Chunk.id)).limit(NEARBY)).all()
    return [
        Passage(chunk.id or 0, chunk.document_id, "", title, chunk.heading, chunk.text, 0.0, question=chunk.question)
        for chunk, title in (*beside, *pairs)
    ]


def suggest(turn: Question, reply: Reply, parts: Parts) -> list[str]:
    """Follow-up questions; a failure of this step, whatever it is, costs the answer nothing and stands in the trace."""
    try:
        return followups.suggest(turn, reply, parts)
    except Exception as error:
        logger.exception("no follow-ups for turn %s", turn.id)
        with parts.trace.step("followups failed") as span:
            span["error"] = f"{type(error).__name__}: {error}"
        return []


def as_rows(trace: Trace) -> list[dict[str, Any]]:
    """The trace as JSON."""
    return [asdict(span) for span in trace.spans]


def summary(trace: Trace) -> str:
    """ms per step, for the log's one line."""
    return " ".join(f"{span.step}={span.ms:.0f}" for span in trace.spans)


def _stopped(services: Services, turn_id: str) -> Callable[[], bool]:
    """Asks Redis now and then whether the user stopped the turn."""
    next_check = time.monotonic() + STOP_CHECK_S
    found = False

    def stopped() -> bool:
        nonlocal next_check, found
        if not found and time.monotonic() >= next_check:
            next_check = time.monotonic() + STOP_CHECK_S
            try:
                found = bool(services.redis.exists(f"stop:{turn_id}"))
            except redis.RedisError as error:
                logger.debug("cannot ask whether turn %s is stopped: %s", turn_id, error)
        return found

    return stopped
