"""`flask export`: the configuration as YAML."""

from __future__ import annotations

import click

from admin.cli.common import command, locale, services


@command("export", help="Print the configuration as `flask apply` takes it, secrets as env:NAME references.")
@click.option("--bot", help="Only this bot, what it needs, and its channels.")
def export(bot: str | None) -> None:
    from admin.export import only_bot, snapshot, to_yaml

    found = services()
    with found.db.read() as session:
        taken = snapshot(session, found.settings)
    config = only_bot(taken.config, bot, locale()) if bot else taken.config
    click.echo(to_yaml(config, taken.others, locale()), nl=False)
