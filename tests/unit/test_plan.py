"""Plans: what a policy takes and sees, what is said against it, and what is proposed instead."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st

from rollout.analysis.cells import Cell
from rollout.analysis.forecast import HEALTHY, Fault
from rollout.analysis.profile import DAY, HOURS, Profile, given, log_normal, profile_of
from rollout.lifecycle.forecast import simulate
from rollout.lifecycle.planning import as_yaml, plan_of, proposal, unforeseen
from rollout.lifecycle.rehearsal import Ended
from rollout.lifecycle.timeline import WRITE, timeline
from rollout.policy import Policy, parse_policy
from rollout.web.plans import plan_view, profile_from, profile_view

BASE = parse_policy("endpoint_name: recommender", file="base")


def written(text: str) -> Policy:
    return parse_policy(f"endpoint_name: recommender\n{text}", file="policy.yaml")


def endpoint(per_second: float, **changes: object) -> Profile:
    return replace(given(per_second=per_second, error_rate=0.005, p95=200.0), **changes)  # type: ignore[arg-type]


# --- when, and how much


def test_a_step_takes_its_bake_the_lag_and_the_write() -> None:
    first, second, third = timeline(written("steps: [10%, 50%, 100%]\nbake: 10m"), endpoint(100))
    assert (first.begins, first.bake, first.ends) == (WRITE, 10, WRITE + 10 + 1 + 10)
    assert second.begins == first.ends + WRITE
    assert (third.share, third.bake) == (95, 30)  # the holdback, the last bake
    assert first.requests == pytest.approx(10 * 6000 * 0.10)


def test_minutes_without_requests_do_not_count() -> None:
    (first, *_) = timeline(written("steps: [10%, 100%]\nbake: 10m"), endpoint(0.1))  # the candidate: 0.6 a minute
    assert first.bake == pytest.approx(10 / 0.45, abs=1.5)
    assert first.requests == pytest.approx(first.bake * 0.6)


def test_the_day_has_its_rhythm() -> None:
    night = endpoint(1, per_minute=tuple(60.0 if 8 <= hour < 20 else 6.0 for hour in range(HOURS)), begins=7 * 60 + 55)
    (first, *_) = timeline(written("steps: [50%, 100%]\nbake: 10m"), night)
    assert first.requests == pytest.approx(0.5 * (5 * 60 + 5 * 6), abs=60)


def test_a_first_step_that_is_sized_comes_before_its_step() -> None:
    plan = plan_of(written(""), endpoint(300))
    assert [(step.stretch.share, step.stretch.sized) for step in plan.steps[:2]] == [(2, True), (5, False)]
    assert len(plan.steps) == 5


def test_each_step_sees_more_than_the_one_before() -> None:
    sizes = [step.sight.errors or 1.0 for step in plan_of(written(""), endpoint(10)).steps]
    assert sizes == sorted(sizes, reverse=True)


# --- what is said against it


@pytest.mark.parametrize(
    ("text", "per_second", "told"),
    [
        ("", 1, "Step 1 shows about 48 of the candidate's requests"),
        ("", 0.05, "error_rate promises to catch more than +0.5 pp, but no increase below +14 pp is seen with 80 %"),
        ("", 0.05, "At 5 % the candidate gets 0.15 requests a minute"),
        ("steps: [50%, 100%]\nbake: 3h\ndeadline: 6h", 10, "the deadline is 6 h"),
    ],
)
def test_what_cannot_work_is_refused(text: str, per_second: float, told: str) -> None:
    plan = plan_of(written(text), endpoint(per_second))
    assert plan.blocked
    assert any(told in concern.sentence for concern in plan.concerns if concern.blocking)


@pytest.mark.parametrize(
    ("text", "per_second", "told"),
    [
        ("", 5, "it would be held about 4 min longer"),
        (
            "steps: [25%, 100%]\nchecks: {error_rate: {max_increase: 0.1pp}}",
            5,
            "error_rate promises to catch more than +0.1 pp",
        ),
    ],
)
def test_what_is_weak_is_said(text: str, per_second: float, told: str) -> None:
    plan = plan_of(written(text), endpoint(per_second))
    assert [concern.sentence for concern in plan.concerns if told in concern.sentence]
    assert not plan.blocked


def test_latency_that_is_weakly_seen_is_said_unless_it_is_ignored_anyway() -> None:
    asked = written("steps: [50%, 100%]\nchecks: {latency_p95: {max_increase: 5%}}")
    slow, fast = (plan_of(asked, endpoint(2, durations=log_normal(p95))) for p95 in (2000.0, 40.0))
    told = "latency_p95 promises to catch more than +5 %"
    assert any(told in concern.sentence for concern in slow.concerns)
    assert not any(told in concern.sentence for concern in fast.concerns)  # 20 ms more are no harm


def test_a_good_policy_has_no_concerns() -> None:
    plan = plan_of(written(""), endpoint(20))
    assert plan.concerns == ()
    assert proposal(written(""), endpoint(20)) is None


# --- what is proposed instead


@pytest.mark.parametrize("per_second", [0.05, 0.2, 1, 5])
def test_a_proposal_lints_and_is_better(per_second: float) -> None:
    known = endpoint(per_second)
    before, better = plan_of(BASE, known), proposal(BASE, known)
    assert better is not None
    text = as_yaml(better, base=BASE, comment="For a quiet endpoint.")
    assert parse_policy(text, file="proposal.yaml") == better
    after = plan_of(better, known)
    assert not after.blocked
    assert len(after.concerns) < len(before.concerns)
    assert better.checks == BASE.checks


def test_three_requests_a_minute_take_half_a_day_and_a_person() -> None:
    better = proposal(BASE, endpoint(0.05))
    assert better is not None
    half, rest = better.steps
    assert (half.traffic, half.bake, rest.traffic) == (50, timedelta(hours=12), 100)
    assert rest.approve is not None


def test_a_proposal_forecasts_better() -> None:
    known, faults = endpoint(0.2), (HEALTHY, Fault(name="+5 pp", points=0.05))
    better = proposal(BASE, known)
    assert better is not None
    kinds = np.arange(60) % 2
    shares = []
    for policy in (BASE, better):
        played = simulate(policy, known, faults, kinds, np.random.default_rng(1))
        promoted = (played.ended[kinds == 0] == Ended.PROMOTED).mean()
        shares.append((promoted, (played.ended[kinds == 1] == Ended.ROLLED_BACK).mean()))
    assert shares[0][0] == 0.0  # it waits for requests that never come
    assert shares[1][0] > 0.9
    assert shares[1][1] > shares[0][1] + 0.3


def test_where_nothing_helps_nothing_is_proposed() -> None:
    assert proposal(BASE, endpoint(0.001)) is None


def test_a_proposal_keeps_what_the_author_chose() -> None:
    mine = written("name: careful\nalerts: [team-ml]\nwhen: {regression: pause}\nsteps: [5%, 100%]\nmin_requests: 5000")
    better = proposal(mine, endpoint(5))
    assert better is not None
    assert (better.name, better.alerts, better.when) == (mine.name, mine.alerts, mine.when)
    assert [step.traffic for step in better.steps] == [5, 100]
    assert better.min_requests < 5000
    assert parse_policy(as_yaml(better, base=BASE), file="x") == better


@settings(max_examples=25, deadline=None)
@examples(st.floats(0.002, 2000), st.floats(0, 0.3), st.floats(2, 20_000), st.sampled_from(["", "holdback: 0%"]))
def test_every_endpoint_has_a_plan(per_second: float, errors: float, p95: float, text: str) -> None:
    policy, known = written(text), given(per_second=per_second, error_rate=errors, p95=p95)
    plan = plan_of(policy, known)
    assert plan.done > 0
    better = proposal(policy, known)
    assert better is None or not plan_of(better, known).blocked


# --- the endpoint's last days


def cells(rate: int, errors: int, minutes: range) -> dict[int, Cell]:
    return {at: Cell(histograms={"ok": {50: rate - errors}, "5xx": {10: errors}}) for at in minutes}


def test_a_profile_shows_the_hours_that_were_looked_at() -> None:
    start = 20_000 * DAY
    looked = [*range(start, start + 60), *range(start + 120, start + 180)]
    found = profile_of(cells(30, 3, range(start, start + 60)) | cells(90, 0, range(start + 120, start + 150)), looked)
    assert found is not None
    assert found.per_minute[:4] == (30.0, 37.5, 45.0, 37.5)  # hours that nobody looked at: the mean of the others
    assert found.error_rate == pytest.approx(180.5 / 4501)
    assert found.p95 == pytest.approx(2 ** (50.95 / 8), rel=1e-3)
    assert found.minutes == 120


def test_too_little_is_no_profile() -> None:
    assert profile_of(cells(3, 0, range(30)), range(60)) is None
    assert profile_of({}, range(60)) is None


def test_the_spread_between_minutes_is_learned() -> None:
    def bursts(at: int) -> Cell:
        errors = 400 if at % 7 < 2 else 10
        return Cell(histograms={"ok": {50: 10_000 - errors}, "5xx": {50: errors}})

    wild = profile_of({at: bursts(at) for at in range(600)}, range(600))
    calm = profile_of(cells(10_000, 100, range(600)), range(600))
    assert wild is not None
    assert calm is not None
    assert wild.tau > 2 * calm.tau


def test_a_profile_is_read_back_as_it_was() -> None:
    known = endpoint(1, begins=90, days=7.0, minutes=1440)
    assert profile_from(profile_view(known)) == known
    taught = replace(known, expected={"logs": {"error_rate": 0.21}}, taught=6)
    assert profile_from(json.loads(json.dumps(profile_view(taught)))) == taught
    view = plan_view(BASE, plan_of(BASE, known))
    assert view["ok"] is False
    old = {name: value for name, value in profile_view(taught).items() if name != "noise"}
    assert profile_from(old) == known  # as older daemons show it
    assert [step["traffic"] for step in view["steps"]] == [5, 25, 50, 100]


# --- what is judged otherwise

OWN_CHECK = "checks: {custom: [{name: empty_answers, kql: AmlOnlineEndpointTrafficLog}]}\n"
PROBED = "probes: {requests: ['{}']}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            PROBED + "expert: {evidence: [probes]}",
            "is judged by probes (60 requests a minute to each deployment) alone",
        ),
        (OWN_CHECK + "expert: {evidence: []}", "is judged by queries of its own alone"),
        (
            "checks: {error_rate: off, client_errors: off, latency_p95: {max: 800ms}}\nexpert: {evidence: [metrics]}",
            "is judged by a maximum or queries of its own alone",
        ),
    ],
)
def test_what_does_not_follow_from_the_traffic_is_not_forecast(text: str, told: str) -> None:
    assert told in str(unforeseen(written(text)))


@pytest.mark.parametrize("text", ["", OWN_CHECK, PROBED, "expert: {evidence: [metrics]}"])
def test_a_policy_that_live_traffic_decides_is_forecast(text: str) -> None:
    assert unforeseen(written(text)) is None


def test_an_own_check_is_said_to_be_left_out() -> None:
    (concern,) = plan_of(written(OWN_CHECK), endpoint(100)).concerns
    assert not concern.blocking
    assert concern.sentence.startswith("empty_answers: a query of your own")


def test_a_dry_run_promises_nothing() -> None:
    promising, dry = (
        plan_of(written(f"steps: [5%, 100%]\nchecks: {{latency_p95: {{max_increase: 5%, dry_run: {dry}}}}}"), slow)
        for slow, dry in ((endpoint(0.5), "false"), (endpoint(0.5), "true"))
    )
    assert any("latency_p95 promises" in concern.sentence for concern in promising.concerns)
    assert all("latency_p95" not in concern.sentence for concern in dry.concerns)
    assert promising.sight.latency is not None
    assert dry.sight.latency is None


def test_metrics_alone_decide_sooner_and_are_played() -> None:
    logs, metrics = written("steps: [10%, 100%]"), written("steps: [10%, 100%]\nexpert: {evidence: [metrics]}")
    profile = endpoint(100)
    assert timeline(metrics, profile)[0].ends == timeline(logs, profile)[0].ends - profile.lag + 3
    crash = Fault(name="crash", points=1.0)
    kinds = np.repeat(np.arange(2), 20)
    outcomes = simulate(metrics, profile, (HEALTHY, crash), kinds, np.random.default_rng(1))
    assert set(outcomes.ended[kinds == 1]) == {Ended.ROLLED_BACK}
    assert (outcomes.ended[kinds == 0] == Ended.PROMOTED).mean() > 0.8
