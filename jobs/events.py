"""A turn's events on their way from the reply worker to whoever watches: one Redis Stream per turn.

Entry ids are 1-0, 2-0, …: the number is the event's id, so a watcher that comes back says which it saw last. Redis may
lose the stream at any time; the rows then tell the end (see `jobs.watch`).
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, cast

import redis

from bot.tables import new_id

logger = logging.getLogger(__name__)

FLUSH_S = 0.04  # deltas of a turn are sent at most this often; the first at once
KEEP_S = 600  # how long a stream outlives its last event
MAX_ENTRIES = 5000
WAIT_MS = 5000
CATCH_UP = 2000  # entries read at once


@dataclass(frozen=True)
class Told:
    """One event of a turn. id rises by one."""

    id: int
    event: str
    data: dict[str, Any]


def stream_key(turn_id: str) -> str:
    return f"turn:{turn_id}"


class Outbox:
    """Sends the events of all turns of this process. Deltas are gathered, so that a hundred streams are one round trip.

    A Redis that does not answer loses events, never the answer: that is a row.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._lock = threading.Lock()
        self._dirty: set[Writer] = set()
        self._wake = threading.Event()
        self._closed = False
        self._failing = False
        threading.Thread(target=self._flush_often, name="outbox", daemon=True).start()

    def writer(self, turn_id: str) -> Writer:
        """The writer of a turn's events; goes on after the last event that an earlier attempt wrote."""
        try:
            last = cast("list[tuple[bytes, Any]]", self._redis.xrevrange(stream_key(turn_id), count=1))
        except redis.RedisError as error:
            self._lost(error)
            last = []
        return Writer(self, turn_id, int(last[0][0].split(b"-")[0]) if last else 0)

    def send(self, entries: Iterable[tuple[str, int, str, dict[str, Any]]]) -> None:
        """Write entries (turn id, event id, name, data), in order, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for turn_id, number, event, data in entries:
            key = stream_key(turn_id)
            fields: dict[Any, Any] = {"e": event, "d": json.dumps(data, ensure_ascii=False)}
            pipeline.xadd(key, fields, id=f"{number}-0", maxlen=MAX_ENTRIES, approximate=True)
            if event != "delta":
                pipeline.expire(key, KEEP_S)
        try:
            for result in pipeline.execute(raise_on_error=False):
                if isinstance(result, redis.ResponseError):
                    logger.warning("event not written: %s", result)
            self._failing = False
        except redis.RedisError as error:
            self._lost(error)

    def mark(self, writer: Writer) -> None:
        """writer has something for the next flush."""
        with self._lock:
            self._dirty.add(writer)
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def _flush_often(self) -> None:
        pause = threading.Event()
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                writers, self._dirty = self._dirty, set()
            for writer in writers:
                writer.flush_lock.acquire()
            try:
                entries = [entry for writer in writers for entry in writer.take()]
                if entries:
                    self.send(entries)
            finally:
                for writer in writers:
                    writer.flush_lock.release()
            pause.wait(FLUSH_S)

    def _lost(self, error: redis.RedisError) -> None:
        if not self._failing:  # once per outage, not once per event
            logger.warning("events are not sent while Redis does not answer: %s", error)
        self._failing = True


class Writer:
    """Tells one turn's events, in order."""

    def __init__(self, outbox: Outbox, turn_id: str, last: int) -> None:
        self._outbox = outbox
        self.turn_id = turn_id
        self.first_attempt = last == 0
        self._last = last
        self._pending = ""
        self._told_delta = False
        self._lock = threading.Lock()
        self.flush_lock = threading.Lock()  # held from taking entries until they are sent: keeps their order

    def tell(self, event: str, data: dict[str, Any], *more: tuple[str, dict[str, Any]]) -> None:
        """Send an event (and more, in the same round trip), after the deltas before it."""
        with self.flush_lock:
            entries = self.take()
            with self._lock:
                for name, values in ((event, data), *more):
                    self._last += 1
                    entries.append((self.turn_id, self._last, name, values))
            self._outbox.send(entries)

    def delta(self, text: str) -> None:
        """Send a piece of the answer: the first at once, later ones with those that come within FLUSH_S."""
        if not self._told_delta:
            self._told_delta = True
            self.tell("delta", {"text": text})
            return
        with self._lock:
            self._pending += text
        self._outbox.mark(self)

    def take(self) -> list[tuple[str, int, str, dict[str, Any]]]:
        """What was gathered, as an entry to send. Call with flush_lock held."""
        with self._lock:
            if not self._pending:
                return []
            text, self._pending = self._pending, ""
            self._last += 1
            return [(self.turn_id, self._last, "delta", {"text": text})]


