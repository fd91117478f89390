"""Every type of document, honest and hostile."""

from __future__ import annotations

import pytest

from knowledge import readers
from knowledge.errors import DocumentError
from knowledge.parse import parse, storable
from knowledge.readers import read
from knowledge.split import Section
from tests.knowledge import files

ZH = "退款在三个工作日内原路退回，请您耐心等候。"
ZH_HANT = "退款在三個工作日內原路退回，請您耐心等候。"
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE w:document [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><w:document>&c;</w:document>'
)
READS_FILES = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'


def told(name: str, blob: bytes) -> list[tuple[tuple[str, ...], str, str]]:
    return [(section.heading, section.kind, section.text) for section in read(name, blob)]


def text_of(name: str, blob: bytes) -> str:
    return "\n".join(section.text for section in read(name, blob))


def fault_of(name: str, blob: bytes) -> str:
    with pytest.raises(DocumentError) as error:
        list(read(name, blob))
    return error.value.key


def test_markdown_keeps_headings_lists_tables_and_code() -> None:
    text = "---\ntitle: 手册\n---\n# 店铺\n\n你好，[帮助](https://x.cn) ![图](a.png)\n"
    text += "\n## 价格\n\n| 品名 | 价 |\n|---|---|\n| 茶 | 9 |\n"
    text += "\n- 一\n- 二\n  - 三\n\n```\nx = 1\n```\n\n## 空\n"
    assert told("a.md", text.encode()) == [
        ((), "title", "手册"),
        ((), "title", "店铺"),
        (("店铺",), "heading", "店铺"),
        (("店铺",), "text", "你好，帮助 图"),
        (("店铺", "价格"), "heading", "价格"),
        (("店铺", "价格"), "list", ""),
        (("店铺", "价格"), "table", "品名 | 价\n茶 | 9"),
        (("店铺", "价格"), "list", "- 一\n- 二\n  - 三"),
        (("店铺", "价格"), "list", ""),
        (("店铺", "价格"), "code", "x = 1"),
        (("店铺", "空"), "heading", "空"),
    ]


def test_a_web_page_keeps_its_text_and_leaves_its_frame() -> None:
    page = """<html><head><title>退货 - 小店</title><style>p{}</style></head><body><nav>首页 购物车</nav>
      <main><h1>退货</h1><p>七天内<b>可以</b>退货。<br>须完好。</p><script>alert(1)</script>
      <table><tr><th>品名</th><th>期限</th></tr><tr><td>茶</td><td>七天</td></tr></table>
      <ul><li>一</li><li>二</li></ul><pre>a
  b</pre><p hidden>看不见</p></main><footer>版权</footer></body></html>"""
    sections = told("page.html", page.encode())
    assert sections[0] == ((), "title", "退货 - 小店")
    assert (("退货",), "text", "七天内可以退货。\n须完好。") in sections
    assert (("退货",), "table", "品名 | 期限\n茶 | 七天") in sections
    assert (("退货",), "list", "- 一") in sections
    assert (("退货",), "code", "a\n  b") in sections
    words = "".join(text for _, _, text in sections)
    assert not any(word in words for word in ("首页", "版权", "alert", "看不见"))


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    blob = files.docx(
        ("Heading 1", "退货"), ("Normal", "七天内可以退货。"), ("Heading 2", "空"), table=[["品名", "期限"], ["茶", "七天"]]
    )
    assert told("a.docx", blob) == [
        (("退货",), "heading", "退货"),
        (("退货",), "text", "七天内可以退货。"),
        (("退货", "空"), "heading", "空"),
        (("退货", "空"), "table", "品名 | 期限\n茶 | 七天"),
    ]


def test_a_pdf_keeps_pages_and_leaves_headers_and_page_numbers() -> None:
    pages = [[(9, "Bluebird Shop"), (18, f"Part {n}"), (11, f"Refunds of part {n} take three days.")] for n in range(1, 6)]
    sections = list(read("a.pdf", files.pdf(*pages)))
    assert [section.page for section in sections if section.kind == "text"] == [1, 2, 3, 4, 5]
    assert sections[1] == Section("Refunds of part 1 take three days.", ("Part 1",), "text", 1)
    assert not any("Bluebird" in section.text for section in sections)


def test_a_pdf_whose_font_stands_for_what_no_database_takes_is_read_without_it() -> None:
    (section,) = parse("a.pdf", files.pdf([(11, "Refunds takex three days.")], means={"x": "0000"}))
    assert section.text == "Refunds take three days."
    assert storable("a\0b\ud800c\udc00d\U0001f600") == "abcd\U0001f600"


def test_radicals_of_a_pdf_become_ordinary_characters() -> None:
    from knowledge.readers.radicals import repair_radicals

    assert repair_radicals("\u2ed3\u2f08\u2fa5约\u2f12") == "长人里约力"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (ZH, "utf-8"), (ZH, "utf-8-sig"), (ZH, "utf-16"), (ZH, "gb18030"), (ZH_HANT, "big5"), ("您好", "gb18030"),
        ("Hello there", "utf-16-le"), ("Hello there", "utf-16-be"), ("naïve café, costs £5", "cp1252"),
        ("返金は三営業日以内に行います。", "shift_jis"), (ZH, "utf-32"),
    ],
)  # fmt: skip
def test_any_encoding_is_read(text: str, encoding: str) -> None:
    assert text_of("a.txt", text.encode(encoding)) == text


