"""A whole scene: the sandbox and the daemon as the processes that a user would start, and a receiver of alerts.

The rule: nothing here reaches into the product. Processes are started with `rollout`, watched through the API, and ended by
their process id. Nobody sleeps: everything is waited for, with a deadline, and says what it saw when that has passed.
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

from rollout.cli.client import Client, find_daemon
from rollout.cli.demo.receiver import Receiver
from rollout.clock import WallClock
from rollout.errors import RolloutError
from rollout.sandbox.local import ask, read_values
from tests.support.people import ALEX
from tests.support.receivers import free_port

#: Longest wait for anything to happen, in real seconds.
PATIENCE = 150.0
LOOK = 0.1
ENDS_WITHIN = 10.0
#: Operations that are not what a test is about; traffic updates keep their 20 to 31 s.
TIMINGS = {"endpoint_create": 1, "deployment_create": 1}
#: What azure-ai-ml leaves in the environment: our children choose their cloud by themselves.
NOT_INHERITED = ("AZUREML_CURRENT_CLOUD", "ARM_CLOUD_METADATA_URL", "AZUREML_DEV_URL_MFE")
SECRET = "SCENE_HOOK_SECRET"
SETTINGS = """\
cloud: {{sandbox: {sandbox}}}
store: sqlite:///rollout.db
policies: ./policies
groups: {{ml-leads: [alex@example.org]}}
api: {{listen: "127.0.0.1:{port}", token_file: token}}
channels:
  team-ml: {{webhook: "{url}", secret_env: SCENE_HOOK_SECRET, severity: [notice, action, page]}}
"""


class SceneOver(Exception):  # noqa: N818  (it is an order)
    """The scene is being ended: whoever still waits goes home."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Scene:
    """A sandbox, a daemon and whoever acts on them, while the block runs. `speed`: how fast their clock is."""

    def __init__(self, home: Path, *, speed: float) -> None:
        self.home = home
        self.speed = speed
        self.over = threading.Event()
        self._stack = ExitStack()
        self._secret = secrets.token_urlsafe(24)

    def __enter__(self) -> "Scene":
        try:
            folder = self.home / "sandbox"
            sandbox = ("sandbox", "start", "--no-seed", "--speed", f"{self.speed:g}", "--state", str(folder))
            process = self.spawn("sandbox", *sandbox)
            self.wait((folder / "sandbox.json").exists, "the sandbox answers", alive={"sandbox": process})
            self.values = read_values(folder)
            self.ask("PATCH", "knobs", {"timings": TIMINGS})
            self.clock = WallClock(epoch=float(self.values["epoch"]), speed=float(self.values["speed"]))
            self.receiver = self._stack.enter_context(Receiver(self._secret, self.clock.now))
            self.daemon = self.new_daemon("daemon")
            self.daemon.start()
            self.daemon.answers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._stack.close()

    # --- the sandbox

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request to the sandbox's own address."""
        return ask(self.values, method, path, body)

    def alerts(self, endpoint: str) -> list[Mapping[str, Any]]:
        """What the receiver got about an endpoint, oldest first; each was signed, and is there once."""
        found = [alert["data"] for alert in list(self.receiver.alerts)]
        return [data for data in found if data["endpoint"] == endpoint]

    # --- processes

    def new_daemon(self, name: str) -> "Daemon":
        """Another daemon with a store and a port of its own, which it keeps over restarts; not yet started."""
        home = self.home / name
        (home / "policies").mkdir(parents=True)
        sandbox = self.home / "sandbox" / "sandbox.json"
        settings = SETTINGS.format(sandbox=sandbox, url=self.receiver.url, port=free_port())
        (home / "rollout.yaml").write_text(settings, encoding="utf-8")
        return Daemon(scene=self, name=name, home=home)

    def spawn(self, name: str, *arguments: str, config: Path | None = None) -> "subprocess.Popen[bytes]":
        """Start a `rollout` command that writes to `NAME.log`; it is ended with the scene."""
        command = [sys.executable, "-m", "rollout.cli", *arguments]
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self.environment(config)
            )
        self._stack.callback(end, process)
        return process

    def run(self, *arguments: str, config: Path | None = None, **variables: str) -> Ran:
        """A `rollout` command, run to its end, with these environment variables."""
        command = [sys.executable, "-m", "rollout.cli", *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**self.environment(config), **variables},
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def environment(self, config: Path | None = None) -> dict[str, str]:
        """What our processes inherit."""
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        more = {"NO_PROXY": "127.0.0.1,localhost", "COLUMNS": "120", "ROLLOUT_USER": ALEX, SECRET: self._secret}
        return {**kept, **more, **({"ROLLOUT_CONFIG": str(config)} if config else {})}

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.home / f"{name}.log"

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        seconds: float = PATIENCE,
        alive: "Mapping[str, subprocess.Popen[bytes]] | None" = None,
        told: Callable[[], str] = lambda: "",
    ) -> None:
        """Until the condition holds; processes in `alive` (by the name of their log) must not end before.

        Raises AssertionError with `what` and what `told` says, when it has not in time.
        """
        until = monotonic() + seconds
        while not condition():
            for name, process in (alive or {}).items():
                assert process.poll() is None, f"The process {name} has ended: {tail(self.log(name))}"
            assert monotonic() < until, f"Not within {seconds:.0f} s: {what}.\n{told()}"
            if self.over.wait(LOOK):
                raise SceneOver


@dataclass
class Daemon:
    """One daemon with its folder: settings, store, token. It may be started, killed and started again."""

    scene: Scene
    name: str
    home: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.home / "rollout.yaml"

    @property
    def client(self) -> Client:
        """Its API."""
        return Client(find_daemon(self.config, {}))

    def start(self) -> None:
        """Start it; `answers` waits for it."""
        self.process = self.scene.spawn(self.name, "daemon", "--config", str(self.config))

    def answers(self) -> None:
        """Until it answers."""
        self.scene.wait(self._answers, f"{self.name} answers", alive=self.alive, told=self.tail)

    @property
    def alive(self) -> "dict[str, subprocess.Popen[bytes]]":
        """Its process, if it is meant to run: for `Scene.wait`."""
        return {self.name: self.process} if self.process is not None else {}

    def tail(self) -> str:
        """Its last words."""
        return tail(self.scene.log(self.name), 4)

    def kill(self) -> None:
        """SIGKILL: as a machine that loses power, or the kernel short of memory."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(ENDS_WITHIN)
        self.process = None

    def run(self, *arguments: str) -> Ran:
        """A `rollout` command that asks this daemon."""
        return self.scene.run(*arguments, config=self.config)

    def _answers(self) -> bool:
        try:
            self.client.get("/v1/policies")
        except RolloutError:
            return False
        return True


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, then make it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    found: Sequence[str] = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else ()
    return "\n".join(line[:600] for line in found[-lines:]) or "it left no word"
