"""The pure model of the sandbox's cloud: endpoints, deployments, long-running operations and registered assets.

The rule: no I/O, no threads, no waiting. Time comes from the injected clock and chance from the injected generator;
every call first lets the operations end that are due by now. A write is accepted or refused at once, takes effect
when its operation succeeds, and until then reads show what was before.

Operations exclude one another: one on an endpoint excludes every other on it and on its deployments; one on a
deployment excludes another on that deployment, and the deletion of its endpoint.
"""

import hmac
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rollout.sandbox import limits, rules, wishes
from rollout.sandbox.access import Access
from rollout.sandbox.activity import KEPT, Event
from rollout.sandbox.assets import Assets
from rollout.sandbox.autoscale import AutoscaleSettings
from rollout.sandbox.faults import Faults
from rollout.sandbox.keys import EndpointToken, random_key, random_token
from rollout.sandbox.operations import Operations, forget_oldest
from rollout.sandbox.resources import (
    Actor,
    Deployment,
    DeploymentSpec,
    Endpoint,
    EndpointSpec,
    Identity,
    Operation,
    Routed,
    Seconds,
    State,
    Status,
    SystemData,
    Timings,
    Traffic,
    Trouble,
    WantedServer,
    Work,
)

CONSOLE_LINES = 5_000  # kept per deployment
TOKENS_KEPT = 1_000
CLUSTER = "kubernetes"  # the name of the attached cluster
MLFLOW_SERVER = Path(__file__).parent / "mlflow_server"  # serves models that need no script
MLFLOW_SCRIPT = "score.py"


