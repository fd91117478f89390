from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from admin import PAGES, store
from admin.auth import create_user
from admin.migrate import migrate
from admin.page import STATIC
from app import create_app
from bot.config import BotConfig
from bot.console_texts import CONSOLE
from bot.settings import Settings
from bot.tables import Conversation, Document, Message, Turn
from tests.admin.console.conftest import API_KEY, PASSWORD, Console, make_shop

TEMPLATES = STATIC.parent / "templates" / "console"
PATHS = (
    "/admin", "/admin/bots", "/admin/bots/new", "/admin/bots/1", "/admin/bots/1?view=debug", "/admin/bots/1/versions",
    "/admin/models", "/admin/models/new", "/admin/models/new?preset=deepseek", "/admin/models/1", "/admin/knowledge",
    "/admin/knowledge/1", "/admin/conversations", "/admin/conversations?q=x&rating=down&failed=1", "/admin/conversations/talk",
    "/admin/channels", "/admin/channels/new", "/admin/channels/1", "/admin/moderation", "/admin/moderation/new",
    "/admin/moderation/1", "/admin/settings",
)  # fmt: skip
SCRIPT = "<script>alert('x')</script>"
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def talk(console: Console, shop: int) -> str:
    """A conversation that failed and was rated, in which everybody says scripts."""
    with console.write() as session:
        make_talk(session, shop)
    return "talk"


def make_talk(session: Session, shop: int) -> None:
    session.add(Conversation(id="talk", channel_id=1, user_id="ann", user_name=SCRIPT, sequence=2))
    session.flush()
    span: dict[str, Any] = {"step": "retrieve", "start_ms": 1.0, "ms": 5.5, "error": None}
    detail = {"question": SCRIPT, "passages": [{"title": SCRIPT, "score": 0.5, "more": [1]}], "none": None}
    turn = Turn(
        id="turn", conversation_id="talk", channel_id=1, bot_id=shop, sequence=1, status="failed", finish="error",
        trace=[span | {"detail": detail}, span | {"step": SCRIPT, "detail": {}, "error": SCRIPT}], rating="down",
        comment=SCRIPT, error_code="unreachable", error_detail=SCRIPT, model="main/chat-large", cost=0.5,
    )  # fmt: skip
    session.add(turn)
    session.flush()
    said = {"conversation_id": "talk", "turn_id": "turn", "channel_id": 1}
    session.add(Message(direction="in", sequence=1, text=f"x {SCRIPT}", **said))
    cites = [{"n": 1, "title": SCRIPT, "snippet": SCRIPT, "url": "javascript:alert(1)"}]
    session.add(Message(direction="out", sequence=2, text=SCRIPT, citations=cites, **said))


def test_every_page_speaks_both_languages(console: Console, talk: str) -> None:
    names = re.compile(r"<option.*?</option>|<(a|b)[ >].*?</\1>|中文|赌博|人工", re.DOTALL)  # of providers, languages, words
    for path in PATHS:
        mark = "&" if "?" in path else "?"
        chinese, english = console.text(f"{path}{mark}lang=zh"), console.text(f"{path}{mark}lang=en")
        assert '<html lang="zh-CN">' in chinese and '<html lang="en">' in english
        assert "总览" in chinese and "Overview" in english
        assert not HAN.search(names.sub("", english)), path


def test_every_page_works_on_either_database(any_database: str, settings_on: Callable[[str], Settings]) -> None:
    settings = settings_on(any_database)
    migrate(settings, "en")
    app = create_app(settings)
    console = Console(app)
    create_user(console.services.db, "Cy", PASSWORD)
    console.sign_in()
    with console.write() as session:
        make_talk(session, make_shop(session, settings))
    for path in PATHS:
        console.text(path)
    app.extensions["qingniao"].close()


@pytest.mark.parametrize(
    "path",
    ["/admin?_external=1&_scheme=javascript&endpoint=x&_anchor=y", "/admin/bots?self=1", "/admin/conversations?bot=²&q=%F0%9F"],
)
def test_odd_addresses_do_no_harm(console: Console, path: str) -> None:
    assert 'href="javascript' not in console.text(path)


@pytest.mark.parametrize("path", [f"/admin/bots/{10**30}", f"/admin/knowledge/{2**31}", f"/admin/models/{2**63}"])
def test_ids_beyond_counting_are_a_404(console: Console, path: str) -> None:
    assert console.get(path).status_code == 404


def test_nul_is_refused(console: Console, shop: int) -> None:
    assert console.get("/admin/conversations?q=a%00b").status_code == 400
    assert console.post("/admin/knowledge/1/faqs", {"question": "a\0b", "answer": "c"}).status_code == 400


def test_no_page_has_anything_inline_or_shows_a_secret(console: Console, talk: str) -> None:
    for path in PATHS:
        page = console.text(path)
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page), path
        assert API_KEY not in page
        assert console.services.settings.secret_key not in page
        assert "argon2" not in page


def test_the_last_four_characters_of_a_key_are_shown(console: Console, shop: int) -> None:
    assert "••••6789" in console.text("/admin/models")


