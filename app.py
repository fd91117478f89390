"""create_app(): the one place where the parts meet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

from flask import Flask, Response, render_template, request
from sqlmodel import col, select
from werkzeug.exceptions import HTTPException, InternalServerError

import admin
from admin.cli import COMMANDS
from admin.cli.common import Refused
from bot.config import BotConfig
from bot.errors import BadRequest, ConfigError, StoreError
from bot.settings import Settings, read_settings
from bot.tables import ApiKey, Bot, Channel, utcnow
from bot.texts import say
from bot.types import Incoming
from channels import handbook, openai_api, web
from channels.http import error_response, locale_of
from jobs import catalogue, health, limits
from jobs.accept import accept
from jobs.logs import set_up_logging
from jobs.services import Services
from jobs.watch import request_stop, watch

logger = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Flask:
    """The web application and its command line, for these settings or the environment's."""
    settings = settings or _settings_of_the_environment()
    set_up_logging(settings)
    services = Services(settings)
    app = Flask(__name__, static_folder=None, template_folder="channels/templates")
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SESSION_COOKIE_NAME="qingniao",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.public_url.startswith("https://"),
    )
    app.extensions["qingniao"] = services
    app.register_blueprint(web.make_blueprint(_web_road(services)))
    app.register_blueprint(openai_api.make_blueprint(_api_road(services)))
    app.register_blueprint(handbook.bp)
    app.register_blueprint(health.make_blueprint(services))
    for page in admin.PAGES:
        app.register_blueprint(page)
    for command in COMMANDS:
        app.cli.add_command(command)
    app.add_url_rule("/", view_func=partial(_home, services), endpoint="home")
    app.register_error_handler(StoreError, _store_failed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(InternalServerError, _broke)
    app.after_request(_harden)
    return app


def _settings_of_the_environment() -> Settings:
    """As `flask` and gunicorn want them: what is wrong with a variable ends the start with a sentence, not a traceback."""
    try:
        return read_settings()
    except ConfigError as error:
        raise Refused(str(error)) from error


def _home(services: Services) -> str:
    with services.db.read() as session:
        channel = session.exec(
            select(Channel).where(Channel.kind == web.KIND, col(Channel.enabled)).order_by(col(Channel.id))
        ).first()
    return render_template("home.html", lang=web.page_locale(), channel=channel.name if channel else None)


def _store_failed(error: StoreError) -> Response:
    """503: nothing was stored, so whoever asked should ask again; a platform does by itself."""
    logger.error("a request was refused: %s", error)
    return _in_form(BadRequest("unavailable", say("error.internal", locale_of(request)), 503, retry_after_s=2))


def _http_error(error: HTTPException) -> Response | HTTPException:
    """Flask's own refusals (404, 405, 413): in our form below the APIs, as a page elsewhere."""
    if not request.path.startswith(("/api/", "/v1/")):
        return error
    code = (error.name or "error").casefold().replace(" ", "_")
    return _in_form(BadRequest(code, error.description or code, error.code or 500))


def _broke(error: InternalServerError) -> Response | HTTPException:
    """A fault of ours; Flask has logged it."""
    if not request.path.startswith(("/api/", "/v1/")):
        return error
    return _in_form(BadRequest("internal", say("error.internal", locale_of(request)), 500))


def _in_form(error: BadRequest) -> Response:
    """The error as the API that was called says errors."""
    return openai_api.error_response(error) if request.path.startswith("/v1/") else error_response(error)


def _harden(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault(
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'",
    )
    return response


def _web_road(services: Services) -> web.Road:
    def find(name: str) -> Channel:
        with services.db.read() as session:
            return catalogue.channel(session, name, web.KIND)

    def find_by_id(channel_id: int) -> Channel:
        with services.db.read() as session:
            return catalogue.channel_by_id(session, channel_id)

    def origins() -> frozenset[str]:
        with services.db.read() as session:
            return catalogue.web_origins(session, web.KIND)

    def bot(channel: Channel) -> BotConfig:
        with services.db.read() as session:
            route = catalogue.route(session, channel)
            return catalogue.bot_config(session, route.bot_id, route.version_id)

    def submit(channel: Channel, incoming: Incoming, conversation_id: str) -> tuple[str, str]:
        with services.db.read() as session:
            route = catalogue.route(session, channel)
        accepted = accept(services, route, incoming, conversation_id)
        return accepted.message_id, accepted.turn_id

    return web.Road(
        db=services.db,
        secret_key=services.settings.secret_key,
        public_url=services.settings.public_url,
        find=find,
        find_by_id=find_by_id,
        origins=origins,
        bot=bot,
        submit=submit,
        watch=partial(_watch, services),
        stop=partial(request_stop, services),
        allow=partial(limits.allow, services),
    )


def _watch(services: Services, turn_id: str, after: int) -> Iterator[tuple[int, str, dict[str, Any]] | None]:
    for told in watch(services, turn_id, after):
        yield None if told is None else (told.id, told.event, told.data)


def _api_road(services: Services) -> openai_api.Road:
    def key(digest: str) -> ApiKey | None:
        with services.db.read() as session:
            found = session.exec(select(ApiKey).where(ApiKey.digest == digest)).first()
        if found is not None and (found.last_used_at is None or (utcnow() - found.last_used_at).total_seconds() > 60):
            with services.db.write() as session:
                found.last_used_at = utcnow()
                session.add(found)
        return found

    def bots(api_key: ApiKey) -> dict[str, int]:
        with services.db.read() as session:
            rows = session.exec(select(Bot).where(col(Bot.published_version_id).is_not(None)).order_by(col(Bot.id))).all()
        return {row.name: int(row.created_at.timestamp()) for row in rows if api_key.bot_id in (None, row.id)}

    def submit(bot: str, incoming: Incoming, overrides: dict[str, Any]) -> str:
        route = catalogue.api_route(services, bot)
        return accept(services, route, incoming, overrides=overrides).turn_id

    return openai_api.Road(
        key=key, bots=bots, submit=submit, watch=partial(_watch, services), stop=partial(request_stop, services)
    )
