"""Fixtures that start the real thing: Redis, Milvus Lite, and the whole product on free ports and a data folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.settings import Settings, read_settings
from tests import servers
from tests.waiting import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent
START_S = 240  # a busy machine needs long; what it takes on a quiet one is a benchmark
PASSWORD = "correct horse battery"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a Chromium the browser's tests are left out, and said to be; where CI is set it must be there."""
    if chromium() is not None:
        return
    browser = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
    if browser and os.environ.get("CI"):
        raise pytest.UsageError("The browser tests need Chromium. On Debian: apt install chromium")
    items[:] = [item for item in items if item not in browser]
    config.hook.pytest_deselected(items=browser)
    if browser:
        print(f"No Chromium here: {len(browser)} browser tests are left out. On Debian: apt install chromium")


def chromium() -> str | None:
    """The path of an installed Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass
class Installation:
    """A running Qingniao, as `make run` starts it."""

    port: int
    data_dir: Path
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PORT": str(self.port),
            "DATA_DIR": str(self.data_dir),
            "ADMIN_PASSWORD": PASSWORD,
            "LANG": "C.UTF-8",
            **self.env,
        }

    def start(self) -> Installation:
        log = (self.data_dir / "run.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "run.py"], cwd=ROOT, env=self.environment(), stdout=log, stderr=log, text=True
        )
        log.close()
        try:
            wait_for(self.is_ready, START_S, "readiness")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}; it said:\n{self.log()}") from error
        return self

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
        if "Qingniao is ready" not in self.log():
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as response:
                return bool(json.load(response)["status"] == "ok")
        except (urllib.error.URLError, OSError):
            return False

    def log(self) -> str:
        path = self.data_dir / "run.log"
        return path.read_text() if path.exists() else ""

    def flask(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `flask` command against this installation."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / "flask"), *arguments],
            cwd=ROOT, env=self.environment(), input=stdin, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def stop(self) -> float:
        """SIGTERM; returns the seconds that it took to end."""
        assert self.process is not None
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.monotonic() - began


@pytest.fixture(scope="session")
def system() -> Iterator[Installation]:
    """The whole product with its demo, shared by the tests of a session: leave it as you found it."""
    with tempfile.TemporaryDirectory(prefix="qn-") as folder:
        installation = Installation(free_port(), Path(folder)).start()
        try:
            yield installation
        finally:
            installation.stop()


@pytest.fixture
def fresh_system() -> Iterator[Installation]:
    """An installation of one's own, not yet started: `start()` it."""
    with tempfile.TemporaryDirectory(prefix="qn-") as folder:
        installation = Installation(free_port(), Path(folder))
        try:
            yield installation
        finally:
            if installation.process is not None:
                installation.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server of the tests' own."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of the tests' own: its URL without a database's name."""
    with servers.postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def milvus_url() -> Iterator[str]:
    """A Milvus Lite server of the tests' own."""
    with servers.milvus_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    import psycopg

    server = request.getfixturevalue("postgres_url")
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


@pytest.fixture
def settings_on(tmp_path: Path, redis_url: str) -> Callable[[str], Settings]:
    """settings_on(database_url): settings with a data folder of the test's own, on the tests' Redis."""

    def make(database_url: str) -> Settings:
        import redis

        redis.Redis.from_url(redis_url).flushall()
        data = {"DATA_DIR": str(tmp_path / "data"), "DATABASE_URL": database_url, "SECRET_KEY": "for tests"}
        return read_settings({**data, "REDIS_URL": redis_url})

    return make
