"""How often one visitor may ask: a window in Redis, shared by all processes."""

from __future__ import annotations

import logging
import time

import redis

from bot.errors import BadRequest
from jobs.services import Services

logger = logging.getLogger(__name__)

WINDOW_S = 60


def allow(services: Services, who: str, most: int) -> None:
    """Count one call of `who`; raises BadRequest 429 when it is more than `most` in a minute.

    Without Redis nobody is refused: an answer is worth more than the limit.
    """
    window = int(time.time()) // WINDOW_S
    key = f"limit:{who}:{window}"
    try:
        count = int(services.redis.incr(key))
        if count == 1:
            services.redis.expire(key, WINDOW_S + 5)
    except redis.RedisError as error:
        logger.warning("limits are not counted: %s", error)
        return
    if count > most:
        wait_s = (window + 1) * WINDOW_S - time.time()
        raise BadRequest("rate_limited", "Too many messages. Please wait a moment.", 429, retry_after_s=max(1.0, wait_s))
