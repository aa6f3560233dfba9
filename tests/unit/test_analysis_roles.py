"""Checks that take part otherwise than by their evidence: dry runs, a harm budget, and sizes of answers."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.analysis.cells import ANSWER_SIZE, Cell, bucket
from rollout.analysis.criteria import criteria_of, weighed
from rollout.analysis.judgement import Judgement
from rollout.analysis.replay import Judged
from rollout.analysis.terms import Finding
from rollout.analysis.verdict import Reason, Verdict, begin, judge
from rollout.analysis.whatif import what_if
from rollout.policy import Policy
from tests.support.judging import START, cell, logs, policy, stage

Minutes = dict[int, Cell]
LOGS: dict[str, Any] = {"evidence": ["logs"]}


def minutes(one: Cell, count: int, first: int = START) -> Minutes:
    return dict.fromkeys(range(first, first + count), one)


HISTORY = minutes(cell(990, bad=10, ms=80), 60, START - 60)
STABLE, GOOD, SLOW = cell(891, bad=9, ms=80), cell(99, bad=1, ms=80), cell(99, bad=1, ms=300)


def judged(one: Policy, candidate: Minutes, stable: Minutes | None = None, **changes: Any) -> Verdict:
    series = logs(stable or minutes(STABLE, len(candidate)), candidate, history=HISTORY)
    at = stage(**changes)
    return judge(begin(one), policy=one, stage=at, series=[series], now=series.closed_before)[1]


def found(verdict: Verdict, check: str, source: str = "logs") -> Finding:
    return next(one for one in verdict.findings if (one.source, one.check) == (source, check))


def plain(text: str) -> str:
    return text.replace("\u2009", " ")


# --- dry run -------------------------------------------------------------------------------------------------------

DRY = policy(expert=LOGS, checks={"latency_p95": {"dry_run": True, "max": "100ms"}})
OFF = policy(expert=LOGS, checks={"latency_p95": "off"})


def test_a_dry_run_reports_and_decides_nothing() -> None:
    verdict = judged(DRY, minutes(SLOW, 10))
    assert verdict.action == "pass"
    finding = found(verdict, "latency_p95")
    assert (finding.role, finding.action, finding.weight) == ("dry_run", "hold", 0.0)
    assert finding.evidence > verdict.threshold
    assert plain(finding.sentence).startswith("P95 ")
    assert ": dry run, worse than the +25 % allowed (evidence " in plain(finding.sentence)
    assert verdict.notes == (finding.sentence,)
    assert "p95" not in verdict.sentence


def test_a_dry_run_with_nothing_to_say_says_nothing_beside_its_line() -> None:
    verdict = judged(DRY, minutes(GOOD, 10))
    assert verdict.notes == ()
    assert found(verdict, "latency_p95").sentence.endswith(": dry run, proven not worse")


def test_a_dry_run_takes_no_part_of_alpha() -> None:
    (criteria,) = criteria_of(DRY).values()
    assert criteria.weights == {"error_rate": 0.5, "client_errors": 0.5}
    assert [check.name for check in weighed(DRY)] == ["error_rate", "client_errors"]
    alone = policy(expert=LOGS, checks={"latency_p95": {"dry_run": True}, "client_errors": {"dry_run": True}})
    assert criteria_of(alone)["logs"].weights == {"error_rate": 1.0}


def test_a_dry_run_does_not_stand_in_the_way_of_an_early_pass() -> None:
    stable, candidate = cell(59_400, bad=60), cell(29_700, bad=30, ms=300)
    verdict = judged(DRY, minutes(candidate, 8), minutes(stable, 8), traffic=33)
    assert verdict.reason is Reason.EARLY


BADNESS = st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from([20, 80, 120, 400, 3000]))


@settings(max_examples=60, deadline=None)
@given(st.lists(BADNESS, min_size=1, max_size=12), st.booleans())
def test_a_dry_run_changes_no_verdict_whatever_it_sees(shown: list[tuple[int, int, int]], retreated: bool) -> None:
    """It is judged as if the check were off."""
    candidate = {START + at: cell(99, bad=bad, client=client, ms=ms) for at, (bad, client, ms) in enumerate(shown)}
    changes = {"retreated_since": START + len(shown) // 2} if retreated else {}
    dry, off = judged(DRY, candidate, **changes), judged(OFF, candidate, **changes)
    assert (dry.action, dry.reason, dry.sentence) == (off.action, off.reason, off.sentence)
    assert (dry.evidence, dry.suspicion, dry.harmed) == (off.evidence, off.suspicion, off.harmed)


# --- harm budget ---------------------------------------------------------------------------------------------------

TIGHT = policy(expert=LOGS | {"harm_budget": 40}, when={"suspicion": "hold"})


def test_a_harm_budget_fails_before_the_evidence_does() -> None:
    candidate = minutes(cell(970, bad=30), 3)
    verdict = judged(TIGHT, candidate, minutes(cell(990, bad=10), 3), traffic=50)
    assert (verdict.action, verdict.reason) == ("fail", Reason.HARM)
    assert verdict.evidence >= 1.0
    told = "The candidate failed: about 60 bad requests beyond stable's rate (at least "
    assert plain(verdict.sentence).startswith(told)
    assert "), above the harm budget of 40; errors 3.0 % vs 1.0 % (90 of 3 000 vs 30 of 3 000), evidence" in plain(
        verdict.sentence
    )
    assert found(verdict, "error_rate").action == "fail"


def test_without_evidence_harm_that_may_be_chance_fails_nothing() -> None:
    """A plain sum would: 9 000 requests at 1 % err by 60 in either direction now and then."""
    busy, unlucky = minutes(cell(99_000, bad=1000), 3), minutes(cell(98_980, bad=1020), 3)
    verdict = judged(TIGHT, unlucky, busy, traffic=50)
    assert verdict.harmed == pytest.approx(60, abs=1)
    assert verdict.action == "hold"


def test_the_budget_is_off_unless_it_is_written() -> None:
    free = policy(expert=LOGS, when={"suspicion": "hold"})
    candidate = minutes(cell(970, bad=30), 3)
    verdict = judged(free, candidate, minutes(cell(990, bad=10), 3), traffic=50)
    assert verdict.reason is not Reason.HARM
    (criteria,) = criteria_of(free).values()
    assert criteria.harm_budget is None


def test_the_source_that_is_surest_of_the_harm_counts_not_the_one_that_shows_the_most() -> None:
    """Where stable is bad too, the same excess may be chance."""
    both = policy(
        expert={"evidence": ["logs", "metrics"], "harm_budget": 30},
        checks={"client_errors": "off", "latency_p95": "off"},
        when={"suspicion": "hold"},
    )
    clear = logs(minutes(cell(990, bad=10), 3), minutes(cell(970, bad=30), 3))
    noisy = replace(logs(minutes(cell(800, bad=200), 3), minutes(cell(778, bad=222), 3)), source="metrics")
    verdict = judge(begin(both), policy=both, stage=stage(traffic=50), series=[clear, noisy], now=START + 3)[1]
    assert (verdict.action, verdict.reason) == ("fail", Reason.HARM)
    assert verdict.harmed == pytest.approx(66)


def test_probes_are_nobody_s_requests() -> None:
    probing = policy(
        probes={"requests": ["{}"]}, expert={"evidence": ["probes"], "harm_budget": 1}, when={"suspicion": "hold"}
    )
    series = replace(logs(minutes(cell(60), 3), minutes(cell(54, bad=6), 3)), source="probes")
    verdict = judge(begin(probing), policy=probing, stage=stage(), series=[series], now=START + 3)[1]
    assert (verdict.harmed, verdict.reason) == (0.0, Reason.BAKE)


def test_what_budget_would_have_borne_it_is_told() -> None:
    candidate, stable = minutes(cell(970, bad=30), 3), minutes(cell(990, bad=10), 3)
    series = logs({**HISTORY, **stable}, candidate, history=HISTORY)
    at = stage(traffic=50)
    judgement, verdict = judge(begin(TIGHT), policy=TIGHT, stage=at, series=[series], now=START + 3)
    look = Judged(
        at=datetime.fromtimestamp((START + 3) * 60, UTC),
        stage=at,
        verdict=verdict,
        judgement=judgement,
        series=(series,),
    )
    (told,) = what_if(look, TIGHT, candidate="green")
    budget = int(told.partition("`harm_budget: ")[2].partition("`")[0])
    assert "instead of 40, it would not have failed at this look." in told
    wider = policy(expert=LOGS | {"harm_budget": budget}, when={"suspicion": "hold"})
    assert judged(wider, candidate, stable, traffic=50).reason is not Reason.HARM
    narrower = policy(expert=LOGS | {"harm_budget": budget - 1}, when={"suspicion": "hold"})
    assert judged(narrower, candidate, stable, traffic=50).reason is Reason.HARM


# --- sizes of answers ----------------------------------------------------------------------------------------------

SIZES = policy(expert=LOGS, checks={"answer_size": {}})


def sized(one: Cell, size: float, answers: int) -> Cell:
    return Cell(histograms={**one.histograms, ANSWER_SIZE: {bucket(size): answers}})


def sizes(one: Policy, theirs: float, ours: float, *, blocks: int = 10, answers: int = 99) -> Verdict:
    return judged(one, minutes(sized(GOOD, ours, answers), blocks), minutes(sized(STABLE, theirs, 891), blocks))


@pytest.mark.parametrize(
    ("theirs", "ours", "how"),
    [
        (1000, 400, "0.42 times stable's"),
        (400, 1000, "2.4 times stable's"),
        (1000, 500, None),  # half as large is still allowed
        (500, 1000, None),
    ],
)
def test_answers_of_another_size_are_told_and_decide_nothing(theirs: float, ours: float, how: str | None) -> None:
    verdict = sizes(SIZES, theirs, ours)
    finding = found(verdict, "answer_size")
    assert verdict.action == "pass"
    assert (finding.unit, finding.role, finding.alert) == ("bytes", "alert", how is not None)
    assert finding.action == "hold"
    both = " vs ".join({400: "412 B", 500: "490 B", 1000: "981 B"}[size] for size in (ours, theirs))
    assert f": {both} in the median" in plain(finding.sentence)
    assert (finding.candidate.n, finding.baseline.n) == (990, 8910)
    assert finding.candidate.value == pytest.approx(ours, rel=0.1)
    if how:
        assert plain(finding.sentence).startswith("Answers have another size: ")
        assert how in finding.sentence
        assert verdict.notes == (finding.sentence,)
    else:
        assert verdict.notes == ()


def test_a_few_answers_tell_nothing_of_their_size() -> None:
    for answers, alert in ((2, False), (3, True)):
        finding = found(sizes(SIZES, 1000, 100, answers=answers), "answer_size")
        assert finding.alert is alert
        assert (finding.sentence == "Answer size: too few answers to say.") is not alert


def test_the_change_allowed_is_the_policy_s_and_a_dry_run_alerts_nobody() -> None:
    wide = policy(expert=LOGS, checks={"answer_size": {"max_change": 4.0}})
    assert not found(sizes(wide, 1000, 400), "answer_size").alert
    dry = policy(expert=LOGS, checks={"answer_size": {"dry_run": True}})
    finding = found(sizes(dry, 1000, 400), "answer_size")
    assert (finding.alert, finding.role) == (False, "dry_run")
    assert found(sizes(wide, 1000, 400), "answer_size").margin == 3.0  # four times as large is 3 more
    assert "0.42 times stable's" in finding.sentence


@pytest.mark.parametrize(("closed", "action", "answers"), [(10, "pass", 10 * 99), (5, "hold", 12 * 99)])
def test_a_pass_tells_sizes_of_closed_minutes_a_hold_of_steady_ones_too(closed: int, action: str, answers: int) -> None:
    series = logs(
        minutes(sized(STABLE, 1000, 891), 12),
        minutes(sized(GOOD, 1000, 99), 12),
        history=HISTORY,
        closed_before=START + closed,
        steady=frozenset(range(START + closed, START + 12)),
    )
    verdict = judge(begin(SIZES), policy=SIZES, stage=stage(), series=[series], now=START + 12)[1]
    assert (verdict.action, found(verdict, "answer_size").candidate.n) == (action, answers)


def test_sizes_are_of_the_step_and_not_asked_for_by_default() -> None:
    small, large = minutes(sized(GOOD, 100, 99), 5), minutes(sized(GOOD, 1000, 99), 5, START + 5)
    series = logs(minutes(sized(STABLE, 1000, 891), 10), {**small, **large}, history=HISTORY)
    judgement, _ = judge(begin(SIZES), policy=SIZES, stage=stage(), series=[series], now=START + 10)
    assert Judgement.load(judgement.dump()) == judgement
    later = stage(step=1, traffic=50, since=START + 5)
    fresh = judge(begin(SIZES), policy=SIZES, stage=later, series=[series], now=START + 10)[1]
    assert found(fresh, "answer_size").candidate.value == pytest.approx(1000, rel=0.1)
    assert all(one.check != "answer_size" for one in judged(policy(expert=LOGS), minutes(GOOD, 3)).findings)
