"""Policies at the edge: the last value that is allowed, the first that is not, and what is told of it."""
# ruff: noqa: E501 - a message stays on one line, as people read it

import hashlib
import json
import re

import pytest

from rollout.errors import PolicyError
from rollout.policy import CustomCheck, ErrorCheck, Policy, advice, effective_yaml, parse_policy
from rollout.policy.attached import MAX_CHARACTERS, MAX_NAME, Attachments, check_name
from rollout.policy.queries import check_query

QUERY = "AmlOnlineEndpointTrafficLog | count"


def parse(text: str) -> Policy:
    return parse_policy(f"endpoint_name: diners\n{text}\n", file="p.yaml")


def told(text: str) -> list[str]:
    """The mistakes, without their places."""
    with pytest.raises(PolicyError) as caught:
        parse(text)
    return [f"{mistake.path}: {mistake.message}" for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("allowed", "refused", "why"),
    [
        ("expert: {alpha: 0.1%}", "expert: {alpha: 0.09%}", "expert.alpha: 0.09% is out of range: write between 0.1% and 20%"),
        ("expert: {alpha: 20%}", "expert: {alpha: 20.1%}", "expert.alpha: 20.1% is out of range: write between 0.1% and 20%"),
        ("expert: {ratio: 1}", "expert: {ratio: 0.99}", "expert.ratio: 0.99 is out of range: write at least 1"),
        ("expert: {ratio: 3}", "expert: {ratio: 3.01}", "expert.ratio: 3.01 is out of range: write at most 3"),
        ("holdback: 0%", "holdback: -1", "holdback: -1 is not a share of traffic: write a whole percent between 0% and 20%, such as 5%"),
        ("holdback: 20%\nsteps: [80%, 100%]", "holdback: 21%", "holdback: 21% is out of range: write a whole percent between 0% and 20%"),
        ("bake: 1m", "bake: 0m", "bake: 0s is too short: write a duration between 1m and 7d"),
        ("bake: 7d\nsteps: [100%]\ndeadline: 7d", "bake: 8d", "bake: 8d is too long: write a duration between 1m and 7d"),
        ("deadline: 75m", "deadline: 74m", "deadline: 1h14m is too short: the steps bake for 1h15m in all; write a longer deadline or shorter bakes"),
        ("bake: 1m\nsteps: [{traffic: 100%, bake: 10m}]\ndeadline: 10m", "deadline: 9m", "deadline: 9m is too short: write a duration between 10m and 30d"),
        ("deadline: 30d", "deadline: 31d", "deadline: 31d is too long: write a duration between 10m and 30d"),
        ("steps: [approve: {timeout: 14d}, 100%]", "steps: [approve: {timeout: 15d}, 100%]", "steps[0].approve.timeout: 15d is too long: write a duration between 1m and 14d"),
        ("steps: [approve: {timeout: 1m}, 100%]", "steps: [approve: {timeout: 59s}, 100%]", "steps[0].approve.timeout: 59s is too short: write a duration between 1m and 14d"),
        ("when: {doubt: {extend: 2d}}", "when: {doubt: {extend: 3d}}", "when.doubt.extend: 3d is too long: write a duration between 0s and 2d"),
        ("steps: [1%, 100%]", "steps: [0%, 100%]", "steps[0].traffic: 0% is out of range: write a whole percent between 1% and 100%"),
        ("steps: [95%, 100%]", "steps: [96%, 100%]", "steps[0].traffic: 96% leaves no room for the 5% that `holdback` keeps on stable: write at most 95%, or `holdback: 0%`"),
        ("holdback: 1%\nsteps: [99%, 100%]", "holdback: 2%\nsteps: [99%, 100%]", "steps[0].traffic: 99% leaves no room for the 2% that `holdback` keeps on stable: write at most 98%, or `holdback: 0%`"),
        ("holdback: 0%\nsteps: [99%, 100%]", "holdback: 0%\nsteps: [100%, 99%, 100%]", "steps[1].traffic: 99% does not rise above the 100% before it: write shares that rise"),
        ("steps: [5%, 100%]", "steps: [5%, 5%, 100%]", "steps[1].traffic: 5% does not rise above the 5% before it: write shares that rise"),
        ("probes: {requests: ['{}'], timeout: 60s}", "probes: {requests: ['{}'], timeout: 60001ms}", 'probes.timeout: "60001ms" is out of range: write between 100ms and 60s'),
        ("probes: {requests: ['{}'], timeout: 100ms}", "probes: {requests: ['{}'], timeout: 99ms}", 'probes.timeout: "99ms" is out of range: write between 100ms and 60s'),
        ("probes: {requests: ['{}'], per_minute: 6}", "probes: {requests: ['{}'], per_minute: 5}", "probes.per_minute: 5 is out of range: write at least 6"),
        ("probes: {requests: ['{}'], per_minute: 240}", "probes: {requests: ['{}'], per_minute: 241}", "probes.per_minute: 241 is out of range: write at most 240"),
    ],
)  # fmt: skip
def test_the_last_that_is_allowed_and_the_first_that_is_not(allowed: str, refused: str, why: str) -> None:
    assert parse(allowed).endpoint_name == "diners"
    assert told(refused) == [why]


