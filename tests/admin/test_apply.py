"""`flask apply` and `flask export`: the configuration file and the rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import func, select

from admin.apply import apply_file
from admin.changes import changes, write
from admin.configuration import Wanted, read_configuration
from admin.doctor import examine
from admin.export import Snapshot, snapshot, to_yaml
from admin.migrate import migrate
from admin.store import channel_secrets, save_channel
from admin.yaml_file import read_yaml
from bot.config import BotConfig, ChannelConfig, Configuration
from bot.errors import ConfigError
from bot.secrets import decrypt
from bot.tables import Bot, BotVersion, Channel, Document, KeywordList, KnowledgeBase, Model, Provider
from jobs.ingest import put_file, put_row
from jobs.services import Services
from tests.admin.conftest import Flask, Open

SHOP = """
version: 1
providers:
  - name: main
    base_url: https://api.example.com/v1/
    api_key: env:MAIN_API_KEY
    models:
      - {name: chat-large, kind: chat, context: 128000, price_in: 2.0, price_out: 8.0}
      - {name: embed-large, kind: embedding, dim: 1024}
  - {name: other, base_url: http://127.0.0.1:11434/v1, api_key: a-secret-written-out-9876}
knowledge:
  - {name: handbook}
moderation:
  - {name: house-rules, keywords: [词一, word two, 词一], action: mask}
bots:
  - name: shop
    title: 小店客服
    model: main/chat-large
    temperature: 1
    prompt: |
      You are "the shop": {{ now }}
        \\ 两格缩进

      end
    opening: 您好
    suggested_questions: ["退款多久到账？", "no"]
    knowledge: {bases: [handbook], top_k: 3, when_empty: refuse}
    moderation: {lists: [house-rules], check: input}
channels:
  - {name: shop-web, kind: web, bot: shop, allowed_origins: ["https://shop.example"]}
"""

Write = Callable[..., Path]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a configuration file beside others of the test; MAIN_API_KEY is set."""
    monkeypatch.setenv("MAIN_API_KEY", "sk-main-0123456789")

    def write(text: str = SHOP, name: str = "shop.yaml") -> Path:
        path = tmp_path / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write


def problems(path: Path, prune: bool = False) -> list[str]:
    """What is wrong with a file on an empty installation, without the file's own name."""
    with pytest.raises(ConfigError) as refused:
        read_configuration(path, Snapshot(Configuration(), {}, {}, {}), prune)
    return [line.removeprefix(f"{path}:") for line in str(refused.value).splitlines()]


def exported(house: Services) -> str:
    with house.db.read() as session:
        taken = snapshot(session, house.settings)
    return to_yaml(taken.config, taken.others)


# --- applying --------------------------------------------------------------------------------------------------------


def test_a_file_becomes_rows_and_the_bot_is_published(house: Services, shop: Write) -> None:
    apply_file(house, shop())
    with house.db.read() as session:
        provider = session.exec(select(Provider).where(Provider.name == "main")).one()
        assert decrypt(provider.api_key or "", house.settings.secret_key) == "sk-main-0123456789"
        assert provider.api_key_source == "env:MAIN_API_KEY"
        assert session.exec(select(Model.context).where(Model.name == "chat-large")).one() == 128000
        assert session.exec(select(KeywordList.keywords)).one() == ["词一", "word two"]
        bot = session.exec(select(Bot)).one()
        version = session.get(BotVersion, bot.published_version_id)
        assert version is not None
        assert BotConfig.model_validate(version.config).prompt.startswith('You are "the shop": {{ now }}\n  \\ 两')
        assert session.exec(select(Channel.config)).one()["allowed_origins"] == ["https://shop.example"]


def test_the_same_file_again_changes_nothing(flask: Flask, shop: Write, house: Services) -> None:
    assert flask("apply", shop()).exit_code == 0
    with house.db.read() as session:
        before = session.exec(select(Provider.api_key)).all()
    again = flask("apply", shop())
    assert again.stdout == "Nothing to change.\n"
    with house.db.read() as session:
        assert session.exec(select(func.count()).select_from(BotVersion)).one() == 1
        assert session.exec(select(Provider.api_key)).all() == before  # not even encrypted anew


def test_the_diff_has_a_line_for_each_changed_key_and_no_secret(flask: Flask, shop: Write) -> None:
    first = flask("apply", shop())
    assert "+ bots[shop].title: 小店客服" in first.stdout
    assert "+ providers[main].api_key: env:MAIN_API_KEY" in first.stdout
    changed = SHOP.replace("a-secret-written-out-9876", "another-secret-5432").replace("top_k: 3", "top_k: 4")
    changed = changed.replace("context: 128000, ", "").replace("    opening: 您好\n", "")
    second = flask("apply", shop(changed))
    assert second.stdout.splitlines() == [
        "~ providers[main].models[chat-large].context: 128000 → 32000",
        "~ providers[other].api_key: •••• (changed)",
        '~ bots[shop].opening: 您好 → ""',
        "~ bots[shop].knowledge.top_k: 3 → 4",
    ]
    for output in (first.output, second.output):
        assert "written-out" not in output and "another-secret" not in output and "sk-main" not in output


def test_a_dry_run_says_what_would_change_and_changes_nothing(flask: Flask, shop: Write, house: Services) -> None:
    result = flask("apply", shop(), "--dry-run")
    assert "+ bots[shop]" in result.stdout
    with house.db.read() as session:
        assert session.exec(select(func.count()).select_from(Provider)).one() == 0


def test_what_a_file_does_not_name_stays_unless_it_is_pruned(flask: Flask, shop: Write, house: Services) -> None:
    flask("apply", shop())
    alone = shop("bots: [{name: other-bot}]\n", "alone.yaml")
    assert flask("apply", alone).stdout.splitlines()[0] == "+ bots[other-bot]"
    pruned = flask("apply", alone, "--prune").stdout.splitlines()
    assert pruned == [
        "- providers[main]",
        "- providers[other]",
        "- knowledge[handbook]",
        "- moderation[house-rules]",
        "- bots[shop]",
        "- channels[shop-web]",
    ]
    assert flask("apply", alone, "--prune").stdout == "Nothing to change.\n"
    with house.db.read() as session:
        assert session.exec(select(Bot.name)).all() == ["other-bot"]


def test_models_that_the_file_leaves_out_stay_unless_pruned(flask: Flask, shop: Write, house: Services) -> None:
    flask("apply", shop())
    fewer = SHOP.replace("      - {name: embed-large, kind: embedding, dim: 1024}\n", "").replace(
        "price_in: 2.0", "price_in: 3.0"
    )
    flask("apply", shop(fewer))
    with house.db.read() as session:
        assert set(session.exec(select(Model.name))) == {"chat-large", "embed-large"}
    assert flask("apply", shop(fewer), "--prune").stdout == "- providers[main].models[embed-large]\n"
    with house.db.read() as session:
        assert set(session.exec(select(Model.name))) == {"chat-large"}


def test_a_key_that_is_left_out_is_its_default_and_a_secret_left_out_goes(flask: Flask, shop: Write, house: Services) -> None:
    flask("apply", shop())
    result = flask("apply", shop(SHOP.replace("    api_key: env:MAIN_API_KEY\n", "").replace("    temperature: 1\n", "")))
    assert result.stdout.splitlines() == ["~ bots[shop].temperature: 1.0 → 0.3", "- providers[main].api_key: env:MAIN_API_KEY"]
    with house.db.read() as session:
        assert session.exec(select(Provider.api_key).where(Provider.name == "main")).one() is None


def test_a_draft_that_waits_in_the_console_outlives_an_apply_that_changes_nothing(house: Services, shop: Write) -> None:
    apply_file(house, shop())
    with house.db.write() as session:
        bot = session.exec(select(Bot)).one()
        bot.draft = bot.draft | {"title": "not yet published"}
        session.add(bot)
    assert apply_file(house, shop()).lines == ()
    with house.db.read() as session:
        assert session.exec(select(Bot)).one().draft["title"] == "not yet published"


def test_a_changed_bot_becomes_a_new_version(house: Services, shop: Write) -> None:
    apply_file(house, shop())
    apply_file(house, shop(SHOP.replace("小店客服", "大店客服")), by="Cy")
    with house.db.read() as session:
        versions = session.exec(select(BotVersion).order_by(BotVersion.number)).all()  # type: ignore[arg-type]
        assert [(version.number, version.config["title"]) for version in versions] == [(1, "小店客服"), (2, "大店客服")]
        assert session.exec(select(Bot.published_version_id)).one() == versions[1].id
        assert versions[1].created_by == "Cy"


def test_nothing_at_all_is_changed_by_a_file_with_one_mistake(flask: Flask, shop: Write, house: Services) -> None:
    result = flask("apply", shop(SHOP.replace("bot: shop,", "bot: shpo,")))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.endswith("shop.yaml:30: channels[shop-web].bot: there is no shpo. Did you mean shop?\n")
    with house.db.read() as session:
        assert session.exec(select(func.count()).select_from(Provider)).one() == 0


def test_names_that_are_rows_already_may_be_referred_to(house: Services, shop: Write) -> None:
    apply_file(house, shop())
    assert apply_file(house, shop("channels: [{name: second, kind: web, bot: shop}]")).lines[0] == "+ channels[second]"
    with pytest.raises(ConfigError, match="there is no shop"):
        apply_file(house, shop("channels: [{name: second, kind: web, bot: shop}]"), prune=True)


def test_keywords_may_stand_in_a_file_beside_the_configuration(house: Services, shop: Write, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("一\n\n two \n一\n", encoding="utf-8")
    path = shop("moderation: [{name: words, keywords_file: words.txt}]")
    apply_file(house, path)
    assert apply_file(house, path).lines == ()
    with house.db.read() as session:
        assert session.exec(select(KeywordList.keywords)).one() == ["一", "two"]


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_may_come_from_a_file_beside_the_configuration(house: Services, shop: Write, tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("from-a-file-123\n")
    apply_file(house, shop("providers: [{name: main, base_url: https://a.example, api_key: 'file:key.txt'}]"))
    with house.db.read() as session:
        row = session.exec(select(Provider)).one()
        assert decrypt(row.api_key or "", house.settings.secret_key) == "from-a-file-123"
    assert f"api_key: file:{tmp_path / 'key.txt'}" in exported(house)


def test_an_export_applies_without_its_variables_where_the_secrets_are_stored(
    house: Services, open_house: Open, shop: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_file(house, shop())
    monkeypatch.delenv("MAIN_API_KEY")
    copy = shop(exported(house), "copy.yaml")
    assert "written-out" not in copy.read_text() and "env:OTHER_API_KEY" in copy.read_text()
    assert apply_file(house, copy).lines == ()
    assert apply_file(house, copy, prune=True).lines == ()
    with pytest.raises(ConfigError, match=r"MAIN_API_KEY is empty[\s\S]*OTHER_API_KEY is empty"):
        apply_file(open_house("elsewhere"), copy)


def test_a_variable_with_another_value_changes_the_secret(
    house: Services, shop: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_file(house, shop())
    copy = shop(exported(house), "copy.yaml")
    monkeypatch.setenv("OTHER_API_KEY", "a-secret-written-out-9876")
    assert apply_file(house, copy).lines == ()  # the made-up variable holds the very secret
    monkeypatch.setenv("OTHER_API_KEY", "a-new-one")
    assert apply_file(house, copy).lines == ("~ providers[other].api_key: •••• → env:OTHER_API_KEY",)
    assert apply_file(house, copy).lines == ()


def test_a_kept_secret_survives_a_change_beside_it(house: Services, shop: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    apply_file(house, shop())
    monkeypatch.delenv("MAIN_API_KEY")
    apply_file(house, shop(exported(house).replace("context: 128000", "context: 64000"), "copy.yaml"))
    with house.db.read() as session:
        row = session.exec(select(Provider).where(Provider.name == "main")).one()
        assert decrypt(row.api_key or "", house.settings.secret_key) == "sk-main-0123456789"
        assert row.api_key_source == "env:MAIN_API_KEY"
        assert channel_secrets(session.exec(select(Channel)).one(), house.settings) == {}


# --- documents -------------------------------------------------------------------------------------------------------

HANDBOOK = """
knowledge:
  - name: handbook
    documents: [{path: docs/returns.md}, {url: https://example.com/help}]
    faqs:
      - {question: " 退款多久到账？ ", answer: 七个工作日内原路退回。}
      - question: 几点开门？
        answer: |
          十点。
"""


@pytest.fixture
def handbook(shop: Write, tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "returns.md").write_text("# Returns\n\nSeven days.\n")
    return shop(HANDBOOK, "handbook.yaml")


def documents(house: Services) -> dict[str, Document]:
    with house.db.read() as session:
        return {row.source: row for row in session.exec(select(Document))}


def test_documents_are_queued_once_and_cost_nothing_when_unchanged(house: Services, handbook: Path, tmp_path: Path) -> None:
    first = apply_file(house, handbook)
    assert (first.queued, first.rung, len(house.heavy)) == (4, True, 1)
    path = tmp_path / "docs" / "returns.md"
    assert set(documents(house)) == {f"path:{path}", "url:https://example.com/help", "faq:退款多久到账？", "faq:几点开门？"}
    again = apply_file(house, handbook)
    assert (again.lines, again.queued) == ((), 0)
    path.write_text("# Returns\n\nFourteen days.\n")
    changed = apply_file(house, handbook)
    assert (changed.lines, changed.queued) == ((f"~ knowledge[handbook].documents[{path}] (content changed)",), 1)
    assert apply_file(house, handbook).lines == ()


def test_an_answer_that_changes_is_a_line_and_is_read_again(house: Services, handbook: Path) -> None:
    apply_file(house, handbook)
    handbook.write_text(handbook.read_text().replace("七个工作日", "三个工作日"))
    assert apply_file(house, handbook).lines == (
        "~ knowledge[handbook].faqs[退款多久到账？]: 七个工作日内原路退回。 → 三个工作日内原路退回。",
    )
    assert documents(house)["faq:退款多久到账？"].text == "三个工作日内原路退回。"


def test_a_long_question_is_told_on_one_line(house: Services, shop: Write) -> None:
    path = shop('knowledge: [{name: k, faqs: [{question: "a\\nb\\u2028c ' + "x" * 90 + '", answer: yes it is}]}]')
    assert apply_file(house, path).lines[-1] == "+ knowledge[k].faqs[a⏎b⏎c " + "x" * 53 + "…]: yes it is"


def test_documents_that_a_file_leaves_out_go_only_when_pruned(house: Services, handbook: Path, tmp_path: Path) -> None:
    apply_file(house, handbook)
    kept = set(documents(house))
    with house.db.write() as session:
        base = session.exec(select(KnowledgeBase)).one()
        put_file(session, house.settings, base, "uploaded.txt", b"by hand")
        put_row(session, base, "17", "a row", "of many")
    handbook.write_text("knowledge: [{name: handbook}]")
    assert apply_file(house, handbook).lines == ()
    assert len(apply_file(house, handbook, prune=True).lines) == len(kept)
    assert set(documents(house)) == {"file:uploaded.txt", "row:17"}  # which no file can name, so that none left them out
    assert len(list((house.settings.data_dir / "documents").rglob("*/*"))) == 1
    handbook.write_text("moderation: [{name: nothing-else}]")
    apply_file(house, handbook, prune=True)
    assert documents(house) == {}
    assert list((house.settings.data_dir / "documents").rglob("*/*")) == []


def test_an_export_with_documents_changes_nothing_wherever_it_lies(
    house: Services, handbook: Path, shop: Write, tmp_path: Path
) -> None:
    apply_file(house, handbook)
    (tmp_path / "elsewhere").mkdir()
    copy = shop(exported(house), "elsewhere/copy.yaml")
    assert apply_file(house, copy, prune=True).lines == ()
    (tmp_path / "docs" / "returns.md").unlink()
    gone = apply_file(house, copy, prune=True)
    assert gone.lines == ()
    assert "the file is gone; what was stored from it stays" in gone.notes[0]


def test_a_folder_that_was_moved_is_recognised_and_not_read_again(house: Services, handbook: Path, tmp_path: Path) -> None:
    apply_file(house, handbook)
    before = {row.id for row in documents(house).values()}
    (tmp_path / "moved").mkdir()
    (tmp_path / "docs").rename(tmp_path / "moved" / "docs")
    there = handbook.rename(tmp_path / "moved" / "handbook.yaml")
    moved = apply_file(house, there)
    new = tmp_path / "moved" / "docs" / "returns.md"
    line = f"~ knowledge[handbook].documents[{new}] (moved from {tmp_path / 'docs' / 'returns.md'})"
    assert (moved.lines, moved.queued) == ((line,), 0)
    assert {row.id for row in documents(house).values()} == before and f"path:{new}" in documents(house)
    assert apply_file(house, there, prune=True).lines == ()


def test_an_export_says_what_it_cannot_hold(house: Services, handbook: Path) -> None:
    apply_file(house, handbook)
    with house.db.write() as session:
        put_row(session, session.exec(select(KnowledgeBase)).one(), "17", "a row", "of many")
    assert exported(house).startswith("# Uploaded files and imported rows are not in this file (handbook: 1)")


def test_the_demo_is_applied_exported_and_applied_again(house: Services, shop: Write) -> None:
    demo = Path(__file__).parents[2] / "examples" / "demo" / "qingniao.yaml"
    applied = apply_file(house, demo)
    assert applied.queued == len(documents(house)) > 20
    assert apply_file(house, demo).lines == ()
    assert apply_file(house, shop(exported(house), "demo-copy.yaml"), prune=True).lines == ()


def test_postgresql_takes_and_gives_the_same(open_house: Open, new_postgres: str, shop: Write) -> None:
    house = open_house("pg", DATABASE_URL=new_postgres)
    migrate(house.settings, "en")
    apply_file(house, shop())
    assert apply_file(house, shop()).lines == ()
    assert apply_file(house, shop(exported(house), "copy.yaml"), prune=True).lines == ()
    assert len(apply_file(house, shop("bots: [{name: alone}]", "alone.yaml"), prune=True).lines) == 7
    assert next(finding for finding in examine(house) if finding.part == "database").text.startswith("PostgreSQL answers")


@pytest.mark.parametrize("example", sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_can_be_applied(house: Services, example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"env:(\w+)", example.read_text(encoding="utf-8")):
        monkeypatch.setenv(name, "a-key")
    assert apply_file(house, example).lines
    assert apply_file(house, example).lines == ()


def test_a_channels_secrets_are_exported_as_references_and_kept(house: Services, shop: Write) -> None:
    """Of a kind that comes later: its rows and its road through export and apply are here already."""
    apply_file(house, shop())
    telegram = ChannelConfig(name="shop-tg", kind="telegram", bot="shop", bot_token="123:secret", transport="polling")
    with house.db.write() as session:
        save_channel(session, house.settings, telegram)
    with house.db.read() as session:
        before = snapshot(session, house.settings)
    text = to_yaml(before.config)
    assert "bot_token: env:SHOP_TG_BOT_TOKEN" in text and "transport: polling" in text and "123:secret" not in text
    channels = tuple(part.model_copy(update={"quiet_s": 2.0}) for part in before.config.channels)
    wanted = Wanted(before.config.model_copy(update={"channels": channels}), before.secrets, before.documents)
    found = changes(before, wanted, prune=True)
    assert [change.line("en") for change in found] == [
        f"~ channels[{name}].quiet_s: 0.0 → 2.0" for name in ("shop-web", "shop-tg")
    ]
    with house.db.write() as session:
        write(session, house.settings, before, wanted, found)
    with house.db.read() as session:
        row = session.exec(select(Channel).where(Channel.name == "shop-tg")).one()
        assert channel_secrets(row, house.settings) == {"bot_token": "123:secret"} and row.quiet_s == 2.0


# --- exporting -------------------------------------------------------------------------------------------------------


def test_an_export_of_one_bot_holds_what_it_needs_and_no_more(flask: Flask, shop: Write) -> None:
    flask("apply", shop())
    flask("apply", shop("bots: [{name: lonely}]\nknowledge: [{name: unused}]"))
    text = flask("export", "--bot", "shop").stdout
    assert "name: main" in text and "name: handbook" in text and "name: shop-web" in text
    assert "lonely" not in text and "unused" not in text and "name: other" not in text
    refused = flask("export", "--bot", "nobody")
    assert (refused.exit_code, refused.stderr) == (1, "There is no bot nobody. There are: shop, lonely.\n")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)))
def test_any_text_comes_back_from_an_export_as_it_was(tmp_path: Path, text: str) -> None:
    written = to_yaml(Configuration(bots=(BotConfig(name="shop", title="t", prompt=text),)))
    path = tmp_path / "out.yaml"
    path.write_bytes(written.encode())
    assert read_yaml(path).values["bots"][0].get("prompt", "") == text


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_every_mistake_is_named_at_once_with_its_line(shop: Write) -> None:
    path = shop("""\
        version: 1
        providers:
          - name: main
            base_url: ftp://x
            api_key: env:OTHER_API_KEY
            weigth: 1
            models: [{name: 3}]
        bots:
          - name: shop
            model: main/b
            temperature: "0.3"
            knowledge: {bases: [handbok], when_empty: no}
          - title: nameless
        knowledge:
          - name: handbook
            documents: [{path: nope.md}, {url: "ftp://x"}, {path: a.md, url: http://b}]
            faqs: {question: x}
        channels:
          - {name: tg, kind: telegram, bot: shop, transport: polling}
          - {name: web, kind: web, bot: shop, allowed_origins: 3, colour: red}
          - {name: web, kind: irc, bot: shop}
        """)
    found = problems(path)
    expected = [
        "4: providers[main].base_url: must start with http:// or https://.",
        "5: providers[main].api_key: the environment variable OTHER_API_KEY is empty. Set it, then apply again.",
        "6: providers[main].weigth: there is no such key. Did you mean weight?",
        "7: providers[main].models[0].name: must be text. Put values such as numbers, true and no in quotes.",
        "10: bots[shop].model: there is no main/b. Add it under providers first.",
        "11: bots[shop].temperature: must be a number, without quotes.",
        "12: bots[shop].knowledge.bases[0]: there is no handbok. Did you mean handbook?",
        "12: bots[shop].knowledge.when_empty: must be one of answer, refuse or handoff.",
        "13: bots[1]: name is missing. Add it.",
        "16: knowledge[handbook].documents[0].path: ",
        "16: knowledge[handbook].documents[1].url: must be an address that starts with http:// or https://.",
        "16: knowledge[handbook].documents[2]: write exactly one of path and url.",
        "17: knowledge[handbook].faqs: must be a list: ",
        "19: channels[tg].kind: channels of the kind telegram come in a later version. For now there is: web.",
        "20: channels[web].allowed_origins: must be a list: ",
        "20: channels[web].colour: there is no such key. Known here: ",
        "21: channels[web].kind: there is no kind of channel irc. There is: web.",
        "21: channels[web].name: web stands here twice (line 20 has it). Rename or remove one.",
    ]
    assert len(found) == len(expected), "\n".join(found)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start), line


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "1: the file is empty"),
        ("- a", "1: the outermost level must be keys"),
        ("a: [\nb: }", "2: this is not valid YAML"),
        ("version: 1\n---\nversion: 1", "2: this is not valid YAML"),
        ("version: 2", "1: version: must be one of 1."),
        ("bots:", "1: bots: must be a list"),
        ("version: 1\nversion: 1", "2: the key version stands here twice (line 1 has it)"),
        ("bots: [{name: a, name: b}]", "1: the key name stands here twice"),
        ("bots: !!python/object/apply:os.system [true]", "1: only text, numbers"),
        ("bots: !!set {a}", "1: only text, numbers"),
        ("bots: [{name: a, temperature: .nan}]", "1: only text, numbers"),
        ("? [a]\n: b", "1: a key must be text"),
        ("[" * 5000, "1: this is nested more than 30 deep"),
        ("a: &a [*a]", "1: aliases here grow too large or refer to themselves"),
        ("a: &a {<<: *a}", "1: aliases here grow too large or refer to themselves"),
        ("a: \x00", "1: this is not valid YAML"),
    ],
)
def test_what_is_not_a_configuration_is_refused_with_its_line(shop: Write, text: str, sentence: str) -> None:
    assert problems(shop(text))[0].startswith(sentence)


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(shop: Write) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "aliases here grow too large" in problems(shop(text))[0]
    assert "aliases here grow too large" in problems(shop(f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 2000)}]"))[0]


