"""The sentences that a rollout leaves, in one place, so that they read alike everywhere.

The rule: past tense for what happened, numbers with their n, UTC times, and for a person: what to do next.
"""

from collections.abc import Mapping
from datetime import datetime

from rollout.analysis.verdict import Finding, Rate, Verdict
from rollout.lifecycle.rollout import Rollout

THIN_SPACE = "\u2009"
#: Seconds within which Azure should confirm a roll back; a real traffic update takes 20 to 31 s.
CONFIRMED_WITHIN = 60
_NAMES = {"error_rate": "Errors", "client_errors": "Client errors"}


def number(value: float) -> str:
    """`4 812`: whole, with thin spaces between thousands."""
    return f"{round(value):,}".replace(",", THIN_SPACE)


def clock(moment: datetime) -> str:
    """`02:07:41 UTC`."""
    return f"{moment:%H:%M:%S} UTC"


def split_words(rollout: Rollout, share: int) -> str:
    """`blue 75 % + green 25 %`."""
    parts = [f"{name} {part} %" for name, part in ((rollout.stable, 100 - share), (rollout.candidate, share)) if part]
    return " + ".join(parts)


def step_words(rollout: Rollout) -> str:
    """`Step 2 of 4`."""
    return f"Step {rollout.step + 1} of {len(rollout.policy.steps)}"


def worst(verdict: Verdict | None) -> Finding | None:
    """The finding that speaks loudest against the candidate; one that failed first."""
    if verdict is None or not verdict.findings:
        return None
    rank = {"fail": 3, "retreat": 2, "hold": 1, "pass": 0}
    return max(verdict.findings, key=lambda finding: (rank[finding.action], finding.evidence))


def comparison(finding: Finding) -> str:
    """`Errors 6.8 % vs 0.3 % (61 of 900 vs 8 of 2 700)`: candidate first, as people read it."""
    name = _NAMES.get(finding.check, finding.check.replace("latency_", "Latency "))
    candidate, baseline = finding.candidate, finding.baseline
    if finding.unit == "ms":
        values = f"{_value(candidate, 'ms')} vs {_value(baseline, 'ms')}"
        return f"{name} {values} (n = {number(candidate.n)} vs {number(baseline.n)})"
    counts = f"({number(candidate.bad)} of {number(candidate.n)} vs {number(baseline.bad)} of {number(baseline.n)})"
    return f"{name} {_value(candidate, 'share')} vs {_value(baseline, 'share')} {counts}"


def _value(rate: Rate, unit: str) -> str:
    if rate.value is None:
        return "no data"
    if unit == "ms":
        return f"{number(rate.value)} ms"
    percent = 100 * rate.value
    return f"{percent:.1f} %" if percent >= 1 else f"{percent:.2f} %"


def rolled_back(rollout: Rollout, at: datetime) -> str:
    """The line that ends a roll back that worked: it says it all."""
    line = (
        f"Rolled back, no action needed: {rollout.ref.name} back on {rollout.stable} 100 % since {clock(at)} "
        f"(was {rollout.was_share} % {rollout.candidate}). "
    )
    finding = worst(rollout.verdict)
    line += f"{comparison(finding)}." if finding and finding.action == "fail" else f"{_capital(rollout.cause or '')}."
    harmed = rollout.verdict.harmed if rollout.verdict else 0.0
    return line + (f" ~{number(harmed)} requests harmed." if harmed >= 1 else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def by_hand(rollout: Rollout) -> str:
    """The command with which a person does it, where Azure does not confirm our write."""
    return (
        f"az ml online-endpoint update --name {rollout.ref.name} --workspace-name {rollout.ref.workspace} "
        f'--traffic "{rollout.stable}=100"'
    )


def ending_details(rollout: Rollout, now: datetime) -> Mapping[str, object]:
    """What the long form of an alert tells (JSON values; absent where unknown)."""
    verdict = rollout.verdict
    first_bad = verdict.first_bad if verdict else None
    found: dict[str, object | None] = {
        "now": split_words(rollout, rollout.share),
        "was_share": rollout.was_share,
        "cause": rollout.cause,
        "findings": [finding_details(finding) for finding in verdict.findings] if verdict else None,
        "first_bad_at": datetime.fromtimestamp(first_bad * 60, now.tzinfo).isoformat() if first_bad else None,
        "decided_at": _iso(rollout.decided_at),
        "sent_at": _iso(rollout.sent_at),
        "confirmed_at": _iso(rollout.confirmed_at if rollout.ended else None),
        "harmed": round(verdict.harmed, 1) if verdict else None,
        "started_by": rollout.created_by,
        "started_at": _iso(rollout.created_at),
        "policy": rollout.policy.name,
        "runbook": rollout.policy.runbook,
    }
    return {key: value for key, value in found.items() if value is not None}


def finding_details(finding: Finding) -> Mapping[str, object]:
    """One check as JSON values."""
    return {
        "check": finding.check,
        "source": finding.source,
        "unit": finding.unit,
        "baseline": _rate(finding.baseline),
        "candidate": _rate(finding.candidate),
        "margin": finding.margin,
        "evidence": finding.evidence,
        "action": finding.action,
        "sentence": finding.sentence,
    }


def _rate(rate: Rate) -> Mapping[str, object]:
    return {"bad": rate.bad, "n": rate.n, "value": rate.value}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
