"""Watching a turn whose worker died."""

from __future__ import annotations

import json

import pytest

from jobs.events import stream_key
from jobs.watch import watch
from tests.jobs.conftest import House


@pytest.mark.parametrize("after", [0, 2])
def test_an_answer_is_told_once_when_its_worker_died_before_the_follow_ups(house: House, after: int) -> None:
    accepted = house.asks("How long does a refund take?")
    house.answers_all()
    key = stream_key(accepted.turn_id)
    house.services.redis.delete(key)
    for number, event in enumerate(("delta", "done"), 1):
        house.services.redis.xadd(key, {"e": event, "d": json.dumps({"text": "Three days."})}, id=f"{number}-0")
    told = [event for event in watch(house.services, accepted.turn_id, after) if event is not None]
    assert [event.event for event in told] == ["delta", "done", "end"][after:]
    assert [event.id for event in told] == sorted({event.id for event in told})
