"""A rollout's life in a small world of values: Azure's endpoint as a snapshot, a clock that moves when told.

`Life.tick` decides with the real `advance`, and on the way holds every decision to three promises: the same facts decide
nothing twice, a rollout survives JSON, and every change of phase is in the table and leaves a sentence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

from rollout.analysis.verdict import Finding, Pair, Rate, Reason, Verdict, begin
from rollout.lifecycle import TRANSITIONS, Decision, Facts, Phase, Rollout, advance, new_rollout, refused, written
from rollout.lifecycle.errands import errand_answered
from rollout.policy import Policy, Step
from rollout.store.codec import dump_rollout, load_rollout
from rollout.world import (
    Command,
    DeploymentState,
    EndpointRef,
    EndpointState,
    Event,
    Pin,
    Snapshot,
    Split,
    Unreadable,
    Verb,
)

T0 = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
RESOURCE_ID = (
    "/subscriptions/s/resourceGroups/rg-food/providers/Microsoft.MachineLearningServices/workspaces/mlw-food"
    "/onlineEndpoints/restaurant-recommender"
)
REF = EndpointRef(workspace="prod", name="restaurant-recommender")
MINUTE = timedelta(minutes=1)
_numbers = count(1)


def policy(*shares: int, bake: int = 10, approve: Mapping[int, Any] | None = None, **changes: Any) -> Policy:
    """Steps of these shares (5, 25 and 100 % where none is given); `approve` maps a step's index to its approval."""
    steps = tuple(
        Step(traffic=share, bake=timedelta(minutes=bake), approve=(approve or {}).get(index))
        for index, share in enumerate(shares or (5, 25, 100))
    )
    return Policy(name="recommender", endpoint_name=REF.name, steps=steps, **changes)


def pin(model: str = "recommender:1", **changes: Any) -> Pin:
    """What a deployment serves."""
    given: dict[str, Any] = {"environment": "env:1", "code": "code:1", "modified_at": "2026-11-01", "instances": 2}
    return Pin(model=model, **given | changes)


def deployment(name: str, state: str = "Succeeded", **changes: Any) -> DeploymentState:
    """A deployment at rest."""
    return DeploymentState(name=name, state=state, pin=changes.pop("pin", None) or pin(**changes))


def finding(**changes: Any) -> Finding:
    """Errors: 61 of 900 on the candidate, 8 of 2 700 on stable."""
    given: dict[str, Any] = {
        "check": "error_rate",
        "source": "logs",
        "unit": "share",
        "baseline": Rate(bad=8, n=2700, value=8 / 2700),
        "candidate": Rate(bad=61, n=900, value=61 / 900),
        "margin": 0.005,
        "maximum": None,
        "bar": None,
        "evidence": 4120.0,
        "weight": 0.5,
        "not_worse": 0.0,
        "compatible": None,
        "action": "fail",
        "sentence": "errors 6.8 % vs 0.30 %",
    }
    return Finding(**given | changes)


def verdict(action: str, reason: Reason | None = None, **changes: Any) -> Verdict:
    """A verdict with a sentence that names it."""
    usual = {"pass": Reason.PROVEN, "hold": Reason.BAKE, "retreat": Reason.SUSPICION, "fail": Reason.REGRESSION}
    reason = reason or usual[action]
    given: dict[str, Any] = {
        "sentence": f"The judge says {action} ({reason.replace('_', ' ')}).",
        "findings": (),
        "evidence": 0.5,
        "threshold": 20.0,
        "blocks": 3,
        "requests": Pair(baseline=900, candidate=300),
        "first_bad": None,
        "harmed": 0.0,
    }
    return Verdict(action=action, reason=reason, **given | changes)


