"""The reply job: TAKE a waiting conversation, answer its turn, store the answer, tell it. Then the next, until none waits.

The rows decide everything. A conversation is held by a lease; whoever lost it (slept too long, was thought dead) finds
out when storing, and stores nothing. A turn that was begun by a worker that died is simply begun again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, exists, func, insert, select, update
from sqlmodel import Session, col

from bot.agent import Parts, answer
from bot.errors import StoreError
from bot.language import answer_language
from bot.normalise import mended
from bot.tables import Conversation, Message, Turn, TurnStatus, new_id, utcnow
from bot.texts import say
from bot.trace import Trace
from bot.types import Delta, Event, Incoming, Replace, Reply, Said, Status
from bot.types import Turn as Question
from jobs import bell, catalogue, parts
from jobs.events import Writer
from jobs.leases import LEASE_S, Desk
from jobs.services import Services

logger = logging.getLogger(__name__)

LINGER_S = 2  # a thread that found nothing waits this long for more before its job ends
LONGEST_JOB_S = 600  # then a new job goes on, so that the queue's own book-keeping stays true
MAX_ATTEMPTS = 8  # a turn that took its workers down this often is failed, so that it cannot go on doing so
STORE_TRIES_S = (0.2, 0.5, 1, 2, 4)  # waits between attempts to store an answer while the database is away


@dataclass(frozen=True)
class Taken:
    """A turn that this worker holds, with what the rows say of it."""

    lease: str
    turn_id: str
    conversation_id: str
    sequence: int
    incoming: Incoming
    channel_id: int
    bot_id: int
    version_id: int | None
    overrides: dict[str, Any]
    attempts: int
    fresh: bool  # nobody has begun it before
    stop_requested: bool


class LeaseLost(Exception):
    """Another worker holds the conversation now; this one's answer is dropped."""


_desk: Desk | None = None


def open_desk(services: Services) -> Desk:
    """Say what the jobs of this process work with. Called once, by the reply worker's command, before it takes jobs."""
    global _desk
    _desk = Desk(services)
    return _desk


def answer_waiting() -> None:
    """The job: answer conversations until none waits."""
    desk = _desk
    if desk is None:
        raise RuntimeError("reply jobs run in a reply worker: start one with `flask replies`")
    bell.begun(desk.services)
    end = time.monotonic() + LONGEST_JOB_S
    while not desk.stopping.is_set() and time.monotonic() < end:
        taken = take(desk)
        if taken is not None:
            try:
                answer_one(desk, taken)
            finally:
                desk.drop(taken.lease)
        elif not bell.wait_for_ding(desk.services, LINGER_S):
            return
    bell.ring(desk.services)


def take(desk: Desk) -> Taken | None:
    """Lease the conversation that has waited longest, and begin its first turn; none when nothing is due."""
    lease = desk.new_lease()
    taken, more = None, False
    try:
        taken, more = _take_under(lease, desk.services)
    finally:
        if taken is None:
            desk.drop(lease)
    if more:
        bell.ring(desk.services)
    return taken


def _take_under(lease: str, services: Services) -> tuple[Taken | None, bool]:
    """(the turn, whether more conversations wait). Nothing is read here that could be wrong: that is the turn's own trouble."""
    with services.db.write() as session:
        now = utcnow()  # here: a thread that waited for its turn to write finds what came meanwhile
        connection = session.connection()
        statement = _TAKE_SQLITE if services.db.is_sqlite else _TAKE
        held = connection.execute(statement, {"lease": lease, "until": now + timedelta(seconds=LEASE_S), "now": now}).first()
        if held is None:
            return None, False
        turn = connection.execute(_BEGIN, {"conversation": held.id, "now": now}).first()
        if turn is None:  # nothing waits; its last worker died between the answer and the follow-ups
            connection.execute(_NO_FOLLOWUPS, {"conversation": held.id})
            connection.execute(_LET_GO, {"conversation": held.id, "lease": lease})
            return None, True
        said = connection.execute(_ASKED, {"turn": turn.id}).all()
    return _read(lease, held, turn, said), turn.more


