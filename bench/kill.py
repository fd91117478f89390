"""`kill -9` at random moments while answers are outstanding: none may be lost, repeated, or out of order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from bench import processes
from bench.figures import Figure
from bench.house import House, Model
from bench.load import Answer, Asker
from bot.settings import redis_socket

CONVERSATIONS = 12
OUTSTANDING = 50
VICTIMS = ("web", "replies", "redis", "milvus")
MODEL = Model("kill", delay_s=0.3, tokens_per_s=40, answer="Refunds reach your account within seven working days.", knows=True)
LATEST_KILL_S = 2.5


@dataclass(frozen=True)
class Round:
    """What became of the questions of one round. recovery_s: from the kill to the last answer that it could delay."""

    victim: str
    asked: int
    lost: int
    repeated: int
    disordered: int
    failed: int
    recovery_s: float
    posted_again: int
    reconnected: int

    @property
    def flawless(self) -> bool:
        return not (self.lost or self.repeated or self.disordered or self.failed)


def every_process(rounds: int) -> list[Figure]:
    """Kill each process `rounds` times, and empty Redis as often."""
    found = []
    with House((MODEL,)) as house:
        for victim in (*VICTIMS, "flushall"):
            done = [strike(house, victim) for _ in range(rounds)]
            for each in done:
                if not each.flawless:
                    print(f"  {each}", flush=True)
            asked = sum(each.asked for each in done)
            recovery = [each.recovery_s for each in done]
            note = (
                f"{rounds} times, {asked} questions: {sum(e.lost for e in done)} lost, "
                f"{sum(e.repeated for e in done)} repeated, {sum(e.disordered for e in done)} out of order, "
                f"{sum(e.failed for e in done)} failed; "
                f"all answered after {statistics.median(recovery):.1f} s (median), {max(recovery):.1f} s (most)"
            )
            what = "Redis emptied" if victim == "flushall" else f"kill -9 {victim}"
            flaws = sum(e.lost + e.repeated + e.disordered + e.failed for e in done)
            found.append(Figure(f"{what}: lost, repeated, out of order or failed", flaws, "", 0, note=note))
    return found


def strike(house: House, victim: str, outstanding: int = OUTSTANDING, conversations: int = CONVERSATIONS) -> Round:
    """Ask, kill at a random moment, wait until all is answered, and look at the rows."""
    return asyncio.run(_strike(house, victim, outstanding, conversations))


async def _strike(house: House, victim: str, outstanding: int, conversations: int) -> Round:
    visitors = [Asker(house.port, MODEL.name) for _ in range(conversations)]
    for visitor in visitors:
        await visitor.arrive()
    tokens = [f"{n}" for n in range(outstanding)]
    asking = [
        asyncio.create_task(_ask_in_a_row(house.port, visitor, tokens[n::conversations])) for n, visitor in enumerate(visitors)
    ]
    await asyncio.sleep(random.uniform(0.0, LATEST_KILL_S))
    killed_at = time.perf_counter()
    await asyncio.to_thread(kill, house, victim)
    answers = [answer for answers in await asyncio.gather(*asking) for answer in answers]
    last = max(answer.ended_at for answer in answers)
    for visitor in visitors:
        visitor.leave()
    named = [visitor.conversation_id for visitor in visitors]
    lost, repeated, disordered = look(house.folder / "qingniao.db", named, outstanding)
    return Round(
        victim,
        outstanding,
        lost + sum(answer.done is None and answer.error is None for answer in answers),
        repeated + sum(answer.ids != sorted(set(answer.ids)) for answer in answers),
        disordered,
        sum(answer.error is not None for answer in answers),
        max(0.0, last - killed_at),
        sum(answer.posts - 1 for answer in answers),
        sum(answer.connects - 1 for answer in answers),
    )


async def _ask_in_a_row(port: int, visitor: Asker, questions: Sequence[str]) -> list[Answer]:
    """Post all questions without waiting for answers, then listen to all at once, each on a connection of its own."""
    answers = [await visitor.post(f"How long does refund number {question} take?") for question in questions]

    async def listen(answer: Answer) -> Answer:
        ear = Asker(port, visitor.channel)
        ear.token = visitor.token
        try:
            return await ear.listen(answer)
        finally:
            ear.leave()

    return list(await asyncio.gather(*(listen(answer) for answer in answers)))


def kill(house: House, victim: str) -> None:
    """SIGKILL to all processes of that name; `flushall`: Redis forgets everything."""
    if victim == "flushall":
        with redis.Redis(unix_socket_path=str(redis_socket(house.folder))) as client:
            client.flushall()
        return
    while not (victims := pids(house.pid, victim)):
        time.sleep(0.02)  # it died a moment ago and is not back yet
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it was between two lives


def pids(root: int, name: str) -> list[int]:
    """The processes of the tree that bear that name (see run.py), parents first."""
    wanted = {"redis": "redis-server"}.get(name, f"qn-{name}")
    found = []
    for pid in processes.tree(root):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == wanted:
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def look(database: Path, conversations: Sequence[str], asked: int) -> tuple[int, int, int]:
    """(lost, repeated, out of order) as the rows tell it: one message in and one out for each turn, in the order asked."""
    marks = ",".join("?" * len(conversations))
    query = f"""SELECT conversation_id, turn_id, direction FROM message
                WHERE conversation_id IN ({marks}) ORDER BY conversation_id, sequence"""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute(query, list(conversations)).fetchall()
    finally:
        connection.close()
    came = [(conversation, turn) for conversation, turn, direction in rows if direction == "in"]
    left = [(conversation, turn) for conversation, turn, direction in rows if direction == "out"]
    lost = asked - len(set(came) & set(left))
    repeated = len(left) - len(set(left)) + len(came) - len(set(came)) + max(0, len(came) - asked)
    disordered = sum(a != b for a, b in zip(came, left, strict=False)) if not lost and not repeated else 0
    return lost, repeated, disordered
