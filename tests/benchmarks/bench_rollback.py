"""Seconds from the read that brings the deciding minute to the PUT that rolls back, as the sandbox sees both.

    ./dev bench rollback

All candidates of twelve endpoints turn bad at once: the daemon has to judge them and to write them back side by side. For
each: from the answer of the last query of Azure Monitor before the decision to the arrival of the PUT at the sandbox; in
real seconds, whatever the speed of their clock. The ratio is to a bare GET of an endpoint in the same minute. Fails
(exit 1) if 95 of 100 take longer than 2 s.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rollout.cli.client import rollout_path
from rollout.cli.words import moment
from tests.support.crowd import Crowd
from tests.support.people import Person
from tests.support.scene import Scene

SPEED = 30.0
ENDPOINTS = 12
RPS = 110.0  # of all endpoints together
GOAL = 2.0  # seconds
QUERIES = ("POST v1/workspaces/{workspace}/query", "POST subscriptions/{subscription}/metrics:getBatch")
PUT = "PUT onlineEndpoints/{endpoint}"
POLICY = """\
endpoint_name: {endpoint}
steps: [{{traffic: 50%, bake: 30m}}, {{traffic: 100%, bake: 30m}}]
min_requests: 20
checks: {{latency_p95: off}}
when: {{suspicion: hold}}
"""


def _all_are(scene: Scene, condition: Callable[[Mapping[str, Any]], object], what: str) -> None:
    def they_are() -> bool:
        views = scene.daemon.client.get("/v1/rollouts", limit=500)["rollouts"]
        return sum(bool(condition(view)) for view in views) == ENDPOINTS

    scene.wait(they_are, what, alive=scene.daemon.alive, told=scene.daemon.tail)


def _took(scene: Scene, endpoint: str, calls: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Seconds from the last query answered before the decision to the PUT that follows it; and until its tick began."""
    events = scene.daemon.client.get(rollout_path(endpoint, "history"))["events"]
    decided_at = next(moment(event["at"]) for event in events if event["kind"] == "rolling_back").timestamp()
    epoch = float(scene.values["epoch"])
    decided = epoch + (decided_at - epoch) / SPEED  # in real seconds
    read = max(call["answered"] for call in calls if call["kind"] in QUERIES and call["answered"] <= decided)
    put = min(
        call["arrived"]
        for call in calls
        if call["kind"] == PUT and call["endpoint"] == endpoint and call["arrived"] >= decided
    )
    return float(put - read), float(decided - read)


def _bare(scene: Scene, endpoint: str) -> float:
    """Seconds of one GET of an endpoint by the SDK."""
    person = Person(scene.values)
    took = []
    for _ in range(10):
        began = time.perf_counter()
        person.traffic(endpoint)
        took.append(time.perf_counter() - began)
    return median(took)


def main() -> int:
    """Roll them all back and measure."""
    names = [f"shop-{number:02}" for number in range(ENDPOINTS)]
    with tempfile.TemporaryDirectory() as home, Scene(Path(home), speed=SPEED) as scene:
        with Crowd(scene.values, names, rps=RPS):
            for name in names:
                body = {"policy": {"text": POLICY.format(endpoint=name)}, "by": "bench"}
                scene.daemon.client.post("/v1/rollouts", body)
            _all_are(scene, lambda view: view["started_at"], "all rollouts are on their way")
            scene.ask("POST", "faults", {"plane": "serving", "kind": "errors", "deployment": "green", "share": 0.9})
            _all_are(scene, lambda view: view["phase"] == "rolled_back", "all rollouts are rolled back")
            bare = _bare(scene, names[0])
        calls = scene.ask("GET", "calls")["recent"]
        took = sorted(_took(scene, name, calls) for name in names)
    whole = [one for one, _ in took]
    p50, p95 = median(whole), whole[round(0.95 * (len(whole) - 1))]
    print(f"from the deciding read to the PUT, {len(took)} roll backs at once: p50 {p50:.2f} s, p95 {p95:.2f} s")
    print(f"of which until the tick began: p50 {median(waited for _, waited in took):.2f} s")
    print(f"each: {' '.join(f'{one:.2f}' for one in whole)}")
    print(f"a GET of an endpoint: {bare:.3f} s; ratio {p50 / bare:.1f}")
    if p95 > GOAL:
        print(f"too slow: the PUT must leave within {GOAL:.0f} s")
    return int(p95 > GOAL)


if __name__ == "__main__":
    sys.exit(main())
