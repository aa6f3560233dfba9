"""Faults: what goes wrong on purpose, as plain data, and what that does to one request.

Three planes: `serving` (predictions of a deployment, or of all of them: a shared incident), `arm` (the control plane
and its tokens) and `monitor` (logs and metrics).

The rule: a fault is injected, never imagined. It begins and ends (`until`, or after `count` times) on the sandbox's
clock, and what it does to a request is a pure function of the fault, the moment and the injected random generator.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args

Plane: TypeAlias = Literal["serving", "arm", "monitor"]
ServingKind: TypeAlias = Literal["errors", "client_errors", "latency", "leak", "cold_start", "crash", "disconnects"]
ArmKind: TypeAlias = Literal["conflict", "throttle", "error", "timeout", "fail_operation"]
ArmTarget: TypeAlias = Literal["reads", "writes", "polls", "tokens", "all"]
MonitorKind: TypeAlias = Literal[
    "gap", "delay", "partial", "throttle", "overload", "error", "timeout", "empty", "truncated"
]
Source: TypeAlias = Literal["logs", "metrics"]
MonitorTarget: TypeAlias = Literal["logs", "metrics", "all"]

ANY = "*"


@dataclass(frozen=True, kw_only=True)
class ServingFault:
    """Goes wrong with predictions. `deployment="*"` hits all deployments of the endpoint: a shared incident.

    errors         `share` of the requests: 424, model status 500
    client_errors  `share` of the requests: 424, model status 400
    latency        `share` of the requests take `factor` times as long, and `extra_ms` more
    leak           every request takes `extra_ms` more for each minute since the injection
    cold_start     in the first `minutes` of a server's life: `share` of the requests: 424, model status 503;
                   all take `extra_ms` more
    crash          the server is ended, and stays down for `minutes`
    disconnects    `share` of the connections break before the answer
    """

    kind: ServingKind
    since: datetime
    until: datetime | None = None
    endpoint: str = ANY
    deployment: str = ANY
    share: float = 1.0
    factor: float = 1.0
    extra_ms: float = 0.0
    minutes: float = 0.0

    def hits(self, endpoint: str, deployment: str) -> bool:
        """Whether it is aimed at this deployment."""
        return _aimed(self.endpoint, endpoint) and _aimed(self.deployment, deployment)


@dataclass(frozen=True, kw_only=True)
class ArmFault:
    """Goes wrong with the control plane, `count` times or until `until`.

    conflict        409, as while another operation runs
    throttle        429, with `Retry-After: retry_after` (seconds) or without
    error           `status` (500, 502, 503 …; 502 is an HTML page, as a gateway sends it)
    timeout         the request is accepted and takes effect; its answer never comes
    fail_operation  the write is accepted, and its operation ends as Failed with `code` and `message`
    """

    kind: ArmKind
    since: datetime
    until: datetime | None = None
    count: int | None = None
    on: ArmTarget = "writes"
    endpoint: str = ANY
    status: int = 500
    retry_after: float | None = None
    code: str = "InternalServerError"
    message: str = "An internal server error occurred. Please try again. (injected)"


@dataclass(frozen=True, kw_only=True)
class MonitorFault:
    """Goes wrong with Azure Monitor, `count` times or until `until`.

    gap        rows of requests answered while the fault is active never arrive; of one `endpoint` and on the logs: it has
               no diagnostic setting
    delay      rows of requests answered while it is active arrive `minutes` later than they would
    partial    PartialError beside a part of the rows
    throttle   429, with `Retry-After: retry_after` (seconds) or without
    overload   529
    error      `status` (500, 502 with an HTML page, 503 …)
    timeout    504
    empty      204 without a body
    truncated  200 whose body breaks off
    """

    kind: MonitorKind
    since: datetime
    until: datetime | None = None
    count: int | None = None
    on: MonitorTarget = "all"
    endpoint: str = ANY  # gap and delay: whose rows
    minutes: float = 0.0
    retry_after: float | None = None
    status: int = 502

    def hits(self, source: Source, endpoint: str = ANY) -> bool:
        """Whether it is aimed at this source, and at rows of this endpoint."""
        return self.on in ("all", source) and _aimed(self.endpoint, endpoint)


Fault: TypeAlias = ServingFault | ArmFault | MonitorFault
_PLANES: Mapping[str, type[Fault]] = {"serving": ServingFault, "arm": ArmFault, "monitor": MonitorFault}
_KINDS: Mapping[str, tuple[str, ...]] = {
    "serving": get_args(ServingKind),
    "arm": get_args(ArmKind),
    "monitor": get_args(MonitorKind),
}
_TARGETS: Mapping[str, tuple[str, ...]] = {"arm": get_args(ArmTarget), "monitor": get_args(MonitorTarget)}


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What the faults do to one prediction. `status` None: the answer stays as it is; `extra_ms` is really waited."""

    status: int | None = None
    model_status: int | None = None
    extra_ms: float = 0.0
    drop: bool = False


