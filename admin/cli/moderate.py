"""`flask moderate BOT "text"`: what a bot's keyword lists say of a text, and where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from sqlmodel import Session, col, select

from admin.cli.common import command, fail, locale, services
from admin.store import bot_in_use
from bot.moderation import WordList, check
from bot.tables import KeywordList
from bot.texts import say
from bot.types import Verdict


@command("moderate", help="The verdict on a text, with the words and spans that matched.")
@click.argument("bot")
@click.argument("text", required=False)
@click.option("--file", "path", type=click.Path(path_type=Path), help="One text a line, or {id, text} rows.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def moderate(bot: str, text: str | None, path: Path | None, as_json: bool) -> None:
    if (text is None) == (path is None):
        raise fail("cli.moderate.one")
    with services().db.read() as session:
        lists = word_lists(session, bot)
    for identity, words in texts(path) if path else [(None, text or "")]:
        verdict = check(words, lists)
        if as_json or path:
            click.echo(json.dumps(as_row(identity, verdict), ensure_ascii=False))
        else:
            _show(words, verdict)


def word_lists(session: Session, bot: str) -> tuple[WordList, ...]:
    """The lists that a bot uses. Raises ConfigError when there is no such bot."""
    config = bot_in_use(session, bot, locale()).moderation
    if config.check == "none":
        return ()
    rows = session.exec(select(KeywordList).where(col(KeywordList.name).in_(config.lists)).order_by(col(KeywordList.id)))
    return tuple(WordList(row.name, tuple(row.keywords), row.action) for row in rows)  # type: ignore[arg-type]


def texts(path: Path) -> Iterator[tuple[Any, str]]:
    """(id, text) of each line: a row's own id, or the line's number. Blank lines are left out."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _row(number, line.rstrip("\r\n"))
    except OSError as error:
        raise fail("cli.file.unreadable", path=path, reason=error.strerror) from error
    except UnicodeDecodeError as error:
        raise fail("cli.file.not_utf8_named", path=path) from error


def _row(number: int, line: str) -> tuple[Any, str]:
    if line.lstrip().startswith("{"):
        try:
            row = json.loads(line)
        except ValueError:
            row = None  # a text that begins with a brace
        if isinstance(row, dict) and isinstance(row.get("text"), str):
            return row.get("id", number), row["text"]
    return number, line


def as_row(identity: Any, verdict: Verdict) -> dict[str, Any]:
    """{id, action, matches:[{word, start, end}]}; positions are characters of the text that came in."""
    row: dict[str, Any] = {} if identity is None else {"id": identity}
    matches = [{"word": match.word, "start": match.start, "end": match.end} for match in verdict.matches]
    return row | {"action": verdict.action, "matches": matches}


def _show(text: str, verdict: Verdict) -> None:
    click.echo(say(f"cli.moderate.{verdict.action}", locale()))
    for match in verdict.matches:
        click.echo(f"  {match.start}–{match.end}  {text[match.start : match.end]}  ← {match.word}")
    if verdict.action == "mask":
        click.echo(verdict.text)
