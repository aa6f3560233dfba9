"""Cells: buckets, interpolation and merging."""

from hypothesis import given
from hypothesis import strategies as st

from rollout.analysis.cells import (
    ANSWER_SIZE,
    BAD,
    CLASSES,
    GOOD,
    REASONS,
    REPORTED,
    UNTIMED,
    Cell,
    bucket,
    custom,
    edge,
    merge,
    quantile,
    reasons,
    slower,
    timed,
)

HISTOGRAMS = st.dictionaries(st.integers(0, 120), st.integers(1, 10_000), min_size=1, max_size=20)


def test_a_duration_falls_between_the_edges_of_its_bucket() -> None:
    for ms in (1, 2, 7, 50, 99, 800, 60_000):
        assert edge(bucket(ms)) <= ms * (1 + 1e-9)
        assert ms < edge(bucket(ms) + 1)


def test_durations_below_a_millisecond_fall_in_the_first_bucket() -> None:
    assert bucket(0.0) == bucket(0.4) == bucket(1.0) == 0


@given(HISTOGRAMS, st.floats(0.01, 0.99))
def test_a_quantile_is_where_that_share_is_slower(histogram: dict[int, int], q: float) -> None:
    found = quantile(histogram, q)
    assert found is not None
    assert abs(slower(histogram, found) - (1 - q) * timed(histogram)) < 1e-6 * timed(histogram) + 1e-6


@given(HISTOGRAMS, st.floats(1, 30_000), st.floats(1, 2))
def test_no_more_are_slower_than_a_higher_bar(histogram: dict[int, int], ms: float, factor: float) -> None:
    assert 0 <= slower(histogram, ms * factor) <= slower(histogram, ms) + 1e-9 <= timed(histogram) + 1e-8


def test_requests_without_a_duration_are_neither_slow_nor_fast() -> None:
    histogram = {UNTIMED: 1000, bucket(100): 10}
    assert timed(histogram) == 10
    assert slower(histogram, 1.0) == 10
    assert quantile({UNTIMED: 5}, 0.5) is None
    assert quantile({}, 0.5) is None


@given(st.lists(st.builds(Cell, histograms=st.dictionaries(st.sampled_from(["ok", "5xx"]), HISTOGRAMS)), max_size=4))
def test_merging_keeps_every_request(cells: list[Cell]) -> None:
    assert merge(cells).count() == sum(cell.count() for cell in cells)
    assert merge(cells).count("5xx") == sum(cell.count("5xx") for cell in cells)


def test_measures_are_no_requests() -> None:
    cell = Cell(histograms={"ok": {40: 90}, ANSWER_SIZE: {80: 88}, REPORTED["latency_p95"]: {56: 1}})
    assert (cell.count(), cell.total, cell.asked, cell.sizes) == (90, 90, 90, {"ok": 90})
    assert cell.measure(ANSWER_SIZE) == {80: 88}
    assert cell.measure(custom("empty")) == {}
    assert merge([cell, cell]).measure(REPORTED["latency_p95"]) == {56: 2}


def test_a_cell_of_own_checks_was_asked_what_the_check_with_the_most_counted() -> None:
    cell = Cell(histograms={custom("empty"): {GOOD: 70, BAD: 5}, custom("late"): {GOOD: 90}})
    assert (cell.total, cell.asked) == (0, 90)
    assert Cell().asked == 0


def test_reasons_are_told_in_words_the_most_frequent_first() -> None:
    cells = [
        Cell(histograms={"ok": {40: 90}, "timeout": {90: 2}, "model_5xx": {40: 1}}),
        Cell(histograms={"model_5xx": {41: 4}, "gone": {UNTIMED: 1}}),
    ]
    assert reasons(cells) == [
        ("failed in the model (424, model status 5xx)", 5),
        ("took longer than the request time-out (408)", 2),
        ("given up by the client", 1),
    ]
    assert reasons([]) == []


def test_every_bad_class_has_a_reason() -> None:
    assert set(REASONS) == set(CLASSES) - {"ok"}