class Faults:
    """The faults that are active or will be. Expired and used-up ones are dropped whenever it is asked."""

    def __init__(self) -> None:
        self._active: dict[int, Fault] = {}
        self._next = 1

    def add(self, fault: Fault) -> int:
        """Inject a fault; its number is returned."""
        number, self._next = self._next, self._next + 1
        self._active[number] = fault
        return number

    def clear(self, number: int | None = None) -> int:
        """End one fault, or all; how many were ended is returned."""
        chosen = list(self._active) if number is None else [number]
        return sum(self._active.pop(each, None) is not None for each in chosen)

    def active(self, now: datetime) -> Mapping[int, Fault]:
        """The faults active at `now`, by number."""
        self._active = {number: fault for number, fault in self._active.items() if not _over(fault, now)}
        return {number: fault for number, fault in self._active.items() if fault.since <= now}

    def effect(
        self,
        endpoint: str,
        deployment: str,
        *,
        now: datetime,
        started_at: datetime,
        duration_ms: float,
        chance: random.Random,
    ) -> Effect:
        """What happens to a prediction that took the model `duration_ms`; its server started at `started_at`."""
        if not self._active:
            return NO_EFFECT
        effect = NO_EFFECT
        for fault in self.active(now).values():
            if isinstance(fault, ServingFault) and fault.hits(endpoint, deployment):
                age = now - started_at
                effect = _joined(effect, _serving(fault, now=now, age=age, duration_ms=duration_ms, chance=chance))
        return effect

    def down(self, endpoint: str, deployment: str, *, now: datetime) -> bool:
        """Whether a crash keeps this deployment's server down now: it is to be ended, and not started."""
        return any(
            isinstance(fault, ServingFault)
            and fault.kind == "crash"
            and fault.hits(endpoint, deployment)
            and now < fault.since + timedelta(minutes=fault.minutes)
            for fault in self.active(now).values()
        )

    def arm(self, target: ArmTarget, endpoint: str | None, *, now: datetime) -> ArmFault | None:
        """The fault that befalls this request, if any; one of its times is used up. (`failing` is apart.)"""
        return self._take_arm(target, endpoint, now=now, failing=False)

    def failing(self, endpoint: str, *, now: datetime) -> ArmFault | None:
        """The fault that makes the operation of this accepted write fail, if any; one time is used up."""
        return self._take_arm("writes", endpoint, now=now, failing=True)

    def monitor(self, source: Source, *, now: datetime) -> MonitorFault | None:
        """The fault that befalls this query, if any; one time is used up. (Gaps and delays are apart.)"""
        for number, fault in self.active(now).items():
            if isinstance(fault, MonitorFault) and fault.hits(source) and fault.kind not in ("gap", "delay"):
                self._use(number, fault)
                return fault
        return None

    def lost(self, source: Source, endpoint: str, *, now: datetime) -> bool:
        """Whether the row of a request that this endpoint answered now never arrives."""
        return any(
            isinstance(fault, MonitorFault) and fault.kind == "gap" and fault.hits(source, endpoint)
            for fault in self.active(now).values()
        )

    def delayed(self, source: Source, endpoint: str, *, now: datetime) -> timedelta:
        """How much later than usual the row of a request that this endpoint answered now arrives."""
        minutes = (
            fault.minutes
            for fault in self.active(now).values()
            if isinstance(fault, MonitorFault) and fault.kind == "delay" and fault.hits(source, endpoint)
        )
        return timedelta(minutes=max(minutes, default=0.0))

    def _take_arm(self, target: ArmTarget, endpoint: str | None, *, now: datetime, failing: bool) -> ArmFault | None:
        for number, fault in self.active(now).items():
            if (
                isinstance(fault, ArmFault)
                and (fault.kind == "fail_operation") == failing
                and (fault.on == target or (fault.on == "all" and target != "tokens"))
                and (fault.endpoint == ANY or _aimed(fault.endpoint, endpoint or ""))
            ):
                self._use(number, fault)
                return fault
        return None

    def _use(self, number: int, fault: ArmFault | MonitorFault) -> None:
        if fault.count is not None:
            self._active[number] = replace(fault, count=fault.count - 1)


NO_EFFECT = Effect()
MODEL_STATUS = {"errors": 500, "client_errors": 400, "cold_start": 503}


def _aimed(target: str, name: str) -> bool:
    return target == ANY or target.casefold() == name.casefold()


def _over(fault: Fault, now: datetime) -> bool:
    used_up = not isinstance(fault, ServingFault) and fault.count is not None and fault.count <= 0
    return used_up or (fault.until is not None and fault.until <= now)


