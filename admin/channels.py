"""Channels: where bots are reached on the web, and keys for the OpenAI-compatible API."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any
from urllib.parse import urlsplit

from flask import render_template, request
from pydantic import ValidationError
from sqlmodel import Session, col, func, select

from admin.bot_form import problems
from admin.overview import snippet
from admin.page import console_page, found, go, services, t, tell
from admin.store import DEBUG_KIND, by_name, save_channel
from bot.config import ChannelConfig
from bot.errors import BadRequest
from bot.tables import ApiKey, Bot, Channel, Conversation

MAX_KEY_NAME = 100
bp = console_page("channels", __name__, "/channels", title="nav.channels", icon="channels")


@bp.get("")
def index() -> Any:
    """Channels and API keys."""
    return _page()


def _page(made: str = "", errors: dict[str, str] | None = None) -> str:
    with services().db.read() as session:
        rows = session.exec(
            select(Channel, Bot)
            .join(Bot, col(Bot.id) == col(Channel.bot_id))
            .where(Channel.kind != DEBUG_KIND)
            .order_by(col(Channel.name))
        ).all()
        keys = session.exec(select(ApiKey).order_by(col(ApiKey.id))).all()
        bots = _bots(session)
    return render_template(
        "console/channels.html", rows=rows, keys=keys, bots=bots, made=made, errors=errors or {},
        names={bot.id: bot.name for bot in bots}, address=services().settings.public_url,
    )  # fmt: skip


@bp.get("/new")
def new() -> Any:
    return _form(None, {"enabled": True, "quiet_s": 0}, {})


@bp.post("/new")
def create() -> Any:
    return _save(None)


@bp.get("/<int:channel_id>")
def edit(channel_id: int) -> Any:
    with services().db.read() as session:
        row = _channel(session, channel_id)
        bot = session.get(Bot, row.bot_id)
    values = {
        **row.config, "name": row.name, "bot": bot.name if bot else "", "enabled": row.enabled, "quiet_s": row.quiet_s,
    }  # fmt: skip
    return _form(row, values, {})


@bp.post("/<int:channel_id>")
def save(channel_id: int) -> Any:
    with services().db.read() as session:
        row = _channel(session, channel_id)
    return _save(row)


@bp.post("/<int:channel_id>/delete")
def delete(channel_id: int) -> Any:
    """Delete a channel with its conversations; the button says how many."""
    with services().db.write() as session:
        row = _channel(session, channel_id)
        session.delete(row)
    tell("channels.deleted", name=row.name)
    return go("admin_channels.index")


@bp.post("/keys")
def create_key() -> Any:
    """A new API key: shown on this one page, never again."""
    name = request.form.get("name", "").strip()
    bot_id = request.form.get("bot_id", type=int)
    if not name or len(name) > MAX_KEY_NAME:
        return _page(errors={"key": t("wrong.key_name", limit=MAX_KEY_NAME)}), 422
    key = f"qn-{secrets.token_urlsafe(32)}"
    with services().db.write() as session:
        if bot_id is not None:
            found(session.get(Bot, bot_id))
        session.add(ApiKey(name=name, digest=hashlib.sha256(key.encode()).hexdigest(), last_four=key[-4:], bot_id=bot_id))
    return _page(made=key)


@bp.post("/keys/<int:key_id>/delete")
def delete_key(key_id: int) -> Any:
    with services().db.write() as session:
        row = found(session.get(ApiKey, key_id))
        session.delete(row)
    tell("keys.deleted", name=row.name)
    return go("admin_channels.index")


def _channel(session: Session, channel_id: int) -> Channel:
    row: Channel = found(session.get(Channel, channel_id))
    if row.kind == DEBUG_KIND:
        raise BadRequest("not_found", t("error.404"), 404)
    return row


def _bots(session: Session) -> list[Bot]:
    return list(session.exec(select(Bot).order_by(col(Bot.name))).all())


def _form(row: Channel | None, values: dict[str, Any], errors: dict[str, str]) -> str:
    with services().db.read() as session:
        bots = _bots(session)
        count = session.exec(select(func.count()).where(Conversation.channel_id == row.id)).one() if row else 0
    return render_template(
        "console/channel.html", channel=row, values=values, errors=errors, bots=bots, conversations=count,
        snippet=snippet(row.name) if row else "", address=services().settings.public_url,
    )  # fmt: skip


def _save(row: Channel | None) -> Any:
    form = request.form
    given: dict[str, Any] = {
        **(row.config if row else {}),
        "name": row.name if row else form.get("name", "").strip(),
        "kind": row.kind if row else "web",
        "bot": form.get("bot", "").strip(),
        "enabled": "enabled" in form,
        "quiet_s": form.get("quiet_s", "0").strip() or 0,
    }
    errors: dict[str, str] = {}
    if given["kind"] == "web":
        origins = [part for part in re.split(r"[\s,，]+", form.get("allowed_origins", "")) if part]
        given["allowed_origins"] = list(dict.fromkeys(_origin(part) or part for part in origins))
        wrong = [part for part in given["allowed_origins"] if part != "*" and _origin(part) is None]
        if wrong:
            errors["allowed_origins"] = t("wrong.origin", name=", ".join(wrong))
    try:
        config = ChannelConfig.model_validate(given)
    except ValidationError as error:
        errors |= problems(error)
    if not errors:
        with services().db.write() as session:
            if by_name(session, Bot, config.bot) is None:
                errors["bot"] = t("wrong.missing", name=config.bot)
            elif row is None and by_name(session, Channel, config.name) is not None:
                errors["name"] = t("wrong.taken")
            else:
                saved = save_channel(session, services().settings, config, keep_secrets=True)
    if errors:
        return _form(row, given, errors), 422
    tell("channels.saved", name=saved.name)
    return go("admin_channels.edit", channel_id=saved.id)


def _origin(text: str) -> str | None:
    """scheme://host[:port] of what was typed, as browsers send it; none where it is no site."""
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[A-Za-z0-9.\-]+", parts.hostname):
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port and port != default else "")