class Hub:
    """Reads the streams of all turns that are watched in this process, in one call, and hands events to the watchers."""

    def __init__(self, client: redis.Redis, blocking: redis.Redis) -> None:
        self._redis = client
        self._blocking = blocking
        self._lock = threading.Lock()
        self._watchers: dict[str, set[Subscription]] = defaultdict(set)
        self._read_to: dict[str, int] = {}
        self._wake_key = f"hub:{new_id()}"
        self._thread: threading.Thread | None = None
        self._closed = False

    def subscribe(self, turn_id: str, after: int) -> Subscription:
        """Watch a turn's events with an id above `after`. Close the subscription when done."""
        subscription = Subscription(self, turn_id, after)
        with self._lock:
            self._watchers[turn_id].add(subscription)
            self._read_to[turn_id] = min(after, self._read_to.get(turn_id, after))
            if self._thread is None:
                self._thread = threading.Thread(target=self._read_often, name="hub", daemon=True)
                self._thread.start()
        try:
            self._wake()
        except redis.RedisError as error:
            logger.warning("watching turn %s without Redis: %s", turn_id, error)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            watchers = self._watchers[subscription.turn_id]
            watchers.discard(subscription)
            if not watchers:
                del self._watchers[subscription.turn_id]
                self._read_to.pop(subscription.turn_id, None)

    def close(self) -> None:
        self._closed = True
        try:
            self._wake()
        except redis.RedisError as error:
            logger.debug("the hub closes without Redis: %s", error)

    def _wake(self) -> None:
        """Make the reading thread look again at what it should read."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xadd(self._wake_key, {"w": "1"}, maxlen=1, approximate=False)
        pipeline.expire(self._wake_key, 60)
        pipeline.execute()

    def _read_often(self) -> None:
        pause = threading.Event()
        woken = "0"
        while not self._closed:
            with self._lock:
                read_to = dict(self._read_to)
            streams: dict[Any, Any] = {stream_key(turn_id): f"{last}-0" for turn_id, last in read_to.items()}
            streams[self._wake_key] = woken
            try:
                read = cast("list[tuple[bytes, Any]]", self._blocking.xread(streams, count=CATCH_UP, block=WAIT_MS))
            except redis.RedisError as error:
                logger.warning("events are not read while Redis does not answer: %s", error)
                pause.wait(0.5)
                continue
            for key, entries in read or []:
                if key.decode() == self._wake_key:
                    woken = entries[-1][0].decode()
                else:
                    turn_id = key.decode().removeprefix("turn:")
                    self._hand_out(turn_id, read_to[turn_id], self._entries(entries))

    def _hand_out(self, turn_id: str, read_from: int, events: list[Told]) -> None:
        with self._lock:
            if self._read_to.get(turn_id) == read_from:  # else a watcher came meanwhile that wants earlier ones: read again
                self._read_to[turn_id] = events[-1].id
            for watcher in self._watchers.get(turn_id, ()):
                if watcher.handed >= read_from:
                    watcher.put(events)

    @staticmethod
    def _entries(raw: Any) -> list[Told]:
        return [Told(int(number.split(b"-")[0]), f[b"e"].decode(), json.loads(f[b"d"])) for number, f in raw]


class Subscription:
    """One watcher of one turn. `get` gives each event once, in order."""

    def __init__(self, hub: Hub, turn_id: str, after: int) -> None:
        self._hub = hub
        self.turn_id = turn_id
        self.handed = after
        self._last = after
        self._queue: SimpleQueue[list[Told]] = SimpleQueue()

    def put(self, events: list[Told]) -> None:
        """Called by the hub, which holds its lock."""
        self.handed = max(self.handed, events[-1].id)
        self._queue.put(events)

    def get(self, timeout_s: float) -> list[Told]:
        """The events since the last call, waiting up to timeout_s for the first; empty when none came."""
        try:
            events = self._queue.get(timeout=timeout_s)
        except Empty:
            return []
        fresh = [event for event in events if event.id > self._last]
        if fresh:
            self._last = fresh[-1].id
        return fresh

    def close(self) -> None:
        self._hub.unsubscribe(self)
