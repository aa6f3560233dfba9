"""The sandbox's own address, `/sandbox/`: what it is doing, and the levers that Azure has not.

The rule: plain JSON on loopback, for `rollout sandbox`, tests and curious people. It moves no clock and answers no
question of the SDKs; what it injects ends up in `Faults`, what it turns ends up in timings and delays.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias, get_args

from aiohttp import web

from rollout.clock import WallClock
from rollout.sandbox import bodies, rules
from rollout.sandbox.access import Access
from rollout.sandbox.calls import Calls
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import fault_json, parse_fault
from rollout.sandbox.mirror import Mirror
from rollout.sandbox.resources import Asset, AssetKind
from rollout.sandbox.telemetry import Delays, TrafficLog

#: Knobs of who may do what: see `access.py`.
ACCESS = ("readers", "newcomers", "denied")
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]


class Admin:
    """The handlers."""

    def __init__(self, *, cloud: Cloud, clock: WallClock, log: TrafficLog, calls: Calls, mirror: Mirror) -> None:
        self._mirror = mirror
        self._cloud = cloud
        self._calls = calls
        self._clock = clock
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        """All addresses under `/sandbox/`."""
        return [
            web.get("/sandbox/status", _told(self.status)),
            web.get("/sandbox/calls", _told(self.calls)),
            web.get("/sandbox/faults", _told(self.faults)),
            web.post("/sandbox/faults", _told(self.inject)),
            web.delete("/sandbox/faults", _told(self.clear)),
            web.delete("/sandbox/faults/{number:\\d+}", _told(self.clear)),
            web.get("/sandbox/knobs", _told(self.knobs)),
            web.patch("/sandbox/knobs", _told(self.turn)),
            web.post("/sandbox/assets", _told(self.register)),
            web.post("/sandbox/hurry", _told(self.hurry)),
        ]

    async def status(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Clock, endpoints with traffic and deployments, requests so far, active faults."""
        counts = self._log.statistics()
        return web.json_response(
            {
                "now": bodies.moment(self._cloud.now()),
                "epoch": self._clock.epoch,
                "speed": self._clock.speed,
                "endpoints": [self._endpoint(each.name) for each in self._cloud.endpoints()],
                "requests": counts,
                "faults": self._active(),
            }
        )

    async def calls(self, request: web.Request) -> web.Response:
        """What Azure's side was asked so far, by kind; the last calls one by one, those after `since` (real seconds)."""
        return web.json_response(self._calls.dump(since=float(request.query.get("since", "0"))))

    async def faults(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The active faults."""
        return web.json_response(self._active())

    async def inject(self, request: web.Request) -> web.Response:
        """Inject a fault; see `faults.parse_fault` for the fields."""
        fault = parse_fault(await _object(request), now=self._cloud.now())
        return web.json_response(fault_json(self._cloud.faults.add(fault), fault), status=201)

    async def clear(self, request: web.Request) -> web.Response:
        """End one fault, or all."""
        number = request.match_info.get("number")
        ended = self._cloud.faults.clear(int(number) if number is not None else None)
        if number is not None and not ended:
            return _refused(404, f"There is no active fault {number}.")
        return web.json_response({"ended": ended})

    async def knobs(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Durations of operations and delays of ingestion, as pairs of seconds (shortest, longest); who may only read."""
        timings = {item.name: getattr(self._cloud.timings, item.name) for item in fields(self._cloud.timings)}
        delays = {"logs": self._log.delays.logs, "metrics": self._log.delays.metrics}
        seconds = {name: [each.total_seconds() for each in pair] for name, pair in delays.items()}
        return web.json_response({"timings": timings, "delays": seconds, **_access_json(self._cloud.access)})

    async def turn(self, request: web.Request) -> web.Response:
        """Turn some of the knobs; what is under way keeps its time."""
        body = await _object(request)
        if unknown := sorted(set(body) - {"timings", "delays", *ACCESS}):
            raise ValueError(f"unknown knob {', '.join(unknown)}: use timings, delays, {', '.join(ACCESS)}")
        access = _access(self._cloud.access, body, now=self._cloud.now())
        timings = self._cloud.timings.changed(**body.get("timings", {}))
        delays = _delays(self._log.delays, body.get("delays", {}))
        self._cloud.timings, self._log.delays, self._cloud.access = timings, delays, access
        return await self.knobs(request)

    async def register(self, request: web.Request) -> web.Response:
        """Register one version of an asset whose files lie on this machine."""
        body = await _object(request)
        if body.get("kind") not in get_args(AssetKind):
            raise ValueError(f"kind: {body.get('kind')!r} is not one of {', '.join(get_args(AssetKind))}")
        path = Path(str(body["path"])) if body.get("path") else None
        if path is not None and not (path.is_absolute() and path.exists()):
            raise ValueError(f"path: {path} is not the absolute path of a file or folder that exists")
        name, version = str(body.get("name", "")), str(body.get("version", ""))
        if not name or not version:
            raise ValueError("name and version are both needed")
        asset = Asset(kind=body["kind"], name=name, version=version, path=path)
        self._cloud.assets.register(asset, now=self._cloud.now())
        return web.json_response(bodies.asset_body(self._cloud.identity, asset), status=201)

    async def hurry(self, request: web.Request) -> web.Response:
        """Let running operations end as soon as their servers answer."""
        self._cloud.hurry()
        return await self.status(request)

    def _active(self) -> list[dict[str, Any]]:
        active = self._cloud.faults.active(self._cloud.now())
        return [fault_json(number, fault) for number, fault in active.items()]

    def _endpoint(self, name: str) -> dict[str, Any]:
        endpoint = self._cloud.endpoint(name)
        return {
            "name": endpoint.name,
            "state": endpoint.state,
            "traffic": dict(endpoint.spec.traffic),
            "shown": dict(self._cloud.traffic_shown(endpoint)),
            "mirror": dict(endpoint.spec.mirror),
            "copies": self._mirror.told(endpoint.name),
            "modified_by": endpoint.system.modified_by.id,
            "deployments": [
                {
                    "name": each.name,
                    "state": each.state,
                    "model": each.spec.model,
                    "instances": each.spec.instances,
                    "generation": each.generation,
                }
                for each in self._cloud.deployments(name)
            ],
        }


def _told(handler: Handler) -> Handler:
    """The handler, with what is wrong with a request told in one sentence."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except json.JSONDecodeError as error:
            return _refused(400, f"The body is not JSON: {error}.")
        except ValueError as error:
            return _refused(400, str(error))
        except rules.Refusal as refusal:
            return _refused(refusal.status, refusal.message)

    return answer


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


async def _object(request: web.Request) -> dict[str, Any]:
    body = await request.json()
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 (the caller's value, not ours)
    return body


def _delays(before: Delays, wish: Mapping[str, Any]) -> Delays:
    """The delays with some of them replaced: pairs of seconds."""
    pairs: dict[str, tuple[timedelta, timedelta]] = {}
    for name, value in wish.items():
        pair = value if isinstance(value, list) else [value, value]
        known = name in ("logs", "metrics") and len(pair) == 2
        if not known or not all(isinstance(item, int | float) and item >= 0 for item in pair) or pair[0] > pair[1]:
            raise ValueError(f"delays.{name}: {value!r} is not seconds or [shortest, longest] of logs or metrics")
        pairs[name] = (timedelta(seconds=pair[0]), timedelta(seconds=pair[1]))
    return replace(before, **pairs)


def _access(before: Access, body: Mapping[str, Any], *, now: datetime) -> Access:
    """The roles with some of their knobs replaced; who is a newcomer becomes one now, unless they were one before."""
    given = {name: _names(name, body[name]) for name in ACCESS if name in body}
    if "newcomers" in given:
        since = {client: before.newcomers.get(client, now) for client in given["newcomers"]}
        before = replace(before, newcomers=since)
    return replace(before, readers=given.get("readers", before.readers), denied=given.get("denied", before.denied))


def _access_json(access: Access) -> dict[str, list[str]]:
    return {name: sorted(getattr(access, name)) for name in ACCESS}


def _names(knob: str, wish: object) -> frozenset[str]:
    """Client ids, or actions."""
    if not isinstance(wish, list) or not all(isinstance(each, str) and each for each in wish):
        raise ValueError(f"{knob}: {wish!r} is not a list of {'actions' if knob == 'denied' else 'client ids'}")
    return frozenset(each.casefold() for each in wish)
