"""A stage: one endpoint of a scene with its load, and a rollout that is started, watched and meddled with.

The rule: what a person does is done with the commands and the SDK that they have; what is read comes from the daemon's
API, from Azure (through the SDK) and from the receiver of alerts.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from rollout.cli.client import rollout_path
from rollout.lifecycle import Phase
from tests.support.people import Person
from tests.support.scene import PATIENCE, Daemon, Ran, Scene, end

#: The load ends by itself, whatever happens.
LOAD_SECONDS = 1500
HEAD = """\
endpoint_name: {endpoint}
alerts: [team-ml]
runbook: https://wiki.example/recommender
"""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a rollout ended, as everybody saw it."""

    code: int  # of the command that waited for it
    printed: str  # what that command printed, its lines joined
    view: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    traffic: Mapping[str, int]  # that Azure shows

    @property
    def phase(self) -> str:
        """The last phase."""
        return str(self.view["phase"])

    @property
    def sentence(self) -> str:
        """The last sentence."""
        return str(self.view["sentence"])

    @property
    def phases(self) -> list[str]:
        """The phases that it went through, in order; but for `waiting`, which a busy machine causes, too."""
        known = {phase.value for phase in Phase} - {Phase.WAITING.value}
        return [kind for kind, _ in groupby(kind for kind in self.kinds if kind in known)]

    @property
    def kinds(self) -> list[str]:
        """The kinds of its events in order."""
        return [str(event["kind"]) for event in self.history]

    def check(self, *, code: int, phase: str, traffic: Mapping[str, int]) -> None:
        """That it ended so: the command's exit code, the phase, and the split that Azure shows."""
        seen = (self.code, self.phase, dict(self.traffic))
        lines = [f"{event['at'][11:19]} {event['kind']}: {event['sentence']}" for event in self.history]
        assert seen == (code, phase, traffic), "\n".join([str(seen), *lines, self.printed[-2000:]])

    def sentences(self, kind: str) -> list[str]:
        """What was told under this kind."""
        return [str(event["sentence"]) for event in self.history if event["kind"] == kind]


