"""Periodic jobs for the heavy worker: documents that were left half done, and what nobody needs any more."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import delete, exists
from sqlmodel import col, select

from bot.settings import read_settings
from bot.tables import Conversation, Message, utcnow
from jobs.services import Services

logger = logging.getLogger(__name__)

EMPTY_FOR = timedelta(days=2)  # a visitor who opened the chat and said nothing


def resume_documents() -> None:
    """Put documents back on the queue whose job was lost."""
    from jobs.ingest import resume_waiting

    services = Services(read_settings())
    try:
        resume_waiting(services)
    finally:
        services.close()


def tidy() -> None:
    """Remove conversations in which nothing was ever said."""
    services = Services(read_settings())
    try:
        with services.db.write() as session:
            said = exists(select(col(Message.id)).where(col(Message.conversation_id) == col(Conversation.id)))
            session.connection().execute(
                delete(Conversation).where(
                    # A first message that comes at this moment has raised the sequence, whatever this snapshot sees.
                    col(Conversation.created_at) < utcnow() - EMPTY_FOR,
                    col(Conversation.sequence) == 0,
                    ~said,
                )
            )
    finally:
        services.close()
