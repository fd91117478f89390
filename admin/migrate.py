"""Brings the database to this program's shape."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.exc import OperationalError

from bot.errors import ConfigError
from bot.settings import Settings
from bot.texts import say

HERE = Path(__file__).resolve().parent.parent


def migrate(settings: Settings, locale: str) -> None:
    """Upgrade the database to the newest revision; idempotent.

    Raises ConfigError when it cannot be reached, or was written by a newer version of this program.
    """
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(alembic_config(settings), "head")
    except CommandError as error:
        if "Can't locate revision" not in str(error):
            raise
        revision = str(error).rsplit("'", 2)[-2] if "'" in str(error) else "?"
        raise ConfigError(say("run.newer", locale, revision=revision)) from error
    except OperationalError as error:
        detail = str(error.orig).strip().splitlines()[0]
        raise ConfigError(say("run.no_database", locale, detail=detail)) from error


def alembic_config(settings: Settings):  # type: ignore[no-untyped-def]
    """Alembic's Config for this database."""
    from alembic.config import Config

    config = Config(str(HERE / "alembic.ini"))
    config.set_main_option("sqlalchemy.url", settings.database_url.replace("%", "%%"))
    return config
