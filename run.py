"""`make run`: prepare the data folder, start what the Procfile names, restart what dies, and stop it all cleanly.

Our own commands are forked from this process after it has imported what they share, so that six processes hold one
copy of the libraries. Nothing here opens a connection or starts a thread before the last fork.
"""

from __future__ import annotations

import os
import sys

SETTINGS_FOR_A_SMALL_MACHINE = {
    "MALLOC_ARENA_MAX": "2",  # many threads would keep an arena each
    "MALLOC_TRIM_THRESHOLD_": "65536",  # what a burst took is given back
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the index server would keep what it freed
    "OMP_NUM_THREADS": "1",  # spinning threads would take the second core from chats
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "PYTHONUNBUFFERED": "1",
}
if __name__ == "__main__" and not SETTINGS_FOR_A_SMALL_MACHINE.keys() <= os.environ.keys():
    os.environ.update({k: v for k, v in SETTINGS_FOR_A_SMALL_MACHINE.items() if k not in os.environ})
    os.execv(sys.executable, [sys.executable, *sys.argv])  # the C library reads these once, at its start

import ctypes  # noqa: E402
import datetime  # noqa: E402
import errno  # noqa: E402
import fcntl  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import selectors  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
import urllib.error  # noqa: E402
import urllib.parse  # noqa: E402
import urllib.request  # noqa: E402
from collections import deque  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from honcho.environ import parse_procfile  # noqa: E402
from honcho.printer import Message, Printer  # noqa: E402

from bot.errors import BotError, ConfigError  # noqa: E402
from bot.settings import Settings, milvus_port_file, read_settings  # noqa: E402
from bot.texts import say  # noqa: E402

if TYPE_CHECKING:
    from flask import Flask

HERE = Path(__file__).resolve().parent
EMBEDDED = ("redis", "milvus")  # started first, stopped last
LEAST_FREE_BYTES = 200 * 1024 * 1024
READY_S = 180
SERVICES_S = 5.0  # how long outside services may take to appear
STOP_APPS_S = 8.0
STOP_ALL_S = 9.5
FLAPPING = 6  # deaths …
FLAPPING_S = 20.0  # … within this time stop the whole
COLOURS = ("36", "33", "32", "35", "34", "31")
DEFAULT_PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "http": 19530, "https": 443, "tcp": 19530}
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15


@dataclass
class Child:
    """One process of the Procfile."""

    name: str
    command: str
    colour: str
    pid: int = 0
    output: int = -1
    rest: bytes = b""
    start_at: float = 0.0
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=FLAPPING))