def _serving(
    fault: ServingFault, *, now: datetime, age: timedelta, duration_ms: float, chance: random.Random
) -> Effect:
    """The effect of one fault that is aimed at this request. (A crash is the supervisor's: see `Faults.down`.)"""
    if fault.kind == "crash" or (fault.kind == "cold_start" and age >= timedelta(minutes=fault.minutes)):
        return NO_EFFECT
    if fault.kind == "leak":
        return Effect(extra_ms=fault.extra_ms * (now - fault.since).total_seconds() / 60)
    slow = fault.extra_ms if fault.kind == "cold_start" else 0.0
    if chance.random() >= fault.share:
        return Effect(extra_ms=slow)
    if fault.kind == "latency":
        return Effect(extra_ms=duration_ms * (fault.factor - 1) + fault.extra_ms)
    if fault.kind == "disconnects":
        return Effect(drop=True)
    return Effect(status=424, model_status=MODEL_STATUS[fault.kind], extra_ms=slow)


def _joined(first: Effect, second: Effect) -> Effect:
    """Both effects on one request: waits add up; of two answers the first is kept."""
    answer = first if first.status is not None else second
    return Effect(
        status=answer.status,
        model_status=answer.model_status,
        extra_ms=max(0.0, first.extra_ms + second.extra_ms),
        drop=first.drop or second.drop,
    )


def parse_fault(values: Mapping[str, Any], *, now: datetime) -> Fault:
    """A fault from JSON: `plane`, `kind` and the fields of that plane; `for_minutes` may stand for `until`.

    It begins now unless `since` is given. Raises ValueError with a sentence that names the field.
    """
    plane = str(values.get("plane", ""))
    if plane not in _PLANES:
        raise ValueError(f"plane: {plane!r} is not one of {', '.join(_PLANES)}")
    given = {key: value for key, value in values.items() if key not in ("plane", "for_minutes", "id")}
    given["since"] = _moment("since", given.get("since", now))
    if "for_minutes" in values:
        given["until"] = given["since"] + timedelta(minutes=_number("for_minutes", values["for_minutes"]))
    elif given.get("until") is not None:
        given["until"] = _moment("until", given["until"])
    return _checked(plane, given)


def _checked(plane: str, given: dict[str, Any]) -> Fault:
    known = {item.name for item in fields(_PLANES[plane])}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{', '.join(unknown)}: unknown for a {plane} fault; known are {', '.join(sorted(known))}")
    if given.get("kind") not in _KINDS[plane]:
        raise ValueError(f"kind: {given.get('kind')!r} is not one of {', '.join(_KINDS[plane])}")
    if "on" in given and given["on"] not in _TARGETS[plane]:
        raise ValueError(f"on: {given['on']!r} is not one of {', '.join(_TARGETS[plane])}")
    if plane == "monitor" and given.get("endpoint", ANY) != ANY and given["kind"] not in ("gap", "delay"):
        raise ValueError(f"endpoint: {given['kind']} befalls a query, which asks for many: only gap and delay have one")
    for name in ("share", "factor", "extra_ms", "minutes", "retry_after"):
        if given.get(name) is not None:
            given[name] = _number(name, given[name])
    if not 0.0 <= given.get("share", 1.0) <= 1.0:
        raise ValueError(f"share: {given['share']:g} is not between 0 and 1")
    for name in ("count", "status"):
        if given.get(name) is not None:
            given[name] = int(_number(name, given[name]))
    _check_effective(given)
    return _PLANES[plane](**given)


def _check_effective(given: dict[str, Any]) -> None:
    """Refuse faults that would do nothing as written; a crash is over when its minutes are."""
    kind = given["kind"]
    if kind in ("crash", "cold_start", "delay") and not given.get("minutes"):
        raise ValueError(f"minutes: {kind.replace('_', '-')} needs them: say how many")
    if kind == "leak" and not given.get("extra_ms"):
        raise ValueError("extra_ms: a leak needs it: say how many milliseconds more each minute")
    if kind == "latency" and given.get("factor", 1.0) == 1.0 and not given.get("extra_ms"):
        raise ValueError("factor: latency needs it, or extra_ms: say how much slower")
    if kind == "crash":
        given["until"] = given["since"] + timedelta(minutes=given["minutes"])


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: {value!r} is not a number of at least 0")
    return float(value)


def _moment(name: str, value: object) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if moment.tzinfo is None:
        raise ValueError(f"{name}: {value!r} has no time zone: add Z")
    return moment


def fault_json(number: int, fault: Fault) -> dict[str, Any]:
    """The fault as JSON, as `parse_fault` reads it."""
    plane = next(plane for plane, kind in _PLANES.items() if isinstance(fault, kind))
    values: dict[str, Any] = {"id": number, "plane": plane}
    for item in fields(fault):
        value = getattr(fault, item.name)
        if value is not None:
            values[item.name] = value.isoformat() if isinstance(value, datetime) else value
    return values
