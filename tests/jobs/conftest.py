"""A house with a bot and a web channel, on either database, whose reply threads the test runs itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from sqlmodel import col, select

from admin import store
from admin.migrate import migrate
from bot.config import BotConfig, ChannelConfig, ModelConfig, ProviderConfig
from bot.settings import Settings
from bot.tables import Message, Turn, new_id, utcnow
from bot.types import Incoming
from jobs import kept
from jobs.accept import Accepted, Route, accept
from jobs.leases import Desk
from jobs.reply import answer_one, open_desk, take
from jobs.services import Services
from tests.emulators.model import MODEL, ModelEmulator


@dataclass
class House:
    """Services, the route of its web channel, and what the tests do with them."""

    services: Services
    desk: Desk
    route: Route
    model: ModelEmulator

    def asks(self, text: str, who: str = "Ann", message_id: str | None = None, **more: object) -> Accepted:
        """A chat user's message is accepted."""
        incoming = Incoming("shop-web", message_id or new_id(), who, "", text, utcnow(), **more)  # type: ignore[arg-type]
        return accept(self.services, self.route, incoming)

    def answers_all(self) -> int:
        """Answer what waits, on this thread; how many turns that were."""
        count = 0
        while (taken := take(self.desk)) is not None:
            answer_one(self.desk, taken)
            self.desk.drop(taken.lease)
            count += 1
        return count

    def said_to(self, who: str = "Ann") -> list[str]:
        """Everything the bot said in this user's conversations, in order."""
        from bot.tables import Conversation

        with self.services.db.read() as session:
            return list(
                session.exec(
                    select(Message.text)
                    .join(Conversation, col(Conversation.id) == col(Message.conversation_id))
                    .where(Conversation.user_id == who, Message.direction == "out")
                    .order_by(col(Message.conversation_id), col(Message.sequence))
                )
            )

    def turn(self, turn_id: str) -> Turn:
        with self.services.db.read() as session:
            return session.get_one(Turn, turn_id)

    def publish(self, **changes: object) -> None:
        """Publish the bot with these changes, for the turns to come."""
        with self.services.db.write() as session:
            bot = store.save_bot_draft(session, BotConfig.model_validate(BOT | changes))
            version = store.publish(session, bot, "Cy")
            self.route = Route(self.route.channel_id, self.route.bot_id, version.id, self.route.quiet_s)
        kept.forget()


BOT: dict[str, object] = {"name": "shop", "title": "Shop", "model": f"emulated/{MODEL}", "followups": {"enabled": False}}


@pytest.fixture
def house(any_database: str, settings_on: Callable[[str], Settings]) -> Iterator[House]:
    """The house, with a bot that asks the emulated model."""
    settings = settings_on(any_database)
    migrate(settings, "en")
    kept.forget()
    services = Services(settings)
    with ModelEmulator() as model:
        with services.db.write() as session:
            chat = ModelConfig(name=MODEL)
            store.save_provider(
                session, settings, ProviderConfig(name="emulated", base_url=model.base_url, api_key=model.key, models=(chat,))
            )
            bot = store.save_bot_draft(session, BotConfig.model_validate(BOT))
            version = store.publish(session, bot, "Cy")
            channel = store.save_channel(session, settings, ChannelConfig(name="shop-web", kind="web", bot="shop"))
            assert channel.id is not None and bot.id is not None
            route = Route(channel.id, bot.id, version.id)
        yield House(services, open_desk(services), route, model)
        services.close()
