"""A plan word for word: what is said against a policy on an endpoint, and the file that is proposed instead."""
# ruff: noqa: E501 - a sentence stays on one line, as people read it

from dataclasses import replace
from datetime import timedelta

import pytest

from rollout.analysis.profile import HOUR, HOURS, Profile, given
from rollout.lifecycle.planning import as_yaml, plan_of, proposal, unforeseen
from rollout.lifecycle.timeline import WRITE, done_at, exposures, timeline
from rollout.policy import Approval, Policy, parse_policy

BASE = parse_policy("endpoint_name: recommender", file="base")
#: Nothing but errors, of which even small traffic shows enough.
EASY = "checks: {error_rate: {max_increase: 20pp}, client_errors: off, latency_p95: off}\n"


def written(text: str) -> Policy:
    return parse_policy(f"endpoint_name: recommender\n{text}", file="policy.yaml")


def endpoint(per_second: float) -> Profile:
    return given(per_second=per_second, error_rate=0.005, p95=200.0)


def said(text: str, per_second: float) -> list[tuple[bool, str]]:
    return [(one.blocking, one.sentence) for one in plan_of(written(text), endpoint(per_second)).concerns]


# --- what is said


@pytest.mark.parametrize(
    ("text", "per_second", "concerns"),
    [
        (
            "",
            5,
            [(False, "Step 1 shows about 240 of the candidate's requests by the end of the bake, and min_requests wants 300: it would be held about 4 min longer.")],
        ),
        (
            "",
            0.05,
            [
                (True, "Steps 1, 2 and 3 show about 17, 24 and 38 of the candidate's requests by the end of the bake, and min_requests wants 300: after 30 min more (when.doubt.extend) the rollout would pause."),
                (True, "At 5 % the candidate gets 0.15 requests a minute: minutes without one do not count, and a quarter of an hour without one looks like a routing fault, which holds."),
                (True, "error_rate promises to catch more than +0.5 pp, but no increase below +14 pp is seen with 80 % at this traffic within these steps."),
                (False, "latency_p95 promises to catch more than +25 %, but no increase below +103 % is seen with 80 % at this traffic within these steps."),
            ],
        ),
        (
            "steps: [5%, 10%, 100%]\nwhen: {doubt: {extend: 10m, then: rollback}}\nbake: 10m\nmin_requests: 1000\n" + EASY,
            1,
            [(True, "Steps 1 and 2 show about 33 and 66 of the candidate's requests by the end of the bake, and min_requests wants 1000: after 10 min more (when.doubt.extend) the rollout would roll back.")],
        ),
        (
            "steps: [50%, 100%]\nbake: 3h\ndeadline: 6h",
            10,
            [(True, "All steps take about 6 h 24 min with the lag of the data, Azure's writes and minutes without requests, and the deadline is 6 h: the rollout would pause before its end.")],
        ),
        (
            "steps: [50%, 100%]\nbake: 1m\nmin_requests: 1\nchecks: {client_errors: off}\ndeadline: 20d",
            0.001,
            [
                (True, "At 50 % the candidate gets 0.03 requests a minute: minutes without one do not count, and a quarter of an hour without one looks like a routing fault, which holds."),
                (True, "error_rate promises to catch more than +0.5 pp, but no increase at all is seen with 80 % at this traffic within these steps."),
                (False, "latency_p95 promises to catch more than +25 %, but no increase at all is seen with 80 % at this traffic within these steps."),
            ],
        ),
        (
            "checks: {custom: [{name: a, kql: T}, {name: b, kql: T}, {name: c, kql: T}, {name: d, kql: T, dry_run: true}]}",
            100,
            [(False, "a, b and c: queries of your own, with a part of alpha; what it sees is not forecast, the rest is.")],
        ),
        (
            "checks: {custom: [{name: a, kql: T}]}",
            100,
            [(False, "a: a query of your own, with a part of alpha; what it sees is not forecast, the rest is.")],
        ),
    ],
)  # fmt: skip
def test_what_speaks_against_a_policy_is_said_word_for_word(
    text: str, per_second: float, concerns: list[tuple[bool, str]]
) -> None:
    assert said(text, per_second) == concerns


