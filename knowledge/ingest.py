"""A document on its way into the index: read → split → rows → embed → index. Every step is in the rows, so that whoever
finds a document half done goes on from there: nothing is done twice, nothing is left out.

`read_one` brings the words (they can be searched at once), `embed_some` the vectors, `index_some` makes them found.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import delete, event, exists, func, update
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from bot.db import Database
from bot.errors import ModelError, SearchError, ServiceError
from bot.tables import Chunk, Document, DocumentStatus, KnowledgeBase, Setting, utcnow
from knowledge.embed import Embedders
from knowledge.errors import DocumentError
from knowledge.fetch import fetch
from knowledge.index import VectorIndex
from knowledge.parse import parse
from knowledge.split import Piece, Section, split
from knowledge.terms import lines_to_index

logger = logging.getLogger(__name__)

EMBED_CHUNKS = 16  # embedded and committed together
MAX_CHUNKS = 20_000  # of one document
INDEX_DOCUMENTS = 200
REBUILD_ROWS = 500
DIGESTS_AT_ONCE = 500
TITLE_CHARS = 500
STALE = "index_is_stale"  # the setting that says so


@dataclass(frozen=True)
class Workshop:
    """What the steps need: the database, the index, the embedding models, where files are, which addresses are ours."""

    db: Database
    index: VectorIndex
    embedders: Embedders
    files: Path
    allowed_hosts: Sequence[str] = ()


def read_one(shop: Workshop) -> str | None:
    """Read the document that waits longest and put its pieces in place of those it had. Its id, or none when none waits.

    A document that cannot be read is marked failed, says why, and keeps the pieces it had.
    """
    with shop.db.write() as session:
        document = session.exec(
            select(Document)
            .where(col(Document.status).in_((DocumentStatus.WAITING, DocumentStatus.READING)))
            .order_by(col(Document.status).desc(), col(Document.created_at), col(Document.id))
            .limit(1)
        ).first()
        if document is None:
            return None
        document.status, document.updated_at = DocumentStatus.READING, utcnow()
    try:
        title, pieces = _pieces(shop, document)
        with shop.db.write() as session:
            embedding, gone = _swap(session, document, title, pieces)
        forget_vectors(shop.index, embedding, gone)
    except DocumentError as error:
        logger.info("document %s cannot be read: %s", document.id, error.key)
        _failed(shop.db, document.id, error)
    except ServiceError:
        raise
    except Exception:  # an edge: one document that nobody foresaw must not keep all the others waiting
        logger.exception("document %s stopped the program", document.id)
        _failed(shop.db, document.id, DocumentError("document.died"))
    return document.id


def embed_some(shop: Workshop) -> int:
    """Embed one batch of pieces of documents that were read. How many; 0 when none waits.

    Raises SearchError or ModelError when the model did not do it and may later; where it never will, the documents are
    marked failed.
    """
    with shop.db.read() as session:
        embedding, batch = _without_vectors(session)
    if not batch:
        return 0
    texts = {chunk.sha256: lines_to_index((title, chunk.heading, chunk.question, chunk.text)) for chunk, title in batch}
    documents = sorted({chunk.document_id for chunk, _ in batch})
    try:
        vectors = dict(zip(texts, shop.embedders(embedding).passages(list(texts.values())), strict=True))
    except (ModelError, SearchError) as error:
        if not error.permanent:
            raise
        for document_id in documents:
            _failed(shop.db, document_id, DocumentError("embedding.failed", reason=str(error)))
        return len(batch)
    with shop.db.write() as session:
        for chunk, _ in batch:
            vector = vectors[chunk.sha256].tobytes()
            session.connection().execute(update(Chunk).where(col(Chunk.id) == chunk.id).values(vector=vector))
        for document_id in documents:
            _count_up(session, document_id)
    return len(batch)


def index_some(shop: Workshop) -> int:
    """Put documents whose pieces all have vectors into the index; then they are ready. How many; 0 when none waits.

    Raises SearchError when the index did not do it.
    """
    with shop.db.read() as session:
        whole = session.exec(
            select(Document.id, KnowledgeBase.embedding)
            .join(KnowledgeBase, col(KnowledgeBase.id) == col(Document.base_id))
            .where(
                col(Document.status) == DocumentStatus.EMBEDDING,
                ~exists().where(col(Chunk.document_id) == col(Document.id), col(Chunk.vector).is_(None)),
            )
            .limit(INDEX_DOCUMENTS)
        ).all()
    for document_id, embedding in whole:
        with shop.db.read() as session:
            ids = [id or 0 for id in session.exec(select(Chunk.id).where(Chunk.document_id == document_id))]
        for start in range(0, len(ids), REBUILD_ROWS):
            _put_back(shop.db, shop.index, embedding, ids[start : start + REBUILD_ROWS])
        with shop.db.write() as session:
            session.connection().execute(
                update(Document)
                .where(col(Document.id) == document_id, col(Document.status) == DocumentStatus.EMBEDDING)
                .values(status=DocumentStatus.READY, done_chunks=len(ids), updated_at=utcnow(), error=None)
            )
    return len(whole)


def finish(shop: Workshop) -> None:
    """Seal what was written: until then searches are slow. Raises SearchError."""
    with shop.db.read() as session:
        embeddings = session.exec(select(KnowledgeBase.embedding).distinct()).all()
    for embedding in embeddings:
        shop.index.flush(embedding)


def forget_vectors(index: VectorIndex, embedding: str, chunk_ids: Sequence[int]) -> None:
    """Take pieces that are gone out of the index. When it does not answer, `rebuild` does it later: no search shows them."""
    try:
        index.delete(embedding, chunk_ids)
    except SearchError as error:
        logger.warning("vectors left behind: %d, %s", len(chunk_ids), error)


def note_trouble(db: Database, error: ServiceError) -> None:
    """Say in the rows that wait for a service why they wait; it will be tried again."""
    key = "embedding.failed" if error.service != "milvus" else "index.failed"
    with db.write() as session:
        session.connection().execute(
            update(Document)
            .where(col(Document.status) == DocumentStatus.EMBEDDING)
            .values(error=DocumentError(key, reason=str(error)).stored())
        )


def unfinished(session: Session) -> int:
    """How many documents wait to be read or embedded."""
    states = (DocumentStatus.WAITING, DocumentStatus.READING, DocumentStatus.EMBEDDING)
    return session.exec(select(func.count()).select_from(Document).where(col(Document.status).in_(states))).one()


def mark_stale(session: Session) -> None:
    """Have the next `rebuild` begin with nothing: the rows were replaced, and their ids may name other vectors."""
    session.merge(Setting(key=STALE, value=True))


def is_stale(session: Session) -> bool:
    """Whether what the index holds may belong to other rows."""
    return session.get(Setting, STALE) is not None


def rebuild(db: Database, index: VectorIndex) -> dict[str, tuple[int, int]]:
    """Make the index hold what the rows hold: put in what is missing, take out what is too much; all anew when it is stale.

    Returns embedding → (put in, taken out), for each that was not whole. Raises SearchError.
    """
    with db.read() as session:
        stale = is_stale(session)
    if stale:
        index.clear()
        with db.write() as session:
            session.connection().execute(delete(Setting).where(col(Setting.key) == STALE))
    mended: dict[str, tuple[int, int]] = {}
    with db.read() as session:
        embeddings = session.exec(select(KnowledgeBase.embedding).distinct()).all()
    for embedding in embeddings:
        with db.read() as session:
            wanted = set(session.exec(_embedded(embedding)))
        had = index.ids(embedding, max(wanted, default=0))
        missing = sorted(wanted - had)
        if not missing and wanted == had:
            continue
        for start in range(0, len(missing), REBUILD_ROWS):
            _put_back(db, index, embedding, missing[start : start + REBUILD_ROWS])
        index.delete(embedding, sorted(had - wanted))
        index.flush(embedding)
        mended[embedding] = (len(missing), len(had - wanted))
        logger.warning("vector index mended: embedding=%s put_in=%d taken_out=%d", embedding, len(missing), len(had - wanted))
    return mended


def document_path(files: Path, digest: str) -> Path:
    """Where a document's bytes are: by their SHA-256, never by a name that somebody chose."""
    return files / digest[:2] / digest


