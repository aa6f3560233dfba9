"""What follows from single checks: an answer of their own to a regression, and what people are only told of."""

from typing import Any

import pytest

from rollout.analysis.verdict import Finding, Rate, Reason
from rollout.lifecycle import Phase
from rollout.lifecycle.judged import on_regression
from rollout.lifecycle.sentences import worst
from rollout.policy import Checks, When
from rollout.world import Severity
from tests.support.lives import Life, at_step, finding, policy, verdict

P = Phase
OWN = {"name": "empty_answers", "kql": "AmlOnlineEndpointTrafficLog", "on_regression": "pause"}


def failed(*checks: str, **changes: Any) -> Any:
    """A fail that these checks carry; errors were compared, too."""
    findings = [finding(check=name) for name in checks]
    rest = [finding(check="error_rate", action="hold")] if "error_rate" not in checks else []
    return verdict("fail", findings=(*findings, *rest), **changes)


WRITTEN = {
    "client_errors": {"on_regression": "rollback"},
    "latency_p95": {"on_regression": "pause"},
    "custom": [OWN],
}


@pytest.mark.parametrize(
    ("checks", "regression", "expected"),
    [
        (["latency_p95"], "rollback", "pause"),
        (["empty_answers"], "rollback", "pause"),
        (["error_rate"], "rollback", "rollback"),
        (["latency_p95", "error_rate"], "rollback", "rollback"),  # the stricter of the two
        (["latency_p95", "empty_answers"], "rollback", "pause"),
        (["client_errors"], "pause", "rollback"),
        (["error_rate"], "pause", "pause"),
        ([], "pause", "pause"),
    ],
)
def test_the_checks_that_failed_the_candidate_say_what_follows(
    checks: list[str], regression: str, expected: str
) -> None:
    one = policy(checks=Checks.model_validate(WRITTEN), when=When(regression=regression))
    assert on_regression(one, failed(*checks)) == expected


@pytest.mark.parametrize(("check", "phase"), [("latency_p95", P.PAUSED), ("error_rate", P.ROLLING_BACK)])
def test_it_follows(check: str, phase: Phase) -> None:
    life = at_step(1, policy(checks=Checks.model_validate({"latency_p95": {"on_regression": "pause"}})))
    life.tick(failed(check))
    assert life.phase is phase


def test_a_check_that_paused_does_not_keep_another_from_rolling_back() -> None:
    life = at_step(1, policy(checks=Checks.model_validate({"latency_p95": {"on_regression": "pause"}})))
    life.tick(failed("latency_p95"))
    life.tick(failed("latency_p95"))
    assert (life.phase, life.rollout.fail_stands) == (P.PAUSED, True)
    life.tick(failed("latency_p95", "error_rate"))
    assert life.phase is P.ROLLING_BACK


def test_over_a_person_s_hands_it_does_not() -> None:
    life = at_step(1, policy(checks=Checks.model_validate({"latency_p95": {"on_regression": "pause"}})))
    life.tick(failed("latency_p95"))
    life.moved_by_hand(blue=50, green=50)
    for _ in range(4):
        life.tick(seconds=30)
    life.tick(failed("latency_p95", "error_rate"))
    assert life.phase is P.PAUSED


# --- told, and nothing else ----------------------------------------------------------------------------------------

TOLD = "Answers have another size: 40 B vs 900 B in the median, 0.044 times stable's."


def other_size(alert: bool = True) -> Finding:
    return finding(
        check="answer_size",
        unit="bytes",
        baseline=Rate(bad=0, n=300, value=900.0),
        candidate=Rate(bad=0, n=100, value=40.0),
        evidence=1.0,
        action="hold",
        sentence=TOLD,
        role="alert",
        alert=alert,
    )


def noticed(life: Life) -> list[Any]:
    return [event for event in life.events if event.kind == "noticed"]


def test_an_alert_is_told_once_in_a_step_and_again_in_the_next() -> None:
    life = at_step(0)
    for _ in range(3):
        life.tick(verdict("hold", findings=(other_size(),)))
    (event,) = noticed(life)
    assert (event.sentence, event.severity) == (TOLD, Severity.ACTION)
    assert life.phase is P.PROGRESSING
    life.tick(verdict("retreat", Reason.SUSPICION, findings=(other_size(),)))
    life.tick(verdict("hold", Reason.RECOVERED, findings=(other_size(),)))
    assert len(noticed(life)) == 1
    life = at_step(1)
    life.tick(verdict("hold", findings=(other_size(),)))
    assert len(noticed(life)) == 1


def test_what_needs_no_alert_is_not_told() -> None:
    life = at_step(0)
    life.tick(verdict("hold", findings=(other_size(alert=False),)))
    assert noticed(life) == []


def test_what_decides_nothing_is_never_the_worst() -> None:
    dry = finding(check="latency_p50", evidence=9e9, action="hold", role="dry_run")
    loud = finding(evidence=3.0, action="hold")
    assert worst(verdict("hold", findings=(other_size(), dry, loud))) == loud
    assert worst(verdict("hold", findings=(dry,))) is None


# --- the last line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "source", "by_cause"),
    [
        (Reason.HARD_GUARD, "probes", True),
        (Reason.HARM, "logs", True),
        (Reason.HARD_GUARD, "logs", False),
        (Reason.REGRESSION, "logs", False),
    ],
)
def test_the_end_tells_why_and_not_counts_that_were_not_why(reason: Reason, source: str, by_cause: bool) -> None:
    life = at_step(1)
    fail = verdict("fail", reason, findings=(finding(source=source),), sentence="The candidate failed: 10 probes.")
    life.tick(fail)
    life.tick(seconds=30)
    assert life.phase is P.ROLLED_BACK
    assert ("The candidate failed: 10 probes." in life.last.sentence) is by_cause
    assert ("Errors 6.8 % vs 0.30 %" in life.last.sentence) is not by_cause
