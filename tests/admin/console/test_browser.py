"""The console in a real browser against the whole product, as an operator uses it: on a desk and on a phone.

Every page is watched: a violation of the Content-Security-Policy or a script error fails the test.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import PASSWORD, Installation
from tests.emulators.model import KEY, MODEL, ModelEmulator

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
ANSWER_MS = 30_000  # on a busy machine
INGEST_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def signed_in(browser: Browser, system: Installation, size: dict[str, int], language: str = "en") -> Iterator[Page]:
    """A page of the console, watched for what a browser complains about."""
    context = browser.new_context(base_url=system.url, viewport=size, locale="en-US")  # type: ignore[arg-type]
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/admin/sign-in?lang={language}")
    page.locator("[name=name]").fill("admin")
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("button.primary").click()
    page.wait_for_url("**/admin")
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def model() -> Iterator[ModelEmulator]:
    with ModelEmulator() as server:
        server.always("Refunds take seven working days [1].")
        yield server


@pytest.fixture
def name() -> str:
    """A name that no other test uses: the installation is shared."""
    return f"t{uuid.uuid4().hex[:8]}"


def test_from_key_to_answer(browser: Browser, system: Installation, model: ModelEmulator, name: str) -> None:
    with signed_in(browser, system, DESK) as page:
        page.goto("/admin/bots/new")
        page.get_by_label("Title").fill("Cy's bot")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Create the draft").click()
        bot_url = page.url
        page.get_by_role("button", name="Save and publish").click()
        expect(page.get_by_text("Published v1", exact=True)).to_be_visible()

        page.goto("/admin/models/new")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Base URL").fill(model.base_url)
        page.get_by_label("API key").fill(KEY)
        page.locator("[name='models.0.name']").fill(MODEL)
        page.get_by_role("button", name="Save").click()
        card = page.locator(f"#{name}")
        expect(card.get_by_text("••••6789")).to_be_visible()
        card.get_by_role("button", name="Test").click()
        expect(page.get_by_text("It works.")).to_be_visible()
        page.get_by_role("row", name="Cy's bot").filter(has=page.get_by_text("Built in")).get_by_role(
            "button", name="Use and publish"
        ).last.click()
        expect(page.get_by_text("published as version 2")).to_be_visible()
        assert page.url.startswith(bot_url)

        debug = page.locator("#debug")
        debug.get_by_role("textbox").fill("When is my refund paid?")
        debug.get_by_role("button", name="Send").click()
        expect(debug.locator(".said").last).to_contain_text("Refunds take seven working days", timeout=ANSWER_MS)
        trace = debug.locator(".trace")
        expect(trace).to_contain_text(f"{name}/{MODEL}", timeout=ANSWER_MS)
        trace.locator(".span").last.locator("summary").click()
        expect(trace.locator(".span-detail").last).to_be_visible()
        assert model.was_asked


def test_the_debug_chat_asks_what_is_in_the_form(browser: Browser, system: Installation, name: str) -> None:
    with signed_in(browser, system, PHONE) as page:
        page.goto("/admin/bots/new")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Create the draft").click()
        page.get_by_label("Title").fill("Changed and not saved")
        page.get_by_role("link", name="Debug chat").click()
        debug = page.locator("#debug")
        debug.get_by_role("textbox").fill("Hello")
        debug.get_by_role("textbox").press("Enter")
        expect(debug.locator(".trace")).to_be_visible(timeout=ANSWER_MS)
        page.reload()
        expect(page.get_by_role("heading", name="Changed and not saved")).to_be_visible()


def test_an_answer_is_stopped(browser: Browser, system: Installation, model: ModelEmulator, name: str) -> None:
    model.always("word " * 500, tokens_per_s=20)
    with signed_in(browser, system, DESK) as page:
        page.goto("/admin/models/new")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Base URL").fill(model.base_url)
        page.get_by_label("API key").fill(KEY)
        page.locator("[name='models.0.name']").fill(MODEL)
        page.get_by_role("button", name="Save").click()
        page.goto("/admin/bots/new")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Model").select_option(f"{name}/{MODEL}")
        page.get_by_role("button", name="Create the draft").click()
        debug = page.locator("#debug")
        debug.get_by_role("textbox").fill("Count for ever")
        debug.get_by_role("textbox").press("Enter")
        expect(debug.locator(".said").last).to_contain_text("word word", timeout=ANSWER_MS)
        debug.get_by_role("button", name="Stop").click()
        expect(debug.locator(".trace")).to_contain_text("Stopped", timeout=ANSWER_MS)


def test_a_document_is_uploaded_found_and_deleted(browser: Browser, system: Installation, name: str) -> None:
    with signed_in(browser, system, DESK) as page:
        page.goto("/admin/knowledge")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Create").click()
        text = "# Umbrellas\n\nA borrowed umbrella is brought back within nine days.\n"
        files = [
            {"name": "umbrellas.md", "mimeType": "text/markdown", "buffer": text.encode()},
            {"name": "<img src=x onerror=alert(1)>.txt", "mimeType": "text/plain", "buffer": b"Nothing to see."},
        ]
        with page.expect_navigation():
            page.locator("input[type=file]").set_input_files(files)  # type: ignore[arg-type]
        rows = page.locator("#documents tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.get_by_text("Ready", exact=True)).to_have_count(2, timeout=INGEST_MS)  # without a reload
        page.get_by_role("searchbox", name="A question").fill("When must I return the umbrella?")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".passage").first).to_contain_text("nine days")
        expect(page.locator(".passage .scores").first).to_contain_text("Relevance")
        rows.filter(has_text="Umbrellas").get_by_role("button", name="Delete").click()
        expect(rows).to_have_count(1)
        page.get_by_role("button", name="Delete the base").click()
        expect(page.get_by_text(f"The base {name} is deleted.")).to_be_visible()


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, system: Installation, language: str) -> None:
    with signed_in(browser, system, PHONE, language) as page:
        paths = ["/admin", "/admin/bots/new", "/admin/models/new?preset=openai", "/admin/moderation/new", "/admin/channels/new"]
        for section in ("bots", "knowledge", "conversations", "models", "channels", "moderation", "settings"):
            paths.append(f"/admin/{section}")
            page.goto(f"/admin/{section}")
            if (first := page.locator("a.row-title").first).count():
                paths.append(first.get_attribute("href") or "")
        bot = next(path for path in paths if path.startswith("/admin/bots/") and path != "/admin/bots/new")
        for path in (*paths, f"{bot}?view=debug", f"{bot}/versions", "/admin/knowledge/1?q=refund"):
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path


def test_the_console_is_used_by_keyboard(browser: Browser, system: Installation) -> None:
    with signed_in(browser, system, DESK) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.goto("/admin/settings")
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea, button')]"
            ".filter(e => !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).length"
        )
        assert unnamed == 0
