"""How probes begin a rollout: both deployments must answer first, and on Kubernetes nothing else can be judged."""

from datetime import timedelta
from typing import Any

import pytest

from rollout.lifecycle import Phase
from rollout.lifecycle.tried import AWAITED
from rollout.policy import Expert, Policy, Probes
from rollout.world import EndpointKind, Trial
from tests.support.lives import T0, Life, deployment, policy

PROBES = Probes(requests=("{}",))
KUBERNETES = {"kind": EndpointKind.KUBERNETES}


def probed(*evidence: Any) -> Policy:
    return policy(probes=PROBES, expert=Expert(evidence=evidence or ("logs", "metrics", "probes")))


def test_nothing_is_written_before_both_have_answered() -> None:
    life = Life(policy=probed())
    life.tick()
    assert life.last.sentence == "Not started yet: the policy's sample requests are being sent to both deployments."
    assert (life.rollout.stable, life.rollout.candidate) == ("blue", "green")  # the prober knows whom to ask
    life.facts["trial"] = Trial(at=T0, problem="green gave no answer within 4 s to the sample request")
    life.tick()
    assert life.last.sentence == "Not started yet: green gave no answer within 4 s to the sample request."
    assert life.writes == []
    life.facts["trial"] = Trial(at=T0)
    life.tick()
    assert life.phase is Phase.PROGRESSING
    assert len(life.writes) == 1


def test_nobody_is_asked_before_both_are_ready() -> None:
    """Also where the policy names both: the prober asks a pair that has its pins."""
    named = probed().model_copy(update={"stable": "blue", "candidate": "green"})
    life = Life(policy=named, deployments={"blue": deployment("blue"), "green": deployment("green", "Creating")})
    life.tick()
    assert (life.phase, life.rollout.pins) == (Phase.PREPARING, None)
    life.deployments = {"blue": deployment("blue"), "green": deployment("green")}
    life.tick()
    assert life.phase is Phase.PREPARING
    assert life.rollout.pins is not None


def test_an_answer_that_stays_wrong_is_a_refusal_with_azures_words() -> None:
    life = Life(policy=probed())
    life.facts["trial"] = Trial(at=T0, problem="green answered 424, the model answered 400: no column", final=True)
    life.tick()
    assert life.phase is Phase.ABORTED
    assert life.last.sentence == (
        "Not started: green answered 424, the model answered 400: no column. Both deployments must answer the policy's "
        "sample requests before any traffic moves: correct `probes` in the policy, or mend what answers."
    )
    assert life.writes == []


def test_answers_are_not_awaited_for_ever() -> None:
    life = Life(policy=probed())
    life.tick()
    life.tick(seconds=(AWAITED + timedelta(minutes=1)).total_seconds())
    assert life.phase is Phase.ABORTED


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (("logs", "metrics", "probes"), "the policy judges by logs and metrics; write `expert: {evidence: [probes]}`"),
        (("metrics", "probes"), "the policy judges by metrics; write `expert: {evidence: [probes]}`"),
    ],
)
def test_kubernetes_has_nothing_but_probes_to_judge_by(evidence: tuple[str, ...], told: str) -> None:
    life = Life(policy=probed(*evidence), endpoint_changes=dict(KUBERNETES))
    life.tick()
    assert life.phase is Phase.ABORTED
    assert told in life.last.sentence


def test_kubernetes_with_probes_alone_begins_without_a_log() -> None:
    life = Life(policy=probed("probes"), endpoint_changes=dict(KUBERNETES))
    life.facts |= {"trial": Trial(at=T0), "fresh_at": None, "read_at": None, "per_minute": None}
    life.tick()
    assert life.phase is Phase.PROGRESSING
