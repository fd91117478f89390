"""A bot to ask, with real parts: the passages it finds are given, its model is the emulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from bot.agent import Parts, answer
from bot.config import BotConfig, Knowledge
from bot.followups import suggest
from bot.llm import Endpoint, Llm, Timeouts
from bot.moderation import WordList, check, guard_for
from bot.trace import Trace
from bot.types import Delta, Event, Incoming, Passage, Replace, Reply, Said, Status, Turn
from tests.emulators.model import MODEL, ModelEmulator

# A busy machine is slow: an example may take its time. Nothing is kept between runs.
settings.register_profile("patient", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
QUICK = Timeouts(connect_s=1.0, first_token_s=0.4, between_tokens_s=0.4)


def passage(text: str, score: float = 0.8, question: str | None = None, **more: str) -> Passage:
    """A passage of the base `handbook`."""
    title, heading = more.get("title", "Handbook"), more.get("heading", "")
    number = abs(hash((text, question))) % 10_000
    return Passage(number, f"d{number}", "handbook", title, heading, text, score, more.get("url"), question)


@dataclass
class Desk:
    """Asks a bot. What it finds, remembers, forbids and who models it are set before asking."""

    llm: Llm
    bot: BotConfig = field(
        default_factory=lambda: BotConfig(name="shop", title="小店客服", knowledge=Knowledge(bases=("handbook",)))
    )
    finds: Sequence[Passage] | Exception = ()
    near: Sequence[Passage] | Exception = ()
    remembers: Sequence[Said] | Exception = ()
    forbids: Sequence[WordList] = ()
    models: Sequence[Sequence[Endpoint]] = ()
    stop_after: int | None = None  # pieces
    history: tuple[Said, ...] | None = None
    user_name: str = "Ann"
    searched_for: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)

    def parts(self) -> Parts:
        asked = iter(range(1_000_000))
        return Parts(
            moderate=lambda text: check(text, self.forbids),
            guard=lambda: guard_for(self.forbids),
            recall=lambda turn: replace(turn, history=tuple(_or_raise(self.remembers))),
            search=self._search,
            llm=self.llm,
            models=self.models,
            stopped=lambda: self.stop_after is not None and next(asked) + 1 >= self.stop_after,
            nearby=lambda _: _or_raise(self.near),
            trace=self.trace,
        )

    def ask(self, text: str) -> Reply:
        self.events.clear()
        self.trace = Trace()
        return answer(self.turn(text), self.parts(), self.events.append)

    def ask_and_suggest(self, text: str) -> list[str]:
        reply = self.ask(text)
        return suggest(self.turn(text), reply, self.parts())

    def turn(self, text: str) -> Turn:
        incoming = Incoming("shop-web", "m1", "ann", "c1", text, NOW, self.user_name, self.history)
        return Turn("t1", self.bot, incoming, NOW)

    def configured(self, **changes: object) -> Desk:
        """The same with other settings of the bot."""
        self.bot = BotConfig.model_validate({**self.bot.model_dump(), **changes})
        return self

    @property
    def shown(self) -> str:
        """What the user saw stream, at the end."""
        text = ""
        for event in self.events:
            if isinstance(event, Delta):
                text += event.text
            elif isinstance(event, Replace):
                text = event.text
        return text

    @property
    def ever_shown(self) -> str:
        """All that ever reached the user."""
        return "".join(event.text for event in self.events if isinstance(event, Delta | Replace))

    @property
    def stages(self) -> list[str]:
        return [event.stage for event in self.events if isinstance(event, Status)]

    def span(self, step: str) -> dict[str, object]:
        """The detail of a step in the trace, with its error."""
        found = [span for span in self.trace.spans if span.step == step]
        assert found, f"no step {step} among {[span.step for span in self.trace.spans]}"
        return {**found[0].detail, "error": found[0].error}

    def _search(self, question: str, turn: Turn) -> Sequence[Passage]:
        self.searched_for.append(question)
        return _or_raise(self.finds)


def _or_raise(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


@pytest.fixture
def model() -> Iterator[ModelEmulator]:
    with ModelEmulator() as emulator:
        yield emulator


@pytest.fixture
def llm() -> Iterator[Llm]:
    llm = Llm(QUICK, sleep=lambda _: None)
    yield llm
    llm.close()


@pytest.fixture
def endpoint(model: ModelEmulator) -> Endpoint:
    return Endpoint("main", model.base_url, model.key, MODEL, price_in=2.0, price_out=8.0)


@pytest.fixture
def desk(llm: Llm) -> Desk:
    """A bot that answers by itself, in the documents' own words."""
    return Desk(llm)


@pytest.fixture
def modelled(llm: Llm, endpoint: Endpoint) -> Desk:
    """A bot whose model is the emulator."""
    desk = Desk(llm, models=[[endpoint]])
    return desk.configured(model="main/chat-large")
