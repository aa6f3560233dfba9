"""Alerts: who gets them, how they read, how they travel."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from rollout.alerts import Channel, Courier, Kind, recipients, render, verify
from rollout.alerts.courier import GIVE_UP_AFTER, LONGEST_WAIT, backoff
from rollout.errors import RefusedError, SettingsError
from rollout.store import SqlStore, open_store
from rollout.world import Alert, EndpointRef, Event, Severity
from tests.support.receivers import Hook, Mailbox, a_hook, a_mailbox, free_port, until
from tests.support.stories import NOON, a_policy, a_rollout, an_alert

SECRET = "k1tchen-s3cret"
NOTICE, ACTION, PAGE = Severity.NOTICE, Severity.ACTION, Severity.PAGE
HOOK_AND_MAIL = ("hook", "mail")


# --- Who is told ---------------------------------------------------------------------------------------------------


def _channel(name: str, *severities: Severity, **changes: Any) -> Channel:
    told = {"kind": Kind.WEBHOOK, "url": "https://h.example/x", "secret": SECRET}
    return Channel(name=name, severities=frozenset(severities or Severity), **{**told, **changes})


@pytest.mark.parametrize(
    ("severity", "expected"), [(NOTICE, ("all",)), (ACTION, ("day", "all")), (PAGE, ("night", "day", "all"))]
)
def test_a_channel_gets_what_the_policy_and_its_severities_agree_on(
    severity: Severity, expected: tuple[str, ...]
) -> None:
    channels = [_channel("all"), _channel("other"), _channel("day", ACTION, PAGE), _channel("night", PAGE)]
    policy = a_policy(alerts=("night", "day", "all", "unknown", "all"))

    assert recipients(policy, severity, channels) == expected
    assert recipients(a_policy(), severity, channels) == ()


def test_a_channel_does_not_show_its_secrets() -> None:
    shown = repr(_channel("all", url="https://h.example/tok3n"))
    assert "tok3n" not in shown
    assert SECRET not in shown


# --- How it reads --------------------------------------------------------------------------------------------------


def _rate(bad: float, n: float, value: float | None) -> dict[str, float | None]:
    return {"bad": bad, "n": n, "value": value}


ROLLED_BACK = Alert(
    id="r1-7",
    rollout_id="r1",
    endpoint=EndpointRef(workspace="prod", name="restaurant-recommender"),
    channels=HOOK_AND_MAIL,
    summary={
        "now": "blue 75 % + green 25 %",
        "started_by": "anna",
        "started_at": "2026-11-22T01:30:12+00:00",
        "policy": "restaurant_recommender",
        "runbook": "https://wiki.example/recommender",
    },
    event=Event(
        at=datetime(2026, 11, 22, 2, 7, 41, 250_000, tzinfo=UTC),
        kind="rolled_back",
        severity=ACTION,
        sentence=(
            "Rolled back, no action needed: restaurant-recommender back on blue 100 % since 02:07:41 UTC"
            " (was 25 % green). Errors 6.8 % vs 0.3 % (61 of 900 vs 8 of 2 700). ~111 requests harmed."
        ),
        details={
            "now": "blue 100 %",
            "harmed": 111.3,
            "findings": [
                {
                    "check": "error_rate",
                    "source": "logs",
                    "unit": "share",
                    "baseline": _rate(8, 2700, 8 / 2700),
                    "candidate": _rate(61, 900, 61 / 900),
                    "evidence": 4120.3,
                    "action": "fail",
                },
                {
                    "check": "latency_p95",
                    "source": "logs",
                    "unit": "ms",
                    "baseline": _rate(130, 2700, 84.2),
                    "candidate": _rate(46, 900, 86.0),
                    "evidence": 0.42,
                    "action": "pass",
                },
                {
                    "check": "client_errors",
                    "source": "metrics",
                    "unit": "share",
                    "baseline": _rate(0, 0, None),
                    "candidate": _rate(0, 0, None),
                    "evidence": 1.0,
                    "action": "hold",
                    "sentence": "Client errors: no data yet.",
                },
            ],
            "reasons": [["model_5xx", 41], ["timeout", 20]],
            "first_bad_at": "2026-11-22T02:02:00+00:00",
            "decided_at": "2026-11-22T02:07:12.9+00:00",
            "sent_at": "2026-11-22T03:07:13+01:00",
            "confirmed_at": "2026-11-22T02:07:41+00:00",
            "next": "Look at what green logged, then start again.",
        },
    ),
)

PLAIN = """\
Rolled back, no action needed: restaurant-recommender back on blue 100 % since 02:07:41 UTC (was 25 % green). Errors 6.8 % vs 0.3 % (61 of 900 vs 8 of 2 700). ~111 requests harmed.

