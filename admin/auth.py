"""Console users and their passwords. The command line uses these too."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from functools import cache

import redis
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from sqlmodel import Session, select

from bot.db import Database
from bot.errors import ConfigError
from bot.tables import User

logger = logging.getLogger(__name__)

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 200  # a hash of a novel is a way to keep the machine busy
MAX_NAME_CHARS = 100

TRIES = 5  # wrong passwords for one name from one address …
TRIES_OF_ADDRESS = 30  # … and for all names from one address …
TRIES_OF_NAME = 100  # … and for one name from all addresses …
WINDOW_S = 900  # … within this time

# Source: OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, two passes, one lane. Small machines sign in too.
hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


class WeakPassword(ConfigError):
    """A password that is too easy. `reason` is short, long or same: the console has its own sentence for each."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NameTaken(ConfigError):
    """There is such a user already."""


def check_password(name: str, password: str) -> None:
    """Raises WeakPassword where password is too short or too long, the user's own name, or one character again and again."""
    if len(password) < MIN_PASSWORD_CHARS:
        raise WeakPassword("short", f"The password is too short. Take at least {MIN_PASSWORD_CHARS} characters.")
    if len(password) > MAX_PASSWORD_CHARS:
        raise WeakPassword("long", f"The password is too long. Take at most {MAX_PASSWORD_CHARS} characters.")
    if password.casefold() == name.casefold() or len(set(password)) < 3:
        raise WeakPassword("same", "The password is too easy to guess. Take another than the name or a repeated character.")


def create_user(db: Database, name: str, password: str) -> User:
    """A new console user. Raises ConfigError where the name is empty, too long or taken, or the password weak."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS:
        raise ConfigError(f"A user's name has 1 to {MAX_NAME_CHARS} characters. Take another one.")
    check_password(name, password)
    hashed = hasher.hash(password)
    with db.write() as session:
        if find_user(session, name) is not None:
            raise NameTaken(f"There is a user {name} already. Take another name, or set a new password.")
        user = User(name=name, password_hash=hashed)
        session.add(user)
    return user


def set_password(db: Database, name: str, password: str) -> User:
    """A new password, which ends the user's other sessions. Raises ConfigError for an unknown name or a weak password."""
    check_password(name, password)
    hashed = hasher.hash(password)
    with db.write() as session:
        user = find_user(session, name)
        if user is None:
            raise ConfigError(f"There is no user {name}. `flask user list` shows all.")
        user.password_hash = hashed
        user.session_version += 1
        session.add(user)
    return user


def verify(db: Database, name: str, password: str) -> User | None:
    """The user, where name and password fit; else none, after the same time whether or not there is such a user."""
    with db.read() as session:
        user = find_user(session, name.strip())
    try:
        hasher.verify(user.password_hash if user else _nobody(), password[: MAX_PASSWORD_CHARS + 1])
    except VerifyMismatchError:
        return None
    except (VerificationError, InvalidHashError):
        logger.warning("a stored password hash cannot be read")
        return None
    return user


def find_user(session: Session, name: str) -> User | None:
    return session.exec(select(User).where(User.name == name)).first()


@cache
def _nobody() -> str:
    return hasher.hash("a password that nobody has")


class Throttle:
    """Counts tries at signing in, in Redis for all processes together; in this process alone while Redis is away."""

    def __init__(self, secret_key: str) -> None:
        self._secret = secret_key.encode()
        self._lock = threading.Lock()
        self._own: dict[str, tuple[int, float]] = {}

    def wait_s(self, client: redis.Redis, name: str, address: str) -> int:
        """Count one try. 0: go on. Else the seconds to wait, and the password is not to be looked at."""
        waits = (
            self._count(client, self._key("pair", name.casefold(), address), TRIES),
            self._count(client, self._key("address", address), TRIES_OF_ADDRESS),
            self._count(client, self._key("name", name.casefold()), TRIES_OF_NAME),
        )
        return max(waits)

    def forget(self, client: redis.Redis, name: str, address: str) -> None:
        """The password was right: the tries before it do not count."""
        key = self._key("pair", name.casefold(), address)
        with self._lock:
            self._own.pop(key, None)
        try:
            client.delete(key)
        except redis.RedisError as error:
            logger.warning("sign-in tries are counted without Redis: %s", error)

    def _key(self, *parts: str) -> str:
        """Names and addresses are not left in Redis in clear."""
        digest = hmac.new(self._secret, "\0".join(parts).encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        return f"sign-in:{digest[:32]}"

    def _count(self, client: redis.Redis, key: str, limit: int) -> int:
        try:
            pipeline = client.pipeline(transaction=True)
            pipeline.set(key, 0, ex=WINDOW_S, nx=True)
            pipeline.incr(key)
            pipeline.ttl(key)
            _, count, left_s = pipeline.execute()
        except redis.RedisError as error:
            logger.warning("sign-in tries are counted without Redis: %s", error)
            count, left_s = self._count_here(key)
        return max(1, int(left_s)) if int(count) > limit else 0

    def _count_here(self, key: str) -> tuple[int, float]:
        now = time.monotonic()
        with self._lock:
            self._own = {k: v for k, v in self._own.items() if v[1] > now}
            count, until = self._own.get(key, (0, now + WINDOW_S))
            self._own[key] = (count + 1, until)
            return count + 1, until - now
