"""HTML: the main text of a page under its headings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree, html

from knowledge.errors import DocumentError
from knowledge.readers.decode import decode
from knowledge.split import Kind, Section

_UNSEEN = ("script", "style", "noscript", "template", "svg", "math", "iframe", "object", "select", "button", "dialog")
_AROUND = ("nav", "footer", "aside", "form")  # of the page, not of its text
_BLOCKS = frozenset((
    "address", "article", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "summary",
    "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
))  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SPACE = re.compile(r"[^\S\n]+")
_MAIN_SHARE = 0.4  # <main> or <article> holds the text where it has this much of it


def read(blob: bytes) -> Iterator[Section]:
    """The title, then blocks. Scripts, navigation, forms and footers are left out. Raises DocumentError."""
    root = _parsed(decode(blob, declared=True))
    if root is None:
        return
    title = " ".join("".join(root.xpath("string(//title)")).split())
    if title:
        yield Section(title[:500], kind="title")
    for element in list(root.iter(*_UNSEEN, *_AROUND, "head", etree.Comment, etree.ProcessingInstruction)):
        if element.getparent() is not None:
            element.drop_tree()
    for element in root.xpath('//*[@hidden or @aria-hidden="true"]'):
        if element.getparent() is not None:
            element.drop_tree()
    yield from _Blocks().walk(_main(root))


def _parsed(text: str) -> html.HtmlElement | None:
    # Without the declaration: the text is decoded already, and lxml refuses one in a str.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    parser = html.HTMLParser(huge_tree=False, no_network=True, recover=True, encoding="utf-8")
    try:
        return html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        if "empty" in str(error).lower():
            return None
        if getattr(error, "code", None) == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from error
        raise DocumentError("document.broken", kind="html") from error


def _main(root: html.HtmlElement) -> html.HtmlElement:
    whole = len(" ".join(root.itertext()).split())
    size = sum(map(len, root.itertext()))
    for path in ("//main", '//*[@role="main"]', "//article"):
        found = root.xpath(path)
        if len(found) == 1 and whole and sum(map(len, found[0].itertext())) > _MAIN_SHARE * size:
            return found[0]
    return root


class _Blocks:
    """What is being gathered while the elements go by; not recursive, as pages may be nested without end."""

    def __init__(self) -> None:
        self.path: list[tuple[int, str]] = []
        self.words: list[str] = []
        self.rows: list[str] = []
        self.cells: list[str] = []
        self.tables = 0
        self.lists = 0
        self.pre = 0

    def walk(self, root: html.HtmlElement) -> Iterator[Section]:
        for event, element in etree.iterwalk(root, events=("start", "end")):
            tag = element.tag
            if event == "start":
                if tag in _BLOCKS and not self.tables:
                    yield from self.flush()
                self.open(tag)
                self.words.append(element.text or "")
            else:
                yield from self.close(tag)
                if element is not root:
                    self.words.append(element.tail or "")
        yield from self.flush()

    def open(self, tag: str) -> None:
        self.tables += tag == "table"
        self.lists += tag in ("ul", "ol")
        self.pre += tag == "pre"
        if tag == "br" or (self.tables and tag in _BLOCKS):
            self.words.append("\n")
        if tag == "img":
            self.words.append(" ")

    def close(self, tag: str) -> Iterator[Section]:
        if self.tables:
            if tag in ("td", "th"):
                self.cells.append(" ".join(self.text().split()))
            elif tag == "tr":
                if any(self.cells):
                    self.rows.append(" | ".join(self.cells))
                self.cells = []
            elif tag == "table":
                self.tables -= 1
                self.cells = []
                if not self.tables:
                    yield self.section("\n".join(self.rows), "table")
                    self.rows = []
            return
        if tag in _HEADINGS:
            if words := " ".join(self.text().split()):
                self.path = [part for part in self.path if part[0] < _HEADINGS[tag]] + [(_HEADINGS[tag], words)]
                yield self.section(words, "heading")
        elif tag in _BLOCKS:
            yield from self.flush()
        self.lists -= tag in ("ul", "ol")
        self.pre -= tag == "pre"

    def flush(self) -> Iterator[Section]:
        inside_code, inside_list = self.pre > 0, self.lists > 0
        text = self.text()
        if not inside_code:
            lines = [" ".join(line.split()) for line in text.split("\n")] if "\n" in text else [text]
            text = "\n".join(line for line in lines if line)
        if text.strip():
            kind: Kind = "code" if inside_code else "list" if inside_list else "text"
            yield self.section(f"- {text}" if kind == "list" else text, kind)

    def section(self, text: str, kind: Kind) -> Section:
        return Section(text, tuple(words for _, words in self.path), kind)

    def text(self) -> str:
        text = "".join(self.words)
        self.words = []
        return text if self.pre else _SPACE.sub(" ", text)
