"""One workspace looked at from one identity: the order of the reads, their bounds, and what goes on beside what.

The rule: nothing is written, and nothing is asked twice. Endpoints are looked at a few at a time; what would begin after
the time is up is not begun, and says so.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rollout.azure.arm import WorkspaceResources
from rollout.azure.azure_ml import ml_client
from rollout.azure.calls import Calls
from rollout.azure.cloud import Cloud, make_credential
from rollout.azure.errors import in_our_words
from rollout.azure.examining import capacity, history, identity, reaching, rights, traffic_log
from rollout.azure.examining.causes import attempt
from rollout.azure.examining.facts import (
    Assignment,
    Cause,
    EndpointFacts,
    LogWorkspace,
    Machines,
    Reach,
    Sampled,
    Seen,
    Unread,
    WorkspaceFacts,
)
from rollout.azure.examining.first_look import ROLE, FirstLook, first_look
from rollout.azure.examining.manager import ResourceManager
from rollout.azure.keys import EndpointKeys
from rollout.azure.logs import AzureLogs
from rollout.azure.resources import Malformed, endpoint_state, name_of, nameless
from rollout.azure.scoring import AzureScoring, http_client
from rollout.ports import Clock, Logs
from rollout.settings import Credential, Workspace
from rollout.world import EndpointKind

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

MOST_ENDPOINTS = 100
AT_ONCE = 4
HOURS, DAYS = 24, 7  # of the traffic log, and of the activity log
MOST_ELSEWHERE = 10  # log workspaces outside the subscription
MAX_BATCH = 50  # endpoints of one metrics call
PREDICTION = timedelta(seconds=30)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to look at: endpoints by name (None: all), and the sample to send to each (by case-folded name)."""

    names: Sequence[str] | None = None
    samples: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 120.0


