"""A cheap caller of the chat API: raw HTTP/1.1 on asyncio, some 0.2 ms of CPU a turn, so that it is never the bottleneck.

It behaves like the widget: a message that could not be posted is posted again with the same client_message_id, and
events that broke off are asked for again with Last-Event-ID.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

PATIENCE_S = 120.0  # for one answer, whatever dies meanwhile
RETRY_S = 0.25


class Unanswered(Exception):
    """What was asked for did not come in PATIENCE_S."""


class Refused(Exception):
    """The server answered with a status that repeating would not change."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body[:300]!r}")
        self.status = status


@dataclass
class Answer:
    """One turn as its asker saw it; times by time.perf_counter()."""

    turn_id: str
    posted_at: float
    acknowledged_at: float
    first_delta_at: float = 0.0
    ended_at: float = 0.0
    delta_times: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    said: str = ""
    posts: int = 1
    connects: int = 0

    @property
    def longest_gap_s(self) -> float:
        """The longest silence between two deltas."""
        return max((b - a for a, b in zip(self.delta_times, self.delta_times[1:], strict=False)), default=0.0)


class Connection:
    """One keep-alive connection; requests one after the other."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> tuple[int, bytes]:
        """(status, body) of one request, over a kept connection where there is one."""
        kept = self._writer is not None
        try:
            return await self._call(method, path, body, token)
        except (OSError, EOFError):
            self.close()
            if not kept:
                raise
            return await self._call(method, path, body, token)  # the server had closed the kept connection meanwhile

    async def _call(self, method: str, path: str, body: dict[str, Any] | None, token: str) -> tuple[int, bytes]:
        reader = await self._send(method, path, body, token, "")
        status, fields = await self._head(reader)
        length = int(fields.get(b"content-length", b"0"))
        content = await reader.readexactly(length) if length else b""
        if fields.get(b"connection") == b"close":
            self.close()
        return status, content

    async def events(self, path: str, token: str, after: int = 0) -> AsyncIterator[tuple[int, str, bytes]]:
        """(id, event, data) of a turn's Server-Sent Events, from the one after `after` until they end."""
        async for event in self.stream("GET", path, None, token, after):
            yield event

    async def stream(
        self, method: str, path: str, body: dict[str, Any] | None, token: str = "", after: int = 0
    ) -> AsyncIterator[tuple[int, str, bytes]]:
        """(id, event, data) of a response of Server-Sent Events. Raises Refused, OSError, EOFError."""
        rest = b""
        async for piece in self.pieces(method, path, body, token, after):
            rest += piece
            *events, rest = rest.split(b"\n\n")
            for event in events:
                if event.startswith(b"id: "):
                    number, name, data = event.split(b"\n", 2)
                    yield int(number[4:]), name[7:].decode(), data[6:]

    async def pieces(
        self, method: str, path: str, body: dict[str, Any] | None, token: str = "", after: int = 0
    ) -> AsyncIterator[bytes]:
        """The body of a response as it comes. Raises Refused, OSError, EOFError."""
        extra = f"Last-Event-ID: {after}\r\n" if after else ""
        kept = self._writer is not None
        try:
            reader = await self._send(method, path, body, token, extra)
            status, fields = await self._head(reader)
        except (OSError, EOFError):
            self.close()
            if not kept:
                raise
            reader = await self._send(method, path, body, token, extra)
            status, fields = await self._head(reader)
        if status != 200:
            content = await reader.readexactly(int(fields.get(b"content-length", b"0")))
            raise Refused(status, content)
        async for piece in _pieces(reader, fields):
            yield piece
        if fields.get(b"connection") == b"close":
            self.close()

    async def _send(self, method: str, path: str, body: dict[str, Any] | None, token: str, extra: str) -> asyncio.StreamReader:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        content = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if content else ""
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n{authorization}{kind}Content-Length: {len(content)}\r\n{extra}\r\n"
        self._writer.write(head.encode() + content)
        return self._reader

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        return int(first.split(b" ")[1]), fields

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _pieces(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> AsyncIterator[bytes]:
    """The body of a response, chunked or until the connection closes."""
    if fields.get(b"transfer-encoding") != b"chunked":
        while piece := await reader.read(65536):
            yield piece
        return
    while True:
        size = int((await reader.readuntil(b"\r\n"))[:-2], 16)
        piece = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield piece[:-2]


class Asker:
    """A visitor of one web channel with a session of its own."""

    def __init__(self, port: int, channel: str, patience_s: float = PATIENCE_S) -> None:
        self.port, self.channel, self.patience_s = port, channel, patience_s
        self._connection = Connection("127.0.0.1", port)
        self.token = ""
        self.conversation_id = ""

    async def listens(self) -> bool:
        """Whether a server is there and says that it is ready."""
        try:
            return (await self._connection.call("GET", "/readyz"))[0] == 200
        except (OSError, EOFError):
            self._connection.close()
            return False

    async def arrive(self) -> None:
        """Start a session."""
        status, body = await self._stubbornly("POST", f"/api/chat/{self.channel}/sessions", {})
        if status != 200:
            raise Refused(status, body)
        session = json.loads(body)
        self.token, self.conversation_id = session["token"], session["conversation_id"]

    async def ask(self, text: str) -> Answer:
        """Post a question and listen until the turn's `end`."""
        return await self.listen(await self.post(text))

    async def post(self, text: str, client_message_id: str | None = None) -> Answer:
        """Post a question until it is acknowledged."""
        body = {"text": text, "client_message_id": client_message_id or uuid4().hex}
        began = time.perf_counter()
        posts = [0]
        status, content = await self._stubbornly("POST", "/api/chat/messages", body, posts)
        if status != 202:
            raise Refused(status, content)
        answer = Answer(json.loads(content)["turn_id"], began, time.perf_counter())
        answer.posts = posts[0]
        return answer

    async def listen(self, answer: Answer) -> Answer:
        """Read the turn's events to their end, resuming wherever the stream breaks off."""
        until = time.monotonic() + self.patience_s
        while True:
            answer.connects += 1
            try:
                async with asyncio.timeout(max(0.1, until - time.monotonic())):
                    await self._read_events(answer)
                if answer.ended_at:
                    return answer
            except TimeoutError as error:
                raise Unanswered(answer.turn_id) from error
            except (OSError, EOFError):
                self._connection.close()
            except Refused as refused:
                if refused.status < 500:
                    raise
            if time.monotonic() > until:
                raise Unanswered(answer.turn_id)
            await asyncio.sleep(RETRY_S)

    async def _read_events(self, answer: Answer) -> None:
        after = answer.ids[-1] if answer.ids else 0
        async for number, name, data in self._connection.events(f"/api/chat/turns/{answer.turn_id}/events", self.token, after):
            now = time.perf_counter()
            answer.ids.append(number)
            if name == "delta":
                answer.delta_times.append(now)
                answer.first_delta_at = answer.first_delta_at or now
                answer.said += json.loads(data)["text"]
            elif name == "replace":
                answer.said = json.loads(data)["text"]
            elif name == "done":
                answer.done = json.loads(data)
            elif name == "error":
                answer.error = json.loads(data)
            elif name == "end":
                answer.ended_at = now

    async def _stubbornly(
        self, method: str, path: str, body: dict[str, Any], posts: list[int] | None = None
    ) -> tuple[int, bytes]:
        """Repeat a request until the server is there and answers with less than 500, for at most patience_s."""
        until = time.monotonic() + self.patience_s
        while True:
            if posts is not None:
                posts[0] += 1
            try:
                async with asyncio.timeout(30):
                    status, content = await self._connection.call(method, path, body, self.token)
                if status < 500:
                    return status, content
            except (OSError, EOFError, TimeoutError):
                self._connection.close()
            if time.monotonic() > until:
                raise Unanswered(path)
            await asyncio.sleep(RETRY_S)

    def leave(self) -> None:
        self._connection.close()
