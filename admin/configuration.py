"""A configuration file, read and checked: every problem at once, each with its line and what to do. Writes nothing."""

from __future__ import annotations

import difflib
import hashlib
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from admin.export import CONFIGURABLE_KINDS, Secret, Snapshot, Target, secret_keys
from admin.yaml_file import Where, YamlFile, read_yaml
from bot.config import BUILTIN, Configuration
from bot.errors import ConfigError
from bot.secrets import resolve
from bot.texts import say
from knowledge.errors import FetchError
from knowledge.fetch import judge_form

SECTIONS = ("providers", "knowledge", "moderation", "bots", "channels")
MAX_DOCUMENT_BYTES = 100_000_000
MAX_SOURCE_CHARS = 900  # of a document's path or address, which names its row


@dataclass(frozen=True)
class Wanted:
    """A configuration file without a fault.

    secrets: what each reference stands for. documents: (base, source) → SHA-256 ("" for a URL). moved: (base, source) →
    the source under which the rows still have that very file. notes: what the operator should know, none of it an error.
    """

    config: Configuration
    secrets: Mapping[Target, Secret]
    documents: Mapping[tuple[str, str], str]
    moved: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class Checks:
    """The problems found so far, and what the checks share. before: the rows; names in it may be referred to too."""

    file: YamlFile
    before: Snapshot
    prune: bool
    locale: str
    problems: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, where: Where, key: str, **values: object) -> None:
        sentence = self.file.problem(where, say(key, self.locale, **values))
        if (self.file.line(where), sentence) not in self.problems:
            self.problems.append((self.file.line(where), sentence))

    def items(self, section: str) -> Iterator[tuple[Where, dict[str, Any]]]:
        """The mappings of a section, well-formed or not."""
        for index, item in enumerate(_list(self.file.values, section)):
            if isinstance(item, dict):
                yield (section, index), item

    def names(self, section: str) -> set[str]:
        """What may be referred to: the file's own names, and the rows' unless those would be pruned."""
        names = {item["name"] for _, item in self.items(section) if isinstance(item.get("name"), str)}
        return names if self.prune else names | {item.name for item in getattr(self.before.config, section)}

    def models(self, kind: str) -> set[str]:
        """provider/model of a kind."""
        names = {
            f"{provider.get('name')}/{model.get('name')}"
            for _, provider in self.items("providers")
            for model in _list(provider, "models")
            if isinstance(model, dict) and isinstance(model.get("name"), str) and model.get("kind", "chat") == kind
        }
        if not self.prune:
            for provider in self.before.config.providers:
                names |= {f"{provider.name}/{model.name}" for model in provider.models if model.kind == kind}
        return names


def read_configuration(path: Path, before: Snapshot, prune: bool = False, locale: str = "en") -> Wanted:
    """The file at path, checked against itself and the rows. before: the rows as they are.

    Raises ConfigError, every problem on a line of its own as `FILE:LINE: key: sentence`.
    """
    checks = Checks(read_yaml(path, locale), before, prune, locale)
    config = _shape(checks)
    _check_names(checks)
    _check_references(checks)
    words = _check_keyword_files(checks)
    documents = _check_documents(checks)
    secrets = _check_channels(checks) | _check_providers(checks)
    if checks.problems or config is None:
        raise ConfigError("\n".join(sentence for _, sentence in sorted(checks.problems)))
    return Wanted(_as_stored(config, words), secrets, documents, _moved(before, documents), tuple(checks.notes))


def _as_stored(config: Configuration, words: Mapping[str, tuple[str, ...]]) -> Configuration:
    """config as the rows will say it, so that a second apply finds nothing to change. words: of keywords_file."""
    moderation = tuple(
        part.model_copy(update={"keywords": _distinct(words.get(part.name, part.keywords)), "keywords_file": None})
        for part in config.moderation
    )
    providers = tuple(part.model_copy(update={"base_url": part.base_url.rstrip("/")}) for part in config.providers)
    return config.model_copy(update={"moderation": moderation, "providers": providers})


