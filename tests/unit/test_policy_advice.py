"""Advice: what `rollout lint` says of a policy without mistakes."""

from pathlib import Path

import pytest

from rollout.cli.linting import CLEAN, lint_files
from rollout.policy import advice, parse_policy

METRICS = "expert: {evidence: [metrics]}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", []),
        ("checks: {answer_size: {}}\n", []),
        (METRICS, ["checks.latency_p95: metrics tell latency without counts, so it will only report"]),
        (
            METRICS + "checks: {latency_p95: {max: 800ms}}\n",
            ["checks.latency_p95: metrics tell latency without counts"],
        ),
        (METRICS + "checks: {latency_p95: off}\n", []),
        (METRICS + "checks: {latency_p95: {dry_run: true}}\n", []),
        (METRICS + "checks: {latency_p95: off, answer_size: {}}\n", ["checks.answer_size: only the logs tell"]),
        (
            "expert: {evidence: [probes], harm_budget: 9}\nprobes: {requests: ['{}']}\n",
            ["expert.harm_budget: only logs"],
        ),
        ("probes: {requests: ['{}']}\n", []),
        (
            "probes: {requests: ['{}']}\nchecks: {error_rate: off}\n",
            ["checks.error_rate: it is off, so a candidate whose"],
        ),
        ("probes: {requests: ['{}']}\nchecks: {error_rate: {dry_run: true}}\n", ["checks.error_rate: it is a dry run"]),
        (
            "checks: {custom: [{name: empty, kql: AmlOnlineEndpointTrafficLog}]}\nexpert: {evidence: []}\n",
            [f"checks.{name}: this policy is judged by" for name in ("error_rate", "client_errors", "latency_p95")],
        ),
    ],
)
def test_a_policy_is_told_what_it_will_not_do(text: str, told: list[str]) -> None:
    found = advice(parse_policy(f"endpoint_name: diners\n{text}", file="p.yaml"))
    assert len(found) == len(told)
    for sentence, begin in zip(found, told, strict=True):
        assert sentence.startswith(begin)


def test_lint_prints_notes_and_is_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"endpoint_name: diners\n{METRICS}")
    assert lint_files([file], effective=False, config=None) == CLEAN
    note, count = capsys.readouterr().out.splitlines()
    assert note.startswith(f"{file}: note: checks.latency_p95: ")
    assert count == "1 policy without mistakes."