class Supervisor:
    """Starts the children, prints what they say, restarts them, stops them. One thread, so that it may fork."""

    def __init__(self, children: list[Child]) -> None:
        self.children = children
        self.stopping = False
        self.exit_code = 0
        self._printer = Printer(sys.stdout, width=max(len(child.name) for child in children))
        self._aside: dict[int, int] = {}  # exit codes of commands that were run aside, by pid
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe()
        for end in (self._wake_out, self._wake_in):
            os.set_blocking(end, False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(signum, self._on_signal)
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)

    def _on_signal(self, signum: int, _frame: object) -> None:
        if signum != signal.SIGCHLD:
            self.stopping = True

    def start(self, child: Child) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _become(child.name, child.command, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self._selector.register(reading, selectors.EVENT_READ, child)
        child.pid, child.output = pid, reading

    def run(self, until: Callable[[], bool] = lambda: False, seconds: float | None = None) -> bool:
        """Look after the children until told to stop, until(), or for `seconds`. True when until() was."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.stopping:
            self._tick(0.2)
            if until():
                return True
            if end is not None and time.monotonic() > end:
                return False
        return False

    def run_aside(self, arguments: list[str]) -> int:
        """Run one of our commands while looking after the children; its exit code, 1 when we were told to stop."""
        pid = _spawn(arguments)
        if not self.run(lambda: pid in self._aside):
            _kill(pid, signal.SIGTERM)
        return self._aside.pop(pid, 1)

    def _tick(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                _drain(self._wake_out)
            else:
                self._read(key.data)
        self._reap()
        now = time.monotonic()
        for child in self.children:
            if not child.pid and not self.stopping and child.start_at <= now:
                self.start(child)

    def _read(self, child: Child) -> None:
        try:
            data = os.read(child.output, 65536)
        except BlockingIOError:
            return
        *lines, child.rest = (child.rest + data).split(b"\n")
        for line in lines:
            self.say(line, child)
        if not data:
            self._selector.unregister(child.output)
            os.close(child.output)
            child.output = -1

    def say(self, line: bytes | str, child: Child | None = None) -> None:
        name, colour = (child.name, child.colour) if child else ("qingniao", "1")
        self._printer.write(Message("line", line, datetime.datetime.now(), name, colour))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            child = next((child for child in self.children if child.pid == pid), None)
            if child is not None:
                self._died(child, code)
            else:
                self._aside[pid] = code

    def _died(self, child: Child, code: int) -> None:
        child.pid = 0
        if child.output >= 0:
            self._read(child)
        if self.stopping:
            return
        now = time.monotonic()
        child.deaths.append(now)
        if len(child.deaths) == FLAPPING and now - child.deaths[0] < FLAPPING_S:
            self.say(say("run.flapping", _locale(), name=child.name, count=FLAPPING, code=code))
            self.stopping, self.exit_code = True, 1
            return
        wait_s = min(0.1 * 2 ** (len(child.deaths) - 1), 3.0) if now - child.deaths[0] < FLAPPING_S else 0.1
        self.say(say("run.restarting", _locale(), name=child.name, code=code))
        child.start_at = now + wait_s

    def stop(self) -> int:
        """Stop everything within STOP_ALL_S: first what answers, then what it stands on. Returns the exit code."""
        self.stopping = True
        began = time.monotonic()
        apps = [child for child in self.children if child.name not in EMBEDDED]
        self._stop(apps, began + STOP_APPS_S)
        self._stop(self.children, began + STOP_ALL_S)
        for child in self.children:
            if child.pid:
                _kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
        return self.exit_code

    def _stop(self, children: list[Child], until: float) -> None:
        for child in children:
            if child.pid:
                _kill(child.pid, signal.SIGTERM)
        while any(child.pid for child in children) and time.monotonic() < until:
            self._tick(0.05)


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass  # it was faster


def _drain(descriptor: int) -> None:
    try:
        os.read(descriptor, 4096)
    except BlockingIOError:
        pass  # another signal had woken us already


def _become(name: str, command: str, output: int) -> None:
    """In the child: run the command with its output in the pipe, and die when the parent dies. Never returns."""
    code = 1
    try:
        _be_a_child()
        _be_called(name)
        os.setpgid(0, 0)  # Ctrl-C is the parent's to hear
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        words = command.split()
        if words[0] == "flask":
            _flask(words[1:])
            code = 0
        else:
            os.execvp("sh", ["sh", "-c", command])
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with_parent() -> None:
    """Source: prctl(2), PR_SET_PDEATHSIG."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _be_called(name: str) -> None:
    """So that `ps` and `top` tell our processes apart. Source: prctl(2), PR_SET_NAME."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, f"qn-{name}".encode()[:15])


_built: Flask | None = None  # the application, built before the children are forked; it opens nothing by itself


def _flask(arguments: list[str]) -> None:
    from flask.cli import FlaskGroup

    from app import create_app

    create = create_app if _built is None else lambda: _built
    FlaskGroup(create_app=create, set_debug_flag=False, load_dotenv=False).main(arguments, prog_name="flask")


def _listen(arguments: list[str]) -> tuple[int, str]:
    """Run one of our commands to its end: (exit code, what it printed)."""
    reading, writing = os.pipe()
    pid = _spawn(arguments, writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told


def _spawn(arguments: list[str], output: int | None = None) -> int:
    """Begin one of our commands in a process of its own; its pid. output: where it prints, else where we do."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _be_a_child()
            if output is not None:
                os.dup2(output, 1)
            _flask(arguments)
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def _be_a_child() -> None:
    """Forget the parent's signals, and die when it dies."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    _die_with_parent()


def _locale() -> str:
    return os.environ.get("LC_ALL") or os.environ.get("LANG") or "en"


def _check(settings: Settings) -> None:
    """What would otherwise fail later and less clearly. Raises ConfigError."""
    free = shutil.disk_usage(settings.data_dir).free
    if free < LEAST_FREE_BYTES:
        raise ConfigError(say("run.disk", _locale(), path=settings.data_dir, megabytes=free // 1024 // 1024))
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            key = "run.port_busy" if error.errno == errno.EADDRINUSE else "run.port_refused"
            raise ConfigError(say(key, _locale(), host=settings.host, port=settings.port)) from error


def _check_services(settings: Settings) -> None:
    """Outside services must be there. Raises ConfigError."""
    outside = (
        ("REDIS_URL", settings.redis_embedded, settings.redis_url),
        ("MILVUS_URI", settings.milvus_embedded, settings.milvus_uri),
    )
    for name, embedded, url in outside:
        end = time.monotonic() + SERVICES_S
        while not embedded and not _is_there(url):
            if time.monotonic() > end:
                raise ConfigError(say("run.unreachable", _locale(), name=name))
            time.sleep(0.2)


def _is_there(url: str) -> bool:
    """Whether something listens at a URL, or at one of several hosts in it."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(parts.path) == 0
    for place in parts.netloc.rsplit("@", 1)[-1].split(","):
        host, _, port = place.rpartition(":")
        try:
            address = (host.strip("[]"), int(port)) if host else (place, DEFAULT_PORTS[parts.scheme])
            socket.create_connection(address, 2).close()
            return True
        except (OSError, ValueError):
            continue  # perhaps the next one
    return False


def _only_one(data_dir: Path) -> int:
    """Hold the data folder's lock for as long as we live. Raises ConfigError when another run holds it."""
    descriptor = os.open(data_dir / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(say("run.already", _locale(), path=data_dir)) from error
    return descriptor


def _choose_milvus_port(data_dir: Path) -> None:
    """Write down a free port for the embedded index: the one of last time if it still is free."""
    kept = milvus_port_file(data_dir)
    kept.parent.mkdir(parents=True, exist_ok=True)
    for port in (int(kept.read_text()) if kept.exists() else 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody has it now: take another
            kept.write_text(str(probe.getsockname()[1]))
            return


def _children(settings: Settings) -> list[Child]:
    replaced = {"redis"} if not settings.redis_embedded else set()
    replaced |= {"milvus"} if not settings.milvus_embedded else set()
    parsed = parse_procfile((HERE / "Procfile").read_text()).processes
    wanted = [(name, command) for name, command in parsed.items() if name not in replaced]
    return [Child(name, command, COLOURS[place % len(COLOURS)]) for place, (name, command) in enumerate(wanted)]


def _preload() -> None:
    """Import and build what the children share, then keep it out of the collector's sight, so that their pages stay shared."""
    global _built
    import gunicorn.app.base
    import gunicorn.workers.gthread
    import openai
    import rq.cron

    import app
    from knowledge import index

    assert all((gunicorn.app.base, gunicorn.workers.gthread, openai, rq.cron))
    index.preload()
    _built = app.create_app()
    gc.collect()
    gc.freeze()


def _is_ready(settings: Settings) -> bool:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    host = f"[{host}]" if ":" in host else host
    try:
        with urllib.request.urlopen(f"http://{host}:{settings.port}/readyz", timeout=2) as response:
            return bool(json.load(response)["status"] == "ok")
    except (urllib.error.URLError, OSError, ValueError):
        return False


def main() -> int:
    locale = _locale()
    try:
        os.chdir(HERE)
        settings = read_settings()
        lock = _only_one(settings.data_dir)
        _check(settings)
        _check_services(settings)
        _choose_milvus_port(settings.data_dir)
    except BotError as error:
        print(error, file=sys.stderr)
        return 1
    _preload()
    code, first_password = _listen(["prepare"])
    if code:
        return code
    supervisor = Supervisor(_children(settings))
    for child in supervisor.children:
        supervisor.start(child)
    if supervisor.run(lambda: _is_ready(settings), READY_S):
        if supervisor.run_aside(["seed"]) != 0:
            supervisor.say(say("run.no_demo", locale))
        print(first_password, end="", flush=True)  # last, where it is seen
        supervisor.say(say("run.ready", locale))
        supervisor.run()
    elif not supervisor.stopping:
        print(first_password, end="", flush=True)
        supervisor.say(say("run.not_ready", locale, seconds=READY_S))
        supervisor.exit_code = 1
    code = supervisor.stop()
    os.close(lock)
    return code


if __name__ == "__main__":
    sys.exit(main())
