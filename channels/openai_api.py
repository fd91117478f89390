"""The OpenAI-compatible API: a bot is a model. The same road as every message; only the words on the wire differ.

Source: OpenAI API reference, "Chat" and "Models"; errors in its form: {"error": {message, type, param, code}}.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, request

from bot.config import Section
from bot.errors import BadRequest
from bot.normalise import normalise
from bot.tables import ApiKey, new_id, utcnow
from bot.types import Incoming, Said
from channels.http import bearer, read_json

KIND = "openai_api"
SECRET_KEYS: frozenset[str] = frozenset()
LARGEST_BODY = 2 * 1024 * 1024
MAX_MESSAGES = 500
MAX_CHARS = 100_000  # of one message
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
FINISH = {"stop": "stop", "length": "length", "blocked": "content_filter", "stopped": "stop", "handoff": "stop"}


class Config(Section):
    """No keys of its own."""


@dataclass(frozen=True)
class Road:
    """What this API needs of the rest of the house; app.py fills it in.

    key(digest) → the API key of that SHA-256 or None; bots(key) → names of the published bots it may use, with when
    they were made (Unix seconds); submit(bot name, incoming, overrides) → turn_id; watch and stop as in the web chat.
    """

    key: Callable[[str], ApiKey | None]
    bots: Callable[[ApiKey], dict[str, int]]
    submit: Callable[[str, Incoming, dict[str, Any]], str]
    watch: Callable[[str, int], Iterator[tuple[int, str, dict[str, Any]] | None]]
    stop: Callable[[str], None]


def make_blueprint(road: Road) -> Blueprint:
    """The routes /v1/models and /v1/chat/completions."""
    bp = Blueprint("openai_api", __name__, url_prefix="/v1")
    bp.add_url_rule("/models", view_func=lambda: _models(road), endpoint="models")
    bp.add_url_rule("/models/<name>", view_func=lambda name: _model(road, name), endpoint="model")
    bp.add_url_rule("/chat/completions", methods=["POST"], view_func=lambda: _completions(road), endpoint="completions")
    bp.register_error_handler(BadRequest, error_response)
    return bp


def digest(key: str) -> str:
    """What is kept of an API key. Long random keys need no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


def error_response(error: BadRequest) -> Response:
    """OpenAI's form of an error, with its status."""
    kind = ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    response = jsonify(error={"message": str(error), "type": kind, "param": None, "code": error.code})
    response.status_code = error.status
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(int(error.retry_after_s) + 1)
    return response


def _key(road: Road) -> ApiKey:
    found = road.key(digest(bearer(request)))
    if found is None:
        raise BadRequest("invalid_api_key", "This API key is not known. Make one in the console.", 401)
    return found


def _models(road: Road) -> Response:
    bots = road.bots(_key(road))
    return jsonify(object="list", data=[_as_model(name, made) for name, made in bots.items()])


def _model(road: Road, name: str) -> Response:
    bots = road.bots(_key(road))
    if name not in bots:
        raise _no_model(name)
    return jsonify(_as_model(name, bots[name]))


def _as_model(name: str, made: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": made, "owned_by": "qingniao"}


def _no_model(name: str) -> BadRequest:
    return BadRequest("model_not_found", f"The model `{name}` does not exist: name a published bot.", 404)


def _completions(road: Road) -> Response:
    key = _key(road)
    body = read_json(request, LARGEST_BODY)
    name = body.get("model")
    if not isinstance(name, str) or name not in road.bots(key):
        raise _no_model(str(name)[:100])
    said = _conversation(body.get("messages"))
    user = body.get("user")
    incoming = Incoming(
        channel="",
        message_id=new_id(),
        user_id=f"api-{key.id}-{normalise(user)}"[:200] if isinstance(user, str) else f"api-{key.id}",
        chat_id=new_id(),
        text=said[-1].text,
        sent_at=utcnow(),
        history=tuple(said[:-1]),
    )
    turn_id = road.submit(name, incoming, _overrides(body))
    if body.get("stream") is True:
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        return _stream(road, turn_id, name, with_usage)
    return _whole(road, turn_id, name)


def _conversation(messages: Any) -> list[Said]:
    """The messages as we keep them; the last must be the user's. Raises BadRequest that names what is wrong."""
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise BadRequest("invalid_messages", f"`messages` must be a list of 1 to {MAX_MESSAGES} messages.")
    said = [_said(place, message) for place, message in enumerate(messages)]
    kept = [one for one in said if one.text]
    if not kept or said[-1].role != "user" or not said[-1].text:
        raise BadRequest("invalid_messages", "The last of `messages` must be the user's, with text in it.")
    return kept


def _said(place: int, message: Any) -> Said:
    where = f"`messages[{place}]`"
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system", "developer"):
        raise BadRequest("invalid_messages", f"{where}.role must be user, assistant, system or developer.")
    content = message.get("content")
    if isinstance(content, list):  # parts: text is read, the rest is not
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "\n".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str):
        raise BadRequest("invalid_messages", f"{where}.content must be text or a list of text parts.")
    if len(content) > MAX_CHARS:
        raise BadRequest("too_long", f"{where}.content has more than {MAX_CHARS} characters.", 413)
    role = message["role"]
    return Said("system" if role in ("system", "developer") else role, normalise(content))


