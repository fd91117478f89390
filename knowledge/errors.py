"""What can be wrong with a document or an address, as a key of the catalogue with values: told in the operator's language."""

from __future__ import annotations

import json

from bot.errors import BotError
from bot.texts import say


class DocumentError(BotError):
    """A document cannot be read. key and values: a sentence of `bot/texts.py`'s KNOWLEDGE."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(say(key, "en", **values))
        self.key = key
        self.values = values

    def stored(self) -> str:
        """As kept in Document.error."""
        return json.dumps({"key": self.key, "values": self.values}, ensure_ascii=False)


class FetchError(DocumentError):
    """An address cannot be fetched. permanent: trying again later will not help."""

    def __init__(self, key: str, permanent: bool = True, **values: object) -> None:
        super().__init__(key, **values)
        self.permanent = permanent


def explain_error(stored: str | None, locale: str) -> str:
    """The sentence for what is kept in Document.error; empty for none."""
    if not stored:
        return ""
    error = json.loads(stored)
    return say(error["key"], locale, **error["values"])
