"""The figures, each measured by a function of its own against the running product."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import processes
from bench.house import LONG, STREAM, STREAM_TOKENS, TWO_SECONDS, ZERO, House, Model, relay
from bench.load import Answer, Asker, Connection
from tests.emulators.model import KEY

QUESTION = "How long does a refund take?"
ASKERS = 32  # at zero delay: enough to keep one core busy
RELAY_SHARE = 1 / 7


@dataclass(frozen=True)
class Figure:
    """One line of the table. bar: what it must reach; lower is better unless `more`."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    more: bool = False
    note: str = ""

    @property
    def holds(self) -> bool:
        if self.bar is None:
            return True
        return self.value >= self.bar if self.more else self.value <= self.bar

    @property
    def ratio(self) -> float | None:
        return self.value / self.bar if self.bar else None

    def as_row(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "holds": self.holds}


def share(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


# --- how many answers a second -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """A closed loop of askers. cpu_ms: of all our processes, per turn; load_busy: how busy the load generator was."""

    per_s: float
    turns: int
    cpu_ms: float
    load_busy: float
    latencies_s: tuple[float, ...] = ()


async def flow(house: House, model: Model, askers: int, seconds: float) -> Flow:
    """Askers that each ask the next question when the last is answered, until the time is over."""
    visitors = [Asker(house.port, model.name) for _ in range(askers)]
    for visitor in visitors:
        await visitor.arrive()
    await asyncio.gather(*(visitor.ask(QUESTION) for visitor in visitors))  # every connection is warm
    ended: list[float] = []
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def go_on(visitor: Asker) -> None:
        while time.perf_counter() < until:
            answer = await visitor.ask(QUESTION)
            check(answer)
            ended.append(answer.ended_at)
            latencies.append(answer.ended_at - answer.posted_at)

    began, cpu, own = time.perf_counter(), house.cpu_s(), time.process_time()
    await asyncio.gather(*(go_on(visitor) for visitor in visitors))
    took, cpu, own = time.perf_counter() - began, house.cpu_s() - cpu, time.process_time() - own
    for visitor in visitors:
        visitor.leave()
    return Flow(len(ended) / took, len(ended), cpu / max(1, len(ended)) * 1000, own / took, tuple(latencies))


def check(answer: Answer) -> None:
    """An answer counts only when it is whole, in order and no error."""
    assert answer.error is None, answer.error
    assert answer.done is not None, "no done event"
    assert answer.done["finish"] == "stop", answer.done
    assert answer.said.strip() == answer.done["text"], "what was streamed is not what is kept"
    assert answer.ids == sorted(set(answer.ids)), "events repeated or out of order"


async def relay_flow(port: int, askers: int, seconds: float) -> float:
    """Answers a second of the bare relay; each asker keeps one connection."""
    ended = 0
    until = time.perf_counter() + seconds

    async def go_on() -> None:
        nonlocal ended
        connection = Connection("127.0.0.1", port)
        while time.perf_counter() < until:
            async for _, name, _ in connection.stream("POST", "/chat", {"text": QUESTION}):
                ended += name == "end"
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(askers)))
    return ended / (time.perf_counter() - began)


def throughput(house: House) -> list[Figure]:
    """Answers a second with a model that answers at once, beside the bare relay's."""
    asyncio.run(flow(house, ZERO, ASKERS, 3))
    with relay(house.ports[ZERO.name]) as (port, pid):
        asyncio.run(relay_flow(port, ASKERS, 2))
        cpu = sum(processes.cpu_s(pid).values())
        bare = asyncio.run(relay_flow(port, ASKERS, 6))
        bare_ms = (sum(processes.cpu_s(pid).values()) - cpu) / (6 * bare) * 1000
    found = asyncio.run(flow(house, ZERO, ASKERS, 12))
    note = f"{found.cpu_ms:.2f} ms CPU a turn of all our processes; load generator busy {found.load_busy:.0%}; "
    note += f"bare relay {bare:.0f}/s, {bare_ms:.2f} ms CPU"
    return [
        Figure("answers a second, model without delay", found.per_s, "/s", 60, more=True, note=note),
        Figure("… as a share of a bare relay in memory", found.per_s / bare, "", RELAY_SHARE, more=True),
    ]


