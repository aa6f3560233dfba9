"""`rollout plan` as people run it: without a daemon, and with one that knows the endpoint's last days."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rollout.analysis.profile import given
from rollout.cli.terminal import cells
from rollout.policy import parse_policy
from tests.support.api import POLICY, LocalApi, local_api

ROOT = Path(__file__).parents[2]
SEEN = replace(given(per_second=20, error_rate=0.005, p95=200), days=7.0, minutes=1440)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    with local_api(tmp_path) as running:
        (tmp_path / "policy.yaml").write_text(POLICY + "workspace: prod\n")
        yield running


def run(folder: Path, *words: str, code: int = 0, **environ: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROLLOUT_")}
    done = subprocess.run(
        [sys.executable, "-m", "rollout.cli", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


def policy(folder: Path, text: str = "") -> str:
    (folder / "policy.yaml").write_text(f"endpoint_name: recommender\n{text}")
    return "policy.yaml"


# --- without a daemon


def test_a_plan_without_a_daemon(tmp_path: Path) -> None:
    words = ("plan", policy(tmp_path), "--rps", "20", "--error-rate", "0.5%", "--latency-p95", "200ms")
    told = run(tmp_path, *words, "--plot", "plan.svg")
    assert "1 200 requests a minute, errors 0.50 %, p95 200 ms (as given)" in told.replace("\u2009", " ")
    assert [line for line in told.splitlines() if cells(line) > 80] == []
    assert "Drawn in plan.svg." in told
    assert (tmp_path / "plan.svg").read_text().startswith("<svg")


def test_a_policy_that_cannot_see_is_refused_with_one_that_can(tmp_path: Path) -> None:
    words = ("--rps", "0.05", "--quick")
    told = run(tmp_path, "plan", policy(tmp_path), *words, code=2)
    assert "✖ Steps 1, 2 and 3 show about" in told
    assert [line for line in told.splitlines() if cells(line) > 80] == []
    found = json.loads(run(tmp_path, "plan", policy(tmp_path), *words, "-o", "json", code=2))
    assert found["ok"] is False
    better = parse_policy(found["proposal"], file="proposal")
    assert [step.traffic for step in better.steps] == [50, 100]
    (tmp_path / "policy.yaml").write_text(found["proposal"])
    assert run(tmp_path, "lint", "policy.yaml") == "1 policy without mistakes.\n"
    assert json.loads(run(tmp_path, "plan", "policy.yaml", *words, "-o", "json"))["ok"] is True


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rps", "20", "--error-rate", "0.005"], "write 0.5%"),
        (["--rps", "20", "--latency-p95", "fast"], "write 800ms or 1.5s"),
        (["--error-rate", "1%"], "add --rps"),
        (["--rps", "20", "--plot", "no/such/folder.svg"], "there is no folder no/such"),
        (["--from-last", "a week", "--config", "none.yaml"], "write 90s, 10m, 1h30m, 1d"),
        ([], "No settings at rollout.yaml"),
    ],
)
def test_what_cannot_be_planned_says_why(tmp_path: Path, words: list[str], told: str) -> None:
    assert told in run(tmp_path, "plan", policy(tmp_path), *words, code=5)


@pytest.mark.parametrize("rps", ["nan", "inf", "1e30", "0", "-1"])
def test_a_traffic_that_is_none_is_refused(tmp_path: Path, rps: str) -> None:
    assert "Invalid value for '--rps'" in run(tmp_path, "plan", policy(tmp_path), "--rps", rps, code=5)


def test_mistakes_in_the_policy_are_told(tmp_path: Path) -> None:
    assert "policy.yaml:2:1: step" in run(tmp_path, "plan", policy(tmp_path, "step: [5%]\n"), "--rps", "1", code=5)
    assert "There is no file canary" in run(tmp_path, "plan", "canary", "--rps", "1", code=5)


def test_a_plan_without_a_daemon_stays_light(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom rollout.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print('LOADED', *sorted({n.split('.')[0] for n in sys.modules}))\n"
    )
    words = ["plan", policy(tmp_path), "--rps", "20", "--quick", "-o", "json"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "numpy" in loaded
    assert not loaded & {"azure", "fastapi", "sqlalchemy", "apscheduler", "httpx", "scipy", "structlog", "apprise"}


# --- with a daemon


def test_a_daemon_knows_the_endpoints_last_days(api: LocalApi) -> None:
    api.past.known = SEEN
    told = run(api.folder, "plan", "policy.yaml", "--from-last", "3d", "--quick", **api.environ).replace("\u2009", " ")
    assert "(1 d of the last 7 d)" in told.replace("\n          ", " ")
    assert [(ref.name, ref.workspace, hours) for ref, hours in api.past.asked] == [("recommender", "prod", 72)]
    found = json.loads(run(api.folder, "plan", "policy.yaml", "--quick", "-o", "json", **api.environ))
    assert [step["traffic"] for step in found["steps"]] == [5, 25, 100]
    assert found["forecast"] is None


def test_a_plan_expects_the_noise_that_past_rollouts_showed(api: LocalApi) -> None:
    forecasts = []
    quick = "steps: [25%, 100%]\nbake: 15m\nexpert: {evidence: [logs], early: true}\n"
    (api.folder / "policy.yaml").write_text(f"endpoint_name: recommender\nworkspace: prod\n{quick}")
    for tau in (0.15, 1.0):
        api.past.known = replace(SEEN, expected={"logs": {"error_rate": tau, "latency_p95": tau}}, taught=6)
        found = json.loads(run(api.folder, "plan", "policy.yaml", "-o", "json", **api.environ))
        assert found["profile"]["noise"]["rollouts"] == 6
        assert found["profile"]["noise"]["spreads"]["logs"]["error_rate"] == tau
        forecasts.append({fault["name"]: fault for fault in found["forecast"]["faults"]})
    quiet, restless = forecasts
    assert quiet["p95 ×1.3"]["detected"] > restless["p95 ×1.3"]["detected"]


def test_an_endpoint_without_traffic_says_what_to_do(api: LocalApi) -> None:
    assert "too few requests" in run(api.folder, "plan", "policy.yaml", code=5, **api.environ)
    assert "There is no policy canary" in run(api.folder, "plan", "canary", code=5, **api.environ)


def test_a_start_tells_what_it_will_see_where_that_is_known(api: LocalApi) -> None:
    api.past.stored = SEEN
    told = run(api.folder, "start", "policy.yaml", **api.environ).replace("\u2009", " ")
    assert "Plan      about 600, 3 000, 34 200 requests in the steps, 100 % after" in told
    assert "sees from +1.3 pp of errors" in told
    assert api.past.asked == []  # nobody was asked


def test_a_start_without_a_past_is_as_ever(api: LocalApi) -> None:
    told = run(api.folder, "start", "policy.yaml", **api.environ)
    assert "Plan " not in told
    assert "Watch it: rollout watch recommender" in told
