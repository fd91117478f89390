"""The rules that keep the house simple: who may import whom, and where each outside library is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ARROWS: dict[str, set[str]] = {
    "bot": set(),
    "channels": {"bot"},
    "knowledge": {"bot"},
    "jobs": {"bot", "channels", "knowledge"},
    "admin": {"bot", "channels", "knowledge", "jobs"},
}
NOT_IN_THE_CORE = {"flask", "rq", "redis", "pymilvus", "wechatpy", "telegram"}
ONLY_IN = {"openai": {"bot/llm.py"}, "pymilvus": {"knowledge/index.py"}}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_imports_only_from_those_it_may(package: str) -> None:
    assert modules(package)
    for path in modules(package):
        found = {name.split(".")[0] for name in imported(path)}
        turned = found & (ARROWS.keys() | {"app", "run", "tests", "bench"}) - ARROWS[package] - {package}
        assert not turned, f"{path.relative_to(ROOT)} imports {turned}"


def test_the_core_knows_no_web_no_queue_and_no_index() -> None:
    for path in modules("bot"):
        assert not {name.split(".")[0] for name in imported(path)} & NOT_IN_THE_CORE, path


@pytest.mark.parametrize("library", ONLY_IN)
def test_an_outside_library_is_imported_in_one_module(library: str) -> None:
    where = {
        path.relative_to(ROOT).as_posix()
        for package in ARROWS
        for path in modules(package)
        if library in {name.split(".")[0] for name in imported(path)}
    }
    assert where == ONLY_IN[library]


def test_every_dependency_says_why_it_is_here() -> None:
    for name in ("requirements.in", "requirements-dev.in"):
        for line in (ROOT / name).read_text().splitlines():
            if line.strip() and not line.startswith(("#", "-r")):
                assert " # " in line, f"{name}: {line} gives no reason"


def test_every_pin_is_exact() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert all("==" in line for line in (ROOT / name).read_text().splitlines() if line.strip()), name
