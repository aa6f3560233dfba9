"""Releases as commands and scripts meet them: started by a policy with waves, shown, paused, resumed, aborted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rollout.errors import ConflictError
from rollout.lifecycle import Phase
from rollout.lifecycle.releases import Decision
from tests.contract.test_commands import run
from tests.support.api import TOKEN, LocalApi, local_api

POLICY = """
name: everywhere
workspace: prod
candidate: green
steps: [5%, 100%]
alerts: [team-ml]
waves:
  order:
    - [rec-weu]
    - [rec-neu, {endpoint_name: rec-weu, workspace: test}]
  between: 0m
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    with local_api(tmp_path) as running:
        (tmp_path / "waves.yaml").write_text(POLICY)
        yield running


@pytest.fixture
def http(api: LocalApi) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=api.address, headers=headers, trust_env=False) as client:
        yield client


def start(http: httpx.Client, text: str = POLICY, **body: object) -> httpx.Response:
    return http.post("/v1/rollouts", json={"policy": {"text": text}, "by": "anna", **body})


def promote(api: LocalApi, *endpoints: str) -> None:
    """The active rollouts of these endpoints have ended well, and the daemon has seen it."""
    for rollout in api.store.rollouts(active_only=True):
        if rollout.ref.name in endpoints:
            api.put(rollout.id, phase=Phase.SUCCEEDED, stable="blue", candidate="green", sentence="Promoted.")
    api.conductor.look()


def test_start_shows_the_waves(api: LocalApi) -> None:
    ran = run(api, "start", "waves.yaml")
    lines = ran.out.splitlines()
    assert lines[0].startswith("Release everywhere  ▶ Running  wave 1 of 2  ·  started")
    assert "anna asked for a release of everywhere: 3 endpoints in 2 waves." in lines
    assert [line.split()[:4] for line in lines if "rec-" in line] == [
        ["Wave", "1", "rec-weu", "prod"],
        ["Wave", "2", "rec-neu", "prod"],
        ["rec-weu", "test", "○", "Not"],
    ]
    assert lines[-1] == "See how it goes: rollout release show everywhere"
    assert "wave 1 of 2" in run(api, "status", "rec-weu", COLUMNS="120").out
    again = run(api, "start", "waves.yaml", code=5)
    assert "Endpoint rec-weu already has an active rollout (id-1-1, pending)" in again.err


def test_a_release_is_shown_until_its_end(api: LocalApi) -> None:
    run(api, "start", "waves.yaml")
    promote(api, "rec-weu")
    shown = run(api, "release", "show", "everywhere").out
    assert "Wave 2 of 2 begins: rec-neu, rec-weu." in shown
    promote(api, "rec-neu", "rec-weu")
    ended = run(api, "release", "show", "everywhere", "--wait")
    assert "Released everywhere: all 3 endpoints have the new deployment." in ended.out
    assert run(api, "release", "list").out.splitlines()[1].split()[:5] == ["everywhere", "✔", "Released", "2/2", "3/3"]


def test_the_whole_is_paused_resumed_and_aborted(api: LocalApi, http: httpx.Client) -> None:
    assert start(http).status_code == 201
    api.put("id-1-1", phase=Phase.PROGRESSING, stable="blue", candidate="green", share=5)
    paused = run(api, "release", "pause", "everywhere", "--reason", "lunch")
    assert paused.out.startswith("Paused by anna: lunch. What runs of wave 1 of 2 stands still, and no wave begins.")
    assert api.tick("id-1-1").phase is Phase.PAUSED
    assert "(release" not in api.store.load("id-1-1").sentence
    api.conductor.look()
    assert run(api, "release", "show", "everywhere", "--wait", code=3).out
    run(api, "release", "resume", "everywhere")
    assert api.tick("id-1-1").phase is Phase.PROGRESSING
    assert "say why with --reason" in run(api, "release", "abort", "everywhere", code=5).err
    run(api, "release", "abort", "everywhere", "--reason", "bad model")
    assert api.tick("id-1-1").phase is Phase.ROLLING_BACK
    api.put("id-1-1", phase=Phase.ABORTED, sentence="Aborted.")
    api.conductor.look()
    ended = run(api, "release", "show", "everywhere", "--wait", code=2)
    assert "Aborted: 0 of 3 endpoints have the new deployment; aborted by anna: bad model." in " ".join(
        ended.out.split()
    )
    assert "has ended" in run(api, "release", "pause", "everywhere", code=5).out


