from __future__ import annotations

from typing import Any

from sqlmodel import select

from admin import store
from admin.bot_form import read_form
from bot.config import BotConfig
from bot.tables import Bot, BotVersion, Message, Turn
from tests.admin.console.conftest import Console

FORM: dict[str, Any] = {
    "title": "Little Shop", "model": "builtin", "language": "auto", "temperature": "0.3", "max_tokens": "", "prompt": "",
    "opening": "Hello", "suggested_questions.0": "When do you open?", "suggested_questions.1": "", "followups.enabled": "1",
    "followups.count": "3", "memory.recent_turns": "10", "memory.summary": "1", "memory.facts": "1",
    "knowledge.bases": "handbook", "knowledge.top_k": "5", "knowledge.min_score": "0.35", "knowledge.cite": "1",
    "knowledge.when_empty": "answer", "moderation.lists": "house-rules", "moderation.check": "both", "moderation.on_block": "",
    "handoff.keywords": "人工", "handoff.message": "", "image_hosts": "", "fallback_models.0": "", "avatar": "",
}  # fmt: skip


def bot_of(console: Console, bot_id: int) -> Bot:
    with console.read() as session:
        return session.get_one(Bot, bot_id)  # type: ignore[no-any-return]


def published(console: Console, bot_id: int) -> dict[str, Any]:
    with console.read() as session:
        version = store.published_version(session, session.get_one(Bot, bot_id))
        assert version is not None
        return version.config


def test_a_draft_changes_nothing_until_it_is_published(console: Console, shop: int) -> None:
    page = console.does(f"/admin/bots/{shop}", FORM | {"action": "save"})
    assert "Draft saved." in page and "Unpublished changes" in page
    assert bot_of(console, shop).draft["opening"] == "Hello"
    assert published(console, shop)["opening"] == ""
    page = console.does(f"/admin/bots/{shop}", FORM | {"action": "publish"})
    assert "Version 2 is published" in page and "Unpublished changes" not in page
    assert published(console, shop)["opening"] == "Hello"


def test_publishing_the_same_again_makes_no_version(console: Console, shop: int) -> None:
    for _ in range(2):
        console.does(f"/admin/bots/{shop}", FORM | {"action": "publish"})
    with console.read() as session:
        assert [row.number for row in session.exec(select(BotVersion))] == [1, 2]


def test_versions_show_what_changed_and_cy_goes_back(console: Console, shop: int) -> None:
    console.does(f"/admin/bots/{shop}", FORM | {"action": "publish"})
    page = console.text(f"/admin/bots/{shop}/versions")
    assert "<ins>Hello</ins>" in page and "Live now" in page
    page = console.does(f"/admin/bots/{shop}/versions/1/publish")
    assert "published as version 3" in page
    assert published(console, shop)["opening"] == ""
    assert bot_of(console, shop).draft["opening"] == "Hello"
    console.does(f"/admin/bots/{shop}/discard")
    assert bot_of(console, shop).draft["opening"] == ""
    console.does(f"/admin/bots/{shop}/versions/2/draft")
    assert bot_of(console, shop).draft["opening"] == "Hello"


def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_lost(console: Console, shop: int) -> None:
    wrong = {"temperature": "9", "suggested_questions.1": "x" * 101, "knowledge.top_k": "many", "opening": "kept"}
    page = console.post(f"/admin/bots/{shop}", FORM | wrong)
    assert page.status_code == 422
    for words in ("Must be 2 or less.", "at most 100 characters", "Please enter a whole number.", ">\nkept</textarea>"):
        assert words in page.text
    assert bot_of(console, shop).draft["opening"] == ""
    console.get("/admin?lang=zh")
    assert "不能大于 2。" in console.post(f"/admin/bots/{shop}", FORM | wrong).text


def test_a_draft_that_names_what_is_gone_is_not_published(console: Console, shop: int) -> None:
    page = console.post(f"/admin/bots/{shop}", FORM | {"model": "gone/model", "action": "publish"})
    assert page.status_code == 422
    assert "gone/model does not exist" in page.text


