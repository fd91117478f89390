"""YAML read with the line of every key: plain values only, no duplicate keys, aliases bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bot.errors import ConfigError
from bot.texts import say

MAX_SIZE_BYTES = 20_000_000
MAX_DEPTH = 30
ALIAS_ALLOWANCE = 10_000  # values that aliases may add to those that are written out

Where = tuple[str | int, ...]
TAG = "tag:yaml.org,2002:"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader without dates, which a configuration has none of: 2026-01-31 stays text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{TAG}timestamp"]
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class YamlFile:
    """A file's values, and the line (from 1) of every key and list item by its path: ("bots", 0, "model") → 12."""

    path: Path
    values: Any
    lines: Mapping[Where, int]

    def line(self, where: Where) -> int:
        """The line of where, or of what surrounds it when it is not written itself."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)

    def problem(self, where: Where, sentence: str) -> str:
        """`FILE:LINE: key.path: sentence`."""
        key = self.key(where)
        return f"{self.path}:{self.line(where)}: {key + ': ' if key else ''}{sentence}"

    def key(self, where: Where) -> str:
        """where as a person reads it: bots[shop].model, by name where the item has one."""
        text, value = "", self.values
        for part in where:
            value = _child(value, part)
            if isinstance(part, int):
                name = value.get("name") if isinstance(value, dict) else None
                text += f"[{name if isinstance(name, str) else part}]"
            else:
                text += f".{part}" if text else part
        return text


def read_yaml(path: Path, locale: str = "en") -> YamlFile:
    """The file at path. Raises ConfigError, every problem on its own line as `FILE:LINE: …`."""
    text = _text(path, locale)
    try:
        written = _count(yaml.parse(text, Loader=Loader), path, locale)
        root = yaml.compose(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ConfigError(_syntax(error, path, locale)) from error
    if root is None:
        raise ConfigError(f"{path}:1: {say('cli.yaml.empty', locale)}")
    walk = _Walk(path, locale, budget=written + len(text) // 100 + ALIAS_ALLOWANCE)
    values = walk.value(root, ())
    file = YamlFile(path, values, walk.lines)
    if walk.problems:
        raise ConfigError("\n".join(f"{path}:{line}: {sentence}" for line, sentence in walk.problems))
    return file


@dataclass
class _Walk:
    """The composed nodes turned into values, with their lines; what may not be there is collected in `problems`.

    budget: how many more values may come, so that aliases of aliases of aliases end.
    """

    path: Path
    locale: str
    budget: int
    depth: int = 0
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def value(self, node: yaml.Node, where: Where) -> Any:
        self.budget -= 1 + (len(node.value) // 100 if isinstance(node, yaml.ScalarNode) else 0)
        if self.budget < 0 or self.depth > MAX_DEPTH:
            raise ConfigError(f"{self.path}:{_line(node)}: {say('cli.yaml.aliases', self.locale)}")
        self.depth += 1
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, where)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
                return [self._item(item, (*where, index)) for index, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self.depth -= 1

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if node.tag != f"{TAG}map":
            self._refuse(node, "cli.yaml.tag", tag=node.tag)
            return values
        for key_node, value_node in node.value:
            if key_node.tag == f"{TAG}merge":
                self._merge(value_node, where, values)
                continue
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key_node.tag != f"{TAG}str":
                self._refuse(key_node, "cli.yaml.key")
            elif key in values and self.lines.get((*where, key)) is not None:
                self._refuse(key_node, "cli.yaml.duplicate", field=key, line=self.lines[(*where, key)])
            else:
                self.lines[(*where, key)] = _line(key_node)
                values[key] = self.value(value_node, (*where, key))
        return values

    def _merge(self, node: yaml.Node, where: Where, values: dict[str, Any]) -> None:
        """`<<: *defaults`: keys that the mapping does not write itself. Their lines are the mapping's own."""
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                self._refuse(source, "cli.yaml.key")
                continue
            before = dict(self.lines)
            merged = self.value(source, where)
            self.lines = before
            for key, value in (merged or {}).items():
                values.setdefault(key, value)

    def _item(self, node: yaml.Node, where: Where) -> Any:
        self.lines[where] = _line(node)
        return self.value(node, where)

    def _scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(TAG)
        if kind in ("str", "value"):
            return node.value
        if kind not in ("null", "bool", "int", "float") or not isinstance(node, yaml.ScalarNode):
            self._refuse(node, "cli.yaml.tag", tag=node.tag)
            return None
        try:
            value = CONSTRUCT[kind](_CONSTRUCTOR, node)
        except (ValueError, KeyError):  # !!int abc, !!bool perhaps
            self._refuse(node, "cli.yaml.tag", tag=node.tag)
            return None
        if isinstance(value, float) and value - value != 0:  # .nan and .inf are not amounts of anything
            self._refuse(node, "cli.yaml.tag", tag=node.value)
            return None
        return value

    def _refuse(self, node: yaml.Node, key: str, **values: object) -> None:
        self.problems.append((_line(node), say(key, self.locale, **values)))


_CONSTRUCTOR = yaml.constructor.SafeConstructor()
CONSTRUCT = {
    "null": yaml.constructor.SafeConstructor.construct_yaml_null,
    "bool": yaml.constructor.SafeConstructor.construct_yaml_bool,
    "int": yaml.constructor.SafeConstructor.construct_yaml_int,
    "float": yaml.constructor.SafeConstructor.construct_yaml_float,
}


def _text(path: Path, locale: str) -> str:
    try:
        if path.stat().st_size > MAX_SIZE_BYTES:
            raise ConfigError(say("cli.yaml.too_large", locale, path=path, limit=MAX_SIZE_BYTES // 1_000_000))
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(say("cli.file.unreadable", locale, path=path, reason=error.strerror)) from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: {say('cli.file.not_utf8', locale)}") from error


def _count(events: Iterator[yaml.Event], path: Path, locale: str) -> int:
    """How many values are written out. Refuses deep nesting before the recursive composer meets it."""
    count = depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError(f"{path}:{line}: {say('cli.yaml.deep', locale, limit=MAX_DEPTH)}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        count += 1
    return count


def _syntax(error: yaml.YAMLError, path: Path, locale: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "?"
    return f"{path}:{mark.line + 1 if mark else 1}: {say('cli.yaml.syntax', locale, reason=reason)}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _child(value: Any, part: str | int) -> Any:
    if isinstance(part, int):
        return value[part] if isinstance(value, list) and part < len(value) else None
    return value.get(part) if isinstance(value, dict) else None
