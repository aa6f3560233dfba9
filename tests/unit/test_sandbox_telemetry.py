"""Rows on their way into Azure Monitor: each arrives once, after its own delay, and is counted at once."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.sandbox.telemetry import Delays, Lateness, TrafficLog
from tests.support.traffic import START, row

MINUTE = timedelta(minutes=1)


def log(**delays: tuple[float, float]) -> TrafficLog:
    spans = {name: (low * MINUTE, high * MINUTE) for name, (low, high) in delays.items()}
    return TrafficLog(chance=random.Random(1), delays=Delays(**spans))


def test_logs_show_a_row_after_three_to_five_minutes_and_metrics_after_one_to_two() -> None:
    traffic = TrafficLog(chance=random.Random(1))
    traffic.append(row())
    assert traffic.metrics.arrived(START + 0.99 * MINUTE) == []
    assert len(traffic.metrics.arrived(START + 2 * MINUTE)) == 1
    assert traffic.logs.arrived(START + 2.99 * MINUTE) == []
    assert len(traffic.logs.arrived(START + 5 * MINUTE)) == 1


def test_rows_overtake_each_other() -> None:
    traffic = TrafficLog(chance=random.Random(1))
    for second in range(100):
        traffic.append(row(second / 60))
    generated = [each.time_generated for _, each in traffic.logs.arrived(START + 10 * MINUTE)]
    assert len(generated) == 100
    assert generated != sorted(generated)


def test_a_row_is_handed_over_once() -> None:
    traffic = log(logs=(3, 3))
    traffic.append(row())
    assert traffic.logs.arrived(START + 3 * MINUTE) == [(START + 3 * MINUTE, row())]
    assert traffic.logs.arrived(START + 9 * MINUTE) == []
    assert len(traffic.logs) == 0


def test_a_late_row_arrives_later_and_a_lost_one_never_but_both_are_counted() -> None:
    traffic = log(logs=(3, 3), metrics=(1, 1))
    traffic.append(row(), late=Lateness(logs=10 * MINUTE))
    traffic.append(row(), late=Lateness(logs=None))
    assert traffic.logs.arrived(START + 12 * MINUTE) == []
    assert len(traffic.logs.arrived(START + 13 * MINUTE)) == 1
    assert traffic.logs.arrived(START + 1000 * MINUTE) == []
    assert len(traffic.metrics.arrived(START + MINUTE)) == 2
    assert traffic.statistics()["e"]["blue"]["requests"] == 2


def test_new_delays_hold_for_rows_to_come() -> None:
    traffic = log(logs=(3, 3))
    traffic.append(row())
    traffic.delays = Delays(logs=(8 * MINUTE, 8 * MINUTE))
    traffic.append(row())
    assert len(traffic.logs.arrived(START + 3 * MINUTE)) == 1
    assert traffic.logs.arrived(START + 7.9 * MINUTE) == []
    assert len(traffic.logs.arrived(START + 8 * MINUTE)) == 1


@pytest.mark.parametrize(
    ("changes", "status", "bad", "client", "gone"),
    [
        ({}, "200", 0, 0, 0),
        ({"response_code": 500}, "500", 1, 0, 0),
        ({"response_code": 408}, "408", 1, 0, 0),
        ({"response_code": 429}, "429", 1, 0, 0),
        ({"response_code": 424, "model_status_code": 500}, "424/500", 1, 0, 0),
        ({"response_code": 424, "model_status_code": 400}, "424/400", 0, 1, 0),
        ({"response_code": 404}, "404", 0, 1, 0),
        ({"response_code": 0}, "0", 0, 0, 1),
    ],
)
def test_requests_are_counted_by_what_they_mean(
    changes: dict[str, int], status: str, bad: int, client: int, gone: int
) -> None:
    traffic = TrafficLog(chance=random.Random(1))
    traffic.append(row(**changes))
    expected = {"requests": 1, "bad": bad, "client_errors": client, "gone": gone, "statuses": {status: 1}}
    assert traffic.statistics() == {"e": {"blue": expected}}


@given(
    minutes=st.lists(st.floats(0, 60), max_size=40),
    looks=st.lists(st.floats(0, 90), max_size=10),
    seed=st.integers(0, 2**32),
)
def test_every_row_arrives_once_in_its_time(minutes: list[float], looks: list[float], seed: int) -> None:
    traffic = TrafficLog(chance=random.Random(seed))
    for minute in minutes:
        traffic.append(row(minute))
    seen = []
    for look in [*sorted(looks), 120.0]:
        now = START + look * MINUTE
        for at, each in traffic.logs.arrived(now):
            assert each.time_generated + 3 * MINUTE <= at <= min(now, each.time_generated + 5 * MINUTE)
            seen.append(each.time_generated)
    assert sorted(seen) == sorted(START + minute * MINUTE for minute in minutes)
