"""The watch after a promotion: what the candidate alone can be held against, and what it cannot."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from rollout.analysis.cells import Cell
from rollout.analysis.terms import Reason, Series, Verdict
from rollout.analysis.watch import KNOWN, Usual, usual_of, watch
from rollout.policy import Checks, ErrorCheck, LatencyCheck, Policy
from rollout.policy.probes import Probes
from tests.support.judging import START, cell, logs, policy, without_durations
from tests.support.lives import FAIL, verdict

USUAL = (
    Usual(source="logs", check="error_rate", bad=10, n=1000),
    Usual(source="logs", check="client_errors", bad=0, n=1000),
)


def minutes(*cells: Cell, start: int = START) -> dict[int, Cell]:
    return {start + at: one for at, one in enumerate(cells)}


def watched(candidate: Mapping[int, Cell], *more: Series, one: Policy | None = None, **changes: object) -> Verdict:
    series = [logs({}, candidate), *more]
    end = max(candidate, default=START) + 1
    given = {"since": START, "usual": USUAL, "now": end} | changes
    return watch(one or policy(), series=series, **given)  # type: ignore[arg-type]


def probes(baseline: Mapping[int, Cell], candidate: Mapping[int, Cell], *, failed_pairs: int = 0) -> Series:
    return replace(logs(baseline, candidate), source="probes", failed_pairs=failed_pairs)


def probing(**changes: object) -> Policy:
    one = policy(probes=Probes(requests=('{"a": 1}',)), **changes)
    return one.model_copy(update={"expert": one.expert.model_copy(update={"evidence": ("logs", "metrics", "probes")})})


def test_a_candidate_as_before_is_left_alone_and_its_numbers_are_told() -> None:
    found = watched(minutes(*[cell(99, bad=1)] * 12))
    assert (found.action, found.reason) == ("hold", Reason.BAKE)
    assert found.sentence == "Watched at 100 %: errors 1.0 % (10 of 1\u2009000), p95 54 ms; nothing speaks against it."
    assert found.notes == ("Not judged while the candidate serves alone: p95 (no stable beside it, no `max`).",)


def test_half_of_the_requests_bad_in_two_minutes_in_a_row_fails_at_once() -> None:
    good, broken = cell(99, bad=1), cell(40, bad=60)
    assert watched(minutes(good, good, good, broken)).action == "hold"
    found = watched(minutes(good, good, good, broken, broken))
    assert (found.action, found.reason) == ("fail", Reason.HARD_GUARD)
    assert "half of its requests or more were bad two minutes in a row, errors 25 % (123 of 500)" in found.sentence
    assert found.harmed == pytest.approx(123 - 5)
    few = cell(8, bad=10)
    assert watched(minutes(few, few)).action == "hold"


@pytest.mark.parametrize(("bad", "fails"), [(2, False), (4, False), (9, True)])
def test_errors_far_above_the_rate_before_fail(bad: int, fails: bool) -> None:
    found = watched(minutes(*[cell(100 - bad, bad=bad)] * 10))
    assert (found.action == "fail") is fails
    if fails:
        assert found.reason is Reason.REGRESSION
        assert "errors 9.0 % (90 of 1\u2009000) in the last 10 min, 1.0 % before the promotion" in found.sentence


def test_one_bad_minute_does_not_fail_it() -> None:
    good = cell(100)
    assert watched(minutes(*[good] * 5, cell(10, bad=90), *[good] * 3)).action == "hold"


def test_what_is_usual_must_be_known() -> None:
    bad = minutes(*[cell(80, bad=20)] * 10)
    few = Usual(source="logs", check="error_rate", bad=0, n=KNOWN - 1)
    assert watched(bad, usual=(few,)).action == "hold"
    assert watched(bad, usual=(replace(few, n=100),)).action == "fail"


def test_more_than_half_bad_fails_also_where_nothing_else_is_known_and_requests_are_few() -> None:
    bad = minutes(*[cell(2, bad=15)] * 5)
    found = watched(bad, usual=())
    assert (found.action, found.reason) == ("fail", Reason.REGRESSION)
    assert found.sentence == (
        "The candidate failed: more than half of its requests were bad, errors 88 % (75 of 85) in the last 10 min."
    )
    assert watched(minutes(*[cell(9, bad=8)] * 5), usual=()).action == "hold"


def test_the_policys_maximum_needs_nothing_to_compare_with() -> None:
    capped = policy(
        checks=Checks(error_rate=ErrorCheck(max="5%"), latency_p95=LatencyCheck(max="80ms"), client_errors=None)
    )
    above = watched(minutes(*[cell(85, bad=15)] * 5), one=capped, usual=())
    assert (above.action, above.reason) == ("fail", Reason.MAXIMUM)
    assert above.sentence.endswith("in the last 10 min, above the maximum of 5.0 %.")
    slow = watched(minutes(*[cell(100, ms=200)] * 5), one=capped, usual=())
    assert (slow.action, slow.reason) == ("fail", Reason.MAXIMUM)
    assert "above the maximum of 80 ms" in slow.sentence
    assert watched(minutes(*[cell(100)] * 5), one=capped, usual=()).notes == ()


def test_what_only_reports_fails_nothing() -> None:
    quiet = policy(checks=Checks(error_rate=ErrorCheck(max="5%", dry_run=True), client_errors=None))
    assert watched(minutes(*[cell(20, bad=80)] * 10), one=quiet).action == "hold"


def test_only_minutes_since_the_promotion_and_the_last_ones_count() -> None:
    before = minutes(*[cell(20, bad=80)] * 5, start=START - 5)
    assert watched(before | minutes(*[cell(100)] * 3)).action == "hold"
    long_ago = minutes(*[cell(20, bad=80)] * 5, *[cell(100)] * 10)
    assert watched(long_ago).action == "hold"


def test_open_minutes_count_once_they_are_steady() -> None:
    bad = minutes(*[cell(40, bad=60)] * 4)
    for steady, action in ((frozenset[int](), "hold"), (frozenset(bad), "fail")):
        series = logs({}, bad, closed_before=START, steady=steady, read_at=START + 4)
        assert watch(policy(), series=[series], since=START, usual=USUAL, now=START + 4).action == action


def test_probes_are_still_compared_with_stable() -> None:
    good, bad = minutes(*[cell(60)] * 10), minutes(*[cell(40, bad=20)] * 10)
    alone = watched(minutes(*[cell(100)] * 10), probes(good, bad), one=probing())
    assert alone.action == "fail"
    assert "errors of the probes 33 % (200 of 600) in the last 10 min, 0 % on stable" in alone.sentence
    assert watched(minutes(*[cell(100)] * 10), probes(bad, bad), one=probing()).action == "hold"
    crashed = watched(minutes(cell(100)), probes(good, good, failed_pairs=10), one=probing())
    assert (
        crashed.sentence
        == "The candidate failed: 10 probes in a row got no good answer, while stable answered each of them."
    )


def test_what_stables_probes_suffer_from_too_is_no_fail_of_the_candidate() -> None:
    bad = minutes(*[cell(30, bad=30)] * 10)
    found = watched(minutes(*[cell(50, bad=50)] * 10), probes(bad, bad), one=probing())
    assert (found.action, found.reason) == ("hold", Reason.SHARED_INCIDENT)
    assert "of stable's probes 50 % were bad, too" in found.sentence


def test_silence_is_no_data() -> None:
    series = logs({}, minutes(*[cell(100)] * 70), closed_before=START + 80)
    found = watch(policy(), series=[series], since=START, usual=USUAL, now=START + 81)
    assert (found.action, found.reason) == ("hold", Reason.NO_DATA)
    assert watch(policy(), series=[], since=START, usual=USUAL, now=START + 81).reason is Reason.NO_DATA


def test_metrics_alone_watch_errors() -> None:
    one = policy()
    one = one.model_copy(update={"expert": one.expert.model_copy(update={"evidence": ("metrics",)})})
    series = replace(logs({}, without_durations(minutes(*[cell(40, bad=60)] * 4))), source="metrics")
    assert watch(one, series=[series], since=START, usual=(), now=START + 4).action == "fail"


def test_usual_is_the_candidates_own_rate_but_stables_where_it_failed() -> None:
    assert usual_of(None) == usual_of(verdict("pass")) == ()
    (failed,) = usual_of(FAIL)
    assert (failed.bad, failed.n) == (8, 2700)
    passed = replace(FAIL, findings=tuple(replace(one, action="pass") for one in FAIL.findings))
    assert [(one.bad, one.n) for one in usual_of(passed)] == [(61, 900)]
