"""The documents keep up with the code: links lead somewhere, every key, variable and route is described, the demo is sound."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from app import create_app
from bot import settings
from bot.config import Configuration
from bot.settings import read_settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
DEMO = ROOT / "examples" / "demo"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_every_key_of_the_configuration_is_described():
    described = (ROOT / "docs" / "configuration.md").read_text()
    for key in keys(Configuration):
        assert re.search(rf"`[\w.\[\]]*\b{key}\b[\w.\[\]]*`", described), key


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys(inner)


def test_every_environment_variable_is_described():
    described = (ROOT / "docs" / "environment.md").read_text()
    named = set(re.findall(r'environ(?:\.get\(|, )"([A-Z_]+)"', Path(settings.__file__).read_text()))
    assert {"PORT", "DATA_DIR", "REDIS_URL"} <= named
    assert not {name for name in named if f"`{name}`" not in described}


def test_every_route_for_programs_is_described(tmp_path):
    app = create_app(read_settings({"DATA_DIR": str(tmp_path)}))
    described = (ROOT / "docs" / "http-api.md").read_text()
    for rule in app.url_map.iter_rules():
        route = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        if rule.methods and rule.methods & {"GET", "POST"} and not route.startswith(("/admin", "/static")):
            assert re.search(rf"[` ]{re.escape(route)}[`, ]", described), route


def test_the_demo_is_a_sound_configuration():
    config = Configuration.model_validate(demo())
    (base,) = config.knowledge
    assert {document.path for document in base.documents} == {f"docs/{path.name}" for path in DEMO.glob("docs/*.md")}
    assert len(base.faqs) == len({faq.question for faq in base.faqs}) >= 30
    assert len(config.bots[0].suggested_questions) == 3


def demo() -> Any:
    return yaml.safe_load((DEMO / "qingniao.yaml").read_text())


@pytest.mark.parametrize("chinese", sorted(DEMO.glob("docs/*.zh.md")), ids=lambda page: page.name)
def test_the_demo_says_the_same_in_both_languages(chinese):
    english = chinese.with_name(chinese.name.replace(".zh.", ".en."))
    sections = [re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:] for page in (chinese, english)]
    assert len(sections[0]) == len(sections[1])
    for here, there in zip(*sections, strict=True):
        if "折" not in here:  # 95 折 is 5% off
            assert numbers(here) == numbers(there) | ONES, here


ONES = {"1"}  # "每公斤" and "per kilogram" may leave it out


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+", text.replace(",", ""))) | ONES


def test_what_the_demo_questions_expect_stands_in_its_documents():
    known = "".join(path.read_text() for path in DEMO.glob("docs/*.md")) + (DEMO / "qingniao.yaml").read_text()
    rows = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    assert {row["lang"] for row in rows} == {"zh", "zh-Hant", "en"}
    assert sum(row.get("must_refuse", False) for row in rows) == 8
    for row in rows:
        assert row.get("must_refuse") or row["must_contain"]
        assert all(part in known for part in row["must_contain"]), row["question"]
