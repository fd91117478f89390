"""Moderation: lists of forbidden words, and a box to try a text against them."""

from __future__ import annotations

import re
from typing import Any

from flask import render_template, request
from pydantic import ValidationError
from sqlmodel import Session, col, select

from admin.bot_form import problems
from admin.page import console_page, found, go, services, t, tell
from admin.store import by_name, published_version, save_keyword_list
from bot.config import ModerationConfig
from bot.errors import BadRequest
from bot.moderation import WordList, check
from bot.tables import Bot, KeywordList

MAX_FORM = 8 * 1024 * 1024  # a list may have many words
MAX_TEXT = 10_000
bp = console_page("moderation", __name__, "/moderation", title="nav.moderation", icon="moderation", largest_form=MAX_FORM)


@bp.get("")
def index() -> Any:
    return _page()


@bp.post("/test")
def test() -> Any:
    """Check a text against one list or all."""
    return _page(text=request.form.get("text", "")[:MAX_TEXT], chosen=request.form.get("list", ""))


def _page(text: str = "", chosen: str = "") -> str:
    with services().db.read() as session:
        rows = session.exec(select(KeywordList).order_by(col(KeywordList.name))).all()
        users = {row.name: _bots_with(session, row.name) for row in rows}
    verdict = None
    if text:
        lists = tuple(
            WordList(name=row.name, words=tuple(row.keywords), action=row.action)  # type: ignore[arg-type]
            for row in rows
            if chosen in ("", row.name)
        )
        verdict = check(text, lists)
    return render_template(
        "console/moderation.html", rows=rows, users=users, text=text, chosen=chosen, verdict=verdict,
        pieces=marked(text, [(match.start, match.end) for match in verdict.matches]) if verdict else [],
    )  # fmt: skip


@bp.get("/new")
def new() -> Any:
    return render_template("console/keyword_list.html", row=None, values={"action": "block"}, errors={})


@bp.post("/new")
def create() -> Any:
    return _save(None)


@bp.get("/<int:list_id>")
def edit(list_id: int) -> Any:
    with services().db.read() as session:
        row = found(session.get(KeywordList, list_id))
    values = {"name": row.name, "keywords": "\n".join(row.keywords), "action": row.action}
    return render_template("console/keyword_list.html", row=row, values=values, errors={})


@bp.post("/<int:list_id>")
def save(list_id: int) -> Any:
    with services().db.read() as session:
        row = found(session.get(KeywordList, list_id))
    return _save(row)


@bp.post("/<int:list_id>/delete")
def delete(list_id: int) -> Any:
    """Delete a list that no bot names."""
    with services().db.write() as session:
        row = found(session.get(KeywordList, list_id))
        if bots := _bots_with(session, row.name):
            raise BadRequest("in_use", t("moderation.in_use", bots=", ".join(bots)), 409)
        session.delete(row)
    tell("moderation.deleted", name=row.name)
    return go("admin_moderation.index")


def _save(row: KeywordList | None) -> Any:
    form = request.form
    values = {"name": row.name if row else form.get("name", "").strip(), "action": form.get("action", "block")}
    words = [word.strip() for word in re.split(r"[\r\n]+", form.get("keywords", "")) if word.strip()]
    errors: dict[str, str] = {}
    try:
        config = ModerationConfig.model_validate({**values, "keywords": words})
    except ValidationError as error:
        errors = problems(error)
    if not errors:
        with services().db.write() as session:
            if row is None and by_name(session, KeywordList, config.name) is not None:
                errors["name"] = t("wrong.taken")
            else:
                save_keyword_list(session, config)
    if errors:
        values["keywords"] = form.get("keywords", "")
        return render_template("console/keyword_list.html", row=row, values=values, errors=errors), 422
    tell("moderation.saved", name=config.name)
    return go("admin_moderation.index")


def _bots_with(session: Session, name: str) -> list[str]:
    """The bots whose draft or published version names a list."""
    found_in = []
    for bot in session.exec(select(Bot).order_by(col(Bot.name))):
        version = published_version(session, bot)
        configs = (bot.draft, version.config if version else {})
        if any(name in config.get("moderation", {}).get("lists", ()) for config in configs):
            found_in.append(bot.name)
    return found_in


def marked(text: str, spans: list[tuple[int, int]]) -> list[tuple[str, bool]]:
    """text in pieces, each with whether it lies in a span; spans may overlap."""
    inside = [False] * len(text)
    for start, end in spans:
        inside[start:end] = [True] * (end - start)
    pieces: list[tuple[str, bool]] = []
    for char, hit in zip(text, inside, strict=True):
        if pieces and pieces[-1][1] == hit:
            pieces[-1] = (pieces[-1][0] + char, hit)
        else:
            pieces.append((char, hit))
    return pieces
