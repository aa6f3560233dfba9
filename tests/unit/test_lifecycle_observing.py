"""A rollout that observes: it follows what people do, says what it would do, and has no way to a write."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.analysis.cells import Cell
from rollout.analysis.fold import compared
from rollout.analysis.judgement import SourceState
from rollout.analysis.verdict import Reason, Series, Stage, Verdict, begin, judge
from rollout.errors import RefusedError
from rollout.lifecycle import TRANSITIONS, Decision, Phase, stage_of, wanted_traffic
from rollout.lifecycle.observing.pair import Named, Unclear, find_pair
from rollout.lifecycle.phases import WRITES_NOTHING
from rollout.lifecycle.splits import HOLDS_TRAFFIC
from rollout.lifecycle.stage import minute_of
from rollout.lifecycle.story import Story
from rollout.reconciler import writer_for
from rollout.world import Severity, Split
from tests.support.lives import FAIL, MINUTE, T0, Life, at, deployment, finding, observing, policy, verdict
from tests.support.local_azure import LocalAzure

P = Phase
OBSERVE = policy(mode="observe")


def told(life: Life) -> list[str]:
    """What it said that it would do."""
    return [event.sentence for event in life.events if event.kind.startswith("would_")]


def people_set(life: Life, **traffic: int) -> None:
    """Bob changes the split, and two looks see it."""
    life.moved_by_hand(**traffic)


def judged_to_now(life: Life, one: Verdict, *, seconds: float = 15) -> None:
    """A tick whose judge has seen all minutes up to then."""
    through = minute_of(life.now + timedelta(seconds=seconds)) + 1
    life.facts["judgement"] = replace(begin(life.policy), sources={"logs": SourceState(through=through)})
    life.tick(one, seconds=seconds)


# --- it cannot write


def test_no_phase_of_an_observing_rollout_wants_a_split_or_leads_to_one_that_does() -> None:
    assert not WRITES_NOTHING & HOLDS_TRAFFIC
    reached = {after for phase in WRITES_NOTHING - {P.PREPARING} for after in TRANSITIONS[phase]}
    assert reached <= WRITES_NOTHING


@pytest.mark.parametrize("phase", sorted(set(TRANSITIONS[P.PREPARING]) - WRITES_NOTHING))
def test_it_is_never_in_a_phase_that_writes(phase: Phase) -> None:
    life = Life(policy=OBSERVE, state="Updating")
    life.tick()
    story = Story(life.rollout, T0)
    with pytest.raises(AssertionError, match="only observes is never"):
        story.move(phase, "It cannot be.")


def test_a_decision_of_it_cannot_hold_a_write() -> None:
    life = observing()
    with pytest.raises(AssertionError, match="only observes writes nothing"):
        Decision(rollout=life.rollout, write=Split.of({"blue": 100}))


@pytest.mark.parametrize("phase", [P.OBSERVING, P.PROGRESSING, P.ROLLING_BACK])
def test_the_way_to_a_write_is_shut_whatever_the_phase(phase: Phase) -> None:
    acting = at(P.PROGRESSING).rollout
    port = LocalAzure()
    assert writer_for(acting, {"prod": port}) is port
    with pytest.raises(RefusedError, match="only observes: nothing is written"):
        writer_for(replace(acting, phase=phase, policy=OBSERVE), {"prod": port})


VERDICTS = st.sampled_from(
    [
        None,
        verdict("pass"),
        verdict("hold"),
        verdict("hold", Reason.NO_DATA),
        verdict("hold", Reason.DOUBT),
        verdict("hold", Reason.RECOVERED),
        verdict("retreat"),
        FAIL,
    ]
)
SPLITS = st.sampled_from(
    [{"blue": 100}, {"blue": 90, "green": 10}, {"blue": 40, "green": 60}, {"green": 100}, {"green": 60, "red": 40}]
)


@given(happens=st.lists(st.tuples(VERDICTS, SPLITS, st.sampled_from([10, 60, 2400])), max_size=12))
def test_whatever_is_judged_and_whatever_people_do_nothing_is_written(happens: list[tuple[Any, ...]]) -> None:
    life = Life(policy=OBSERVE)
    for given_verdict, traffic, seconds in happens:
        life.traffic = dict(traffic)
        decision = life.tick(given_verdict, seconds=seconds)
        assert decision.write is None
        assert wanted_traffic(life.rollout) is None
        assert life.phase in WRITES_NOTHING
        assert (life.rollout.writes, life.rollout.strays) == ((), ())
    assert life.writes == []


# --- which two


@pytest.mark.parametrize(
    ("traffic", "named", "expected"),
    [
        ({"blue": 100}, {}, ("blue", "green", "")),
        ({"blue": 70, "green": 30}, {}, ("blue", "green", "has the larger share")),
        ({"blue": 30, "green": 70}, {}, ("green", "blue", "has the larger share")),
        ({"blue": 50, "green": 50}, {}, ("green", "blue", "was changed longer ago")),
        ({"blue": 30, "green": 70}, {"stable": "Blue", "candidate": "green"}, ("blue", "green", "")),
        ({"blue": 30, "green": 70}, {"stable": "blue"}, ("blue", "green", "")),
        ({"blue": 30, "green": 70}, {"candidate": "green"}, ("blue", "green", "")),
        ({"green": 100}, {"candidate": "green"}, ("blue", "green", "")),
        ({"blue": 60, "red": 10, "green": 30}, {"candidate": "green"}, ("blue", "green", "")),
    ],
)
def test_the_two_are_named_or_told_by_the_traffic(
    traffic: dict[str, int], named: dict[str, str], expected: tuple[str, str, str]
) -> None:
    life = Life(policy=policy(mode="observe", **named))
    known = {"blue": deployment("blue", modified_at="2026-11-02"), "green": deployment("green")}
    found = find_pair(life.rollout, Split.of(traffic), known)
    assert isinstance(found, Named)
    assert (found.stable, found.candidate) == expected[:2]
    assert expected[2] in found.why


@pytest.mark.parametrize(
    ("traffic", "named", "why"),
    [
        ({}, {}, "has no traffic that could tell"),
        ({"blue": 60, "red": 10, "green": 30}, {}, "3 deployments have traffic"),
        ({"blue": 60, "red": 10, "green": 30}, {"stable": "blue"}, "green and red have traffic"),
        ({"blue": 100}, {}, "green and red have no traffic"),
    ],
)
def test_what_traffic_cannot_tell_is_asked_for(traffic: dict[str, int], named: dict[str, str], why: str) -> None:
    life = Life(policy=policy(mode="observe", **named))
    known = {name: deployment(name) for name in ("blue", "green", "red")}
    found = find_pair(life.rollout, Split.of(traffic), known)
    assert isinstance(found, Unclear)
    assert why in found.sentence
    assert "--candidate NAME" in found.sentence


def test_what_cannot_be_told_ends_before_it_begins() -> None:
    life = Life(policy=OBSERVE, traffic={"blue": 60, "red": 10, "green": 30})
    life.deployments = {name: deployment(name) for name in ("blue", "green", "red")}
    life.tick()
    assert life.phase is P.ABORTED
    assert life.last.sentence.startswith("Not started: 3 deployments have traffic")


def test_it_starts_where_an_acting_rollout_would_not() -> None:
    """Traffic that is split, or mirrored, is nothing that has to be written over."""
    life = Life(policy=OBSERVE, traffic={"blue": 80, "green": 20})
    life.endpoint_changes["mirror_traffic"] = Split.of({"green": 10})
    life.tick()
    assert life.phase is P.OBSERVING
    assert "blue was taken as stable, because it has the larger share" in life.told("observing")[0].sentence
    assert life.last.severity is Severity.NOTICE


# --- what people do


def test_before_the_first_traffic_nothing_is_judged() -> None:
    life = observing(blue=100)
    assert life.last.sentence.endswith("It is blue 100 %. Judging begins when green gets some.")
    assert stage_of(life.rollout, life.now) is None
    people_set(life, blue=90, green=10)
    stage = stage_of(life.rollout, life.now)
    assert stage is not None
    assert (stage.traffic, stage.step, stage.bake, stage.started) == (10, 0, 10, stage.since)
    assert life.last.sentence == (
        "The traffic is blue 90 % + green 10 %, set by bob@example.com. This is judged for 10 minutes of data."
    )


def test_a_new_split_is_a_new_stage_and_never_drift() -> None:
    life = observing()
    before = life.rollout.step_since
    for traffic, step in (({"blue": 75, "green": 25}, 1), ({"blue": 40, "green": 60}, 1), ({"green": 100}, 2)):
        life.now += 5 * MINUTE
        people_set(life, **traffic)
        stage = stage_of(life.rollout, life.now)
        assert stage is not None
        assert (stage.traffic, stage.step) == (traffic["green"], step)
        assert life.rollout.step_since != before
        before = life.rollout.step_since
    assert not stage.holdback
    assert stage.started < stage.since
    assert life.phase is P.OBSERVING


def test_a_look_that_lags_is_no_split() -> None:
    life = observing()
    life.traffic = {"blue": 100}
    life.tick()
    life.traffic = {"blue": 90, "green": 10}
    life.tick()
    assert len(life.told("split")) == 1


def test_a_third_deployment_is_told_and_left_out() -> None:
    life = observing()
    people_set(life, blue=60, green=20, red=20)
    assert life.last.sentence.endswith("red is not part of it.")
    stage = stage_of(life.rollout, life.now)
    assert stage is not None
    assert stage.traffic == 25
    people_set(life, green=20, red=80)
    assert life.last.sentence.endswith("It is not judged: blue has none to compare with.")
    assert stage_of(life.rollout, life.now) is None
    life.tick(FAIL)
    assert told(life) == []


def test_a_candidate_changed_in_place_is_judged_afresh() -> None:
    life = observing()
    life.tick(FAIL)
    began = life.rollout.judged_from
    assert life.deployments is not None
    life.deployments["green"] = deployment("green", model="recommender:3")
    life.tick()
    assert "green was changed in place (model)" in life.last.sentence
    assert life.rollout.judged_from != began
    life.tick(verdict("pass"))
    assert told(life)[-1].startswith("Would go on to 25 %.")


# --- what it would do


def test_a_pass_goes_on_to_the_next_step_once() -> None:
    life = observing()
    for _ in range(3):
        life.tick(verdict("pass"))
    life.tick(verdict("hold", Reason.DOUBT))
    assert told(life) == ["Would go on to 25 %. The judge says pass (proven)."]
    assert life.last.severity is Severity.NOTICE
    people_set(life, blue=75, green=25)
    life.tick(verdict("pass"))
    assert told(life)[-1] == "Would go on to 95 %. The judge says pass (proven)."
    people_set(life, blue=5, green=95)
    life.tick(verdict("pass"))
    assert told(life)[-1] == "Would promote green to 100 %. The judge says pass (proven)."


def test_an_approval_would_be_asked_for() -> None:
    life = observing(policy(mode="observe", approve={1: {"timeout": "4h"}}))
    life.tick(verdict("pass"))
    assert told(life)[-1].startswith("Would ask for an approval, then go on to 25 %.")


def test_a_suspicion_would_cut_the_share_and_the_minutes_after_it_count_anew() -> None:
    life = observing(blue=75, green=25)
    life.tick(verdict("retreat"))
    assert told(life) == ["Would cut the share to 3 % while in doubt. The judge says retreat (suspicion)."]
    stage = stage_of(life.rollout, life.now)
    assert stage is not None
    assert stage.traffic == 25  # as it is
    assert stage.since == stage.retreated_since
    life.tick(verdict("retreat"))
    life.tick(verdict("hold", Reason.NO_DATA))
    assert len(told(life)) == 1
    life.tick(verdict("hold", Reason.NO_DATA), seconds=46 * 60)
    assert told(life)[1:] == ["Would pause after 45 min without an answer. The judge says hold (no data)."]
    life.tick(verdict("retreat"))
    life.tick(verdict("hold", Reason.RECOVERED))
    assert told(life)[-1] == "Would go back to 25 %. The judge says hold (recovered)."
    assert life.rollout.retreated_at is None


def test_at_100_percent_a_cut_leaves_the_minutes_where_they_are() -> None:
    life = observing()
    people_set(life, green=100)
    since = life.rollout.step_since
    life.tick(verdict("retreat"))
    assert life.rollout.retreated_at is not None
    assert life.rollout.step_since == since


@pytest.mark.parametrize(
    ("changes", "facts", "sentence"),
    [
        ({}, {}, "Would roll back to blue 100 %: The judge says fail (regression)."),
        ({"when": {"regression": "pause"}}, {}, "Would pause on a regression, as the policy says. The judge says fail"),
        ({}, {"stable_serves": False}, "Would leave the traffic alone and page somebody: most of the last answers"),
    ],
)
def test_a_fail_would_end_it_and_is_told_once(changes: dict[str, Any], facts: dict[str, Any], sentence: str) -> None:
    life = observing(policy(mode="observe", **changes))
    life.facts.update(facts)
    life.tick(FAIL)
    assert life.last.sentence.startswith(sentence)
    assert life.last.severity is Severity.ACTION
    life.tick(FAIL)
    life.tick(verdict("pass"))
    life.tick(verdict("retreat"))
    assert len(told(life)) == 1
    people_set(life, blue=50, green=50)
    life.tick(verdict("pass"))
    assert len(told(life)) == 1


def test_a_check_that_only_pauses_is_followed_by_one_that_rolls_back() -> None:
    life = observing(policy(mode="observe", checks={"error_rate": {}, "latency_p95": {"on_regression": "pause"}}))
    life.tick(verdict("fail", findings=(finding(check="latency_p95"),)))
    assert told(life)[-1].startswith("Would pause on a regression")
    life.tick(verdict("fail", findings=(finding(check="latency_p95"), finding())))
    life.tick(verdict("fail", findings=(finding(check="latency_p95"),)))
    assert told(life)[-1].startswith("Would roll back to blue 100 %")
    assert life.rollout.missed is not None
    assert life.rollout.missed.act == "roll_back"


def test_what_a_check_that_decides_nothing_saw_is_told_once() -> None:
    life = observing()
    for _ in range(2):
        life.tick(verdict("hold", findings=(finding(action="hold", alert=True, sentence="Answers got smaller."),)))
    assert [event.sentence for event in life.told("noticed")] == ["Answers got smaller."]


@pytest.mark.parametrize(("minutes", "told_now"), [(29, 1), (30, 2)])
def test_a_hold_is_given_up_in_the_very_minute_that_the_policy_names(minutes: int, told_now: int) -> None:
    life = observing()
    life.tick(verdict("hold", Reason.DOUBT))
    life.tick(verdict("hold", Reason.DOUBT), seconds=60 * minutes)
    assert len(told(life)) == told_now


def test_holds_are_told_by_their_reason_and_bounded_as_the_policy_says() -> None:
    life = observing()
    life.tick(verdict("hold"))
    assert told(life) == []  # it bakes
    life.tick(verdict("hold", Reason.NO_DATA))
    life.tick(verdict("hold", Reason.NO_DATA))
    assert told(life) == ["Would hold. The judge says hold (no data)."]
    life.tick(verdict("hold"))
    assert told(life)[-1].startswith("Would go on baking.")
    life.tick(verdict("hold", Reason.DOUBT))
    life.tick(verdict("hold", Reason.REQUESTS), seconds=1900)
    assert told(life)[-1].startswith("Would pause after 30 min without an answer.")
    life.tick(verdict("hold", Reason.DOUBT), seconds=1900)
    assert len(told(life)) == 5


def test_an_incident_of_both_is_held_and_people_are_told() -> None:
    life = observing()
    life.tick(verdict("hold", Reason.SHARED_INCIDENT))
    life.tick(verdict("hold", Reason.SHARED_INCIDENT), seconds=7000)
    assert told(life) == ["Would hold. The judge says hold (shared incident)."]
    assert life.last.severity is Severity.NOTICE


# --- commands


@pytest.mark.parametrize("verb", ["pause", "resume", "promote", "approve", "reject"])
def test_what_moves_traffic_is_refused(verb: str) -> None:
    life = observing()
    answer = life.ask_in_vain(verb, reason="please")
    assert answer.startswith("This rollout only observes restaurant-recommender")
    assert "ends it, and leaves the traffic as it is. " in answer


def test_abort_ends_it_and_touches_nothing() -> None:
    life = observing()
    life.tick(FAIL)
    answer = life.ask("abort", reason="seen enough")
    assert life.phase is P.OBSERVED
    assert answer.startswith(
        "Ended by ana: seen enough. The traffic was not touched, it is blue 90 % + green 10 %. Rollout would have rolled back "
        "at 02:00:30 UTC"
    )
    assert "errors 6.8 % vs 0.30 % (61 of 900 vs 8 of 2\u2009700)." in answer


def test_abort_before_it_began_is_an_abort() -> None:
    life = Life(policy=OBSERVE, state="Updating")
    life.tick()
    life.ask("abort", reason="not today")
    assert life.phase is P.ABORTED


# --- how it ends


def test_promoted_by_hand_and_judged_to_the_end() -> None:
    life = observing()
    life.tick(verdict("pass"))
    people_set(life, green=100)
    life.tick(verdict("hold"))
    assert life.phase is P.OBSERVING
    found = finding(action="pass", compatible=0.0041, not_worse=3.0)
    life.tick(verdict("pass", findings=(found,)), seconds=900)
    assert life.phase is P.OBSERVED
    assert life.last.sentence == (
        "Observed to the end: restaurant-recommender is on green 100 % since 02:00:45 UTC. Rollout would have promoted it. "
        "The judge says pass (proven). A regression from errors +0.41 pp up would have been seen."
    )
    assert life.rollout.would is not None
    assert life.rollout.would.act == "promote"


def test_the_verdict_of_the_split_before_does_not_end_it() -> None:
    life = observing()
    life.traffic = {"green": 100}
    life.tick()
    life.tick(verdict("pass", blocks=30))  # the look that shows the new split judged the old one
    assert life.phase is P.OBSERVING
    assert life.rollout.share == 100


def test_promoted_by_hand_past_a_fail() -> None:
    life = observing()
    life.tick(FAIL)
    people_set(life, green=100)
    judged_to_now(life, verdict("fail", blocks=2, harmed=300.0))
    assert life.phase is P.OBSERVING
    judged_to_now(life, verdict("fail", blocks=10, harmed=411.2), seconds=900)
    assert life.phase is P.OBSERVED
    assert (
        "Rollout would have rolled back moments earlier, at 02:00:30 UTC, ~300 bad requests fewer" in life.last.sentence
    )


def test_a_fail_at_100_percent_is_told_with_its_time() -> None:
    life = observing()
    people_set(life, green=100)
    life.tick(verdict("fail", blocks=10, findings=(finding(),)), seconds=600)
    assert life.phase is P.OBSERVED
    assert "Rollout would have rolled back at 02:10:45 UTC: errors 6.8 %" in life.last.sentence


def test_put_back_by_hand_after_it_would_have_been() -> None:
    life = observing()
    life.tick(FAIL)
    life.now += 7 * MINUTE
    people_set(life, blue=100)
    assert life.phase is P.OBSERVING
    assert "the data of its last minutes is awaited until 02:27" in life.last.sentence
    judged_to_now(life, verdict("fail", harmed=231.2))
    assert life.phase is P.OBSERVED
    assert life.last.sentence == (
        "Put back by hand: the traffic of restaurant-recommender is blue 100 % since 02:07:45 UTC. Rollout would have rolled "
        "back 7 min earlier, at 02:00:30 UTC, ~120 bad requests fewer: errors 6.8 % vs 0.30 % (61 of 900 vs 8 of 2\u2009700)."
    )
    assert life.last.details["harmed"] == 231.2


def test_what_was_judged_afresh_since_is_not_counted_as_saved() -> None:
    life = observing()
    life.tick(FAIL)
    assert life.deployments is not None
    life.deployments["green"] = deployment("green", model="recommender:3")
    life.tick()
    life.now += 7 * MINUTE
    people_set(life, blue=100)
    judged_to_now(life, verdict("fail", harmed=231.2))
    assert "Rollout would have rolled back 8 min earlier, at 02:00:30 UTC: errors 6.8 %" in life.last.sentence
    assert "fewer" not in life.last.sentence


def test_put_back_by_hand_before_the_data_came() -> None:
    life = observing()
    people_set(life, blue=100)
    life.now += 4 * MINUTE
    judged_to_now(life, FAIL)
    assert "Rollout would have rolled back 4 min later, when the data had come, at 02:05" in life.last.sentence


def test_put_back_by_hand_without_a_reason_of_ours() -> None:
    life = observing()
    life.tick(verdict("hold"))
    people_set(life, blue=100)
    life.tick(verdict("hold"), seconds=1300)  # the data never came
    assert life.phase is P.OBSERVED
    assert "There was nothing that Rollout would have done yet. The judge says hold (bake)." in life.last.sentence


def test_given_traffic_again_while_the_data_is_awaited() -> None:
    life = observing()
    people_set(life, blue=100)
    people_set(life, blue=75, green=25)
    assert life.rollout.left_at is None
    life.tick(verdict("pass"), seconds=1300)
    assert told(life)[-1].startswith("Would go on to 95 %.")


def test_the_deadline_counts_from_the_first_traffic() -> None:
    life = observing(blue=100)
    life.tick(seconds=9 * 3600)
    people_set(life, blue=90, green=10)
    life.tick(verdict("pass"), seconds=7 * 3600)
    assert life.phase is P.OBSERVING
    life.tick(verdict("pass"), seconds=3700)
    assert life.phase is P.OBSERVED
    assert life.last.sentence.startswith(
        "Ended at the policy's deadline, 8 h after green got its first traffic; it is blue 90 % + green 10 %. What Rollout "
        "said last, at 18:00:45 UTC: would go on to 25 %."
    )


def test_traffic_that_never_comes_is_not_awaited_for_ever() -> None:
    life = observing(blue=100)
    life.tick(seconds=timedelta(days=8).total_seconds())
    assert life.last.sentence == "Ended: green got no traffic in 7 days, so there was nothing to judge."


@pytest.mark.parametrize(
    ("gone", "what"), [("green", "deployment green"), ("blue", "deployment blue"), ("", "endpoint")]
)
def test_what_is_gone_ends_it(gone: str, what: str) -> None:
    life = observing()
    if gone:
        life.deployments = {name: deployment(name) for name in ("blue", "green") if name != gone}
    else:
        life.gone = True
    life.tick()
    assert life.phase is P.OBSERVED
    assert life.last.sentence.startswith(f"Ended: {what}")


def test_it_survives_the_store_with_all_that_it_would_have_done() -> None:
    life = observing()
    life.tick(FAIL)
    people_set(life, blue=100)
    assert life.rollout.missed is not None  # every tick of a Life goes through the store's codec
    assert life.rollout.left_at is not None
    assert at(P.OBSERVED).rollout.ended


# --- how it is judged


def minutes(first: int, count: int, *, bad: int = 0) -> dict[int, Cell]:
    """Cells of 100 requests a minute."""
    cell = Cell(histograms={"ok": {50: 100 - bad}, **({"5xx": {50: bad}} if bad else {})})
    return dict.fromkeys(range(first, first + count), cell)


def a_stage(traffic: int, **changes: Any) -> Stage:
    return Stage(
        **{"step": 0, "traffic": traffic, "started": 1000, "since": 1000, "bake": 10, "holdback": traffic < 100}
        | changes
    )


def test_a_share_below_the_first_step_is_a_split_as_any_other() -> None:
    """An acting rollout's first minutes at a sized-down share need no number of requests; what people set does."""
    series = Series(
        source="logs",
        baseline=minutes(1000, 20),
        candidate={minute: Cell(histograms={"ok": {50: 3}}) for minute in range(1000, 1020)},
        closed_before=1020,
        read_at=1021,
    )
    one = policy(mode="observe", checks={"latency_p95": "off"}, expert={"evidence": ("logs",)})
    _, found = judge(begin(one), policy=one, stage=a_stage(3), series=[series], now=1021)
    assert found.reason is Reason.REQUESTS
    assert found.sentence.startswith("This split (3 %) is held: 60 of the 300 requests wanted on the candidate")


