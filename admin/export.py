"""The rows as the configuration file that would make them: what `flask export` prints and `flask apply` compares with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from sqlmodel import Session, col, func, select

from admin.store import CHANNEL_SECRETS, channel_secrets, published_version
from bot.config import (
    BUILTIN,
    BotConfig,
    ChannelConfig,
    Configuration,
    DocumentConfig,
    FaqConfig,
    KnowledgeConfig,
    ModelConfig,
    ModerationConfig,
    ProviderConfig,
)
from bot.errors import ConfigError
from bot.secrets import decrypt
from bot.settings import Settings
from bot.tables import Bot, Channel, Document, KeywordList, KnowledgeBase, Model, Provider
from bot.texts import say

# Kinds of channels that the configuration file knows. Others (the API's, the console's) the program makes for itself.
CONFIGURABLE_KINDS = ("web", "wechat_oa", "wecom_app", "wecom_kf", "wecom_aibot", "telegram")

Target = tuple[str, str, str]  # section, name, key: ("providers", "main", "api_key")


@dataclass(frozen=True)
class Secret:
    """A secret. source: `env:NAME` or `file:PATH` where it came from, none for one that was written out.

    reference: what an export writes for it. value: none where it cannot be decrypted any more.
    """

    value: str | None
    source: str | None
    reference: str

    def __repr__(self) -> str:
        return f"Secret({self.reference})"


@dataclass(frozen=True)
class Snapshot:
    """What the rows say. documents: (base, source) → SHA-256, or "" where it was not read yet.

    others: per base, how many documents no configuration file can name (uploads, rows).
    """

    config: Configuration
    secrets: Mapping[Target, Secret]
    documents: Mapping[tuple[str, str], str]
    others: Mapping[str, int]


def snapshot(session: Session, settings: Settings) -> Snapshot:
    """The whole configuration as it stands: bots as published (the draft of those that never were)."""
    secrets: dict[Target, Secret] = {}
    config = Configuration(
        providers=tuple(_provider(session, row, settings, secrets) for row in session.exec(_ordered(Provider))),
        knowledge=tuple(_base(session, row) for row in session.exec(_ordered(KnowledgeBase))),
        moderation=tuple(
            ModerationConfig(name=row.name, keywords=tuple(row.keywords), action=row.action)
            for row in session.exec(_ordered(KeywordList))
        ),
        bots=tuple(_bot(session, row) for row in session.exec(_ordered(Bot))),
        channels=tuple(
            _channel(session, row, settings, secrets)
            for row in session.exec(_ordered(Channel))
            if row.kind in CONFIGURABLE_KINDS
        ),
    )
    documents, others = _documents(session)
    return Snapshot(config, secrets, documents, others)


def only_bot(config: Configuration, name: str, locale: str = "en") -> Configuration:
    """config cut down to one bot, what it needs, and its channels. Raises ConfigError when there is no such bot."""
    bots = tuple(bot for bot in config.bots if bot.name == name)
    if not bots:
        known = ", ".join(bot.name for bot in config.bots) or "-"
        raise ConfigError(say("cli.no_bot", locale, name=name, known=known))
    bases = tuple(base for base in config.knowledge if base.name in bots[0].knowledge.bases)
    models = {bots[0].model, *bots[0].fallback_models, *(base.embedding for base in bases)} - {BUILTIN}
    providers = {model.split("/", 1)[0] for model in models} | {bots[0].moderation.provider}
    return Configuration(
        providers=tuple(provider for provider in config.providers if provider.name in providers),
        knowledge=bases,
        moderation=tuple(words for words in config.moderation if words.name in bots[0].moderation.lists),
        bots=bots,
        channels=tuple(channel for channel in config.channels if channel.bot == name),
    )


def to_yaml(config: Configuration, others: Mapping[str, int] = {}, locale: str = "en") -> str:
    """config as a file that `flask apply` takes: keys in the documented order, defaults left out."""
    values: dict[str, Any] = {"version": 1}
    values.update(config.model_dump(mode="json", exclude_defaults=True, exclude={"version", "channels"}))
    if config.channels:
        values["channels"] = [_first(channel.model_dump(mode="json", exclude_defaults=True)) for channel in config.channels]
    text: str = yaml.dump(values, Dumper=Dumper, allow_unicode=True, sort_keys=False, width=120)
    left = {base.name: others[base.name] for base in config.knowledge if others.get(base.name)}
    if left:
        counts = ", ".join(f"{name}: {count}" for name, count in left.items())
        text = f"# {say('cli.export.others', locale, counts=counts)}\n{text}"
    return text


class Dumper(yaml.SafeDumper):
    """Long texts as blocks, lists of short items indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless  # lists stand indented below their key, never beside it
        super().increase_indent(flow, False)


