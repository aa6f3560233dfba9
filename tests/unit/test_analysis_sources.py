"""Sources beside the logs: probes, a policy's own checks, and metrics that decide alone."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from rollout.analysis.cells import BAD, CUSTOM, GOOD, REPORTED, Cell, bucket, custom
from rollout.analysis.checks import checks_of, deciding_source, source_weights, sources_of
from rollout.analysis.criteria import criteria_of
from rollout.analysis.exhibits import Recorder
from rollout.analysis.replay import replay
from rollout.analysis.terms import DECIDING, Finding, Source
from rollout.analysis.verdict import Reason, Series, Stage, Verdict, begin, judge
from rollout.policy import Policy
from rollout.store.codec import dump_exhibit, load_exhibit
from tests.support.judging import START, cell, policy, stage, without_durations

PROBES: dict[str, Any] = {"requests": ('{"data": [1]}',), "timeout": "4s"}
EMPTY = {"name": "empty_answers", "kql": "AmlOnlineEndpointTrafficLog | take 1", "max_increase": "1pp"}
Minutes = Mapping[int, Cell]


def minutes(one: Cell, count: int, first: int = START) -> dict[int, Cell]:
    return dict.fromkeys(range(first, first + count), one)


HISTORY = minutes(cell(990, bad=10), 60, START - 60)
STABLE, GOOD_ONE, BAD_ONE = cell(891, bad=9), cell(99, bad=1), cell(90, bad=10)
PROBE, BAD_PROBE = cell(60), cell(0, bad=60)


def shown(source: Source, baseline: Minutes, candidate: Minutes, **changes: Any) -> Series:
    """A source in which every minute is closed and was just read."""
    end = max([*baseline, *candidate, START - 1]) + 1
    given: dict[str, Any] = {"closed_before": end, "read_at": end} | changes
    return Series(source=source, baseline=baseline, candidate=candidate, **given)


def judged(one: Policy, *series: Series, at: Stage | None = None, now: int | None = None) -> Verdict:
    """One look by a judge that has seen nothing yet."""
    looked = now if now is not None else max(one.closed_before for one in series)
    return judge(begin(one), policy=one, stage=at or stage(), series=series, now=looked)[1]


def found(verdict: Verdict, source: Source, check: str) -> Finding:
    return next(one for one in verdict.findings if (one.source, one.check) == (source, check))


def counted(n: int, bad: int, name: str = "empty_answers") -> Cell:
    return Cell(histograms={custom(name): {GOOD: n - bad, BAD: bad}})


def plain(text: str) -> str:
    return text.replace("\u2009", " ")


# --- who decides, and with which part of alpha ---------------------------------------------------------------------

WITH_PROBES = policy(probes=PROBES, expert={"evidence": ["logs", "metrics", "probes"]})
PROBES_ONLY = policy(probes=PROBES, expert={"evidence": ["probes"]})
OWN = policy(checks={"custom": [EMPTY]})
OWN_ONLY = policy(checks={"custom": [EMPTY]}, expert={"evidence": []})
METRICS_ONLY = policy(expert={"evidence": ["metrics"]})


@pytest.mark.parametrize(
    ("one", "decides", "parts"),
    [
        (WITH_PROBES, "logs", {"logs": 0.5, "metrics": 0.25, "probes": 0.25}),
        (PROBES_ONLY, "probes", {"probes": 1.0}),
        (OWN, "logs", {"logs": 0.5, "metrics": 0.25, "custom": 0.25}),
        (OWN_ONLY, "custom", {"custom": 1.0}),
        (METRICS_ONLY, "metrics", {"metrics": 1.0}),
        (policy(probes=PROBES, expert={"evidence": ["probes", "metrics"]}), "metrics", {"probes": 0.5, "metrics": 0.5}),
    ],
    ids=["probes too", "probes alone", "own checks too", "own checks alone", "metrics alone", "metrics and probes"],
)
def test_each_source_has_a_part_of_alpha_and_the_surest_decides(
    one: Policy, decides: Source, parts: Mapping[Source, float]
) -> None:
    assert source_weights({source: checks_of(one, source) for source in sources_of(one)}) == parts
    assert deciding_source(one) == decides
    assert sources_of(one) == tuple(parts)


def test_the_order_of_who_decides_names_every_source() -> None:
    assert sorted(DECIDING) == ["custom", "logs", "metrics", "probes"]


# --- probes --------------------------------------------------------------------------------------------------------

LIVE = (
    shown("logs", minutes(STABLE, 4), minutes(GOOD_ONE, 4), history=HISTORY),
    shown("metrics", without_durations(minutes(STABLE, 4)), without_durations(minutes(GOOD_ONE, 4))),
)


@pytest.mark.parametrize(("pairs", "action"), [(0, "hold"), (9, "hold"), (10, "fail"), (11, "fail")])
def test_ten_probes_in_a_row_that_only_stable_answered_fail_at_once(pairs: int, action: str) -> None:
    probes = shown("probes", {}, {}, failed_pairs=pairs, read_at=START + 4)
    verdict = judged(WITH_PROBES, *LIVE, probes)
    assert verdict.action == action
    if action == "fail":
        assert verdict.reason is Reason.HARD_GUARD
        told = (
            f"The candidate failed: {pairs} probes in a row got no good answer within 4 s, while stable answered each"
        )
        assert verdict.sentence == f"{told} of them."
        assert found(verdict, "probes", "error_rate").action == "fail"


def test_a_crash_is_told_from_probes_before_any_minute_was_seen() -> None:
    verdict = judged(WITH_PROBES, shown("probes", {}, {}, failed_pairs=10, read_at=0), now=START)
    assert (verdict.action, verdict.reason) == ("fail", Reason.HARD_GUARD)


def test_where_errors_decide_nothing_failed_probes_do_not_either() -> None:
    lenient = policy(probes=PROBES, expert={"evidence": ["logs", "probes"]}, checks={"error_rate": {"dry_run": True}})
    probes = shown("probes", {}, {}, failed_pairs=50, read_at=START + 4)
    assert judged(lenient, *LIVE, probes).action == "hold"


def test_failed_pairs_are_kept_with_what_was_shown_and_judged_the_same_again() -> None:
    logs = shown("logs", {**HISTORY, **minutes(STABLE, 4)}, minutes(GOOD_ONE, 4), history=HISTORY)
    series = [logs, shown("probes", {}, {}, failed_pairs=10, read_at=START + 4)]
    before = begin(WITH_PROBES)
    at = datetime.fromtimestamp((START + 4) * 60, UTC)
    exhibit = Recorder().exhibit("r", at=at, stage=stage(), series=series, begun=before)
    (again,) = replay(WITH_PROBES, [load_exhibit(dump_exhibit(exhibit))])
    assert again.verdict == judge(before, policy=WITH_PROBES, stage=stage(), series=series, now=START + 4)[1]
    assert again.verdict.reason is Reason.HARD_GUARD


def test_minutes_that_are_steady_but_open_are_judged_the_same_again() -> None:
    candidate = {**minutes(GOOD_ONE, 2), **minutes(cell(20, bad=80), 3, START + 2)}
    stable, steady = {**HISTORY, **minutes(STABLE, 5)}, frozenset(range(START + 2, START + 5))
    series = [shown("logs", stable, candidate, history=HISTORY, closed_before=START + 2, steady=steady)]
    before, at = begin(WITH_PROBES), datetime.fromtimestamp((START + 5) * 60, UTC)
    exhibit = Recorder().exhibit("r", at=at, stage=stage(), series=series, begun=before)
    (again,) = replay(WITH_PROBES, [load_exhibit(dump_exhibit(exhibit))])
    assert again.verdict == judge(before, policy=WITH_PROBES, stage=stage(), series=series, now=START + 5)[1]
    assert again.verdict.action == "fail"


def test_bad_probes_fail_a_candidate_that_the_logs_do_not_show_yet() -> None:
    probes = shown("probes", minutes(PROBE, 4), minutes(BAD_PROBE, 4))
    verdict = judged(WITH_PROBES, shown("logs", {}, {}, history=HISTORY, read_at=START + 4), probes)
    assert (verdict.action, verdict.reason) == ("fail", Reason.HARD_GUARD)
    assert found(verdict, "probes", "error_rate").candidate.value == 1.0
    assert "bad two minutes in a row, errors of the probes 100 % vs 0 % (" in verdict.sentence


def test_probes_that_fail_now_and_then_are_weighed_as_minutes_are() -> None:
    for share, expected in ((0, {"hold", "pass"}), (12, {"retreat", "fail"})):
        probes = shown("probes", minutes(PROBE, 8), minutes(cell(60 - share, bad=share), 8))
        verdict = judged(WITH_PROBES, probes, *LIVE, now=START + 8)
        assert verdict.action in expected


def test_a_silent_prober_is_told_and_holds_nothing_where_the_logs_decide() -> None:
    series = [
        shown("logs", minutes(STABLE, 10), minutes(GOOD_ONE, 10), history=HISTORY),
        shown("probes", {}, {}, read_at=0),
    ]
    verdict = judged(WITH_PROBES, *series)
    assert verdict.action == "pass"
    assert verdict.notes == ("The probes show nothing of this step: it is judged without them.",)
    series[1] = shown("probes", minutes(PROBE, 10), minutes(PROBE, 10))
    assert judged(WITH_PROBES, *series).notes == ()


@pytest.mark.parametrize(("blocks", "told"), [(2, False), (3, True)])
def test_a_silent_prober_is_worth_a_word_after_three_minutes_of_a_step(blocks: int, told: bool) -> None:
    live = shown("logs", minutes(STABLE, blocks), minutes(GOOD_ONE, blocks), history=HISTORY)
    assert bool(judged(WITH_PROBES, live, shown("probes", {}, {}, read_at=0)).notes) is told


def test_where_probes_decide_silence_holds() -> None:
    assert judged(PROBES_ONLY, shown("probes", {}, {}, read_at=0), now=START + 3).reason is Reason.NO_DATA
    silent = shown("probes", minutes(PROBE, 2), minutes(PROBE, 2), closed_before=START + 12, read_at=START + 12)
    verdict = judged(PROBES_ONLY, silent)
    assert (verdict.action, verdict.reason) == ("hold", Reason.NO_DATA)
    assert "in the probes for 10 min" in verdict.sentence
    alone = shown("probes", minutes(PROBE, 12), minutes(PROBE, 4), closed_before=START + 12, read_at=START + 12)
    verdict = judged(PROBES_ONLY, alone)
    assert (verdict.action, verdict.reason) == ("hold", Reason.NO_DATA)
    assert "show stable alone for 8 min" in verdict.sentence


def test_where_probes_decide_their_own_minutes_pass_a_step_and_slow_ones_do_not() -> None:
    quick = shown("probes", minutes(cell(60, ms=80), 10), minutes(cell(60, ms=82), 10))
    verdict = judged(PROBES_ONLY, quick)  # at 10 % of the traffic both are asked alike, which is no wrong split
    assert verdict.action == "pass"
    assert plain(verdict.sentence).startswith("Step 1 of 3 passed: errors 0 % vs 0 % (0 of 600 vs 0 of 600), p95 8")
    assert found(verdict, "probes", "latency_p95").bar is not None  # from stable's own probes
    slow = shown("probes", minutes(cell(60, ms=80), 10), minutes(cell(60, ms=300), 10))
    assert judged(PROBES_ONLY, slow).action in {"retreat", "fail"}


def test_with_nothing_held_back_probes_still_ask_stable() -> None:
    everything = stage(step=2, traffic=100, since=START, holdback=False)
    series = shown("probes", minutes(cell(54, bad=6), 10), minutes(cell(54, bad=6), 10))
    verdict = judged(PROBES_ONLY, series, at=everything)
    assert (verdict.action, verdict.notes) == ("pass", ())  # both are as bad in the same minutes
    assert found(verdict, "probes", "error_rate").baseline.n == 600


def test_good_probes_do_not_dispute_what_the_callers_see() -> None:
    """Only sources that show the same requests are heard before a retreat ends in a fail."""
    bad, since = {**minutes(GOOD_ONE, 3), **minutes(BAD_ONE, 17, START + 3)}, START + 8
    at = stage(traffic=2, since=since, retreated_since=since)
    logs = shown("logs", minutes(STABLE, 20), bad, history=HISTORY)
    probes = shown("probes", minutes(PROBE, 20), minutes(PROBE, 20))
    assert judged(WITH_PROBES, logs, probes, at=at).action == "fail"


# --- own checks ----------------------------------------------------------------------------------------------------


def test_an_own_check_counts_what_its_query_counted() -> None:
    own = shown("custom", minutes(counted(900, 9), 6), minutes(counted(100, 20), 6))
    verdict = judged(OWN, *LIVE, own, now=START + 6)
    finding = found(verdict, "custom", "empty_answers")
    assert (finding.baseline.bad, finding.baseline.n) == (54, 5400)
    assert (finding.candidate.bad, finding.candidate.n, finding.margin) == (120, 600, 0.01)
    assert verdict.action in {"retreat", "fail"}
    assert "empty_answers 20 % vs 1.0 % (120 of 600 vs 54 of 5 400), allowed +1 pp" in plain(verdict.sentence)


def test_a_minute_that_one_deployment_has_no_rows_of_is_no_block() -> None:
    own = shown("custom", minutes(counted(900, 9), 6), minutes(counted(100, 20), 2))
    verdict = judged(OWN, *LIVE, own, now=START + 6)
    assert found(verdict, "custom", "empty_answers").candidate.n == 200
    own = shown("custom", minutes(counted(900, 9), 6), minutes(counted(100, 20, "another"), 6))
    assert found(judged(OWN, *LIVE, own, now=START + 6), "custom", "empty_answers").candidate.n == 0


def test_an_own_check_within_its_margin_passes_with_the_others() -> None:
    logs = shown("logs", minutes(STABLE, 10), minutes(GOOD_ONE, 10), history=HISTORY)
    own = shown("custom", minutes(counted(900, 45), 10), minutes(counted(100, 5), 10))
    verdict = judged(OWN, logs, own)
    assert (verdict.action, verdict.notes) == ("pass", ())
    finding = found(verdict, "custom", "empty_answers")
    assert (finding.role, finding.unit, finding.action) == ("evidence", "share", "pass")
    assert plain(finding.sentence).startswith("Empty_answers 5.0 % vs 5.0 % (50 of 1 000 vs 450 of 9 000): ")


def test_an_own_check_that_counts_nothing_holds_though_the_logs_decide() -> None:
    logs = shown("logs", minutes(STABLE, 10), minutes(GOOD_ONE, 10), history=HISTORY)
    assert judged(policy(), logs).action == "pass"
    verdict = judged(OWN, logs, shown("custom", {}, {}, read_at=0))
    assert (verdict.action, verdict.reason) == ("hold", Reason.NOT_COMPARABLE)
    assert "nothing was counted yet on both deployments by empty_answers" in verdict.sentence
    assert found(verdict, "custom", "empty_answers").sentence == "Empty_answers: nothing was counted yet"
    two = policy(checks={"custom": [EMPTY, EMPTY | {"name": "late"}]})
    told = judged(two, logs, shown("custom", {}, {}, read_at=0)).sentence
    assert "is held: nothing was counted yet on both deployments by empty_answers, late: " in told
    reports = policy(checks={"custom": [EMPTY | {"dry_run": True}]})
    assert judged(reports, logs, shown("custom", {}, {}, read_at=0)).action == "pass"


def test_where_own_checks_decide_each_must_have_counted_something() -> None:
    two = policy(checks={"custom": [EMPTY, EMPTY | {"name": "late"}]}, expert={"evidence": []})
    one = shown("custom", minutes(counted(900, 9), 10), minutes(counted(400, 4), 10))
    verdict = judged(two, one)
    assert (verdict.action, verdict.reason) == ("hold", Reason.NOT_COMPARABLE)
    assert "nothing was counted yet on both deployments by late" in verdict.sentence
    assert judged(OWN_ONLY, one).action == "pass"
    assert judged(OWN_ONLY, shown("custom", {}, {}, read_at=0), now=START + 3).reason is Reason.NO_DATA


def test_an_own_check_has_a_maximum_and_the_hard_guard_only_where_it_allows_little() -> None:
    bounded = policy(checks={"custom": [EMPTY | {"max": "10%"}]}, expert={"evidence": []})
    high = shown("custom", minutes(counted(900, 80), 4), minutes(counted(400, 60), 4))
    assert judged(bounded, high).reason is Reason.MAXIMUM
    half = shown("custom", minutes(counted(900, 9), 2), minutes(counted(100, 60), 2))
    assert judged(OWN_ONLY, half).reason is Reason.HARD_GUARD
    generous = policy(checks={"custom": [EMPTY | {"max_increase": "50pp"}]}, expert={"evidence": []})
    assert judged(generous, half).action == "hold"


def test_names_of_own_checks_are_names_of_measures() -> None:
    (check,) = checks_of(OWN, "custom")
    assert check.measure == f"{CUSTOM}{check.name}"


# --- metrics alone -------------------------------------------------------------------------------------------------

BOUND = policy(expert={"evidence": ["metrics"]}, checks={"latency_p95": {"max": "800ms"}})


def reported(one: Cell, ms: float | None) -> Cell:
    """As platform metrics show a minute: counts without durations, and a quantile without a count."""
    (bare,) = without_durations({0: one}).values()
    quantiles = {} if ms is None else {REPORTED["latency_p95"]: {bucket(ms): 1}}
    return Cell(histograms={**bare.histograms, **quantiles})


def in_metrics(stable: Sequence[float | None], candidate: Sequence[float | None]) -> Series:
    return shown(
        "metrics",
        {START + at: reported(STABLE, ms) for at, ms in enumerate(stable)},
        {START + at: reported(GOOD_ONE, ms) for at, ms in enumerate(candidate)},
        history=without_durations(HISTORY),
    )


def test_metrics_alone_pass_a_step_and_fail_one() -> None:
    verdict = judged(METRICS_ONLY, in_metrics([100.0] * 10, [100.0] * 10))
    assert (verdict.action, verdict.requests.candidate) == ("pass", 1000)
    assert "p95" not in verdict.sentence
    bad = shown("metrics", without_durations(minutes(STABLE, 9)), without_durations(minutes(cell(70, bad=30), 9)))
    assert judged(METRICS_ONLY, bad).action == "fail"


@pytest.mark.parametrize(("stable", "candidate"), [([500.0] * 10, [None] * 10), ([None] * 10, [500.0] * 10)])
def test_a_maximum_of_what_azure_did_not_report_holds(
    stable: Sequence[float | None], candidate: Sequence[float | None]
) -> None:
    assert judged(BOUND, in_metrics([500.0] * 10, [500.0] * 10)).action == "pass"
    verdict = judged(BOUND, in_metrics(stable, candidate))
    assert (verdict.action, verdict.reason) == ("hold", Reason.NOT_COMPARABLE)
    assert "Azure has not reported the p95 of both deployments yet" in verdict.sentence
    assert judged(METRICS_ONLY, in_metrics(stable, candidate)).action == "pass"  # nothing is asked of it
    two = policy(
        expert={"evidence": ["metrics"]}, checks={"latency_p95": {"max": "800ms"}, "latency_p99": {"max": "2s"}}
    )
    told = judged(two, in_metrics(stable, candidate)).sentence
    assert "is held: Azure has not reported the p95 and p99 of both deployments yet: " in told


def test_without_a_maximum_reported_latency_only_reports() -> None:
    verdict = judged(METRICS_ONLY, in_metrics([100.0] * 10, [9000.0] * 10))
    assert verdict.action == "pass"
    finding = found(verdict, "metrics", "latency_p95")
    assert (finding.role, finding.weight, finding.candidate.n) == ("dry_run", 0.0, 10)
    assert finding.action == "hold"  # it shows nothing, so it does not pass either
    told = plain(finding.sentence)
    assert told.startswith("P95 9 ")
    assert told.endswith(": dry run, Azure's metrics give no counts to judge latency with")


@pytest.mark.parametrize(
    ("stable", "candidate", "expected"),
    [
        ([500.0] * 4, [500.0, 900.0, 900.0, 900.0], ("fail", Reason.MAXIMUM)),
        ([500.0] * 4, [500.0, 500.0, 900.0, 900.0], ("hold", Reason.BAKE)),
        ([500.0] * 10, [900.0] * 5 + [500.0] * 5, ("pass", Reason.TIME)),  # five of the last ten are not most of them
        ([500.0] * 9, [500.0] * 3 + [900.0] * 6, ("fail", Reason.MAXIMUM)),
        ([900.0] * 4, [900.0] * 4, ("hold", Reason.MAXIMUM)),
        ([900.0] * 2 + [500.0] * 2, [900.0] * 4, ("hold", Reason.MAXIMUM)),
        ([500.0] * 4, [None] * 4, ("hold", Reason.BAKE)),
        ([None] * 4, [900.0] * 4, ("hold", Reason.BAKE)),
    ],
)
def test_reported_latency_is_held_against_its_maximum(
    stable: Sequence[float | None], candidate: Sequence[float | None], expected: tuple[str, Reason]
) -> None:
    verdict = judged(BOUND, in_metrics(stable, candidate))
    assert (verdict.action, verdict.reason) == expected
    finding = found(verdict, "metrics", "latency_p95")
    assert (finding.role, finding.maximum) == ("bound", 800.0)
    if verdict.action == "fail":
        assert "above the maximum of 800 ms" in plain(verdict.sentence)
        assert plain(finding.sentence).endswith("above the maximum of 800 ms, as Azure reported")


def test_reported_latency_of_the_step_before_is_forgotten() -> None:
    series = in_metrics([500.0] * 6, [900.0, 900.0, 500.0, 900.0, 900.0, 500.0])
    later = stage(step=1, traffic=50, since=START + 3)
    judgement, _ = judge(begin(BOUND), policy=BOUND, stage=stage(), series=[series], now=START + 6)
    _, verdict = judge(judgement, policy=BOUND, stage=later, series=[series], now=START + 6)
    assert verdict.action == "hold"
    assert found(verdict, "metrics", "latency_p95").candidate.n == 0  # what was taken in before counts for that step


def test_beside_the_logs_metrics_do_not_speak_of_latency() -> None:
    with_logs = policy(checks={"latency_p95": {"max": "800ms"}})
    assert [check.name for check in criteria_of(with_logs)["metrics"].everything] == ["error_rate", "client_errors"]
    assert [check.name for check in criteria_of(BOUND)["metrics"].checks] == ["error_rate", "client_errors"]
    assert [check.name for check in criteria_of(BOUND)["metrics"].beside] == ["latency_p95"]
