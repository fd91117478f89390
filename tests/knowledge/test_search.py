"""Search as processes use it: many threads, languages, weak passages, long questions."""

from __future__ import annotations

import contextlib
import threading

import pytest

from bot.tables import Chunk
from jobs import ingest
from knowledge.search import MAX_QUESTION_CHARS, Searcher
from tests.knowledge.conftest import House

PAIRS = (
    ("退款多久到账？", "收到退货后三个工作日内原路退回。"),
    ("可以开发票吗？", "可以，在订单详情里填写抬头，一个工作日内发到邮箱。"),
    ("门店几点开门？", "每天早上十点到晚上九点。"),
    ("怎么成为会员？", "用手机号登记即可，没有年费。"),
    ("运费是多少？", "满九十九元包邮，不满收十元。"),
)


@pytest.fixture
def shop(house: House) -> House:
    for question, answer in PAIRS:
        ingest.add_faq(house, "handbook", question, answer)
    house.work()
    return house


def test_scores_ranks_and_times_are_explained(shop: House) -> None:
    found = shop.searcher.explain(["handbook"], "发票怎么开", top_k=2, min_score=0.0)
    assert found.without is None
    assert found.passages[0].question == "可以开发票吗？"
    assert len(found.passages) == 2
    first = found.candidates[0]
    assert (first.dense_rank, first.lexical_rank) == (1, 1)
    assert first.score == found.passages[0].score
    assert len(found.candidates) == len(PAIRS)
    assert [candidate.score for candidate in found.candidates] == sorted((c.score for c in found.candidates), reverse=True)
    assert set(found.ms) == {"open", "lexical", "embed", "dense", "fuse", "read"}


def test_the_default_line_passes_answers_and_stops_the_rest(shop: House) -> None:
    asked = {"退款什么时候到账": 0, "你们几点开门": 2, "怎么办会员": 3, "運費多少錢": 4, "開發票": 1}
    for question, number in asked.items():
        assert [passage.question for passage in shop.searcher.search(["handbook"], question)][:1] == [PAIRS[number][0]], (
            question
        )
    for question in ("今天天气怎么样", "Who won the world cup in 1998?", "帮我写一首关于春天的诗", "量子力学的基本假设是什么"):
        assert shop.searcher.search(["handbook"], question) == [], question


def test_a_question_in_another_language_finds_its_answer(shop: House) -> None:
    found = shop.searcher.search(["handbook"], "When will I get my refund?")
    assert found[0].question == "退款多久到账？"


def test_threads_share_one_searcher(shop: House) -> None:
    wrong: list[object] = []

    def ask(number: int) -> None:
        question, answer = PAIRS[number % len(PAIRS)]
        for turn in range(3):
            found = shop.searcher.search(["handbook"], f"{question}{turn}")
            if not found or found[0].text != answer:
                wrong.append((question, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_questions_at_once_find_what_each_finds_alone(shop: House) -> None:
    questions = [question for question, _ in PAIRS]
    together = shop.searcher.search_many(["handbook"], questions, 3, 0.0)
    alone = [shop.searcher.explain(["handbook"], question, 3, 0.0) for question in questions]
    assert [[p.chunk_id for p in one.passages] for one in together] == [[p.chunk_id for p in one.passages] for one in alone]
    assert shop.searcher.search_many(["handbook"], []) == []


@pytest.mark.parametrize("question", ["", " ", "\x00", "\ud83d", "？" * 50, "退" * 100_000, "\u202e\u200f", "a" * 5000])
def test_odd_questions_are_searched_without_harm(shop: House, question: str) -> None:
    found = shop.searcher.explain(["handbook"], question, min_score=0.0)
    assert len(found.passages) <= 5
    assert MAX_QUESTION_CHARS < 100_000


def test_a_passage_that_was_switched_off_is_not_found(shop: House) -> None:
    best = shop.searcher.search(["handbook"], "退款多久到账")[0]
    with shop.db.write() as session:
        session.get_one(Chunk, best.chunk_id).enabled = False
    assert best.text not in shop.found("退款多久到账")


def test_the_index_and_memory_find_the_same(shop: House) -> None:
    ingest.add_faq(shop, "other", "退款多久到账？", "别家的答案。")
    shop.work()
    with contextlib.closing(Searcher(shop.db, shop.settings, in_memory=0)) as indexed:
        for question in ("退款什么时候到账", "你们几点开门", "How do I become a member?", "今天天气怎么样"):
            one, other = (searcher.explain(["handbook"], question, 5, 0.0) for searcher in (indexed, shop.searcher))
            assert one.without is None
            assert [c.chunk_id for c in one.candidates] == [c.chunk_id for c in other.candidates]
            assert [c.score for c in one.candidates] == pytest.approx([c.score for c in other.candidates], abs=1e-3)
            assert {passage.base for passage in one.passages} == {"handbook"}


def test_threads_share_one_connection_to_the_index(shop: House) -> None:
    wrong: list[object] = []
    with contextlib.closing(Searcher(shop.db, shop.settings, in_memory=0)) as indexed:

        def ask(number: int) -> None:
            question, answer = PAIRS[number % len(PAIRS)]
            found = indexed.explain(["handbook"], question)
            if found.without or found.passages[0].text != answer:
                wrong.append((question, found))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
