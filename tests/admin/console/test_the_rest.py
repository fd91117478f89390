from __future__ import annotations

import hashlib
import io
from typing import Any

from sqlmodel import select

from admin import store
from admin.moderation import marked
from bot.tables import ApiKey, Bot, Channel, Document, KeywordList, KnowledgeBase
from knowledge.readers import MAX_BYTES
from tests.admin.console.conftest import Console


def documents(console: Console) -> list[Document]:
    with console.read() as session:
        return list(session.exec(select(Document).order_by(Document.id)))


def test_files_pairs_and_pages_are_taken_in_and_deleted(console: Console, shop: int) -> None:
    file = (io.BytesIO(b"# Returns\n\nSeven days."), "returns.md")
    page = console.post("/admin/knowledge/1/files", {"files": file}, follow_redirects=True)
    assert "1 files arrived" in page.text and "returns" in page.text
    console.does("/admin/knowledge/1/faqs", {"question": "When?", "answer": "Soon."})
    console.does("/admin/knowledge/1/urls", {"url": "https://shop.example/help"})
    rows = documents(console)
    assert [row.source for row in rows] == ["file:returns.md", "faq:When?", "url:https://shop.example/help"]
    progress = console.get("/admin/knowledge/1/progress").json
    assert {entry["status"] for entry in progress["documents"]} == {"waiting"}  # type: ignore[index]
    assert console.post(f"/admin/knowledge/2/documents/{rows[0].id}/delete").status_code == 404
    for row in rows:
        console.does(f"/admin/knowledge/1/documents/{row.id}/delete")
    assert documents(console) == []


def test_the_same_file_again_replaces_the_old_one(console: Console, shop: int) -> None:
    for text in (b"one", b"two"):
        console.post("/admin/knowledge/1/files", {"files": (io.BytesIO(text), "a.txt")})
    assert len(documents(console)) == 1


def test_uploads_that_cannot_be_taken_are_explained(console: Console, shop: int) -> None:
    assert console.post("/admin/knowledge/1/files").status_code == 400
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="large.txt"\r\n\r\n'
    body = io.BytesIO(head + b"x" * (MAX_BYTES + 1) + b"\r\n--x--\r\n")
    large: dict[str, Any] = {"content_type": "multipart/form-data; boundary=x", "headers": {"X-CSRF-Token": console.token}}
    page = console.client.post("/admin/knowledge/1/files", input_stream=body, content_length=len(body.getvalue()), **large)
    assert page.status_code == 413 and "at most 50.0 MB" in page.text
    large["headers"] = large["headers"] | {"Accept": "application/json"}
    said = {"CONTENT_LENGTH": str(10**12)}
    answer = console.client.post("/admin/knowledge/1/files", input_stream=io.BytesIO(), environ_overrides=said, **large)
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "http_413")  # type: ignore[index]


def test_addresses_and_pairs_that_are_wrong_are_said_beside_their_field(console: Console, shop: int) -> None:
    for path, data, words in (
        ("urls", {"url": "ftp://x"}, "http:// or https://"), ("urls", {"url": "javascript:alert(1)"}, "http:// or https://"),
        ("faqs", {"question": "", "answer": "x"}, "Please fill this in."),
        ("faqs", {"question": "x" * 1001, "answer": "kept"}, "at most 1000"),
    ):  # fmt: skip
        page = console.post(f"/admin/knowledge/1/{path}", data)
        assert page.status_code == 422 and words in page.text


def test_a_failed_document_says_why_and_is_read_again(console: Console, shop: int) -> None:
    with console.write() as session:
        session.add(
            Document(id="d", base_id=1, source="file:a.pdf", status="failed", error='{"key": "document.empty", "values": {}}')
        )
    page = console.text("/admin/knowledge/1?lang=zh")
    assert "失败" in page and "文件是空的" in page
    console.does("/admin/knowledge/1/documents/d/again")
    assert documents(console)[0].status == "waiting"


def test_a_search_shows_its_times_and_says_when_the_index_is_away(console: Console, shop: int) -> None:
    page = console.text("/admin/knowledge/1?q=refund")
    assert "Searched by words only" in page or "Nothing was found" in page


