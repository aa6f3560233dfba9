"""The `Policy`: everything that the lifecycle and the judge ask of a policy, as one frozen value.

Fields of `Policy` (types in Python; every type writes itself in the units that people write, so a dumped policy reads
like its file and is equal when read back):

- `name`, `description`, `endpoint_name`, `workspace`: str; workspace None = the only one in the settings
- `mode`: "act"
- `stable`, `candidate`: str | None; None = found when the rollout starts
- `steps`: tuple of `Step(traffic: int percent, bake: timedelta in whole minutes, approve: Approval | None)`; shares
  rise and end at 100; `approve` is an approval wanted *before* that step begins:
  `Approval(timeout: timedelta, on_timeout)`
- `first_step`: "auto" = begin the first step at a share sized from the traffic; "as_written" = at its own share
- `holdback`: int percent that stays on stable until the last bake ends, 0 to 20
- `checks`: `Checks(error_rate, client_errors, latency_p50, latency_p95, latency_p99)`, each a check or None = off.
  `ErrorCheck(max_increase: fraction, max: fraction | None)`: 0.005 is 0.5 percentage points.
  `LatencyCheck(max_increase: part of stable's latency, max: milliseconds | None)`: 0.25 is 25 %.
  On by default: error_rate (0.5pp), client_errors (1pp) and latency_p95 (25%)
- `min_requests`: int, on the candidate, per step; 300 by default. A bake that ends with fewer is a doubt (`when.doubt`)
- `when`: `When(suspicion, regression, doubt: Doubt(extend, then), no_data: NoData(hold, then), shared_incident, drift)`
- `deadline`: timedelta of active time; `after`: "keep"; `alerts`: names of channels; `runbook`: address or None
- `expert`: `Expert(alpha: fraction, ratio: float, early: bool, harm_budget: None, evidence: ("logs", "metrics"))`

`Policy.version` counts the changes of this model that an older reader would not understand; `digest()` names the
content.
"""

import hashlib
import json
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StrictBool,
    StrictInt,
)

from rollout.documents.units import Bake, Duration, Holdback, Increase, Milliseconds, Percent, Points, Share, between

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

#: Which quantile of the latency each latency check compares.
QUANTILES = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}


class Model(BaseModel):
    """Frozen, and nothing in it that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)


class Approval(Model):
    """A person must approve before the step begins."""

    timeout: Annotated[Duration, AfterValidator(between(MINUTE, 14 * DAY))] = DAY
    on_timeout: Literal["pause", "rollback"] = "pause"


class Step(Model):
    """A share of the traffic, held for its bake."""

    traffic: Share
    bake: Bake
    approve: Approval | None = None


class ErrorCheck(Model):
    """The rate of some kind of error: candidate against stable, in the same minutes."""

    max_increase: Points
    max: Percent | None = None


class LatencyCheck(Model):
    """A quantile of the latency: candidate against stable, in the same minutes."""

    max_increase: Increase = 0.25
    max: Milliseconds | None = None


class Checks(Model):
    """What is compared; None is off."""

    error_rate: ErrorCheck | None = ErrorCheck(max_increase="0.5pp")
    client_errors: ErrorCheck | None = ErrorCheck(max_increase="1pp")
    latency_p50: LatencyCheck | None = None
    latency_p95: LatencyCheck | None = LatencyCheck()
    latency_p99: LatencyCheck | None = None

    def active(self) -> dict[str, ErrorCheck | LatencyCheck]:
        """The checks that are on, by name, in the order in which they are told."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: check for name, check in found.items() if check is not None}


class Doubt(Model):
    """What follows when a bake ends without an answer."""

    extend: Duration = timedelta(minutes=30)
    then: Literal["pause", "rollback"] = "pause"


class NoData(Model):
    """What follows when Azure Monitor shows nothing."""

    hold: Duration = timedelta(minutes=45)
    then: Literal["pause", "rollback"] = "pause"


class When(Model):
    """What follows from what is seen."""

    suspicion: Literal["retreat", "hold"] = "retreat"
    regression: Literal["rollback", "pause"] = "rollback"
    doubt: Doubt = Doubt()
    no_data: NoData = NoData()
    shared_incident: Literal["hold"] = "hold"
    drift: Literal["pause"] = "pause"


class Expert(Model):
    """The judge's own numbers."""

    alpha: Percent = 0.05
    ratio: float = 1.2
    early: StrictBool = True
    harm_budget: None = None
    evidence: tuple[Literal["logs", "metrics"], ...] = ("logs", "metrics")


class Common(Model):
    """What is the same in a policy as written and as judged."""

    description: str = ""
    endpoint_name: str
    workspace: str | None = None
    mode: Literal["act"] = "act"
    stable: str | None = None
    candidate: str | None = None
    holdback: Holdback = 5
    checks: Checks = Checks()
    min_requests: StrictInt = 300
    when: When = When()
    after: Literal["keep"] = "keep"
    alerts: tuple[str, ...] = ()
    runbook: str | None = None
    expert: Expert = Expert()


class Policy(Common):
    """A policy as it is judged and pinned: see the module's docstring for every field."""

    version: ClassVar[int] = 1

    name: str
    steps: tuple[Step, ...]
    first_step: Literal["auto", "as_written"] = "as_written"
    deadline: Duration = timedelta(hours=8)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: equal for equal policies."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
