"""Verdicts: what the judge says in each situation, and that saying it twice changes nothing."""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from math import isfinite
from typing import Any

import pytest
from pydantic import TypeAdapter

from rollout.analysis.cells import Cell
from rollout.analysis.verdict import Judgement, Pair, Reason, Series, Stage, Verdict, begin, judge
from rollout.policy import Checks
from tests.support.judging import START, cell, logs, look, policy, stage, without_durations

LOGS_ONLY: dict[str, Any] = {"expert": {"evidence": ["logs"]}}
HOLDING = policy(when={"suspicion": "hold"}, **LOGS_ONLY)
RETREATING = policy(**LOGS_ONLY)
GOOD_STABLE, GOOD = cell(891, bad=9), cell(99, bad=1)
Minutes = dict[int, Cell]


def minutes(one: Cell, count: int, first: int = START) -> Minutes:
    return dict.fromkeys(range(first, first + count), one)


HISTORY = minutes(cell(990, bad=10), 60, START - 60)


def finding(verdict: Verdict, check: str, source: str = "logs") -> Any:
    return next(one for one in verdict.findings if (one.check, one.source) == (check, source))


# --- passing and holding -------------------------------------------------------------------------------------------


def test_a_bake_is_counted_in_closed_blocks_not_minutes() -> None:
    for blocks, action in ((9, "hold"), (10, "pass")):
        _, verdict = look(RETREATING, minutes(GOOD_STABLE, blocks), minutes(GOOD, blocks), history=HISTORY)
        assert (verdict.action, verdict.blocks) == (action, blocks)
    assert verdict.reason in {Reason.TIME, Reason.PROVEN}


def test_a_pass_tells_its_numbers() -> None:
    stable, candidate = minutes(cell(1434, bad=5, ms=84), 10), minutes(cell(479, bad=2, ms=86), 10)
    one = policy(steps=(5, 25, 50, 100), **LOGS_ONLY)
    at = stage(step=1, traffic=25)
    _, verdict = look(one, stable, candidate, at=at, history=minutes(cell(2000, ms=84), 60, START - 60))
    assert verdict.action == "pass"
    told = "Step 2 of 4 passed: errors 0.42 % vs 0.35 % (20 of 4 810 vs 50 of 14 390), p95 "
    assert verdict.sentence.replace("\u2009", " ").startswith(told)
    assert verdict.requests == Pair(baseline=14390, candidate=4810)


def test_a_pass_by_time_says_what_was_not_proven() -> None:
    _, verdict = look(RETREATING, minutes(GOOD_STABLE, 10), minutes(GOOD, 10), history=HISTORY)
    assert (verdict.action, verdict.reason) == ("pass", Reason.TIME)
    assert "no evidence against; not proven: errors (sees from +" in verdict.sentence
    compatible = finding(verdict, "error_rate").compatible
    assert 0.003 < compatible < 0.02


def test_much_traffic_passes_early_but_not_before_four_blocks() -> None:
    stable, candidate = cell(59_400, bad=60), cell(29_700, bad=30)
    history = minutes(stable, 60, START - 60)
    for blocks, expected in ((3, Reason.BAKE), (8, Reason.EARLY)):
        _, verdict = look(
            RETREATING, minutes(stable, blocks), minutes(candidate, blocks), at=stage(traffic=33), history=history
        )
        assert verdict.reason is expected
    assert verdict.action == "pass"
    assert "proven not worse after 8 of 10 minutes" in verdict.sentence
    patient = policy(expert={"evidence": ["logs"], "early": False})
    _, verdict = look(patient, minutes(stable, 8), minutes(candidate, 8), at=stage(traffic=33), history=history)
    assert verdict.reason is Reason.BAKE


def test_not_worse_is_shown_anew_from_half_of_the_traffic_on() -> None:
    stable, candidate = minutes(cell(29_700, bad=30), 8), minutes(cell(29_700, bad=30), 8)
    series = logs(stable, candidate, history=minutes(cell(59_400, bad=60), 60, START - 60))
    judgement, first = judge(
        begin(RETREATING), policy=RETREATING, stage=stage(traffic=50), series=[series], now=START + 8
    )
    assert finding(first, "error_rate").not_worse > 20
    for step, traffic, kept in ((1, 49, True), (1, 50, False)):
        later = stage(step=step, traffic=traffic, since=START + 8)
        _, second = judge(judgement, policy=RETREATING, stage=later, series=[series], now=START + 8)
        assert (finding(second, "error_rate").not_worse > 20) == kept


def test_too_few_requests_hold_a_finished_bake() -> None:
    _, verdict = look(RETREATING, minutes(cell(90), 10), minutes(cell(10), 10), history=HISTORY)
    assert (verdict.action, verdict.reason) == ("hold", Reason.REQUESTS)
    assert "100 of the 300 requests" in verdict.sentence


