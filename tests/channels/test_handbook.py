"""The handbook's pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from flask.testing import FlaskClient

from app import create_app
from bot.settings import read_settings
from channels.handbook import DOCS


@pytest.fixture
def reader(tmp_path) -> Iterator[FlaskClient]:
    yield create_app(read_settings({"DATA_DIR": str(tmp_path)})).test_client()


def test_the_front_page_of_the_handbook_leads_to_every_other_page(reader):
    page = reader.get("/docs/", follow_redirects=True)
    assert page.status_code == 200
    named = set(re.findall(r'href="/docs/([\w-]+\.md)', page.text))
    assert {path.name for path in DOCS.glob("*.md")} - {"index.md"} <= named


@pytest.mark.parametrize("name", sorted([path.name for path in DOCS.glob("*.md")] + ["README.md"]))
def test_links_within_the_handbook_lead_somewhere(reader, name):
    page = reader.get(f"/docs/{name}")
    assert page.status_code == 200
    assert "style=" not in page.text
    for target in set(re.findall(r'(?:href|src)="(/docs/[^"]*)"', page.text)):
        path, _, anchor = target.partition("#")
        there = reader.get(path, follow_redirects=True, buffered=True)
        assert there.status_code == 200, target
        assert not anchor or f'id="{unquote(anchor)}"' in there.text, target


def test_only_the_handbook_is_shown(reader):
    for name in ("../app.py", "%2e%2e/app.py", "nothing.md", "images/../index.md", "images/%2e%2e/%2e%2e/app.py"):
        page = reader.get(f"/docs/{name}", buffered=True)
        assert page.status_code in (301, 302, 308, 404), name
        assert "create_app" not in page.text