def _overrides(body: dict[str, Any]) -> dict[str, Any]:
    """temperature and max_tokens for this turn, where the caller gives them."""
    overrides: dict[str, Any] = {}
    temperature = body.get("temperature")
    if temperature is not None:
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
            raise BadRequest("invalid_temperature", "`temperature` must be a number from 0 to 2.")
        overrides["temperature"] = float(temperature)
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise BadRequest("invalid_max_tokens", "`max_tokens` must be a whole number above 0.")
        overrides["max_tokens"] = most
    return overrides


def _usage(done: dict[str, Any]) -> dict[str, int]:
    usage = done["usage"]
    return {**usage, "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}


def _failed(data: dict[str, Any]) -> BadRequest:
    return BadRequest(str(data.get("code", "error")), str(data.get("message", "The answer failed.")), 502)


def _whole(road: Road, turn_id: str, name: str) -> Response:
    for told in road.watch(turn_id, 0):
        if told is None:
            continue
        _, event, data = told
        if event == "error":
            raise _failed(data)
        if event == "done":
            message = {"role": "assistant", "content": data["text"], "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH.get(data["finish"], "stop")}
            return jsonify(
                id=f"chatcmpl-{turn_id}",
                object="chat.completion",
                created=int(time.time()),
                model=name,
                choices=[choice],
                usage=_usage(data),
                citations=data["citations"],
            )
    raise BadRequest("no_answer", "The answer ended without a word. Please try again.", 502)


def _stream(road: Road, turn_id: str, name: str, with_usage: bool) -> Response:
    base = {"id": f"chatcmpl-{turn_id}", "object": "chat.completion.chunk", "created": int(time.time()), "model": name}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if with_usage else {}
        return f"data: {json.dumps({**base, 'choices': [choice], **usage}, ensure_ascii=False)}\n\n"

    def lines() -> Iterator[str]:
        yield chunk({"role": "assistant", "content": ""})
        sent, said, again, ended = "", "", False, False
        try:
            for told in road.watch(turn_id, 0):
                if told is None:
                    yield ": still here\n\n"
                    continue
                _, event, data = told
                if event == "delta":
                    said += data["text"]
                    if again and not said.startswith(sent):
                        continue  # it has not come beyond what was sent before
                    rest, sent = said[len(sent) :], said
                    if rest:
                        yield chunk({"content": rest})
                elif event == "error":
                    error = {"message": data.get("message"), "type": "server_error", "param": None, "code": data.get("code")}
                    yield f"data: {json.dumps({'error': error}, ensure_ascii=False)}\n\n"
                    ended = True
                    return
                elif event == "replace" and not data["text"]:
                    again = True  # its worker died: the answer begins anew, and what was sent cannot be taken back
                    said = ""
                elif event == "done":
                    if rest := _rest(sent, data):
                        yield chunk({"content": rest})
                    yield chunk({}, FINISH.get(data["finish"], "stop"))
                    if with_usage:
                        last = {**base, "choices": [], "usage": _usage(data)}
                        yield f"data: {json.dumps(last, ensure_ascii=False)}\n\n"
                    yield "data: [DONE]\n\n"
                    ended = True
                    return
        finally:
            if not ended:  # the caller went away: nobody wants the rest
                road.stop(turn_id)

    response = Response(lines(), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _rest(sent: str, done: dict[str, Any]) -> str:
    """What the caller still has to be sent. This protocol cannot take words back: a refusal follows what was said.

    Where clean-up changed the end of an answer (a mark that led nowhere was taken out) nothing is said twice.
    """
    text: str = done["text"]
    if text.startswith(sent):
        return text[len(sent) :]
    return f"\n\n{text}" if done["finish"] == "blocked" else ""
