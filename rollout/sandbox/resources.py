"""What the sandbox's cloud holds: endpoints, deployments, long-running operations, registered assets, and who it is.

The rule: plain frozen values. Only `Cloud` replaces them, and only `bodies` knows how Azure spells them in JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias

Seconds: TypeAlias = tuple[float, float]  # shortest and longest; one is drawn evenly for each operation
Traffic: TypeAlias = Mapping[str, int]
AssetKind: TypeAlias = Literal["models", "environments", "codes", "data"]


class State(StrEnum):
    """`provisioningState` of an endpoint or a deployment."""

    CREATING = "Creating"
    UPDATING = "Updating"
    DELETING = "Deleting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def busy(self) -> bool:
        """An operation is running: the next one is answered 409."""
        return self in (State.CREATING, State.UPDATING, State.DELETING)


class Status(StrEnum):
    """Status of a long-running operation, as its status address tells it."""

    RUNNING = "Updating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Work(StrEnum):
    """What an operation does to its resource."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True)
class Timings:
    """How long operations take, in seconds of the sandbox's clock; the defaults are what Azure was seen to take."""

    endpoint_create: Seconds = (80.0, 100.0)
    endpoint_update: Seconds = (20.0, 31.0)
    endpoint_delete: Seconds = (20.0, 40.0)
    deployment_create: Seconds = (570.0, 594.0)
    deployment_update: Seconds = (240.0, 360.0)  # a new model, code, environment or variables
    deployment_scale: Seconds = (60.0, 120.0)  # instances, limits, tags: the servers stay
    deployment_delete: Seconds = (30.0, 60.0)
    read_lag: Seconds = (1.0, 3.0)  # after a success the old traffic is still read for so long

    def changed(self, **knobs: object) -> "Timings":
        """These timings with some of them replaced: by a number or a pair (shortest, longest). Raises ValueError."""
        known = {item.name for item in fields(self)}
        if unknown := sorted(set(knobs) - known):
            raise ValueError(f"unknown timing {', '.join(unknown)}: use one of {', '.join(sorted(known))}")
        return Timings(**{**asdict(self), **{name: _span(name, value) for name, value in knobs.items()}})


def _span(name: str, value: object) -> Seconds:
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(isinstance(item, int | float) and item >= 0 for item in pair):
        raise ValueError(f"{name}: {value!r} is no duration: write seconds, or [shortest, longest]")
    low, high = float(pair[0]), float(pair[1])
    if low > high:
        raise ValueError(f"{name}: the shortest ({low:g} s) is longer than the longest ({high:g} s)")
    return low, high


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Where this cloud says it is: the ids under which clients find it. Fixed, so that examples can be copied."""

    address: str = "https://127.0.0.1"
    tenant_id: str = "7a1c0000-0000-4000-8000-000000000001"
    client_id: str = "7a1c0000-0000-4000-8000-000000000002"
    subscription_id: str = "7a1c0000-0000-4000-8000-000000000003"
    workspace_id: str = "7a1c0000-0000-4000-8000-000000000004"
    log_workspace: str = "7a1c0000-0000-4000-8000-000000000005"
    resource_group: str = "restaurants"
    workspace_name: str = "recommendations"
    region: str = "westeurope"

    @property
    def subscription_path(self) -> str:
        """ARM id of the subscription."""
        return f"/subscriptions/{self.subscription_id}"

    @property
    def resource_group_id(self) -> str:
        """ARM id of the resource group."""
        return f"{self.subscription_path}/resourceGroups/{self.resource_group}"

    @property
    def workspace(self) -> str:
        """ARM id of the workspace."""
        provider = "providers/Microsoft.MachineLearningServices"
        return f"{self.resource_group_id}/{provider}/workspaces/{self.workspace_name}"

    def endpoint_id(self, endpoint: str) -> str:
        """ARM id of an online endpoint."""
        return f"{self.workspace}/onlineEndpoints/{endpoint}"

    def deployment_id(self, endpoint: str, deployment: str) -> str:
        """ARM id of an online deployment."""
        return f"{self.endpoint_id(endpoint)}/deployments/{deployment}"

    def asset_id(self, kind: AssetKind, name: str, version: str) -> str:
        """ARM id of one version of a registered asset."""
        return f"{self.workspace}/{kind}/{name}/versions/{version}"

    def registry_id(self, registry: str, kind: AssetKind, name: str, version: str) -> str:
        """The id of one version of an asset in a registry."""
        return f"azureml://registries/{registry}/{kind}/{name}/versions/{version}"

    def scoring_uri(self, endpoint: str) -> str:
        """Where predictions are asked for. (Azure gives each endpoint a host of its own; loopback has one.)"""
        return f"{self.address}/endpoints/{endpoint}/score"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who sends a request: the client id of the token; the service principal, or a person (any other id)."""

    id: str
    kind: Literal["Application", "User"] = "Application"


