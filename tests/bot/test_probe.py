from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from bot.llm import Endpoint, Llm
from bot.presets import PRESETS, preset
from bot.probe import probe
from tests.conftest import free_port
from tests.emulators.model import DIMENSIONS, EMBEDDING_MODEL, ModelEmulator


def test_an_endpoint_that_works_is_said_to(llm: Llm, endpoint: Endpoint) -> None:
    found = probe(llm, endpoint, "en")
    assert found.ok
    assert "chat-large" in found.text
    assert probe(llm, replace(endpoint, model=EMBEDDING_MODEL), kind="embedding").dim == DIMENSIONS


def test_a_model_that_only_reasons_within_the_probes_few_tokens_works(
    llm: Llm, endpoint: Endpoint, model: ModelEmulator
) -> None:
    model.will_say("", reasoning="Well, they want me to say ok.", finish="length")
    assert probe(llm, endpoint).ok


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"api_key": "sk-wrong"}, "key is wrong"),
        ({"api_key": "sk-全角"}, "characters"),
        ({"model": "chat-unknown"}, "chat-unknown"),
        ({"base_url": "http://127.0.0.1:{port}"}, "No such address"),
        ({"base_url": "http://127.0.0.1:{free}/v1"}, "Cannot reach 127.0.0.1"),
    ],
)
def test_what_is_wrong_is_said_in_words(change: dict[str, str], word: str, llm: Llm, endpoint: Endpoint) -> None:
    where = {"port": urlsplit(endpoint.base_url).port, "free": free_port()}
    found = probe(llm, replace(endpoint, **{name: value.format(**where) for name, value in change.items()}), "en")
    assert not found.ok
    assert word in found.text
    assert endpoint.api_key not in found.text


@pytest.mark.parametrize(("status", "word"), [(402, "balance"), (429, "quota"), (500, "500"), (422, "422"), (403, "key")])
def test_each_refusal_has_its_sentence(status: int, word: str, llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.always(status=status)
    assert word in probe(llm, endpoint, "en").text
    assert not probe(llm, endpoint, "zh").ok


def test_every_preset_is_complete_and_has_a_name_of_its_own() -> None:
    assert len({known.key for known in PRESETS}) == len(PRESETS) == 9
    for known in PRESETS:
        assert known.chat_models
        assert urlsplit(known.base_url).scheme == ("https" if known.needs_key else "http")
        assert bool(known.keys_url) == known.needs_key
        assert preset(known.key) is known
