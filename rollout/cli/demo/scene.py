"""The scene of the demo: sandbox, load and daemon as the processes that a user would start, and a receiver of alerts.

The rule: everything is started here and ended here, by its process id; logs stay in the state folder, secrets in files
that only the user can read.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any

from rollout.cli.client import Client, find_daemon
from rollout.cli.demo.receiver import Receiver
from rollout.clock import WallClock
from rollout.errors import RolloutError, UnavailableError

SPEED = 60
RPS = 150
#: The load ends by itself after this many real seconds, whatever happens.
LOAD_SECONDS = 420
STARTED_WITHIN, ENDED_WITHIN = 60.0, 8.0
POLL = 0.1

POLICY = """\
$schema: ./policy.schema.json
description: New recommender models reach diners in three steps.
endpoint_name: restaurant-recommender
steps: [20%, 50%, 100%]
bake: 6m
checks:
  error_rate:  {max_increase: 0.5pp}
  latency_p95: {max_increase: 25%}
min_requests: 100
alerts: [team-ml]
runbook: https://wiki.example/recommender
"""
SETTINGS = """\
cloud: {{sandbox: {sandbox}}}
store: sqlite:///rollout.db
policies: ./policies
api: {{listen: "127.0.0.1:0", token_file: token}}
channels:
  team-ml: {{webhook: "{url}", secret_env: DEMO_HOOK_SECRET, severity: [notice, action, page]}}
"""


@dataclass
class Scene:
    """Everything that the two rollouts need, running while the block does."""

    state: Path
    rps: int = RPS
    speed: int = SPEED
    values: dict[str, Any] = field(default_factory=dict)  # what sandbox.json says

    def __post_init__(self) -> None:
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._stack = ExitStack()
        self._secret = secrets.token_urlsafe(24)

    def __enter__(self) -> "Scene":
        try:
            self._sandbox()
            self.receiver = self._stack.enter_context(Receiver(self._secret, self.clock.now))
            self.samples = self._stack.enter_context(as_file(files("rollout.sandbox") / "samples"))
            self._start_load()
            self._daemon()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in reversed(self._processes):
            _end(process)
        self._processes.clear()
        self._stack.close()

    @property
    def clock(self) -> WallClock:
        """The clock that sandbox and daemon share."""
        return WallClock(epoch=float(self.values["epoch"]), speed=float(self.values["speed"]))

    @property
    def client(self) -> Client:
        """The daemon's API."""
        return Client(find_daemon(self.state / "rollout.yaml", {}))

    def _sandbox(self) -> None:
        home = self.state / "sandbox"
        self._spawn("sandbox", "sandbox", "start", "--seed", "--speed", str(self.speed), "--state", str(home))
        file = home / "sandbox.json"
        self.wait(file.exists, "the sandbox")
        self.values = json.loads(file.read_text(encoding="utf-8"))

    def _start_load(self) -> None:
        home = str(self.state / "sandbox")
        rate = ("--rps", str(self.rps), "--duration", f"{LOAD_SECONDS}s")
        self._spawn("load", "sandbox", "load", "--state", home, *rate, "-o", "json")

    def _daemon(self) -> None:
        policies = self.state / "policies"
        policies.mkdir(exist_ok=True)
        (policies / "recommender.yaml").write_text(POLICY, encoding="utf-8")
        settings = SETTINGS.format(sandbox=self.state / "sandbox" / "sandbox.json", url=self.receiver.url)
        (self.state / "rollout.yaml").write_text(settings, encoding="utf-8")
        self._spawn("daemon", "daemon", "--config", str(self.state / "rollout.yaml"))

    def await_daemon(self) -> None:
        """Until the daemon answers."""
        self.wait(self._answers, "the daemon")

    def _answers(self) -> bool:
        try:
            self.client.get("/v1/policies")
        except RolloutError:
            return False
        return True

    def deploy(self, file: str) -> "Deploying":
        """Begin to create or update a deployment from a sample file, through the Azure SDK."""
        home = str(self.state / "sandbox")
        return Deploying(
            self,
            self._spawn(f"deploy-{Path(file).stem}", "sandbox", "deploy", str(self.samples / file), "--state", home),
        )

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = STARTED_WITHIN) -> None:
        """Until the condition holds. Raises UnavailableError with the tail of the log if a process has ended meanwhile."""
        pause = threading.Event()
        for _ in range(int(seconds / POLL)):
            if condition():
                return
            self.check()
            pause.wait(POLL)
        raise UnavailableError(f"{what} did not start within {seconds:.0f} s; see the logs in {self.state}.")

    def check(self) -> None:
        """Raises UnavailableError if one of the processes has ended."""
        for name, process in self._processes:
            if process.poll() is not None and not (name.startswith("deploy") and process.returncode == 0):
                raise UnavailableError(f"The process '{name}' ended: {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The last lines of a process's log."""
        lines = (self.state / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "it left no word"

    def _spawn(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "rollout.cli", *arguments]
        environment = {**os.environ, "NO_PROXY": "127.0.0.1,localhost", "DEMO_HOOK_SECRET": self._secret}
        with (self.state / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  (our own commands)
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )
        self._processes.append((name, process))
        return process


@dataclass(frozen=True)
class Deploying:
    """A deployment on its way."""

    scene: Scene
    process: "subprocess.Popen[bytes]"

    def done(self) -> bool:
        """Azure says it is ready. Raises UnavailableError if it failed."""
        self.scene.check()
        return self.process.poll() == 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, then make it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
