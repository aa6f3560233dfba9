"""The `Policy`: everything that the lifecycle and the judge ask of a policy, as one frozen value.

Fields of `Policy` (types in Python; every type writes itself in the units that people write, so a dumped policy reads
like its file and is equal when read back):

- `name`, `description`, `endpoint_name`, `workspace`: str; workspace None = the only one in the settings
- `mode`: "act", or "observe": judged and told, never written
- `stable`, `candidate`: str | None; None = found when the rollout starts. `manifest`: `Manifest(name, path, text, folder)`, the
  deployment's file that the candidate is created from, or None
- `mirror`: tuple of `MirrorStep(mirror_traffic: int percent, bake)`, before the steps; nobody judges them
- `steps`: tuple of `Step(traffic: int percent, bake: timedelta in whole minutes, approve: Approval | None)`; shares
  rise and end at 100; `approve` is an approval wanted *before* that step begins:
  `Approval(by: names of groups or people, timeout: timedelta, on_timeout)`
- `first_step`: "auto" = begin the first step at a share sized from the traffic; "as_written" = at its own share
- `holdback`: int percent that stays on stable until the last bake ends, 0 to 20
- `checks`: `Checks(error_rate, client_errors, latency_p50, latency_p95, latency_p99, answer_size)`, each a check or None
  = off. `ErrorCheck(max_increase: fraction, max: fraction | None, dry_run, on_regression)`: 0.005 is 0.5 percentage
  points. `LatencyCheck(max_increase: part of stable's latency, max: milliseconds | None, …)`: 0.25 is 25 %.
  `AnswerSizeCheck(max_change: factor, dry_run)`. On by default: error_rate (0.5pp), client_errors (1pp) and
  latency_p95 (25%)
- `min_requests`: int, on the candidate, per step; 300 by default. A bake that ends with fewer is a doubt (`when.doubt`)
- `capacity`: `Capacity(match_stable: float | None, instances: int | None)`: how many instances the candidate gets before its
  first live request; neither = it is kept as it is
- `when`: `When(suspicion, regression, doubt: Doubt(extend, then), no_data: NoData(hold, then), shared_incident, drift)`
- `smoke_test`: `SmokeTest(requests, count, warm_up: int, max_latency: timedelta | None, timeout, same_shape: bool)` or None
- `probes`: `Probes(requests: tuple of JSON texts, per_minute: int pairs, timeout: timedelta)` or None = none are sent
- `windows`: `Windows(allow: tuple of texts, freeze: tuple of Frozen, start_outside)` or None = always (see `windows`)
- `trigger`: `Trigger(deployment, model, schedule, when_busy)` or None = only `rollout start` starts it
- `deadline`: timedelta of active time; `after`: `After(keep_stable: timedelta | None, then: "keep")`, None = stable is not
  kept to take the traffic back; `alerts`: names of channels; `runbook`: address or None
- `waves`: `Waves(order, between: timedelta, on_regression)` or None = this one endpoint; `endpoint_name` is then the first of
  them, and `waves.policy_of` gives what is judged and pinned: the policy of one endpoint, without waves
- `expert`: `Expert(alpha: fraction, ratio: float, early: bool, harm_budget: int | None, evidence: ("logs", "metrics", "probes"))`;
  the first of these that is in `evidence` decides promotion

`Policy.version` counts the changes of this model that an older reader would not understand; `digest()` names the
content.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rollout.documents.mistakes import rule
from rollout.documents.models import BUILT, Model
from rollout.documents.names import AzureName, Deployment, Link, Name
from rollout.documents.text import Path
from rollout.documents.units import (
    Bake,
    Duration,
    Holdback,
    Percent,
    Share,
    between,
    format_duration,
    format_percent,
    show,
)
from rollout.policy.after import KEEP, After
from rollout.policy.capacity import KEEP as KEEP_SIZE
from rollout.policy.capacity import Capacity
from rollout.policy.checks import Checks
from rollout.policy.manifest import Manifest
from rollout.policy.mirror import MirrorStep
from rollout.policy.probes import Probes
from rollout.policy.smoke import SmokeTest
from rollout.policy.triggers import Trigger
from rollout.policy.waves import Waves, two_roles
from rollout.policy.windows import Windows

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MAX_STEPS = 50


def _small(value: float) -> float:
    if not 0.001 <= value <= 0.2:
        raise ValueError(f"{format_percent(value)} is out of range: write between 0.1% and 20%")
    return value


Deadline = Annotated[Duration, AfterValidator(between(10 * MINUTE, 30 * DAY))]


class Approval(Model):
    """A person approves before the next step begins."""

    by: tuple[Name, ...] = Field(
        default=(),
        max_length=20,
        description="Who may approve: groups of the settings, or names in them; by default anybody",
    )
    timeout: Annotated[Duration, AfterValidator(between(MINUTE, 14 * DAY))] = Field(
        default=DAY, description="How long to wait for the approval", examples=["4h"]
    )
    on_timeout: Literal["pause", "rollback"] = Field(default="pause", description="What follows when nobody approves")


class Step(Model):
    """A share of the traffic, held for its bake."""

    model_config = BUILT

    traffic: Share
    bake: Bake
    approve: Approval | None = None


Patience = Annotated[Duration, AfterValidator(between(timedelta(0), 2 * DAY))]


class Doubt(Model):
    """What follows when a bake ends without an answer."""

    extend: Patience = Field(
        default=30 * MINUTE, description="How much longer to judge before giving up", examples=["30m"]
    )
    then: Literal["pause", "rollback"] = Field(default="pause", description="What follows then")


class NoData(Model):
    """What follows when Azure Monitor shows nothing new."""

    hold: Patience = Field(default=45 * MINUTE, description="How long to hold the share", examples=["45m"])
    then: Literal["pause", "rollback"] = Field(default="pause", description="What follows then")


class When(Model):
    """What follows from what is seen."""

    suspicion: Literal["retreat", "hold"] = Field(
        default="retreat", description="Early signs of harm: cut the share while in doubt, or only hold it"
    )
    regression: Literal["rollback", "pause", "alert"] = Field(
        default="rollback", description="The candidate is worse; alert: page people, hold the share, and go on judging"
    )
    doubt: Doubt = Field(
        default=Doubt.model_construct(), description="A bake ends without an answer, or with too few requests"
    )
    no_data: NoData = Field(default=NoData.model_construct(), description="Azure Monitor shows nothing new")
    shared_incident: Literal["hold"] = Field(default="hold", description="Both deployments got worse together")
    drift: Literal["pause"] = Field(default="pause", description="Somebody else changed the traffic")


class Expert(Model):
    """The judge's own numbers."""

    alpha: Annotated[Percent, AfterValidator(_small)] = Field(
        default=0.05, description="The chance to fail a candidate that is no worse, at most", examples=["5%"]
    )
    ratio: Annotated[float, Strict()] = Field(
        default=1.2, ge=1, le=3, allow_inf_nan=False, description="Errors up to this multiple of stable's are no harm"
    )
    early: StrictBool = Field(default=True, description="Pass a step before its bake ends once it is proven not worse")
    harm_budget: StrictInt | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Bad requests beyond stable's rate at which the candidate fails, however little the evidence",
        examples=[200],
    )
    evidence: tuple[Literal["logs", "metrics", "probes"], ...] = Field(
        default=("logs", "metrics"),
        description="What is judged; the first of logs, metrics and probes that is here decides promotion",
    )

    @field_validator("evidence")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a source stands twice: write each once")
        return value


