"""Makes the rows match a configuration file: all of it in one transaction, and then its documents queued for reading."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sqlmodel import Session

from admin.changes import Change, changes, conversations_of, write
from admin.configuration import Wanted, read_configuration
from admin.export import Snapshot, snapshot
from bot.texts import say
from jobs import ingest
from jobs.services import Services


@dataclass(frozen=True)
class Applied:
    """What was changed (or, dry, would be). lines: the diff as a person reads it. notes: what else to know.

    queued: documents that are to be read. rung: whether the queue heard of them; else they are found by the clock.
    """

    changes: tuple[Change, ...]
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    queued: int = 0
    rung: bool = True


def apply_file(
    services: Services, path: Path, prune: bool = False, dry_run: bool = False, *, locale: str = "en", by: str = "apply"
) -> Applied:
    """Apply the file at path. by: who stands beside the bots' new versions.

    Raises ConfigError that names every problem with its line, or StoreError; nothing is changed then.
    """
    with services.db.read() as session:
        before = snapshot(session, services.settings)
    wanted = read_configuration(path, before, prune, locale)
    if dry_run or not changes(before, wanted, prune):
        with services.db.read() as session:
            return _told(session, before, wanted, prune, locale)
    with services.db.write() as session:
        before = snapshot(session, services.settings)  # anew: somebody may have written meanwhile
        applied = _told(session, before, wanted, prune, locale)
        aftermath = write(session, services.settings, before, wanted, list(applied.changes), by=by)
    if aftermath.gone:
        ingest.clean_up(services, aftermath.gone)
    rung = ingest.ring(services) if aftermath.queued else True
    return replace(applied, queued=aftermath.queued, rung=rung)


def _told(session: Session, before: Snapshot, wanted: Wanted, prune: bool, locale: str) -> Applied:
    found = changes(before, wanted, prune)
    lines = []
    for change in found:
        line = change.line(locale)
        is_channel = change.sign == "-" and change.key[0] == "channels" and len(change.key) == 2
        if is_channel and (count := conversations_of(session, change.key[1])):
            line += " " + say("cli.apply.conversations", locale, count=count)
        lines.append(line)
    return Applied(tuple(found), tuple(lines), wanted.notes)
