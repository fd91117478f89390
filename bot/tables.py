"""The rows. The database is the truth; Redis and Milvus can be rebuilt from it.

Times are UTC. Ids that chat users may see are UUIDv7 text; the others are integers.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Dialect, Index, LargeBinary, Text, UniqueConstraint
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


def utcnow() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """A UUIDv7: sorts by time, 74 random bits. Source: RFC 9562, section 5.7."""
    value = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
    value[6] = 0x70 | (value[6] & 0x0F)
    value[8] = 0x80 | (value[8] & 0x3F)
    return str(uuid.UUID(bytes=bytes(value)))


class UtcDateTime(TypeDecorator[datetime]):
    """A time that is always aware and always UTC, on SQLite too (which keeps no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


ONCE = {"sqlite_autoincrement": True}  # an id is never given again, so what remembers one cannot mistake another for it


def _time(index: bool = False) -> Any:
    return Field(default_factory=utcnow, sa_type=UtcDateTime, index=index)


def _maybe_time(index: bool = False) -> Any:
    return Field(default=None, sa_type=UtcDateTime, nullable=True, index=index)


def _text(default: str = "") -> Any:
    return Field(default=default, sa_type=Text)


def _json(default: Any = dict) -> Any:
    return Field(default_factory=default, sa_column=Column(JSON, nullable=False, default=default))


def _maybe_json() -> Any:
    return Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))


# --- who may use the console and the API ---------------------------------------------------------------------------


class User(SQLModel, table=True):
    """A console user. session_version rises when the password changes, which ends the other sessions."""

    __table_args__ = ONCE
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=100)
    password_hash: str
    session_version: int = Field(default_factory=lambda: secrets.randbelow(2**31))  # an id may come again, this will not
    locale: str = "zh"
    time_zone: str = "Asia/Shanghai"
    created_at: datetime = _time()


class ApiKey(SQLModel, table=True):
    """A key for the OpenAI-compatible API; only its SHA-256 is kept. bot_id none: every bot."""

    __tablename__ = "api_key"
    __table_args__ = ONCE
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=100)
    digest: str = Field(unique=True)
    last_four: str
    bot_id: int | None = Field(default=None, foreign_key="bot.id")
    created_at: datetime = _time()
    last_used_at: datetime | None = _maybe_time()


class Setting(SQLModel, table=True):
    """One thing that the installation remembers about itself, such as that the demo was seeded."""

    key: str = Field(primary_key=True, max_length=100)
    value: Any = Field(default=None, sa_column=Column(JSON))


# --- models --------------------------------------------------------------------------------------------------------


class Provider(SQLModel, table=True):
    """An OpenAI-compatible endpoint. api_key is encrypted (bot/secrets.py); api_key_source keeps `env:NAME` or `file:PATH`."""

    __table_args__ = ONCE
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=64)
    base_url: str
    api_key: str | None = None
    api_key_source: str | None = None
    weight: int = 1
    created_at: datetime = _time()


class Model(SQLModel, table=True):
    """A model that a provider offers; prices per million tokens."""

    __table_args__ = (UniqueConstraint("provider_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    provider_id: int = Field(foreign_key="provider.id", ondelete="CASCADE", index=True)
    name: str = Field(max_length=200)
    kind: str = "chat"
    context: int = 32000
    price_in: float = 0.0
    price_out: float = 0.0
    dim: int | None = None


# --- knowledge -----------------------------------------------------------------------------------------------------


class DocumentStatus(StrEnum):
    WAITING = "waiting"
    READING = "reading"
    EMBEDDING = "embedding"
    READY = "ready"
    FAILED = "failed"


class KnowledgeBase(SQLModel, table=True):
    """Documents that belong together. revision rises with every change of its passages, so that caches know."""

    __tablename__ = "knowledge_base"
    __table_args__ = ONCE
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=64)
    embedding: str = "builtin"
    revision: int = 0
    created_at: datetime = _time()


class Document(SQLModel, table=True):
    """A file, page, row or question-answer pair. (base_id, source) names it: the same source again replaces it.

    source: `file:NAME`, `path:PATH`, `url:URL`, `row:ID` or `faq:QUESTION`. content: where the bytes are, below
    DATA_DIR/documents; none for rows and pairs, whose text is here.
    """

    __table_args__ = (UniqueConstraint("base_id", "source"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    base_id: int = Field(foreign_key="knowledge_base.id", ondelete="CASCADE", index=True)
    source: str = Field(max_length=1000)
    title: str = Field(default="", max_length=500)
    url: str | None = None
    content: str | None = None
    text: str | None = Field(default=None, sa_type=Text)
    question: str | None = Field(default=None, sa_type=Text)
    sha256: str = ""
    size_bytes: int = 0
    status: DocumentStatus = Field(default=DocumentStatus.WAITING, sa_type=Text)
    done_chunks: int = 0
    total_chunks: int = 0
    error: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = _time()
    updated_at: datetime = _time()


class Chunk(SQLModel, table=True):
    """A passage. vector: float32 bytes once embedded, so that Milvus can be rebuilt without the model.

    Ids are never used again: indexes outside the database may still hold a deleted passage for a moment.
    """

    __table_args__ = (
        Index("ix_chunk_document_position", "document_id", "position", unique=True),
        ONCE,
    )
    id: int | None = Field(default=None, primary_key=True)
    base_id: int = Field(foreign_key="knowledge_base.id", ondelete="CASCADE", index=True)
    document_id: str = Field(foreign_key="document.id", ondelete="CASCADE")
    position: int
    heading: str = _text()
    text: str = _text()
    question: str | None = Field(default=None, sa_type=Text)
    page: int | None = None
    sha256: str = Field(default="", index=True)
    vector: bytes | None = Field(default=None, sa_type=LargeBinary)
    enabled: bool = True


# --- bots and channels ---------------------------------------------------------------------------------------------


class KeywordList(SQLModel, table=True):
    """Forbidden words. keywords: a JSON list of strings."""

    __tablename__ = "keyword_list"
    __table_args__ = ONCE
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=64)
    keywords: list[str] = _json(list)
    action: str = "block"
    revision: int = 0


class Bot(SQLModel, table=True):
    """A bot: its draft, and which version is published. draft and BotVersion.config: BotConfig as JSON."""

    __table_args__ = ONCE
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=64)
    draft: dict[str, Any] = _json()
    published_version_id: int | None = None
    created_at: datetime = _time()
    updated_at: datetime = _time()


class BotVersion(SQLModel, table=True):
    """What a bot was when it was published; never changed."""

    __tablename__ = "bot_version"
    __table_args__ = (UniqueConstraint("bot_id", "number"), ONCE)
    id: int | None = Field(default=None, primary_key=True)
    bot_id: int = Field(foreign_key="bot.id", ondelete="CASCADE", index=True)
    number: int
    config: dict[str, Any] = _json()
    created_by: str = ""
    created_at: datetime = _time()


class Channel(SQLModel, table=True):
    """Where a bot is reached. config: the kind's own keys, none secret. secrets: the others, encrypted as one JSON."""

    __table_args__ = ONCE
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=64)
    kind: str
    bot_id: int = Field(foreign_key="bot.id", index=True)
    config: dict[str, Any] = _json()
    secrets: str | None = None
    secret_sources: dict[str, str] = _json()
    quiet_s: float = 0.0
    enabled: bool = True
    created_at: datetime = _time()


