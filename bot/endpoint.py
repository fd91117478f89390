"""Where a model is reached, how long it is waited for, and what is known of an answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.types import Usage


@dataclass(frozen=True)
class Timeouts:
    """Seconds. between_tokens_s holds for anything that shows life, reasoning too."""

    connect_s: float = 5.0
    first_token_s: float = 30.0
    between_tokens_s: float = 30.0


USUAL = Timeouts()
SHORT = Timeouts(connect_s=3.0, first_token_s=8.0, between_tokens_s=8.0)  # for steps that may be left out


@dataclass(frozen=True)
class Endpoint:
    """One model at one provider. context in tokens; prices per million tokens."""

    provider: str
    base_url: str
    api_key: str = field(repr=False)
    model: str
    context: int = 32000
    price_in: float = 0.0
    price_out: float = 0.0
    weight: int = 1

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


BUILTIN = Endpoint(provider="builtin", base_url="", api_key="", model="builtin")
Groups = Sequence[Sequence[Endpoint]]  # the primary model's providers, then those of each fallback model


@dataclass
class Outcome:
    """What is known of a chat once it ended, however it ended."""

    endpoint: Endpoint | None = None
    finish: str = "stop"  # stop, length or filtered
    usage: Usage = field(default_factory=Usage)
    estimated: bool = True  # the endpoint did not tell the usage
    first_token_ms: float | None = None
    malformed: int = 0  # chunks that could not be read
    attempts: list[dict[str, Any]] = field(default_factory=list)  # what failed on the way, for the trace

    @property
    def cost(self) -> float:
        if self.endpoint is None:
            return 0.0
        paid = self.usage.prompt_tokens * self.endpoint.price_in + self.usage.completion_tokens * self.endpoint.price_out
        return paid / 1_000_000


def in_turn(group: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints of a group in a random order that shares the load by weight; those of weight 0 come last."""

    def place(endpoint: Endpoint) -> float:
        return random.random() ** (1 / endpoint.weight) if endpoint.weight else -1.0

    return sorted(group, key=place, reverse=True)
