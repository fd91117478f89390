"""PDF: the text layer in reading order, page by page."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from statistics import median
from typing import Any

from knowledge.errors import DocumentError
from knowledge.readers.radicals import repair_radicals
from knowledge.split import Section

MAX_PAGES = 3000
HEADING_RATIO = 1.18  # a line so much larger than the body's letters is a heading
_EDGE_PAGES = 4  # from so many pages on, lines that most pages repeat at their edges are headers and footers
_PAGE_NUMBER = re.compile(r"^\W*(?:第\s*)?\d+(?:\s*[/页頁of共-]+\s*\d*)*\W*$")
_SPACED = re.compile(r"(?<=[\u3400-\u9fff，。、；：！？（）《》]) +(?=[\u3400-\u9fff，。、；：！？（）《》])")


@dataclass(frozen=True)
class _Line:
    text: str
    size: float
    page: int
    top: float  # 0 at the top of the page to 1
    block: int


def read(blob: bytes) -> Iterator[Section]:
    """Blocks with their page numbers. A scan has none. Raises DocumentError: encrypted, broken."""
    from pdfminer.pdfdocument import PDFEncryptionError, PDFPasswordIncorrect
    from pdfminer.pdfexceptions import PDFException
    from pdfminer.psparser import PSException

    logging.getLogger("pdfminer").setLevel(logging.ERROR)
    try:
        lines = list(_lines(blob))
    except (PDFPasswordIncorrect, PDFEncryptionError) as error:
        raise DocumentError("document.encrypted") from error
    except (PDFException, PSException, *_BROKEN) as error:
        raise DocumentError("document.broken", kind="pdf") from error
    usual = _usual_size(lines)
    yield from _sections(_without_edges(lines, usual), usual)


# What pdfminer lets through from files that lie about their own structure.
_BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, RecursionError, OverflowError)


def _lines(blob: bytes) -> Iterator[_Line]:
    from pdfminer.high_level import extract_pages
    from pdfminer.layout import LAParams, LTTextBox, LTTextLine

    pages = extract_pages(BytesIO(blob), laparams=LAParams(boxes_flow=0.5, detect_vertical=False))
    for number, page in enumerate(islice(pages, MAX_PAGES), 1):
        for block, box in enumerate(item for item in page if isinstance(item, LTTextBox)):
            for line in box:
                text = repair_radicals(_SPACED.sub("", " ".join(line.get_text().split())))
                if isinstance(line, LTTextLine) and text:
                    top = 1 - line.y1 / max(1.0, page.height)
                    yield _Line(text, _letter_size(line), number, top, block)


def _letter_size(line: Any) -> float:
    from pdfminer.layout import LTChar

    sizes = [char.size for char in line if isinstance(char, LTChar)]
    return median(sizes) if sizes else 0.0


def _usual_size(lines: list[_Line]) -> float:
    """The size of most letters."""
    sizes = Counter[float]()
    for line in lines:
        sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0] or 1.0 if sizes else 1.0


def _without_edges(lines: list[_Line], usual: float) -> list[_Line]:
    """Without page numbers, and the headers and footers that most pages repeat."""
    pages = len({line.page for line in lines})
    edges = [line for line in lines if line.top < 0.1 or line.top > 0.9]
    repeated = Counter(text for text, _ in {(re.sub(r"\d+", "#", line.text), line.page) for line in edges})

    def is_edge(line: _Line) -> bool:
        if 0.1 <= line.top <= 0.9 or line.size > HEADING_RATIO * usual:
            return False
        often = pages >= _EDGE_PAGES and repeated[re.sub(r"\d+", "#", line.text)] > pages / 2
        return often or bool(_PAGE_NUMBER.match(line.text))

    return [line for line in lines if not is_edge(line)]


def _sections(lines: list[_Line], usual: float) -> Iterator[Section]:
    heading: tuple[str, ...] = ()
    paragraph: list[_Line] = []
    for line in lines:
        is_heading = line.size > HEADING_RATIO * usual and len(line.text) < 80
        if paragraph and (is_heading or (line.page, line.block) != (paragraph[-1].page, paragraph[-1].block)):
            yield Section(_paragraph(paragraph), heading, page=paragraph[0].page)
            paragraph = []
        if is_heading:
            heading = (line.text,)
            yield Section(line.text, heading, "heading", line.page)
        else:
            paragraph.append(line)
    if paragraph:
        yield Section(_paragraph(paragraph), heading, page=paragraph[0].page)


def _paragraph(lines: list[_Line]) -> str:
    """The lines of a block as running text: Chinese without spaces between, words that were hyphenated whole."""
    text = ""
    for line in lines:
        if text.endswith("-") and text[-2:-1].isalpha() and line.text[:1].islower():
            text = text[:-1] + line.text
        elif not text or text[-1] > "\u2e80" or line.text[0] > "\u2e80":
            text += line.text
        else:
            text += " " + line.text
    return text
