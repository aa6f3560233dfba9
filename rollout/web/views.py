"""What the API shows, as JSON values: the keys that scripts and the commands rely on.

The rule: pure, and stable. A key that is there stays there with its meaning; times are ISO 8601 in UTC, shares of
traffic whole percents, shares of requests numbers from 0 to 1, latencies milliseconds. A pair is always (baseline,
candidate), stable's first.

A rollout: `endpoint workspace id policy description mode` (act or observe) · `kind made_from` (rollout, undo or retry, and
of which rollout's id) · `phase ended outcome sentence` (outcome:
promoted, rolled_back, undone, needs_person, not_started or null; of one that observed: would_have_promoted,
would_have_rolled_back or undecided) · `would {act at sentence}` (what one that observes would do, or null) ·
`stable candidate` · `step` (from 1)
`mirror_steps [{mirror_traffic bake_minutes state}]`, and then `steps [{traffic bake_minutes approve state}]` (none of an
undo; state: done, now, ahead) · `share` (the candidate's, wanted) ·
`traffic {wanted observed observed_at state}` ·
`checks [{name source unit baseline {n bad value} candidate {…} margin maximum evidence action role alert
sentence}]` (role: evidence, bound = only its maximum decides, dry_run, alert) · `verdict
{action reason sentence evidence threshold notes}` · `bake {blocks of}` (closed minutes judged) · `requests {baseline
candidate}` in this step · `eta {next_decision_at done_at}` · `harmed` (requests) `first_bad_at` · `paused_because` ·
`windows {allow open changes_at}` (of the policy, or null) · `freezes [{endpoint workspace reason by at until sentence}]` ·
`started_by created_at started_at phase_since` · `release {name id wave waves}` (that it is a part of, or null) ·
`clock {now speed}` (speed is 1 but for a sandbox).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rollout.analysis.verdict import Finding, Pair, Rate, Verdict
from rollout.lifecycle import Eta, Phase, Rollout, wanted_traffic
from rollout.lifecycle.stage import bake_blocks
from rollout.ports import Delivery
from rollout.web.freezes import freeze_view
from rollout.windows import allowed, closes, opens_next
from rollout.world import Command, CommandResult, DeploymentState, Event, Freeze, Snapshot

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PolicyFile:
    """A policy file that the daemon watches; `name` and what follows is of its last good version."""

    file: str
    name: str | None
    endpoint: str | None
    workspace: str | None
    digest: str | None
    loaded_at: datetime | None
    mistakes: tuple[str, ...] = ()


#: Until a rollout has moved traffic, an end is no roll back.
_OUTCOMES: Mapping[Phase, str] = {
    Phase.GUARDING: "promoted",
    Phase.SUCCEEDED: "promoted",
    Phase.ROLLED_BACK: "rolled_back",
    Phase.PAUSED: "needs_person",
    Phase.HALTED: "needs_person",
}


def rollout_view(
    rollout: Rollout,
    *,
    snapshot: Snapshot | None,
    eta: Eta,
    now: datetime,
    freezes: Sequence[Freeze] = (),
    speed: float = 1.0,
) -> Json:
    """One rollout with what Azure last showed of its endpoint."""
    verdict = _current(rollout)
    return {
        "endpoint": rollout.ref.name,
        "workspace": rollout.ref.workspace,
        "id": rollout.id,
        "policy": rollout.policy.name,
        "description": rollout.policy.description,
        "mode": rollout.policy.mode,
        "kind": _kind(rollout),
        "made_from": rollout.undo.of if rollout.undo else rollout.retry.of if rollout.retry else None,
        "phase": rollout.phase.value,
        "ended": rollout.ended,
        "outcome": outcome(rollout),
        "sentence": rollout.sentence,
        "stable": rollout.stable,
        "candidate": rollout.candidate,
        "step": rollout.step + 1,
        "mirror_steps": _mirror_steps(rollout),
        "steps": _steps(rollout),
        "share": _share(rollout),
        "would": _would(rollout),
        "traffic": _traffic(rollout, snapshot),
        "instances": _instances(rollout, snapshot, verdict),
        **_judged(verdict),
        "bake": {"blocks": verdict.blocks if verdict else 0, "of": bake_blocks(rollout)},
        "eta": {"next_decision_at": iso(eta.next_decision_at), "done_at": iso(eta.done_at)},
        "paused_because": rollout.paused_because if rollout.phase is Phase.PAUSED else None,
        "windows": _windows(rollout, now),
        "freezes": [] if rollout.ended else [freeze_view(freeze, now=now) for freeze in freezes],
        "started_by": rollout.created_by,
        "created_at": iso(rollout.created_at),
        "started_at": iso(rollout.started_at),
        "phase_since": iso(rollout.phase_since),
        "release": _release(rollout),
        "clock": {"now": iso(now), "speed": speed},
    }


def _release(rollout: Rollout) -> Json | None:
    part = rollout.part_of
    return {"name": part.release, "id": part.release_id, "wave": part.wave, "waves": part.waves} if part else None


def outcome(rollout: Rollout) -> str | None:
    """What a script that waits for the rollout is told; None while there is nothing to tell."""
    unapproved = rollout.phase is Phase.WAITING and rollout.next_step is not None and rollout.given is None
    if rollout.alerted or unapproved:
        return "needs_person"
    if rollout.undo is not None and rollout.phase is Phase.ROLLED_BACK:
        return "undone"
    if rollout.phase is Phase.ABORTED:
        return "rolled_back" if rollout.started_at else "not_started"
    if rollout.phase is Phase.OBSERVED:
        return _observed(rollout)
    return _OUTCOMES.get(rollout.phase)


def _kind(rollout: Rollout) -> str:
    return "undo" if rollout.undo else "retry" if rollout.retry else "rollout"


def _observed(rollout: Rollout) -> str:
    if rollout.missed is not None:
        return "would_have_rolled_back" if rollout.missed.act == "roll_back" else "undecided"
    return "would_have_promoted" if rollout.would is not None and rollout.would.act == "promote" else "undecided"


def _windows(rollout: Rollout, now: datetime) -> Json | None:
    """The policy's allowed times: whether the share may rise now, and when that changes next."""
    windows = rollout.policy.windows
    if windows is None or rollout.ended or rollout.observes:
        return None
    is_open = allowed(windows, now)
    changes = closes(windows, now) if is_open else opens_next(windows, now)
    return {"allow": list(windows.allow), "open": is_open, "changes_at": iso(changes)}


