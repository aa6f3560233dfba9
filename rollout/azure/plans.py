"""What applying a file would do, found with reads alone.

The rule: a plan says everything that would be written, and what the file says but is left alone. A plan without a write is
"unchanged": nothing is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from rollout.azure.az_files import AzFile
from rollout.azure.differences import DEPLOYMENT_FIELDS, ENDPOINT_FIELDS, Change, changes, merged, without_nulls
from rollout.azure.resources import TAG
from rollout.azure.uploads import Brought, Upload
from rollout.errors import RefusedError
from rollout.world import Split

Json = Mapping[str, Any]


class Action(StrEnum):
    """What would happen to the resource itself."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would be written. `traffic`: the split that the endpoint gets afterwards, None leaves it as it is."""

    endpoint: str
    deployment: str | None
    action: Action
    changes: tuple[Change, ...] = ()
    uploads: tuple[Upload, ...] = ()
    traffic: Split | None = None
    notes: tuple[str, ...] = ()
    current: Json | None = field(default=None, repr=False)
    file: AzFile = field(repr=False)

    @property
    def writes(self) -> bool:
        """Whether anything would be sent."""
        return self.action is not Action.UNCHANGED or self.traffic is not None

    @property
    def what(self) -> str:
        """`endpoint shop`, `deployment blue of shop`."""
        return f"deployment {self.deployment} of {self.endpoint}" if self.deployment else f"endpoint {self.endpoint}"


def running_rollout(endpoint: Json) -> str | None:
    """What the tag of a running rollout says, None where none runs."""
    tags = endpoint.get("tags") or {}
    return next((str(value) for key, value in tags.items() if key.casefold() == TAG), None)


def refuse_while_rolling_out(endpoint: Json, what: str) -> None:
    """A write of ours now could undo the rollout's. Raises RefusedError."""
    if (note := running_rollout(endpoint)) is not None:
        name = endpoint.get("name")
        raise RefusedError(
            f"Cannot {what}: a rollout runs on {name} ({note}). Wait for its end (rollout status {name}), or abort it."
        )


def state_of(resource: Json) -> str:
    """The provisioning state of an endpoint or a deployment."""
    return str((resource.get("properties") or {}).get("provisioningState"))


def split_of(endpoint: Json) -> Split:
    """The traffic of an endpoint."""
    return Split.of((endpoint.get("properties") or {}).get("traffic") or {})


def mirror_of(endpoint: Json) -> Split:
    """The mirrored traffic of an endpoint."""
    return Split.of((endpoint.get("properties") or {}).get("mirrorTraffic") or {})


def endpoint_plan(file: AzFile, current: Json | None, wanted: Json, *, set_traffic: bool) -> Plan:
    """What applying an endpoint's file would do. Raises RefusedError."""
    asked = Split.of({str(name): int(share) for name, share in (file.entity.traffic or {}).items()})
    base = Plan(endpoint=file.name, deployment=None, action=Action.CREATE, current=current, file=file)
    if current is None:
        note = "Its traffic is left out: Azure takes none before there are deployments; the first one gets all of it."
        return replace(base, notes=(note,) if asked.as_traffic() else (), changes=_all(wanted, ENDPOINT_FIELDS, file))
    found = changes(current, wanted, fields=ENDPOINT_FIELDS, stated=file.stated)
    traffic, notes = _traffic(file, asked, split_of(current), set_traffic=set_traffic)
    action = Action.UPDATE if found or state_of(current) == "Failed" else Action.UNCHANGED
    plan = replace(base, action=action, changes=found, traffic=traffic, notes=(*notes, *_again(current)))
    if plan.writes:
        refuse_while_rolling_out(current, f"apply {file.file}")
    return plan


def _traffic(file: AzFile, asked: Split, now: Split, *, set_traffic: bool) -> tuple[Split | None, tuple[str, ...]]:
    if "traffic" not in file.stated or asked == now:
        return None, ()
    if set_traffic:
        return asked, ()
    return None, (f"Traffic is left as it is, {now} (the file says {asked}): --set-traffic would apply the file's.",)


def deployment_plan(file: AzFile, endpoint: Json, current: Json | None, wanted: Json, brought: Brought) -> Plan:
    """What applying a deployment's file would do, its traffic left aside."""
    base = Plan(
        endpoint=str(endpoint["name"]),
        deployment=file.name,
        action=Action.CREATE,
        uploads=brought.missing,
        current=current,
        file=file,
    )
    if current is None:
        return replace(base, changes=_all(wanted, DEPLOYMENT_FIELDS, file))
    found = changes(current, wanted, fields=DEPLOYMENT_FIELDS, stated=file.stated)
    action = Action.UPDATE if found or state_of(current) == "Failed" else Action.UNCHANGED
    notes = list(_again(current))
    if found and (note := running_rollout(endpoint)) is not None:
        notes.append(f"A rollout runs on the endpoint ({note}): it pauses if {file.name} takes part in it.")
    return replace(base, action=action, changes=found, notes=tuple(notes))


def with_traffic(plan: Plan, endpoint: Json, *, others: bool, all_traffic: bool) -> Plan:
    """The plan with the traffic that its deployment gets: all, if that is asked for or it is the first. Raises RefusedError."""
    now, everything = split_of(endpoint), Split.of({str(plan.deployment): 100})
    first = plan.action is Action.CREATE and not others and not now.as_traffic()
    if all_traffic and now != everything:
        refuse_while_rolling_out(endpoint, f"give {plan.deployment} all traffic")
        return replace(plan, traffic=everything)
    if first:
        note = "It is the endpoint's first deployment: it gets all traffic."
        return replace(plan, traffic=everything, notes=(*plan.notes, note))
    if plan.action is Action.CREATE:
        note = f"It gets no traffic: rollout start moves it there in steps (now {now})."
        return replace(plan, notes=(*plan.notes, note))
    return plan


def update_body(plan: Plan, wanted: Json) -> dict[str, Any]:
    """The body of the write that carries the plan out."""
    fields = DEPLOYMENT_FIELDS if plan.deployment else ENDPOINT_FIELDS
    if plan.current is not None:
        return merged(plan.current, wanted, fields=fields, stated=plan.file.stated)
    body: dict[str, Any] = without_nulls(dict(wanted))
    if not plan.deployment:
        body["properties"] = {**body["properties"], "traffic": {}}
    return body


def _all(wanted: Json, fields: Mapping[str, tuple[str, ...]], file: AzFile) -> tuple[Change, ...]:
    nothing: Json = {"properties": {"codeConfiguration": {}}}
    return changes(nothing, wanted, fields=fields, stated=file.stated | {"auth_mode"})


def _again(current: Json) -> tuple[str, ...]:
    return ("Its last operation failed: it is written again.",) if state_of(current) == "Failed" else ()
