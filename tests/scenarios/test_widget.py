"""The web chat in a real browser, against the whole product: what visitors do, and what goes wrong around them.

Every page is watched: a violation of the Content-Security-Policy, a script error, a dialog or a request to a host that
was not named fails the test that caused it.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from bot.texts import WIDGET, widget_texts
from tests.conftest import ROOT, Installation, wait_for
from tests.emulators.model import KEY, MODEL, ModelEmulator

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
COUNTING = " ".join(f"word{number}" for number in range(1, 61))
RICH = """A **bold** start and `code` [1].

1. One
   - inner
2. Two

| Paid by | Refunded in |
| --- | --- |
| A very long name of a bank card that is wider than a phone | 3 days |

```python
print("a line of code that is certainly much longer than the screen of any phone that people carry around")
```

> Quoted

مرحبا بكم
"""
INJECTED = """<script>alert("model")</script><img src=x onerror="alert('model')">
[press](javascript:alert(1)) [data](data:text/html,<script>alert(2)</script>) ![spy](https://spy.invalid/pixel.png)
<https://fine.example/a> **bold**"""

ZH, EN = widget_texts("zh"), widget_texts("en")


@dataclass
class Visit:
    """A page under watch."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def ask(self, text: str) -> None:
        self.page.locator("textarea").fill(text)
        self.page.locator("textarea").press("Enter")

    @property
    def answer(self) -> Locator:
        return self.page.locator(".answer").last

    def answered(self) -> Locator:
        """Wait until the last answer is whole."""
        expect(self.page.locator(".log > .answer").last.locator(".tools, .failure")).to_be_visible()
        expect(self.page.locator(".pending .answer")).to_have_count(0)
        return self.answer

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)


@pytest.fixture(scope="module")
def model() -> Iterator[ModelEmulator]:
    with ModelEmulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def shop(system: Installation, model: ModelEmulator, sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The product, with a bot whose model is the emulator and channels of our own beside the demo's."""
    folder = tmp_path_factory.mktemp("widget")
    (folder / "note.md").write_text(
        "# Parcel lockers\n\n"
        "Parcel lockers <script>alert('document')</script><img src=x onerror=alert(1)> open at six in the morning.\n"
    )
    plain = {
        "title": "Bluebird", "model": f"emulated/{MODEL}", "opening": "Hello from **Bluebird**.",
        "suggested_questions": ["First?", "Second?", "Third?"],
        "followups": {"enabled": False}, "memory": {"summary": False, "facts": False}, "image_hosts": ["pictures.invalid"],
    }  # fmt: skip
    configuration = {
        "version": 1,
        "providers": [
            {"name": "emulated", "base_url": model.base_url, "api_key": KEY, "models": [{"name": MODEL, "kind": "chat"}]}
        ],
        "knowledge": [{"name": "lockers", "documents": [{"path": "note.md"}]}],
        "bots": [
            {"name": "widget-plain", **plain},
            {"name": "widget-face", **plain, "avatar": "https://faces.invalid/bo.svg"},
            {"name": "widget-lockers", **plain, "model": "builtin", "knowledge": {"bases": ["lockers"], "min_score": 0.2}},
        ],
        "channels": [
            {"name": "widget-plain", "kind": "web", "bot": "widget-plain", "allowed_origins": [sites.friend]},
            {"name": "widget-face", "kind": "web", "bot": "widget-face"},
            {"name": "widget-lockers", "kind": "web", "bot": "widget-lockers"},
            {"name": "widget-limited", "kind": "web", "bot": "widget-plain", "messages_per_minute": 1},
        ],
    }
    (folder / "widget.yaml").write_text(json.dumps(configuration))
    system.flask("apply", str(folder / "widget.yaml"))
    return system


@pytest.fixture(autouse=True)
def as_usual(model: ModelEmulator) -> None:
    model.always("Three days.")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, shop: Installation) -> Iterator[Open]:
    """visit(path or URL, expected=…, **context options): a watched page, in a browser profile of its own."""
    visits: list[Visit] = []
    contexts: list[BrowserContext] = []

    def open_page(path: str, script: str = "", expected: str = "", **options: object) -> Visit:
        context = browser.new_context(**({"locale": "en-US"} | options))  # type: ignore[arg-type]
        contexts.append(context)
        if script:
            context.add_init_script(script)
        visits.append(_watched(context.new_page(), shop.url, expected))
        visits[-1].page.goto(path if path.startswith("http") else shop.url + path)
        return visits[-1]

    yield open_page
    found = [wrong for visit in visits for wrong in visit.wrong]
    for context in contexts:
        context.close()
    assert found == []


