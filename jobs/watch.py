"""Watching a turn: its events as they come, and from its rows when Redis has lost or forgotten them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import redis
from sqlalchemy import update
from sqlmodel import col, select

from bot.tables import Message, Turn, TurnStatus, utcnow
from bot.texts import say
from jobs.events import KEEP_S, Told, stream_key
from jobs.reply import done_event
from jobs.services import Services

logger = logging.getLogger(__name__)

FIRST_LOOK_S = 0.3  # how long the stream may say nothing before the rows are asked
ANSWERED = ("done", "error")
FOLLOW_UPS_TAKE = timedelta(seconds=60)  # at most; afterwards their worker is dead
LOOK_S = 5.0  # when Redis goes away, the rows are asked at once


def watch(services: Services, turn_id: str, after: int = 0) -> Iterator[Told | None]:
    """The events of a turn with an id above `after`, up to its `end`; None now and then while nothing happens.

    Each comes once. The rows have the last word: a stream that Redis lost ends with the stored answer.
    """
    subscription = services.hub.subscribe(turn_id, after)
    last = after
    patience_s = FIRST_LOOK_S
    try:
        while True:
            events = subscription.get(patience_s)
            for event in events:
                last = event.id
                yield event
                if event.event == "end":
                    return
            if events:
                patience_s = LOOK_S
                continue
            stored = _stored(services, turn_id, last)
            if stored is not None:
                at = _last_entry(services, turn_id)
                if at == (last, "end"):
                    return  # it was told whole, and this watcher saw it
                if at is not None and at[0] == last:  # its worker died before the follow-ups
                    yield from _not_told(services, turn_id, last, stored)
                    return
                if at is None or at[0] < last:  # lost, or begun anew below what this watcher saw
                    yield from stored
                    return
            patience_s = LOOK_S
            yield None
    finally:
        subscription.close()


def _stored(services: Services, turn_id: str, last: int) -> list[Told] | None:
    """The end of a finished turn as events that follow `last`; none while it is not finished."""
    with services.db.read() as session:
        turn = session.get(Turn, turn_id)
        if turn is None:  # erased meanwhile
            gone = {"code": "unknown_turn", "message": say("api.unknown_turn", "zh")}
            return [Told(last + 1, "error", gone), Told(last + 2, "end", {})]
        if turn.status not in (TurnStatus.DONE, TurnStatus.FAILED) or _follow_ups_may_come(turn):
            return None
        message = session.exec(select(Message).where(Message.turn_id == turn_id, Message.direction == "out")).first()
    text = message.text if message else ""
    if turn.status == TurnStatus.FAILED:
        ending: list[tuple[str, dict[str, Any]]] = [("error", {"code": turn.error_code or "error", "message": text})]
    else:
        citations = message.citations if message else []
        ending = [
            (
                "done",
                done_event(
                    message.id if message else "",
                    text,
                    citations,
                    turn.prompt_tokens,
                    turn.completion_tokens,
                    turn.finish or "stop",
                ),
            )
        ]
    if turn.followups:
        ending.append(("followups", {"questions": turn.followups}))
    ending.append(("end", {}))
    return [Told(last + 1 + place, event, data) for place, (event, data) in enumerate(ending)]


def _not_told(services: Services, turn_id: str, last: int, stored: list[Told]) -> list[Told]:
    """stored without the answer where the stream told it already."""
    answered = any(told.event in ANSWERED and told.id <= last for told in services.hub.read(turn_id, 0))
    return [told for told in stored if not (answered and told.event in ANSWERED)]


def _follow_ups_may_come(turn: Turn) -> bool:
    """Whether its worker may still be at the follow-ups; one that died there says nothing."""
    answered = turn.answered_at
    return turn.followups is None and answered is not None and utcnow() - answered < FOLLOW_UPS_TAKE


def _last_entry(services: Services, turn_id: str) -> tuple[int, str] | None:
    try:
        entries = cast("list[tuple[bytes, Any]]", services.redis.xrevrange(stream_key(turn_id), count=1))
    except redis.RedisError as error:
        logger.warning("turn %s is told from its rows: %s", turn_id, error)
        return None
    return (int(entries[0][0].split(b"-")[0]), entries[0][1][b"e"].decode()) if entries else None


def request_stop(services: Services, turn_id: str) -> None:
    """Ask for a turn to be stopped: the row for one that waits, Redis for one that is being answered."""
    with services.db.write() as session:
        session.connection().execute(update(Turn).where(col(Turn.id) == turn_id).values(stop_requested=True))
    try:
        services.redis.set(f"stop:{turn_id}", "1", ex=KEEP_S)
    except redis.RedisError as error:
        logger.warning("turn %s may not hear that it should stop: %s", turn_id, error)
