"""Triggers: what appears is started once, whatever happens in between; on a real store and the sandbox's model of Azure."""

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from rollout.cli import triggering
from rollout.cli.terminal import Look, cells
from rollout.errors import PolicyError, UnavailableError
from rollout.lifecycle import Phase
from rollout.policy import ScheduleTrigger, Trigger
from rollout.policy.templates import Template
from rollout.policy.triggers import ModelTrigger
from rollout.world import EndpointRef
from tests.support.local_azure import NAME
from tests.support.stories import a_policy
from tests.support.triggering import AUTO, Yard

REF = EndpointRef(workspace="prod", name=NAME)
NIGHTLY = Trigger(schedule=ScheduleTrigger(expression="0 3 * * *", time_zone="UTC"))


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path)
    yield yard
    yard.store.close()


# --- deployments


def test_a_tagged_deployment_that_appears_without_traffic_is_started_once(yard: Yard) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto", team="food")

    assert yard.look() == ["black pending"]
    assert yard.active().created_by == "a trigger (deployment black)"
    assert yard.look() == ["black pending"]
    yard.goes_on(Phase.ROLLED_BACK)
    yard.restart()

    assert yard.look() == ["black rolled_back"]
    assert yard.told()[-1] == "deployment black: started"


def test_what_was_there_before_the_trigger_is_left_alone(yard: Yard) -> None:
    yard.azure.deploy("green", 2, rollout="auto")
    yard.wait_for()

    assert yard.look() == []
    assert yard.told() == [
        "deployment blue: known, it serves",
        "deployment green: known, it was there before the trigger",
    ]
    yard.azure.deploy("green", 3, rollout="auto")
    assert yard.look() == ["green pending"]


def test_what_appears_while_no_daemon_runs_is_started_by_the_next(yard: Yard) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto")
    yard.restart()

    assert yard.look() == ["black pending"]


@pytest.mark.parametrize("tags", [{}, {"rollout": "Auto"}, {"rollouts": "auto"}])
def test_other_tags_start_nothing(yard: Yard, tags: dict[str, str]) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, **tags)

    assert yard.look() == []


def test_what_serves_is_never_a_candidate(yard: Yard) -> None:
    yard.wait_for()
    yard.azure.deploy("blue", 3, rollout="auto")  # in place, under all traffic
    yard.look()
    yard.azure.by_hand(green=100)
    yard.azure.settle()

    assert yard.look() == []
    yard.azure.deploy("green", 2, rollout="auto")
    yard.azure.by_hand(blue=100)
    yard.azure.settle()
    assert yard.look() == []  # green served: it is no news


def test_a_deployment_that_is_scaled_or_tagged_anew_is_the_same(yard: Yard) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.goes_on(Phase.ROLLED_BACK)

    yard.azure.deploy("black", 3, instances=3, rollout="auto")
    assert yard.look() == ["black rolled_back"]
    yard.azure.deploy("black", 3, instances=1, rollout="auto", owner="anna")
    assert yard.look() == ["black rolled_back"]

    yard.azure.deploy("black", 2, rollout="auto")
    assert yard.look() == ["black pending", "black rolled_back"]


def test_one_that_is_deleted_and_created_again_is_new(yard: Yard) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.goes_on(Phase.ROLLED_BACK)
    assert yard.azure.delete("black")
    assert yard.look() == ["black rolled_back"]
    yard.azure.deploy("black", 3, rollout="auto")

    assert yard.look() == ["black pending", "black rolled_back"]


def test_a_candidate_that_was_started_by_hand_is_not_started_again(yard: Yard) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto")
    yard.service.start(yard.policies[0], by="anna", candidate="black")
    yard.goes_on(Phase.PROGRESSING)
    yard.goes_on(Phase.ROLLED_BACK)

    assert yard.look() == ["black rolled_back"]
    assert yard.told()[-1] == "deployment black: known, it was the candidate of rollout r1"


