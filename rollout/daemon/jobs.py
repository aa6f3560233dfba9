"""What the daemon does again and again, on APScheduler: look at Azure, renew leases, send alerts, read policies.

The rule: a handful of fixed jobs, each in a pool of its own kind, never two runs of one job at once. A job that fails is
told in one sentence (again only when the sentence changes) and comes round again. Intervals are on the daemon's clock.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from rollout.daemon.pools import Pool
from rollout.errors import RolloutError
from rollout.ports import Clock

#: However fast the clock, a job does not run more often than this; in seconds.
AT_MOST_EVERY = 0.2


class Job:
    """Something to do again and again; `run` may be called from any thread and is never run twice at once."""

    def __init__(
        self, name: str, work: Callable[[], None], *, every: float, pool: Pool, log: structlog.stdlib.BoundLogger
    ) -> None:
        self.name = name
        self.every = every  # seconds that a person waits
        self._pool = pool
        self._work = work
        self._log = log
        self._running = threading.Lock()
        self._hurried = threading.Event()
        self._told: str | None = None

    def run(self) -> None:
        """Do it now; never raises."""
        with self._running:
            self._hurried.clear()
            try:
                self._work()
            except RolloutError as error:
                self._tell(error.message)
            except Exception as error:
                self._told = str(error)
                self._log.error(f"{self.name} failed in a way that nobody foresaw.", exc_info=error)
            else:
                if self._told is not None:
                    self._told = None
                    self._log.info(f"{self.name} works again.")

    async def scheduled(self) -> None:
        """Do it in its pool; that nobody waits for its end any more, when the daemon stops, is no error."""
        with suppress(asyncio.CancelledError):
            await asyncio.wrap_future(self._pool.submit(self.run))

    def hurry(self) -> None:
        """Do it as soon as a thread of its pool is free; what is already waiting is not doubled."""
        if not self._hurried.is_set():
            self._hurried.set()
            self._pool.submit(self.run)

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            self._log.warning(f"{self.name} failed; it will be tried again.", reason=reason)


class Jobs:
    """All jobs and their scheduler; lives in the event loop's thread."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self) -> None:
        """Run every job once, and then at its interval."""
        for job in self._jobs:
            self._scheduler.add_job(job.scheduled, "interval", seconds=job.every, id=job.name, name=job.name)
            job.hurry()
        self._scheduler.start()

    def stop(self) -> None:
        """Begin no more runs."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)


def seconds(clock: Clock, interval: timedelta) -> float:
    """An interval on this clock as seconds that a person waits, within reason."""
    return max(AT_MOST_EVERY, clock.real_seconds(interval))
