"""The rows that both the console and `flask apply` write. Each function is idempotent, and returns the row.

All take a session of `Database.write()` and never commit. Secrets come as the configuration has them (`env:NAME`,
`file:PATH` or the secret itself) and are stored encrypted, with where they came from beside them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from sqlmodel import Session, SQLModel, col, func, select

from bot.config import BUILTIN, BotConfig, ChannelConfig, ModerationConfig, ProviderConfig
from bot.errors import ConfigError
from bot.secrets import decrypt, encrypt, resolve
from bot.settings import Settings
from bot.tables import Bot, BotVersion, Channel, KeywordList, KnowledgeBase, Model, Provider, utcnow
from bot.texts import say

# The keys of a channel that are never shown or exported, whatever its kind.
CHANNEL_SECRETS = frozenset({"app_secret", "secret", "token", "encoding_aes_key", "bot_token", "webhook_secret"})

DEBUG_KIND = "debug"  # the channel of the console's debug chat: of no platform, and no part of the configuration

Row = TypeVar("Row", bound=SQLModel)


def by_name(session: Session, table: type[Row], name: str) -> Row | None:
    """The row of table (one with a unique `name`) called name, or none."""
    return session.exec(select(table).where(table.name == name)).first()  # type: ignore[attr-defined]


def save_provider(session: Session, settings: Settings, config: ProviderConfig, keep_key: bool = False) -> Provider:
    """A provider and exactly its models. Without config.api_key the stored key goes, unless keep_key.

    Raises ConfigError when `env:NAME` or `file:PATH` has nothing there.
    """
    row = by_name(session, Provider, config.name) or Provider(name=config.name, base_url="")
    _set(row, base_url=config.base_url.rstrip("/"), weight=config.weight)
    if config.api_key:
        secret, source = resolve(config.api_key)
        _set(row, api_key=_encrypted(secret, row.api_key, settings), api_key_source=source)
    elif not keep_key:
        _set(row, api_key=None, api_key_source=None)
    session.add(row)
    session.flush()
    assert row.id is not None
    kept = {model.name: model for model in session.exec(select(Model).where(Model.provider_id == row.id))}
    for wanted in config.models:
        model = kept.pop(wanted.name, None) or Model(provider_id=row.id, name=wanted.name)
        _set(model, **wanted.model_dump(exclude={"name"}))
        session.add(model)
    for gone in kept.values():
        session.delete(gone)
    session.flush()
    return row


def save_base(session: Session, name: str, embedding: str = BUILTIN) -> KnowledgeBase:
    """A knowledge base; its documents are jobs/ingest.py's business.

    Raises ConfigError when the base holds documents that were embedded by another model.
    """
    row = by_name(session, KnowledgeBase, name)
    if row is None:
        row = KnowledgeBase(name=name, embedding=embedding)
    elif row.embedding != embedding:
        raise ConfigError(
            f"The knowledge base {name} was made with the embedding {row.embedding}. "
            f"Make a new base for {embedding}, or keep {row.embedding}."
        )
    session.add(row)
    session.flush()
    return row


def save_keyword_list(session: Session, config: ModerationConfig, keywords: Iterable[str] | None = None) -> KeywordList:
    """A list of forbidden words. keywords: those of `keywords_file`, where the caller has read it; else config's own."""
    words = list(dict.fromkeys(word.strip() for word in (config.keywords if keywords is None else keywords) if word.strip()))
    row = by_name(session, KeywordList, config.name) or KeywordList(name=config.name)
    if row.id is None or row.keywords != words or row.action != config.action:
        row.revision += 1
    _set(row, keywords=words, action=config.action)
    session.add(row)
    session.flush()
    return row


def save_bot_draft(session: Session, config: BotConfig) -> Bot:
    """A bot's draft; nothing that answers chat users changes before `publish`."""
    row = by_name(session, Bot, config.name) or Bot(name=config.name)
    draft = config.model_dump(mode="json")
    if row.draft != draft:
        _set(row, draft=draft, updated_at=utcnow())
    session.add(row)
    session.flush()
    return row


def publish(session: Session, bot: Bot, by: str, config: BotConfig | None = None) -> BotVersion:
    """The draft (or config, an older version's) becomes what answers. Nothing new when it already is.

    Raises ConfigError that names what the configuration refers to and does not exist.
    """
    config = config or BotConfig.model_validate(bot.draft)
    if missing := missing_references(session, config):
        names = ", ".join(f"{name} ({where})" for where, name in missing)
        raise ConfigError(f"The bot {bot.name} refers to what does not exist: {names}. Create it first, or take it out.")
    published = published_version(session, bot)
    wanted = config.model_dump(mode="json")
    if published is not None and published.config == wanted:
        return published
    last = session.exec(select(func.max(BotVersion.number)).where(BotVersion.bot_id == bot.id)).one()
    assert bot.id is not None
    version = BotVersion(bot_id=bot.id, number=(last or 0) + 1, config=wanted, created_by=by)
    session.add(version)
    session.flush()
    bot.published_version_id = version.id
    session.add(bot)
    session.flush()
    return version


