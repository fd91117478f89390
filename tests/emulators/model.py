"""Plays an OpenAI-compatible model over real HTTP: for tests, benchmarks, and trying things by hand.

It refuses what the real ones refuse (key, shape, roles, model, sizes), keeps a transcript, and can be slow, break off,
limit the rate, send malformed chunks and hang. One thread, one event loop; an answer costs it less than a millisecond.

    python -m tests.emulators.model --port 9100 --delay 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

KEY = "sk-emulated-0123456789"
MODEL = "chat-large"
EMBEDDING_MODEL = "embed-large"
CONTEXT_TOKENS = 32000
MOST_BODY_BYTES = 4_000_000
MOST_EMBEDDED = 64
DIMENSIONS = 32
ROLES = {"system", "developer", "user", "assistant", "tool"}
CHAT_KEYS = {
    "model", "messages", "stream", "stream_options", "temperature", "max_tokens", "max_completion_tokens", "top_p", "stop",
    "tools", "tool_choice", "user", "response_format", "seed", "presence_penalty", "frequency_penalty", "n",
}  # fmt: skip
_TOKEN = re.compile(r"\s*[A-Za-z0-9]{1,4}|\s*.", re.DOTALL)


@dataclass(frozen=True)
class Behaviour:
    """How one request is answered. Times in seconds; counts in tokens of this emulator."""

    text: str = "Three days."
    delay_s: float = 0.0  # before the first token
    tokens_per_s: float | None = None  # none: all at once
    status: int = 200
    message: str = "The emulator was told to refuse this."
    retry_after: str | None = None
    drop: bool = False  # close the connection without an answer
    break_after: int | None = None  # tokens, then the connection is cut
    hang_after: int | None = None  # tokens, then silence
    error_after: int | None = None  # tokens, then an error event
    malformed: int = 0  # chunks of nonsense before the first token
    raw: bytes | None = None  # this body, whatever it is, as an event stream
    comments_s: float | None = None  # how often a comment keeps the connection open while it delays
    usage: bool = True
    done: bool = True  # whether [DONE] is said
    reasoning: str = ""  # as reasoning_content, before the answer
    finish: str = "stop"
    whole: bool = False  # JSON in one piece although a stream was asked for


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    path: str
    body: dict[str, Any]
    at: float  # time.monotonic()
    headers: dict[str, str] = field(repr=False, default_factory=dict)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body.get("messages", []))

    @property
    def text(self) -> str:
        """All that was said to the model."""
        return "\n".join(str(message.get("content")) for message in self.messages)


class Refusal(Exception):
    """The request is wrong: an HTTP status and OpenAI's error object."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class ModelEmulator:
    """A model on a free port of 127.0.0.1. Use it as a context manager; change its behaviour from any thread."""

    def __init__(
        self, port: int = 0, key: str = KEY, models: tuple[str, ...] = (MODEL, EMBEDDING_MODEL), kept: int = 10_000
    ) -> None:
        self.key = key
        self.models = models
        self.usual = Behaviour()
        self.refuses: set[str] = set()  # parameters that get a 400, such as stream_options
        self.most_embedded = MOST_EMBEDDED
        self.was_asked: deque[Asked] = deque(maxlen=kept)
        self.hung_up = threading.Event()  # a client left in the middle of an answer
        self.connections = 0
        self.open: set[asyncio.Transport] = set()
        self._queue: deque[Behaviour] = deque()
        self._port = port
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="model-emulator", daemon=True)

    def __enter__(self) -> ModelEmulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def will(self, behaviour: Behaviour, times: int = 1) -> None:
        """The next chat requests are answered so; after them, as usual."""
        self._queue.extend([behaviour] * times)

    def will_say(self, text: str, times: int = 1, **how: Any) -> None:
        """The next chat request is answered with text; how: further fields of Behaviour."""
        self.will(Behaviour(text=text, **how), times)

    def will_fail(self, status: int, times: int = 1, **how: Any) -> None:
        """The next chat request is refused with this HTTP status."""
        self.will(Behaviour(status=status, **how), times)

    def always(self, text: str = Behaviour.text, **how: Any) -> None:
        """Every chat request without a behaviour of its own is answered so."""
        self.usual = Behaviour(text=text, **how)

    # --- the server

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=1024)
        except OSError as error:
            self._failure = error
            self._ready.set()
            return
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for transport in list(self.open):
            transport.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self.open:
            await asyncio.sleep(0)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Behaviour | dict[str, Any]:
        """What to answer: a JSON object at once, or the behaviour of a chat. Raises Refusal."""
        if headers.get("authorization") != f"Bearer {self.key}":
            raise Refusal(401, "Incorrect API key provided.", "invalid_api_key")
        if (method, path) == ("GET", "/v1/models"):
            return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "emulator"} for name in self.models]}
        if method != "POST" or path not in ("/v1/chat/completions", "/v1/embeddings"):
            raise Refusal(404, f"Invalid URL ({method} {path})")
        data = self._read(path, headers, body)
        if path == "/v1/embeddings":
            return self._embed(data)
        self._check_chat(data)
        try:
            behaviour = self._queue.popleft()
        except IndexError:
            behaviour = self.usual
        if behaviour.status != 200:
            raise Refusal(behaviour.status, behaviour.message)
        return behaviour

    def _read(self, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if not headers.get("content-type", "").startswith("application/json"):
            raise Refusal(415, "Unsupported content type: send application/json.")
        try:
            data = json.loads(body.decode("utf-8"))
        except ValueError as error:
            raise Refusal(400, "We could not parse the JSON body of your request.") from error
        if not isinstance(data, dict):
            raise Refusal(400, "The body must be an object.")
        self.was_asked.append(Asked(path, data, time.monotonic(), headers))
        for name in data:
            if name in self.refuses:
                raise Refusal(400, f"Unsupported parameter: '{name}' is not supported.", "unsupported_parameter", name)
        if data.get("model") not in self.models:
            raise Refusal(404, f"The model '{data.get('model')}' does not exist.", "model_not_found")
        return data

    def _check_chat(self, data: dict[str, Any]) -> None:
        if unknown := set(data) - CHAT_KEYS:
            raise Refusal(400, f"Unrecognized request argument supplied: {', '.join(sorted(unknown))}")
        messages = data.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Refusal(400, "[] is too short - 'messages'", param="messages")
        for at, message in enumerate(messages):
            if not isinstance(message, dict) or message.get("role") not in ROLES:
                raise Refusal(400, f"Invalid role in messages[{at}].", param=f"messages[{at}].role")
            if not isinstance(message.get("content"), str) or not message["content"]:
                raise Refusal(400, f"Invalid content in messages[{at}].", param=f"messages[{at}].content")
        if "stream_options" in data and not data.get("stream"):
            raise Refusal(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
        temperature = data.get("temperature", 1)
        if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
            raise Refusal(400, "Invalid 'temperature'.", param="temperature")
        limit = data.get("max_tokens", 1)
        if not isinstance(limit, int) or limit < 1:
            raise Refusal(400, "Invalid 'max_tokens'.", param="max_tokens")
        if count_tokens("".join(message["content"] for message in messages)) > CONTEXT_TOKENS:
            raise Refusal(400, f"This model's maximum context length is {CONTEXT_TOKENS} tokens.", "context_length_exceeded")

    def _embed(self, data: dict[str, Any]) -> dict[str, Any]:
        texts = [data["input"]] if isinstance(data.get("input"), str) else data.get("input")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise Refusal(400, "'input' must be a string or a list of strings, none empty.")
        if len(texts) > self.most_embedded:
            raise Refusal(400, f"batch size is invalid, it should not be larger than {self.most_embedded}.")
        rows = [{"object": "embedding", "index": n, "embedding": embedding(text)} for n, text in enumerate(texts)]
        used = sum(map(count_tokens, texts))
        usage = {"prompt_tokens": used, "total_tokens": used}
        return {"object": "list", "model": data["model"], "data": rows[::-1], "usage": usage}


def tokens(text: str) -> list[str]:
    """text in pieces such as a model says it."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens this emulator counts."""
    return -(-len(text.encode()) // 4)


def embedding(text: str) -> list[float]:
    """A vector of DIMENSIONS that is near for texts which share bigrams."""
    vector = [0.0] * DIMENSIONS
    for at in range(max(len(text) - 1, 1)):
        vector[zlib.crc32(text[at : at + 2].encode()) % DIMENSIONS] += 1.0
    length = sum(number * number for number in vector) ** 0.5
    return [number / length for number in vector]


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive: requests with a Content-Length, answered in order."""

    def __init__(self, emulator: ModelEmulator) -> None:
        self.emulator = emulator
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.emulator.connections += 1
        self.emulator.open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.emulator.open.discard(self.transport)
        if self.task is not None and not self.task.done():
            self.emulator.hung_up.set()
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.task is None or self.task.done():
            self.next_request()

    def next_request(self) -> None:
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if length > MOST_BODY_BYTES:
            self.send_json(413, {"error": {"message": "The body is too large.", "type": "invalid_request_error"}})
            self.transport.close()
            return
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        method, path, _ = first.split(" ")
        self.task = asyncio.get_running_loop().create_task(self.respond(method, path, headers, rest[:length]))
        self.task.add_done_callback(lambda task: None if task.cancelled() else self.next_request())

    async def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        waiting = self.emulator._queue[0] if self.emulator._queue else self.emulator.usual
        try:
            answer = self.emulator.answer(method, path, headers, body)
        except Refusal as refusal:
            extra = (
                f"Retry-After: {waiting.retry_after}\r\n" if waiting.retry_after and refusal.status == waiting.status else ""
            )
            self.send_json(refusal.status, refusal.body, extra)
            return
        if isinstance(answer, dict):
            self.send_json(200, answer)
        elif answer.drop:
            self.transport.abort()
        else:
            data = json.loads(body)
            prompt_tokens = count_tokens("".join(message["content"] for message in data["messages"]))
            if data.get("stream") and not answer.whole:
                await self.stream(answer, data, prompt_tokens)
            else:
                await asyncio.sleep(answer.delay_s)
                self.send_json(200, _completion(answer, data["model"], prompt_tokens))

    async def stream(self, behaviour: Behaviour, data: dict[str, Any], prompt_tokens: int) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        if behaviour.delay_s and behaviour.comments_s is None:
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.raw is not None:
            self.transport.write(head + _http_chunk(behaviour.raw) + b"0\r\n\r\n")
            return
        pending = [head]  # what has no pause before it leaves in one write
        wants_usage = bool((data.get("stream_options") or {}).get("include_usage")) and behaviour.usage
        async for event in _events(behaviour, data["model"], prompt_tokens if wants_usage else None):
            if isinstance(event, bytes):
                pending.append(_http_chunk(event))
                continue
            self.transport.write(b"".join(pending))
            pending = []
            if event == "cut":
                self.transport.close()  # without the last chunk of the body
                return
            await (asyncio.Event().wait() if event == "hang" else asyncio.sleep(float(event)))
        self.transport.write(b"".join(pending) + b"0\r\n\r\n")

    def send_json(self, status: int, body: dict[str, Any], headers: str = "") -> None:
        content = json.dumps(body, ensure_ascii=False).encode()
        head = (
            f"HTTP/1.1 {status} Emulated\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
        )
        self.transport.write(head.encode() + content)


async def _events(behaviour: Behaviour, model: str, prompt_tokens: int | None) -> AsyncIterator[bytes | str]:
    """The events of a stream, and between them pauses (seconds as text), `cut` or `hang`."""
    if behaviour.comments_s is not None:
        for _ in range(int(behaviour.delay_s / behaviour.comments_s)):
            yield b": keep-alive\n\n"
            yield str(behaviour.comments_s)
    pause = f"{1 / behaviour.tokens_per_s:.4f}" if behaviour.tokens_per_s else None
    yield _event(_piece(model, {"role": "assistant", "content": ""}))
    for token in tokens(behaviour.reasoning):
        yield _event(_piece(model, {"reasoning_content": token, "content": None}))
    for _ in range(behaviour.malformed):
        yield b'data: {"choices": [{"delta": {"con\n\n'
    said = _said(behaviour.text, model)
    for at, event in enumerate(said):
        if at == behaviour.break_after:
            yield "cut"
        if at == behaviour.hang_after:
            yield "hang"
        if at == behaviour.error_after:
            yield _event({"error": {"message": "The engine is overloaded.", "type": "server_error", "code": None}})
            return
        if pause is not None and at:
            yield pause
        yield event
    yield _event(_piece(model, {}, behaviour.finish))
    if prompt_tokens is not None:
        yield _event({**_piece(model, {}), "choices": [], "usage": _usage(prompt_tokens, len(said))})
    if behaviour.done:
        yield b"data: [DONE]\n\n"


@lru_cache(maxsize=256)
def _said(text: str, model: str) -> tuple[bytes, ...]:
    """The events of a text, kept: benchmarks ask for the same one thousands of times."""
    return tuple(_event(_piece(model, {"content": token})) for token in tokens(text))


def _piece(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "chatcmpl-emulated", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def _completion(behaviour: Behaviour, model: str, prompt_tokens: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": behaviour.text}
    choice = {"index": 0, "message": message, "finish_reason": behaviour.finish}
    usage = {"usage": _usage(prompt_tokens, len(tokens(behaviour.text)))} if behaviour.usage else {}
    return {"id": "chatcmpl-emulated", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], **usage}


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def _http_chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible model that says what it is told to.")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first token")
    parser.add_argument("--tokens-per-s", type=float, default=None)
    parser.add_argument("--answer", default="Refunds reach your account within seven working days.")
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--model", default=MODEL, help="the chat model's name")
    options = parser.parse_args()
    emulator = ModelEmulator(options.port, options.key, (options.model, EMBEDDING_MODEL), kept=100)
    emulator.usual = replace(emulator.usual, text=options.answer, delay_s=options.delay, tokens_per_s=options.tokens_per_s)
    with emulator:
        print(f"{emulator.base_url} key {emulator.key} models {', '.join(emulator.models)}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
