"""A question → the passages that answer it: dense and lexical search side by side, fused by score.

Without the vector index or the embedding model the search goes on with words alone, and says so in `Found.without`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from bot.db import Database
from bot.errors import ModelError, SearchError
from bot.settings import Settings
from bot.tables import Chunk, Document, KnowledgeBase
from bot.types import Passage
from knowledge.bases import IN_MEMORY, READ_ROWS, Base, Bases, Kept, known_bases
from knowledge.embed import Embedders, EmbedTexts, Vectors, make_embedders
from knowledge.fuse import FOREIGN_SHARE, fuse, usual_cosine
from knowledge.index import VectorIndex
from knowledge.lexical import Coverage, coverage
from knowledge.terms import mostly_latin, terms

logger = logging.getLogger(__name__)

DEPTH = 50  # candidates from each side
MAX_QUESTION_CHARS = 2000  # longer ones are cut: what stands in front is asked
KEPT_QUESTIONS = 512  # vectors of recent questions, 1.5 kB each

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A passage that one of the two searches found. Ranks count from 1; none: not among the first DEPTH of that side."""

    chunk_id: int
    score: float
    dense: float | None
    lexical: float
    dense_rank: int | None
    lexical_rank: int | None


@dataclass(frozen=True)
class Found:
    """What a search found and how. ms: time per step. candidates: all that were fused, best first.

    without: why the dense side is missing, in words; none when both sides answered.
    """

    passages: list[Passage]
    candidates: list[Candidate] = field(default_factory=list)
    ms: Mapping[str, float] = field(default_factory=dict)
    without: str | None = None


@dataclass(frozen=True)
class _Asked:
    """A question on its way: what its words cover, its nearest passages (id → cosine), its vector per embedding."""

    text: str
    covered: Coverage
    nearest: dict[int, float]
    vectors: dict[str, Vectors]


