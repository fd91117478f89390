"""Text → what lexical search compares: overlapping pairs and single characters of scripts without spaces, and words.

Everything is folded first, so that full and half width, case, traditional and simplified Chinese find each other.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from importlib import resources

import numpy as np
from numpy.typing import NDArray

Terms = NDArray[np.uint64]

# Ranges written without spaces between words: CJK with extensions, kana, hangul, bopomofo; Thai, Lao, Burmese, Khmer.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007),
    (0x3040, 0x30FF), (0x3100, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF),
    (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip
_STARTS = np.array([low for low, _ in _UNSPACED], dtype=np.uint32)
_ENDS = np.array([high for _, high in _UNSPACED], dtype=np.uint32)
_WORD = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*")  # letters and digits apart: "iPhone15" is "iPhone 15"
LAST_SINGLE = (1 << 21) - 1  # keys up to here are single characters
_WORD_BIT = 1 << 63  # keeps words' hashes away from the characters' keys


def fold(text: str) -> str:
    """NFKC, lower case, simplified Chinese: the form in which texts are compared."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_simplified())


def terms(text: str) -> Terms:
    """The terms of a text, in no particular order, as often as they occur.

    A key is a single character's code point, a pair's two code points, or a word's hash, which holds for this process
    only: keys are never stored.
    """
    folded = fold(text)
    points = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    unspaced = is_unspaced(points)
    singles = points[unspaced].astype(np.uint64)
    pairs = (points[:-1].astype(np.uint64) << np.uint64(21)) | points[1:].astype(np.uint64)
    spaced = folded if not len(singles) else _without(folded, unspaced)
    words = np.array([_word_key(word) for word in _WORD.findall(spaced)], dtype=np.uint64)
    return np.concatenate((singles, pairs[unspaced[:-1] & unspaced[1:]], words))


def is_unspaced(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which code points belong to a script written without spaces."""
    place = np.searchsorted(_STARTS, points, side="right") - 1
    return (place >= 0) & (points <= _ENDS[place])


def mostly_latin(text: str) -> bool:
    """Whether a text is written mostly in words with spaces between them."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    unspaced = int(np.count_nonzero(is_unspaced(points)))
    letters = sum(map(str.isalpha, text)) - unspaced
    return letters > 3 * unspaced  # a word has some four letters where Chinese has one or two characters


def lines_to_index(parts: Iterable[str | None]) -> str:
    """What is indexed together for one passage: title, headings, question, text; without empty and repeated parts."""
    return "\n".join(dict.fromkeys(part.strip() for part in parts if part and part.strip()))


def _without(folded: str, unspaced: NDArray[np.bool_]) -> str:
    points = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).copy()
    points[unspaced] = 0x20
    return points.tobytes().decode("utf-32-le", "surrogatepass")


@functools.lru_cache(maxsize=20_000)
def _word_key(word: str) -> int:
    return hash(_stem(word)) & (_WORD_BIT - 1) | _WORD_BIT


def _stem(word: str) -> str:
    """An English plural without its s, so that `refunds` finds `refund`."""
    if len(word) > 3 and word.isascii() and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    return word


@functools.cache
def _simplified() -> dict[int, str]:
    """Traditional character → simplified. Source: OpenCC's TSCharacters.txt, the first choice of each line."""
    table: dict[int, str] = {}
    lines = (resources.files("opencc") / "dictionary" / "TSCharacters.txt").read_text("utf-8").splitlines()
    for line in lines:
        traditional, _, simplified = line.partition("\t")
        if len(traditional) == 1 and simplified.split():
            table[ord(traditional)] = simplified.split()[0]
    return table
