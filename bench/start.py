"""From a clone to the first answer, and the second start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figure
from bench.load import Answer, Asker, Refused
from tests.conftest import ROOT
from tests.waiting import free_port

CHANNEL = "shop-web"  # the demo's
QUESTION = "退款多久到账？"
PATIENCE_S = 900


def clone_to_answer() -> list[Figure]:
    """Clone, `make run`, ask in the chat until the demo answers with a citation; stop; start again."""
    folder = Path(tempfile.mkdtemp(prefix="qn-clone-"))
    port = free_port()
    try:
        began = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder / "qingniao")], check=True)
        first = _start_and_ask(folder / "qingniao", port, began)
        second = _start_and_ask(folder / "qingniao", port, time.perf_counter())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    note = "git clone, make run (packages from pip's index or cache), demo seeded, a question answered with a citation"
    return [
        Figure("clone → first answer", first, "s", 120, note=note),
        Figure("second start → first answer", second, "s", 8),
    ]


def _start_and_ask(clone: Path, port: int, began: float) -> float:
    """Seconds from `began` until a running `make run` has answered from its documents; it is stopped again."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "VIRTUAL_ENV", "MAKEFLAGS")}
    environment = {**kept, "PORT": str(port), "PYTHON": sys.executable}
    log = (clone.parent / "log").open("ab")
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with (
        log,
        subprocess.Popen(
            ["make", "run"], cwd=clone, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            while True:
                assert process.poll() is None, (clone.parent / "log").read_text()[-3000:]
                assert time.perf_counter() - began < PATIENCE_S, (clone.parent / "log").read_text()[-3000:]
                answer = asyncio.run(_ask(port))
                if answer is not None and answer.done and answer.done["citations"]:
                    return answer.ended_at - began
                time.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


async def _ask(port: int) -> Answer | None:
    """The demo's answer; none while nobody is there."""
    visitor = Asker(port, CHANNEL, patience_s=60)
    try:
        if not await visitor.listens():
            return None
        await visitor.arrive()
        return await visitor.ask(QUESTION)
    except Refused:
        return None  # the demo is not there yet
    finally:
        visitor.leave()
