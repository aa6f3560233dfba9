"""A rollout whose policy has checks of its own, or is judged without logs: what it waits for, and what it tells."""

from datetime import timedelta

import pytest

from rollout.lifecycle import Phase
from rollout.policy import Checks, CustomCheck, Expert
from rollout.world import Severity
from tests.support.lives import MINUTE, T0, Life, policy

CHECKS = Checks(custom=(CustomCheck(name="empty", kql="T | count"),))
OFF = Checks(error_rate=None, client_errors=None, latency_p95=None, custom=CHECKS.custom)
COUNTED = {"counted_at": T0 + MINUTE}


def waiting(life: Life) -> str:
    life.tick()
    assert life.phase is Phase.PREPARING
    return life.last.sentence


def test_it_starts_when_every_own_check_has_counted() -> None:
    life = Life(policy=policy(checks=CHECKS))
    assert "the policy's own checks have not been run yet" in waiting(life)
    life.facts = {"counted_at": T0 - MINUTE}  # for a rollout before this one
    assert "the policy's own checks have not been run yet" in waiting(life)
    life.facts = {**COUNTED, "blind": {"empty": "Check empty: row 1: n is -1, below zero."}}
    told = (
        "the policy's own check empty cannot be read, and it would not judge: Check empty: row 1: n is -1, below zero."
    )
    assert waiting(life) == f"Not started yet: {told}"
    life.facts = COUNTED
    life.tick()
    assert life.phase is Phase.PROGRESSING


def test_a_check_that_stays_blind_is_no_start() -> None:
    life = Life(policy=policy(checks=CHECKS), facts={"blind": {"empty": "Failed to resolve 'Sizes'."}})
    life.tick(seconds=44 * 60)
    assert life.phase is Phase.PREPARING
    life.tick(seconds=60)
    assert life.phase is Phase.ABORTED
    assert "empty cannot be read, and it would not judge: Failed to resolve 'Sizes'" in life.last.sentence
    assert life.writes == []


def test_a_policy_without_own_checks_waits_for_none() -> None:
    life = Life()
    life.tick()
    assert life.phase is Phase.PROGRESSING


def test_a_check_that_goes_blind_is_told_once_and_so_is_its_return() -> None:
    life = Life(policy=policy(checks=CHECKS), facts=COUNTED)
    life.tick()
    life.tick()
    for _ in range(3):
        life.facts = {**COUNTED, "blind": {"empty": "No answer."}}
        life.tick()
    (blind,) = life.told("blind")
    assert blind.sentence == "Check empty does not judge at present; the other checks do. No answer."
    assert blind.severity is Severity.ACTION
    assert life.phase is Phase.PROGRESSING
    life.facts = COUNTED
    for _ in range(2):
        life.tick()
    (back,) = life.told("sees_again")
    assert back.sentence == "Check empty judges again."
    assert life.rollout.blind == ()
    life.facts = {**COUNTED, "blind": {"empty": "No answer."}}
    life.tick()
    assert len(life.told("blind")) == 2


@pytest.mark.parametrize(
    ("changes", "unread", "silent"),
    [
        ({"expert": Expert(evidence=("metrics",))}, "the metrics of restaurant-recommender have", "RequestsPerMinute"),
        ({"expert": Expert(evidence=("logs",))}, "the traffic log of restaurant-recommender has", "AmlOnlineEndpoint"),
    ],
)
def test_data_is_sought_where_the_policy_is_decided(changes: dict[str, object], unread: str, silent: str) -> None:
    life = Life(policy=policy(**changes), facts={"fresh_at": None, "read_at": None})
    assert f"Not started yet: {unread} not been read yet" in waiting(life)
    life.facts = {"fresh_at": T0 - timedelta(hours=1), "read_at": life.now}
    assert f"no fresh rows of blue in {'the metric ' if 'Req' in silent else ''}{silent}" in waiting(life)
