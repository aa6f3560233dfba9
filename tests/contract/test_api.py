"""The API as scripts and commands meet it: over HTTP, with its token, its keys and its errors."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from rollout.analysis.verdict import Finding, Pair, Rate, Reason, Verdict
from rollout.lifecycle import Phase
from rollout.world import Alert, Event, Severity
from tests.support.api import POLICY, RUNNING, TOKEN, LocalApi, local_api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    with local_api(tmp_path) as running:
        yield running


@pytest.fixture
def http(api: LocalApi) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=api.address, headers=headers, trust_env=False) as client:
        yield client


def start(http: httpx.Client, **body: object) -> httpx.Response:
    policy = {"text": POLICY + "workspace: prod\n", "file": "canary.yaml"}
    return http.post("/v1/rollouts", json={"policy": policy, "by": "anna", **body})


VERDICT = Verdict(
    action="retreat",
    reason=Reason.SUSPICION,
    sentence="Errors 6.8 % vs 0.3 %.",
    findings=(
        Finding(
            check="error_rate",
            source="logs",
            unit="share",
            baseline=Rate(bad=8, n=2700, value=8 / 2700),
            candidate=Rate(bad=61, n=900, value=61 / 900),
            margin=0.005,
            maximum=None,
            bar=None,
            evidence=3.1,
            weight=0.5,
            not_worse=0.1,
            compatible=0.08,
            action="retreat",
            sentence="Errors 6.8 % vs 0.3 % (61 of 900 vs 8 of 2 700).",
        ),
    ),
    evidence=3.1,
    threshold=20.0,
    blocks=6,
    requests=Pair(baseline=2700, candidate=900),
    first_bad=29_000_000,
    harmed=58.3,
)


# --- who may ask


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}]
)
def test_without_the_token_nothing_is_told(api: LocalApi, headers: dict[str, str]) -> None:
    api.start()
    answer = httpx.get(f"{api.address}/v1/rollouts", headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "recommender" not in answer.text


def test_a_page_that_points_its_own_name_at_the_loopback_is_turned_away(http: httpx.Client) -> None:
    assert http.get("/v1/rollouts", headers={"Host": "evil.example"}).status_code == 400


def test_health_needs_no_token_and_gives_reasons(api: LocalApi) -> None:
    assert httpx.get(f"{api.address}/healthz", trust_env=False).json() == {"status": "ok", "reasons": []}
    api.health.unready = ["The store did not answer."]
    ready = httpx.get(f"{api.address}/readyz", trust_env=False)
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["The store did not answer."])
    assert httpx.get(f"{api.address}/healthz", trust_env=False).status_code == 200
    api.health.hangs = ["The dispatcher has not turned for 31 s."]
    assert httpx.get(f"{api.address}/healthz", trust_env=False).status_code == 503
    assert len(httpx.get(f"{api.address}/readyz", trust_env=False).json()["reasons"]) == 2


def test_the_openapi_page_describes_every_route(api: LocalApi) -> None:
    described = httpx.get(f"{api.address}/openapi.json", trust_env=False).json()
    assert {"/v1/rollouts", "/v1/rollouts/{endpoint}/commands", "/v1/deliveries", "/readyz"} <= set(described["paths"])
    assert httpx.get(f"{api.address}/docs", trust_env=False).status_code == 200


# --- rollouts


def test_a_rollout_begins_with_a_policy_that_was_sent(http: httpx.Client, api: LocalApi) -> None:
    answer = start(http, candidate="green")
    assert answer.status_code == 201
    view = answer.json()
    assert (view["endpoint"], view["workspace"], view["phase"]) == ("recommender", "prod", "pending")
    assert (view["candidate"], view["started_by"], view["outcome"]) == ("green", "anna", None)
    assert [step["traffic"] for step in view["steps"]] == [5, 25, 100]
    assert api.store.load(view["id"]).phase is Phase.PENDING


def test_a_rollout_begins_with_a_policy_that_the_daemon_knows(http: httpx.Client, api: LocalApi) -> None:
    (api.folder / "policies" / "canary.yaml").write_text(POLICY + "name: canary\nworkspace: test\n")
    api.policies.reload()
    answer = http.post("/v1/rollouts", json={"policy": {"name": "canary"}, "by": "anna"})
    assert (answer.status_code, answer.json()["workspace"]) == (201, "test")
    unknown = http.post("/v1/rollouts", json={"policy": {"name": "canari"}, "by": "anna"})
    assert unknown.status_code == 422
    assert "canary" in unknown.json()["detail"]


def test_one_endpoint_has_one_active_rollout(http: httpx.Client) -> None:
    start(http)
    second = start(http)
    assert second.status_code == 409
    assert "already has an active rollout" in second.json()["detail"]


def test_the_same_key_begins_one_rollout_however_often_it_is_sent(http: httpx.Client) -> None:
    first, again = start(http, key="run 7"), start(http, key="run 7")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert start(http, key="run 8").status_code == 409


def test_every_mistake_of_a_policy_comes_back_with_its_place(http: httpx.Client) -> None:
    policy = {"text": "endpoint_name: recommender\nstep: [5%]\nbakes: 3\n", "file": "mine.yaml"}
    answer = http.post("/v1/rollouts", json={"policy": policy, "by": "anna"})
    assert answer.status_code == 422
    assert [(one["file"], one["line"], one["column"]) for one in answer.json()["mistakes"]] == [
        ("mine.yaml", 2, 1),
        ("mine.yaml", 3, 1),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("endpoint_name: recommender\n", "add `workspace:` to the policy"),
        ("endpoint_name: recommender\nworkspace: staging\n", "which name prod, test"),
        ("endpoint_name: recommender\nworkspace: prod\nalerts: [team-x]\n", "no channel team-x: they name team-ml"),
    ],
)
def test_a_policy_that_does_not_fit_the_settings_is_refused(http: httpx.Client, text: str, told: str) -> None:
    answer = http.post("/v1/rollouts", json={"policy": {"text": text}, "by": "anna"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "policy"),
        ({"policy": {}, "by": "anna"}, "give either `name` or `text`"),
        ({"policy": {"name": "x"}, "by": ""}, "by"),
        ({"policy": {"name": "x"}, "by": "anna", "polcy": 1}, "polcy"),
    ],
)
def test_a_request_that_is_not_understood_says_what_is_wrong(http: httpx.Client, body: object, told: str) -> None:
    answer = http.post("/v1/rollouts", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["detail"]


def test_a_view_shows_the_split_the_checks_and_what_comes_next(http: httpx.Client, api: LocalApi) -> None:
    rollout = api.start()
    now = api.service.now()
    api.put(rollout.id, **RUNNING, started_at=now, step_since=now, verdict=VERDICT)
    api.show(rollout.ref, {"blue": 75, "green": 25})
    view = http.get("/v1/rollouts/recommender").json()
    assert view["traffic"]["wanted"] == view["traffic"]["observed"] == {"blue": 75, "green": 25}
    assert (view["step"], [step["state"] for step in view["steps"]]) == (2, ["done", "now", "ahead"])
    assert view["bake"] == {"blocks": 6, "of": 10}
    assert view["requests"] == {"baseline": 2700, "candidate": 900}
    (check,) = view["checks"]
    assert (check["name"], check["source"], check["evidence"]) == ("error_rate", "logs", 3.1)
    assert list(check).index("baseline") < list(check).index("candidate")
    assert check["candidate"] == {"n": 900, "bad": 61, "value": pytest.approx(61 / 900)}
    assert view["harmed"] == 58.3
    assert view["first_bad_at"] == datetime.fromtimestamp(29_000_000 * 60, UTC).isoformat()
    assert view["eta"]["next_decision_at"] > view["clock"]["now"]


def test_a_verdict_of_the_step_before_is_not_shown_for_the_next(http: httpx.Client, api: LocalApi) -> None:
    rollout = api.start()
    api.put(rollout.id, **RUNNING, started_at=api.service.now(), step_since=None, verdict=VERDICT)
    view = http.get("/v1/rollouts/recommender").json()
    assert (view["checks"], view["bake"]["blocks"], view["verdict"]) == ([], 0, None)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"phase": Phase.SUCCEEDED}, "promoted"),
        ({"phase": Phase.ROLLED_BACK}, "rolled_back"),
        ({"phase": Phase.PAUSED, "paused_because": "drift"}, "needs_person"),
        ({"phase": Phase.HALTED}, "needs_person"),
        ({"phase": Phase.WAITING, "next_step": 2}, "needs_person"),
        ({"phase": Phase.ABORTED, "started_at": datetime(2026, 1, 1, tzinfo=UTC)}, "rolled_back"),
        ({"phase": Phase.ABORTED}, "not_started"),
        ({"phase": Phase.RETREATED}, None),
    ],
)
def test_the_outcome_is_what_a_waiting_script_needs(
    http: httpx.Client, api: LocalApi, changes: dict[str, object], outcome: str | None
) -> None:
    rollout = api.start()
    api.put(rollout.id, **{**RUNNING, **changes})
    view = http.get("/v1/rollouts/recommender").json()
    assert view["outcome"] == outcome
    assert view["ended"] == (changes["phase"] in {Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.HALTED, Phase.ABORTED})


def test_the_endpoint_is_the_handle_and_the_workspace_tells_two_apart(http: httpx.Client, api: LocalApi) -> None:
    first = api.start(workspace="prod")
    api.start(workspace="test")
    ambiguous = http.get("/v1/rollouts/recommender")
    assert ambiguous.status_code == 409
    assert "say which with --workspace" in ambiguous.json()["detail"]
    assert http.get("/v1/rollouts/recommender", params={"workspace": "test"}).json()["workspace"] == "test"
    assert http.get(f"/v1/rollouts/{first.id}").json()["workspace"] == "prod"
    api.put(first.id, phase=Phase.ABORTED)
    assert http.get("/v1/rollouts/recommender").json()["workspace"] == "test"


def test_what_is_not_there_is_told_with_what_to_do(http: httpx.Client) -> None:
    answer = http.get("/v1/rollouts/nobody")
    assert answer.status_code == 404
    assert "`rollout start` begins one" in answer.json()["detail"]
    assert "no workspace x" in http.get("/v1/rollouts/nobody", params={"workspace": "x"}).json()["detail"]
    assert http.get("/v2/rollouts").headers["content-type"] == "application/problem+json"


def test_the_list_knows_active_ones_and_workspaces(http: httpx.Client, api: LocalApi) -> None:
    ended = api.start(workspace="prod")
    api.put(ended.id, phase=Phase.ABORTED)
    api.start(workspace="test")

    def listed(**query: object) -> list[str]:
        return [view["workspace"] for view in http.get("/v1/rollouts", params=query).json()["rollouts"]]

    assert listed() == ["test", "prod"]
    assert listed(active="true") == ["test"]
    assert listed(workspace="prod") == ["prod"]
    assert http.get("/v1/rollouts", params={"limit": 0}).status_code == 422


# --- commands and history


def test_a_command_is_written_down_and_answered_by_the_next_tick(http: httpx.Client, api: LocalApi) -> None:
    rollout = api.start()
    api.put(rollout.id, **RUNNING, started_at=api.service.now())
    body = {"verb": "pause", "by": "anna", "origin": "cli@desk", "reason": "lunch"}
    written = http.post("/v1/rollouts/recommender/commands", json=body)
    assert (written.status_code, written.json()["state"]) == (202, "waiting")
    (command,) = api.store.pending_commands(rollout.id)
    assert (command.by, command.origin, command.reason) == ("anna", "cli@desk", "lunch")
    api.tick(rollout.id)
    answer = http.get(f"/v1/commands/{written.json()['id']}").json()
    assert answer["state"] == "accepted"
    assert "anna: lunch" in answer["sentence"]
    events = http.get("/v1/rollouts/recommender/history").json()["events"]
    assert events[-1]["kind"] == "paused"
    assert http.get("/v1/rollouts/recommender", params={"events": 1}).json()["events"] == events[-1:]


def test_a_command_that_does_not_fit_is_refused_with_what_does(http: httpx.Client, api: LocalApi) -> None:
    rollout = api.start()
    api.put(rollout.id, **RUNNING, started_at=api.service.now())
    written = http.post("/v1/rollouts/recommender/commands", json={"verb": "approve", "by": "anna"}).json()
    api.tick(rollout.id)
    answer = http.get(f"/v1/commands/{written['id']}").json()
    assert (answer["state"], "approval" in answer["sentence"]) == ("refused", True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"verb": "abort"}, "abort needs a reason"),
        ({"verb": "promote", "full": True}, "promote --full needs a reason"),
        ({"verb": "pause", "full": True, "reason": "x"}, "`full` goes with promote"),
        ({"verb": "pause", "drift": "adopt"}, "`drift` goes with resume"),
        ({"verb": "explode"}, "verb"),
    ],
)
def test_a_command_that_lacks_something_is_not_written_down(
    http: httpx.Client, api: LocalApi, body: dict[str, object], told: str
) -> None:
    rollout = api.start()
    answer = http.post("/v1/rollouts/recommender/commands", json={"by": "anna", **body})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert api.store.pending_commands(rollout.id) == []


def test_an_ended_rollout_takes_no_commands(http: httpx.Client, api: LocalApi) -> None:
    rollout = api.start()
    api.put(rollout.id, phase=Phase.ABORTED, sentence="Not started: no candidate.")
    answer = http.post("/v1/rollouts/recommender/commands", json={"verb": "pause", "by": "anna"})
    assert answer.status_code == 409
    assert "has ended: Not started: no candidate." in answer.json()["detail"]


# --- policies, alerts, sources


def test_a_bad_file_shows_its_mistakes_beside_the_good_ones(http: httpx.Client, api: LocalApi) -> None:
    (api.folder / "policies" / "good.yaml").write_text(POLICY)
    (api.folder / "policies" / "bad.yaml").write_text("endpoint_name: other\nstep: 5\n")
    api.policies.reload()
    bad, good = http.get("/v1/policies").json()["policies"]
    assert (bad["name"], good["name"], good["mistakes"]) == (None, "recommender", [])
    assert bad["mistakes"][0].startswith(f"{api.folder / 'policies' / 'bad.yaml'}:2:1: step:")


def test_dead_letters_are_visible(http: httpx.Client, api: LocalApi) -> None:
    rollout = api.start()
    event = Event(at=api.service.now(), kind="rolled_back", sentence="Rolled back.", severity=Severity.ACTION)
    alert = Alert(id="a1", rollout_id=rollout.id, endpoint=rollout.ref, event=event, channels=("team-ml",))
    lease = api.store.claim_due(now=api.service.now(), owner="test", lease=api.world.lag(rollout.ref))[0]
    api.store.save(lease, rollout, events=[event], alerts=[alert])
    (delivery,) = api.store.due_deliveries(now=api.service.now())
    api.store.delivery_failed(delivery, error="410 Gone", next_at=None)
    (dead,) = http.get("/v1/deliveries", params={"state": "dead"}).json()["deliveries"]
    assert (dead["channel"], dead["error"], dead["event_id"]) == ("team-ml", "410 Gone", "a1")
    assert http.get("/v1/deliveries", params={"endpoint": "recommender"}).json()["deliveries"] == [dead]
    assert http.get("/v1/deliveries", params={"state": "lost"}).status_code == 422


def test_sources_say_how_they_did(http: httpx.Client) -> None:
    assert http.get("/v1/sources").json()["sources"][0]["last_error"] == "no rows yet"


def test_a_store_that_fails_is_told_without_a_trace(http: httpx.Client, api: LocalApi) -> None:
    api.start()
    database = api.folder / "rollout.db"
    api.store.close()
    database.write_bytes(b"this is no database" * 100)
    for leftover in api.folder.glob("rollout.db-*"):
        leftover.unlink()
    answer = http.get("/v1/rollouts")
    assert answer.status_code == 503
    assert "rollout.db" in answer.json()["detail"]
    assert "Traceback" not in answer.text
