"""A client that asks the sandbox for real predictions, at a set rate, and says what it saw.

The rule: the load is open: requests go out when they are due, whether or not earlier ones were answered. It is bounded in
rate, time and in what may be outstanding, and ends by itself. An entry point: the real clock and chance are met here.
"""

import asyncio
import json
import random
import signal
import ssl
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Literal

import aiohttp

from rollout.errors import RefusedError, SettingsError, UnavailableError

MAX_RPS = 2_000.0
MAX_SECONDS = 24 * 3600.0
MAX_OUTSTANDING = 1_000  # requests without an answer; those due beyond are skipped, and counted
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
LIVE_REQUESTS = Path(__file__).parent / "samples" / "requests" / "live.jsonl"
USER_AGENT = "rollout-sandbox-load"
ENDPOINT = "restaurant-recommender"
_API = "2022-02-01-preview"


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What to send: `rps` requests a second for `seconds`, both real time. `key` None: asked for through listKeys."""

    sandbox: Mapping[str, Any]  # the values of sandbox.json
    endpoint: str = ENDPOINT
    rps: float = 20.0
    seconds: float = 60.0
    spacing: Literal["poisson", "even"] = "poisson"
    bodies: Sequence[bytes] = ()  # one is drawn for each request; none given: the samples' live requests
    deployment: str | None = None  # ask this deployment by name, past the split
    key: str | None = field(default=None, repr=False)
    seed: int | None = None


@dataclass
class Seen:
    """What came back: answers by deployment and status, latencies in milliseconds by deployment."""

    sent: int = 0
    skipped: int = 0
    seconds: float = 0.0
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, deployment: str, status: str, milliseconds: float) -> None:
        """One answer."""
        self.statuses[deployment, status] += 1
        self.latencies[deployment].append(milliseconds)

    def dump(self) -> dict[str, Any]:
        """As plain values, for machines."""
        return {
            "sent": self.sent,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(self.sent / self.seconds, 1) if self.seconds else 0.0,
            "deployments": {name: self._deployment(name) for name in sorted(self.latencies)},
        }

    def _deployment(self, name: str) -> dict[str, Any]:
        statuses = {status: count for (each, status), count in sorted(self.statuses.items()) if each == name}
        return {"requests": sum(statuses.values()), "statuses": statuses, **_percentiles(self.latencies[name])}


def read_bodies(file: Path = LIVE_REQUESTS) -> list[bytes]:
    """The requests of a file: one JSON document, or one on each line (.jsonl). Raises SettingsError."""
    try:
        text = file.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip()] if file.suffix == ".jsonl" else [text]
        bodies = [json.dumps(json.loads(line)).encode() for line in lines]
    except OSError as error:
        raise SettingsError(f"{file}: the requests cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise SettingsError(f"{file}: the requests are not JSON ({error}).") from None
    if not bodies:
        raise SettingsError(f"{file}: there is no request in it: write one JSON document a line.")
    return bodies


def send(options: LoadOptions) -> Seen:
    """Send the load and wait for its end; SIGINT and SIGTERM end it early. Raises SettingsError, UnavailableError, RefusedError."""
    _check(options)
    return asyncio.run(_send(options))


def report(seen: Seen) -> str:
    """What was seen, in a few lines for a person."""
    values = seen.dump()
    lines = [
        f"Sent {seen.sent} requests in {seen.seconds:.1f} s ({values['requests_per_second']:.0f} a second)."
        + (f" {seen.skipped} were skipped: {MAX_OUTSTANDING} were still without an answer." if seen.skipped else "")
    ]
    for name, each in values["deployments"].items():
        answers = ", ".join(f"{count} × {status}" for status, count in each["statuses"].items())
        times = f"p50 {each['p50_ms']:.0f} ms, p95 {each['p95_ms']:.0f} ms, p99 {each['p99_ms']:.0f} ms"
        lines.append(f"  {name or '(no deployment)':<16} {each['requests']:>7}  {times}  {answers}")
    return "\n".join(lines)


def _check(options: LoadOptions) -> None:
    if not 0 < options.rps <= MAX_RPS:
        raise SettingsError(f"--rps {options.rps:g}: write a rate above 0 and up to {MAX_RPS:g} requests a second.")
    if not 0 < options.seconds <= MAX_SECONDS:
        raise SettingsError(f"--duration {options.seconds:g} s: write a time above 0 and up to 24 hours.")


async def _send(options: LoadOptions) -> Seen:
    context = ssl.create_default_context(cafile=options.sandbox["ca_file"])
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=CONNECT_SECONDS)
    headers = {"User-Agent": USER_AGENT}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        try:
            key = options.key or await _fetch_key(session, options)
        except aiohttp.ClientError as error:
            address = options.sandbox["address"]
            raise UnavailableError(
                f"No sandbox answers at {address} ({error}): start one with `rollout sandbox`."
            ) from None
        return await _Load(session, options, key=key).run()


class _Load:
    """One run of the load."""

    def __init__(self, session: aiohttp.ClientSession, options: LoadOptions, *, key: str) -> None:
        self._session = session
        self._options = options
        self._url = f"{options.sandbox['address']}/endpoints/{options.endpoint}/score"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if options.deployment is not None:
            self._headers["azureml-model-deployment"] = options.deployment
        self._bodies = list(options.bodies) or read_bodies()
        self._chance = random.Random(options.seed)
        self._seen = Seen()
        self._over = asyncio.Event()

    async def run(self) -> Seen:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError, RuntimeError):  # not on the main thread: whoever runs us ends us
                loop.add_signal_handler(number, self._over.set)
        outstanding: set[asyncio.Task[None]] = set()
        start = loop.time()
        for due in self._due():
            if await self._stopped(start + due - loop.time()):
                break
            if len(outstanding) >= MAX_OUTSTANDING:
                self._seen.skipped += 1
                continue
            task = loop.create_task(self._one(self._chance.choice(self._bodies)))
            outstanding.add(task)
            task.add_done_callback(outstanding.discard)
            self._seen.sent += 1
        self._seen.seconds = loop.time() - start
        await asyncio.gather(*outstanding)
        return self._seen

    def _due(self) -> Iterator[float]:
        """Seconds from the start at which each request is due; at most rps × seconds of them."""
        options, at = self._options, 0.0
        for _ in range(int(options.rps * options.seconds)):
            yield at
            at += self._chance.expovariate(options.rps) if options.spacing == "poisson" else 1 / options.rps
            if at > options.seconds:
                return

    async def _stopped(self, seconds: float) -> bool:
        """Wait until the next request is due; True if the load is to end."""
        if seconds > 0 and not self._over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()
        return self._over.is_set()

    async def _one(self, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        started, deployment = loop.time(), ""
        try:
            async with self._session.post(self._url, data=body, headers=self._headers) as response:
                await response.read()
                status, deployment = _status(response), response.headers.get("azureml-model-deployment", "")
        except TimeoutError:
            status = "no answer in time"
        except aiohttp.ClientError as error:
            status = type(error).__name__
        self._seen.add(deployment, status, (loop.time() - started) * 1000)


def _status(response: aiohttp.ClientResponse) -> str:
    """`200`, or `424/500` with the model's own status."""
    own = response.headers.get("ms-azureml-model-error-statuscode")
    return f"{response.status}/{own}" if own else str(response.status)


