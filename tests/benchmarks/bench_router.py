"""Requests a second through the sandbox: client, router and model process together on this machine, over TLS.

    ./dev bench router

The same client first asks a bare aiohttp server that only echoes; the ratio says what the sandbox costs beside plain
HTTPS. The sample model takes about 12 ms a request and 16 run at a time, so that 1,300 a second are the most there can
be. Fails (exit 1) below 200 requests a second.
"""

import asyncio
import resource
import ssl
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import aiohttp
import trustme
from aiohttp import web

from rollout.sandbox.load import ENDPOINT, read_bodies
from rollout.sandbox.server import Options, running

LEAST = 200.0  # requests a second
REQUESTS = 4_000
TOGETHER = 16  # requests without an answer


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Requests a second, and milliseconds of CPU for each request in this process and in its children."""

    rate: float
    cpu_ms: float
    failed: int


async def _ask(url: str, context: ssl.SSLContext, headers: dict[str, str]) -> Measured:
    bodies = read_bodies()
    connector = aiohttp.TCPConnector(ssl=context, limit=TOGETHER)
    left = iter(range(REQUESTS))
    failed = 0
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def client() -> None:
            nonlocal failed
            for number in left:
                async with session.post(url, data=bodies[number % len(bodies)]) as response:
                    await response.read()
                    failed += response.status != 200

        began, cpu = perf_counter(), process_time()
        await asyncio.gather(*(client() for _ in range(TOGETHER)))
        took, spent = perf_counter() - began, process_time() - cpu
    return Measured(rate=REQUESTS / took, cpu_ms=spent / REQUESTS * 1000, failed=failed)


async def _bare() -> Measured:
    """A server that echoes."""
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application()
    app.add_routes([web.post("/score", echo)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server)
    await site.start()
    try:
        port = runner.addresses[0][1]
        return await _ask(f"https://127.0.0.1:{port}/score", client, {})
    finally:
        await runner.cleanup()


async def _sandbox() -> Measured:
    """The sandbox with the sample model, whose `run()` takes about 12 ms; 16 run at a time."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(Options(state=Path(folder), speed=60, seed=True, chance=1)) as sandbox:
            context = ssl.create_default_context(cafile=sandbox.values["ca_file"])
            key = sandbox.cloud.endpoint(ENDPOINT).primary_key
            url = f"{sandbox.values['address']}/endpoints/{ENDPOINT}/score"
            return await _ask(url, context, {"Authorization": f"Bearer {key}"})


def main() -> int:
    """Measure both, print them, and say whether it is enough."""
    bare = asyncio.run(_bare())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sandbox = asyncio.run(_sandbox())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / REQUESTS * 1000
    print(f"bare echo server  {bare.rate:6.0f} requests/s  {bare.cpu_ms:.2f} ms CPU a request (client and server)")
    print(
        f"sandbox           {sandbox.rate:6.0f} requests/s  {sandbox.cpu_ms:.2f} ms CPU a request (client and router)"
        f" + {children:.2f} ms (model process, with its start)"
    )
    print(f"ratio             {sandbox.rate / bare.rate:6.2f}")
    if sandbox.failed:
        print(f"{sandbox.failed} of {REQUESTS} requests failed")
    if sandbox.rate < LEAST:
        print(f"too slow: the sandbox must answer at least {LEAST:.0f} requests a second")
    return int(sandbox.rate < LEAST or sandbox.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
