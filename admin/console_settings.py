"""Settings: one's own password, language and time zone; the other users."""

from __future__ import annotations

from functools import cache
from typing import Any
from zoneinfo import available_timezones

from flask import render_template, request, session
from sqlmodel import col, func, select

from admin.auth import NameTaken, WeakPassword, create_user, set_password, verify
from admin.page import LANGUAGES, console_page, found, go, services, sign_in_as, t, tell, user
from bot.errors import BadRequest, ConfigError
from bot.tables import User

COMMON_ZONES = (
    "Asia/Shanghai", "Asia/Hong_Kong", "Asia/Taipei", "Asia/Singapore", "Asia/Tokyo", "Europe/London", "Europe/Berlin",
    "America/New_York", "America/Los_Angeles", "UTC",
)  # fmt: skip
bp = console_page("settings", __name__, "/settings", title="nav.settings", icon="settings")


@bp.get("")
def index() -> Any:
    return _page({})


@bp.post("/profile")
def profile() -> Any:
    """Language and time zone."""
    locale, zone = request.form.get("locale", ""), request.form.get("time_zone", "")
    if locale not in LANGUAGES or zone not in zones():
        raise BadRequest("wrong", t("error.400"))
    with services().db.write() as db:
        row = found(db.get(User, user().id))
        row.locale, row.time_zone = locale, zone
        db.add(row)
    session.pop("lang", None)
    tell("settings.saved")
    return go("admin_settings.index")


@bp.post("/password")
def password() -> Any:
    """A new password; the user's other browsers are signed out, this one stays."""
    old, new = request.form.get("old", ""), request.form.get("new", "")
    if verify(services().db, user().name, old) is None:
        return _page({"old": t("settings.wrong_password")}), 422
    try:
        row = set_password(services().db, user().name, new)
    except WeakPassword as error:
        return _page({"new": t(f"wrong.password.{error.reason}")}), 422
    sign_in_as(row)
    tell("settings.password_saved")
    return go("admin_settings.index")


@bp.post("/sign-out-all")
def sign_out_all() -> Any:
    """End every session of this user but this one."""
    with services().db.write() as db:
        row = found(db.get(User, user().id))
        row.session_version += 1
        db.add(row)
    sign_in_as(row)
    tell("settings.signed_out_all")
    return go("admin_settings.index")


@bp.post("/users")
def add_user() -> Any:
    name, chosen = request.form.get("name", "").strip(), request.form.get("password", "")
    try:
        create_user(services().db, name, chosen)
    except WeakPassword as error:
        return _page({"user_password": t(f"wrong.password.{error.reason}")}, name), 422
    except NameTaken:
        return _page({"user_name": t("wrong.taken")}, name), 422
    except ConfigError:
        return _page({"user_name": t("wrong.user_name")}, name), 422
    tell("settings.user_added", name=name)
    return go("admin_settings.index")


@bp.post("/users/<int:user_id>/delete")
def delete_user(user_id: int) -> Any:
    """Delete another user; nobody deletes himself, so one always stays."""
    if user_id == user().id:
        raise BadRequest("self", t("settings.not_self"), 409)
    with services().db.write() as db:
        row = found(db.get(User, user_id))
        db.delete(row)
    tell("settings.user_deleted", name=row.name)
    return go("admin_settings.index")


def _page(errors: dict[str, str], new_name: str = "") -> str:
    with services().db.read() as db:
        users = db.exec(select(User).order_by(col(User.name))).all()
        count = db.exec(select(func.count()).select_from(User)).one()
    current = user().time_zone
    chosen = [zone for zone in COMMON_ZONES if zone in zones()]
    rest = [zone for zone in zones() if zone not in chosen]
    return render_template(
        "console/settings.html", users=users, count=count, errors=errors, new_name=new_name,
        zones=[*chosen, *rest] if current in zones() else [current, *chosen, *rest],
    )  # fmt: skip


@cache
def zones() -> tuple[str, ...]:
    """Every time zone by name."""
    return tuple(sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC"))
