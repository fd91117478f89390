"""`flask doctor`: looks at everything that an installation needs, and says in words what to mend."""

from __future__ import annotations

import shutil
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import redis
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session, col, func, select

from admin.backup import schema
from admin.export import CONFIGURABLE_KINDS, Snapshot, snapshot
from admin.store import missing_references, published_version
from bot.config import BUILTIN, BotConfig
from bot.errors import BotError, ConfigError, ModelError, SearchError, StoreError
from bot.tables import (
    Bot,
    Channel,
    Chunk,
    Document,
    DocumentStatus,
    KnowledgeBase,
    Model,
    Provider,
    Turn,
    TurnStatus,
    User,
    utcnow,
)
from bot.texts import say
from jobs.services import Services

LITTLE_BYTES = 200 * 1024 * 1024  # below this nothing may be written any more
SOME_BYTES = 1024 * 1024 * 1024
CHECKED_DATABASE_BYTES = 1024 * 1024 * 1024  # a larger one would take minutes to read through
SKEW_S = 60.0  # signatures of platforms tolerate minutes
PROBES = 4  # at once
STUCK_TURN = timedelta(minutes=2)
STUCK_DOCUMENT = timedelta(minutes=30)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. state: OK, WARN or FAIL."""

    part: str
    state: str
    text: str


class _Notes:
    """Makes findings in one language."""

    def __init__(self, services: Services, locale: str) -> None:
        self.services = services
        self.locale = locale

    def ok(self, part: str, key: str, **values: object) -> Finding:
        return Finding(part, "OK", say(f"doctor.{key}", self.locale, **values))

    def warn(self, part: str, key: str, **values: object) -> Finding:
        return Finding(part, "WARN", say(f"doctor.{key}", self.locale, **values))

    def fail(self, part: str, key: str, **values: object) -> Finding:
        return Finding(part, "FAIL", say(f"doctor.{key}", self.locale, **values))


def examine(services: Services, locale: str = "en") -> Iterator[Finding]:
    """Every finding, as soon as it is known. Never raises for what it finds."""
    notes = _Notes(services, locale)
    yield from _settings(notes)
    yield from _folder(notes)
    database = list(_database(notes))
    yield from database
    yield from _redis(notes)
    yield from _embedding(notes)
    if any(finding.state == "FAIL" for finding in database):
        return  # the rest is in its rows
    yield from _index(notes)
    with services.db.read() as session:
        taken = snapshot(session, services.settings)
        yield from _secrets(notes, taken)
        yield from _bots(notes, session)
        yield from _channels(notes, session)
        yield from _documents(notes, session)
        yield from _turns(notes, session)
        probes = _probes(notes, session, taken)
    yield from _run(probes)
    yield from _clock(notes, taken)


def _settings(notes: _Notes) -> Iterator[Finding]:
    settings = notes.services.settings
    host = urlsplit(settings.public_url).hostname or ""
    listens_outside = settings.host not in ("127.0.0.1", "::1", "localhost")
    if listens_outside and host in ("127.0.0.1", "::1", "localhost"):
        yield notes.warn("settings", "public_url", url=settings.public_url)
    elif listens_outside and settings.public_url.startswith("http://"):
        yield notes.warn("settings", "no_tls", url=settings.public_url)
    else:
        yield notes.ok("settings", "settings", url=settings.public_url)


def _folder(notes: _Notes) -> Iterator[Finding]:
    folder = notes.services.settings.data_dir
    free = shutil.disk_usage(folder).free
    megabytes = free // 1024 // 1024
    if free < LITTLE_BYTES:
        yield notes.fail("data", "disk_full", path=folder, megabytes=megabytes)
    elif free < SOME_BYTES:
        yield notes.warn("data", "disk_low", path=folder, megabytes=megabytes)
    else:
        yield notes.ok("data", "disk", path=folder, megabytes=megabytes)
    key = folder / "secret_key"
    if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
        yield notes.warn("data", "key_mode", path=key)


def _database(notes: _Notes) -> Iterator[Finding]:
    services = notes.services
    try:
        with services.db.read() as session:
            here = schema(session.connection(), notes.locale)
            if damage := _damage(services, session):
                yield notes.fail("database", "database_damaged", reason=damage)
                return
    except (StoreError, ConfigError) as error:
        yield Finding("database", "FAIL", str(error))
        return
    except DatabaseError as error:
        yield notes.fail("database", "database_damaged", reason=error.orig)
        return
    wanted = _newest_schema(services)
    if here != wanted:
        yield notes.fail("database", "database_old", here=here, wanted=wanted)
        return
    yield notes.ok("database", "database", kind="SQLite" if services.db.is_sqlite else "PostgreSQL", schema=here)
    with services.db.read() as session:
        if session.exec(select(User.id)).first() is None:
            yield notes.warn("database", "no_user")


def _damage(services: Services, session: Session) -> str:
    """What SQLite finds wrong with its file; empty for a sound one, a large one, or PostgreSQL."""
    if not services.db.is_sqlite:
        return ""
    pages, size = (int(session.connection().exec_driver_sql(f"PRAGMA page_{name}").scalar() or 0) for name in ("count", "size"))
    if pages * size > CHECKED_DATABASE_BYTES:
        return ""
    found = str(session.connection().exec_driver_sql("PRAGMA quick_check(1)").scalar())
    return "" if found == "ok" else found


def _newest_schema(services: Services) -> str:
    from alembic.script import ScriptDirectory

    from admin.migrate import alembic_config

    return str(ScriptDirectory.from_config(alembic_config(services.settings)).get_current_head())


def _redis(notes: _Notes) -> Iterator[Finding]:
    from rq.cron import CronScheduler

    from jobs.health import ALIVE_S, WORKERS_ALIVE
    from jobs.ingest import workers

    services = notes.services
    try:
        version = (services.redis.info("server") or {})["redis_version"]
        yield notes.ok("redis", "redis", version=version)
        replies = services.redis.zcount(WORKERS_ALIVE, time.time() - ALIVE_S, "+inf")
        yield notes.ok("workers", "replies", count=replies) if replies else notes.fail("workers", "no_replies")
        heavy = workers(services)
        yield notes.ok("workers", "heavy", count=heavy) if heavy else notes.fail("workers", "no_heavy")
        clocks = len(CronScheduler.all(services.redis))
        yield notes.ok("workers", "clock", count=clocks) if clocks else notes.fail("workers", "no_clock")
    except redis.RedisError as error:
        key = "redis_embedded_down" if services.settings.redis_embedded else "redis_down"
        yield notes.fail("redis", key, reason=str(error))


def _index(notes: _Notes) -> Iterator[Finding]:
    from knowledge.index import VectorIndex

    services = notes.services
    index = VectorIndex(services.settings.milvus_uri, services.settings.milvus_token)
    try:
        index.ping()
        with services.db.read() as session:
            joined = select(KnowledgeBase.embedding, func.count(col(Chunk.vector)), func.max(Chunk.id)).join(
                Chunk, col(Chunk.base_id) == col(KnowledgeBase.id)
            )
            counts = session.exec(joined.group_by(col(KnowledgeBase.embedding))).all()
        for embedding, rows, last in counts:
            held = len(index.ids(embedding, last or 0))
            key, values = ("index", {"rows": rows}) if held == rows else ("index_differs", {"rows": rows, "held": held})
            make = notes.ok if held == rows else notes.warn
            yield make("index", key, embedding=embedding, **values)
        if not counts:
            yield notes.ok("index", "index_empty")
    except SearchError as error:
        key = "index_embedded_down" if services.settings.milvus_embedded else "index_down"
        yield notes.fail("index", key, reason=str(error))
    finally:
        index.close()


def _embedding(notes: _Notes) -> Iterator[Finding]:
    from knowledge.embed import make_embedders

    try:
        vectors = make_embedders(notes.services.embed)(BUILTIN).questions(["退款多久到账？"])
        yield notes.ok("embedding", "embedding", dim=vectors.shape[1])
    except (SearchError, ModelError) as error:
        yield notes.fail("embedding", "embedding_broken", reason=str(error))


def _secrets(notes: _Notes, taken: Snapshot) -> Iterator[Finding]:
    lost = [f"{section}[{name}].{key}" for (section, name, key), secret in taken.secrets.items() if secret.value is None]
    if lost:
        yield notes.fail("secrets", "secrets_lost", names=", ".join(lost))
    else:
        yield notes.ok("secrets", "secrets", count=len(taken.secrets))


def _bots(notes: _Notes, session: Session) -> Iterator[Finding]:
    bots = session.exec(select(Bot).order_by(col(Bot.id))).all()
    if not bots:
        yield notes.warn("bots", "no_bots")
    for bot in bots:
        version = published_version(session, bot)
        if version is None:
            yield notes.warn("bots", "bot_unpublished", name=bot.name)
        elif missing := missing_references(session, BotConfig.model_validate(version.config)):
            yield notes.fail("bots", "bot_misses", name=bot.name, names=", ".join(f"{name} ({key})" for key, name in missing))
        else:
            yield notes.ok("bots", "bot", name=bot.name, number=version.number)


def _channels(notes: _Notes, session: Session) -> Iterator[Finding]:
    from channels import KINDS

    rows = session.exec(select(Channel).where(col(Channel.kind).in_(CONFIGURABLE_KINDS)).order_by(col(Channel.id))).all()
    if not rows:
        yield notes.warn("channels", "no_channels")
    for row in rows:
        bot = session.get(Bot, row.bot_id)
        if not row.enabled:
            yield notes.ok("channels", "channel_off", name=row.name)
        elif row.kind not in KINDS:
            yield notes.fail("channels", "channel_unknown", name=row.name, kind=row.kind)
        elif bot is None or bot.published_version_id is None:
            yield notes.fail("channels", "channel_mute", name=row.name, bot=bot.name if bot else "-")
        else:
            yield notes.ok("channels", "channel", name=row.name, kind=row.kind, bot=bot.name)


def _documents(notes: _Notes, session: Session) -> Iterator[Finding]:
    from knowledge.errors import explain_error

    counts = dict(session.exec(select(Document.status, func.count()).group_by(col(Document.status))).all())
    failed = session.exec(select(Document).where(Document.status == DocumentStatus.FAILED).limit(1)).first()
    if failed is not None:
        reason = explain_error(failed.error, notes.locale)
        yield notes.warn("documents", "documents_failed", count=counts[failed.status], title=failed.title, reason=reason)
    finished = (DocumentStatus.READY, DocumentStatus.FAILED)
    stuck = session.exec(
        select(func.count()).where(col(Document.status).not_in(finished), col(Document.updated_at) < utcnow() - STUCK_DOCUMENT)
    ).one()
    if stuck:
        yield notes.fail("documents", "documents_stuck", count=stuck, minutes=STUCK_DOCUMENT.seconds // 60)
    waiting = sum(count for status, count in counts.items() if status not in finished)
    yield notes.ok("documents", "documents", ready=counts.get(DocumentStatus.READY, 0), waiting=waiting)


def _turns(notes: _Notes, session: Session) -> Iterator[Finding]:
    stuck = session.exec(
        select(func.count()).where(Turn.status == TurnStatus.WAITING, col(Turn.due_at) < utcnow() - STUCK_TURN)
    ).one()
    if stuck:
        yield notes.fail("turns", "turns_stuck", count=stuck, minutes=STUCK_TURN.seconds // 60)
    lately = col(Turn.created_at) > utcnow() - DAY
    failed = session.exec(
        select(Turn.error_code, func.count())
        .where(lately, Turn.status == TurnStatus.FAILED)
        .group_by(col(Turn.error_code))
        .order_by(func.count().desc())
    ).all()
    if failed:
        codes = ", ".join(f"{code or '-'}: {count}" for code, count in failed)
        yield notes.warn("turns", "turns_failed", count=sum(count for _, count in failed), codes=codes)
    answered = session.exec(select(func.count()).where(lately, Turn.status == TurnStatus.DONE)).one()
    yield notes.ok("turns", "turns", count=answered)


Probe = Callable[[], Finding]


def _probes(notes: _Notes, session: Session, taken: Snapshot) -> list[Probe]:
    """A question for each model that speaks; made from rows here, asked later."""
    used = {name for bot in taken.config.bots for name in (bot.model, *bot.fallback_models)}
    used |= {base.embedding for base in taken.config.knowledge}
    rows = session.exec(
        select(Provider, Model)
        .join(Model, col(Model.provider_id) == col(Provider.id))
        .order_by(col(Provider.id), col(Model.id))
    ).all()
    return [_probe(notes, provider, model, used) for provider, model in rows if model.kind in ("chat", "embedding")]


def _probe(notes: _Notes, provider: Provider, model: Model, used: set[str]) -> Probe:
    name = f"{provider.name}/{model.name}"

    def ask() -> Finding:
        from bot.probe import probe
        from jobs.models import endpoint

        try:
            made = endpoint(provider, model, notes.services.settings.secret_key)
        except BotError as error:
            return Finding("models", "FAIL", f"{name}: {error}")
        answer = probe(notes.services.llm, made, notes.locale, model.kind)
        if answer.ok and model.dim and answer.dim and answer.dim != model.dim:
            return notes.fail("models", "model_dim", name=name, said=model.dim, real=answer.dim)
        return Finding("models", "OK" if answer.ok else "FAIL" if name in used else "WARN", f"{name}: {answer.text}")

    return ask


def _run(probes: Sequence[Probe]) -> Iterator[Finding]:
    with ThreadPoolExecutor(PROBES) as pool:
        yield from pool.map(lambda ask: ask(), probes)


def _clock(notes: _Notes, taken: Snapshot) -> Iterator[Finding]:
    """Our clock against a provider's, where one on another machine answers at all."""
    for provider in taken.config.providers:
        if urlsplit(provider.base_url).hostname in ("127.0.0.1", "::1", "localhost"):
            continue
        there = _date_of(provider.base_url)
        if there is None:
            continue
        skew = abs((datetime.now(UTC) - there).total_seconds())
        make, key = (notes.warn, "clock_skewed") if skew > SKEW_S else (notes.ok, "clock_right")
        yield make("clock", key, seconds=round(skew), host=urlsplit(provider.base_url).hostname)
        return


def _date_of(url: str) -> datetime | None:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5) as response:
            date = response.headers.get("Date")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date")
    except (OSError, ValueError):
        return None
    try:
        return parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
