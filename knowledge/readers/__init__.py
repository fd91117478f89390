"""Documents of every type → sections. To add a type: a module with `read(blob)`, a line in READERS, a mark in `sniff`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import PurePath

from knowledge.errors import DocumentError
from knowledge.split import Section

MAX_BYTES = 50 * 1024 * 1024
SNIFFED_BYTES = 4096

# type → the module that reads it, imported when it is first needed
READERS = {
    "md": "knowledge.readers.markdown",
    "txt": "knowledge.readers.plain",
    "html": "knowledge.readers.web_page",
    "pdf": "knowledge.readers.pdf",
    "docx": "knowledge.readers.docx",
}
EXTENSIONS = {
    ".md": "md", ".markdown": "md", ".txt": "txt", ".text": "txt", ".log": "txt",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".pdf": "pdf", ".docx": "docx",
}  # fmt: skip
TEXTS = ("md", "txt", "html")
_MAGIC = (
    (b"%PDF-", "pdf"), (b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"\x1f\x8b", "gzip"), (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "rar"), (b"{\\rtf", "rtf"), (b"\x7fELF", "program"), (b"MZ\x90", "program"),
)  # fmt: skip


def read(name: str, blob: bytes) -> Iterator[Section]:
    """The sections of a document; one of kind `title` where the document names itself.

    name: the file's name or the address, for its extension. Raises DocumentError that says what is wrong with it.
    """
    kind = kind_of(name, blob)
    found = False
    for section in import_module(READERS[kind]).read(blob):
        found = found or bool(section.text.strip() and section.kind != "title")
        yield section
    if not found:
        raise DocumentError("document.no_text_layer" if kind == "pdf" else "document.empty")


def kind_of(name: str, blob: bytes) -> str:
    """Which of READERS reads this document, by its extension and its first bytes, which must not contradict each other.

    Raises DocumentError: empty, too large, unsupported, lying about its type, encrypted.
    """
    if len(blob) > MAX_BYTES:
        raise DocumentError("document.too_large", limit_mb=MAX_BYTES >> 20, size_mb=-(-len(blob) >> 20))
    if not blob.strip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe"):
        raise DocumentError("document.empty")
    suffix = PurePath(name).suffix.lower()
    claimed = EXTENSIONS.get(suffix)
    sniffed = sniff(blob)
    if sniffed == "encrypted":
        raise DocumentError("document.encrypted")
    if suffix and claimed is None:
        raise DocumentError("document.unsupported", kind=suffix)
    if sniffed in TEXTS:
        if claimed and claimed not in TEXTS:
            raise DocumentError("document.lying", claimed=claimed, real="text")
        return claimed or sniffed
    if claimed and claimed != sniffed:
        raise DocumentError("document.lying", claimed=claimed, real=sniffed)
    if sniffed not in READERS:
        raise DocumentError("document.unsupported", kind=sniffed)
    return sniffed


def sniff(blob: bytes) -> str:
    """The type by content: one of READERS, or a word for what it is instead, such as xlsx, png or binary."""
    head = blob[:SNIFFED_BYTES]
    for magic, kind in _MAGIC:
        if head.startswith(magic) or (kind == "pdf" and magic in head[:1024]):
            return _inside_zip(blob) if kind == "zip" else _inside_ole(blob) if kind == "ole" else kind
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(head):
        return "txt"
    if b"\0" in head or sum(byte < 9 or (13 < byte < 32 and byte != 27) for byte in head) > len(head) // 50:
        return "binary"
    lowered = head.lower()
    return "html" if any(tag in lowered for tag in (b"<!doctype html", b"<html", b"<body", b"<head>")) else "txt"


def _inside_zip(blob: bytes) -> str:
    try:
        with zipfile.ZipFile(BytesIO(blob)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "docx" if b"word/" in blob else "zip"  # cut off before its table of contents: the reader says so
    for name, kind in (("word/document.xml", "docx"), ("xl/workbook.xml", "xlsx"), ("ppt/presentation.xml", "pptx")):
        if name in names:
            return kind
    return "epub" if "META-INF/container.xml" in names else "zip"


def _inside_ole(blob: bytes) -> str:
    """Word of old, or a new one under a password, which is wrapped so. Source: MS-OFFCRYPTO, 2.3.4.4."""
    return "encrypted" if "EncryptedPackage".encode("utf-16-le") in blob else "doc"


def _looks_like_utf16(head: bytes) -> bool:
    """Without a mark: every other byte is nought in Latin text."""
    even, odd = head[::2], head[1::2]
    return min(even.count(0), odd.count(0)) == 0 and max(even.count(0), odd.count(0)) > len(head) // 5
