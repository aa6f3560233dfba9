"""A release over several endpoints: what begins when, what one bad endpoint means, what people may ask."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from rollout.lifecycle import Phase, Rollout
from rollout.lifecycle.releases import (
    TRANSITIONS,
    Asked,
    Decision,
    Facts,
    Member,
    Release,
    ReleasePhase,
    Seen,
    new_release,
    steer,
)
from rollout.lifecycle.rollout import Original
from rollout.policy import Policy, Waves, parse_policy
from rollout.world import Command, CommandResult, EndpointRef, Severity, Verb
from tests.support.lives import MINUTE, T0, check_sentence

TEXT = """
name: recommender
candidate: green
waves:
  order:
    - [rec-weu]
    - [rec-neu, {endpoint_name: rec-eus, workspace: eus, candidate: red}]
  between: 2h
  on_regression: %s
"""


def waved(on_regression: str = "stop", **changes: Any) -> Policy:
    policy = parse_policy(TEXT % on_regression, file="waves.yaml")
    assert isinstance(policy.waves, Waves)
    return policy.model_copy(update={"waves": policy.waves.model_copy(update=changes)})


class Story:
    """A release, the rollouts that it began, and a clock."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.now: datetime = T0
        one = policy or waved()
        assert one.waves is not None
        refs = [
            EndpointRef(workspace=target.workspace or "prod", name=target.endpoint_name)
            for target in one.waves.targets()
        ]
        self.release: Release = new_release(release_id="l1", policy=one, refs=refs, by="ana", now=T0)
        self.rollouts: dict[str, Rollout] = {}
        self.others: dict[str, Rollout] = {}
        self.commands: list[Command] = []
        self.answers: dict[str, CommandResult] = {}
        self.severities: list[Severity | None] = []

    def look(self, asked: Asked | None = None, *, minutes: int = 0) -> Decision:
        self.now += minutes * MINUTE
        seen = {
            member.rollout_id: Seen(rollout=self._of(member), other=self.others.get(member.ref.name))
            for member in self.release.members
        }
        decision = steer(self.release, Facts(seen=seen, answers=self.answers), self.now, asked)
        for told in decision.told:
            check_sentence(told.event.sentence)
        self.severities += [told.event.severity for told in decision.told]
        self.release = decision.release
        self.commands += decision.commands
        for start in decision.starts:
            (self.others if start.rollout.undo else self.rollouts)[start.rollout.ref.name] = start.rollout
        return decision

    def _of(self, member: Member) -> Rollout | None:
        return self.rollouts.get(member.ref.name)

    def put(self, endpoint: str, phase: Phase, sentence: str = "It is so.", **changes: Any) -> None:
        names = {"stable": "blue", "candidate": "green"}
        self.rollouts[endpoint] = replace(
            self.rollouts[endpoint], phase=phase, sentence=sentence, **{**names, **changes}
        )

    def promote(self, *endpoints: str) -> None:
        for endpoint in endpoints:
            self.put(endpoint, Phase.SUCCEEDED)

    def ask(self, verb: Any, reason: str | None = None) -> Decision:
        return self.look(Asked(verb=verb, by="ana", reason=reason))

    def given(self) -> list[tuple[str, str]]:
        """The commands since the last time, as (endpoint, verb)."""
        names = {member.rollout_id: member.ref.name for member in self.release.members}
        found = [(names[command.rollout_id], str(command.verb)) for command in self.commands]
        self.commands = []
        return found


def second_wave(policy: Policy | None = None) -> Story:
    """The first wave is promoted and has served; the second one runs."""
    story = Story(policy)
    story.look()
    story.promote("rec-weu")
    story.look()
    story.look(minutes=120)
    assert set(story.rollouts) == {"rec-weu", "rec-neu", "rec-eus"}
    story.put("rec-neu", Phase.PROGRESSING)
    story.put("rec-eus", Phase.PROGRESSING)
    story.look()
    return story


def test_every_phase_has_its_row() -> None:
    assert set(TRANSITIONS) == set(ReleasePhase)
    assert all(not TRANSITIONS[phase] for phase in ReleasePhase if phase.ended)


