"""Which minutes of a source to read now.

The rule: what may still change is read again; more after a gap and now and then, to count what came late; and for a new
rollout the hour before it, which stable is compared with.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from rollout.collector.sources import SourceStatus
from rollout.ports import Store
from rollout.world import EndpointRef

#: How long before a rollout's first look cells are wanted: the judge compares with stable's hour before.
HISTORY_MINUTES = 75
#: Now and then a wider window is read again, to count what came late.
RECHECK_EVERY, RECHECK_MINUTES = timedelta(minutes=5), 30


def window(
    store: Store, status: SourceStatus, refs: Iterable[EndpointRef], *, now: datetime, lag: timedelta
) -> tuple[int, int]:
    """The minutes [start, end) to read of a source for these endpoints; a minute closes `lag` after its end."""
    end = minute_of(now) + 1
    open_minutes = int(lag / timedelta(minutes=1)) + 3
    start = end - open_minutes
    if status.rechecked_at is None or now - status.rechecked_at >= RECHECK_EVERY:
        start = min(start, end - RECHECK_MINUTES)
    for ref in refs:
        read_at = store.cells(status.source, ref, start=end, end=end).read_at
        wanted = end - HISTORY_MINUTES if read_at is None else minute_of(read_at) - open_minutes
        start = min(start, max(wanted, end - HISTORY_MINUTES))
    return start, end


def note_recheck(status: SourceStatus, start: int, end: int, now: datetime) -> None:
    """The minutes [start, end) were read: remember it if that was a wide window."""
    if start <= end - RECHECK_MINUTES:
        status.rechecked_at = now


def minute_of(moment: datetime) -> int:
    """The minute since the epoch that a moment lies in."""
    return int(moment.timestamp() // 60)
