"""`flask backup` and `flask restore`: one file with everything, and the way back."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlmodel import SQLModel, select

from admin.backup import back_up, restore
from admin.migrate import migrate
from bot.errors import ConfigError
from bot.secrets import decrypt, encrypt
from bot.tables import (
    Bot,
    BotVersion,
    Channel,
    Chunk,
    Conversation,
    Document,
    KeywordList,
    KnowledgeBase,
    Message,
    Provider,
    Setting,
    Turn,
    User,
)
from jobs.services import Services
from knowledge.ingest import STALE
from tests.admin.conftest import Flask, Open

VECTOR = bytes(range(256)) * 6


def fill(house: Services) -> None:
    """A row in every table that matters, with what is hard to carry: bytes, none in JSON, emoji, times, a secret."""
    with house.db.write() as session:
        session.add(User(name="Cy", password_hash="h"))
        session.add(Setting(key="demo_seeded", value=None))
        session.add(Provider(name="main", base_url="http://x", api_key=encrypt("sk-123", house.settings.secret_key)))
        session.add(KeywordList(name="words", keywords=["词", "\n", "😀"]))
        base = KnowledgeBase(name="handbook", revision=3)
        bot = Bot(name="shop", draft={"name": "shop", "title": "小店 \u2028"})
        session.add_all([base, bot])
        session.flush()
        assert base.id and bot.id
        version = BotVersion(bot_id=bot.id, number=1, config={"name": "shop"})
        channel = Channel(name="web", kind="web", bot_id=bot.id)
        document = Document(base_id=base.id, source="path:/a.md", content="ab/abcd", sha256="abcd")
        session.add_all([version, channel, document])
        session.flush()
        assert channel.id
        bot.published_version_id = version.id
        session.add(Chunk(base_id=base.id, document_id=document.id, position=0, text="𠮷", vector=VECTOR))
        conversation = Conversation(channel_id=channel.id, user_id="Ann")
        session.add(conversation)
        session.flush()
        session.connection().execute(
            insert(Turn),
            {"id": "t1", "conversation_id": conversation.id, "channel_id": channel.id, "bot_id": bot.id, "sequence": 1},
        )
        session.add(
            Message(
                conversation_id=conversation.id, turn_id="t1", channel_id=channel.id, direction="in", sequence=1, text="hi\r\n"
            )
        )
    folder = house.settings.data_dir / "documents" / "ab"
    folder.mkdir(parents=True)
    (folder / "abcd").write_bytes(b"\x00\xff a document")


def rows_of(house: Services) -> dict[str, list[Any]]:
    """Every row of every table, in order; without the note that the index is to be made anew."""
    with house.db.engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table)) if row[0] != STALE), key=repr)
            for table in SQLModel.metadata.sorted_tables
        }


@pytest.fixture
def full(house: Services) -> Services:
    fill(house)
    return house


def test_everything_comes_back_on_another_machine(full: Services, open_house: Open, tmp_path: Path) -> None:
    backup = tmp_path / "all.tar.gz"
    contents = back_up(full.db, full.settings, backup)
    assert (contents.documents, contents.key, contents.rows["message"]) == (1, True, 1)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    there = open_house("there")
    assert restore(there.db, there.settings, backup).documents == 1
    assert rows_of(there) == rows_of(full)
    assert (there.settings.data_dir / "documents" / "ab" / "abcd").read_bytes() == b"\x00\xff a document"
    kept = there.settings.data_dir / "secret_key"
    assert kept.read_text() == full.settings.secret_key != there.settings.secret_key
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with there.db.read() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM turn WHERE followups IS NULL").scalar() == 1


def test_a_backup_of_sqlite_restores_into_postgresql_and_back(
    full: Services, open_house: Open, new_postgres: str, tmp_path: Path
) -> None:
    back_up(full.db, full.settings, tmp_path / "sqlite.tar.gz")
    middle = open_house("middle", DATABASE_URL=new_postgres)
    migrate(middle.settings, "en")
    restore(middle.db, middle.settings, tmp_path / "sqlite.tar.gz")
    middle = open_house("middle", DATABASE_URL=new_postgres)  # started again, as one is told to: the key has changed
    assert rows_of(middle) == rows_of(full)
    with middle.db.write() as session:  # the counters go on after the restored ids
        session.add(KeywordList(name="more"))
    with middle.db.write() as session:
        session.delete(session.exec(select(KeywordList).where(KeywordList.name == "more")).one())
    back_up(middle.db, middle.settings, tmp_path / "postgresql.tar.gz")
    last = open_house("last")
    restore(last.db, last.settings, tmp_path / "postgresql.tar.gz")
    assert rows_of(last) == rows_of(full)


def test_a_filled_installation_is_replaced_only_on_demand(full: Services, flask: Flask, tmp_path: Path) -> None:
    backup = tmp_path / "all.tar.gz"
    assert flask("backup", backup).exit_code == 0
    with full.db.write() as session:
        session.add(KeywordList(name="later"))
    refused = flask("restore", backup)
    assert refused.exit_code == 1 and "add --yes" in refused.stderr
    with full.db.read() as session:
        assert len(session.exec(select(KeywordList)).all()) == 2
    done = flask("restore", backup, "--yes")
    assert done.exit_code == 0, done.output
    with full.db.read() as session:
        assert [row.name for row in session.exec(select(KeywordList))] == ["words"]
        assert session.get(Setting, STALE)  # no index answered: whoever finds it later begins anew


def test_an_upload_in_progress_is_left_out(full: Services, open_house: Open, tmp_path: Path) -> None:
    (full.settings.data_dir / "documents" / "ab" / "abce.1-2.part").write_bytes(b"as far as it came")
    assert back_up(full.db, full.settings, tmp_path / "b.tar.gz").documents == 1
    there = open_house("there")
    assert restore(there.db, there.settings, tmp_path / "b.tar.gz").documents == 1
    assert not list(there.settings.data_dir.rglob("*.part"))


def test_a_backup_does_not_overwrite_a_file(full: Services, flask: Flask, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    assert "exists already" in flask("backup", tmp_path / "mine").stderr
    assert (tmp_path / "mine").read_text() == "precious"
    assert "cannot be written" in flask("backup", tmp_path / "nowhere" / "b.tar.gz").stderr


def test_a_key_from_the_environment_is_not_packed_and_is_asked_for(open_house: Open, tmp_path: Path) -> None:
    here = open_house("with-key", SECRET_KEY="a key of the operator's own")
    fill(here)
    assert not back_up(here.db, here.settings, tmp_path / "b.tar.gz").key
    there = open_house("there")
    before = rows_of(there)
    with pytest.raises(ConfigError, match="another SECRET_KEY"):
        restore(there.db, there.settings, tmp_path / "b.tar.gz")
    assert rows_of(there) == before
    same = open_house("same", SECRET_KEY="a key of the operator's own")
    restore(same.db, same.settings, tmp_path / "b.tar.gz")
    assert rows_of(same) == rows_of(here)


def test_secrets_are_turned_to_the_key_of_the_environment(full: Services, open_house: Open, tmp_path: Path) -> None:
    back_up(full.db, full.settings, tmp_path / "b.tar.gz")
    there = open_house("there", SECRET_KEY="a key of the operator's own")
    restore(there.db, there.settings, tmp_path / "b.tar.gz")
    with there.db.read() as session:
        assert decrypt(session.exec(select(Provider.api_key)).one() or "", "a key of the operator's own") == "sk-123"
    assert not (there.settings.data_dir / "secret_key").exists()


def repacked(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with its members changed, in order."""
    with tarfile.open(path) as archive:
        members = {info.name: (archive.extractfile(info) or io.BytesIO()).read() for info in archive}
    change(members)
    path.unlink()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def edit(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        assert old in members[name]
        members[name] = members[name].replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (edit("rows/message.jsonl", b"hi", b"ho"), "not a whole backup"),
        (edit("header.json", b"qingniao-backup", b"another-program"), "not a whole backup"),
        (edit("header.json", b'"schema": "', b'"schema": "9'), "schema is 9"),
        (lambda members: members.pop("manifest.json"), "not a whole backup"),
        (lambda members: members.pop("rows/turn.jsonl"), "not a whole backup"),
        (lambda members: members.update({"../../evil": b"x"}), "not a whole backup"),
        (lambda members: members.update({"documents/../../evil": b"x"}), "not a whole backup"),
        (lambda members: members.update({"/etc/evil": b"x"}), "not a whole backup"),
        (lambda members: members.update({"rows/unheard_of.jsonl": b"{}"}), "not a whole backup"),
    ],
)
def test_a_damaged_foreign_or_newer_archive_changes_nothing(
    full: Services, open_house: Open, tmp_path: Path, change: Callable[[dict[str, bytes]], None], sentence: str
) -> None:
    backup = tmp_path / "b.tar.gz"
    back_up(full.db, full.settings, backup)
    repacked(backup, change)
    there = open_house("there")
    before = rows_of(there)
    with pytest.raises(ConfigError, match=sentence):
        restore(there.db, there.settings, backup)
    assert rows_of(there) == before
    assert not list(tmp_path.rglob("evil"))
    assert not list(there.settings.data_dir.glob("restore-*"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "link"])