# --- the road: message in, turn, message out -----------------------------------------------------------------------


class TurnStatus(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"  # answered, refused or stopped: `finish` says which
    FAILED = "failed"  # the user was told that it failed


class Conversation(SQLModel, table=True):
    """One chat user's talk with one bot on one channel; the unit of work.

    due_at: when its first unanswered turn may be taken; none when nothing waits. lease_owner and lease_until: the
    worker that holds it; a dead worker's lease runs out. sequence: rises with each message, which keeps their order.
    """

    __table_args__ = (
        Index("ix_conversation_due_at", "due_at"),
        Index("ix_conversation_channel_user", "channel_id", "user_id", "chat_id"),
    )
    id: str = Field(default_factory=new_id, primary_key=True)
    channel_id: int = Field(foreign_key="channel.id", ondelete="CASCADE")
    user_id: str = Field(max_length=200)
    chat_id: str = Field(default="", max_length=200)
    user_name: str = Field(default="", max_length=200)
    due_at: datetime | None = _maybe_time()
    lease_owner: str | None = None
    lease_until: datetime | None = _maybe_time()
    sequence: int = 0
    closed: bool = False  # the user began a new one
    created_at: datetime = _time()
    updated_at: datetime = _time(index=True)


class Turn(SQLModel, table=True):
    """A question (one message, or several sent in a row) and what became of it."""

    __table_args__ = (Index("ix_turn_conversation", "conversation_id", "sequence"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    conversation_id: str = Field(foreign_key="conversation.id", ondelete="CASCADE")
    channel_id: int = Field(index=True)
    bot_id: int
    bot_version_id: int | None = None  # none: the draft, in the debug chat
    sequence: int
    status: TurnStatus = Field(default=TurnStatus.WAITING, sa_type=Text)
    due_at: datetime = _time()
    attempts: int = 0
    stop_requested: bool = False
    history: list[dict[str, str]] | None = _maybe_json()  # brought by the caller
    overrides: dict[str, Any] | None = _maybe_json()  # brought by the caller
    finish: str | None = None
    followups: list[str] | None = _maybe_json()  # none: not yet decided
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    error_code: str | None = None
    error_detail: str | None = Field(default=None, sa_type=Text)
    trace: list[dict[str, Any]] = _json(list)
    rating: str | None = None
    comment: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = _time(index=True)
    started_at: datetime | None = _maybe_time()
    answered_at: datetime | None = _maybe_time()


class Message(SQLModel, table=True):
    """What was said, by the user (direction in) or by the bot (out).

    platform_id: the platform's id of an incoming message; (channel_id, platform_id) is unique, which is what drops
    repeats. citations: list of {n, title, snippet, url}, on outgoing ones.
    """

    __table_args__ = (
        UniqueConstraint("channel_id", "platform_id"),
        Index("ix_message_conversation", "conversation_id", "sequence"),
    )
    id: str = Field(default_factory=new_id, primary_key=True)
    conversation_id: str = Field(foreign_key="conversation.id", ondelete="CASCADE")
    turn_id: str = Field(index=True)
    channel_id: int
    platform_id: str | None = Field(default=None, max_length=300)
    direction: str
    sequence: int
    text: str = _text()
    citations: list[dict[str, Any]] = _json(list)
    created_at: datetime = _time()
