"""The bell that tells reply workers that something waits. Only a bell: what waits is in the database.

A job on the queue answers whatever waits, and its thread then stays a moment for more (see `jobs.reply`). So ringing
first looks for a thread that is idle, and only else puts a job on the queue, once until a worker has begun it: under
load few jobs serve many messages.
"""

from __future__ import annotations

import logging
import time

import redis

from bot.tables import new_id
from jobs.services import Services

logger = logging.getLogger(__name__)

IDLE = "bell:idle"  # sorted set: idle threads, by when they stop waiting (seconds)
DING = "bell:ding"  # list: one entry wakes one idle thread
QUEUED = "bell:queued"  # there is a job on the queue that nobody has begun
QUEUED_S = 2  # if that job was lost, the next ring queues another
JOB_TIMEOUT_S = 3600
ANSWER_JOB = "jobs.reply.answer_waiting"

# Returns 1 when the caller must put a job on the queue.
_RING = """
local now = redis.call('TIME')[1]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)
if redis.call('ZCARD', KEYS[1]) > redis.call('LLEN', KEYS[2]) then
  redis.call('RPUSH', KEYS[2], '1')
  redis.call('EXPIRE', KEYS[2], 3)
  return 0
end
if redis.call('SET', KEYS[3], '1', 'NX', 'EX', ARGV[1]) then return 1 end
return 0
"""


def ring(services: Services) -> None:
    """Wake a reply worker. Without Redis nothing is lost: the clock rings again (see `jobs.clock`)."""
    try:
        script = services.redis.register_script(_RING)
        if script(keys=[IDLE, DING, QUEUED], args=[QUEUED_S]):
            enqueue_answering(services)
    except redis.RedisError as error:
        logger.warning("the bell did not ring, the clock will: %s", error)


def enqueue_answering(services: Services) -> None:
    """Put the job that answers what waits on its queue."""
    services.replies.enqueue_call(ANSWER_JOB, timeout=JOB_TIMEOUT_S, result_ttl=0, failure_ttl=60, ttl=60)


def begun(services: Services) -> None:
    """A job has begun: the next ring may queue another. Call before looking for what waits."""
    try:
        services.redis.delete(QUEUED)
    except redis.RedisError as error:
        logger.warning("the bell is stuck for %s s: %s", QUEUED_S, error)


def wait_for_ding(services: Services, seconds: int) -> bool:
    """Be idle: true as soon as the bell rings for this thread, false after `seconds` without."""
    me = new_id()
    try:
        pipeline = services.redis_blocking.pipeline(transaction=False)
        pipeline.zadd(IDLE, {me: int(time.time()) + seconds})
        pipeline.blpop([DING], timeout=seconds)
        pipeline.zrem(IDLE, me)
        pipeline.lpop(DING)  # one that rang between the end of our patience and our leaving
        _, ding, _, late = pipeline.execute()
        return ding is not None or late is not None
    except redis.RedisError as error:
        logger.debug("not idling without Redis: %s", error)
        return False
