"""Models: providers with their keys, the models they offer, and a test that asks one for a word."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import render_template, request
from pydantic import ValidationError
from sqlmodel import Session, col, select

from admin.bot_form import problems
from admin.bots import is_changed
from admin.page import console_page, found, go, services, t, tell, user
from admin.store import by_name, missing_references, publish, published_version, save_bot_draft, save_provider
from bot.config import BotConfig, ModelConfig, ProviderConfig
from bot.errors import BadRequest, ModelError
from bot.presets import PRESETS, Preset, preset
from bot.secrets import decrypt, mask
from bot.tables import Bot, Model, Provider

MODEL_FIELDS = ("name", "kind", "context", "price_in", "price_out", "dim")
BLANK_ROWS = 2
TEST_S = 10
bp = console_page("models", __name__, "/models", title="nav.models", icon="models")


@dataclass(frozen=True)
class Tested:
    """What came of a test. said: the model's words, or the length of its vectors."""

    model: str
    kind: str
    ok: bool
    ms: float
    said: str


@bp.get("")
def index() -> Any:
    """All providers with their models."""
    with services().db.read() as session:
        providers = session.exec(select(Provider).order_by(col(Provider.name))).all()
        models = session.exec(select(Model).order_by(col(Model.kind), col(Model.name))).all()
        users = _users_of_models(session)
    rows = [(row, [model for model in models if model.provider_id == row.id]) for row in providers]
    return render_template("console/models.html", rows=rows, masked=masked, users=users)


@bp.get("/new")
def new() -> Any:
    """The form, filled in from a preset."""
    chosen = preset(request.args.get("preset", ""))
    values: dict[str, Any] = {"weight": 1, "models": []}
    if chosen is not None:
        models = [_blank() | {"name": name, "context": chosen.context} for name in chosen.chat_models]
        models += [_blank() | {"name": name, "kind": "embedding", "dim": dim} for name, dim in chosen.embedding_models]
        values = {"name": chosen.key, "base_url": chosen.base_url, "weight": 1, "models": models}
    return _form(None, values, {}, chosen)


@bp.post("/new")
def create() -> Any:
    return _save(None)


@bp.get("/<int:provider_id>")
def edit(provider_id: int) -> Any:
    with services().db.read() as session:
        row = found(session.get(Provider, provider_id))
        return _form(row, _values(session, row), {})


@bp.post("/<int:provider_id>")
def save(provider_id: int) -> Any:
    with services().db.read() as session:
        row = found(session.get(Provider, provider_id))
    return _save(row)


@bp.post("/<int:provider_id>/delete")
def delete(provider_id: int) -> Any:
    """Delete a provider whose models no bot uses."""
    with services().db.write() as session:
        row = found(session.get(Provider, provider_id))
        users = _users_of_models(session)
        bots = sorted({bot for name, bots in users.items() if name.startswith(f"{row.name}/") for bot in bots})
        if bots:
            raise BadRequest("in_use", t("models.in_use", bots=", ".join(bots)), 409)
        session.delete(row)
    tell("models.deleted", name=row.name)
    return go("admin_models.index")


@bp.post("/<int:provider_id>/test")
def test(provider_id: int) -> Any:
    """Ask one model for a word, and show what it said or why it did not."""
    with services().db.read() as session:
        row = found(session.get(Provider, provider_id))
        model = found(
            session.exec(select(Model).where(Model.provider_id == provider_id, Model.name == request.form.get("model"))).first()
        )
        bots = session.exec(select(Bot).order_by(col(Bot.name))).all()
        changed = {bot.id: is_changed(bot, published_version(session, bot)) for bot in bots}
    tested = _probe(row, model)
    return render_template("console/model_tested.html", provider=row, model=model, tested=tested, bots=bots, changed=changed)


@bp.post("/<int:provider_id>/use")
def use(provider_id: int) -> Any:
    """Set a model in a bot's draft; publish it at once where asked and nothing else waits in the draft."""
    with services().db.write() as session:
        row = found(session.get(Provider, provider_id))
        model = found(
            session.exec(select(Model).where(Model.provider_id == provider_id, Model.name == request.form.get("model"))).first()
        )
        bot = found(session.get(Bot, request.form.get("bot_id", type=int)))
        version = published_version(session, bot)
        alone = version is not None and not is_changed(bot, version)
        config = BotConfig.model_validate(bot.draft | {"model": f"{row.name}/{model.name}"})
        save_bot_draft(session, config)
        publishing = alone and request.form.get("action") == "publish" and not missing_references(session, config)
        if publishing:
            version = publish(session, bot, user().name)
    if publishing and version is not None:
        tell("models.used_published", model=config.model, number=version.number)
    else:
        tell("models.used", model=config.model)
    return go("admin_bots.edit", bot_id=bot.id, view="debug")


