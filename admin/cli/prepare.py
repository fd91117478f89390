"""`flask prepare`: the database in this program's shape, and the first console user. `make run` calls it; idempotent."""

from __future__ import annotations

import secrets

from sqlmodel import select

from admin.auth import create_user
from admin.cli.common import command, locale, services, tell
from admin.migrate import migrate
from bot.tables import User


@command("prepare")
def prepare_command() -> None:
    """Migrate the database and make the first console user."""
    house = services()
    migrate(house.settings, locale())
    with house.db.read() as session:
        if session.exec(select(User.id)).first() is not None:
            return
    given = house.settings.admin_password
    password = given or secrets.token_urlsafe(12)
    create_user(house.db, house.settings.admin_user, password)
    if given is None:
        tell("run.password", name=house.settings.admin_user, password=password)
