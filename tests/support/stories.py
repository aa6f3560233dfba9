"""Made-up rollouts, alerts and times for tests of the store and of alerts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rollout.analysis.cells import Cell
from rollout.analysis.exhibits import Exhibit, Shown
from rollout.analysis.verdict import Judgement, Pair, Stage
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout, Write
from rollout.policy import Policy, Step
from rollout.world import Alert, Command, EndpointRef, Event, Pin, Severity, Split, Verb

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
REF = EndpointRef(workspace="prod", name="restaurant-recommender")


def a_policy(**changes: Any) -> Policy:
    steps = (Step(traffic=5, bake=timedelta(minutes=10)), Step(traffic=100, bake=timedelta(minutes=30)))
    return Policy(**{"name": "recommender", "endpoint_name": "restaurant-recommender", "steps": steps, **changes})


def a_rollout(rollout_id: str = "r1", ref: EndpointRef = REF, **changes: Any) -> Rollout:
    """A rollout in the middle of its first step, with something in every kind of field."""
    told = {
        "id": rollout_id,
        "ref": ref,
        "policy": a_policy(),
        "stable": "blue",
        "candidate": "green",
        "phase": Phase.PROGRESSING,
        "created_at": NOON,
        "created_by": "anna",
        "phase_since": NOON,
        "sentence": "Step 1 of 2 began: 5 % on green.",
        "share": 5,
        "pins": (Pin(model="m:1", environment="e:1", code=None, modified_at="2026-11-01T00:00:00Z"),) * 2,
        "writes": (Write(split=Split.of({"blue": 95, "green": 5}), begun_at=NOON, outcome="accepted"),),
        "active": timedelta(hours=30, microseconds=1),
        "judgement": Judgement(alpha=0.1 + 0.2),
    }
    return Rollout(**{**told, **changes})


def an_event(sentence: str = "Something happened.", *, at: datetime = NOON, **changes: Any) -> Event:
    told = {"at": at, "kind": "progressing", "sentence": sentence, "severity": Severity.NOTICE}
    return Event(**{**told, **changes})


def an_alert(alert_id: str = "a1", *channels: str, rollout_id: str = "r1", **event: Any) -> Alert:
    return Alert(
        id=alert_id, rollout_id=rollout_id, endpoint=REF, event=an_event(**event), channels=channels or ("team-ml",)
    )


def a_command(command_id: str = "c1", *, rollout_id: str = "r1", at: datetime = NOON, **changes: Any) -> Command:
    told = {"verb": Verb.PAUSE, "by": "anna", "origin": "cli@desk", "reason": "lunch"}
    return Command(id=command_id, rollout_id=rollout_id, at=at, **{**told, **changes})


def an_exhibit(at: datetime, *, minutes: int = 2) -> Exhibit:
    """A look at the first step: `minutes` cells of each deployment, and a minute of stable that is gone."""
    now = int(at.timestamp() // 60)
    cells = {now - 6 - age: Cell(histograms={"ok": {50: 90 + age, -1: 1}, "5xx": {-1: age}}) for age in range(minutes)}
    stage = Stage(step=0, traffic=5, started=now - 9, since=now - 9, bake=10, instances=Pair(baseline=2, candidate=1))
    shown = Shown(
        source="logs",
        closed_before=now - 5,
        steady=(now - 4, now - 3),
        read_at=now,
        baseline={**cells, now - 90: None},
        candidate=cells,
    )
    return Exhibit(at=at, stage=stage, sources=(shown,), begun=Judgement(alpha=0.1 + 0.2), whole=True)
