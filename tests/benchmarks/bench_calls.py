"""What the daemon asks of Azure in a minute, for 1 and for 50 rollouts of one workspace, counted by the sandbox.

    ./dev bench calls

The daemon, its SDKs and the sandbox are the real processes; minutes are those of their clock, which is 8 times as fast.
Looks are shared: endpoints per workspace, logs per log workspace, metrics per region. Only the slow round-robin looks at
one endpoint's deployments each minute, whatever their number. Fails (exit 1) if 50 rollouts cost more than one does.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from tests.support.crowd import Crowd
from tests.support.scene import Scene

SPEED = 8.0
MANY = 50
RPS = 60.0  # of all endpoints together
SETTLE, MINUTES = 2.0, 6.0  # before it is measured, and measured; on the scene's clock
#: Counts of a few minutes differ by where the minutes begin and end.
AT_MOST = 1.1
POLICY = """\
endpoint_name: {endpoint}
steps: [{{traffic: 50%, bake: 6h}}, {{traffic: 100%, bake: 1h}}]
checks: {{latency_p95: off}}
"""


def _start(scene: Scene, endpoints: Sequence[str]) -> None:
    """Start a rollout of each, and wait until Azure has confirmed their first step."""
    client = scene.daemon.client
    for name in endpoints:
        client.post("/v1/rollouts", {"policy": {"text": POLICY.format(endpoint=name)}, "by": "bench"})
    wanted = set(endpoints)

    def moved() -> bool:
        views = client.get("/v1/rollouts", limit=500)["rollouts"]
        return wanted <= {view["endpoint"] for view in views if view["started_at"]}

    scene.wait(moved, "all rollouts are on their way", alive=scene.daemon.alive, told=scene.daemon.tail)


def _measured(scene: Scene) -> tuple[Counter[str], float]:
    """Calls by kind, and the minutes in which they were counted: some after the last start, which looks at once."""
    _pass(scene, SETTLE)
    before, began = Counter(scene.ask("GET", "calls")["counts"]), scene.clock.now()
    _pass(scene, MINUTES)
    after, ended = Counter(scene.ask("GET", "calls")["counts"]), scene.clock.now()
    return after - before, (ended - began) / timedelta(minutes=1)


def _pass(scene: Scene, minutes: float) -> None:
    """Until so many minutes have passed on the scene's clock."""
    until = scene.clock.now() + timedelta(minutes=minutes)
    scene.wait(lambda: scene.clock.now() >= until, "the minutes pass", alive=scene.daemon.alive)


def _report(one: Mapping[str, float], many: Mapping[str, float]) -> float:
    """Print the calls per minute by kind; the ratio of their sums."""
    print(f"{'calls per minute':58} {'1':>7} {MANY:>7}")
    for kind in sorted({*one, *many}):
        print(f"{kind:58} {one.get(kind, 0.0):7.1f} {many.get(kind, 0.0):7.1f}")
    sums = sum(one.values()), sum(many.values())
    print(f"{'all':58} {sums[0]:7.1f} {sums[1]:7.1f}   ratio {sums[1] / sums[0]:.2f}")
    return sums[1] / sums[0]


def main() -> int:
    """Measure both and compare."""
    names = [f"shop-{number:02}" for number in range(MANY)]
    found = []
    with (
        tempfile.TemporaryDirectory() as home,
        Scene(Path(home), speed=SPEED) as scene,
        Crowd(scene.values, names, rps=RPS),
    ):
        for group in (names[:1], names[1:]):
            _start(scene, group)
            calls, minutes = _measured(scene)
            found.append({kind: count / minutes for kind, count in calls.items()})
    ratio = _report(*found)
    if ratio > AT_MOST:
        print(f"too many: {MANY} rollouts must not cost more than one does")
    return int(ratio > AT_MOST)


if __name__ == "__main__":
    sys.exit(main())
