"""Files that a policy names, on their way to the daemon: sent along, and never looked for in the daemon's own folders."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rollout.cli.acting import policy_body
from rollout.errors import PolicyError
from tests.support.api import POLICY, TOKEN, LocalApi, local_api

NAMING = POLICY + "workspace: prod\nprobes: {request_file: requests/sample.json}\n"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    (tmp_path / "daemon").mkdir()
    with local_api(tmp_path / "daemon") as running:
        yield running


def start(api: LocalApi, policy: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=api.address, headers=headers, trust_env=False) as client:
        return client.post("/v1/rollouts", json={"policy": policy, "by": "anna"})


def test_the_command_sends_what_the_policy_names(api: LocalApi, tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "sample.json").write_text('{"diner": 7}')
    (tmp_path / "mine.yaml").write_text(NAMING)

    body = policy_body(str(tmp_path / "mine.yaml"))
    answer = start(api, body)

    assert body["files"] == {"requests/sample.json": '{"diner": 7}'}
    assert answer.status_code == 201, answer.text
    probes = api.store.load(answer.json()["id"]).policy.probes
    assert probes is not None
    assert probes.requests == ('{"diner": 7}',)


def test_a_file_that_is_not_there_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(NAMING)
    with pytest.raises(PolicyError, match=r'mine.yaml: "requests/sample.json" cannot be read: No such file'):
        policy_body(str(tmp_path / "mine.yaml"))


def test_the_daemon_opens_no_file_that_a_caller_names(api: LocalApi) -> None:
    """Not even one that lies beside its own policies."""
    (api.folder / "policies" / "requests").mkdir()
    (api.folder / "policies" / "requests" / "sample.json").write_text('{"secret": 1}')

    answer = start(api, {"text": NAMING, "file": "mine.yaml"})

    assert answer.status_code == 422
    (mistake,) = answer.json()["mistakes"]
    assert mistake["path"] == "probes.request_file"
    assert mistake["message"] == '"requests/sample.json" cannot be read: it was not sent along with the policy'
    assert "secret" not in answer.text


def test_what_is_sent_is_bounded(api: LocalApi) -> None:
    many = {f"f{number}.json": "{}" for number in range(11)}
    assert start(api, {"text": NAMING, "files": many}).status_code == 422
    assert start(api, {"text": NAMING, "files": {"requests/sample.json": "x" * (128 * 1024 + 1)}}).status_code == 422


def test_the_daemon_reads_files_beside_its_own_policies(api: LocalApi) -> None:
    (api.folder / "policies" / "mine.yaml").write_text(NAMING + "name: mine\n")
    (api.folder / "policies" / "requests").mkdir()
    (api.folder / "policies" / "requests" / "sample.json").write_text('{"diner": 8}')
    api.policies.reload()

    assert start(api, {"name": "mine"}).status_code == 201
