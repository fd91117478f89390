"""The web chat: visitors' sessions, messages, and their turns' events over Server-Sent Events.

A visitor is a signed token that is bound to the channel; it names a conversation. Whoever holds it may read and write
that visitor's conversations on that channel, nothing else.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request, send_from_directory
from itsdangerous import BadSignature as BadToken
from itsdangerous import SignatureExpired, URLSafeTimedSerializer
from pydantic import Field
from sqlalchemy import bindparam, update
from sqlmodel import col, select

from bot.config import BotConfig, Section
from bot.db import Database
from bot.errors import BadRequest
from bot.normalise import normalise
from bot.tables import Channel, Conversation, Message, Turn, TurnStatus, new_id, utcnow
from bot.texts import say, widget_texts
from bot.types import Incoming
from channels.http import bearer, client_address, error_response, locale_of, read_json

logger = logging.getLogger(__name__)

KIND = "web"
SECRET_KEYS: frozenset[str] = frozenset()
TOKEN_LIFE_S = 180 * 86400
MAX_CHARS = 4000
MAX_COMMENT_CHARS = 1000
SESSIONS_PER_MINUTE = 120  # of one address: an office shares one
MESSAGES_PER_MINUTE = 1200
HISTORY = 100  # messages shown on return
HEARTBEAT = ": still here\n\n"
STATIC = Path(__file__).parent / "static"


class Config(Section):
    """A web channel's own keys. allowed_origins: sites that may embed it, as https://shop.example; `*`: all."""

    allowed_origins: tuple[str, ...] = Field(default=(), max_length=100)
    messages_per_minute: int = Field(default=600, ge=1)


@dataclass(frozen=True)
class Visitor:
    """Who a token says it is."""

    channel_id: int
    user_id: str
    conversation_id: str


@dataclass(frozen=True)
class Road:
    """What this channel needs of the rest of the house; app.py fills it in.

    submit(channel, incoming, conversation_id) → (message_id, turn_id); watch(turn_id, after) → events as
    (id, name, data), or None for a quiet moment; find(name) and find_by_id(id) → the enabled web channel, or raise
    BadRequest; bot(channel) → the published bot; stop(turn_id); allow(who, most per minute) raises BadRequest 429.
    """

    db: Database
    secret_key: str
    public_url: str
    find: Callable[[str], Channel]
    find_by_id: Callable[[int], Channel]
    origins: Callable[[], frozenset[str]]
    bot: Callable[[Channel], BotConfig]
    submit: Callable[[Channel, Incoming, str], tuple[str, str]]
    watch: Callable[[str, int], Iterator[tuple[int, str, dict[str, Any]] | None]]
    stop: Callable[[str], None]
    allow: Callable[[str, int], None]


def make_blueprint(road: Road) -> Blueprint:
    """The routes of the web chat."""
    bp = Blueprint("web", __name__, template_folder="templates")
    bp.add_app_template_global(say)
    bp.add_url_rule("/widget.js", view_func=_widget)
    bp.add_url_rule("/static/chat/<path:name>", view_func=_static, endpoint="static_file")
    bp.add_url_rule("/chat/<channel>", view_func=lambda channel: _page(road, channel), endpoint="page")
    api = "/api/chat"
    bp.add_url_rule(
        f"{api}/<channel>/sessions", methods=["POST"], endpoint="sessions", view_func=lambda channel: _session(road, channel)
    )
    bp.add_url_rule(f"{api}/messages", methods=["POST"], endpoint="messages", view_func=lambda: _post(road))
    turn = f"{api}/turns/<turn_id>"
    bp.add_url_rule(f"{turn}/events", endpoint="events", view_func=lambda turn_id: _events(road, turn_id))
    bp.add_url_rule(f"{turn}/stop", methods=["POST"], endpoint="stop", view_func=lambda turn_id: _stop(road, turn_id))
    bp.add_url_rule(
        f"{turn}/feedback", methods=["POST"], endpoint="feedback", view_func=lambda turn_id: _feedback(road, turn_id)
    )
    bp.register_error_handler(BadRequest, error_response)
    bp.after_request(lambda response: _allow_origin(road, response))
    return bp