def test_what_blocks_is_said_first() -> None:
    blocking = [blocks for blocks, _ in said("deadline: 75m", 0.05)]
    assert blocking == sorted(blocking, reverse=True)
    assert set(blocking) == {True, False}


@pytest.mark.parametrize(("min_requests", "held"), [(240, False), (241, True)])
def test_a_step_that_just_shows_enough_is_not_held(min_requests: int, held: bool) -> None:
    assert bool(said(f"min_requests: {min_requests}", 5)) is held


@pytest.mark.parametrize(("min_requests", "hopeless"), [(13_500, False), (13_501, True)])
def test_a_step_blocks_only_where_the_extended_bake_shows_too_little(min_requests: int, hopeless: bool) -> None:
    """15 minutes and 30 more, at 300 requests a minute."""
    found = said(f"min_requests: {min_requests}\nsteps: [5%, 100%]\n{EASY}", 100)
    assert [blocks for blocks, _ in found] == [hopeless]


@pytest.mark.parametrize(("deadline", "late"), [("122m", True), ("123m", False)])
def test_a_deadline_that_all_steps_just_fit_into_is_no_concern(deadline: str, late: bool) -> None:
    """Four bakes of 75 minutes in all, 11 minutes after each until its data has come, and five writes of 40 seconds."""
    assert plan_of(BASE, endpoint(100)).done == pytest.approx(75 + 4 * 11 + 5 * 40 / 60)
    assert [blocks for blocks, _ in said(f"first_step: as_written\ndeadline: {deadline}", 100)] == [True] * late


@pytest.mark.parametrize(("per_second", "wanted"), [(0.1, 11), (0.5, 20), (1, 32), (3, 96), (30, 900), (300, 9000)])
def test_the_requests_that_a_step_could_keep_leave_room(per_second: float, wanted: int) -> None:
    """Two thirds of what the thinnest step shows, in two figures at most; the first minutes at a sized share aside."""
    plan = plan_of(BASE, endpoint(per_second))
    least = min(step.stretch.requests for step in plan.steps if not step.stretch.sized)
    assert plan.min_requests <= 2 / 3 * least < 1.1 * plan.min_requests + 1
    assert plan.min_requests == wanted


# --- when


def test_without_a_holdback_no_write_follows_the_last_bake() -> None:
    for text, last in (("steps: [100%]", WRITE), ("steps: [100%]\nholdback: 0%", 0.0)):
        policy = written(text)
        stretches = timeline(policy, endpoint(100))
        assert done_at(policy, stretches) == pytest.approx(WRITE + 30 + 11 + last)
        assert (stretches[0].step, stretches[0].sized, stretches[0].complete) == (0, False, True)


def test_at_a_hundred_percent_nothing_is_left_to_wait_for() -> None:
    """Without a holdback only the candidate must be asked for a minute to count; with one, stable too."""
    alone, beside = (timeline(written(f"steps: [100%]\nholdback: {held}%"), endpoint(0.1))[0] for held in (0, 5))
    assert (alone.share, beside.share) == (100, 95)
    assert (alone.bake, beside.bake) == (31, 117)


def test_traffic_that_never_comes_does_not_fill_a_bake() -> None:
    (only,) = timeline(written("steps: [100%]\nholdback: 0%"), endpoint(0.0))
    assert (only.complete, only.bake, only.requests) == (False, 7 * 24 * 60, 0.0)


def test_a_sized_first_step_counts_its_own_minutes() -> None:
    sized, first, *_ = timeline(BASE, endpoint(300))
    assert (sized.step, sized.sized, sized.share) == (0, True, 2)
    assert (first.step, first.sized, first.share) == (0, False, 5)
    assert first.begins == pytest.approx(sized.ends + WRITE)
    assert not timeline(written("first_step: as_written"), endpoint(300))[0].sized
    assert not timeline(BASE, endpoint(100))[0].sized  # 300 requests a minute are 5 % of it


