"""A plan as people see it: in a terminal of 80 columns, and as a picture."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from rollout.analysis.profile import HOURS
from rollout.cli.plan_picture import picture
from rollout.cli.plan_view import lines, short
from rollout.cli.terminal import Look, cells

HEALTHY = {"rolled_back": 0.0, "retreated": 0.012, "paused": 0.0, "promoted": 1.0}


def a_step(step: int, share: int, begins: float, **changes: Any) -> dict[str, Any]:
    given = {
        "step": step,
        "traffic": share,
        "share": share,
        "sized": False,
        "approve": False,
        "bake_minutes": 15.0,
        "begins_minute": begins,
        "decided_minute": begins + 26.0,
        "requests": 180.0 * share,
        "sees": {"errors": 0.2 / share, "latency": 2.5 / share},
    }
    return given | changes


def a_fault(name: str, detected: float, minutes: float | None, harm: float, **changes: Any) -> dict[str, Any]:
    given = {"name": name, "allowed": False, "detected": detected, "paused": 0.0, "minutes": minutes}
    return given | {"harm": harm, "harm_95": harm * 1.5} | changes


def a_plan(**changes: Any) -> dict[str, Any]:
    """A plan as the API shows it."""
    given = {
        "endpoint": "restaurant-recommender",
        "policy": "canary",
        "ok": True,
        "profile": {
            "requests_per_minute_by_hour_utc": [300.0] * 12 + [1200.0] * (HOURS - 12),
            "error_rate": 0.005,
            "latency_p95_ms": 200.0,
            "lag_minutes": 10,
            "days": 7.0,
            "minutes": 1440,
        },
        "steps": [
            a_step(1, 2, 0.7, sized=True, bake_minutes=5.0, sees={"errors": None, "latency": None}),
            a_step(1, 5, 18.0),
            a_step(2, 50, 45.0, approve=True),
            a_step(3, 95, 72.0, traffic=100, bake_minutes=30.0),
        ],
        "sees": {"errors": 0.0021, "latency": 0.26},
        "watches": {"errors": True, "latency": True},
        "done_minutes": {"fixed": 115.0, "early": 90.5},
        "min_requests": 600,
        "probes_per_minute": None,
        "concerns": [],
        "forecast": {
            "rollouts": 2104,
            "healthy": HEALTHY,
            "faults": [
                a_fault("errors ×2", 0.0, None, 371.0, allowed=True),
                a_fault("errors +5 pp", 1.0, 15.7, 32.0),
                a_fault("p95 ×1.3", 0.12, 85.0, 0.3, paused=0.034),
                a_fault("crash", 1.0, 15.9, 329.0),
            ],
        },
        "proposal": None,
        "proposal_sees": None,
    }
    return given | changes


def noise_of(rollouts: int) -> dict[str, Any]:
    return {"rollouts": rollouts, "spreads": {"logs": {"error_rate": 0.21}} if rollouts else {}}


def shown(view: dict[str, Any], *, width: int = 80) -> str:
    return "\n".join(lines(view, Look(width=width))).replace("\u2009", " ")


AT_80 = """\
restaurant-recommender  policy canary
Traffic   300 to 1 200 requests a minute, errors 0.50 %, p95 200 ms (1 d of the
          last 7 d)
Data      a minute is judged about 10 min after its end

Step     Traffic    Bake     Decided  Requests  Sees errors  Sees p95
1 sized      2 %   5 min      27 min       360      nothing   nothing
1            5 %  15 min      44 min       900        +4 pp     +50 %
2 (a)       50 %  15 min  1 h 11 min     9 000      +0.4 pp      +5 %
3           95 %  30 min  1 h 38 min    17 100     +0.21 pp      +3 %
Requests: the candidate's in the bake. Decided: after the start, with the lag of
the data and Azure's writes. Sees: the smallest increase that is caught by then
in 80 of 100 rollouts if it was there from the start. (a): after an approval,
whose time is not counted.

100 %     after 1 h 55 min with every bake in full, 1 h 30 min with early
          promotion
Healthy   promoted 100 %  ·  rolled back 0 %  ·  paused 0 %  ·  retreats 1.2 %