def test_a_release_goes_wave_by_wave() -> None:
    story = Story()
    assert story.release.sentence == "ana asked for a release of recommender: 3 endpoints in 2 waves."
    story.look()
    assert set(story.rollouts) == {"rec-weu"}
    first = story.rollouts["rec-weu"]
    assert (first.id, first.policy.endpoint_name, first.policy.waves) == ("l1-1", "rec-weu", None)
    assert first.sentence == "ana (release recommender, wave 1) asked for a rollout of rec-weu with policy recommender."
    story.promote("rec-weu")
    story.look()
    assert story.release.phase is ReleasePhase.BETWEEN
    assert story.release.sentence == (
        "Wave 1 of 2 is done: rec-weu is promoted. Wave 2 begins at Sun 04:00 UTC, if nothing gets worse until then."
    )
    story.look(minutes=119)
    assert set(story.rollouts) == {"rec-weu"}
    story.look(minutes=1)
    assert story.release.sentence == "Wave 2 of 2 begins: rec-neu, rec-eus."
    assert {name: one.candidate for name, one in story.rollouts.items() if name != "rec-weu"} == {
        "rec-neu": "green",
        "rec-eus": "red",
    }
    story.promote("rec-neu", "rec-eus")
    story.look()
    assert story.release.phase is ReleasePhase.SUCCEEDED
    assert story.release.sentence == "Released recommender: all 3 endpoints have the new deployment."
    assert story.given() == []
    assert Severity.ACTION not in story.severities


def test_without_time_between_the_next_wave_begins_at_once() -> None:
    story = Story(waved(between=timedelta(0)))
    story.look()
    story.promote("rec-weu")
    story.look()
    assert set(story.rollouts) == {"rec-weu", "rec-neu", "rec-eus"}


def test_a_worse_endpoint_lets_the_others_stand_still() -> None:
    story = second_wave()
    story.put("rec-eus", Phase.ROLLING_BACK, "Rolling back to blue 100 %: errors.", ending=Phase.ROLLED_BACK)
    story.look()
    assert story.release.phase is ReleasePhase.STOPPING
    assert story.release.sentence == (
        "Stopped at wave 2 of 2, because rec-eus got worse: Rolling back to blue 100 %: errors. Others that run stand still. "
        "Then `rollout resume rec-neu` goes on, `rollout abort rec-neu --reason …` goes back."
    )
    assert story.severities[-1] is Severity.ACTION
    assert story.given() == [("rec-neu", "pause")]
    story.put("rec-neu", Phase.PAUSED, paused_because="person")
    story.put("rec-eus", Phase.ROLLED_BACK)
    story.look(minutes=60)
    assert (story.release.phase, story.given()) == (ReleasePhase.STOPPING, [])
    story.promote("rec-neu")
    story.look()
    assert story.release.sentence == "Stopped: 2 of 3 endpoints have the new deployment; rec-eus got worse."


def test_what_has_not_begun_yet_never_begins() -> None:
    story = Story(waved(order=waved().waves.order[::-1]))  # type: ignore[union-attr]
    story.look()
    story.put("rec-neu", Phase.PREPARING)
    story.put("rec-eus", Phase.HALTED, "Halted, act now: stable is gone.")
    story.look()
    assert story.release.sentence.endswith(
        "Others that run stand still, and wave 2 never begins. Then `rollout resume rec-neu` goes on, `rollout abort rec-neu "
        "--reason …` goes back."
    )
    assert story.given() == [("rec-neu", "abort")]  # before it moves any traffic
    story.put("rec-neu", Phase.ABORTED)
    story.look()
    assert story.release.phase is ReleasePhase.STOPPED
    story.look(minutes=1000)
    assert "rec-weu" not in story.rollouts


def test_rollback_takes_the_others_back() -> None:
    story = second_wave(waved("rollback"))
    story.put("rec-eus", Phase.ROLLED_BACK, "Rolled back.", ending=Phase.ROLLED_BACK)
    story.look()
    assert story.given() == [("rec-neu", "abort")]
    assert "Others that run and those that are done go back too." in story.release.sentence
    story.look()
    assert story.given() == []
    assert "so it cannot go on: rec-eus got worse." in story.ask("resume").answer