def test_every_share_that_the_holdback_does_not_leave_is_told() -> None:
    assert [found.split(":")[0] for found in told("steps: [96%, 97%, 98%, 100%]")] == [
        f"steps[{at}].traffic" for at in (0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("probes", "why"),
    [
        ("{}", "probes: has no request: write either request_file, request_files or requests"),
        (
            "{requests: ['{}'], request_files: []}",
            None,
        ),
        ("{requests: ['{'], timeout: 4s}", "probes.requests[0]: is not JSON (line 1, column 2): a request is sent as JSON"),
    ],
)  # fmt: skip
def test_requests_stand_in_one_place(probes: str, why: str | None) -> None:
    if why is None:
        assert parse(f"probes: {probes}").probes is not None
    else:
        assert told(f"probes: {probes}") == [why]


def test_requests_in_two_places_are_refused() -> None:
    text = "probes: {requests: ['{}'], request_file: a.json}"
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"endpoint_name: diners\n{text}\n", file="p.yaml", files=lambda _name: "{}")
    assert caught.value.message == (
        "p.yaml:2:9: probes: has its requests in two places: write either request_file, request_files or requests"
    )


def test_a_request_that_is_too_deep_is_refused() -> None:
    assert told(f"probes: {{requests: ['{'[' * 100_000}']}}") == [
        "probes.requests[0]: is not JSON (it is too deep): a request is sent as JSON"
    ]


# --- advice, word for word


@pytest.mark.parametrize(
    ("text", "advised"),
    [
        (
            "expert: {evidence: [metrics]}",
            ["checks.latency_p95: metrics tell latency without counts, so it will only report; give it a `max`, or judge by [logs, metrics]"],
        ),
        (
            "expert: {evidence: [metrics]}\nchecks: {latency_p95: {max: 800ms}, answer_size: {}}",
            [
                "checks.latency_p95: metrics tell latency without counts, so only its `max` decides, not max_increase",
                "checks.answer_size: only the logs tell the size of answers, and this policy is judged without them",
            ],
        ),
        (
            "probes: {requests: ['{}']}\nchecks: {error_rate: off}",
            ["checks.error_rate: it is off, so a candidate whose probes all fail is not rolled back for that; let it decide, or take `probes:` out"],
        ),
        (
            "probes: {requests: ['{}']}\nchecks: {error_rate: {dry_run: true}}",
            ["checks.error_rate: it is a dry run, so a candidate whose probes all fail is not rolled back for that; let it decide, or take `probes:` out"],
        ),
        ("expert: {evidence: [logs], harm_budget: 9}", []),
        ("expert: {evidence: [metrics], harm_budget: 9}\nchecks: {latency_p95: off}", []),
        (
            "expert: {evidence: [probes], harm_budget: 9}\nprobes: {requests: ['{}']}",
            ["expert.harm_budget: only logs and metrics show what callers were harmed, and this policy is judged without them"],
        ),
        (
            f"checks: {{custom: [{{name: odd, kql: {QUERY}}}], client_errors: off, latency_p95: off}}\nexpert: {{evidence: []}}",
            ["checks.error_rate: this policy is judged by queries of its own alone, which do not show it; switch it off"],
        ),
    ],
)  # fmt: skip
def test_advice_says_what_to_write_instead(text: str, advised: list[str]) -> None:
    assert list(advice(parse(text))) == advised


# --- files and queries


@pytest.mark.parametrize("name", ["a", "requests/sample.json", ".hidden", "a..b", "n" * MAX_NAME])
def test_a_file_beside_the_policy_may_be_named(name: str) -> None:
    check_name(name)
    assert Attachments(lambda _name: "text").text(name) == "text"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "..", "a/../b", "a\\b", "a\0b", "n" * (MAX_NAME + 1)])
def test_no_other_file_may_be_named(name: str) -> None:
    with pytest.raises(
        ValueError, match="is not the name of a file beside the policy: write one such as requests/sample"
    ):
        check_name(name)