class Examiner:
    """Looks at one workspace; made by `examiner`."""

    def __init__(
        self,
        *,
        cloud: Cloud,
        identity: "TokenCredential",
        credential: Credential,
        name: str,
        workspace: Workspace,
        clock: Clock,
        closing: ExitStack,
    ) -> None:
        self._cloud, self._identity, self._credential = cloud, identity, credential
        self._name, self._workspace, self._clock = name, workspace, clock
        self._closing = closing
        self._manager = ResourceManager(cloud, identity)
        closing.callback(self._manager.close)
        client = ml_client(cloud, identity, workspace)
        self._resources = WorkspaceResources(
            client, resource_group=workspace.resource_group, workspace=workspace.workspace_name
        )
        closing.callback(self._resources.close)
        self._http = http_client(cloud)
        closing.callback(self._http.close)
        self._keys = EndpointKeys(
            self._resources,
            identity,
            audience=cloud.scoring_audience,
            clock=clock,
            remedy="It needs the role's action.",
        )
        self._until = float("inf")

    @property
    def scope(self) -> str:
        """The ARM id of the workspace."""
        place = self._workspace
        group = f"/subscriptions/{place.subscription_id}/resourceGroups/{place.resource_group}"
        return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/{place.workspace_name}"

    def look(self, wanted: Wanted) -> WorkspaceFacts:
        """Everything; takes about as long as `wanted.seconds` at most."""
        self._until = self._real() + wanted.seconds
        place = self._workspace
        audiences = identity.services(
            self._cloud, logs=place.log_workspace is not None, metrics=place.metrics == "batch", scoring=False
        )
        who, tokens = identity.tokens(self._identity, self._credential, audiences)
        if isinstance(who, Unread):
            return self._unknown(who, tokens)
        found, missing, broken = self._list(wanted.names)
        chosen = found if isinstance(found, Unread) else dict(list(found.items())[:MOST_ENDPOINTS])
        facts = WorkspaceFacts(
            name=self._name,
            id=self.scope,
            region=place.region,
            looked_at=self._clock.now(),
            who=who,
            tokens=tokens,
            permissions=self._in_time(lambda: rights.permissions(self._manager, self.scope)),
            assignments=self._in_time(lambda: rights.assignments(self._manager, self.scope, object_id=who.object_id)),
            endpoints=chosen if isinstance(chosen, Unread) else self._endpoints(chosen, wanted.samples),
            missing=missing,
            broken=broken,
            left_out=() if isinstance(found, Unread) else tuple(found)[MOST_ENDPOINTS:],
            log_workspace=place.log_workspace,
            hours=HOURS,
            days=DAYS,
        )
        return self._beside(facts)

    def first_look(self, name: str) -> FirstLook:
        """The endpoint of this name, and where its requests are logged. Raises RolloutError."""
        with in_our_words(f"read endpoint {name} of workspace {self._workspace.workspace_name}", remedy=ROLE):
            found = self._resources.endpoint(name)
        return first_look(self._manager, found, scope=self.scope)

    def logs(self, log_workspace: str) -> Logs:
        """The traffic log of a log workspace, by its customer id."""
        return AzureLogs(self._logs(), log_workspace=log_workspace, calls=self._calls())

    # --- the workspace

    def _beside(self, facts: WorkspaceFacts) -> WorkspaceFacts:
        """What is read once for all endpoints."""
        place, manager = self._workspace, self._manager
        subscription = place.subscription_id
        managed = _managed(facts)
        facts = replace(
            facts,
            log_workspaces=self._in_time(lambda: traffic_log.log_workspaces(manager, subscription=subscription)),
            quotas=self._in_time(
                lambda: capacity.quotas(manager, subscription=subscription, region=place.region, workspace=self.scope)
            ),
            sizes=self._in_time(lambda: capacity.sizes(manager, subscription=subscription, region=place.region)),
            autoscale=self._in_time(
                lambda: capacity.autoscale(manager, subscription=subscription, group=place.resource_group)
            ),
            changes=self._in_time(
                lambda: history.changes(
                    manager,
                    subscription=subscription,
                    group=place.resource_group,
                    since=facts.looked_at - timedelta(days=DAYS),
                    us=None if isinstance(facts.who, Unread) else facts.who,
                )
            ),
        )
        facts = replace(facts, log_workspaces=self._more_log_workspaces(facts))
        return self._monitored(facts, managed) if managed else facts

    def _more_log_workspaces(self, facts: WorkspaceFacts) -> Seen[tuple[LogWorkspace, ...]]:
        """Those of the subscription, and those elsewhere that diagnostic settings send to."""
        listed = facts.log_workspaces
        known = () if isinstance(listed, Unread) else listed
        ids = {each.id.casefold() for each in known}
        named = {place.casefold(): place for place in _sent_to(facts) if place.casefold() not in ids}
        found = [
            self._in_time(partial(traffic_log.log_workspace, self._manager, place))
            for place in list(named.values())[:MOST_ELSEWHERE]
        ]
        more = tuple(each for each in found if not isinstance(each, Unread))
        return listed if isinstance(listed, Unread) and not more else (*known, *more)

    def _monitored(self, facts: WorkspaceFacts, managed: Sequence[str]) -> WorkspaceFacts:
        now = int(facts.looked_at.timestamp()) // 60
        log_workspace = self._workspace.log_workspace
        if log_workspace is not None:
            found = self._in_time(
                lambda: traffic_log.rows(
                    self._logs(), log_workspace=log_workspace, endpoints=managed, start=now - HOURS * 60, end=now + 1
                )
            )
            facts = replace(facts, rows=found)
            if isinstance(found, Unread) and (place := _log_workspace(facts)) is not None:
                facts = replace(facts, log_assignments=self._assigned(facts, place))
        if self._workspace.metrics == "batch":
            some = managed[:MAX_BATCH]
            facts = replace(facts, batch=self._in_time(lambda: traffic_log.batch(self._metrics(), some, now=now)))
        if isinstance(facts.batch, Unread):
            one = self._in_time(lambda: traffic_log.single(self._manager, managed[0], now=facts.looked_at))
            subscription = f"/subscriptions/{self._workspace.subscription_id}"
            facts = replace(facts, single=one, metrics_assignments=self._assigned(facts, subscription))
        return facts

    def _assigned(self, facts: WorkspaceFacts, scope: str) -> Seen[tuple[Assignment, ...]]:
        """Our roles at another scope, where it refused us."""
        if isinstance(facts.who, Unread):
            return facts.who
        object_id = facts.who.object_id
        return self._in_time(lambda: rights.assignments(self._manager, scope, object_id=object_id))

    def _unknown(self, who: Unread, tokens: Mapping[str, Unread | None]) -> WorkspaceFacts:
        """Without a token nothing else can be asked."""
        return WorkspaceFacts(
            name=self._name,
            id=self.scope,
            region=self._workspace.region,
            looked_at=self._clock.now(),
            who=who,
            tokens=tokens,
            **dict.fromkeys(("permissions", "assignments", "endpoints", "log_workspaces"), who),  # type: ignore[arg-type]
            **dict.fromkeys(("quotas", "sizes", "autoscale", "changes"), who),  # type: ignore[arg-type]
            log_workspace=self._workspace.log_workspace,
        )

    # --- its endpoints

    def _list(self, names: Sequence[str] | None) -> tuple[Seen[dict[str, Any]], tuple[str, ...], Mapping[str, str]]:
        """The endpoints as Azure describes them, those that are missing, and those that cannot be understood."""
        found = attempt("list the endpoints of the workspace", lambda: list(self._resources.endpoints()))
        if isinstance(found, Unread):
            return found, (), {}
        by_name = {(name_of(item) or nameless(at)).casefold(): item for at, item in enumerate(found, start=1)}
        wanted = [name.casefold() for name in names] if names is not None else list(by_name)
        broken: dict[str, str] = {}
        good: dict[str, Any] = {}
        for name in wanted:
            try:
                if name in by_name:
                    endpoint_state(by_name[name])
                    good[name] = by_name[name]
            except Malformed as error:
                broken[name] = str(error)
        return good, tuple(name for name in wanted if name not in by_name), broken

    def _endpoints(self, items: Mapping[str, Any], samples: Mapping[str, bytes]) -> Mapping[str, EndpointFacts]:
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="doctor") as pool:
            looked = pool.map(lambda name: self._endpoint(items[name], samples.get(name)), items)
            return dict(zip(items, looked, strict=True))

    def _endpoint(self, item: Any, sample: bytes | None) -> EndpointFacts:
        state = endpoint_state(item)
        facts = EndpointFacts(
            state=state,
            public=str(item["properties"].get("publicNetworkAccess")).casefold() != "disabled",
            deployments=self._in_time(lambda: self._deployments(state.name)),
            diagnostics=self._in_time(lambda: traffic_log.diagnostics(self._manager, state.resource_id)),
            secret=self._in_time(lambda: self._secret(state.name, state.auth_mode)),
            reach=self._reach(state.scoring_uri),
        )
        if sample is None:
            return facts
        return replace(facts, sample=self._in_time(lambda: self._predict(facts, sample)))

    def _reach(self, address: str | None) -> Reach:
        found = self._in_time(lambda: reaching.reach(self._http, address))
        return Reach(status=found) if isinstance(found, Unread) else found

    def _deployments(self, endpoint: str) -> Seen[tuple[Machines, ...]]:
        def read() -> tuple[Machines, ...]:
            return tuple(_machines(each) for each in self._resources.deployments(endpoint))

        return attempt(f"read the deployments of {endpoint}", read)

    def _secret(self, endpoint: str, auth_mode: str) -> Seen[str]:
        kind = {"key": "key", "aml_token": "token"}.get(auth_mode, "token of Microsoft Entra ID")

        def ask() -> str:
            self._keys.get(endpoint, auth_mode)
            return kind

        return attempt(f"get the {kind} of {endpoint}", ask)

    def _predict(self, facts: EndpointFacts, sample: bytes) -> Seen[Sampled]:
        scoring = AzureScoring(self._http, self._keys, clock=self._clock)

        def ask() -> Sampled:
            answer = scoring.send(facts.state, sample, deployment=None, timeout=PREDICTION)
            good = answer.status == 200
            return Sampled(
                good=good, told=answer.why, deployment=answer.deployment, milliseconds=round(answer.milliseconds, 1)
            )

        return attempt(f"send a prediction to {facts.state.name}", ask)

    # --- clients and bounds

    def _logs(self) -> Any:
        from azure.monitor.query import LogsQueryClient

        cloud = self._cloud
        client = LogsQueryClient(self._identity, endpoint=cloud.logs, audience=cloud.logs_audience, **cloud.options())
        self._closing.callback(client.close)
        return client

    def _metrics(self) -> Any:
        from azure.monitor.querymetrics import MetricsClient

        from rollout.azure.metrics import AzureMetrics

        cloud, place = self._cloud, self._workspace
        client = MetricsClient(
            cloud.metrics_address(place.region), self._identity, audience=cloud.metrics_audience, **cloud.options()
        )
        self._closing.callback(client.close)
        where = f"subscription {place.subscription_id} in {place.region}"
        return AzureMetrics(client, place=where, calls=self._calls())

    def _calls(self) -> Calls:
        return Calls(monotonic=self._clock.monotonic, chance=random.Random(1))  # noqa: S311 - when a try is repeated

    def _real(self) -> float:
        """Real seconds since some moment."""
        return self._clock.monotonic() * self._clock.real_seconds(timedelta(seconds=1))

    def _in_time(self, read: Callable[[], Seen[T]]) -> Seen[T]:
        if self._real() > self._until:
            return Unread(cause=Cause.TIME, why="Not looked at: the time was up before. Give it more with --timeout.")
        return read()