def two_hundred(house: House) -> list[Figure]:
    """Answers a second with a model that takes 2 s, 200 askers at once."""
    found = asyncio.run(flow(house, TWO_SECONDS, 200, 14))
    note = (
        f"{found.cpu_ms:.2f} ms CPU a turn; asked → end p50 {statistics.median(found.latencies_s):.2f} s, "
        f"p95 {share(found.latencies_s, 0.95):.2f} s"
    )
    return [Figure("answers a second, model of 2 s, 200 askers", found.per_s, "/s", 40, more=True, note=note)]


# --- how long -------------------------------------------------------------------------------------------------------


async def at_rate(per_s: float, count: int, one: Callable[[int], Any]) -> list[Any]:
    """Start one(n) every 1/per_s seconds, whatever became of those before; their results."""
    began = time.perf_counter()
    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number)))
    return await asyncio.gather(*tasks)


async def at_rate_by_visitors(house: House, model: Model, per_s: float, count: int, visitors: list[Asker]) -> list[Answer]:
    """Ask `count` questions at that rate, each by a visitor who waits for no answer; more come when all of them do."""
    free = list(visitors)

    async def ask(_: int) -> Answer:
        visitor = free.pop(0) if free else (await _visitors(house, model, 1))[0]
        answer = await visitor.ask(QUESTION)
        free.append(visitor)
        return answer

    answers: list[Answer] = await at_rate(per_s, count, ask)
    for visitor in free:
        visitor.leave()
    return answers


async def _visitors(house: House, model: Model, count: int) -> list[Asker]:
    visitors = [Asker(house.port, model.name) for _ in range(count)]
    for visitor in visitors:
        await visitor.arrive()
    return visitors


async def _model_alone(house: House, model: Model, count: int) -> tuple[float, float]:
    """The model's own time as its caller sees it: (first token, last event), medians in seconds."""
    firsts, lasts = [], []
    for _ in range(count):
        connection = Connection("127.0.0.1", house.ports[model.name])
        body = {"model": model.name, "messages": [{"role": "user", "content": QUESTION}], "stream": True}
        began, first = time.perf_counter(), 0.0
        async for piece in connection.pieces("POST", "/v1/chat/completions", body, KEY):
            if not first and b'"content": "' in piece.replace(b'"content": ""', b""):
                first = time.perf_counter() - began
        firsts.append(first)
        lasts.append(time.perf_counter() - began)
        connection.close()
    return statistics.median(firsts), statistics.median(lasts)


def added(house: House) -> list[Figure]:
    """Time added to an answer of 2 s: post → last event, less the model's own time, at 2 posts a second."""
    return asyncio.run(_added(house))


async def _added(house: House, count: int = 60) -> list[Figure]:
    _, own = await _model_alone(house, TWO_SECONDS, 3)
    visitors = await _visitors(house, TWO_SECONDS, 12)
    await asyncio.gather(*(visitor.ask(QUESTION) for visitor in visitors[:4]))
    answers = await at_rate_by_visitors(house, TWO_SECONDS, 2, count, visitors)
    for answer in answers:
        check(answer)
    times = [(answer.ended_at - answer.posted_at - own) * 1000 for answer in answers]
    note = f"{count} answers; the model alone {own * 1000:.0f} ms"
    return [
        Figure("time added to an answer of 2 s, p50", statistics.median(times), "ms", 25, note=note),
        Figure("time added to an answer of 2 s, p95", share(times, 0.95), "ms", 50),
    ]


def acknowledgement(house: House) -> list[Figure]:
    """How long a post takes until it is accepted, at 50 a second, the answers being listened to."""
    return asyncio.run(_acknowledgement(house))


async def _acknowledgement(house: House, count: int = 750) -> list[Figure]:
    visitors = await _visitors(house, TWO_SECONDS, 150)
    await asyncio.gather(*(visitor.ask(QUESTION) for visitor in visitors[:50]))
    answers = await at_rate_by_visitors(house, TWO_SECONDS, 50, count, visitors)
    for answer in answers:
        check(answer)
    times = [(answer.acknowledged_at - answer.posted_at) * 1000 for answer in answers]
    note = f"{count} posts; p50 {statistics.median(times):.1f} ms, max {max(times):.1f} ms"
    return [Figure("acknowledgement at 50 posts/s, p99", share(times, 0.99), "ms", 20, note=note)]


