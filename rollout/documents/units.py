"""Units as people write them: `10m`, `5%`, `0.5pp`, `800ms`.

The rule: what has a unit is written with its unit, and a number that could mean two things is refused with the way to
write it. Each type reads its own written form back, so a value that is dumped and read again is the same value.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

_SHORT = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,8})s)?", re.ASCII)
_ISO = re.compile(r"P(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,8})S)?)?", re.ASCII)
_LOOSE = re.compile(r"(\d+) ?(seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|[smhd])", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(%|pp|ms|s)?", re.ASCII)

_DURATION_SCHEMA = {
    "type": "string",
    "pattern": r"^(?:(?=\d)(?:\d{1,5}d)?(?:\d{1,6}h)?(?:\d{1,7}m)?(?:\d{1,8}s)?"
    r"|P(?=[\dT])(?:\d{1,5}D)?(?:T(?=\d)(?:\d{1,6}H)?(?:\d{1,7}M)?(?:\d{1,8}S)?)?)$",
    "examples": ["90s", "10m", "1h30m", "1d", "PT10M"],
}


def show(value: object) -> str:
    """A value as its author would write it, short enough for a message; an address never shows what may be secret."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s\"']+", r"\1…", str(value))
    text = " ".join(text.split()) if isinstance(value, str) else text
    text = text if len(text) <= 60 else text[:57] + "…"
    return f'"{text}"' if isinstance(value, str) else text


# --- Durations -----------------------------------------------------------------------------------------------------


