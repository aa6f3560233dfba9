"""Numbers into words: what people read, to the letter."""

from datetime import timedelta
from typing import Any

import pytest

from rollout.analysis import sentences
from rollout.analysis.altered import taken
from rollout.analysis.terms import Rate
from tests.support.judging import START, cell, logs
from tests.support.lives import finding

THIN = sentences.THIN_SPACE


@pytest.mark.parametrize(("value", "told"), [(0.4, "0"), (999.6, f"1{THIN}000"), (1234567, f"1{THIN}234{THIN}567")])
def test_numbers_are_whole_and_their_thousands_parted(value: float, told: str) -> None:
    assert sentences.number(value) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.0, "0 %"),
        (0.000_04, "0.00 %"),
        (0.0031, "0.31 %"),
        (0.009_949, "0.99 %"),
        (0.009_95, "1.0 %"),
        (0.068, "6.8 %"),
        (0.099_49, "9.9 %"),
        (0.0995, "10 %"),
        (0.534, "53 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_are_told_with_two_figures(share: float, told: str) -> None:
    assert sentences.percent(share) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.0, "0.01 pp"),
        (-0.5, "0.01 pp"),
        (0.005, "0.5 pp"),
        (0.0052, "0.52 pp"),
        (0.01, "1 pp"),
        (0.015, "1.5 pp"),
        (0.0995, "10 pp"),
        (0.2, "20 pp"),
    ],
)
def test_differences_are_told_in_points_without_idle_zeros(share: float, told: str) -> None:
    assert sentences.points(share) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.44, "0.4"), (9.99, "10.0"), (10.0, "10"), (9999.0, f"9{THIN}999"), (1e30, f"over 9{THIN}999")],
)
def test_evidence_is_told_as_far_as_it_matters(value: float, told: str) -> None:
    assert sentences.evidence(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (412, "412 B"),
        (9, "9 B"),
        (999.4, "999 B"),
        (999.5, "1 kB"),
        (1440, "1.4 kB"),
        (23_400, "23 kB"),
        (2.34e7, "23 MB"),
    ],
)
def test_sizes_are_told_in_units_that_fit(value: float, told: str) -> None:
    assert sentences.size(value) == told
    assert sentences.value(Rate(bad=0, n=1, value=value), "bytes") == told


def test_durations_rates_and_what_is_unknown_are_told() -> None:
    assert sentences.seconds(timedelta(seconds=4)) == "4 s"
    assert sentences.seconds(timedelta(seconds=1)) == "1 s"
    assert sentences.seconds(timedelta(milliseconds=250)) == "250 ms"
    assert sentences.value(Rate(bad=0, n=9, value=84.4), "ms") == "84 ms"
    assert sentences.value(Rate(bad=0, n=9, value=0.068), "share") == "6.8 %"
    assert sentences.value(Rate(bad=0, n=0, value=None), "ms") == "unknown"
    assert sentences.label("latency_p95") == "p95"
    assert sentences.label("error_rate") == "errors"
    assert sentences.label("my-own") == "my-own"


@pytest.mark.parametrize(
    ("check", "value", "told"),
    [({"unit": "share"}, 0.005, "0.5 pp"), ({"unit": "ms"}, 0.25, "25 %"), ({"unit": "ms"}, 0.001, "1 %")],
)
def test_increases_are_told_in_the_unit_of_their_check(check: dict[str, Any], value: float, told: str) -> None:
    assert sentences.increase(finding(**check), value) == told


def reported(value: float | None, **changes: Any) -> str:
    rate = Rate(bad=0, n=10, value=value)
    one = finding(check="latency_p95", unit="ms", candidate=rate, baseline=rate, role="bound", **changes)
    return sentences.of_check(one, 20.0, 20.0)


def test_reported_quantiles_are_told_against_their_maximum() -> None:
    assert "the maximum of 800 ms, as Azure reported" in reported(120.0, maximum=800.0)


def test_client_errors_are_told_only_where_there_are_some() -> None:
    none = Rate(bad=0, n=100, value=0.0)
    some = Rate(bad=1, n=100, value=0.01)
    assert sentences.comparisons([finding(check="client_errors", baseline=none, candidate=none)]) == (
        "nothing to compare yet"
    )
    for baseline, candidate in ((some, none), (none, some)):
        told = sentences.comparisons([finding(check="client_errors", baseline=baseline, candidate=candidate)])
        assert told.startswith("client errors ")
    two = [finding(), finding(check="client_errors", baseline=none, candidate=some)]
    assert sentences.comparisons(two).count(", ") == 1
    unseen = finding(candidate=Rate(bad=0, n=0, value=None))
    assert sentences.comparisons([unseen]) == "nothing to compare yet"


def test_a_pass_by_time_names_what_is_open_and_what_would_have_been_seen() -> None:
    shown = finding(not_worse=20.0)
    blind, seeing = finding(not_worse=19.9), finding(check="latency_p95", unit="ms", not_worse=1.0, compatible=0.3)
    assert sentences.unproven([shown, blind, seeing], 20.0) == (
        "no evidence against; not proven: errors, p95 (sees from +30 % up)"
    )


def test_a_look_takes_in_what_is_closed_or_steady() -> None:
    cells = {START + at: cell(10) for at in range(6)}
    series = logs(cells, cells, closed_before=START + 3, steady=frozenset({START + 4}))
    assert taken(series) == [START, START + 1, START + 2, START + 4]
