"""Allowed times and freezes: what is written, and what it means at a moment, across daylight saving."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollout.errors import PolicyError
from rollout.policy import Windows, effective_yaml, parse_policy
from rollout.policy.windows import DAYS, row
from rollout.windows import after_open, allowed, clock_shows, closes, open_spans, open_time, opens_next, shut
from rollout.world import EndpointRef, Freeze

PARIS = ZoneInfo("Europe/Paris")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OFFICE = "mon-thu 09:00-17:00 Europe/Paris"
#: Zones that jump by an hour, by half an hour, at midnight, or never.
ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata", "UTC")
WEDNESDAY = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)


def windows(*allow: str, **changes: Any) -> Windows:
    """As the author of a policy writes them."""
    return Windows.model_validate({"allow": allow, **changes})


def at(text: str, zone: ZoneInfo | Any = PARIS) -> datetime:
    """A moment of a local clock, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


# --- the week


def test_an_allowed_time_opens_and_closes() -> None:
    office = windows(OFFICE)
    assert not allowed(office, at("2026-11-18 08:59"))
    assert allowed(office, at("2026-11-18 09:00"))
    assert allowed(office, at("2026-11-18 16:59"))
    assert not allowed(office, at("2026-11-18 17:00"))
    assert opens_next(office, at("2026-11-19 18:00")) == at("2026-11-23 09:00")  # Thursday evening: Monday
    assert closes(office, at("2026-11-18 10:00")) == at("2026-11-18 17:00")
    assert closes(office, at("2026-11-18 20:00")) == at("2026-11-18 20:00")


def test_what_does_not_fit_waits_for_the_next_window() -> None:
    split = windows("mon-fri 09:00-12:00 Europe/Paris", "mon-fri 14:00-18:00 Europe/Paris")
    assert opens_next(split, at("2026-11-18 11:00"), HOUR) == at("2026-11-18 11:00")
    assert opens_next(split, at("2026-11-18 11:01"), HOUR) == at("2026-11-18 14:00")
    assert opens_next(split, at("2026-11-18 09:00"), 4 * HOUR) == at("2026-11-18 14:00")
    assert opens_next(split, at("2026-11-18 09:00"), 5 * HOUR) is None


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    night = windows("fri 22:00-04:00 Europe/Paris")
    assert allowed(night, at("2026-11-21 03:59"))  # Saturday, early
    assert not allowed(night, at("2026-11-20 03:59"))  # Friday, early
    assert closes(night, at("2026-11-20 23:00")) == at("2026-11-21 04:00")


def test_rows_that_touch_are_one_window() -> None:
    whole = windows("mon 00:00-24:00 UTC", "tue 00:00-12:00 UTC")
    monday = datetime(2026, 11, 16, tzinfo=UTC)
    assert opens_next(whole, monday, 36 * HOUR) == monday
    assert whole.longest() == 36 * HOUR
    assert windows("mon-sun 00:00-24:00 UTC").longest() is None
    assert closes(windows("mon-sun 00:00-24:00 UTC"), monday) is None
    assert windows("sat-mon 20:00-02:00 UTC").longest() == 6 * HOUR


def test_without_windows_it_is_always_open() -> None:
    assert allowed(None, WEDNESDAY)
    assert closes(None, WEDNESDAY) is None
    assert open_time(None, WEDNESDAY, WEDNESDAY + HOUR) == HOUR
    assert after_open(None, WEDNESDAY, HOUR) == WEDNESDAY + HOUR


def test_time_is_counted_while_it_is_allowed() -> None:
    office = windows(OFFICE)
    asked = at("2026-11-18 16:00")
    assert open_time(office, asked, at("2026-11-19 10:00")) == 2 * HOUR
    assert after_open(office, asked, 4 * HOUR) == at("2026-11-19 12:00")


# --- daylight saving

DATES = st.dates(date(2020, 1, 1), date(2035, 12, 31))
JUMPS = (
    date(2026, 3, 29),
    date(2026, 10, 25),
    date(2026, 3, 8),
    date(2026, 11, 1),
    date(2026, 10, 4),
    date(2026, 4, 24),
)


