"""The web chat's HTTP API against the running product: what it promises, and every kind of bad input."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from itsdangerous import URLSafeTimedSerializer

from tests.conftest import Installation


@pytest.fixture
def http(system: Installation) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=system.url, timeout=30) as client:
        yield client


@pytest.fixture
def token(http: httpx2.Client) -> str:
    """A visitor's token on the demo's channel."""
    token: str = http.post("/api/chat/shop-web/sessions", json={}).raise_for_status().json()["token"]
    return token


def headers(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


def ask(http: httpx2.Client, token: str, text: str, message_id: str | None = None) -> dict[str, str]:
    body = {"text": text, "client_message_id": message_id or uuid.uuid4().hex}
    answer = http.post("/api/chat/messages", json=body, headers=headers(token))
    assert answer.status_code == 202, answer.text
    ids: dict[str, str] = answer.json()
    return ids


def events(http: httpx2.Client, token: str, turn_id: str, after: int | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """All events of a turn, as (id, name, data)."""
    more = {} if after is None else {"Last-Event-ID": str(after)}
    told, number, name = [], 0, ""
    with http.stream("GET", f"/api/chat/turns/{turn_id}/events", headers=headers(token, **more)) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            key, _, value = line.partition(": ")
            if key == "id":
                number = int(value)
            elif key == "event":
                name = value
            elif key == "data":
                told.append((number, name, json.loads(value)))
    return told


def refused(response: httpx2.Response, status: int, code: str) -> None:
    """The answer is a refusal in our form, with a sentence."""
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert response.json()["error"]["message"].strip()


def test_a_visitor_asks_and_is_answered_from_the_documents(http: httpx2.Client, token: str) -> None:
    told = events(http, token, ask(http, token, "收到货不喜欢可以退吗？")["turn_id"])
    names = [name for _, name, _ in told]
    assert names[0] == "status" and "delta" in names and names[-1] == "end"
    done = next(data for _, name, data in told if name == "done")
    assert done["finish"] == "stop" and done["citations"] and "[1]" in done["text"]
    assert "".join(data["text"] for _, name, data in told if name == "delta") == done["text"]
    followups = next(data["questions"] for _, name, data in told if name == "followups")
    assert 1 <= len(followups) <= 5


def test_events_resume_after_the_last_one_seen(http: httpx2.Client, token: str) -> None:
    turn_id = ask(http, token, "How much is delivery?")["turn_id"]
    told = events(http, token, turn_id)
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    for after in (1, len(told) // 2, len(told) - 1):
        assert events(http, token, turn_id, after) == told[after:]
    assert events(http, token, turn_id, len(told)) == []


def test_the_same_client_message_id_is_one_message(http: httpx2.Client, token: str) -> None:
    first = ask(http, token, "你好", "m-1")
    assert ask(http, token, "你好", "m-1") == first
    events(http, token, first["turn_id"])
    assert ask(http, token, "你好", "m-1") == first
    messages = http.post("/api/chat/shop-web/sessions", json={"token": token}).json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


def test_a_visitor_comes_back_to_his_conversation_and_may_begin_a_new_one(http: httpx2.Client, token: str) -> None:
    turn_id = ask(http, token, "你好")["turn_id"]
    events(http, token, turn_id)
    back = http.post("/api/chat/shop-web/sessions", json={"token": token}).json()
    assert back["messages"][0]["text"] == "你好" and back["active_turn_id"] is None
    new = http.post("/api/chat/shop-web/sessions", json={"token": token, "new": True}).json()
    assert new["messages"] == [] and new["conversation_id"] != back["conversation_id"]
    assert http.post(f"/api/chat/turns/{turn_id}/feedback", json={"rating": "up"}, headers=headers(new["token"])).is_success


def test_feedback_is_kept(http: httpx2.Client, token: str) -> None:
    turn_id = ask(http, token, "你好")["turn_id"]
    events(http, token, turn_id)
    url = f"/api/chat/turns/{turn_id}/feedback"
    assert http.post(url, json={"rating": "down", "comment": "太短了"}, headers=headers(token)).json() == {"rating": "down"}
    back = http.post("/api/chat/shop-web/sessions", json={"token": token}).json()
    assert back["messages"][-1]["rating"] == "down"
    for body in ({"rating": "sideways"}, {}, {"rating": "up", "comment": "x" * 1001}, {"rating": "up", "comment": 3}):
        refused(http.post(url, json=body, headers=headers(token)), 400, "wrong_shape")


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("", 400, "empty"),
        (" \n\t ", 400, "empty"),
        ("\u200b\u200d\ufeff", 400, "empty"),
        ("\x00\x01", 400, "empty"),
        ("长" * 100_000, 413, "too_large"),
        ("长" * 4001, 413, "too_long"),
        (None, 400, "wrong_shape"),
        (42, 400, "wrong_shape"),
        (["a"], 400, "wrong_shape"),
    ],
)
def test_a_text_that_cannot_be_asked_is_refused_in_words(
    http: httpx2.Client, token: str, text: object, status: int, code: str
) -> None:
    body = {"text": text, "client_message_id": uuid.uuid4().hex}
    refused(http.post("/api/chat/messages", json=body, headers=headers(token)), status, code)


@pytest.mark.parametrize(
    "text",
    [
        "👨‍👩‍👧‍👦 家庭装多少钱？",
        "𠮷野家𪚥的发票抬头怎么开？",
        "كم تكلفة التوصيل؟ שלום",
        "a\u0301\u0300\u0302 z̷a̷l̷g̷o̷ hello",
        "\ud83d broken surrogate",
        "<script>alert(1)</script>",
        "line\r\none\x07 bell\u202e right-to-left override",
        "${7*7} {{7*7}} %s {0} '; DROP TABLE turn; --",
        "长" * 4000,
    ],
)
def test_strange_text_is_answered_and_kept_readable(http: httpx2.Client, token: str, text: str) -> None:
    body = json.dumps({"text": text, "client_message_id": uuid.uuid4().hex})  # ASCII: a lone surrogate stays an escape
    response = http.post("/api/chat/messages", content=body, headers=headers(token, **{"Content-Type": "application/json"}))
    assert response.status_code == 202, response.text
    told = events(http, token, response.json()["turn_id"])
    assert told[-1][1] == "end" and any(name == "done" for _, name, _ in told)
    kept = http.post("/api/chat/shop-web/sessions", json={"token": token}).json()["messages"][0]["text"]
    assert kept and "\x07" not in kept and "\x00" not in kept


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"text": "\xff"}'])
def test_a_body_that_is_no_json_object_is_refused(http: httpx2.Client, token: str, body: bytes) -> None:
    refused(http.post("/api/chat/messages", content=body, headers=headers(token)), 400, "unreadable")


@pytest.mark.parametrize("message_id", [None, "", 7, "x" * 101, "line\nbreak", "\x00"])
def test_a_client_message_id_must_be_short_and_printable(http: httpx2.Client, token: str, message_id: object) -> None:
    body = {"text": "你好", "client_message_id": message_id}
    refused(http.post("/api/chat/messages", json=body, headers=headers(token)), 400, "wrong_shape")


def test_a_wrong_token_is_refused(http: httpx2.Client, token: str, system: Installation) -> None:
    body = {"text": "你好", "client_message_id": "m"}
    refused(http.post("/api/chat/messages", json=body), 401, "unauthorized")
    for wrong in ("nonsense", token[:-2], token + "x", token.replace(".", ""), "." * 10):
        refused(http.post("/api/chat/messages", json=body, headers=headers(wrong)), 401, "bad_token")


def test_a_token_of_long_ago_has_expired(http: httpx2.Client, system: Installation, token: str) -> None:
    key = (system.data_dir / "secret_key").read_text().strip()

    class LongAgo(URLSafeTimedSerializer):
        class TimestampSigner(URLSafeTimedSerializer.default_signer):  # type: ignore[name-defined,misc]
            def get_timestamp(self) -> int:
                return super().get_timestamp() - 181 * 86400  # type: ignore[no-any-return]

        default_signer = TimestampSigner

    payload = URLSafeTimedSerializer(key, salt="qingniao visitor").loads(token)
    old = LongAgo(key, salt="qingniao visitor").dumps(payload)
    body = {"text": "你好", "client_message_id": "m"}
    refused(http.post("/api/chat/messages", json=body, headers=headers(str(old))), 401, "token_expired")


def test_one_visitor_reads_nothing_of_another(http: httpx2.Client, token: str) -> None:
    turn_id = ask(http, token, "你好")["turn_id"]
    other = http.post("/api/chat/shop-web/sessions", json={}).json()["token"]
    for method, path in (("GET", "events"), ("POST", "stop"), ("POST", "feedback")):
        response = http.request(method, f"/api/chat/turns/{turn_id}/{path}", headers=headers(other), json={"rating": "up"})
        refused(response, 404, "unknown_turn")
    refused(http.get(f"/api/chat/turns/{uuid.uuid4()}/events", headers=headers(token)), 404, "unknown_turn")


def test_unknown_channels_and_ids_are_not_found(http: httpx2.Client, token: str) -> None:
    refused(http.post("/api/chat/nowhere/sessions", json={}), 404, "unknown_channel")
    assert http.get("/chat/nowhere").status_code == 404
    assert http.get("/chat/nowhere").headers["content-type"].startswith("text/html")
    turn_id = ask(http, token, "你好")["turn_id"]
    for wrong in ("-1", "x", "1e9", "٣", "9" * 40):
        response = http.get(f"/api/chat/turns/{turn_id}/events?last_event_id={wrong}", headers=headers(token))
        refused(response, 400, "wrong_shape")


def test_a_foreign_origin_is_refused_and_the_own_one_is_not(http: httpx2.Client, system: Installation) -> None:
    foreign = http.post("/api/chat/shop-web/sessions", json={}, headers={"Origin": "https://evil.example"})
    refused(foreign, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in foreign.headers
    assert http.post("/api/chat/shop-web/sessions", json={}, headers={"Origin": system.url}).is_success
    page = http.get("/chat/shop-web")
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]


def test_errors_speak_the_callers_language(http: httpx2.Client, token: str) -> None:
    body = {"text": "", "client_message_id": "m"}
    told = {
        language: http.post("/api/chat/messages", json=body, headers=headers(token, **{"Accept-Language": language})).json()[
            "error"
        ]["message"]
        for language in ("zh-CN", "en")
    }
    assert told["zh-CN"] != told["en"] and told["en"].isascii()


def test_health_readiness_and_metrics(http: httpx2.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = http.get("/readyz").json()
    assert ready["status"] == "ok" and ready["checks"]["reply_workers"] >= 1
    assert {"database", "redis", "milvus"} <= ready["checks"].keys()
    assert "qingniao_turns" in http.get("/metrics").text
