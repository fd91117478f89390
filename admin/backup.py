"""One file with everything: rows, documents, the key that opens the stored secrets; and the way back.

The archive is a tar.gz: `header.json`, `rows/TABLE.jsonl` (a row a line, the same for SQLite and PostgreSQL),
`documents/…`, perhaps `secret_key`, and last `manifest.json` with the size and SHA-256 of each. Vectors are in the rows
of the passages, so that the index can be rebuilt from them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from sqlalchemy import JSON, Connection, DateTime, LargeBinary, Table, bindparam, func, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel

from bot.db import Database
from bot.errors import ConfigError
from bot.secrets import decrypt, encrypt
from bot.settings import Settings
from bot.tables import utcnow
from bot.texts import say

FORMAT = "qingniao-backup"
VERSION = 1
BATCH_ROWS = 500
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Contents:
    """What a backup holds. rows: table → count. key: whether SECRET_KEY is inside."""

    rows: dict[str, int]
    documents: int
    size_bytes: int
    key: bool
    made_at: str


# --- backup ----------------------------------------------------------------------------------------------------------


def back_up(db: Database, settings: Settings, path: Path, locale: str = "en") -> Contents:
    """Write everything to path, readable by its owner only. The system may go on working meanwhile.

    Raises ConfigError when path exists or cannot be written, or the database was never migrated.
    """
    if path.exists():
        raise ConfigError(say("cli.file.exists", locale, path=path))
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            contents = _write_archive(db, settings, file, locale)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:
        raise ConfigError(say("cli.backup.unwritable", locale, path=path, reason=error.strerror)) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return contents


def _write_archive(db: Database, settings: Settings, file: IO[bytes], locale: str) -> Contents:
    members: dict[str, dict[str, Any]] = {}
    rows: dict[str, int] = {}
    made_at = utcnow().isoformat(timespec="seconds")
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=4, format=tarfile.PAX_FORMAT) as archive:
        with _one_moment(db) as connection:
            head = {"format": FORMAT, "version": VERSION, "schema": schema(connection, locale), "made_at": made_at,
                    "key_id": key_id(settings.secret_key)}  # fmt: skip
            _add(archive, members, "header.json", io.BytesIO(json.dumps(head).encode()))
            for table in SQLModel.metadata.sorted_tables:
                with tempfile.TemporaryFile() as lines:
                    rows[table.name] = _dump(connection, table, lines)
                    lines.seek(0)
                    _add(archive, members, f"rows/{table.name}.jsonl", lines)
        documents = _add_documents(archive, members, settings.data_dir / "documents")
        kept = _kept_key(settings)
        if kept:
            _add(archive, members, "secret_key", io.BytesIO(kept.encode()))
        _add(archive, {}, "manifest.json", io.BytesIO(json.dumps({"members": members, "rows": rows}).encode()))
    return Contents(rows, documents, file.tell(), bool(kept), made_at)


class _one_moment:  # reads as a phrase: with _one_moment(db) as connection
    """A connection that sees the database as it is now, whatever is written meanwhile."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> Connection:
        self._connection = self._db.engine.connect()
        if not self._db.is_sqlite:
            self._connection = self._connection.execution_options(isolation_level="REPEATABLE READ")
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def schema(connection: Connection, locale: str = "en") -> str:
    """The revision that the database is migrated to. Raises ConfigError when it never was."""
    if not inspect(connection).has_table("alembic_version"):
        raise ConfigError(say("cli.not_migrated", locale))
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())


def key_id(secret_key: str) -> str:
    """Tells two secret keys apart without telling either."""
    return hmac.new(secret_key.encode(), b"qingniao backup", hashlib.sha256).hexdigest()[:16]


def _kept_key(settings: Settings) -> str | None:
    """The secret key when it is the one made at the first start; one from the environment is its owner's to keep."""
    path = settings.data_dir / "secret_key"
    kept = path.read_text().strip() if path.exists() else None
    return kept if kept == settings.secret_key else None