def test_where_no_files_are_read_none_may_be_named() -> None:
    assert told("probes: {request_file: a.json}") == [
        'probes.request_file: "a.json" cannot be read: files are named in policy files only; write the text here'
    ]


def test_files_hold_as_much_as_is_allowed_and_not_a_character_more() -> None:
    files = Attachments(
        {"half": "x" * (MAX_CHARACTERS // 2), "rest": "y" * (MAX_CHARACTERS // 2), "more": "z"}.__getitem__
    )
    assert len(files.text("half")) + len(files.text("rest")) == MAX_CHARACTERS
    assert len(files.text("half")) == MAX_CHARACTERS // 2  # read once
    with pytest.raises(ValueError, match=r'^"more" is too large: the files of a policy may hold 128 KiB in all$'):
        files.text("more")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "the query is empty: write one that returns minute, deployment, n and bad"),
        (".drop table T", '".drop" is a management command: a check only reads; write a query'),
        (
            "workspace('x').T",
            "workspace(…) reads another resource: a check reads the log workspace of its endpoint; name the table alone",
        ),
        (
            "externaldata (a:string)",
            "externaldata fetches data from outside: a check reads the log workspace of its endpoint; take it out",
        ),
        (
            "T | evaluate python('x')",
            "`evaluate python` may call out or run code: a check only reads (allowed are bag_unpack, narrow, pivot)",
        ),
        (
            "T | evaluate",
            "`evaluate …` may call out or run code: a check only reads (allowed are bag_unpack, narrow, pivot)",
        ),
    ],
)
def test_a_query_that_does_more_than_read_is_told_word_for_word(query: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        check_query(query)


# --- checks and names


def test_a_check_is_found_by_its_name() -> None:
    checks = parse(f"checks: {{client_errors: off, custom: [{{name: odd, kql: {QUERY}}}]}}").checks
    assert checks.named("error_rate") == ErrorCheck()
    assert checks.named("odd") == CustomCheck(name="odd", kql=QUERY)
    assert (checks.named("client_errors"), checks.named("even")) == (None, None)


# --- written out


def test_the_digest_is_that_of_the_plain_json() -> None:
    """Whoever holds the JSON of a policy can tell that it is the pinned one: keys in order, no blanks."""
    policy = parse("description: Déjà vu\n")
    plain = json.dumps(json.loads(policy.model_dump_json()), sort_keys=True, separators=(",", ":"))
    assert policy.digest() == hashlib.sha256(plain.encode()).hexdigest()


WRITTEN = """\
endpoint_name: diners
description: "A line of more than a hundred characters stays whole up to where it is folded, and is read back as one line."
steps: [5%, approve, {traffic: 100%, bake: 45m}]
checks:
  latency_p95: off
  custom:
    - {name: odd, kql: "T\\n| count", max: 5%}
probes: {requests: ['{"é": 1}'], timeout: 1500ms}
runbook: https://wiki.example/a
"""
EFFECTIVE = """\
name: diners
description: A line of more than a hundred characters stays whole up to where it is folded, and is read back as
  one line.
endpoint_name: diners
mode: act
first_step: as_written
steps:
- {traffic: 5%, bake: 15m}
- approve: {timeout: 1d, on_timeout: pause}
- {traffic: 100%, bake: 45m}
holdback: 5%
checks:
  error_rate: {max_increase: 0.5pp, dry_run: false}
  client_errors: {max_increase: 1pp, dry_run: false}
  latency_p50: 'off'
  latency_p95: 'off'
  latency_p99: 'off'
  answer_size: 'off'
  custom:
  - name: odd
    max_increase: 1pp
    max: 5%
    dry_run: false
    kql: |-
      T
      | count
min_requests: 300
capacity: keep
when:
  suspicion: retreat
  regression: rollback
  doubt: {extend: 30m, then: pause}
  no_data: {hold: 45m, then: pause}
  shared_incident: hold
  drift: pause
probes:
  per_minute: 60
  timeout: 1500ms
  requests: ['{"é": 1}']
deadline: 8h
after: keep
alerts: []
runbook: https://wiki.example/a
expert:
  alpha: 5%
  ratio: 1.2
  early: true
  evidence: [logs, metrics, probes]
"""


def test_the_effective_policy_is_written_as_people_write() -> None:
    policy = parse_policy(WRITTEN, file="p.yaml")
    assert effective_yaml(policy) == EFFECTIVE
    assert parse_policy(EFFECTIVE, file="p.yaml") == policy


def test_no_own_check_is_no_line() -> None:
    assert "custom" not in effective_yaml(parse(""))