def test_an_endpoint_without_a_stable_has_no_candidate_yet(yard: Yard) -> None:
    yard.azure.by_hand(blue=0)
    yard.azure.settle()
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto")
    assert yard.look() == []

    yard.azure.by_hand(blue=100)
    yard.azure.settle()
    assert yard.look() == ["black pending"]


def test_a_policy_that_names_its_candidate_waits_for_that_one(yard: Yard) -> None:
    yard.wait_for(candidate="Black")
    yard.azure.deploy("white", 3, rollout="auto")
    assert yard.look() == []
    yard.azure.deploy("black", 3, rollout="auto")

    assert yard.look() == ["black pending"]


def test_an_endpoint_that_cannot_be_read_blinds_no_other(yard: Yard) -> None:
    yard.wait_for()
    other = a_policy(name="other", endpoint_name="menu-ranker", trigger=AUTO)
    yard.policies[:0] = [other]
    yard.azure.deploy("black", 3, rollout="auto")
    yard.azure.next_reads.append(UnavailableError("Azure did not answer."))

    with pytest.raises(UnavailableError):
        yard.look()

    assert [rollout.candidate for rollout in yard.store.rollouts()] == ["black"]
    trouble = {watched.policy.name: watched.trouble for watched in yard.watcher.watched()}
    assert trouble == {"other": "Azure did not answer.", "recommender": None}


# --- while a rollout runs


def test_the_newest_waits_until_the_running_one_has_ended(yard: Yard) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.azure.deploy("white", 2, rollout="auto")
    assert yard.look() == ["black pending"]
    yard.restart()
    yard.azure.deploy("red", 3, rollout="auto")
    assert yard.look() == ["black pending"]
    assert yard.told()[-2:] == ["deployment white: passed, deployment red came after it", "deployment red: waiting"]

    yard.goes_on(Phase.ROLLED_BACK)

    assert yard.look() == ["red pending", "black rolled_back"]
    yard.goes_on(Phase.ROLLED_BACK)
    assert yard.look() == ["red rolled_back", "black rolled_back"]


@pytest.mark.parametrize("change", ["deleted", "given traffic", "changed"])
def test_what_waits_is_looked_at_again_before_it_starts(yard: Yard, change: str) -> None:
    yard.wait_for()
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.azure.deploy("white", 2, rollout="auto")
    yard.look()
    if change == "deleted":
        yard.azure.delete("white")
    elif change == "changed":
        yard.azure.deploy("white", 3)  # and no longer tagged
    else:
        yard.azure.by_hand(blue=50, white=50)
        yard.azure.settle()
    yard.goes_on(Phase.ROLLED_BACK)

    assert yard.look() == ["black rolled_back"]
    whys = {"deleted": "it is gone", "changed": "it was changed since", "given traffic": "it serves"}
    assert yard.told()[-1] == f"deployment white: passed, {whys[change]}"


def test_replace_ends_the_running_one_first(yard: Yard) -> None:
    yard.wait_for(AUTO.model_copy(update={"when_busy": "replace"}))
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    running = yard.goes_on(Phase.PROGRESSING)
    yard.azure.deploy("white", 2, rollout="auto")

    assert yard.look() == ["black progressing"]
    assert yard.look() == ["black progressing"]
    (command,) = yard.store.pending_commands(running.id)
    assert (command.verb, command.by) == ("abort", "a trigger")
    assert command.reason == "deployment white takes its place (when_busy: replace)"

    yard.goes_on(Phase.ABORTED)
    assert yard.look() == ["white pending", "black aborted"]


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.ROLLING_BACK, Phase.PROMOTING])
def test_what_a_person_holds_or_is_about_to_end_is_not_replaced(yard: Yard, phase: Phase) -> None:
    yard.wait_for(AUTO.model_copy(update={"when_busy": "replace"}))
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    running = yard.goes_on(phase)
    yard.azure.deploy("white", 2, rollout="auto")

    yard.look()

    assert yard.store.pending_commands(running.id) == []
    assert yard.told()[-1] == "deployment white: waiting"