A candidate with  rolled back  paused       after  bad requests  95th
errors ×2 (ok)            0 %     0 %           -           371   556
errors +5 pp            100 %     0 %      16 min            32    48
p95 ×1.3                 12 %   3.4 %  1 h 25 min            <1    <1
crash                   100 %     0 %      16 min           329   494
Bad requests: served beyond a healthy candidate's, on average. 2 104 rollouts
were played. (ok): no more than the policy allows."""

BLIND = a_plan(
    ok=False,
    concerns=[
        {"blocking": True, "sentence": "Step 1 shows about 48 requests, and min_requests wants 300. " * 2},
        {"blocking": False, "sentence": "It takes long."},
    ],
    proposal="endpoint_name: restaurant-recommender\nmin_requests: 32\n",
    proposal_sees={
        "sees": {"errors": 0.024, "latency": 0.43},
        "done_minutes": {"fixed": 172.0, "early": None},
        "concerns": [{"blocking": False, "sentence": "It takes longer."}],
    },
)


@pytest.mark.parametrize(
    ("noise", "told"),
    [
        (noise_of(6), "Noise     learned from 6 past rollouts\n"),
        (noise_of(1), "Noise     learned from 1 past rollout\n"),
        (noise_of(0), "Noise     assumed, until a rollout of this endpoint was promoted\n"),
    ],
)
def test_it_is_said_where_the_noise_of_the_played_rollouts_is_from(noise: dict[str, Any], told: str) -> None:
    profile = a_plan()["profile"] | {"noise": noise}
    assert told in shown(a_plan(profile=profile))
    assert "Noise" not in shown(a_plan(profile=profile, forecast=None))


def test_a_plan_of_given_numbers_or_of_an_older_daemon_says_nothing_of_noise() -> None:
    assert "Noise" not in shown(a_plan())
    assert "Noise" not in shown(a_plan(profile=a_plan()["profile"] | {"noise": None}))


def test_the_whole_plan_at_80_columns() -> None:
    assert shown(a_plan()) == AT_80


def test_what_speaks_against_it_comes_first_and_what_helps_last() -> None:
    told = shown(BLIND).splitlines()
    assert told[5] == "✖ Step 1 shows about 48 requests, and min_requests wants 300. Step 1 shows about"
    assert told[6] == "  48 requests, and min_requests wants 300. "
    assert told[7] == "▼ It takes long."
    assert told[-6:] == [
        "Better here: sees from +2.4 pp of errors and +43 % of p95 up, 100 % after 2 h",
        "52 min.",
        "Still: It takes longer.",
        "",
        "endpoint_name: restaurant-recommender",
        "min_requests: 32",
    ]


def test_where_nothing_helps_it_is_said() -> None:
    hopeless = a_plan(ok=False, concerns=[{"blocking": True, "sentence": "Blind."}])
    assert "send the candidate requests of your own first" in " ".join(shown(hopeless).splitlines())
    assert "requests of your own" not in shown(a_plan(concerns=[{"blocking": False, "sentence": "So so."}]))


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("view", [a_plan(), BLIND], ids=["good", "blind"])
def test_nothing_is_wider_than_the_terminal(view: dict[str, Any], width: int) -> None:
    fitting = max(width, 74)  # tables keep their columns
    assert [line for line in lines(view, Look(width=width)) if cells(line) > fitting] == []


@pytest.mark.parametrize(
    ("errors", "latency", "told"),
    [
        ((True, 0.02), (True, 0.3), "sees from +2 pp of errors and +30 % of p95 up"),
        ((True, None), (True, 0.3), "sees from +30 % of p95 up, no increase of errors"),
        ((True, None), (True, None), "sees no increase of errors or p95"),
        ((True, 0.02), (False, None), "sees from +2 pp of errors up"),
        ((False, None), (False, None), "sees neither errors nor p95: those checks are off"),
    ],
)
def test_only_what_the_policy_looks_at_is_told(
    errors: tuple[bool, float | None], latency: tuple[bool, float | None], told: str
) -> None:
    view = a_plan(
        watches={"errors": errors[0], "latency": latency[0]}, sees={"errors": errors[1], "latency": latency[1]}
    )
    assert told in " ".join(short(view, Look(width=200))).replace("\u2009", " ")
    assert ("Sees errors" in shown(view), "Sees p95" in shown(view)) == (errors[0], latency[0])


def test_the_short_form_fits_a_start() -> None:
    told = [line.replace("\u2009", " ") for line in short(BLIND, Look(width=80))]
    assert told[:2] == [
        "Plan      about 900, 9 000, 17 100 requests in the steps, 100 % after 1 h 55 min",
        "          sees from +0.21 pp of errors and +26 % of p95 up (with 80 %)",
    ]
    assert told[2].startswith("          Step 1 shows about 48")


def test_the_picture_is_an_svg_with_every_step_and_fault() -> None:
    drawn = picture(a_plan(policy="<canary & co>")).replace("\u2009", " ")
    root = ElementTree.fromstring(drawn)
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert "restaurant-recommender: <canary & co>" in texts
    assert {"5 %", "50 %", "95 %", "approval"} <= set(texts)
    assert "errors +5 pp: rolled back 100 % after 16 min, 32 bad requests on average" in texts
    marks = [element for element in root.iter() if element.tag.endswith("}circle")]
    assert len(marks) == 2  # those that are likely found
    places = [(float(mark.attrib["cx"]), float(mark.attrib["cy"])) for mark in marks]
    assert abs(places[0][0] - places[1][0]) >= 20 or places[0][1] != places[1][1]


def test_the_picture_stays_within_its_frame() -> None:
    root = ElementTree.fromstring(picture(a_plan(done_minutes={"fixed": 3000.0, "early": None})))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for element in root.iter():
        assert 0 <= float(element.attrib.get("x", 0)) <= width
        assert 0 <= float(element.attrib.get("y", 0)) <= height
        assert float(element.attrib.get("width", 0)) >= 0


def test_a_plan_that_was_not_played_has_no_marks() -> None:
    assert "<circle" not in picture(a_plan(forecast=None))
    assert "rolled back" not in shown(a_plan(forecast=None))


def test_probes_are_told_with_what_they_add() -> None:
    told = lines(a_plan(probes_per_minute=60), Look(width=200))
    assert any("Probes    60 requests a minute more to each of the two" in line for line in told)
    assert not any("Probes" in line for line in lines(a_plan(), Look(width=200)))
