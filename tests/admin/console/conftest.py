"""The console over Flask's test client, with a browser's manners: cookies, CSRF tokens, redirects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlmodel import Session
from werkzeug.test import TestResponse

from admin import store
from admin.auth import create_user
from app import create_app
from bot.config import BotConfig, ChannelConfig, ModelConfig, ModerationConfig, ProviderConfig
from bot.settings import Settings
from bot.tables import Bot
from jobs.services import Services

PASSWORD = "correct horse battery"
API_KEY = "sk-emulated-0123456789"


class Console:
    """Cy's browser."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.services: Services = app.extensions["qingniao"]
        self.client: FlaskClient = app.test_client()
        self.last: TestResponse | None = None

    def get(self, path: str, **more: Any) -> TestResponse:
        self.last = self.client.get(path, **more)
        return self.last

    def text(self, path: str, status: int = 200) -> str:
        """The page at path, after redirects."""
        page = self.client.get(path, follow_redirects=True)
        assert page.status_code == status, page.text
        return page.text

    @property
    def token(self) -> str:
        """The CSRF token of this browser's session."""
        return csrf_of(self.client.get("/admin/sign-in", follow_redirects=True).text)

    def post(self, path: str, data: dict[str, Any] | None = None, **more: Any) -> TestResponse:
        """Send a form with its token; the answer before any redirect."""
        return self.client.post(path, data={**(data or {}), "csrf": self.token}, **more)

    def does(self, path: str, data: dict[str, Any] | None = None) -> str:
        """Send a form and follow; the page that comes then."""
        page = self.post(path, data, follow_redirects=True)
        assert page.status_code == 200, page.text
        return page.text

    def sign_in(self, name: str = "Cy", password: str = PASSWORD, **data: str) -> TestResponse:
        return self.post("/admin/sign-in", {"name": name, "password": password, **data})

    def write(self) -> Any:
        return self.services.db.write()

    def read(self) -> Any:
        return self.services.db.read()


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found, page
    return found[1]


@pytest.fixture
def open_console(house: Services) -> Iterator[Callable[..., Console]]:
    """open_console(settings) → a browser at a web process of its own; all on one database, where Cy has an account."""
    create_user(house.db, "Cy", PASSWORD)
    with ExitStack() as stack:

        def open_one(settings: Settings | None = None) -> Console:
            app = create_app(settings or house.settings)
            stack.callback(app.extensions["qingniao"].close)
            return Console(app)

        yield open_one


@pytest.fixture
def door(open_console: Callable[..., Console]) -> Console:
    """A browser that is not signed in."""
    return open_console()


@pytest.fixture
def console(door: Console) -> Console:
    """Cy, signed in, in English."""
    assert door.sign_in().status_code == 303
    door.get("/admin?lang=en")
    return door


@pytest.fixture
def shop(console: Console) -> int:
    """The id of a published bot with everything that refers to it."""
    with console.write() as session:
        return make_shop(session, console.services.settings)


def make_shop(session: Session, settings: Settings, base_url: str = "http://127.0.0.1:9/v1") -> int:
    store.save_provider(
        session,
        settings,
        ProviderConfig(name="main", base_url=base_url, api_key=API_KEY, models=(ModelConfig(name="chat-large"),)),
    )
    store.save_base(session, "handbook")
    store.save_keyword_list(session, ModerationConfig(name="house-rules", keywords=("casino", "赌博")))
    bot: Bot = store.save_bot_draft(
        session,
        BotConfig.model_validate(
            {
                "name": "shop",
                "title": "Little Shop",
                "knowledge": {"bases": ["handbook"]},
                "moderation": {"lists": ["house-rules"]},
            }
        ),
    )
    store.publish(session, bot, "Cy")
    store.save_channel(session, settings, ChannelConfig(name="shop-web", kind="web", bot="shop"))
    assert bot.id is not None
    return bot.id
