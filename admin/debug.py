"""The debug chat beside a bot's draft, and the trace of any turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Response, render_template, request
from sqlmodel import select

from admin.page import console_page, found, services, t, user
from admin.store import debug_channel
from bot.errors import BadRequest
from bot.normalise import normalise
from bot.tables import Bot, Message, Turn, new_id, utcnow
from bot.types import Incoming
from jobs.accept import Route, accept
from jobs.watch import request_stop, watch

MAX_CHARS = 4000
bp = console_page("debug", __name__)


@bp.post("/bots/<int:bot_id>/debug/messages")
def message(bot_id: int) -> Any:
    """Ask the draft, as it is saved. `chat` names the conversation; another one starts anew."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("text"), str) or not isinstance(body.get("chat"), str):
        raise BadRequest("wrong_shape", t("error.400"))
    text = normalise(body["text"])
    if not text or len(text) > MAX_CHARS:
        raise BadRequest("wrong_text", t("debug.length", limit=MAX_CHARS), 413 if text else 400)
    with services().db.write() as session:
        bot = found(session.get(Bot, bot_id))
        channel = debug_channel(session, bot)
        assert channel.id is not None
    incoming = Incoming(
        channel=channel.name,
        message_id=f"debug:{new_id()}",
        user_id=f"operator:{user().id}",
        chat_id="".join(char for char in body["chat"][:100] if char.isalnum() or char == "-"),
        text=text,
        sent_at=utcnow(),
        user_name=user().name,
    )
    accepted = accept(services(), Route(channel.id, bot_id, None), incoming)
    return {"turn_id": accepted.turn_id, "message_id": accepted.message_id}, 202


@bp.get("/turns/<turn_id>/events")
def events(turn_id: str) -> Response:
    """A turn's events, as the web chat gets them."""
    with services().db.read() as session:
        found(session.get(Turn, turn_id))
    last = request.headers.get("Last-Event-ID", "0")
    after = int(last) if last.isascii() and last.isdecimal() and len(last) < 16 else 0
    response = Response(_lines(services(), turn_id, after), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"  # nginx: pass events on at once
    return response


def _lines(parts: Any, turn_id: str, after: int) -> Iterator[str]:
    yield "retry: 1000\n\n"
    for told in watch(parts, turn_id, after):
        if told is None:
            yield ": still here\n\n"
        else:
            yield f"id: {told.id}\nevent: {told.event}\ndata: {json.dumps(told.data, ensure_ascii=False)}\n\n"


@bp.post("/turns/<turn_id>/stop")
def stop(turn_id: str) -> Any:
    with services().db.read() as session:
        found(session.get(Turn, turn_id))
    request_stop(services(), turn_id)
    return {"stopping": True}, 202


@bp.get("/turns/<turn_id>/trace")
def trace(turn_id: str) -> Any:
    """The trace of a turn as a piece of a page, for the debug chat to put below the answer."""
    with services().db.read() as session:
        turn = found(session.get(Turn, turn_id))
        answer = session.exec(select(Message).where(Message.turn_id == turn_id, Message.direction == "out")).first()
    return render_template("console/trace_piece.html", turn=turn, answer=answer)
