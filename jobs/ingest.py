"""Documents into knowledge bases and out of them: rows first, then a bell for the heavy worker, which does whatever waits.

`put_…` and `drop_document` write rows in the caller's transaction; `add_…` and `delete_document` are the same with one of their
own and the bell rung. One worker at a time works on documents, held by a lock in Redis; should Redis lose it, two do the same
work and the rows come out the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import redis
from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from bot.config import BUILTIN
from bot.errors import SearchError, ServiceError
from bot.settings import Settings, read_settings
from bot.tables import Chunk, Document, DocumentStatus, KnowledgeBase, utcnow
from jobs.services import Services
from knowledge.fetch import judge_form
from knowledge.ingest import (
    Workshop,
    document_path,
    drop_bytes,
    embed_some,
    finish,
    forget_vectors,
    index_some,
    is_stale,
    note_trouble,
    read_one,
    rebuild,
    save_bytes,
    unfinished,
)

logger = logging.getLogger(__name__)

RUN = "jobs.ingest.run"
QUEUED = "ingest:queued"  # there is a job on the queue that no worker has begun
QUEUED_S = 20  # if that job was lost, the next bell queues another
LOCK = "ingest:lock"
LOCK_S = 240  # longer than reading one document may take
WHOLE = "ingest:index-whole"  # the index was compared with the rows a moment ago
WHOLE_S = 300
BUDGET_S = 600  # then the job makes room for others on the queue and rings for itself
NICENESS = 10
MAX_SOURCE_CHARS = 1000


@dataclass(frozen=True)
class Put:
    """Which document it became. queued: whether there is something to do; the same content again costs nothing."""

    document_id: str
    queued: bool


@dataclass(frozen=True)
class Gone:
    """What a deleted document leaves outside the database, for `clean_up` after the commit."""

    embedding: str
    chunk_ids: tuple[int, ...]
    content: str | None


def base_named(session: Session, name: str, embedding: str = BUILTIN) -> KnowledgeBase:
    """The knowledge base of that name, made when there is none."""
    base = session.exec(select(KnowledgeBase).where(KnowledgeBase.name == name)).first()
    if base is None:
        base = KnowledgeBase(name=name, embedding=embedding)
        session.add(base)
        session.flush()
    return base


def put_file(
    session: Session, settings: Settings, base: KnowledgeBase, name: str, blob: bytes, source: str = "", url: str | None = None
) -> Put:
    """A file, in place of the one of that source. name: for its type and title. source: `file:NAME` unless given."""
    plain = PurePath(name.replace("\\", "/")).name or "file"
    digest = hashlib.sha256(blob).hexdigest()
    save_bytes(files_of(settings), digest, blob)
    row = _row(session, base, source or f"file:{plain}")
    if _is_known(row, digest):
        return Put(row.id, row.status != DocumentStatus.READY)
    if row.content and row.content != digest:
        drop_bytes(session, files_of(settings), row.content)
    row.title, row.url, row.content, row.size_bytes = PurePath(plain).stem[:500], url, digest, len(blob)
    return _queued(session, row, digest)


def put_url(session: Session, base: KnowledgeBase, url: str) -> Put:
    """A page; fetched by the worker, again at every call. Raises FetchError for what is no web address."""
    judge_form(url)
    row = _row(session, base, f"url:{url}")
    row.title, row.url = row.title or url[:500], url
    return _queued(session, row, row.sha256)


def put_row(session: Session, base: KnowledgeBase, row_id: str, title: str, text: str) -> Put:
    """A document that is one text, under the caller's id."""
    return _put_text(session, base, f"row:{row_id}", title, text)


def put_faq(session: Session, base: KnowledgeBase, question: str, answer: str) -> Put:
    """A question-answer pair: the question is searched together with its answer, and the answer is the passage."""
    question = question.strip()
    return _put_text(session, base, f"faq:{question}", question, answer, question)


def drop_document(session: Session, document: Document) -> Gone:
    """Delete a document's rows. Call `clean_up` with what it returns, after the commit."""
    base = session.get_one(KnowledgeBase, document.base_id)
    ids = session.exec(select(Chunk.id).where(Chunk.document_id == document.id)).all()
    session.connection().execute(delete(Chunk).where(col(Chunk.document_id) == document.id))
    session.delete(document)
    base.revision += 1
    session.add(base)
    return Gone(base.embedding, tuple(id or 0 for id in ids), document.content)