Now: blue 100 %; ~111 requests harmed

Why (candidate vs stable)
- Errors 6.8 % vs 0.30 % (61 of 900 vs 8 of 2 700) · fail · evidence 4 120 · logs
- Latency p95 86 ms vs 84 ms (46 of 900 vs 130 of 2 700 slower than the bar) · pass · evidence 0.4 · logs
- Client errors: no data yet · hold · evidence 1.0 · metrics

Top error reasons
- model_5xx: 41
- timeout: 20

Times
- first bad minute: 2026-11-22 02:02 UTC
- proven: 2026-11-22 02:07:12 UTC
- request sent: 2026-11-22 02:07:13 UTC
- confirmed by Azure: 2026-11-22 02:07:41 UTC

Started: by anna at 2026-11-22 01:30:12 UTC with policy restaurant_recommender

Next: Look at what green logged, then start again.

Runbook: https://wiki.example/recommender

Rollout r1 in prod · alert r1-7
"""  # noqa: E501

UNCONFIRMED = replace(
    ROLLED_BACK,
    id="r1-8",
    summary={},
    event=replace(
        ROLLED_BACK.event,
        kind="not_confirmed",
        severity=PAGE,
        sentence="Not confirmed, act now: Azure has not confirmed [blue 100 %] for 60 s.",
        details={
            "now": "blue 75 % + green 25 %",
            "harmed": 0.2,
            "findings": [],
            "by_hand": 'az ml online-endpoint update --name r --traffic "blue=100 green=0"',
        },
    ),
)

UNCONFIRMED_MARKDOWN = """\
**Not confirmed, act now: Azure has not confirmed \\[blue 100 %] for 60 s.**

**Now:** blue 75 % + green 25 %

**By hand**

    az ml online-endpoint update --name r --traffic "blue=100 green=0"

