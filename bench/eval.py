"""Quality figures on evaluation sets: `make eval`, or `python -m bench.eval [SET…]`.

Each set is brought into a knowledge base of its own and asked through the real search: rows in a temporary SQLite database,
vectors in a Milvus Lite server of its own. EVAL_DIR names the folder of sets: `<set>/passages.jsonl` {id, title, text},
`<set>/questions.jsonl` {id, question, passage_id[, passage_ids, history]}, `<set>/unanswerable.jsonl` {id, question}.
Vectors are kept by their text's hash, so that a second run takes a fraction of the first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlmodel import SQLModel, select

from bot.db import Database
from bot.errors import SearchError
from bot.settings import read_settings
from bot.tables import Chunk, Document
from jobs.ingest import base_named, files_of, put_row
from knowledge import ingest
from knowledge.embed import BuiltinEmbedder, Vectors
from knowledge.index import VectorIndex
from knowledge.search import Found, Searcher

HISTORY_TURNS = 4
BATCH = 32
TOP = 50
ATTEMPTS = 10
RETRY_S = 6
START_S = 180
PASSED = 0.95
TITLE_IS_LABEL = ("banking77_en",)  # their titles would give the answer away
Ranking = list[str]


@dataclass(frozen=True)
class Question:
    text: str
    right: frozenset[str]


@dataclass(frozen=True)
class Figures:
    """recall@1 and nDCG@10 of one way of searching."""

    recall: float
    ndcg: float


class KeptVectors(BuiltinEmbedder):
    """The built-in model, with its answers kept in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(threads=os.cpu_count() or 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._kept = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._kept.execute("CREATE TABLE IF NOT EXISTS vector (key TEXT PRIMARY KEY, value BLOB)")

    def _embed(self, texts: Sequence[str], is_query: bool) -> Vectors:
        form = "query" if is_query else "passage"
        keys = [hashlib.sha256(f"{form}\0{text}".encode()).hexdigest() for text in texts]
        found: dict[str, bytes] = {}
        for key in keys:
            row = self._kept.execute("SELECT value FROM vector WHERE key = ?", (key,)).fetchone()
            if row:
                found[key] = row[0]
        missing = [place for place, key in enumerate(keys) if key not in found]
        new = super()._embed([texts[place] for place in missing], is_query)
        for place, vector in zip(missing, new, strict=True):
            found[keys[place]] = vector.tobytes()
            self._kept.execute("INSERT OR IGNORE INTO vector VALUES (?, ?)", (keys[place], found[keys[place]]))
        return np.stack([np.frombuffer(found[key], dtype=np.float32) for key in keys])


def main(names: Sequence[str]) -> int:
    """Print a row per set. Returns the exit code."""
    folder = Path(os.environ.get("EVAL_DIR") or "../shared/eval")
    sets = [name for name in _sets(folder) if not names or name in names]
    if not sets:
        print(f"There are no evaluation sets in {folder}. Set EVAL_DIR to a folder of sets to see how good the search is.")
        return 0
    cache = Path(os.environ.get("DATA_DIR") or tempfile.gettempdir() + "/qingniao-eval") / "vectors.sqlite"
    heads = f"{'words':>13} {'vectors':>13} {'both':>13} {'AUROC':>6} {'refused':>8} {'line':>6}"
    print(f"{'set':<22} {heads}  above 0.35: right / unanswerable  ms")
    means: list[tuple[Figures, ...]] = []
    for name in sets:
        with tempfile.TemporaryDirectory(prefix="qn-eval-") as data, _milvus(Path(data)) as uri:
            means.append(_measure(folder / name, name, data, uri, KeptVectors(cache)))
    rows = [[f"{np.mean([m[i].recall for m in means]):.3f} / {np.mean([m[i].ndcg for m in means]):.3f}"] for i in range(3)]
    print(f"{'mean':<22} " + " ".join(f"{row[0]:>13}" for row in rows))
    return 0


def _sets(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/questions.jsonl"))


def _measure(folder: Path, name: str, data: str, uri: str, embedder: KeptVectors) -> tuple[Figures, ...]:
    settings = read_settings({"DATA_DIR": data, "MILVUS_URI": uri})
    db = Database(settings.database_url)
    SQLModel.metadata.create_all(db.engine)
    index = VectorIndex(uri)
    with db.write() as session:
        base = base_named(session, name)
        for row in _rows(folder / "passages.jsonl"):
            put_row(session, base, row["id"], "" if name in TITLE_IS_LABEL else row.get("title") or "", row["text"])
    shop = ingest.Workshop(db, index, lambda _: embedder, files_of(settings))
    while ingest.read_one(shop):
        pass
    while ingest.embed_some(shop):
        pass
    while ingest.index_some(shop):
        pass
    ingest.finish(shop)
    with db.read() as session:
        sources = {id: source.removeprefix("row:") for id, source in session.exec(select(Document.id, Document.source))}
        owner = {id or 0: document_id for id, document_id in session.exec(select(Chunk.id, Chunk.document_id))}
    searcher = Searcher(db, settings, embedders=lambda _: embedder)
    questions = [_question(row) for row in _rows(folder / "questions.jsonl")]
    began = time.perf_counter()
    found = _ask(searcher, name, [question.text for question in questions])
    ms = (time.perf_counter() - began) * 1000 / max(1, len(questions))
    unanswerable = _ask(searcher, name, [row["question"] for row in _rows(folder / "unanswerable.jsonl")])
    ways = [_ranked(found, way, owner, sources) for way in ("lexical", "dense", "score")]
    figures = tuple(_figures(rankings, questions) for rankings in ways)
    right = [
        one
        for one, ranking, question in zip(found, ways[2], questions, strict=True)
        if ranking[:1] and ranking[0] in question.right
    ]
    print(
        f"{name:<22} " + " ".join(f"{f.recall:.3f} / {f.ndcg:.3f}" for f in figures),
        _refusal(found, right, unanswerable),
        f"{ms:6.1f}",
    )
    searcher.close()
    index.close()
    db.close()
    return figures


def _ask(searcher: Searcher, base: str, questions: list[str]) -> list[Found]:
    found: list[Found] = []
    for start in range(0, len(questions), BATCH):
        found += _asked(searcher, base, questions[start : start + BATCH])
    return found


def _asked(searcher: Searcher, base: str, questions: list[str]) -> list[Found]:
    """A batch, again when the index was too busy: figures without vectors would be those of another search."""
    for _ in range(ATTEMPTS):
        found = searcher.search_many([base], questions, TOP, 0.0)
        if found[0].without is None:
            return found
        time.sleep(RETRY_S)
    raise SystemExit(found[0].without)


def _question(row: dict[str, Any]) -> Question:
    turns = [*(row.get("history") or [])[-HISTORY_TURNS:], row["question"]]
    return Question("\n".join(turns), frozenset(row.get("passage_ids") or [row["passage_id"]]))


def _ranked(found: list[Found], way: str, owner: dict[int, str], sources: dict[str, str]) -> list[Ranking]:
    """The documents of each question, best first, by one of the scores."""
    rankings = []
    for one in found:
        scored = [(getattr(candidate, way), candidate.chunk_id) for candidate in one.candidates]
        scored = [(score, id) for score, id in scored if score is not None and (score > 0 or way == "dense")]
        best = sorted(scored, key=lambda entry: -entry[0]) if way != "score" else scored
        rankings.append(list(dict.fromkeys(sources[owner[id]] for _, id in best)))
    return rankings


def _figures(rankings: list[Ranking], questions: list[Question]) -> Figures:
    recall, ndcg = [], []
    for ranking, question in zip(rankings, questions, strict=True):
        recall.append(bool(ranking) and ranking[0] in question.right)
        gain = sum(1 / math.log2(place + 2) for place, id in enumerate(ranking[:10]) if id in question.right)
        ndcg.append(gain / sum(1 / math.log2(place + 2) for place in range(min(10, len(question.right)))))
    return Figures(float(np.mean(recall)), float(np.mean(ndcg)))


def _refusal(found: list[Found], right: list[Found], unanswerable: list[Found]) -> str:
    """AUROC, share refused at 95 % passed, where that line lies; then the shares above 0.35."""

    def tops(some: list[Found]) -> np.ndarray:
        return np.array([one.candidates[0].score if one.candidates else 0.0 for one in some])

    above = f"{(tops(right) >= 0.35).mean():.2f}"
    if not unanswerable:
        return f"{'–':>6} {'–':>8} {np.quantile(tops(found), 1 - PASSED):6.3f}  {above:>5} /   –       "
    yes, no = tops(found), tops(unanswerable)
    auroc = np.mean([(yes > one).mean() + 0.5 * (yes == one).mean() for one in no])
    line = np.quantile(yes, 1 - PASSED)
    return f"{auroc:6.3f} {(no < line).mean():8.2f} {line:6.3f}  {above:>5} / {(no >= 0.35).mean():4.2f}     "


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


@contextmanager
def _milvus(data: Path) -> Iterator[str]:
    """A Milvus Lite server of our own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "milvus-lite"), "server", "--data-dir", str(data / "milvus")]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(uri, process)
        yield uri
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(uri: str, process: subprocess.Popen[bytes]) -> None:
    index = VectorIndex(uri)
    end = time.monotonic() + START_S
    while True:
        try:
            index.ping()
            break
        except SearchError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"The Milvus Lite server did not start: {error}") from error
            time.sleep(0.2)
    index.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
