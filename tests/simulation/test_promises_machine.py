"""Anything may happen around rollouts, in any order: what Azure was asked to write never breaks a promise.

Hypothesis drives a whole daemon (ticks, triggers, commands, the real adapters to Azure) on the sandbox's model: people who
start, approve, undo, retry, freeze and change things by hand, triggers that see deployments appear, windows that open and
close, requests that are lost, late, refused or answered by a conflict, operations that fail, processes that are killed. The
promises (`tests.support.promises`) are held against the sandbox's own record of the writes that it took.
"""

import logging
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from rollout.analysis.verdict import Reason, Verdict
from rollout.errors import RolloutError, UnavailableError
from rollout.lifecycle import Rollout
from rollout.policy import DeploymentTrigger, Manifest, Policy, ScheduleTrigger, Trigger
from rollout.policy.mirror import MirrorStep
from rollout.sandbox.rules import Refusal
from tests.support.lives import check_sentence, policy, verdict
from tests.support.local_azure import NAME, Killed
from tests.support.plant import Plant
from tests.support.promises import WINDOWS, Promises, Said

QUIET = structlog.make_filtering_bound_logger(logging.CRITICAL)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
PEOPLE = st.sampled_from(["ana", "lea"])
NAMES = st.sampled_from(["blue", "green", "green", "red"])
PAIR = st.sampled_from(["blue", "green"])
VERDICTS = [
    *(verdict("pass") for _ in range(4)),  # more often than all else, so that rollouts get somewhere
    verdict("hold"),
    verdict("hold", Reason.NO_DATA),
    verdict("hold", Reason.RECOVERED),
    verdict("retreat"),
    verdict("fail"),
]
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("pause", {}),
    ("resume", {}),
    ("resume", {"drift": "adopt", "reason": "as found"}),
    ("resume", {"drift": "restore", "reason": "as it was"}),
    ("approve", {"reason": "looks good"}),
    ("reject", {}),
    ("promote", {"reason": "go on"}),
    ("promote", {"full": True, "reason": "all of it"}),
    ("abort", {"reason": "enough"}),
]
RARELY = [None, None, "ruined", "deleted"]
SPLITS = [
    None,
    None,
    {"blue": 100},
    {"green": 100},
    {"blue": 95, "green": 5},
    {"blue": 40, "green": 60},
    {"blue": 90, "red": 10},
]
FATES = [
    "killed before",
    "killed after",
    "unanswered",
    "late",
    "answer lost",
    "refused",
    "conflict",
    "throttled",
    "fails",
]
APPROVALS: list[dict[int, Any]] = [
    {},
    {},
    {1: {"timeout": "1h", "on_timeout": "rollback"}},
    {1: {"by": ["leads"], "timeout": "6h"}, 2: {"by": ["leads"]}},
    {0: {"timeout": "1h"}},
]
AFTER = ["keep", "delete", "scale_to_1", *({"keep_stable": "20m", "then": one} for one in ("keep", "delete"))]
CAPACITY = ["keep", "match_stable", {"instances": 3}]
MIRROR = [(), (), (MirrorStep(mirror_traffic=10, bake=timedelta(minutes=2)),)]
AUTO = {"rollout": "auto"}
TRIGGERS: list[Trigger | None] = [
    None,
    *(
        Trigger(deployment=DeploymentTrigger(tags=AUTO), when_busy=busy)  # type: ignore[arg-type]
        for busy in ("queue", "replace", "refuse")
    ),
    Trigger(schedule=ScheduleTrigger(expression="30 * * * *", time_zone="UTC"), when_busy="replace"),
]
GREEN = Manifest(
    name="green",
    text="""
model: azureml:recommender:3
environment: azureml:env:1
code_configuration: {code: "azureml:code:3", scoring_script: score.py}
instance_type: Standard_DS3_v2
""",
)
POLICIES = st.builds(
    lambda approve, after, trigger, windows, sizes, more: policy(
        5, 25, 100, bake=2, approve=approve, after=after, trigger=trigger, windows=windows, **sizes, **more
    ),
    st.sampled_from(APPROVALS),
    st.sampled_from(AFTER),
    st.sampled_from(TRIGGERS),
    st.sampled_from([None, None, WINDOWS, {**WINDOWS, "start_outside": "refuse"}]),
    st.fixed_dictionaries({"capacity": st.sampled_from(CAPACITY), "mirror": st.sampled_from(MIRROR)}),
    st.sampled_from(
        [{}, {"manifest": GREEN}, {"holdback": 0}, {"first_step": "auto"}, {"when": {"regression": "pause"}}]
    ),
)


