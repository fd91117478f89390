"""The command line beside a running system."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Installation, wait_for
from tests.waiting import free_port


@pytest.fixture(scope="module")
def system() -> Iterator[Installation]:
    """An installation of these tests' own: what others left behind is not the doctor's business here."""
    with tempfile.TemporaryDirectory(prefix="qn-") as folder:
        installation = Installation(free_port(), Path(folder)).start()
        yield installation
        installation.stop()


def test_a_question_takes_the_road_of_every_message(system: Installation) -> None:
    row = json.loads(system.flask("ask", "shop", "退款多久到账？", "--json").stdout)
    assert (row["by"], row["finish"], row["model"]) == ("system", "stop", "builtin")
    assert row["citations"] and {"moderate", "retrieve"} <= {step["step"] for step in row["steps"]}
    assert row["first_ms"] <= row["ms"]
    shown = system.flask("ask", "shop", "How long does a refund take?").stdout
    assert "[1]" in shown and "ms in all · model builtin" in shown
    assert "in this process" not in shown


def test_the_doctor_finds_nothing_to_mend_in_a_fresh_installation(system: Installation) -> None:
    def report() -> str:
        done = system.flask("doctor", "--json", check=False)
        return done.stdout if done.returncode == 0 else ""

    answer = json.loads(wait_for(report, 120, "the doctor to be content"))
    assert {"redis", "workers", "index", "embedding", "bots", "channels"} <= {check["part"] for check in answer["checks"]}
    assert answer["status"] in ("ok", "warn")  # a warning: the demo's vectors may still be on their way into the index


def test_an_export_of_the_demo_changes_nothing_when_applied(system: Installation, tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(system.flask("export").stdout, encoding="utf-8")
    assert system.flask("apply", str(tmp_path / "demo.yaml"), "--prune").stdout == "Nothing to change.\n"


def test_what_is_applied_answers_within_moments(system: Installation, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "knowledge: [{name: hours, faqs: [{question: 星期天几点开门？, answer: 星期天上午十一点开门。}]}]\n"
        "bots: [{name: sunday, knowledge: {bases: [hours]}}]\n",
        encoding="utf-8",
    )
    assert "1 document(s) queued" in system.flask("apply", str(tmp_path / "more.yaml")).stderr

    def is_answered() -> bool:
        row = json.loads(system.flask("ask", "sunday", "星期天几点开门？", "--json").stdout)
        return "十一点" in row["text"]

    wait_for(is_answered, 180, "the new answer")
    erased = system.flask("erase-user", "api.sunday", "terminal").stdout
    assert "Removed every trace of terminal on api.sunday" in erased
    demo = Path(__file__).parents[2] / "examples" / "demo" / "qingniao.yaml"
    pruned = system.flask("apply", str(demo), "--prune").stdout.splitlines()  # leave the system as it was
    assert pruned == ["- knowledge[hours]", "- bots[sunday]"]
