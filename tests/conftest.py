"""Fixtures that start the real thing: Redis, Milvus Lite, and the whole product on free ports and a data folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
START_S = 90
PASSWORD = "correct horse battery"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(ready: Callable[[], Any], seconds: float = 15, what: str = "it") -> Any:
    """The first true value of ready(); fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = ready()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)


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
        wait_for(self.is_ready, START_S, f"readiness; it said:\n{self.log()}")
        return self

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
        if "Qingniao is ready" not in self.log() and "Web chat:" not in self.log():
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

    def children(self) -> dict[str, list[int]]:
        """pids of its processes by what they listen to or run; read from /proc."""
        assert self.process is not None
        found: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                rest = path.read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.setdefault(int(rest[1]), []).append(int(path.parent.name))
        return {"direct": found.get(self.process.pid, [])} | {
            f"below {pid}": found.get(pid, []) for pid in found.get(self.process.pid, [])
        }

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