UNSEEN = "\r\x85\u2028\u2029\ufeff"  # line ends that a YAML reader turns into another: written as escapes


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if any(char in text for char in UNSEEN):
        style: str | None = '"'
    else:
        style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _represent_text)


def _first(values: dict[str, Any]) -> dict[str, Any]:
    """name and kind before the rest."""
    return {key: values[key] for key in ("name", "kind", "bot") if key in values} | values


def _ordered(table: Any) -> Any:
    return select(table).order_by(table.id)


def _provider(session: Session, row: Provider, settings: Settings, secrets: dict[Target, Secret]) -> ProviderConfig:
    reference = None
    if row.api_key:
        reference = row.api_key_source or f"env:{environment_name(row.name, 'api_key')}"
        secrets["providers", row.name, "api_key"] = Secret(_clear(row.api_key, settings), row.api_key_source, reference)
    models = session.exec(select(Model).where(Model.provider_id == row.id).order_by(col(Model.id)))
    return ProviderConfig(
        name=row.name,
        base_url=row.base_url,
        api_key=reference,
        weight=row.weight,
        models=tuple(ModelConfig(**{name: getattr(model, name) for name in ModelConfig.model_fields}) for model in models),
    )


def environment_name(name: str, key: str) -> str:
    """The environment variable that stands for a secret that came from none: main, api_key → MAIN_API_KEY."""
    text = re.sub(r"[^A-Z0-9]+", "_", f"{name}_{key}".upper()).strip("_")
    return text if text[0].isalpha() else f"K_{text}"


def _clear(stored: str, settings: Settings) -> str | None:
    try:
        return decrypt(stored, settings.secret_key)
    except ConfigError:
        return None  # `flask doctor` says so; an export needs only the reference


def _base(session: Session, row: KnowledgeBase) -> KnowledgeConfig:
    sources = session.exec(
        select(Document.source, Document.question, Document.text)
        .where(Document.base_id == row.id)
        .where(~col(Document.source).startswith("row:") & ~col(Document.source).startswith("file:"))
        .order_by(col(Document.created_at), col(Document.id))
    ).all()
    return KnowledgeConfig(
        name=row.name,
        embedding=row.embedding,
        documents=tuple(document for source, _, _ in sources if (document := document_config(source))),
        faqs=tuple(FaqConfig.model_construct(question=q, answer=text) for _, q, text in sources if q and text),
    )


def document_config(source: str) -> DocumentConfig | None:
    """The line of a configuration file that names a document, or none for those that a file cannot name."""
    kind, _, rest = source.partition(":")
    if kind == "path":
        return DocumentConfig(path=rest)
    return DocumentConfig(url=rest) if kind == "url" else None


def _documents(session: Session) -> tuple[dict[tuple[str, str], str], dict[str, int]]:
    joined = select(KnowledgeBase.name, Document.source, Document.sha256).join(
        Document, col(Document.base_id) == col(KnowledgeBase.id)
    )
    nameable = col(Document.source).startswith("path:") | col(Document.source).startswith("url:")
    documents = {(base, source): sha256 for base, source, sha256 in session.exec(joined.where(nameable))}
    counted = session.exec(
        select(KnowledgeBase.name, func.count())
        .join(Document, col(Document.base_id) == col(KnowledgeBase.id))
        .where(col(Document.source).startswith("row:") | col(Document.source).startswith("file:"))
        .group_by(col(KnowledgeBase.name))
    )
    return documents, dict(counted.all())


def _bot(session: Session, row: Bot) -> BotConfig:
    version = published_version(session, row)
    return BotConfig.model_validate(version.config if version else row.draft)


def _channel(session: Session, row: Channel, settings: Settings, secrets: dict[Target, Secret]) -> ChannelConfig:
    bot = session.get(Bot, row.bot_id)
    assert bot is not None  # a foreign key says so
    try:
        values: Mapping[str, str | None] = channel_secrets(row, settings)
    except ConfigError:
        values = dict.fromkeys(row.secret_sources or {})  # stored under another SECRET_KEY
    references = {}
    for key, value in values.items():
        source = (row.secret_sources or {}).get(key)
        references[key] = source or f"env:{environment_name(row.name, key)}"
        secrets["channels", row.name, key] = Secret(value, source, references[key])
    common: dict[str, Any] = {"name": row.name, "kind": row.kind, "bot": bot.name}
    return ChannelConfig(**common, enabled=row.enabled, quiet_s=row.quiet_s, **(row.config | references))


def secret_keys(kind: Any) -> Iterable[str]:
    """The keys of a channel kind's module that are secrets."""
    return CHANNEL_SECRETS | frozenset(getattr(kind, "SECRET_KEYS", ()))
