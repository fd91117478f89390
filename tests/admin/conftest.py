"""A migrated database in a data folder of its own, and the command line upon it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from click.testing import Result

from admin.migrate import migrate
from app import create_app
from bot.settings import Settings, read_settings
from jobs import kept
from jobs.services import Services


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database in the program's shape, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    settings = read_settings({"DATA_DIR": str(folder)})
    migrate(settings, "en")
    return folder / "qingniao.db"


Open = Callable[..., Services]


@pytest.fixture
def open_house(migrated: Path, redis_url: str, tmp_path: Path) -> Iterator[Open]:
    """Opens services on a data folder, fresh at its first use: open_house("there", SECRET_KEY=…) → Services."""
    kept.forget()  # what another test's rows said
    opened: list[Services] = []

    def open_one(name: str = "here", **environ: str) -> Services:
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            shutil.copy(migrated, folder / "qingniao.db")
        values = {"DATA_DIR": str(folder), "REDIS_URL": redis_url, "MILVUS_URI": "http://127.0.0.1:9"}
        services = Services(read_settings(values | environ))
        opened.append(services)
        return services

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield open_one
        client.flushall()
    for services in opened:
        services.close()


@pytest.fixture
def house(open_house: Open) -> Services:
    """Services on an empty, migrated SQLite database and a real Redis; no vector index listens."""
    return open_house()


Flask = Callable[..., Result]


@pytest.fixture
def flask(house: Services, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """Runs a command of ours: flask("apply", "shop.yaml") → click's Result (exit_code, stdout, stderr)."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    def run(*arguments: str, stdin: str | None = None, settings: Settings | None = None) -> Result:
        app = create_app(settings or house.settings)
        try:
            return app.test_cli_runner().invoke(args=[str(word) for word in arguments], input=stdin)
        finally:
            app.extensions["qingniao"].close()

    return run


@pytest.fixture(autouse=True)
def no_secrets_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own references stand for nothing unless a test says so."""
    for name in ("MAIN_API_KEY", "OTHER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert "QINGNIAO_DEMO" not in os.environ


@pytest.fixture
def new_postgres(postgres_url: str) -> str:
    """The URL of an empty PostgreSQL database."""
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{postgres_url}/{name}"
