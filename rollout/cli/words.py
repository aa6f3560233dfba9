"""Numbers and times in words, as people read them in a terminal.

The rule: the units and signs of every sentence of the project (HOUSE: `0.31 %`, `4 812`, `84 ms`), times of the day in
local time, and nothing that needs explaining.
"""

from datetime import datetime, timedelta, tzinfo

THIN = "\u2009"
MINUTE = 60
HOUR = 60 * MINUTE


def number(value: float) -> str:
    """`4 812`: whole, thousands apart by a thin space."""
    return f"{value:,.0f}".replace(",", THIN)


def percent(share: float) -> str:
    """A share (0 to 1) as `0.31 %`; more digits below one percent."""
    value = share * 100
    digits = 0 if value >= 99.95 or value == 0 else 1 if value >= 1 else 2
    return f"{value:.{digits}f}{THIN}%"


def milliseconds(value: float) -> str:
    """`84 ms`, or `1.2 s` from ten seconds up."""
    return f"{value / 1000:.1f}{THIN}s" if value >= 10_000 else f"{number(value)}{THIN}ms"


def size(value: float) -> str:
    """`412 B`, `1.4 kB`, `23 MB`, of 1 000 bytes each."""
    for unit in ("B", "kB"):
        if value < 999.5:
            return f"{value:.1f}{THIN}{unit}" if unit != "B" and value < 9.95 else f"{number(value)}{THIN}{unit}"
        value /= 1000
    return f"{value:.1f}{THIN}MB" if value < 9.95 else f"{number(value)}{THIN}MB"


def split(traffic: dict[str, int]) -> str:
    """`blue 75 % + green 25 %`, the larger share first."""
    parts = sorted(traffic.items(), key=lambda item: (-item[1], item[0]))
    return " + ".join(f"{name} {share}{THIN}%" for name, share in parts if share) or "no traffic"


def duration(seconds: float) -> str:
    """`45 s`, `6 min`, `1 h 30 min`, `2 d 4 h`."""
    total = max(0, round(seconds))
    if total < 2 * MINUTE:
        return f"{total} s"
    minutes = round(total / MINUTE)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(total / HOUR), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(text: str) -> datetime:
    """A time of the API (ISO 8601)."""
    return datetime.fromisoformat(text)


def maybe(text: str | None) -> datetime | None:
    """A time of the API, or none."""
    return moment(text) if text else None


def clock_time(at: datetime, *, today: datetime, zone: tzinfo | None = None, seconds: bool = False) -> str:
    """The local time of the day; with the date where it is not today's. `zone` None is the machine's own."""
    local, now = at.astimezone(zone), today.astimezone(zone)
    text = local.strftime("%H:%M:%S" if seconds else "%H:%M")
    return text if local.date() == now.date() else f"{local:%Y-%m-%d} {text}"


def ago(at: datetime, *, now: datetime) -> str:
    """`6 min ago`, or `just now`."""
    passed = (now - at) / timedelta(seconds=1)
    return "just now" if passed < 1 else f"{duration(passed)} ago"


def ahead(at: datetime, *, now: datetime, zone: tzinfo | None = None) -> str:
    """`14:26 (in 6 min)`; `now` where the moment has come."""
    left = (at - now) / timedelta(seconds=1)
    if left < 1:
        return "any moment"
    return f"{clock_time(at, today=now, zone=zone)} (in {duration(left)})"
