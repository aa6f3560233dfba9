"""Doctor's findings from facts: what each means, without Azure."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rollout.azure.errors import Said
from rollout.azure.examining.capacity import family_key
from rollout.azure.examining.causes import cause_of
from rollout.azure.examining.facts import (
    Autoscale,
    Cause,
    Change,
    Diagnostic,
    EndpointFacts,
    LogWorkspace,
    Machines,
    Permission,
    Quota,
    Reach,
    Rows,
    Sampled,
    Size,
    Unread,
    Who,
    WorkspaceFacts,
)
from rollout.cli.doctor.actions import MUST, allows
from rollout.cli.doctor.asked import asked_of
from rollout.cli.doctor.findings import Finding, Mark
from rollout.cli.doctor.of_endpoint import endpoint_findings
from rollout.cli.doctor.of_workspace import workspace_findings
from rollout.cli.doctor.view import lines, view
from rollout.cli.terminal import Look
from rollout.policy import parse_policy
from rollout.world import EndpointKind, EndpointState, Split

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
STARS = f"{WORKSPACE}/onlineEndpoints/stars"
KEY = STARS.casefold()
LOGS = LogWorkspace(id="/subscriptions/s/logs/log-food", customer_id="c1")
REFUSED = Unread(cause=Cause.ROLE, why="Cannot read it: Azure answered 403 AuthorizationFailed.")
CLOSED = Unread(cause=Cause.NETWORK, why="Cannot read it: Azure answered 403: firewall.")


def endpoint(**changes: Any) -> EndpointFacts:
    state = EndpointState(name="stars", resource_id=STARS, state="Succeeded", traffic=Split.of({"blue": 100}))
    facts = EndpointFacts(
        state=state,
        public=True,
        deployments=(Machines(name="blue", state="Succeeded", instance_type="Standard_DS3_v2", instances=3),),
        diagnostics=(Diagnostic(name="all", workspace_id=LOGS.id, all_logs=True),),
        secret="key",
        reach=Reach(status=401, addresses=("20.1.2.3",), host="stars.westeurope.inference.ml.azure.com"),
    )
    return replace(facts, **changes)


def rows(count: int = 14_400, *, age: float = 4, recent: int = 600, size: float = 1e7) -> Rows:
    newest = NOW - timedelta(minutes=age)
    return Rows(rows=count, size=size, oldest=newest - timedelta(hours=24), newest=newest, recent=recent)


def workspace(**changes: Any) -> WorkspaceFacts:
    facts = WorkspaceFacts(
        name="prod",
        id=WORKSPACE,
        region="westeurope",
        looked_at=NOW,
        who=Who(way="managed_identity", client_id="app", object_id="oid", tenant_id="tid"),
        tokens={"Resource Manager": None},
        permissions=(Permission(actions=("*",)),),
        assignments=(),
        endpoints={"stars": endpoint()},
        log_workspace="C1",
        log_workspaces=(LOGS,),
        rows={KEY: {"blue": rows()}},
        batch={KEY: 60},
        quotas=(Quota(family="standardDSv2Family", used=10, limit=100),),
        sizes={"standard_ds3_v2": Size(family="standardDSv2Family", cores=4)},
        autoscale=(),
        changes=(),
    )
    return replace(facts, **changes)


def of(facts: EndpointFacts, around: WorkspaceFacts | None = None, *, probed: bool = False) -> dict[str, Finding]:
    found = endpoint_findings("stars", facts, around or workspace(), probed=probed)
    return {each.check: each for each in found}


def test_all_is_well() -> None:
    found = [*workspace_findings(workspace()), *endpoint_findings("stars", endpoint(), workspace(), probed=True)]
    assert [each.check for each in found if each.mark is not Mark.OK] == []
    told = view([(workspace(), found)])
    assert told["worst"] == "ok"
    assert lines(told, Look(width=80))[-1] == f"All is well: {len(found)} checks."


# --- roles


@pytest.mark.parametrize(
    ("permissions", "action", "allowed"),
    [
        ([Permission(actions=("*",))], "Microsoft.X/write", True),
        ([Permission(actions=("*/READ",))], "Microsoft.X/y/read", True),
        ([Permission(actions=("*/read",))], "Microsoft.X/y/write", False),
        ([Permission(actions=("*",), not_actions=("Microsoft.X/*/write",))], "Microsoft.X/y/write", False),
        (
            [Permission(actions=("*",), not_actions=("Microsoft.X/*",)), Permission(actions=("microsoft.x/y/write",))],
            "Microsoft.X/y/write",
            True,
        ),
        ([Permission(actions=("Microsoft.X/y",))], "Microsoft.X/y/write", False),
        ([], "Microsoft.X/y/read", False),
    ],
)
def test_what_roles_allow(permissions: list[Permission], action: str, allowed: bool) -> None:
    assert allows(permissions, action) is allowed


def test_the_role_that_is_shipped_allows_what_every_rollout_needs() -> None:
    shipped = json.loads((ROOT / "deploy/role.json").read_text())
    role = Permission(actions=tuple(shipped["Actions"]), not_actions=tuple(shipped["NotActions"]))
    assert [need.action for need in MUST if not allows([role], need.action)] == []


def test_what_a_policy_needs_beyond_the_rest_must_be_allowed() -> None:
    from rollout.cli.doctor.actions import AUTOSCALE, SCALE

    reader = workspace(permissions=(Permission(actions=("*/read", *(need.action for need in MUST))),))
    assert next(each for each in workspace_findings(reader) if each.check == "roles").mark is Mark.OK
    roles = next(each for each in workspace_findings(reader, [SCALE, AUTOSCALE]) if each.check == "roles")
    assert roles.mark is Mark.PROBLEM
    assert roles.remedy[0] == "# the role of deploy/role-capacity.json:"
    assert roles.remedy[1].endswith('--role "Rollout capacity" --scope /subscriptions/s/resourceGroups/g')


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("", []),
        ("capacity: match_stable\n", ["deployments/write", "autoscaleSettings/write"]),
        ("after: delete\n", ["deployments/write", "autoscaleSettings/write", "deployments/delete"]),
    ],
)
def test_what_a_policy_asks_of_the_roles(text: str, actions: list[str]) -> None:
    (found,) = asked_of([parse_policy(f"endpoint_name: stars\n{text}", file="p")])
    assert ["/".join(need.action.split("/")[-2:]) for need in found.needs] == actions
    shipped = json.loads((ROOT / "deploy/role-capacity.json").read_text())
    role = Permission(actions=tuple(shipped["Actions"]))
    assert all(allows([role], need.action) for need in found.needs)


def test_what_policies_ask_of_each_endpoint_of_their_waves() -> None:
    text = "name: regions\nwaves: {order: [[weu], [neu, eus]]}\nprobes: {request_file: a.json}\n"
    found = asked_of([parse_policy(text, file="p", files=lambda name: '{"data": [1]}')])
    assert [each.endpoint for each in found] == ["weu", "neu", "eus"]
    assert [json.loads(each.sample or "") for each in found] == [{"data": [1]}] * 3


# --- roles and networks


@pytest.mark.parametrize(
    ("status", "code", "message", "cause"),
    [
        (403, "AuthorizationFailed", "no authorization over scope '/resourceGroups/firewall-rg'", Cause.ROLE),
        (403, "InsufficientAccessError", "The provided credentials have insufficient access", Cause.ROLE),
        (401, "AuthorizationFailed", "Monitoring Reader is needed", Cause.ROLE),
        (403, "Forbidden", "Access denied due to Virtual Network/Firewall rules.", Cause.NETWORK),
        (
            502,
            "UserError",
            "Access to workspace was denied based on workspace private link configuration.",
            Cause.NETWORK,
        ),
        (403, "PublicNetworkAccessDisabled", "", Cause.NETWORK),
        (403, "", "<html>blocked</html>", Cause.NETWORK),
        (404, "ResourceNotFound", "", Cause.ABSENT),
        (500, "InternalServerError", "", Cause.OTHER),
    ],
)
def test_why_azure_refused(status: int, code: str, message: str, cause: Cause) -> None:
    assert cause_of(Said(status=status, code=code, message=message)) is cause


def test_a_closed_scoring_address_is_only_a_problem_for_probes() -> None:
    closed = endpoint(reach=Reach(status=403, host="stars"), public=False)
    found = of(closed)["scoring address"]
    assert found.mark is Mark.WARNING
    assert "its public network access is switched off. That is the network, not a role." in found.sentence
    assert of(closed, probed=True)["scoring address"].mark is Mark.PROBLEM


def test_a_sample_that_fails_is_a_problem() -> None:
    bad = endpoint(sample=Sampled(good=False, told="424, the model answered 400"))
    assert of(bad)["sample"].mark is Mark.PROBLEM
    good = endpoint(sample=Sampled(good=True, told="", deployment="blue", milliseconds=12.0))
    assert of(good)["sample"].sentence.startswith("The policy's sample was answered by blue in 12")


# --- logs


def test_rows_that_do_not_arrive_are_told_from_an_endpoint_that_nobody_asks() -> None:
    quiet = workspace(rows={}, batch={})
    assert of(endpoint(), quiet)["first row"].mark is Mark.WARNING
    lost = of(endpoint(), workspace(rows={}))["first row"]
    assert lost.mark is Mark.PROBLEM
    assert "Metrics show 60 requests" in lost.sentence
    late = workspace(rows={KEY: {"blue": rows(age=40)}})
    assert of(endpoint(), late)["first row"].mark is Mark.PROBLEM
    assert of(endpoint(), replace(late, batch=REFUSED))["first row"].mark is Mark.WARNING


def test_a_setting_that_sends_elsewhere_is_a_problem() -> None:
    other = endpoint(diagnostics=(Diagnostic(name="mine", workspace_id="/logs/other", all_logs=True),))
    found = of(other)["diagnostic setting"]
    assert found.mark is Mark.PROBLEM
    assert "mine sends to other, and the settings name log-food as log_workspace" in found.sentence
    metrics_only = endpoint(diagnostics=(Diagnostic(name="mine", workspace_id=LOGS.id),))
    assert "None of its 1 diagnostic settings sends" in of(metrics_only)["diagnostic setting"].sentence


def test_the_command_finds_a_log_workspace_that_could_not_be_listed() -> None:
    found = of(endpoint(diagnostics=()), workspace(log_workspaces=REFUSED))["diagnostic setting"]
    assert (
        "--workspace $(az monitor log-analytics workspace list --query \"[?customerId=='C1'].id\" -o tsv)"
        in found.remedy[0]
    )


def test_rows_tell_of_a_setting_that_may_not_be_read() -> None:
    assert of(endpoint(diagnostics=REFUSED))["diagnostic setting"].mark is Mark.OK
    assert of(endpoint(diagnostics=REFUSED), workspace(rows={}))["diagnostic setting"].mark is Mark.WARNING


def test_the_volume_of_a_day() -> None:
    assert of(endpoint())["log volume"].sentence.replace("\u2009", " ") == "About 14 000 rows a day, 10 MB."
    huge = workspace(rows={KEY: {"blue": rows(size=4e10)}})
    assert of(endpoint(), huge)["log volume"].mark is Mark.WARNING


@pytest.mark.parametrize(
    ("green", "mark", "told"),
    [
        (60, Mark.OK, "mirrored requests are logged"),
        (2, Mark.OK, "cannot be told yet (2 rows of it in the last hour)"),
        (0, Mark.WARNING, "about 60 copies were sent: mirrored requests are not logged"),
    ],
)
def test_whether_mirrored_requests_are_logged(green: int, mark: Mark, told: str) -> None:
    state = replace(endpoint().state, mirror_traffic=Split.of({"green": 10}))
    seen = workspace(rows={KEY: {"blue": rows(), "green": rows(100, recent=green)}})
    found = of(endpoint(state=state), seen)["mirrored rows"]
    assert found.mark is mark
    assert told in found.sentence
    new = replace(state, last_modified_at=NOW - timedelta(minutes=5))
    assert of(endpoint(state=new), seen)["mirrored rows"].mark is Mark.OK


def test_a_kubernetes_endpoint_wants_probes() -> None:
    facts = endpoint(state=replace(endpoint().state, kind=EndpointKind.KUBERNETES))
    assert of(facts)["traffic log"].mark is Mark.WARNING
    assert of(facts, probed=True)["traffic log"].mark is Mark.OK
    assert not {"diagnostic setting", "quota", "autoscale"} & set(of(facts))


def test_without_a_log_workspace_in_the_settings() -> None:
    found = {each.check: each for each in workspace_findings(workspace(log_workspace=None, rows=None))}
    assert found["log workspace"].mark is Mark.WARNING
    assert "workspaces: prod: log_workspace" in found["log workspace"].remedy[1]


def test_a_cap_on_the_log_workspace_is_told() -> None:
    capped = workspace(log_workspaces=(replace(LOGS, daily_cap_gb=5.0),))
    assert any("stops taking rows in for the day at 5 GB" in each.sentence for each in workspace_findings(capped))


# --- machines


def test_room_for_a_second_deployment() -> None:
    """Three instances, and a fifth in reserve, of four cores: sixteen."""
    fits = of(
        endpoint(),
        workspace(quotas=(Quota(family="Standard DSv2 Family Cluster Dedicated vCPUs", used=84, limit=100),)),
    )
    assert fits["quota"].mark is Mark.OK
    full = of(endpoint(), workspace(quotas=(Quota(family="standardDSv2Family", used=85, limit=100),)))["quota"]
    assert full.mark is Mark.PROBLEM
    assert "15 of 100 vCPUs" in full.sentence
    assert "takes 16" in full.sentence
    assert full.remedy[0].startswith("# ask for 1 more vCPUs")
    assert of(endpoint(), workspace(quotas=()))["quota"].mark is Mark.WARNING


def test_families_are_spelled_in_two_ways() -> None:
    assert family_key("Standard DSv2 Family Cluster Dedicated vCPUs") == family_key("standardDSv2Family")
    assert family_key("standardDSv2Family") != family_key("standardDSv3Family")


def test_autoscale_of_a_deployment_that_is_gone() -> None:
    base = f"{KEY}/deployments/"
    both = (
        Autoscale(name="a", target=f"{base}blue", enabled=True, least=2, most=10),
        Autoscale(name="b", target=f"{base}old", enabled=True, least=1, most=2),
        Autoscale(name="c", target=f"{KEY}2/deployments/blue", enabled=True, least=1, most=2),
    )
    found = endpoint_findings("stars", endpoint(), workspace(autoscale=both), probed=False)
    told = [each for each in found if each.check == "autoscale"]
    assert [each.mark for each in told] == [Mark.OK, Mark.WARNING]
    assert told[0].sentence == "Setting a keeps blue between 2 and 10 instances."
    assert "Setting b targets old, which does not exist" in told[1].sentence


# --- other writers


def change(resource: str, by: str, minute: float, *, ours: bool = False) -> Change:
    return Change(
        resource=resource.casefold(), by=by, ours=ours, at=NOW - timedelta(hours=5) + timedelta(minutes=minute)
    )


def test_a_pipeline_with_all_traffic_is_recognised() -> None:
    green = f"{STARS}/deployments/green"
    seen = workspace(changes=(change(green, "ci", 0), change(STARS, "bob", 5), change(STARS, "ci", 11)))
    found = of(endpoint(), seen)["other writers"]
    assert found.mark is Mark.WARNING
    assert (
        "ci wrote deployment green at 2026-11-22 07:00 UTC and the endpoint at 07:11, as a pipeline" in found.sentence
    )


@pytest.mark.parametrize(
    "changes",
    [
        (change(STARS, "ci", 0), change(f"{STARS}/deployments/green", "ci", 5)),
        (change(f"{STARS}/deployments/green", "ci", 0), change(STARS, "bob", 5)),
        (change(f"{STARS}/deployments/green", "ci", 0), change(STARS, "ci", 90)),
        (change(f"{STARS}2/deployments/green", "ci", 0), change(f"{STARS}2", "ci", 5)),
        (change(f"{STARS}/deployments/green", "us", 0, ours=True), change(STARS, "us", 5, ours=True)),
    ],
)
def test_other_writes_are_no_such_pipeline(changes: tuple[Change, ...]) -> None:
    assert of(endpoint(), workspace(changes=changes))["other writers"].mark is Mark.OK


def test_without_the_activity_log_the_last_writer_is_told() -> None:
    state = replace(endpoint().state, last_modified_by="bob", last_modified_at=NOW)
    found = of(endpoint(state=state), workspace(changes=CLOSED))["other writers"]
    assert found.mark is Mark.WARNING
    assert "who wrote to the endpoint last: bob, at 2026-11-22 12:00 UTC (blue 100 % now)" in found.sentence
    assert "That is the network, not a role." in found.sentence


# --- shown


def test_commands_are_never_folded() -> None:
    found = endpoint_findings("stars", endpoint(diagnostics=()), workspace(), probed=False)
    told = view([(workspace(), found)])
    assert told["worst"] == "problem"
    shown = lines(told, Look(width=60))
    command = next(each["remedy"][0] for each in told["findings"] if each["remedy"])
    assert any(line.strip() == command for line in shown)
    assert all(len(line) <= 62 for line in shown if command not in line)
