"""A rollout as the API shows it, for tests of what the terminal prints."""

from typing import Any


def finding(name: str, source: str, unit: str, candidate: tuple, baseline: tuple, **changes: Any) -> dict[str, Any]:
    """One check: the pairs are (n, bad, value)."""
    rates = {
        role: dict(zip(("n", "bad", "value"), numbers, strict=True))
        for role, numbers in (("baseline", baseline), ("candidate", candidate))
    }
    margin = {"share": 0.005, "ms": 0.25, "bytes": 1.0}[unit]
    told = {"margin": margin, "maximum": None, "evidence": 0.2, "action": "hold", "sentence": "Fine so far."}
    told |= {"role": "evidence", "alert": False}
    return {"name": name, "source": source, "unit": unit, **rates, **told, **changes}


def a_view(**changes: Any) -> dict[str, Any]:
    """The second step of four, under suspicion."""
    steps = [
        {"traffic": share, "bake_minutes": 10, "approve": share == 50, "state": state}
        for share, state in ((5, "done"), (25, "now"), (50, "ahead"), (100, "ahead"))
    ]
    sentence = (
        "Step 1 of 4 passed: errors 0.31 % vs 0.29 % (15 of 4\u2009812 vs 42 of 14\u2009390), p95 84 ms vs 86 ms."
    )
    told = {
        "endpoint": "restaurant-recommender",
        "workspace": "prod",
        "id": "ab12",
        "policy": "canary",
        "description": "",
        "phase": "progressing",
        "ended": False,
        "outcome": None,
        "sentence": sentence,
        "stable": "blue",
        "candidate": "green",
        "step": 2,
        "steps": steps,
        "share": 25,
        "traffic": {
            "wanted": {"blue": 75, "green": 25},
            "observed": {"blue": 75, "green": 25},
            "observed_at": "2026-11-22T14:20:31+00:00",
            "state": "Succeeded",
        },
        "checks": [
            finding(
                "error_rate",
                "logs",
                "share",
                (900, 61, 61 / 900),
                (2700, 8, 8 / 2700),
                evidence=3.1,
                action="retreat",
                sentence="Errors 6.8 % vs 0.30 % (61 of 900 vs 8 of 2\u2009700): evidence 3.1 of 20.",
            ),
            finding("client_errors", "logs", "share", (900, 3, 3 / 900), (2700, 8, 8 / 2700), margin=0.01),
            finding("latency_p95", "logs", "ms", (900, 12, 84.2), (2700, 40, 86.1)),
            finding("error_rate", "metrics", "share", (1200, 61, 61 / 1200), (3700, 8, 8 / 3700), evidence=12345.0),
        ],
        "verdict": {
            "action": "hold",
            "reason": "bake",
            "sentence": "",
            "evidence": 3.1,
            "threshold": 20.0,
            "notes": [],
        },
        "bake": {"blocks": 6, "of": 10},
        "requests": {"baseline": 2700, "candidate": 900},
        "eta": {"next_decision_at": "2026-11-22T14:26:00+00:00", "done_at": "2026-11-22T15:40:00+00:00"},
        "harmed": 58.3,
        "first_bad_at": None,
        "paused_because": None,
        "started_by": "anna",
        "created_at": "2026-11-22T14:02:00+00:00",
        "started_at": "2026-11-22T14:03:00+00:00",
        "phase_since": "2026-11-22T14:14:00+00:00",
        "clock": {"now": "2026-11-22T14:20:40+00:00", "speed": 1.0},
    }
    return {**told, **changes}


def an_event_view(at: str, sentence: str, severity: str | None = None) -> dict[str, Any]:
    """One line of a history."""
    return {"at": at, "kind": "x", "sentence": sentence, "severity": severity, "details": {}}
