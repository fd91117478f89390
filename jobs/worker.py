"""The reply worker: an RQ worker whose jobs run on threads, because answers wait on the network.

RQ's own book-keeping stays: executions, heartbeats, registries, the intermediate queue. What a killed worker's jobs
were about is not lost with them: the rows know, and the clock rings.
"""

from __future__ import annotations

import logging
import threading
import time
from types import FrameType

import redis
from rq import Queue
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.timeouts import TimerDeathPenalty
from rq.worker import BaseWorker

from bot.errors import StoreError
from bot.tables import new_id
from jobs import health, leases
from jobs.leases import RENEW_S, Desk
from jobs.services import REPLIES, connect

logger = logging.getLogger(__name__)

GRACE_S = 7  # a stopping worker lets answers end for this long, then gives their turns back
BEAT_S = 30


class ThreadWorker(BaseWorker):
    """Runs up to `threads` jobs at once, each on a thread of its own."""

    death_penalty_class = TimerDeathPenalty  # signals reach only the main thread
    max_connection_wait_time = 1.0  # chats wait: look for Redis every second
    log_job_description = False

    def __init__(self, desk: Desk, threads: int, connection: redis.Redis) -> None:
        super().__init__([REPLIES], name=f"replies-{new_id()}", connection=connection, default_result_ttl=0)
        self.desk = desk
        self._free = threading.BoundedSemaphore(threads)
        self._running: dict[Execution, tuple[Job, threading.Thread]] = {}
        self._running_lock = threading.Lock()

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> tuple[Job, Queue] | None:
        """Take a job off the queue only when there is a thread for it."""
        while not self._free.acquire(timeout=1):
            if self.desk.stopping.is_set():
                raise StopRequested
        try:
            result = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        except BaseException:
            self._free.release()
            raise
        if result is None:
            self._free.release()
        return result

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Perform the job on a thread; the slot was taken when it was dequeued."""
        execution = self.prepare_execution(job)
        thread = threading.Thread(target=self._perform, args=(job, queue, execution), name=job.id, daemon=True)
        with self._running_lock:
            self._running[execution] = (job, thread)
        thread.start()

    def _perform(self, job: Job, queue: Queue, execution: Execution) -> None:
        try:
            self.perform_job(job, queue, execution)
        except redis.RedisError as error:
            logger.warning("the queue's notes on job %s were not written: %s", job.id, error)
        finally:
            with self._running_lock:
                self._running.pop(execution, None)
            self._free.release()

    def beat(self) -> None:
        """Tell RQ that the running jobs live."""
        with self._running_lock:
            running = [(execution, job) for execution, (job, _) in self._running.items()]
        for execution, job in running:
            self.maintain_heartbeats(job, execution)

    def request_stop(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: take no more jobs; answers get GRACE_S to end. A second signal changes nothing."""
        if not self.desk.stopping.is_set():
            self.desk.stopping.set()
            raise StopRequested

    def wait_for_threads(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._running_lock:
            threads = [thread for _, thread in self._running.values()]
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


class Crew:
    """The reply worker of one process, kept at work while Redis and the database come and go."""

    def __init__(self, desk: Desk, threads: int) -> None:
        self.desk = desk
        self.threads = threads
        self.connection = connect(desk.services.settings.redis_url, socket_timeout_s=500)
        self.worker = ThreadWorker(desk, threads, self.connection)

    def work(self) -> None:
        """Work until told to stop, then let answers end for GRACE_S and give the others' turns back."""
        threading.Thread(target=self._keep_beating, name="beat", daemon=True).start()
        while not self.desk.stopping.is_set():
            try:
                self.worker.work(logging_level="WARNING")
            except (redis.RedisError, ValueError) as error:  # RQ: ValueError when its name is still registered
                logger.warning("the reply worker waits for Redis: %s", error)
            if not self.desk.stopping.wait(0.5):
                self.worker = ThreadWorker(self.desk, self.threads, self.connection)
        self.worker.wait_for_threads(GRACE_S)
        try:
            leases.release(self.desk)
            health.say_gone(self.desk.services, self.desk.owner)
        except (StoreError, redis.RedisError) as error:
            logger.warning("this worker's end was not noted; its leases run out: %s", error)

    def _keep_beating(self) -> None:
        """Leases first, and whatever becomes of the rest: a lease that runs out costs an answer its place."""
        rounds = 0
        pause = threading.Event()
        while True:
            try:
                leases.renew(self.desk)
                if rounds == 0:
                    leases.free_those_of_the_dead(self.desk)
                rounds += 1
            except StoreError as error:
                logger.warning("leases wait for the database: %s", error)
            try:
                health.say_alive(self.desk.services, self.desk.owner)
                if rounds % (BEAT_S // RENEW_S) == 0:
                    self.worker.beat()
            except redis.RedisError as error:
                logger.warning("heartbeats wait for Redis: %s", error)
            pause.wait(RENEW_S)
