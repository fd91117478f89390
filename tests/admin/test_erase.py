"""`flask erase-user`: nothing of the user is left, and nothing of anybody else is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import select as rows_of
from sqlmodel import SQLModel, col, select

from admin.erase import erase_user
from admin.migrate import migrate
from bot.tables import Bot, BotVersion, Channel, Conversation, Message, Turn, TurnStatus, utcnow
from bot.types import Incoming
from jobs.accept import Accepted, Route, accept
from jobs.services import Services
from tests.admin.conftest import Flask, Open

ANNS = "my-secret-illness"
BOS = "what-bo-asked"


def channel_route(house: Services, name: str) -> Route:
    """A bot and its channel of that name."""
    with house.db.write() as session:
        bot = session.exec(select(Bot).where(Bot.name == "shop")).first() or Bot(name="shop", draft={"name": "shop"})
        session.add(bot)
        session.flush()
        assert bot.id
        version = BotVersion(bot_id=bot.id, number=len(name), config={"name": "shop"})
        channel = Channel(name=name, kind="web", bot_id=bot.id)
        session.add_all([version, channel])
        session.flush()
        assert channel.id
        return Route(channel.id, bot.id, version.id)


def asks(house: Services, route: Route, user: str, text: str, chat: str = "") -> Accepted:
    """A question with its answer, its events and its traces, as the road leaves them."""
    incoming = Incoming("shop-web", f"{user}-{chat}-{text}", user, chat, text, utcnow(), user_name=f"name of {user}")
    accepted = accept(house, route, incoming)
    with house.db.write() as session:
        turn = session.get_one(Turn, accepted.turn_id)
        turn.status, turn.trace, turn.comment = (
            TurnStatus.DONE,
            [{"step": "moderate", "detail": {"text": text}}],
            f"about {text}",
        )
        session.add(turn)
        session.add(
            Message(
                conversation_id=accepted.conversation_id, turn_id=turn.id, channel_id=route.channel_id, direction="out",
                sequence=99, text=f"You said {text}",
            )
        )  # fmt: skip
    writer = house.outbox.writer(accepted.turn_id)
    writer.tell("done", {"text": f"You said {text}"})
    house.redis.set(f"limit:{route.channel_id}:{user}:29000000", 1)
    house.redis.set(f"stop:{accepted.turn_id}", 1)
    return accepted


def everything(house: Services) -> str:
    """All that the stores hold, as one text: rows of every table, names and values of every key."""
    found = []
    with house.db.engine.connect() as connection:
        for table in SQLModel.metadata.sorted_tables:
            found += [repr(tuple(row)) for row in connection.execute(rows_of(table))]
    for key in house.redis.scan_iter():
        kind = house.redis.type(key)
        value = {b"stream": house.redis.xrange, b"string": house.redis.get, b"hash": house.redis.hgetall}.get(
            kind, lambda _: b""
        )(key)
        found.append(f"{key!r} {value!r}")
    return "\n".join(found)


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, open_house: Open) -> Services:
    if request.param == "sqlite":
        return open_house()
    services = open_house("pg", DATABASE_URL=request.getfixturevalue("new_postgres"))
    migrate(services.settings, "en")
    return services


@pytest.fixture
def logged(redis_url: str, house: Services) -> Iterator[Path]:
    """The folder of Redis' append-only file, which is on for the length of the test."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.config_set("appendonly", "yes")
        yield Path(client.config_get("dir")["dir"])
        client.config_set("appendonly", "no")


