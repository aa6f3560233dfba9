"""Files that a policy names: read once at the door, within limits, from beside the policy only."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
import yaml

from rollout.beside import MAX_BYTES, Beside
from rollout.clock import WallClock
from rollout.daemon.policies import PolicyBook
from rollout.errors import PolicyError
from rollout.policy import Policy, Probes, effective_yaml, parse_policy
from rollout.policy.attached import MAX_CHARACTERS, MAX_FILES, named

NAMING = "endpoint_name: diners\nprobes: {request_file: requests/sample.json}\n"
SAMPLE = '{"data": [[1, 2.5]],\n "who": "d\'Arc: #1"}\n'


def sample(_name: str) -> str:
    return SAMPLE


def mistakes(text: str, files: object = sample) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, file="p.yaml", files=files)  # type: ignore[arg-type]
    return [f"{mistake.path}: {mistake.message}" for mistake in caught.value.mistakes]


def test_a_policy_holds_the_text_and_never_the_name() -> None:
    policy = parse_policy(NAMING, file="p.yaml", files=sample)

    assert policy.probes == Probes(requests=(SAMPLE.strip(),), per_minute=60, timeout=timedelta(seconds=4))
    assert policy.expert.evidence == ("logs", "metrics", "probes")
    assert "sample.json" not in policy.model_dump_json()
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert parse_policy(effective_yaml(policy), file="effective.yaml") == policy


def test_several_requests_are_sent_in_turn_and_timeouts_keep_their_unit() -> None:
    text = "endpoint_name: diners\nprobes: {request_files: [a.json, b/c.json], per_minute: 6, timeout: 1.5s}\n"

    policy = parse_policy(text, file="p.yaml", files=lambda name: json.dumps({"file": name}))

    assert policy.probes is not None
    assert [json.loads(request)["file"] for request in policy.probes.requests] == ["a.json", "b/c.json"]
    assert policy.probes.timeout == timedelta(milliseconds=1500)
    assert policy.probes.per_minute == 6
    assert parse_policy(effective_yaml(policy), file="effective.yaml") == policy


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("probes: {request_file: ../other.json}", "is not the name of a file beside the policy"),
        ("probes: {request_file: /etc/passwd}", "is not the name of a file beside the policy"),
        ("probes: {request_file: a.json, requests: ['{}']}", "has its requests in two places"),
        ("probes: {}", "has no request"),
        ("probes: {requests: []}", "has no request"),
        ("probes: {requests: ['{\"a\": ']}", "is not JSON (line 1, column 7)"),
        ("probes: {requests: ['{}'], per_minute: 5}", "write at least 6"),
        ("probes: {requests: ['{}'], timeout: 61s}", "write between 100ms and 60s"),
        ("probes: {requests: ['{}'], timeout: 4}", "has no unit"),
        ("probes: {requests: ['{}']}\nexpert: {evidence: [logs]}", "would be sent and not judged"),
        ("expert: {evidence: [logs, probes]}", "needs requests to send"),
    ],
)
def test_mistakes_say_what_to_write(text: str, told: str) -> None:
    (found,) = mistakes(f"endpoint_name: diners\n{text}\n")
    assert told in found


def test_a_mistake_tells_where_it_is_and_not_what_a_request_holds() -> None:
    (found,) = mistakes("endpoint_name: diners\nprobes: {request_file: a.json}\n", lambda _: '{"diner": "Ana" "Weber"}')
    assert found == "probes.request_file: is not JSON (line 1, column 17): a request is sent as JSON"


def test_a_file_that_cannot_be_read_is_a_mistake_at_its_name() -> None:
    def missing(name: str) -> str:
        raise ValueError(f'"{name}" cannot be read: No such file')

    (found,) = mistakes(NAMING, missing)
    assert found == 'probes.request_file: "requests/sample.json" cannot be read: No such file'
    (unread,) = mistakes(NAMING, None)
    assert "files are named in policy files only" in unread


def test_a_policy_attaches_a_few_small_files() -> None:
    many = ", ".join(f"f{number}.json" for number in range(MAX_FILES + 1))
    text = f"endpoint_name: diners\nprobes: {{request_files: [{many}]}}\n"

    assert any("one file too many" in found for found in mistakes(text))
    (large,) = mistakes(NAMING, lambda _name: json.dumps("x" * MAX_CHARACTERS))
    assert "128 KiB in all" in large


def test_names_are_found_wherever_they_stand() -> None:
    text = "probes: {request_files: [a.json, b.json]}\nchecks: {custom: [{kql_file: q.kql}, {kql: request_file}]}\n"
    assert list(named(yaml.safe_load(text))) == ["a.json", "b.json", "q.kql"]


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "link.json").symlink_to(tmp_path / "secret")
    (folder / "large.json").write_text("x" * (MAX_BYTES + 1))
    (folder / "bytes.json").write_bytes(b"\xff\xfe")
    (folder / "good.json").write_text(SAMPLE)
    files = Beside(folder)

    assert files("good.json") == SAMPLE
    for name, why in {
        "link.json": "outside the policy's folder",
        "large.json": "larger than 256 KiB",
        "bytes.json": "not text",
        "absent.json": "No such file",
    }.items():
        with pytest.raises(ValueError, match=why):
            files(name)


def test_a_loaded_policy_follows_the_files_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "diners.yaml").write_text("endpoint_name: diners\nprobes: {request_file: sample.json}\n")
    book = PolicyBook(tmp_path, defaults={}, channels=frozenset(), clock=WallClock(), log=structlog.stdlib.get_logger())
    book.reload()
    (listed,) = book.listed()
    assert 'probes.request_file: "sample.json" cannot be read: No such file' in listed.mistakes[0]

    (tmp_path / "sample.json").write_text('{"a": 1}')
    book.reload()
    assert _requests(book) == ('{"a": 1}',)

    (tmp_path / "sample.json").write_text('{"a": 1, "b": 2}')
    book.reload()
    assert _requests(book) == ('{"a": 1, "b": 2}',)


def _requests(book: PolicyBook) -> tuple[str, ...]:
    probes = book.find("diners").probes
    assert probes is not None
    return probes.requests
