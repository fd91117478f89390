"""Models over the OpenAI-compatible protocol: streaming chat, short completions, embeddings. The only import of `openai`.

Requests go out through the package's client (authentication, errors); the stream is read from the raw response, since
building typed chunks costs several times what reading them does. Measured, CPU of an answer of 16 chunks: the package's
own stream 5.0 ms, this module 1.7 ms (of which 20 µs a chunk), httpx2 alone 0.7 ms.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx2
import openai

from bot.breaker import Breaker
from bot.endpoint import BUILTIN, SHORT, USUAL, Endpoint, Groups, Outcome, Timeouts, in_turn
from bot.errors import ModelError
from bot.memory import estimate_tokens, message_tokens
from bot.sse import Chunk, ThinkFilter, read_chunks, read_whole
from bot.types import Usage

__all__ = ["BUILTIN", "SHORT", "ChatStream", "Endpoint", "Groups", "Llm", "Outcome", "Timeouts", "in_turn"]

ATTEMPTS = 3  # per endpoint
BACKOFF_S = 0.3  # doubled with each attempt, with jitter
LONGEST_WAIT_S = 10.0  # a Retry-After beyond it fails over instead
EMBED_BATCH = 64
SMALL_EMBED_BATCH = 10  # the least that a known provider (DashScope) takes
MOST_CHARS = 200_000  # of an answer, whatever an endpoint goes on saying
# Kept for less than the minute after which many servers close a connection; a new one costs a TLS handshake.
CONNECTIONS = httpx2.Limits(max_connections=1000, max_keepalive_connections=200, keepalive_expiry=50.0)
RETRYABLE = frozenset({408, 409, 429})
OPTIONAL = ("stream_options", "temperature", "max_tokens")  # left out where an endpoint refuses them by name


class ChatStream:
    """An answer as it comes: iterate over its pieces of text; `outcome` is whole when the iteration ended.

    An empty piece is a sign of life (reasoning, a kept connection), so that a listener who wants to leave can.
    """

    def __init__(self, pieces: Callable[[Outcome], Iterator[str]]) -> None:
        self.outcome = Outcome()
        self._pieces = pieces(self.outcome)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def close(self) -> None:
        """Stop listening; the connection is closed."""
        self._pieces.close()  # type: ignore[attr-defined]


class Llm:
    """The clients of all endpoints, their breakers and what they were found to refuse. One per process, for all threads.

    Nothing is opened before the first call, nor carried through a fork.
    """

    def __init__(self, timeouts: Timeouts = USUAL, sleep: Callable[[float], None] = time.sleep) -> None:
        self.timeouts = timeouts
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._http: httpx2.Client | None = None
        self._clients: dict[tuple[str, str], openai.OpenAI] = {}
        self._breakers: dict[Endpoint, Breaker] = {}
        self._refused: dict[tuple[str, str], frozenset[str]] = {}
        self._ponderous: set[Endpoint] = set()

    # --- chat

    def chat(
        self,
        groups: Groups,
        messages: Sequence[Mapping[str, str]],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeouts: Timeouts | None = None,
        attempts: int = ATTEMPTS,
    ) -> ChatStream:
        """Ask the endpoints of each group in turn until one speaks; then the answer is its.

        Iterating raises ModelError: of the last endpoint when none spoke, or with code broken_stream and what was said
        when one broke off.
        """
        body: dict[str, Any] = {"messages": list(messages), "stream": True, "stream_options": {"include_usage": True}}
        if temperature is not None:
            body["temperature"] = temperature
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        limits = timeouts or self.timeouts
        return ChatStream(lambda outcome: self._converse(groups, body, limits, attempts, outcome))

    def complete(
        self, groups: Groups, messages: Sequence[Mapping[str, str]], max_tokens: int = 200, timeouts: Timeouts = SHORT
    ) -> tuple[str, Outcome]:
        """A short answer, whole; one attempt per endpoint. Raises ModelError.

        A model that used up max_tokens without a word, as one that reasons does, is not asked for short answers again.
        """
        quick = [[endpoint for endpoint in group if endpoint not in self._ponderous] for group in groups]
        stream = self.chat(quick, messages, temperature=0.0, max_tokens=max_tokens, timeouts=timeouts, attempts=1)
        try:
            return "".join(stream), stream.outcome
        except ModelError as error:
            if error.code == "unusable" and stream.outcome.finish == "length":
                self._ponderous.update(endpoint for group in quick for endpoint in group if endpoint.provider == error.service)
            raise

    def _converse(
        self, groups: Groups, body: dict[str, Any], limits: Timeouts, attempts: int, outcome: Outcome
    ) -> Iterator[str]:
        started = time.perf_counter()
        prompt_tokens = sum(message_tokens(message["content"]) for message in body["messages"])
        failure = ModelError("model", "No model is set up, or all of them rest after failures.", False, code="unreachable")
        for endpoint in (endpoint for group in groups for endpoint in in_turn(group)):
            breaker = self.breaker(endpoint)
            for attempt in range(1, attempts + 1):
                if not breaker.allow():
                    outcome.attempts.append({"endpoint": endpoint.name, "error": "resting after failures"})
                    break
                said: list[str] = []
                outcome.endpoint = endpoint
                outcome.usage, outcome.estimated, outcome.finish = Usage(prompt_tokens, 0), True, "stop"
                try:
                    for piece in self._speak(endpoint, body, limits, outcome):
                        if piece:
                            if not said:
                                outcome.first_token_ms = round((time.perf_counter() - started) * 1000, 2)
                            said.append(piece)
                        yield piece
                except ModelError as error:
                    failure = error
                    breaker.failed() if _is_down(error) else breaker.left()
                    outcome.attempts.append({"endpoint": endpoint.name, "code": error.code, "error": str(error)})
                    if said:
                        _count(outcome, said)
                        raise ModelError(
                            endpoint.provider, str(error), False, code="broken_stream", said="".join(said)
                        ) from error
                    if attempt == attempts or not self._wait(error, attempt):
                        break
                except BaseException:  # the listener left, or a fault of ours: neither speaks against the endpoint
                    breaker.succeeded() if said else breaker.left()
                    _count(outcome, said)
                    raise
                else:
                    breaker.succeeded()
                    _count(outcome, said)
                    return
        outcome.endpoint = None
        raise failure

    def _speak(self, endpoint: Endpoint, body: dict[str, Any], limits: Timeouts, outcome: Outcome) -> Iterator[str]:
        """One attempt at one endpoint: its pieces of text. Raises ModelError, also when it ended without a word."""
        think = ThinkFilter()
        ended = False
        length = 0
        for chunk in self._chunks(endpoint, body, limits):
            outcome.malformed += chunk.malformed
            ended = ended or chunk.ended
            if chunk.usage is not None:
                outcome.usage, outcome.estimated = chunk.usage, False
            if chunk.finish:
                outcome.finish = "filtered" if chunk.finish == "content_filter" else chunk.finish
            text = think.feed(chunk.text) if chunk.text else ""
            length += len(text)
            yield text
            if length > MOST_CHARS:
                outcome.finish = "length"
                return
        if not ended:
            raise ModelError(endpoint.provider, f"{endpoint.name} broke off in the middle.", False, code="broken_stream")
        rest = think.close()
        yield rest
        if not length and not rest and outcome.finish != "filtered":
            raise ModelError(endpoint.provider, f"{endpoint.name} ended without a word.", False, code="unusable")

    def _chunks(self, endpoint: Endpoint, body: dict[str, Any], limits: Timeouts) -> Iterator[Chunk]:
        started = time.monotonic()
        response = self._request(endpoint, "/chat/completions", body, limits, stream=True)
        ended = False
        try:
            if "json" in response.headers.get("content-type", ""):  # it does not stream
                yield read_whole(response.read(), endpoint.name)
                return
            # One read time-out holds for a whole body: at least what is left of the first token's.
            left = limits.first_token_s - (time.monotonic() - started)
            response.request.extensions["timeout"]["read"] = max(left, limits.between_tokens_s)
            deadline = started + limits.first_token_s
            packed = "content-encoding" in response.headers  # although not asked for
            for chunk in read_chunks(response.iter_bytes() if packed else response.iter_raw(), endpoint.name):
                ended = chunk.ended
                now = time.monotonic()
                if now > deadline and not chunk.alive:  # only comments that keep the connection open
                    raise ModelError(endpoint.provider, f"{endpoint.name} sent nothing in time.", False, code="timeout")
                if chunk.alive:
                    deadline = now + limits.between_tokens_s
                yield chunk
        except httpx2.HTTPError as error:
            if ended:
                return  # it said all, and only failed to say goodbye
            if isinstance(error, httpx2.TimeoutException):
                raise ModelError(endpoint.provider, f"{endpoint.name} fell silent.", False, code="timeout") from error
            message = f"{endpoint.name} broke off: {_redact(str(error), endpoint)}"
            raise ModelError(endpoint.provider, message, False, code="broken_stream") from error
        finally:
            response.close()

    def _wait(self, error: ModelError, attempt: int) -> bool:
        """Sleep before the next attempt at the same endpoint; False when there is no point in one."""
        if error.permanent or error.code in ("timeout", "unusable"):
            return False
        pause = BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
        if error.retry_after_s is not None:
            if error.retry_after_s > LONGEST_WAIT_S:
                return False
            pause = max(pause, error.retry_after_s)
        self._sleep(pause)
        return True

    # --- embeddings

    def embed(self, endpoint: Endpoint, texts: Sequence[str], timeouts: Timeouts | None = None) -> list[list[float]]:
        """A vector for each text, in order. Raises ModelError."""
        vectors: list[list[float]] = []
        size = EMBED_BATCH
        at = 0
        while at < len(texts):
            batch = list(texts[at : at + size])
            try:
                vectors += self._embed_batch(endpoint, batch, timeouts or self.timeouts)
            except ModelError as error:
                if error.code == "refused" and len(batch) > SMALL_EMBED_BATCH:
                    size = SMALL_EMBED_BATCH
                    continue
                raise
            at += len(batch)
        return vectors

    def _embed_batch(self, endpoint: Endpoint, texts: list[str], limits: Timeouts) -> list[list[float]]:
        body = {"input": texts, "encoding_format": "float"}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._request(endpoint, "/embeddings", body, limits)
                rows = sorted(json.loads(response.content)["data"], key=lambda row: int(row["index"]))
                vectors = [[float(number) for number in row["embedding"]] for row in rows]
                if len(vectors) != len(texts):
                    raise ValueError(f"{len(vectors)} vectors for {len(texts)} texts")
                return vectors
            except (ValueError, KeyError, TypeError) as error:
                message = f"{endpoint.name} gave no vectors: {error}"
                raise ModelError(endpoint.provider, message, False, code="unusable") from error
            except ModelError as error:
                if attempt == ATTEMPTS or not self._wait(error, attempt):
                    raise
        raise AssertionError("unreachable")

    # --- requests

    def _request(
        self, endpoint: Endpoint, path: str, body: dict[str, Any], limits: Timeouts, stream: bool = False
    ) -> httpx2.Response:
        """POST body; what the endpoint is known to refuse is left out. Raises ModelError."""
        key = (endpoint.base_url, endpoint.model)
        refused = self._refused.get(key, frozenset())
        while True:
            sent = {name: value for name, value in body.items() if name not in refused}
            if "max_tokens" in body and "max_tokens" in refused:
                sent["max_completion_tokens"] = body["max_tokens"]  # OpenAI's reasoning models
            try:
                response = self._post(endpoint, path, {"model": endpoint.model, **sent}, limits, stream)
            except openai.BadRequestError as error:
                culprit = next((name for name in OPTIONAL if name in sent and name in _words(error)), None)
                if culprit is None and "stream_options" in sent:
                    culprit = "stream_options"  # some do not say what they dislike; this is the one they may not know
                if culprit is None:
                    raise _model_error(error, endpoint) from error
                refused |= {culprit}
            except openai.OpenAIError as error:
                raise _model_error(error, endpoint) from error
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
                message = f"{endpoint.name} cannot be asked: {_redact(str(error), endpoint)}"
                raise ModelError(endpoint.provider, message, True, code="refused") from error
            else:
                self._refused[key] = refused  # remembered only now that leaving it out was seen to help
                return response

    def _post(self, endpoint: Endpoint, path: str, body: dict[str, Any], limits: Timeouts, stream: bool) -> httpx2.Response:
        timeout = httpx2.Timeout(limits.first_token_s, connect=limits.connect_s, pool=limits.first_token_s)
        client = self._client(endpoint)
        # With Response as cast_to the client hands over the response itself, open where it streams.
        return client.post(
            path,
            cast_to=httpx2.Response,
            body=body,
            options={"timeout": timeout, "headers": {"Accept-Encoding": "identity"} if stream else {}},
            stream=stream,
            stream_cls=None,
        )

    def _client(self, endpoint: Endpoint) -> openai.OpenAI:
        key = (endpoint.base_url, endpoint.api_key)
        if not (endpoint.api_key.isascii() and endpoint.api_key.strip().isprintable()):
            # Told here, without the key: the HTTP client's own error would quote it.
            message = f"The key of {endpoint.provider} holds characters that no key has."
            raise ModelError(endpoint.provider, message, True, code="refused")
        client = self._clients.get(key)
        if client is not None and self._pid == os.getpid():
            return client
        with self._lock:
            if self._pid != os.getpid():  # after a fork: the parent's connections are the parent's
                self._pid, self._http, self._clients = os.getpid(), None, {}
            if self._http is None:
                self._http = httpx2.Client(limits=CONNECTIONS)
            if key not in self._clients:
                self._clients[key] = openai.OpenAI(
                    base_url=endpoint.base_url,
                    api_key=endpoint.api_key.strip() or "none",
                    http_client=self._http,
                    max_retries=0,
                )
            return self._clients[key]

    def breaker(self, endpoint: Endpoint) -> Breaker:
        """The endpoint's breaker."""
        with self._lock:
            return self._breakers.setdefault(replace(endpoint, weight=1, context=0, price_in=0, price_out=0), Breaker())

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._http is not None and self._pid == os.getpid():
                self._http.close()
            self._http, self._clients = None, {}


