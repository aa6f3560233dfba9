"""`rollout check try` as people run it, over the API."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout.cli.terminal import cells
from rollout.ports import Counted
from rollout.world import EndpointRef
from tests.support.api import TOKEN, LocalApi, local_api

ROOT = Path(__file__).parents[2]
WORSE = [
    Counted(minute, name, *count)
    for minute in range(1005, 1050)
    for name, count in (("blue", (120, 0)), ("green", (12, 1)))
]
HEALTHY = [Counted(minute, name, n, 0) for minute in range(1005, 1050) for name, n in (("blue", 120), ("green", 120))]
POLICY = """\
endpoint_name: recommender
workspace: prod
checks:
  custom:
    - {name: empty, kql_file: queries/empty.kql, max_increase: 2pp}
    - {name: odd, kql: T | count}
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries/empty.kql").write_text("T // empty\n| count\n")
    (tmp_path / "policy.yaml").write_text(POLICY)
    with local_api(tmp_path) as running:
        yield running


def run(api: LocalApi, *words: str, code: int = 0, sent: str = "") -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROLLOUT_")}
    done = subprocess.run(
        [sys.executable, "-m", "rollout.cli", "check", "try", *words],
        cwd=api.folder,
        env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **api.environ},
        input=sent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    assert "json" in words or [line for line in done.stdout.splitlines() if cells(line) > 80] == []
    return (done.stdout or done.stderr).replace("\u2009", " ")


def test_a_query_of_a_file_is_counted_and_judged(api: LocalApi) -> None:
    api.trials.counts["empty"] = [*WORSE, Counted(1004, "old", 5, 1)]
    told = run(api, "queries/empty.kql", "-n", "recommender", "--hours", "2", "-w", "prod")
    assert (
        told
        == """\
Check empty on recommender, 16:40 to 18:40 UTC
  deployment      n  bad     rate  first  last
  blue        5 400    0   0.00 %  16:45  17:29
  green         540   45   8.33 %  16:45  17:29
  old *           5    1  20.00 %  16:44  16:44
  * not a deployment of the endpoint (any more): its rows do not count

  Empty 8.3 % vs 0 % (45 of 540 vs 0 of 5 400): worse than the +1 pp allowed
  (evidence over 9 999). In a rollout it would fail green.
"""
    )
    ((ref, (check,), hours),) = api.trials.asked
    assert (ref, hours) == (EndpointRef(workspace="prod", name="recommender"), 2)
    assert (check.name, check.query, check.max_increase) == ("empty", "T // empty\n| count", 0.01)


def test_a_query_comes_from_stdin_too_and_json_holds_the_numbers(api: LocalApi) -> None:
    api.trials.counts["query"] = HEALTHY
    words = ("-", "-n", "recommender", "-w", "prod", "--max-increase", "3pp", "-o", "json")
    found = json.loads(run(api, *words, sent="T\n| count\n"))
    (check,) = found["checks"]
    assert (found["stable"], check["candidate"], check["max_increase"]) == ("blue", "green", 0.03)
    assert (check["error"], check["rows"], check["minutes"]) == (None, 90, 45)
    assert check["deployments"][1] == {
        "name": "green",
        "known": True,
        "n": 5400,
        "bad": 0,
        "rate": 0.0,
        "first": "1970-01-01T16:45:00+00:00",
        "last": "1970-01-01T17:29:00+00:00",
    }
    assert check["evidence"] < check["threshold"] == 20
    assert check["sentence"].endswith("In a rollout it would not fail green.")


def test_all_checks_of_a_policy_or_one_of_them(api: LocalApi) -> None:
    api.trials.counts["odd"] = "Check odd: row 1: n is -1, below zero, which is no count."
    told = run(api, "-f", "policy.yaml", code=1)
    assert "Check empty on recommender" in told
    assert "It counted nothing. Is there traffic" in told
    assert "✖ Check odd: row 1: n is -1, below zero, which is no count." in told
    run(api, "-f", "policy.yaml", "empty")
    assert [[check.name for check in checks] for _, checks, _ in api.trials.asked] == [["empty", "odd"], ["empty"]]
    assert api.trials.asked[0][1][0].max_increase == 0.02


def test_with_one_deployment_there_is_nothing_to_compare(api: LocalApi) -> None:
    api.trials.counts["empty"] = [Counted(1005, "blue", 5, 1), Counted(1005, "gone", 5, 1)]
    told = " ".join(run(api, "-f", "policy.yaml", "empty").split())
    assert "Only blue was counted: it says nothing until stable and candidate both have rows" in told


@pytest.mark.parametrize(
    ("words", "sent", "told"),
    [
        (
            ("-n", "recommender"),
            "",
            "Which query? Name its file, write - to read it from stdin, or name a policy with -f",
        ),
        (("-",), "T", "Which endpoint? Name it with -n ENDPOINT"),
        (("-", "-n", "recommender"), ".drop table T", '-: ".drop" is a management command: a check only reads'),
        (
            ("-", "-n", "recommender"),
            "T",
            "The settings name several workspaces (prod, test): name one with --workspace",
        ),
        (("none.kql", "-n", "recommender"), "", "none.kql: it cannot be read: No such file or directory"),
        (("-f", "policy.yaml", "none"), "", "policy.yaml has no check none of its own; it has empty, odd"),
    ],
)
def test_mistakes_are_told_plainly(api: LocalApi, words: tuple[str, ...], sent: str, told: str) -> None:
    assert told in " ".join(run(api, *words, code=5, sent=sent).split())


def test_a_policy_without_own_checks_has_nothing_to_try(api: LocalApi) -> None:
    (api.folder / "policy.yaml").write_text("endpoint_name: recommender\n")
    assert "has no checks of its own: write them under `checks: custom:`" in run(api, "-f", "policy.yaml", code=5)


def test_the_api_believes_no_query_that_was_not_looked_at(api: LocalApi) -> None:
    import httpx

    body = {"endpoint": "recommender", "workspace": "prod", "checks": [{"name": "x", "kql": "workspace('a').T"}]}
    answer = httpx.post(f"{api.address}/v1/checks/try", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 422
    assert "reads another resource" in answer.json()["detail"]
    assert api.trials.asked == []
