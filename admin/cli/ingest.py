"""`flask ingest BASE PATH_OR_URL…`: documents into a knowledge base, with a progress bar."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import click

from admin.cli.common import command, fail, locale, services, tell
from bot.tables import DocumentStatus
from jobs.services import Services

ROWS_AT_ONCE = 500
LOOK_S = 0.3
STALLED_S = 3  # without progress for so long: is there a worker at all?
DONE = (DocumentStatus.READY, DocumentStatus.FAILED)


@command("ingest")
@click.argument("base")
@click.argument("sources", nargs=-1, required=True, metavar="PATH_OR_URL...")
def ingest_command(base: str, sources: tuple[str, ...]) -> None:
    """Add documents to the knowledge base BASE, which is made if missing.

    A folder stands for the documents in it; a .jsonl file of {id, title, text} rows adds one document a row.
    """
    from pydantic import TypeAdapter, ValidationError

    from bot.config import Name

    try:
        TypeAdapter(Name).validate_python(base)
    except ValidationError as error:
        raise fail("cli.ingest.base", base=base) from error
    house = services()
    ids = [id for source in _expanded(sources) for id in _add(house, base, source)]
    if not ids:
        raise fail("cli.ingest.nothing")
    watch(house, list(dict.fromkeys(ids)))


def watch(house: Services, ids: list[str]) -> None:
    """Show the progress of these documents until all are done. Raises Refused when one failed or no worker answers."""
    moved = time.monotonic()
    with click.progressbar(length=len(ids), label=f"{len(ids)}", show_eta=True) as bar:
        while True:
            done, length, left = _progress(house, ids)
            if done > bar.pos or length != bar.length:
                moved = time.monotonic()
            bar.length = length
            bar.update(max(0, done - bar.pos))
            if not left:
                break
            if time.monotonic() > moved + STALLED_S and not _is_worked_on(house):
                raise fail("cli.ingest.no_worker", count=left)
            time.sleep(LOOK_S)
    _told(house, ids)


def _expanded(sources: tuple[str, ...]) -> Iterator[str]:
    from knowledge.readers import EXTENSIONS

    for source in sources:
        if "://" in source:
            yield source
            continue
        path = Path(source)
        if path.is_dir():
            known = (*EXTENSIONS, ".jsonl")
            yield from (str(file) for file in sorted(path.rglob("*")) if file.is_file() and file.suffix.lower() in known)
        elif path.is_file():
            yield source
        else:
            raise fail("cli.ingest.missing", path=source)


def _add(house: Services, base: str, source: str) -> list[str]:
    from jobs import ingest
    from knowledge.readers import MAX_BYTES

    if "://" in source:
        return [ingest.add_url(house, base, source)]
    path = Path(source)
    if path.suffix.lower() == ".jsonl":
        return [id for rows in batched_rows(path) for id in ingest.add_rows(house, base, rows)]
    if path.stat().st_size > MAX_BYTES:
        raise fail("document.too_large", limit_mb=MAX_BYTES >> 20, size_mb=-(-path.stat().st_size >> 20))
    with house.db.write() as session:
        found = ingest.base_named(session, base)
        put = ingest.put_file(session, house.settings, found, path.name, path.read_bytes(), f"path:{path.resolve()}")
    if put.queued:
        ingest.ring(house)
    return [put.document_id]


def batched_rows(path: Path) -> Iterator[list[tuple[str, str, str]]]:
    """The (id, title, text) rows of a JSON Lines file, some hundred at a time. Raises Refused that names the bad line."""
    rows: list[tuple[str, str, str]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                one = (str(row["id"]), str(row.get("title") or ""), row["text"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise fail("cli.ingest.bad_row", path=str(path), line=number) from error
            if not isinstance(one[2], str) or not one[0]:
                raise fail("cli.ingest.bad_row", path=str(path), line=number)
            rows.append(one)
            if len(rows) == ROWS_AT_ONCE:
                yield rows
                rows = []
    if rows:
        yield rows


def _progress(house: Services, ids: list[str]) -> tuple[int, int, int]:
    """(pieces done, pieces in all, documents left); a document that is not read yet counts as one piece."""
    from sqlmodel import col, select

    from bot.tables import Document

    done = length = left = 0
    with house.db.read() as session:
        for part in _parts(ids):
            rows = session.exec(
                select(Document.status, Document.done_chunks, Document.total_chunks).where(col(Document.id).in_(part))
            )
            for status, finished, total in rows:
                pieces = max(1, total)
                length += pieces
                done += pieces if status in DONE else min(finished, pieces - 1)
                left += status not in DONE
    return done, length, left


def _is_worked_on(house: Services) -> bool:
    import redis

    from jobs.ingest import ring, workers

    try:
        ring(house)
        return workers(house) > 0
    except redis.RedisError:
        return False


def _told(house: Services, ids: list[str]) -> None:
    from sqlmodel import col, select

    from bot.tables import Document
    from knowledge.errors import explain_error

    failed: list[Document] = []
    with house.db.read() as session:
        for part in _parts(ids):
            failed += session.exec(
                select(Document).where(col(Document.id).in_(part), col(Document.status) == DocumentStatus.FAILED)
            ).all()
    for document in failed:
        click.echo(f"{document.source.partition(':')[2]}: {explain_error(document.error, locale())}", err=True)
    if len(ids) > len(failed):
        tell("cli.ingest.done", count=len(ids) - len(failed))
    if failed:
        raise fail("cli.ingest.failed", count=len(failed))


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), ROWS_AT_ONCE):
        yield ids[start : start + ROWS_AT_ONCE]