def _count(outcome: Outcome, said: list[str]) -> None:
    if outcome.estimated:
        outcome.usage = replace(outcome.usage, completion_tokens=estimate_tokens("".join(said)))


def _is_down(error: ModelError) -> bool:
    """Whether the failure tells of a service that is down, rather than of a wrong request or a spent quota."""
    return error.code in ("timeout", "unreachable", "broken_stream") or (error.code == "unusable" and not error.permanent)


def _model_error(error: openai.OpenAIError, endpoint: Endpoint) -> ModelError:
    """Ours for one of the package's, without the key."""
    service, name = endpoint.provider, endpoint.name
    if isinstance(error, openai.APITimeoutError):
        if isinstance(error.__cause__, httpx2.ConnectTimeout):
            return ModelError(service, f"{name} could not be reached in time.", False, code="unreachable")
        return ModelError(service, f"{name} did not answer in time.", False, code="timeout")
    if isinstance(error, openai.APIConnectionError):
        why = _redact(str(error.__cause__ or error), endpoint)
        return ModelError(service, f"{name} could not be reached: {why}", False, code="unreachable")
    if isinstance(error, openai.APIStatusError):
        status, wait = error.status_code, _retry_after(error.response)
        message = f"{name} answered {status}: {_redact(_words(error), endpoint)}"
        code = "rate_limited" if status == 429 else "unreachable" if status >= 500 else "refused"
        permanent = status < 500 and status not in RETRYABLE
        return ModelError(service, message, permanent, wait, code=code, status=status)
    return ModelError(service, f"{name} cannot be asked: {_redact(str(error), endpoint)}", True, code="refused")


def _words(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error")
        detail = inner if isinstance(inner, dict) else body
        return str(detail.get("message") or inner or body)[:500]
    return (str(body) if body else error.message)[:500]


def _redact(text: str, endpoint: Endpoint) -> str:
    key = endpoint.api_key.strip()
    return " ".join((text.replace(key, "••••") if len(key) >= 4 else text).split())[:500]


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds to wait. Source: RFC 9110, section 10.2.3; `retry-after-ms` is OpenAI's."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = response.headers.get(name, "")
        if text.replace(".", "", 1).isdecimal():
            return float(text) / unit
    return None