def test_an_alias_that_spares_typing_is_welcome(house: Services, shop: Write) -> None:
    path = shop("""\
        bots:
          - &first {name: first, title: Hello, memory: &memory {recent_turns: 3}}
          - {<<: *first, name: second, memory: {<<: *memory, facts: false}}
        """)
    apply_file(house, path)
    with house.db.read() as session:
        draft = BotConfig.model_validate(session.exec(select(Bot.draft).where(Bot.name == "second")).one())
    assert (draft.title, draft.memory.recent_turns, draft.memory.facts) == ("Hello", 3, False)


def test_a_file_that_cannot_be_read_says_so(flask: Flask, tmp_path: Path) -> None:
    assert flask("apply", tmp_path / "nope.yaml").stderr.startswith(f"{tmp_path / 'nope.yaml'} cannot be read")
    (tmp_path / "latin.yaml").write_bytes(b"version: 1\nbots: \xff\n")
    assert ":2: this is not UTF-8 text" in flask("apply", tmp_path / "latin.yaml").stderr
    assert "cannot be read" in flask("apply", tmp_path).stderr


def test_the_terminal_speaks_chinese_where_its_language_is_chinese(
    flask: Flask, shop: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shop("bots: [{name: a, titel: b}]")
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "没有这个键。您是不是想写 title？" in flask("apply", path).stderr