@dataclass
class Stage:
    """One endpoint, and the daemon that cares for it."""

    scene: Scene
    endpoint: str
    rps: float
    home: Path
    daemon: Daemon = field(init=False)

    def __post_init__(self) -> None:
        self.daemon = self.scene.daemon
        self.alex = Person(self.scene.values)
        self._waiting: subprocess.Popen[bytes] | None = None
        self._load: subprocess.Popen[bytes] | None = None
        self._number = 0

    # --- before the rollout

    def serve(
        self,
        *deployments: str,
        traffic: Mapping[str, int] | None = None,
        warm: int = 0,
        on_kubernetes: bool = False,
    ) -> None:
        """Create the endpoint with deployments of the same good model (blue and green), and send it load.

        `warm`: returns when so many requests were answered.
        """
        self.alex.create(self.endpoint, *(deployments or ("blue", "green")), on_kubernetes=on_kubernetes)
        if traffic is not None:
            self.alex.set_traffic(self.endpoint, traffic)
        if self.rps:
            self.load()
            self.until(lambda: self.answered() >= warm, f"{warm} requests are answered")

    def load(self) -> None:
        """Send real predictions, until the stage is left."""
        state, log = self.scene.home / "sandbox", f"{self.endpoint}-load"
        rate = ("--rps", f"{self.rps:g}", "--duration", f"{LOAD_SECONDS}s")
        self._load = self.scene.spawn(log, "sandbox", "load", "--state", str(state), "-n", self.endpoint, *rate)

    def answered(self) -> int:
        """Requests that the endpoint has answered so far."""
        counts = self.scene.ask("GET", "status")["requests"].get(self.endpoint, {})
        return sum(int(each["requests"]) for each in counts.values())

    def leave(self) -> None:
        """The load ends, and a rollout that still runs is aborted, so that neither costs the others anything."""
        for process in (self._load, self._waiting):
            if process is not None:
                end(process)

    # --- what people do

    def start(self, *policy: str, candidate: str | None = None) -> None:
        """`rollout start --wait` with a policy of these lines; `ending` waits for it."""
        self.start_text(HEAD.format(endpoint=self.endpoint) + "\n".join(policy) + "\n", candidate=candidate)

    def start_text(self, policy: str, *, candidate: str | None = None) -> None:
        """The same with the whole text of a policy."""
        self._number += 1
        file = self.home / f"{self.endpoint}-{self._number}.yaml"
        file.write_text(policy, encoding="utf-8")
        before = len(self.rollouts())
        named = ("--candidate", candidate) if candidate else ()
        self._wait("start", str(file), *named)
        self.until(lambda: len(self.rollouts()) > before, "the rollout is started")

    def wait_again(self) -> None:
        """`rollout status --wait`: `ending` waits for it."""
        self._wait("status", self.endpoint)

    def _wait(self, *arguments: str) -> None:
        self._log = f"{self.endpoint}-wait-{self._number}-{arguments[0]}"
        self._waiting = self.scene.spawn(self._log, *arguments, "--wait", config=self.daemon.config)

    def run(self, verb: str, *options: str) -> Ran:
        """A `rollout` command about this endpoint."""
        return self.daemon.run(verb, self.endpoint, *options)

    def ask(self, verb: str, *options: str) -> str:
        """The same, which must be carried out; what it printed."""
        ran = self.run(verb, *options)
        assert ran.code == 0, f"{verb} {options}: {ran}\n{self.told()}"
        return ran.out

    def inject(self, kind: str, *, plane: str = "serving", **fields: Any) -> int:
        """Let something go wrong with this endpoint; the fault's number."""
        where = {} if plane == "monitor" else {"endpoint": self.endpoint}
        return int(self.scene.ask("POST", "faults", {"plane": plane, "kind": kind, **where, **fields})["id"])

    def mend(self, fault: int) -> None:
        """End a fault."""
        self.scene.ask("DELETE", f"faults/{fault}")

    def faults(self) -> list[Mapping[str, Any]]:
        """The faults of this endpoint that have not ended."""
        found: list[Mapping[str, Any]] = self.scene.ask("GET", "faults")
        return [fault for fault in found if fault.get("endpoint") == self.endpoint]

    def left(self, number: int) -> int:
        """How many times a counted fault will come still."""
        return next((int(fault["count"]) for fault in self.faults() if fault["id"] == number), 0)

    def set_traffic(self, **traffic: int) -> None:
        """A person sets another split with the Azure SDK."""
        self.alex.set_traffic(self.endpoint, traffic)

    # --- what is seen

    def rollouts(self) -> list[Mapping[str, Any]]:
        """Every rollout of this endpoint, newest first."""
        found: list[Mapping[str, Any]] = self.daemon.client.get("/v1/rollouts", limit=500)["rollouts"]
        return [view for view in found if view["endpoint"] == self.endpoint]

    def view(self) -> Mapping[str, Any]:
        """The rollout as it stands."""
        found: Mapping[str, Any] = self.daemon.client.get(rollout_path(self.endpoint))
        return found

    def history(self) -> list[Mapping[str, Any]]:
        """Everything that happened to it."""
        found: list[Mapping[str, Any]] = self.daemon.client.get(rollout_path(self.endpoint, "history"))["events"]
        return found

    def happened(self, kind: str) -> list[Mapping[str, Any]]:
        """The events of this kind."""
        return [event for event in self.history() if event["kind"] == kind]

    def alerts(self) -> list[str]:
        """The kinds of the alerts that arrived, in order of arrival; but for `slow`, which a busy machine causes."""
        return [kind for data in self.scene.alerts(self.endpoint) if (kind := str(data["kind"])) != "slow"]

    def alert(self, kind: str) -> Mapping[str, Any]:
        """The newest alert of this kind, once it has arrived."""
        self.until(lambda: kind in self.alerts(), f"an alert '{kind}' arrives", ended=True)
        return next(data for data in reversed(self.scene.alerts(self.endpoint)) if data["kind"] == kind)

    # --- waiting

    def until(
        self, condition: Callable[[], object], what: str, *, ended: bool = False, within: float = PATIENCE
    ) -> None:
        """Until the condition holds; a rollout that ends before that is an error, unless it may have `ended`."""

        def holds() -> object:
            found = condition()
            if not found and not ended and self._number:
                views = self.rollouts()
                assert not (views and views[0]["ended"]), f"It ended before: {what}.\n{self.told()}"
            return found

        self.scene.wait(holds, f"{self.endpoint}: {what}", seconds=within, alive=self.daemon.alive, told=self.told)

    def until_happened(self, kind: str, *, times: int = 1) -> None:
        """Until the history holds so many events of this kind."""
        self.until(lambda: len(self.happened(kind)) >= times, f"{times} x '{kind}'")

    def until_confirmed(self, share: int) -> None:
        """Until Azure shows the candidate's share, and the rollout has seen that."""

        def confirmed() -> bool:
            return any(f" {share} %" in str(event["sentence"]) for event in self.happened("confirmed"))

        self.until(confirmed, f"Azure confirms {share} %")

    def ending(self, *, within: float = PATIENCE) -> Ending:
        """Wait for the end that the waiting command tells, in real seconds."""
        process = self._waiting
        assert process is not None
        self.until(lambda: process.poll() is not None, "the command that waits has ended", ended=True, within=within)
        return Ending(
            code=process.returncode,
            printed=" ".join(self.scene.log(self._log).read_text(encoding="utf-8").split()),
            view=self.view(),
            history=self.history(),
            traffic=self.alex.traffic(self.endpoint),
        )

    def told(self) -> str:
        """The rollout's history and the daemon's last words: what a failed test shows."""
        views = self.rollouts()
        if not views:
            return f"There is no rollout.\n{self.daemon.tail()}"
        lines = [f"{event['at'][11:19]} {event['kind']}: {event['sentence']}" for event in self.history()]
        verdict = json.dumps({key: views[0][key] for key in ("phase", "share", "traffic", "verdict", "checks")})
        return "\n".join([*lines, verdict, self.daemon.tail()])
