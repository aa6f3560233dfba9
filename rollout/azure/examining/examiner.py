"""One workspace looked at from one identity: the order of the reads, their bounds, and what goes on beside what.

The rule: nothing is written, and nothing is asked twice. Endpoints are looked at a few at a time; what would begin after
the time is up is not begun, and says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from rollout.azure.cloud import Cloud, make_credential
from rollout.azure.errors import in_our_words
from rollout.azure.examining import capacity, history, identity, rights, traffic_log
from rollout.azure.examining.causes import attempt
from rollout.azure.examining.clients import Bound, Clients
from rollout.azure.examining.facts import Assignment, EndpointFacts, LogWorkspace, Seen, Unread, WorkspaceFacts
from rollout.azure.examining.first_look import ROLE, FirstLook, first_look
from rollout.azure.examining.one_endpoint import look_at
from rollout.azure.logs import AzureLogs
from rollout.azure.resources import Malformed, endpoint_state, name_of, nameless
from rollout.ports import Clock, Logs
from rollout.settings import Credential, Workspace
from rollout.world import EndpointKind

MOST_ENDPOINTS = 100
AT_ONCE = 4
HOURS, DAYS = 24, 7  # of the traffic log, and of the activity log
MOST_ELSEWHERE = 10  # log workspaces outside the subscription
MAX_BATCH = 50  # endpoints of one metrics call


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to look at: endpoints by name (None: all), and the sample to send to each (by case-folded name)."""

    names: Sequence[str] | None = None
    samples: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 120.0


class Examiner:
    """Looks at one workspace; made by `examiner`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._manager = clients.manager
        self._workspace = clients.workspace
        self._bound = Bound(clients.clock, 0.0)

    def look(self, wanted: Wanted) -> WorkspaceFacts:
        """Everything; takes about as long as `wanted.seconds` at most."""
        self._bound = Bound(self._clients.clock, wanted.seconds)
        place = self._workspace
        audiences = identity.services(
            self._clients.cloud, logs=place.log_workspace is not None, metrics=place.metrics == "batch"
        )
        who, tokens = identity.tokens(self._clients.identity, self._clients.credential, audiences)
        if isinstance(who, Unread):
            return self._unknown(who, tokens)
        found, missing, broken = self._list(wanted.names)
        chosen = found if isinstance(found, Unread) else dict(list(found.items())[:MOST_ENDPOINTS])
        facts = WorkspaceFacts(
            name=self._clients.name,
            id=self._clients.scope,
            region=place.region,
            looked_at=self._clients.clock.now(),
            who=who,
            tokens=tokens,
            permissions=self._bound.in_time(lambda: rights.permissions(self._manager, self._clients.scope)),
            assignments=self._bound.in_time(
                lambda: rights.assignments(self._manager, self._clients.scope, object_id=who.object_id)
            ),
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
            found = self._clients.resources.endpoint(name)
        return first_look(self._manager, found, scope=self._clients.scope)

    def logs(self, log_workspace: str) -> Logs:
        """The traffic log of a log workspace, by its customer id."""
        return AzureLogs(self._clients.logs(), log_workspace=log_workspace, calls=self._clients.calls())

    # --- the workspace

    def _beside(self, facts: WorkspaceFacts) -> WorkspaceFacts:
        """What is read once for all endpoints."""
        place, manager = self._workspace, self._manager
        subscription = place.subscription_id
        managed = _managed(facts)
        facts = replace(
            facts,
            log_workspaces=self._bound.in_time(lambda: traffic_log.log_workspaces(manager, subscription=subscription)),
            quotas=self._bound.in_time(
                lambda: capacity.quotas(
                    manager, subscription=subscription, region=place.region, workspace=self._clients.scope
                )
            ),
            sizes=self._bound.in_time(lambda: capacity.sizes(manager, subscription=subscription, region=place.region)),
            autoscale=self._bound.in_time(
                lambda: capacity.autoscale(manager, subscription=subscription, group=place.resource_group)
            ),
            changes=self._bound.in_time(
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
            self._bound.in_time(partial(traffic_log.log_workspace, self._manager, place))
            for place in list(named.values())[:MOST_ELSEWHERE]
        ]
        more = tuple(each for each in found if not isinstance(each, Unread))
        return listed if isinstance(listed, Unread) and not more else (*known, *more)

    def _monitored(self, facts: WorkspaceFacts, managed: Sequence[str]) -> WorkspaceFacts:
        now = int(facts.looked_at.timestamp()) // 60
        log_workspace = self._workspace.log_workspace
        if log_workspace is not None:
            found = self._bound.in_time(
                lambda: traffic_log.rows(
                    self._clients.logs(),
                    log_workspace=log_workspace,
                    endpoints=managed,
                    start=now - HOURS * 60,
                    end=now + 1,
                )
            )
            facts = replace(facts, rows=found)
            if isinstance(found, Unread) and (place := _log_workspace(facts)) is not None:
                facts = replace(facts, log_assignments=self._assigned(facts, place))
        if self._workspace.metrics == "batch":
            some = managed[:MAX_BATCH]
            facts = replace(
                facts, batch=self._bound.in_time(lambda: traffic_log.batch(self._clients.metrics(), some, now=now))
            )
        if isinstance(facts.batch, Unread):
            one = self._bound.in_time(lambda: traffic_log.single(self._manager, managed[0], now=facts.looked_at))
            subscription = f"/subscriptions/{self._workspace.subscription_id}"
            facts = replace(facts, single=one, metrics_assignments=self._assigned(facts, subscription))
        return facts

    def _assigned(self, facts: WorkspaceFacts, scope: str) -> Seen[tuple[Assignment, ...]]:
        """Our roles at another scope, where it refused us."""
        if isinstance(facts.who, Unread):
            return facts.who
        object_id = facts.who.object_id
        return self._bound.in_time(lambda: rights.assignments(self._manager, scope, object_id=object_id))

    def _unknown(self, who: Unread, tokens: Mapping[str, Unread | None]) -> WorkspaceFacts:
        """Without a token nothing else can be asked."""
        return WorkspaceFacts(
            name=self._clients.name,
            id=self._clients.scope,
            region=self._workspace.region,
            looked_at=self._clients.clock.now(),
            who=who,
            tokens=tokens,
            **dict.fromkeys(("permissions", "assignments", "endpoints", "log_workspaces"), who),  # type: ignore[arg-type]
            **dict.fromkeys(("quotas", "sizes", "autoscale", "changes"), who),  # type: ignore[arg-type]
            log_workspace=self._workspace.log_workspace,
        )

    # --- its endpoints

    def _list(self, names: Sequence[str] | None) -> tuple[Seen[dict[str, Any]], tuple[str, ...], Mapping[str, str]]:
        """The endpoints as Azure describes them, those that are missing, and those that cannot be understood."""
        found = attempt("list the endpoints of the workspace", lambda: list(self._clients.resources.endpoints()))
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
        def look(name: str) -> EndpointFacts:
            return look_at(self._clients, self._bound, items[name], sample=samples.get(name))

        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="doctor") as pool:
            looked = pool.map(look, items)
            return dict(zip(items, looked, strict=True))


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
            Clients(
                cloud=cloud,
                identity=made,
                credential=credential,
                name=name,
                workspace=workspace,
                clock=clock,
                closing=closing,
            )
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