def test_the_form_shows_and_keeps_everything_a_configuration_says(console: Console, shop: int) -> None:
    config = BotConfig.model_validate(
        {"name": "shop", "fallback_models": ["builtin"], "max_tokens": 50, "image_hosts": ["a.example", "b.example"],
         "suggested_questions": ["A?", "B?", "C?"], "moderation": {"provider": "kept"},
         "handoff": {"enabled": True, "keywords": ["a", "b"]}}
    )  # fmt: skip
    values = read_form(_as_form(config), config.model_dump(mode="json"))
    assert BotConfig.model_validate(values) == config


def _as_form(config: BotConfig) -> Any:
    from werkzeug.datastructures import MultiDict

    form: list[tuple[str, str]] = []

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else key, inner)
        elif prefix in ("suggested_questions", "fallback_models"):
            form.extend((f"{prefix}.{place}", text) for place, text in enumerate(value))
        elif prefix in ("image_hosts", "handoff.keywords"):
            form.append((prefix, "\r\n".join(value)))
        elif isinstance(value, list):
            form.extend((prefix, text) for text in value)
        elif value is True:
            form.append((prefix, "1"))
        elif value is not None and value is not False and prefix != "moderation.provider":
            form.append((prefix, str(value)))

    add("", config.model_dump(mode="json"))
    return MultiDict(form)


def test_a_new_bot_starts_as_a_draft(console: Console, shop: int) -> None:
    page = console.does("/admin/bots/new", {"name": "second", "title": "Second", "knowledge.bases": "handbook"})
    assert "Not published" in page
    assert console.post("/admin/bots/new", {"name": "second"}).status_code == 422
    assert "letters, digits" in console.post("/admin/bots/new", {"name": "not a name"}).text


def test_a_bot_in_use_is_not_deleted(console: Console, shop: int) -> None:
    page = console.post(f"/admin/bots/{shop}/delete")
    assert (page.status_code, "shop-web" in page.text) == (409, True)
    console.does("/admin/channels/1/delete")
    assert "is deleted" in console.does(f"/admin/bots/{shop}/delete")


def test_the_debug_chat_asks_the_draft(console: Console, shop: int) -> None:
    ask = {"json": {"text": "When do you open?", "chat": "one"}, "headers": {"X-CSRF-Token": console.token}}
    answer = console.client.post(f"/admin/bots/{shop}/debug/messages", **ask)
    assert answer.status_code == 202
    console.client.post(f"/admin/bots/{shop}/debug/messages", **ask)
    with console.read() as session:
        turns = session.exec(select(Turn)).all()
        assert [turn.bot_version_id for turn in turns] == [None, None]
        assert len({turn.conversation_id for turn in turns}) == 1
        assert session.exec(select(Message.text)).first() == "When do you open?"
    assert "When do you open?" not in console.text("/admin/conversations")
    assert "When do you open?" in console.text(f"/admin/conversations?channel=debug-{shop}")
    assert "debug-" not in console.text("/admin/channels")


def test_the_debug_chat_refuses_what_is_no_question(console: Console, shop: int) -> None:
    token = {"X-CSRF-Token": console.token, "Accept": "application/json"}
    path = f"/admin/bots/{shop}/debug/messages"
    for body, status in (
        ({"text": "", "chat": "x"}, 400),
        ({"text": "x" * 4001, "chat": "x"}, 413),
        ({"text": 1}, 400),
        ([], 400),
    ):
        answer = console.client.post(path, json=body, headers=token)
        assert (answer.status_code, "error" in answer.json) == (status, True)  # type: ignore[operator]
    assert console.client.post(path, json={"text": "x", "chat": "x"}).status_code == 400


def test_the_debug_chat_saves_the_draft_first(console: Console, shop: int) -> None:
    headers = {"Accept": "application/json"}
    assert console.post(f"/admin/bots/{shop}", FORM, headers=headers).json == {"saved": True, "errors": {}}
    answer = console.post(f"/admin/bots/{shop}", FORM | {"temperature": "9"}, headers=headers)
    assert answer.status_code == 422 and answer.json["errors"] == {"temperature": "Must be 2 or less."}  # type: ignore[index]
