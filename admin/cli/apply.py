"""`flask apply FILE.yaml`: make the configuration match the file."""

from __future__ import annotations

from pathlib import Path

import click

from admin.cli.common import command, locale, printable, services, tell


@command("apply", help="Make the configuration match FILE: all of it, or nothing when anything in it is wrong.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only print what would change.")
@click.option("--prune", is_flag=True, help="Remove what the file does not name.")
def apply(file: Path, dry_run: bool, prune: bool) -> None:
    from admin.apply import apply_file

    applied = apply_file(services(), file, prune, dry_run, locale=locale())
    for note in applied.notes:
        click.echo(note, err=True)
    for line in applied.lines:
        click.echo(printable(line))
    if not applied.lines:
        tell("cli.apply.nothing")
    elif dry_run:
        tell("cli.apply.would", err=True)
    else:
        tell("cli.apply.done", err=True, count=len(applied.lines))
    if applied.queued:
        tell("cli.apply.queued" if applied.rung else "cli.apply.waiting", err=True, count=applied.queued)
