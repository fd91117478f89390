"""The demo shop answers what people ask, in the language they ask in, and says so when it does not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, SQLModel, col, select

from admin.apply import apply_file
from admin.cli.ask import Answer, answer_here
from admin.store import bot_in_use
from bot.language import detect
from bot.settings import read_settings
from bot.tables import Document, new_id, utcnow
from bot.types import Incoming
from jobs import ingest
from jobs.services import Services

DEMO = Path(__file__).parents[2] / "examples" / "demo"
QUESTIONS = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text().splitlines()]
ASKED = [row for row in QUESTIONS if not row.get("must_refuse")]
UNKNOWN = [row for row in QUESTIONS if row.get("must_refuse")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, milvus_url: str, redis_url: str) -> Iterator[Services]:
    """The demo, applied and embedded."""
    folder = tmp_path_factory.mktemp("demo")
    services = Services(read_settings({"DATA_DIR": str(folder), "MILVUS_URI": milvus_url, "REDIS_URL": redis_url}))
    services.redis.flushdb()
    SQLModel.metadata.create_all(services.db.engine)
    apply_file(services, DEMO / "qingniao.yaml")
    ingest.work(services)
    yield services
    services.searcher.close()
    services.close()


def ask(shop: Services, question: str) -> Answer:
    with shop.db.read() as session:
        config = bot_in_use(session, "shop")
    incoming = Incoming("terminal", new_id(), "Ann", new_id(), question, utcnow(), history=())
    return answer_here(shop, config, incoming, lambda _: None)


def holds(answer: Answer, row: dict[str, Any]) -> bool:
    return all(part in answer.text for part in row["must_contain"])


def test_most_questions_find_their_answer(shop: Services):
    missed = [row["question"] for row in ASKED if not holds(ask(shop, row["question"]), row)]
    assert len(missed) <= len(ASKED) // 5, missed


def test_most_questions_without_an_answer_are_told_so(shop: Services):
    answered = [row["question"] for row in UNKNOWN if ask(shop, row["question"]).citations]
    assert len(answered) <= len(UNKNOWN) // 4, answered


@pytest.mark.parametrize("question", ["下单后多久发货？", "收到货不喜欢可以退吗？", "How much is delivery?"])
def test_a_suggested_question_is_answered_with_its_source_and_with_next_questions(shop: Services, question: str):
    answer = ask(shop, question)
    assert answer.finish == "stop"
    assert answer.citations
    assert "[1]" in answer.text
    assert len(answer.followups) == 3
    assert question not in answer.followups
    assert {detect(text) for text in (answer.text, *answer.followups)} == {detect(question)}


def test_every_curated_question_gets_its_own_answer(shop: Services):
    with shop.db.read() as session:
        asked = [(row.question, row.text) for row in pairs(session)]
    assert len(asked) == 30
    for question, text in asked:
        assert text in ask(shop, question).text, question


def pairs(session: Session) -> list[Document]:

    return list(session.exec(select(Document).where(col(Document.question).is_not(None))))


@pytest.mark.parametrize("question", ["转人工", "I want to talk to a human"])
def test_who_asks_for_a_person_is_told_how_to_reach_one(shop: Services, question: str):
    answer = ask(shop, question)
    assert answer.finish == "handoff"
    assert "0571-5550-0127" in answer.text


def test_a_forbidden_word_is_refused(shop: Services):
    assert ask(shop, "有没有刷单返利的群？").finish == "blocked"