@contextmanager
def examiner(
    *, cloud: Cloud, credential: Credential, secret: str | None, name: str, workspace: Workspace, clock: Clock
) -> Iterator[Examiner]:
    """An examiner of the workspace that the settings call `name`, with the credential of the settings."""
    with ExitStack() as closing:
        made = make_credential(cloud, credential, secret=secret)
        if callable(close := getattr(made, "close", None)):
            closing.callback(close)
        yield Examiner(
            cloud=cloud,
            identity=made,
            credential=credential,
            name=name,
            workspace=workspace,
            clock=clock,
            closing=closing,
        )


def _managed(facts: WorkspaceFacts) -> list[str]:
    """Resource ids of the endpoints that have logs and metrics."""
    if isinstance(facts.endpoints, Unread):
        return []
    every = [each.state for each in facts.endpoints.values()]
    return [state.resource_id for state in every if state.kind is EndpointKind.MANAGED]


def _sent_to(facts: WorkspaceFacts) -> list[str]:
    """ARM ids of the log workspaces that the endpoints' diagnostic settings name."""
    if isinstance(facts.endpoints, Unread):
        return []
    settings = [each.diagnostics for each in facts.endpoints.values() if not isinstance(each.diagnostics, Unread)]
    return [setting.workspace_id for some in settings for setting in some if setting.workspace_id]


def _log_workspace(facts: WorkspaceFacts) -> str | None:
    """ARM id of the log workspace of the settings, where it was found."""
    if isinstance(facts.log_workspaces, Unread):
        return None
    wanted = (facts.log_workspace or "").casefold()
    return next((each.id for each in facts.log_workspaces if each.customer_id.casefold() == wanted), None)


def _machines(item: Any) -> Machines:
    properties = item["properties"]
    return Machines(
        name=str(item["name"]),
        state=str(properties.get("provisioningState")),
        instance_type=properties.get("instanceType"),
        instances=int((item.get("sku") or {}).get("capacity") or 1),
    )