def answer_one(desk: Desk, taken: Taken) -> None:
    """Answer a turn that is held, store and tell the answer, suggest follow-ups, and let the conversation go."""
    services = desk.services
    writer = services.outbox.writer(taken.turn_id, taken.fresh)
    if not writer.first_attempt:
        writer.tell("replace", {"text": ""})  # what an attempt that died had said is said again
    trace = Trace()
    reply, made = _answer(services, taken, writer, trace)
    try:
        message_id = _store_patiently(services, taken, reply, trace, done=made is None)
    except LeaseLost:
        logger.warning("turn %s was taken over by another worker; this answer is dropped", taken.turn_id)
        writer.leave()
        return
    except StoreError as error:
        logger.error("turn %s could not be stored and will be answered again: %s", taken.turn_id, error)
        writer.leave()
        return
    _tell(writer, message_id, reply, followups_wanted=made is not None)
    if made is not None:
        _follow_up(services, taken, reply, writer, made)
    logger.info(
        "turn %s channel=%s conversation=%s finish=%s model=%s tokens=%s+%s ms=%s",
        taken.turn_id, taken.channel_id, taken.conversation_id, reply.finish, reply.model,
        reply.usage.prompt_tokens, reply.usage.completion_tokens, parts.summary(trace),
    )  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What an answer was made of, for its follow-ups."""

    question: Question
    parts: Parts


def _answer(services: Services, taken: Taken, writer: Writer, trace: Trace) -> tuple[Reply, Made | None]:
    """The reply; and what it was made of, where follow-up questions are wanted."""
    if taken.attempts > MAX_ATTEMPTS:
        return _failure(taken, "gave_up", f"The workers that answered this died {MAX_ATTEMPTS} times."), None

    def emit(event: Event) -> None:
        match event:
            case Delta(text):
                writer.delta(text)
            case Status(stage):
                writer.gather("status", {"stage": stage})
            case Replace(text):
                writer.tell("replace", {"text": text})

    try:
        question = _question(services, taken)
        if taken.stop_requested:
            return Reply(say("stopped", answer_language(question.bot.language, taken.incoming.text)), "stopped"), None
        built = parts.build(services, question.bot, taken.turn_id, taken.conversation_id, taken.sequence, trace)
        reply = answer(question, built, emit)
    except Exception as error:  # the edge of the job: whatever it was, the user is told and the operator sees why
        logger.exception("turn %s failed", taken.turn_id)
        return _failure(taken, "internal", f"{type(error).__name__}: {error}"), None
    # A caller that brings its own history (the OpenAI-compatible API) has no way to show follow-ups.
    wanted = reply.finish == "stop" and question.bot.followups.enabled and taken.incoming.history is None
    return reply, Made(question, built) if wanted else None


def _failure(taken: Taken, code: str, detail: str) -> Reply:
    locale = answer_language("auto", taken.incoming.text)
    return Reply(say("error.internal", locale), "error", error_code=code, error_detail=detail)


def _store_patiently(services: Services, taken: Taken, reply: Reply, trace: Trace, done: bool) -> str:
    """Store the answer and return its message's id; a database that is away for seconds does not cost it.

    Raises LeaseLost, also when an earlier try had stored it and only the word of it was lost; StoreError in the end.
    """
    message_id = new_id()
    for wait_s in STORE_TRIES_S:
        try:
            return _store(services, taken, reply, trace, message_id, done)
        except StoreError as error:
            logger.warning("storing turn %s again in %s s: %s", taken.turn_id, wait_s, error)
            time.sleep(wait_s)
    return _store(services, taken, reply, trace, message_id, done)


def _store(services: Services, taken: Taken, reply: Reply, trace: Trace, message_id: str, done: bool) -> str:
    with services.db.write() as session:
        _write(session, taken, reply, trace, message_id, done)
    return message_id


def _write(session: Session, taken: Taken, reply: Reply, trace: Trace, message_id: str, done: bool) -> None:
    connection = session.connection()
    now = utcnow()
    statement = _SPEAK_AND_LET_GO if done else _SPEAK
    held = connection.execute(statement, {"conversation": taken.conversation_id, "lease": taken.lease, "now": now}).first()
    if held is None:
        raise LeaseLost
    finished = connection.execute(
        _FINISH,
        {
            "turn": taken.turn_id,
            "attempt": taken.attempts,
            "new_status": TurnStatus.FAILED if reply.finish == "error" else TurnStatus.DONE,
            "new_finish": reply.finish,
            "new_followups": [] if done else None,
            "new_model": reply.model,
            "new_prompt_tokens": reply.usage.prompt_tokens,
            "new_completion_tokens": reply.usage.completion_tokens,
            "new_cost": reply.cost,
            "new_error_code": reply.error_code,
            "new_error_detail": reply.error_detail,
            "new_trace": parts.as_rows(trace),
            "now": now,
        },
    )
    if finished.rowcount != 1:
        raise LeaseLost
    connection.execute(
        _NEW_MESSAGE,
        {
            "id": message_id,
            "conversation_id": taken.conversation_id,
            "turn_id": taken.turn_id,
            "channel_id": held.channel_id,
            "direction": "out",
            "sequence": held.sequence,
            "text": mended(reply.text),
            "citations": [citation_row(c) for c in reply.citations],
            "created_at": now,
        },
    )


def _tell(writer: Writer, message_id: str, reply: Reply, followups_wanted: bool) -> None:
    closing: tuple[tuple[str, dict[str, Any]], ...] = () if followups_wanted else (("end", {}),)
    if reply.finish == "error":
        writer.tell("error", {"code": reply.error_code or "error", "message": reply.text}, *closing)
    else:
        citations = [citation_row(citation) for citation in reply.citations]
        read, said = reply.usage.prompt_tokens, reply.usage.completion_tokens
        writer.tell("done", done_event(message_id, mended(reply.text), citations, read, said, reply.finish), *closing)


def done_event(
    message_id: str, text: str, citations: list[dict[str, Any]], prompt_tokens: int, completion_tokens: int, finish: str
) -> dict[str, Any]:
    """The `done` event's data."""
    return {
        "message_id": message_id,
        "text": text,
        "citations": citations,
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
        "finish": finish,
    }


