"""A turn's events on their way from the reply worker to whoever watches: one Redis Stream per turn, and a channel that all
watching processes hear.

Entry ids are 1-0, 2-0, …: the number is the event's id, so a watcher that comes back says which it saw last. What is said on
the channel are the same entries; a watcher that missed one sees the gap and reads the stream. Redis may lose both at any time;
the rows then tell the end (see `jobs.watch`).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import redis

logger = logging.getLogger(__name__)

CHANNEL = "turns"  # one message holds lines of `turn id, event id, name, data as JSON`, each parted by a space
FLUSH_S = 0.04  # events of a turn are sent at most this often; the first delta, and what ends a turn, at once
KEEP_S = 600  # how long a stream outlives its last event
LONGEST_S = 3600  # how long it lives when no last event comes
MAX_ENTRIES = 5000
LISTEN_S = 5.0
CLOSE_S = 2.0  # how long a thread is waited for

Entry = tuple[str, int, str, dict[str, Any]]  # turn id, event id, name, data


@dataclass(frozen=True)
class Told:
    """One event of a turn. id rises by one."""

    id: int
    event: str
    data: dict[str, Any]


def stream_key(turn_id: str) -> str:
    return f"turn:{turn_id}"


class Outbox:
    """Sends the events of all turns of this process. They are gathered, so that a hundred streams are one round trip.

    A Redis that does not answer loses events, never the answer: that is a row.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._lock = threading.Lock()
        self._dirty: set[Writer] = set()
        self._wake = threading.Event()
        self._closed = False
        self._failing = False
        self._thread = threading.Thread(target=self._flush_often, name="outbox", daemon=True)
        self._thread.start()

    def writer(self, turn_id: str, fresh: bool = False) -> Writer:
        """The writer of a turn's events; goes on after the last event that an earlier attempt wrote. fresh: there was none."""
        last: Any = None
        if not fresh:
            try:
                last = self._redis.xrevrange(stream_key(turn_id), count=1)
            except redis.RedisError as error:
                self._lost(error)
        return Writer(self, turn_id, int(last[0][0].split(b"-")[0]) if last else 0)

    def send(self, entries: Iterable[Entry]) -> None:
        """Write entries, in order, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        lines = []
        for turn_id, number, event, data in entries:
            key, text = stream_key(turn_id), json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()
            lines.append(f"{turn_id} {number} {event} {text}")
            # XADD as it is: redis-py's own method takes twice the time to say the same.
            pipeline.execute_command("XADD", key, "MAXLEN", "~", MAX_ENTRIES, f"{number}-0", "e", event, "d", text)
            if number == 1 or event in ("done", "error", "end"):
                pipeline.execute_command("EXPIRE", key, LONGEST_S if number == 1 else KEEP_S)
        pipeline.execute_command("PUBLISH", CHANNEL, "\n".join(lines))
        try:
            for result in pipeline.execute(raise_on_error=False):
                if isinstance(result, redis.ResponseError):
                    logger.warning("event not written: %s", result)
            self._failing = False
        except redis.RedisError as error:
            self._lost(error)

    def let_expire(self, turn_id: str) -> None:
        """See to it that a turn's stream does not stay for ever."""
        try:
            self._redis.expire(stream_key(turn_id), KEEP_S)
        except redis.RedisError as error:
            self._lost(error)

    def mark(self, writer: Writer) -> None:
        """writer has something for the next flush."""
        with self._lock:
            self._dirty.add(writer)
        self._wake.set()

    def close(self) -> None:
        """Send what was gathered. Call before the client is closed."""
        self._closed = True
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _flush_often(self) -> None:
        pause = threading.Event()
        while not self._closed:
            self._wake.wait()
            pause.wait(FLUSH_S)
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
        self._gathered: list[tuple[str, dict[str, Any]]] = []
        self._told_delta = False
        self._lock = threading.Lock()
        self.flush_lock = threading.Lock()  # held from taking entries until they are sent: keeps their order

    def tell(self, event: str, data: dict[str, Any], *more: tuple[str, dict[str, Any]]) -> None:
        """Send an event (and more, in the same round trip) at once, after those gathered before it."""
        with self.flush_lock:
            with self._lock:
                self._gathered += [(event, data), *more]
            self._outbox.send(self.take())

    def gather(self, event: str, data: dict[str, Any]) -> None:
        """Send an event soon, with those that come within FLUSH_S."""
        with self._lock:
            self._gathered.append((event, data))
        self._outbox.mark(self)

    def delta(self, text: str) -> None:
        """Send a piece of the answer: the first at once, later ones soon, as one."""
        if not self._told_delta:
            self._told_delta = True
            self.tell("delta", {"text": text})
            return
        with self._lock:
            if self._gathered and self._gathered[-1][0] == "delta":
                self._gathered[-1][1]["text"] += text
                return  # marked already
            self._gathered.append(("delta", {"text": text}))
        self._outbox.mark(self)

    def leave(self) -> None:
        """Tell nothing more: another goes on with this turn, or it is gone. What was told is forgotten in time."""
        self._outbox.let_expire(self.turn_id)

    def take(self) -> list[Entry]:
        """What was gathered, as entries to send. Call with flush_lock held."""
        with self._lock:
            gathered, self._gathered = self._gathered, []
            first, self._last = self._last + 1, self._last + len(gathered)
        return [(self.turn_id, first + place, event, data) for place, (event, data) in enumerate(gathered)]


