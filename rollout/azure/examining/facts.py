"""What was seen of a workspace and its endpoints: plain values, nothing judged.

The rule: whatever may be refused is a `Seen`: the value, or an `Unread` that says why there is none. Times are UTC, ids as
Azure writes them unless they are keys, which are case-folded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias, TypeVar

from rollout.world import EndpointState

T = TypeVar("T")


class Cause(StrEnum):
    """Why something could not be read."""

    ROLE = "role"  # Azure knows us and says no
    NETWORK = "network"  # a firewall, a private link, a proxy, no way there
    IDENTITY = "identity"  # no token
    ABSENT = "absent"  # 404
    TIME = "time"  # our own bound
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Unread:
    """What could not be read; `why` is a sentence with Azure's own words."""

    cause: Cause
    why: str


Seen: TypeAlias = T | Unread


@dataclass(frozen=True, kw_only=True)
class Who:
    """Who a token says that we are. `name` is a person's or a managed identity's; `way` the credential that gave it."""

    way: str
    client_id: str
    object_id: str
    tenant_id: str
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Permission:
    """What one role allows, as Azure's roles write it: patterns with `*`."""

    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A role that we were given, and when."""

    role: str
    scope: str
    since: datetime | None
    permissions: tuple[Permission, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LogWorkspace:
    """A Log Analytics workspace; `daily_cap_gb` None: no cap."""

    id: str
    customer_id: str
    daily_cap_gb: float | None = None
    public_queries: bool = True


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """A diagnostic setting. `categories` are those switched on; `all_logs` that a group switches every one on."""

    name: str
    workspace_id: str | None
    categories: frozenset[str] = frozenset()
    all_logs: bool = False


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a deployment's traffic log within the time looked at; `recent` those of others' requests in its last hour."""

    rows: int
    size: float  # bytes that Azure bills
    oldest: datetime
    newest: datetime
    recent: int


@dataclass(frozen=True, kw_only=True)
class Quota:
    """vCPUs of a family of machines."""

    family: str
    used: int
    limit: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """A kind of machine."""

    family: str
    cores: int


@dataclass(frozen=True, kw_only=True)
class Autoscale:
    """An autoscale setting of a deployment; instances of its default profile."""

    name: str
    target: str  # ARM id, case-folded
    enabled: bool
    least: int
    most: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """A write that Azure's activity log tells: what of which resource (case-folded id), by whom and when."""

    resource: str
    by: str
    ours: bool
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Machines:
    """A deployment and what it runs on."""

    name: str
    state: str
    instance_type: str | None
    instances: int


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What came back from the scoring address to a request without a key; `addresses` are what its name stands for."""

    status: Seen[int]
    addresses: tuple[str, ...] = ()
    host: str = ""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A prediction with a policy's sample."""

    good: bool
    told: str
    deployment: str | None = None
    milliseconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EndpointFacts:
    """One endpoint. `secret` is what kind of key was had; `sample` None: none was sent."""

    state: EndpointState
    public: bool
    deployments: Seen[tuple[Machines, ...]]
    diagnostics: Seen[tuple[Diagnostic, ...]]
    secret: Seen[str]
    reach: Reach
    sample: Seen[Sampled] | None = None


@dataclass(frozen=True, kw_only=True)
class WorkspaceFacts:
    """One workspace, and its endpoints by name.

    `rows` and `requests` (by metrics, of the last minutes) by the endpoint's id, case-folded; None: not asked for.
    """

    name: str
    id: str
    region: str
    looked_at: datetime
    who: Seen[Who]
    tokens: Mapping[str, Unread | None]
    permissions: Seen[tuple[Permission, ...]]
    assignments: Seen[tuple[Assignment, ...]]
    endpoints: Seen[Mapping[str, EndpointFacts]]
    missing: tuple[str, ...] = ()  # endpoints that were asked for and are not there
    left_out: tuple[str, ...] = ()  # that were not looked at: more than are looked at in one go
    broken: Mapping[str, str] = field(default_factory=dict)
    log_workspace: str | None = None  # the customer id in the settings
    log_workspaces: Seen[tuple[LogWorkspace, ...]] = ()
    rows: Seen[Mapping[str, Mapping[str, Rows]]] | None = None
    log_assignments: Seen[tuple[Assignment, ...]] = ()  # on the log workspace, where its query was refused
    hours: int = 24
    batch: Seen[Mapping[str, int]] | None = None
    metrics_assignments: Seen[tuple[Assignment, ...]] = ()  # on the subscription, where batch was refused
    single: Seen[bool] | None = None  # metrics of one endpoint by itself, where batch was refused
    quotas: Seen[tuple[Quota, ...]] = ()
    sizes: Seen[Mapping[str, Size]] = field(default_factory=dict)
    autoscale: Seen[tuple[Autoscale, ...]] = ()
    changes: Seen[tuple[Change, ...]] = ()
    days: int = 7
