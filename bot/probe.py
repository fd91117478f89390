"""Tries an endpoint once and says in words what to mend."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bot.endpoint import Endpoint, Timeouts
from bot.errors import ModelError
from bot.texts import say

if TYPE_CHECKING:
    from bot.llm import Llm

PATIENCE = Timeouts(connect_s=5.0, first_token_s=20.0, between_tokens_s=20.0)
_STATUS = {401: "unauthorised", 403: "unauthorised", 404: "not_found", 405: "not_found", 402: "rate_limited"}
_CODE = {"timeout": "timeout", "unreachable": "unreachable", "rate_limited": "rate_limited", "unusable": "unusable"}


@dataclass(frozen=True)
class Probe:
    """ok: the endpoint works. text: a sentence for the operator. dim: of an embedding model, its vectors' length."""

    ok: bool
    text: str
    dim: int | None = None


def probe(llm: Llm, endpoint: Endpoint, locale: str = "zh", kind: str = "chat") -> Probe:
    """Ask the endpoint for a word, or with kind `embedding` for a vector. Never raises ModelError."""
    started = time.perf_counter()
    dim = None
    try:
        if kind == "embedding":
            dim = len(llm.embed(endpoint, ["ping"], PATIENCE)[0])
        else:
            _say_something(llm, endpoint)
    except ModelError as error:
        return Probe(False, _what_to_mend(error, endpoint, locale))
    return Probe(True, say("probe.ok", locale, model=endpoint.model, ms=round((time.perf_counter() - started) * 1000)), dim)


def _say_something(llm: Llm, endpoint: Endpoint) -> None:
    asked = [{"role": "user", "content": "Say: ok"}]
    stream = llm.chat([[endpoint]], asked, max_tokens=64, timeouts=PATIENCE, attempts=1)
    try:
        for _ in stream:
            pass
    except ModelError:
        if stream.outcome.finish != "length":  # a model that reasons may use them all up before its first word: it works
            raise


def _what_to_mend(error: ModelError, endpoint: Endpoint, locale: str) -> str:
    key = _STATUS.get(error.status or 0) or _CODE.get(error.code, "refused")
    if error.status is not None and error.status >= 500:
        key = "refused"
    host = urlsplit(endpoint.base_url).netloc or endpoint.base_url
    return say(f"probe.{key}", locale, model=endpoint.model, host=host.rpartition("@")[2], detail=str(error))
