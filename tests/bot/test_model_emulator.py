"""The emulator is what the other tests stand on: it answers the official client and refuses what real endpoints refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import free_port
from tests.emulators.model import EMBEDDING_MODEL, MODEL, ModelEmulator

GOOD = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def post(model: ModelEmulator, body: bytes, key: str | None = None, path: str = "/chat/completions") -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key or model.key}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(model.base_url + path, body, headers), timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_official_client_gets_on_with_it(model: ModelEmulator) -> None:
    with openai.OpenAI(base_url=model.base_url, api_key=model.key) as client:
        model.will_say("Three days.", times=2)
        whole = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "How long?"}])
        assert whole.choices[0].message.content == "Three days."
        stream = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "How long?"}], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Three days."
        assert [known.id for known in client.models.list()] == [MODEL, EMBEDDING_MODEL]
        vectors = client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"], encoding_format="float").data
        assert [row.index for row in vectors] == [1, 0]
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"model": "\xff"}', 400),
        (json.dumps({**GOOD, "model": "other"}).encode(), 404),
        (json.dumps({**GOOD, "messages": []}).encode(), 400),
        (json.dumps({**GOOD, "messages": [{"role": "robot", "content": "x"}]}).encode(), 400),
        (json.dumps({**GOOD, "messages": [{"role": "user", "content": ""}]}).encode(), 400),
        (json.dumps({**GOOD, "messages": [{"role": "user", "content": "x" * 200_000}]}).encode(), 400),
        (json.dumps({**GOOD, "temperature": 3}).encode(), 400),
        (json.dumps({**GOOD, "max_tokens": 0}).encode(), 400),
        (json.dumps({**GOOD, "stream_options": {"include_usage": True}}).encode(), 400),
        (json.dumps({**GOOD, "surprise": 1}).encode(), 400),
        (json.dumps(GOOD).encode(), 200),
    ],
)
def test_it_refuses_what_real_endpoints_refuse(body: bytes, status: int, model: ModelEmulator) -> None:
    found, answer = post(model, body)
    assert found == status
    assert ("error" in answer) == (status != 200)


def test_a_wrong_key_is_refused_before_anything_else(model: ModelEmulator) -> None:
    assert post(model, b"{", key="wrong")[0] == 401
    assert not model.was_asked


def test_it_runs_by_hand() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.emulators.model", "--port", str(free_port()), "--answer", "By hand."]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url, _, key, *_ = process.stdout.readline().split()
        with openai.OpenAI(base_url=base_url, api_key=key) as client:
            said = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        process.terminate()
    assert said.choices[0].message.content == "By hand."