def test_what_is_no_archive_is_refused_in_a_sentence(full: Services, open_house: Open, tmp_path: Path, damage: str) -> None:
    backup = tmp_path / "b.tar.gz"
    back_up(full.db, full.settings, backup)
    whole = backup.read_bytes()
    if damage == "link":
        with tarfile.open(backup, "w:gz") as archive:
            info = tarfile.TarInfo("header.json")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
        backup.write_bytes({"cut": whole[:-400], "flipped": flipped, "text": b"hello\n" * 99, "empty": b""}[damage])
    there = open_house("there")
    with pytest.raises(ConfigError, match="not a whole backup"):
        restore(there.db, there.settings, backup)


def test_rows_that_the_database_refuses_leave_everything_as_it_was(full: Services, open_house: Open, tmp_path: Path) -> None:
    """A manifest that fits, and a row that breaks a foreign key: found out only while writing."""
    backup = tmp_path / "b.tar.gz"
    back_up(full.db, full.settings, backup)

    def orphan(members: dict[str, bytes]) -> None:
        import hashlib

        row = json.loads(members["rows/message.jsonl"]) | {"conversation_id": "nobody's"}
        members["rows/message.jsonl"] = json.dumps(row).encode()
        manifest = json.loads(members["manifest.json"])
        digest = hashlib.sha256(members["rows/message.jsonl"]).hexdigest()
        manifest["members"]["rows/message.jsonl"] = {"size": len(members["rows/message.jsonl"]), "sha256": digest}
        members["manifest.json"] = json.dumps(manifest).encode()

    repacked(backup, orphan)
    there = open_house("there")
    fill(there)
    before = rows_of(there)
    with pytest.raises(ConfigError, match="not a whole backup"):
        restore(there.db, there.settings, backup, overwrite=True)
    assert rows_of(there) == before
    assert (there.settings.data_dir / "documents" / "ab" / "abcd").exists()


def test_a_database_that_was_never_prepared_says_so(open_house: Open, tmp_path: Path) -> None:
    there = open_house("there")
    (there.settings.data_dir / "qingniao.db").unlink()
    with pytest.raises(ConfigError, match="Run `make run` once first"):
        back_up(there.db, there.settings, tmp_path / "b.tar.gz")
    assert list(tmp_path.glob("b.tar.gz*")) == []


def test_an_archive_is_plain_tar_that_other_tools_open(full: Services, tmp_path: Path) -> None:
    back_up(full.db, full.settings, tmp_path / "b.tar.gz")
    with gzip.open(tmp_path / "b.tar.gz") as unzipped, tarfile.open(fileobj=unzipped) as archive:
        names = archive.getnames()
    assert names[0] == "header.json" and names[-1] == "manifest.json" and "documents/ab/abcd" in names
