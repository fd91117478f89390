"""`flask seed`: the demo, on the first start only. `make run` calls it once everything runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sqlmodel import col, select

from admin.cli.common import command, locale, services, tell
from bot.tables import Bot, Channel, Document, DocumentStatus, KnowledgeBase, Setting
from channels import web
from jobs.services import Services

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo" / "qingniao.yaml"
SEARCHABLE_S = 60
UNREAD = (DocumentStatus.WAITING, DocumentStatus.READING)


@command("seed")
def seed_command() -> None:
    """Apply the demo where there is no bot yet, wait until its documents can be searched, and say where to go."""
    house = services()
    if os.environ.get("QINGNIAO_DEMO", "1") != "0":
        _seed(house)
    with house.db.read() as session:
        channels = session.exec(
            select(Channel.name).where(Channel.kind == web.KIND, col(Channel.enabled)).order_by(col(Channel.id))
        )
        for name in channels:
            tell("run.chat", url=f"{house.settings.public_url}/chat/{name}")
    tell("run.console", url=f"{house.settings.public_url}/admin/")


def _seed(house: Services) -> None:
    from admin.apply import apply_file

    with house.db.read() as session:
        if session.get(Setting, "demo_seeded") or session.exec(select(Bot.id)).first() is not None:
            return

    apply_file(house, DEMO, locale=locale(), by="demo")
    with house.db.write() as session:
        session.add(Setting(key="demo_seeded", value=True))
    _wait_until_searchable(house)


def _wait_until_searchable(house: Services) -> None:
    end = time.monotonic() + SEARCHABLE_S
    while time.monotonic() < end:
        with house.db.read() as session:
            unread = session.exec(
                select(Document.id).join(KnowledgeBase).where(col(Document.status).in_(UNREAD)).limit(1)
            ).first()
        if unread is None:
            return
        time.sleep(0.2)