def test_no_table_and_no_key_holds_anything_of_the_user(either: Services) -> None:
    route = channel_route(either, "shop-web")
    mine = [asks(either, route, "ann-4711", ANNS), asks(either, route, "ann-4711", ANNS, "another chat")]
    asks(either, route, "bo", BOS)
    either.heavy.enqueue_call("jobs.none", args=["ann-4711"])
    assert ANNS in everything(either) and "ann-4711" in everything(either)
    erased = erase_user(either, "shop-web", "ann-4711")
    left = everything(either)
    for trace in (ANNS, "ann-4711", *(a.turn_id for a in mine), *(a.conversation_id for a in mine)):
        assert trace not in left
    assert left.count(BOS) >= 4
    assert erased.rows == {"message": 4, "turn": 2, "conversation": 2}
    assert erased.redis_keys == 6 and len(either.heavy) == 0


def test_the_files_below_hold_nothing_either(house: Services, logged: Path) -> None:
    asks(house, channel_route(house, "shop-web"), "ann-4711", ANNS)
    folders = (house.settings.data_dir, logged)

    def on_disk() -> list[Path]:
        return [
            path for folder in folders for path in folder.rglob("*") if path.is_file() and ANNS.encode() in path.read_bytes()
        ]

    assert len(on_disk()) >= 2
    erase_user(house, "shop-web", "ann-4711")
    assert on_disk() == []


def test_the_same_user_id_on_another_channel_is_another_person(house: Services) -> None:
    asks(house, channel_route(house, "shop-web"), "ann", ANNS)
    asks(house, channel_route(house, "second"), "ann", BOS)
    erase_user(house, "shop-web", "ann")
    with house.db.read() as session:
        assert [row.text for row in session.exec(select(Message).order_by(col(Message.sequence)))] == [BOS, f"You said {BOS}"]
        assert len(session.exec(select(Conversation)).all()) == 1


@pytest.mark.parametrize("user", ["turn", "rq", "job", "limit", "*", "bell"])
def test_a_user_called_like_a_key_takes_nobody_elses_keys_along(house: Services, user: str) -> None:
    route = channel_route(house, "shop-web")
    asks(house, route, "bo", BOS)
    house.heavy.enqueue_call("jobs.none")
    before = sorted(house.redis.keys())
    asks(house, route, user, ANNS)
    erase_user(house, "shop-web", user)
    assert sorted(house.redis.keys()) == before


def test_an_answer_in_progress_is_asked_to_stop_first(house: Services) -> None:
    accepted = asks(house, channel_route(house, "shop-web"), "ann", ANNS)
    with house.db.write() as session:
        conversation = session.get_one(Conversation, accepted.conversation_id)
        conversation.lease_owner, conversation.lease_until = "a worker", utcnow() + timedelta(seconds=0.4)
        turn = session.get_one(Turn, accepted.turn_id)
        turn.status = TurnStatus.RUNNING
        session.add_all([conversation, turn])
    assert erase_user(house, "shop-web", "ann").rows["turn"] == 1
    assert ANNS not in everything(house)


def test_the_terminal_lists_what_was_removed(house: Services, flask: Flask) -> None:
    asks(house, channel_route(house, "shop-web"), "ann", ANNS)
    result = flask("erase-user", "shop-web", "ann")
    assert result.exit_code == 0
    for line in ("  conversations: 1", "  turns: 1", "  messages: 2", "  cache and queue: 3 entries"):
        assert line in result.stdout.splitlines()
    assert flask("erase-user", "shop-web", "ann").stdout == "There was nothing of ann on shop-web.\n"
    unknown = flask("erase-user", "nowhere", "ann")
    assert (unknown.exit_code, unknown.stderr) == (1, "There is no channel nowhere. There are: shop-web.\n")


def test_rows_go_even_while_redis_is_away(open_house: Open, flask: Flask) -> None:
    away = open_house("away", REDIS_URL="unix:///nowhere/redis.sock")
    route = channel_route(away, "shop-web")
    accept(away, route, Incoming("shop-web", "1", "ann", "", ANNS, utcnow()))
    result = flask("erase-user", "shop-web", "ann", settings=away.settings)
    assert result.exit_code == 1 and "Redis did not answer" in result.stderr
    with away.db.read() as session:
        assert session.exec(select(Message)).all() == []
