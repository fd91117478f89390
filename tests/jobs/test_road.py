"""Accept, take, answer, store: on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, update
from sqlmodel import col, select

from admin import store
from bot.config import ModerationConfig
from bot.errors import BadRequest
from bot.tables import BotVersion, Conversation, Message, Turn, TurnStatus, utcnow
from jobs import leases
from jobs.leases import Desk
from jobs.reply import answer_one, take
from jobs.watch import request_stop, watch
from tests.emulators.model import Behaviour
from tests.jobs.conftest import House


def test_a_question_is_answered_and_stored(house: House) -> None:
    house.model.will_say("Three days.")
    accepted = house.asks("How long does a refund take?")
    assert house.answers_all() == 1
    assert house.said_to("Ann") == ["Three days."]
    turn = house.turn(accepted.turn_id)
    assert (turn.status, turn.finish, turn.attempts) == (TurnStatus.DONE, "stop", 1)
    assert [span["step"] for span in turn.trace][:2] == ["moderate", "recall"]
    assert turn.prompt_tokens > 0 and turn.model.startswith("emulated/")


def test_the_same_message_again_is_the_same_turn(house: House) -> None:
    first = house.asks("Hello there?", message_id="m1")
    again = house.asks("Hello there?", message_id="m1")
    assert (again.turn_id, again.message_id, again.repeated) == (first.turn_id, first.message_id, True)
    house.answers_all()
    assert house.asks("Hello there?", message_id="m1").turn_id == first.turn_id
    assert house.answers_all() == 0
    assert len(house.said_to("Ann")) == 1 and len(house.model.was_asked) == 1


def test_one_message_delivered_by_many_at_once_is_answered_once(house: House) -> None:
    together = threading.Barrier(8)

    def deliver(_: int) -> str:
        together.wait()
        return house.asks("How long?", message_id="m1").turn_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(deliver, range(8)))) == 1
    assert house.answers_all() == 1


def test_questions_of_one_conversation_are_answered_in_order(house: House) -> None:
    for n in range(5):
        house.asks(f"Question {n}?")
        house.model.will_say(f"Answer {n}.")
    assert house.answers_all() == 5
    assert house.said_to("Ann") == [f"Answer {n}." for n in range(5)]


def test_a_conversation_is_held_by_one_worker_and_others_do_not_wait_for_it(house: House) -> None:
    house.asks("First?", "Ann")
    house.asks("Second?", "Ann")
    house.asks("Mine?", "Bo")
    held = take(house.desk)
    other = take(Desk(house.services))
    assert held is not None and other is not None
    assert (held.incoming.text, other.incoming.text) == ("First?", "Mine?")
    assert take(Desk(house.services)) is None, "Ann's second question waits for her first"


def test_a_turn_of_a_worker_that_died_is_answered_by_another_once_its_lease_is_over(house: House) -> None:
    house.asks("How long?")
    dead = take(house.desk)
    assert dead is not None and house.answers_all() == 0
    _let_leases_run_out(house)
    rescuer = Desk(house.services)
    taken = take(rescuer)
    assert taken is not None and taken.attempts == 2
    answer_one(rescuer, taken)
    answer_one(house.desk, dead)  # the dead one was only slow: what it says comes too late
    assert len(house.said_to("Ann")) == 1


def test_a_renewed_lease_is_not_taken(house: House) -> None:
    house.asks("How long?")
    assert take(house.desk) is not None
    _let_leases_run_out(house)
    leases.renew(house.desk)
    assert take(Desk(house.services)) is None


def test_the_leases_of_a_dead_process_of_this_host_are_freed_at_once(house: House) -> None:
    house.asks("How long?")
    assert take(house.desk) is not None
    host, _, rest = house.desk.owner.rsplit(":", 2)
    with house.services.db.write() as session:
        session.connection().execute(update(Conversation).values(lease_owner=f"{host}:99999999:{rest}"))
    leases.free_those_of_the_dead(house.desk)
    assert house.answers_all() == 1


def test_a_stopping_worker_gives_its_turns_back_at_no_cost(house: House) -> None:
    accepted = house.asks("How long?")
    assert take(house.desk) is not None
    leases.release(house.desk)
    assert house.turn(accepted.turn_id).attempts == 0
    assert house.answers_all() == 1


def test_two_attempts_of_one_process_do_not_both_speak(house: House) -> None:
    house.publish(followups={"enabled": True, "count": 3})
    house.asks("How long?")
    slow = take(house.desk)
    assert slow is not None
    _let_leases_run_out(house)
    quick = take(house.desk)
    assert quick is not None and quick.attempts == 2
    answer_one(house.desk, quick)
    answer_one(house.desk, slow)
    assert len(house.said_to("Ann")) == 1


def test_a_lease_under_which_nobody_works_runs_out(house: House) -> None:
    house.asks("How long?")
    taken = take(house.desk)
    assert taken is not None
    house.desk.drop(taken.lease)  # its thread ended without an answer
    _let_leases_run_out(house)
    leases.renew(house.desk)
    assert house.answers_all() == 1


def test_a_bot_that_cannot_be_read_fails_its_own_turns_only(house: House) -> None:
    house.asks("Broken?", "Ann")
    with house.services.db.write() as session:
        session.connection().execute(update(BotVersion).values(config={"name": "shop", "unknown": 1}))
    house.publish()
    house.asks("Whole?", "Bo")
    assert house.answers_all() == 2
    with house.services.db.read() as session:
        statuses = session.exec(select(Turn.status).order_by(col(Turn.id))).all()
    assert statuses == [TurnStatus.FAILED, TurnStatus.DONE]


def test_half_a_character_from_a_model_breaks_nothing(house: House) -> None:
    chunk = '{"choices":[{"index":0,"delta":{"content":"%s"}}]}'
    lines = [chunk % text for text in ("Yes ", "\\ud83d", "\\ude00", " and \\ud83d", " so \\u0000on.")]
    raw = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
    house.model.will(Behaviour(raw=raw))
    accepted = house.asks("Emoji?")
    house.answers_all()
    assert house.said_to("Ann") == ["Yes 😀 and \ufffd so on."]
    told = [event for event in watch(house.services, accepted.turn_id) if event is not None]
    assert "".join(event.data["text"] for event in told if event.event == "delta").startswith("Yes 😀")
    house.asks("And again?")
    assert house.answers_all() == 1


def test_a_turn_that_kills_its_workers_is_failed_in_the_end(house: House) -> None:
    accepted = house.asks("Poison?")
    with house.services.db.write() as session:
        session.connection().execute(update(Turn).values(attempts=8))
    house.answers_all()
    turn = house.turn(accepted.turn_id)
    assert (turn.status, turn.error_code) == (TurnStatus.FAILED, "gave_up")
    assert len(house.model.was_asked) == 0 and len(house.said_to("Ann")) == 1


def test_messages_sent_in_a_row_within_the_quiet_time_are_one_turn(house: House) -> None:
    house.route = replace(house.route, quiet_s=5.0)
    turns = {house.asks(text).turn_id for text in ("在吗", "想问下", "退款多久")}
    assert len(turns) == 1 and house.answers_all() == 0
    with house.services.db.write() as session:
        past = utcnow() - timedelta(seconds=1)
        session.connection().execute(update(Conversation).values(due_at=past))
    assert house.answers_all() == 1
    assert "在吗\n想问下\n退款多久" in house.model.was_asked[-1].text


def test_a_message_after_the_quiet_time_is_a_turn_of_its_own(house: House) -> None:
    house.route = replace(house.route, quiet_s=5.0)
    first = house.asks("在吗").turn_id
    with house.services.db.write() as session:
        session.connection().execute(update(Turn).values(due_at=utcnow() - timedelta(seconds=1)))
    assert house.asks("退款多久").turn_id != first


def test_a_flood_of_questions_in_one_conversation_is_refused(house: House) -> None:
    for n in range(100):
        house.asks(f"Question {n}?")
    with pytest.raises(BadRequest) as refused:
        house.asks("One more?")
    assert (refused.value.status, refused.value.code) == (429, "too_many_questions")


def test_one_user_is_not_told_what_another_said(house: House) -> None:
    house.asks("My order is 4711.", "Ann")
    house.answers_all()
    house.asks("What is my order?", "Bo")
    house.answers_all()
    assert "4711" not in house.model.was_asked[-1].text
    house.asks("What is my order?", "Ann")
    house.answers_all()
    assert "4711" in house.model.was_asked[-1].text


def test_a_model_that_is_down_fails_the_turn_visibly(house: House) -> None:
    house.model.always(status=401)
    accepted = house.asks("How long?")
    house.answers_all()
    turn = house.turn(accepted.turn_id)
    assert turn.status == TurnStatus.FAILED and turn.error_code and turn.error_detail
    assert house.said_to("Ann") and house.model.key not in (turn.error_detail or "")


def test_a_turn_stopped_before_it_began_says_so(house: House) -> None:
    accepted = house.asks("How long?")
    request_stop(house.services, accepted.turn_id)
    house.answers_all()
    assert house.turn(accepted.turn_id).finish == "stopped" and len(house.model.was_asked) == 0


def test_a_version_published_meanwhile_does_not_change_the_turn_that_waits(house: House) -> None:
    house.publish(prompt="Speak like a pirate.")
    house.asks("How long?")
    house.publish(prompt="Speak like a poet.")
    house.answers_all()
    assert "pirate" in house.model.was_asked[-1].text


def test_events_come_once_in_order_and_resume(house: House) -> None:
    house.model.will_say("Refunds take three days.", tokens_per_s=200)
    accepted = house.asks("How long does a refund take?")
    house.answers_all()
    told = [event for event in watch(house.services, accepted.turn_id) if event is not None]
    assert [event.id for event in told] == list(range(1, len(told) + 1))
    assert [event.event for event in told][-2:] == ["done", "end"]
    text = "".join(event.data["text"] for event in told if event.event == "delta")
    assert text == told[-2].data["text"] == "Refunds take three days."
    middle = told[len(told) // 2].id
    resumed = [event for event in watch(house.services, accepted.turn_id, middle) if event is not None]
    assert resumed == told[middle:]
    assert [event for event in watch(house.services, accepted.turn_id, told[-1].id) if event is not None] == []


def test_an_answer_whose_events_redis_lost_is_told_from_its_rows(house: House) -> None:
    house.model.will_say("Three days.")
    accepted = house.asks("How long?")
    house.answers_all()
    house.services.redis.flushall()
    told = [event for event in watch(house.services, accepted.turn_id, after=3) if event is not None]
    assert [(event.id, event.event) for event in told] == [(4, "done"), (5, "end")]
    assert told[0].data["text"] == "Three days."


def test_a_stream_that_began_anew_does_not_hide_the_answer(house: House) -> None:
    house.model.will_say("Three days.")
    accepted = house.asks("How long?")
    house.answers_all()
    told = [event for event in watch(house.services, accepted.turn_id, after=57) if event is not None]
    assert [(event.id, event.event) for event in told] == [(58, "done"), (59, "end")]


def test_the_end_comes_although_the_worker_died_before_the_follow_ups(house: House) -> None:
    accepted = house.asks("How long?")
    house.answers_all()
    house.services.redis.flushall()
    with house.services.db.write() as session:
        long_ago = utcnow() - timedelta(minutes=5)
        session.connection().execute(update(Turn).values(followups=None, answered_at=long_ago))
    assert [event.event for event in watch(house.services, accepted.turn_id) if event is not None] == ["done", "end"]


def test_watching_a_turn_that_was_erased_ends(house: House) -> None:
    accepted = house.asks("How long?")
    with house.services.db.write() as session:
        session.delete(session.get_one(Conversation, accepted.conversation_id))
    assert [event.event for event in watch(house.services, accepted.turn_id) if event is not None] == ["error", "end"]


def test_what_moderation_masks_stays_masked_in_memory(house: House) -> None:
    with house.services.db.write() as session:
        store.save_keyword_list(session, ModerationConfig(name="cards", keywords=("4711",), action="mask"))
    house.publish(moderation={"lists": ["cards"]})
    house.asks("My number is 4711.")
    house.asks("What is it?")
    house.answers_all()
    assert all("4711" not in asked.text for asked in house.model.was_asked)


def test_many_watchers_of_one_turn_each_see_everything(house: House) -> None:
    house.model.will_say("word " * 200, tokens_per_s=400)
    accepted = house.asks("Tell me a lot?")

    def read(after: int) -> list[int]:
        return [event.id for event in watch(house.services, accepted.turn_id, after) if event is not None]

    with ThreadPoolExecutor(9) as pool:
        answering = pool.submit(house.answers_all)
        watching = [pool.submit(read, after) for after in (0, 0, 0, 2, 2, 1, 0, 3)]
        assert answering.result() == 1
        seen = [one.result() for one in watching]
    last = max(seen[0])
    assert seen == [list(range(after + 1, last + 1)) for after in (0, 0, 0, 2, 2, 1, 0, 3)]


def test_a_follow_up_step_that_fails_costs_the_answer_nothing(house: House) -> None:
    house.publish(followups={"enabled": True, "count": 3})
    house.model.will_say("Three days.")
    house.model.will_fail(500, times=5)
    accepted = house.asks("How long does a refund take?")
    house.answers_all()
    assert house.said_to("Ann") == ["Three days."]
    assert house.turn(accepted.turn_id).followups is not None


def test_nothing_is_left_waiting_or_held(house: House) -> None:
    for who in ("Ann", "Bo"):
        for n in range(3):
            house.asks(f"Question {n}?", who)
    house.answers_all()
    with house.services.db.read() as session:
        held = select(func.count()).where(col(Conversation.due_at).is_not(None) | col(Conversation.lease_owner).is_not(None))
        assert session.exec(held).one() == 0
        assert session.exec(select(func.count()).select_from(Message)).one() == 12


def _let_leases_run_out(house: House) -> None:
    with house.services.db.write() as session:
        session.connection().execute(update(Conversation).values(lease_until=utcnow() - timedelta(seconds=1)))