@pytest.mark.parametrize("declared", ["gb2312", "gbk", "big5", "nonsense"])
def test_a_page_says_its_encoding(declared: str) -> None:
    encoding = "big5" if declared == "big5" else "gb18030"
    text = ZH_HANT if declared == "big5" else ZH
    page = f'<html><head><meta charset="{declared}"></head><body><p>{text}</p></body></html>'
    assert text_of("a.html", page.encode(encoding)) == text


def test_a_text_that_is_cut_in_a_character_is_read() -> None:
    assert text_of("a.txt", ZH.encode()[:-2]) == ZH[:-1]


@pytest.mark.parametrize(
    ("name", "blob", "fault"),
    [
        ("a.txt", b"", "document.empty"),
        ("a.txt", b" \n\t\r\n", "document.empty"),
        ("a.md", b"\xef\xbb\xbf", "document.empty"),
        ("a.html", b"<html><body><script>x()</script></body></html>", "document.empty"),
        ("a.docx", files.docx(), "document.empty"),
        ("a.pdf", files.pdf([(12, "x")], drawn=False), "document.no_text_layer"),
        ("a.pdf", files.encrypted_pdf(), "document.encrypted"),
        ("a.docx", files.encrypted_docx(), "document.encrypted"),
        ("a.pdf", b"%PDF-1.7\nnothing follows", "document.broken"),
        ("a.docx", files.docx(("Normal", "Hello"))[:2000], "document.broken"),
        ("a.docx", b"PK\x03\x04word/", "document.broken"),
        ("a.docx", files.docx_with("word/document.xml", b"<w:document"), "document.broken"),
        ("a.docx", files.docx_with("word/document.xml", LAUGHS), "document.broken"),
        ("a.docx", files.docx_with("word/styles.xml", READS_FILES), "document.broken"),
        ("a.docx", files.docx_with("word/document.xml", bytes(50_000_000)), "document.bomb"),
        ("a.docx", files.docx_with("word/media/x.bin", bytes(210_000_000)), "document.bomb"),
        ("a.pdf", "其实是文字".encode(), "document.lying"),
        ("a.txt", files.pdf([(12, "x")]), "document.lying"),
        ("a.md", b"\x89PNG\r\n\x1a\n", "document.lying"),
        ("a.docx", files.pdf([(12, "x")]), "document.lying"),
        ("a.html", b"\x7fELF\x00\x01", "document.lying"),
        ("a.pdf", files.docx(("Normal", "x")), "document.lying"),
        ("a.xlsx", b"PK\x03\x04", "document.unsupported"),
        ("a.csv", b"a,b", "document.unsupported"),
        ("a.exe", b"MZ\x90\x00", "document.unsupported"),
        ("noname", b"\x00\x01\x02\x03\x04", "document.unsupported"),
        ("noname", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document.unsupported"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(name: str, blob: bytes, fault: str) -> None:
    assert fault_of(name, blob) == fault


def test_a_file_that_is_too_large_is_refused_at_sight() -> None:
    with pytest.raises(DocumentError) as error:
        readers.kind_of("a.txt", b"a" * (100 << 20))
    assert str(error.value) == "The file is too large (100 MB; at most 50 MB). Split it and upload the parts."


def test_a_file_without_an_extension_is_known_by_its_content() -> None:
    assert readers.kind_of("page", b"<!DOCTYPE html><html>") == "html"
    assert readers.kind_of("page", ZH.encode()) == "txt"
    assert readers.kind_of("page", files.pdf([(12, "x")])) == "pdf"


@pytest.mark.parametrize("name", ["../../etc/passwd.txt", "-rf.txt", "a b;rm.txt", "…/文件.txt"])
def test_a_document_is_read_in_a_process_of_its_own_whatever_its_name(name: str) -> None:
    assert parse(name, ZH.encode()) == [Section(ZH)]


def test_a_page_nested_without_end_ends() -> None:
    assert "deep" in text_of("a.html", b"<html>" + b"<div>" * 200 + b"deep")
    assert fault_of("a.html", b"<html>" + b"<div>" * 100_000 + b"deep") == "document.empty"


def test_reading_ends_when_its_time_is_over() -> None:
    beats: list[int] = []
    with pytest.raises(DocumentError) as error:
        parse("a.md", b"# x\n" * 400_000, lambda: beats.append(1), timeout_s=0.2)
    assert error.value.key == "document.timeout"


def test_reading_ends_when_it_takes_too_much_memory() -> None:
    with pytest.raises(DocumentError) as error:
        parse("a.html", b"<html>" + b"<p>x</p>" * 1_000_000, memory_bytes=200 << 20)
    assert error.value.key in ("document.memory", "document.died")
