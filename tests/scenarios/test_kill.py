"""Whatever dies, everybody is answered exactly once and in order. `python -m bench kill` does the same more often."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.house import House
from bench.kill import MODEL, VICTIMS, strike

OUTSTANDING = 24


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House((MODEL,)) as house:
        yield house


@pytest.mark.parametrize("victim", [*VICTIMS, "flushall"])
def test_nothing_is_lost_repeated_or_out_of_order_when_it_dies(house: House, victim: str) -> None:
    found = strike(house, victim, OUTSTANDING, conversations=10)
    assert found.flawless, f"{found}\n{house.installation.log()[-4000:]}"