def parse_duration(value: object) -> timedelta:
    """`90s`, `10m`, `1h30m`, `1d` or `PT10M`; whole seconds. Raises ValueError with what to write instead."""
    if isinstance(value, timedelta):
        return value
    found = _parts(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{show(value)} is not a duration: {_duration_hint(value)}")
    days, hours, minutes, seconds = (int(part or 0) for part in found)
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _parts(text: str) -> tuple[str | None, ...] | None:
    match = _SHORT.fullmatch(text) or _ISO.fullmatch(text)
    if match is None or text.endswith("T") or not any(match.groups()):
        return None
    return match.groups()


def _duration_hint(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"it has no unit; write {value}m for minutes or {value}s for seconds"
    loose = _LOOSE.fullmatch(value.strip()) if isinstance(value, str) else None
    if loose:
        return f"write {int(loose[1])}{loose[2][0].lower()}"
    return "write 90s, 10m, 1h30m, 1d or PT10M"


def format_duration(value: timedelta) -> str:
    """The short form, such as `1h30m`."""
    left, text = int(value.total_seconds()), ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def between(low: timedelta, high: timedelta) -> Callable[[timedelta], timedelta]:
    """A check that a duration lies in [low, high]."""

    def check(value: timedelta) -> timedelta:
        if not low <= value <= high:
            side = "short" if value < low else "long"
            bounds = f"between {format_duration(low)} and {format_duration(high)}"
            raise ValueError(f"{format_duration(value)} is too {side}: write a duration {bounds}")
        return value

    return check


def whole_minutes(value: timedelta) -> timedelta:
    """Bakes are counted in one-minute cells."""
    if value % timedelta(minutes=1):
        down = value // timedelta(minutes=1) * timedelta(minutes=1)
        up = format_duration(down + timedelta(minutes=1))
        choice = f"{format_duration(down)} or {up}" if down else up
        raise ValueError(f"{format_duration(value)} is not in whole minutes, in which data is judged: write {choice}")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
Bake = Annotated[
    Duration, AfterValidator(whole_minutes), AfterValidator(between(timedelta(minutes=1), timedelta(days=7)))
]


# --- Shares, rates and increases -----------------------------------------------------------------------------------


def _number(value: object) -> tuple[Decimal, str | None] | None:
    """A written number and its unit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    match = _NUMBER.fullmatch(str(value))
    return (Decimal(match[1]), match[2]) if match else None


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def parse_share(value: object, *, low: int = 1, high: int = 100) -> int:
    """A whole percent, `5%` or `5`. Raises ValueError with what to write instead."""
    number, unit = _number(value) or (None, None)
    bounds = f"write a whole percent between {low}% and {high}%"
    if number is None or unit not in {None, "%"}:
        raise ValueError(f"{show(value)} is not a share of traffic: {bounds}, such as {max(low, 5)}%")
    if unit is None and 0 < number < 1 and (number * 100) % 1 == 0:
        raise ValueError(f"{show(value)} is not a whole percent: write {_plain(number * 100)}%")
    if number % 1 or "." in str(value):
        raise ValueError(f"{show(value)} is not a whole percent, and Azure splits traffic in whole percents: {bounds}")
    if not low <= number <= high:
        raise ValueError(f"{int(number)}% is out of range: {bounds}")
    return int(number)


def format_share(value: int) -> str:
    """The written form: `5%`."""
    return f"{value}%"


def parse_percent(value: object) -> float:
    """A part of all, such as `5%` or `0.5%`, as a fraction in (0, 1]. Raises ValueError with what to write instead."""
    number, unit = _number(value) or (None, None)
    if number is not None and unit is None:
        better = number * 100 if 0 < number < 1 else number
        raise ValueError(f"{show(value)} has no unit: write {_plain(better)}%")
    if number is None or unit != "%":
        raise ValueError(f"{show(value)} is not a rate: write a percent such as 5%")
    if not 0 < number <= 100:
        raise ValueError(f"{_plain(number)}% is out of range: write a percent above 0% and up to 100%")
    return float(number / 100)


def parse_points(value: object) -> float:
    """An increase of a rate in percentage points, `0.5pp`, as a fraction (0.005). Raises ValueError."""
    number, unit = _number(value) or (None, None)
    if number is not None and unit == "%":
        same = f"{_plain(number)}pp"
        raise ValueError(
            f"{show(value)} could mean two things: an increase of a rate is written in percentage points, {same}"
        )
    if number is not None and unit is None:
        better = number * 100 if 0 < number < Decimal("0.1") else number
        raise ValueError(f"{show(value)} has no unit: write {_plain(better)}pp (percentage points)")
    if number is None or unit != "pp":
        raise ValueError(f"{show(value)} is not an increase of a rate: write percentage points such as 0.5pp")
    if not Decimal("0.01") <= number <= 50:
        raise ValueError(f"{_plain(number)}pp is out of range: write between 0.01pp and 50pp")
    return float(number / 100)


def parse_increase(value: object) -> float:
    """A relative increase, `25%`, as a fraction of stable's value (0.25). Raises ValueError."""
    number, unit = _number(value) or (None, None)
    if number is not None and unit is None:
        better = number * 100 if 0 < number < 1 else number
        raise ValueError(f"{show(value)} has no unit: write {_plain(better)}%")
    if number is None or unit != "%":
        why = "an increase of latency is a part of stable's latency"
        raise ValueError(f"{show(value)} is not a percent: {why}, such as 25%")
    if not 1 <= number <= 1000:
        raise ValueError(f"{_plain(number)}% is out of range: write between 1% and 1000%")
    return float(number / 100)


def parse_milliseconds(value: object) -> int:
    """A latency, `800ms` or `1.5s`, in whole milliseconds. Raises ValueError with what to write instead."""
    number, unit = _number(value) or (None, None)
    if number is not None and unit is None:
        raise ValueError(f"{show(value)} has no unit: write {_plain(number)}ms or {_plain(number)}s")
    if number is None or unit not in {"ms", "s"}:
        raise ValueError(f"{show(value)} is not a latency: write 800ms or 1.5s")
    milliseconds = number * 1000 if unit == "s" else number
    if milliseconds % 1 or not 1 <= milliseconds <= 600_000:
        raise ValueError(f"{show(value)} is out of range: write whole milliseconds between 1ms and 600s")
    return int(milliseconds)


def format_percent(value: float, unit: str = "%") -> str:
    """A fraction as it is written: 0.005 is `0.5%`, or `0.5pp`."""
    return f"{_plain(Decimal(repr(value)) * 100)}{unit}"


def _written(parse: Callable[[Any], Any], write: Callable[[Any], str]) -> tuple[BeforeValidator, PlainSerializer]:
    return BeforeValidator(parse), PlainSerializer(write, return_type=str, when_used="json")


_DECIMAL = r"^\d{1,6}(?:\.\d{1,6})? ?"
SHARE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 100},
        {"type": "string", "pattern": r"^0*(?:[1-9]\d?|100) ?%?$"},
    ],
    "examples": ["5%"],
}
_HOLDBACK_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": 20}, {"type": "string", "pattern": r"^0*(?:1?\d|20) ?%?$"}],
    "examples": ["5%", "0%"],
}

Share = Annotated[int, *_written(parse_share, format_share), WithJsonSchema(SHARE_SCHEMA)]
Holdback = Annotated[
    int,
    *_written(lambda value: parse_share(value, low=0, high=20), format_share),
    WithJsonSchema(_HOLDBACK_SCHEMA),
]
Percent = Annotated[
    float,
    *_written(parse_percent, format_percent),
    WithJsonSchema({"type": "string", "pattern": _DECIMAL + "%$", "examples": ["5%"]}),
]
Points = Annotated[
    float,
    *_written(parse_points, lambda value: format_percent(value, "pp")),
    WithJsonSchema({"type": "string", "pattern": _DECIMAL + "pp$", "examples": ["0.5pp"]}),
]
Increase = Annotated[
    float,
    *_written(parse_increase, format_percent),
    WithJsonSchema({"type": "string", "pattern": _DECIMAL + "%$", "examples": ["25%"]}),
]
Milliseconds = Annotated[
    int,
    *_written(parse_milliseconds, lambda value: f"{value}ms"),
    WithJsonSchema({"type": "string", "pattern": _DECIMAL + "m?s$", "examples": ["800ms"]}),
]
