"""Whether this installation works: /healthz, /readyz and /metrics, and the checks behind them."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import redis
from flask import Blueprint, Response, jsonify
from sqlalchemy import func, text
from sqlmodel import col, select

from bot.errors import BotError
from bot.tables import Conversation, Turn, TurnStatus, utcnow
from jobs.services import Services

logger = logging.getLogger(__name__)

WORKERS_ALIVE = "workers:replies"  # sorted set: reply workers by when they last said that they live (seconds)
ALIVE_S = 15


def make_blueprint(services: Services) -> Blueprint:
    """The three routes."""
    bp = Blueprint("health", __name__)
    bp.add_url_rule("/healthz", endpoint="healthz", view_func=lambda: jsonify(status="ok"))
    bp.add_url_rule("/readyz", endpoint="readyz", view_func=lambda: _readyz(services))
    bp.add_url_rule("/metrics", endpoint="metrics", view_func=lambda: _metrics(services))
    return bp


def say_alive(services: Services, owner: str) -> None:
    """A reply worker says that it lives."""
    pipeline = services.redis.pipeline(transaction=False)
    pipeline.zadd(WORKERS_ALIVE, {owner: int(time.time())})
    pipeline.zremrangebyscore(WORKERS_ALIVE, "-inf", time.time() - 10 * ALIVE_S)
    pipeline.execute()


def say_gone(services: Services, owner: str) -> None:
    """A reply worker says that it stops."""
    services.redis.zrem(WORKERS_ALIVE, owner)


def checks(services: Services) -> dict[str, Any]:
    """Each part: "ok" or what is wrong in words; and how many reply workers live."""
    found: dict[str, Any] = {"database": _database(services)}
    try:
        found["redis"] = "ok" if services.redis.ping() else "no answer"
        found["reply_workers"] = int(services.redis.zcount(WORKERS_ALIVE, time.time() - ALIVE_S, "+inf"))
    except redis.RedisError as error:
        found["redis"] = f"{type(error).__name__}: does not answer"
        found["reply_workers"] = 0
    found["milvus"] = services.ping_milvus()
    return found


def _database(services: Services) -> str:
    try:
        with services.db.read() as session:
            session.connection().execute(text("SELECT 1 FROM turn LIMIT 1"))
        return "ok"
    except BotError as error:
        logger.warning("not ready: %s", error)
        return "does not answer, or is not migrated"


def _readyz(services: Services) -> tuple[Response, int]:
    found = checks(services)
    ready = all(found[part] == "ok" for part in ("database", "redis", "milvus")) and found["reply_workers"] > 0
    return jsonify(status="ok" if ready else "not ready", checks=found), 200 if ready else 503


def _metrics(services: Services) -> Response:
    """Prometheus text, counted from the rows, so that every process tells the same."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    turns = Gauge("qingniao_turns", "Turns by status", ["status"], registry=registry)
    day = Gauge("qingniao_turns_last_day", "Turns finished in the last 24 h, by how they ended", ["finish"], registry=registry)
    tokens = Gauge("qingniao_tokens_last_day", "Tokens of the last 24 h", ["direction"], registry=registry)
    waiting = Gauge("qingniao_conversations_waiting", "Conversations in which a question waits", registry=registry)
    oldest = Gauge("qingniao_oldest_wait_seconds", "How long the oldest waiting question has waited", registry=registry)
    workers = Gauge("qingniao_reply_workers", "Reply workers that live", registry=registry)
    queued = Gauge("qingniao_queue_jobs", "Jobs waiting in a queue", ["queue"], registry=registry)
    now = utcnow()
    with services.db.read() as session:
        for status, count in session.exec(select(Turn.status, func.count()).group_by(col(Turn.status))):
            turns.labels(status).set(count)
        since = col(Turn.answered_at) > now - timedelta(days=1)
        for finish, count in session.exec(select(Turn.finish, func.count()).where(since).group_by(col(Turn.finish))):
            day.labels(finish or "").set(count)
        prompt, completion = session.exec(
            select(func.sum(Turn.prompt_tokens), func.sum(Turn.completion_tokens)).where(since)
        ).one()
        tokens.labels("prompt").set(prompt or 0)
        tokens.labels("completion").set(completion or 0)
        waiting.set(session.exec(select(func.count()).where(col(Conversation.due_at).is_not(None))).one())
        first = session.exec(select(func.min(Turn.created_at)).where(Turn.status == TurnStatus.WAITING)).one()
        oldest.set((now - first).total_seconds() if first else 0)
    try:
        workers.set(float(services.redis.zcount(WORKERS_ALIVE, time.time() - ALIVE_S, "+inf")))
        for queue in (services.replies, services.heavy):
            queued.labels(queue.name).set(len(queue))
    except redis.RedisError as error:
        logger.warning("metrics without Redis: %s", error)
    return Response(generate_latest(registry), mimetype="text/plain; version=0.0.4; charset=utf-8")
