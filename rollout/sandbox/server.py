"""The sandbox's process: one HTTPS server on loopback that is Azure AD, ARM, Azure Monitor and the scoring front end.

The rule: an entry point. The real clock, chance, secrets and files are met here and passed on; everything else in this
room gets them as arguments. `sandbox.json` appears when the server answers and goes when it ends.
"""

import asyncio
import json
import os
import random
import secrets
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from rollout.clock import WallClock
from rollout.errors import SettingsError
from rollout.sandbox.aad import Directory
from rollout.sandbox.admin import Admin
from rollout.sandbox.arm import Arm
from rollout.sandbox.blob_face import BlobFace
from rollout.sandbox.blobs import Blobs
from rollout.sandbox.calls import Calls
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import Faults
from rollout.sandbox.gate import Gate
from rollout.sandbox.monitor import Monitor
from rollout.sandbox.resources import Identity, Timings
from rollout.sandbox.seed import register_samples, seed_endpoint
from rollout.sandbox.serving import Serving
from rollout.sandbox.telemetry import TrafficLog
from rollout.sandbox.throttle import Buckets
from rollout.sandbox.tokens import Tokens

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 8 * 2**20
SHUTDOWN_SECONDS = 2.0
TOKEN_KEY_BYTES = 32
BLOB_KEY_BYTES = 24


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a sandbox is to run. `port` 0: any free one. `seed`: begin with the sample endpoint and its blue deployment."""

    state: Path
    speed: float = 1.0
    port: int = 0
    seed: bool = False
    timings: Timings = field(default_factory=Timings)
    chance: int | None = None  # seed of the random generators; None: the operating system's


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A running sandbox: what `sandbox.json` says, and the model behind it."""

    values: dict[str, Any]
    cloud: Cloud
    log: TrafficLog
    file: Path


@asynccontextmanager
async def running(options: Options) -> AsyncIterator[Sandbox]:
    """A sandbox that answers, until the block is left. Raises SettingsError where it cannot start."""
    folder = _folder(options.state)
    _check_alone(folder)
    bound = _bind(options.port)
    identity = Identity(address=f"https://{HOST}:{bound.getsockname()[1]}")
    clock = WallClock(epoch=time.time(), speed=options.speed)
    cloud, log = _model(options, identity=identity, clock=clock)
    cloud.assets.blobs = Blobs(folder / "blobs", address=identity.address, secret=secrets.token_hex(BLOB_KEY_BYTES))
    secret = _secret(folder)
    app = build_app(cloud=cloud, log=log, clock=clock, secret=secret, chance=options.chance)
    # handler_cancellation: a client that leaves is noticed at once, as a front end notices it
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    file = folder / "sandbox.json"
    try:
        await web.SockSite(runner, bound, ssl_context=_certified(folder)).start()
        if options.seed:
            await seed_endpoint(cloud)
        values = _values(identity, clock=clock, folder=folder)
        _write_private(file, json.dumps(values, indent=2) + "\n")
        yield Sandbox(values=values, cloud=cloud, log=log, file=file)
    finally:
        file.unlink(missing_ok=True)
        await _hang_up(runner)


def build_app(
    *, cloud: Cloud, log: TrafficLog, clock: WallClock, secret: str, chance: int | None = None
) -> web.Application:
    """The application: every face of the sandbox in one table of routes."""
    tokens = Tokens(identity=cloud.identity, key=secrets.token_bytes(TOKEN_KEY_BYTES))
    cloud.trusted_token = lambda token: tokens.opens_endpoints(token, now=time.time())
    directory = Directory(
        identity=cloud.identity, tokens=tokens, secret=secret, faults=cloud.faults, wall=time.time, clock=clock.now
    )
    gate = Gate(cloud=cloud, tokens=tokens, buckets=Buckets(), wall=time.time)
    serving = Serving(cloud=cloud, log=log, clock=clock.now, chance=random.Random(chance))
    monitor = Monitor(cloud=cloud, log=log, tokens=tokens, clock=clock.now, wall=time.time)
    calls = Calls(wall=time.time)
    admin = Admin(cloud=cloud, clock=clock, log=log, calls=calls, mirror=serving.mirror)
    app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[calls.middleware])
    # The control plane answers whatever else lies under /subscriptions/: metrics come before it.
    for face in (directory, monitor, Arm(cloud=cloud, gate=gate, metrics=monitor.metrics), admin, serving):
        app.add_routes(face.routes())
    if cloud.assets.blobs is not None:
        app.add_routes(BlobFace(cloud.assets.blobs).routes())
    app.cleanup_ctx.extend((monitor.lifespan, serving.lifespan))
    return app