def test_bases_are_made_and_deleted_when_no_bot_uses_them(console: Console, shop: int) -> None:
    console.does("/admin/knowledge/new", {"name": "second"})
    for name in ("second", "not a name", ""):
        assert console.post("/admin/knowledge/new", {"name": name}).status_code == 422
    assert console.post("/admin/knowledge/1/delete").status_code == 409
    assert "is deleted" in console.does("/admin/knowledge/2/delete")
    with console.read() as session:
        assert session.exec(select(KnowledgeBase.name)).all() == ["handbook"]


def test_a_web_channel_gets_its_address_and_snippet(console: Console, shop: int) -> None:
    sites = "Shop.example/\nhttps://b.example:443/path, http://127.0.0.1:5000"
    page = console.does("/admin/channels/new", {"name": "second-web", "bot": "shop", "enabled": "1", "allowed_origins": sites})
    assert "data-channel=&#34;second-web&#34;" in page and "/chat/second-web" in page
    with console.read() as session:
        row = session.exec(select(Channel).where(Channel.name == "second-web")).one()
    assert row.config["allowed_origins"] == ["https://shop.example", "https://b.example", "http://127.0.0.1:5000"]
    console.does(f"/admin/channels/{row.id}", {"bot": "shop", "quiet_s": "2"})
    with console.read() as session:
        row = session.get_one(Channel, row.id)
    assert (row.enabled, row.quiet_s, row.config["allowed_origins"]) == (False, 2.0, [])


def test_what_is_wrong_with_a_channel_is_said_beside_its_field(console: Console, shop: int) -> None:
    good = {"name": "second-web", "bot": "shop"}
    for change, words in (
        ({"allowed_origins": "javascript:alert(1)"}, "Not a site"), ({"bot": "gone"}, "gone does not exist"),
        ({"name": "shop-web"}, "taken"), ({"name": "ü"}, "letters, digits"), ({"quiet_s": "99"}, "30 or less"),
    ):  # fmt: skip
        page = console.post("/admin/channels/new", good | change)
        assert page.status_code == 422 and words in page.text, change


def test_an_api_key_is_shown_once_and_kept_as_a_digest(console: Console, shop: int) -> None:
    page = console.post("/admin/channels/keys", {"name": "intranet", "bot_id": str(shop)}).text
    key = page.split('data-copy="')[1].split('"')[0]
    with console.read() as session:
        row = session.exec(select(ApiKey)).one()
    assert row.digest == hashlib.sha256(key.encode()).hexdigest()
    later = console.text("/admin/channels")
    assert key not in later and f"qn-••••{key[-4:]}" in later
    console.does(f"/admin/channels/keys/{row.id}/delete")
    assert console.post("/admin/channels/keys", {"name": ""}).status_code == 422


def test_word_lists_are_kept_and_tried(console: Console, shop: int) -> None:
    form = {"name": "second", "keywords": "one\r\n two \r\n\r\none", "action": "mask"}
    console.does("/admin/moderation/new", form)
    with console.read() as session:
        row = session.exec(select(KeywordList).where(KeywordList.name == "second")).one()
    assert (row.keywords, row.action) == (["one", "two"], "mask")
    page = console.does("/admin/moderation/test", {"text": "a <b>casino</b>"})
    assert "Would be blocked" in page and "<mark>casino</mark>" in page and "<b>casino" not in page
    assert "Passes" in console.does("/admin/moderation/test", {"text": "casino", "list": "second"})
    assert console.post("/admin/moderation/1/delete").status_code == 409
    assert "is deleted" in console.does(f"/admin/moderation/{row.id}/delete")
    assert console.post("/admin/moderation/new", form | {"action": "explode"}).status_code == 422


def test_a_long_word_list_is_taken(console: Console) -> None:
    words = "\n".join(f"word number {number}" for number in range(60_000))
    console.does("/admin/moderation/new", {"name": "long", "keywords": words, "action": "block"})
    with console.read() as session:
        assert len(session.exec(select(KeywordList)).one().keywords) == 60_000


def test_marks_of_overlapping_words_become_one() -> None:
    assert marked("abcdef", [(1, 3), (2, 4)]) == [("a", False), ("bcd", True), ("ef", False)]


def test_a_channel_of_the_debug_chat_is_not_edited(console: Console, shop: int) -> None:
    with console.write() as session:
        row = store.debug_channel(session, session.get_one(Bot, shop))
        assert row.id == store.debug_channel(session, session.get_one(Bot, shop)).id
        channel_id = row.id
    assert console.get(f"/admin/channels/{channel_id}").status_code == 404