def _dump(connection: Connection, table: Table, lines: IO[bytes]) -> int:
    count = 0
    result = connection.execution_options(stream_results=True).execute(select(table))
    for part in result.partitions(BATCH_ROWS):
        for row in part:
            values = {column.name: _to_json(value) for column, value in zip(table.columns, row, strict=True)}
            lines.write(json.dumps(values, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
            count += 1
    return count


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value


def _add_documents(archive: tarfile.TarFile, members: dict[str, dict[str, Any]], folder: Path) -> int:
    count = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix != ".part":  # those are still being written
            try:
                file = path.open("rb")
            except FileNotFoundError:  # deleted since it was listed, and so no longer anyone's
                continue
            with file:
                _add(archive, members, f"documents/{path.relative_to(folder).as_posix()}", file)
            count += 1
    return count


def _add(archive: tarfile.TarFile, members: dict[str, dict[str, Any]], name: str, file: IO[bytes]) -> None:
    digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    info = tarfile.TarInfo(name)
    info.size, info.mode = file.seek(0, os.SEEK_END), 0o600
    file.seek(0)
    archive.addfile(info, file)
    members[name] = {"size": info.size, "sha256": digest}


# --- restore ---------------------------------------------------------------------------------------------------------


def restore(db: Database, settings: Settings, path: Path, overwrite: bool = False, locale: str = "en") -> Contents:
    """Make rows, documents and the kept key those of the backup at path: all, or nothing is changed.

    The caller rebuilds the index afterwards; it is marked stale until then. Raises ConfigError (a damaged or foreign file,
    one of a newer version, stored secrets that SECRET_KEY does not open, something there already and not overwrite),
    StoreError.
    """
    with db.engine.connect() as connection:
        here = schema(connection, locale)
        if not overwrite and (found := _filled(connection)):
            raise ConfigError(say("cli.restore.not_empty", locale, found=found))
    with tempfile.TemporaryDirectory(prefix="restore-", dir=settings.data_dir) as folder:
        try:
            manifest = _unpack(path, Path(folder), here, locale)
        except (OSError, EOFError, tarfile.TarError, gzip.BadGzipFile, ValueError, KeyError, TypeError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk, or the file's own permissions
                raise ConfigError(say("cli.restore.io", locale, path=path, reason=error.strerror)) from error
            raise ConfigError(say("cli.restore.damaged", locale, path=path)) from error
        head = json.loads((Path(folder) / "header.json").read_text())
        keep_key = _choose_key(Path(folder), settings, head, locale)
        try:
            _replace(db, settings, Path(folder), keep_key)
        except (ValueError, KeyError, TypeError, SQLAlchemyError) as error:  # rows that this schema does not take
            raise ConfigError(say("cli.restore.damaged", locale, path=path)) from error
        except OSError as error:
            raise ConfigError(say("cli.restore.io", locale, path=path, reason=error.strerror)) from error
        documents = sum(name.startswith("documents/") for name in manifest["members"])
        return Contents(manifest["rows"], documents, path.stat().st_size, keep_key is not None, head["made_at"])


def _filled(connection: Connection) -> str:
    """The tables that hold something, as a person reads it."""
    counts = {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in SQLModel.metadata.sorted_tables
    }
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def _unpack(path: Path, folder: Path, here: str, locale: str) -> dict[str, Any]:
    """Every member below folder, checked against the manifest. Raises what tar, gzip and JSON raise, and ValueError."""
    seen: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r:gz") as archive:
        for info in archive:
            name = info.name
            source = archive.extractfile(info) if info.isreg() and _allowed(name) else None
            if source is None or name in seen or (not seen and name != "header.json"):
                raise ValueError(f"unexpected member {name!r}")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            seen[name] = {"size": info.size, "sha256": _copy(source, target)}
            if name == "header.json":
                _check_header(json.loads(target.read_text()), here, locale)
    seen.pop("manifest.json")
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    tables = {f"rows/{table.name}.jsonl" for table in SQLModel.metadata.sorted_tables}
    if manifest["members"] != seen or tables - set(seen):
        raise ValueError("what is inside is not what the manifest says")
    return manifest


def _allowed(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/") or PurePosixPath(name).as_posix() != name:
        return False
    if len(parts) == 1:
        return name in ("header.json", "manifest.json", "secret_key")
    rows = {f"{table.name}.jsonl" for table in SQLModel.metadata.sorted_tables}
    return parts[0] == "documents" or (parts[0] == "rows" and name.removeprefix("rows/") in rows)


def _copy(source: IO[bytes], target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("xb") as file:
        while piece := source.read(PIECE_BYTES):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _check_header(head: dict[str, Any], here: str, locale: str) -> None:
    if head["format"] != FORMAT:
        raise ValueError("not a backup of ours")
    if head["version"] > VERSION or head["schema"] != here:
        raise ConfigError(say("cli.restore.version", locale, theirs=head["schema"], ours=here))


def _choose_key(folder: Path, settings: Settings, head: dict[str, Any], locale: str) -> str | None:
    """The key that the restored secrets are under: the backup's (to be kept in DATA_DIR), or none for the one in use.

    Secrets from another key are turned to ours where ours comes from the environment.
    """
    packed = folder / "secret_key"
    if head["key_id"] == key_id(settings.secret_key):
        return None
    providers, channels = folder / "rows" / "provider.jsonl", folder / "rows" / "channel.jsonl"
    if not packed.exists():
        if any(row.get("api_key") for row in _rows(providers)) or any(row.get("secrets") for row in _rows(channels)):
            raise ConfigError(say("cli.restore.key", locale))
        return None
    key = packed.read_text()
    if key_id(key) != head["key_id"]:
        raise ConfigError(say("cli.restore.damaged", locale, path=packed.name))
    if _kept_key(settings):
        return key
    for path, column in ((providers, "api_key"), (channels, "secrets")):
        turned = [
            row | {column: encrypt(decrypt(row[column], key), settings.secret_key) if row[column] else None}
            for row in _rows(path)
        ]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in turned))
    return None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def _replace(db: Database, settings: Settings, folder: Path, key: str | None) -> None:
    """The transaction: all rows out, all rows in, the folders swapped, commit; the folders back if that fails."""
    from knowledge.ingest import mark_stale

    new, current, old = folder / "documents", settings.data_dir / "documents", folder / "documents.before"
    new.mkdir(exist_ok=True)
    swapped = False
    try:
        with db.write() as session:
            connection = session.connection()
            for table in reversed(SQLModel.metadata.sorted_tables):
                connection.execute(table.delete())
            for table in SQLModel.metadata.sorted_tables:
                _load(connection, table, folder / "rows" / f"{table.name}.jsonl")
            mark_stale(session)
            session.flush()
            if current.exists():
                current.rename(old)
            swapped = True
            new.rename(current)
        swapped = False
    finally:
        if swapped:
            if current.exists() and not new.exists():
                current.rename(new)
            if old.exists():
                old.rename(current)
    if key is not None:
        _keep_key(settings.data_dir / "secret_key", key)


def _load(connection: Connection, table: Table, path: Path) -> None:
    into = insert(table).values({c.name: bindparam(c.name, type_=_stored_as(c.type)) for c in table.columns})
    batch: list[dict[str, Any]] = []
    for row in _rows(path):
        batch.append({column.name: _from_json(column.type, row[column.name]) for column in table.columns})
        if len(batch) == BATCH_ROWS:
            connection.execute(into, batch)
            batch = []
    if batch:
        connection.execute(into, batch)
    serial = table.autoincrement_column
    if serial is not None and connection.dialect.name == "postgresql":  # its counter knows nothing of ids that we bring
        connection.execute(
            text(f"""SELECT setval(pg_get_serial_sequence('"{table.name}"', '{serial.name}'),
                     (SELECT COALESCE(MAX({serial.name}), 0) + 1 FROM "{table.name}"), false)""")
        )


def _stored_as(kind: Any) -> Any:
    return JSON(none_as_null=True) if isinstance(kind, JSON) else kind  # none is NULL, as queries ask for, not JSON's null


def _from_json(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    inner = kind.impl if isinstance(kind, TypeDecorator) else kind
    if isinstance(inner, LargeBinary):
        return base64.b64decode(value)
    return datetime.fromisoformat(value) if isinstance(inner, DateTime) else value


def _keep_key(path: Path, key: str) -> None:
    unfinished = path.with_name(f"secret_key.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key)
    shutil.move(unfinished, path)
