"""The chunks of a streamed chat completion, read from server-sent events (pure).

Source: WHATWG HTML, "Server-sent events"; OpenAI, "Chat completion chunk". Only what an answer needs is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bot.errors import ModelError
from bot.types import Usage

MOST_MALFORMED = 20  # chunks, after which the stream is given up
LONGEST_LINE = 4_000_000  # bytes


@dataclass
class Chunk:
    """What one read brought.

    alive: the model does something (speaks, reasons), not only the connection. ended: the answer is whole. done: nothing
    follows.
    """

    text: str = ""
    finish: str | None = None
    usage: Usage | None = None
    alive: bool = False
    ended: bool = False
    done: bool = False
    malformed: int = 0


def read_chunks(blocks: Iterable[bytes], name: str) -> Iterator[Chunk]:
    """One Chunk for each block of bytes, whatever events it holds. Raises ModelError when the stream makes no sense or
    tells an error; name says whose it is.

    The blocks are read to their end, past [DONE]: only a response that was read whole gives its connection back.
    """
    rest = b""
    malformed = 0
    ended = False
    for block in blocks:
        rest += block
        if len(rest) > LONGEST_LINE:
            raise _unusable(name, "a line without an end")
        *lines, rest = rest.split(b"\n")
        chunk = Chunk(ended=ended)
        for line in lines:
            _take(line, chunk, name)
        malformed += chunk.malformed
        if malformed > MOST_MALFORMED:
            raise _unusable(name, "too many malformed chunks")
        ended = chunk.ended
        yield chunk
        if chunk.done:
            break
    for _ in blocks:
        pass
    if rest.strip() and not ended:
        chunk = Chunk(ended=ended)
        _take(rest, chunk, name)
        yield chunk


def read_whole(body: bytes, name: str) -> Chunk:
    """The Chunk of an answer that came in one piece. Raises ModelError."""
    try:
        data = json.loads(body)
    except ValueError as error:
        raise _unusable(name, "not JSON") from error
    if not isinstance(data, dict):
        raise _unusable(name, "not an object")
    chunk = Chunk(ended=True, done=True)
    _merge(data, chunk, name)
    return chunk


def _take(line: bytes, chunk: Chunk, name: str) -> None:
    if not line.startswith(b"data:"):
        return  # empty, a comment, an event's name or id
    payload = line[5:].strip()
    if payload == b"[DONE]":
        chunk.ended = chunk.done = True
        return
    if not payload:
        return
    try:
        data = json.loads(payload)
    except ValueError:
        chunk.malformed += 1
        return
    if isinstance(data, dict):
        _merge(data, chunk, name)
    else:
        chunk.malformed += 1


def _merge(data: dict[str, Any], chunk: Chunk, name: str) -> None:
    if data.get("error"):
        error = data["error"]
        message = error.get("message") if isinstance(error, dict) else error
        raise ModelError(name, f"{name} reported an error: {str(message)[:300]}", False, code="unreachable")
    chunk.alive = True
    usage = data.get("usage")
    if isinstance(usage, dict):
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(completion, int):
            chunk.usage = Usage(prompt, completion)
    choices = data.get("choices")
    if not choices:
        return  # the last chunk tells the usage only
    choice = choices[0] if isinstance(choices, list) else None
    if not isinstance(choice, dict):
        chunk.malformed += 1
        return
    said = choice.get("delta") or choice.get("message")
    content = said.get("content") if isinstance(said, dict) else None  # reasoning_content is no answer
    if isinstance(content, str):
        chunk.text += content
    finish = choice.get("finish_reason")
    if isinstance(finish, str) and finish:
        chunk.finish = finish if finish in ("length", "content_filter") else "stop"
        chunk.ended = True


def _unusable(name: str, what: str) -> ModelError:
    return ModelError(name, f"{name} sent {what}.", False, code="unusable")


class ThinkFilter:
    """Drops `<think>…</think>` at the beginning of an answer, which some servers leave in the content."""

    _OPEN, _CLOSE = "<think>", "</think>"

    def __init__(self) -> None:
        self._state = "start"  # start, inside, after
        self._kept = ""

    def feed(self, text: str) -> str:
        """What of the answer may be shown now."""
        if self._state == "over":
            return text
        self._kept += text
        if self._state == "start":
            begun = self._kept.lstrip()
            if not begun.startswith(self._OPEN):
                if self._OPEN.startswith(begun):
                    return ""  # may still become one
                return self._over(self._kept)
            self._state = "inside"
            self._kept = begun[len(self._OPEN) :]
        if self._state == "inside":
            _, closed, rest = self._kept.partition(self._CLOSE)
            if not closed:
                self._kept = self._kept[-len(self._CLOSE) + 1 :]
                return ""
            self._state, self._kept = "after", rest
        rest = self._kept.lstrip()
        return self._over(rest) if rest else ""

    def close(self) -> str:
        """What was kept back and turned out to be answer."""
        return self._kept if self._state == "start" else ""

    def _over(self, text: str) -> str:
        self._state, self._kept = "over", ""
        return text
