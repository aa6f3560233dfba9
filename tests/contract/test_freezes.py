"""Freezes: what the store promises, what the API answers, what the commands print."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from rollout.lifecycle import Phase
from rollout.ports import Store
from rollout.store import open_store, retention
from rollout.world import EndpointRef, Freeze
from tests.contract.test_commands import run, running
from tests.support.api import POLICY, RUNNING, TOKEN, LocalApi, local_api
from tests.support.stories import NOON, REF

OTHER = EndpointRef(workspace="prod", name="menu-ranker")
HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/rollout.db", exclusive=True)
    yield opened
    opened.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    with local_api(tmp_path) as running_api:
        yield running_api


def a_freeze(name: str, endpoint: EndpointRef | None = None, **changes: object) -> Freeze:
    return Freeze(id=name, endpoint=endpoint, reason="incident 42", by="anna", at=NOON, **changes)  # type: ignore[arg-type]


# --- the store


def test_a_freeze_holds_until_it_is_lifted_or_over(store: Store) -> None:
    all_of_it, ours, short = a_freeze("f1"), a_freeze("f2", REF), a_freeze("f3", OTHER, until=NOON + HOUR)
    for one in (all_of_it, ours, short, ours):
        store.freeze(one)

    assert store.freezes(now=NOON) == [all_of_it, ours, short]
    assert store.freezes(now=NOON, ref=REF) == [all_of_it, ours]
    assert store.freezes(now=NOON + HOUR, ref=OTHER) == [all_of_it]

    shouted = EndpointRef(workspace=REF.workspace, name=REF.name.upper())
    assert ours in store.freezes(now=NOON, ref=shouted)
    assert store.unfreeze(shouted, by="ben", now=NOON + HOUR) == [ours]
    assert store.unfreeze(REF, by="ben", now=NOON + HOUR) == []
    assert store.freezes(now=NOON + HOUR) == [all_of_it]
    assert store.unfreeze(None, by="ben", now=NOON + HOUR) == [all_of_it]


def test_a_freeze_survives_a_restart_and_is_forgotten_when_it_is_long_over(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rollout.db"
    store = open_store(url, exclusive=True)
    store.freeze(a_freeze("f1"))
    store.freeze(a_freeze("f2", until=NOON + HOUR))
    store.close()
    store = open_store(url, exclusive=True)
    assert [freeze.id for freeze in store.freezes(now=NOON)] == ["f1", "f2"]
    store.prune(now=NOON + retention.KEEP_ROLLOUTS_FOR + 2 * HOUR)
    assert [freeze.id for freeze in store.freezes(now=NOON)] == ["f1"]
    store.close()


# --- the API


def http(api: LocalApi) -> httpx.Client:
    return httpx.Client(base_url=api.address, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)


def test_the_api_freezes_shows_and_lifts(api: LocalApi) -> None:
    rollout = api.start()
    api.put(rollout.id, **RUNNING, started_at=api.service.now(), step_since=api.service.now())
    with http(api) as client:
        body = {"endpoint": "recommender", "workspace": "prod", "reason": "incident 42.", "by": "anna", "lasts": 7200}
        made = client.post("/v1/freezes", json=body)
        assert made.status_code == 201
        assert made.json()["sentence"].startswith("recommender is frozen until ")
        assert made.json()["sentence"].endswith(", by anna: incident 42.")
        view = client.get("/v1/rollouts/recommender").json()
        assert [one["reason"] for one in view["freezes"]] == ["incident 42"]
        assert client.get("/v1/freezes").json()["freezes"] == view["freezes"]
        lifted = client.post("/v1/freezes/lift", json={"endpoint": "recommender", "workspace": "prod", "by": "ben"})
        assert len(lifted.json()["lifted"]) == 1
        again = client.post("/v1/freezes/lift", json={"all": True, "by": "ben"})
        assert again.status_code == 404
        assert again.json()["detail"] == "There is no freeze of everything; `rollout freezes` shows what is frozen."


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"reason": "x", "by": "anna"}, 422),
        ({"all": True, "workspace": "prod", "reason": "x", "by": "anna"}, 422),
        ({"all": True, "endpoint": "recommender", "reason": "x", "by": "anna"}, 422),
        ({"all": True, "reason": "", "by": "anna"}, 422),
        ({"all": True, "reason": "x", "by": "anna", "until": "2020-01-01T00:00:00Z"}, 422),
        ({"all": True, "reason": "x", "by": "anna", "until": "2030-01-01T00:00:00"}, 422),
        ({"endpoint": "recommender", "reason": "x", "by": "anna"}, 422),
        ({"endpoint": "recommender", "workspace": "nowhere", "reason": "x", "by": "anna"}, 422),
    ],
)
def test_what_cannot_be_frozen(api: LocalApi, body: dict[str, object], status: int) -> None:
    with http(api) as client:
        assert client.post("/v1/freezes", json=body).status_code == status
        assert client.get("/v1/freezes").json()["freezes"] == []


def test_windows_are_shown(api: LocalApi) -> None:
    text = POLICY + "windows: {freeze: [{from: 2000-01-01, to: 2099-12-31, reason: never}]}\n"
    rollout = api.start(text)
    api.put(rollout.id, **RUNNING)
    with http(api) as client:
        view = client.get("/v1/rollouts/recommender").json()
    assert view["windows"] == {"allow": [], "open": False, "changes_at": None}
    assert "Window    shut" in run(api, "status", "recommender").out


# --- the commands


def test_freeze_and_unfreeze_as_printed(api: LocalApi) -> None:
    running(api)
    assert run(api, "freezes").out == "Nothing is frozen.\n"
    frozen = run(api, "freeze", "recommender", "-w", "prod", "--reason", "incident 42")
    assert frozen.out == "recommender is frozen until it is lifted, by anna: incident 42.\n"
    status = run(api, "status", "recommender").out
    assert "recommender is frozen until it is lifted, by anna: incident 42." in status
    assert "frozen" in run(api, "list").out
    run(api, "freeze", "--all", "--reason", "peak", "--until", "2h")
    assert len(json.loads(run(api, "freezes", "-o", "json").out)["freezes"]) == 2
    lifted = run(api, "unfreeze", "-n", "recommender", "-w", "prod")
    assert lifted.out == "Lifted: recommender is frozen until it is lifted, by anna: incident 42.\n"
    told = run(api, "unfreeze", "recommender", "-w", "prod", code=5).err
    assert "recommender is not frozen by itself, but everything is: `rollout unfreeze --all` lifts that." in told
    run(api, "unfreeze", "--all")
    assert "There is no freeze of everything;" in run(api, "unfreeze", "--all", code=5).err
    winter = run(api, "freeze", "--all", "--reason", "peak", "--until", "2027-01-05T08:00+01:00").out
    assert winter.startswith("Everything is frozen until Tue 05 Jan 07:00 UTC, by anna: peak.")
    run(api, "unfreeze", "--all")
    typo = run(api, "freeze", "recomender", "-w", "prod", "--reason", "x").out
    assert typo.endswith("by anna: x. No endpoint of that name was seen in workspace prod yet: check it.\n")
    run(api, "unfreeze", "Recomender", "-w", "prod")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["freeze", "recommender"], "say why with --reason"),
        (["freeze", "--reason", "x"], "Name one endpoint, or all"),
        (["unfreeze", "recommender", "--all"], "Name one endpoint, or all"),
        (
            ["freeze", "--all", "--reason", "x", "--until", "2027-01-05"],
            "has no time zone: write 2027-01-05T00:00Z for UTC",
        ),
        (["freeze", "--all", "--reason", "x", "--until", "soon"], "--until soon is not a time"),
    ],
)
def test_what_is_wrong_with_a_freeze_is_told(api: LocalApi, words: list[str], told: str) -> None:
    assert told in run(api, *words, code=5).err


def test_who_may_approve_is_known_from_the_settings(api: LocalApi) -> None:
    api.service.groups = {"ml-leads": ["Anna", "ben"], "ops": ["carl"]}
    api.policies.groups = api.service.groups
    with http(api) as client:
        policy = POLICY.replace("25%", "{traffic: 25%}").replace("[5%, ", "[5%, {approve: {by: [ml-leads]}}, ")
        body = {"policy": {"text": policy + "workspace: prod\n", "file": "p.yaml"}, "by": "anna"}
        assert client.post("/v1/rollouts", json=body).status_code == 201
        (rollout,) = api.store.rollouts()
        api.put(rollout.id, **{**RUNNING, "step": 0, "share": 5, "phase": Phase.WAITING, "next_step": 1})
        refused = client.post("/v1/rollouts/recommender/commands", json={"verb": "approve", "by": "carl"}).json()
        api.tick(rollout.id)
        told = client.get(f"/v1/commands/{refused['id']}").json()
        assert told["state"] == "refused"
        assert "waits for an approval of ml-leads, and carl is not one of them" in told["sentence"]
        taken = client.post("/v1/rollouts/recommender/commands", json={"verb": "approve", "by": "anna"}).json()
        api.tick(rollout.id)
        assert client.get(f"/v1/commands/{taken['id']}").json()["state"] == "accepted"
        unknown = {
            **body,
            "policy": {"text": policy.replace("ml-leads", "leads") + "workspace: prod\n", "file": "p.yaml"},
        }
        answer = client.post("/v1/rollouts", json=unknown)
        assert answer.status_code == 422
        assert "no group, and nobody in one, called leads: they name ml-leads, ops" in answer.json()["detail"]
