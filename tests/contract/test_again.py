"""Undo and retry through the API and as commands, and what another start does to a rollout that only guards."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from rollout.errors import ConflictError
from rollout.lifecycle import Phase
from tests.contract.test_commands import run
from tests.support.api import RUNNING, TOKEN, LocalApi, local_api

GUARDING: Mapping[str, Any] = {**RUNNING, "phase": Phase.GUARDING, "step": 2, "share": 100}
PROMOTED: Mapping[str, Any] = {**GUARDING, "phase": Phase.SUCCEEDED}
BACK: Mapping[str, Any] = {**RUNNING, "phase": Phase.ROLLED_BACK, "share": 0}
LEASE = timedelta(seconds=30)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    with local_api(tmp_path) as running:
        yield running


@pytest.fixture
def http(api: LocalApi) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=api.address, headers=headers, trust_env=False) as client:
        yield client


def last(api: LocalApi, **changes: Any) -> str:
    rollout = api.start()
    return api.put(rollout.id, **changes).id


def test_a_start_ends_a_rollout_that_only_guards(api: LocalApi) -> None:
    guarding = last(api, **GUARDING)
    (lease,) = api.store.claim_due(now=api.service.now() + timedelta(hours=2), owner="late", lease=LEASE)
    begun = api.start(by="bob")
    before = api.store.load(guarding)
    assert (before.phase, api.store.latest(begun.ref)) == (Phase.SUCCEEDED, begun)
    assert (
        api.store.history(guarding)[-1].sentence == "Guarding has ended: bob asked for another rollout of recommender."
    )
    with pytest.raises(ConflictError, match="no longer held by late"):
        api.store.save(lease, before)  # whoever ticked it just then decides nothing


def test_a_rollout_that_does_more_than_guard_is_in_the_way(api: LocalApi) -> None:
    running = last(api, **RUNNING)
    with pytest.raises(ConflictError, match="already has an active rollout"):
        api.start()
    assert api.store.load(running).phase is Phase.PROGRESSING


def test_an_unanswered_fail_is_in_the_way_of_all_but_an_undo(api: LocalApi) -> None:
    failed = api.store.load(last(api, **GUARDING, fail_stands=True))
    with pytest.raises(ConflictError, match="already has an active rollout"):
        api.start()
    assert api.service.undo(failed.ref, by="anna", reason=None).undo is not None


def test_undo_begins_a_rollout_of_its_own(api: LocalApi, http: httpx.Client) -> None:
    promoted = last(api, **PROMOTED)
    answer = http.post("/v1/rollouts/recommender/undo", json={"by": "anna", "reason": "wrong menu"})
    assert answer.status_code == 201
    view = answer.json()
    assert (view["kind"], view["made_from"], view["phase"]) == ("undo", promoted, "pending")
    assert (view["stable"], view["candidate"]) == ("blue", "green")
    again = http.post("/v1/rollouts/recommender/undo", json={"by": "anna"})
    assert again.status_code == 409
    assert "A rollout of recommender is under way (pending)" in again.json()["detail"]


def test_retry_begins_the_same_policy_again(api: LocalApi, http: httpx.Client) -> None:
    back = last(api, **BACK)
    silent = http.post("/v1/rollouts/recommender/retry", json={"by": "anna", "from_step": 2})
    assert (silent.status_code, "needs a reason" in silent.json()["detail"]) == (422, True)
    asked = {"by": "anna", "from_step": 2, "reason": "5 % was fine"}
    view = http.post("/v1/rollouts/recommender/retry", json=asked).json()
    assert (view["kind"], view["made_from"], view["policy"]) == ("retry", back, "recommender")
    begun = api.store.load(view["id"])
    assert (begun.retry is not None, begun.policy) == (True, api.store.load(back).policy)
    assert begun.first == 1


def test_what_cannot_be_is_a_conflict(api: LocalApi, http: httpx.Client) -> None:
    last(api, **BACK)
    assert http.post("/v1/rollouts/recommender/undo", json={"by": "anna"}).status_code == 409
    far = http.post("/v1/rollouts/recommender/retry", json={"by": "anna", "from_step": 9, "reason": "x"})
    assert (far.status_code, "There is no step 9" in far.json()["detail"]) == (409, True)


def test_the_commands_say_what_begins(api: LocalApi) -> None:
    last(api, **BACK)
    refused = run(api, "undo", "recommender", code=5)
    assert "There is nothing to undo on recommender" in refused.err
    assert 'say why with --reason "…"' in run(api, "retry", "recommender", "--from-step", "2", code=5).err
    begun = json.loads(run(api, "retry", "recommender", "-o", "json").out)
    assert (begun["kind"], begun["started_by"]) == ("retry", "anna")
