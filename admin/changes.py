"""What a configuration file changes in the rows: first as lines to read, then as writes in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, update
from sqlmodel import Session, col, select

from admin.configuration import Wanted
from admin.export import Secret, Snapshot
from admin.store import (
    by_name,
    publish,
    save_base,
    save_bot_draft,
    save_channel,
    save_keyword_list,
    save_provider,
)
from bot.config import ChannelConfig, Configuration, ProviderConfig, Section
from bot.errors import ConfigError
from bot.settings import Settings
from bot.tables import ApiKey, Bot, BotVersion, Channel, Conversation, Document, KeywordList, KnowledgeBase, Model, Provider
from bot.texts import say
from jobs import ingest

LONGEST_CHARS = 60  # of a value

Key = tuple[str, ...]  # section, name, and the way to a value: ("bots", "shop", "memory", "summary")


@dataclass(frozen=True)
class Content:
    """A document's content. sha256: "" for a URL, whose content is not compared."""

    sha256: str


@dataclass(frozen=True)
class Moved:
    """A document whose file is the same and lies elsewhere. source: its row's, until now."""

    source: str


@dataclass(frozen=True)
class Change:
    """One line of the diff. sign: + ~ -."""

    sign: str
    key: Key
    before: Any
    after: Any

    def line(self, locale: str) -> str:
        """The change as a person reads it; never a secret."""
        name = f"{self.key[0]}[{self.key[1]}]" + "".join(
            f"[{_on_a_line(part) if 'faqs' in self.key[2:3] else part}]" if is_thing(self.key[:size]) else f".{part}"
            for size, part in enumerate(self.key[2:], 3)
        )
        if isinstance(self.before, Moved):
            return f"~ {name} {say('cli.apply.moved', locale, path=self.before.source.removeprefix('path:'))}"
        before, after = _shown(self.before), _shown(self.after)
        if isinstance(self.before, Secret) and isinstance(self.after, Secret) and before == after:
            return f"~ {name}: {after} {say('cli.apply.changed', locale)}"
        if isinstance(self.after, Content) and self.sign == "~":
            return f"~ {name} {say('cli.apply.content', locale)}"
        if self.sign == "~":
            return f"~ {name}: {before} → {after}"
        value = after if self.sign == "+" else before
        return f"{self.sign} {name}: {value}" if value else f"{self.sign} {name}"


LISTS = {("providers", "models"), ("knowledge", "documents"), ("knowledge", "faqs")}  # keys whose items are told by name


def is_thing(key: Key) -> bool:
    """Whether key names something that is there or not, rather than one of its values."""
    return len(key) == 2 or (len(key) == 4 and (key[0], key[2]) in LISTS)


def changes(before: Snapshot, wanted: Wanted, prune: bool) -> list[Change]:
    """What applying wanted would change, in the order of the file; removals last."""
    old, new = _values(before), _values(wanted)
    for (base, source), earlier in wanted.moved.items():
        del old["knowledge", base, "documents", earlier.partition(":")[2]]
        old["knowledge", base, "documents", source.partition(":")[2]] = Moved(earlier)
    defaults = _defaults(wanted.config)
    found = []
    for key, after in new.items():
        if key not in old:
            if is_thing(key) or after not in (defaults.get(_shape(key)), None):
                found.append(Change("+", key, None, after))
        elif not _same(old[key], after):
            found.append(Change("~", key, old[key], after))
    places = {thing: place for place, thing in enumerate(dict.fromkeys(key[:2] for key in new))}
    found.sort(key=lambda change: places[change.key[:2]])  # a secret beside what it belongs to
    removed = [key for key in old if key not in new and _goes(key, new, prune)]
    shortest = [key for key in removed if not any(key[:size] in removed for size in range(2, len(key)))]
    return found + [Change("-", key, old[key], None) for key in shortest]


def _goes(key: Key, new: Mapping[Key, Any], prune: bool) -> bool:
    """Whether what the file does not say goes: things only when pruned, the optional keys of what it names always."""
    for size in range(2, len(key) + 1):
        if is_thing(key[:size]) and key[:size] not in new:
            return prune
    return True


