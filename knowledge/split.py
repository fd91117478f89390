"""Sections → pieces small enough to embed and to show (pure).

By structure first (headings, paragraphs, list items, table rows with their header, lines of code), then by sentence, last by
force. Sizes are counted in units of about one Chinese character: `weight`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Kind = Literal["title", "heading", "text", "list", "table", "code"]

BUDGET = 300.0  # units: 300 Chinese characters or some 1,000 Latin ones, about 200 to 300 tokens of the model's 512
OVERLAP = 40.0  # units of whole sentences that two neighbours share
HEADINGS = " › "

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
_COSTLY = re.compile(r"[\d\W_]")
_SENTENCE_END = re.compile(r"(?:[。！？；…]+|[.!?;]+(?=\s))[\"'”’」』）)\]】》]*\s*|\n+")
_CLAUSE_END = re.compile(r"[，、,：:]\s*|\s+")


@dataclass(frozen=True)
class Section:
    """A block of a document as a reader found it. heading: the path of headings above it. page: counted from 1.

    A section of kind `title` names the document and is no passage; one of kind `heading` becomes a passage only where
    nothing stands under it, as its path holds it already. A table's text has a line a row, the header first, cells
    separated by ` | `.
    """

    text: str
    heading: tuple[str, ...] = ()
    kind: Kind = "text"
    page: int | None = None


@dataclass(frozen=True)
class Piece:
    """What becomes a passage."""

    text: str
    heading: str = ""
    page: int | None = None


@dataclass(frozen=True)
class _Atom:
    """What is not cut further. header: the table header that a piece which begins here must repeat."""

    text: str
    page: int | None
    header: str = ""
    may_repeat: bool = False

    @property
    def weight(self) -> float:
        return weight(self.text)


def split(sections: Iterable[Section], budget: float = BUDGET, overlap: float = OVERLAP) -> Iterator[Piece]:
    """Cut sections into pieces of at most about `budget` units; neighbours under one heading share up to `overlap`.

    Pieces never cross a heading. Nothing of the text is lost but white space at the cuts.
    """
    told = _without_told_headings(section for section in sections if section.kind != "title")
    for heading, group in groupby(told, key=lambda section: section.heading):
        atoms = [atom for section in group for atom in _atoms(section, budget)]
        for text, page in _packed(atoms, budget, overlap):
            yield Piece(text, HEADINGS.join(part for part in heading if part), page)


def _without_told_headings(sections: Iterable[Section]) -> Iterator[Section]:
    held: Section | None = None
    for section in sections:
        if held and section.heading[: len(held.heading)] != held.heading:
            yield held
        held = section if section.kind == "heading" else None
        if not held:
            yield section
    if held:
        yield held


def weight(text: str) -> float:
    """The size in units of one Chinese character; Latin letters count 0.28, digits and signs 0.5 (nearer to tokens)."""
    unspaced = len(_UNSPACED.findall(text))
    costly = len(_COSTLY.findall(text)) - text.count(" ") - text.count("\n")
    return unspaced + 0.5 * max(0, costly) + 0.28 * max(0, len(text) - unspaced - costly)


def sentences(text: str) -> list[str]:
    """The sentences with the white space behind them: joined they are the text."""
    return _cut(text, _SENTENCE_END)


def _packed(atoms: list[_Atom], budget: float, overlap: float) -> Iterator[tuple[str, int | None]]:
    total = sum(atom.weight for atom in atoms)
    even = total / max(1, math.ceil(total / budget))  # pieces of like size: a tail of ten characters helps nobody
    piece: list[_Atom] = []
    fresh = 0  # how many of the piece are not repeated from the one before
    for atom in atoms:
        size = sum(part.weight for part in piece)
        if fresh and (size + atom.weight > budget or size >= even):
            yield _joined(piece), piece[-fresh].page
            piece, fresh = _tail(piece, min(overlap, budget - atom.weight)), 0
        piece.append(atom)
        fresh += 1
    if fresh and (text := _joined(piece)):
        yield text, piece[-fresh].page


def _tail(piece: list[_Atom], limit: float) -> list[_Atom]:
    """The last whole sentences of a piece, within the limit."""
    kept: list[_Atom] = []
    for atom in reversed(piece):
        limit -= atom.weight
        if not atom.may_repeat or limit < 0:
            break
        kept.insert(0, atom)
    return kept


def _joined(piece: list[_Atom]) -> str:
    header = piece[0].header
    text = "".join(atom.text for atom in piece).strip()
    return f"{header}\n{text}" if header and not text.startswith(header) else text


def _atoms(section: Section, budget: float) -> Iterator[_Atom]:
    text = section.text.strip("\n") if section.kind == "code" else section.text.strip()
    if not text:
        return
    if section.kind == "table":
        header, _, _ = text.partition("\n")
        header = header if weight(header) < budget / 3 else ""
        for line in text.splitlines():
            for part in _small(line + "\n", budget - weight(header)):
                yield _Atom(part, section.page, header)
    elif section.kind in ("list", "code"):
        for line in text.splitlines():
            for part in _small(line + "\n", budget):
                yield _Atom(part, section.page)
    else:
        for sentence in sentences(text + "\n"):
            for part in _small(sentence, budget):
                yield _Atom(part, section.page, may_repeat=True)


def _small(text: str, budget: float) -> Iterator[str]:
    """A text that is too large even for a piece of its own, cut at clauses and, where there are none, by force."""
    if weight(text) <= budget:
        yield text
        return
    part = ""
    for clause in _cut(text, _CLAUSE_END):
        if part and weight(part) + weight(clause) > budget:
            yield part
            part = ""
        part += clause
        while weight(part) > budget:
            size = max(1, int(len(part) * budget / weight(part)))
            yield part[:size]
            part = part[size:]
    if part:
        yield part


def _cut(text: str, ends: re.Pattern[str]) -> list[str]:
    parts, start = [], 0
    for match in ends.finditer(text):
        parts.append(text[start : match.end()])
        start = match.end()
    if start < len(text):
        parts.append(text[start:])
    return parts