def test_a_hold_tells_what_it_counts_from_what_it_has_only_seen() -> None:
    stable, candidate = minutes(cell(90), 12), minutes(cell(10), 12)
    series = replace(
        logs(stable, candidate, history=HISTORY), closed_before=START + 10, steady=frozenset({START + 10, START + 11})
    )
    _, verdict = judge(begin(RETREATING), policy=RETREATING, stage=stage(), series=[series], now=START + 12)
    assert verdict.reason is Reason.REQUESTS
    assert "100 of the 300 requests wanted on the candidate (20 more not closed yet): " in verdict.sentence
    _, baking = judge(begin(RETREATING), policy=RETREATING, stage=stage(bake=15), series=[series], now=START + 12)
    assert "10 of 15 minutes judged (2 more not closed yet): " in baking.sentence


def test_the_sized_down_first_minutes_pass_without_a_steps_requests() -> None:
    at = stage(traffic=2, bake=5)
    _, verdict = look(RETREATING, minutes(cell(490), 5), minutes(cell(10), 5), at=at, history=HISTORY)
    assert (verdict.action, verdict.requests.candidate) == ("pass", 50)
    assert verdict.sentence.startswith("The first minutes of step 1 of 3 passed: ")


def test_doubt_holds_a_finished_bake() -> None:
    found = []
    for bad in range(4, 12):
        candidate = minutes(cell(100), 7) | minutes(cell(100 - bad, bad=bad), 3, START + 7)
        _, verdict = look(HOLDING, minutes(cell(900), 10), candidate, history=HISTORY)
        found.append((verdict.action, verdict.reason))
        expected = {"pass": (0, 5), "hold": (5, 20), "fail": (20, 1e9)}[verdict.action]
        assert expected[0] <= verdict.evidence < expected[1]
    assert {("hold", Reason.DOUBT), ("fail", Reason.REGRESSION)} <= set(found)


# --- failing and retreating ----------------------------------------------------------------------------------------


def test_without_retreat_evidence_fails_at_once() -> None:
    _, verdict = look(HOLDING, minutes(GOOD_STABLE, 5), minutes(cell(90, bad=10), 5), history=HISTORY)
    assert (verdict.action, verdict.reason) == ("fail", Reason.REGRESSION)
    assert verdict.evidence >= verdict.threshold == 20
    assert verdict.first_bad == START
    assert 40 < verdict.harmed < 50
    assert finding(verdict, "error_rate").action == "fail"
    assert verdict.sentence.startswith("The candidate failed: errors 10 % vs 1.0 % (50 of 500 vs 45 of ")


def test_with_retreat_the_share_is_cut_first_and_evidence_fails_after_eight_minutes() -> None:
    stable, candidate = minutes(GOOD_STABLE, 4), minutes(cell(92, bad=8), 4)
    _, verdict = look(RETREATING, stable, candidate, history=HISTORY)
    assert verdict.threshold <= verdict.evidence < 1e6
    assert (verdict.action, verdict.reason) == ("retreat", Reason.SUSPICION)
    for lasted, action in ((7, "retreat"), (8, "fail")):
        at = stage(retreated_since=START + 4 - lasted)
        _, verdict = look(RETREATING, stable, candidate, at=at, history=HISTORY)
        assert verdict.action == action


def test_overwhelming_evidence_needs_no_retreat() -> None:
    stable, candidate = minutes(cell(8910, bad=90), 8), minutes(cell(700, bad=300), 8)
    _, verdict = look(RETREATING, stable, candidate, history=minutes(cell(9900), 60, START - 60))
    assert verdict.evidence >= 1e6
    assert (verdict.action, verdict.reason) == ("fail", Reason.REGRESSION)


def test_one_bad_minute_never_fails_a_rollout() -> None:
    for policy_ in (HOLDING, RETREATING):
        candidate = minutes(GOOD, 6) | {START + 6: cell(0, bad=100)}
        _, verdict = look(policy_, minutes(GOOD_STABLE, 7), candidate, history=HISTORY)
        assert verdict.action != "fail"


def test_a_single_block_retreats_only_when_it_is_loud_and_never_fails() -> None:
    _, verdict = look(RETREATING, minutes(GOOD_STABLE, 1), minutes(cell(95, bad=5), 1), history=HISTORY)
    assert (verdict.action, verdict.reason) == ("hold", Reason.BAKE)
    _, verdict = look(RETREATING, minutes(GOOD_STABLE, 1), minutes(cell(50, bad=50), 1), history=HISTORY)
    assert (verdict.action, verdict.reason) == ("retreat", Reason.SUSPICION)
    assert verdict.suspicion >= 40 > verdict.threshold > verdict.evidence
    _, verdict = look(HOLDING, minutes(GOOD_STABLE, 1), minutes(cell(50, bad=50), 1), history=HISTORY)
    assert (verdict.action, verdict.reason) == ("hold", Reason.BAKE)


def test_a_burst_that_passed_does_not_fail_a_retreat_however_loud_it_was() -> None:
    loud, calm, bad = cell(70, bad=30), cell(99, bad=1), cell(94, bad=6)
    rested = stage(retreated_since=START, since=START + 4, traffic=2)
    for then, action in ((calm, "retreat"), (bad, "fail")):
        candidate = {START + i: loud if i < 4 else then for i in range(8)}
        _, verdict = look(RETREATING, minutes(GOOD_STABLE, 8), candidate, at=rested, history=HISTORY)
        assert verdict.evidence >= verdict.threshold
        assert verdict.action == action