def test_at_100_percent_the_minutes_after_a_cut_are_still_compared_with_stables_last_hour() -> None:
    """The share would have been cut, and was not: stable has no minutes of its own then."""
    series = Series(
        source="logs",
        baseline=minutes(940, 60),
        candidate=minutes(1000, 20, bad=30),
        closed_before=1020,
        read_at=1021,
        history=minutes(940, 60),
    )
    before = compared(series, a_stage(100, started=990))
    cut = compared(series, a_stage(100, started=990, retreated_since=1005))
    assert sorted(before) == sorted(cut) == list(range(940, 1020))


def test_once_a_cut_gives_stable_some_again_its_own_minutes_are_compared_with() -> None:
    its_own = minutes(1005, 15, bad=30)
    series = Series(
        source="logs",
        baseline={**minutes(940, 60), **its_own},
        candidate=minutes(1000, 20),
        closed_before=1020,
        read_at=1021,
        history=minutes(940, 60),
    )
    last_hour = minutes(940, 1)[940]
    found = compared(series, a_stage(100, started=990, retreated_since=1005))
    assert {minute: found[minute] for minute in its_own} == its_own
    assert all(found[minute] == last_hour for minute in range(1000, 1005))
    uncut = compared(series, a_stage(100, started=990))
    assert all(uncut[minute] == last_hour for minute in range(1000, 1020))
