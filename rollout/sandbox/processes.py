"""Model processes: one for each deployment that should serve, started, watched and restarted as Kubernetes would.

The rule: what runs follows `cloud.wanted_servers()`. A process that ends is started again after a back-off (10 s,
doubled up to 5 min, of the sandbox's clock); one that could not start three times in a row fails its deployment's
operation. A crash fault ends the process and keeps it down.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rollout.sandbox.channel import HELLO, READY, REQUEST, Reply, take_reply
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.resources import WantedServer

FIRST_BACK_OFF = timedelta(seconds=10)
LONGEST_BACK_OFF = timedelta(minutes=5)
SERVED_WELL = timedelta(minutes=10)  # after so long the back-off begins anew
FAILED_STARTS = 3  # in a row, before the deployment's operation fails
LOOK_EVERY = 0.05  # real seconds
LINE_LIMIT = 64 * 1024  # bytes; longer console lines are cut
INIT_WITHIN = 120.0  # real seconds for `init()`
END_WITHIN = 2.0  # real seconds to end after being asked, before being killed

Key = tuple[str, str, int]


class ServerGoneError(Exception):
    """The process ended before it answered."""


class BusyError(Exception):
    """As many requests are pending as Azure permits."""


class _Wire(asyncio.Protocol):
    """The router's end of the socket pair."""

    def __init__(self, on_reply: Callable[[Reply], None], on_lost: Callable[[], None]) -> None:
        self._buffer = bytearray()
        self._on_reply = on_reply
        self._on_lost = on_lost

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (reply := take_reply(self._buffer)) is not None:
            self._on_reply(reply)

    def connection_lost(self, _: Exception | None) -> None:
        self._on_lost()


