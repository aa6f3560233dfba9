"""The life of the process: settings, parts, web server, signals, and a quick way out.

The rule: bad settings end it before anything is opened, every mistake at once. SIGTERM and SIGINT hand over within five
seconds: no new ticks, those under way end or are left where a crash would leave them, leases are given back.
"""

import asyncio
import contextlib
import os
import secrets as chance
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn

from rollout.daemon import logs, notify, token
from rollout.daemon.jobs import Jobs
from rollout.daemon.site import Site, read_site
from rollout.daemon.wiring import Parts, build
from rollout.errors import RolloutError, SettingsError
from rollout.web.app import create_app

STOPPED, FAILED, UNUSABLE = 0, 1, 2
#: Seconds of the five that a stop may take: open requests, ticks under way, each channel's alert under way, the prober's
#: round.
REQUESTS_END, TICKS_END, ALERTS_END, PROBES_END = 1, 3.0, 0.1, 0.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_daemon(config: Path) -> int:
    """See `rollout.daemon.run`."""
    for number in SIGNALS:  # until the loop runs: whoever stops us while we start need not wait for imports
        signal.signal(number, lambda *_: sys.exit(STOPPED))
    hidden = logs.Secrets()
    try:
        site = read_site(config, environ=os.environ, secrets=hidden)
        api_token = token.read_or_make(_token_file(site), make=lambda: chance.token_urlsafe(32))
        hidden.add(api_token)
        listener = _listen(site)
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        return UNUSABLE
    log = logs.set_up(hidden, now=site.clock.now)
    try:
        with listener:
            parts = build(site, log=log, new_id=lambda: uuid.uuid4().hex[:12])
            with parts.closing, _address(listener, site):
                return asyncio.run(_serve(parts, listener, api_token, log))
    except SettingsError as error:
        log.critical("The settings cannot be used.", reason=error.message)
        return UNUSABLE
    except RolloutError as error:
        log.critical("The daemon cannot go on.", reason=error.message)
        return FAILED


def _token_file(site: Site) -> Path:
    return site.path(site.settings.api.token_file)


def _listen(site: Site) -> socket.socket:
    api = site.settings.api
    family = socket.AF_INET6 if ":" in api.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((api.host, api.port))
    except OSError as error:
        listener.close()
        hint = "another daemon may run there" if "in use" in str(error) else "choose another address"
        raise SettingsError(f"api: listen: {api.listen} cannot be used ({error.strerror}): {hint}.") from None
    listener.listen()
    return listener


@contextlib.contextmanager
def _address(listener: socket.socket, site: Site) -> Iterator[None]:
    """While it runs (and so holds the store alone), a file beside the token says where it answers."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    file = token.write_address(_token_file(site).parent, f"http://{shown}:{port}")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


async def _serve(parts: Parts, listener: socket.socket, api_token: str, log: structlog.stdlib.BoundLogger) -> int:
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = create_app(parts.service, token=api_token, health=parts.health, log=log)
    server = _Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=REQUESTS_END))
    return await _run(parts, server, listener, stop, log)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: stopping is ours to order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def _run(
    parts: Parts,
    server: uvicorn.Server,
    listener: socket.socket,
    stop: asyncio.Event,
    log: structlog.stdlib.BoundLogger,
) -> int:
    jobs = Jobs(parts.jobs)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    watching = asyncio.create_task(_watchdog(parts))
    parts.prober.start()
    parts.dispatcher.start()
    jobs.start()
    host, port = listener.getsockname()[:2]
    log.info("The daemon is running.", address=f"http://{host}:{port}", pid=os.getpid())
    notify.tell("READY=1", os.environ)
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    notify.tell("STOPPING=1", os.environ)
    watching.cancel()
    jobs.stop()
    server.should_exit = True
    left = await asyncio.to_thread(_hand_over, parts)
    await serving
    log.info("The daemon has stopped.", ticks_left=left)
    return STOPPED if stop.is_set() else FAILED


def _hand_over(parts: Parts) -> int:
    """Give back every lease; how many ticks were left in the middle, to heal with the next daemon's first tick."""
    parts.courier.close()
    parts.prober.stop(PROBES_END)
    left = parts.dispatcher.stop(TICKS_END)
    parts.courier.wait(ALERTS_END)
    return left


async def _watchdog(parts: Parts) -> None:
    """Tell systemd that the loops turn, for as long as they do."""
    pause = notify.watchdog_seconds(os.environ, pid=os.getpid())
    while pause is not None:
        if not parts.health.alive():
            notify.tell("WATCHDOG=1", os.environ)
        await asyncio.sleep(pause)