def test_an_undo_is_never_replaced(yard: Yard) -> None:
    """It may wait for stable to be scaled up; the new deployment waits for it."""
    yard.wait_for(AUTO.model_copy(update={"when_busy": "replace"}))
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.goes_on(Phase.SUCCEEDED)
    undo = yard.service.undo(REF, by="anna", reason="wrong dishes")
    yard.azure.deploy("white", 2, rollout="auto")

    yard.look()

    assert yard.store.pending_commands(undo.id) == []
    assert yard.told()[-1] == "deployment white: waiting"


@pytest.mark.parametrize(("failed", "verbs"), [(False, ["promote"]), (True, [])])
def test_a_release_that_is_guarded_stays_when_it_is_replaced(yard: Yard, failed: bool, verbs: list[str]) -> None:
    """After a fail that a person must decide on, nobody else does."""
    yard.wait_for(AUTO.model_copy(update={"when_busy": "replace"}))
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    running = yard.goes_on(Phase.GUARDING, fail_stands=failed)
    yard.azure.deploy("white", 2, rollout="auto")

    yard.look()

    assert [str(command.verb) for command in yard.store.pending_commands(running.id)] == verbs


def test_refuse_tells_the_running_one_once(yard: Yard) -> None:
    yard.wait_for(AUTO.model_copy(update={"when_busy": "refuse"}))
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.azure.deploy("white", 2, rollout="auto")
    yard.look()
    yard.look()
    yard.goes_on(Phase.ROLLED_BACK)

    assert yard.look() == ["black rolled_back"]
    told = "Not started: deployment white, because this rollout runs, and the policy says when_busy: refuse."
    assert [event.sentence for event in yard.store.history("r1") if event.kind == "refused"] == [told]
    assert [delivery.alert.event.sentence for delivery in yard.store.deliveries()] == [told]
    assert yard.told()[-1] == "deployment white: refused, rollout r1 ran, and the policy says: when_busy: refuse"


# --- schedules


def test_a_schedule_rolls_out_what_waits_once(yard: Yard) -> None:
    yard.wait_for(NIGHTLY)  # at two
    yard.azure.deploy("black", 3)
    assert yard.look(minutes=50) == []
    assert yard.look(minutes=10) == ["black pending"]
    yard.goes_on(Phase.ROLLED_BACK)

    assert yard.look(minutes=24 * 60) == ["black rolled_back"]

    why = "it was the candidate of rollout r1"
    assert yard.told()[-1].startswith("the schedule of 2026-11-23 03:00 UTC: passed, nothing new waits (")
    assert f"black: {why}" in yard.told()[-1]
    assert "green: it was there before the trigger" in yard.told()[-1]


def test_of_many_missed_times_one_is_made_up(yard: Yard) -> None:
    yard.wait_for(NIGHTLY)
    yard.azure.deploy("black", 3)
    yard.restart()

    assert yard.look(minutes=3 * 24 * 60) == ["black pending"]

    assert [start.what for start in yard.starts() if start.kind == "schedule"] == [
        "the schedule of 2026-11-24 03:00 UTC"
    ]


def test_a_schedule_that_finds_two_names_both(yard: Yard) -> None:
    yard.wait_for(NIGHTLY)
    yard.azure.deploy("black", 3)
    yard.azure.deploy("white", 3)

    assert yard.look(minutes=24 * 60) == []
    assert yard.told()[-1].endswith("black and white wait without traffic: name one as `candidate` in the policy")


def test_a_time_that_comes_passes_over_nothing_that_waits(yard: Yard) -> None:
    yard.wait_for(Trigger(deployment=AUTO.deployment, schedule=NIGHTLY.schedule))
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.azure.deploy("white", 2, rollout="auto")
    yard.look(minutes=60)
    assert yard.told()[-1] == "the schedule of 2026-11-22 03:00 UTC: passed, deployment white waits already"
    yard.goes_on(Phase.ROLLED_BACK)

    assert yard.look() == ["white pending", "black rolled_back"]


