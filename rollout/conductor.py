"""The conductor: looks at the rollouts of each release, decides, and saves what follows.

The rule: all that a release does is written in the store, in one transaction with its state: the rollouts that begin, the
commands to those that run, the alerts. So there is nothing between a decision and its effects, and of two replicas that
decide at once, one is told to look again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from rollout.errors import ConflictError, RefusedError, RolloutError
from rollout.lifecycle.releases import Asked, Decision, Facts, Member, Release, Seen, is_busy, steer
from rollout.lifecycle.releases.release import Told
from rollout.policy import Policy
from rollout.ports import Clock, ReleasingStore
from rollout.world import Alert, CommandResult, EndpointRef, Severity

#: How often somebody else may be faster before a person is told so.
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Conductor:
    """Steers releases. `wake` makes somebody look for rollouts that are due, `started` looks at an endpoint soon."""

    store: ReleasingStore
    clock: Clock
    recipients: Callable[[Policy, Severity], tuple[str, ...]]
    wake: Callable[[], None]
    started: Callable[[EndpointRef], None]
    log: structlog.stdlib.BoundLogger

    def start(self, release: Release, *, key: str | None = None) -> Release:
        """Begin a release, or return the one that the same `key` began before.

        Raises ConflictError where one of its name runs, or an endpoint of its first wave has an active rollout.
        """
        before = self.store.begun_by(key) if key else None
        if before is not None:
            return before.release
        facts = self._facts(release)
        for member in release.in_wave(0):
            other = facts.seen[member.rollout_id].other
            if other is not None and is_busy(other):
                raise ConflictError(
                    f"Endpoint {member.ref} already has an active rollout ({other.id}, {other.phase}):"
                    " wait until it ends, or abort it."
                )
        decision = steer(release, facts, self.clock.now())
        self.store.create_release(decision, self._alerts(decision), key=key)
        self._tell(decision)
        return decision.release

    def look(self) -> None:
        """Look at every release that has not ended; trouble with one is no trouble for the others."""
        for kept in self.store.releases(active_only=True, limit=1000):
            try:
                self._steer(kept.release, kept.version)
            except ConflictError as error:  # somebody was faster: the next look sees what they did
                self.log.info("A release changed under way.", release=kept.release.name, reason=error.message)
            except RolloutError as error:
                self.log.warning("A release was not looked at.", release=kept.release.name, reason=error.message)

    def ask(self, release_id: str, asked: Asked) -> Decision:
        """Do at once what a person asks. Raises ConflictError where others keep being faster."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._ask(release_id, asked)
            except ConflictError:
                continue
        return self._ask(release_id, asked)

    def _ask(self, release_id: str, asked: Asked) -> Decision:
        kept = self.store.load_release(release_id)
        return self._steer(kept.release, kept.version, asked)

    def _steer(self, release: Release, version: int, asked: Asked | None = None) -> Decision:
        decision = steer(release, self._facts(release), self.clock.now(), asked)
        if decision.release != release:
            self.store.save_release(decision, self._alerts(decision), version=version)
            self._tell(decision)
        return decision

    def _tell(self, decision: Decision) -> None:
        for told in decision.told:
            self.log.info(told.event.kind, release=decision.release.name, sentence=told.event.sentence)
        for start in decision.starts:
            self.started(start.rollout.ref)
        if decision.starts or decision.commands:
            self.wake()

    # --- reads

    def _facts(self, release: Release) -> Facts:
        return Facts(
            seen={member.rollout_id: self._seen(member) for member in release.members},
            answers=dict(self._answers(release)),
        )

    def _seen(self, member: Member) -> Seen:
        newest = self.store.latest(member.ref)
        if newest is not None and newest.id == member.rollout_id:
            return Seen(rollout=newest)
        if not member.started:
            return Seen(other=newest)
        try:
            return Seen(rollout=self.store.load(member.rollout_id), other=newest)
        except RefusedError:  # forgotten by now
            return Seen(other=newest)

    def _answers(self, release: Release) -> Sequence[tuple[str, CommandResult]]:
        waiting = [member.order.id for member in release.members if member.order and member.order.accepted is None]
        found = [(name, self.store.command_result(name)) for name in waiting]
        return [(name, answer) for name, answer in found if answer is not None]

    # --- alerts

    def _alerts(self, decision: Decision) -> Sequence[Alert]:
        found = [self._alert(decision.release, told, number) for number, told in enumerate(decision.told)]
        return [alert for alert in found if alert is not None]

    def _alert(self, release: Release, told: Told, number: int) -> Alert | None:
        """It hangs on the rollout that it is about."""
        event, about = told.event, next((one for one in release.members if one.rollout_id == told.about), None)
        channels = self.recipients(release.policy, event.severity) if event.severity else ()
        if not channels or about is None:
            return None
        return Alert(
            id=f"{release.id}-{event.kind}-{event.at:%Y%m%dT%H%M%S.%f}-{number}",
            rollout_id=about.rollout_id,
            endpoint=about.ref,
            event=event,
            channels=channels,
            summary=_summary(release),
        )


def _summary(release: Release) -> dict[str, object]:
    """The release for the long form of an alert (JSON values)."""
    done = [member.ref.name for member in release.members if member.promoted]
    left = [member.ref.name for member in release.members if not member.promoted]
    parts = [f"promoted: {', '.join(done)}" if done else "", f"not promoted: {', '.join(left)}" if left else ""]
    found: dict[str, object | None] = {
        "now": f"release {release.name}, wave {release.wave + 1} of {release.waves}; " + "; ".join(filter(None, parts)),
        "started_by": release.created_by,
        "started_at": release.created_at.isoformat(),
        "policy": release.policy.name,
        "next": f"See `rollout release show {release.name}`." if not release.ended else None,
        "runbook": release.policy.runbook,
    }
    return {key: value for key, value in found.items() if value is not None}
