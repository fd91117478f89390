"""What every page of the console shares: who is signed in, the language, CSRF tokens, headers, times and error pages."""

from __future__ import annotations

import hmac
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import Blueprint, Response, abort, current_app, flash, g, redirect, render_template, request, session, url_for
from markupsafe import Markup, escape
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from bot.errors import BadRequest, BotError, ServiceError
from bot.tables import User, utcnow
from bot.texts import CATALOGUE, say

if TYPE_CHECKING:
    from jobs.services import Services

STATIC = Path(__file__).parent / "static"
CSP = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
LANGUAGES = ("zh", "en")
LARGEST_ID = 2**31 - 1
FIELD_NAMES = {  # where a field's name in the catalogue is not the last part of its key
    "suggested_questions": "bot.suggested",
    "fallback_models": "bot.fallbacks",
    "followups.enabled": "bot.followups",
    "followups.count": "bot.followups_count",
    "handoff.enabled": "bot.handoff",
    "handoff.keywords": "bot.handoff_keywords",
    "handoff.message": "bot.handoff_message",
}


class Page(Blueprint):
    """A page of the console. title: its name in the navigation, a key of the catalogue; none: it is not there."""

    def __init__(self, name: str, import_name: str, path: str, title: str, icon: str) -> None:
        static = "static" if name == "overview" else None  # one page serves the files of all
        super().__init__(
            f"admin_{name}", import_name, url_prefix=f"/admin{path}", template_folder="templates", static_folder=static
        )
        self.title = title
        self.icon = icon


def console_page(
    name: str,
    import_name: str,
    path: str = "",
    title: str = "",
    icon: str = "",
    public: bool = False,
    largest_form: int = 1024 * 1024,
    largest_upload: int = 0,
) -> Page:
    """A page below /admin whose views are only for the signed-in (unless public), with CSRF check, headers and errors.

    largest_form, largest_upload: bytes of a form's fields, and of its files beside them; more is a 413.
    """

    def set_limits() -> None:
        request.max_content_length = largest_form + largest_upload
        request.max_form_memory_size = largest_form

    bp = Page(name, import_name, path, title, icon)
    bp.before_request(set_limits)
    bp.before_request(_choose_language)
    bp.before_request(_refuse_the_impossible)
    bp.before_request(_load_user)
    if not public:
        bp.before_request(_only_signed_in)
    bp.before_request(_check_csrf)
    bp.after_request(_set_headers)
    bp.context_processor(_template_values)
    bp.register_error_handler(HTTPException, _show_http_error)
    bp.register_error_handler(BotError, _show_our_error)
    return bp


def services() -> Services:
    """The database, Redis and the rest."""
    found: Services = current_app.extensions["qingniao"]
    return found


def user() -> User:
    """Who is signed in. Only in pages that are not public."""
    found: User = g.user
    return found


def t(key: str, **values: object) -> str:
    """The console's sentence for key, in the operator's language."""
    return say(f"console.{key}", locale(), **values)


def locale() -> str:
    """zh or en."""
    chosen: str = g.get("locale", "zh")
    return chosen


def tell(key: str, kind: str = "good", **values: object) -> None:
    """Flash a sentence on the next page. kind: good or bad."""
    flash(t(key, **values), kind)


def go(endpoint: str, **values: Any) -> BaseResponse:
    """To another page, after a POST."""
    return redirect(url_for(endpoint, **values), 303)


def safe_next(target: str | None) -> str | None:
    """target where it is a path of this console; else none, so that nobody is sent elsewhere after signing in."""
    if not target or not (target == "/admin" or target.startswith(("/admin/", "/admin?"))):
        return None
    return None if "\\" in target or "//" in target or any(ord(c) < 33 for c in target) else target


def found(row: Any) -> Any:
    """row, or the 404 page where there is none."""
    if row is None:
        abort(404)
    return row


# --- before and after each request ---------------------------------------------------------------------------------


def _choose_language() -> None:
    """?lang, kept for this browser, before the user's own setting, before what the browser asks for."""
    wanted = request.args.get("lang")
    if wanted in LANGUAGES and session.get("lang") != wanted:
        session["lang"] = wanted
    g.locale = session.get("lang") or request.accept_languages.best_match(LANGUAGES, "zh")
    g.user = None


def _refuse_the_impossible() -> None:
    """Ids beyond what a database counts to, and NUL, which PostgreSQL does not keep in a text."""
    if any(isinstance(value, int) and value > LARGEST_ID for value in (request.view_args or {}).values()):
        abort(404)
    if "%00" in request.full_path or "\0" in request.path:
        abort(400)


def _load_user() -> None:
    user_id = session.get("user_id")
    if user_id is None or (request.endpoint or "").endswith(".static"):
        return
    with services().db.read() as db:
        row = db.get(User, user_id)
    if row is None or row.session_version != session.get("version"):
        session.clear()  # the password changed, or the user is gone
        return
    g.user = row
    g.locale = session.get("lang") or row.locale


def _only_signed_in() -> BaseResponse | tuple[dict[str, Any], int] | None:
    if g.user is not None or (request.endpoint or "").endswith(".static"):
        return None
    if wants_json():
        return {"error": {"code": "signed_out", "message": t("sign_in.again")}}, 401
    target = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("admin_sign_in.index", next=safe_next(target)), 303)