def test_a_first_look_makes_up_nothing(yard: Yard) -> None:
    yard.wait_for(NIGHTLY)
    yard.azure.deploy("black", 3)

    assert yard.look() == []
    assert [start.kind for start in yard.starts()] == ["deployment", "deployment"]
    (watched,) = yard.watcher.watched()
    assert f"{watched.next_due:%d %H:%M}" == "22 03:00"


# --- models

TEMPLATE = """\
# serves whatever is approved
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
name: template
model: azureml:recommender:1
environment: {name: env, version: 1.10}
environment_variables: {VERSION: "1.10"}
instance_count: 2
"""
BY_MODEL = Trigger(
    model=ModelTrigger(
        name="recommender",
        stage="Production",
        deployment=Template(names=("blue", "green"), path="template.yml", text=TEMPLATE),
    )
)


def test_a_version_in_its_stage_is_created_under_the_free_name_and_started_once(yard: Yard) -> None:
    yard.shelf.add("1")
    yard.wait_for(BY_MODEL)
    assert yard.look() == []  # it was there before
    yard.shelf.add("2", stage="Staging")
    assert yard.look() == []
    yard.shelf.add("2", stage="production")

    assert yard.look() == ["green pending"]

    policy = yard.active().policy
    assert (policy.candidate, policy.trigger) == ("green", None)
    assert policy.manifest == BY_MODEL.model.deployment.manifest(name="green", model="azureml:recommender:2")
    assert yard.active().created_by == "a trigger (model recommender:2 (production))"
    yard.goes_on(Phase.ROLLED_BACK)
    yard.shelf.add("2", stage="Archived")
    yard.look()
    yard.shelf.add("2")
    yard.restart()
    assert yard.look() == ["green rolled_back"]


def test_the_names_of_the_pair_take_turns(yard: Yard) -> None:
    yard.wait_for(BY_MODEL)
    yard.azure.by_hand(green=100)
    yard.azure.settle()
    yard.shelf.add("2")

    assert yard.look() == ["blue pending"]


def test_a_version_waits_while_both_names_have_traffic(yard: Yard) -> None:
    yard.wait_for(BY_MODEL)
    yard.azure.by_hand(blue=50, green=50)
    yard.azure.settle()
    yard.shelf.add("2")
    assert yard.look() == []
    assert yard.told()[-1] == "model recommender:2 (Production): waiting"
    yard.azure.by_hand(blue=100)
    yard.azure.settle()

    assert yard.look() == ["green pending"]


def test_of_two_new_versions_the_newest_is_rolled_out(yard: Yard) -> None:
    yard.wait_for(BY_MODEL)
    yard.shelf.add("2")
    yard.shelf.add("3")

    assert yard.look() == ["green pending"]
    assert "model recommender:2 (Production): passed, model recommender:3 (Production) came after it" in yard.told()


@pytest.mark.parametrize(
    ("stage", "why"), [("Archived", "its stage or its tags are no longer those"), (None, "it is gone or archived")]
)
def test_a_version_that_is_taken_back_while_it_waits_is_not_started(yard: Yard, stage: str | None, why: str) -> None:
    yard.wait_for(BY_MODEL)
    yard.shelf.add("2")
    yard.look()
    yard.shelf.add("3")
    yard.look()
    if stage:
        yard.shelf.add("3", stage=stage)
    else:
        yard.shelf.found.clear()
    yard.goes_on(Phase.ROLLED_BACK)

    assert yard.look() == ["green rolled_back"]
    assert why in yard.told()[-1]


