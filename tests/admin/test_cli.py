"""The other commands: ask, moderate, user; and that every command fails in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlmodel import select

from admin.apply import apply_file
from admin.auth import verify
from admin.cli import COMMANDS
from admin.cli.common import locale
from bot.tables import User
from bot.texts import CATALOGUE, CLI
from jobs.services import Services
from tests.admin.conftest import Flask, Open
from tests.emulators.model import ModelEmulator

ROOT = Path(__file__).parents[2]
CONFIG = """
moderation:
  - {name: blocked, keywords: [赌博, bad word], action: block}
  - {name: masked, keywords: [傻瓜], action: mask}
bots:
  - {name: shop, moderation: {lists: [blocked, masked]}}
  - {name: free, moderation: {lists: [blocked], check: none}}
"""


@pytest.fixture
def shop(house: Services, tmp_path: Path) -> Services:
    (tmp_path / "shop.yaml").write_text(CONFIG, encoding="utf-8")
    apply_file(house, tmp_path / "shop.yaml")
    return house


# --- moderate --------------------------------------------------------------------------------------------------------


def test_a_verdict_names_words_and_where_they_stand(shop: Services, flask: Flask) -> None:
    row = json.loads(flask("moderate", "shop", "说 赌 博 和 Ｂａｄ  word", "--json").stdout)
    assert row["action"] == "block"
    assert [match["word"] for match in row["matches"]] == ["bad word"]
    text = "我爱赌博，傻瓜"
    row = json.loads(flask("moderate", "shop", text, "--json").stdout)
    assert row == {
        "action": "block",
        "matches": [{"word": "赌博", "start": 2, "end": 4}, {"word": "傻瓜", "start": 5, "end": 7}],
    }
    shown = flask("moderate", "shop", "傻瓜").stdout
    assert "mask:" in shown and "**" in shown
    assert flask("moderate", "free", text).stdout == "pass: no listed word was found.\n"


def test_a_file_gives_a_line_for_each_text(shop: Services, flask: Flask, tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text('你好\n\n赌博\u2028x\n{"id": "q7", "text": "傻瓜"}\n{not json\n{"id": 3}\n', encoding="utf-8")
    rows = [json.loads(line) for line in flask("moderate", "shop", "--file", path).stdout.splitlines()]
    assert [(row["id"], row["action"]) for row in rows] == [(1, "pass"), (3, "block"), ("q7", "mask"), (5, "pass"), (6, "pass")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("moderate", "shop"), "Give either a text or --file."),
        (("moderate", "shop", "x", "--file", "y"), "Give either a text or --file."),
        (("moderate", "nobody", "x"), "There is no bot nobody. There are: free, shop."),
        (("moderate", "shop", "--file", "/nowhere"), "/nowhere cannot be read (No such file or directory)."),
        (("ask", "nobody", "hello"), "There is no bot nobody. There are: free, shop."),
        (("ask", "shop", "  "), "Please type a question first."),
        (("user", "password", "nobody", "--password-stdin"), "There is no password on standard input."),
        (("user", "create", "Cy"), "There is no terminal to ask for the password."),
        (("export", "--bot", "nobody"), "There is no bot nobody."),
        (("restore", "/nowhere", "--yes"), "/nowhere could not be restored (No such file or directory); nothing was changed."),
    ],
)
def test_a_mistake_is_one_sentence_on_stderr(shop: Services, flask: Flask, arguments: tuple[str, ...], sentence: str) -> None:
    result = flask(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(sentence) and result.stderr.count("\n") == 1


# --- user ------------------------------------------------------------------------------------------------------------


def test_console_users_are_made_listed_and_given_new_passwords(house: Services, flask: Flask) -> None:
    assert "Make one with" in flask("user", "list").stderr
    assert flask("user", "create", "Cy", "--password-stdin", stdin="correct horse\n").stdout == "Made the user Cy.\n"
    assert verify(house.db, "Cy", "correct horse")
    taken = flask("user", "create", "Cy", "--password-stdin", stdin="correct horse\n")
    assert taken.exit_code == 1 and "There is a user Cy already" in taken.stderr
    with house.db.read() as session:
        before = session.exec(select(User.session_version)).one()
    flask("user", "password", "Cy", "--password-stdin", stdin="battery staple\n")
    assert verify(house.db, "Cy", "battery staple") and not verify(house.db, "Cy", "correct horse")
    with house.db.read() as session:
        assert session.exec(select(User.session_version)).one() != before  # other sessions end
    assert flask("user", "list").stdout.startswith("Cy\t20")
    assert "too short" in flask("user", "password", "Cy", "--password-stdin", stdin="short\n").stderr


# --- ask -------------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_here_while_nothing_runs(house: Services, flask: Flask, tmp_path: Path) -> None:
    with ModelEmulator(models=("m",)) as emulator:
        (tmp_path / "a.yaml").write_text(
            f"providers: [{{name: near, base_url: '{emulator.base_url}', api_key: {emulator.key}, models: [{{name: m}}]}}]\n"
            "bots: [{name: shop, model: near/m, followups: {enabled: false}}]\n"
        )
        apply_file(house, tmp_path / "a.yaml")
        emulator.will_say("Three days.")
        result = flask("ask", "shop", "How long does a refund take?", "--json")
        assert result.exit_code == 0, result.output
        row = json.loads(result.stdout)
        assert (row["text"], row["by"], row["finish"], row["model"]) == ("Three days.", "here", "stop", "near/m")
        assert "moderate" in [step["step"] for step in row["steps"]]
        emulator.will_say("Three days.")
        shown = flask("ask", "shop", "How long does a refund take?").stdout
        assert shown.startswith("Three days.\n") and "answered in this process" in shown


def test_what_a_model_says_does_not_steer_the_terminal(house: Services, flask: Flask, tmp_path: Path) -> None:
    with ModelEmulator(models=("m",)) as emulator:
        (tmp_path / "a.yaml").write_text(
            f"providers: [{{name: near, base_url: '{emulator.base_url}', api_key: {emulator.key}, models: [{{name: m}}]}}]\n"
            "bots: [{name: shop, model: near/m, followups: {enabled: false}}]\n"
        )
        apply_file(house, tmp_path / "a.yaml")
        emulator.will_say("Hi\x1b[2J\x9b31m there\r\nfriend")
        shown = flask("ask", "shop", "How long does a refund take?").stdout
        assert "\x1b" not in shown and "\x9b" not in shown and "\r" not in shown
        assert "friend" in shown


def test_an_answer_that_failed_says_why_and_exits_with_1(house: Services, flask: Flask, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "providers: [{name: far, base_url: 'http://127.0.0.1:9/v1', models: [{name: m}]}]\nbots: [{name: shop, model: far/m}]\n"
    )
    apply_file(house, tmp_path / "a.yaml")
    result = flask("ask", "shop", "Anybody there?", "--json")
    assert result.exit_code == 1
    row = json.loads(result.stdout)
    assert row["finish"] == "error" and row["error"]


# --- all -------------------------------------------------------------------------------------------------------------


def test_the_language_is_the_terminals() -> None:
    assert locale({"LANG": "zh_CN.UTF-8"}) == "zh"
    assert locale({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}) == "en"
    assert locale({}) == "en"


def test_every_sentence_of_the_command_line_is_in_the_catalogue_in_both_languages() -> None:
    for key, (zh, en) in CLI.items():
        assert CATALOGUE[key] == (zh, en)
        assert zh and en and zh != en, key


def test_every_command_has_help_and_a_name_of_its_own() -> None:
    names = [command.name for command in COMMANDS]
    assert len(set(names)) == len(names)
    for command in COMMANDS:
        assert CliRunner().invoke(command, ["--help"]).exit_code == 0


def test_a_database_that_was_never_prepared_is_a_sentence(open_house: Open, flask: Flask) -> None:
    bare = open_house("bare")
    (bare.settings.data_dir / "qingniao.db").unlink()
    for arguments in (("export",), ("user", "list"), ("ask", "shop", "x"), ("apply", "examples/ollama.yaml")):
        result = flask(*arguments, settings=bare.settings)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1 and "make run" in result.stderr, result.output


def test_a_wrong_setting_is_a_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"DATA_DIR": str(tmp_path), "PORT": "many"}
    program = str(Path(sys.executable).parent / "flask")
    done = subprocess.run([program, "user", "list"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "PORT=many is not a number from 1 to 65535. Mend it, or leave it out.\n"
