"""The commands of `flask`: one module each, listed in COMMANDS."""

from __future__ import annotations

import click

from admin.cli.apply import apply
from admin.cli.ask import ask
from admin.cli.backup import backup
from admin.cli.doctor import doctor
from admin.cli.erase_user import erase
from admin.cli.export import export
from admin.cli.ingest import ingest_command
from admin.cli.moderate import moderate
from admin.cli.prepare import prepare_command
from admin.cli.processes import (
    cron_command,
    milvus_command,
    redis_command,
    replies_command,
    serve_command,
    worker_command,
)
from admin.cli.restore import restore
from admin.cli.search import search_command
from admin.cli.seed import seed_command
from admin.cli.user import user

COMMANDS: tuple[click.Command, ...] = (
    apply,
    export,
    ask,
    ingest_command,
    search_command,
    moderate,
    user,
    doctor,
    erase,
    backup,
    restore,
    redis_command,
    milvus_command,
    serve_command,
    replies_command,
    worker_command,
    cron_command,
    prepare_command,
    seed_command,
)
