"""Bots: the list, the draft, publishing, versions and going back."""

from __future__ import annotations

from typing import Any

from flask import render_template, request
from pydantic import ValidationError
from sqlmodel import Session, col, func, select

from admin.bot_form import check, get, problems, read_form
from admin.page import console_page, found, go, services, t, tell, user, wants_json
from admin.store import DEBUG_KIND, by_name, differences, missing_references, publish, published_version, save_bot_draft
from bot.config import BUILTIN, BotConfig
from bot.errors import BadRequest
from bot.tables import ApiKey, Bot, BotVersion, Channel, KeywordList, KnowledgeBase, Model, Provider

VERSIONS_SHOWN = 50
LANGUAGES = ("auto", "zh", "en", "ja", "ko", "fr", "de", "es", "ru")
bp = console_page("bots", __name__, "/bots", title="nav.bots", icon="bots")


@bp.get("")
def index() -> Any:
    """All bots, with where each stands."""
    with services().db.read() as session:
        bots = session.exec(select(Bot).order_by(col(Bot.name))).all()
        rows = []
        for bot in bots:
            version = published_version(session, bot)
            channels = session.exec(select(Channel.name).where(Channel.bot_id == bot.id, Channel.kind != DEBUG_KIND)).all()
            rows.append({"bot": bot, "version": version, "changed": is_changed(bot, version), "channels": channels})
    return render_template("console/bots.html", rows=rows)


@bp.get("/new")
def new() -> Any:
    with services().db.read() as session:
        bases = session.exec(select(KnowledgeBase.name).order_by(col(KnowledgeBase.name))).all()
        models = chat_models(session)
    return render_template("console/bot_new.html", values={}, errors={}, bases=bases, models=models)


@bp.post("/new")
def create() -> Any:
    """A new draft with a name, a title, a model and its knowledge; the rest by default."""
    form = request.form
    values: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "title": form.get("title", "").strip(),
        "model": form.get("model") or BUILTIN,
        "knowledge": {"bases": form.getlist("knowledge.bases")},
    }
    config, errors = check(values)
    with services().db.write() as session:
        if config is not None and by_name(session, Bot, config.name) is not None:
            errors = {"name": t("wrong.taken")}
        if config is not None and not errors:
            bot = save_bot_draft(session, config)
        else:
            bases = session.exec(select(KnowledgeBase.name).order_by(col(KnowledgeBase.name))).all()
            models = chat_models(session)
    if errors:
        return render_template("console/bot_new.html", values=values, errors=errors, bases=bases, models=models), 422
    tell("bots.created")
    return go("admin_bots.edit", bot_id=bot.id)


@bp.get("/<int:bot_id>")
def edit(bot_id: int) -> Any:
    """The draft's form, with the debug chat beside it."""
    with services().db.read() as session:
        bot = found(session.get(Bot, bot_id))
        return _edit_page(session, bot, bot.draft, {})


@bp.post("/<int:bot_id>")
def save(bot_id: int) -> Any:
    """Save the draft; with the button `publish`, publish it too. JSON for the debug chat, which saves before it asks."""
    publishing = request.form.get("action") == "publish"
    with services().db.write() as session:
        bot = found(session.get(Bot, bot_id))
        values = read_form(request.form, bot.draft) | {"name": bot.name}
        config, errors = check(values)
        if config is not None:
            save_bot_draft(session, config)
            if publishing:
                errors = {field: t("wrong.missing", name=name) for field, name in missing_references(session, config)}
                if not errors:
                    version = publish(session, bot, user().name)
        page = _edit_page(session, bot, values, errors) if errors else None
    if wants_json():
        return {"saved": not errors, "errors": errors}, 422 if errors else 200
    if page is not None:
        return page, 422
    if publishing:
        tell("bots.published", number=version.number)
    else:
        tell("bots.saved")
    return go("admin_bots.edit", bot_id=bot_id)


@bp.post("/<int:bot_id>/discard")
def discard(bot_id: int) -> Any:
    """Throw the draft away: it becomes what is published."""
    with services().db.write() as session:
        bot = found(session.get(Bot, bot_id))
        version = found(published_version(session, bot))
        save_bot_draft(session, BotConfig.model_validate(version.config))
    tell("bots.discarded")
    return go("admin_bots.edit", bot_id=bot_id)


@bp.post("/<int:bot_id>/delete")
def delete(bot_id: int) -> Any:
    """Delete a bot that no channel or key uses."""
    with services().db.write() as session:
        bot = found(session.get(Bot, bot_id))
        channels = session.exec(select(Channel).where(Channel.bot_id == bot_id)).all()
        keys = session.exec(select(func.count()).where(ApiKey.bot_id == bot_id)).one()
        names = [channel.name for channel in channels if channel.kind != DEBUG_KIND]
        if names or keys:
            raise BadRequest("in_use", t("bots.in_use", names=", ".join(names) or "API"), 409)
        for channel in channels:
            session.delete(channel)
        bot.published_version_id = None
        session.flush()
        session.delete(bot)
    tell("bots.deleted", name=bot.name)
    return go("admin_bots.index")


