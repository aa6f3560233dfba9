"""What a decision is made of, and what it is: facts in, a decision out.

The rule: facts are what was seen and asked, never what is hoped; a decision holds everything that must be saved together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rollout.analysis.exhibits import Exhibit
from rollout.analysis.verdict import Judgement, Verdict
from rollout.lifecycle.rollout import Rollout
from rollout.world import Autoscale, Command, CommandResult, Errand, Event, Freeze, Snapshot, Split, Trial


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The world as one tick sees it.

    `stable_serves` is told from stable's last cells: False where most of its answers are bad, None where there are none.
    `fresh_at` is the last minute in which the source that decides showed stable (before any traffic is moved), `read_at`
    when that source was last read; `trouble` says why data cannot be read, where the source said so, `blind` why checks of
    the policy's own cannot, by name; `counted_at` is when these were last read. `per_minute` is the endpoint's traffic in
    requests per minute. `trial` is how the policy's sample requests were answered, None while that is not known.
    `freezes` are those that people asked for and that hold now.

    `autoscale` are the endpoint's autoscale settings by case-folded deployment, None where they were not read, and why in
    `fleet_trouble`; `operations` tells of those errands' operations that are over why they failed, None: they did not;
    `forgotten` are those of which nobody can tell any more; `doing` is what a creation is doing now, in words.
    """

    snapshot: Snapshot | None = None
    judgement: Judgement | None = None
    verdict: Verdict | None = None
    exhibit: Exhibit | None = None
    commands: tuple[Command, ...] = ()
    stable_serves: bool | None = None
    fresh_at: datetime | None = None
    read_at: datetime | None = None
    trouble: str | None = None
    blind: Mapping[str, str] = field(default_factory=dict)
    counted_at: datetime | None = None
    per_minute: float | None = None
    trial: Trial | None = None
    autoscale: Mapping[str, Autoscale] | None = None
    fleet_trouble: str | None = None
    operations: Mapping[str, str | None] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()
    doing: Mapping[str, str] = field(default_factory=dict)
    freezes: tuple[Freeze, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one tick decides: saved in one transaction, and only then are `write` and `errands` sent to Azure.

    `judged` says that a verdict was given in this tick: its events are explained by it. `exhibit` is what the judge was
    shown, where the rollout holds its judgement now.
    """

    rollout: Rollout
    events: tuple[Event, ...] = ()
    results: tuple[CommandResult, ...] = ()
    write: Split | None = None
    errands: tuple[Errand, ...] = ()
    judged: bool = False
    exhibit: Exhibit | None = None

    def __post_init__(self) -> None:
        if (self.write is not None or self.errands) and self.rollout.observes:
            raise AssertionError("a rollout that only observes writes nothing")
