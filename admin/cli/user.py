"""`flask user create | password | list`: who may sign in to the console."""

from __future__ import annotations

import sys

import click
from flask.cli import AppGroup
from sqlmodel import col, select

from admin.cli.common import command, fail, locale, services, tell
from bot.tables import User
from bot.texts import say

user = AppGroup("user", help="Console users.", no_args_is_help=True)
PASSWORD_STDIN = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@command("create", help="Make a console user.")
@click.argument("name")
@PASSWORD_STDIN
def create(name: str, password_stdin: bool) -> None:
    from admin.auth import create_user

    create_user(services().db, name, _password(password_stdin))
    tell("cli.user.created", name=name.strip())


@command("password", help="Give a user a new password; the user's other sessions end.")
@click.argument("name")
@PASSWORD_STDIN
def password(name: str, password_stdin: bool) -> None:
    from admin.auth import set_password

    set_password(services().db, name, _password(password_stdin))
    tell("cli.user.password_set", name=name)


@command("list", help="List the console users.")
def list_users() -> None:
    with services().db.read() as session:
        users = session.exec(select(User).order_by(col(User.name))).all()
    for row in users:
        click.echo(f"{row.name}\t{row.created_at:%Y-%m-%d}")
    if not users:
        tell("cli.user.none", err=True)


def _password(from_stdin: bool) -> str:
    """Asked twice and not shown; or the first line of standard input."""
    if from_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
        if not given:
            raise fail("cli.user.no_stdin")
        return given
    if not sys.stdin.isatty():
        raise fail("cli.user.no_terminal")
    text: str = click.prompt(
        say("cli.user.prompt", locale()), hide_input=True, confirmation_prompt=say("cli.user.again", locale())
    )
    return text


for part in (create, password, list_users):
    user.add_command(part)
