"""The sentences that a rollout leaves, in one place, so that they read alike everywhere.

The rule: past tense for what happened, numbers with their n, UTC times, and for a person: what to do next.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise

from rollout.analysis.sentences import accused, capital, number
from rollout.analysis.verdict import Finding, Rate, Reason, Verdict
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.splits import wanted_traffic

#: Seconds within which Azure should confirm a roll back; a real traffic update takes 20 to 31 s.
CONFIRMED_WITHIN = 60


def clock(moment: datetime) -> str:
    """`02:07:41 UTC`."""
    return f"{moment:%H:%M:%S} UTC"


def moment(at: datetime) -> str:
    """`Mon 02:07 UTC`: for what lies hours ahead."""
    return f"{at:%a %H:%M} UTC"


def minutes(duration: timedelta) -> str:
    """`45 min`, `8 h`."""
    total = round(duration / timedelta(minutes=1))
    return f"{total // 60} h" if total and total % 60 == 0 else f"{total} min"


def split_words(rollout: Rollout, share: int) -> str:
    """`blue 75 % + green 25 %`."""
    parts = [f"{name} {part} %" for name, part in ((rollout.stable, 100 - share), (rollout.candidate, share)) if part]
    return " + ".join(parts)


def ways(rollout: Rollout, *, resume: str) -> str:
    """What a person can do about a pause: `resume` says what that would do."""
    name = rollout.ref.name
    return (
        f"`rollout resume {name}{' --reason …' if rollout.fail_stands else ''}` {resume}; "
        f"`rollout abort {name} --reason …` puts all traffic back on {rollout.stable}."
    )


def worst(verdict: Verdict | None) -> Finding | None:
    """The finding that speaks loudest against the candidate, of those that decide; one that failed first."""
    deciding = [finding for finding in verdict.findings if finding.role in {"evidence", "bound"}] if verdict else []
    rank = {"fail": 3, "retreat": 2, "hold": 1, "pass": 0}
    return max(deciding, key=lambda finding: (rank[finding.action], finding.evidence), default=None)


def rolled_back(rollout: Rollout) -> str:
    """The line that ends a roll back that worked: it says it all."""
    at = rollout.confirmed_at or rollout.phase_since
    line = (
        f"Rolled back, no action needed: {rollout.ref.name} back on {rollout.stable} 100 % since {clock(at)} "
        f"(was {rollout.was_share} % {rollout.candidate}). "
    )
    finding = worst(rollout.verdict)
    counted = finding is not None and finding.action == "fail" and not _says_more(rollout.verdict, finding)
    line += f"{capital(accused(finding) if finding and counted else rollout.cause or '').rstrip('.')}."
    harmed = rollout.verdict.harmed if rollout.verdict else 0.0
    return line + (f" ~{number(harmed)} requests harmed." if harmed >= 1 else "")


def _says_more(verdict: Verdict | None, finding: Finding) -> bool:
    """Not the counts of a check are why it failed: probes in a row, all that it has harmed, or no stable beside it."""
    if not finding.baseline.n:
        return True
    reason = verdict.reason if verdict else None
    return reason is Reason.HARM or (reason is Reason.HARD_GUARD and finding.source == "probes")


def undone(rollout: Rollout) -> str:
    """The line that ends an undo that worked."""
    at = rollout.confirmed_at or rollout.phase_since
    took = round((at - rollout.created_at).total_seconds())
    return (
        f"Undone: {rollout.ref.name} back on {rollout.stable} 100 % since {clock(at)} (was {rollout.was_share} % "
        f"{rollout.candidate}), {f'{took} s' if took < 120 else minutes(at - rollout.created_at)} after it was asked for; "
        f"{rollout.cause}. Nothing was judged. {rollout.candidate} is kept without traffic."
    )


def aborted(rollout: Rollout) -> str:
    """The line that ends a roll back that a person asked for."""
    at = rollout.confirmed_at or rollout.phase_since
    return (
        f"Aborted: {rollout.ref.name} back on {rollout.stable} 100 % since {clock(at)} "
        f"(was {rollout.was_share} % {rollout.candidate}), {rollout.cause}."
    )


def by_hand(rollout: Rollout) -> str:
    """The command with which a person does it, where Azure does not confirm our write."""
    return (
        f"az ml online-endpoint update --name {rollout.ref.name} {_place(rollout)} "
        f'--traffic "{rollout.stable}=100 {rollout.candidate}=0"'
    )


def _place(rollout: Rollout) -> str:
    """Where `az` finds the endpoint, from its resource id; the settings know a workspace by a name of their own."""
    parts = (rollout.resource_id or "").split("/")
    place = {key.casefold(): name for key, name in pairwise(parts)}
    return f"--resource-group {place.get('resourcegroups', '…')} --workspace-name {place.get('workspaces', '…')}"


def fate(rollout: Rollout) -> str:
    """What becomes of the old stable after a promotion: `blue is kept without traffic`."""
    then = {"scale_to_1": "scaled to one instance next", "delete": "deleted next"}
    return f"{rollout.stable} is {then.get(rollout.policy.after.then, 'kept without traffic')}"


def explained(rollout: Rollout, now: datetime) -> Mapping[str, object]:
    """What the long form of an alert tells (JSON values; absent where unknown)."""
    verdict = rollout.verdict
    first_bad = verdict.first_bad if verdict else None
    found: dict[str, object | None] = {
        "now": _where(rollout),
        "was_share": rollout.was_share if rollout.decided_at else None,
        "cause": rollout.cause,
        "findings": [finding_details(finding) for finding in verdict.findings if _saw(finding)] if verdict else None,
        "first_bad_at": _iso(datetime.fromtimestamp(first_bad * 60, now.tzinfo)) if first_bad is not None else None,
        "decided_at": _iso(rollout.decided_at),
        "sent_at": _iso(rollout.sent_at),
        "confirmed_at": _iso(rollout.confirmed_at if rollout.ended else None),
        "harmed": round(verdict.harmed, 1) if verdict else None,
        "started_by": rollout.created_by,
        "started_at": _iso(rollout.created_at),
        "policy": rollout.policy.name,
        "next": _next(rollout),
        "runbook": rollout.policy.runbook,
    }
    return {key: value for key, value in found.items() if value is not None}


def _saw(finding: Finding) -> bool:
    return bool(finding.baseline.n or finding.candidate.n)


def _where(rollout: Rollout) -> str | None:
    """The split that Azure last confirmed, and where it is going if it is going elsewhere; None before any."""
    shown = f"{rollout.ref.name}: {rollout.confirmed}" if rollout.confirmed else rollout.ref.name
    wanted = wanted_traffic(rollout)
    if rollout.confirmed is None and wanted is None:
        return None
    return f"{shown}, on its way to {wanted}" if wanted is not None and wanted != rollout.confirmed else shown


_NEXTS = {
    Phase.PROGRESSING: "Nothing to do: the rollout goes on by itself.",
    Phase.RETREATED: "Nothing to do: the rollout goes back to its share, or rolls back, by itself.",
    Phase.ROLLING_BACK: "Wait for the message that Azure has confirmed it; if none comes in a minute, you are paged.",
    Phase.ROLLED_BACK: "Nothing to do for the traffic. Mend the candidate, then start a new rollout.",
    Phase.PROMOTING: "Nothing to do: the last traffic is on its way.",
    Phase.GUARDING: "Nothing to do: the old stable is kept, and takes the traffic back by itself if the candidate fails.",
    Phase.SUCCEEDED: "Nothing to do. Delete the old stable deployment when you no longer want it to fall back on.",
    Phase.OBSERVING: "What becomes of the traffic is up to people: Rollout only observes it.",
    Phase.OBSERVED: "Nothing to do for Rollout: it has written nothing.",
    Phase.HALTED: "Look at the endpoint now: nothing moves its traffic until a person does.",
}


def _next(rollout: Rollout) -> str | None:
    if rollout.phase is Phase.WAITING:
        if rollout.shut is not None:
            return "Nothing to do: the rollout goes on by itself when the share may rise again."
        if rollout.awaits_approval:
            return f"Approve or reject: `rollout approve {rollout.ref.name}` or `rollout reject {rollout.ref.name}`."
        if rollout.alerted:
            return f"Decide how to go on: {ways(rollout, resume='goes on')}"
        return "The rollout goes on by itself when there is something to judge again."
    if rollout.phase is Phase.PAUSED:
        return f"Decide how to go on: {ways(rollout, resume='goes on')}"
    retires = rollout.phase is Phase.SUCCEEDED and rollout.policy.after.then != "keep"
    return "Nothing to do." if retires else _NEXTS.get(rollout.phase)


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
        "role": finding.role,
        "sentence": finding.sentence,
    }


def _rate(rate: Rate) -> Mapping[str, object]:
    return {"bad": rate.bad, "n": rate.n, "value": rate.value}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
