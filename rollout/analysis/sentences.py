"""Numbers into words: the sentences that dashboard, alert, log and command line all print.

The rule: candidate first, then stable; every rate comes with its counts; thousands are parted by thin spaces.
"""

from collections.abc import Sequence
from datetime import timedelta

from rollout.analysis.terms import Finding, Rate

THIN_SPACE = "\u2009"
_LABELS = {"error_rate": "errors", "client_errors": "client errors", "answer_size": "answer size"}


def number(value: float) -> str:
    """`4 812`, whole."""
    return f"{round(value):,}".replace(",", THIN_SPACE)


def percent(share: float) -> str:
    """`0.31 %`, `6.8 %`, `53 %`: two figures that matter."""
    value = 100.0 * share
    if value == 0.0:
        return "0 %"
    places = 2 if value < 0.995 else 1 if value < 9.95 else 0
    return f"{value:.{places}f} %"


def points(share: float) -> str:
    """`0.5 pp`: a difference of shares, at least 0.01 pp."""
    value = max(100.0 * share, 0.01)
    places = 2 if value < 0.995 else 1 if value < 9.95 else 0
    text = f"{value:.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} pp"


def evidence(value: float) -> str:
    """`0.4`, `35`, `over 9 999`."""
    if value > 9_999.0:
        return f"over {number(9_999)}"
    return f"{value:.1f}" if value < 10.0 else number(value)


def increase(finding: Finding, value: float) -> str:
    """An increase in the unit of its check: `0.5 pp`, `25 %`."""
    return points(value) if finding.unit == "share" else f"{max(100.0 * value, 1.0):.0f} %"


def value(rate: Rate, unit: str) -> str:
    """`6.8 %`, `84 ms` or `412 B`."""
    if rate.value is None:
        return "unknown"
    if unit == "bytes":
        return size(rate.value)
    return percent(rate.value) if unit == "share" else f"{number(rate.value)} ms"


def size(value: float) -> str:
    """`412 B`, `1.4 kB`, `23 MB`: of 1 000 bytes each."""
    for unit in ("B", "kB"):
        if value < 999.5:
            return f"{value:.2g} {unit}" if value < 9.95 and unit != "B" else f"{number(value)} {unit}"
        value /= 1000.0
    return f"{value:.2g} MB" if value < 9.95 else f"{number(value)} MB"


def seconds(value: timedelta) -> str:
    """`4 s`, `250 ms`."""
    found = value.total_seconds()
    return f"{found:g} s" if found >= 1.0 else f"{1000.0 * found:g} ms"


def label(check: str) -> str:
    """`errors`, `client errors`, `p95`; an own check's name as it is."""
    return _LABELS.get(check, check.removeprefix("latency_"))


def accused(finding: Finding) -> str:
    """The comparison that speaks against the candidate; of probes, which no caller sent, it says so."""
    return comparison(finding, of=" of the probes" if finding.source == "probes" else "")


def comparison(finding: Finding, *, of: str = "") -> str:
    """`errors 0.31 % vs 0.29 % (15 of 4 812 vs 42 of 14 390)`, `p95 84 ms vs 86 ms`."""
    candidate, baseline = finding.candidate, finding.baseline
    both = f"{label(finding.check)}{of} {value(candidate, finding.unit)} vs {value(baseline, finding.unit)}"
    if finding.unit != "share":
        return both
    return (
        f"{both} ({number(candidate.bad)} of {number(candidate.n)} vs {number(baseline.bad)} of {number(baseline.n)})"
    )


def comparisons(findings: Sequence[Finding]) -> str:
    """All of them, in the order of the checks; without the client errors where there are none."""
    told = [
        comparison(finding)
        for finding in findings
        if finding.candidate.n and (finding.check != "client_errors" or finding.candidate.bad or finding.baseline.bad)
    ]
    return ", ".join(told) or "nothing to compare yet"


def accusation(finding: Finding, combined: float, threshold: float, *, beside: str = "") -> str:
    """What speaks against the candidate, with what is allowed and how loudly it speaks."""
    allowed = f"allowed +{increase(finding, finding.margin)}"
    return f"{accused(finding)}, {allowed}; {beside}evidence {evidence(combined)}, fails at {evidence(threshold)}"


def unproven(findings: Sequence[Finding], proof: float) -> str:
    """What a pass by time leaves open: which checks, and from which increase on they would have been seen."""
    left = [finding for finding in findings if finding.not_worse < proof]
    return f"no evidence against; not proven: {', '.join(map(_seen, left))}"


def _seen(finding: Finding) -> str:
    name = label(finding.check)
    return name if finding.compatible is None else f"{name} (sees from +{increase(finding, finding.compatible)} up)"


def of_check(finding: Finding, proof: float, threshold: float) -> str:
    """One check's own sentence, as a line of a table or list; it would fail at `threshold`."""
    if not finding.candidate.n and not finding.baseline.n:
        return f"{label(finding.check)}: {'dry run, ' if finding.role == 'dry_run' else ''}{_nothing(finding)}"
    told = comparison(finding)
    if finding.role == "dry_run":
        loud = finding.evidence >= threshold
        return f"{told}: dry run, {_worse(finding) if loud else _apart(finding, proof)}"
    if finding.role == "bound":
        return f"{told}: {_against_maximum(finding)}"
    if finding.action in {"fail", "retreat"}:
        return f"{told}: {_worse(finding)}"
    return f"{told}: {_apart(finding, proof)}"


def _nothing(finding: Finding) -> str:
    return "nothing was counted yet" if finding.source == "custom" else "no requests yet"


def _worse(finding: Finding) -> str:
    return f"worse than the +{increase(finding, finding.margin)} allowed (evidence {evidence(finding.evidence)})"


def _apart(finding: Finding, proof: float) -> str:
    """What is known where nothing speaks against the candidate."""
    if finding.unit == "ms" and finding.bar is None:
        if finding.source == "metrics":
            return "Azure's metrics give no counts to judge latency with"
        return "not comparable yet, too little is known of stable's latency"
    if finding.not_worse >= proof:
        return "proven not worse"
    if finding.compatible is None:
        return "too few requests to say"
    return f"not proven; sees from +{increase(finding, finding.compatible)} up"


def _against_maximum(finding: Finding) -> str:
    most = f"the maximum of {number(finding.maximum or 0.0)} ms, as Azure reported"
    return f"above {most}" if finding.action == "fail" else f"held against {most}"


def capital(text: str) -> str:
    """With its first letter raised."""
    return text[:1].upper() + text[1:]