class Hub:
    """Hears the events of all turns, and hands them to those that are watched in this process."""

    def __init__(self, client: redis.Redis, blocking: redis.Redis) -> None:
        self._redis = client
        self._blocking = blocking
        self._lock = threading.Lock()
        self._watchers: dict[str, set[Subscription]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._closed = False

    def subscribe(self, turn_id: str, after: int) -> Subscription:
        """Watch a turn's events with an id above `after`. Close the subscription when done."""
        subscription = Subscription(self, turn_id, after)
        with self._lock:
            self._watchers[turn_id].add(subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen_always, name="hub", daemon=True)
                self._thread.start()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            watchers = self._watchers[subscription.turn_id]
            watchers.discard(subscription)
            if not watchers:
                del self._watchers[subscription.turn_id]

    def read(self, turn_id: str, after: int) -> list[Told]:
        """What the stream holds above `after`; nothing while Redis does not answer."""
        try:
            raw: Any = self._redis.xrange(stream_key(turn_id), min=f"({after}-0")
        except redis.RedisError as error:
            logger.warning("turn %s is watched without Redis: %s", turn_id, error)
            return []
        return [Told(int(number.split(b"-")[0]), f[b"e"].decode(), json.loads(f[b"d"])) for number, f in raw]

    def close(self) -> None:
        """Stop listening. Call before the clients are closed."""
        self._closed = True
        if self._thread is not None:
            self._quietly_wake()
            self._thread.join(CLOSE_S)

    def _quietly_wake(self) -> None:
        try:
            self._redis.publish(CHANNEL, "")
        except redis.RedisError as error:
            logger.debug("the hub closes without Redis: %s", error)

    def _listen_always(self) -> None:
        pause = threading.Event()
        while not self._closed:
            try:
                self._listen()
            except redis.RedisError as error:
                logger.warning("events are not heard while Redis does not answer: %s", error)
                self._tell_all_to_read()
                pause.wait(0.5)

    def _listen(self) -> None:
        with self._blocking.pubsub() as channel:
            channel.subscribe(CHANNEL)
            while not self._closed:
                message = channel.get_message(timeout=LISTEN_S)
                if message is None:
                    continue
                if message["type"] == "message":
                    self._hand_out(message["data"].decode())
                else:  # subscribed, maybe again: what was said before was not heard
                    self._tell_all_to_read()

    def _hand_out(self, lines: str) -> None:
        told = [line.split(" ", 3) for line in lines.split("\n") if line]
        with self._lock:
            for turn_id, number, event, data in told:
                for watcher in self._watchers.get(turn_id, ()):
                    watcher.put(Told(int(number), event, json.loads(data)))

    def _tell_all_to_read(self) -> None:
        with self._lock:
            for watchers in self._watchers.values():
                for watcher in watchers:
                    watcher.put(None)


class Subscription:
    """One watcher of one turn. `get` gives each event once, in order."""

    def __init__(self, hub: Hub, turn_id: str, after: int) -> None:
        self._hub = hub
        self.turn_id = turn_id
        self._last = after
        self._queue: SimpleQueue[Told | None] = SimpleQueue()
        self._begun = False

    def put(self, told: Told | None) -> None:
        """Called by the hub. None: something may not have been heard."""
        self._queue.put(told)

    def get(self, timeout_s: float) -> list[Told]:
        """The events since the last call, waiting up to timeout_s for the first; empty when none came, or Redis was away."""
        if not self._begun:
            self._begun = True
            if earlier := self._read():
                return earlier
        end = time.monotonic() + timeout_s
        while True:
            try:
                told = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                return []
            if told is None:
                return self._read()
            if told.id == self._last + 1:
                self._last = told.id
                return [told]
            if told.id > self._last:
                if missed := self._read():
                    return missed
                self._last = told.id  # Redis has lost the stream since
                return [told]

    def _read(self) -> list[Told]:
        found = self._hub.read(self.turn_id, self._last)
        if found:
            self._last = found[-1].id
        return found

    def close(self) -> None:
        self._hub.unsubscribe(self)