def test_one_that_cannot_go_back_is_told() -> None:
    story = second_wave(waved("rollback"))
    story.put("rec-eus", Phase.ROLLED_BACK, "Rolled back.", ending=Phase.ROLLED_BACK)
    story.look()
    (command,) = story.commands
    why = "Traffic cannot go back: blue is gone."
    story.answers[command.id] = CommandResult(command_id=command.id, accepted=False, sentence=why)
    story.look()
    assert story.release.sentence == f"Endpoint rec-neu does not go back: {why}"
    assert story.severities[-1] is Severity.ACTION


def test_a_persons_abort_is_no_regression() -> None:
    story = second_wave(waved("rollback"))
    story.put("rec-eus", Phase.ROLLING_BACK, "Rolling back: aborted by bob.", ending=Phase.ABORTED)
    story.look()
    assert story.given() == [("rec-neu", "pause")]
    assert "because rec-eus is not promoted: Rolling back: aborted by bob." in story.release.sentence


def test_a_fail_that_is_left_to_a_person_stops_the_others_until_it_is_decided() -> None:
    story = second_wave()
    story.put("rec-eus", Phase.PAUSED, "Paused: the candidate failed.", paused_because="regression", fail_stands=True)
    story.look()
    assert story.given() == [("rec-neu", "pause")]
    story.put("rec-neu", Phase.PAUSED, "Paused.", paused_because="person")
    refused = story.ask("resume")
    assert refused.accepted is False
    assert refused.answer.startswith(
        "Endpoint rec-eus has failed: say first what becomes of it with `rollout resume rec-eus"
    )
    story.put("rec-eus", Phase.PROGRESSING, fail_stands=False)
    resumed = story.ask("resume", "it was a false alarm")
    assert resumed.answer == "Resumed by ana: it was a false alarm. Wave 2 of 2 goes on."
    assert story.given() == [("rec-neu", "resume")]
    story.promote("rec-neu", "rec-eus")
    story.look()
    assert story.release.phase is ReleasePhase.SUCCEEDED


def test_an_endpoint_of_an_earlier_wave_that_has_another_rollout_stops_the_release() -> None:
    story = Story()
    story.look()
    story.promote("rec-weu")
    story.look()
    other = replace(story.rollouts["rec-weu"], id="r9", phase=Phase.PROGRESSING, sentence="Step 1 of 4 began.")
    story.others["rec-weu"] = other
    story.look(minutes=1000)
    assert story.release.phase is ReleasePhase.STOPPED
    assert any(
        "rec-weu has a rollout that is not of this release: Step 1" in one.sentence for one in story.release.events
    )
    assert set(story.rollouts) == {"rec-weu"}


def test_a_busy_endpoint_waits_for_its_turn_and_says_so_once() -> None:
    story = Story()
    story.look()
    other = replace(story.rollouts["rec-weu"], id="r9", phase=Phase.PROGRESSING, sentence="Step 1 of 4 began.")
    story.others["rec-neu"] = other
    story.promote("rec-weu")
    story.look()
    story.look(minutes=120)
    assert set(story.rollouts) == {"rec-weu", "rec-eus"}
    assert story.release.sentence == "Endpoint rec-neu has another rollout, and waits for its end: Step 1 of 4 began."
    told = len(story.release.events)
    story.look(minutes=60)
    assert len(story.release.events) == told
    story.others["rec-neu"] = replace(other, phase=Phase.SUCCEEDED, retire="delete")
    story.look()
    assert "rec-neu" not in story.rollouts  # the store would refuse it, and with it all that is decided
    story.others["rec-neu"] = replace(other, phase=Phase.SUCCEEDED)
    story.look()
    assert "rec-neu" in story.rollouts


def test_a_pause_holds_all_of_it_and_resume_goes_on() -> None:
    story = second_wave()
    paused = story.ask("pause", "lunch")
    assert (paused.accepted, story.given()) == (True, [("rec-neu", "pause"), ("rec-eus", "pause")])
    assert "`rollout release resume recommender` goes on." in paused.answer
    story.put("rec-neu", Phase.PAUSED, paused_because="person")
    story.put("rec-eus", Phase.PAUSED, paused_because="drift")
    assert story.ask("pause").accepted is False
    story.ask("resume")
    assert story.given() == [("rec-neu", "resume")]  # the other one waits for another answer
    story.put("rec-neu", Phase.PROGRESSING)
    story.ask("pause")
    assert story.given() == [("rec-neu", "pause")]


