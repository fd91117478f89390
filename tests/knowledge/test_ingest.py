"""Documents in, passages out: the whole way through rows, the built-in model and a real index."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bot.errors import SearchError
from bot.tables import Document, DocumentStatus
from jobs import ingest
from knowledge import ingest as steps
from knowledge.errors import explain_error
from knowledge.ingest import document_path
from knowledge.search import Searcher
from tests.knowledge import files
from tests.knowledge.conftest import House, base_of

RETURNS = "# 退货\n\n## 期限\n\n签收后七天内可以退货，商品须完好。\n\n## 退款\n\n退款在三个工作日内原路退回。\n".encode()
RETURNS_LATER = (
    "# 退货\n\n## 期限\n\n签收后三十天内可以退货，商品须完好。\n\n## 退款\n\n退款在三个工作日内原路退回。\n".encode()
)


@contextmanager
def page_site(texts: list[str]) -> Iterator[tuple[str, str]]:
    """A web page that says one text after the other; its address and its host."""
    saying = iter(texts)

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<html><body><p>{next(saying)}</p></body></html>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/page", "127.0.0.1"
        server.shutdown()
        thread.join()


def test_a_question_finds_the_passage_of_an_uploaded_document(any_house: House) -> None:
    document_id = ingest.add_file(any_house, "handbook", "returns.md", RETURNS)
    any_house.work()
    document = any_house.document(document_id)
    assert (document.status, document.title, document.error) == (DocumentStatus.READY, "退货", None)
    assert (document.done_chunks, document.total_chunks) == (2, 2)
    best = any_house.searcher.search(["handbook"], "多久能收到退款？")[0]
    assert best.text == "退款在三个工作日内原路退回。"
    assert (best.document_id, best.base, best.title, best.heading) == (document_id, "handbook", "退货", "退款")
    assert best.dense is not None
    assert best.lexical


def test_words_are_found_before_the_vectors_are_made(house: House) -> None:
    ingest.add_file(house, "handbook", "returns.md", RETURNS)
    shop = ingest.open_workshop(house)
    assert steps.read_one(shop) is not None
    assert steps.read_one(shop) is None
    found = house.searcher.explain(["handbook"], "退款几个工作日退回")
    assert found.passages[0].text == "退款在三个工作日内原路退回。"
    assert found.passages[0].dense is None


def test_a_replaced_document_keeps_what_stayed_the_same(house: House) -> None:
    first = ingest.add_file(house, "handbook", "returns.md", RETURNS)
    house.work()
    before = {chunk.text: (chunk.id, chunk.vector) for chunk in house.chunks()}
    assert ingest.add_file(house, "handbook", "returns.md", RETURNS_LATER) == first
    shop = ingest.open_workshop(house)
    steps.read_one(shop)
    kept = {chunk.text: chunk.vector for chunk in house.chunks()}
    assert kept["退款在三个工作日内原路退回。"] == before["退款在三个工作日内原路退回。"][1]
    assert kept["签收后三十天内可以退货，商品须完好。"] is None
    house.work()
    assert len(house.documents()) == 1
    assert "签收后三十天内可以退货，商品须完好。" in house.found("签收后几天内可以退货")
    assert "签收后七天内可以退货，商品须完好。" not in house.found("签收后几天内可以退货")
    assert shop.index.ids("builtin", 10_000) == {chunk.id for chunk in house.chunks()}


def test_the_same_content_again_costs_nothing(house: House) -> None:
    ingest.add_file(house, "handbook", "returns.md", RETURNS)
    ingest.add_faq(house, "handbook", "可以开发票吗？", "可以，下单时填写抬头。")
    house.work()
    revision, ids = base_of(house).revision, [chunk.id for chunk in house.chunks()]
    ingest.add_file(house, "handbook", "returns.md", RETURNS)
    ingest.add_faq(house, "handbook", "可以开发票吗？", "可以，下单时填写抬头。")
    assert {document.status for document in house.documents()} == {DocumentStatus.READY}
    ingest.reindex(house, [document.id for document in house.documents()])
    house.work()
    assert (base_of(house).revision, [chunk.id for chunk in house.chunks()]) == (revision, ids)
    assert {document.status for document in house.documents()} == {DocumentStatus.READY}


def test_a_deleted_document_leaves_rows_vectors_and_files(any_house: House) -> None:
    document_id = ingest.add_file(any_house, "handbook", "returns.md", RETURNS)
    kept_id = ingest.add_faq(any_house, "handbook", "可以开发票吗？", "可以，下单时填写抬头。")
    any_house.work()
    path = document_path(ingest.files_of(any_house.settings), any_house.document(document_id).content or "")
    assert path.exists()
    assert any_house.found("退款几个工作日退回")[0] == "退款在三个工作日内原路退回。"
    gone = [chunk.id or 0 for chunk in any_house.chunks(document_id)]
    assert ingest.delete_document(any_house, document_id)
    assert not ingest.delete_document(any_house, document_id)
    assert any_house.found("退款几个工作日退回") == ["可以，下单时填写抬头。"]
    assert not path.exists()
    shop = ingest.open_workshop(any_house)
    steps.forget_vectors(shop.index, "builtin", gone)  # what the worker does when the bell rings
    assert shop.index.ids("builtin", 10_000) == {chunk.id for chunk in any_house.chunks(kept_id)}
    shop.index.close()


def test_a_file_that_two_documents_share_stays_with_the_other(house: House) -> None:
    first = ingest.add_file(house, "handbook", "one.md", RETURNS)
    second = ingest.add_file(house, "handbook", "two.md", RETURNS)
    house.work()
    ingest.delete_document(house, first)
    assert document_path(ingest.files_of(house.settings), house.document(second).content or "").exists()
    ingest.reindex(house, [second])
    house.work()
    assert house.document(second).status == DocumentStatus.READY


def test_a_bad_file_says_so_and_the_others_go_on(house: House) -> None:
    names = {
        "empty.txt": b"",
        "lying.pdf": "这不是 PDF。".encode(),
        "table.xlsx": b"PK\x03\x04 whatever",
        "good.txt": "营业时间：早上九点到晚上九点。".encode(),
    }
    ids = {name: ingest.add_file(house, "handbook", name, blob) for name, blob in names.items()}
    house.work()
    told = {name: explain_error(house.document(id).error, "zh") for name, id in ids.items()}
    assert told["empty.txt"] == "文件是空的，没有可读的文字。"
    assert "pdf" in told["lying.pdf"]
    assert "暂不支持" in told["table.xlsx"]
    assert told["good.txt"] == ""
    assert "not supported" in explain_error(house.document(ids["table.xlsx"]).error, "en")
    assert house.found("几点关门") == ["营业时间：早上九点到晚上九点。"]


def test_a_document_that_nobody_foresaw_fails_alone(house: House) -> None:
    bad = ingest.add_file(house, "handbook", "bad.md", RETURNS)
    with house.db.write() as session:
        session.get_one(Document, bad).content = "no\0path"
    good = ingest.add_faq(house, "handbook", "可以开发票吗？", "可以，下单时填写抬头。")
    house.work()
    assert house.document(bad).status == DocumentStatus.FAILED
    assert "stopped the program" in explain_error(house.document(bad).error, "en")
    assert house.document(good).status == DocumentStatus.READY


def test_a_pdf_with_letters_that_no_database_takes_is_stored(any_house: House) -> None:
    blob = files.pdf([(11, "Refunds takex three days.")], means={"x": "0000"})
    document_id = ingest.add_file(any_house, "handbook", "odd.pdf", blob)
    any_house.work()
    assert any_house.document(document_id).status == DocumentStatus.READY
    assert [chunk.text for chunk in any_house.chunks()] == ["Refunds take three days."]


def test_the_bytes_of_a_replaced_file_go_unless_another_document_has_them(house: House) -> None:
    first = ingest.add_file(house, "handbook", "returns.md", RETURNS)
    other = ingest.add_file(house, "handbook", "other.md", RETURNS)
    path = document_path(ingest.files_of(house.settings), house.document(first).content or "")
    ingest.add_file(house, "handbook", "returns.md", RETURNS_LATER)
    assert path.exists()
    ingest.add_file(house, "handbook", "other.md", RETURNS_LATER)
    assert not path.exists()
    house.work()
    assert {house.document(id).status for id in (first, other)} == {DocumentStatus.READY}


def test_the_bytes_of_a_page_that_changed_go(house: House) -> None:
    with page_site(["退款三天到账。", "退款五天到账。"]) as (url, host):
        shop = replace(ingest.open_workshop(house), allowed_hosts=[host])
        document_id = ingest.add_url(house, "handbook", url)
        steps.read_one(shop)
        path = document_path(shop.files, house.document(document_id).content or "")
        assert path.exists()
        ingest.reindex(house, [document_id])
        steps.read_one(shop)
        assert not path.exists()
        assert [chunk.text for chunk in house.chunks()] == ["退款五天到账。"]


def test_two_who_save_the_same_bytes_at_once_both_find_them_whole(tmp_path: Path) -> None:
    blob, together = bytes(range(256)) * 4000, threading.Barrier(4)

    def save() -> bool:
        together.wait()
        steps.save_bytes(tmp_path, "ab" * 32, blob)
        return document_path(tmp_path, "ab" * 32).read_bytes() == blob

    with ThreadPoolExecutor(4) as pool:
        assert all(call.result() for call in [pool.submit(save) for _ in range(4)])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ab" * 32]


def test_a_document_that_failed_to_be_replaced_keeps_its_passages(house: House) -> None:
    document_id = ingest.add_file(house, "handbook", "returns.txt", "退款在三个工作日内退回。".encode())
    house.work()
    ingest.add_file(house, "handbook", "returns.txt", b"\x00\x01\x02 binary \x00\x03")
    house.work()
    assert house.document(document_id).status == DocumentStatus.FAILED
    assert house.found("退款") == ["退款在三个工作日内退回。"]


def test_rows_keep_their_ids_and_are_found_by_title_and_text(house: House) -> None:
    ingest.add_rows(house, "handbook", [("r1", "会员", "满一千元成为金卡会员。"), ("r2", "门店", "门店在人民路五号。")])
    house.work()
    best = house.searcher.search(["handbook"], "怎样成为会员")[0]
    assert house.document(best.document_id).source == "row:r1"


def test_a_question_and_its_answer_are_searched_together(house: House) -> None:
    ingest.add_faq(house, "handbook", "怎么修改收货地址？", "请在订单详情里点“修改”。")
    house.work()
    best = house.searcher.search(["handbook"], "收货地址写错了")[0]
    assert (best.question, best.text) == ("怎么修改收货地址？", "请在订单详情里点“修改”。")


def test_one_base_never_shows_anothers_passages(house: House) -> None:
    ingest.add_faq(house, "handbook", "退款多久？", "三天。")
    ingest.add_faq(house, "secrets", "退款多久？", "内部口径：十天。")
    house.work()
    assert house.found("退款多久") == ["三天。"]
    both = house.searcher.search(["handbook", "secrets"], "退款多久", min_score=0)
    assert {passage.base for passage in both} == {"handbook", "secrets"}
    assert house.searcher.search(["nothing"], "退款多久", min_score=0) == []
    assert house.searcher.search([], "退款多久", min_score=0) == []


def test_whoever_takes_over_leaves_neither_holes_nor_doubles(house: House) -> None:
    text = "\n\n".join(f"## 第{n}条\n\n" + f"这是第{n}条规定的内容，每条都不一样。" * 8 for n in range(24))
    ingest.add_file(house, "handbook", "rules.md", text.encode())
    ingest.add_file(house, "handbook", "returns.md", RETURNS)
    for stop_after in (0, 1, 1, 1):  # steps that a worker does before it is killed
        shop = ingest.open_workshop(house)
        steps.read_one(shop)
        for _ in range(stop_after):
            steps.embed_some(shop)
        shop.index.close()
    house.work()
    chunks = house.chunks()
    assert len(chunks) == 26
    assert all(chunk.vector for chunk in chunks)
    assert {document.status for document in house.documents()} == {DocumentStatus.READY}
    shop = ingest.open_workshop(house)
    assert shop.index.ids("builtin", 10_000) == {chunk.id for chunk in chunks}
    shop.index.close()


def test_a_lost_index_is_made_again_from_the_rows(house: House) -> None:
    ingest.add_file(house, "handbook", "returns.md", RETURNS)
    house.work()
    shop = ingest.open_workshop(house)
    shop.index.drop("builtin")
    assert house.searcher.search(["handbook"], "退款几天到账", min_score=0)  # the words and the rows' vectors go on
    shop.index.upsert("builtin", [(9_999, 1)], shop.embedders("builtin").passages(["left behind"]))
    assert ingest.mend_index(house) == {"builtin": (2, 1)}
    assert ingest.mend_index(house) == {}
    assert shop.index.ids("builtin", 10_000) == {chunk.id for chunk in house.chunks()}
    shop.index.close()


def test_an_index_with_the_vectors_of_other_rows_is_made_anew(house: House) -> None:
    ingest.add_file(house, "handbook", "returns.md", RETURNS)
    house.work()
    rows = [(chunk.id or 0, chunk.base_id) for chunk in house.chunks()]
    shop = ingest.open_workshop(house)
    right = shop.embedders("builtin").passages(["退款要多久"])
    before = shop.index.search("builtin", [rows[0][1]], right, 1)[0]
    shop.index.upsert("builtin", rows, shop.embedders("builtin").passages(["red", "blue"]))
    shop.index.upsert("another", rows, shop.embedders("builtin").passages(["red", "blue"]))
    assert ingest.mend_index(house) == {}  # by their ids all are there
    with house.db.write() as session:
        steps.mark_stale(session)
    house.redis.set(ingest.WHOLE, "1")
    ingest.resume_waiting(house)
    after = shop.index.search("builtin", [rows[0][1]], right, 1)[0]
    assert (after[0].tolist(), after[1].round(4).tolist()) == (before[0].tolist(), before[1].round(4).tolist())
    assert not shop.index.exists("another")
    with house.db.read() as session:
        assert not steps.is_stale(session)
    shop.index.close()


def test_without_an_index_documents_wait_and_words_are_searched(house: House) -> None:
    settings = house.settings
    elsewhere = House(type(settings)(**{**settings.__dict__, "milvus_uri": "http://127.0.0.1:1"}))
    ingest.add_file(elsewhere, "handbook", "returns.md", RETURNS)
    elsewhere.work()
    (document,) = elsewhere.documents()
    assert document.status == DocumentStatus.EMBEDDING
    assert "The vector index" in explain_error(document.error, "en")
    found = elsewhere.searcher.explain(["handbook"], "退款几个工作日退回")
    assert found.passages[0].text == "退款在三个工作日内原路退回。"
    assert found.without is None  # a small base needs no index
    with contextlib.closing(Searcher(elsewhere.db, elsewhere.settings, in_memory=0)) as large:
        for _ in range(3):
            found = large.explain(["handbook"], "退款几个工作日退回")
            assert found.passages[0].text == "退款在三个工作日内原路退回。"
            assert found.without is not None
    elsewhere.searcher.close()
    elsewhere.close()
    house.work()  # it has come back
    assert house.document(document.id).status == DocumentStatus.READY
    assert house.document(document.id).error is None


def test_a_base_whose_embedding_model_is_gone_says_so(house: House) -> None:
    with house.db.write() as session:
        ingest.base_named(session, "handbook", "nobody/embed")
    document_id = ingest.add_faq(house, "handbook", "退款多久？", "三天。")
    house.work()
    assert house.document(document_id).status == DocumentStatus.FAILED
    assert "nobody/embed" in explain_error(house.document(document_id).error, "zh")
    assert house.found("退款多久") == ["三天。"]


def test_a_lost_bell_is_rung_again_for_what_was_left(house: House) -> None:
    ingest.add_faq(house, "handbook", "退款多久？", "三天。")
    assert [job.func_name for job in house.heavy.jobs] == ["jobs.ingest.run"]
    house.redis.flushdb()
    ingest.resume_waiting(house)
    ingest.resume_waiting(house)
    assert [job.func_name for job in house.heavy.jobs] == ["jobs.ingest.run"]
    house.work()
    house.redis.flushdb()
    ingest.resume_waiting(house)
    assert house.heavy.jobs == []


def test_a_worker_waits_for_one_that_lives_and_replaces_one_that_died(house: House) -> None:
    import os
    import socket

    ingest.add_faq(house, "handbook", "退款多久？", "三天。")
    house.redis.set(ingest.LOCK, f"{socket.gethostname()} {os.getppid()}")
    house.work()
    assert house.documents()[0].status == DocumentStatus.WAITING
    house.redis.set(ingest.LOCK, f"{socket.gethostname()} 4194999")  # larger than any process id
    house.work()
    assert house.documents()[0].status == DocumentStatus.READY


def test_the_index_speaks_our_errors(house: House) -> None:
    from knowledge.index import VectorIndex

    index = VectorIndex("http://127.0.0.1:1")
    with pytest.raises(SearchError):
        index.ping()