# --- pages and files ---


def _widget() -> Response:
    response = send_from_directory(STATIC, "widget.js", mimetype="text/javascript", max_age=300)
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _static(name: str) -> Response:
    response = send_from_directory(STATIC, name, max_age=300)
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _page(road: Road, name: str) -> Response:
    try:
        channel = road.find(name)
        bot = road.bot(channel)
    except BadRequest as error:
        locale = page_locale()
        page = render_template("message.html", lang=locale, title=say("chat.missing.title", locale),
                               text=say("chat.missing.text", locale))  # fmt: skip
        return _framed(Response(page, error.status), ())
    page = render_template("chat.html", channel=name, lang=page_locale(), title=bot.title or bot.name)
    return _framed(Response(page), _origins(channel), _image_sources(bot))


def page_locale() -> str:
    """zh or en: as ?lang says, else as the browser prefers."""
    asked = request.args.get("lang", "")
    return asked if asked in ("zh", "en") else locale_of(request)


def _image_sources(bot: BotConfig) -> str:
    """Where the page may take pictures from: the hosts that the bot allows, and its avatar's."""
    hosts = (*bot.image_hosts, re.sub(r"^https?://([^/?#]*).*", r"\1", bot.avatar or "", flags=re.DOTALL))
    return " ".join(f"https://{host} http://{host}" for host in hosts if re.fullmatch(r"[\w.-]+(:\d+)?", host))


def _framed(response: Response, origins: tuple[str, ...], images: str = "") -> Response:
    ancestors = " ".join(("'self'", *origins))
    response.headers["Content-Security-Policy"] = (
        f"default-src 'self'; img-src 'self' data: {images}; object-src 'none'; base-uri 'none'; form-action 'self'; "
        f"frame-ancestors {ancestors}"
    )
    return response


# --- who may call ---


def _origins(channel: Channel) -> tuple[str, ...]:
    return Config.model_validate(channel.config).allowed_origins


def _check_origin(road: Road, channel: Channel) -> None:
    origin = request.headers.get("Origin")
    if origin is None or origin in (request.host_url.rstrip("/"), road.public_url):
        return
    allowed = _origins(channel)
    if origin not in allowed and "*" not in allowed:
        raise BadRequest("origin_not_allowed", "This site may not use this chat.", 403)


def _allow_origin(road: Road, response: Response) -> Response:
    """CORS: whoever passed the check may read the answer; so may a known site read why it was refused."""
    origin = request.headers.get("Origin")
    if origin and request.path.startswith("/api/chat/") and ({origin, "*"} & road.origins()):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        response.vary.add("Origin")
        if request.method == "OPTIONS":  # a preflight, which Flask answers by itself
            response.headers["Access-Control-Allow-Methods"] = "GET, POST"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Last-Event-ID"
            response.headers["Access-Control-Max-Age"] = "600"
    return response


def _tokens(road: Road) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(road.secret_key, salt="qingniao visitor")


def _visitor_of(road: Road, token: str) -> Visitor:
    try:
        channel_id, user_id, conversation_id = _tokens(road).loads(token, max_age=TOKEN_LIFE_S)
    except SignatureExpired as error:
        raise BadRequest("token_expired", "The session has expired. Start a new one.", 401) from error
    except (BadToken, ValueError, TypeError) as error:
        raise BadRequest("bad_token", "The session token is not valid. Start a new session.", 401) from error
    return Visitor(channel_id, user_id, conversation_id)


def _visitor(road: Road) -> tuple[Visitor, Channel]:
    visitor = _visitor_of(road, bearer(request))
    channel = road.find_by_id(visitor.channel_id)
    _check_origin(road, channel)
    return visitor, channel


