"""Knowledge: bases, their documents with progress, uploads, and a box to try a search."""

from __future__ import annotations

from typing import Any

from flask import render_template, request
from pydantic import ValidationError
from sqlmodel import Session, col, func, or_, select

from admin.bot_form import problems
from admin.page import console_page, found, go, locale, services, size, t, tell, wants_json
from admin.store import by_name, published_version, save_base
from bot.config import BUILTIN, FaqConfig, KnowledgeConfig
from bot.errors import BadRequest
from bot.tables import Bot, Chunk, Document, DocumentStatus, KnowledgeBase, Model, Provider
from knowledge.errors import DocumentError, explain_error
from knowledge.readers import EXTENSIONS, MAX_BYTES

DOCUMENTS_SHOWN = 100
PASSAGES_SHOWN = 10
DEFAULT_MIN_SCORE = 0.35
UPLOAD_BYTES = 4 * MAX_BYTES  # of one form without scripts: several files at once; a script sends them one by one
BADGES = {DocumentStatus.READY: "good", DocumentStatus.FAILED: "bad"}
bp = console_page("knowledge", __name__, "/knowledge", title="nav.knowledge", icon="knowledge", largest_upload=UPLOAD_BYTES)


@bp.get("")
def index() -> Any:
    """All bases."""
    return _list_page({}, {})


@bp.post("/new")
def create() -> Any:
    values = {"name": request.form.get("name", "").strip(), "embedding": request.form.get("embedding") or BUILTIN}
    errors: dict[str, str] = {}
    try:
        config = KnowledgeConfig.model_validate(values)
    except ValidationError as error:
        errors = problems(error)
    if not errors:
        with services().db.write() as session:
            if by_name(session, KnowledgeBase, config.name) is not None:
                errors["name"] = t("wrong.taken")
            elif config.embedding not in (BUILTIN, *_embeddings(session)):
                errors["embedding"] = t("wrong.missing", name=config.embedding)
            else:
                row = save_base(session, config.name, config.embedding)
    if errors:
        return _list_page(values, errors), 422
    tell("knowledge.created", name=row.name)
    return go("admin_knowledge.base", base_id=row.id)


@bp.get("/<int:base_id>")
def base(base_id: int) -> Any:
    """One base: its documents, and what a search finds in it (?q)."""
    return _base_page(base_id)


@bp.get("/<int:base_id>/progress")
def progress(base_id: int) -> Any:
    """How far the documents are that the page shows, as JSON."""
    with services().db.read() as session:
        _base(session, base_id)
        rows = session.exec(_documents(base_id, "")).all()
    return {
        "documents": [
            {
                "id": row.id,
                "status": row.status,
                "words": t(f"knowledge.status.{row.status}"),
                "kind": BADGES.get(row.status, "accent"),
                "finished": row.status in BADGES,
                "done": row.done_chunks,
                "total": row.total_chunks,
                "error": explain_error(row.error, locale()),
            }
            for row in rows
        ]
    }


@bp.post("/<int:base_id>/files")
def upload(base_id: int) -> Any:
    """Take files in; they are read and embedded by a worker."""
    with services().db.read() as session:
        row = _base(session, base_id)
    files = [file for file in request.files.getlist("files") if file.filename]
    if not files:
        raise BadRequest("no_file", t("knowledge.no_file"))
    for file in files:
        blob = file.stream.read(MAX_BYTES + 1)
        if len(blob) > MAX_BYTES:
            raise BadRequest("too_large", t("knowledge.too_large", limit=size(MAX_BYTES)), 413)
        _ingest().add_file(services(), row.name, file.filename or "", blob)
    if wants_json():
        return {"accepted": len(files)}, 202
    tell("knowledge.uploaded", count=len(files))
    return go("admin_knowledge.base", base_id=base_id)


@bp.post("/<int:base_id>/faqs")
def add_faq(base_id: int) -> Any:
    with services().db.read() as session:
        row = _base(session, base_id)
    values = {key: request.form.get(key, "").strip() for key in ("question", "answer")}
    try:
        faq = FaqConfig.model_validate(values)
    except ValidationError as error:
        return _base_page(base_id, errors=problems(error), faq=values), 422
    _ingest().add_faq(services(), row.name, faq.question, faq.answer)
    tell("knowledge.faq_added")
    return go("admin_knowledge.base", base_id=base_id)


@bp.post("/<int:base_id>/urls")
def add_url(base_id: int) -> Any:
    with services().db.read() as session:
        row = _base(session, base_id)
    url = request.form.get("url", "").strip()
    if not url.startswith(("http://", "https://")) or len(url) > 900:
        return _base_page(base_id, errors={"url": t("wrong.url")}, url=url), 422
    try:
        _ingest().add_url(services(), row.name, url)
    except DocumentError as error:
        return _base_page(base_id, errors={"url": explain_error(error.stored(), locale())}, url=url), 422
    tell("knowledge.url_added")
    return go("admin_knowledge.base", base_id=base_id)


