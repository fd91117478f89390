"""The form of a bot's draft: form fields ⇄ BotConfig, and what is wrong with them in the operator's language.

A field is named as its key in the configuration file, with dots: `knowledge.top_k`, `suggested_questions.0`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from werkzeug.datastructures import MultiDict

from admin.page import t
from bot.config import BotConfig
from bot.texts import CATALOGUE

TEXTS = ("title", "avatar", "language", "model", "prompt", "opening", "moderation.on_block", "handoff.message")
NUMBERS = (
    "temperature", "max_tokens", "followups.count", "memory.recent_turns", "knowledge.top_k", "knowledge.min_score",
)  # fmt: skip
CHOICES = ("knowledge.when_empty", "moderation.check")
SWITCHES = ("followups.enabled", "memory.summary", "memory.facts", "knowledge.cite", "handoff.enabled")
MANY = ("knowledge.bases", "moderation.lists")
LINES = ("image_hosts", "handoff.keywords")
NUMBERED = ("suggested_questions", "fallback_models")
OPTIONAL = ("avatar", "max_tokens")


def read_form(form: MultiDict[str, str], draft: Mapping[str, Any]) -> dict[str, Any]:
    """draft with what the form says; keys that the form does not have stay."""
    values = copy.deepcopy(dict(draft))
    for key in (*TEXTS, *CHOICES):
        if key in form:
            _put(values, key, form[key].replace("\r\n", "\n").strip())
    for key in NUMBERS:
        if key in form:
            _put(values, key, form[key].strip())
    for key in SWITCHES:
        _put(values, key, key in form)
    for key in MANY:
        _put(values, key, form.getlist(key))
    for key in LINES:
        if key in form:
            _put(values, key, [part.strip() for part in re.split(r"[\n,，、]", form[key]) if part.strip()])
    for key in NUMBERED:
        given = [form[name].strip() for name in sorted(form, key=_number) if name.startswith(f"{key}.")]
        _put(values, key, list(dict.fromkeys(text for text in given if text)))
    for key in OPTIONAL:
        if not get(values, key):
            _put(values, key, None)
    return values


def check(values: Mapping[str, Any]) -> tuple[BotConfig | None, dict[str, str]]:
    """The configuration, or none and what is wrong by field."""
    try:
        return BotConfig.model_validate(values), {}
    except ValidationError as error:
        return None, problems(error)


def problems(error: ValidationError) -> dict[str, str]:
    """A sentence for each wrong field, by its dotted name."""
    found: dict[str, str] = {}
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        key = f"wrong.{problem['type']}"
        if f"console.{key}" not in CATALOGUE:
            key = "wrong.other"
        found.setdefault(name, t(key, **{"limit": "", **_limits(problem.get("ctx", {}))}))
    return found


def _limits(context: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("max_length", "min_length", "ge", "le", "gt", "lt"):
        if key in context:
            return {"limit": int(context[key]) if context[key] == int(context[key]) else context[key]}
    return {}


def get(values: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """values at a dotted key; default where there is nothing."""
    found: Any = values
    for part in key.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, list | tuple) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return default
    return default if found is None else found


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def _number(name: str) -> tuple[str, int]:
    base, _, last = name.rpartition(".")
    return (base, int(last)) if last.isdecimal() else (name, -1)
