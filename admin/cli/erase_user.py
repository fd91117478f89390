"""`flask erase-user CHANNEL USER_ID`: remove every trace of one chat user."""

from __future__ import annotations

import click

from admin.cli.common import command, locale, services, tell
from bot.texts import CATALOGUE, say


@command("erase-user", help="Remove every trace of one chat user: database, vectors, cache, queue.")
@click.argument("channel")
@click.argument("user_id")
def erase(channel: str, user_id: str) -> None:
    from admin.erase import erase_user

    erased = erase_user(services(), channel, user_id, locale())
    if not erased.rows and not erased.redis_keys:
        tell("cli.erase.nothing", channel=channel, user=user_id)
    else:
        tell("cli.erase.done", channel=channel, user=user_id)
        for table, count in erased.rows.items():
            key = f"cli.erase.{table}"
            click.echo("  " + say(key if key in CATALOGUE else "cli.erase.rows", locale(), table=table, count=count))
        click.echo("  " + say("cli.erase.redis", locale(), count=erased.redis_keys))
        click.echo("  " + say("cli.erase.vectors", locale()))
        tell("cli.erase.backups")
    if not erased.redis_reached:
        tell("cli.erase.no_redis", err=True)
        raise SystemExit(1)
