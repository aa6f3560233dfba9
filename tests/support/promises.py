"""What no write may break, held against the sandbox's own record of the writes that it took.

The rule: nothing here believes what the product says of itself beyond who is stable and who the candidate of a rollout: the
share that a candidate may have is counted from what the judge has said and from what people were allowed to say, the times
at which it may rise from the policy's text, and freezes from what people asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rollout.analysis.verdict import Judgement, Verdict
from rollout.lifecycle import Phase, Rollout
from rollout.policy import Policy, Step
from rollout.sandbox.bodies import moment
from rollout.sandbox.wishes import parse_deployment
from rollout.world import Command, Freeze
from tests.support.lives import verdict
from tests.support.local_azure import NAME, OURS
from tests.support.plant import GROUPS, Plant
from tests.support.recorded import Accepted, Size

#: Minutes of the day (UTC) at which a policy with windows lets the share rise, and what it says then.
OPEN = ((120, 190), (300, 480))
WINDOWS: Mapping[str, Any] = {
    "allow": tuple(f"mon-sun {a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02} UTC" for a, b in OPEN)
}
GOES_ON = frozenset({"approve", "promote", "resume"})


class Said:
    """A judge who says what the machine says, and remembers it."""

    def __init__(self) -> None:
        self.verdict: Verdict = verdict("hold")
        self.plant: Plant | None = None
        self.given: dict[str, list[str]] = {}  # by rollout

    def __call__(self, judgement: Judgement, **_: object) -> tuple[Judgement, Verdict]:
        assert self.plant is not None
        self.given.setdefault(self.plant.ticking or "", []).append(self.verdict.action)
        return judgement, self.verdict


@dataclass
class Licence:
    """How far a rollout's candidate may go: the steps up to `level`, and what was said since that was reached."""

    level: int
    begun: bool = False  # the first step's share was written: it needs nothing but the start
    words: list[tuple[str, str, bool]] = field(default_factory=list)  # (verb, by, --full) of people, carried out
    heard: int = 0  # of the judge's verdicts
    heard_at_word: int = 0
    rolled_back: bool = False


