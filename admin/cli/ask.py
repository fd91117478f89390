"""`flask ask BOT "question"`: one answer on the terminal, with citations and the time of every step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
import redis

from admin.cli.common import command, fail, locale, printable, services
from bot.config import BotConfig
from bot.errors import BotError
from bot.tables import Turn, new_id, utcnow
from bot.texts import say
from bot.types import Delta, Event, Incoming, Replace
from bot.types import Turn as Question
from jobs.services import Services

USER = "terminal"
LONGEST_S = 600


@dataclass
class Answer:
    """What came back. steps: [{step, ms, error?}], in order. by: `system` or `here` (in this process)."""

    by: str
    text: str = ""
    citations: list[dict[str, Any]] = field(default_factory=list)
    followups: list[str] = field(default_factory=list)
    usage: Mapping[str, int] = field(default_factory=dict)
    finish: str = "error"
    model: str = ""
    error: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    first_ms: float | None = None
    ms: float = 0.0


Print = Callable[[str], None]


@command("ask", help="One answer on the terminal, with citations and timings.")
@click.argument("bot")
@click.argument("question")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def ask(bot: str, question: str, as_json: bool) -> None:
    from admin.store import bot_in_use

    if not question.strip():
        raise fail("error.empty")
    house = services()
    with house.db.read() as session:
        config = bot_in_use(session, bot, locale())
    show: Print = (lambda _: None) if as_json else (lambda text: click.echo(printable(text), nl=False))
    incoming = Incoming("terminal", new_id(), USER, new_id(), question, utcnow(), history=())
    answer = _by_the_system(house, bot, incoming, show) if _runs(house) else None
    if answer is None:
        answer = answer_here(house, config, incoming, show)
    click.echo(json.dumps(as_row(answer), ensure_ascii=False) if as_json else "\n" + printable(as_text(answer, locale())))
    if answer.finish == "error":
        raise SystemExit(1)


def _runs(house: Services) -> bool:
    """Whether a reply worker lives that could answer."""
    from jobs.health import ALIVE_S, WORKERS_ALIVE

    try:
        return bool(house.redis.zcount(WORKERS_ALIVE, time.time() - ALIVE_S, "+inf"))
    except redis.RedisError:
        return False


def _by_the_system(house: Services, bot: str, incoming: Incoming, show: Print) -> Answer | None:
    """The road that every message takes; none when the bot was never published, and so only answers here."""
    from jobs import catalogue
    from jobs.accept import accept
    from jobs.watch import watch

    begun = time.perf_counter()
    try:
        route = catalogue.api_route(house, bot)
    except BotError:
        return None
    turn_id = accept(house, route, incoming).turn_id
    answer = Answer("system")
    for told in watch(house, turn_id):
        if told is not None:
            _take(answer, told.event, told.data, begun, show)
        elif time.perf_counter() - begun > LONGEST_S:
            raise fail("cli.ask.late", seconds=LONGEST_S)
    with house.db.read() as session:
        row = session.get(Turn, turn_id)
    if row is not None:
        answer.model, answer.error = row.model, row.error_detail
        answer.steps = [_step(span["step"], span["ms"], span.get("error")) for span in row.trace]
    return answer


def _take(answer: Answer, event: str, data: Mapping[str, Any], begun: float, show: Print) -> None:
    elapsed = round((time.perf_counter() - begun) * 1000, 1)
    if event == "delta":
        answer.first_ms = answer.first_ms or elapsed
        answer.text += data["text"]
        show(data["text"])
    elif event == "replace":
        answer.text = data["text"]
        show(f"\n{data['text']}" if data["text"] else "")
    elif event == "done":
        if not answer.text:
            show(data["text"])
        answer.text, answer.citations = data["text"], list(data["citations"])
        answer.usage, answer.finish, answer.ms = data["usage"], data["finish"], elapsed
    elif event == "error":
        show(data["message"])
        answer.text, answer.ms = data["message"], elapsed
    elif event == "followups":
        answer.followups = list(data["questions"])


def answer_here(house: Services, config: BotConfig, incoming: Incoming, show: Print) -> Answer:
    """Answer in this process: while nothing runs, or for a bot that is still a draft."""
    from bot.agent import answer as think
    from bot.trace import Trace
    from jobs import catalogue, parts
    from jobs.reply import citation_row

    trace, answer, begun = Trace(), Answer("here"), time.perf_counter()

    def emit(event: Event) -> None:
        if isinstance(event, Delta):
            _take(answer, "delta", {"text": event.text}, begun, show)
        elif isinstance(event, Replace):
            _take(answer, "replace", {"text": event.text}, begun, show)

    with house.db.read() as session:
        now = catalogue.local_now(session)
    turn = Question(id=new_id(), bot=config, incoming=incoming, now=now)
    made = parts.build(house, config, turn.id, None, 0, trace)
    reply = think(turn, made, emit)
    usage = {"prompt_tokens": reply.usage.prompt_tokens, "completion_tokens": reply.usage.completion_tokens}
    citations = [citation_row(citation) for citation in reply.citations]
    done = {"text": reply.text, "citations": citations, "usage": usage, "finish": reply.finish}
    _take(answer, "done", done, begun, show)
    answer.model, answer.error = reply.model, reply.error_detail
    if reply.finish == "stop" and config.followups.enabled:
        answer.followups = list(parts.suggest(reply.turn or turn, reply, made))
    answer.steps = [_step(span.step, span.ms, span.error) for span in trace.spans]
    return answer


def _step(name: str, ms: float, error: str | None) -> dict[str, Any]:
    return {"step": name, "ms": ms} | ({"error": error} if error else {})


def as_row(answer: Answer) -> dict[str, Any]:
    """The answer as JSON: text, citations, followups, usage, finish, model, steps and the times."""
    row = {
        name: getattr(answer, name) for name in ("text", "citations", "followups", "usage", "finish", "model", "by", "steps")
    }
    row |= {"first_ms": answer.first_ms, "ms": answer.ms}
    return row | ({"error": answer.error} if answer.error else {})


def as_text(answer: Answer, language: str) -> str:
    """What follows the answer's text on the terminal."""
    lines = [""]
    for citation in answer.citations:
        lines.append(f"[{citation['n']}] {citation['title']}  {citation.get('url') or ''}".rstrip())
        lines.append(f"    {citation['snippet']}")
    if answer.followups:
        lines += ["", say("widget.followups", language)] + [f"  · {question}" for question in answer.followups]
    lines.append("")
    if answer.error:
        lines.append(answer.error)
    lines += [f"  {step['step']:<14}{step['ms']:>9.1f} ms  {step.get('error', '')}".rstrip() for step in answer.steps]
    values = {"ms": round(answer.ms), "model": answer.model or "-", "tokens": sum(answer.usage.values())}
    lines.append(say("cli.ask.total" if answer.by == "system" else "cli.ask.total_here", language, **values))
    return "\n".join(lines)
