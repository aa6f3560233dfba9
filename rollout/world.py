"""The world as the project sees it: the values that cross the ports.

The rule: plain, frozen, comparable facts. Names of deployments are compared case-folded and zero shares are dropped,
as Azure does, so that two descriptions of the same split are equal. No behaviour beyond that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

#: States in which no operation runs on an endpoint or deployment.
TERMINAL_STATES = frozenset({"Succeeded", "Failed", "Canceled"})
NO_TAGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, order=True)
class EndpointRef:
    """An endpoint: the name of its workspace in the settings, and its own name."""

    workspace: str
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Split:
    """How an endpoint's live traffic is divided: whole percents by deployment, sorted, case-folded, without zeros."""

    shares: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, traffic: Mapping[str, int]) -> "Split":
        """The split that `{name: percent}` describes."""
        return cls(tuple(sorted((name.casefold(), share) for name, share in traffic.items() if share)))

    def share(self, deployment: str) -> int:
        """The percent that this deployment gets."""
        return dict(self.shares).get(deployment.casefold(), 0)

    def others(self, *deployments: str) -> tuple[str, ...]:
        """Deployments with a share that are none of these."""
        known = {name.casefold() for name in deployments}
        return tuple(name for name, _ in self.shares if name not in known)

    def as_traffic(self) -> dict[str, int]:
        """As Azure writes it."""
        return dict(self.shares)

    def __str__(self) -> str:
        parts = sorted(self.shares, key=lambda item: (-item[1], item[0]))
        return " + ".join(f"{name} {share} %" for name, share in parts) or "no traffic"


class EndpointKind(StrEnum):
    """Where an endpoint runs: Kubernetes endpoints have no platform metrics and no traffic log."""

    MANAGED = "managed"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True, kw_only=True)
class EndpointState:
    """An online endpoint as Azure last described it."""

    name: str
    resource_id: str
    state: str
    traffic: Split
    mirror_traffic: Split = Split()
    kind: EndpointKind = EndpointKind.MANAGED
    auth_mode: str = "key"
    scoring_uri: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    last_modified_by: str | None = None
    last_modified_at: datetime | None = None
    failure: str | None = None  # why our last write to it failed, in Azure's words

    @property
    def settled(self) -> bool:
        """No operation runs on the endpoint."""
        return self.state in TERMINAL_STATES


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What a deployment serves: if any of it changes, it is another thing than the one being judged."""

    model: str | None
    environment: str | None
    code: str | None
    modified_at: str | None
    instances: int | None = None

    def difference(self, other: "Pin") -> str:
        """What differs, in words, or an empty string. A deployment that was only scaled is still the same."""
        scaled = self.instances != other.instances
        names = ("model", "environment", "code", *(() if scaled else ("modified_at",)))
        return ", ".join(name.replace("_at", "") for name in names if getattr(self, name) != getattr(other, name))


@dataclass(frozen=True, kw_only=True)
class DeploymentState:
    """A deployment of an endpoint as Azure last described it."""

    name: str
    state: str
    pin: Pin
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    #: Stays the same while the deployment is scaled, tagged or moved by Azure; another one once it is created anew or
    #: serves something else.
    identity: str = ""

    @property
    def exists_to_serve(self) -> bool:
        """Azure has it and has not given it up: `Updating` and `Scaling` are what an autoscaling deployment looks like."""
        return self.state not in {"Failed", "Deleting", "Canceled"}


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A deployment that is there, but whose description by Azure lacks what we need; `why` names the field.

    `name` is None where even that is missing: then it may be any of the endpoint's.
    """

    name: str | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One look at an endpoint. `endpoint` is None where Azure says that it does not exist.

    `deployments` is None where they were not asked for; `requested_at` is the moment before the request was sent:
    only what was requested after a write ended can speak about that write.
    """

    endpoint: EndpointState | None
    deployments: Mapping[str, DeploymentState | Unreadable] | None
    requested_at: datetime

    def deployment(self, name: str) -> DeploymentState | Unreadable | None:
        """One of the deployments that were asked for; None where it does not exist."""
        known = self.deployments or {}
        nameless = (found for found in known.values() if isinstance(found, Unreadable) and found.name is None)
        return known.get(name.casefold()) or next(nameless, None)


# --- errands: writes to Azure beside the split ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Autoscale:
    """An autoscale setting of Azure Monitor: it scales the one deployment that it targets.

    `id` is the setting's own resource id; `body` is what a write of it sends, as JSON text with sorted keys.
    """

    id: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Give a deployment so many instances; `idle`: only while it has no traffic, live or mirrored."""

    deployment: str
    instances: int
    idle: bool = False
    kind: Literal["scale"] = "scale"


