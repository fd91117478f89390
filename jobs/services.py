"""What a process of ours needs to reach: database, Redis, queues, the index. Made once, opened lazily, so after a fork."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel
from rq import Queue

from bot.db import Database
from bot.settings import Settings
from jobs.events import Hub, Outbox

if TYPE_CHECKING:
    from bot.llm import Llm
    from knowledge.search import Searcher

REPLIES = "replies"  # answering: on threads
HEAVY = "heavy"  # parsing, embedding, house-keeping: in forks
CONNECT_TIMEOUT_S = 3
MAX_CONNECTIONS = 1024


class Services:
    """The open connections of one process. Threads share it; each part is opened when it is first used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.db = Database(settings.database_url)
        self._searcher_lock = threading.Lock()
        self._searcher: Searcher | None = None

    @cached_property
    def redis(self) -> Redis:
        """For short calls: gives up after seconds."""
        return connect(self.settings.redis_url, socket_timeout_s=5)

    @cached_property
    def redis_blocking(self) -> Redis:
        """For calls that wait: longer than any wait of ours."""
        return connect(self.settings.redis_url, socket_timeout_s=90)

    @cached_property
    def replies(self) -> Queue:
        return Queue(REPLIES, connection=self.redis)

    @cached_property
    def heavy(self) -> Queue:
        return Queue(HEAVY, connection=self.redis)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.redis)

    @cached_property
    def hub(self) -> Hub:
        return Hub(self.redis, self.redis_blocking)

    @property
    def searcher(self) -> Searcher:
        from knowledge.search import Searcher

        with self._searcher_lock:
            if self._searcher is None:
                self._searcher = Searcher(self.db, self.settings, self.embed)
            return self._searcher

    @cached_property
    def llm(self) -> Llm:
        from bot.llm import Llm

        return Llm()

    def embed(self, name: str, texts: Sequence[str]) -> list[list[float]]:
        from jobs.models import embedding_texts

        return embedding_texts(self, self.llm, name, texts)

    def ping_milvus(self) -> str:
        """ok, or that nothing listens where the index should be. Opens no client: the web process needs none."""
        parts = urlsplit(self.settings.milvus_uri)
        try:
            with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 19530), CONNECT_TIMEOUT_S):
                return "ok"
        except OSError as error:
            return f"does not answer ({error.strerror or error})"

    def close(self) -> None:
        """Close what was opened."""
        for name in ("hub", "outbox", "llm"):
            if name in self.__dict__:
                self.__dict__[name].close()
        if self._searcher is not None:
            self._searcher.close()
        self.db.close()
        for name in ("redis", "redis_blocking"):
            if name in self.__dict__:
                self.__dict__[name].close()


def connect(url: str, socket_timeout_s: float) -> Redis:
    """A Redis client for redis://, rediss://, unix:// or redis+sentinel://HOST:PORT,HOST:PORT/SERVICE[/DB].

    One retry only: callers know what to do without Redis.
    """
    options = {
        "socket_timeout": socket_timeout_s,
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), 1),
        "max_connections": MAX_CONNECTIONS,
    }
    parts = urlsplit(url)
    if parts.scheme == "redis+sentinel":
        hosts = [tuple(host.rsplit(":", 1)) for host in parts.netloc.rsplit("@", 1)[-1].split(",")]
        path = parts.path.strip("/").split("/")
        sentinel = Sentinel([(host, int(port)) for host, port in hosts], socket_timeout=CONNECT_TIMEOUT_S)
        client: Redis = sentinel.master_for(
            path[0] or "mymaster", db=int(path[1]) if len(path) > 1 else 0, password=parts.password, **options
        )
        return client
    if parts.scheme != "unix":
        options["socket_connect_timeout"] = CONNECT_TIMEOUT_S
    return Redis.from_url(url, **options)