def _pieces(shop: Workshop, document: Document) -> tuple[str, list[Piece]]:
    if document.text is not None:
        sections: list[Section] = [Section(document.text)]
    else:
        kind, _, name = document.source.partition(":")
        if kind == "url":
            name = _fetched(shop, document)
        try:
            blob = document_path(shop.files, document.content or "").read_bytes()
        except OSError as error:
            raise DocumentError("document.gone") from error
        sections = parse(name, blob, lambda: _touch(shop.db, document.id))
    title = next((section.text.strip() for section in sections if section.kind == "title"), "")[:TITLE_CHARS]
    pieces = list(islice(split(sections), MAX_CHUNKS + 1))
    if len(pieces) > MAX_CHUNKS:
        raise DocumentError("document.too_long", limit=MAX_CHUNKS)
    if not pieces:
        raise DocumentError("document.empty")
    return title, pieces


def _fetched(shop: Workshop, document: Document) -> str:
    """Fetch the document's address and keep what it returns. Returns a name with the fitting extension."""
    page = fetch(document.url or "", shop.allowed_hosts)
    digest = hashlib.sha256(page.blob).hexdigest()
    save_bytes(shop.files, digest, page.blob)
    with shop.db.write() as session:
        session.connection().execute(
            update(Document)
            .where(col(Document.id) == document.id)
            .values(content=digest, sha256=digest, size_bytes=len(page.blob))
        )
        if document.content and document.content != digest:
            drop_bytes(session, shop.files, document.content)
    document.content = digest
    return page.name