Rollout r1 in prod · alert r1-8
"""


def test_the_long_form_explains_a_roll_back() -> None:
    message = render(ROLLED_BACK)

    assert message.title == "Rolled back: restaurant-recommender"
    assert message.line == ROLLED_BACK.event.sentence
    assert message.body.replace("\u2009", " ") == PLAIN


def test_markdown_says_the_same_and_a_page_says_that_it_is_one() -> None:
    message = render(UNCONFIRMED)

    assert message.title == "PAGE · Not confirmed: restaurant-recommender"
    assert message.markdown == UNCONFIRMED_MARKDOWN
    words = (
        render(ROLLED_BACK)
        .markdown.replace("*", "")
        .replace("\n\n-", "\n-")
        .replace("<http", "http")
        .replace("recommender>", "recommender")
    )
    assert words == render(ROLLED_BACK).body


def test_what_is_not_known_leaves_no_empty_heading() -> None:
    bare = replace(ROLLED_BACK, summary={}, event=replace(ROLLED_BACK.event, sentence="Paused by *anna*.", details={}))

    assert render(bare).body == "Paused by *anna*.\n\nRollout r1 in prod · alert r1-7\n"
    assert render(bare).markdown == "**Paused by \\*anna\\*.**\n\nRollout r1 in prod · alert r1-7\n"


# --- How it travels ------------------------------------------------------------------------------------------------


@dataclass
class HandClock:
    """A clock that somebody moves."""

    at: datetime = NOON

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def real_seconds(self, duration: timedelta) -> float:
        return duration.total_seconds()


@dataclass
class Post:
    """A store with an outbox, a clock, and couriers that come and go."""

    folder: Path
    channels: list[Channel]
    clock: HandClock = field(default_factory=HandClock)
    log: LogCapture = field(default_factory=LogCapture)

    def __post_init__(self) -> None:
        self.restart()
        rollout = a_rollout()
        self.store.create(rollout, [], [])

    def restart(self) -> None:
        if hasattr(self, "store"):
            self.courier.close()
            self.store.close()
        self.store: SqlStore = open_store(f"sqlite:///{self.folder}/rollout.db", exclusive=True)
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0))
        self.courier = Courier(store=self.store, channels=self.channels, clock=self.clock, log=log)

    def post(self, *alerts: Alert) -> None:
        now = self.clock.now()
        (lease,) = self.store.claim_due(now=now, owner="test", lease=timedelta(seconds=1))
        self.store.save(lease, a_rollout(), alerts=[replace(one, event=replace(one.event, at=now)) for one in alerts])
        self.store.release(lease, due_at=now)

    def round(self) -> None:
        self.courier.deliver()
        assert self.courier.wait(30)

    def states(self) -> dict[tuple[str, str], tuple[str, int]]:
        return {(one.channel, one.alert.id): (one.state, one.attempts) for one in self.store.deliveries()}

    def told(self) -> list[str]:
        return [entry["event"] for entry in self.log.entries]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with a_hook() as hook:
        yield hook


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with a_mailbox() as mailbox:
        yield mailbox


@pytest.fixture
def post(tmp_path: Path, hook: Hook, mailbox: Mailbox) -> Iterator[Post]:
    post = Post(
        folder=tmp_path,
        channels=[_channel("hook", url=hook.url), _channel("mail", kind=Kind.APPRISE, url=mailbox.url, secret=None)],
    )
    yield post
    post.courier.close()
    post.store.close()


def test_a_webhook_gets_a_signed_cloud_event(post: Post, hook: Hook) -> None:
    post.post(replace(ROLLED_BACK, channels=("hook",)))
    post.round()

    (request,) = hook.requests
    verify(request.headers, request.body, secret=SECRET, now=NOON)
    assert request.headers["content-type"] == "application/cloudevents+json"
    event = json.loads(request.body)
    assert {key: value for key, value in event.items() if key != "data"} == {
        "specversion": "1.0",
        "id": "r1-7",
        "source": "/rollout/prod/restaurant-recommender",
        "type": "azureml.rollout.rolled_back",
        "subject": "r1",
        "time": "2026-11-22T12:00:00.123456Z",
        "datacontenttype": "application/json",
    }
    assert event["data"]["sentence"] == ROLLED_BACK.event.sentence
    assert event["data"]["severity"] == "action"
    assert event["data"]["details"]["reasons"] == [["model_5xx", 41], ["timeout", 20]]
    assert post.states() == {("hook", "r1-7"): ("delivered", 1)}


def test_a_mail_reads_well_in_both_of_its_forms(post: Post, mailbox: Mailbox) -> None:
    post.post(replace(ROLLED_BACK, channels=("mail",)))
    post.round()

    (mail,) = mailbox.mails
    assert mail["subject"] == "Rolled back: restaurant-recommender"
    assert mail["to"] == "team@kitchen.example"
    rich = mail.get_body(("html",)).get_content()
    assert f"<strong>{ROLLED_BACK.event.sentence}</strong>" in rich
    assert "<li>model_5xx: 41</li>" in rich
    assert '<a href="https://wiki.example/recommender">' in rich
    assert mail.get_body(("plain",)) is not None
    assert "alert r1-7" in mail.get_body(("plain",)).get_content()


def test_a_receiver_that_was_down_gets_it_later_under_the_same_id(tmp_path: Path) -> None:
    port = free_port()
    post = Post(folder=tmp_path, channels=[_channel("hook", url=f"http://127.0.0.1:{port}/hooks/t0ken-in-path")])
    post.post(an_alert("a1", "hook"))
    post.round()
    assert post.states() == {("hook", "a1"): ("waiting", 1)}
    assert "could not be reached" in post.store.deliveries()[0].error
    post.clock.at += timedelta(seconds=4)
    post.round()
    assert post.states() == {("hook", "a1"): ("waiting", 1)}

    with a_hook(port) as hook:
        post.restart()
        post.clock.at += timedelta(seconds=1)
        post.round()
        post.round()

    assert [json.loads(request.body)["id"] for request in hook.requests] == ["a1"]
    assert post.states() == {("hook", "a1"): ("delivered", 2)}
    post.store.close()


def test_attempts_differ_in_their_time_and_signature_alone(post: Post, hook: Hook) -> None:
    hook.answers += [(500, {}), (302, {"location": "http://127.0.0.1:1/elsewhere"})]
    post.post(an_alert("a1", "hook"))
    for wait in (0, 5, 10):
        post.clock.at += timedelta(seconds=wait)
        post.round()

    assert post.states() == {("hook", "a1"): ("delivered", 3)}
    assert post.told() == ["alert not delivered", "alert not delivered", "alert delivered"]
    assert "put the final address in the settings" in post.log.entries[1]["reason"]
    first, second, third = hook.requests
    assert first.body == second.body == third.body
    assert len({request.headers["webhook-id"] for request in hook.requests}) == 1
    assert len({request.headers["webhook-signature"] for request in hook.requests}) == 3


def test_a_receiver_that_is_gone_is_not_asked_again(post: Post, hook: Hook) -> None:
    hook.answers += [(410, {})]
    post.post(an_alert("a1", "hook"))
    post.round()
    post.clock.at += timedelta(hours=1)
    post.round()

    (letter,) = post.store.deliveries(state="dead")
    assert letter.error == "The webhook answered 410: it is gone. Put its new address in the settings."
    assert len(hook.requests) == 1
    assert post.told() == ["alert given up"]


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        ("30", 30),
        ("1", 5),
        ("86400", LONGEST_WAIT.total_seconds()),
        ("Sun, 22 Nov 2026 12:00:40 GMT", 39.876544),
        ("soon", 5),
    ],
)
def test_a_receiver_that_asks_for_time_gets_it(post: Post, hook: Hook, asked: str, waits: float) -> None:
    hook.answers += [(429, {"retry-after": asked})]
    post.post(an_alert("a1", "hook"), an_alert("a2", "hook"))
    post.round()
    post.clock.at = NOON + timedelta(seconds=waits) - timedelta(microseconds=1)
    if asked != "soon":
        post.round()  # a2 is due, but its channel asked to be left alone
        assert len(hook.requests) == 1
    post.clock.at = NOON + timedelta(seconds=waits)
    post.round()

    assert [state for state, _ in post.states().values()] == ["delivered", "delivered"]


def test_after_a_day_an_alert_is_a_dead_letter(post: Post, hook: Hook) -> None:
    hook.answers += [(503, {})] * 200
    post.post(an_alert("a1", "hook"))
    waits = []
    while post.states()[("hook", "a1")][0] == "waiting":
        due = max(post.clock.at, post.store.deliveries()[0].next_at)
        waits.append(due - post.clock.at)
        post.clock.at = due
        post.round()

    assert waits[1:10] == [timedelta(seconds=seconds) for seconds in (5, 10, 20, 40, 80, 160, 320, 640, 900)]
    assert set(waits[10:]) == {LONGEST_WAIT}
    assert GIVE_UP_AFTER - LONGEST_WAIT < post.clock.at - NOON <= GIVE_UP_AFTER
    assert post.store.deliveries(state="dead")[0].attempts == len(waits) == len(hook.requests)
    assert backoff(10**6) == LONGEST_WAIT


def test_a_channel_that_hangs_holds_up_no_other(post: Post, hook: Hook, mailbox: Mailbox) -> None:
    hook.gate.clear()
    post.post(an_alert("a1", *HOOK_AND_MAIL))
    post.courier.deliver()
    until(lambda: hook.requests and post.states()[("mail", "a1")][0] == "delivered")
    post.post(an_alert("a2", *HOOK_AND_MAIL))
    post.courier.deliver()
    until(lambda: post.states()[("mail", "a2")][0] == "delivered")

    assert len(mailbox.mails) == 2
    assert len(hook.requests) == 1  # its lane is busy: a2 waits for the next round
    assert post.states()[("hook", "a1")] == ("waiting", 0)
    hook.gate.set()
    assert post.courier.wait(30)
    post.round()
    assert [json.loads(request.body)["id"] for request in hook.requests] == ["a1", "a2"]


def test_a_dead_channel_with_many_waiting_holds_up_no_other(post: Post, hook: Hook, mailbox: Mailbox) -> None:
    mailbox.refuse = True
    post.post(*(an_alert(f"a{number}", "mail") for number in range(30)), an_alert("b", "hook"))
    post.round()

    assert post.states()[("hook", "b")] == ("delivered", 1)
    assert sum(attempts for (channel, _), (_, attempts) in post.states().items() if channel == "mail") == 1
    failed = next(one for one in post.store.deliveries() if one.error)
    assert failed.error == 'E-Mail did not take it (Sending email to "****@****" failed).'


@pytest.mark.parametrize(
    "details",
    [
        {"findings": [{"check": "error_rate"}]},
        {"findings": "many"},
        {"harmed": "a lot"},
        {"decided_at": "yesterday"},
        {"reasons": [1, 2]},
    ],
)
def test_an_alert_whose_details_cannot_be_read_is_its_sentence(
    post: Post, hook: Hook, mailbox: Mailbox, details: dict[str, Any]
) -> None:
    hook.answers += [(503, {})]
    post.post(an_alert("a1", *HOOK_AND_MAIL, details=details), an_alert("a2", *HOOK_AND_MAIL))
    post.round()
    post.clock.at += timedelta(minutes=1)
    post.round()

    assert set(post.states().values()) == {("delivered", 1), ("delivered", 2)}
    body = mailbox.mails[0].get_body(("plain",))
    assert body is not None
    told = body.get_content()
    assert told.startswith("Something happened.")
    assert "Details: They could not be read: see `rollout history restaurant-recommender`." in told
    left_out = [entry for entry in post.log.entries if entry["event"] == "details of an alert left out"]
    assert sorted((entry["alert"], entry["channel"]) for entry in left_out) == [("a1", "hook"), ("a1", "mail")]


def test_a_channel_that_left_the_settings_is_told_and_tried_again(post: Post) -> None:
    post.post(an_alert("a1", "old-team"))
    post.round()

    (waiting,) = post.store.deliveries(state="waiting")
    assert waiting.error == "There is no channel old-team in the settings: add it, or leave it out of the policy."


def test_a_courier_that_closes_begins_nothing_more(post: Post, hook: Hook) -> None:
    hook.gate.clear()
    post.post(an_alert("a1", "hook"), an_alert("a2", "hook"))
    post.courier.deliver()
    until(lambda: hook.requests)
    post.courier.close()
    hook.gate.set()
    post.round()

    assert post.states() == {("hook", "a1"): ("delivered", 1), ("hook", "a2"): ("waiting", 0)}


def test_what_could_not_be_recorded_is_sent_again(post: Post, hook: Hook) -> None:
    hook.gate.clear()
    post.post(an_alert("a1", "hook"))
    post.courier.deliver()
    until(lambda: hook.requests)
    with post.store._database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE outbox RENAME TO away")
    hook.gate.set()
    assert post.courier.wait(30)
    assert post.told() == ["alert not recorded"]
    with post.store._database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO outbox")

    post.restart()
    post.round()

    assert [request.headers["webhook-id"] for request in hook.requests] == ["a1", "a1"]
    assert post.states() == {("hook", "a1"): ("delivered", 1)}


# --- Signatures ----------------------------------------------------------------------------------------------------


def _sent(post: Post, hook: Hook) -> tuple[dict[str, str], bytes]:
    post.post(an_alert("a1", "hook"))
    post.round()
    return hook.requests[0].headers, hook.requests[0].body


def test_a_changed_stolen_or_old_request_is_not_believed(post: Post, hook: Hook) -> None:
    headers, body = _sent(post, hook)
    verify(headers, body, secret=SECRET, now=NOON + timedelta(minutes=4, seconds=59))
    swapped = {name.title(): value for name, value in headers.items()}
    verify(swapped, body, secret=SECRET, now=NOON)

    for changed in (
        {"webhook-id": "a2"},
        {"webhook-timestamp": "1"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
    ):
        with pytest.raises(RefusedError, match="signature does not match"):
            verify({**headers, **changed}, body, secret=SECRET, now=NOON)
    with pytest.raises(RefusedError, match="signature does not match"):
        verify(headers, body + b" ", secret=SECRET, now=NOON)
    with pytest.raises(RefusedError, match="signature does not match"):
        verify(headers, body, secret="another", now=NOON)
    for minutes in (-6, 6):
        with pytest.raises(RefusedError, match="a replay, or a clock that is wrong"):
            verify(headers, body, secret=SECRET, now=NOON + timedelta(minutes=minutes))


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's reference implementation."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verify(headers, b'{"test": 2432232314}', secret=secret, now=datetime.fromtimestamp(1614265330, UTC))
    rotated = {**headers, "webhook-signature": "v1,AAAA " + headers["webhook-signature"]}
    verify(rotated, b'{"test": 2432232314}', secret=secret, now=datetime.fromtimestamp(1614265330, UTC))


# --- Settings that are of no use -----------------------------------------------------------------------------------


def test_every_channel_that_cannot_be_used_is_named_at_the_start_and_no_secret_is_shown(tmp_path: Path) -> None:
    channels = [
        _channel("typo", kind=Kind.APPRISE, url="slak://t0ken/t0ken"),
        _channel("no-scheme", url="h.example/t0ken"),
        _channel("no-secret", url="https://h.example/t0ken", secret=None),
        _channel("odd-secret", secret="whsec_t0ken!"),
        _channel("odd-port", url="https://h.example:t0ken/"),
        _channel("good"),
    ]
    with pytest.raises(SettingsError) as caught:
        Post(folder=tmp_path, channels=channels)

    told = caught.value.message
    assert [line.split(":")[0] for line in told.splitlines()] == [
        f"channels.{name}" for name in ("typo", "no-scheme", "no-secret", "odd-secret", "odd-port")
    ]
    assert "t0ken" not in told


def test_a_failing_service_does_not_give_its_address_away(tmp_path: Path) -> None:
    port = free_port()
    mail = f"mailto://chef:hunter2222@127.0.0.1:{port}/?from=rollout@kitchen.example&to=secret-list@kitchen.example"
    hook = f"http://user:hunter2222@127.0.0.1:{port}/t0ken-in-path?key=hunter2222"
    post = Post(
        folder=tmp_path,
        channels=[_channel("mail", kind=Kind.APPRISE, url=mail), _channel("hook", url=hook)],
    )
    post.post(an_alert("a1", *HOOK_AND_MAIL))
    post.round()

    told = f"{post.log.entries} {[one.error for one in post.store.deliveries()]}"
    assert "could not be reached" in told
    assert "did not take it" in told
    for secret in ("hunter2222", "t0ken", "secret-list", SECRET, base64.b64encode(SECRET.encode()).decode()):
        assert secret not in told
    post.store.close()