class Promises:
    """Watches a plant."""

    def __init__(self, plant: Plant, said: Said) -> None:
        self.plant, self.said = plant, said
        self.freezes: list[Freeze] = []
        self.licences: dict[str, Licence] = {}
        self.asked: list[Command] = []
        self.known: set[str] = set()  # rollouts
        self.sizes: dict[str, tuple[datetime, Mapping[str, Size]]] = {}  # before a rollout's first write, and when
        self.settled: set[str] = set()  # rollouts that had ended and put everything back
        self.spent: dict[tuple[object, ...], str] = {}  # deployments that were part of a rollout, and of which
        plant.azure.recorded.on_write = self.check

    # --- at every write

    def check(self, write: Accepted) -> None:
        """A write was taken."""
        if write.actor != OURS:
            return
        rollout = self._sender()
        self.sizes.setdefault(rollout.id, (write.at, write.sizes))
        pair = {name.casefold() for name in (rollout.stable, rollout.candidate, _created(rollout)) if name}
        if write.kind == "endpoint":
            self._others_stay(write, pair)
            self._check_rise(write, rollout)
            return
        assert write.name in pair, f"a third deployment is written: {write}"
        if write.kind == "deployment" and write.body is not None and write.deployment is not None:
            same = parse_deployment(write.body).same_server(write.deployment.spec)
            assert same or not write.traffic.get(write.name), f"what serves is written over: {write}"
        if write.kind == "deployment" and write.body is None:
            assert not write.traffic.get(write.name), f"a deployment with traffic is deleted: {write}"
            assert not write.mirror.get(write.name), f"a deployment with mirrored traffic is deleted: {write}"
            assert write.name == (rollout.stable or "").casefold(), f"what serves is deleted: {write}"

    def _sender(self) -> Rollout:
        """Whose tick this is; of a request that comes late, the newest rollout."""
        name = self.plant.ticking
        return self.plant.store.load(name) if name else self.plant.rollouts()[-1]

    def _others_stay(self, write: Accepted, pair: set[str]) -> None:
        for name in {*write.split, *write.traffic} - pair:
            assert write.split.get(name) == write.traffic.get(name), f"a third deployment's share is changed: {write}"
        for name in {*write.mirrored, *write.mirror} - pair:
            assert write.mirrored.get(name) == write.mirror.get(name), f"a third one's mirror is changed: {write}"

    def _check_rise(self, write: Accepted, rollout: Rollout) -> None:
        licence = self.licence(rollout)
        share = write.split.get((rollout.candidate or "").casefold(), 0)
        shown = self.plant.azure.cloud.traffic_shown(self.plant.azure.cloud.endpoint(NAME))
        before = max(split.get((rollout.candidate or "").casefold(), 0) for split in (write.traffic, shown))
        if self.plant.ticking is None:
            return  # it was allowed when it was sent, and Azure took its time
        self.hear()
        if share > before:
            assert rollout.undo is None, f"an undo gives the candidate more: {write}"
            assert not licence.rolled_back, f"a rise after a roll back: {write}"
            self._check_gate(write, rollout)
            self._check_word(write, rollout, licence, share)
        if share == 0 and licence.begun:  # nothing had moved before: it only mirrors
            licence.rolled_back = True

    def _check_gate(self, write: Accepted, rollout: Rollout) -> None:
        at = self.plant.tick_began or write.at
        if rollout.policy.windows is not None:
            minute = at.hour * 60 + at.minute
            assert any(start <= minute < end for start, end in OPEN), f"a rise outside of every window: {write}"
        held = [freeze for freeze in self.freezes if freeze.until is None or at < freeze.until]
        assert not held, f"a rise in a freeze: {write}"

    def _check_word(self, write: Accepted, rollout: Rollout, licence: Licence, share: int) -> None:
        """A step is reached by a pass of the one before, or by a person's word; its approval by one who may."""
        wanted = level_of(rollout.policy, share)
        said = self.said.given.get(rollout.id, [])[licence.heard :]
        if wanted > licence.level:
            steps = int("pass" in said) + sum(verb in GOES_ON for verb, _, _ in licence.words) + (not licence.begun)
            far = any(full for _, _, full in licence.words)
            assert far or wanted <= licence.level + steps, f"a rise without a pass: {write}; {licence}, {said}"
            for step in rollout.policy.steps[max(licence.level + 1, 0) : wanted + 1]:
                assert _approved(step, licence.words), f"a rise without an approval: {write}; {licence}"
            licence.level, licence.words = wanted, []
            licence.heard = licence.heard_at_word = len(self.said.given.get(rollout.id, []))
        licence.begun = True
        after = self.said.given.get(rollout.id, [])[licence.heard_at_word :]
        assert not after or after[-1] not in {"fail", "retreat"}, f"a rise on a bad verdict: {write}; {after}"

    # --- what was said

    def licence(self, rollout: Rollout) -> Licence:
        """That of this rollout. A retry begins at its step."""
        start = rollout.retry.step - 1 if rollout.retry else -1
        return self.licences.setdefault(rollout.id, Licence(level=start))

    def hear(self) -> None:
        """Commands that were carried out since the last time."""
        for command in list(self.asked):
            result = self.plant.store.command_result(command.id)
            if result is None:
                continue
            self.asked.remove(command)
            rollout = self.plant.store.load(command.rollout_id)
            if result.accepted:
                self._word(rollout, command)

    def _word(self, rollout: Rollout, command: Command) -> None:
        licence = self.licence(rollout)
        licence.words.append((command.verb, command.by, command.full))
        licence.heard_at_word = len(self.said.given.get(rollout.id, []))
        if command.drift == "adopt":  # the person's own split is where it goes on from
            licence.level = max(licence.level, level_of(rollout.policy, rollout.share))

    # --- after every tick

    def look(self) -> None:
        """What is started by a trigger was never part of a rollout before."""
        self.hear()
        for rollout in self.plant.rollouts():
            if rollout.id not in self.known:
                self.known.add(rollout.id)
                self._check_start(rollout)
            self._note_pair(rollout)
            if rollout.ended and not rollout.owes and rollout.id not in self.settled:
                self.settled.add(rollout.id)
                self._check_settled(rollout)

    def _check_start(self, rollout: Rollout) -> None:
        if not rollout.created_by.startswith("a trigger"):
            return
        found = self._identity(rollout.candidate or "")
        assert found not in self.spent, f"{rollout.candidate} is started twice: {rollout.id} and {self.spent[found]}"
        self.spent[found] = rollout.id

    def _note_pair(self, rollout: Rollout) -> None:
        """The deployments of a rollout, as long as they are as it saw them."""
        if rollout.ended or not rollout.pins:
            return
        for name, pin in zip((rollout.stable, rollout.candidate), rollout.pins, strict=True):
            there = self.plant.azure.recorded.find(NAME, name or "")
            if there is not None and moment(there.system.modified_at) == pin.modified_at and not there.state.busy:
                self.spent.setdefault(self._identity(name or ""), rollout.id)

    def _identity(self, name: str) -> tuple[object, ...]:
        found = self.plant.azure.recorded.find(NAME, name)
        if found is None:
            return (name,)
        spec = found.spec
        return name.casefold(), found.system.created_at, spec.model, spec.environment, spec.code

    # --- at the end of a rollout

    def _check_settled(self, rollout: Rollout) -> None:
        """Each of the pair is as large as it was, but for what the policy says stays, and what people changed."""
        self._check_mirror(rollout)
        told = [event.sentence for event in self.plant.store.history(rollout.id)]
        taken_over = any(each.undo and each.undo.of == rollout.id for each in self.plant.rollouts())
        if taken_over or any(sentence.startswith("Left to you") for sentence in told):
            return
        since, own = self.sizes.get(rollout.id, (rollout.created_at, {}))
        # an undo puts back what the promotion had changed, where that was not done
        since, first = self.sizes.get(rollout.undo.of, (since, own)) if rollout.undo else (since, own)
        touched = {each.name for each in self.plant.azure.recorded.accepted if each.actor != OURS and each.at >= since}
        now = self.plant.azure.recorded.sizes(NAME)
        stable, candidate = (rollout.stable or "").casefold(), (rollout.candidate or "").casefold()
        if stable in own and stable in first and stable not in touched:
            before = Size(instances=own[stable].instances, limits=first[stable].limits)
            self._check_stable(rollout, before, now.get(stable))
        created = rollout.policy.manifest is not None
        known = (
            not created and candidate in own and candidate in first and candidate in now and candidate not in touched
        )
        if known and now[candidate] != first[candidate]:
            self._check_candidate(rollout, own[candidate], now[candidate], stable=first.get(stable))

    def _check_mirror(self, rollout: Rollout) -> None:
        """Only what a person mirrors is mirrored, also where their next write failed."""
        left = self.plant.azure.cloud.endpoint(NAME).spec.mirror
        written = [each for each in self.plant.azure.recorded.accepted if each.kind == "endpoint"]
        began = [each for each in written if each.mirrored == left and each.mirror != left]
        assert not left or (began and began[-1].actor != OURS), f"{rollout.id} left {left} mirrored: {rollout.sentence}"

    def _check_stable(self, rollout: Rollout, before: Size, now: Size | None) -> None:
        promoted, then = rollout.phase is Phase.SUCCEEDED, rollout.policy.after.then
        if now is None:
            assert promoted, f"stable is gone: {rollout.sentence}"
            assert then == "delete", f"stable is gone: {rollout.sentence}"
            return
        assert now.limits == before.limits, f"stable's autoscale setting was {before}, is {now}: {rollout.sentence}"
        least = max([1, *(low for _, low, _, _ in before.limits or ())])
        allowed = {before.instances, least} if promoted and then == "scale_to_1" else {before.instances}
        grown = rollout.undo is not None and now.instances >= before.instances
        assert grown or now.instances in allowed, f"stable had {before}, has {now}: {rollout.sentence}"

    def _check_candidate(self, rollout: Rollout, before: Size, now: Size, *, stable: Size | None) -> None:
        name, endpoint = (rollout.candidate or "").casefold(), self.plant.azure.cloud.endpoint(NAME)
        serves = bool(endpoint.spec.traffic.get(name) or endpoint.spec.mirror.get(name))  # a person's copies count
        where = f"the candidate had {before}, has {now}: {rollout.sentence}"
        if rollout.phase is Phase.SUCCEEDED or serves:
            assert now.instances >= before.instances, where
            assert now.limits in ([before.limits] if before.limits else [None, stable and stable.limits]), where
        else:
            assert now == before, where

    # --- freezes

    def froze(self, freeze: Freeze) -> None:
        """A person froze."""
        self.freezes.append(freeze)

    def lifted(self, freezes: object) -> None:
        """A person lifted these."""
        gone = {each.id for each in freezes}  # type: ignore[attr-defined]
        self.freezes = [freeze for freeze in self.freezes if freeze.id not in gone]


def level_of(policy: Policy, share: int) -> int:
    """The step (an index) that has this share; one more than the last for what only the end gives."""
    shares = [min(step.traffic, 100 - policy.holdback) for step in policy.steps]
    return next((index for index, one in enumerate(shares) if share <= one), len(shares))


def _approved(step: Step, words: list[tuple[str, str, bool]]) -> bool:
    """Whether one who may has approved this step: by that word, or by promoting past it."""
    if step.approve is None:
        return True
    wanted = {name.casefold() for name in step.approve.by}
    may = wanted | {person for name in wanted for person in GROUPS.get(name, ())}
    return any(verb in {"approve", "promote"} and (not wanted or by.casefold() in may) for verb, by, _ in words)


def _created(rollout: Rollout) -> str | None:
    manifest = rollout.policy.manifest
    return manifest.name if manifest else None


def hours(number: float) -> timedelta:
    """So many."""
    return timedelta(hours=number)


def open_at(at: datetime) -> bool:
    """Whether a policy with windows lets the share rise then."""
    return any(start <= at.hour * 60 + at.minute < end for start, end in OPEN)