def test_a_retreat_that_stays_loud_for_long_fails_even_without_minutes_of_its_own() -> None:
    candidate = minutes(cell(85, bad=15), 4)
    rested = stage(retreated_since=START + 4, since=START + 60, traffic=2)
    shown = {"at": rested, "history": HISTORY}
    judgement, verdict = look(RETREATING, minutes(GOOD_STABLE, 30), candidate, **shown)
    assert (verdict.action, verdict.reason) == ("retreat", Reason.SUSPICION)
    series = logs(minutes(GOOD_STABLE, 44), candidate, history=HISTORY)
    _, verdict = judge(judgement, policy=RETREATING, stage=rested, series=[series], now=START + 44)
    assert (verdict.action, verdict.reason) == ("fail", Reason.REGRESSION)


def test_the_hard_guard_fails_after_two_blocks_in_a_row() -> None:
    broken = cell(10, bad=15)
    _, verdict = look(RETREATING, minutes(GOOD_STABLE, 2), minutes(broken, 2), history=HISTORY)
    assert (verdict.action, verdict.reason) == ("fail", Reason.HARD_GUARD)
    assert "60 % vs 1.0 %" in verdict.sentence
    few, shared = minutes(cell(8, bad=10), 2), minutes(cell(500, bad=400), 2)
    assert look(RETREATING, minutes(GOOD_STABLE, 2), few, history=HISTORY)[1].action != "fail"
    assert look(RETREATING, shared, minutes(broken, 2), history=HISTORY)[1].action != "fail"
    broken_apart = {START: broken, START + 1: GOOD, START + 2: broken}
    assert look(RETREATING, minutes(GOOD_STABLE, 3), broken_apart, history=HISTORY)[1].action != "fail"


def test_client_errors_are_judged_on_their_own() -> None:
    refusing = minutes(cell(70, client=30), 5)
    _, verdict = look(HOLDING, minutes(cell(880, client=20), 5), refusing, history=HISTORY)
    assert (verdict.action, verdict.reason) == ("fail", Reason.REGRESSION)
    assert verdict.sentence.startswith("The candidate failed: client errors 30 % vs 2.2 %")
    assert finding(verdict, "error_rate").action != "fail"


