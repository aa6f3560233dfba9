"""A check tried out: judged as in a rollout of nothing else, over all the minutes that were asked for."""

import pytest

from rollout.analysis.cells import BAD, GOOD, Cell, custom
from rollout.analysis.trial import try_out
from rollout.analysis.verdict import Finding
from rollout.policy import CustomCheck
from tests.support.judging import START

CHECK = CustomCheck(name="empty_answers", kql="T | count", max_increase="2pp")


def counted(n: int, bad: int, *, count: int, first: int = START) -> dict[int, Cell]:
    one = Cell(histograms={custom(CHECK.name): {GOOD: n - bad, BAD: bad}})
    return {first + minute: one for minute in range(count)}


def tried(bad: int, *, count: int = 30, check: CustomCheck = CHECK, end: int | None = None) -> tuple[Finding, float]:
    """What it says of a candidate with so many bad of each hundred, where one of stable's hundred is bad."""
    return try_out(
        check,
        baseline=counted(900, 9, count=count),
        candidate=counted(100, bad, count=count),
        start=START,
        end=START + (count if end is None else end),
    )


def test_a_worse_candidate_would_fail_and_an_equal_one_would_not() -> None:
    worse, threshold = tried(10)
    equal, _ = tried(1)
    assert threshold == pytest.approx(20.0)  # alpha is 5 %
    assert worse.evidence >= threshold > equal.evidence
    assert (worse.action, equal.action) == ("fail", "pass")


def test_what_it_counted_is_told_in_whole() -> None:
    finding, _ = tried(10)
    assert (finding.check, finding.source, finding.unit) == ("empty_answers", "custom", "share")
    assert (finding.baseline.bad, finding.baseline.n) == (9 * 30, 900 * 30)
    assert (finding.candidate.bad, finding.candidate.n) == (10 * 30, 100 * 30)
    assert (finding.margin, finding.weight) == (0.02, 1.0)  # alone, it has all of alpha


def test_minutes_after_the_end_are_left_out() -> None:
    finding, _ = tried(10, count=30, end=20)
    assert finding.candidate.n == 20 * 100


def test_a_dry_run_is_tried_out_as_if_it_decided() -> None:
    dry = CHECK.model_copy(update={"dry_run": True})
    assert tried(10, check=dry) == tried(10)


@pytest.mark.parametrize("count", [1, 5, 5 * 24 * 60])
def test_any_stretch_may_be_tried(count: int) -> None:
    """A minute, or days that are longer than the usual deadline of a rollout."""
    finding, _ = tried(1, count=count)
    assert finding.candidate.n == 100 * count


def test_no_minute_at_all_says_nothing() -> None:
    finding, _ = try_out(CHECK, baseline={}, candidate={}, start=START, end=START)
    assert (finding.candidate.n, finding.evidence, finding.action) == (0, 1.0, "hold")
