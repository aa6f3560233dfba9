"""A candidate that is created first: asked for once, awaited, told, and never for a rollout that could not start."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rollout.lifecycle import Decision, Phase
from rollout.policy import Manifest, Policy
from rollout.world import CreateDeployment, EndpointKind
from tests.support.lives import Life, deployment, policy

FILE = Manifest(name="green", path="deployments/green.yml", text="name: green\nmodel: azureml:recommender:2\n")
CREATE = CreateDeployment(deployment="green", digest=FILE.digest)
OPERATION = "create:green"


def bringing(**changes: Any) -> Policy:
    return policy(candidate="green", manifest=FILE, **changes)


def life(**changes: Any) -> Life:
    """Only blue is there."""
    return Life(policy=changes.pop("policy", bringing()), deployments={"blue": deployment("blue")}, **changes)


def over(found: Life, why: str | None = None) -> Decision:
    """The operation has ended."""
    found.facts["operations"] = {OPERATION: why}
    return found.tick()


def test_it_is_asked_for_once_awaited_and_told() -> None:
    found = life()
    assert found.tick().errands == (CREATE,)
    assert found.last.sentence == "Not started yet: green is being created from deployments/green.yml."
    found.facts["doing"] = {OPERATION: "uploading model from v2 (5 files, 2 kB)"}
    assert found.tick().errands == ()
    assert found.last.sentence == (
        "Not started yet: green is being created from deployments/green.yml: uploading model from v2 (5 files, 2 kB)."
    )
    found.tick(seconds=600)
    assert over(found).errands == ()
    assert found.last.sentence == "Not started yet: Azure does not show green yet, which was created."
    found.deployments = {"blue": deployment("blue"), "green": deployment("green", "Updating")}
    found.tick()
    assert found.last.sentence == "Not started yet: deployment green is still Updating."
    found.deployments["green"] = deployment("green")
    found.tick()
    assert found.phase is Phase.PROGRESSING
    for _ in range(20):
        assert found.tick(seconds=60).errands == ()


def test_one_that_is_there_is_compared_by_azures_side_first() -> None:
    found = life()
    found.deployments = {"blue": deployment("blue"), "green": deployment("green")}
    assert found.tick().errands == (CREATE,)
    assert found.phase is Phase.PREPARING
    over(found)
    assert found.phase is Phase.PROGRESSING


def test_a_failure_ends_it_with_azures_words_and_the_console() -> None:
    found = life()
    found.tick()
    over(
        found,
        "Cannot create deployment green of diners: ResourceNotReady.\nIts console ends:\n  Traceback\n  No module named 'nltk'",
    )
    assert found.phase is Phase.ABORTED
    assert found.last.sentence == (
        "Not started: Cannot create deployment green of diners: ResourceNotReady. "
        "Its console ends: \"Traceback / No module named 'nltk'\""
    )
    assert found.last.severity is not None


@pytest.mark.parametrize("outcome", ["conflict", "unknown"])
def test_what_was_not_begun_is_begun_again(outcome: str) -> None:
    found = life(errand_answer={"outcome": outcome, "why": "4 are being created already", "operation": None})
    assert found.tick().errands == (CREATE,)
    assert found.tick(seconds=5).errands == ()
    assert found.tick(seconds=15).errands == (CREATE,)


def test_a_creation_that_nobody_remembers_is_begun_again() -> None:
    """The daemon was restarted: the one that uploaded is gone."""
    found = life()
    found.tick()
    found.facts["forgotten"] = frozenset({OPERATION})
    found.tick()
    found.facts["forgotten"] = frozenset()
    assert found.tick(seconds=20).errands == (CREATE,)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"traffic": {"blue": 90, "red": 10}}, "a rollout starts from one deployment that holds all of it"),
        ({"traffic": {"green": 100}}, "green has 100 % of the traffic"),
        ({"endpoint_changes": {"kind": EndpointKind.KUBERNETES}}, "is a Kubernetes endpoint"),
        ({"gone": True}, "does not exist in workspace"),
    ],
)
def test_nothing_is_created_for_a_rollout_that_could_not_start(changes: dict[str, Any], told: str) -> None:
    found = life(**changes)
    assert found.tick().errands == ()
    assert found.phase is Phase.ABORTED
    assert told in found.last.sentence


def test_another_candidate_by_name_is_not_created() -> None:
    found = life()
    found.deployments = {"blue": deployment("blue"), "red": deployment("red")}
    found.rollout = replace(found.rollout, candidate="red")
    assert found.tick().errands == ()
    assert (found.phase, found.rollout.candidate) == (Phase.PROGRESSING, "red")


def test_who_only_observes_creates_nothing() -> None:
    found = life(policy=bringing(mode="observe"))
    found.deployments = {"blue": deployment("blue"), "green": deployment("green")}
    assert found.tick().errands == ()
    assert found.phase is Phase.OBSERVING


def test_a_long_creation_leaves_time_for_the_rest() -> None:
    """What is awaited then is awaited from then on."""
    found = life()
    found.facts["fresh_at"] = None
    found.tick()
    found.tick(seconds=50 * 60)
    found.deployments = {"blue": deployment("blue"), "green": deployment("green")}
    over(found)
    assert found.phase is Phase.PREPARING
    found.tick(seconds=timedelta(minutes=44).total_seconds())
    assert found.phase is Phase.PREPARING
    found.tick(seconds=120)
    assert found.phase is Phase.ABORTED


def test_a_creation_is_not_awaited_for_ever() -> None:
    found = life()
    found.tick()
    found.tick(seconds=3601)
    assert found.phase is Phase.ABORTED
    assert found.last.sentence == "Not started: green was not created from deployments/green.yml within 60 minutes."