def test_a_slower_candidate_fails_and_one_within_the_increase_does_not() -> None:
    mixed = Cell(histograms={"ok": {40: 500, 50: 300, 55: 150, 60: 50}})
    history = minutes(mixed, 60, START - 60)

    def shifted(by: int) -> Cell:
        return Cell(histograms={"ok": {index + by: count // 10 for index, count in mixed.histograms["ok"].items()}})

    for by, action in ((2, "pass"), (5, "fail")):  # +19 % and +54 % where 25 % is allowed
        _, verdict = look(HOLDING, minutes(mixed, 10), minutes(shifted(by), 10), history=history)
        assert verdict.action == action
    told = finding(verdict, "latency_p95")
    assert told.action == "fail"
    assert (told.candidate.n, told.candidate.value) == (1000, pytest.approx(told.baseline.value * 2 ** (5 / 8)))
    assert verdict.sentence.startswith("The candidate failed: p95 ")


def test_latency_increases_below_20_ms_are_ignored() -> None:
    history = minutes(cell(1000, ms=8), 60, START - 60)
    for ms, action in ((24, "pass"), (60, "fail")):
        _, verdict = look(HOLDING, minutes(cell(900, ms=8), 10), minutes(cell(100, ms=ms), 10), history=history)
        assert verdict.action == action


def test_requests_given_up_late_count_as_slow() -> None:
    patient, waiting = cell(95, gone=5, gone_ms=20), cell(80, gone=20, gone_ms=5000)
    for candidate, action in ((patient, "pass"), (waiting, "fail")):
        _, verdict = look(HOLDING, minutes(cell(900), 10), minutes(candidate, 10), history=HISTORY)
        assert verdict.action == action


def test_without_a_history_latency_is_compared_with_stable_in_the_rollout_so_far() -> None:
    slow = minutes(cell(100, ms=400), 10)
    _, verdict = look(HOLDING, minutes(cell(900), 10), slow)
    assert (verdict.action, finding(verdict, "latency_p95").action) == ("fail", "fail")
    assert finding(verdict, "latency_p95").bar == pytest.approx(50, rel=0.1)


def test_latency_is_not_comparable_while_too_little_of_stable_is_known() -> None:
    one = policy(checks=Checks(latency_p99={"max_increase": "25%"}), min_requests=10, **LOGS_ONLY)
    _, verdict = look(one, minutes(cell(90), 10), minutes(cell(10), 10))
    assert (verdict.action, verdict.reason) == ("hold", Reason.NOT_COMPARABLE)
    assert "not comparable yet" in finding(verdict, "latency_p99").sentence


# --- absolute bounds -----------------------------------------------------------------------------------------------


def bounded(**checks: Any) -> Any:
    return policy(checks=Checks(error_rate={"max_increase": "20pp"} | checks), **LOGS_ONLY)


def test_above_the_maximum_fails_while_stable_keeps_it() -> None:
    one = bounded(max="5%")
    for bad, action in ((5, "hold"), (15, "fail")):
        _, verdict = look(one, minutes(cell(870, bad=30), 4), minutes(cell(100 - bad, bad=bad), 4), history=HISTORY)
        assert verdict.action == action
    assert verdict.reason is Reason.MAXIMUM
    assert verdict.sentence.endswith("above the maximum of 5.0 %.")


def test_above_the_maximum_together_with_stable_holds() -> None:
    stable, candidate = minutes(cell(800, bad=100), 4), minutes(cell(85, bad=15), 4)
    _, verdict = look(bounded(max="5%"), stable, candidate, history=minutes(cell(800, bad=100), 60, START - 60))
    assert (verdict.action, verdict.reason) == ("hold", Reason.MAXIMUM)


def test_one_minute_above_the_maximum_is_not_enough() -> None:
    candidate = minutes(cell(100), 9) | {START + 9: cell(0, bad=100)}
    _, verdict = look(bounded(max="5%"), minutes(cell(900), 10), candidate, history=HISTORY)
    assert verdict.reason is not Reason.MAXIMUM


def test_latency_has_a_maximum_too() -> None:
    one = policy(checks=Checks(latency_p95={"max_increase": "400%", "max": "100ms"}), **LOGS_ONLY)
    _, verdict = look(
        one, minutes(cell(900, ms=90), 4), minutes(cell(100, ms=150), 4), history=minutes(cell(900, ms=90), 9)
    )
    assert (verdict.action, verdict.reason) == ("fail", Reason.MAXIMUM)
    assert verdict.sentence.endswith("above the maximum of 100 ms.")


# --- is there anything sound to judge? -----------------------------------------------------------------------------


def test_nothing_read_is_no_data() -> None:
    unread = [logs({}, {}, closed_before=0, read_at=0)]
    for series in ([], unread):
        _, verdict = judge(begin(RETREATING), policy=RETREATING, stage=stage(), series=series, now=START + 30)
        assert (verdict.action, verdict.reason) == ("hold", Reason.NO_DATA)
        assert "the logs were not read yet" in verdict.sentence
        assert verdict.blocks == 0


def test_a_silent_pipe_is_no_data_even_when_the_bake_is_over() -> None:
    stable, candidate = minutes(GOOD_STABLE, 10), minutes(GOOD, 10)
    for silent, reason in ((5, Reason.TIME), (6, Reason.NO_DATA)):
        end = START + 10 + silent
        _, verdict = look(RETREATING, stable, candidate, history=HISTORY, closed_before=end, read_at=end)
        assert verdict.reason is reason
    assert verdict.action == "hold"
    assert "for 6 min" in verdict.sentence


def test_little_traffic_is_given_more_patience() -> None:
    quiet = minutes(cell(1), 60, START - 60)
    end = START + 16
    changes: dict[str, Any] = {"history": quiet, "closed_before": end, "read_at": end}
    _, verdict = look(RETREATING, minutes(cell(1), 10), minutes(cell(1), 10), **changes)
    assert verdict.reason is not Reason.NO_DATA


def test_a_source_that_is_no_longer_read_is_no_data() -> None:
    series = logs(minutes(GOOD_STABLE, 10), minutes(GOOD, 10), history=HISTORY)
    _, verdict = judge(begin(RETREATING), policy=RETREATING, stage=stage(), series=[series], now=series.read_at + 11)
    assert verdict.reason is Reason.NO_DATA
    assert "last read 11 min ago" in verdict.sentence


def test_no_traffic_is_not_no_data() -> None:
    for blocks, reason in ((4, Reason.BAKE), (5, Reason.NO_TRAFFIC)):
        _, verdict = look(RETREATING, minutes(GOOD_STABLE, blocks), {}, history=HISTORY)
        assert (verdict.action, verdict.reason) == ("hold", reason)
    assert "(about 500 expected at 10 %" in verdict.sentence


def test_a_candidate_that_falls_silent_is_noticed_and_one_that_returns_forgiven() -> None:
    stable, candidate = minutes(GOOD_STABLE, 16), minutes(GOOD, 10)
    _, verdict = look(RETREATING, stable, candidate, history=HISTORY)
    assert verdict.reason is Reason.NO_TRAFFIC
    told = "the candidate got no request in 6 min (about 600 expected at 10 %, while stable got 5 400)"
    assert told in verdict.sentence.replace("\u2009", " ")
    candidate[START + 15] = GOOD
    assert look(RETREATING, stable, candidate, history=HISTORY)[1].action == "pass"


def test_a_silent_stable_is_never_a_pass() -> None:
    _, verdict = look(RETREATING, {}, minutes(GOOD, 30), history=HISTORY)
    assert (verdict.action, verdict.blocks) == ("hold", 0)
    assert verdict.reason is Reason.SPLIT


def test_a_split_that_is_not_the_one_asked_for_holds() -> None:
    for n, reason in ((100, Reason.TIME), (450, Reason.SPLIT)):
        _, verdict = look(RETREATING, minutes(GOOD_STABLE, 10), minutes(cell(n - 1, bad=1), 10), history=HISTORY)
        assert verdict.reason is reason
    assert verdict.sentence.replace("\u2009", " ") == (
        "Step 1 of 3 is held: the split is off: the candidate got 33 % of 13 500 requests, 10 % was asked for."
    )


def test_a_shared_incident_holds_and_does_not_fail() -> None:
    stable = minutes(GOOD_STABLE, 6) | minutes(cell(630, bad=270), 6, START + 6)
    candidate = minutes(GOOD, 6) | minutes(cell(70, bad=30), 6, START + 6)
    for one in (HOLDING, RETREATING):
        _, verdict = look(one, stable, candidate, history=HISTORY)
        assert (verdict.action, verdict.reason) == ("hold", Reason.SHARED_INCIDENT)
    assert "both deployments got worse together: errors 30 % and 30 %, 1.0 % in the hour before" in verdict.sentence


@pytest.mark.parametrize(("bad", "reason"), [(70, Reason.BAKE), (85, Reason.SHARED_INCIDENT)])
def test_where_half_of_the_requests_are_bad_anyway_halfway_to_all_of_them_is_worse(bad: int, reason: Reason) -> None:
    stable, candidate = minutes(cell(900 - 9 * bad, bad=9 * bad), 6), minutes(cell(100 - bad, bad=bad), 6)
    _, verdict = look(HOLDING, stable, candidate, history=minutes(cell(500, bad=500), 60, START - 60))
    assert (verdict.action, verdict.reason) == ("hold", reason)


def test_a_candidate_that_is_worse_still_fails_in_a_shared_incident() -> None:
    stable, candidate = minutes(cell(800, bad=100), 12), minutes(cell(50, bad=50), 12)
    assert look(HOLDING, stable, candidate, history=HISTORY)[1].action == "fail"


def test_unequal_load_is_said() -> None:
    at = stage(instances=Pair(baseline=9, candidate=1))
    assert look(RETREATING, minutes(GOOD_STABLE, 3), minutes(GOOD, 3), at=at)[1].notes == ()
    at = stage(instances=Pair(baseline=2, candidate=2))
    (note,) = look(RETREATING, minutes(GOOD_STABLE, 3), minutes(GOOD, 3), at=at)[1].notes
    assert note.startswith("Latency is not quite comparable: the candidate has 0.11 times")
    untimed = policy(checks={"latency_p95": "off"}, **LOGS_ONLY)
    assert look(untimed, minutes(GOOD_STABLE, 3), minutes(GOOD, 3), at=at)[1].notes == ()


# --- the last step without a holdback ------------------------------------------------------------------------------

ALONE = {"step": 2, "traffic": 100, "holdback": False}


def test_with_nothing_held_back_stables_last_hour_is_compared_with() -> None:
    before, since = minutes(GOOD_STABLE, 60), START + 60
    at = stage(**ALONE, since=since)
    for candidate, action in ((cell(990, bad=10), "pass"), (cell(900, bad=100), "fail")):
        shown = minutes(GOOD, 60) | minutes(candidate, 10, since)
        _, verdict = look(HOLDING, before, shown, at=at, history=HISTORY)
        assert (verdict.action, verdict.blocks) == (action, 10)
        assert verdict.notes[-1].startswith("Nothing is held back on stable: compared with the last hour")


def test_with_nothing_held_back_and_no_last_hour_nothing_passes() -> None:
    _, verdict = look(RETREATING, {}, minutes(cell(990, bad=10), 30), at=stage(**ALONE))
    assert (verdict.action, verdict.blocks) == ("hold", 0)


# --- a retreat and its end -----------------------------------------------------------------------------------------


def test_a_suspicion_names_the_loudest_check_first() -> None:
    """Late in a long rollout there is no evidence yet, only the suspicion."""
    one = policy(checks=Checks(client_errors={"max_increase": "0.5pp"}), **LOGS_ONLY)
    stable = minutes(cell(882, bad=9, client=9), 61)
    candidate = minutes(cell(98, bad=1, client=1), 60) | {START + 60: cell(61, bad=20, client=19)}
    _, verdict = look(one, stable, candidate, history=HISTORY)
    assert (verdict.action, verdict.reason) == ("retreat", Reason.SUSPICION)
    assert verdict.evidence < 1.0
    assert [finding(verdict, check).action for check in ("error_rate", "client_errors")] == ["retreat", "retreat"]
    assert verdict.sentence.startswith("The candidate is under suspicion: errors 20 % vs 1.0 %")


def retreat_then(after: Cell, count: int, *, lasted: int | None = None) -> Verdict:
    """Two bad minutes, a retreat, then `count` minutes like `after`."""
    stable = minutes(GOOD_STABLE, 3 + count)
    candidate = minutes(GOOD, 1) | minutes(cell(93, bad=7), 2, START + 1) | minutes(after, count, START + 3)
    first = logs(
        {m: stable[m] for m in range(START, START + 3)},
        {m: candidate[m] for m in range(START, START + 3)},
        history=HISTORY,
    )
    judgement, verdict = judge(begin(RETREATING), policy=RETREATING, stage=stage(), series=[first], now=START + 3)
    assert verdict.action == "retreat"
    now = START + 3 + (count if lasted is None else lasted)
    at = stage(retreated_since=START + 3)
    series = logs(stable, candidate, history=HISTORY, read_at=now, closed_before=max(START + 3 + count, now - 5))
    return judge(judgement, policy=RETREATING, stage=at, series=[series], now=now)[1]


def test_a_retreat_ends_when_the_suspicion_is_over_and_never_in_a_pass() -> None:
    assert retreat_then(GOOD, 2).action == "retreat"  # too soon: the minutes since hardly show
    verdict = retreat_then(GOOD, 30)
    assert (verdict.action, verdict.reason) == ("hold", Reason.RECOVERED)
    assert verdict.evidence < 0.7
    assert verdict.sentence.startswith("The suspicion is over: errors ")


def test_a_retreat_waits_for_data_that_shows_the_smaller_share() -> None:
    assert retreat_then(GOOD, 0, lasted=9).action == "retreat"


def test_a_retreat_that_is_confirmed_fails() -> None:
    verdict = retreat_then(cell(93, bad=7), 10)
    assert (verdict.action, verdict.reason) == ("fail", Reason.REGRESSION)
    assert verdict.first_bad == START + 1


def test_while_retreated_no_data_is_no_recovery() -> None:
    verdict = retreat_then(GOOD, 0, lasted=39)
    assert (verdict.action, verdict.reason) == ("hold", Reason.NO_DATA)


def test_a_retreat_ends_after_forty_minutes_and_does_not_come_back_for_the_same_evidence() -> None:
    stable = minutes(GOOD_STABLE, 50)
    lukewarm = {START + i: cell(100 - bad, bad=bad) for i, bad in enumerate([1, 6, 5] + [2, 3, 2] * 15 + [1, 1])}
    judgement, at, seen = begin(RETREATING), stage(), []
    for end in range(START + 1, START + 51):
        series = logs(
            {m: c for m, c in stable.items() if m < end},
            {m: c for m, c in lukewarm.items() if m < end},
            history=HISTORY,
        )
        judgement, verdict = judge(judgement, policy=RETREATING, stage=at, series=[series], now=end)
        if verdict.action == "retreat" and at.retreated_since is None:
            at = replace(at, retreated_since=end)
            seen.append(("retreat", verdict.evidence))
        elif verdict.reason is Reason.RECOVERED:
            at = replace(at, retreated_since=None, since=end)
            seen.append(("resume", verdict.evidence))
    for (_, before), (what, evidence) in pairwise(seen):
        assert what == "resume" or before < 0.7 or evidence >= 2 * before


# --- state ---------------------------------------------------------------------------------------------------------


def test_the_same_look_twice_changes_nothing() -> None:
    series = logs(minutes(GOOD_STABLE, 12), minutes(cell(93, bad=7), 12), closed_before=START + 8, history=HISTORY)
    series = replace(series, steady=frozenset(range(START + 8, START + 11)))
    once, first = judge(begin(RETREATING), policy=RETREATING, stage=stage(), series=[series], now=START + 12)
    twice, second = judge(once, policy=RETREATING, stage=stage(), series=[series], now=START + 12)
    assert (twice, second) == (once, first)


def test_one_look_or_many_come_to_the_same_judgement() -> None:
    stable, candidate = minutes(GOOD_STABLE, 12), minutes(cell(97, bad=3), 12)
    whole, _ = look(RETREATING, stable, candidate, history=HISTORY)
    judgement = begin(RETREATING)
    for end in (START + 1, START + 5, START + 6, START + 12):
        shown = logs(
            {m: c for m, c in stable.items() if m < end},
            {m: c for m, c in candidate.items() if m < end},
            history=HISTORY,
        )
        judgement, _ = judge(judgement, policy=RETREATING, stage=stage(), series=[shown], now=end)
    assert judgement.sources == whole.sources


def test_the_order_in_which_minutes_are_given_does_not_matter() -> None:
    stable, candidate = minutes(GOOD_STABLE, 12), {START + i: cell(100 - i, bad=i) for i in range(12)}
    backwards = dict(reversed(list(candidate.items())))
    assert look(RETREATING, stable, candidate) == look(RETREATING, stable, backwards)


def test_late_rows_change_nothing_and_are_counted_once() -> None:
    stable, candidate = minutes(GOOD_STABLE, 10), minutes(GOOD, 10)
    judgement, before = look(RETREATING, stable, candidate, history=HISTORY)
    late = logs(stable, candidate | {START + 3: cell(0, bad=150)}, history=HISTORY)
    for _ in range(2):
        judgement, after = judge(judgement, policy=RETREATING, stage=stage(), series=[late], now=START + 10)
        assert replace(after, late=0) == before
        assert after.late == 50


def test_a_minute_that_was_missing_when_it_closed_stays_missing() -> None:
    stable, candidate = minutes(GOOD_STABLE, 10), minutes(GOOD, 10)
    del candidate[START + 3]
    judgement, before = look(RETREATING, stable, candidate, history=HISTORY)
    assert before.blocks == 9
    whole = logs(stable, candidate | {START + 3: GOOD}, history=HISTORY)
    _, after = judge(judgement, policy=RETREATING, stage=stage(), series=[whole], now=START + 10)
    assert (after.blocks, after.late) == (9, 100)


def test_open_minutes_may_fail_or_hold_but_never_pass() -> None:
    stable = minutes(GOOD_STABLE, 10)
    for candidate, action in ((GOOD, "hold"), (cell(80, bad=20), "fail")):
        series = logs(stable, minutes(candidate, 10), closed_before=START, history=HISTORY)
        series = replace(series, steady=frozenset(range(START, START + 10)))
        judgement, verdict = judge(begin(HOLDING), policy=HOLDING, stage=stage(), series=[series], now=START + 10)
        assert (verdict.action, verdict.blocks) == (action, 0)
        assert judgement.sources["logs"].blocks == 0
    unsteady = replace(series, steady=frozenset())
    assert judge(begin(HOLDING), policy=HOLDING, stage=stage(), series=[unsteady], now=START + 10)[1].action == "hold"


def test_minutes_before_the_rollout_are_not_evidence() -> None:
    stable, candidate = (
        minutes(GOOD_STABLE, 40, START - 30),
        minutes(GOOD, 10) | minutes(cell(0, bad=99), 30, START - 30),
    )
    _, verdict = look(RETREATING, stable, candidate, history=HISTORY)
    assert (verdict.action, verdict.blocks) == ("pass", 10)


def test_a_new_step_counts_its_own_blocks_and_keeps_the_evidence() -> None:
    stable, candidate = minutes(GOOD_STABLE, 14), minutes(GOOD, 14)
    judgement, first = look(RETREATING, stable, candidate, history=HISTORY)
    at = stage(step=1, traffic=11, since=START + 12)
    series = logs(stable, candidate, history=HISTORY)
    moved, second = judge(judgement, policy=RETREATING, stage=at, series=[series], now=START + 14)
    assert (second.blocks, second.evidence) == (0, first.evidence)
    longer = logs(minutes(GOOD_STABLE, 16), minutes(GOOD, 16), history=HISTORY)
    _, third = judge(moved, policy=RETREATING, stage=at, series=[longer], now=START + 16)
    assert third.blocks == 2


def test_a_judgement_survives_json_exactly() -> None:
    stable, candidate = minutes(GOOD_STABLE, 12), {START + i: cell(100 - i, bad=i, ms=50 + 9 * i) for i in range(12)}
    judgement, _ = look(RETREATING, stable, candidate, history=HISTORY, closed_before=START + 9)
    loaded = Judgement.load(judgement.dump())
    assert loaded == judgement
    series = logs(stable, candidate, history=HISTORY)
    one = judge(judgement, policy=RETREATING, stage=stage(), series=[series], now=START + 12)
    assert judge(loaded, policy=RETREATING, stage=stage(), series=[series], now=START + 12) == one
    stored = TypeAdapter(Judgement)
    assert stored.validate_json(stored.dump_json(judgement)) == judgement
    with pytest.raises(ValueError, match="version 99"):
        Judgement.load(judgement.dump().replace('"version":3', '"version":99'))


def test_a_judgement_of_the_version_before_is_read() -> None:
    judgement, _ = look(RETREATING, minutes(GOOD_STABLE, 3), minutes(GOOD, 3), history=HISTORY)
    plain = json.loads(judgement.dump())
    plain["version"] = 2
    del plain["taus"]  # it expected the same noise of all endpoints, and knew no measures and no harm budget
    for source in plain["sources"].values():
        del source["baseline_measures"], source["candidate_measures"]
        source["checks"] = {name: check[:-2] for name, check in source["checks"].items()}
    assert Judgement.load(json.dumps(plain)) == judgement


def test_noise_that_was_learned_before_weighs_the_minutes() -> None:
    stable, candidate = minutes(GOOD_STABLE, 8), minutes(cell(96, bad=4), 8)
    series = logs(stable, candidate, history=HISTORY)
    found = {}
    for tau in (0.1, 0.3, 0.9):
        judgement = begin(HOLDING, taus={"logs": {"error_rate": tau}})
        assert Judgement.load(judgement.dump()) == judgement
        after, verdict = judge(judgement, policy=HOLDING, stage=stage(), series=[series], now=START + 8)
        assert after.taus == judgement.taus
        found[tau] = verdict.evidence
    untold = judge(begin(HOLDING), policy=HOLDING, stage=stage(), series=[series], now=START + 8)[1]
    assert found[0.1] > found[0.3] == untold.evidence > found[0.9]


def test_fresh_evidence_after_a_fail_has_half_the_budget() -> None:
    judgement = begin(HOLDING, alpha=HOLDING.expert.alpha / 2)
    series = logs(minutes(GOOD_STABLE, 5), minutes(cell(90, bad=10), 5), history=HISTORY)
    _, verdict = judge(judgement, policy=HOLDING, stage=stage(), series=[series], now=START + 5)
    assert verdict.threshold == 40


# --- several sources -----------------------------------------------------------------------------------------------

BOTH = policy(when={"suspicion": "hold"})


def both(candidate: Minutes, stable: Minutes, *, logs_until: int) -> list[Series]:
    """Metrics show every minute, logs only those before `logs_until`."""
    late = logs(
        {m: c for m, c in stable.items() if m < logs_until}, {m: c for m, c in candidate.items() if m < logs_until}
    )
    metrics = replace(logs(without_durations(stable), without_durations(candidate)), source="metrics")
    return [replace(late, history=HISTORY, read_at=metrics.read_at), metrics]


def test_metrics_fail_a_rollout_before_the_logs_show_anything() -> None:
    series = both(minutes(cell(80, bad=20), 6), minutes(GOOD_STABLE, 6), logs_until=START)
    _, verdict = judge(begin(BOTH), policy=BOTH, stage=stage(), series=series, now=START + 6)
    assert (verdict.action, verdict.reason) == ("fail", Reason.REGRESSION)
    assert finding(verdict, "error_rate", "metrics").action == "fail"
    assert {one.check for one in verdict.findings if one.source == "metrics"} == {"error_rate", "client_errors"}


def test_metrics_never_pass_a_step() -> None:
    series = both(minutes(GOOD, 12), minutes(GOOD_STABLE, 12), logs_until=START + 5)
    _, verdict = judge(begin(BOTH), policy=BOTH, stage=stage(), series=series, now=START + 12)
    assert (verdict.action, verdict.blocks) == ("hold", 5)


def test_the_same_requests_in_two_sources_are_not_counted_twice() -> None:
    stable, candidate = minutes(GOOD_STABLE, 5), minutes(cell(94, bad=6), 5)
    _, twice = judge(
        begin(BOTH), policy=BOTH, stage=stage(), series=both(candidate, stable, logs_until=START + 5), now=START + 5
    )
    _, once = look(HOLDING, stable, candidate, history=HISTORY)
    assert twice.evidence < once.evidence
    assert twice.harmed == pytest.approx(once.harmed)


def test_a_source_that_the_policy_does_not_ask_for_is_left_out() -> None:
    series = both(minutes(cell(80, bad=20), 6), minutes(GOOD_STABLE, 6), logs_until=START)
    _, verdict = judge(begin(HOLDING), policy=HOLDING, stage=stage(), series=series, now=START + 6)
    assert verdict.action == "hold"


# --- edges ---------------------------------------------------------------------------------------------------------

EDGES: dict[str, tuple[Minutes, Minutes]] = {
    "nothing": ({}, {}),
    "empty cells": (minutes(Cell(), 12), minutes(Cell(), 12)),
    "one request each": (minutes(cell(1), 12), minutes(cell(1), 12)),
    "all bad": (minutes(cell(0, bad=900), 12), minutes(cell(0, bad=100), 12)),
    "all refused": (minutes(cell(0, client=900), 12), minutes(cell(0, client=100), 12)),
    "huge": (minutes(cell(9 * 10**11, bad=10**9), 12), minutes(cell(10**11, bad=10**8), 12)),
    "huge and broken": (minutes(cell(9 * 10**11), 12), minutes(cell(0, bad=10**11), 12)),
    "stable silent": ({}, minutes(GOOD, 12)),
    "candidate silent": (minutes(GOOD_STABLE, 12), {}),
    "no durations": (without_durations(minutes(GOOD_STABLE, 12)), without_durations(minutes(GOOD, 12))),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("at", [stage(), stage(**ALONE), stage(retreated_since=START + 1), stage(traffic=100)])
def test_every_number_stays_finite(edge: str, at: Stage) -> None:
    stable, candidate = EDGES[edge]
    for one in (RETREATING, HOLDING, BOTH):
        judgement, verdict = look(one, stable, candidate, at=at, closed_before=START + 12, read_at=START + 12)
        assert Judgement.load(judgement.dump()) == judgement
        assert all(isfinite(number) for number in numbers(asdict(verdict)))
        assert "nan" not in verdict.sentence


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, (int, float)) else []


def test_clock_jumps_do_no_harm() -> None:
    judgement, before = look(RETREATING, minutes(GOOD_STABLE, 9), minutes(GOOD, 9), history=HISTORY)
    series = logs(minutes(GOOD_STABLE, 9), minutes(GOOD, 9), history=HISTORY)
    back = replace(series, closed_before=START - 1000)
    again, verdict = judge(judgement, policy=RETREATING, stage=stage(), series=[back], now=START - 1000)
    assert again == judgement
    assert verdict.blocks == before.blocks
    ahead = replace(series, closed_before=START + 10**7)
    _, verdict = judge(judgement, policy=RETREATING, stage=stage(), series=[ahead], now=START + 10**7)
    assert (verdict.action, verdict.reason) == ("hold", Reason.NO_DATA)