def save_bytes(files: Path, digest: str, blob: bytes) -> None:
    """Write a document's bytes, whole or not at all."""
    path = document_path(files, digest)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{digest}.{os.getpid()}-{secrets.token_hex(4)}.part")  # others may save the same bytes now
    try:
        temporary.write_bytes(blob)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def drop_bytes(session: Session, files: Path, digest: str) -> None:
    """Remove a document's bytes once session's work is committed, unless a document then still has them."""

    def look(_: object) -> None:
        if session.exec(select(Document.id).where(Document.content == digest).limit(1)).first() is None:
            event.listen(session, "after_commit", remove, once=True)

    def remove(_: object) -> None:
        document_path(files, digest).unlink(missing_ok=True)

    event.listen(session, "before_commit", look, once=True)


def _swap(session: Session, document: Document, title: str, pieces: list[Piece]) -> tuple[str, list[int]]:
    """The new pieces in place of the old, in one transaction; texts that were embedded before keep their vectors.

    Returns the base's embedding and the ids that are gone.
    """
    row = session.get(Document, document.id)
    is_page = document.source.startswith("url:")
    if row is None or (row.sha256 != document.sha256 and not is_page):
        return "", []  # deleted, or replaced and waiting again, while it was being read
    embedding = session.exec(select(KnowledgeBase.embedding).where(KnowledgeBase.id == row.base_id)).one()
    if title and not row.source.startswith(("row:", "faq:")):
        row.title = title
    fresh = [_chunk(row, position, piece) for position, piece in enumerate(pieces)]
    old = session.exec(
        select(Chunk).where(Chunk.document_id == row.id).order_by(col(Chunk.position)).options(defer(Chunk.vector))  # type: ignore[arg-type]
    ).all()
    row.status, row.error, row.updated_at = DocumentStatus.EMBEDDING, None, utcnow()
    if [(c.sha256, c.page) for c in old] == [(c.sha256, c.page) for c in fresh]:
        return embedding, []
    known = _known_vectors(session, [chunk.sha256 for chunk in fresh], embedding)
    for chunk in fresh:
        chunk.vector = known.get(chunk.sha256)
    session.connection().execute(delete(Chunk).where(col(Chunk.document_id) == row.id))
    _bump(session, row.base_id)
    session.add_all(fresh)
    row.total_chunks, row.done_chunks = len(fresh), sum(chunk.vector is not None for chunk in fresh)
    logger.debug("document %s read: pieces=%d known=%d", row.id, len(fresh), row.done_chunks)
    return embedding, [chunk.id or 0 for chunk in old]