@given(st.sampled_from(ZONES), DATES | st.sampled_from(JUMPS), st.integers(0, 1440))
@example("Europe/Paris", date(2026, 3, 29), 150)  # 02:30 is skipped
@example("Europe/Paris", date(2026, 10, 25), 150)  # 02:30 is shown twice
def test_a_clock_shows_a_time_first_or_jumps_over_it(name: str, day: date, minute: int) -> None:
    zone, wall = ZoneInfo(name), datetime.combine(day, datetime.min.time()) + timedelta(minutes=minute)
    found = clock_shows(day, minute, name)
    assert found.astimezone(zone).replace(tzinfo=None) >= wall, "not before the clock shows it"
    just_before = (found - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
    assert just_before < wall, "and the first time that it does"


def test_the_hours_that_paris_skips_and_repeats() -> None:
    assert clock_shows(date(2026, 3, 29), 150, "Europe/Paris") == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert clock_shows(date(2026, 10, 25), 150, "Europe/Paris") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    night = windows("sat-sun 02:00-03:00 Europe/Paris")
    assert open_spans(night, at("2026-03-29 00:00"), at("2026-03-29 12:00")) == []  # that hour does not exist
    assert (
        open_time(windows("sat 22:00-06:00 Europe/Paris"), at("2026-10-24 12:00"), at("2026-10-25 12:00")) == 9 * HOUR
    )


@st.composite
def rows(draw: st.DrawFn) -> str:
    """An allowed time in some zone."""
    days = draw(st.sets(st.sampled_from(DAYS), min_size=1))
    start, end = draw(st.lists(st.integers(0, 95), min_size=2, max_size=2, unique=True))
    clock = "-".join(f"{quarter * 15 // 60:02}:{quarter * 15 % 60:02}" for quarter in (start, end))
    return f"{','.join(days)} {clock} {draw(st.sampled_from(ZONES))}"


MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)) | st.builds(
    lambda day, minutes: datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minutes),
    st.sampled_from(JUMPS),
    st.integers(-1440, 1440),
)


@given(st.lists(rows(), min_size=1, max_size=3), MOMENTS, st.integers(0, 600))
def test_what_is_told_of_a_window_is_true(allow: list[str], now: datetime, minutes: int) -> None:
    found, takes = windows(*allow), timedelta(minutes=minutes)
    opening = opens_next(found, now, takes)
    if opening is None:
        assert takes > (found.longest() or DAY) - 2 * HOUR  # an hour more or less in two zones
        return
    assert opening >= now
    assert allowed(found, opening)
    closing = closes(found, opening)
    assert closing is None or closing >= opening + takes
    if opening > now and not allowed(found, now):
        assert open_time(found, now, opening) < takes or not takes or opens_next(found, now) <= opening


