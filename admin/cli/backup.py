"""`flask backup FILE`: one file with everything."""

from __future__ import annotations

from pathlib import Path

import click

from admin.cli.common import command, locale, services, tell


@command("backup", help="Write everything into one file. The system may go on working.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    from admin.backup import back_up

    found = services()
    contents = back_up(found.db, found.settings, file, locale())
    size = f"{contents.size_bytes / 1_000_000:.1f} MB"
    tell("cli.backup.done", path=file, size=size, rows=sum(contents.rows.values()), documents=contents.documents)
    tell("cli.backup.key" if contents.key else "cli.backup.no_key")
