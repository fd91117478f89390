"""A newcomer clones, types `make run`, and is answered; stops it; types `make run` again, and everything is still there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import ROOT
from tests.waiting import free_port, wait_for

START_S = 600  # an installation over a slow network
STOP_S = 10


class Newcomer:
    """Somebody with a clone, Python, make and git, and nothing else of ours."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "qingniao"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(self.clone)], check=True)
        self.port = free_port()
        self.log = folder / "log"
        self.url = f"http://127.0.0.1:{self.port}"

    def types_make_run(self) -> subprocess.Popen[bytes]:
        keep = {name: value for name, value in os.environ.items() if name not in {"DATA_DIR", "VIRTUAL_ENV", "MAKEFLAGS"}}
        env = keep | {"PORT": str(self.port), "LANG": "en_US.UTF-8", "PYTHON": sys.executable}
        self.log.write_text("")
        with self.log.open("ab") as log:
            return subprocess.Popen(["make", "run"], cwd=self.clone, env=env, stdout=log, stderr=log, start_new_session=True)

    def waits_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        def ready() -> bool:
            assert process.poll() is None, self.log.read_text()
            return "Qingniao is ready" in self.log.read_text()

        wait_for(ready, START_S, "make run to be ready")

    def asks(self, token: str, text: str) -> str:
        """The answer to a question, as the page would show it."""
        headers = {"Authorization": f"Bearer {token}"}
        body = {"text": text, "client_message_id": uuid.uuid4().hex}
        turn = httpx2.post(f"{self.url}/api/chat/messages", json=body, headers=headers).raise_for_status().json()["turn_id"]
        event = ""
        with httpx2.stream("GET", f"{self.url}/api/chat/turns/{turn}/events", headers=headers, timeout=60) as response:
            for line in response.iter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event == "done":
                    done: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return str(done["text"])
        raise AssertionError("no answer came")

    def stops(self, process: subprocess.Popen[bytes]) -> None:
        """Ctrl-C in the terminal: everything of it ends, in time."""
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP_S)
        wait_for(lambda: not self.still_runs(), 5, "every process to end")

    def still_runs(self) -> list[str]:
        """Command lines of processes that work in the clone."""
        running = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "cwd").resolve() == self.clone:
                    running.append((path / "cmdline").read_text())
            except OSError:
                continue  # it ended while we looked, or is not ours
        return running


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer(tmp_path)


def test_a_newcomer_types_one_command_and_is_answered(newcomer: Newcomer) -> None:
    process = newcomer.types_make_run()
    newcomer.waits_until_ready(process)
    said = newcomer.log.read_text()
    assert f"{newcomer.url}/chat/shop-web" in said and f"{newcomer.url}/admin/" in said
    assert said.count("First password") == 1
    session = httpx2.post(f"{newcomer.url}/api/chat/shop-web/sessions", json={}).raise_for_status().json()
    for question in session["bot"]["suggested_questions"]:
        assert "[1]" in newcomer.asks(session["token"], question)
    newcomer.stops(process)

    again = newcomer.types_make_run()
    newcomer.waits_until_ready(again)
    assert "First password" not in newcomer.log.read_text()
    back = httpx2.post(f"{newcomer.url}/api/chat/shop-web/sessions", json={"token": session["token"]}).json()
    assert len(back["messages"]) == 2 * len(session["bot"]["suggested_questions"])
    newcomer.stops(again)
