"""Anything may happen, in any order: the rollout never does what it must not, and always comes to an end or to a person.

Hypothesis drives the real reconciler, collector, lifecycle and store on the sandbox's model of Azure: verdicts and commands
at random, a person who changes traffic and deployments, writes that are lost, late, refused or answered by a conflict,
operations that fail, reads that fail, a process that is killed around its write, time that passes.
"""

import itertools
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
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rollout.analysis.verdict import Judgement, Reason, Verdict
from rollout.errors import UnavailableError
from rollout.lifecycle import TRANSITIONS, Phase, Rollout
from rollout.policy import Policy
from rollout.sandbox.rules import Refusal
from rollout.windows import allowed
from rollout.world import Freeze, Split
from tests.support.lives import REF, check_sentence, policy, verdict
from tests.support.local_azure import NAME, Killed
from tests.support.site import Site

P = Phase
QUIET = structlog.make_filtering_bound_logger(logging.CRITICAL)
VERDICTS = [
    verdict("pass"),
    verdict("hold"),
    verdict("hold", Reason.NO_DATA),
    verdict("hold", Reason.DOUBT),
    verdict("hold", Reason.SHARED_INCIDENT),
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
FATES = ["killed before", "killed after", "unanswered", "late", "answer lost", "refused", "conflict", "throttled"]
SPLITS = [
    {"blue": 100},
    {"blue": 95, "green": 5},
    {"blue": 60, "green": 40},
    {"green": 100},
    {"blue": 80, "green": 10, "red": 10},
    {"blue": 90, "red": 10},
]
POLICIES = {
    "plain": policy(),
    "asks": policy(approve={1: {"timeout": "1h", "on_timeout": "rollback"}}),
    "asks first": policy(approve={0: {"timeout": "1h"}}),
    "sized": policy(20, 50, 100, first_step="auto"),
    "all": policy(holdback=0),
    "in windows": policy(
        approve={1: {"timeout": "2h"}},
        windows={"allow": [f"mon-sun {hour:02}:00-{hour:02}:45 UTC" for hour in range(24)]},
    ),
    "alerts": policy(when={"regression": "alert"}),
    "guards": policy(after={"keep_stable": "30m", "then": "keep"}),
    "pauses": policy(when={"regression": "pause", "doubt": {"extend": "10m", "then": "rollback"}}),
}
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
GOES_UP = {"approve", "promote", "resume"}


class Said:
    """A judge who says what the machine says."""

    def __init__(self) -> None:
        self.verdict: Verdict = verdict("hold")

    def __call__(self, judgement: Judgement, **_: object) -> tuple[Judgement, Verdict]:
        return judgement, self.verdict


class Anything(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.said = Said()
        self.site = Site(
            Path(self.folder.name),
            judge=self.said,
            log=structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=QUIET),
        )
        self.asked: dict[str, str] = {}
        self.ours: set[Split] = {Split.of({"blue": 100})}

    @initialize(name=st.sampled_from(sorted(POLICIES)), red=st.booleans())
    def begin(self, name: str, red: bool) -> None:
        self.site.azure.begin()
        if red:
            self.site.azure.deploy("red", 3)
        self.site.azure.before_put = self.about_to_put
        self.started: Policy = POLICIES[name]
        if red:
            self.started = self.started.model_copy(update={"candidate": "green"})
        self.before = self.site.start(self.started)
        self.pass_time(2)

    # --- what happens

    @rule(minutes=st.sampled_from([0, 0, 1, 1, 3, 15]))
    def time_passes(self, minutes: int) -> None:
        self.pass_time(minutes)

    def pass_time(self, minutes: int, *, step: int = 5) -> None:
        """Minute by minute, or for some seconds; whoever is killed starts again."""
        seconds, step = (minutes * 60, step * min(minutes, 3)) if minutes else (6, 2)
        for _ in range(seconds // step):
            try:
                self.site.run(seconds=step, step=step)
            except Killed:
                self.site.restart()
            self.look_at_the_change()

    @rule(one=st.sampled_from(VERDICTS))
    def judge_says(self, one: Verdict) -> None:
        self.said.verdict = one

    @rule(asked=st.sampled_from(COMMANDS))
    def person_asks(self, asked: tuple[str, dict[str, Any]]) -> None:
        verb, words = asked
        self.asked[self.site.ask(verb, **words)] = verb
        self.pass_time(0)

    @rule(frozen=st.booleans(), everything=st.booleans(), minutes=st.sampled_from([None, 5, 60]))
    def person_freezes_or_lifts(self, frozen: bool, everything: bool, minutes: int | None) -> None:
        now, place = self.site.azure.clock.now(), None if everything else REF
        if frozen:
            until = None if minutes is None else now + timedelta(minutes=minutes)
            freeze = Freeze(id=f"f{now.isoformat()}", endpoint=place, reason="a test", by="ana", at=now, until=until)
            self.site.store.freeze(freeze)
        else:
            self.site.store.unfreeze(place, by="ana", now=now)
        self.pass_time(0)

    def shut(self) -> bool:
        """Nothing may rise now."""
        now = self.site.azure.clock.now()
        frozen = self.site.store.freezes(now=now, ref=REF)
        return bool(frozen) or not allowed(self.started.windows, now)

    @rule(split=st.sampled_from(SPLITS))
    def person_changes_the_traffic(self, split: dict[str, int]) -> None:
        with suppress(Refusal):
            self.site.azure.by_hand(**split)

    @rule(name=st.sampled_from(["blue", "green"]), version=st.integers(1, 3))
    def person_changes_a_deployment(self, name: str, version: int) -> None:
        with suppress(Refusal):
            self.site.azure.deploy(name, version)

    @rule(name=st.sampled_from(["blue", "green"]), ruined=st.booleans())
    def deployment_goes(self, name: str, ruined: bool) -> None:
        with suppress(Refusal):
            self.site.azure.ruin(name) if ruined else self.site.azure.delete(name)

    @rule(fate=st.sampled_from(FATES))
    def the_next_write_meets(self, fate: str) -> None:
        self.site.azure.next_writes.append(fate)

    @rule(times=st.integers(1, 3))
    def reads_fail(self, times: int) -> None:
        self.site.azure.next_reads.extend(UnavailableError("Azure did not answer.") for _ in range(times))

    @rule(bad=st.booleans())
    def stable_answers(self, bad: bool) -> None:
        self.site.logs.bad["blue"] = 0.9 if bad else 0.0

    # --- what must hold at every write

    def about_to_put(self, split: Split) -> None:
        rollout = self.site.rollout
        shown = self.site.collector.fresh(REF, deployments=True)
        assert shown.endpoint is not None
        rolling_back = rollout.phase is P.ROLLING_BACK
        assert rolling_back or shown.endpoint.traffic in self.ours | wishes(rollout), "a person's split is written over"
        assert not shown.endpoint.traffic.others("blue", "green"), "a third deployment's traffic is changed"
        assert rollout.writes[-1].split == split, "what is sent was saved"
        assert [write for write in rollout.writes if write.ended_at is None] == [rollout.writes[-1]], (
            "one write at a time"
        )
        if split.share("green") > shown.endpoint.traffic.share("green"):
            assert not self.shut(), "the share is raised outside of a window, or under a freeze"
        if rolling_back:
            stable = (shown.deployments or {}).get("blue")
            assert stable is not None, "rolled back onto a stable that is gone"
            assert stable.exists_to_serve, "rolled back onto a stable that cannot serve"

    # --- what must hold at every change

    def look_at_the_change(self) -> None:
        before, after = self.before, self.site.rollout
        self.before = after
        self.ours |= wishes(after)
        said = self.answered()
        if after.share > before.share:
            assert self.may_rise(before, after, said), (before.sentence, after.sentence)
        if before.ended:
            assert after == before, "what has ended stays as it is"

    def may_rise(self, before: Rollout, after: Rollout, said: set[str]) -> bool:
        """A first step, a person's word, the share that a retreat had cut, or a pass of the step before."""
        if before.phase in {P.PENDING, P.PREPARING} or said & GOES_UP:
            return True
        if before.fail_stands:
            return False
        if before.given is not None:
            return self.said.verdict.action == "pass" or before.judged_from is None
        if before.phase is P.RETREATED:
            return self.said.verdict.action in {"pass", "hold"} and after.share == before.retreated_from
        return self.said.verdict.action == "pass" and before.step_since is not None

    def answered(self) -> set[str]:
        """The verbs that were carried out since this was asked last."""
        results = {asked: self.site.store.command_result(asked) for asked in self.asked}
        done = {self.asked[asked] for asked, result in results.items() if result and result.accepted}
        self.asked = {asked: verb for asked, verb in self.asked.items() if results[asked] is None}
        return done

    @invariant()
    def history_tells_a_way_through_the_table(self) -> None:
        if not hasattr(self, "before"):
            return
        phases = [Phase(event.kind) for event in self.site.history if event.kind in set(Phase)]
        for old, new in itertools.pairwise(phases):
            assert old is new or new in TRANSITIONS[old], (old, new)
        check_sentence(self.site.rollout.sentence)

    # --- how it ends

    def teardown(self) -> None:
        try:
            if hasattr(self, "before"):
                self.calm_down()
                self.must_be_settled()
        finally:
            self.site.store.close()
            self.folder.cleanup()

    def calm_down(self) -> None:
        for place in (None, REF):
            self.site.store.unfreeze(place, by="ana", now=self.site.azure.clock.now())
        self.site.azure.next_writes.clear()
        self.site.azure.next_reads.clear()
        self.site.logs.bad.clear()
        self.said.verdict = verdict("pass")
        quiet = 0
        while quiet < 6 and not self.site.rollout.ended:  # nothing new for an hour: it waits for a person
            told = len(self.site.history)
            self.pass_time(10, step=10)
            quiet = quiet + 1 if len(self.site.history) == told else 0

    def must_be_settled(self) -> None:
        rollout, traffic = self.site.rollout, self.site.azure.traffic
        check_sentence(rollout.sentence)
        if rollout.phase is P.SUCCEEDED:
            by_hand = rollout.sentence.startswith("Guarding has ended: ")
            assert traffic.get("green") == 100 or by_hand or self.moved_after_the_end()
        elif rollout.phase is P.ROLLED_BACK:
            assert traffic.get("blue") == 100 or self.moved_after_the_end()
        elif rollout.phase is P.ROLLING_BACK:  # a third deployment stands in the way, and a person was paged
            assert "unconfirmed" in rollout.told
            assert "red" in traffic
        elif not rollout.ended:
            assert rollout.phase is P.PAUSED or rollout.awaits_approval or rollout.fail_stands, rollout.sentence
            assert "`rollout " in rollout.sentence, "a person is told what to do"

    def moved_after_the_end(self) -> bool:
        endpoint = self.site.azure.cloud.endpoint(NAME)
        ended_at = self.site.history[-1].at
        return endpoint.system.modified_by.id == "bob@example.com" and endpoint.system.modified_at >= ended_at


def wishes(rollout: Rollout) -> set[Split]:
    """Splits that are the rollout's: asked for, confirmed, or taken over on a person's word."""
    given = {rollout.confirmed, rollout.replaceable, *(write.split for write in (*rollout.writes, *rollout.strays))}
    return {split for split in given if split is not None}


class AnythingForLonger(Anything):
    """The same at more length, and different each time."""


TestAnything = Anything.TestCase
TestAnything.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=SLOW, derandomize=True
)
TestAnythingForLonger = pytest.mark.slow(pytest.mark.timeout(600)(AnythingForLonger.TestCase))
AnythingForLonger.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=SLOW
)
