"""The last sentence of an observation: what became of the traffic, and what the rollout would have done.

The rule: what happened comes first, then what would have happened; numbers only where the data has come.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from rollout.analysis.sentences import increase, label, number
from rollout.analysis.verdict import Finding, Reason, Verdict
from rollout.lifecycle import sentences
from rollout.lifecycle.rollout import Rollout, Would

HALF_A_MINUTE = timedelta(seconds=30)
_ACTS = {"roll_back": "rolled back", "pause": "paused", "halt": "left the traffic alone and paged somebody"}


def promoted(rollout: Rollout) -> str:
    """The candidate has all traffic, and was judged through the last bake."""
    at = rollout.step_since or rollout.phase_since
    told = f"Observed to the end: {rollout.ref.name} is on {rollout.candidate} 100 % since {sentences.clock(at)}."
    if rollout.missed is not None:
        return f"{told} {_missed(rollout, rollout.missed, at if rollout.missed.at <= at else None)}"
    if rollout.verdict is None or rollout.verdict.action != "pass":
        return f"{told} {would_have(rollout)}"
    return f"{told} Rollout would have promoted it. {rollout.verdict.sentence}{_sight(rollout.verdict)}"


def put_back(rollout: Rollout) -> str:
    """A person took the candidate off the traffic."""
    at = rollout.left_at or rollout.phase_since
    told = f"Put back by hand: the traffic of {rollout.ref.name} is {rollout.confirmed} since {sentences.clock(at)}."
    return f"{told} {_missed(rollout, rollout.missed, at) if rollout.missed else would_have(rollout)}"


def would_have(rollout: Rollout) -> str:
    """What the rollout would have done in the end, in a sentence or two."""
    if rollout.missed is not None:
        return _missed(rollout, rollout.missed, None)
    if rollout.would is not None:
        return f"What Rollout said last, at {sentences.clock(rollout.would.at)}: w{rollout.would.sentence[1:]}"
    if rollout.verdict is not None:
        return f"There was nothing that Rollout would have done yet. {rollout.verdict.sentence}"
    return "Nothing was judged."


def _missed(rollout: Rollout, missed: Would, at: datetime | None) -> str:
    """`Rollout would have rolled back 7 min earlier, at 02:07:41 UTC, with ~120 harmed requests fewer: errors …`."""
    when = f"at {sentences.clock(missed.at)}"
    if at is not None:
        earlier = "earlier" if missed.at <= at else "later, when the data had come"
        apart = abs(at - missed.at)
        when = f"{sentences.minutes(apart) if apart >= HALF_A_MINUTE else 'moments'} {earlier}, {when}"
    fewer = _fewer(rollout, missed) if missed.act == "roll_back" else ""
    why = f": {missed.why}" if missed.why else ""
    return f"Rollout would have {_ACTS[missed.act]} {when}{fewer}{why}."


def _fewer(rollout: Rollout, missed: Would) -> str:
    """Requests harmed since then, as far as the evidence is still the same."""
    afresh = rollout.judged_from is None or rollout.judged_from > missed.at
    harmed = rollout.verdict.harmed - missed.harmed if rollout.verdict and not afresh else 0.0
    return f", ~{number(harmed)} bad requests fewer" if harmed >= 1 else ""


def _sight(verdict: Verdict) -> str:
    """From which regression on the candidate would have been caught, of what was not proven outright."""
    seen = [_from(finding) for finding in _deciding(verdict) if finding.compatible is not None]
    if not seen or verdict.reason is Reason.TIME:  # that one says it
        return ""
    return f" A regression from {' or '.join(seen)} up would have been seen."


def _deciding(verdict: Verdict) -> Sequence[Finding]:
    source = verdict.findings[0].source if verdict.findings else None
    return [finding for finding in verdict.findings if finding.source == source]


def _from(finding: Finding) -> str:
    return f"{label(finding.check)} +{increase(finding, finding.compatible or 0.0)}"
