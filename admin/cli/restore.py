"""`flask restore FILE`: everything as it was when the backup was made."""

from __future__ import annotations

from pathlib import Path

import click

from admin.cli.common import command, locale, services, tell
from bot.errors import SearchError


@command("restore", help="Replace everything by what a backup holds: all of it, or nothing.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Replace what is here already.")
def restore(file: Path, yes: bool) -> None:
    from admin.backup import restore as restore_file
    from knowledge.index import VectorIndex
    from knowledge.ingest import rebuild

    found = services()
    contents = restore_file(found.db, found.settings, file, yes, locale())
    rows = sum(contents.rows.values())
    tell("cli.restore.done", made_at=contents.made_at, rows=rows, documents=contents.documents)
    index = VectorIndex(found.settings.milvus_uri, found.settings.milvus_token)
    try:
        put_in = sum(count for count, _ in rebuild(found.db, index).values())
        tell("cli.restore.index", count=put_in)
    except SearchError:
        tell("cli.restore.index_later", err=True)  # the rows are whole; the index follows by itself
    finally:
        index.close()
    tell("cli.restore.restart")
