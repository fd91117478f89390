"""ACCEPT: the message becomes rows before anyone is told that it arrived; then the bell rings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, exc, func, insert, select, update
from sqlmodel import Session, col

from bot.errors import BadRequest
from bot.tables import Conversation, Message, Turn, TurnStatus, new_id, utcnow
from bot.types import Incoming
from jobs.bell import ring
from jobs.services import Services

logger = logging.getLogger(__name__)

MAX_OUTSTANDING = 100  # unanswered questions of one conversation
LONGEST_QUIET = 3  # a turn waits for more messages at most this many quiet times


@dataclass(frozen=True)
class Accepted:
    """Where a message went. repeated: it had been accepted before, nothing was done."""

    conversation_id: str
    message_id: str
    turn_id: str
    repeated: bool = False


@dataclass(frozen=True)
class Route:
    """The channel and bot that a message is for. version_id: what is published; none: the draft (debug chat)."""

    channel_id: int
    bot_id: int
    version_id: int | None
    quiet_s: float = 0.0


def accept(
    services: Services,
    route: Route,
    incoming: Incoming,
    conversation_id: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Accepted:
    """Store a message and its turn in one transaction, and ring the bell. The same message again changes nothing.

    conversation_id: the conversation that the sender named; else the open one of this user and chat, or a new one.
    overrides: what the caller wants otherwise for this turn (the OpenAI-compatible API's temperature, say).
    Raises BadRequest (unknown conversation, too many unanswered questions), StoreError (nothing was stored).
    """
    try:
        with services.db.write() as session:
            accepted = _store(session, route, incoming, conversation_id, overrides)
    except exc.IntegrityError:
        with services.db.read() as session:
            before = (
                session.connection().execute(_EARLIER, {"channel": route.channel_id, "platform": incoming.message_id}).first()
            )
        if before is None:  # it was no repeat
            raise
        return Accepted(before.conversation_id, before.id, before.turn_id, repeated=True)
    ring(services)
    return accepted


def _store(
    session: Session, route: Route, incoming: Incoming, conversation_id: str | None, overrides: Mapping[str, Any] | None
) -> Accepted:
    """Raises IntegrityError when the message is there already."""
    connection = session.connection()
    now = utcnow()
    conversation_id = conversation_id or _open_conversation(session, route, incoming, now)
    moved = connection.execute(
        _NEXT, {"conversation": conversation_id, "now": now, "due": now + timedelta(seconds=route.quiet_s)}
    ).first()
    if moved is None:
        raise BadRequest("unknown_conversation", "This conversation is not known here. Start a new one.", 404)
    listening = _quiet_turn(session, conversation_id, route, now) if route.quiet_s else None
    turn_id = listening or new_id()
    message_id = new_id()
    connection.execute(
        _NEW_MESSAGE,
        {
            "id": message_id,
            "conversation_id": conversation_id,
            "turn_id": turn_id,
            "channel_id": route.channel_id,
            "platform_id": incoming.message_id,
            "direction": "in",
            "sequence": moved.sequence,
            "text": incoming.text,
            "created_at": now,
        },
    )
    if listening is None:
        if moved.outstanding >= MAX_OUTSTANDING:
            raise BadRequest("too_many_questions", "Too many questions are waiting for an answer.", 429, retry_after_s=5)
        connection.execute(
            _NEW_TURN,
            {
                "id": turn_id,
                "conversation_id": conversation_id,
                "channel_id": route.channel_id,
                "bot_id": route.bot_id,
                "bot_version_id": route.version_id,
                "sequence": moved.sequence,
                "status": TurnStatus.WAITING,
                "due_at": now + timedelta(seconds=route.quiet_s),
                "history": None if incoming.history is None else [{"role": s.role, "text": s.text} for s in incoming.history],
                "overrides": dict(overrides) if overrides else None,
                "created_at": now,
            },
        )
    return Accepted(conversation_id, message_id, turn_id)


def _open_conversation(session: Session, route: Route, incoming: Incoming, now: datetime) -> str:
    found = session.connection().execute(
        _OPEN, {"channel": route.channel_id, "user": incoming.user_id, "chat": incoming.chat_id}
    )
    if (known := found.scalar()) is not None:
        return str(known)
    conversation_id = new_id()
    session.connection().execute(
        insert(Conversation),
        {
            "id": conversation_id,
            "channel_id": route.channel_id,
            "user_id": incoming.user_id,
            "chat_id": incoming.chat_id,
            "user_name": incoming.user_name,
            "created_at": now,
            "updated_at": now,
        },
    )
    return conversation_id


def _quiet_turn(session: Session, conversation_id: str, route: Route, now: datetime) -> str | None:
    """The turn that is still waiting for more messages, now waiting a little longer; none if there is none."""
    turn = session.connection().execute(_LISTENING, {"conversation": conversation_id, "now": now}).first()
    if turn is None:
        return None
    due = min(now + timedelta(seconds=route.quiet_s), turn.created_at + timedelta(seconds=LONGEST_QUIET * route.quiet_s))
    session.connection().execute(update(Turn).where(col(Turn.id) == turn.id).values(due_at=due))
    first = select(func.min(Turn.due_at)).where(
        col(Turn.conversation_id) == conversation_id, col(Turn.status) == TurnStatus.WAITING
    )
    session.connection().execute(
        update(Conversation).where(col(Conversation.id) == conversation_id).values(due_at=first.scalar_subquery())
    )
    return str(turn.id)


# Built once: composing a statement costs more than running it.
_EARLIER = select(col(Message.id), col(Message.conversation_id), col(Message.turn_id)).where(
    col(Message.channel_id) == bindparam("channel"), col(Message.platform_id) == bindparam("platform")
)
_OPEN = (
    select(col(Conversation.id))
    .where(
        col(Conversation.channel_id) == bindparam("channel"),
        col(Conversation.user_id) == bindparam("user"),
        col(Conversation.chat_id) == bindparam("chat"),
        col(Conversation.closed).is_(False),
    )
    .order_by(col(Conversation.id).desc())
    .limit(1)
)
_OUTSTANDING = select(func.count(col(Turn.id))).where(
    col(Turn.conversation_id) == bindparam("conversation"), col(Turn.status).in_([TurnStatus.WAITING, TurnStatus.RUNNING])
)
_NEXT = (
    update(Conversation)
    .where(col(Conversation.id) == bindparam("conversation"))
    .values(
        sequence=Conversation.sequence + 1,
        updated_at=bindparam("now"),
        due_at=func.coalesce(Conversation.due_at, bindparam("due")),
    )
    .returning(col(Conversation.sequence), _OUTSTANDING.scalar_subquery().label("outstanding"))
)
_NEW_TURN = insert(Turn)
_NEW_MESSAGE = insert(Message)
_LISTENING = (
    select(col(Turn.id), col(Turn.created_at))
    .where(
        col(Turn.conversation_id) == bindparam("conversation"),
        col(Turn.status) == TurnStatus.WAITING,
        col(Turn.due_at) > bindparam("now"),
    )
    .order_by(col(Turn.sequence).desc())
    .limit(1)
)