def _values(said: Snapshot | Wanted) -> dict[Key, Any]:
    """Every value by its key. Things (a bot, a model, a document) have an entry of their own, with no value."""
    config, secrets, documents = said.config, said.secrets, said.documents
    values: dict[Key, Any] = {}
    for provider in config.providers:
        _put(values, ("providers", provider.name), provider, leave=("name", "models", "api_key"))
        for model in provider.models:
            _put(values, ("providers", provider.name, "models", model.name), model, leave=("name",))
    for base in config.knowledge:
        _put(values, ("knowledge", base.name), base, leave=("name", "documents", "faqs"))
        for faq in base.faqs:
            values["knowledge", base.name, "faqs", faq.question.strip()] = faq.answer
    for (name, source), sha256 in documents.items():
        values["knowledge", name, "documents", source.partition(":")[2]] = Content(sha256)
    for words in config.moderation:
        _put(values, ("moderation", words.name), words, leave=("name", "keywords_file"))
    for bot in config.bots:
        _put(values, ("bots", bot.name), bot, leave=("name",))
    for channel in config.channels:
        hidden = tuple(key for section, name, key in secrets if (section, name) == ("channels", channel.name))
        _put(values, ("channels", channel.name), channel, leave=("name", *hidden))
    for target, secret in secrets.items():
        values[target] = secret
    return values


def _put(values: dict[Key, Any], key: Key, part: Section, leave: tuple[str, ...]) -> None:
    values[key] = None
    _flatten(values, key, part.model_dump(mode="json", exclude=set(leave)))


def _flatten(values: dict[Key, Any], key: Key, mapping: Mapping[str, Any]) -> None:
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            _flatten(values, (*key, name), value)
        else:
            values[*key, name] = value


def _shape(key: Key) -> Key:
    """key without the names of things, to look up its default."""
    return tuple(part for size, part in enumerate(key, 1) if not is_thing(key[:size]))


def _defaults(config: Configuration) -> dict[Key, Any]:
    """What keys mean when they are left out, by _shape."""
    values: dict[Key, Any] = {}
    for section in ("providers", "knowledge", "moderation", "bots", "channels"):
        for item in getattr(config, section):
            for name, info in type(item).model_fields.items():
                default = info.get_default(call_default_factory=True, validated_data={})
                if isinstance(default, Section):
                    _flatten(values, (section, name), default.model_dump(mode="json"))
                elif not info.is_required():
                    values[section, name] = list(default) if isinstance(default, tuple) else default
            for model in getattr(item, "models", ()):
                for name, info in type(model).model_fields.items():
                    if not info.is_required():
                        values["providers", "models", name] = info.default
    return values


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Secret) and isinstance(after, Secret):
        # A reference that an export made up for a secret without a source stands for that very secret.
        return before.value == after.value and after.source in (before.source, before.reference)
    if isinstance(before, Content) and isinstance(after, Content):
        return not after.sha256 or before.sha256 == after.sha256
    return bool(before == after)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, Content):
        return ""
    if isinstance(value, Secret):
        return value.source or "••••"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return _on_a_line(text)


def _on_a_line(text: str) -> str:
    text = "⏎".join(text.splitlines()) + ("⏎" if text.endswith("\n") else "")
    return text if len(text) <= LONGEST_CHARS else text[: LONGEST_CHARS - 1] + "…"


@dataclass
class Aftermath:
    """What is left to do after the commit. queued: documents to be read. gone: what deleted ones leave outside the rows."""

    queued: int = 0
    gone: list[ingest.Gone] = field(default_factory=list)


# --- writing ---------------------------------------------------------------------------------------------------------


def write(
    session: Session, settings: Settings, before: Snapshot, wanted: Wanted, found: list[Change], *, by: str = "apply"
) -> Aftermath:
    """Make the rows what found says. The caller commits, then has the documents read. by: who publishes bots.

    Raises ConfigError when a reference or a file does not hold after all; nothing is committed then.
    """
    aftermath = Aftermath()
    touched = {change.key[:2] for change in found}
    for provider in wanted.config.providers:
        if ("providers", provider.name) in touched:
            _write_provider(session, settings, before, wanted, provider, found=found)
    for base in wanted.config.knowledge:
        key: Key = ("knowledge", base.name)
        if key in touched:
            row = save_base(session, base.name, base.embedding)
            _write_documents(session, settings, row, wanted, [change for change in found if change.key[:2] == key], aftermath)
    for words in wanted.config.moderation:
        if ("moderation", words.name) in touched:
            save_keyword_list(session, words)
    for bot in wanted.config.bots:
        if ("bots", bot.name) in touched:
            publish(session, save_bot_draft(session, bot), by)
    for channel in wanted.config.channels:
        if ("channels", channel.name) in touched:
            _write_channel(session, settings, before, wanted, channel)
    gone = [change.key for change in found if change.sign == "-" and len(change.key) == 2]
    for section in ("channels", "bots", "moderation", "knowledge", "providers"):  # what refers before what it refers to
        for gone_section, name in gone:
            if gone_section == section:
                _remove(session, section, name, aftermath)
    return aftermath


