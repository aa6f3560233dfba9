"""explain, replay and export: a rollout that the real reconciler has played, asked for through the real API."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.contract.test_commands import run
from tests.support.api import TOKEN, LocalApi, local_api
from tests.support.played import played

NAME = "restaurant-recommender"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    """A rollout that was rolled back in its second step."""
    folder = tmp_path_factory.mktemp("evidence")
    played(folder, worse_after=12).store.close()
    with local_api(folder) as running:
        yield running


@pytest.fixture(scope="module")
def exported(api: LocalApi) -> Path:
    """What `rollout export` wrote."""
    file = api.folder / "rollout.json"
    file.write_text(run(api, "export", NAME).out)
    return file


def get(api: LocalApi, path: str, **query: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.get(f"{api.address}/v1/rollouts/{path}", params=query, headers=headers, trust_env=False)


# --- explain


def test_the_verdict_that_ended_it_is_explained_with_its_numbers(api: LocalApi) -> None:
    view = get(api, f"{NAME}/explain").json()
    assert (view["step"], view["verdict"]["action"], view["verdict"]["reason"]) == (2, "fail", "regression")
    errors = view["checks"][0]
    for rate in (errors["baseline"], errors["candidate"]):
        assert rate["low"] < rate["value"] < rate["high"]
        assert rate["value"] == pytest.approx(rate["bad"] / rate["n"])
    assert errors["candidate"]["low"] > errors["baseline"]["high"] + errors["margin"]
    values = [point["evidence"] for point in view["points"]]
    assert values[-1] == view["verdict"]["evidence"] > view["verdict"]["threshold"] == 20
    assert (min(values) < 1, len(values) > 15) == (True, True)
    kinds = [moment["kind"] for moment in view["moments"]]
    assert kinds == ["fault_began", "suspected", "retreated", "decided", "rolling_back", "rolled_back"]
    assert view["forgotten"] is None
    (sentence,) = view["what_if"]
    assert "fewer bad requests on green" in sentence
    assert "`error_rate: {max_increase: " in sentence


def test_a_step_that_was_passed_is_explained_by_what_it_could_still_bear(api: LocalApi) -> None:
    view = get(api, f"{NAME}/explain", step=1).json()
    assert (view["step"], view["verdict"]["action"]) == (1, "pass")
    assert [moment["kind"] for moment in view["moments"]] == ["decided"]
    assert view["what_if"][0].startswith("Errors: it would have taken about this many more bad requests on green")


@pytest.mark.parametrize(("step", "status", "told"), [(3, 404, "those that were: 1, 2"), (7, 422, "has 3")])
def test_a_step_that_was_not_judged_is_refused(api: LocalApi, step: int, status: int, told: str) -> None:
    answer = get(api, f"{NAME}/explain", step=step)
    assert answer.status_code == status
    assert told in answer.json()["detail"]


def test_it_is_shown_in_eighty_columns(api: LocalApi) -> None:
    out = run(api, "explain", NAME).out
    assert max(map(len, out.splitlines())) <= 80
    assert "✖ Failed  step 2 of 3" in out
    assert "suspicion" in out
    assert "█" in out
    assert "fewer bad requests" in out


def test_it_is_shown_without_utf_8(api: LocalApi) -> None:
    out = run(api, "explain", NAME, PYTHONIOENCODING="ascii").out
    assert out.isascii()
    assert "?" not in out
    assert "#" in out


def test_the_json_is_what_the_api_says(api: LocalApi) -> None:
    found = json.loads(run(api, "explain", "-n", NAME, "--step", "1", "-o", "json").out)
    view = get(api, f"{NAME}/explain", step=1).json()
    assert {**found, "clock": None} == {**view, "clock": None}


# --- export and replay


def test_an_export_is_judged_again_without_a_daemon(exported: Path, api: LocalApi) -> None:
    ran = run(api, "replay", str(exported), ROLLOUT_API="http://127.0.0.1:9")
    assert "kept verdicts came out the same, evidence to 1e-9." in " ".join(ran.out.split())
    found = json.loads(run(api, "replay", str(exported), "-o", "json").out)
    assert found["same"] is True
    assert len(found["changes"]) >= 5
    assert found["verdicts"][-1]["evidence"] == pytest.approx(found["changes"][-1]["then"]["evidence"], rel=1e-9)


def test_the_endpoint_s_own_rollout_is_judged_again(api: LocalApi) -> None:
    assert "came out the same" in " ".join(run(api, "replay", NAME).out.split())


def test_a_verdict_that_comes_out_otherwise_is_named(exported: Path, api: LocalApi) -> None:
    document = json.loads(exported.read_text())
    told = [event for event in document["events"] if event["kind"] == "rolling_back"]
    told[0]["details"]["verdict"]["evidence"] *= 1 + 1e-8
    forged = api.folder / "forged.json"
    forged.write_text(json.dumps(document))
    ran = run(api, "replay", str(forged), code=1)
    assert "1 of" in ran.out
    assert "(evidence " in " ".join(ran.out.split())


def test_another_policy_judges_the_same_minutes(exported: Path, api: LocalApi) -> None:
    policy = api.folder / "lenient.yaml"
    policy.write_text(
        f"name: lenient\nendpoint_name: {NAME}\nsteps: [5%, 25%, 100%]\nchecks: {{error_rate: {{max_increase: 20pp}}}}\n"
    )
    printed = run(api, "replay", str(exported), "--policy", str(policy)).out
    assert max(map(len, printed.splitlines())) <= 80
    out = " ".join(printed.split())
    assert "With policy lenient the candidate would not have failed" in out
    assert "The traffic is taken as it was" in out
    strict = api.folder / "strict.yaml"
    strict.write_text(f"name: strict\nendpoint_name: {NAME}\nsteps: [10%, 100%]\nwhen: {{suspicion: hold}}\n")
    out = " ".join(run(api, "replay", NAME, "--policy", str(strict)).out.split())
    assert "With policy strict the candidate would have failed at" in out
    assert "instead of" in out
    assert "have other shares" in out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is not JSON"),
        ("{}", "it is not an export"),
        ('{"format": "rollout-export", "version": 2}', "it is of version 2, and this one reads version 1"),
        ('{"format": "rollout-export", "version": 1, "judge": 1, "rollout": {}}', "rollout.id"),
    ],
)
def test_a_file_that_is_no_export_is_refused(api: LocalApi, text: str, told: str) -> None:
    file = api.folder / "odd.json"
    file.write_text(text)
    assert told in run(api, "replay", str(file), code=5).err


def test_a_policy_with_mistakes_is_refused(exported: Path, api: LocalApi) -> None:
    file = api.folder / "bad.yaml"
    file.write_text("endpoint_name: x\n")
    assert "bad.yaml:1:16" in run(api, "replay", str(exported), "--policy", str(file), code=5).err


# --- what was forgotten


def test_without_what_was_shown_the_history_explains(tmp_path: Path) -> None:
    site = played(tmp_path, worse_after=12)
    site.store.close()
    with closing(sqlite3.connect(tmp_path / "rollout.db")) as database:  # what the version before has left
        database.execute("DELETE FROM exhibits")
        database.commit()
    with local_api(tmp_path) as api:
        view = get(api, f"{NAME}/explain").json()
        assert view["verdict"]["action"] == "fail"
        assert "not kept for this rollout any more" in view["forgotten"]
        assert (view["step"], view["what_if"], view["checks"][0]["candidate"]["low"]) == (2, [], None)
        assert 3 <= len(view["points"]) < 12
        assert get(api, f"{NAME}/explain", step=1).json()["verdict"]["action"] == "pass"
        assert "any more" in run(api, "explain", NAME).out
        assert "nothing to judge again" in " ".join(run(api, "replay", NAME, code=5).err.split())


def test_what_was_not_judged_is_not_explained(tmp_path: Path) -> None:
    with local_api(tmp_path) as api:
        api.start()
        answer = get(api, "recommender/explain")
        assert answer.status_code == 404
        assert "Nothing of recommender was judged yet" in answer.json()["detail"]
