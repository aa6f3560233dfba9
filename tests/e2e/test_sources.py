"""What a rollout is judged by, other than the traffic log: platform metrics alone, and checks of the policy's own."""

import pytest

from tests.e2e.test_endings import STEADFAST
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

BY_METRICS = (*STEADFAST, "expert: {evidence: [metrics]}")
#: Counts answers that took longer than a second; the model's own take milliseconds.
OWN_CHECK = """\
checks:
  error_rate: off
  client_errors: off
  latency_p95: off
  custom:
    - name: endless
      kql: |
        AmlOnlineEndpointTrafficLog
        | where _ResourceId =~ _endpoint and TimeGenerated >= _from and TimeGenerated < _to
        | where isnotempty(DeploymentName) and UserAgent !startswith "azureml-rollout"
        | summarize n = count(), bad = countif(TotalDurationMs > 1000)
            by minute = bin(TimeGenerated, 1m), deployment = DeploymentName
"""


@side_by_side(rps=10)
def test_without_a_log_metrics_promote(stage: Stage) -> None:
    """No diagnostic setting: nothing of this endpoint arrives in the log, and the policy does not ask for it."""
    stage.inject("gap", plane="monitor", on="logs", endpoint=stage.endpoint)
    stage.serve()
    stage.start(*BY_METRICS)
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert {check["source"] for check in end.view["checks"]} <= {"metrics"}


@side_by_side(rps=12)
def test_without_a_log_metrics_roll_back(stage: Stage) -> None:
    stage.inject("gap", plane="monitor", on="logs", endpoint=stage.endpoint)
    stage.serve()
    stage.start(*BY_METRICS)
    stage.until_confirmed(50)
    stage.inject("errors", deployment="green", share=0.7)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    worse = next(check for check in end.view["checks"] if check["name"] == "error_rate")
    assert (worse["source"], worse["action"]) == ("metrics", "fail")


@side_by_side(rps=12)
def test_a_check_of_its_own_rolls_back(stage: Stage) -> None:
    """Tried out first, as an author would; then it alone sees that the candidate's answers take seconds."""
    stage.serve(warm=100)
    policy = stage.home / "own.yaml"
    policy.write_text(f"endpoint_name: {stage.endpoint}\n{OWN_CHECK}", encoding="utf-8")
    tried = stage.daemon.run("check", "try", "-f", str(policy))
    assert tried.code == 0, tried
    assert f"Check endless on {stage.endpoint}" in tried.out
    stage.start(*(line for line in STEADFAST if not line.startswith("checks")), *OWN_CHECK.splitlines())
    stage.until_confirmed(50)
    stage.inject("latency", deployment="green", share=0.5, extra_ms=1500)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    worse = next(check for check in end.view["checks"] if check["name"] == "endless")
    assert (worse["source"], worse["action"]) == ("custom", "fail")