def test_a_second_pause_is_for_one_that_a_person_resumed_by_itself_too() -> None:
    story = second_wave()
    story.ask("pause")
    story.put("rec-neu", Phase.PAUSED, paused_because="person")
    story.look()
    story.put("rec-neu", Phase.PROGRESSING)  # `rollout resume rec-neu`
    story.ask("resume")
    story.given()
    story.ask("pause")
    assert ("rec-neu", "pause") in story.given()


def test_between_waves_a_pause_lets_nothing_begin() -> None:
    story = Story()
    story.look()
    story.promote("rec-weu")
    story.look()
    story.ask("pause")
    story.look(minutes=1000)
    assert set(story.rollouts) == {"rec-weu"}
    story.ask("resume")
    assert set(story.rollouts) == {"rec-weu", "rec-neu", "rec-eus"}


def test_an_abort_needs_a_reason_and_says_what_stays() -> None:
    story = second_wave()
    assert story.ask("abort").accepted is False
    aborted = story.ask("abort", "bad model")
    assert aborted.answer == (
        "Aborting, asked by ana: bad model. What runs of wave 2 of 2 goes back, and no wave begins. rec-weu keeps the new "
        "deployment."
    )
    assert story.given() == [("rec-neu", "abort"), ("rec-eus", "abort")]
    story.put("rec-neu", Phase.ABORTED)
    story.put("rec-eus", Phase.ABORTED)
    story.look()
    assert story.release.phase is ReleasePhase.ABORTED
    assert story.release.sentence == "Aborted: 1 of 3 endpoints has the new deployment; aborted by ana: bad model."
    assert story.ask("resume").answer.startswith("This release has ended: Aborted:")


def test_an_abort_by_a_person_takes_back_what_has_failed_and_waits_for_one() -> None:
    story = second_wave()
    story.put("rec-eus", Phase.PAUSED, "Paused: the candidate failed.", paused_because="regression", fail_stands=True)
    story.look()
    story.given()
    story.ask("abort", "bad model")
    assert story.given() == [("rec-neu", "abort"), ("rec-eus", "abort")]


def test_a_rollout_that_was_forgotten_is_not_begun_again() -> None:
    story = Story()
    story.look()
    story.promote("rec-weu")
    story.look()
    del story.rollouts["rec-weu"]
    story.look(minutes=120)
    assert set(story.rollouts) == {"rec-neu", "rec-eus"}


@pytest.mark.parametrize("verb", [Verb.PAUSE])
def test_a_pause_that_came_too_early_is_given_again(verb: Verb) -> None:
    story = second_wave()
    story.ask("pause")
    first = story.commands[0]
    story.answers[first.id] = CommandResult(command_id=first.id, accepted=False, sentence="Not now.")
    story.given()
    story.look()
    assert story.given() == [("rec-neu", str(verb))]


def test_guarded_endpoints_count_as_promoted_and_go_back_with_the_others() -> None:
    story = Story(waved("rollback"))
    story.look()
    story.put("rec-weu", Phase.GUARDING)
    story.look()
    assert story.release.phase is ReleasePhase.BETWEEN
    story.look(minutes=120)
    story.put("rec-neu", Phase.GUARDING)
    story.put("rec-eus", Phase.GUARDING)
    story.look()
    assert story.release.phase is ReleasePhase.RUNNING
    assert story.release.sentence.startswith("Every endpoint has the new deployment. Old ones are kept for a while")
    story.put("rec-eus", Phase.ROLLING_BACK, "Rolling back to blue 100 %: errors.", ending=Phase.ROLLED_BACK)
    story.look()
    assert story.given() == [("rec-weu", "abort"), ("rec-neu", "abort")]
    assert story.release.phase is ReleasePhase.STOPPING
    for endpoint in ("rec-weu", "rec-neu"):
        story.put(endpoint, Phase.ABORTED)
    story.put("rec-eus", Phase.ROLLED_BACK)
    story.look()
    assert story.release.sentence == "Stopped: 0 of 3 endpoints have the new deployment; rec-eus got worse."