FAIL = verdict("fail", findings=(finding(),), evidence=4120.0, harmed=111.2, first_bad=int(T0.timestamp() // 60) + 7)


def command(
    verb: str,
    *,
    reason: str | None = None,
    full: bool = False,
    drift: str | None = None,
    groups: tuple[str, ...] = (),
    origin: str = "cli@desk",
) -> Command:
    """A command of Ana's."""
    return Command(
        id=f"c{next(_numbers)}",
        rollout_id="r1",
        verb=Verb(verb),
        at=T0,
        by="ana",
        origin=origin,
        reason=reason,
        full=full,
        drift=drift,
        groups=groups,
    )


@dataclass
class Life:
    """One rollout and the world that it lives in."""

    policy: Policy = field(default_factory=policy)
    now: datetime = T0
    traffic: dict[str, int] = field(default_factory=lambda: {"blue": 100})
    state: str = "Succeeded"
    endpoint_changes: dict[str, Any] = field(default_factory=dict)
    gone: bool = False
    slow: bool = False  # Azure takes its time: writes do not land
    deployments: dict[str, DeploymentState | Unreadable] | None = field(
        default_factory=lambda: {"blue": deployment("blue"), "green": deployment("green", model="recommender:2")}
    )
    facts: dict[str, Any] = field(default_factory=dict)  # what every tick sees besides
    events: list[Event] = field(default_factory=list)
    answers: list[tuple[bool, str]] = field(default_factory=list)
    writes: list[Split] = field(default_factory=list)
    chain: list[tuple[Phase, Phase]] = field(default_factory=list)
    on_its_way: Split | None = None
    errand_answer: dict[str, Any] = field(default_factory=lambda: {"outcome": "accepted"})
    rollout: Rollout = field(init=False)

    def __post_init__(self) -> None:
        self.rollout, events = new_rollout(
            rollout_id="r1", ref=REF, policy=self.policy, candidate=None, by="ana", now=self.now
        )
        self.events += events

    # --- what tests ask

    @property
    def phase(self) -> Phase:
        """Where the rollout stands."""
        return self.rollout.phase

    @property
    def last(self) -> Event:
        """The newest event."""
        return self.events[-1]

    def told(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]

    # --- what happens

    def tick(
        self,
        given: Verdict | None = None,
        *commands: Command,
        seconds: float = 15,
        answer: str = "accepted",
        blind: bool = False,
    ) -> Decision:
        """Time passes, a write that is on its way lands, and the rollout is advanced; its write gets `answer`."""
        self.now += timedelta(seconds=seconds)
        if self.on_its_way is not None and not self.slow:
            self.traffic, self.on_its_way = self.on_its_way.as_traffic(), None
        facts = self.seen(given, commands, blind=blind)
        decision = advance(self.rollout, facts, self.now)
        check_decision(self.rollout, decision)
        if _judged_split(self.rollout) != _judged_split(decision.rollout):
            facts = replace(facts, verdict=None)  # it spoke of another split
        self._take(self.rollout, decision)
        if decision.write is not None:
            self._answer(decision.write, answer)
        for errand in decision.errands:
            given_back = {"operation": f"{errand.kind}:{errand.deployment}", **self.errand_answer}
            self.rollout = errand_answered(self.rollout, errand, now=self.now, **given_back)
        check_nothing_twice(self.rollout, facts, self.now)
        self.rollout = load_rollout(dump_rollout(self.rollout), name="r1")
        return decision

    def ask(self, verb: str, given: Verdict | None = None, *, answer: str = "accepted", **words: Any) -> str:
        """A command of Ana's, carried out in the next tick; its answer, which must be yes."""
        self.tick(given, command(verb, **words), answer=answer)
        accepted, sentence = self.answers[-1]
        assert accepted, sentence
        return sentence

    def ask_in_vain(self, verb: str, given: Verdict | None = None, **words: Any) -> str:
        """A command that is refused; its answer."""
        self.tick(given, command(verb, **words))
        accepted, sentence = self.answers[-1]
        assert not accepted, sentence
        return sentence

    def moved_by_hand(self, by: str | None = "bob@example.com", **traffic: int) -> None:
        """A person changes the traffic, and two looks see it."""
        self.traffic = traffic
        self.endpoint_changes["last_modified_by"] = by
        self.tick()
        self.tick()

    def seen(self, given: Verdict | None = None, commands: Iterable[Command] = (), *, blind: bool = False) -> Facts:
        """The facts of a look at the world as it is now."""
        usual: dict[str, Any] = {"fresh_at": self.now - 4 * MINUTE, "read_at": self.now, "per_minute": 600.0}
        usual["judgement"] = begin(self.policy) if given else None
        return Facts(
            snapshot=None if blind else self.snapshot(),
            verdict=given,
            commands=tuple(commands),
            **usual | self.facts,
        )

    def snapshot(self) -> Snapshot:
        """What Azure shows now."""
        changes = {"last_modified_by": None, **self.endpoint_changes}
        endpoint = EndpointState(
            name=REF.name, resource_id=RESOURCE_ID, state=self.state, traffic=Split.of(self.traffic), **changes
        )
        return Snapshot(
            endpoint=None if self.gone else endpoint,
            deployments={} if self.gone else self.deployments,
            requested_at=self.now,
        )

    def _answer(self, split: Split, answer: str) -> None:
        self.writes.append(split)
        self.now += timedelta(seconds=1)
        if answer == "refused":
            decision = refused(self.rollout, "Azure said: you may not do that.", self.now)
            self._take(self.rollout, decision)
            return
        if answer == "accepted":
            self.on_its_way = split
        if answer != "crash":
            self.rollout = written(self.rollout, outcome=answer, now=self.now)  # type: ignore[arg-type]

    def _take(self, before: Rollout, decision: Decision) -> None:
        self.events += decision.events
        self.answers += [(result.accepted, result.sentence) for result in decision.results]
        self.chain += chain(before, decision.events)
        self.rollout = decision.rollout


def chain(before: Rollout, events: Iterable[Event]) -> list[tuple[Phase, Phase]]:
    """The changes of phase that these events tell."""
    phases = [before.phase, *(Phase(event.kind) for event in events if event.kind in set(Phase))]
    return [(old, new) for old, new in pairwise(phases) if old is not new]


def check_decision(before: Rollout, decision: Decision) -> None:
    """Every change is in the table, and is told."""
    changes = chain(before, decision.events)
    assert all(new in TRANSITIONS[old] for old, new in changes), changes
    assert (changes[-1][1] if changes else before.phase) is decision.rollout.phase, (changes, decision.rollout.phase)
    for event in decision.events:
        check_sentence(event.sentence)
    if decision.events:
        assert decision.rollout.sentence == decision.events[-1].sentence


def check_sentence(sentence: str) -> None:
    """One that a person can read: no holes, no doubled stops, an end."""
    assert sentence == sentence.strip()
    assert sentence[0].isupper() or sentence.startswith(("blue", "green", "ana")), sentence
    assert sentence.endswith((".", '"')), sentence
    for hole in ("None", "..", " .", "  ", "()", "Phase.", "Reason.", "<", "_back", "timedelta"):
        assert hole not in sentence, sentence


def _judged_split(rollout: Rollout) -> tuple[object, ...]:
    return rollout.step, rollout.share, rollout.step_since, rollout.judged_from


def check_nothing_twice(rollout: Rollout, facts: Facts, now: datetime) -> None:
    """The same facts again: nothing new to tell, to write or to remember."""
    again = advance(rollout, replace(facts, commands=()), now)
    assert not again.events, again.events
    assert again.write is None
    if (not rollout.writes or rollout.writes[-1].ended_at is not None) and not rollout.owes:
        assert again.rollout == rollout


# --- lives so far ------------------------------------------------------------------------------------------------


def started(one: Policy | None = None, **changes: Any) -> Life:
    """The first step's split is confirmed."""
    life = Life(policy=one or policy(), **changes)
    life.tick()
    life.tick(seconds=40)
    assert life.phase is Phase.PROGRESSING, life.rollout.sentence
    assert life.rollout.step_since is not None
    return life


def at_step(step: int, one: Policy | None = None, **changes: Any) -> Life:
    """The split of this step (an index) is confirmed."""
    life = started(one, **changes)
    while life.rollout.step < step:
        life.tick(verdict("pass"), seconds=600)
        life.tick(seconds=40)
    return life


def _preparing() -> Life:
    life = Life(state="Updating")
    life.tick()
    return life


def _retreated() -> Life:
    life = at_step(1)
    life.tick(verdict("retreat"))
    life.tick(seconds=40)
    return life


def awaiting_approval(**approval: Any) -> Life:
    """Step 1 passed, step 2 wants an approval."""
    life = started(policy(approve={1: approval or {"timeout": "4h"}}))
    life.tick(verdict("pass"))
    return life


def observing(one: Policy | None = None, **traffic: int) -> Life:
    """A rollout that observes; people have split the traffic 90 to 10 where nothing else is given."""
    life = Life(policy=one or policy(mode="observe"), traffic=traffic or {"blue": 90, "green": 10})
    life.tick()
    assert life.phase is Phase.OBSERVING, life.rollout.sentence
    return life


def guarding(**changes: Any) -> Life:
    """A rollout that was promoted, and whose stable is kept for two hours."""
    one = policy(after={"keep_stable": "2h", "then": "keep"}, **changes)
    life = at_step(1, one)
    life.ask("promote", full=True, reason="tested by hand")
    life.tick(seconds=40)
    return life


def _after(make: Any, *ticks: Any) -> Life:
    life: Life = make()
    for step in ticks:
        step(life)
    return life


def at(phase: Phase) -> Life:
    """A life that has come to this phase in the usual way."""
    makers = {
        Phase.PENDING: Life,
        Phase.PREPARING: _preparing,
        Phase.PROGRESSING: lambda: at_step(1),
        Phase.RETREATED: _retreated,
        Phase.WAITING: awaiting_approval,
        Phase.PAUSED: lambda: _after(lambda: at_step(1), lambda life: life.ask("pause")),
        Phase.ROLLING_BACK: lambda: _after(lambda: at_step(1), lambda life: life.tick(FAIL)),
        Phase.ROLLED_BACK: lambda: _after(lambda: at(Phase.ROLLING_BACK), lambda life: life.tick()),
        Phase.PROMOTING: lambda: _after(
            lambda: at_step(1), lambda life: life.ask("promote", full=True, reason="tested by hand")
        ),
        Phase.GUARDING: guarding,
        Phase.SUCCEEDED: lambda: _after(lambda: at(Phase.PROMOTING), lambda life: life.tick()),
        Phase.HALTED: lambda: _after(
            lambda: at_step(1), lambda life: life.facts.update(stable_serves=False), lambda life: life.tick(FAIL)
        ),
        Phase.ABORTED: lambda: _after(lambda: at_step(1), lambda life: life.moved_by_hand(blue=100)),
        Phase.OBSERVING: observing,
        Phase.OBSERVED: lambda: _after(observing, lambda life: life.ask("abort", reason="seen enough")),
    }
    life: Life = makers[phase]()
    assert life.phase is phase, life.rollout.sentence
    return life