def masked(provider: Provider) -> str:
    """A provider's key as dots; none: empty. What cannot be read is dots too: the test says why."""
    from bot.errors import ConfigError

    if not provider.api_key:
        return ""
    try:
        return mask(decrypt(provider.api_key, services().settings.secret_key))
    except ConfigError:
        return "••••"


def _probe(provider: Provider, model: Model) -> Tested:
    from bot.llm import Llm, Timeouts
    from jobs.models import endpoint

    llm = Llm(Timeouts(connect_s=4, first_token_s=TEST_S, between_tokens_s=TEST_S))
    begun = time.monotonic()
    try:
        target = endpoint(provider, model, services().settings.secret_key)
        if model.kind == "embedding":
            said = t("models.test.vector", dim=len(llm.embed(target, ["hello"])[0]))
        else:
            said = _first_words(llm, target, begun + TEST_S)
        ok = True
    except ModelError as error:
        said, ok = f"{t(f'models.test.{error.code}')} {error}", False
    finally:
        llm.close()
    return Tested(model.name, model.kind, ok, (time.monotonic() - begun) * 1000, said)


def _first_words(llm: Any, target: Any, deadline: float) -> str:
    stream = llm.chat([[target]], [{"role": "user", "content": t("models.test.ask")}], attempts=1)
    said = ""
    for piece in stream:
        said += piece
        if len(said) > 200 or time.monotonic() > deadline:
            stream.close()
            break
    return said.strip()


def _save(row: Provider | None) -> Any:
    values = _read(row)
    key = request.form.get("api_key", "").strip()
    errors = _errors_of_key(row, key, values["base_url"])
    try:
        config = ProviderConfig.model_validate({**values, "api_key": key or None})
    except ValidationError as error:
        errors |= problems(error)
    names = [model["name"] for model in values["models"]]
    if len(set(names)) < len(names):
        errors["models"] = t("wrong.twice")
    if not errors:
        with services().db.write() as session:
            if row is None and by_name(session, Provider, config.name) is not None:
                errors["name"] = t("wrong.taken")
            else:
                saved = save_provider(session, services().settings, config, keep_key=request.form.get("forget") != "1")
    if errors:
        return _form(row, values, errors), 422
    tell("models.saved", name=saved.name)
    return go("admin_models.index", _anchor=saved.name)


def _errors_of_key(row: Provider | None, key: str, base_url: str) -> dict[str, str]:
    """References are for the configuration file: here they would let a browser read the server's files. And a stored key
    goes nowhere else than where it was meant for: another host wants it typed again."""
    if key.startswith(("env:", "file:")):
        return {"api_key": t("wrong.reference")}
    if not key.isascii() or any(c.isspace() for c in key):
        return {"api_key": t("wrong.key")}
    moved = row is not None and urlsplit(row.base_url)[:2] != urlsplit(base_url)[:2]
    if moved and row is not None and row.api_key and not key and request.form.get("forget") != "1":
        return {"api_key": t("wrong.moved")}
    return {}


def _read(row: Provider | None) -> dict[str, Any]:
    form = request.form
    models = []
    for number in range(200):
        if f"models.{number}.name" not in form:
            break
        model: dict[str, Any] = {key: form.get(f"models.{number}.{key}", "").strip() for key in MODEL_FIELDS}
        if model["name"]:
            kept = {key: value for key, value in model.items() if value != ""}
            models.append(kept)
    return {
        "name": row.name if row else form.get("name", "").strip(),
        "base_url": form.get("base_url", "").strip(),
        "weight": form.get("weight", "").strip() or 1,
        "models": models,
    }


def _values(session: Session, row: Provider) -> dict[str, Any]:
    models = session.exec(select(Model).where(Model.provider_id == row.id).order_by(col(Model.id))).all()
    return {
        "name": row.name,
        "base_url": row.base_url,
        "weight": row.weight,
        "models": [{key: getattr(model, key) for key in MODEL_FIELDS} for model in models],
    }


def _blank() -> dict[str, Any]:
    return dict(ModelConfig(name="x").model_dump(), name="")


def _form(row: Provider | None, values: Mapping[str, Any], errors: dict[str, str], chosen: Preset | None = None) -> str:
    models = [*values["models"], *(_blank() for _ in range(1 if values["models"] else BLANK_ROWS))]
    return render_template(
        "console/provider.html",
        provider=row,
        values=values,
        models=models,
        errors=errors,
        presets=PRESETS,
        preset=chosen,
        key=masked(row) if row else "",
    )


def _users_of_models(session: Session) -> dict[str, list[str]]:
    """`provider/model` → the bots whose draft or published version names it."""
    users: dict[str, list[str]] = {}
    for bot in session.exec(select(Bot).order_by(col(Bot.name))):
        version = published_version(session, bot)
        configs = [bot.draft, version.config if version else {}]
        names = {name for config in configs for name in (config.get("model"), *config.get("fallback_models", ())) if name}
        for name in sorted(names):
            users.setdefault(name, []).append(bot.name)
    return users
