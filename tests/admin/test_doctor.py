"""`flask doctor`: what is wrong is named, with what to do."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlmodel import select

from admin.apply import apply_file
from admin.doctor import Finding, examine
from bot.secrets import encrypt
from bot.tables import (
    Bot,
    Channel,
    Chunk,
    Conversation,
    Document,
    DocumentStatus,
    KnowledgeBase,
    Provider,
    Turn,
    TurnStatus,
    utcnow,
)
from jobs.health import say_alive
from jobs.services import Services
from knowledge.errors import DocumentError
from tests.admin.conftest import Flask, Open
from tests.emulators.model import ModelEmulator

CONFIG = """
providers:
  - name: near
    base_url: {url}
    api_key: {key}
    models: [{{name: chat, kind: chat}}, {{name: unused, kind: chat}}]
bots: [{{name: shop, model: near/chat}}]
channels: [{{name: shop-web, kind: web, bot: shop}}]
"""


def found(house: Services, state: str) -> list[Finding]:
    return [finding for finding in examine(house) if finding.state == state]


def test_an_installation_that_is_not_running_says_how_to_start_it(open_house: Open, flask: Flask) -> None:
    away = open_house("away", REDIS_URL="unix:///nowhere/redis.sock")
    result = flask("doctor", "--json", settings=away.settings)
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["status"] == "fail"
    assert {check["part"] for check in answer["checks"] if check["state"] == "FAIL"} == {"redis", "index"}
    assert "Check its address" in next(check["text"] for check in answer["checks"] if check["part"] == "redis")


def test_models_answer_or_the_reason_is_told(house: Services, tmp_path: Path) -> None:
    with ModelEmulator(models=("chat", "unused")) as emulator:
        (tmp_path / "a.yaml").write_text(CONFIG.format(url=emulator.base_url, key=emulator.key))
        apply_file(house, tmp_path / "a.yaml")
        assert [finding.state for finding in examine(house) if finding.part == "models"] == ["OK", "OK"]
    models = [finding for finding in examine(house) if finding.part == "models"]
    assert [(finding.state, finding.text.split(":")[0]) for finding in models] == [
        ("FAIL", "near/chat"),
        ("WARN", "near/unused"),
    ]
    assert emulator.key not in str(models)


def test_a_living_worker_is_counted(house: Services) -> None:
    assert any("no reply worker lives" in finding.text for finding in found(house, "FAIL"))
    say_alive(house, "a worker")
    assert not any("no reply worker lives" in finding.text for finding in found(house, "FAIL"))


def test_what_is_stuck_or_failed_is_named(house: Services) -> None:
    long_ago = utcnow() - timedelta(hours=2)
    with house.db.write() as session:
        base, bot = KnowledgeBase(name="handbook"), Bot(name="shop", draft={"name": "shop"})
        session.add_all([base, bot])
        session.flush()
        assert base.id and bot.id
        channel = Channel(name="web", kind="web", bot_id=bot.id)
        error = DocumentError("document.empty").stored()
        session.add(Document(base_id=base.id, source="file:a", title="Prices", status=DocumentStatus.FAILED, error=error))
        session.add(Document(base_id=base.id, source="file:b", status=DocumentStatus.READING, updated_at=long_ago))
        session.add(channel)
        session.flush()
        assert channel.id
        conversation = Conversation(channel_id=channel.id, user_id="ann")
        session.add(conversation)
        session.flush()
        common = {"conversation_id": conversation.id, "channel_id": channel.id, "bot_id": bot.id}
        session.add(Turn(**common, sequence=1, due_at=long_ago))
        session.add(Turn(**common, sequence=2, status=TurnStatus.FAILED, error_code="timeout"))
    texts = {f"{finding.state} {finding.part}": finding.text for finding in examine(house) if finding.state != "OK"}
    assert "1 document(s) could not be read, such as “Prices”" in texts["WARN documents"]
    assert "have not moved for 30 minutes" in texts["FAIL documents"]
    assert "1 question(s) have waited" in texts["FAIL turns"]
    assert "failed (timeout: 1)" in texts["WARN turns"]
    assert "shop is not published" in texts["FAIL channels"]


def test_secrets_of_another_key_and_missing_references_are_named(house: Services, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG.format(url="http://127.0.0.1:9/v1", key="k"))
    apply_file(house, tmp_path / "a.yaml")
    with house.db.write() as session:
        provider = session.exec(select(Provider)).one()
        provider.name, provider.api_key = "renamed", encrypt("x", "another key")
        session.add(provider)
    texts = [finding.text for finding in found(house, "FAIL")]
    assert any("these secrets cannot be opened: providers[renamed].api_key" in text for text in texts)
    assert any("the bot shop refers to what does not exist: near/chat (model)" in text for text in texts)


def test_a_database_that_is_missing_or_of_another_version_is_told_apart(house: Services) -> None:
    with house.db.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    assert any("version 0000, this program wants" in finding.text for finding in found(house, "FAIL"))
    with house.db.write() as session:
        session.connection().exec_driver_sql("DROP TABLE alembic_version")
    assert any("Run `make run` once first" in finding.text for finding in found(house, "FAIL"))


def test_a_database_file_that_is_no_database_is_a_sentence(open_house: Open, flask: Flask) -> None:
    broken = open_house("broken")
    (broken.settings.data_dir / "qingniao.db").write_bytes(b"nonsense" * 1000)
    result = flask("doctor", settings=broken.settings)
    assert result.exit_code == 1 and "FAIL  database" in result.stdout
    assert "Traceback" not in result.output


def test_a_key_that_others_may_read_is_a_warning(house: Services) -> None:
    (house.settings.data_dir / "secret_key").chmod(0o644)
    assert any("chmod 600" in finding.text for finding in found(house, "WARN"))


@pytest.mark.parametrize(("public_url", "word"), [("", "nobody else can open"), ("http://shop.example", "not encrypted")])
def test_an_address_that_others_cannot_use_is_a_warning(open_house: Open, public_url: str, word: str) -> None:
    outside = open_house("outside", HOST="0.0.0.0", PUBLIC_URL=public_url)
    assert any(word in finding.text for finding in found(outside, "WARN"))


def test_an_index_that_differs_from_the_rows_is_told_and_restore_makes_it_whole(
    open_house: Open, milvus_url: str, flask: Flask, tmp_path: Path
) -> None:
    indexed = open_house("indexed", MILVUS_URI=milvus_url)
    with indexed.db.write() as session:
        base = KnowledgeBase(name="handbook")
        session.add(base)
        session.flush()
        document = Document(base_id=base.id or 0, source="row:1", status=DocumentStatus.READY)
        session.add(document)
        session.flush()
        vector = np.ones(384, dtype=np.float32).tobytes()
        session.add(Chunk(base_id=base.id or 0, document_id=document.id, position=0, vector=vector))
    assert any("holds 0 passages, the database 1" in finding.text for finding in found(indexed, "WARN"))
    flask("backup", tmp_path / "b.tar.gz", settings=indexed.settings)
    restored = flask("restore", tmp_path / "b.tar.gz", "--yes", settings=indexed.settings)
    assert "Rebuilt the vector index: 1 passages." in restored.stdout, restored.output
    assert any("1 passages, as in the database" in finding.text for finding in found(indexed, "OK"))