def published_version(session: Session, bot: Bot) -> BotVersion | None:
    """What answers now; none before the first `publish`."""
    return session.get(BotVersion, bot.published_version_id) if bot.published_version_id else None


def bot_in_use(session: Session, name: str, locale: str = "en") -> BotConfig:
    """The bot called name as it answers now; its draft before it was ever published. Raises ConfigError for an unknown one."""
    bot = by_name(session, Bot, name)
    if bot is None:
        known = ", ".join(session.exec(select(Bot.name).order_by(Bot.name))) or "-"
        raise ConfigError(say("cli.no_bot", locale, name=name, known=known))
    version = published_version(session, bot)
    return BotConfig.model_validate(version.config if version else bot.draft)


def save_channel(
    session: Session,
    settings: Settings,
    config: ChannelConfig,
    keep_secrets: bool = False,
    kept_keys: Collection[str] = (),
) -> Channel:
    """A channel. Secrets that config leaves out go, unless keep_secrets; those named in kept_keys stay as they are stored.

    Raises ConfigError when the bot does not exist, the channel is of another kind, or a secret's source is empty.
    """
    bot = by_name(session, Bot, config.bot)
    if bot is None or bot.id is None:
        raise ConfigError(f"The channel {config.name} names the bot {config.bot}, which does not exist. Create it first.")
    row = by_name(session, Channel, config.name)
    if row is not None and row.kind != config.kind:
        raise ConfigError(f"The channel {config.name} is of the kind {row.kind}. Take another name for {config.kind}.")
    row = row or Channel(name=config.name, kind=config.kind, bot_id=bot.id)
    plain = {key: value for key, value in config.settings().items() if key not in CHANNEL_SECRETS}
    given = {
        key: str(value) for key, value in config.settings().items() if key in CHANNEL_SECRETS and value and key not in kept_keys
    }
    _set(row, bot_id=bot.id, config=plain, quiet_s=config.quiet_s, enabled=config.enabled)
    old = channel_secrets(row, settings)
    secrets = {key: value for key, value in old.items() if keep_secrets or key in kept_keys}
    sources = {key: value for key, value in (row.secret_sources or {}).items() if key in secrets}
    for key, reference in given.items():
        secrets[key], source = resolve(reference)
        sources.pop(key, None)
        if source:
            sources[key] = source
    if secrets != old:
        row.secrets = encrypt(json.dumps(secrets, ensure_ascii=False), settings.secret_key) if secrets else None
    _set(row, secret_sources=sources)
    session.add(row)
    session.flush()
    return row


def channel_secrets(channel: Channel, settings: Settings) -> dict[str, str]:
    """A channel's secrets, in clear. Raises ConfigError when SECRET_KEY has changed."""
    if not channel.secrets:
        return {}
    secrets: dict[str, str] = json.loads(decrypt(channel.secrets, settings.secret_key))
    return secrets


def debug_channel(session: Session, bot: Bot) -> Channel:
    """The channel on which the console's users talk to a bot's draft; made when first needed."""
    name = f"debug-{bot.id}"
    row = by_name(session, Channel, name)
    if row is None:
        assert bot.id is not None
        row = Channel(name=name, kind=DEBUG_KIND, bot_id=bot.id)
        session.add(row)
        session.flush()
    return row


def missing_references(session: Session, config: BotConfig) -> list[tuple[str, str]]:
    """What config names and does not exist, as (field, name): models, knowledge bases, keyword lists."""
    missing = []
    models = {
        f"{provider}/{model}"
        for provider, model in session.exec(
            select(Provider.name, Model.name)
            .join(Model, col(Model.provider_id) == col(Provider.id))
            .where(Model.kind == "chat")
        )
    }
    missing += [("model", name) for name in (config.model,) if name != BUILTIN and name not in models]
    missing += [("fallback_models", name) for name in config.fallback_models if name != BUILTIN and name not in models]
    bases = set(session.exec(select(KnowledgeBase.name)))
    missing += [("knowledge.bases", name) for name in config.knowledge.bases if name not in bases]
    lists = set(session.exec(select(KeywordList.name)))
    missing += [("moderation.lists", name) for name in config.moderation.lists if name not in lists]
    return missing


def _set(row: SQLModel, **values: Any) -> None:
    """Only what differs is set, so that an unchanged row is not written."""
    for key, value in values.items():
        if getattr(row, key) != value:
            setattr(row, key, value)


def _encrypted(secret: str, stored: str | None, settings: Settings) -> str:
    """secret as it is to be stored; the stored text itself where it is the same, since encryption never repeats itself."""
    if stored:
        try:
            if decrypt(stored, settings.secret_key) == secret:
                return stored
        except ConfigError:
            pass  # stored under another SECRET_KEY: write it anew
    return encrypt(secret, settings.secret_key)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> list[tuple[str, Any, Any]]:
    """What differs between two configurations, as (dotted key, before, after); none stands for "not there"."""
    found: list[tuple[str, Any, Any]] = []
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{path}{key}.")
        elif old != new:
            found.append((f"{path}{key}", old, new))
    return found
