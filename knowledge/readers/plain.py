"""Plain text: paragraphs."""

from __future__ import annotations

from collections.abc import Iterator

from knowledge.readers.decode import decode
from knowledge.split import Section


def read(blob: bytes) -> Iterator[Section]:
    """One section: the splitter cuts at its lines and sentences."""
    yield Section(decode(blob))