@dataclass(frozen=True, kw_only=True)
class SystemData:
    """`systemData`: who made and last changed a resource, and when."""

    created_by: Actor
    created_at: datetime
    modified_by: Actor
    modified_at: datetime


@dataclass(frozen=True, kw_only=True)
class EndpointSpec:
    """What a client may ask of an endpoint. Traffic: whole percents by deployment name as the deployment spells it."""

    location: str
    auth_mode: Literal["Key", "AMLToken", "AADToken"] = "Key"
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, Any] | None = None
    public_network_access: str = "Enabled"
    compute: str | None = None  # of a Kubernetes endpoint: the attached cluster's ARM id
    traffic: Traffic = field(default_factory=dict)
    mirror: Traffic = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One online endpoint: what is in effect now, and what a read still shows of before."""

    name: str
    spec: EndpointSpec
    state: State
    system: SystemData
    primary_key: str
    secondary_key: str
    created: bool = False  # a first create has succeeded: it has a scoring address
    operation: str | None = None  # the operation that runs
    shown: Traffic | None = None  # the old traffic, which reads show until `shown_until`
    shown_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DeploymentSpec:
    """What a client may ask of a deployment; assets by ARM id."""

    location: str
    model: str | None
    environment: str | None
    code: str | None  # None: an MLflow model, served without
    scoring_script: str | None
    kind: Literal["Managed", "Kubernetes"] = "Managed"
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    instance_type: str = "Standard_DS3_v2"
    instances: int = 1
    request_timeout_ms: int = 5_000
    max_concurrent: int = 1
    max_queue_wait_ms: int = 500
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    app_insights: bool = False
    scale: Mapping[str, Any] = field(default_factory=lambda: {"scaleType": "Default"})
    passed_on: Mapping[str, Any] = field(
        default_factory=dict
    )  # probes and the like: kept and shown, without effect here

    @property
    def collected(self) -> tuple[str, ...]:
        """The data assets that collected data would be written to, by id."""
        collections = (self.passed_on.get("dataCollector") or {}).get("collections") or {}
        return tuple(each["dataId"] for each in collections.values() if each.get("dataId"))

    def same_server(self, other: "DeploymentSpec") -> bool:
        """Whether the process that serves one also serves the other: same code, model, environment and variables."""
        parts = ("model", "environment", "code", "scoring_script", "environment_variables", "instance_type")
        return all(getattr(self, part) == getattr(other, part) for part in parts)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One deployment: what serves now, and under which generation of its process (0: nothing has served yet)."""

    endpoint: str
    name: str
    spec: DeploymentSpec
    state: State
    system: SystemData
    generation: int = 0
    operation: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why an operation failed, in Azure's words."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One long-running operation: begun at `started`, over no sooner than `due`."""

    id: str
    work: Work
    endpoint: str
    deployment: str | None
    started: datetime
    due: datetime
    wish: EndpointSpec | DeploymentSpec | None = None  # takes effect when the operation succeeds
    generation: int | None = None  # of the server that must answer first; None: no new server is needed
    ready: bool = True  # that server answers, or none is needed
    status: Status = Status.RUNNING
    ended: datetime | None = None
    trouble: Trouble | None = None  # set early where it is known that the operation will fail
    signature: Mapping[str, str] = field(
        default_factory=dict
    )  # the query its status address must be asked with, word for word


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One version of a registered model, environment or code asset; `path` is where its files lie, if it has any.

    `details`: its properties as a client wrote them; `flavors`: of an MLflow model; `registry`: None is the workspace.
    """

    kind: AssetKind
    name: str
    version: str
    path: Path | None = None
    description: str | None = None
    created_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    flavors: Mapping[str, Any] = field(default_factory=dict)
    registry: str | None = None

    @property
    def is_mlflow(self) -> bool:
        """A model that describes itself."""
        return bool(self.flavors)

    @property
    def mounted(self) -> Path | None:
        """What `AZUREML_MODEL_DIR` names: the folder around what a client uploaded, as on Azure."""
        return self.path.parent if self.path is not None and self.details else self.path

    @property
    def anonymous(self) -> bool:
        """Made for one deployment, and not listed."""
        return bool(self.details.get("isAnonymous"))


@dataclass(frozen=True, kw_only=True)
class WantedServer:
    """A model process that should run now; `generation` rises whenever a deployment's files or variables change."""

    endpoint: str
    deployment: str
    generation: int
    code_path: Path | None
    model_path: Path | None
    scoring_script: str
    environment_variables: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Where one request goes: the deployment, and the generation of its process that serves today."""

    endpoint_id: str
    endpoint: str
    deployment: str
    generation: int
    request_timeout_ms: int
    auth_type: str
    max_concurrent: int
    instances: int
    logged: bool = True  # Kubernetes endpoints have neither a traffic log nor platform metrics
