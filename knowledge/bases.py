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


@dataclass(frozen=True)
class Base:
    id: int
    embedding: str
    revision: int


@dataclass(frozen=True)
class Kept:
    """A base at one revision. samples: vectors of some of its passages; sample_ids: which."""

    revision: int
    lexicon: Lexicon
    samples: Vectors
    sample_ids: Ids


_EMPTY = Kept(-1, Lexicon(), np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.int64))


class Bases:
    """The bases of one process. Threads share it: one brings a base up to date while those who want the same one wait."""

    def __init__(self, db: Database) -> None:
        self._db = db
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
            if stale or len(kept.samples) < min(SAMPLES, len(kept.lexicon.ids)):
                with self._db.read() as session:
                    lexicon = _refreshed(session, base, kept.lexicon) if stale else kept.lexicon
                    kept = Kept(base.revision, lexicon, *_sampled(session, lexicon.ids))
                self._kept[base.id] = kept
            return kept


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


def _sampled(session: Session, ids: Ids) -> tuple[Vectors, Ids]:
    """Vectors of passages spread evenly over the base, as far as they are embedded."""
    chosen = np.unique(ids[np.linspace(0, len(ids) - 1, min(SAMPLES, len(ids)), dtype=np.int64)]) if len(ids) else ids
    rows = session.exec(select(Chunk.id, Chunk.vector).where(col(Chunk.id).in_(chosen.tolist())))
    found = [(id or 0, np.frombuffer(vector, dtype=np.float32)) for id, vector in rows if vector]
    dim = len(found[0][1]) if found else 0
    found = [(id, vector) for id, vector in found if len(vector) == dim]
    vectors = np.stack([vector for _, vector in found]) if found else np.empty((0, 0), dtype=np.float32)
    return vectors, np.array([id for id, _ in found], dtype=np.int64)
