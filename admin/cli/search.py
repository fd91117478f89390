"""`flask search BASE "question"`: the passages found, with scores, ranks and time per step."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin.cli.common import command, fail, services, tell
from jobs.services import Services

if TYPE_CHECKING:
    from knowledge.search import Found, Searcher

BATCH = 32
ATTEMPTS = 3
RETRY_S = 6  # longer than searches pause after a failure
SNIPPET_CHARS = 160


@command("search")
@click.argument("base")
@click.argument("question", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option("--top-k", default=5, type=click.IntRange(1, 50), help="At most so many passages.")
@click.option("--min-score", default=0.0, type=click.FloatRange(0, 1), help="Leave out weaker passages.")
@click.option(
    "--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Many questions: {id, question} rows."
)
def search_command(base: str, question: str | None, as_json: bool, top_k: int, min_score: float, path: Path | None) -> None:
    """Show what the knowledge base BASE finds for a question."""
    if (question is None) == (path is None):
        raise fail("cli.search.one")
    from knowledge.search import Searcher

    house = services()
    _check_base(house, base)
    searcher = Searcher(house.db, house.settings, house.embed)
    try:
        if path is not None:
            _answer_file(house, searcher, base, path, top_k, min_score)
            return
        found = searcher.explain([base], question or "", top_k, min_score)
        if as_json:
            click.echo(json.dumps(_explained(house, question or "", found), ensure_ascii=False))
        else:
            _show(found)
    finally:
        searcher.close()


def _check_base(house: Services, base: str) -> None:
    from sqlmodel import select

    from bot.tables import KnowledgeBase

    with house.db.read() as session:
        names = session.exec(select(KnowledgeBase.name)).all()
    if base not in names:
        raise fail("cli.search.no_base", base=base, known=", ".join(sorted(names)) or "–")


def _answer_file(house: Services, searcher: Searcher, base: str, path: Path, top_k: int, min_score: float) -> None:
    """Two batches at once: while one is being embedded here, the index searches for the other in its own process."""

    def answer(rows: list[tuple[str, str]]) -> list[str]:
        found = _patiently(searcher, base, [question for _, question in rows], top_k, min_score)
        sources = _sources(house, found)
        return [json.dumps(_line(id, one, sources), ensure_ascii=False) for (id, _), one in zip(rows, found, strict=True)]

    with ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 1))) as pool:
        for lines in pool.map(answer, _questions(path)):
            click.echo("\n".join(lines))


def _patiently(searcher: Searcher, base: str, questions: list[str], top_k: int, min_score: float) -> list[Found]:
    """Many questions are asked to learn how good the answers are: wait for a vector index that is busy for a moment."""
    for _ in range(ATTEMPTS):
        found = searcher.search_many([base], questions, top_k, min_score)
        if found[0].without is None:
            return found
        time.sleep(RETRY_S)
    tell("cli.search.without", err=True, reason=found[0].without)
    return found


def _questions(path: Path) -> Iterator[list[tuple[str, str]]]:
    rows: list[tuple[str, str]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                rows.append((row["id"], str(row["question"])))
            except (ValueError, KeyError, TypeError) as error:
                raise fail("cli.search.bad_row", path=str(path), line=number) from error
            if len(rows) == BATCH:
                yield rows
                rows = []
    if rows:
        yield rows


def _line(id: str, found: Found, sources: dict[str, str]) -> dict[str, Any]:
    passages = [
        {
            "document_id": sources.get(passage.document_id, passage.document_id),
            "title": passage.title,
            "score": round(passage.score, 4),
            "text": passage.text,
        }
        for passage in found.passages
    ]
    return {"id": id, "passages": passages, "ms": round(sum(found.ms.values()), 2)}


def _explained(house: Services, question: str, found: Found) -> dict[str, Any]:
    ranks = {candidate.chunk_id: candidate for candidate in found.candidates}
    line = _line("", found, _sources(house, [found]))
    for shown, passage in zip(line["passages"], found.passages, strict=True):
        candidate = asdict(ranks[passage.chunk_id])
        shown |= {key: candidate[key] for key in ("dense", "lexical", "dense_rank", "lexical_rank")}
        shown |= {"heading": passage.heading, "question": passage.question, "url": passage.url}
    return {
        "question": question,
        "passages": line["passages"],
        "ms": line["ms"],
        "steps": dict(found.ms),
        "without": found.without,
    }


def _sources(house: Services, found: list[Found]) -> dict[str, str]:
    """Documents that were rows → the ids that their rows had."""
    from sqlmodel import col, select

    from bot.tables import Document

    ids = sorted({passage.document_id for one in found for passage in one.passages})
    with house.db.read() as session:
        rows = [
            row
            for start in range(0, len(ids), 500)
            for row in session.exec(select(Document.id, Document.source).where(col(Document.id).in_(ids[start : start + 500])))
        ]
    return {id: source.removeprefix("row:") for id, source in rows if source.startswith("row:")}


def _show(found: Found) -> None:
    ranks = {candidate.chunk_id: candidate for candidate in found.candidates}
    if not found.passages:
        tell("cli.search.nothing")
    for number, passage in enumerate(found.passages, 1):
        candidate = ranks[passage.chunk_id]
        place = " › ".join(part for part in (passage.title, passage.heading) if part)
        tell(
            "cli.search.passage",
            number=number,
            score=f"{passage.score:.3f}",
            place=place,
            dense="–" if candidate.dense is None else f"{candidate.dense:.3f}",
            dense_rank=candidate.dense_rank or "–",
            lexical=f"{candidate.lexical:.3f}",
            lexical_rank=candidate.lexical_rank or "–",
        )
        text = " ".join(passage.text.split())
        click.echo("   " + (text if len(text) <= SNIPPET_CHARS else text[:SNIPPET_CHARS] + "…"))
    click.echo("   ".join(f"{step} {ms:.1f} ms" for step, ms in found.ms.items()))
    if found.without:
        tell("cli.search.without", err=True, reason=found.without)
