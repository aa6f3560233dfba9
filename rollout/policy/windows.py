"""`windows`: the times at which the candidate may get more traffic, and those at which nothing may.

The rule: what is written is kept as its author wrote it, in the clock of the place that it names; what it means at a
moment is told by `rollout.windows`. Every time has a zone: a night in Paris is not one in Seattle.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from rollout.documents.mistakes import did_you_mean, rule
from rollout.documents.models import Model
from rollout.documents.text import Path
from rollout.documents.units import format_duration, show

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60  # minutes
MAX_ROWS = 50
#: What a step takes beyond its bake, at worst: Azure's write, the minute that has begun, and rows that come ten minutes late.
OVERHEAD = timedelta(minutes=12)
#: The first minutes of a step whose share is sized from the traffic, before its own share.
SIZED = timedelta(minutes=5) + OVERHEAD

_ALLOWED = r"([a-z,-]+) (\d{1,2}):(\d{2})-(\d{1,2}):(\d{2}) ([A-Za-z0-9_+/-]+)"
_MOMENT = r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}):(\d{2}))?"
_HOW = 'write days, times and a time zone, such as "mon-thu 09:00-17:00 Europe/Paris"'


@dataclass(frozen=True, kw_only=True)
class Row:
    """An allowed time of the week: minutes after midnight in its zone; past 24:00 it reaches into the next day."""

    days: frozenset[int]  # 0 is Monday: those on which it begins
    start: int
    end: int
    zone: str


@lru_cache(maxsize=512)
def row(text: str) -> Row:
    """What `mon-thu 09:00-17:00 Europe/Paris` means. Raises ValueError with what to write instead."""
    match = re.fullmatch(_ALLOWED, " ".join(text.split()), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{show(text)} is not an allowed time: {_HOW}")
    days, zone = _days(match[1].lower(), text), known_zone(match[6])
    start, end = (_minute(match[at], match[at + 1], text) for at in (2, 4))
    if start in {end, DAY}:
        raise ValueError(
            f"{show(text)} allows no time: write a range such as 09:00-17:00, or 00:00-24:00 for whole days"
        )
    return Row(days=days, start=start, end=end if end > start else end + DAY, zone=zone)


def _days(text: str, whole: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in DAYS:
                near = did_you_mean(name, DAYS) if name else None
                hint = f"; did you mean {near}?" if near else f": write {', '.join(DAYS)}, or a range such as mon-thu"
                raise ValueError(f"{show(name)} in {show(whole)} is not a day of the week{hint}")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + at) % 7 for at in range(length + 1)}
    return frozenset(found)


def _minute(hour: str, minute: str, whole: str) -> int:
    total = int(hour) * 60 + int(minute)
    if int(minute) > 59 or total > DAY:
        raise ValueError(f"{hour}:{minute} in {show(whole)} is not a time of the day: write 00:00 to 24:00")
    return total


def known_zone(name: str) -> str:
    """The zone's name as IANA writes it. Raises ValueError."""
    zones = available_timezones()
    if name in zones:
        return name
    exact = {zone.casefold(): zone for zone in zones}.get(name.casefold())
    city = [zone for zone in sorted(zones) if zone.casefold().endswith(f"/{name.casefold()}")]
    near = exact or next(iter(city), None) or did_you_mean(name, zones)
    hint = f"; did you mean {near}?" if near else ": write one such as Europe/Paris, America/New_York or UTC"
    raise ValueError(f"{show(name)} is not a time zone of this machine{hint}")


def _allowed(text: str) -> str:
    row(text)
    return " ".join(text.split())


def _moment(text: str) -> str:
    with suppress(ValueError):
        if re.fullmatch(_MOMENT, text) and datetime.fromisoformat(text):
            return text
    shape = 'write a day, 2026-12-20, or a time of it, "2026-12-20 18:00", in the freeze\'s time zone'
    raise ValueError(f"{show(text)} is not a moment: {shape}")