class Common(Model):
    """What is the same in a policy as written and as judged."""

    description: str = Field(default="", max_length=1000, description="What this rollout is about, for people")
    endpoint_name: AzureName = Field(description="The online endpoint", examples=["restaurant-recommender"])
    workspace: Name | None = Field(
        default=None, description="A workspace named in the settings; the only one there by default", examples=["prod"]
    )
    waves: Waves | None = Field(
        default=None, description="Several endpoints instead of one, in groups that come one after the other"
    )
    mode: Literal["act", "observe"] = Field(
        default="act", description="act: judge, and move traffic; observe: judge what people move, and never write"
    )
    stable: Deployment = Field(
        default=None, description="The deployment that serves today; by default the one with all traffic"
    )
    holdback: Holdback = Field(
        default=5, description="The share that stays on stable until the last bake ends", examples=["5%"]
    )
    checks: Checks = Field(
        default=Checks.model_construct(), description="What is compared between candidate and stable"
    )
    min_requests: StrictInt = Field(
        default=300, ge=1, le=10_000_000, description="Requests that the candidate must have answered in each step"
    )
    capacity: Capacity = Field(
        default=KEEP_SIZE, description="How many instances the candidate gets before its first live request"
    )
    when: When = Field(default=When.model_construct(), description="What follows from what is seen")
    windows: Windows | None = Field(
        default=None, description="When the candidate may get more traffic; a roll back never waits"
    )
    after: After = Field(default=KEEP, description="What becomes of the old stable")
    alerts: tuple[Name, ...] = Field(
        default=(), max_length=20, description="Channels named in the settings", examples=[["team-ml"]]
    )
    runbook: Link | None = Field(default=None, description="The page that alerts point to")
    expert: Expert = Field(default=Expert.model_construct(), description="The judge's own numbers")

    @model_validator(mode="after")
    def _waves_fit(self) -> Self:
        broken = [*self._broken_waves(self.waves)] if self.waves else []
        if broken:
            raise rule(*broken)
        return self

    def _broken_waves(self, waves: Waves) -> Iterator[tuple[Path, str]]:
        candidate = getattr(self, "candidate", None)  # a file as long as it is written
        yield from two_roles(waves, stable=self.stable, candidate=candidate if isinstance(candidate, str) else None)
        if self.mode == "observe":
            yield ("mode",), "waves move traffic: write `mode: act`, or take `waves` out"
        if getattr(self, "trigger", None) is not None:
            yield ("trigger",), "not yet: starting waves without being asked; take it out, and use `rollout start`"
        if self.endpoint_name != waves.order[0][0].endpoint_name:
            yield ("endpoint_name",), "the endpoints stand in `waves`: take `endpoint_name` out"


