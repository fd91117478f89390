"""The trace of a turn: one span per step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bot.types import Span

LIMIT_CHARS = 4000  # of any text kept in a span


class Trace:
    """Collects the spans of one turn, in the order in which their steps began."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = clock()
        self._spans: list[Span | None] = []

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple(span for span in self._spans if span is not None)

    @contextmanager
    def step(self, name: str, **detail: Any) -> Iterator[dict[str, Any]]:
        """Time a step. Put what came out into the dictionary that is yielded; `error` there marks a step that degraded.

        An exception is noted and goes on its way.
        """
        begun = self._clock()
        place = len(self._spans)
        self._spans.append(None)
        failure: str | None = None
        try:
            yield detail
        except BaseException as error:
            failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            degraded = detail.pop("error", None)
            self._spans[place] = Span(
                step=name,
                start_ms=round((begun - self._start) * 1000, 2),
                ms=round((self._clock() - begun) * 1000, 2),
                detail={key: _short(value) for key, value in detail.items()},
                error=failure or (str(degraded) if degraded else None),
            )


def _short(value: Any) -> Any:
    """value with its long texts cut, however deep they stand."""
    if isinstance(value, str) and len(value) > LIMIT_CHARS:
        return f"{value[:LIMIT_CHARS]}… ({len(value)} characters)"
    if isinstance(value, Mapping):
        return {key: _short(inner) for key, inner in value.items()}
    return [_short(inner) for inner in value] if isinstance(value, list | tuple) else value