Allowed = Annotated[str, AfterValidator(_allowed)]
Zone = Annotated[str, AfterValidator(known_zone)]
Moment = Annotated[str, AfterValidator(_moment)]


class Frozen(Model):
    """From when to when nothing gets more traffic; a `to` that is a day is frozen to its end."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_alias=True, validate_by_name=True)

    from_: Moment = Field(alias="from", description="The first day, or the moment", examples=["2026-12-20"])
    to: Moment = Field(description="The last day, or the moment", examples=["2027-01-04"])
    reason: str = Field(default="", max_length=200, description="What people are told", examples=["peak season"])
    time_zone: Zone | None = Field(
        default=None, description="Where those days begin and end; by default that of the first allowed time, else UTC"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last <= self.first:
            raise rule((("to",), f"{self.to} is not after {self.from_}: write the later one here"))
        return self

    @property
    def first(self) -> datetime:
        """When it begins, by the clock of its zone."""
        return datetime.fromisoformat(self.from_)

    @property
    def last(self) -> datetime:
        """When it is over, by the clock of its zone."""
        found = datetime.fromisoformat(self.to)
        return found if len(self.to) > len("2026-12-20") else found + timedelta(days=1)


class Windows(Model):
    """When the candidate may get more traffic. Nothing here ever delays a cut or a roll back."""

    allow: tuple[Allowed, ...] = Field(
        default=(),
        max_length=MAX_ROWS,
        description="Times of the week; always, where there are none",
        examples=[["mon-thu 09:00-17:00 Europe/Paris"]],
    )
    freeze: tuple[Frozen, ...] = Field(
        default=(), max_length=MAX_ROWS, description="Days on which no share rises, whatever is allowed"
    )
    start_outside: Literal["wait", "refuse"] = Field(
        default="wait", description="What becomes of a rollout that is started outside, or under a freeze"
    )

    @property
    def zone(self) -> str:
        """The time zone of freezes that name none."""
        return row(self.allow[0]).zone if self.allow else "UTC"

    def longest(self) -> timedelta | None:
        """The longest time that is allowed at a stretch; None: always. Rows of several zones count as of that winter week."""
        if not self.allow:
            return None
        spans = sorted(span for text in self.allow for span in _in_minutes(row(text)))
        best = end = 0
        begin = -1
        for start, stop in spans:
            if begin < 0 or start > end:
                begin, end = start, stop
            end = max(end, stop)
            best = max(best, end - begin)
        return None if best >= 7 * DAY else timedelta(minutes=best)


def _in_minutes(one: Row) -> list[tuple[int, int]]:
    """Three weeks of a row, in minutes of UTC: so long that the longest stretch is in it whole."""
    monday = datetime.combine(date(2026, 1, 5), datetime.min.time())
    offset = ZoneInfo(one.zone).utcoffset(monday) or timedelta()
    shift = round(offset / timedelta(minutes=1))
    return [
        ((week * 7 + day) * DAY + one.start - shift, (week * 7 + day) * DAY + one.end - shift)
        for week in range(3)
        for day in one.days
    ]


def takes(bake: timedelta, *, sized: bool = False) -> timedelta:
    """What a step takes at most, from the moment it begins: it must fit into an allowed time."""
    return bake + OVERHEAD + (SIZED if sized else timedelta())


def too_long(
    windows: Windows | None, bakes: Sequence[tuple[int, timedelta]], *, first_sized: bool
) -> Iterator[tuple[Path, str]]:
    """The mistakes of steps, given by index in the list and bake, that would never begin: path and message."""
    longest = windows.longest() if windows else None
    for number, (at, bake) in enumerate(bakes):
        needed = takes(bake, sized=first_sized and number == 0)
        if longest is not None and needed > longest:
            message = (
                f"would never begin: with what Azure and the data take it needs {format_duration(needed)}, and the longest "
                f"allowed time is {format_duration(longest)}; write a shorter bake, or allow longer"
            )
            yield ("steps", at), message
