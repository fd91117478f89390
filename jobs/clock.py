"""The clock: RQ's cron rings the bell every two seconds, so that whatever a lost bell left waiting is answered."""

from __future__ import annotations

import logging
import time

import redis
from rq.cron import CronScheduler

from jobs import housekeeping, reply
from jobs.services import HEAVY, REPLIES, Services

logger = logging.getLogger(__name__)

RING_S = 2
RESUME_S = 20
TIDY_S = 3600


def run(services: Services) -> None:
    """Send out the periodic jobs until told to stop; outlives Redis."""
    while True:
        scheduler = CronScheduler(services.redis, logging_level=logging.WARNING)
        scheduler.register(reply.answer_waiting, REPLIES, interval=RING_S, result_ttl=0, ttl=RING_S + 1, failure_ttl=60, job_timeout=3600)
        scheduler.register(housekeeping.resume_documents, HEAVY, interval=RESUME_S, result_ttl=0, ttl=RESUME_S, failure_ttl=3600)
        scheduler.register(housekeeping.tidy, HEAVY, interval=TIDY_S, result_ttl=0, ttl=TIDY_S, failure_ttl=86400)
        try:
            scheduler.start()
            return
        except redis.RedisError as error:
            logger.warning("the clock waits for Redis: %s", error)
            time.sleep(0.5)
