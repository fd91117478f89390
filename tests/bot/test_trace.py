from __future__ import annotations

import pytest

from bot.trace import LIMIT_CHARS, Trace


def test_steps_are_told_in_the_order_in_which_they_began() -> None:
    now = iter([0.0, 1.0, 1.5, 1.75, 2.0])
    trace = Trace(clock=lambda: next(now))
    with trace.step("outer", question="q") as outer:
        with trace.step("inner") as inner:
            inner["found"] = 3
        outer["out"] = "a"
    assert [(span.step, span.start_ms, span.ms) for span in trace.spans] == [("outer", 1000, 1000), ("inner", 1500, 250)]
    assert trace.spans[0].detail == {"question": "q", "out": "a"}


def test_a_step_that_fails_is_told_and_the_error_goes_on() -> None:
    trace = Trace()
    with pytest.raises(ValueError, match="broken"), trace.step("search"):
        raise ValueError("broken")
    assert trace.spans[0].error == "ValueError: broken"


def test_a_step_that_degrades_is_told() -> None:
    trace = Trace()
    with trace.step("recall") as span:
        span["error"] = "gone"
    assert (trace.spans[0].error, trace.spans[0].detail) == ("gone", {})


def test_long_texts_are_cut_however_deep() -> None:
    trace = Trace()
    with trace.step("model", messages=[{"role": "user", "content": "x" * 100_000}]):
        pass
    content = trace.spans[0].detail["messages"][0]["content"]
    assert content.endswith("(100000 characters)")
    assert len(content) < LIMIT_CHARS + 50