def test_the_first_step_is_sized_from_the_traffic_of_the_very_begin() -> None:
    falling = replace(endpoint(1), per_minute=(18_000.0, *[60.0] * (HOURS - 1)), begins=HOUR - 1)
    assert [one.sized for one in timeline(BASE, falling)] == [True, False, False, False, False]


def test_until_a_decision_the_lag_counts_for_the_steps_before_it() -> None:
    first, second, *_ = timeline(BASE, endpoint(100))
    told = exposures((first, second), 1)
    assert [one.minutes for one in told] == [pytest.approx(26.0), 15.0]
    assert [(one.baseline, one.candidate) for one in told] == [(5700.0, 300.0), (4500.0, 1500.0)]


# --- what is proposed

PATIENT = """\
# Two
# lines.
endpoint_name: recommender
steps:
- {traffic: 50%, bake: 12h}
- approve: {timeout: 1d, on_timeout: pause}
- {traffic: 100%, bake: 1h}
holdback: 20%
min_requests: 230
deadline: 1d11h
"""
SLOWER = """\
endpoint_name: recommender
first_step: auto
steps:
- {traffic: 5%, bake: 30m}
- {traffic: 25%, bake: 30m}
- {traffic: 50%, bake: 30m}
- {traffic: 100%, bake: 30m}
min_requests: 64
"""


@pytest.mark.parametrize(("per_second", "comment", "text"), [(0.05, "Two\nlines.", PATIENT), (1, "", SLOWER)])
def test_a_proposal_writes_what_it_changes_and_nothing_else(per_second: float, comment: str, text: str) -> None:
    better = proposal(BASE, endpoint(per_second))
    assert better is not None
    assert as_yaml(better, base=BASE, comment=comment) == text
    assert parse_policy(text, file="proposal.yaml") == better


@pytest.mark.parametrize(("before", "kept"), [("25%", 25), ("20%", 100)])
def test_a_person_s_word_stays_before_its_share_or_before_the_last(before: str, kept: int) -> None:
    better = proposal(written(f"steps: [5%, approve: {{timeout: 3h}}, {before}, 100%]"), endpoint(1))
    assert better is not None
    assert [step.traffic for step in better.steps] == [5, 25, 50, 100]
    assert {step.traffic: step.approve for step in better.steps if step.approve} == {kept: Approval(timeout="3h")}


# --- what is not forecast


def test_why_nothing_is_forecast_is_said_word_for_word() -> None:
    probes = written("probes: {requests: ['{}'], per_minute: 12}\nexpert: {evidence: [probes]}")
    assert unforeseen(probes) == (
        "recommender is judged by probes (12 requests a minute to each deployment) alone: what they will see does not "
        "follow from the endpoint's traffic, and is not forecast. Start with small steps, or judge by [logs, metrics] too."
    )


def test_windows_are_told_and_a_proposal_fits_them() -> None:
    text = "endpoint_name: recommender\nsteps: [{traffic: 5%, bake: 30m}, {traffic: 100%, bake: 30m}]\nwindows: {allow: [ROW]}\n"
    busy, thin = endpoint(100), endpoint(0.05)
    short = parse_policy(text.replace("ROW", "mon-fri 09:00-10:00 UTC"), file="p.yaml")
    told = [concern.sentence for concern in plan_of(short, busy).concerns if "windows" in concern.sentence]
    assert len(told) == 1
    assert "(mon-fri 09:00-10:00 UTC): the longest is 1h, so the rollout goes on in later ones" in told[0]
    assert proposal(short, busy) is None, "no other policy would mend that"
    day = parse_policy(text.replace("ROW", "mon-fri 08:00-18:00 UTC"), file="p.yaml")
    better, free = proposal(day, thin), proposal(day.model_copy(update={"windows": None}), thin)
    assert better is not None
    assert free is not None
    assert [max(step.bake for step in one.steps) for one in (better, free)] == [timedelta(hours=8), timedelta(hours=12)]
    assert "a step that cannot end before they do waits" in plan_of(day, busy).concerns[-1].sentence