class Cloud:
    """One workspace of Azure Machine Learning, as clients see it. Not thread-safe: one event loop, or one caller."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        chance: random.Random,
        faults: Faults,
        timings: Timings | None = None,
        identity: Identity | None = None,
        hosted: bool = True,
    ) -> None:
        """`hosted`: model processes report with `server_ready`; without, a deployment is ready when its time is up."""
        self.faults = faults
        self.timings = timings or Timings()
        self.identity = identity or Identity()
        self.assets = Assets(self.identity)
        self.autoscale = AutoscaleSettings()
        self.taken: set[str] = set()  # endpoints of other workspaces of the region, case-folded
        self.clusters: set[str] = {CLUSTER}
        self.access = Access()
        self.activity: deque[Event] = deque(maxlen=KEPT)
        self.trusted_token: Callable[[str], bool] = lambda _token: False  # of aad_token endpoints
        self._clock = clock
        self._chance = chance
        self._endpoints: dict[str, Endpoint] = {}
        self._deployments: dict[str, dict[str, Deployment]] = {}
        self._operations = Operations(chance=chance, hosted=hosted)
        self._tokens: dict[str, EndpointToken] = {}
        self._console: dict[tuple[str, str], deque[str]] = {}

    # Reads

    def now(self) -> datetime:
        """The time in this cloud."""
        return self._clock()

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, by name."""
        self._settle()
        return [self._endpoints[key] for key in sorted(self._endpoints)]

    def endpoint(self, name: str) -> Endpoint:
        """One endpoint. Raises Refusal 404."""
        self._settle()
        return self._endpoint(name)

    def traffic_shown(self, endpoint: Endpoint) -> Traffic:
        """The split as a read shows it: for a moment after a success still the old one."""
        lagging = endpoint.shown_until is not None and self._clock() < endpoint.shown_until
        return endpoint.shown if lagging and endpoint.shown is not None else endpoint.spec.traffic

    def deployments(self, endpoint: str) -> list[Deployment]:
        """The deployments of an endpoint, by name. Raises Refusal 404."""
        self._settle()
        self._endpoint(endpoint)
        found = self._deployments[endpoint.casefold()]
        return [found[key] for key in sorted(found)]

    def deployment(self, endpoint: str, name: str) -> Deployment:
        """One deployment. Raises Refusal 404."""
        self._settle()
        return self._deployment(endpoint, name)

    def operation(self, operation: str) -> Operation:
        """One operation, running or ended. Raises Refusal 404."""
        self._settle()
        return self._operations.one(operation)

    def logs(self, endpoint: str, deployment: str, *, tail: int) -> list[str]:
        """The last lines that the deployment's process wrote. Raises Refusal 404."""
        found = self.deployment(endpoint, deployment)
        lines = self._console.get((found.endpoint.casefold(), found.name.casefold()), ())
        return list(lines)[-tail:] if tail > 0 else []

    # Writes

    def put_endpoint(self, name: str, body: Mapping[str, Any], *, actor: Actor) -> Operation:
        """Begin to create or update an endpoint. Raises Refusal."""
        self._settle()
        wish = wishes.parse_endpoint(body)
        old = self._endpoints.get(name.casefold())
        if old is None:
            limits.check_new_endpoint(name, count=len(self._endpoints), taken=self.taken)
        elif old.state.busy:
            raise rules.conflict(old.name)
        limits.check_compute(wish, old, clusters=self.clusters, identity=self.identity)
        if old is None or not old.created:
            return self._create_endpoint(name, wish, actor)
        return self._update_endpoint(old, wish, actor)

    def patch_endpoint(self, name: str, body: Mapping[str, Any], *, actor: Actor) -> Operation:
        """Begin to change tags and identity of an endpoint, and nothing else. Raises Refusal."""
        old = self.endpoint(name)
        wish = wishes.patched_endpoint(old.spec, body)
        if old.state.busy:
            raise rules.conflict(old.name)
        return self._update_endpoint(old, wish, actor)

    def delete_endpoint(self, name: str, *, actor: Actor) -> Operation | None:
        """Begin to delete an endpoint with its deployments; None if there is none. Raises Refusal."""
        self._settle()
        old = self._endpoints.get(name.casefold())
        if old is None:
            return None
        if old.state.busy or any(each.state.busy for each in self._deployments[name.casefold()].values()):
            raise rules.conflict(old.name)
        operation = self._begin(Work.DELETE, old.name, None, self.timings.endpoint_delete)
        self._set_endpoint(
            replace(old, state=State.DELETING, operation=operation.id, system=self._touched(old.system, actor))
        )
        return operation

    def put_deployment(self, endpoint: str, name: str, body: Mapping[str, Any], *, actor: Actor) -> Operation:
        """Begin to create or update a deployment. Raises Refusal."""
        parent = self.endpoint(endpoint)
        wish = wishes.parse_deployment(body)
        self.assets.check(wish)
        there = self._deployments[parent.name.casefold()]
        old = there.get(name.casefold())
        if old is not None and old.state.busy:
            raise rules.conflict(parent.name)
        if parent.state.busy or not parent.created:
            raise rules.conflict_deployment(parent.name, parent.state)
        every = self._all_deployments()
        limits.check_machines(wish, name, parent, all_deployments=every, identity=self.identity)
        if old is None:
            limits.check_new_deployment(name, parent, count=len(there))
        return self._write_deployment(parent.name, name, old, wish=wish, actor=actor)

    def delete_deployment(self, endpoint: str, name: str, *, actor: Actor) -> Operation | None:
        """Begin to delete a deployment without traffic; None if there is none. Raises Refusal."""
        self._settle()
        parent = self._endpoints.get(endpoint.casefold())
        old = self._deployments.get(endpoint.casefold(), {}).get(name.casefold())
        if parent is None or old is None:
            return None
        if parent.state.busy or old.state.busy:
            raise rules.conflict(parent.name)
        if share := parent.spec.traffic.get(old.name, 0) or parent.spec.mirror.get(old.name, 0):
            raise rules.invalid(
                f"Deployment {old.name} cannot be deleted: it takes {share} percent of the traffic. "
                "Set its traffic to 0 first."
            )
        operation = self._begin(Work.DELETE, parent.name, old.name, self.timings.deployment_delete)
        system = self._touched(old.system, actor)
        self._set_deployment(replace(old, state=State.DELETING, operation=operation.id, system=system))
        return operation

    def issue_token(self, endpoint: str) -> EndpointToken:
        """A token for an `aml_token` endpoint. Raises Refusal where it opens with something else."""
        found = self.endpoint(endpoint)
        if found.spec.auth_mode != "AMLToken":
            raise rules.invalid(f"Endpoint {found.name} has authMode {found.spec.auth_mode}: it has no tokens.")
        token = random_token(self._chance, endpoint=found.name, now=self._clock())
        self._tokens[token.value] = token
        forget_oldest(self._tokens, TOKENS_KEPT)
        return token

    def hurry(self) -> None:
        """Let every running operation end as soon as its server answers: for seeds and impatient people."""
        self._operations.hurry(now=self._clock())
        self._settle()

    # What serving needs

    def route(self, endpoint: str, *, authorization: str | None, pinned: str | None) -> Routed:
        """Where one prediction goes: `pinned` if given, else drawn by weight. Raises Refusal 401 or 404."""
        self._settle()
        found = self._endpoints.get(endpoint.casefold())
        if found is None or not found.created:
            raise rules.Refusal(404, "NotFound", f"There is no endpoint {endpoint}.")
        if not self._admitted(found, authorization):
            raise rules.Refusal(401, "Unauthorized", "The key or token is missing, wrong or expired.")
        name = self._drawn(found) if pinned is None else pinned
        chosen = self._deployments[found.name.casefold()].get(name.casefold()) if name is not None else None
        if chosen is None or chosen.generation == 0:
            reason = f"no deployment {name}" if name is not None else "no deployment with positive weight"
            raise rules.Refusal(404, "NotFound", f"Endpoint {found.name} has {reason}.")
        return self._routed(found, chosen)

    def mirrored(self, endpoint: str) -> Routed | None:
        """Where a copy of a request goes that named no deployment; None: nowhere."""
        found = self._endpoint(endpoint)
        drawn = (name for name, share in found.spec.mirror.items() if self._chance.random() * 100 < share)
        chosen = self._deployments[found.name.casefold()].get(next(drawn, "").casefold())
        return self._routed(found, chosen) if chosen is not None and chosen.generation else None

    def _routed(self, found: Endpoint, chosen: Deployment) -> Routed:
        return Routed(
            endpoint_id=self.identity.endpoint_id(found.name),
            endpoint=found.name,
            deployment=chosen.name,
            generation=chosen.generation,
            request_timeout_ms=chosen.spec.request_timeout_ms,
            auth_type=found.spec.auth_mode,
            max_concurrent=chosen.spec.max_concurrent,
            instances=chosen.spec.instances,
            logged=found.spec.compute is None,
        )

    def wanted_servers(self) -> list[WantedServer]:
        """The model processes that should run now. While a deployment is replaced, both of its generations."""
        self._settle()
        wanted = []
        for found in self._all_deployments():
            if found.generation and found.state is not State.DELETING:
                wanted.append(self._server(found, found.generation, found.spec))
            running = self._operations.running(found.operation)
            if running is not None and running.generation and isinstance(running.wish, DeploymentSpec):
                wanted.append(self._server(found, running.generation, running.wish))
        return wanted

    def server_ready(self, endpoint: str, deployment: str, generation: int) -> None:
        """The process of this generation answers: its operation may succeed once its time is up."""
        self._server_reported(endpoint, deployment, generation, trouble=None)

    def server_failed(self, endpoint: str, deployment: str, generation: int, reason: str) -> None:
        """The process of this generation cannot start: once its time is up, its operation fails with this reason."""
        trouble = Trouble(
            code="ResourceNotReady",
            message=f"User container has crashed or terminated: {reason} Please see troubleshooting guide, "
            "and the deployment's logs.",
        )
        self._server_reported(endpoint, deployment, generation, trouble=trouble)

    def append_console(self, endpoint: str, deployment: str, line: str) -> None:
        """One line that the deployment's process wrote."""
        key = (endpoint.casefold(), deployment.casefold())
        self._console.setdefault(key, deque(maxlen=CONSOLE_LINES)).append(line)

    # Operations

    def _create_endpoint(self, name: str, wish: EndpointSpec, actor: Actor) -> Operation:
        if wish.traffic or wish.mirror:
            raise rules.invalid(
                "Traffic cannot be set while an endpoint is created: create its deployments first.",
                code="InvalidTraffic",
            )
        operation = self._begin(Work.CREATE, name, None, self.timings.endpoint_create, wish=wish)
        self._set_endpoint(
            Endpoint(
                name=name,
                spec=wish,
                state=State.CREATING,
                system=self._born(actor),
                primary_key=random_key(self._chance),
                secondary_key=random_key(self._chance),
                operation=operation.id,
            )
        )
        self._deployments.setdefault(name.casefold(), {})
        return operation

    def _update_endpoint(self, old: Endpoint, wish: EndpointSpec, actor: Actor) -> Operation:
        there = self._deployments[old.name.casefold()].values()
        known = {each.name: each for each in there if each.state is not State.DELETING}
        split = rules.check_traffic(wish.traffic, known=known, before=old.spec.traffic)
        kubernetes = wish.compute is not None
        mirror = limits.check_mirror(wish.mirror, known=known, traffic=split, kubernetes=kubernetes)
        wish = replace(wish, traffic=split, mirror=mirror)
        operation = self._begin(Work.UPDATE, old.name, None, self.timings.endpoint_update, wish=wish)
        system = self._touched(old.system, actor)
        self._set_endpoint(replace(old, state=State.UPDATING, operation=operation.id, system=system))
        return operation

    def _write_deployment(
        self, endpoint: str, name: str, old: Deployment | None, *, wish: DeploymentSpec, actor: Actor
    ) -> Operation:
        first = old is None or old.generation == 0
        scaling = old is not None and not first and old.spec.same_server(wish)
        if first:
            span, work = self.timings.deployment_create, Work.CREATE
        else:
            span = self.timings.deployment_scale if scaling else self.timings.deployment_update
            work = Work.UPDATE
        operation = self._begin(work, endpoint, old.name if old else name, span, wish=wish, new_server=not scaling)
        self._set_deployment(
            Deployment(
                endpoint=endpoint,
                name=old.name if old else name,
                spec=wish if old is None or first else old.spec,
                state=State.CREATING if first else State.UPDATING,
                system=self._touched(old.system, actor) if old else self._born(actor),
                generation=old.generation if old else 0,
                operation=operation.id,
            )
        )
        return operation

    def _begin(
        self,
        work: Work,
        endpoint: str,
        deployment: str | None,
        span: Seconds,
        *,
        wish: EndpointSpec | DeploymentSpec | None = None,
        new_server: bool = False,
    ) -> Operation:
        now = self._clock()
        fault = self.faults.failing(endpoint, now=now)
        trouble = Trouble(code=fault.code, message=fault.message) if fault else None
        return self._operations.begin(
            work, (endpoint, deployment), span, now=now, wish=wish, new_server=new_server, trouble=trouble
        )

    def _server_reported(self, endpoint: str, deployment: str, generation: int, *, trouble: Trouble | None) -> None:
        self._operations.report((endpoint, deployment), generation, now=self._clock(), trouble=trouble)
        self._settle()

    def _settle(self) -> None:
        """Let the operations that are over take effect."""
        for operation in self._operations.end_due(now=self._clock()):
            if operation.deployment is None:
                self._end_endpoint(operation)
            else:
                self._end_deployment(operation)

    def _end_endpoint(self, operation: Operation) -> None:
        old = self._endpoint(operation.endpoint)
        if operation.status is Status.FAILED:
            self._set_endpoint(replace(old, state=State.FAILED))
        elif operation.work is Work.DELETE:
            del self._endpoints[old.name.casefold()]
            for each in self._deployments.pop(old.name.casefold()).values():
                self._console.pop((each.endpoint.casefold(), each.name.casefold()), None)
        elif isinstance(operation.wish, EndpointSpec):
            lag = timedelta(seconds=self._chance.uniform(*self.timings.read_lag))
            self._set_endpoint(
                replace(
                    old,
                    spec=operation.wish,
                    state=State.SUCCEEDED,
                    created=True,
                    shown=old.spec.traffic,
                    shown_until=operation.due + lag,
                )
            )

    def _end_deployment(self, operation: Operation) -> None:
        old = self._deployment(operation.endpoint, operation.deployment or "")
        if operation.status is Status.FAILED:
            self._set_deployment(replace(old, state=State.FAILED))
        elif operation.work is Work.DELETE:
            self._remove_deployment(old)
        elif isinstance(operation.wish, DeploymentSpec):
            generation = operation.generation or old.generation
            self._set_deployment(replace(old, spec=operation.wish, state=State.SUCCEEDED, generation=generation))

    def _remove_deployment(self, old: Deployment) -> None:
        del self._deployments[old.endpoint.casefold()][old.name.casefold()]
        self._console.pop((old.endpoint.casefold(), old.name.casefold()), None)
        parent = self._endpoint(old.endpoint)
        split = {name: share for name, share in parent.spec.traffic.items() if name != old.name}
        self._set_endpoint(replace(parent, spec=replace(parent.spec, traffic=split)))

    # Small helpers

    def _endpoint(self, name: str) -> Endpoint:
        try:
            return self._endpoints[name.casefold()]
        except KeyError:
            raise rules.not_found(f"Online endpoint {name}") from None

    def _deployment(self, endpoint: str, name: str) -> Deployment:
        self._endpoint(endpoint)
        try:
            return self._deployments[endpoint.casefold()][name.casefold()]
        except KeyError:
            raise rules.not_found(f"Online deployment {endpoint}/{name}") from None

    def _set_endpoint(self, endpoint: Endpoint) -> None:
        self._endpoints[endpoint.name.casefold()] = endpoint

    def _set_deployment(self, deployment: Deployment) -> None:
        self._deployments[deployment.endpoint.casefold()][deployment.name.casefold()] = deployment

    def _all_deployments(self) -> Iterable[Deployment]:
        return (each for found in self._deployments.values() for each in found.values())

    def _born(self, actor: Actor) -> SystemData:
        now = self._clock()
        return SystemData(created_by=actor, created_at=now, modified_by=actor, modified_at=now)

    def _touched(self, system: SystemData, actor: Actor) -> SystemData:
        return replace(system, modified_by=actor, modified_at=self._clock())

    def _server(self, deployment: Deployment, generation: int, spec: DeploymentSpec) -> WantedServer:
        code, model = self.assets.referred(spec.code), self.assets.referred(spec.model)
        return WantedServer(
            endpoint=deployment.endpoint,
            deployment=deployment.name,
            generation=generation,
            code_path=code.path if code else MLFLOW_SERVER if spec.code is None else None,
            model_path=(model.path if spec.code is None else model.mounted) if model else None,
            scoring_script=spec.scoring_script or MLFLOW_SCRIPT,
            environment_variables=spec.environment_variables,
        )

    def _admitted(self, endpoint: Endpoint, authorization: str | None) -> bool:
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.casefold() != "bearer" or not secret:
            return False
        if endpoint.spec.auth_mode == "Key":
            keys = (endpoint.primary_key, endpoint.secondary_key)
            return any(hmac.compare_digest(secret.encode(), key.encode()) for key in keys)
        if endpoint.spec.auth_mode == "AADToken":
            return self.trusted_token(secret)
        token = self._tokens.get(secret)
        return token is not None and _same(token.endpoint, endpoint.name) and self._clock() < token.expires

    def _drawn(self, endpoint: Endpoint) -> str | None:
        """A deployment drawn by weight; None if none has a positive weight."""
        point = self._chance.random() * sum(endpoint.spec.traffic.values())
        for name, share in endpoint.spec.traffic.items():
            point -= share
            if share > 0 and point < 0:
                return name
        return None


def _same(first: str | None, second: str | None) -> bool:
    return (first or "").casefold() == (second or "").casefold()
