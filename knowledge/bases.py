"""What a process keeps of each knowledge base between questions, brought up to date by the base's revision."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from bot.db import Database
from bot.tables import Chunk, Document, KnowledgeBase
from knowledge.embed import Vectors
from knowledge.lexical import LIMIT_CHUNKS, Ids, Lexicon
from knowledge.terms import lines_to_index, terms

READ_ROWS = 500
SAMPLES = 128  # vectors of a base that show what is usual in it, 1.5 kB each
IN_MEMORY = 2000  # passages of a base whose vectors are all kept: an exact look at them takes less than asking the index


@dataclass(frozen=True)
class Base:
    id: int
    embedding: str
    revision: int


@dataclass(frozen=True)
class Kept:
    """A base at one revision. ids and vectors: of all its embedded passages where it is `whole`, else of some."""

    revision: int
    lexicon: Lexicon
    ids: Ids
    vectors: Vectors
    whole: bool

    @property
    def samples(self) -> tuple[Ids, Vectors]:
        """Some passages spread evenly over the base, and their vectors."""
        step = max(1, len(self.ids) // SAMPLES)
        return self.ids[::step], self.vectors[::step]


_EMPTY = Kept(-1, Lexicon(), np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.float32), False)


class Bases:
    """The bases of one process. Threads share it: one brings a base up to date while those who want the same one wait.

    in_memory: how large a base may be to be kept whole.
    """

    def __init__(self, db: Database, in_memory: int = IN_MEMORY) -> None:
        self._db = db
        self._in_memory = in_memory
        self._lock = threading.Lock()
        self._locks: dict[int, threading.Lock] = {}
        self._kept: dict[int, Kept] = {}

    def get(self, base: Base) -> Kept:
        """What is kept of a base, as new as its revision."""
        with self._lock:
            lock = self._locks.setdefault(base.id, threading.Lock())
        with lock:
            kept = self._kept.get(base.id, _EMPTY)
            stale = kept.revision != base.revision
            if stale or len(kept.ids) < len(self._chosen(kept.lexicon.ids)):
                with self._db.read() as session:
                    lexicon = _refreshed(session, base, kept.lexicon) if stale else kept.lexicon
                    ids, vectors = _with_vectors(session, self._chosen(lexicon.ids), kept)
                kept = Kept(base.revision, lexicon, ids, vectors, len(lexicon.ids) <= self._in_memory)
                self._kept[base.id] = kept
            return kept

    def _chosen(self, ids: Ids) -> Ids:
        """Whose vectors are kept: all of a small base, some of a large one."""
        if len(ids) <= self._in_memory:
            return np.sort(ids)
        return np.unique(ids[np.linspace(0, len(ids) - 1, min(SAMPLES, len(ids)), dtype=np.int64)])


def known_bases(session: Session, names: list[str]) -> list[Base]:
    """The bases of these names that exist."""
    rows = session.exec(
        select(KnowledgeBase.id, KnowledgeBase.embedding, KnowledgeBase.revision)
        .where(col(KnowledgeBase.name).in_(names))
        .order_by(col(KnowledgeBase.id))
    )
    return [Base(id or 0, embedding, revision) for id, embedding, revision in rows]


def _refreshed(session: Session, base: Base, lexicon: Lexicon) -> Lexicon:
    query = select(Chunk.id).where(Chunk.base_id == base.id, col(Chunk.enabled)).order_by(col(Chunk.id).desc())
    now = np.array(sorted(id or 0 for id in session.exec(query.limit(LIMIT_CHUNKS))), dtype=np.int64)
    had = lexicon.ids
    added = now[~np.isin(now, had)].tolist()
    new: list[tuple[int, NDArray[np.uint64]]] = []
    for start in range(0, len(added), READ_ROWS):
        rows = (
            select(Chunk, Document.title)
            .join(Document, col(Document.id) == col(Chunk.document_id))
            .where(col(Chunk.id).in_(added[start : start + READ_ROWS]))
            .order_by(col(Chunk.id))
            .options(defer(Chunk.vector))  # type: ignore[arg-type]
        )
        for row, title in session.exec(rows):
            new.append((row.id or 0, terms(lines_to_index((title, row.heading, row.question, row.text)))))
    return lexicon.changed(new, had[~np.isin(had, now)])


def _with_vectors(session: Session, chosen: Ids, kept: Kept) -> tuple[Ids, Vectors]:
    """Those of the chosen that are embedded, ascending, with their vectors; only new ones are read."""
    vectors = {int(id): vector for id, vector in zip(kept.ids, kept.vectors, strict=True)}
    missing = [id for id in chosen.tolist() if id not in vectors]
    for start in range(0, len(missing), READ_ROWS):
        part = col(Chunk.id).in_(missing[start : start + READ_ROWS])
        for id, vector in session.exec(select(Chunk.id, Chunk.vector).where(part, col(Chunk.vector).is_not(None))):
            vectors[id or 0] = np.frombuffer(vector or b"", dtype=np.float32)
    found = [id for id in chosen.tolist() if id in vectors]
    dim = len(vectors[found[-1]]) if found else 0  # the newest tells, should the base's model have changed
    found = [id for id in found if len(vectors[id]) == dim]
    matrix = np.stack([vectors[id] for id in found]) if found else np.empty((0, 0), dtype=np.float32)
    return np.array(found, dtype=np.int64), matrix
