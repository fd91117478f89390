"""What turns need to know of bots and channels, kept for moments: versions never change, the rest seldom does."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from bot.config import BotConfig
from bot.errors import BadRequest
from bot.tables import Bot, BotVersion, Channel, User
from jobs.accept import Route
from jobs.kept import FRESH_S, remember
from jobs.services import Services


def bot_config(session: Session, bot_id: int, version_id: int | None) -> BotConfig:
    """The bot as that version says, or its draft as it is now."""
    if version_id is None:
        return BotConfig.model_validate(session.exec(select(Bot.draft).where(col(Bot.id) == bot_id)).one())

    def find() -> BotConfig:
        return BotConfig.model_validate(session.exec(select(BotVersion.config).where(col(BotVersion.id) == version_id)).one())

    return remember(("version", version_id), 3600, find)


def channel_name(session: Session, channel_id: int) -> str:
    return remember(
        ("channel", channel_id), FRESH_S, lambda: session.exec(select(Channel.name).where(col(Channel.id) == channel_id)).one()
    )


def local_now(session: Session) -> datetime:
    """The time where the operator is: the time zone of the first console user."""

    def find() -> str:
        return session.exec(select(User.time_zone).order_by(col(User.id)).limit(1)).first() or "Asia/Shanghai"

    return datetime.now(ZoneInfo(remember("time_zone", 60, find)))


def channel(session: Session, name: str, kind: str) -> Channel:
    """The enabled channel of that name and kind. Raises BadRequest 404 when there is none."""

    def find() -> Channel | None:
        return session.exec(select(Channel).where(Channel.name == name, Channel.kind == kind)).first()

    found = remember(("channel", name, kind), FRESH_S, find)
    if found is None or not found.enabled:
        raise BadRequest("unknown_channel", "There is no such channel here.", 404)
    return found


def channel_by_id(session: Session, channel_id: int) -> Channel:
    """The enabled channel of that id. Raises BadRequest 404 when there is none."""
    found = remember(("channel row", channel_id), FRESH_S, lambda: session.get(Channel, channel_id))
    if found is None or not found.enabled:
        raise BadRequest("unknown_channel", "There is no such channel here.", 404)
    return found


def web_origins(session: Session, kind: str) -> frozenset[str]:
    """Every site that some channel of that kind lets embed it."""

    def find() -> frozenset[str]:
        rows = session.exec(select(Channel.config).where(Channel.kind == kind, col(Channel.enabled))).all()
        return frozenset(origin for config in rows for origin in config.get("allowed_origins", ()))

    return remember(("origins", kind), FRESH_S, find)


def api_route(services: Services, bot_name: str) -> Route:
    """Where a message for that bot goes that came by the OpenAI-compatible API; its channel is made on first use.

    Raises BadRequest 404 when no such bot is published.
    """
    with services.db.read() as session:
        bot = session.exec(select(Bot).where(Bot.name == bot_name)).first()
        found = session.exec(select(Channel).where(Channel.name == f"api.{bot_name}"[:64])).first()
    if bot is None or bot.id is None or bot.published_version_id is None:
        raise BadRequest("model_not_found", f"No published bot is called {bot_name}.", 404)
    if found is None:
        try:
            with services.db.write() as session:
                found = Channel(name=f"api.{bot_name}"[:64], kind="openai_api", bot_id=bot.id)
                session.add(found)
        except IntegrityError:  # another process made it at the same moment
            return api_route(services, bot_name)
    assert found.id is not None
    return Route(found.id, bot.id, bot.published_version_id)


def route(session: Session, found: Channel) -> Route:
    """Where a message on that channel goes: its bot's published version. Raises BadRequest 409 when none is published."""

    def find() -> int | None:
        return session.exec(select(Bot.published_version_id).where(col(Bot.id) == found.bot_id)).one()

    version_id = remember(("published", found.bot_id), FRESH_S, find)
    if version_id is None:
        raise BadRequest("not_published", "This bot is not published yet.", 409)
    assert found.id is not None
    return Route(found.id, found.bot_id, version_id, found.quiet_s)