class Searcher:
    """Search over knowledge bases. Holds what is worth keeping between questions: the lexical indexes, one per base and
    brought up to date by the base's revision, and the vectors of recent questions. Threads share it.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        embed: EmbedTexts | None = None,
        embedders: Embedders | None = None,
        in_memory: int = IN_MEMORY,
    ) -> None:
        """embed: asks a provider's embedding model; without it only bases with the built-in one have a dense side.

        embedders: instead of both. in_memory: larger bases are asked of the vector index.
        """
        self._db = db
        self._index = VectorIndex(settings.milvus_uri, settings.milvus_token)
        self._embedders = embedders or make_embedders(embed)
        self._lock = threading.Lock()
        self._bases = Bases(db, in_memory)
        self._questions: OrderedDict[tuple[str, str], Vectors] = OrderedDict()

    def close(self) -> None:
        self._index.close()

    def search(self, bases: Sequence[str], question: str, top_k: int = 5, min_score: float = 0.35) -> list[Passage]:
        """The passages of these bases (by name) that answer the question best, best first, possibly none.

        top_k: at most so many, 1 to 50. min_score: 0 to 1; weaker ones are left out. Unknown bases hold nothing.
        Raises StoreError when the database does not answer; without the vector index it searches by words alone.
        """
        return self.explain(bases, question, top_k, min_score).passages

    def explain(self, bases: Sequence[str], question: str, top_k: int = 5, min_score: float = 0.35) -> Found:
        """As `search`, with ranks, parts of the scores and the time per step."""
        return self.search_many(bases, [question], top_k, min_score)[0]

    def search_many(
        self, bases: Sequence[str], questions: Sequence[str], top_k: int = 5, min_score: float = 0.35
    ) -> list[Found]:
        """As `explain`, for several questions at once, which is cheaper a question. Times are a question's share."""
        if not questions:
            return []
        clock = _Clock(len(questions))
        texts = [question[:MAX_QUESTION_CHARS] for question in questions]
        with self._db.read() as session:
            known = known_bases(session, list(bases))
        if not known:
            return [Found([], ms=clock.ms) for _ in texts]
        kept = {base.id: self._bases.get(base) for base in known}
        clock.mark("open")
        covered = [coverage([one.lexicon for one in kept.values()], terms(text)) for text in texts]
        clock.mark("lexical")
        nearest, vectors, without = self._dense(known, kept, texts, clock)
        asked = [
            _Asked(text, covered[row], nearest[row], {name: rows[row] for name, rows in vectors.items()})
            for row, text in enumerate(texts)
        ]
        with self._db.read() as session:
            candidates = [self._fused(session, known, kept, one) for one in asked]
            clock.mark("fuse")
            passages = _passages(session, known, candidates, top_k, min_score)
        clock.mark("read")
        return [Found(chosen, fused, clock.ms, without) for chosen, fused in zip(passages, candidates, strict=True)]

    def _dense(
        self, bases: list[Base], kept: dict[int, Kept], asked: list[str], clock: _Clock
    ) -> tuple[list[dict[int, float]], dict[str, Vectors], str | None]:
        """For each question: chunk id → cosine of the nearest. Then the questions' vectors by embedding, and what failed."""
        nearest: list[dict[int, float]] = [{} for _ in asked]
        vectors: dict[str, Vectors] = {}
        without = None
        for embedding in dict.fromkeys(base.embedding for base in bases):
            own = [base for base in bases if base.embedding == embedding]
            try:
                vectors[embedding] = self._question_vectors(embedding, asked)
                clock.mark("embed")
                for base in own:
                    if kept[base.id].whole:
                        _look_at_all(kept[base.id], vectors[embedding], nearest)
                large = [base.id for base in own if not kept[base.id].whole]
                hits = self._index.search(embedding, large, vectors[embedding], DEPTH) if large else []
                for found, (ids, cosines) in zip(nearest, hits, strict=bool(hits)):
                    found.update(zip(ids.tolist(), cosines.tolist(), strict=True))
            except (SearchError, ModelError) as error:
                without = str(error)
                logger.warning("search without vectors: service=%s", error.service)
            clock.mark("dense")
        return nearest, vectors, without

    def _question_vectors(self, embedding: str, asked: list[str]) -> Vectors:
        with self._lock:
            known = {text: self._questions[embedding, text] for text in asked if (embedding, text) in self._questions}
        missing = list(dict.fromkeys(text for text in asked if text not in known))
        known |= zip(missing, self._embedders(embedding).questions(missing), strict=True)
        with self._lock:
            for text in missing:
                self._questions[embedding, text] = known[text].copy()  # a row of its own, not a view of the whole batch
            while len(self._questions) > KEPT_QUESTIONS:
                self._questions.popitem(last=False)
        return np.stack([known[text] for text in asked])

    def _fused(self, session: Session, bases: list[Base], kept: dict[int, Kept], asked: _Asked) -> list[Candidate]:
        lexical_best = asked.covered.best(DEPTH)
        dense_best = sorted(asked.nearest, key=lambda chunk_id: -asked.nearest[chunk_id])[:DEPTH]
        union = np.array(list(dict.fromkeys([*lexical_best, *dense_best])), dtype=np.int64)
        if not len(union):
            return []
        missing = [chunk_id for chunk_id in union.tolist() if chunk_id not in asked.nearest]
        cosines = asked.nearest | _kept_cosines(missing, bases, kept, asked.vectors)
        cosines |= _stored_cosines(session, [i for i in missing if i not in cosines], bases, asked.vectors)
        cosine = np.array([cosines.get(chunk_id, np.nan) for chunk_id in union.tolist()], dtype=np.float32)
        lexical, _ = asked.covered.of(union)
        score = np.zeros(len(union), dtype=np.float32)
        for base in bases:
            own = np.isin(union, kept[base.id].lexicon.ids)
            score[own] = self._scores(base, kept[base.id], asked, lexical[own], cosine[own])
        lexical_rank = {chunk_id: rank for rank, chunk_id in enumerate(lexical_best, 1)}
        dense_rank = {chunk_id: rank for rank, chunk_id in enumerate(dense_best, 1)}
        order = sorted(range(len(union)), key=lambda row: (-score[row], union[row]))
        return [
            Candidate(
                (chunk_id := int(union[row])),
                min(1.0, max(0.0, float(score[row]))),
                None if np.isnan(cosine[row]) else float(cosine[row]),
                float(lexical[row]),
                dense_rank.get(chunk_id),
                lexical_rank.get(chunk_id),
            )
            for row in order
        ]

    def _scores(self, base: Base, kept: Kept, asked: _Asked, lexical: Scores, cosine: Scores) -> Scores:
        spaced = mostly_latin(asked.text)
        foreign = float(np.mean(asked.covered.spaced == spaced)) < FOREIGN_SHARE
        vector = asked.vectors.get(base.embedding)
        samples = np.empty(0, dtype=np.float32)
        if vector is not None and kept.vectors.shape[1] == len(vector):
            ids, sampled = kept.samples
            same_script = asked.covered.of(ids)[1] == spaced
            samples = sampled[same_script != foreign] @ vector
        scale = self._embedders(base.embedding).scale
        return fuse(lexical, cosine, usual_cosine(scale, samples, spaced, foreign), spaced, foreign, scale)