def streaming(house: House) -> list[Figure]:
    """100 chats that stream at once, 20 tokens a second each."""
    return asyncio.run(_streaming(house))


async def _streaming(house: House, chats: int = 100) -> list[Figure]:
    first, _ = await _model_alone(house, STREAM, 1)
    visitors = await _visitors(house, STREAM, chats)
    cpu, began = house.cpu_s(), time.perf_counter()
    answers = await at_rate(20, chats, lambda n: visitors[n].ask(QUESTION))
    busy = (house.cpu_s() - cpu) / (time.perf_counter() - began)
    for visitor in visitors:
        visitor.leave()
    for answer in answers:
        check(answer)
    whole = sum(answer.done is not None and answer.said.split() == ["tick"] * STREAM_TOKENS for answer in answers)
    times = [(answer.first_delta_at - answer.posted_at - first) * 1000 for answer in answers]
    last = max(answer.ended_at - answer.posted_at for answer in answers)
    note = f"{chats} chats, each {STREAM_TOKENS} tokens; our CPU {busy:.0%} of a core; the longest took {last:.1f} s"
    return [
        Figure("first words added, 100 chats streaming, p50", statistics.median(times), "ms", 50, note=note),
        Figure("first words added, 100 chats streaming, p95", share(times, 0.95), "ms", 150),
        Figure("longest silence in any of them", max(a.longest_gap_s for a in answers) * 1000, "ms", 1000),
        Figure("of them whole", whole, "", chats, more=True),
    ]


# --- how much memory ------------------------------------------------------------------------------------------------


def memory_idle(house: House) -> list[Figure]:
    """All our processes, nothing asked, the demo loaded."""
    return [Figure("memory idle, with the demo", settled_mib(house), "MiB", 400, note=breakdown(house))]


def settled_mib(house: House, seconds: float = 8.0) -> float:
    """The tree's PSS once it no longer changes by more than 1 MiB a second."""
    until = time.monotonic() + seconds
    before = processes.pss_mib(house.pid)
    while time.monotonic() < until:
        time.sleep(1.0)
        now = processes.pss_mib(house.pid)
        if abs(now - before) < 1:
            return now
        before = now
    return before


def breakdown(house: House) -> str:
    """Each process's part."""
    parts = sorted(((processes.memory_of(pid), processes.label(pid)) for pid in processes.tree(house.pid)), reverse=True)
    return "; ".join(f"{mib:.0f} {name}" for mib, name in parts)


def memory_outstanding(house: House) -> list[Figure]:
    """100 answers that the model has not begun."""

    async def ask() -> float:
        visitors = await _visitors(house, LONG, 100)
        answers = [await visitor.post(QUESTION) for visitor in visitors]
        listening = [asyncio.create_task(visitor.listen(answer)) for visitor, answer in zip(visitors, answers, strict=True)]
        await asyncio.sleep(6)
        found = await asyncio.to_thread(settled_mib, house)
        for visitor, task in zip(visitors, listening, strict=True):
            task.cancel()
            visitor.leave()
        return found

    return [Figure("memory with 100 answers outstanding", asyncio.run(ask()), "MiB", 600, note=breakdown(house))]


def memory_growth(house: House, users: int = 1500) -> list[Figure]:
    """Growth per 1,000 users that come, ask once and go, after 300 of them."""

    async def come_and_go(count: int) -> None:
        gate = asyncio.Semaphore(16)

        async def one() -> None:
            async with gate:
                visitor = Asker(house.port, ZERO.name)
                await visitor.arrive()
                check(await visitor.ask(QUESTION))
                visitor.leave()

        await asyncio.gather(*(one() for _ in range(count)))

    asyncio.run(come_and_go(300))
    before = settled_mib(house)
    asyncio.run(come_and_go(users))
    after = settled_mib(house)
    note = f"{users} users: {before:.0f} → {after:.0f} MiB"
    return [Figure("memory growth per 1,000 users", (after - before) / users * 1000, "MiB", 10, note=note)]