def _allow_address(road: Road, what: str, most: int) -> None:
    """A limit for what one address does, since sessions are free; callers on this machine have none."""
    address = client_address(request)
    if address is not None:
        road.allow(f"{what} of {address}", most)


# --- sessions ---


def _session(road: Road, name: str) -> Response:
    channel = road.find(name)
    _check_origin(road, channel)
    _allow_address(road, "sessions", SESSIONS_PER_MINUTE)
    body = read_json(request, or_nothing=True)
    bot = road.bot(channel)
    visitor = _resume(road, channel, body) or _start(road, channel)
    locale = body.get("locale") if body.get("locale") in ("zh", "en") else locale_of(request)
    token = _tokens(road).dumps([visitor.channel_id, visitor.user_id, visitor.conversation_id])
    messages, active = _history(road, visitor)
    return jsonify(
        token=token,
        conversation_id=visitor.conversation_id,
        bot={
            "title": bot.title or bot.name,
            "avatar": bot.avatar,
            "opening": bot.opening,
            "suggested_questions": list(bot.suggested_questions),
            "image_hosts": list(bot.image_hosts),
        },
        messages=messages,
        active_turn_id=active,
        limits={"max_chars": MAX_CHARS},
        locale=locale,
        texts=widget_texts(str(locale)),
    )


def _resume(road: Road, channel: Channel, body: dict[str, Any]) -> Visitor | None:
    """The visitor of the token in the body; none without a token, or with one that is no longer good here."""
    token = body.get("token")
    if not isinstance(token, str) or not token:
        return None
    try:
        visitor = _visitor_of(road, token)
    except BadRequest as error:
        logger.info("a visitor starts anew on %s: %s", channel.name, error.code)
        return None
    if visitor.channel_id != channel.id:
        return None
    with road.db.read() as session:
        conversation = session.get(Conversation, visitor.conversation_id)
    if conversation is None:
        return None
    if body.get("new") is True:
        with road.db.write() as session:
            session.connection().execute(
                update(Conversation).where(col(Conversation.id) == visitor.conversation_id).values(closed=True)
            )
        return _start(road, channel, visitor.user_id)
    return visitor


def _start(road: Road, channel: Channel, user_id: str | None = None) -> Visitor:
    assert channel.id is not None
    visitor = Visitor(channel.id, user_id or secrets.token_urlsafe(16), new_id())
    with road.db.write() as session:
        session.add(Conversation(id=visitor.conversation_id, channel_id=channel.id, user_id=visitor.user_id))
    return visitor


def _history(road: Road, visitor: Visitor) -> tuple[list[dict[str, Any]], str | None]:
    """The conversation's last messages, oldest first, and the turn that is still being answered, if any."""
    with road.db.read() as session:
        rows = session.exec(
            select(Message)
            .where(Message.conversation_id == visitor.conversation_id)
            .order_by(col(Message.sequence).desc())
            .limit(HISTORY)
        ).all()
        turns = {
            turn.id: turn
            for turn in session.exec(
                select(Turn).where(Turn.conversation_id == visitor.conversation_id, col(Turn.id).in_({r.turn_id for r in rows}))
            )
        }
    unfinished = [t for t in turns.values() if t.status in (TurnStatus.WAITING, TurnStatus.RUNNING)]
    active = min(unfinished, key=lambda turn: turn.sequence).id if unfinished else None
    return [_shown(row, turns.get(row.turn_id)) for row in reversed(rows)], active


def _shown(message: Message, turn: Turn | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": message.id,
        "turn_id": message.turn_id,
        "role": "user" if message.direction == "in" else "assistant",
        "text": message.text,
        "created_at": message.created_at.astimezone(UTC).isoformat(),
    }
    if message.direction == "out":
        shown["citations"] = message.citations
        if turn is not None:
            shown |= {"finish": turn.finish, "rating": turn.rating, "followups": turn.followups or []}
    return shown


# --- messages and turns ---