async def _fetch_key(session: aiohttp.ClientSession, options: LoadOptions) -> str:
    """The endpoint's key, as the Studio would show it: token, then listKeys. Raises RefusedError."""
    values = options.sandbox
    address = values["address"]
    form = {
        "client_id": values["client_id"],
        "client_secret": Path(values["client_secret_file"]).read_text(encoding="utf-8").strip(),
        "grant_type": "client_credentials",
        "scope": f"{address}/.default",
    }
    token = await _json(session.post(f"{address}/{values['tenant_id']}/oauth2/v2.0/token", data=form))
    workspace = (
        f"/subscriptions/{values['subscription_id']}/resourceGroups/{values['resource_group']}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{values['workspace_name']}"
    )
    url = f"{address}{workspace}/onlineEndpoints/{options.endpoint}/listKeys?api-version={_API}"
    keys = await _json(session.post(url, headers={"Authorization": f"Bearer {token['access_token']}"}))
    return str(keys["primaryKey"])


async def _json(request: Awaitable[aiohttp.ClientResponse]) -> dict[str, Any]:
    response = await request
    values: dict[str, Any] = await response.json()
    if response.status != 200:
        error = values.get("error")
        said = error.get("message") if isinstance(error, dict) else values.get("error_description", error)
        raise RefusedError(f"The sandbox gave no key for its endpoint: {said} (status {response.status})")
    return values


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    if len(latencies) < 2:
        only = round(latencies[0], 1) if latencies else 0.0
        return {"p50_ms": only, "p95_ms": only, "p99_ms": only}
    cuts = quantiles(latencies, n=100, method="inclusive")
    return {f"p{rank}_ms": round(cuts[rank - 1], 1) for rank in (50, 95, 99)}
