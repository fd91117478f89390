"""The OpenAI-compatible API, spoken to by the official client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx2
import openai
import pytest

from bot.db import Database
from bot.settings import read_settings
from bot.tables import ApiKey
from channels.openai_api import digest
from tests.conftest import Installation


@pytest.fixture(scope="module")
def key(system: Installation) -> str:
    """An API key for every bot, as the console makes them."""
    secret = f"qn-{uuid.uuid4().hex}"
    database = Database(read_settings(system.environment()).database_url)
    with database.write() as session:
        session.add(ApiKey(name="tests", digest=digest(secret), last_four=secret[-4:]))
    database.close()
    return secret


@pytest.fixture
def client(system: Installation, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{system.url}/v1", api_key=key, max_retries=0, timeout=30) as client:
        yield client


def test_the_bots_are_the_models(client: openai.OpenAI) -> None:
    assert "shop" in [model.id for model in client.models.list()]
    assert client.models.retrieve("shop").owned_by == "qingniao"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_a_question_is_answered_whole(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="shop", messages=[{"role": "user", "content": "收到货不喜欢可以退吗？"}])
    assert answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
    assert answer.usage and answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_a_question_is_answered_as_a_stream(client: openai.OpenAI) -> None:
    question: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "How much is delivery?"}]
    whole = client.chat.completions.create(model="shop", messages=question).choices[0].message.content
    stream = client.chat.completions.create(
        model="shop", messages=question, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage and chunks[-1].usage.total_tokens > 0


def test_earlier_messages_are_the_history(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="shop",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "你好"},
            {"role": "assistant", "content": "您好！"},
            {"role": "user", "content": [{"type": "text", "text": "谢谢"}]},
        ],
        temperature=0.1,
        max_tokens=50,
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    "body",
    [
        {"model": "shop"},
        {"model": "shop", "messages": []},
        {"model": "shop", "messages": "hello"},
        {"model": "shop", "messages": [{"role": "user"}]},
        {"model": "shop", "messages": [{"role": "wizard", "content": "hello"}]},
        {"model": "shop", "messages": [{"role": "user", "content": ""}]},
        {"model": "shop", "messages": [{"role": "assistant", "content": "hello"}]},
        {"model": "shop", "messages": [{"role": "user", "content": "hello"}], "temperature": 9},
        {"model": "shop", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 0},
        {"model": "shop", "messages": [{"role": "user", "content": "hello"}], "max_tokens": True},
    ],
)
def test_a_wrong_body_is_refused_in_openais_form(system: Installation, key: str, body: dict[str, object]) -> None:
    answer = httpx2.post(f"{system.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error.keys() == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"


def test_a_wrong_key_and_an_unknown_model_are_refused(system: Installation, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hello"}])
    with (
        openai.OpenAI(base_url=f"{system.url}/v1", api_key="qn-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
