"""The handbook: the files of docs/ as pages, so that they are at hand wherever the product runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, redirect, render_template, request, send_from_directory
from werkzeug.wrappers import Response as AnyResponse

from channels.http import locale_of

if TYPE_CHECKING:
    from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ABOVE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")  # pages that lie beside docs/, shown among them

bp = Blueprint("handbook", __name__, template_folder="templates")


@bp.get("/docs/")
def index() -> AnyResponse:
    return redirect("/docs/index.md")


@bp.get("/docs/<path:name>")
def page(name: str) -> Response:
    """A page of the handbook, or one of its pictures. 404 for anything else."""
    if name.startswith("images/"):
        return send_from_directory(DOCS / "images", name.removeprefix("images/"), max_age=300)
    path = _pages().get(name)
    if path is None:
        abort(404)
    title, body = _html(path.read_text(encoding="utf-8"))
    return Response(render_template("handbook.html", title=title, body=body, lang=locale_of(request)))


def _html(text: str) -> tuple[str, str]:
    """Title and body of a page."""
    from markdown_it import MarkdownIt  # few ask for a page: the web process starts without it

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    _prepare(tokens)
    title = next((tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"), "")
    return title, markdown.renderer.render(tokens, markdown.options, {})


def _pages() -> dict[str, Path]:
    pages = [*DOCS.glob("*.md"), *(ROOT / name for name in ABOVE)]
    return {path.name: path for path in pages if path.exists()}


def _prepare(tokens: Sequence[Token]) -> None:
    """Give headings the anchors that links name, lead links to our pages, and leave out inline styles."""
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[at + 1].content
            token.attrSet("id", re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-"))
        token.attrs.pop("style", None)
        if token.type == "link_open":
            _lead(token)
        if token.type == "image":
            token.attrSet("src", f"/docs/images/{PurePosixPath(str(token.attrGet('src'))).name}")
        _prepare(token.children or ())


def _lead(token: Token) -> None:
    target = str(token.attrGet("href"))
    if re.match(r"https?://|#|mailto:", target):
        return
    path, mark, anchor = target.partition("#")
    name = PurePosixPath(path).name
    if name in _pages():
        token.attrSet("href", f"/docs/{name}{mark}{anchor}")
    else:
        token.attrs.pop("href")  # a file of the source, which is not shown here