def _watched(page: Page, home: str, expected: str) -> Visit:
    visit = Visit(page)

    def report(kind: str, text: str) -> None:
        if not (expected and re.search(expected, text)):
            visit.wrong.append(f"{kind}: {text}")

    page.on("console", lambda message: report("console", message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: report("script error", str(error)))
    page.on("dialog", lambda dialog: (report("dialog", dialog.message), dialog.dismiss()))
    page.on("request", lambda request: None if _is_known(request.url, home) else report("request", request.url))
    return visit


def _is_known(url: str, home: str) -> bool:
    return url.startswith((home, "data:", "http://127.0.0.1", "http://localhost"))


# --- other people's sites -------------------------------------------------------------------------------------------


@dataclass
class Sites:
    """Two pages that embed the widget, on origins of their own; the channel lets in only the friend's."""

    friend: str
    stranger: str
    bot: str = ""


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    found = Sites("", "")

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (
                f'<!doctype html><html lang="en"><title>A shop</title><body><h1>A shop</h1><input aria-label="Search">'
                f'<script src="{found.bot}/widget.js" data-channel="widget-plain" data-lang="en" async></script>'
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            policy = f"default-src 'none'; script-src {found.bot}; style-src {found.bot}; connect-src {found.bot}"
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    found.friend, found.stranger = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    yield found
    for server in servers:
        server.shutdown()
        server.server_close()


@contextmanager
def database(shop: Installation) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{shop.data_dir / 'qingniao.db'}?mode=ro", uri=True)
    try:
        yield connection
    finally:
        connection.close()


# --- asking ---------------------------------------------------------------------------------------------------------


def test_a_question_is_asked_and_its_answer_streams_in(visit, model):
    model.always(COUNTING, tokens_per_s=120)
    ann = visit("/chat/widget-plain")
    expect(ann.page.locator(".opening strong")).to_have_text("Bluebird")
    ann.ask("How long?")
    expect(ann.page.locator(".question .said")).to_have_text("How long?")
    expect(ann.page.locator(".pending .answer .text")).to_contain_text("word2")
    expect(ann.button(EN["stop"])).to_be_visible()
    expect(ann.answered().locator(".text")).to_have_text(COUNTING)
    expect(ann.button(EN["send"])).to_be_visible()
    assert ann.page.title() == "Bluebird"


def test_a_suggested_question_sends_its_own_text(visit, model):
    ann = visit("/chat/widget-plain")
    expect(ann.page.locator(".suggestions button")).to_have_text(["First?", "Second?", "Third?"])
    ann.button("Second?").click()
    expect(ann.answered().locator(".text")).to_have_text("Three days.")
    expect(ann.page.locator(".said")).to_have_text("Second?")
    expect(ann.page.locator(".suggestions")).to_be_hidden()
    assert "Second?" in model.was_asked[-1].text


def test_a_follow_up_chip_sends_its_own_text_and_a_citation_opens(visit, shop):
    _wait_for_documents(shop)
    ann = visit("/chat/shop-web", locale="zh-CN")
    ann.ask("下单后多久发货？")
    answer = ann.answered()
    cite = answer.locator("button.cite").first
    cite.click()
    sheet = ann.page.locator(".sheet")
    expect(sheet).to_be_visible()
    assert len(sheet.locator("blockquote").inner_text()) > 10
    ann.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(cite).to_be_focused()
    chip = ann.page.locator(".chips button").first
    text = chip.inner_text()
    chip.click()
    expect(ann.page.locator(".said").last).to_have_text(text)
    ann.answered()
    expect(ann.page.locator(".log > .answer")).to_have_count(2)


def _wait_for_documents(shop: Installation) -> None:
    unread = "SELECT count(*) FROM document WHERE status NOT IN ('ready', 'failed')"
    with database(shop) as rows:
        wait_for(lambda: rows.execute(unread).fetchone()[0] == 0, 180, "the documents")


def test_a_reload_in_mid_answer_goes_on_and_repeats_nothing(visit, model):
    model.always(COUNTING, tokens_per_s=60)
    ann = visit("/chat/widget-plain")
    ann.ask("Count, please")
    expect(ann.answer.locator(".text")).to_contain_text("word5")
    ann.page.reload()
    expect(ann.page.locator(".pending .answer .text")).to_contain_text("word7")
    expect(ann.answered().locator(".text")).to_have_text(COUNTING)
    expect(ann.page.locator(".answer")).to_have_count(1)
    expect(ann.page.locator(".said")).to_have_text(["Count, please"])


def test_a_returning_visitor_finds_the_conversation_and_may_begin_a_new_one(visit):
    ann = visit("/chat/widget-plain")
    ann.ask("Remember me?")
    ann.answered()
    ann.page.reload()
    expect(ann.page.locator(".said")).to_have_text(["Remember me?"])
    expect(ann.page.locator(".answer .text")).to_have_text(["Three days."])
    ann.button(EN["new"]).click()
    expect(ann.page.locator(".said")).to_have_count(0)
    expect(ann.page.locator(".suggestions button").first).to_be_visible()
    ann.page.reload()
    expect(ann.page.locator(".suggestions button").first).to_be_visible()
    expect(ann.page.locator(".said")).to_have_count(0)


def test_thumbs_and_a_comment_are_stored(visit, shop):
    ann = visit("/chat/widget-plain")
    ann.ask("Was this of help?")
    ann.answered()
    ann.button(EN["down"]).click()
    expect(ann.button(EN["down"])).to_have_attribute("aria-pressed", "true")
    ann.page.locator(".comment input").fill("Too short")
    ann.button(EN["comment_send"]).click()
    expect(ann.page.get_by_text(EN["thanks"])).to_be_visible()
    assert _ratings(shop, "Was this of help?") == [("down", "Too short")]
    ann.button(EN["up"]).click()
    expect(ann.button(EN["down"])).to_have_attribute("aria-pressed", "false")
    wait_for(lambda: _ratings(shop, "Was this of help?") == [("up", None)], 5, "the new rating")
    ann.page.reload()
    expect(ann.button(EN["up"])).to_have_attribute("aria-pressed", "true")


def _ratings(shop: Installation, question: str) -> list[tuple[str, str | None]]:
    with database(shop) as rows:
        asked = "SELECT turn_id FROM message WHERE direction = 'in' AND text = ?"
        return rows.execute(f"SELECT rating, comment FROM turn WHERE id IN ({asked})", (question,)).fetchall()


def test_an_answer_that_is_stopped_keeps_what_was_said(visit, model):
    model.always(COUNTING, tokens_per_s=20)
    ann = visit("/chat/widget-plain")
    ann.ask("Count slowly")
    expect(ann.answer.locator(".text")).to_contain_text("word3")
    ann.button(EN["stop"]).click()
    answer = ann.answered()
    expect(answer.locator(".text")).to_contain_text("word3")
    expect(answer.locator(".text")).not_to_contain_text("word60")
    expect(answer.locator(".remark")).to_have_text(EN["stopped"])


def test_a_failed_answer_is_tried_again(visit, model):
    model.always(status=401)
    ann = visit("/chat/widget-plain")
    ann.ask("Will it work?")
    expect(ann.page.locator(".failure p")).not_to_be_empty()
    model.always("Now it works.")
    ann.button(EN["retry"]).click()
    expect(ann.page.locator(".answer .text").last).to_have_text("Now it works.")
    assert ann.page.locator(".said").all_inner_texts() == ["Will it work?"] * 2
    ann.page.locator("[data-again]").last.click()
    expect(ann.page.locator(".said")).to_have_count(3)
    ann.answered()


def test_a_stream_that_breaks_keeps_what_was_said_and_shows_the_error(visit, model):
    model.always(COUNTING, tokens_per_s=400, break_after=40)
    ann = visit("/chat/widget-plain")
    ann.ask("Break off")
    answer = ann.answered()
    expect(answer.locator(".text")).to_contain_text("word5")
    expect(answer.locator(".failure")).to_be_visible()
    assert "word" not in answer.locator(".failure").inner_text()


# --- the connection -------------------------------------------------------------------------------------------------


class Line:
    """The wire between browser and server: a relay of bytes that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_cut = True
        for end in list(self._open):
            _hang_up(end)

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        _hang_up(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            if self._is_cut:
                _hang_up(near)
                continue
            far = socket.create_connection(self._to)
            self._open |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, target), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass  # cut, or left: both ends are closed below
        for end in (source, target):
            _hang_up(end)
            self._open.discard(end)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@pytest.fixture
def line(shop: Installation) -> Iterator[Line]:
    line = Line(shop.port)
    yield line
    line.close()


def test_a_connection_that_is_lost_comes_back_without_loss_or_repetition(visit, model, line):
    model.always(COUNTING, tokens_per_s=60)
    ann = visit(f"{line.url}/chat/widget-plain", expected="ERR_|Failed to fetch")
    ann.ask("Count")
    expect(ann.answer.locator(".text")).to_contain_text("word5")
    line.cut()
    expect(ann.page.locator(".banner")).to_have_text(EN["lost"])
    line.mend()
    expect(ann.page.locator(".banner")).to_have_text(EN["regained"])
    expect(ann.answered().locator(".text")).to_have_text(COUNTING)


def test_a_question_that_is_asked_while_offline_is_sent_once_when_the_connection_is_back(visit, shop):
    ann = visit("/chat/widget-plain", expected="ERR_INTERNET_DISCONNECTED|Failed to fetch")
    expect(ann.page.locator("textarea")).to_be_visible()
    ann.page.context.set_offline(True)
    ann.ask("Are you there when I am not?")
    expect(ann.page.locator(".banner")).to_have_text(EN["lost"])
    ann.page.context.set_offline(False)
    expect(ann.answered().locator(".text")).to_have_text("Three days.")
    assert len(_ratings(shop, "Are you there when I am not?")) == 1


def test_a_chat_that_cannot_be_reached_says_so_and_opens_once_it_can(visit, sites, line):
    sites.bot = line.url
    ann = visit(sites.friend, expected="ERR_|Failed to fetch|CORS")
    expect(ann.button(EN["launch"])).to_be_visible()
    line.cut()
    ann.button(EN["launch"]).click()
    expect(ann.page.locator(".failure p")).to_have_text(EN["unreachable"])
    line.mend()
    ann.button(EN["retry"]).click()
    ann.ask("Here you are?")
    expect(ann.answered().locator(".text")).to_have_text("Three days.")


def test_a_session_that_is_no_longer_good_is_begun_anew(visit):
    ann = visit("/chat/widget-plain", expected="401")
    ann.ask("First?")
    ann.answered()
    ann.page.locator("qingniao-chat").evaluate("chat => { chat.server.token = 'forged'; }")
    ann.ask("And now?")
    expect(ann.page.locator(".answer .text")).to_have_text(["Three days.", "Three days."])
    ann.page.reload()
    expect(ann.page.locator(".said")).to_have_text(["And now?"])


def test_a_conversation_that_was_removed_is_begun_anew(visit, shop):
    ann = visit("/chat/widget-plain", expected="404")
    ann.ask("First?")
    ann.answered()
    conversation = ann.page.locator("qingniao-chat").evaluate("chat => chat.session.conversation_id")
    with closing(sqlite3.connect(shop.data_dir / "qingniao.db", timeout=20)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=ON")  # its messages go with it
        connection.execute("DELETE FROM conversation WHERE id = ?", (conversation,))
    ann.ask("And now?")
    expect(ann.page.locator(".answer .text")).to_have_text(["Three days.", "Three days."])
    ann.page.reload()
    expect(ann.page.locator(".said")).to_have_text(["And now?"])


def test_a_visitor_who_asks_too_fast_is_told_when_to_ask_again(visit):
    ann = visit("/chat/widget-limited", expected="429")
    for number in range(3):  # the minute may turn once in between
        ann.ask(f"Question {number}")
        expect(ann.page.locator(".log > :last-child").locator(".tools, .failure")).to_be_visible()
        if ann.page.locator(".failure").count():
            break
    button = ann.page.locator(".failure button")
    expect(button).to_be_disabled()
    expect(button).to_have_text(re.compile(r"Try again in \d+ s"))


def test_a_chat_that_does_not_exist_says_so(visit):
    ann = visit("/chat/nowhere", expected="404")
    expect(ann.page.locator("h1")).not_to_be_empty()


# --- what others wrote ----------------------------------------------------------------------------------------------


def test_markup_in_question_and_answer_is_only_text(visit, model):
    model.always(INJECTED)
    ann = visit("/chat/widget-plain")
    question = "<img src=x onerror=alert('question')><script>alert('question')</script>"
    ann.ask(question)
    answer = ann.answered()
    expect(ann.page.locator(".said")).to_have_text(question)
    expect(answer.locator(".text")).to_contain_text('<script>alert("model")</script><img src=x')
    expect(answer.locator("img, script, iframe, [onerror]")).to_have_count(0)
    links = answer.locator(".text a")
    assert [link.get_attribute("href") for link in links.all()] == ["https://spy.invalid/pixel.png", "https://fine.example/a"]
    expect(links.first).to_have_attribute("rel", "noopener noreferrer")
    ann.page.reload()
    expect(ann.page.locator(".said")).to_have_text(question)
    expect(ann.page.locator(".answer img, .answer script")).to_have_count(0)


def test_markup_in_a_document_is_only_text(visit, shop):
    _wait_for_documents(shop)
    ann = visit("/chat/widget-lockers")
    ann.ask("When do the parcel lockers open?")
    answer = ann.answered()
    answer.locator("button.cite").first.click()
    expect(ann.page.locator(".sheet blockquote")).to_contain_text("open at six")
    expect(ann.page.locator(".answer, .sheet").locator("img, script, [onerror]")).to_have_count(0)


def test_a_picture_is_shown_only_from_a_host_that_the_bot_allows(visit, model):
    model.always("![a cup](https://pictures.invalid/cup.svg) ![a spy](https://elsewhere.invalid/spy.svg)")
    ann = visit("/chat/widget-plain", expected="pictures.invalid")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'
    ann.page.route("https://pictures.invalid/**", lambda route: route.fulfill(body=svg, content_type="image/svg+xml"))
    ann.ask("A picture, please")
    answer = ann.answered()
    expect(answer.get_by_role("img", name="a cup")).to_be_visible()
    expect(answer.get_by_role("link", name="a spy")).to_be_visible()
    expect(answer.locator("img")).to_have_count(1)


@pytest.mark.parametrize("is_there", [True, False])
def test_the_bots_own_face_is_shown_or_ours_where_it_cannot_be_fetched(visit, shop, is_there):
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'
    ann = visit("/", expected="faces.invalid|ERR_FAILED")
    if is_there:
        ann.page.route("https://faces.invalid/**", lambda route: route.fulfill(body=svg, content_type="image/svg+xml"))
    else:
        ann.page.route("https://faces.invalid/**", lambda route: route.abort())
    ann.page.goto(f"{shop.url}/chat/widget-face")
    expect(ann.page.locator(".mark img" if is_there else ".mark .icon")).to_be_visible()


def test_markdown_becomes_structure(visit, model):
    model.always(RICH, tokens_per_s=300)
    ann = visit("/chat/widget-plain")
    ann.ask("Everything, please")
    text = ann.answered().locator(".text")
    for selector in ("strong", "ol > li:nth-child(2)", "ol ul > li", "tbody tr", "th:nth-child(2)", "pre code", "blockquote"):
        expect(text.locator(selector)).to_have_count(1)
    assert text.locator("p").last.evaluate("node => getComputedStyle(node).direction") == "rtl"


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_is_wider_than_the_screen(visit, model, width):
    model.always(RICH)
    is_phone = width < 1000
    ann = visit("/chat/widget-plain", viewport={"width": width, "height": 740}, is_mobile=is_phone, has_touch=is_phone)
    ann.ask("https://a.example/" + "very-long-" * 40)
    ann.answered()
    for selector in ("html", ".scroller", ".panel"):
        shown, whole = ann.page.locator(selector).evaluate("node => [node.clientWidth, node.scrollWidth]")
        assert whole <= shown, selector
    assert ann.page.locator("textarea").evaluate("node => getComputedStyle(node).fontSize") == "16px"
    if is_phone:  # its keyboard would cover the answer
        expect(ann.page.locator("textarea")).not_to_be_focused()


# --- looks, languages, hands and ears --------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "attribute", "dark"), [("dark", "", True), ("light", "", False), ("dark", "light", False)])
def test_it_is_dark_where_the_system_or_the_page_says_so(visit, scheme, attribute, dark):
    ann = visit("/chat/widget-plain", color_scheme=scheme)
    chat = ann.page.locator("qingniao-chat")
    if attribute:
        chat.evaluate("(node, theme) => node.setAttribute('theme', theme)", attribute)
    panel = ann.page.locator(".panel")
    expect(panel).to_have_css("background-color", "rgb(17, 25, 28)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize(("locale", "path", "texts"), [("zh-CN", "", ZH), ("en-GB", "", EN), ("zh-CN", "?lang=en", EN)])
def test_it_speaks_the_visitors_language(visit, locale, path, texts):
    ann = visit("/chat/widget-plain" + path, locale=locale)
    expect(ann.page.locator("textarea")).to_have_attribute("placeholder", texts["placeholder"])
    expect(ann.button(texts["new"])).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colours_can_be_told_apart(scheme):
    """WCAG AA: 4.5 to 1 for text."""
    css = (ROOT / "channels" / "static" / "widget.css").read_text()
    colours: dict[str, str] = {}
    for block in re.findall(r"^\.root(?:\.dark)? \{(.*?)^\}", css, re.MULTILINE | re.DOTALL)[: 1 if scheme == "light" else 2]:
        for name, values in re.findall(r"--([\w-]+):([^;]*);", block):
            if found := re.search(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})\b", values):
                colours[name] = found[0]
    for text, ground in [
        ("ink", "paper"), ("ink", "tint"), ("ink", "deep"), ("ink", "code"), ("soft", "paper"), ("soft", "tint"),
        ("soft", "code"), ("accent", "paper"), ("accent", "tint"), ("accent-ink", "accent"), ("warm", "warm-tint"),
        ("soft", "warm-tint"),
    ]:  # fmt: skip
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def _contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, "contrast ratio"."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_the_first_sentences_are_the_catalogues():
    source = (ROOT / "channels" / "static" / "widget.js").read_text()
    inline = source[source.index("const FIRST") : source.index("// --- nodes")]
    for key in ("launch", "close", "retry", "unreachable"):
        for sentence in WIDGET[f"widget.{key}"]:
            assert json.dumps(sentence, ensure_ascii=False) in inline


def test_everything_can_be_done_from_the_keyboard(visit, sites, shop):
    sites.bot = shop.url
    ann = visit(sites.friend)
    keys = ann.page.keyboard
    launcher = ann.button(EN["launch"])
    expect(launcher).to_be_visible()
    launcher.focus()
    keys.press("Enter")
    expect(ann.page.locator("textarea")).to_be_focused()
    keys.type("One line")
    keys.press("Shift+Enter")
    keys.type("and another")
    keys.press("Enter")
    ann.answered()
    expect(ann.page.locator(".said")).to_have_text("One line\nand another")
    expect(ann.page.locator("textarea")).to_be_focused()
    keys.press("Shift+Tab")
    expect(ann.page.locator("[data-again]").last).to_be_focused()
    keys.press("Enter")
    expect(ann.page.locator(".said")).to_have_count(2)
    ann.answered()
    keys.press("Escape")
    expect(ann.page.locator(".panel")).to_be_hidden()
    expect(launcher).to_be_focused()
    expect(launcher).to_have_attribute("aria-expanded", "false")


def test_enter_that_ends_a_composition_does_not_send(visit):
    ann = visit("/chat/widget-plain", locale="zh-CN")
    box = ann.page.locator("textarea")
    box.fill("退kuan")
    box.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True, "composed": True})
    box.dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "bubbles": True, "composed": True})
    expect(box).to_have_value("退kuan")
    expect(ann.page.locator(".said")).to_have_count(0)


def test_an_answer_is_read_out_when_it_is_whole(visit, model):
    model.always(COUNTING, tokens_per_s=120)
    ann = visit("/chat/widget-plain")
    log = ann.page.get_by_role("log")
    expect(log).to_have_attribute("aria-live", "polite")
    ann.ask("Count")
    expect(ann.page.locator(".answer .text")).to_contain_text("word2")
    expect(log.locator(".answer")).to_have_count(0)
    ann.answered()
    expect(log.locator(".answer .text")).to_have_text(COUNTING)


def test_who_reads_further_up_is_left_there(visit, model):
    model.always("\n\n".join(COUNTING.split()), tokens_per_s=150)
    ann = visit("/chat/widget-plain", viewport={"width": 390, "height": 600})
    ann.ask("Count")
    expect(ann.answer.locator(".text")).to_contain_text("word20")
    scroller = ann.page.locator(".scroller")
    scroller.hover()
    ann.page.mouse.wheel(0, -10_000)
    expect(ann.button(EN["newest"])).to_be_visible()
    ann.answered()
    assert scroller.evaluate("node => node.scrollTop") == 0
    ann.button(EN["newest"]).click()
    expect(ann.button(EN["newest"])).to_be_hidden()
    assert scroller.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 2


def test_a_message_that_is_too_long_is_not_sent(visit):
    ann = visit("/chat/widget-plain")
    ann.page.locator("textarea").fill("𠮷" * 4001)
    expect(ann.page.locator(".counter")).to_have_text("1 characters too many; the limit is 4000")
    ann.page.locator("textarea").press("Enter")
    expect(ann.page.locator(".said")).to_have_count(0)
    ann.page.locator("textarea").fill("𠮷" * 4000)
    ann.page.locator("textarea").press("Enter")
    ann.answered()


def test_it_works_where_storage_is_forbidden(visit):
    forbid = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    ann = visit("/chat/widget-plain", script=forbid)
    ann.ask("No storage?")
    expect(ann.answered().locator(".text")).to_have_text("Three days.")


# --- on other people's pages -----------------------------------------------------------------------------------------


def test_an_allowed_site_embeds_the_widget_under_a_strict_policy(visit, sites, shop):
    sites.bot = shop.url
    ann = visit(sites.friend)
    ann.button(EN["launch"]).click()
    ann.ask("Hello from elsewhere")
    expect(ann.answered().locator(".text")).to_have_text("Three days.")
    ann.button(EN["close"]).click()
    expect(ann.button(EN["launch"])).to_be_focused()


def test_a_site_that_is_not_allowed_is_refused(visit, sites, shop):
    sites.bot = shop.url
    bo = visit(sites.stranger, expected="CORS|ERR_FAILED|403")
    bo.button(EN["launch"]).click()
    expect(bo.page.locator(".failure")).to_be_visible()
    expect(bo.button(EN["retry"])).to_be_visible()
    expect(bo.page.locator("textarea")).to_have_count(0)