def _share(rollout: Rollout) -> int:
    """The candidate's share: as it is wanted, or as people have set it."""
    if rollout.observes:
        return rollout.confirmed.share(rollout.candidate or "") if rollout.confirmed else 0
    return rollout.share


def _would(rollout: Rollout) -> Json | None:
    would = rollout.would
    return {"act": would.act, "at": iso(would.at), "sentence": would.sentence} if would else None


def _current(rollout: Rollout) -> Verdict | None:
    """The verdict, unless it speaks of the step before: a new split is judged once Azure has confirmed it."""
    moving = rollout.phase in {Phase.PROGRESSING, Phase.WAITING} and rollout.step_since is None
    return None if moving else rollout.verdict


def _steps(rollout: Rollout) -> list[Json]:
    steps = rollout.policy.steps if rollout.undo is None else ()  # which goes back at once
    done = len(steps) if rollout.phase in {Phase.GUARDING, Phase.SUCCEEDED} else rollout.step
    current = rollout.started_at is not None or rollout.share > 0
    return [
        {
            "traffic": step.traffic,
            "bake_minutes": round(step.bake.total_seconds() / 60),
            "approve": step.approve is not None,
            "state": "done" if index < done else "now" if index == done and current else "ahead",
        }
        for index, step in enumerate(steps)
    ]


def _mirror_steps(rollout: Rollout) -> list[Json]:
    """Those before the first step; none where a retry or an undo leaves them out."""
    steps = () if rollout.undo or rollout.first else rollout.policy.mirror
    at = rollout.mirroring
    begun = rollout.started_at is not None or (at is not None and at.over_at is not None)
    done = len(steps) if begun else at.step if at else 0
    return [
        {
            "mirror_traffic": step.mirror_traffic,
            "bake_minutes": round(step.bake.total_seconds() / 60),
            "state": "done" if index < done else "now" if at and index == done else "ahead",
        }
        for index, step in enumerate(steps)
    ]


def _traffic(rollout: Rollout, snapshot: Snapshot | None) -> Json:
    wanted = wanted_traffic(rollout)
    endpoint = snapshot.endpoint if snapshot else None
    return {
        "wanted": wanted.as_traffic() if wanted else None,
        "observed": endpoint.traffic.as_traffic() if endpoint else None,
        "observed_at": iso(snapshot.requested_at) if snapshot and endpoint else None,
        "state": endpoint.state if endpoint else None,
    }


