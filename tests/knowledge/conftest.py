"""A knowledge base of the tests' own: database, Milvus Lite, Redis, and somebody who does the heavy worker's work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import SQLModel, col, select

from bot.settings import Settings, read_settings
from bot.tables import Chunk, Document, KnowledgeBase
from jobs import ingest
from jobs.services import Services
from knowledge.index import VectorIndex


class House(Services):
    """The services of a process, and what the tests want to see of the rows."""

    def documents(self) -> list[Document]:
        with self.db.read() as session:
            return list(session.exec(select(Document).order_by(col(Document.created_at), col(Document.id))))

    def document(self, document_id: str) -> Document:
        with self.db.read() as session:
            return session.get_one(Document, document_id)

    def chunks(self, document_id: str | None = None) -> list[Chunk]:
        query = select(Chunk).order_by(col(Chunk.document_id), col(Chunk.position))
        with self.db.read() as session:
            return list(session.exec(query.where(Chunk.document_id == document_id) if document_id else query))

    def work(self) -> None:
        """Be the heavy worker until nothing waits."""
        ingest.work(self)

    def found(self, question: str, base: str = "handbook", min_score: float = 0.0) -> list[str]:
        return [passage.text for passage in self.searcher.search([base], question, 5, min_score)]


@pytest.fixture
def settings(tmp_path: Path, milvus_url: str, redis_url: str) -> Settings:
    return read_settings({"DATA_DIR": str(tmp_path / "data"), "MILVUS_URI": milvus_url, "REDIS_URL": redis_url})


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    """An empty house on SQLite."""
    yield from make_house(settings)


@pytest.fixture
def any_house(settings: Settings, any_database: str) -> Iterator[House]:
    """An empty house, once on SQLite and once on PostgreSQL."""
    yield from make_house(replace(settings, database_url=any_database))


def make_house(settings: Settings) -> Iterator[House]:
    services = House(settings)
    SQLModel.metadata.create_all(services.db.engine)
    with contextlib.closing(VectorIndex(settings.milvus_uri)) as index:
        for embedding in ("builtin",):
            if index.exists(embedding):
                index.drop(embedding)  # the server is shared by the tests: start with nothing
        services.redis.flushdb()
        yield services
        services.searcher.close()
        services.close()


def base_of(house: House, name: str = "handbook") -> KnowledgeBase:
    with house.db.read() as session:
        return session.exec(select(KnowledgeBase).where(KnowledgeBase.name == name)).one()