class Policy(Common):
    """A policy as it is judged and pinned: see the module's docstring for every field."""

    model_config = BUILT

    version: ClassVar[int] = 1

    name: Name
    candidate: Deployment = None
    manifest: Manifest | None = None
    trigger: Trigger | None = None
    mirror: tuple[MirrorStep, ...] = Field(default=(), max_length=MAX_STEPS)
    steps: tuple[Step, ...] = Field(max_length=MAX_STEPS)
    first_step: Literal["auto", "as_written"] = "as_written"
    smoke_test: SmokeTest | None = None
    probes: Probes | None = None
    deadline: Deadline = timedelta(hours=8)

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, value: tuple[Step, ...], info: ValidationInfo) -> tuple[Step, ...]:
        broken = [
            *broken_shares([(at, step.traffic) for at, step in enumerate(value)], holdback=info.data.get("holdback"))
        ]
        if broken:
            raise rule(*broken)
        return value

    @field_validator("deadline")
    @classmethod
    def _time_enough(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        return long_enough(value, bakes=[step.bake for step in info.data.get("steps", ())])

    @field_validator("candidate")
    @classmethod
    def _two_roles(cls, value: str | None, info: ValidationInfo) -> str | None:
        check_roles(stable=info.data.get("stable"), candidate=value)
        return value

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: equal for equal policies."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


# --- Rules over several fields, for both forms ---------------------------------------------------------------------


def check_roles(*, stable: str | None, candidate: str | None) -> None:
    """Nobody is both. Raises ValueError."""
    if candidate is not None and stable is not None and candidate.casefold() == stable.casefold():
        raise ValueError(f"{show(candidate)} is the stable deployment too: name another one, or take one of them out")


def broken_shares(shares: Sequence[tuple[int, int]], *, holdback: int | None) -> Iterator[tuple[Path, str]]:
    """What is wrong with a row of shares, each given with its index in the list: rising, and ending at 100 %."""
    if not shares:
        yield (), "there is no step with traffic: write shares that rise to 100%, such as [5%, 25%, 50%, 100%]"
        return
    for (_, before), (at, share) in pairwise(shares):
        if share <= before:
            yield (at, "traffic"), f"{share}% does not rise above the {before}% before it: write shares that rise"
    last_at, last = shares[-1]
    if last != 100:
        yield (last_at, "traffic"), f"the last step ends at {last}%: add a step of 100% after it"
    room = 100 - (holdback or 0)
    for at, share in shares[:-1]:
        if room < share < 100:
            message = f"{share}% leaves no room for the {holdback}% that `holdback` keeps on stable"
            yield (at, "traffic"), f"{message}: write at most {room}%, or `holdback: 0%`"


def long_enough(deadline: timedelta, *, bakes: Iterable[timedelta]) -> timedelta:
    """The deadline, if the bakes fit into it. Raises ValueError."""
    total = sum(bakes, timedelta())
    if total > deadline:
        needed = f"the steps bake for {format_duration(total)} in all"
        raise ValueError(
            f"{format_duration(deadline)} is too short: {needed}; write a longer deadline or shorter bakes"
        )
    return deadline
