"""What every command shares: errors as one sentence, the language of the terminal, the services of the process."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import DatabaseError

from bot.errors import BotError
from bot.texts import say

if TYPE_CHECKING:
    from jobs.services import Services


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Command(click.Command):
    """A command whose errors of ours reach the terminal as a sentence on stderr and exit code 1, never as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BotError, DatabaseError) as error:
            raise Refused(_sentence(error)) from error
        except BrokenPipeError as error:  # `… | head`
            raise SystemExit(1) from error


def _sentence(error: Exception) -> str:
    text = str(error.orig if isinstance(error, DatabaseError) else error)
    if "no such table" in text or re.search(r'relation "\w+" does not exist', text):
        return say("cli.not_migrated", locale())
    return say("cli.database", locale(), reason=text.splitlines()[0]) if isinstance(error, DatabaseError) else text


class Refused(click.ClickException):
    """A sentence that says what to do, alone on its line: no `Error:` before each of a file's problems."""

    def show(self, file: Any = None) -> None:
        click.echo(self.format_message(), file=file, err=file is None)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """`@command("ask")`: a click command of ours, run inside the application's context."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        made: click.Command = click.command(name, cls=Command, **attributes)(with_appcontext(function))
        return made

    return decorate


def services() -> Services:
    """The services of this process; `app.py` opened them."""
    found: Services = current_app.extensions["qingniao"]
    return found


def locale(environ: Mapping[str, str] = os.environ) -> str:
    """zh or en: the terminal's language, as LC_ALL, LC_MESSAGES or LANG says."""
    language = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return "zh" if language.lower().startswith("zh") else "en"


def tell(key: str, err: bool = False, **values: object) -> None:
    """Print a sentence of the catalogue in the terminal's language."""
    click.echo(say(key, locale(), **values), err=err)


def printable(text: str) -> str:
    """text without control characters: what a model or a document says must not steer the terminal."""
    return CONTROL.sub("", text)


def fail(key: str, **values: object) -> Refused:
    """`raise fail(…)`: stop with a sentence of the catalogue."""
    return Refused(say(key, locale(), **values))
