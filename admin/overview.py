"""The first page: whether everything works, what happened today, and what a newcomer does next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import redirect, render_template, url_for
from sqlmodel import Session, col, func, or_, select

from admin.page import console_page, services
from admin.store import DEBUG_KIND
from bot.config import BUILTIN
from bot.tables import Bot, BotVersion, Channel, Document, DocumentStatus, Message, Provider, Turn, TurnStatus, utcnow
from jobs import health

FAILED_SHOWN = 5
OWN = ("file:", "url:")  # documents that an operator brought; the demo's come from its configuration file
bp = console_page("overview", __name__, title="nav.overview", icon="overview")


@dataclass(frozen=True)
class Day:
    """What happened in the last 24 hours, debug chats left out. wait_s: post to answer, the median."""

    turns: int
    failed: int
    wait_s: float | None
    up: int
    down: int


@bp.get("")
def index() -> Any:
    """Status, figures, next steps."""
    checks = health.checks(services())
    with services().db.read() as session:
        day = _day(session)
        failed = _failed(session)
        documents = dict(session.exec(select(col(Document.status), func.count()).group_by(col(Document.status))).all())
        web = session.exec(select(Channel).where(Channel.kind == "web", col(Channel.enabled)).order_by(col(Channel.id))).first()
        steps = {
            "web": web,
            "bot": session.exec(select(Bot).order_by(col(Bot.id))).first(),
            "tried": session.exec(select(Turn.id).limit(1)).first() is not None,
            "model": _model_answers(session),
            "provider": session.exec(select(Provider.id).limit(1)).first() is not None,
            "own": session.exec(select(Document.id).where(or_(*map(col(Document.source).startswith, OWN))).limit(1)).first()
            is not None,
        }
    return render_template(
        "console/overview.html",
        checks=checks,
        healthy=all(checks[part] == "ok" for part in ("database", "redis", "milvus")) and checks["reply_workers"] > 0,
        day=day,
        failed=failed,
        ready=documents.get(DocumentStatus.READY, 0),
        unready=sum(documents.values()) - documents.get(DocumentStatus.READY, 0),
        broken=documents.get(DocumentStatus.FAILED, 0),
        steps=steps,
        snippet=snippet(web.name) if web else "",
    )


@bp.get("/")
def slash() -> Any:
    return redirect(url_for("admin_overview.index"))


def snippet(channel: str) -> str:
    """The line that puts the chat on a web page."""
    return f'<script src="{services().settings.public_url}/widget.js" data-channel="{channel}" async></script>'


def _day(session: Session) -> Day:
    since = col(Turn.created_at) > utcnow() - timedelta(days=1)
    rows = session.exec(
        select(Turn.status, Turn.rating, Turn.created_at, Turn.answered_at)
        .join(Channel, col(Channel.id) == col(Turn.channel_id))
        .where(since, Channel.kind != DEBUG_KIND)
        .order_by(col(Turn.created_at).desc())
        .limit(20000)
    ).all()
    waits = sorted((answered - created).total_seconds() for _, _, created, answered in rows if answered)
    return Day(
        turns=len(rows),
        failed=sum(status == TurnStatus.FAILED for status, *_ in rows),
        wait_s=waits[len(waits) // 2] if waits else None,
        up=sum(rating == "up" for _, rating, *_ in rows),
        down=sum(rating == "down" for _, rating, *_ in rows),
    )


def _failed(session: Session) -> list[tuple[Turn, str]]:
    """The latest failed turns with what was asked."""
    since = utcnow() - timedelta(days=1)
    turns = session.exec(
        select(Turn)
        .where(Turn.status == TurnStatus.FAILED, col(Turn.created_at) > since)
        .order_by(col(Turn.created_at).desc())
        .limit(FAILED_SHOWN)
    ).all()
    asked = {
        message.turn_id: message.text
        for message in session.exec(
            select(Message).where(col(Message.turn_id).in_([turn.id for turn in turns]), Message.direction == "in")
        )
    }
    return [(turn, asked.get(turn.id, "")) for turn in turns]


def _model_answers(session: Session) -> bool:
    """Whether some published bot uses a model of a provider."""
    versions = session.exec(select(BotVersion.config).join(Bot, col(Bot.published_version_id) == col(BotVersion.id)))
    return any(config.get("model", BUILTIN) != BUILTIN for config in versions)
