"""The clock: RQ's cron rings the bell every two seconds, so that whatever a lost bell left waiting is answered."""

from __future__ import annotations

import logging
import time

import redis
from rq.cron import CronScheduler

from jobs import housekeeping, reply
from jobs.bell import JOB_TIMEOUT_S
from jobs.services import HEAVY, REPLIES, Services

logger = logging.getLogger(__name__)

RING_S = 2
RESUME_S = 20
TIDY_S = 3600


def run(services: Services) -> None:
    """Send out the periodic jobs until told to stop; outlives Redis."""
    while True:
        scheduler = CronScheduler(services.redis, logging_level=logging.WARNING)
        # Expired before the next one comes: without workers the queue holds one of each, not thousands.
        scheduler.register(
            reply.answer_waiting,
            REPLIES,
            interval=RING_S,
            result_ttl=0,
            ttl=RING_S + 1,
            failure_ttl=60,
            job_timeout=JOB_TIMEOUT_S,
        )
        for job, interval in ((housekeeping.resume_documents, RESUME_S), (housekeeping.tidy, TIDY_S)):
            scheduler.register(job, HEAVY, interval=interval, result_ttl=0, ttl=interval, failure_ttl=86400)
        try:
            scheduler.start()
            return
        except redis.RedisError as error:
            logger.warning("the clock waits for Redis: %s", error)
            time.sleep(0.5)
