"""Injected faults as data and as effects; and the small things every request passes: tokens and buckets."""

import json
import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollout.sandbox.faults import (
    NO_EFFECT,
    ArmFault,
    Effect,
    Faults,
    MonitorFault,
    ServingFault,
    fault_json,
    parse_fault,
)
from rollout.sandbox.resources import Identity
from rollout.sandbox.rules import Refusal
from rollout.sandbox.throttle import Buckets, kind_of
from rollout.sandbox.tokens import LIFETIME, MACHINE_LEARNING, Tokens

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def effects(faults: Faults, *, at: datetime = NOW, count: int = 1, **other: Any) -> Counter[Effect]:
    chance = random.Random(5)
    values: dict[str, Any] = {"started_at": NOW - 60 * MINUTE, "duration_ms": 10.0, **other}
    deployment = values.pop("deployment", "green")
    return Counter(faults.effect("shop", deployment, now=at, chance=chance, **values) for _ in range(count))


def only(faults: Faults, **other: Any) -> Effect:
    [effect] = effects(faults, **other)
    return effect


@pytest.fixture
def faults() -> Faults:
    return Faults()


def test_without_faults_nothing_happens(faults: Faults) -> None:
    assert only(faults) == NO_EFFECT


def test_a_share_of_errors_hits_that_share_of_one_deployment(faults: Faults) -> None:
    faults.add(ServingFault(kind="errors", since=NOW, deployment="Green", share=0.07))
    hit = effects(faults, count=5000)
    assert 280 <= hit[Effect(status=424, model_status=500)] <= 420
    assert effects(faults, count=100, deployment="blue") == {NO_EFFECT: 100}


def test_a_shared_incident_hits_every_deployment(faults: Faults) -> None:
    faults.add(ServingFault(kind="client_errors", since=NOW))
    for deployment in ("blue", "green"):
        assert only(faults, deployment=deployment) == Effect(status=424, model_status=400)


def test_latency_grows_by_a_factor_and_a_leak_with_time(faults: Faults) -> None:
    faults.add(ServingFault(kind="latency", since=NOW, factor=2.5, extra_ms=1))
    assert only(faults).extra_ms == pytest.approx(16)
    faults.add(ServingFault(kind="leak", since=NOW, extra_ms=4))
    assert only(faults, at=NOW + 3 * MINUTE).extra_ms == pytest.approx(16 + 12)


def test_a_cold_start_is_over_when_the_server_is_warm(faults: Faults) -> None:
    faults.add(ServingFault(kind="cold_start", since=NOW, minutes=5, extra_ms=50))
    assert only(faults, started_at=NOW - 4 * MINUTE) == Effect(status=424, model_status=503, extra_ms=50)
    assert only(faults, started_at=NOW - 5 * MINUTE) == NO_EFFECT


def test_a_crash_keeps_the_server_down_for_its_minutes(faults: Faults) -> None:
    faults.add(ServingFault(kind="crash", since=NOW, deployment="green", minutes=2))
    assert faults.down("shop", "green", now=NOW)
    assert not faults.down("shop", "blue", now=NOW)
    assert not faults.down("shop", "green", now=NOW + 2 * MINUTE)
    assert only(faults) == NO_EFFECT


def test_two_faults_add_their_waits_and_keep_the_first_answer(faults: Faults) -> None:
    faults.add(ServingFault(kind="errors", since=NOW))
    faults.add(ServingFault(kind="client_errors", since=NOW))
    faults.add(ServingFault(kind="latency", since=NOW, extra_ms=7))
    faults.add(ServingFault(kind="disconnects", since=NOW))
    assert only(faults) == Effect(status=424, model_status=500, extra_ms=7, drop=True)


def test_a_fault_begins_and_ends(faults: Faults) -> None:
    faults.add(ServingFault(kind="errors", since=NOW + MINUTE, until=NOW + 2 * MINUTE))
    at = [only(faults, at=NOW + each * MINUTE).status for each in (0, 1, 2)]
    assert at == [None, 424, None]
    assert faults.active(NOW + 2 * MINUTE) == {}


