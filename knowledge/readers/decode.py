"""Bytes → text, whatever the encoding."""

from __future__ import annotations

import codecs
import re

from knowledge.errors import DocumentError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"""(?:charset\s*=|<\?xml[^>]*encoding\s*=)\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.I)
_GUESSES = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "cp1252"]
_SAMPLE_BYTES = 200_000


def decode(blob: bytes, declared: bool = False) -> str:
    """The text: by its byte order mark, else UTF-8 where it fits, else (declared) as its `charset=` says, else by its looks.

    Line ends become `\\n`; other control characters go. Raises DocumentError when nothing fits.
    """
    text = _decoded(blob, declared)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n")
    return re.sub(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufffe]", "", text)


def _decoded(blob: bytes, declared: bool) -> str:
    for bom, encoding in _BOMS:
        if blob.startswith(bom):
            return blob.decode(encoding, "replace")
    if b"\0" in blob[:4096]:
        even, odd = blob[:4096:2].count(0), blob[1:4096:2].count(0)
        return blob.decode("utf-16-be" if even > odd else "utf-16-le", "replace")
    try:
        return blob.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(blob) - 3:  # only the last character is cut off
            return blob.decode("utf-8", "ignore")
    if declared and (match := _DECLARED.search(blob[:4096])):
        named = match[1].decode("ascii").lower()
        try:  # pages that say GB2312 mean its superset, as browsers take it
            return blob.decode("gb18030" if named in ("gb2312", "gbk", "x-gbk") else named, "replace")
        except LookupError:
            pass  # an encoding that nobody knows: go by the looks
    return _guessed(blob)


def _guessed(blob: bytes) -> str:
    if _is_common_simplified(blob):
        return blob.decode("gb18030", "replace")
    from charset_normalizer import from_bytes

    best = from_bytes(blob[:_SAMPLE_BYTES], cp_isolation=_GUESSES).best()
    if best is None:
        raise DocumentError("document.undecodable")
    return blob.decode(best.encoding, "replace")


def _is_common_simplified(blob: bytes) -> bool:
    """Whether nearly every character is among the 3,755 that simplified Chinese uses most, or its punctuation.

    Short texts deceive statistics. Source: GB 2312, level 1 is rows 16 to 55, signs are rows 1 to 3.
    """
    try:
        text = blob[: _SAMPLE_BYTES // 2 * 2].decode("gb18030", "ignore" if len(blob) > _SAMPLE_BYTES else "strict")
    except UnicodeDecodeError:
        return False
    rows = [code[0] - 0xA0 for code in (char.encode("gb18030") for char in text if ord(char) > 127) if len(code) > 1]
    return bool(rows) and sum(16 <= row <= 55 or 1 <= row <= 3 for row in rows) > 0.95 * len(rows)