def _write_documents(
    session: Session, settings: Settings, base: KnowledgeBase, wanted: Wanted, found: list[Change], aftermath: Aftermath
) -> None:
    sources = {source.partition(":")[2]: source for name, source in wanted.documents if name == base.name}
    for change in found:
        if not is_thing(change.key) or len(change.key) == 2:
            continue
        _, _, kind, name = change.key
        if isinstance(change.before, Moved):
            row = session.exec(
                select(Document).where(Document.base_id == base.id, Document.source == change.before.source)
            ).one()
            row.source = sources[name]
            session.add(row)
        elif change.sign == "-":
            for source in (f"faq:{name}",) if kind == "faqs" else (f"path:{name}", f"url:{name}"):
                _drop(session, base, source, name if kind == "faqs" else None, aftermath)
        elif kind == "faqs":
            aftermath.queued += ingest.put_faq(session, base, name, change.after).queued
        elif sources[name].startswith("url:"):
            aftermath.queued += ingest.put_url(session, base, name).queued
        else:
            try:
                blob = Path(name).read_bytes()
            except OSError as error:  # gone since it was checked
                raise ConfigError(f"{name}: {error.strerror}. Put it back, then apply again.") from error
            aftermath.queued += ingest.put_file(session, settings, base, Path(name).name, blob, source=sources[name]).queued


def _drop(session: Session, base: KnowledgeBase, source: str, question: str | None, aftermath: Aftermath) -> None:
    named = Document.source == source if question is None else Document.question == question
    for document in session.exec(select(Document).where(Document.base_id == base.id).where(named)):
        aftermath.gone.append(ingest.drop_document(session, document))


def _write_provider(
    session: Session, settings: Settings, before: Snapshot, wanted: Wanted, provider: ProviderConfig, *, found: list[Change]
) -> None:
    target = ("providers", provider.name, "api_key")
    secret, stored = wanted.secrets.get(target), before.secrets.get(target)
    kept = secret is not None and stored is not None and _same(stored, secret)
    gone = {change.key[3] for change in found if change.sign == "-" and change.key[:3] == (*target[:2], "models")}
    named = {model.name for model in provider.models}
    others = tuple(
        model
        for old in before.config.providers
        if old.name == provider.name
        for model in old.models
        if model.name not in named | gone
    )
    reference = None if kept or secret is None else (secret.source or secret.value)
    config = provider.model_copy(update={"api_key": reference, "models": (*provider.models, *others)})
    save_provider(session, settings, config, keep_key=kept)


def _write_channel(session: Session, settings: Settings, before: Snapshot, wanted: Wanted, channel: ChannelConfig) -> None:
    kept, given = [], {}
    for (section, name, key), secret in wanted.secrets.items():
        if (section, name) == ("channels", channel.name):
            stored = before.secrets.get((section, name, key))
            if stored is not None and _same(stored, secret):
                kept.append(key)
            given[key] = secret.source or secret.value
    save_channel(session, settings, channel.model_copy(update=given), kept_keys=kept)


def _remove(session: Session, section: str, name: str, aftermath: Aftermath) -> None:
    connection = session.connection()
    if section == "channels":
        connection.execute(delete(Channel).where(col(Channel.name) == name))
    elif section == "bots":
        bot = by_name(session, Bot, name)
        if bot is not None:
            connection.execute(delete(Channel).where(col(Channel.bot_id) == bot.id))  # the program's own, as the API's
            connection.execute(delete(ApiKey).where(col(ApiKey.bot_id) == bot.id))
            connection.execute(update(Bot).where(col(Bot.id) == bot.id).values(published_version_id=None))
            connection.execute(delete(BotVersion).where(col(BotVersion.bot_id) == bot.id))
            connection.execute(delete(Bot).where(col(Bot.id) == bot.id))
    elif section == "moderation":
        connection.execute(delete(KeywordList).where(col(KeywordList.name) == name))
    elif section == "knowledge":
        base = by_name(session, KnowledgeBase, name)
        if base is not None:
            for document in session.exec(select(Document).where(Document.base_id == base.id)).all():
                aftermath.gone.append(ingest.drop_document(session, document))
            session.flush()
            session.delete(base)
            session.flush()
    elif section == "providers":
        provider = by_name(session, Provider, name)
        if provider is not None:
            connection.execute(delete(Model).where(col(Model.provider_id) == provider.id))
            connection.execute(delete(Provider).where(col(Provider.id) == provider.id))


def conversations_of(session: Session, channel: str) -> int:
    """How many conversations go when the channel goes."""
    joined = select(func.count()).select_from(Conversation).join(Channel, col(Channel.id) == col(Conversation.channel_id))
    return session.exec(joined.where(Channel.name == channel)).one()