def _distinct(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


def _shape(checks: Checks) -> Configuration | None:
    """The file as a Configuration, or none when keys or types are wrong."""
    if not isinstance(checks.file.values, dict):
        checks.refuse((), "cli.config.not_mapping")
        return None
    config: Configuration | None = _validate(checks, Configuration, checks.file.values, ())
    return config


def _validate(checks: Checks, model: type[Any], values: Any, where: Where) -> Any:
    """values as a model, or none. Strict: a number in quotes is text. By way of JSON, where lists make tuples."""
    try:
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            _refuse_shape(checks, model, where, problem)
        return None


TYPES = {
    "string_type": "cli.config.text",
    "int_type": "cli.config.whole",
    "int_from_float": "cli.config.whole",
    "float_type": "cli.config.number",
    "bool_type": "cli.config.bool",
    "tuple_type": "cli.config.list",
    "list_type": "cli.config.list",
    "model_type": "cli.config.mapping",
    "dict_type": "cli.config.mapping",
    "string_pattern_mismatch": "cli.config.pattern",
}
LIMITS = {
    "greater_than_equal": ("cli.config.at_least", "ge"),
    "less_than_equal": ("cli.config.at_most", "le"),
    "string_too_short": ("cli.config.too_short", "min_length"),
    "string_too_long": ("cli.config.too_long", "max_length"),
    "too_long": ("cli.config.too_many", "max_length"),
    "literal_error": ("cli.config.one_of", "expected"),
}


def _refuse_shape(checks: Checks, model: type[Any], where: Where, problem: Any) -> None:
    kind, path = problem["type"], (*where, *problem["loc"])
    if kind == "extra_forbidden":
        key, known = str(path[-1]), _known_keys(model, problem["loc"][:-1])
        near = difflib.get_close_matches(key, known, 1)
        if near:
            checks.refuse(path, "cli.config.unknown_key_near", near=near[0])
        else:
            checks.refuse(path, "cli.config.unknown_key", known=", ".join(known))
    elif kind == "missing":
        checks.refuse(path[:-1], "cli.config.missing", field=path[-1])
    elif kind == "string_pattern_mismatch" and path[-1] == "base_url":
        checks.refuse(path, "cli.config.base_url")
    elif kind in TYPES:
        checks.refuse(path, TYPES[kind])
    elif kind in LIMITS:
        key, limit = LIMITS[kind]
        checks.refuse(path, key, limit=str(problem["ctx"][limit]).replace("'", ""))
    else:
        checks.refuse(path, "cli.config.wrong", reason=problem["msg"])


def _known_keys(model: Any, path: Where) -> list[str]:
    """The keys of the mapping at path below a pydantic model."""
    for part in path:
        if isinstance(part, str):
            model = model.model_fields[part].annotation
        while get_origin(model) in (tuple, Union, types.UnionType):
            model = next((inner for inner in get_args(model) if inner not in (type(None), ...)), model)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _check_names(checks: Checks) -> None:
    """No name twice in a section, nor a model, document or question twice in its list."""
    for section in SECTIONS:
        _check_unique(checks, (section,), _list(checks.file.values, section), "name")
    for where, provider in checks.items("providers"):
        _check_unique(checks, (*where, "models"), _list(provider, "models"), "name")
    for where, base in checks.items("knowledge"):
        _check_unique(checks, (*where, "faqs"), _list(base, "faqs"), "question")


def _check_unique(checks: Checks, where: Where, items: list[Any], key: str) -> None:
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        name = item.get(key) if isinstance(item, dict) else None
        if isinstance(name, str):
            name = name.strip()
            if name in seen:
                checks.refuse((*where, index, key), "cli.config.twice", name=name, line=seen[name])
            seen.setdefault(name, checks.file.line((*where, index, key)))


def _check_references(checks: Checks) -> None:
    chat = checks.models("chat") | {BUILTIN}
    for where, bot in checks.items("bots"):
        _check_one(checks, (*where, "model"), bot.get("model"), chat, "models")
        for index, model in enumerate(_list(bot, "fallback_models")):
            _check_one(checks, (*where, "fallback_models", index), model, chat, "models")
        for index, base in enumerate(_list(bot.get("knowledge"), "bases")):
            _check_one(checks, (*where, "knowledge", "bases", index), base, checks.names("knowledge"), "knowledge")
        moderation = bot.get("moderation")
        for index, words in enumerate(_list(moderation, "lists")):
            _check_one(checks, (*where, "moderation", "lists", index), words, checks.names("moderation"), "moderation")
        if isinstance(moderation, dict):
            place = (*where, "moderation", "provider")
            _check_one(checks, place, moderation.get("provider"), checks.names("providers"), "providers")
    embeddings = checks.models("embedding") | {BUILTIN}
    existing = {base.name: base.embedding for base in checks.before.config.knowledge}
    for where, base in checks.items("knowledge"):
        embedding = base.get("embedding", BUILTIN)
        _check_one(checks, (*where, "embedding"), embedding, embeddings, "models")
        before = existing.get(str(base.get("name")), embedding)
        if before != embedding:
            checks.refuse((*where, "embedding"), "cli.config.embedding", name=base["name"], before=before, after=embedding)


def _check_one(checks: Checks, where: Where, name: Any, known: set[str], section: str) -> None:
    if not isinstance(name, str) or name in known:
        return
    near = difflib.get_close_matches(name, sorted(known), 1)
    if near:
        checks.refuse(where, "cli.config.no_such_near", name=name, near=near[0])
    else:
        checks.refuse(where, "cli.config.no_such", name=name, section="providers" if section == "models" else section)


def _check_keyword_files(checks: Checks) -> dict[str, tuple[str, ...]]:
    """list name → the words of its keywords_file, one a line."""
    words = {}
    for where, part in checks.items("moderation"):
        name, given = part.get("name"), part.get("keywords_file")
        if not isinstance(given, str):
            continue
        if part.get("keywords"):
            checks.refuse((*where, "keywords_file"), "cli.config.either", one="keywords", other="keywords_file")
        try:
            text = _beside(checks, given).read_text(encoding="utf-8-sig")
        except OSError as error:
            checks.refuse((*where, "keywords_file"), "cli.file.unreadable", path=given, reason=error.strerror)
        except UnicodeDecodeError:
            checks.refuse((*where, "keywords_file"), "cli.file.not_utf8")
        else:
            words[str(name)] = tuple(word.strip() for word in text.splitlines() if word.strip())
    return words


def _check_documents(checks: Checks) -> dict[tuple[str, str], str]:
    """(base, source) → SHA-256 of every document that the file names; "" for a URL, whose text is fetched later."""
    documents: dict[tuple[str, str], str] = {}
    for where, base in checks.items("knowledge"):
        for index, item in enumerate(_list(base, "documents")):
            place = (*where, "documents", index)
            if not isinstance(item, dict):
                continue
            path, url = item.get("path"), item.get("url")
            if (path is None) == (url is None):
                checks.refuse(place, "cli.config.exactly_one", one="path", other="url")
            elif isinstance(url, str):
                _check_document(checks, (*place, "url"), (str(base.get("name")), f"url:{url}"), documents)
            elif isinstance(path, str):
                source = f"path:{_beside(checks, path)}"
                _check_document(checks, (*place, "path"), (str(base.get("name")), source), documents)
    return documents


def _check_document(checks: Checks, where: Where, key: tuple[str, str], documents: dict[tuple[str, str], str]) -> None:
    kind, _, rest = key[1].partition(":")
    if key in documents:
        checks.refuse(where, "cli.config.document_twice")
        return
    documents[key] = ""
    if len(rest) > MAX_SOURCE_CHARS:
        checks.refuse(where, "cli.config.too_long", limit=MAX_SOURCE_CHARS)
        return
    if kind == "url":
        try:
            judge_form(rest)
        except FetchError:
            checks.refuse(where, "cli.config.url")
        return
    path = Path(rest)
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            checks.refuse(where, "cli.file.too_large", limit=MAX_DOCUMENT_BYTES // 1_000_000)
            return
        with path.open("rb") as file:
            documents[key] = hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError:
        checks.refuse(where, "cli.file.folder")
    except OSError as error:
        if key in checks.before.documents:  # it was read before: what is stored goes on answering
            documents[key] = checks.before.documents[key]
            checks.notes.append(checks.file.problem(where, say("cli.file.gone", checks.locale)))
        else:
            checks.refuse(where, "cli.file.unreadable", path=rest, reason=error.strerror)


def _moved(before: Snapshot, documents: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """(base, source) → the earlier source of the same file: the folder of everything was moved, nothing is to be read anew."""
    orphans = {
        (base, Path(source).name, sha256): source
        for (base, source), sha256 in before.documents.items()
        if source.startswith("path:") and (base, source) not in documents and not Path(source[5:]).exists()
    }
    fresh = {key: sha256 for key, sha256 in documents.items() if key not in before.documents and key[1].startswith("path:")}
    found = {key: orphans.pop((key[0], Path(key[1]).name, sha256), None) for key, sha256 in fresh.items()}
    return {key: source for key, source in found.items() if source}


def _check_channels(checks: Checks) -> dict[Target, Secret]:
    """Each channel's kind and its own keys. Returns its secrets."""
    from channels import KINDS

    secrets: dict[Target, Secret] = {}
    kinds = {channel.name: channel.kind for channel in checks.before.config.channels}
    for where, channel in checks.items("channels"):
        name, kind = str(channel.get("name")), channel.get("kind")
        _check_one(checks, (*where, "bot"), channel.get("bot"), checks.names("bots"), "bots")
        if not isinstance(kind, str):
            continue
        if kind not in KINDS:
            later = kind in CONFIGURABLE_KINDS
            known = ", ".join(kind for kind in CONFIGURABLE_KINDS if kind in KINDS)
            checks.refuse((*where, "kind"), "cli.config.kind_later" if later else "cli.config.kind", kind=kind, known=known)
            continue
        if kinds.get(name, kind) != kind:
            checks.refuse((*where, "kind"), "cli.config.kind_changed", before=kinds[name])
        common = ("name", "kind", "bot", "enabled", "quiet_s")
        own = {key: value for key, value in channel.items() if key not in common}
        _validate(checks, KINDS[kind].Config, own, where)
        for key in secret_keys(KINDS[kind]):
            if isinstance(own.get(key), str):
                _check_secret(checks, (*where, key), ("channels", name, key), own[key], secrets)
    return secrets


def _check_providers(checks: Checks) -> dict[Target, Secret]:
    secrets: dict[Target, Secret] = {}
    for where, provider in checks.items("providers"):
        if isinstance(provider.get("api_key"), str):
            target = ("providers", str(provider.get("name")), "api_key")
            _check_secret(checks, (*where, "api_key"), target, provider["api_key"], secrets)
    return secrets


def _check_secret(checks: Checks, where: Where, target: Target, reference: str, secrets: dict[Target, Secret]) -> None:
    """Resolve reference. One that resolves to nothing keeps the stored secret where an export would write it so."""
    stored = checks.before.secrets.get(target)
    if reference.startswith("file:"):
        reference = f"file:{_beside(checks, reference[5:])}"
    try:
        value, source = resolve(reference)
        secrets[target] = Secret(value, source, source or "")
    except ConfigError as error:
        if stored is not None and stored.value is not None and stored.reference == reference:
            secrets[target] = stored
        elif reference.startswith("env:"):
            checks.refuse(where, "cli.config.env", name=reference[4:])
        else:
            checks.refuse(where, "cli.file.unreadable", path=reference[5:], reason=str(error.__cause__ or error))


def _beside(checks: Checks, path: str) -> Path:
    """path as the file means it: relative to its own folder."""
    return (checks.file.path.parent / Path(path).expanduser()).resolve()


def _list(values: Any, key: str) -> list[Any]:
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, list) else []
