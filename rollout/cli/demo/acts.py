"""The two acts of the demo: version 2 is promoted, version 3 rolls back; then what they came to, in numbers.

The rule: nothing is staged. The daemon decides; the demo fails (exit 1) if it does not decide as it should.
"""

import json
import signal
import ssl
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from rollout.cli import render
from rollout.cli.client import Client, rollout_path
from rollout.cli.demo.scene import RPS, Scene
from rollout.cli.terminal import Look, Screen, fold, look_of
from rollout.cli.words import number, percent
from rollout.errors import RolloutError

ENDPOINT = "restaurant-recommender"
LOOK_EVERY = 0.5  # real seconds
#: An act that takes longer has failed; rollouts of the demo take about a minute and a half.
ACT_WITHIN = 150.0
ALERT_WITHIN = 15.0
EVENTS = 6
TERMINATED = 143


@dataclass(frozen=True, kw_only=True)
class Act:
    """One rollout of the demo: what is deployed, and how it must end."""

    title: str
    file: str
    candidate: str
    expected: str


ACTS = (
    Act(
        title="Version 2: better, and a little faster. It should be promoted.",
        file="green-v2.yml",
        candidate="green",
        expected="promoted",
    ),
    Act(
        title="Version 3: fine on the sample request, fails for diners without a history. It should roll back.",
        file="v3.yml",
        candidate="blue",
        expected="rolled_back",
    ),
)


@dataclass
class Played:
    """How an act ended."""

    act: Act
    outcome: str = "not_started"
    sentence: str = ""
    real_seconds: float = 0.0
    minutes: float = 0.0  # on the rollout's clock
    candidate: dict[str, int] = field(default_factory=dict)  # requests and bad requests while it ran
    stable: dict[str, int] = field(default_factory=dict)
    harmed: float = 0.0
    alerts: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def as_expected(self) -> bool:
        """It ended as it should, and the alert that says so arrived."""
        return self.outcome == self.act.expected and any(
            alert["data"]["kind"] == _ENDING[self.act.expected] for alert in self.alerts
        )


UNFINISHED = "not finished"
WHY_NOT = (
    "The requests are real, and this machine answers them: where it is busy with something else they are slow or refused, "
    "and the rollout holds, as it should. Then try again when it is less busy."
)
_ENDING = {"promoted": "succeeded", "rolled_back": "rolled_back"}


def run(*, output: str = "table", rps: int = RPS, state: Path | None = None) -> int:
    """Play the demo; 0 only if both rollouts ended as they should."""
    begun = monotonic()
    stage = Stage(output=output)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="rollout-demo-") as folder:
        home = state or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        stage.say("Starting a local Azure, real predictions and the daemon, on a clock 60 times as fast …")
        with Scene(state=home.resolve(), rps=rps) as scene:
            played = _all_acts(scene, stage)
    stage.end(played, monotonic() - begun)
    return 0 if _as_they_should(played) else 1


def _all_acts(scene: Scene, stage: "Stage") -> "list[Played]":
    """Every act, as long as the one before ended as it should: a second one needs a free endpoint."""
    played: list[Played] = []
    for act in ACTS:
        played.append(_play(scene, act, stage))
        if not played[-1].as_expected:
            break
    return played


def _as_they_should(played: "Sequence[Played]") -> bool:
    return len(played) == len(ACTS) and all(each.as_expected for each in played)


class Stage:
    """What the spectator sees: a live picture on a terminal, the sentences elsewhere, JSON at the end if asked."""

    def __init__(self, *, output: str) -> None:
        self._json = output == "json"
        self._look: Look = look_of(sys.stdout)
        self._live = sys.stdout.isatty() and not self._json
        self._screen = Screen()
        self._told = ""

    def say(self, sentence: str) -> None:
        """A line that stays; with JSON it goes to stderr."""
        stream = sys.stderr if self._json else sys.stdout
        for line in fold(sentence, self._look.width):
            stream.write(self._look.characters(line) + "\n")
        stream.flush()

    def title(self, text: str) -> None:
        """The head of an act."""
        self._screen, self._told = Screen(), ""
        self.say("")
        self.say(self._look.paint(text, "bold") if not self._json else text)

    def show(self, view: Mapping[str, Any]) -> None:
        """The rollout as it stands."""
        if self._live:
            self._screen.draw(["", *render.status(view, self._look, history=view["events"])])
        elif view["sentence"] != self._told:
            self._told = str(view["sentence"])
            self.say(f"  {view['events'][-1]['at'][11:19]}  {self._told}" if view["events"] else f"  {self._told}")

    def end(self, played: Sequence[Played], seconds: float) -> None:
        """The summary."""
        if self._json:
            sys.stdout.write(json.dumps(_as_json(played, seconds), ensure_ascii=False, indent=2) + "\n")
            return
        for line in summary(played, seconds, self._look):
            sys.stdout.write(self._look.characters(line) + "\n")


