"""A release among members that do what they like, people, other rollouts, a late replica, and a store that forgets.

Whatever happens in whatever order: no rollout of a later wave begins before every endpoint of those before it was promoted
and has served for the time between; what got worse or was lost lets nothing begin any more; nothing begins twice.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import TypeAdapter

from rollout.lifecycle import Facts as RolloutFacts
from rollout.lifecycle import Phase, Rollout
from rollout.lifecycle.commands import carry_out
from rollout.lifecycle.releases import (
    TRANSITIONS,
    Asked,
    Decision,
    Facts,
    Release,
    ReleasePhase,
    Seen,
    is_busy,
    new_release,
    steer,
)
from rollout.lifecycle.releases.release import LOST, PROMOTED
from rollout.lifecycle.story import Story
from rollout.policy import Policy, Target, Waves
from rollout.world import Command, CommandResult, EndpointRef, Verb
from tests.support.lives import T0, check_sentence, command, policy

RELEASE = TypeAdapter(Release)
#: How rollouts go on by themselves.
PATHS: Mapping[Phase, tuple[Phase, ...]] = {
    Phase.PENDING: (Phase.PREPARING,),
    Phase.PREPARING: (Phase.PROGRESSING, Phase.ABORTED),
    Phase.PROGRESSING: (Phase.WAITING, Phase.PROMOTING, Phase.ROLLING_BACK, Phase.PAUSED, Phase.HALTED, Phase.ABORTED),
    Phase.WAITING: (Phase.PROGRESSING, Phase.ROLLING_BACK),
    Phase.PROMOTING: (Phase.GUARDING, Phase.SUCCEEDED, Phase.ROLLING_BACK),
    Phase.GUARDING: (Phase.SUCCEEDED, Phase.ROLLING_BACK, Phase.HALTED, Phase.ABORTED),
    Phase.ROLLING_BACK: (Phase.ROLLED_BACK, Phase.HALTED),
}


def waved(shape: list[int], *, between: timedelta, on_regression: str) -> Policy:
    """Waves of so many endpoints each."""
    numbers = iter(range(100))
    order = tuple(tuple(Target(endpoint_name=f"rec-{next(numbers)}") for _ in range(size)) for size in shape)
    waves = Waves.model_validate({"order": order, "between": between, "on_regression": on_regression})
    return policy(5, 100).model_copy(update={"endpoint_name": "rec-0", "waves": waves})


class ReleaseMachine(RuleBasedStateMachine):
    """The store as values; `saved` counts the writes of the release, as the store's version does."""

    @initialize(
        shape=st.lists(st.integers(1, 3), min_size=1, max_size=4),
        minutes=st.sampled_from([0, 60]),
        on_regression=st.sampled_from(["stop", "rollback"]),
    )
    def begin(self, shape: list[int], minutes: int, on_regression: str) -> None:
        self.now = T0
        self.between = timedelta(minutes=minutes)
        one = waved(shape, between=self.between, on_regression=on_regression)
        refs = [EndpointRef(workspace="prod", name=target.endpoint_name) for target in one.waves.targets()]  # type: ignore[union-attr]
        self.rollouts: dict[str, Rollout] = {}
        self.others: dict[str, Rollout] = {}
        self.promoted_at: dict[str, datetime] = {}
        self.began: set[str] = set()
        self.ever_bad = False
        self.bad: set[str] = set()  # since when the release was not resumed
        self.pending: list[Command] = []
        self.answers: dict[str, CommandResult] = {}
        self.saved = 0
        self.release = new_release(release_id="l1", policy=one, refs=refs, by="ana", now=self.now)
        self.late = (self.saved, self.release)
        self.look()

    # --- the store

    def facts(self) -> Facts:
        seen = {
            member.rollout_id: Seen(
                rollout=self.rollouts.get(member.rollout_id), other=self.others.get(member.rollout_id)
            )
            for member in self.release.members
        }
        return Facts(seen=seen, answers=dict(self.answers))

    def save(self, version: int, decision: Decision) -> None:
        if version != self.saved:
            return
        for start in decision.starts:
            if start.rollout.undo is not None:
                self._undo(start.rollout)
                continue
            self._check_start(start.rollout)
            self.rollouts[start.rollout.id] = start.rollout
            self.others.pop(start.rollout.id, None)  # it is the newest now
        for told in decision.told:
            check_sentence(told.event.sentence)
            assert told.about is None or told.about in self.began
        self.pending += decision.commands
        self.release = RELEASE.validate_json(RELEASE.dump_json(decision.release))
        assert self.release == decision.release
        self.saved += 1

    def _undo(self, rollout: Rollout) -> None:
        """Only what is worse than a person's wish takes promotions back, each once, and only where nobody else is at work."""
        name = rollout.id.removesuffix("-undo")
        assert self.rollouts[name].phase is Phase.SUCCEEDED
        assert name not in self.others
        assert self.ever_bad
        assert not self.rollouts[name].past_fail, "a person went on past its fail"
        assert self.release.policy.waves is not None
        assert self.release.policy.waves.on_regression == "rollback"
        self.others[name] = rollout

    def _check_start(self, rollout: Rollout) -> None:
        assert rollout.id not in self.began, "started twice"
        assert not self.bad, "started although something got worse, or was lost"
        other = self.others.get(rollout.id)
        assert other is None or not is_busy(other), "the endpoint is busy"
        self.began.add(rollout.id)
        assert rollout.part_of is not None
        for member in self.release.members:
            if member.wave < rollout.part_of.wave - 1:
                since = self.promoted_at.get(member.rollout_id)
                assert since is not None, f"{member.ref} was not promoted"
                assert self.now >= since + self.between, f"{member.ref} has not served long enough"

    # --- who does what

    @rule()
    def look(self) -> None:
        facts = self.facts()
        before = self.release
        decision = steer(before, facts, self.now)
        assert self._follows(before, decision.release)
        self.save(self.saved, decision)
        again = steer(self.release, self.facts(), self.now)
        assert again.release == self.release, (self.release, again.release)
        assert (again.told, again.starts, again.commands) == ((), (), ())

    def _follows(self, before: Release, after: Release) -> bool:
        kinds = [
            ReleasePhase(event.kind.removeprefix("release_"))
            for event in after.events[len(before.events) :]
            if event.kind.removeprefix("release_") in set(ReleasePhase)
        ]
        chain = [before.phase, *kinds]
        return all(new is old or new in TRANSITIONS[old] for old, new in pairwise(chain))

    @rule()
    def a_replica_falls_asleep(self) -> None:
        self.late = (self.saved, self.release)

    @rule()
    def it_wakes_up(self) -> None:
        version, release = self.late
        self.save(version, steer(release, self.facts(), self.now))

    @rule(seconds=st.sampled_from([1, 60, 1800, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.rollouts)
    @rule(data=st.data())
    def a_rollout_goes_on(self, data: st.DataObject) -> None:
        running = [one for one in self.rollouts.values() if one.phase in PATHS]
        if not running:
            return
        rollout = data.draw(st.sampled_from(sorted(running, key=lambda one: one.id)), label="rollout")
        phase = data.draw(st.sampled_from(PATHS[rollout.phase]), label="phase")
        failed = phase is Phase.PAUSED and data.draw(st.booleans(), label="failed")
        changes = {"paused_because": "regression" if failed else "no_data", "fail_stands": failed}
        self.put(replace(rollout, phase=phase, **changes if phase is Phase.PAUSED else {}))

    @precondition(lambda self: self.rollouts)
    @rule(hurry=st.integers(0, 3), phase=st.sampled_from([Phase.GUARDING, Phase.SUCCEEDED]))
    def rollouts_are_promoted(self, hurry: int, phase: Phase) -> None:
        """So that later waves are reached."""
        for rollout in [*self.rollouts.values()][hurry:]:
            if not rollout.ended and rollout.phase is not Phase.ROLLING_BACK:
                past_fail = rollout.past_fail + rollout.fail_stands
                done = {"stable": "blue", "candidate": "green", "fail_stands": False, "past_fail": past_fail}
                self.put(replace(rollout, phase=phase, **done))

    def put(self, rollout: Rollout) -> None:
        self.rollouts[rollout.id] = rollout
        if rollout.phase in PROMOTED:
            self.promoted_at.setdefault(rollout.id, self.now)
        if rollout.phase in LOST or rollout.fail_stands:
            self.bad.add(rollout.id)
            self.ever_bad = True
        elif rollout.id in self.bad and rollout.id not in {name for name, one in self.others.items() if one}:
            self.bad.discard(rollout.id)  # a person went on past the fail

    @rule()
    def rollouts_answer(self) -> None:
        for asked in self.pending:
            self._answer(asked)
        self.pending = []

    def _answer(self, asked: Command) -> None:
        rollout = self.rollouts.get(asked.rollout_id)
        if rollout is None or rollout.ended:
            self.answers[asked.id] = CommandResult(command_id=asked.id, accepted=False, sentence="Too late.")
            return
        if rollout.phase is Phase.PENDING:
            rollout = replace(rollout, phase=Phase.PREPARING)  # as every tick begins
        story = Story(replace(rollout, stable="blue", candidate="green", share=max(rollout.share, 5)), self.now)
        carry_out(story, asked, RolloutFacts())
        self.put(story.rollout)
        (self.answers[asked.id],) = story.results

    @precondition(lambda self: self.rollouts)
    @rule(data=st.data(), verb=st.sampled_from([Verb.ABORT, Verb.RESUME, Verb.PAUSE]))
    def a_person_meddles_with_one(self, data: st.DataObject, verb: Verb) -> None:
        name = data.draw(st.sampled_from(sorted(self.rollouts)), label="rollout")
        self._answer(replace(command(verb, reason="because"), rollout_id=name))

    @rule(verb=st.sampled_from(["pause", "resume", "resume", "abort"]), reason=st.sampled_from([None, "because"]))
    def a_person_asks_the_whole(self, verb: str, reason: str | None) -> None:
        before = self.release
        decision = steer(before, self.facts(), self.now, Asked(verb=verb, by="ana", reason=reason))  # type: ignore[arg-type]
        assert decision.accepted is not None
        check_sentence(decision.answer.replace("`abort` needs", "Abort needs"))
        if not decision.accepted:
            assert decision.release == before
            assert (decision.told, decision.starts, decision.commands) == ((), (), ())
            return
        self.save(self.saved, decision)
        if verb == "abort":
            assert self.release.wanted == "rollback"

    @precondition(lambda self: self.rollouts)
    @rule(data=st.data())
    def another_rollout_comes(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(self.release.members), label="member")
        own = self.rollouts.get(member.rollout_id)
        if own is not None and not own.ended:
            return
        one = next(iter(self.rollouts.values()))
        sentence = "Step 1 of 2 began: blue 95 % + green 5 %."
        if member.undone is not None and not self.others[member.rollout_id].ended:
            return
        phase = data.draw(st.sampled_from([Phase.ROLLED_BACK, Phase.PROGRESSING, Phase.GUARDING]), label="phase")
        self.others[member.rollout_id] = replace(one, id="other", phase=phase, sentence=sentence)
        if member.started:
            self.bad.add(member.rollout_id)

    @rule(phase=st.sampled_from([Phase.PREPARING, Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED]))
    def undos_go_on(self, phase: Phase) -> None:
        for name, one in self.others.items():
            if one.undo is not None and not one.ended:
                self.others[name] = replace(one, phase=phase)

    @rule()
    def the_store_forgets(self) -> None:
        for rollout in [*self.rollouts.values()]:
            if rollout.ended:
                self.look()  # it remembers for months
                del self.rollouts[rollout.id]

    # --- what always holds

    @invariant()
    def once_ended_nothing_moves(self) -> None:
        release = self.release
        if release.ended:
            assert all(member.settled for member in release.members)
        if release.phase is ReleasePhase.SUCCEEDED:
            assert all(member.promoted for member in release.members)


TestReleases = ReleaseMachine.TestCase
TestReleases.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