def test_its_alerts_name_the_release_and_hang_on_a_rollout(api: LocalApi, http: httpx.Client) -> None:
    start(http)
    api.put("id-1-1", phase=Phase.ROLLED_BACK, stable="blue", candidate="green", sentence="Rolled back: errors.")
    api.conductor.look()
    found = http.get("/v1/deliveries").json()["deliveries"]
    assert [(one["kind"], one["endpoint"], one["severity"]) for one in found] == [
        ("release_stopped", "rec-weu", "notice"),
        ("release_stopping", "rec-weu", "action"),
    ]
    assert "because rec-weu got worse: Rolled back: errors." in found[1]["sentence"]
    assert api.store.load("id-1-1").created_by == "anna (release everywhere, wave 1)"


def test_the_api_shows_what_scripts_need(http: httpx.Client) -> None:
    view = start(http, key="build-7").json()
    assert (view["name"], view["id"], view["wave"], view["waves"], view["outcome"]) == (
        "everywhere",
        "id-1",
        1,
        2,
        None,
    )
    assert [(one["endpoint"], one["state"], one["phase"]) for one in view["members"]] == [
        ("rec-weu", "running", "pending"),
        ("rec-neu", "ahead", None),
        ("rec-weu", "ahead", None),
    ]
    assert start(http, key="build-7").json()["id"] == "id-1"
    assert http.get("/v1/releases/everywhere").json()["id"] == "id-1"
    assert http.get("/v1/releases/id-1").json()["name"] == "everywhere"
    assert [one["name"] for one in http.get("/v1/releases", params={"active": True}).json()["releases"]] == [
        "everywhere"
    ]
    part = http.get("/v1/rollouts/id-1-1").json()["release"]
    assert part == {"name": "everywhere", "id": "id-1", "wave": 1, "waves": 2}
    missing = http.get("/v1/releases/nothing")
    assert missing.status_code == 404
    assert "There is no release nothing: `rollout release list`" in missing.json()["detail"]


def test_what_cannot_be_started_is_said(http: httpx.Client) -> None:
    refused = start(http, candidate="green")
    assert (refused.status_code, "write stable and candidate in the policy" in refused.json()["detail"]) == (422, True)
    twice = start(http, POLICY.replace("workspace: test", "workspace: prod"))
    assert "rec-weu stands there twice in workspace prod" in twice.json()["detail"]
    elsewhere = start(http, POLICY.replace("workspace: test", "workspace: nowhere"))
    assert "nowhere is not in the settings" in elsewhere.json()["detail"]
    assert http.get("/v1/releases").json()["releases"] == []


def test_many_who_look_at_once_begin_each_rollout_once(api: LocalApi, http: httpx.Client) -> None:
    start(http)
    api.put("id-1-1", phase=Phase.SUCCEEDED, stable="blue", candidate="green", sentence="Promoted.")
    with ThreadPoolExecutor(8) as pool:
        for looked in [pool.submit(api.conductor.look) for _ in range(16)]:
            looked.result()
    kept = api.store.load_release("id-1")
    assert [member.phase for member in kept.release.members] == [Phase.SUCCEEDED, Phase.PENDING, Phase.PENDING]
    assert sorted(one.id for one in api.store.rollouts()) == ["id-1-1", "id-1-2", "id-1-3"]
    assert [event.kind for event in kept.release.events] == ["release_asked", "release_running"]


def test_an_endpoint_that_got_busy_under_way_costs_the_others_nothing(api: LocalApi, http: httpx.Client) -> None:
    """Somebody else starts a rollout there after the release has looked: nothing is written, and the next look sees it."""
    start(http)
    before = api.store.load_release("id-1")
    api.start("endpoint_name: rec-neu\n")
    promote(api, "rec-weu")
    found = {member.ref: member.phase for member in api.store.load_release("id-1").release.members}
    assert [phase for ref, phase in found.items() if ref.name == "rec-neu"] == [None]
    assert [phase for ref, phase in found.items() if ref.workspace == "test"] == [Phase.PENDING]
    assert "Endpoint rec-neu has another rollout" in api.store.load_release("id-1").release.sentence
    with pytest.raises(ConflictError):
        api.store.save_release(Decision(release=before.release), [], version=before.version)