def _post(road: Road) -> tuple[Response, int]:
    visitor, channel = _visitor(road)
    body = read_json(request)
    _allow_address(road, "messages", MESSAGES_PER_MINUTE)
    road.allow(f"visitor:{visitor.user_id}", Config.model_validate(channel.config).messages_per_minute)
    text = read_text(body.get("text"))
    incoming = Incoming(
        channel=channel.name,
        message_id=f"{visitor.conversation_id}:{_client_message_id(body.get('client_message_id'))}",
        user_id=visitor.user_id,
        chat_id="",
        text=text,
        sent_at=utcnow(),
    )
    message_id, turn_id = road.submit(channel, incoming, visitor.conversation_id)
    return jsonify(message_id=message_id, turn_id=turn_id), 202


def read_text(value: Any) -> str:
    """A question as we keep it. Raises BadRequest: wrong_shape, too_long (413), empty."""
    if not isinstance(value, str):
        raise BadRequest("wrong_shape", "`text` must be a string.")
    if len(value) > MAX_CHARS:
        raise BadRequest("too_long", f"A message has at most {MAX_CHARS} characters.", 413)
    text = normalise(value)
    if not text:
        raise BadRequest("empty", "`text` is empty.")
    return text


def _client_message_id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 100 or not value.isprintable():
        raise BadRequest("wrong_shape", "`client_message_id` must be a string of 1 to 100 printable characters.")
    return value


def _own_turn(road: Road, turn_id: str) -> str:
    """The turn's id, if it is the visitor's own. Raises BadRequest 404 for any other."""
    visitor, _ = _visitor(road)
    with road.db.read() as session:
        asked = {"turn": turn_id, "channel": visitor.channel_id, "user": visitor.user_id}
        found = session.connection().execute(_OWN_TURN, asked).first()
    if found is None:
        raise BadRequest("unknown_turn", "This answer is not known here.", 404)
    return turn_id


_OWN_TURN = (
    select(col(Turn.id))
    .join(Conversation, col(Conversation.id) == col(Turn.conversation_id))
    .where(
        col(Turn.id) == bindparam("turn"),
        col(Conversation.channel_id) == bindparam("channel"),
        col(Conversation.user_id) == bindparam("user"),
    )
)


def _events(road: Road, turn_id: str) -> Response:
    own = _own_turn(road, turn_id)
    after = request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or "0"
    if not after.isascii() or not after.isdecimal() or len(after) > 15:
        raise BadRequest("wrong_shape", "`Last-Event-ID` must be the id of an event.")
    return sse(road.watch(own, int(after)))


def sse(events: Iterator[tuple[int, str, dict[str, Any]] | None]) -> Response:
    """Server-Sent Events; a comment while nothing happens, so that a lost watcher is noticed."""

    def lines() -> Iterator[str]:
        yield "retry: 1000\n\n"
        for told in events:
            if told is None:
                yield HEARTBEAT
            else:
                number, event, data = told
                yield f"id: {number}\nevent: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"

    response = Response(lines(), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx: pass events on at once
    return response


def _stop(road: Road, turn_id: str) -> tuple[Response, int]:
    road.stop(_own_turn(road, turn_id))
    return jsonify(stopping=True), 202


def _feedback(road: Road, turn_id: str) -> Response:
    own = _own_turn(road, turn_id)
    body = read_json(request)
    rating, comment = body.get("rating"), body.get("comment")
    if rating not in ("up", "down"):
        raise BadRequest("wrong_shape", "`rating` must be up or down.")
    if comment is not None and (not isinstance(comment, str) or len(comment) > MAX_COMMENT_CHARS):
        raise BadRequest("wrong_shape", f"`comment` must be text of at most {MAX_COMMENT_CHARS} characters.")
    with road.db.write() as session:
        session.connection().execute(
            update(Turn).where(col(Turn.id) == own).values(rating=rating, comment=normalise(comment) if comment else None)
        )
    return jsonify(rating=rating)
