"""Whether the daemon lives, and whether it can do its work.

The rule: `alive` looks at our own loops only (a restart would help), `ready` at everything else (a restart would not);
each answer is a list of sentences, empty where all is well.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from rollout.collector import SourceStatus
from rollout.errors import RolloutError
from rollout.ports import Clock, Store

#: A loop that has not turned for so many seconds hangs.
HANGS_AFTER = 30.0
#: A source counts as silent after this many of its intervals, and at least this long; on the daemon's clock.
SILENT_AFTER, SILENT_AT_LEAST = 4, timedelta(seconds=60)
OWN_CHECKS = "custom"
#: Owns no lease: giving "all its leases" back is a write that changes nothing.
NOBODY = "health"


class DaemonHealth:
    """Reasons why not, gathered from the daemon's parts.

    A policy's own check that fails is not among them: it is its rollout's trouble, and told there.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        loops: Sequence[tuple[str, Callable[[], float]]],
        sources: Callable[[], Sequence[SourceStatus]],
        intervals: Callable[[str], timedelta],
        started_at: datetime,
    ) -> None:
        self._store = store
        self._clock = clock
        self._loops = loops
        self._sources = sources
        self._intervals = intervals
        self._started_at = started_at

    def alive(self) -> list[str]:
        """Loops that hang."""
        return [
            f"The {name} has not turned for {silent():.0f} s." for name, silent in self._loops if silent() > HANGS_AFTER
        ]

    def ready(self) -> list[str]:
        """A store that cannot be written, and sources of Azure's that are silent."""
        return [*self._store_trouble(), *self._silent_sources()]

    def _store_trouble(self) -> list[str]:
        try:
            self._store.release_all(NOBODY)
        except RolloutError as error:
            return [error.message]
        return []

    def _silent_sources(self) -> list[str]:
        now = self._clock.now()
        found = [status for status in self._sources() if status.source != OWN_CHECKS]
        reasons = [reason for status in found if (reason := self._silence(status, now))]
        if not any(status.source == "endpoints" for status in found):
            reasons.append("Azure has not been asked yet.")
        return reasons

    def _silence(self, status: SourceStatus, now: datetime) -> str | None:
        if status.last_error is None:
            return None  # it answered, or there is nothing to ask for at present
        patience = max(SILENT_AT_LEAST, SILENT_AFTER * self._intervals(status.source))
        since = status.last_success or self._started_at
        if status.last_success is not None and now - since < patience:
            return None
        name = f"{status.source} of {status.key}"
        when = f"since {since:%H:%M:%S} UTC" if status.last_success else "since the start"
        return f"Azure has not answered for {name} {when}: {status.last_error}"