class ModelProcess:
    """One running process. `ready` once `init()` returned; `failure` says why it did not."""

    def __init__(self, wanted: WantedServer, *, console: Callable[[str], None]) -> None:
        self.wanted = wanted
        self.ready = False
        self.failure: str | None = None
        self._console = console
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._queue: deque[asyncio.Future[None]] = deque()
        self._running = 0
        self._number = HELLO
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process; it reports by itself when it is ready."""
        ours, theirs = socket.socketpair()
        code = self.wanted.code_path or Path.cwd()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-u", "-m", "rollout.sandbox.model_server"),
                *(str(theirs.fileno()), str(code / self.wanted.scoring_script)),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(self.wanted),
                cwd=code,
                limit=LINE_LIMIT,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
            )
        except OSError as error:
            self.failure = f"the process could not be started: {error}."
            ours.close()
            return
        finally:
            theirs.close()
        loop = asyncio.get_running_loop()
        wire = _Wire(self._on_reply, self._on_lost)
        self._transport, _ = await loop.create_connection(lambda: wire, sock=ours)
        self._reader = loop.create_task(self._read_console())
        loop.call_later(INIT_WITHIN, self._check_init)

    async def score(self, body: bytes, *, capacity: int) -> Reply:
        """The model's answer. Raises BusyError, ServerGoneError.

        `capacity` requests run at a time, and as many again may wait; the next one is refused.
        """
        if self._running + len(self._queue) >= 2 * capacity:
            raise BusyError
        if self._running >= capacity:
            await self._turn()
        else:
            self._running += 1
        if self._transport is None or not self.ready:
            self._leave()
            raise ServerGoneError
        self._number += 1
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[self._number] = future
        self._transport.writelines((REQUEST.pack(self._number, len(body)), body))
        return await future  # where nobody waits any more the model still works, and still takes its place

    async def stop(self) -> None:
        """Let what runs come to its end, for a moment; then end the process."""
        deadline = asyncio.get_running_loop().time() + END_WITHIN
        while self._pending and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(LOOK_EVERY)
        if self._transport is not None:
            self._transport.close()  # the process sees the end of its input, and ends
        if self._process is not None and self.alive:
            try:
                await asyncio.wait_for(self._process.wait(), END_WITHIN)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        if self._reader is not None:
            await self._reader

    def kill(self) -> None:
        """End the process at once, as the kernel would."""
        if self._process is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _check_init(self) -> None:
        if not self.ready and self.alive:
            self.failure = f"init() did not return within {INIT_WITHIN:g} s."
            self.kill()

    async def _turn(self) -> None:
        """Wait for the place of a request that ends."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                self._leave()  # the place was ours already: hand it on
            raise

    def _leave(self) -> None:
        """Hand the place to the first who waits, or give it back."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def _on_reply(self, reply: Reply) -> None:
        if reply.id == HELLO:
            self.ready = reply.status == READY
            self.failure = None if self.ready else reply.body.decode(errors="replace")
            return
        future = self._pending.pop(reply.id, None)
        if future is not None and not future.done():
            future.set_result(reply)
        self._leave()

    def _on_lost(self) -> None:
        self.ready = False
        waiting: list[asyncio.Future[Any]] = [*self._pending.values(), *self._queue]
        for future in waiting:
            if not future.done():
                future.set_exception(ServerGoneError())
        self._pending.clear()
        self._queue.clear()
        self._running = 0

    async def _read_console(self) -> None:
        stream = self._process.stdout if self._process is not None else None
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the limit: the stream drops it
                line = b"(a line of more than 64 KB was cut)\n"
            if not line:
                return
            self._console(line.decode(errors="replace").rstrip("\n"))


@dataclass
class _Slot:
    """What is known of one wanted server, over its restarts."""

    process: ModelProcess | None = None
    started_at: datetime | None = None
    not_before: datetime | None = None
    back_off: timedelta = FIRST_BACK_OFF
    failures: int = 0
    reported: bool = False  # its operation knows how it went


class Supervisor:
    """Keeps the wanted processes running. One event loop."""

    def __init__(self, *, cloud: Cloud, clock: Callable[[], datetime]) -> None:
        self._cloud = cloud
        self._clock = clock
        self._slots: dict[Key, _Slot] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def server(self, endpoint: str, deployment: str, generation: int) -> tuple[ModelProcess, datetime] | None:
        """The process that answers for a deployment, and when it started; None while there is none."""
        slot = self._slots.get((endpoint, deployment, generation))
        if slot is None or slot.process is None or slot.started_at is None or not slot.process.ready:
            return None
        return slot.process, slot.started_at

    async def run(self) -> None:
        """Look every 50 ms, until cancelled; then end all processes."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_EVERY)
        finally:
            for slot in self._slots.values():
                self._end(slot)
            await asyncio.gather(*self._ending)

    async def look(self) -> None:
        """One look: end what is not wanted, start what is missing, report what became ready or failed."""
        wanted = {(each.endpoint, each.deployment, each.generation): each for each in self._cloud.wanted_servers()}
        for key in self._slots.keys() - wanted.keys():
            self._end(self._slots.pop(key))
        for key, server in wanted.items():
            await self._tend(self._slots.setdefault(key, _Slot()), server)

    async def _tend(self, slot: _Slot, wanted: WantedServer) -> None:
        now = self._clock()
        if slot.process is not None:
            if self._cloud.faults.down(wanted.endpoint, wanted.deployment, now=now):
                slot.process.kill()
            self._report(slot, wanted)
            if not slot.process.alive:
                self._rest(slot, wanted, now)
        elif (slot.not_before is None or slot.not_before <= now) and not self._cloud.faults.down(
            wanted.endpoint, wanted.deployment, now=now
        ):
            slot.process = ModelProcess(wanted, console=self._console(wanted))
            slot.started_at = now
            await slot.process.start()

    def _report(self, slot: _Slot, wanted: WantedServer) -> None:
        if slot.process is not None and slot.process.ready and not slot.reported:
            slot.reported = True
            slot.failures = 0
            self._cloud.server_ready(wanted.endpoint, wanted.deployment, wanted.generation)

    def _rest(self, slot: _Slot, wanted: WantedServer, now: datetime) -> None:
        """The process ended by itself: let it rest, longer each time."""
        failure = slot.process.failure if slot.process is not None else None
        self._end(slot)
        if slot.started_at is not None and now - slot.started_at > SERVED_WELL:
            slot.back_off = FIRST_BACK_OFF
        slot.not_before = now + slot.back_off
        slot.back_off = min(2 * slot.back_off, LONGEST_BACK_OFF)
        slot.failures += 1
        said = failure or "the process ended."
        self._console(wanted)(f"Back-off restarting failed container: {said}")
        if not slot.reported and slot.failures >= FAILED_STARTS:
            slot.reported = True
            self._cloud.server_failed(wanted.endpoint, wanted.deployment, wanted.generation, said)

    def _console(self, wanted: WantedServer) -> Callable[[str], None]:
        return lambda line: self._cloud.append_console(wanted.endpoint, wanted.deployment, line)

    def _end(self, slot: _Slot) -> None:
        if slot.process is not None:
            task = asyncio.get_running_loop().create_task(slot.process.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            slot.process = None


def _environment(wanted: WantedServer) -> dict[str, str]:
    """What the process sees: little of ours, what Azure sets, and the deployment's own variables."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
    paths = (str(Path(__file__).parents[2]), wanted.environment_variables.get("PYTHONPATH"))
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # what was uploaded stays as it was
        "NO_PROXY": "127.0.0.1,localhost",
        "OPENBLAS_NUM_THREADS": "1",  # instances of a deployment share the machine with everything else here
        "OMP_NUM_THREADS": "1",
        "AZUREML_MODEL_DIR": str(wanted.model_path or ""),
        "AZUREML_ENTRY_SCRIPT": wanted.scoring_script,
        **wanted.environment_variables,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