@dataclass(frozen=True, kw_only=True)
class SetAutoscale:
    """Write the autoscale setting of a deployment, or take it off (`body` None)."""

    deployment: str
    setting: str  # its resource id
    body: str | None
    kind: Literal["autoscale"] = "autoscale"


@dataclass(frozen=True, kw_only=True)
class DeleteDeployment:
    """Delete a deployment without traffic, mirrored or live."""

    deployment: str
    kind: Literal["delete"] = "delete"


@dataclass(frozen=True, kw_only=True)
class CreateDeployment:
    """Create the candidate from the file in the rollout's policy, or bring it up to date, without traffic."""

    deployment: str
    digest: str  # of the file
    kind: Literal["create"] = "create"


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Send a deployment copies of this share of the live requests, in percent; 0 ends it."""

    deployment: str
    share: int
    kind: Literal["mirror"] = "mirror"


Errand = Scale | SetAutoscale | DeleteDeployment | CreateDeployment | Mirror


#: Which part of a policy a trial is made for.
TrialOf = Literal["probes", "smoke_test"]


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """A person's word that nothing gets more traffic for now: one endpoint, or (None) all; until then, or until lifted.

    It never holds a cut or a roll back.
    """

    id: str
    endpoint: EndpointRef | None
    reason: str
    by: str
    at: datetime
    until: datetime | None = None

    def covers(self, ref: EndpointRef) -> bool:
        """Whether it is about this endpoint."""
        ours = self.endpoint
        return ours is None or (ours.workspace == ref.workspace and ours.name.casefold() == ref.name.casefold())

    def holds(self, now: datetime) -> bool:
        """Whether it is not over by itself."""
        return self.until is None or now < self.until


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How both deployments answered the policy's sample requests before a rollout.

    `problem` says in words what was wrong, None where nothing was; `final`: it does not pass by itself. `at` is when the
    last answer came; `of` is the part of the policy that they were sent for, `told` what people may read of a good end.
    """

    at: datetime
    problem: str | None = None
    final: bool = False
    of: TrialOf = "probes"
    told: str = ""


class Verb(StrEnum):
    """What a person may ask of a rollout."""

    APPROVE = "approve"
    REJECT = "reject"
    PROMOTE = "promote"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A person's wish, written down as a fact for the next tick: who, why, from where."""

    id: str
    rollout_id: str
    verb: Verb
    at: datetime
    by: str
    origin: str
    reason: str | None = None
    full: bool = False
    drift: str | None = None  # for resume: "adopt" the person's split or "restore" ours
    groups: tuple[str, ...] = ()  # of the settings, that `by` belongs to

    def described(self) -> str:
        """`promote --full`, as typed."""
        return " ".join([self.verb, *(["--full"] if self.full else []), *([f"--{self.drift}"] if self.drift else [])])


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """What became of a command: carried out or refused, with the sentence that its author reads."""

    command_id: str
    accepted: bool
    sentence: str


class Severity(StrEnum):
    """How loudly a message asks for a person: for reading, for today, for now."""

    NOTICE = "notice"
    ACTION = "action"
    PAGE = "page"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change of a rollout, told in one sentence: the line that history, log, alert, CLI and API print.

    `severity` None means that nobody is told beyond the history. `details` hold what explains the change later
    (JSON values: the verdict with its findings, the command, the split).
    """

    at: datetime
    kind: str
    sentence: str
    severity: Severity | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An event on its way to people: the id stays the same over all attempts, so receivers can drop duplicates."""

    id: str
    rollout_id: str
    endpoint: EndpointRef
    event: Event
    channels: tuple[str, ...]
    summary: Mapping[str, object] = field(default_factory=dict)  # the rollout as it was: for the long form
