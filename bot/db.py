"""The engine and its sessions, on SQLite (WAL) or PostgreSQL."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from bot.errors import StoreError

BUSY_TIMEOUT_S = 8  # then the caller is told to come again
PG_POOL = 20
CONNECT_TIMEOUT_S = 5
AWAY = (OperationalError, InterfaceError, PoolTimeout, sqlite3.OperationalError)  # what a database that is away raises
POOL_TIMEOUT_S = 20


class Database:
    """One engine per process. `read()` and `write()` give sessions; a write is one transaction, committed at its end.

    On SQLite writes take turns at locks of ours, within a process and, by a file beside the database, between processes:
    the database's own lock has no queue, its waiters sleep for up to 0.1 s and poll. Opened lazily, so that it may be made
    before a fork.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._turnstile = -1  # the lock file's descriptor

    @property
    def engine(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = make_engine(self.url)
            return self._engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading. Raises StoreError when the database does not answer."""
        try:
            with Session(self.engine, expire_on_commit=False) as session:
                yield session
        except AWAY as error:
            raise _store_error(error) from error

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose work is committed at the end, whole or not at all. Raises StoreError when it cannot be."""
        try:
            if self.is_sqlite:
                with self._turn(), Session(self.engine, expire_on_commit=False) as session:
                    session.connection(execution_options={"sqlite_begin": "IMMEDIATE"})
                    yield session
                    session.commit()
            else:
                with Session(self.engine, expire_on_commit=False) as session:
                    yield session
                    session.commit()
        except AWAY as error:
            raise _store_error(error) from error

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Our turn to write. Raises StoreError when it does not come in BUSY_TIMEOUT_S, that is: somebody else is stuck."""
        if not self._write_lock.acquire(timeout=BUSY_TIMEOUT_S):
            raise StoreError("database", "The database is locked by another program.", permanent=False)
        try:
            if self._turnstile < 0:
                self._turnstile = _open_turnstile(self.engine)
            if self._turnstile >= 0:
                fcntl.flock(self._turnstile, fcntl.LOCK_EX)  # a process that dies lets go
            try:
                yield
            finally:
                if self._turnstile >= 0:
                    fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        finally:
            self._write_lock.release()

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None
            if self._turnstile >= 0:
                os.close(self._turnstile)
                self._turnstile = -1


def _open_turnstile(engine: Engine) -> int:
    """The lock file's descriptor; -1 for a database in memory. Raises StoreError when it cannot be made."""
    path = engine.url.database
    if not path or path == ":memory:":
        return -1
    try:
        return os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError("database", f"The database's folder may not be written to: {error}", permanent=False) from error


def make_engine(url: str) -> Engine:
    """An engine for url: sqlite:///PATH with WAL and foreign keys, or postgresql+psycopg://…."""
    if not url.startswith("sqlite"):
        return create_engine(
            url, pool_size=PG_POOL, max_overflow=PG_POOL, pool_pre_ping=True, pool_timeout=POOL_TIMEOUT_S,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )  # fmt: skip
    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}, pool_size=8, max_overflow=120
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own comes too late for a write
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # safe when a process dies; a power cut may lose the last moment
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-2000")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.connection.driver_connection.execute(f"BEGIN {mode}")  # a tenth of what the same costs through SQLAlchemy


def _store_error(error: Exception) -> StoreError:
    reason = getattr(error, "orig", None) or error
    return StoreError("database", f"The database did not do it: {reason}", permanent=False)
