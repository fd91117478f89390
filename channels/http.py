"""What our own HTTP APIs share: JSON in, JSON out, errors in one form and in the caller's language."""

from __future__ import annotations

import json
import math
from typing import Any

from flask import Request, Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from bot.errors import BadRequest, Unreadable
from bot.texts import CATALOGUE, say

LARGEST_BODY = 256 * 1024


def locale_of(request: Request) -> str:
    """zh or en, as the browser prefers."""
    return request.accept_languages.best_match(["zh", "en"], default="zh") or "zh"


def client_address(request: Request) -> str | None:
    """The address of who calls, as a proxy on this machine tells it; None for a caller on this machine itself.

    What a proxy elsewhere says is not believed: it could be anybody's.
    """
    peer = request.remote_addr or ""
    if peer not in ("127.0.0.1", "::1"):
        return peer
    told = request.headers.get("X-Forwarded-For", "").rsplit(",", 1)[-1].strip()
    return told or None


def read_json(request: Request, largest: int = LARGEST_BODY, or_nothing: bool = False) -> dict[str, Any]:
    """The body as a JSON object; {} for an empty one where or_nothing. Raises Unreadable (400) or BadRequest (413)."""
    request.max_content_length = largest  # holds for bodies that do not tell their length, too
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise BadRequest("too_large", f"The request is larger than {largest} bytes.", 413) from error
    if not raw and or_nothing:
        return {}
    try:
        body = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Unreadable("unreadable", "The body must be JSON in UTF-8.") from error
    if not isinstance(body, dict):
        raise Unreadable("unreadable", "The body must be a JSON object.")
    return body


def bearer(request: Request) -> str:
    """The Bearer token. Raises BadRequest 401 when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() != "bearer" or not token.strip():
        raise BadRequest("unauthorized", "Send the token as `Authorization: Bearer …`.", 401)
    return token.strip()


def error_response(error: BadRequest) -> Response:
    """`{"error": {"code", "message"}}` with its status; 429 carries Retry-After."""
    key = f"api.{error.code}"
    message = say(key, locale_of(request)) if key in CATALOGUE else str(error)
    response = jsonify(error={"code": error.code, "message": message})
    response.status_code = error.status
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response
