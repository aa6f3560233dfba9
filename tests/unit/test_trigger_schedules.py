"""Schedules: what cron means by an expression, where the clocks change, and after a silence."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rollout.policy import ScheduleTrigger, parse_policy
from rollout.triggers.schedule import MADE_UP, last_due, next_due

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")


def a_schedule(expression: str, zone: str = "UTC") -> ScheduleTrigger:
    return ScheduleTrigger(expression=expression, time_zone=zone)


def days_of(expression: str) -> str:
    """The weekdays on which it is due, from a Monday on."""
    found, at = "", datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    while (at := next_due(a_schedule(expression), after=at)) < datetime(2026, 11, 30, tzinfo=UTC):
        found += f"{at:%a} "
    return found.strip()


@pytest.mark.parametrize(
    ("weekdays", "days"),
    [
        ("mon-thu", "Mon Tue Wed Thu"),
        ("0", "Sun"),
        ("7", "Sun"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("FRI-SUN", "Fri Sat Sun"),
        ("5-7", "Fri Sat Sun"),
        ("sun,wed", "Wed Sun"),
        ("*/2", "Tue Thu Sat Sun"),
        ("1-5/2", "Mon Wed Fri"),
        ("*", "Mon Tue Wed Thu Fri Sat Sun"),
    ],
)
def test_weekdays_are_those_of_cron(weekdays: str, days: str) -> None:
    assert days_of(f"0 10 * * {weekdays}") == days


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("0 10 * *", "has 4 fields, not five"),
        ("@daily", "has 1 fields, not five"),
        ("60 10 * * *", '"60" is no minute: write 0 to 59'),
        ("0 10 * jann *", '"jann" is no month: write 1 to 12, or jan to dec'),
        ("0 10 * * mo", '"mo" is no weekday: write 0 to 7, or mon to sat'),
        ("0 10 * * fri-mon", '"fri-mon" runs backwards'),
        ("0 10 1 * mon", "crons differ about what that means"),
        ("*/0 10 * * *", "every 0th minute"),
        ("5/15 10 * * *", "has no end: write `\\*/15`"),
        ("0 */24 * * *", r'"\*/24" is one hour only, the first: write 0 instead'),
        ("5-10/6 * * * *", '"5-10/6" is one minute only, the first: write 5 instead'),
        ("0 10 * */12 *", "write 1 instead"),
        ("0 10 last * *", '"last" is no day of the month'),
        ("0 10 ? * *", "is no day of the month"),
    ],
)
def test_what_is_no_expression_is_told(expression: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        a_schedule(expression)


@pytest.mark.parametrize("zone", ["Paris", "Europe", "../etc/passwd", "", "CEST+2"])
def test_what_is_no_time_zone_is_told(zone: str) -> None:
    with pytest.raises(ValidationError, match="is no time zone"):
        a_schedule("0 10 * * *", zone)


def test_a_time_that_the_clocks_skip_comes_an_hour_later() -> None:
    half_past_two = a_schedule("30 2 * * *", "Europe/Paris")
    before, after = datetime(2026, 3, 29, 1, 29, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)

    assert last_due(half_past_two, after=LONG_AGO, until=before).day == 28
    found = last_due(half_past_two, after=LONG_AGO, until=after)
    assert found.astimezone(UTC) == after
    assert f"{found.astimezone(UTC).astimezone(PARIS):%H:%M}" == "03:30"


def test_a_time_that_comes_twice_looks_the_same() -> None:
    half_past_two = a_schedule("30 2 * * *", "Europe/Paris")
    first, second = (
        last_due(half_past_two, after=LONG_AGO, until=datetime(2026, 10, 25, hour, 45, tzinfo=UTC)) for hour in (0, 1)
    )

    assert second.astimezone(UTC) - first.astimezone(UTC) == HOUR
    assert f"{first:%Y-%m-%dT%H:%M}" == f"{second:%Y-%m-%dT%H:%M}"  # and so do their keys


EXPRESSIONS = ("* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "15 9 * * mon-thu", "0 0 1 * *", "59 23 * * sun")


@settings(deadline=None, max_examples=60)
@given(
    expression=st.sampled_from(EXPRESSIONS),
    zone=st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"]),
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    back=st.timedeltas(timedelta(0), MADE_UP),
)
def test_the_last_time_is_the_last_of_all_times(expression: str, zone: str, now: datetime, back: timedelta) -> None:
    schedule, until = a_schedule(expression, zone), now.replace(tzinfo=UTC)
    found = last_due(schedule, after=until - back, until=until)

    if found is None:
        after = next_due(schedule, after=until - back)
        assert after is None or after.astimezone(UTC) > until
    else:
        assert until - back < found.astimezone(UTC) <= until
        following = next_due(schedule, after=found)
        assert following is None or following.astimezone(UTC) > until


@pytest.mark.parametrize(("at", "least", "most"), [(0, 0, 59), (1, 0, 23), (2, 1, 31), (3, 1, 12), (4, 0, 7)])
def test_every_expression_that_a_policy_may_hold_has_a_time(at: int, least: int, most: int) -> None:
    """One that could not be asked for its times would keep all other triggers from being looked at."""
    for every in range(1, 62):
        for part in (f"*/{every}", f"{least}-{most}/{every}", f"{least}-{least + 2}/{every}"):
            fields = ["0", "10", "*", "*", "*"]
            fields[at] = part
            with suppress(ValidationError):
                assert next_due(a_schedule(" ".join(fields)), after=LONG_AGO)


def test_a_policys_schedule_is_as_it_is_written() -> None:
    text = (
        "endpoint_name: diners\n"
        'trigger: {when_busy: refuse, schedule: {type: cron, expression: "0 10 * * mon-thu", time_zone: Europe/Paris}}\n'
    )
    found = parse_policy(text, file="p.yaml").trigger

    assert found is not None
    assert found.schedule == a_schedule("0 10 * * mon-thu", "Europe/Paris")
    assert found.when_busy == "refuse"
