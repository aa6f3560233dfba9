"""Where the time comes from."""

from datetime import datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where `now` comes from (see `rollout.clock`)."""

    def now(self) -> datetime:
        """The time, UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment; never runs backwards."""

    def real_seconds(self, duration: timedelta) -> float:
        """How many seconds a person waits while `duration` passes."""
