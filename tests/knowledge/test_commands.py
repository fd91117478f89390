"""`flask ingest` and `flask search`, against the whole product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.settings import read_settings
from jobs import ingest
from jobs.services import Services
from tests.conftest import ROOT, Installation
from tests.knowledge.conftest import House

BASE = "cli-handbook"
ROWS = [
    {"id": "row-1", "title": "退款", "text": "退款在三个工作日内原路退回。"},
    {"id": "row-2", "title": "发票", "text": "电子发票一个工作日内发到邮箱。"},
    {"id": 3, "title": "Opening hours", "text": "The shop is open from ten to nine."},
]


@pytest.fixture(scope="module")
def handbook(system: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `flask ingest` said when it added rows, a file and a broken file; the base is gone afterwards."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS))
    (folder / "returns.md").write_text("# 退货\n\n## 期限\n\n签收后七天内可以退货。\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    done = system.flask("ingest", BASE, str(folder), check=False)
    assert done.returncode == 1
    yield done.stdout + done.stderr
    services = Services(read_settings(system.environment()))
    ingest.delete_base(services, BASE)
    services.close()


def test_ingest_says_what_can_be_searched_and_what_failed(handbook: str) -> None:
    assert "4 document(s) can be searched." in handbook
    assert "broken.pdf: The file is damaged" in handbook


def test_search_keeps_the_ids_of_rows(system: Installation, handbook: str) -> None:
    found = json.loads(system.flask("search", BASE, "退款几天", "--json", "--top-k", "2").stdout)
    assert len(found["passages"]) == 2
    first = found["passages"][0]
    assert (first["document_id"], first["title"], first["text"]) == ("row-1", "退款", ROWS[0]["text"])
    assert (first["dense_rank"], first["lexical_rank"]) == (1, 1)
    assert found["without"] is None
    assert set(found["steps"]) == {"open", "lexical", "embed", "dense", "fuse", "read"}


def test_search_shows_scores_ranks_and_times(system: Installation, handbook: str) -> None:
    shown = system.flask("search", BASE, "退货期限是几天").stdout
    assert shown.startswith("1. 0.")
    assert "退货 › 期限" in shown
    assert "ms" in shown


def test_search_answers_a_file_of_questions(system: Installation, handbook: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    questions = [{"id": f"q{n}", "question": f"退款要几天到账？{n}"} for n in range(70)] + [
        {"id": 7, "question": "When do you open?"}
    ]
    path.write_text("\n".join(json.dumps(row) for row in questions))
    lines = [json.loads(line) for line in system.flask("search", BASE, "--file", str(path), "--top-k", "1").stdout.splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in questions]
    assert {line["passages"][0]["document_id"] for line in lines[:70]} == {"row-1"}
    assert lines[70]["passages"][0]["document_id"] == "3"
    assert all(set(line) == {"id", "passages", "ms"} for line in lines)
    assert set(lines[0]["passages"][0]) == {"document_id", "title", "score", "text"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("search", "nowhere", "退款"), "There is no knowledge base nowhere."),
        (("search", BASE), "Give either a question or --file."),
        (("ingest", BASE, "missing.md"), "There is no file missing.md."),
        (("ingest", "bad name", "README.md"), "cannot be the name of a knowledge base"),
        (("ingest", BASE, "ftp://example.com/x"), "not an http or https address"),
    ],
)
def test_mistakes_are_told_in_a_sentence(system: Installation, handbook: str, arguments: tuple[str, ...], told: str) -> None:
    done = system.flask(*arguments, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_bad_row_names_its_line(system: Installation, handbook: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "text": "好"}\n{"id": "b"}\n')
    done = system.flask("ingest", BASE, str(path), check=False)
    assert "Line 2 of" in done.stderr


def test_without_a_worker_ingest_says_so(house: House, tmp_path: Path) -> None:
    path = tmp_path / "returns.md"
    path.write_text("签收后七天内可以退货。")
    settings = house.settings
    env = {**os.environ, "DATA_DIR": str(settings.data_dir), "REDIS_URL": settings.redis_url, "MILVUS_URI": settings.milvus_uri}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "flask"), "ingest", "handbook", str(path)],
        cwd=ROOT, env=env | {"LANG": "C.UTF-8"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no worker is there to read them" in done.stderr
    house.work()  # what was stored is read as soon as there is one
    assert house.found("几天可以退货") == ["签收后七天内可以退货。"]
