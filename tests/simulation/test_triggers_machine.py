"""Whatever people, Azure and restarts do: a trigger starts each thing once, never what serves, and one at a time."""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rollout.errors import RolloutError, UnavailableError
from rollout.lifecycle import Phase
from rollout.policy import ScheduleTrigger, Trigger
from rollout.policy.templates import Template
from rollout.policy.triggers import ModelTrigger
from rollout.sandbox.rules import Refusal
from tests.support.local_azure import NAME
from tests.support.triggering import AUTO, Yard

NAMES = st.sampled_from(["blue", "green", "black"])
BY_MODEL = ModelTrigger(
    name="recommender", stage="Production", deployment=Template(names=("blue", "green"), text="instance_count: 1")
)
ENDS = (Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUCCEEDED, Phase.HALTED)
RUNS = (Phase.PROGRESSING, Phase.PAUSED, Phase.GUARDING, Phase.ROLLING_BACK)


class Triggers(RuleBasedStateMachine):
    """One endpoint and a policy with every kind of trigger."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.yard = Yard(Path(self._folder.name))
        self.began: dict[str, str] = {}  # rollout -> what it rolls out

    @initialize(when_busy=st.sampled_from(["queue", "replace", "refuse"]))
    def read_the_policy(self, when_busy: str) -> None:
        schedule = ScheduleTrigger(expression="*/30 * * * *")
        self.yard.wait_for(
            Trigger(deployment=AUTO.deployment, schedule=schedule, model=BY_MODEL, when_busy=when_busy)  # type: ignore[arg-type]
        )

    @rule(
        name=NAMES, version=st.integers(1, 2), instances=st.integers(1, 3), tagged=st.sampled_from([True, True, False])
    )
    def deploy(self, name: str, version: int, instances: int, tagged: bool) -> None:
        tags: dict[str, Any] = {"rollout": "auto"} if tagged else {}
        with suppress(Refusal):
            self.yard.azure.deploy(name, version, instances=instances, **tags)
        self._look()

    @rule(instances=st.integers(1, 3))
    def scale_all(self, instances: int) -> None:
        """Nothing of this makes anything new."""
        for found in self.yard.azure.cloud.deployments(NAME):
            version = int((found.spec.model or "1").rpartition("/")[2])
            with suppress(Refusal):
                self.yard.azure.deploy(found.name, version, instances=instances, **found.spec.tags)
        self._look()

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.yard.azure.delete(name)
        self._look()

    @rule(name=NAMES, share=st.sampled_from([0, 0, 50, 100]))
    def shift(self, name: str, share: int) -> None:
        other = "blue" if name != "blue" else "green"
        with suppress(Refusal):
            self.yard.azure.by_hand(**{name: share, other: 100 - share})
            self.yard.azure.settle()

    @rule(version=st.integers(1, 4), stage=st.sampled_from(["Production", "Archived"]))
    def stage(self, version: int, stage: str) -> None:
        self.yard.shelf.add(str(version), stage=stage)
        self._look()

    @rule(minutes=st.sampled_from([1, 1, 31, 24 * 60]), fails=st.sampled_from([False, False, False, True]))
    def look(self, minutes: int, fails: bool) -> None:
        if fails:
            self.yard.azure.next_reads.append(UnavailableError("Azure did not answer."))
        self._look(minutes)

    def _look(self, minutes: int = 1) -> None:
        serving = set(self.yard.azure.traffic)
        with suppress(RolloutError):
            self.yard.look(minutes=minutes)
        for rollout in self.yard.store.rollouts():
            if rollout.id not in self.began:
                assert rollout.candidate not in serving, f"{rollout.created_by} started what serves"
                self.began[rollout.id] = self._thing(rollout.candidate or "", rollout.created_by)

    def _thing(self, candidate: str, by: str) -> str:
        if "model" in by:
            return by
        return f"{candidate} {self.yard.azure.deployments(NAME)[candidate].identity}"

    @rule()
    def restart(self) -> None:
        self.yard.restart()

    @precondition(lambda self: self.yard.store.rollouts(active_only=True))
    @rule(phase=st.sampled_from([*ENDS, *ENDS, *RUNS]))
    def goes_on(self, phase: Phase) -> None:
        there = self.yard.azure.deployments(NAME)
        found = self.yard.active()
        if {"blue" if found.candidate != "blue" else "green", found.candidate} <= set(there):
            self.yard.goes_on(phase)
        else:
            self.yard.ends(Phase.ABORTED)
        self._look()

    @invariant()
    def nothing_is_started_twice(self) -> None:
        things = list(self.began.values())
        assert len(things) == len(set(things)), things

    @invariant()
    def one_runs_at_a_time(self) -> None:
        assert len(self.yard.store.rollouts(active_only=True)) <= 1

    @invariant()
    def what_a_person_holds_is_left_alone(self) -> None:
        for rollout in self.yard.store.rollouts(active_only=True):
            if rollout.phase is Phase.PAUSED:
                orders = self.yard.store.pending_commands(rollout.id)
                assert all(order.at <= rollout.phase_since for order in orders)

    def teardown(self) -> None:
        self.yard.store.close()
        self._folder.cleanup()


Triggers.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTriggers = Triggers.TestCase
