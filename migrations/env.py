"""Alembic's side of the tables: which database, and what it should look like."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

import bot.tables  # noqa: F401  registers the tables
from bot.db import make_engine
from bot.settings import read_settings

url = context.config.get_main_option("sqlalchemy.url") or read_settings().database_url
engine = make_engine(url)
try:
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=SQLModel.metadata,
            render_as_batch=True,  # SQLite changes a table by copying it
            user_module_prefix="bot.tables.",
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
finally:
    engine.dispose()