def citation_row(citation: Any) -> dict[str, Any]:
    """A citation as JSON; `url` only where there is one."""
    row = {"n": citation.n, "title": citation.title, "snippet": citation.snippet}
    return row | {"url": citation.url} if citation.url else row


def _follow_up(services: Services, taken: Taken, reply: Reply, writer: Writer, made: Made) -> None:
    """Suggest questions, unless the next one is already asked; then let the conversation go."""
    questions: list[str] = []
    try:
        if not _another_waits(services, taken):
            questions = parts.suggest(made.question, reply, made.parts)
        with services.db.write() as session:
            connection = session.connection()
            spans = parts.as_rows(made.parts.trace)
            connection.execute(_SUGGEST, {"turn": taken.turn_id, "questions": questions, "spans": spans})
            connection.execute(_LET_GO, {"conversation": taken.conversation_id, "lease": taken.lease})
    except StoreError as error:  # the answer is out; the lease runs out
        logger.warning("the follow-ups of turn %s were not stored: %s", taken.turn_id, error)
    if questions:
        writer.tell("followups", {"questions": questions}, ("end", {}))
    else:
        writer.tell("end", {})


def _another_waits(services: Services, taken: Taken) -> bool:
    with services.db.read() as session:
        return session.connection().execute(_NEXT_DUE, {"conversation": taken.conversation_id}).scalar() is not None


def _read(lease: str, held: Any, turn: Any, said: Any) -> Taken:
    incoming = Incoming(
        channel="",  # its name is looked up with the bot
        message_id=said[-1].platform_id if said else "",
        user_id=held.user_id,
        chat_id=held.chat_id,
        text="\n".join(row.text for row in said),
        sent_at=said[-1].created_at if said else utcnow(),
        user_name=held.user_name,
        history=None if turn.history is None else tuple(Said(s["role"], s["text"]) for s in turn.history),
    )
    return Taken(
        lease=lease,
        turn_id=turn.id,
        conversation_id=held.id,
        sequence=turn.sequence,
        incoming=incoming,
        channel_id=held.channel_id,
        bot_id=turn.bot_id,
        version_id=turn.bot_version_id,
        overrides=turn.overrides or {},
        attempts=turn.attempts,
        fresh=turn.fresh,
        stop_requested=turn.stop_requested,
    )


def _question(services: Services, taken: Taken) -> Question:
    """The turn as the agent reads it: with its bot as the version says, its channel's name and the operator's time."""
    with services.db.read() as session:
        config = catalogue.bot_config(session, taken.bot_id, taken.version_id)
        channel = catalogue.channel_name(session, taken.channel_id)
        now = catalogue.local_now(session)
    if taken.overrides:
        config = config.model_copy(update=taken.overrides)
    return Question(id=taken.turn_id, bot=config, incoming=replace(taken.incoming, channel=channel), now=now)


