"""A small memory of what was looked up, for moments: it saves most reads of a busy process, and never grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

KEPT = 1000
FRESH_S = 3.0
T = TypeVar("T")

_lock = threading.Lock()
_kept: dict[Hashable, tuple[float, Any]] = {}


def remember(key: Hashable, seconds: float, find: Callable[[], T]) -> T:
    """What find() gave for this key within the last `seconds`, or gives now."""
    with _lock:
        found = _kept.get(key)
    if found is not None and found[0] > time.monotonic():
        return cast(T, found[1])
    value = find()
    with _lock:
        if len(_kept) >= KEPT:
            _kept.clear()
        _kept[key] = (time.monotonic() + seconds, value)
    return value


def forget() -> None:
    """Look everything up anew."""
    with _lock:
        _kept.clear()
