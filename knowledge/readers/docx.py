"""Word documents: paragraphs under their headings, lists, tables."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from knowledge.errors import DocumentError
from knowledge.split import Section

MAX_UNPACKED_BYTES = 200 * 1024 * 1024
MAX_PART_BYTES = 60 * 1024 * 1024  # of one XML part: parsed it takes some ten times as much
MAX_RATIO = 200  # unpacked to packed, of a part larger than RATIO_FROM_BYTES; honest XML reaches some 30
RATIO_FROM_BYTES = 2 * 1024 * 1024
MAX_PARTS = 10_000
_HEADING = re.compile(r"(?:heading|标题|標題)\s*([1-9])$", re.I)


def read(blob: bytes) -> Iterator[Section]:
    """The title, then blocks in the order of the document. Raises DocumentError: broken, or a zip bomb."""
    _check_archive(blob)
    from docx import Document
    from docx.opc.exceptions import PackageNotFoundError
    from lxml.etree import LxmlError

    try:
        document = Document(BytesIO(blob))
        yield from _sections(document)
    except (PackageNotFoundError, LxmlError, KeyError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise DocumentError("document.broken", kind="docx") from error


def _check_archive(blob: bytes) -> None:
    try:
        with zipfile.ZipFile(BytesIO(blob)) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES:
                raise DocumentError("document.bomb")
            for part in parts:
                _check_part(archive, part)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DocumentError("document.broken", kind="docx") from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise DocumentError("document.broken", kind="docx") from error


def _check_part(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    is_xml = part.filename.lower().endswith((".xml", ".rels"))
    if part.file_size > RATIO_FROM_BYTES and part.file_size > MAX_RATIO * max(1, part.compress_size):
        raise DocumentError("document.bomb")
    if not is_xml:
        return
    if part.file_size > MAX_PART_BYTES:
        raise DocumentError("document.bomb")
    with archive.open(part) as file:
        # Office documents have no document type: whoever declares one wants entities expanded or files read.
        if b"<!DOCTYPE" in file.read(4096).replace(b"\0", b"").upper():
            raise DocumentError("document.broken", kind="docx")


def _sections(document: Any) -> Iterator[Section]:
    from docx.table import Table

    title = (document.core_properties.title or "").strip()
    if title and title.lower() not in ("word document", "microsoft word"):
        yield Section(title[:500], kind="title")
    path: list[tuple[int, str]] = []
    for block in document.iter_inner_content():
        heading = tuple(words for _, words in path)
        if isinstance(block, Table):
            yield Section("\n".join(_rows(block)), heading, "table")
            continue
        text = block.text.strip()
        if not text:
            continue
        level = _level(block)
        if level is None:
            listed = block._p.pPr is not None and block._p.pPr.numPr is not None
            yield Section(f"- {text}" if listed else text, heading, "list" if listed else "text")
            continue
        if level == 0:
            yield Section(text[:500], kind="title")
        path = [part for part in path if part[0] < level] + [(level, text[:300])]
        yield Section(text, tuple(words for _, words in path), "heading")


def _level(paragraph: Any) -> int | None:
    """The heading's level, 0 for the title; none for what is no heading."""
    style = paragraph.style
    while style is not None:
        name = style.name or ""
        if name.lower() in ("title", "标题"):
            return 0
        if match := _HEADING.search(name):
            return int(match[1])
        style = style.base_style
    return None


def _rows(table: Any) -> Iterator[str]:
    """A line a row; a cell that spans several is said once."""
    for row in table.rows:
        cells, seen = [], set()
        for cell in row.cells:
            if id(cell._tc) not in seen:
                seen.add(id(cell._tc))
                nested = [" / ".join(_rows(inner)) for inner in cell.tables]
                cells.append(" ".join(" ".join([cell.text, *nested]).split()))
        if any(cells):
            yield " | ".join(cells)
