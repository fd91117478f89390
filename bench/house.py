"""The product as `make run` starts it, on one core, with emulated models on the other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from tests.conftest import ROOT, Installation, free_port, wait_for
from tests.emulators.model import KEY

ANSWER = "Refunds reach your account within seven working days after we have received the parcel."
OUR_CORE, OTHER_CORE = 0, 1


@dataclass(frozen=True)
class Model:
    """How an emulated model speaks; a bot and a web channel of this name stand in front of it.

    The model bears the name too: providers that offer the same model would share its load.
    """

    name: str
    delay_s: float = 0.0
    tokens_per_s: float | None = None
    answer: str = ANSWER
    knows: bool = False  # whether its bot looks into a knowledge base


ZERO = Model("zero")
TWO_SECONDS = Model("two-seconds", delay_s=2.0)
STREAM_TOKENS = 240
STREAM = Model("stream", tokens_per_s=20, answer="tick " * STREAM_TOKENS)
LONG = Model("long", delay_s=40.0)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started inside run on that core alone."""
    before = os.sched_getaffinity(0)
    if (os.cpu_count() or 1) > core:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class House:
    """A running installation in a temporary folder. Use it as a context manager."""

    def __init__(self, models: tuple[Model, ...] = (), demo: bool = False, env: dict[str, str] | None = None) -> None:
        self.models = models
        self.ports: dict[str, int] = {}
        self._stack = ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="qn-bench-"))
        extra = {} if demo else {"QINGNIAO_DEMO": "0"}
        self.installation = Installation(free_port(), self._folder, {"LOG_LEVEL": "INFO", **extra, **(env or {})})

    def __enter__(self) -> House:
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        try:
            with on_core(OUR_CORE):
                self._stack.callback(self._stop)
                self.installation.start()
            for model in self.models:
                self.ports[model.name] = self._stack.enter_context(emulator(model))
            if self.models:
                self._configure()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def port(self) -> int:
        return self.installation.port

    @property
    def pid(self) -> int:
        assert self.installation.process is not None
        return self.installation.process.pid

    @property
    def folder(self) -> Path:
        return self._folder

    def _stop(self) -> None:
        if self.installation.process is not None:
            self.installation.stop()

    def _configure(self) -> None:
        file = self._folder / "bench.yaml"
        kinds = ("providers", "knowledge", "bots", "channels")
        file.write_text("version: 1\n" + "".join(_yaml(kind, self.models, self.ports) for kind in kinds))
        self.installation.flask("apply", str(file))

    def cpu_s(self) -> float:
        return sum(processes.cpu_s(self.pid).values())


def _yaml(kind: str, models: tuple[Model, ...], ports: dict[str, int]) -> str:
    def line(model: Model) -> str:
        if kind == "providers":
            return (
                f"  - {{name: {model.name}, base_url: 'http://127.0.0.1:{ports[model.name]}/v1', api_key: {KEY},"
                f" models: [{{name: {model.name}, context: 32000}}]}}\n"
            )
        if kind == "bots":
            bases = ", knowledge: {bases: [refunds]}" if model.knows else ""
            return f"  - {{name: {model.name}, model: {model.name}/{model.name}, followups: {{enabled: false}}{bases}}}\n"
        return f"  - {{name: {model.name}, kind: web, bot: {model.name}}}\n"

    if kind == "knowledge":
        pairs = "[{question: How long does a refund take?, answer: Seven working days.}]"
        return f"knowledge:\n  - {{name: refunds, faqs: {pairs}}}\n" if any(model.knows for model in models) else ""
    return f"{kind}:\n" + "".join(line(model) for model in models)


@contextmanager
def emulator(model: Model) -> Iterator[int]:
    """A model in a process of its own on the other core; gives its port."""
    port = free_port()
    words = ["--port", str(port), "--delay", str(model.delay_s), "--answer", model.answer, "--model", model.name]
    if model.tokens_per_s:
        words += ["--tokens-per-s", str(model.tokens_per_s)]
    with (
        on_core(OTHER_CORE),
        subprocess.Popen(
            [sys.executable, "-m", "tests.emulators.model", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it says its address when it listens
            yield port
        finally:
            process.terminate()


@contextmanager
def relay(model_port: int) -> Iterator[tuple[int, int]]:
    """The bare Flask relay (bench/relay.py) on our core; gives its port and pid."""
    port = free_port()
    environment = {**os.environ, "MODEL_URL": f"http://127.0.0.1:{model_port}/v1", "MODEL_KEY": KEY, "MODEL": ZERO.name}
    words = ["-m", "gunicorn", "-k", "gthread", "-w", "1", "--threads", "300", "-b", f"127.0.0.1:{port}",
             "--log-level", "error", "--no-control-socket", "bench.relay:app"]  # fmt: skip
    with on_core(OUR_CORE), subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment) as process:
        try:
            wait_for(lambda: _listens(port), 20, "the relay")
            yield port, process.pid
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        time.sleep(0.05)
        return False
    return True
