"""When the candidate may get more traffic: allowed times, freezes, and whether a step can end before the window closes.

The rule: pure, and in UTC; what a policy says in the clock of a place is translated here. A time that a clock shows
twice (in autumn) counts when it is shown first; one that it skips (in spring) counts as the moment of the jump. Asked
only for a rise: nothing here is ever asked before a cut, a roll back or an undo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from rollout.policy.windows import Row, Windows, row
from rollout.world import Freeze

Span = tuple[datetime, datetime]

_DAY, _SECOND, _NOTHING = timedelta(days=1), timedelta(seconds=1), timedelta()
#: Looked ahead at once, and in all. An allowed time comes every week; freezes may last for months.
STRIDE, FARTHEST = timedelta(days=15), timedelta(days=450)


@dataclass(frozen=True, kw_only=True)
class Shut:
    """The share may not rise now: why, and until when, or None where a person must lift a freeze."""

    why: str
    until: datetime | None

    @property
    def key(self) -> str:
        """Equal for as long as people need not be told again."""
        return self.until.isoformat() if self.until else self.why

    def sentence(self, now: datetime) -> str:
        """`outside the allowed times (…), until Mon 08:00 UTC`."""
        if self.until is None:
            return f"{self.why}, until a person lifts it"
        return f"{self.why}, until {told(self.until, now)}"


def told(at: datetime, now: datetime) -> str:
    """`Mon 08:00 UTC`, with its date where that is a week ahead; `at` in any time zone."""
    at = at.astimezone(UTC)
    return f"{at:%a %H:%M} UTC" if abs(at - now) < timedelta(days=6) else f"{at:%a %d %b %H:%M} UTC"


def shut(
    windows: Windows | None, freezes: Sequence[Freeze], *, now: datetime, takes: timedelta = _NOTHING
) -> Shut | None:
    """Why the share may not rise now for something that takes so long; None where it may."""
    active = [freeze for freeze in freezes if freeze.holds(now)]
    ends = [freeze.until for freeze in active if freeze.until is not None]
    if len(ends) < len(active):
        endless = next(freeze for freeze in active if freeze.until is None)
        return Shut(why=_frozen_by(endless), until=None)
    opens = opens_next(windows, max(ends, default=now), takes)
    if opens == now:
        return None
    return Shut(why=_frozen_by(active[0]) if active else _why(windows, now, takes), until=opens)


def _frozen_by(freeze: Freeze) -> str:
    where = "" if freeze.endpoint else "everything is "
    return f"{where}frozen by {freeze.by} ({freeze.reason})"


def _why(windows: Windows | None, now: datetime, takes: timedelta) -> str:
    assert windows is not None  # noqa: S101 - without windows it is open
    for start, end, reason in _freezes(windows):
        if start <= now < end:
            return f"frozen by the policy{f' ({reason})' if reason else ''}"
    closing = closes(windows, now)
    if closing is not None and closing > now:
        return f"it takes about {_minutes(takes)} min, and the allowed time ends at {closing:%H:%M} UTC"
    return f"outside the allowed times ({', '.join(windows.allow)})"


def _minutes(takes: timedelta) -> int:
    return max(1, round(takes / timedelta(minutes=1)))


def allowed(windows: Windows | None, now: datetime) -> bool:
    """Whether the share may rise now, as the policy says."""
    return opens_next(windows, now) == now


def opens_next(windows: Windows | None, now: datetime, takes: timedelta = _NOTHING) -> datetime | None:
    """The first moment, now or later, from which `takes` fits into an allowed time; None: not in the next year."""
    if windows is None:
        return now
    start = now
    while start < now + FARTHEST:
        for opening, closing in open_spans(windows, start, start + STRIDE + takes):
            if closing - opening >= max(takes, _SECOND):
                return opening
        start += STRIDE
    return None


def closes(windows: Windows | None, now: datetime) -> datetime | None:
    """When the allowed time that we are in ends: `now` outside of one, None where no end is near."""
    if windows is None:
        return None
    end = now + STRIDE
    first = next(iter(open_spans(windows, now, end)), (end, end))
    if first[0] > now:
        return now
    return None if first[1] == end else first[1]


def open_time(windows: Windows | None, start: datetime, end: datetime) -> timedelta:
    """How much of this time was allowed."""
    if windows is None:
        return max(_NOTHING, end - start)
    return sum((closing - opening for opening, closing in open_spans(windows, start, end)), _NOTHING)


def after_open(windows: Windows | None, start: datetime, duration: timedelta) -> datetime | None:
    """When so much allowed time will have passed; None: not in the next year."""
    left, begin = duration, start
    if windows is None:
        return start + duration
    while begin < start + FARTHEST:
        for opening, closing in open_spans(windows, begin, begin + STRIDE):
            if closing - opening >= left:
                return opening + left
            left -= closing - opening
        begin += STRIDE
    return None


def open_spans(windows: Windows, start: datetime, end: datetime) -> list[Span]:
    """The times in [start, end) at which the share may rise, in order and apart from each other."""
    found = _merged(_allowed_spans(windows, start, end)) if windows.allow else [(start, end)]
    for frozen, thawed, _ in _freezes(windows):
        found = [part for span in found for part in _without(span, frozen, thawed)]
    return [span for span in found if span[0] < span[1]]


def _allowed_spans(windows: Windows, start: datetime, end: datetime) -> Iterator[Span]:
    for text in windows.allow:
        for opening, closing in _week(row(text), start, end):
            yield max(opening, start), min(closing, end)


def _week(one: Row, start: datetime, end: datetime) -> Iterator[Span]:
    zone = ZoneInfo(one.zone)
    day = start.astimezone(zone).date() - 2 * _DAY
    while day <= end.astimezone(zone).date():
        if day.weekday() in one.days:
            span = (clock_shows(day, one.start, one.zone), clock_shows(day, one.end, one.zone))
            if span[1] > start and span[0] < end:
                yield span
        day += _DAY


def _merged(spans: Iterator[Span]) -> list[Span]:
    found: list[Span] = []
    for opening, closing in sorted(spans):
        if opening >= closing:
            continue  # skipped by its clock
        if found and opening <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], closing))
        else:
            found.append((opening, closing))
    return found


def _without(span: Span, frozen: datetime, thawed: datetime) -> Iterator[Span]:
    yield span[0], min(span[1], frozen)
    yield max(span[0], thawed), span[1]


def _freezes(windows: Windows) -> Iterator[tuple[datetime, datetime, str]]:
    for one in windows.freeze:
        zone = one.time_zone or windows.zone
        first, last = (clock_shows(at.date(), at.hour * 60 + at.minute, zone) for at in (one.first, one.last))
        yield first, last, one.reason


@lru_cache(maxsize=4096)
def clock_shows(day: date, minute: int, zone_name: str) -> datetime:
    """When a clock of this zone first shows so many minutes after a day's midnight, or jumps over them. UTC."""
    zone = ZoneInfo(zone_name)
    wall = datetime.combine(day, datetime.min.time()) + timedelta(minutes=minute)
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    before, after = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), first  # the jump lies between
    old = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)
