"""Conversations: the list with its filters, and one conversation with the trace of each turn."""

from __future__ import annotations

from typing import Any

from flask import render_template, request
from sqlmodel import Session, col, func, select

from admin.page import console_page, found, services
from admin.store import DEBUG_KIND
from bot.tables import Bot, Channel, Conversation, Message, Turn, TurnStatus

PAGE = 30
MESSAGES_SHOWN = 400
bp = console_page("conversations", __name__, "/conversations", title="nav.conversations", icon="conversations")


@bp.get("")
def index() -> Any:
    """The latest conversations that fit the filters."""
    wanted = {key: request.args.get(key, "").strip() for key in ("q", "channel", "bot", "rating", "failed", "before")}
    with services().db.read() as session:
        rows = _page(session, wanted)
        shown = [_summary(session, conversation, channel) for conversation, channel in rows[:PAGE]]
        channels = session.exec(select(Channel).order_by(col(Channel.name))).all()
        bots = session.exec(select(Bot).order_by(col(Bot.name))).all()
    return render_template(
        "console/conversations.html",
        rows=shown,
        more=rows[PAGE - 1][0].id if len(rows) > PAGE else None,
        wanted=wanted,
        filtered=any(wanted.values()),
        channels=channels,
        bots=bots,
        args={key: value for key, value in wanted.items() if value and key != "before"},
    )


@bp.get("/<conversation_id>")
def read(conversation_id: str) -> Any:
    """One conversation, oldest turn first."""
    with services().db.read() as session:
        conversation = found(session.get(Conversation, conversation_id))
        channel = session.get(Channel, conversation.channel_id)
        bot = session.get(Bot, channel.bot_id) if channel else None
        messages = session.exec(
            select(Message)
            .where(Message.conversation_id == conversation_id)
            .order_by(col(Message.sequence).desc(), col(Message.id).desc())
            .limit(MESSAGES_SHOWN)
        ).all()[::-1]
        turns = session.exec(
            select(Turn)
            .where(Turn.conversation_id == conversation_id, col(Turn.id).in_({message.turn_id for message in messages}))
            .order_by(col(Turn.sequence))
        ).all()
    shown = [(turn, [message for message in messages if message.turn_id == turn.id]) for turn in turns]
    return render_template(
        "console/conversation.html", conversation=conversation, channel=channel, bot=bot, turns=shown,
        cut=len(messages) == MESSAGES_SHOWN,
    )  # fmt: skip


def _page(session: Session, wanted: dict[str, str]) -> list[tuple[Conversation, Channel]]:
    """One more than a page, newest first. Ids rise with time, so the page ends at an id; empty visits are left out."""
    query = (
        select(Conversation, Channel)
        .join(Channel, col(Channel.id) == col(Conversation.channel_id))
        .where(Conversation.sequence > 0)
        .order_by(col(Conversation.id).desc())
        .limit(PAGE + 1)
    )
    if wanted["before"]:
        query = query.where(Conversation.id < wanted["before"])
    query = query.where(Channel.name == wanted["channel"] if wanted["channel"] else Channel.kind != DEBUG_KIND)
    if wanted["bot"].isdecimal():
        query = query.where(Channel.bot_id == int(wanted["bot"][:9]))
    turns = select(Turn.id).where(Turn.conversation_id == Conversation.id)
    if wanted["failed"]:
        query = query.where(turns.where(Turn.status == TurnStatus.FAILED).exists())
    if wanted["rating"] in ("up", "down"):
        query = query.where(turns.where(Turn.rating == wanted["rating"]).exists())
    if wanted["q"]:
        text = select(Message.id).where(
            Message.conversation_id == Conversation.id, col(Message.text).icontains(wanted["q"][:200], autoescape=True)
        )
        query = query.where(text.exists())
    return list(session.exec(query).all())


def _summary(session: Session, conversation: Conversation, channel: Channel) -> dict[str, Any]:
    first = session.exec(
        select(Message.text)
        .where(Message.conversation_id == conversation.id, Message.direction == "in")
        .order_by(col(Message.sequence))
        .limit(1)
    ).first()
    count, failed, up, down = session.exec(
        select(
            func.count(),
            func.count().filter(col(Turn.status) == TurnStatus.FAILED),
            func.count().filter(col(Turn.rating) == "up"),
            func.count().filter(col(Turn.rating) == "down"),
        ).where(Turn.conversation_id == conversation.id)
    ).one()
    return {
        "conversation": conversation, "channel": channel, "first": first or "", "turns": count,
        "failed": failed, "up": up, "down": down,
    }  # fmt: skip
