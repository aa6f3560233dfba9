"""Releases over several endpoints, as the API offers them: start one, look, pause, resume, abort.

A release: `name id policy description phase ended outcome sentence` (outcome: promoted, stopped, needs_person or null) ·
`wave waves` (from 1) · `next_wave_at` (or null) · `between_minutes on_regression` · `members [{wave endpoint workspace
rollout_id state phase sentence stable candidate traffic needs_person}]` (state: ahead, running, promoted, lost, undone; what its
rollout says is null while it has none) · `events` (oldest first) · `started_by created_at phase_since` · `clock`.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from rollout.errors import PolicyError, RefusedError
from rollout.lifecycle import Phase, Rollout
from rollout.lifecycle.releases import Asked, Decision, Member, Release, ReleasePhase, new_release
from rollout.policy import Policy
from rollout.ports import Clock, ReleasingStore
from rollout.web import views
from rollout.world import EndpointRef, Snapshot

#: Events that a view carries.
MAX_EVENTS = 200
_OUTCOMES = {
    ReleasePhase.SUCCEEDED: "promoted",
    ReleasePhase.STOPPED: "stopped",
    ReleasePhase.ABORTED: "stopped",
    ReleasePhase.PAUSED: "needs_person",
}


class Conducting(Protocol):
    """Who steers releases (see `rollout.conductor`)."""

    def start(self, release: Release, *, key: str | None = None) -> Release:
        """Begin it. Raises ConflictError."""

    def ask(self, release_id: str, asked: Asked) -> Decision:
        """Do at once what a person asks."""


class Releasing:
    """Everything that the API can do with releases; safe to call from many threads."""

    def __init__(
        self,
        *,
        store: ReleasingStore,
        conductor: Conducting,
        clock: Clock,
        new_id: Callable[[], str],
        latest: Callable[[EndpointRef], Snapshot | None],
    ) -> None:
        self._store = store
        self._conductor = conductor
        self._clock = clock
        self._new_id = new_id
        self._latest = latest
        self._speed = 1.0 / clock.real_seconds(timedelta(seconds=1))

    def start(self, policy: Policy, refs: Sequence[EndpointRef], *, by: str, key: str | None = None) -> Release:
        """Begin a release; `refs` are the endpoints of the policy's waves. Raises ConflictError and PolicyError."""
        seen: set[tuple[str, str]] = set()
        for ref in refs:
            key_of = (ref.workspace, ref.name.casefold())
            if key_of in seen:
                raise PolicyError(f"waves: {ref} stands there twice in workspace {ref.workspace}: write it once.")
            seen.add(key_of)
        release = new_release(release_id=self._new_id(), policy=policy, refs=refs, by=by, now=self._clock.now())
        return self._conductor.start(release, key=key)

    def listed(self, *, active_only: bool, limit: int) -> Sequence[Release]:
        """Newest first."""
        return [kept.release for kept in self._store.releases(active_only=active_only, limit=limit)]

    def find(self, handle: str) -> Release:
        """The active release of this name, else its newest; also by its id."""
        kept = self._store.latest_release(handle)
        if kept is not None:
            return kept.release
        try:
            return self._store.load_release(handle).release
        except RefusedError:
            raise RefusedError(
                f"There is no release {handle}: `rollout release list` shows what there is; a policy with `waves` starts one."
            ) from None

    def ask(self, handle: str, asked: Asked) -> Decision:
        """Do at once what a person asks."""
        return self._conductor.ask(self.find(handle).id, asked)

    def view(self, release: Release) -> views.Json:
        """A release as the API shows it."""
        policy, rollouts = release.policy, {member.rollout_id: self._rollout(member) for member in release.members}
        waves = policy.waves
        between = waves.between if waves else timedelta()
        members = [self._member(release, member, rollouts[member.rollout_id]) for member in release.members]
        next_at = release.promoted_at + between if release.promoted_at and not release.ended else None
        return {
            "name": release.name,
            "id": release.id,
            "policy": policy.name,
            "description": policy.description,
            "phase": release.phase.value,
            "ended": release.ended,
            "outcome": _outcome(release, members),
            "sentence": release.sentence,
            "wave": release.wave + 1,
            "waves": release.waves,
            "next_wave_at": views.iso(next_at),
            "between_minutes": round(between.total_seconds() / 60),
            "on_regression": waves.on_regression if waves else None,
            "members": members,
            "events": views.history_view(release.events[-MAX_EVENTS:]),
            "started_by": release.created_by,
            "created_at": views.iso(release.created_at),
            "phase_since": views.iso(release.phase_since),
            "clock": {"now": views.iso(self._clock.now()), "speed": self._speed},
        }

    def _rollout(self, member: Member) -> Rollout | None:
        if not member.started:
            return None
        try:
            return self._store.load(member.undo_id if member.undone else member.rollout_id)
        except RefusedError:  # forgotten by now
            return None

    def _member(self, release: Release, member: Member, rollout: Rollout | None) -> views.Json:
        snapshot = self._latest(member.ref)
        endpoint = snapshot.endpoint if snapshot else None
        return {
            "wave": member.wave + 1,
            "endpoint": member.ref.name,
            "workspace": member.ref.workspace,
            "rollout_id": member.undo_id if member.undone else member.rollout_id,
            "state": _state(member),
            "phase": rollout.phase.value if rollout else None,
            "sentence": rollout.sentence if rollout else None,
            "stable": rollout.stable if rollout else None,
            "candidate": rollout.candidate if rollout else None,
            "traffic": endpoint.traffic.as_traffic() if endpoint else None,
            "needs_person": bool(rollout and not release.ended and _needs_person(rollout)),
        }


def _state(member: Member) -> str:
    if not member.started:
        return "ahead"
    if member.undone is not None:
        return "undone" if member.undone is Phase.ROLLED_BACK else "promoted" if member.undone.ended else "running"
    return "promoted" if member.promoted else "lost" if member.lost else "running"


def _needs_person(rollout: Rollout) -> bool:
    return rollout.phase is Phase.PAUSED or rollout.awaits_approval or rollout.fail_stands


def _outcome(release: Release, members: Sequence[views.Json]) -> str | None:
    """What a script that waits for the release is told; None while there is nothing to tell."""
    needs_person = any(member["needs_person"] for member in members)
    promoted = "promoted" if all(member["state"] == "promoted" for member in members) and not needs_person else None
    return _OUTCOMES.get(release.phase) or promoted or ("needs_person" if needs_person else None)


def release_answer(decision: Decision) -> views.Json:
    """What became of a person's wish: `state` is accepted or refused."""
    return {"state": "accepted" if decision.accepted else "refused", "sentence": decision.answer}