@bp.post("/<int:base_id>/documents/<document_id>/delete")
def delete_document(base_id: int, document_id: str) -> Any:
    with services().db.read() as session:
        row = found(session.get(Document, document_id))
        if row.base_id != base_id:
            raise BadRequest("not_found", t("error.404"), 404)
    _ingest().delete_document(services(), document_id)
    tell("knowledge.document_deleted")
    return go("admin_knowledge.base", base_id=base_id)


@bp.post("/<int:base_id>/documents/<document_id>/again")
def read_again(base_id: int, document_id: str) -> Any:
    """Read a document again, as after a failure."""
    with services().db.read() as session:
        row = found(session.get(Document, document_id))
        if row.base_id != base_id:
            raise BadRequest("not_found", t("error.404"), 404)
    _ingest().reindex(services(), [document_id])
    tell("knowledge.again")
    return go("admin_knowledge.base", base_id=base_id)


@bp.post("/<int:base_id>/delete")
def delete(base_id: int) -> Any:
    """Delete a base that no bot names, with its documents."""
    with services().db.read() as session:
        row = _base(session, base_id)
        if bots := _bots_with(session, row.name):
            raise BadRequest("in_use", t("knowledge.in_use", bots=", ".join(bots)), 409)
    _ingest().delete_base(services(), row.name)
    tell("knowledge.deleted", name=row.name)
    return go("admin_knowledge.index")


def _ingest() -> Any:
    """Brings the vector index's library along, so only when it is needed."""
    from jobs import ingest

    return ingest


def _list_page(values: dict[str, Any], errors: dict[str, str]) -> str:
    with services().db.read() as session:
        bases = session.exec(select(KnowledgeBase).order_by(col(KnowledgeBase.name))).all()
        chunks = dict(session.exec(select(Chunk.base_id, func.count()).group_by(col(Chunk.base_id))).all())
        counts: dict[int, dict[str, int]] = {}
        for base_id, status, count in session.exec(
            select(Document.base_id, Document.status, func.count()).group_by(col(Document.base_id), col(Document.status))
        ):
            counts.setdefault(base_id, {})[status] = count
        embeddings = _embeddings(session)
        rows = [
            {
                "base": row,
                "documents": sum(counts.get(row.id or 0, {}).values()),
                "failed": counts.get(row.id or 0, {}).get(DocumentStatus.FAILED, 0),
                "working": sum(count for status, count in counts.get(row.id or 0, {}).items() if status not in BADGES),
                "chunks": chunks.get(row.id or 0, 0),
                "bots": _bots_with(session, row.name),
            }
            for row in bases
        ]
    return render_template("console/knowledge.html", rows=rows, values=values, errors=errors, embeddings=embeddings)


def _base_page(base_id: int, errors: dict[str, str] | None = None, faq: dict[str, str] | None = None, url: str = "") -> str:
    find = request.args.get("find", "").strip()[:200]
    question = request.args.get("q", "").strip()[:2000]
    with services().db.read() as session:
        row = _base(session, base_id)
        documents = session.exec(_documents(base_id, find)).all()
        total = session.exec(select(func.count()).where(Document.base_id == base_id)).one()
        chunks = session.exec(select(func.count()).where(Chunk.base_id == base_id)).one()
    result = services().searcher.explain([row.name], question, PASSAGES_SHOWN, 0.0) if question else None
    return render_template(
        "console/base_page.html",
        base=row,
        documents=documents,
        explained={document.id: explain_error(document.error, locale()) for document in documents},
        total=total,
        chunks=chunks,
        wanted=find,
        q=question,
        result=result,
        threshold=DEFAULT_MIN_SCORE,
        errors=errors or {},
        faq=faq or {},
        url=url,
        limit_bytes=MAX_BYTES,
        accept=",".join(EXTENSIONS),
        kinds="Markdown, TXT, HTML, PDF, Word",
    )


def _documents(base_id: int, find: str) -> Any:
    query = select(Document).where(Document.base_id == base_id)
    if find:
        query = query.where(or_(*(col(c).icontains(find, autoescape=True) for c in (Document.title, Document.question))))
    return query.order_by(col(Document.updated_at).desc(), col(Document.id).desc()).limit(DOCUMENTS_SHOWN)


def _base(session: Session, base_id: int) -> KnowledgeBase:
    row: KnowledgeBase = found(session.get(KnowledgeBase, base_id))
    return row


def _embeddings(session: Session) -> list[str]:
    rows = session.exec(
        select(Provider.name, Model.name)
        .join(Model, col(Model.provider_id) == col(Provider.id))
        .where(Model.kind == "embedding")
        .order_by(col(Provider.name), col(Model.name))
    )
    return [f"{provider}/{model}" for provider, model in rows]


def _bots_with(session: Session, name: str) -> list[str]:
    """The bots whose draft or published version names a base."""
    bots = []
    for bot in session.exec(select(Bot).order_by(col(Bot.name))):
        version = published_version(session, bot)
        configs = (bot.draft, version.config if version else {})
        if any(name in config.get("knowledge", {}).get("bases", ()) for config in configs):
            bots.append(bot.name)
    return bots
