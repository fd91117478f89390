"""Signing in and out."""

from __future__ import annotations

from typing import Any

from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from admin.auth import Throttle, verify
from admin.page import console_page, go, safe_next, services, sign_in_as, t, tell

bp = console_page("sign_in", __name__, public=True)


@bp.get("/sign-in")
def index() -> Any:
    """The form; those who are signed in go on."""
    target = safe_next(request.args.get("next"))
    if g.user is not None:
        return redirect(target or url_for("admin_overview.index"), 303)
    return render_template("console/sign_in.html", next=target, name="", error="")


@bp.post("/sign-in")
def submit() -> Any:
    """Check name and password, after the throttle."""
    name, password = request.form.get("name", "").strip(), request.form.get("password", "")
    target = safe_next(request.form.get("next"))
    address = _address()
    wait_s = _throttle().wait_s(services().redis, name, address)
    if wait_s:
        minutes = -(-wait_s // 60)
        page = render_template("console/sign_in.html", next=target, name=name, error=t("sign_in.throttled", minutes=minutes))
        return page, 429, {"Retry-After": str(wait_s)}
    row = verify(services().db, name, password) if name and password else None
    if row is None:
        return render_template("console/sign_in.html", next=target, name=name, error=t("sign_in.wrong")), 401
    _throttle().forget(services().redis, name, address)
    sign_in_as(row)
    return redirect(target or url_for("admin_overview.index"), 303)


@bp.post("/sign-out")
def sign_out() -> Response:
    """End this browser's session."""
    language = session.get("lang")
    session.clear()
    if language:
        session["lang"] = language
    tell("sign_in.signed_out")
    return go("admin_sign_in.index")


def _address() -> str:
    """Where the browser is. A proxy on this machine says it in X-Forwarded-For, last; from elsewhere anybody could."""
    peer = request.remote_addr or ""
    if peer in ("127.0.0.1", "::1") and (told := request.headers.get("X-Forwarded-For")):
        return told.rsplit(",", 1)[-1].strip()
    return peer


def _throttle() -> Throttle:
    throttle: Throttle = current_app.extensions.setdefault("qingniao_sign_in", Throttle(services().settings.secret_key))
    return throttle