def test_a_fault_of_the_control_plane_is_used_up(faults: Faults) -> None:
    faults.add(ArmFault(kind="conflict", since=NOW, count=2, endpoint="shop"))
    assert faults.arm("reads", "shop", now=NOW) is None
    assert faults.arm("writes", "cafe", now=NOW) is None
    hits = [faults.arm("writes", "SHOP", now=NOW) is not None for _ in range(3)]
    assert hits == [True, True, False]


def test_all_means_no_tokens(faults: Faults) -> None:
    faults.add(ArmFault(kind="error", since=NOW, on="all", count=9))
    assert faults.arm("tokens", None, now=NOW) is None
    assert all(faults.arm(target, None, now=NOW) for target in ("reads", "writes", "polls"))


def test_a_failing_operation_lets_the_request_through(faults: Faults) -> None:
    faults.add(ArmFault(kind="fail_operation", since=NOW, count=1))
    assert faults.arm("writes", "shop", now=NOW) is None
    assert faults.failing("shop", now=NOW) is not None
    assert faults.failing("shop", now=NOW) is None


def test_gaps_and_delays_belong_to_rows_and_the_rest_to_queries(faults: Faults) -> None:
    faults.add(MonitorFault(kind="gap", since=NOW, until=NOW + 5 * MINUTE, on="logs"))
    faults.add(MonitorFault(kind="delay", since=NOW, minutes=12, on="metrics"))
    faults.add(MonitorFault(kind="partial", since=NOW, count=1))
    assert faults.lost("logs", "menu", now=NOW)
    assert not faults.lost("metrics", "menu", now=NOW)
    assert not faults.lost("logs", "menu", now=NOW + 5 * MINUTE)
    late = [faults.delayed(source, "menu", now=NOW) for source in ("metrics", "logs")]  # type: ignore[arg-type]
    assert late == [12 * MINUTE, timedelta(0)]
    first, second = faults.monitor("logs", now=NOW), faults.monitor("metrics", now=NOW)
    assert first is not None
    assert (first.kind, second) == ("partial", None)


def test_an_endpoint_without_a_diagnostic_setting_has_no_log(faults: Faults) -> None:
    gap = {"plane": "monitor", "kind": "gap", "on": "logs", "endpoint": "menu"}
    faults.add(parse_fault(gap, now=NOW))
    assert faults.lost("logs", "Menu", now=NOW)
    assert not faults.lost("logs", "shop", now=NOW)
    assert not faults.lost("metrics", "menu", now=NOW)
    with pytest.raises(ValueError, match="endpoint: throttle befalls a query"):
        parse_fault({**gap, "kind": "throttle"}, now=NOW)


def test_clearing_ends_one_or_all(faults: Faults) -> None:
    one = faults.add(ServingFault(kind="errors", since=NOW))
    faults.add(ServingFault(kind="leak", since=NOW))
    assert (faults.clear(one), faults.clear(one), faults.clear()) == (1, 0, 1)


@pytest.mark.parametrize(
    "fault",
    [
        ServingFault(kind="errors", since=NOW, until=NOW + MINUTE, deployment="green", share=0.05),
        ArmFault(kind="throttle", since=NOW, count=3, on="all", retry_after=17.0),
        MonitorFault(kind="delay", since=NOW, minutes=4.5, on="logs"),
    ],
)
def test_a_fault_survives_json(fault: Any) -> None:
    text = json.dumps(fault_json(4, fault))
    assert parse_fault(json.loads(text), now=NOW + MINUTE) == fault