@given(st.lists(rows(), min_size=1, max_size=3), MOMENTS)
def test_spans_are_apart_and_agree_with_the_clock(allow: list[str], now: datetime) -> None:
    found = windows(*allow)
    spans = open_spans(found, now, now + 8 * DAY)
    assert all(opening < closing for opening, closing in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    for moment in (now + hours * HOUR for hours in range(0, 190, 7)):
        if not any(_near_a_jump(moment, row(text).zone) for text in allow):
            assert allowed(found, moment) == any(_clock_says(text, moment) for text in allow)


def _near_a_jump(moment: datetime, zone: str) -> bool:
    offsets = {(moment + shift * HOUR).astimezone(ZoneInfo(zone)).utcoffset() for shift in range(-30, 31)}
    return len(offsets) > 1


def _clock_says(text: str, moment: datetime) -> bool:
    one = row(text)
    local = moment.astimezone(ZoneInfo(one.zone))
    minute = local.hour * 60 + local.minute
    today, yesterday = local.weekday() in one.days, (local.weekday() - 1) % 7 in one.days
    return (today and one.start <= minute < one.end) or (yesterday and minute + 1440 < one.end)


# --- freezes

PEAK = {"from": "2026-12-20", "to": "2027-01-04", "reason": "peak season", "time_zone": "Europe/Paris"}


def test_a_freeze_lasts_to_the_end_of_its_last_day() -> None:
    found = windows("mon-sun 00:00-24:00 Europe/Paris", freeze=[PEAK])
    assert allowed(found, at("2026-12-19 23:59"))
    assert not allowed(found, at("2026-12-20 00:00"))
    assert not allowed(found, at("2027-01-04 23:59"))
    assert opens_next(found, at("2026-12-24 12:00")) == at("2027-01-05 00:00")
    closed = shut(found, (), now=at("2026-12-24 12:00"))
    assert closed is not None
    assert closed.sentence(at("2026-12-24 12:00")) == "frozen by the policy (peak season), until Mon 04 Jan 23:00 UTC"


def test_a_freeze_of_hours_needs_no_window() -> None:
    found = windows(freeze=[{"from": "2026-11-18 12:00", "to": "2026-11-18 18:00"}])
    assert found.zone == "UTC"
    assert opens_next(found, WEDNESDAY - HOUR, 90 * MINUTE) == WEDNESDAY + 6 * HOUR
    assert opens_next(found, WEDNESDAY - HOUR, 30 * MINUTE) == WEDNESDAY - HOUR


def freeze(**changes: Any) -> Freeze:
    """A person's."""
    given: dict[str, Any] = {"id": "f1", "endpoint": None, "reason": "incident 42", "by": "anna", "at": WEDNESDAY}
    return Freeze(**given | changes)


def test_a_persons_freeze_lasts_until_it_is_lifted_or_over() -> None:
    closed = shut(None, [freeze()], now=WEDNESDAY)
    assert closed is not None
    assert closed.sentence(WEDNESDAY) == "everything is frozen by anna (incident 42), until a person lifts it"
    ref = EndpointRef(workspace="prod", name="recommender")
    short = freeze(endpoint=ref, until=WEDNESDAY + HOUR)
    closed = shut(windows(OFFICE), [short], now=WEDNESDAY)
    assert closed is not None
    assert closed.until == WEDNESDAY + HOUR
    assert closed.why == "frozen by anna (incident 42)"
    winter = datetime.fromisoformat("2027-01-05T08:00+01:00")
    closed = shut(None, [freeze(until=winter)], now=WEDNESDAY)
    assert closed is not None
    assert closed.sentence(WEDNESDAY) == "everything is frozen by anna (incident 42), until Tue 05 Jan 07:00 UTC"
    assert shut(None, [short], now=WEDNESDAY + HOUR) is None
    assert short.covers(ref)
    assert not short.covers(EndpointRef(workspace="test", name="recommender"))


def test_why_it_is_shut_is_told() -> None:
    office, evening, noon = windows(OFFICE), at("2026-11-18 20:00"), at("2026-11-18 16:45")
    closed, late = shut(office, (), now=evening), shut(office, (), now=noon, takes=27 * MINUTE)
    assert closed is not None
    assert closed.sentence(evening) == f"outside the allowed times ({OFFICE}), until Thu 08:00 UTC"
    assert late is not None
    assert late.sentence(noon) == ("it takes about 27 min, and the allowed time ends at 16:00 UTC, until Thu 08:00 UTC")
    assert shut(office, (), now=noon) is None


# --- as it is written


def _mistake(body: str) -> str:
    with pytest.raises(PolicyError) as found:
        parse_policy(f"endpoint_name: recommender\n{body}", file="p.yaml")
    return found.value.message


@pytest.mark.parametrize(
    ("row_of", "told"),
    [
        (
            "mon-thu 09:00-17:00",
            'p.yaml:3:11: windows.allow[0]: "mon-thu 09:00-17:00" is not an allowed time: write days',
        ),
        (
            "mon-thr 09:00-17:00 UTC",
            'p.yaml:3:11: windows.allow[0]: "thr" in "mon-thr 09:00-17:00 UTC" is not a day of the',
        ),
        ("mon 09:00-25:00 UTC", "25:00"),
        ("mon 09:60-10:00 UTC", "09:60"),
        ("mon 09:00-09:00 UTC", "allows no time"),
        ("mon 24:00-04:00 UTC", "allows no time"),
        ("mon 09:00-17:00 Europe/Pari", "did you mean Europe/Paris?"),
        ("mon 09:00-17:00 europe/paris", "did you mean Europe/Paris?"),
        ("mon 09:00-17:00 Nowhere/Land", "is not a time zone of this machine"),
        ("mon, 09:00-17:00 UTC", '"" in'),
    ],
)
def test_a_mistake_is_told_at_its_place(row_of: str, told: str) -> None:
    assert told in _mistake(f'windows:\n  allow: ["{row_of}"]\n')


@pytest.mark.parametrize(
    ("freeze_of", "told"),
    [
        ("from: 2026-12-20, to: 2026-12-19", "p.yaml:3:35: windows.freeze[0].to: 2026-12-19 is not after 2026-12-20"),
        ("from: 2026-12-32, to: 2027-01-04", '"2026-12-32" is not a moment'),
        ("from: tomorrow, to: 2027-01-04", '"tomorrow" is not a moment'),
        ("to: 2027-01-04", "windows.freeze[0].from: is missing: write `from: 2026-12-20`"),
        ("from: 2026-12-20, to: 2026-12-20, time_zone: Paris", "did you mean Europe/Paris?"),
        ("from: 2026-12-20, to: 2026-12-20, zone: UTC", "did you mean `time_zone`?"),
    ],
)
def test_a_freeze_that_cannot_be(freeze_of: str, told: str) -> None:
    assert told in _mistake(f"windows:\n  freeze: [{{{freeze_of}}}]\n")


def test_a_step_that_would_never_begin_is_a_mistake() -> None:
    told = _mistake(
        'steps: [{traffic: 5%, bake: 30m}, approve, {traffic: 100%, bake: 4h}]\nwindows: {allow: ["fri 09:00-12:00 UTC"]}\n'
    )
    assert told.startswith("p.yaml:2:44: steps[2]: would never begin: with what Azure and the data take it needs 4h12m")


def test_what_is_written_is_read_back() -> None:
    body = f'endpoint_name: recommender\nwindows:\n  allow: ["{OFFICE}"]\n  freeze: [{{from: 2026-12-20, to: 2027-01-04}}]\n'
    found = parse_policy(body, file="p.yaml")
    assert parse_policy(effective_yaml(found), file="effective") == found
    assert found.windows is not None
    assert found.windows.freeze[0].from_ == "2026-12-20"
    defaults = {"windows": {"allow": [OFFICE]}}
    inherited = parse_policy("endpoint_name: recommender\n", file="p.yaml", defaults=defaults)
    assert inherited.windows == windows(OFFICE)