def _instances(rollout: Rollout, snapshot: Snapshot | None, verdict: Verdict | None) -> Json | None:
    """How many instances each of the two has, and their requests a minute, each, in the judged minutes of this step."""
    if rollout.pins is None:
        return None
    names, minutes = (rollout.stable, rollout.candidate), verdict.blocks if verdict else 0
    counts = (verdict.requests.baseline, verdict.requests.candidate) if verdict else (0, 0)
    found: Json = {}
    for role, name, pin, count in zip(("baseline", "candidate"), names, rollout.pins, counts, strict=True):
        seen = snapshot.deployment(name) if snapshot and name else None
        number = seen.pin.instances if isinstance(seen, DeploymentState) else pin.instances
        each = round(count / number / minutes, 1) if number and minutes else None
        found[role] = {"count": number, "per_minute": each}
    return found


def _judged(verdict: Verdict | None) -> Json:
    if verdict is None:
        return {"checks": [], "verdict": None, "requests": None, "harmed": 0.0, "first_bad_at": None}
    told = {
        "action": verdict.action,
        "reason": verdict.reason.value,
        "sentence": verdict.sentence,
        "evidence": verdict.evidence,
        "threshold": verdict.threshold,
        "notes": list(verdict.notes),
    }
    first_bad = verdict.first_bad
    return {
        "checks": [finding_view(finding) for finding in verdict.findings],
        "verdict": told,
        "requests": _pair(verdict.requests),
        "harmed": verdict.harmed,
        "first_bad_at": iso(datetime.fromtimestamp(first_bad * 60, UTC)) if first_bad is not None else None,
    }


def finding_view(finding: Finding) -> Json:
    """What one check saw in one source."""
    return {
        "name": finding.check,
        "source": finding.source,
        "unit": finding.unit,
        "baseline": _rate(finding.baseline),
        "candidate": _rate(finding.candidate),
        "margin": finding.margin,
        "maximum": finding.maximum,
        "evidence": finding.evidence,
        "action": finding.action,
        "role": finding.role,
        "alert": finding.alert,
        "sentence": finding.sentence,
    }


def _rate(rate: Rate) -> Json:
    return {"n": rate.n, "bad": rate.bad, "value": rate.value}


def _pair(pair: Pair) -> Json:
    return {"baseline": pair.baseline, "candidate": pair.candidate}


def event_view(event: Event) -> Json:
    """One line of a history."""
    return {
        "at": iso(event.at),
        "kind": event.kind,
        "sentence": event.sentence,
        "severity": event.severity.value if event.severity else None,
        "details": dict(event.details),
    }


def command_view(command_id: str, result: CommandResult | None) -> Json:
    """What became of a command: `state` is waiting, accepted or refused."""
    if result is None:
        return {"id": command_id, "state": "waiting", "sentence": "Written down; the next tick will answer."}
    return {
        "id": command_id,
        "state": "accepted" if result.accepted else "refused",
        "sentence": result.sentence,
    }


def written_view(command: Command) -> Json:
    """A command that was just written down."""
    return {**command_view(command.id, None), "verb": command.verb.value, "by": command.by, "at": iso(command.at)}


def delivery_view(delivery: Delivery) -> Json:
    """An alert on its way to one channel: `state` is waiting, delivered or dead."""
    alert = delivery.alert
    return {
        "id": delivery.id,
        "event_id": alert.id,
        "rollout_id": alert.rollout_id,
        "endpoint": alert.endpoint.name,
        "workspace": alert.endpoint.workspace,
        "channel": delivery.channel,
        "at": iso(alert.event.at),
        "kind": alert.event.kind,
        "severity": alert.event.severity.value if alert.event.severity else None,
        "sentence": alert.event.sentence,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "error": delivery.error,
        "next_at": iso(delivery.next_at),
    }


def policy_view(found: PolicyFile) -> Json:
    """A policy file: what is loaded from it, and its mistakes as it is now."""
    return {
        "name": found.name,
        "endpoint": found.endpoint,
        "workspace": found.workspace,
        "file": found.file,
        "digest": found.digest,
        "loaded_at": iso(found.loaded_at),
        "mistakes": list(found.mistakes),
    }


def history_view(events: Sequence[Event]) -> list[Json]:
    """A history, oldest first."""
    return [event_view(event) for event in events]


def iso(moment: datetime | None) -> str | None:
    """ISO 8601, or None."""
    return moment.isoformat() if moment else None
