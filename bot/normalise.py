"""What people type, made fit to work with: composed, without invisible characters, bounded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

LIMIT_CHARS = 100_000
MARKS_IN_A_ROW = 10  # more than any writing system stacks; composing longer runs takes quadratic time

_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\u0085]")
_MARK = (
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u1ab0-\u1aff"
    "\u1dc0-\u1dff\u20d0-\u20f0\u3099\u309a\ufe20-\ufe2f]"
)
_MARKS = re.compile(f"({_MARK}{{{MARKS_IN_A_ROW}}}){_MARK}+")
# Controls except tab and line feed; zero-width and bidirectional controls; language tags (which may hide whole texts).
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff]"
)
_JOINERS = re.compile("[\u200c\u200d]")
_TAGS = re.compile("(\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{2,6}\U000e007f)|[\U000e0000-\U000e0fff]")


def mended(text: str) -> str:
    """text as it can be sent and stored anywhere: surrogate pairs joined, lone ones replaced by U+FFFD, NUL left out."""
    if text.isascii():
        return text.replace("\x00", "")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "")


def whole_characters(pieces: Iterator[str]) -> Iterator[str]:
    """The pieces of a stream, mended; a character whose halves come in two pieces comes with the second."""
    half = ""
    for piece in pieces:
        text = half + piece
        half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        yield mended(text[: len(text) - len(half)])  # an empty one too: it says that the stream is alive
    if half:
        yield mended(half)


def normalise(text: str) -> str:
    """text as NFC, trimmed, with plain line ends, at most LIMIT_CHARS long; empty when nothing visible is left.

    Invisible characters go, except joiners where they change what is seen (emoji sequences, Arabic and Indic letters).
    Lone surrogates become U+FFFD.
    """
    text = text[:LIMIT_CHARS].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = _TAGS.sub(lambda match: match[1] or "", text)
    text = _JOINERS.sub(lambda match: match[0] if _joins(text, match.start()) else "", text)
    text = unicodedata.normalize("NFC", _MARKS.sub(r"\1", text))
    return text[:LIMIT_CHARS].strip()


def _joins(text: str, at: int) -> bool:
    """Whether the joiner at this place stands between two characters that it may join."""
    if at == 0 or at + 1 >= len(text):
        return False
    before, after = text[at - 1], text[at + 1]
    if text[at] == "\u200d" and _is_pictograph(after) and (_is_pictograph(before) or before in "\ufe0f\u20e3"):
        return True
    return _is_joining_script(before) and _is_joining_script(after)


def _is_pictograph(char: str) -> bool:
    return "\U0001f000" <= char <= "\U0001faff" or "\u2190" <= char <= "\u2bff" or char in "\u3030\u303d\u00a9\u00ae"


def _is_joining_script(char: str) -> bool:
    """Arabic, Syriac and their kin; the scripts of India and Sri Lanka; Myanmar, Khmer, Mongolian."""
    return "\u0600" <= char <= "\u0dff" or "\u1000" <= char <= "\u109f" or "\u1780" <= char <= "\u18af"