def _look_at_all(kept: Kept, questions: Vectors, nearest: list[dict[int, float]]) -> None:
    """The exact nearest passages of a base whose vectors are all here."""
    if kept.vectors.shape[1] != questions.shape[1]:
        return  # nothing is embedded yet, or by another model
    cosines = questions @ kept.vectors.T
    depth = min(DEPTH, len(kept.ids))
    for found, row in zip(nearest, cosines, strict=True):
        best = np.argpartition(-row, depth - 1)[:depth]
        found.update(zip(kept.ids[best].tolist(), row[best].tolist(), strict=True))


class _Clock:
    """Milliseconds per step, shared out over `parts` questions."""

    def __init__(self, parts: int) -> None:
        self.ms: dict[str, float] = {}
        self._parts = parts
        self._last = time.perf_counter()

    def mark(self, step: str) -> None:
        now = time.perf_counter()
        self.ms[step] = round(self.ms.get(step, 0.0) + (now - self._last) * 1000 / self._parts, 3)
        self._last = now


def _kept_cosines(
    chunk_ids: list[int], bases: list[Base], kept: dict[int, Kept], vectors: Mapping[str, Vectors]
) -> dict[int, float]:
    """The cosines of passages whose vectors are in memory."""
    wanted = np.array(chunk_ids, dtype=np.int64)
    cosines: dict[int, float] = {}
    for base in bases:
        one, question = kept[base.id], vectors.get(base.embedding)
        if question is not None and one.vectors.shape[1] == len(question):
            rows = np.flatnonzero(np.isin(one.ids, wanted))
            cosines.update(zip(one.ids[rows].tolist(), (one.vectors[rows] @ question).tolist(), strict=True))
    return cosines


def _stored_cosines(
    session: Session, chunk_ids: list[int], bases: list[Base], vectors: Mapping[str, Vectors]
) -> dict[int, float]:
    """The cosines of passages that only the words found, from the vectors kept in their rows."""
    if not chunk_ids or not vectors:
        return {}
    embeddings = {base.id: base.embedding for base in bases}
    rows = session.exec(select(Chunk.id, Chunk.base_id, Chunk.vector).where(col(Chunk.id).in_(chunk_ids)))
    cosines = {}
    for chunk_id, base_id, stored in rows:
        question = vectors.get(embeddings.get(base_id, ""))
        if stored is not None and question is not None:
            vector = np.frombuffer(stored, dtype=np.float32)
            if vector.shape == question.shape:  # else the base's model has changed and this one is not yet embedded anew
                cosines[chunk_id or 0] = float(vector @ question)
    return cosines


def _passages(
    session: Session, bases: list[Base], candidates: list[list[Candidate]], top_k: int, min_score: float
) -> list[list[Passage]]:
    """The best candidates of each question as passages, read in one go. Rows that are gone or switched off drop out."""
    wanted = [[c for c in found if c.score >= min_score] for found in candidates]
    read: dict[int, Passage] = {}
    for extra in (2, len(wanted) and DEPTH):  # rows seldom are gone: read few, and more only where too few are left
        short = [found for found in wanted if sum(c.chunk_id in read for c in found) < min(top_k, len(found))]
        ids = {c.chunk_id for found in short for c in found[: top_k + extra]} - read.keys()
        read |= _read_passages(session, sorted(ids), [base.id for base in bases])
    there = [islice((c for c in found if c.chunk_id in read), top_k) for found in wanted]
    return [[_scored(read[c.chunk_id], c) for c in found] for found in there]


def _read_passages(session: Session, ids: list[int], base_ids: list[int]) -> dict[int, Passage]:
    found = {}
    for start in range(0, len(ids), READ_ROWS):
        query = (
            select(Chunk, KnowledgeBase.name, Document.title, Document.url)
            .join(Document, col(Document.id) == col(Chunk.document_id))
            .join(KnowledgeBase, col(KnowledgeBase.id) == col(Chunk.base_id))
            .where(col(Chunk.id).in_(ids[start : start + READ_ROWS]), col(Chunk.base_id).in_(base_ids), col(Chunk.enabled))
            .options(defer(Chunk.vector))  # type: ignore[arg-type]
        )
        for row, base, title, url in session.exec(query):
            found[row.id or 0] = Passage(
                row.id or 0, row.document_id, base, title, row.heading, row.text, 0.0, url, row.question
            )
    return found


def _scored(passage: Passage, candidate: Candidate) -> Passage:
    return replace(passage, score=candidate.score, dense=candidate.dense, lexical=candidate.lexical)
