from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlmodel import select

from bot.secrets import decrypt
from bot.tables import Bot, Model, Provider
from tests.admin.console.conftest import Console
from tests.admin.console.test_bots import published
from tests.emulators.model import EMBEDDING_MODEL, KEY, MODEL, ModelEmulator


@pytest.fixture
def emulator() -> Iterator[ModelEmulator]:
    with ModelEmulator() as server:
        yield server


def form(base_url: str = "https://api.example.com/v1", **more: str) -> dict[str, str]:
    models = {"models.0.name": MODEL, "models.1.name": "", "models.2.name": EMBEDDING_MODEL}
    kinds = {"models.0.kind": "chat", "models.2.kind": "embedding", "models.2.dim": "32"}
    return {"name": "main2", "base_url": base_url, "api_key": KEY, **models, **kinds, **more}


def stored(console: Console, name: str = "main2") -> tuple[Provider, str | None, list[Model]]:
    with console.read() as session:
        row = session.exec(select(Provider).where(Provider.name == name)).one()
        models = list(session.exec(select(Model).where(Model.provider_id == row.id).order_by(Model.id)))
        return row, decrypt(row.api_key, console.services.settings.secret_key) if row.api_key else None, models


def test_a_provider_is_kept_with_its_key_and_models(console: Console) -> None:
    page = console.does("/admin/models/new", form())
    assert KEY not in page and "••••6789" in page
    row, key, models = stored(console)
    assert key == KEY and KEY not in (row.api_key or "")
    assert [(model.name, model.kind, model.dim) for model in models] == [
        (MODEL, "chat", None),
        (EMBEDDING_MODEL, "embedding", 32),
    ]


def test_an_empty_key_keeps_the_stored_one(console: Console) -> None:
    console.does("/admin/models/new", form())
    row, _, _ = stored(console)
    console.does(f"/admin/models/{row.id}", form(api_key="", **{"models.0.price_in": "2.5"}))
    _, key, models = stored(console)
    assert (key, models[0].price_in) == (KEY, 2.5)
    console.does(f"/admin/models/{row.id}", form(api_key="", forget="1"))
    assert stored(console)[1] is None


def test_a_stored_key_does_not_go_to_another_host(console: Console) -> None:
    console.does("/admin/models/new", form())
    row, _, _ = stored(console)
    page = console.post(f"/admin/models/{row.id}", form("https://elsewhere.example/v1", api_key=""))
    assert page.status_code == 422 and "Enter the key again" in page.text
    assert stored(console)[0].base_url == "https://api.example.com/v1"


@pytest.mark.parametrize("reference", ["env:SECRET_KEY", "file:/etc/passwd"])
def test_a_key_is_no_way_to_read_the_server(console: Console, reference: str) -> None:
    page = console.post("/admin/models/new", form(api_key=reference))
    assert page.status_code == 422 and "configuration file" in page.text


def test_what_is_wrong_with_a_provider_is_said_beside_its_field(console: Console, shop: int) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"base_url": "ftp://x"}, "starts with http"), ({"name": "main"}, "This name is taken"),
        ({"name": "no spaces"}, "letters, digits"), ({"models.1.name": MODEL}, "twice"),
        ({"models.0.context": "1"}, "512 or more"), ({"api_key": "sk with spaces"}, "Copy it again"),
    ]  # fmt: skip
    for change, words in wrong:
        page = console.post("/admin/models/new", form(**change))
        assert page.status_code == 422 and words in page.text, change
        assert KEY not in page.text


def test_a_good_test_offers_the_model_to_bots_and_publishes_it(console: Console, shop: int, emulator: ModelEmulator) -> None:
    emulator.always("Hello there.")
    console.does("/admin/models/new", form(emulator.base_url))
    row, _, _ = stored(console)
    page = console.does(f"/admin/models/{row.id}/test", {"model": MODEL})
    assert "Hello there." in page and "Use and publish" in page
    page = console.does(f"/admin/models/{row.id}/use", {"model": MODEL, "bot_id": str(shop), "action": "publish"})
    assert "published as version 2" in page
    assert published(console, shop)["model"] == f"main2/{MODEL}"
    assert console.post(f"/admin/models/{row.id}/delete").status_code == 409


def test_a_draft_with_other_changes_is_not_published_along(console: Console, shop: int, emulator: ModelEmulator) -> None:
    console.does("/admin/models/new", form(emulator.base_url))
    row, _, _ = stored(console)
    with console.write() as session:
        bot = session.get_one(Bot, shop)
        bot.draft = bot.draft | {"opening": "Not yet"}
        session.add(bot)
    assert "Use and publish" not in console.does(f"/admin/models/{row.id}/test", {"model": MODEL})
    page = console.does(f"/admin/models/{row.id}/use", {"model": MODEL, "bot_id": str(shop), "action": "publish"})
    assert "The draft now uses" in page
    assert published(console, shop)["opening"] == ""


def test_an_embedding_is_tested_by_its_vectors(console: Console, emulator: ModelEmulator) -> None:
    console.does("/admin/models/new", form(emulator.base_url))
    row, _, _ = stored(console)
    assert "32 dimensions" in console.does(f"/admin/models/{row.id}/test", {"model": EMBEDDING_MODEL})


def test_a_failed_test_says_why_in_words(console: Console, emulator: ModelEmulator) -> None:
    console.does("/admin/models/new", form(emulator.base_url, api_key="sk-wrong-key-0000"))
    row, _, _ = stored(console)
    page = console.does(f"/admin/models/{row.id}/test", {"model": MODEL})
    assert "It did not work" in page and "the key or the model name is wrong" in page
    assert "sk-wrong-key-0000" not in page
    console.does(f"/admin/models/{row.id}", form("http://127.0.0.1:9/v1"))
    assert "It cannot be reached" in console.does(f"/admin/models/{row.id}/test", {"model": MODEL})
    assert console.post(f"/admin/models/{row.id}/test", {"model": "no such"}).status_code == 404


def test_a_preset_fills_the_form_in(console: Console) -> None:
    page = console.text("/admin/models/new?preset=deepseek")
    assert 'value="https://api.deepseek.com/v1"' in page and 'value="deepseek-chat"' in page
    assert console.get("/admin/models/new?preset=nothing").status_code == 200