def csrf_token() -> str:
    """This browser's token; every form and script sends it back."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    token: str = session["csrf"]
    return token


def _check_csrf() -> None:
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    sent = request.headers.get("X-CSRF-Token") or request.form.get("csrf", "")
    if any("\0" in value for value in request.form.values()):
        abort(400)
    if not hmac.compare_digest(sent.encode(errors="replace"), str(session.get("csrf", "")).encode()) or not sent:
        raise BadRequest("csrf", t("error.csrf"))


def sign_in_as(row: User) -> None:
    """Start a session: nothing of the one before it stays but the language."""
    language = session.get("lang")
    session.clear()
    session.permanent = True
    session.update(user_id=row.id, version=row.session_version, csrf=secrets.token_urlsafe(32), id=secrets.token_urlsafe(16))
    if language:
        session["lang"] = language


def _set_headers(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CSP
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Frame-Options"] = "DENY"  # for browsers without frame-ancestors
    if request.endpoint and not request.endpoint.endswith(".static"):
        response.headers.setdefault("Cache-Control", "no-store")
    return response


# --- errors --------------------------------------------------------------------------------------------------------


def wants_json() -> bool:
    return request.accept_mimetypes.best_match(["text/html", "application/json"], "text/html") == "application/json"


def _show_http_error(error: HTTPException) -> Any:
    if error.code is None or error.code < 400:
        return error
    known = error.code if error.code in (400, 404, 405, 413) else 400 if error.code < 500 else 500
    return _error(error.code, t(f"error.{known}.title"), t(f"error.{known}"), f"http_{error.code}")


def _show_our_error(error: BotError) -> Any:
    if isinstance(error, BadRequest):
        return _error(error.status, t("error.400.title"), str(error), error.code)
    status = 503 if isinstance(error, ServiceError) else 409
    return _error(status, t("error.service.title"), str(error), "service")


def _error(status: int, title: str, message: str, code: str) -> Any:
    if wants_json():
        return {"error": {"code": code, "message": message}}, status
    return render_template("console/error.html", status=status, heading=title, message=message), status


# --- for templates -------------------------------------------------------------------------------------------------


def _template_values() -> dict[str, Any]:
    from admin import PAGES

    return {
        "t": t,
        "locale": g.locale,
        "user": g.user,
        "pages": [page for page in PAGES if page.title],
        "csrf": lambda: Markup('<input type="hidden" name="csrf" value="{}">').format(csrf_token()),
        "csrf_token": csrf_token,
        "asset": asset,
        "moment": moment,
        "ago": ago,
        "number": lambda value: f"{value:,}",
        "size": size,
        "language_url": language_url,
        "plain": lambda value: f"{value:g}" if isinstance(value, float) else value,
        "pretty": lambda value: json.dumps(value, ensure_ascii=False, indent=1, default=str),
        "step_name": step_name,
        "field_name": field_name,
        "detail_name": detail_name,
    }


def asset(name: str) -> str:
    """The URL of a static file, with its age, so that browsers keep it and still see a change."""
    changed = int((STATIC / name).stat().st_mtime)
    return url_for("admin_overview.static", filename=name, v=changed)


def language_url(language: str) -> str:
    """This page in another language."""
    if request.method != "GET":
        return url_for("admin_overview.index", lang=language)
    return f"{request.path}?{urlencode({**request.args.to_dict(), 'lang': language})}"


def zone() -> ZoneInfo:
    """The operator's time zone."""
    try:
        return ZoneInfo(g.user.time_zone if g.get("user") else "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def moment(value: datetime | None, form: str = "%Y-%m-%d %H:%M") -> Markup:
    """A <time> in the operator's time zone; a dash for none."""
    if value is None:
        return Markup("–")
    local = value.astimezone(zone())
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        value.astimezone(UTC).isoformat(timespec="seconds"), local.strftime("%Y-%m-%d %H:%M:%S %Z"), local.strftime(form)
    )


def ago(value: datetime | None) -> Markup:
    """A <time> in words: 3 minutes ago; the date when older than a week."""
    if value is None:
        return Markup("–")
    seconds = max(0.0, (utcnow() - value).total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            if unit == "day" and count > 7:
                return moment(value, "%Y-%m-%d")
            words = t(f"time.{unit}s" if count > 1 else f"time.{unit}", count=count)
            break
    else:
        words = t("time.now")
    local = value.astimezone(zone()).strftime("%Y-%m-%d %H:%M:%S %Z")
    stamp = value.astimezone(UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(stamp, local, escape(words))


def step_name(step: str) -> str:
    """A step of a trace in words; its own name where there are none."""
    return t(f"step.{step}") if f"console.step.{step}" in CATALOGUE else step


def detail_name(key: str) -> str:
    """What a trace calls something, in words; its own name where there are none."""
    return t(f"detail.{key}") if f"console.detail.{key}" in CATALOGUE else key


def field_name(key: str) -> str:
    """A key of a bot's configuration as its form calls it."""
    name = FIELD_NAMES.get(key, f"bot.{key.rsplit('.', 1)[-1]}")
    return t(name) if f"console.{name}" in CATALOGUE else key


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1024:
        return f"{count} B"
    if count < 1024 * 1024:
        return f"{count / 1024:.0f} KB"
    return f"{count / 1024 / 1024:.1f} MB"