class Releases(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.said = Said()
        self.plant = Plant(
            Path(self.folder.name),
            judge=self.said,
            log=structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=QUIET),
        )
        self.said.plant = self.plant
        self.promises = Promises(self.plant, self.said)
        self.plant.after_tick = self.promises.look

    @initialize(one=POLICIES, red=st.booleans(), scaled=st.booleans())
    def begin(self, one: Policy, red: bool, scaled: bool) -> None:
        self.policy = one
        self.plant.begin(one)
        if red:
            self.plant.azure.deploy("red", 3)
        if scaled:
            self.plant.scale("blue", 4)
            for name in ("blue", *(["red"] if red else [])):
                self.plant.autoscale(name, (2, 6))
        self.said.verdict = verdict("pass")
        if one.trigger is None:
            self.person_starts("ana")
        else:
            self.person_deploys("green", 2, True)

    # --- what happens

    @rule(minutes=st.sampled_from([0, 1, 3, 15, 60]))
    def time_passes(self, minutes: int) -> None:
        seconds, step = (minutes * 60, 5 * min(minutes, 6)) if minutes else (6, 2)
        self.plant.run(seconds=seconds, step=step)

    @rule(one=st.sampled_from(VERDICTS), minutes=st.sampled_from([0, 3, 6]))
    def judge_says(self, one: Verdict, minutes: int) -> None:
        self.said.verdict = one
        self.time_passes(minutes)

    @rule(name=PAIR, bad=st.booleans())
    def answers_are(self, name: str, bad: bool) -> None:
        self.plant.logs.bad[name] = 0.9 if bad else 0.0

    # --- people, and what they ask of the daemon

    @rule(by=PEOPLE)
    def person_starts(self, by: str) -> None:
        """Of what has no traffic; where it is gone, it is deployed first."""
        shown = self.plant.azure.traffic
        idle = "blue" if shown.get("green") == 100 else "green"
        if self.plant.azure.recorded.find(NAME, idle) is None and self.policy.manifest is None:
            self.person_deploys(idle, 2, False)
        with suppress(RolloutError):
            self.plant.service.start(self.policy, by=by, candidate=idle)
        self.time_passes(1)

    @rule(asked=st.sampled_from(COMMANDS), by=PEOPLE)
    def person_asks(self, asked: tuple[str, dict[str, Any]], by: str) -> None:
        verb, words = asked
        found = self.newest()
        if found is None:
            return
        with suppress(RolloutError):
            self.promises.asked.append(self.plant.ask(found, verb, by=by, **words))
        self.time_passes(0)

    @rule(by=PEOPLE)
    def person_undoes(self, by: str) -> None:
        found = self.newest()
        if found is not None:
            with suppress(RolloutError):
                self.plant.service.undo(found.ref, by=by, reason="it was better before")
        self.time_passes(1)

    @rule(by=PEOPLE, step=st.integers(1, 3))
    def person_retries(self, by: str, step: int) -> None:
        found = self.newest()
        if found is not None:
            with suppress(RolloutError):
                self.plant.service.retry(found, by=by, reason="mended", from_step=step)
        self.time_passes(1)

    @rule(everything=st.booleans(), lasts=st.sampled_from([None, timedelta(minutes=20)]))
    def person_freezes(self, everything: bool, lasts: timedelta | None) -> None:
        self.promises.froze(self.plant.freeze(everything=everything, lasts=lasts))

    @rule(everything=st.booleans())
    def person_unfreezes(self, everything: bool) -> None:
        self.promises.lifted(self.plant.unfreeze(everything=everything))

    # --- people, and what they do by hand

    @rule(split=st.sampled_from(SPLITS))
    def person_changes_the_traffic(self, split: dict[str, int] | None) -> None:
        if split is not None:
            self.plant.azure.by_hand(**split)
        self.time_passes(1)

    @rule(name=PAIR, version=st.integers(1, 3), tagged=st.booleans())
    def person_deploys(self, name: str, version: int, tagged: bool) -> None:
        with suppress(Refusal):
            self.plant.azure.deploy(name, version, **(AUTO if tagged else {}))
        self.time_passes(3)

    @rule(name=NAMES, instances=st.integers(1, 5))
    def person_scales(self, name: str, instances: int) -> None:
        with suppress(Refusal):
            self.plant.scale(name, instances)

    @rule(name=NAMES, limits=st.sampled_from([None, (1, 4), (2, 5)]))
    def person_sets_autoscale(self, name: str, limits: tuple[int, int] | None) -> None:
        with suppress(Refusal):
            self.plant.autoscale(name, limits)

    @rule(shares=st.sampled_from([{}, {}, {"green": 10}, {"red": 5}]))
    def person_mirrors(self, shares: dict[str, int]) -> None:
        with suppress(Refusal):
            self.plant.mirror(**shares)
        self.time_passes(1)

    @rule(name=PAIR, how=st.sampled_from(RARELY))
    def deployment_goes(self, name: str, how: str | None) -> None:
        with suppress(Refusal):
            if how == "ruined":
                self.plant.azure.ruin(name)
            elif how == "deleted":
                self.plant.azure.delete(name)
            else:
                self.time_passes(3)

    # --- what goes wrong

    @rule(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=3))
    def the_next_writes_meet(self, fates: list[str]) -> None:
        self.plant.azure.next_writes.extend(fates)

    @rule(times=st.integers(1, 3))
    def reads_fail(self, times: int) -> None:
        self.plant.azure.next_reads.extend(UnavailableError("Azure did not answer.") for _ in range(times))

    @rule(number=st.integers(0, 5))
    def the_process_is_killed(self, number: int) -> None:
        self.plant.azure.next_reads.extend([*[None] * number, Killed()])
        self.time_passes(1)

    # --- how it ends

    def newest(self) -> Rollout | None:
        return self.plant.active() or next(iter(reversed(self.plant.rollouts())), None)

    def teardown(self) -> None:
        try:
            if hasattr(self, "policy"):
                self.calm_down()
                self.must_be_settled()
        finally:
            self.plant.close()
            self.folder.cleanup()

    def calm_down(self) -> None:
        """Nothing goes wrong any more, nobody freezes, and the judge is content."""
        self.plant.azure.next_writes.clear()
        self.plant.azure.next_reads.clear()
        self.plant.logs.bad.clear()
        self.plant.policies.clear()
        for everything in (True, False):
            self.person_unfreezes(everything)
        self.said.verdict = verdict("pass")
        told = -1
        for _ in range(6):
            now = sum(len(self.plant.store.history(rollout.id)) for rollout in self.plant.rollouts())
            if self.plant.active() is None or now == told:
                break  # nothing new for so long: it waits for a person
            told = now
            self.plant.run(seconds=2400, step=30)

    def must_be_settled(self) -> None:
        for rollout in self.plant.rollouts():
            check_sentence(rollout.sentence)


class ReleasesForLonger(Releases):
    """The same at more length."""


TestReleases = Releases.TestCase
TestReleases.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=SLOW, derandomize=True
)
TestReleasesForLonger = pytest.mark.slow(pytest.mark.timeout(600)(ReleasesForLonger.TestCase))
ReleasesForLonger.TestCase.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=SLOW, derandomize=True
)