# Built once: composing a statement costs more than running it.
_DUE = (
    select(col(Conversation.id))
    .where(
        col(Conversation.due_at) <= bindparam("now"),
        (col(Conversation.lease_until).is_(None)) | (col(Conversation.lease_until) < bindparam("now")),
    )
    .order_by(col(Conversation.due_at))
    .limit(1)
)


def _take(due: Any) -> Any:
    return (
        update(Conversation)
        .where(col(Conversation.id) == due.scalar_subquery())
        .values(lease_owner=bindparam("lease"), lease_until=bindparam("until"))
        .returning(
            col(Conversation.id), col(Conversation.channel_id), col(Conversation.user_id), col(Conversation.chat_id),
            col(Conversation.user_name),
        )
    )  # fmt: skip


_TAKE_SQLITE = _take(_DUE)  # one writer at a time anyway
_TAKE = _take(_DUE.with_for_update(skip_locked=True))
_UNFINISHED = col(Turn.status).in_([TurnStatus.WAITING, TurnStatus.RUNNING])
_FIRST_TURN = (
    select(col(Turn.id))
    .where(col(Turn.conversation_id) == bindparam("conversation"), _UNFINISHED)
    .order_by(col(Turn.sequence))
    .limit(1)
)
_BEGIN = (
    update(Turn)
    .where(col(Turn.id) == _FIRST_TURN.scalar_subquery())
    .values(
        status=TurnStatus.RUNNING, attempts=Turn.attempts + 1, started_at=func.coalesce(Turn.started_at, bindparam("now"))
    )
    .returning(
        col(Turn.id), col(Turn.sequence), col(Turn.bot_id), col(Turn.bot_version_id), col(Turn.attempts),
        col(Turn.stop_requested), col(Turn.history), col(Turn.overrides),
        (col(Turn.started_at) == bindparam("now")).label("fresh"), exists(_DUE).label("more"),
    )
)  # fmt: skip
_ASKED = (
    select(col(Message.text), col(Message.platform_id), col(Message.created_at))
    .where(col(Message.turn_id) == bindparam("turn"), col(Message.direction) == "in")
    .order_by(col(Message.sequence))
)
_NEXT_DUE = select(func.min(Turn.due_at)).where(
    col(Turn.conversation_id) == bindparam("conversation"), col(Turn.status) == TurnStatus.WAITING
)
_MINE = update(Conversation).where(
    col(Conversation.id) == bindparam("conversation"), col(Conversation.lease_owner) == bindparam("lease")
)
_FREE: dict[str, Any] = {"due_at": _NEXT_DUE.scalar_subquery(), "lease_owner": None, "lease_until": None}
_SPOKEN: dict[str, Any] = {"sequence": Conversation.sequence + 1, "updated_at": bindparam("now")}
_PLACE = (col(Conversation.sequence), col(Conversation.channel_id))
_SPEAK = _MINE.values(**_SPOKEN).returning(*_PLACE)
_SPEAK_AND_LET_GO = _MINE.values(**_SPOKEN, **_FREE).returning(*_PLACE)
_LET_GO = _MINE.values(**_FREE)  # due again if something waits in it
_FINISH = (
    update(Turn)
    .where(
        col(Turn.id) == bindparam("turn"), col(Turn.status) == TurnStatus.RUNNING, col(Turn.attempts) == bindparam("attempt")
    )
    .values(
        status=bindparam("new_status"), finish=bindparam("new_finish"), followups=bindparam("new_followups"),
        model=bindparam("new_model"), prompt_tokens=bindparam("new_prompt_tokens"),
        completion_tokens=bindparam("new_completion_tokens"), cost=bindparam("new_cost"),
        error_code=bindparam("new_error_code"), error_detail=bindparam("new_error_detail"),
        trace=bindparam("new_trace"), answered_at=bindparam("now"),
    )
)  # fmt: skip
_NO_FOLLOWUPS = (
    update(Turn)
    .where(col(Turn.conversation_id) == bindparam("conversation"), col(Turn.followups).is_(None))
    .values(followups=[])
)
_SUGGEST = (
    update(Turn).where(col(Turn.id) == bindparam("turn")).values(followups=bindparam("questions"), trace=bindparam("spans"))
)
_NEW_MESSAGE = insert(Message)
