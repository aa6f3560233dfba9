"""Clocks: the wall clock, and a faster one shared with a sandbox.

The rule: a process reads the time from one `Clock`, made at its entry point, and passes it (or its `now`) on.
Against the sandbox the daemon runs on the sandbox's clock, so that production policies, with their minutes, grains
and lags untouched, are rehearsed in a minute or two.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, kw_only=True)
class WallClock:
    """A clock that started at `epoch` (POSIX seconds) and since then runs `speed` times as fast as the wall clock.

    With speed 1 it is the wall clock. Two processes that are given the same epoch and speed read the same time.
    """

    epoch: float = 0.0
    speed: float = 1.0

    def now(self) -> datetime:
        """The time on this clock, UTC."""
        return datetime.fromtimestamp(self.epoch, UTC) + timedelta(seconds=(time.time() - self.epoch) * self.speed)

    def monotonic(self) -> float:
        """Seconds on this clock since some moment; never runs backwards."""
        return time.monotonic() * self.speed

    def real_seconds(self, duration: timedelta) -> float:
        """How many seconds a person waits while `duration` passes on this clock."""
        return duration.total_seconds() / self.speed
