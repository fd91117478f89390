"""Documents of our own making: honest ones, and those that somebody might send to do harm."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence


def docx(*blocks: tuple[str, str], table: Sequence[Sequence[str]] = ()) -> bytes:
    """A Word document of (style, text) paragraphs, and a table at its end."""
    from docx import Document

    document = Document()
    for style, text in blocks:
        document.add_paragraph(text, style=style)
    if table:
        made = document.add_table(len(table), len(table[0]))
        for row, cells in zip(made.rows, table, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                cell.text = text
    saved = io.BytesIO()
    document.save(saved)
    return saved.getvalue()


def docx_with(part: str, content: bytes) -> bytes:
    """A Word document one part of which holds something else."""
    saved = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(docx(("Normal", "Hello")))) as good,
        zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as bad,
    ):
        for name in good.namelist():
            bad.writestr(name, content if name == part else good.read(name))
        if part not in good.namelist():
            bad.writestr(part, content)
    return saved.getvalue()


def pdf(*pages: Sequence[tuple[int, str]], drawn: bool = True, means: dict[str, str] | None = None) -> bytes:
    """A PDF with (letter size, line) lines on each page, in Latin letters; or, not drawn, with empty pages as a scan has.

    means: letters that the font says to stand for other text, given in hexadecimal UTF-16.
    """
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    if means:
        objects[2] = objects[2].replace(b" >>", b" /ToUnicode 4 0 R >>")
        chars = b"".join(b"<%02x> <%s>\n" % (ord(letter), text.encode()) for letter, text in means.items())
        cmap = b"1 begincodespacerange\n<00> <ff>\nendcodespacerange\n%d beginbfchar\n%sendbfchar\n" % (len(means), chars)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(cmap), cmap))
    kids = []
    for lines in pages:
        text, top = b"", 740
        for size, line in lines if drawn else ():
            safe = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            text += f"BT /F1 {size} Tf 72 {top} Td ({safe}) Tj ET\n".encode("latin-1")
            top -= size * 3
        packed = zlib.compress(text)
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed))
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    return _assembled(objects)


def _assembled(objects: list[bytes]) -> bytes:
    blob, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(blob))
        blob += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return blob + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
        len(objects) + 1,
        len(blob),
    )


def encrypted_pdf() -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter()
    writer.append(PdfReader(io.BytesIO(pdf([(12, "A secret")]))))
    writer.encrypt("password", algorithm="AES-256")
    saved = io.BytesIO()
    writer.write(saved)
    return saved.getvalue()


def encrypted_docx() -> bytes:
    """As much of one as it takes to know it: the wrapper that Office puts around a document with a password."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "EncryptedPackage".encode("utf-16-le") + bytes(1000)