def _play(scene: Scene, act: Act, stage: Stage) -> Played:
    stage.title(act.title)
    stage.say(f"Deploying it as '{act.candidate}' with the Azure ML SDK, without traffic …")
    scene.await_daemon()
    scene.wait(scene.deploy(act.file).done, f"the deployment of {act.file}", 90.0)
    client, before, begun = scene.client, _statistics(scene), monotonic()
    played, known = Played(act=act), len(scene.receiver.alerts)
    view = _rolled_out(scene, client, act, stage)
    played.outcome, played.sentence = str(view["outcome"] or UNFINISHED), str(view["sentence"])
    played.real_seconds = monotonic() - begun
    played.minutes = played.real_seconds * scene.clock.speed / 60
    played.harmed = float(view["harmed"])
    after = _statistics(scene)
    played.candidate = _difference(before, after, str(view["candidate"]))
    played.stable = _difference(before, after, str(view["stable"]))
    _await(lambda: _told_end(scene, known, act), ALERT_WITHIN)
    played.alerts = list(scene.receiver.alerts[known:])
    return played


def _rolled_out(scene: Scene, client: Client, act: Act, stage: Stage) -> Mapping[str, Any]:
    """Start the rollout and show it until it ends, needs a person, or takes too long."""
    body = {"policy": {"name": ENDPOINT}, "candidate": act.candidate, "by": "demo", "origin": "demo"}
    client.post("/v1/rollouts", body)
    pause, begun = threading.Event(), monotonic()
    while True:
        view: Mapping[str, Any] = client.get(rollout_path(ENDPOINT), events=EVENTS)
        stage.show(view)
        if view["ended"] or view["outcome"] is not None or monotonic() - begun > ACT_WITHIN:
            return view
        scene.check()
        pause.wait(LOOK_EVERY)


def _told_end(scene: Scene, known: int, act: Act) -> bool:
    return any(alert["data"]["kind"] == _ENDING[act.expected] for alert in scene.receiver.alerts[known:])


def _await(condition: Callable[[], bool], seconds: float) -> None:
    pause, begun = threading.Event(), monotonic()
    while not condition() and monotonic() - begun < seconds:
        pause.wait(LOOK_EVERY)


def _statistics(scene: Scene) -> Mapping[str, Any]:
    """What the sandbox has counted so far: requests and bad ones by deployment."""
    context = ssl.create_default_context(cafile=scene.values["ca_file"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{scene.values['address']}/sandbox/status", timeout=10) as answer:
            found: Mapping[str, Any] = json.load(answer)["requests"]
            return found
    except OSError as error:
        raise RolloutError(f"The sandbox does not answer: {error}") from None


def _difference(before: Mapping[str, Any], after: Mapping[str, Any], deployment: str) -> dict[str, int]:
    def count(found: Mapping[str, Any], key: str) -> int:
        return int(found.get(ENDPOINT, {}).get(deployment, {}).get(key, 0))

    return {key: count(after, key) - count(before, key) for key in ("requests", "bad")}


def _as_json(played: Sequence[Played], seconds: float) -> Mapping[str, Any]:
    return {
        "ok": _as_they_should(played),
        "seconds": round(seconds, 1),
        "rollouts": [
            {
                "title": each.act.title,
                "expected": each.act.expected,
                "outcome": each.outcome,
                "sentence": each.sentence,
                "real_seconds": round(each.real_seconds, 1),
                "minutes": round(each.minutes, 1),
                "candidate": each.candidate,
                "stable": each.stable,
                "harmed": round(each.harmed, 1),
                "alerts": each.alerts,
            }
            for each in played
        ],
    }


def summary(played: Sequence[Played], seconds: float, look: Look) -> list[str]:
    """How the acts ended, as lines."""
    lines = [""]
    for index, each in enumerate(played, start=2):
        style = "good" if each.as_expected else "bad"
        outcome = look.paint(each.outcome.replace("_", " "), style, "bold")
        lines.append(
            f"Version {index}: {outcome} after {number(each.minutes)} minutes of the rollout's clock "
            f"({number(each.real_seconds)} s)"
        )
        lines.append(f"  candidate {_counts(each.candidate)}  ·  stable {_counts(each.stable)}")
    lines += ["", look.paint("The last alert, as a webhook received it with a valid signature:", "bold")]
    last = [alert["data"] for each in played for alert in each.alerts][-1:]
    text = last[0]["text"].splitlines() if last else ["none arrived"]
    lines += [f"  {part}".rstrip() for line in text for part in fold(line, look.width - 2, indent="  ")]
    received = sum(len(each.alerts) for each in played)
    good = all(each.as_expected for each in played)
    verdict = "Both rollouts ended as they should" if good else "NOT as it should be"
    lines += ["", f"{verdict}: {number(seconds)} s, {received} alerts received."]
    return lines if good else [*lines, *fold(WHY_NOT, look.width)]


def _counts(found: Mapping[str, int]) -> str:
    requests, bad = found.get("requests", 0), found.get("bad", 0)
    share = f" ({percent(bad / requests)})" if bad else ""
    return f"{number(requests)} requests, {number(bad)} bad{share}"