def test_what_stops_leaves_guarded_endpoints_alone() -> None:
    story = Story()
    story.look()
    story.put("rec-weu", Phase.GUARDING)
    story.look(minutes=1)
    story.look(minutes=120)
    story.put("rec-neu", Phase.ROLLED_BACK, ending=Phase.ROLLED_BACK)
    story.put("rec-eus", Phase.ABORTED)
    story.look()
    assert (story.release.phase, story.given()) == (ReleasePhase.STOPPED, [])


def test_a_rollback_undoes_what_was_finished() -> None:
    story = second_wave(waved("rollback"))
    story.put("rec-eus", Phase.ROLLING_BACK, "Rolling back to blue 100 %: errors.", ending=Phase.ROLLED_BACK)
    story.look()
    assert "Others that run and those that are done go back too." in story.release.sentence
    undo = story.others["rec-weu"]
    assert (undo.id, undo.created_by, undo.phase) == ("l1-1-undo", "release recommender", Phase.PENDING)
    assert undo.undo is not None
    story.put("rec-eus", Phase.ROLLED_BACK)
    story.put("rec-neu", Phase.ABORTED)
    assert not story.look().starts
    assert story.release.phase is ReleasePhase.STOPPING
    story.others["rec-weu"] = replace(undo, phase=Phase.ROLLED_BACK)
    story.look()
    assert story.release.sentence == "Stopped: 0 of 3 endpoints have the new deployment; rec-eus got worse."


def test_a_rollback_does_not_wait_for_what_a_promotion_still_owes() -> None:
    """Waiting for the old stable to be deleted would leave nothing to go back to."""
    story = second_wave(waved("rollback"))
    story.put("rec-weu", Phase.SUCCEEDED, retire="delete", originals=(Original(deployment="green", instances=1),))
    story.put("rec-eus", Phase.ROLLING_BACK, "Rolling back to blue 100 %: errors.", ending=Phase.ROLLED_BACK)
    story.look()
    assert story.others["rec-weu"].undo is not None


def test_an_undo_that_cannot_be_leaves_the_new_deployment() -> None:
    story = second_wave(waved("rollback"))
    story.put("rec-eus", Phase.ROLLED_BACK, "Rolled back.", ending=Phase.ROLLED_BACK)
    story.put("rec-neu", Phase.ROLLED_BACK, "Rolled back.", ending=Phase.ROLLED_BACK)
    story.look()
    story.others["rec-weu"] = replace(story.others["rec-weu"], phase=Phase.ABORTED)
    story.look()
    assert story.release.sentence == "Stopped: 1 of 3 endpoints has the new deployment; rec-neu got worse."


def test_an_endpoint_that_people_have_taken_over_is_not_undone() -> None:
    story = second_wave(waved("rollback"))
    story.put("rec-eus", Phase.ROLLED_BACK, "Rolled back.", ending=Phase.ROLLED_BACK)
    story.others["rec-weu"] = replace(story.rollouts["rec-weu"], id="r9", phase=Phase.PROGRESSING)
    assert not story.look().starts


def test_what_a_person_took_past_a_fail_is_not_undone() -> None:
    story = second_wave(waved("rollback"))
    story.put("rec-eus", Phase.PAUSED, "Paused: the candidate failed.", paused_because="regression", fail_stands=True)
    story.look()
    assert set(story.others) == {"rec-weu"}
    story.put("rec-eus", Phase.SUCCEEDED, fail_stands=False, past_fail=1)
    assert not story.look().starts


def test_an_abort_by_a_person_undoes_nothing() -> None:
    story = second_wave(waved("rollback"))
    assert not story.ask("abort", "bad model").starts


def test_a_guarding_rollout_gives_way() -> None:
    story = Story()
    story.look()
    story.others["rec-neu"] = replace(story.rollouts["rec-weu"], id="r9", phase=Phase.GUARDING)
    story.promote("rec-weu")
    story.look()
    story.look(minutes=120)
    assert "rec-neu" in story.rollouts