def test_tags_and_registry_are_asked_for(yard: Yard) -> None:
    sought = BY_MODEL.model.model_copy(update={"stage": None, "tags": {"approved": "true"}, "registry": "shared"})
    yard.wait_for(Trigger(model=sought))
    yard.shelf.add("2", approved="false")
    assert yard.look() == []
    yard.shelf.add("3", stage=None, Approved="true")

    assert yard.look() == ["green pending"]
    assert set(yard.shelf.asked) == {("recommender", "shared")}


def test_a_template_keeps_every_other_value_as_it_is_written() -> None:
    rendered = BY_MODEL.model.deployment.manifest(name="green", model="azureml:recommender:7")

    assert rendered.name == "green"
    lines = rendered.text.splitlines()
    assert "model: azureml:recommender:7" in lines
    assert "environment: {name: env, version: 1.10}" in lines
    assert 'environment_variables: {VERSION: "1.10"}' in lines
    assert not [line for line in lines if line.startswith("name:")]


def test_a_schedule_creates_what_the_policy_brings_once(yard: Yard) -> None:
    manifest = BY_MODEL.model.deployment.manifest(name="green", model="azureml:recommender:2")
    yard.wait_for(NIGHTLY, candidate="green", manifest=manifest)

    assert yard.look(minutes=60) == ["green pending"]
    yard.goes_on(Phase.ROLLED_BACK)
    assert yard.look(minutes=24 * 60) == ["green rolled_back"]
    assert yard.told()[-1].endswith("passed, nothing new waits (template.yml is that of rollout r1)")


# --- what is shown


def _views(yard: Yard) -> list[dict[str, Any]]:
    return yard.service.triggers(endpoint=NAME, workspace="prod")


def test_the_triggers_are_told_with_what_they_saw_and_why_nothing_started(yard: Yard) -> None:
    both = Trigger(deployment=AUTO.deployment, schedule=NIGHTLY.schedule, when_busy="refuse")
    yard.wait_for(both)
    yard.azure.deploy("black", 3, rollout="auto")
    yard.look()
    yard.azure.deploy("white", 2, rollout="auto")
    yard.look()

    lines = triggering.shown(_views(yard), Look(width=80), now=yard.azure.clock.now(), zone=UTC)

    assert lines[:3] == [
        f"recommender  {NAME} in prod",
        "  waits for a deployment tagged rollout=auto, without traffic or the schedule 0",
        "  3 * * * (UTC); when busy: refuse",
    ]
    assert lines[3].startswith("  since 02:00, last look just now, next time 03:00 (in ")
    black = lines.index("  02:01  deployment black  started")
    assert lines[black + 1] == "    rollout r1"
    white = next(at for at, line in enumerate(lines) if line.endswith("deployment white  refused"))
    assert " ".join(lines[white + 1 : black]).split() == (
        ["rollout", "r1", "ran,", "and", "the", "policy", "says:", "when_busy:", "refuse"]
    )
    assert max(map(cells, lines)) <= 80
    assert yard.service.triggers(endpoint="menu-ranker", workspace=None) == []


def test_a_trigger_that_cannot_look_says_why(yard: Yard) -> None:
    yard.policies[:] = [a_policy(trigger=AUTO, workspace="elsewhere"), a_policy(name="good", trigger=AUTO)]
    with pytest.raises(PolicyError):
        yard.watcher.look()

    lost, good = yard.service.triggers(endpoint=None, workspace=None)

    assert lost["trouble"] == "workspace: elsewhere is not in the settings, which name prod."
    assert (lost["since"], good["trouble"]) == (None, None)
    lines = triggering.shown([lost], Look(width=80), now=yard.azure.clock.now(), zone=UTC)
    assert "  workspace: elsewhere is not in the settings, which name prod." in lines
    assert triggering.shown([], Look(width=80), now=yard.azure.clock.now()) == [
        "No policy has a trigger. `rollout start POLICY` starts a rollout."
    ]
    assert triggering.shown([], Look(width=80), now=yard.azure.clock.now(), of="menu-ranker") == [
        "No policy of menu-ranker has a trigger. `rollout start POLICY` starts a rollout."
    ]