def _bump(session: Session, base_id: int) -> None:
    """Tell every cache that the base's passages changed."""
    session.connection().execute(
        update(KnowledgeBase).where(col(KnowledgeBase.id) == base_id).values(revision=col(KnowledgeBase.revision) + 1)
    )


def _chunk(document: Document, position: int, piece: Piece) -> Chunk:
    heading = piece.heading.removeprefix(document.title).removeprefix(" › ") if document.title else piece.heading
    text = lines_to_index((document.title, heading, document.question, piece.text))
    return Chunk(
        base_id=document.base_id,
        document_id=document.id,
        position=position,
        heading=heading,
        text=piece.text,
        question=document.question,
        page=piece.page,
        sha256=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def _without_vectors(session: Session) -> tuple[str, list[tuple[Chunk, str]]]:
    """A batch of one embedding: (the bases' embedding, [(piece, its document's title)])."""
    waiting = session.exec(
        select(Document.id, KnowledgeBase.embedding)
        .join(KnowledgeBase, col(KnowledgeBase.id) == col(Document.base_id))
        .where(
            col(Document.status) == DocumentStatus.EMBEDDING,
            exists().where(col(Chunk.document_id) == col(Document.id), col(Chunk.vector).is_(None)),
        )
        .order_by(col(Document.created_at), col(Document.id))
        .limit(EMBED_CHUNKS)
    ).all()
    if not waiting:
        return "", []
    embedding = waiting[0][1]
    batch = session.exec(
        select(Chunk, Document.title)
        .join(Document, col(Document.id) == col(Chunk.document_id))
        .where(col(Chunk.document_id).in_([id for id, other in waiting if other == embedding]), col(Chunk.vector).is_(None))
        .order_by(col(Chunk.id))
        .limit(EMBED_CHUNKS)
    )
    return embedding, list(batch)


def _known_vectors(session: Session, digests: list[str], embedding: str) -> dict[str, bytes]:
    """Vectors that texts with these digests were given before, by the same model."""
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), DIGESTS_AT_ONCE):
        rows = session.exec(
            select(Chunk.sha256, Chunk.vector)
            .join(KnowledgeBase, col(KnowledgeBase.id) == col(Chunk.base_id))
            .where(
                col(Chunk.sha256).in_(digests[start : start + DIGESTS_AT_ONCE]),
                col(Chunk.vector).is_not(None),
                KnowledgeBase.embedding == embedding,
            )
        )
        found.update((digest, vector) for digest, vector in rows if vector)
    return found


def _count_up(session: Session, document_id: str) -> None:
    done = session.exec(select(func.count(col(Chunk.vector))).where(Chunk.document_id == document_id)).one()
    session.connection().execute(
        update(Document).where(col(Document.id) == document_id).values(done_chunks=done, updated_at=utcnow(), error=None)
    )


def _failed(db: Database, document_id: str, error: DocumentError) -> None:
    with db.write() as session:
        session.connection().execute(
            update(Document)
            .where(col(Document.id) == document_id, col(Document.status) != DocumentStatus.WAITING)
            .values(status=DocumentStatus.FAILED, error=error.stored(), updated_at=utcnow())
        )


def _touch(db: Database, document_id: str) -> None:
    with db.write() as session:
        session.connection().execute(update(Document).where(col(Document.id) == document_id).values(updated_at=utcnow()))


def _embedded(embedding: str) -> SelectOfScalar[Any]:
    return (
        select(col(Chunk.id))
        .join(KnowledgeBase, col(KnowledgeBase.id) == col(Chunk.base_id))
        .where(KnowledgeBase.embedding == embedding, col(Chunk.vector).is_not(None))
    )


def _put_back(db: Database, index: VectorIndex, embedding: str, ids: list[int]) -> None:
    with db.read() as session:
        chunks = session.exec(select(Chunk.id, Chunk.base_id, Chunk.vector).where(col(Chunk.id).in_(ids))).all()
    rows = [(id or 0, base_id) for id, base_id, vector in chunks if vector]
    if rows:
        index.upsert(embedding, rows, np.stack([np.frombuffer(v, dtype=np.float32) for _, _, v in chunks if v]))
