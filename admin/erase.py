"""Every trace of one chat user, removed: rows, event streams, counters, jobs; and what the stores keep of deleted data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from rq.job import Job
from sqlalchemy import delete, func
from sqlmodel import Session, SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from bot.errors import ConfigError
from bot.tables import Channel, Conversation, Turn, TurnStatus, utcnow
from bot.texts import say
from jobs.events import stream_key
from jobs.services import Services
from jobs.watch import request_stop

logger = logging.getLogger(__name__)

STOP_S = 8.0  # how long an answer in progress may take to stop before its conversation goes under it
LOOK_S = 0.1
BATCH = 500
REWRITE_S = 10.0


@dataclass(frozen=True)
class Erased:
    """How much was removed. rows: table → count, of those that had any. redis_keys: streams, counters and jobs."""

    rows: dict[str, int]
    redis_keys: int
    redis_reached: bool


def erase_user(services: Services, channel_name: str, user_id: str, locale: str = "en") -> Erased:
    """Remove all that is stored of a channel's user. Nothing found is no error: the counts are then zero.

    Raises ConfigError (no such channel), StoreError (nothing was removed).
    """
    with services.db.read() as session:
        channel = session.exec(select(Channel).where(Channel.name == channel_name)).first()
        if channel is None or channel.id is None:
            known = ", ".join(session.exec(select(Channel.name).order_by(Channel.name))) or "-"
            raise ConfigError(say("cli.no_channel", locale, name=channel_name, known=known))
        conversations = list(session.exec(_conversations(channel.id, user_id)))
    _stop_answers(services, conversations)
    with services.db.write() as session:
        if services.db.is_sqlite:
            session.connection().exec_driver_sql("PRAGMA secure_delete=ON")  # freed pages are overwritten, not just freed
        conversations = list(session.exec(_conversations(channel.id, user_id)))
        turns = [turn for part in _parts(conversations) for turn in session.exec(_turns(part))]
        rows = _delete_rows(session, channel.id, user_id, conversations)
    _forget_deleted_pages(services)
    try:
        keys = _delete_keys(services, user_id, conversations, turns)
    except redis.RedisError as error:
        logger.warning("Redis did not answer; what it holds of the user runs out by itself: %s", error)
        return Erased(rows, 0, redis_reached=False)
    return Erased(rows, keys, redis_reached=True)


def _conversations(channel_id: int, user_id: str) -> SelectOfScalar[str]:
    return select(Conversation.id).where(Conversation.channel_id == channel_id, Conversation.user_id == user_id)


def _turns(conversations: Sequence[str]) -> SelectOfScalar[str]:
    return select(Turn.id).where(col(Turn.conversation_id).in_(conversations))


def _stop_answers(services: Services, conversations: list[str]) -> None:
    """Ask the answers in progress to stop, and give them a moment, so that they write nothing afterwards."""
    for part in _parts(conversations):
        unfinished = col(Turn.status).in_([TurnStatus.WAITING, TurnStatus.RUNNING])
        with services.db.read() as session:
            running = session.exec(select(Turn.id).where(col(Turn.conversation_id).in_(part), unfinished)).all()
        for turn_id in running:
            request_stop(services, turn_id)
    end = time.monotonic() + STOP_S
    while time.monotonic() < end and any(_held(services, part) for part in _parts(conversations)):
        time.sleep(LOOK_S)


def _held(services: Services, conversations: Sequence[str]) -> bool:
    with services.db.read() as session:
        held = select(func.count()).where(
            col(Conversation.id).in_(conversations),
            col(Conversation.lease_owner).is_not(None),
            col(Conversation.lease_until) > utcnow(),
        )
        return bool(session.connection().execute(held).scalar())


def _delete_rows(session: Session, channel_id: int, user_id: str, conversations: list[str]) -> dict[str, int]:
    """Delete what names one of the conversations, or the user on the channel; children before parents."""
    removed: dict[str, int] = {}
    for table in reversed(SQLModel.metadata.sorted_tables):
        columns = table.columns
        conditions = []
        if "conversation_id" in columns:
            conditions = [columns["conversation_id"].in_(part) for part in _parts(conversations)]
        if {"channel_id", "user_id"} <= set(columns.keys()):
            conditions.append((columns["channel_id"] == channel_id) & (columns["user_id"] == user_id))
        for condition in conditions:
            count = session.connection().execute(delete(table).where(condition)).rowcount
            if count:
                removed[table.name] = removed.get(table.name, 0) + count
    return removed


def _forget_deleted_pages(services: Services) -> None:
    """The write-ahead log still holds the old pages (SQLite), the table its dead rows (PostgreSQL): clear them."""
    with services.db.engine.connect() as connection:
        if services.db.is_sqlite:
            raw = connection.connection.cursor()
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, _, _ = raw.fetchone() or (0, 0, 0)
            raw.close()
            if busy:
                logger.info("the write-ahead log is in use; its old pages go with its next checkpoint")
        else:
            outside = connection.execution_options(isolation_level="AUTOCOMMIT")
            for table in ("message", "turn", "conversation"):
                outside.exec_driver_sql(f'VACUUM "{table}"')


def _delete_keys(services: Services, user_id: str, conversations: list[str], turns: list[str]) -> int:
    """Delete the streams of the turns, every key that is named after the user, and jobs that name any of them."""
    client = services.redis
    ids = {*conversations, *turns}
    doomed = {stream_key(turn) for turn in turns}
    for raw in client.scan_iter(count=1000):
        key = raw.decode(errors="replace")
        family, _, name = key.partition(":")  # limit:USER:WINDOW, turn:ID; the queue's own (rq:…) are jobs, below
        if family != "rq" and (f":{user_id}:" in f":{name}:" or not ids.isdisjoint(name.split(":"))):
            doomed.add(key)
    count = sum(client.delete(*part) for part in _parts(sorted(doomed)))
    for queue in (services.replies, services.heavy):
        for job in _jobs(queue.get_job_ids(), services):
            if _names(job, ids | {user_id}):
                job.delete()
                count += 1
    _rewrite_log(client)
    return count


def _jobs(job_ids: Iterable[str], services: Services) -> Iterator[Job]:
    for job_id in job_ids:
        if Job.exists(job_id, connection=services.redis):
            yield Job.fetch(job_id, connection=services.redis)


def _names(job: Job, ids: set[str]) -> bool:
    values = [*job.args, *job.kwargs.values(), job.id]
    return any(str(value) in ids for value in values)


def _rewrite_log(client: redis.Redis) -> None:
    """Redis' append-only file keeps what was deleted until it is rewritten; wait for that, since it is quick."""
    try:
        if (client.config_get("appendonly") or {}).get("appendonly") != "yes":
            return
        _wait_for_rewrite(client)  # one that began before would still hold what was erased
        client.bgrewriteaof()
        _wait_for_rewrite(client)
    except redis.ResponseError as error:  # a hosted Redis may not allow it; it rewrites its file by itself
        logger.info("the append-only file is rewritten later: %s", error)


def _wait_for_rewrite(client: redis.Redis) -> None:
    """Wait until Redis writes no new append-only file, for REWRITE_S at most."""
    end = time.monotonic() + REWRITE_S
    while time.monotonic() < end:
        state: Any = client.info("persistence")
        if not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]):
            return
        time.sleep(LOOK_S)


def _parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