def test_a_fault_begins_now_and_lasts_its_minutes() -> None:
    fault = parse_fault({"plane": "serving", "kind": "errors", "for_minutes": 10}, now=NOW)
    assert (fault.since, fault.until) == (NOW, NOW + 10 * MINUTE)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "plane: '' is not one of serving, arm, monitor"),
        ({"plane": "arm", "kind": "errors"}, "kind: 'errors' is not one of conflict"),
        ({"plane": "serving", "kind": "errors", "shares": 1}, "shares: unknown for a serving fault"),
        ({"plane": "serving", "kind": "errors", "share": 7}, "share: 7 is not between 0 and 1"),
        ({"plane": "serving", "kind": "leak", "extra_ms": "4"}, "extra_ms: '4' is not a number"),
        ({"plane": "serving", "kind": "leak", "minutes": float("nan")}, "minutes: nan is not a number"),
        ({"plane": "monitor", "kind": "gap", "on": "writes"}, "on: 'writes' is not one of logs, metrics, all"),
        ({"plane": "arm", "kind": "conflict", "since": "2026-03-02T09:00:00"}, "has no time zone"),
        ({"plane": "arm", "kind": "conflict", "count": -1}, "count: -1 is not a number"),
    ],
)
def test_a_wrong_fault_is_told_by_field(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_fault(values, now=NOW)


# Buckets


def test_a_bucket_empties_and_fills_again() -> None:
    buckets = Buckets()
    taken = [buckets.take("writes", now=NOW) for _ in range(201)]
    assert taken[:200] == [None] * 200
    assert taken[200] == pytest.approx(0.1)
    assert buckets.left("reads") == 250
    assert buckets.take("writes", now=NOW + timedelta(seconds=0.1)) is None
    assert [kind_of(each) for each in ("GET", "PUT", "POST", "DELETE")] == ["reads", "writes", "writes", "deletes"]


def test_a_bucket_holds_no_more_than_it_can() -> None:
    buckets = Buckets()
    buckets.take("reads", now=NOW)
    buckets.take("reads", now=NOW + 600 * MINUTE)
    assert buckets.left("reads") == 249


# Tokens


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(identity=Identity(address="https://127.0.0.1:4"), key=b"k" * 32)


def refused(tokens: Tokens, authorization: str | None, *, now: float = 0.0) -> str:
    with pytest.raises(Refusal) as caught:
        tokens.check_management(authorization, now=now)
    assert caught.value.status == 401
    return caught.value.code


def test_a_token_names_its_client_as_application_or_person(tokens: Tokens) -> None:
    robot, person = Identity().client_id, "alex@example.org"
    actors = [
        tokens.check_management(f"Bearer {tokens.issue(each, 'https://127.0.0.1:4', now=0)}", now=1)
        for each in (robot, person)
    ]
    assert [(each.id, each.kind) for each in actors] == [(robot, "Application"), (person, "User")]


def test_a_token_is_good_for_one_service_and_one_hour(tokens: Tokens) -> None:
    token = tokens.issue("me", "https://127.0.0.1:4", now=0)
    assert refused(tokens, f"Bearer {token}", now=LIFETIME) == "ExpiredAuthenticationToken"
    other = tokens.issue("me", MACHINE_LEARNING, now=0)
    assert refused(tokens, f"Bearer {other}") == "InvalidAuthenticationTokenAudience"
    assert tokens.opens_endpoints(other, now=1)
    assert not tokens.opens_endpoints(token, now=1)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "Bearer a.b.c", "Bearer ünïcode.x", "Bearer ."])
def test_what_is_no_token_is_refused(tokens: Tokens, header: str | None) -> None:
    assert refused(tokens, header) in ("AuthenticationFailed", "InvalidAuthenticationToken")


def test_a_token_of_another_sandbox_is_refused(tokens: Tokens) -> None:
    stranger = Tokens(identity=Identity(address="https://127.0.0.1:4"), key=b"x" * 32)
    token = stranger.issue("me", "https://127.0.0.1:4", now=0)
    assert refused(tokens, f"Bearer {token}") == "InvalidAuthenticationToken"
