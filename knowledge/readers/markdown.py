"""Markdown: headings, paragraphs, lists, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

from knowledge.readers.decode import decode
from knowledge.split import Kind, Section

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.S)
_FRONT_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.M)
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.S)


def read(blob: bytes) -> Iterator[Section]:
    """Sections under their headings; the first heading of the first level is the title."""
    text = decode(blob)
    if front := _FRONT_MATTER.match(text):
        text = text[front.end() :]
        if title := _FRONT_TITLE.search(front[1]):
            yield Section(title[1], kind="title")
    yield from _sections(MarkdownIt("commonmark").enable("table").parse(text))


def _sections(tokens: list[Token]) -> Iterator[Section]:
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    cells: list[str] = []
    lists = tables = 0
    titled = False
    level = 0  # of the heading that we are in
    for token in tokens:
        match token.type:
            case "heading_open":
                level = int(token.tag[1])
            case "heading_close":
                level = 0
            case "bullet_list_open" | "ordered_list_open":
                lists += 1
            case "bullet_list_close" | "ordered_list_close":
                lists -= 1
                if not lists and not tables:
                    yield _section(lines, path, "list")
            case "table_open":
                yield _section(lines, path, "list")  # what stood before it, where it is inside a list
                tables += 1
            case "table_close":
                tables -= 1
                yield _section(lines, path, "table")
            case "tr_close":
                lines.append(" | ".join(cells))
                cells = []
            case "fence" | "code_block":
                yield _section(lines, path, "list")
                yield _section([token.content.rstrip("\n")], path, "code")
            case "html_block":
                yield _section([_TAG.sub(" ", token.content).strip()], path, "text")
            case "inline" if level:
                words = _words(token)
                if level == 1 and not titled:
                    titled = True
                    yield Section(words, kind="title")
                path = [part for part in path if part[0] < level] + [(level, words)]
                yield _section([words], path, "heading")
            case "inline" if tables:
                cells.append(_words(token).replace("\n", " "))
            case "inline" if lists:
                marker = "  " * (lists - 1) + "- "
                lines.append(marker + _words(token).replace("\n", " "))
            case "inline":
                yield _section([_words(token)], path, "text")


def _section(lines: list[str], path: list[tuple[int, str]], kind: Kind) -> Section:
    text = "\n".join(lines)
    lines.clear()
    return Section(text, tuple(words for _, words in path), kind)


def _words(token: Token) -> str:
    """The text without its markup: links and pictures by what they are called."""
    parts = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "image":
            parts.append(child.content)
        elif child.type == "html_inline" and child.content.lower().startswith("<br"):
            parts.append("\n")
    return "".join(parts).strip()
