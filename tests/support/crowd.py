"""Many endpoints at once, for measurements: made through Resource Manager, and asked for predictions by one client."""

import asyncio
import random
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import httpx
import yaml

from rollout.sandbox.load import read_bodies
from rollout.sandbox.resources import Identity
from rollout.sandbox.seed import SAMPLES, deployment_body, endpoint_body

API = {"api-version": "2025-04-01-preview"}
OUTSTANDING = 500  # requests without an answer; those due beyond are skipped


class Crowd:
    """Endpoints with blue (all traffic) and green of the sample model; their load runs while the block does."""

    def __init__(self, values: Mapping[str, Any], endpoints: Sequence[str], *, rps: float) -> None:
        self._values = values
        self._identity = Identity(address=str(values["address"]))
        self._tls = ssl.create_default_context(cafile=values["ca_file"])
        self._keys: dict[str, str] = {}
        self._rps = rps
        self._over = threading.Event()
        self._load = threading.Thread(target=lambda: asyncio.run(self._send()), name="load", daemon=True)
        self.endpoints = endpoints
        self.failed: BaseException | None = None

    def __enter__(self) -> "Crowd":
        with httpx.Client(verify=self._tls, base_url=self._identity.address, trust_env=False, params=API) as http:
            http.headers["Authorization"] = f"Bearer {self._token(http)}"
            self._create(http)
        self._load.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._load.join()

    # --- through Resource Manager

    def _token(self, http: httpx.Client) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._values["client_id"],
            "client_secret": Path(self._values["client_secret_file"]).read_text(encoding="utf-8").strip(),
            "scope": f"{self._identity.address}/.default",
        }
        answer = http.post(f"/{self._identity.tenant_id}/oauth2/v2.0/token", data=form)
        return str(answer.raise_for_status().json()["access_token"])

    def _create(self, http: httpx.Client) -> None:
        body = endpoint_body(_described("endpoint.yml"), self._identity)
        deployment = deployment_body(_described("green-v2.yml"), self._identity)
        for name in self.endpoints:
            self._put(http, self._identity.endpoint_id(name), body)
        for color in ("blue", "green"):
            for name in self.endpoints:
                self._put(http, self._identity.deployment_id(name, color), deployment)
        body["properties"]["traffic"] = {"blue": 100}
        for name in self.endpoints:
            self._put(http, self._identity.endpoint_id(name), body)
        for name in self.endpoints:
            _until(lambda name=name: self._serves(http, name), name)  # type: ignore[misc]
            answer = http.post(f"{self._identity.endpoint_id(name)}/listKeys")
            self._keys[name] = answer.raise_for_status().json()["primaryKey"]

    def _put(self, http: httpx.Client, resource: str, body: Mapping[str, Any]) -> None:
        """Begun as soon as nothing else runs there."""
        _until(lambda: self._state(http, resource) in (None, "Succeeded"), resource)
        _until(lambda: http.put(resource, json=body).is_success, resource)

    def _state(self, http: httpx.Client, resource: str) -> str | None:
        answer = http.get(resource)
        return None if answer.status_code == 404 else str(answer.json()["properties"]["provisioningState"])

    def _serves(self, http: httpx.Client, endpoint: str) -> bool:
        answer = http.get(self._identity.endpoint_id(endpoint))
        return bool(answer.json()["properties"]["traffic"])

    # --- predictions

    async def _send(self) -> None:
        """Requests in a Poisson stream, each to an endpoint drawn at random."""
        chance, bodies, loop = random.Random(1), read_bodies(), asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        outstanding: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(self._identity.address, connector=connector) as session:
            due = loop.time()
            while not self._over.is_set():
                due += chance.expovariate(self._rps)
                await asyncio.sleep(max(0.0, due - loop.time()))
                if len(outstanding) < OUTSTANDING:
                    task = loop.create_task(self._ask(session, chance.choice(self.endpoints), chance.choice(bodies)))
                    outstanding.add(task)
                    task.add_done_callback(outstanding.discard)
            await asyncio.gather(*outstanding, return_exceptions=True)

    async def _ask(self, session: aiohttp.ClientSession, endpoint: str, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {self._keys[endpoint]}", "Content-Type": "application/json"}
        try:
            async with session.post(f"/endpoints/{endpoint}/score", data=body, headers=headers) as response:
                await response.read()
        except aiohttp.ClientError as error:
            self.failed = error


def _described(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SAMPLES / file).read_text(encoding="utf-8"))
    return found


def _until(condition: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(600):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(f"Not in time: {what}")
