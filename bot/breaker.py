"""A breaker: rests from a service that keeps failing, then lets one caller try."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FAILURES_TO_OPEN = 5  # in a row
OPEN_S = 30.0


class Breaker:
    """closed → (failures in a row) → open for a while → half open: one probe decides. Safe across threads.

    Whoever was allowed reports with succeeded() or failed(); or with left() when the call told nothing of the service.
    """

    def __init__(
        self, failures: int = FAILURES_TO_OPEN, open_s: float = OPEN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = failures
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def state(self) -> str:
        with self._lock:
            if self._open_until is None:
                return "closed"
            return "open" if self._clock() < self._open_until else "half_open"

    def allow(self) -> bool:
        """Whether a call may go out now."""
        with self._lock:
            if self._open_until is None:
                return True
            if self._clock() < self._open_until or self._probing:
                return False
            self._probing = True
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failures, self._open_until, self._probing = 0, None, False

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._probing or self._failures >= self._most:
                self._open_until = self._clock() + self._open_s
            self._probing = False

    def left(self) -> None:
        """The call ended without telling whether the service works."""
        with self._lock:
            self._probing = False