def clean_up(services: Services, gone: Sequence[Gone]) -> None:
    """Remove the files that no document has any more; the worker takes the vectors out. Searches show neither already."""
    digests = {entry.content for entry in gone if entry.content}
    with services.db.write() as session:
        kept = set(session.exec(select(Document.content).where(col(Document.content).in_(digests))))
        for digest in digests - kept:
            document_path(files_of(services.settings), digest).unlink(missing_ok=True)
    by_embedding: dict[str, list[int]] = {}
    for entry in gone:
        by_embedding.setdefault(entry.embedding, []).extend(entry.chunk_ids)
    for embedding, ids in by_embedding.items():
        if ids:
            _forget_later(services, embedding, ids)


def add_file(services: Services, base: str, name: str, blob: bytes, url: str | None = None) -> str:
    """As `put_file`, with the bell rung. Returns the document's id."""
    with services.db.write() as session:
        put = put_file(session, services.settings, base_named(session, base), name, blob, url=url)
    return _rung(services, put)


def add_url(services: Services, base: str, url: str) -> str:
    """As `put_url`, with the bell rung. Returns the document's id. Raises FetchError."""
    with services.db.write() as session:
        put = put_url(session, base_named(session, base), url)
    return _rung(services, put)


def add_rows(services: Services, base: str, rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """As `put_row` for each (id, title, text), in one transaction, with the bell rung. Returns the documents' ids."""
    with services.db.write() as session:
        found = base_named(session, base)
        puts = [put_row(session, found, *row) for row in rows]
    if any(put.queued for put in puts):
        ring(services)
    return [put.document_id for put in puts]


def add_faq(services: Services, base: str, question: str, answer: str) -> str:
    """As `put_faq`, with the bell rung. Returns the document's id."""
    with services.db.write() as session:
        put = put_faq(session, base_named(session, base), question, answer)
    return _rung(services, put)


def delete_document(services: Services, document_id: str) -> bool:
    """Delete a document: rows, file, vectors. False when there is none."""
    with services.db.write() as session:
        document = session.get(Document, document_id)
        gone = drop_document(session, document) if document else None
    if gone:
        clean_up(services, [gone])
    return gone is not None


def delete_base(services: Services, base: str) -> bool:
    """Delete a knowledge base with all its documents. False when there is none."""
    with services.db.write() as session:
        found = session.exec(select(KnowledgeBase).where(KnowledgeBase.name == base)).first()
        if found is None:
            return False
        documents = session.exec(select(Document).where(Document.base_id == found.id)).all()
        gone = [drop_document(session, document) for document in documents]
        session.flush()
        session.delete(found)
    clean_up(services, gone)
    return True


def reindex(services: Services, document_ids: Sequence[str]) -> None:
    """Read documents again. What stays the same keeps its vectors."""
    with services.db.write() as session:
        session.connection().execute(
            update(Document)
            .where(col(Document.id).in_(document_ids))
            .values(status=DocumentStatus.WAITING, error=None, updated_at=utcnow())
        )
    ring(services)


def ring(services: Services) -> bool:
    """Tell the heavy worker that documents wait. False when Redis does not answer: the clock rings later."""
    try:
        if services.redis.set(QUEUED, "1", nx=True, ex=QUEUED_S):
            services.heavy.enqueue_call(RUN, timeout=BUDGET_S + LOCK_S, result_ttl=0, failure_ttl=86400)
        return True
    except redis.RedisError as error:
        logger.warning("the heavy worker was not called, the clock will: %s", error)
        return False


def enqueue(services: Services, document_id: str) -> bool:  # noqa: ARG001
    """Have a document worked on. The bell is the same for all: whoever hears it does whatever waits."""
    return ring(services)


def workers(services: Services) -> int:
    """How many workers listen for documents. Raises RedisError."""
    from rq import Worker

    return sum(services.heavy.name in worker.queue_names() for worker in Worker.all(connection=services.redis))


def resume_waiting(services: Services) -> None:
    """Called by the clock: ring for documents that were left half done, and compare the index with the rows now and then."""
    with services.db.read() as session:
        left, stale = unfinished(session), is_stale(session)
    if left:
        ring(services)
    if stale or (not left and services.redis.set(WHOLE, "1", nx=True, ex=WHOLE_S)):
        mend_index(services)


def mend_index(services: Services) -> dict[str, tuple[int, int]]:
    """Make the vector index whole from the rows; see `knowledge.ingest.rebuild`. Raises SearchError."""
    shop = open_workshop(services)
    try:
        return rebuild(shop.db, shop.index)
    finally:
        shop.index.close()


def run() -> None:
    """The heavy worker's job: read, embed and index whatever waits."""
    os.nice(NICENESS)  # answers go first
    services = Services(read_settings())
    try:
        work(services)
    finally:
        services.close()


def work(services: Services) -> None:
    """Do what waits, for BUDGET_S at most. Nothing when another worker is at it."""
    _quietly(lambda: services.redis.delete(QUEUED))
    if not _locked(services):
        return
    shop = open_workshop(services)
    try:
        done = _work_through(services, shop)
    finally:
        shop.index.close()
        _quietly(lambda: services.redis.delete(LOCK))
    if not done:
        ring(services)


def open_workshop(services: Services) -> Workshop:
    """What the steps of `knowledge.ingest` need, from this process's services."""
    from knowledge.embed import make_embedders
    from knowledge.index import VectorIndex

    settings = services.settings
    return Workshop(
        services.db,
        VectorIndex(settings.milvus_uri, settings.milvus_token),
        make_embedders(services.embed, threads=os.cpu_count() or 1),
        files_of(settings),
        settings.allow_private_urls,
    )


def files_of(settings: Settings) -> Path:
    return settings.data_dir / "documents"


def forget(embedding: str, chunk_ids: list[int]) -> None:
    """The heavy worker's job: take deleted passages out of the vector index."""
    services = Services(read_settings())
    shop = open_workshop(services)
    try:
        forget_vectors(shop.index, embedding, chunk_ids)
    finally:
        shop.index.close()
        services.close()


def _work_through(services: Services, shop: Workshop) -> bool:
    """True when nothing waits any more, or what waits must be tried again later."""
    end = time.monotonic() + BUDGET_S
    indexed, trouble = 0, False
    try:
        while time.monotonic() < end:
            _quietly(lambda: services.redis.set(LOCK, _me(), ex=LOCK_S))
            if read_one(shop):
                continue
            embedded = embed_some(shop)
            found = 0
            if not trouble:
                try:
                    found = index_some(shop)
                except SearchError as error:  # the words can be searched, and the vectors are kept: go on embedding
                    trouble = True
                    note_trouble(shop.db, error)
            indexed += found
            if not embedded and not found:
                if indexed:
                    finish(shop)
                return True
        return False
    except ServiceError as error:
        logger.warning("documents wait for a service: %s", error)
        note_trouble(shop.db, error)
        return True


def _row(session: Session, base: KnowledgeBase, source: str) -> Document:
    if len(source) > MAX_SOURCE_CHARS:
        source = source[: MAX_SOURCE_CHARS - 20] + "…" + hashlib.sha256(source.encode()).hexdigest()[:16]
    row = session.exec(select(Document).where(Document.base_id == base.id, Document.source == source)).first()
    return row or Document(base_id=base.id or 0, source=source)


def _put_text(session: Session, base: KnowledgeBase, source: str, title: str, text: str, question: str | None = None) -> Put:
    title = title.strip()[:500]
    digest = hashlib.sha256(f"{title}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
    row = _row(session, base, source)
    if _is_known(row, digest):
        return Put(row.id, row.status != DocumentStatus.READY)
    row.title, row.text, row.question, row.size_bytes = title, text, question, len(text.encode("utf-8", "replace"))
    return _queued(session, row, digest)


def _is_known(row: Document, digest: str) -> bool:
    """Whether this very content is there or on its way."""
    return row.sha256 == digest and row.status != DocumentStatus.FAILED


def _queued(session: Session, row: Document, digest: str) -> Put:
    row.sha256, row.status, row.error, row.updated_at = digest, DocumentStatus.WAITING, None, utcnow()
    session.add(row)
    return Put(row.id, True)


def _rung(services: Services, put: Put) -> str:
    if put.queued:
        ring(services)
    return put.document_id


def _forget_later(services: Services, embedding: str, ids: list[int]) -> None:
    _quietly(lambda: services.heavy.enqueue_call("jobs.ingest.forget", args=[embedding, ids], result_ttl=0))


def _quietly(call: Callable[[], object]) -> None:
    """Redis only helps here: without it the work is done all the same."""
    try:
        call()
    except redis.RedisError as error:
        logger.warning("Redis did not take a note: %s", error)


def _me() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _locked(services: Services) -> bool:
    """Whether this process may work: nobody else does, or whoever did on this machine is dead, or Redis is away."""
    try:
        if services.redis.set(LOCK, _me(), nx=True, ex=LOCK_S):
            return True
        owner = services.redis.get(LOCK)
        host, _, pid = (owner.decode() if isinstance(owner, bytes) else str(owner or "")).rpartition(" ")
        if host != socket.gethostname() or _lives(int(pid)):
            return False
        services.redis.set(LOCK, _me(), ex=LOCK_S)
        return True
    except redis.RedisError as error:
        logger.warning("working on documents without a lock: %s", error)
        return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
