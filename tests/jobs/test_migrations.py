"""The migrations make the tables that the code expects, on both databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic import command
from alembic.util import CommandError

from admin.migrate import alembic_config, migrate
from bot.db import make_engine
from bot.errors import ConfigError
from bot.settings import Settings


def test_the_newest_revision_is_what_the_tables_say(any_database: str, settings_on: Callable[[str], Settings]) -> None:
    settings = settings_on(any_database)
    migrate(settings, "en")
    migrate(settings, "en")
    try:
        command.check(alembic_config(settings))
    except CommandError as error:
        pytest.fail(f"the tables have changed and no migration says so: {error}")


def test_data_of_a_newer_version_is_refused_in_words(any_database: str, settings_on: Callable[[str], Settings]) -> None:
    settings = settings_on(any_database)
    migrate(settings, "en")
    engine = make_engine(any_database)
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    engine.dispose()
    with pytest.raises(ConfigError, match=r"newer Qingniao \(database revision 9999\)"):
        migrate(settings, "en")


def test_a_database_that_is_not_there_is_said_in_words(settings_on: Callable[[str], Settings]) -> None:
    settings = settings_on("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        migrate(settings, "en")