@bp.get("/<int:bot_id>/versions")
def versions(bot_id: int) -> Any:
    """Every published version with what it changed, newest first."""
    with services().db.read() as session:
        bot = found(session.get(Bot, bot_id))
        published = published_version(session, bot)
        query = select(BotVersion).where(BotVersion.bot_id == bot_id).order_by(col(BotVersion.number).desc())
        rows = session.exec(query.limit(VERSIONS_SHOWN + 1)).all()
    shown = [
        {
            "version": row,
            "live": bot.published_version_id == row.id,
            "changes": differences(rows[place + 1].config, row.config) if place + 1 < len(rows) else None,
        }
        for place, row in enumerate(rows[:VERSIONS_SHOWN])
    ]
    unpublished = differences(published.config, bot.draft) if published else []
    return render_template("console/bot_versions.html", bot=bot, rows=shown, unpublished=unpublished, published=published)


@bp.post("/<int:bot_id>/versions/<int:number>/publish")
def go_back(bot_id: int, number: int) -> Any:
    """Publish what an older version said, as a new version. The draft stays as it is."""
    with services().db.write() as session:
        bot = found(session.get(Bot, bot_id))
        old = _version(session, bot_id, number)
        try:
            config = BotConfig.model_validate(old.config)
        except ValidationError as error:
            raise BadRequest("unreadable", "; ".join(f"{k}: {v}" for k, v in problems(error).items()), 409) from error
        missing = missing_references(session, config)
        if missing:
            raise BadRequest("missing", "; ".join(t("wrong.missing", name=name) for _, name in missing), 409)
        version = publish(session, bot, user().name, config)
    tell("bots.went_back", old=number, number=version.number)
    return go("admin_bots.versions", bot_id=bot_id)


@bp.post("/<int:bot_id>/versions/<int:number>/draft")
def to_draft(bot_id: int, number: int) -> Any:
    """Take an older version up as the draft, to change it further."""
    with services().db.write() as session:
        found(session.get(Bot, bot_id))
        save_bot_draft(session, BotConfig.model_validate(_version(session, bot_id, number).config))
    tell("bots.to_draft", number=number)
    return go("admin_bots.edit", bot_id=bot_id)


def _version(session: Session, bot_id: int, number: int) -> BotVersion:
    row: BotVersion = found(
        session.exec(select(BotVersion).where(BotVersion.bot_id == bot_id, BotVersion.number == number)).first()
    )
    return row


def is_changed(bot: Bot, version: BotVersion | None) -> bool:
    """Whether the draft says something else than what is published."""
    return version is None or bool(differences(version.config, bot.draft))


def chat_models(session: Session) -> list[str]:
    """`provider/model` of every chat model."""
    rows = session.exec(
        select(Provider.name, Model.name)
        .join(Model, col(Model.provider_id) == col(Provider.id))
        .where(Model.kind == "chat")
        .order_by(col(Provider.name), col(Model.name))
    )
    return [f"{provider}/{model}" for provider, model in rows]


def _edit_page(session: Session, bot: Bot, values: dict[str, Any], errors: dict[str, str]) -> str:
    version = published_version(session, bot)
    models = chat_models(session)
    bases = session.exec(select(KnowledgeBase.name).order_by(col(KnowledgeBase.name))).all()
    lists = session.exec(select(KeywordList.name).order_by(col(KeywordList.name))).all()
    fallbacks = list(get(values, "fallback_models", []))
    return render_template(
        "console/bot.html",
        bot=bot,
        version=version,
        changed=is_changed(bot, version),
        v=lambda key, default="": get(values, key, default),
        errors=errors,
        models=[BUILTIN, *models] + [m for m in [get(values, "model", BUILTIN), *fallbacks] if m not in (BUILTIN, *models)],
        fallback_count=max(2, len(fallbacks)),
        bases=_all_and(bases, values, "knowledge.bases"),
        lists=_all_and(lists, values, "moderation.lists"),
        languages=list(dict.fromkeys((*LANGUAGES, get(values, "language", "auto")))),
        channel=session.exec(
            select(Channel).where(Channel.bot_id == bot.id, Channel.kind == "web", col(Channel.enabled))
        ).first(),
    )


def _all_and(names: Any, values: dict[str, Any], key: str) -> list[str]:
    """All that there are, and those that the draft names although they are gone, so that they can be taken out."""
    return list(dict.fromkeys((*names, *get(values, key, []))))
