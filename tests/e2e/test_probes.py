"""Probes from end to end: a crash and a hang begin their roll back within ten seconds, on a clock that is real.

Nobody else asks these endpoints anything: what is judged is what the prober sends.
"""

import pytest

from rollout.sandbox.seed import SAMPLES
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

REQUEST = (SAMPLES / "requests" / "sample.json").read_text(encoding="utf-8")
#: Judged by probes alone, at their default pace and time-out.
PROBED = (
    "steps: [{traffic: 50%, bake: 4m}, {traffic: 100%, bake: 4m}]",
    "min_requests: 20",
    "checks: {latency_p95: off}",
    "expert: {evidence: [probes]}",
    "probes: {request_file: sample.json}",
)
WITHIN = 10.0  # seconds
#: How long Azure works on a split is not what this is about.
QUICK_WRITES = {"endpoint_update": [1, 2], "read_lag": 0}
PUT = "PUT onlineEndpoints/{endpoint}"


def _start(stage: Stage, *more: str) -> None:
    stage.scene.ask("PATCH", "knobs", {"timings": QUICK_WRITES})
    stage.serve()
    (stage.home / "sample.json").write_text(REQUEST, encoding="utf-8")
    stage.start(*PROBED, *more)


def _breaks(stage: Stage, kind: str, **fields: float) -> float:
    """Green breaks; how many seconds later the PUT that rolls back has arrived at Azure."""
    stage.until_confirmed(50)
    began = float(stage.scene.ask("GET", "calls")["now"])
    stage.inject(kind, deployment="green", **fields)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert "probes in a row got no good answer within 4 s" in end.sentences("rolling_back")[0]
    assert "probes in a row got no good answer" in end.sentence
    calls = stage.scene.ask("GET", f"calls?since={began}")["recent"]
    return min(call["arrived"] for call in calls if call["kind"] == PUT and call["endpoint"] == stage.endpoint) - began


@side_by_side(rps=0, own_speed=1)
def test_a_crash_rolls_back_within_ten_seconds(stage: Stage) -> None:
    """The model's process ends, and does not come back."""
    _start(stage)
    assert _breaks(stage, "crash", minutes=30.0) <= WITHIN


@side_by_side(rps=0, own_speed=1)
def test_a_hang_rolls_back_within_ten_seconds(stage: Stage) -> None:
    """The model takes every request and answers none."""
    _start(stage)
    assert _breaks(stage, "latency", extra_ms=60_000.0) <= WITHIN