def test_what_people_and_models_say_is_never_markup(console: Console, talk: str) -> None:
    with console.write() as session:
        config = {
            "name": "evil",
            "title": SCRIPT,
            "opening": SCRIPT,
            "prompt": f"</textarea>{SCRIPT}",
            "suggested_questions": [SCRIPT],
        }
        evil = store.save_bot_draft(session, BotConfig.model_validate(config))
        session.add(Document(base_id=1, source=f"file:{SCRIPT}", title=SCRIPT))
        evil_id = evil.id
    for path in ("/admin", "/admin/conversations", "/admin/conversations/talk", "/admin/turns/turn/trace", "/admin/bots",
                 f"/admin/bots/{evil_id}", f"/admin/bots/{evil_id}/versions", "/admin/knowledge/1",
                 "/admin/knowledge/1?find=%3Cscript%3E", "/admin/conversations?q=%3Cscript%3E"):  # fmt: skip
        page = console.text(path)
        assert "<script>" not in page, path
        assert 'href="javascript:' not in page
        assert "</textarea><script" not in page
        assert "&lt;script&gt;" in page, path


def test_empty_lists_say_what_to_do_next(console: Console) -> None:
    for path, words in (
        ("/admin/bots", "Make a bot"), ("/admin/models", "Choose a provider"), ("/admin/knowledge", "Make one below"),
        ("/admin/conversations", "put the chat on your site"), ("/admin/channels", "A channel needs a bot"),
        ("/admin/moderation", "Make a list of words"), ("/admin/conversations?q=x", "Try other filters"),
    ):  # fmt: skip
        assert words in console.text(path), path
    assert "Try the chat" in console.text("/admin")


@pytest.mark.parametrize(
    "path",
    ["/admin/bots/99", "/admin/bots/99/versions", "/admin/models/99", "/admin/knowledge/99", "/admin/conversations/none",
     "/admin/channels/99", "/admin/moderation/99", "/admin/turns/none/trace", "/admin/turns/none/events",
     "/admin/knowledge/99/progress", "/admin/nothing/here"],
)  # fmt: skip
def test_what_is_not_there_is_a_404(console: Console, shop: int, path: str) -> None:
    assert console.get(path).status_code == 404


def test_conversations_are_found_by_what_was_said(console: Console, talk: str) -> None:
    for query, there in (
        ("q=SCRIPT", True), ("q=%25", False), ("channel=shop-web", True), ("channel=other", False), ("bot=1", True),
        ("bot=2", False), ("rating=down", True), ("rating=up", False), ("failed=1", True), ("before=talk", False),
    ):  # fmt: skip
        assert ("/admin/conversations/talk" in console.text(f"/admin/conversations?{query}")) is there, query


def test_the_overview_says_what_failed_and_why(console: Console, talk: str) -> None:
    page = console.text("/admin")
    assert "/admin/conversations/talk#turn-turn" in page
    assert "Start all processes" in page  # no reply worker runs here
    assert "data-channel=&#34;shop-web&#34;" in page


def test_a_trace_shows_each_step_with_its_time(console: Console, talk: str) -> None:
    page = console.text("/admin/turns/turn/trace")
    for words in ("Retrieve", "5.5 ms", "main/chat-large", "unreachable"):
        assert words in page


def test_times_are_in_the_operators_time_zone(console: Console, talk: str) -> None:
    console.does("/admin/settings/profile", {"locale": "en", "time_zone": "America/New_York"})
    page = console.text("/admin/conversations/talk")
    assert re.search(r'<time datetime="[^"]+\+00:00" title="[^"]+ E[SD]T">', page)
    assert console.post("/admin/settings/profile", {"locale": "en", "time_zone": "../../etc/passwd"}).status_code == 400


def test_the_language_of_the_settings_lasts(console: Console) -> None:
    console.does("/admin/settings/profile", {"locale": "zh", "time_zone": "Asia/Shanghai"})
    assert "总览" in console.text("/admin")
    console.get("/admin?lang=en")
    assert "Overview" in console.text("/admin")
    console.get("/admin?lang=xx")
    assert "Overview" in console.text("/admin")


def test_the_catalogue_has_each_sentence_that_a_page_asks_for() -> None:
    used: set[str] = set()
    starts: set[str] = set()
    for path in [*TEMPLATES.glob("*.html"), *(STATIC.parent).glob("*.py")]:
        for key in re.findall(r"""(?<![\w.])t(?:ell)?\(\s*f?["']([a-z_][\w.]*\.?)["'{]""", path.read_text()):
            (starts if key.endswith(".") else used).add(f"console.{key}")
    titles = {f"console.{page.title}" for page in PAGES if page.title}
    assert not {key for key in used - CONSOLE.keys() if "." in key.removeprefix("console.")}
    assert titles <= CONSOLE.keys()
    assert all(any(key.startswith(start) for key in CONSOLE) for start in starts)


def test_every_sentence_is_there_in_both_languages_with_the_same_values() -> None:
    for key, (zh, en) in CONSOLE.items():
        assert zh and en, key
        assert set(re.findall(r"{(\w+)}", zh)) == set(re.findall(r"{(\w+)}", en)), key


def test_styles_have_colours_only_as_variables() -> None:
    rules = (STATIC / "console.css").read_text().split("*, *::before", 1)[1]
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", rules)
    assert Path(STATIC / "mark.svg").read_text().startswith("<svg")