async def serve(options: Options, *, started: Callable[[Sandbox], None]) -> None:
    """Run a sandbox until SIGTERM or SIGINT; `started` is called once it answers."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    os.environ["NO_PROXY"] = without_proxy(os.environ.get("NO_PROXY", ""))
    async with running(options) as sandbox:
        started(sandbox)
        await over.wait()


def without_proxy(before: str) -> str:
    """A NO_PROXY that names loopback: HTTPS_PROXY is honoured even for 127.0.0.1."""
    names = [name for name in before.split(",") if name]
    return ",".join(dict.fromkeys([*names, HOST, "localhost"]))


async def _hang_up(runner: web.AppRunner) -> None:
    """End the server, and the connections that clients still hold open: TLS would wait for each one's farewell."""
    transports = [each.transport for each in runner.server.connections] if runner.server is not None else []
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0)  # lets the loop close their sockets
    await asyncio.sleep(0)


def _model(options: Options, *, identity: Identity, clock: WallClock) -> tuple[Cloud, TrafficLog]:
    cloud = Cloud(
        clock=clock.now,
        chance=random.Random(options.chance),
        faults=Faults(),
        timings=options.timings,
        identity=identity,
    )
    register_samples(cloud)
    return cloud, TrafficLog(chance=random.Random(options.chance))


def _values(identity: Identity, *, clock: WallClock, folder: Path) -> dict[str, Any]:
    """What a client needs to find its way: the contents of `sandbox.json`."""
    return {
        "address": identity.address,
        "ca_file": str(folder / "ca.pem"),
        "epoch": clock.epoch,
        "speed": clock.speed,
        "tenant_id": identity.tenant_id,
        "client_id": identity.client_id,
        "client_secret_file": str(folder / "client-secret"),
        "subscription_id": identity.subscription_id,
        "resource_group": identity.resource_group,
        "workspace_name": identity.workspace_name,
        "region": identity.region,
        "log_workspace": identity.log_workspace,
        "pid": os.getpid(),
    }


def _folder(state: Path) -> Path:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(
            f"The sandbox cannot keep its state in {state} ({error.strerror}): choose another folder with --state."
        ) from None
    return state.resolve()


def _check_alone(folder: Path) -> None:
    """One sandbox to a state folder; the file of one that was killed does not count."""
    try:
        values = json.loads((folder / "sandbox.json").read_text(encoding="utf-8"))
        port = int(str(values["address"]).rpartition(":")[2])
        os.kill(int(values["pid"]), 0)  # raises OSError where there is no such process
        with socket.create_connection((HOST, port), timeout=1):
            pass
    except (OSError, ValueError, KeyError):
        return
    raise SettingsError(
        f"A sandbox runs already with its state in {folder} (process {values.get('pid')}): "
        "end it, or choose another folder with --state."
    )


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"The sandbox cannot listen on {HOST}:{port} ({error.strerror}): choose another --port, or 0 for any."
        ) from None
    return bound


def _certified(folder: Path) -> ssl.SSLContext:
    """A server context with a fresh certificate; the authority's own is written to `ca.pem`."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST, "localhost").configure_cert(context)
    _write_private(folder / "ca.pem", authority.cert_pem.bytes().decode())
    return context


def _secret(folder: Path) -> str:
    """The client secret, kept between runs so that settings stay valid."""
    file = folder / "client-secret"
    if not file.exists():
        _write_private(file, secrets.token_urlsafe(30))
    return file.read_text().strip()


def _write_private(file: Path, text: str) -> None:
    """Write a file at once, readable by its owner only."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    draft.replace(file)
