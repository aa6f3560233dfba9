"""Looks at what triggers wait for, writes down what came, and starts what is to be started.

The rule: one slow look at each endpoint whose policy has a trigger, however many rollouts run; an endpoint that cannot be
read blinds no other. Everything is written down before it is acted on, and every act may be done twice: a start is claimed
by its key, the order to end a rollout has an id of its own.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from rollout.errors import ConflictError, PolicyError, RefusedError, RolloutError
from rollout.lifecycle import Rollout
from rollout.policy import Policy
from rollout.ports import Clock, Models, ModelVersion, Snapshots, Start, StartState, Store
from rollout.triggers import deployments, models, schedule
from rollout.triggers.deciding import Begin, Drop, Move, decide
from rollout.triggers.deciding import Replace as ReplaceMove
from rollout.triggers.scene import Scene, key_of
from rollout.world import Alert, Command, EndpointRef, Event, Severity

#: On the daemon's clock.
EVERY = timedelta(seconds=60)
#: An endpoint's rollouts that are looked through, newest first, and what waits of it.
LAST_ROLLOUTS, MOST_WAITING = 20, 50
BY = "a trigger"


class Starting(Protocol):
    """The one way in which rollouts begin (see `rollout.web.service`)."""

    def ref_of(self, policy: Policy) -> EndpointRef:
        """The endpoint that the policy is about. Raises PolicyError."""

    def start(self, policy: Policy, *, by: str, candidate: str | None = None, key: str | None = None) -> Rollout:
        """Begin a rollout, or return the one that the same `key` began. Raises RolloutError."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A policy's trigger, and how its last look went; `next_due` is that of its schedule."""

    policy: Policy
    ref: EndpointRef | None
    since: datetime | None
    looked_at: datetime | None
    trouble: str | None
    next_due: datetime | None


class Watcher:
    """Runs in one thread; `watched` may be asked from any."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        snapshots: Snapshots,
        policies: Callable[[], Sequence[Policy]],
        models: Mapping[str, Models],
        starting: Starting,
        recipients: Callable[[Policy, Severity], tuple[str, ...]],
        log: FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._clock = clock
        self._snapshots = snapshots
        self._policies = policies
        self._models = models
        self._starting = starting
        self._recipients = recipients
        self._log = log
        self._looks: Mapping[str, tuple[datetime, str | None]] = {}

    def look(self) -> None:
        """See what came for every policy, and start what is to be started. Raises the first error, after all looks."""
        errors: list[RolloutError] = []
        looks: dict[str, tuple[datetime, str | None]] = {}
        for policy in self._triggered():
            now, trouble = self._clock.now(), None
            try:
                self._look_at(policy, now)
            except RolloutError as error:
                errors.append(error)
                trouble = error.message
            looks[policy.name] = now, trouble
        self._looks = looks
        if errors:
            raise errors[0]

    def watched(self) -> Sequence[Watched]:
        """Every policy with a trigger."""
        return [self._told(policy) for policy in self._triggered()]

    def _triggered(self) -> Sequence[Policy]:
        return [policy for policy in self._policies() if policy.trigger is not None]

    def _told(self, policy: Policy) -> Watched:
        trigger = policy.trigger
        looked_at, trouble = self._looks.get(policy.name, (None, None))
        try:
            ref = self._starting.ref_of(policy)
        except PolicyError as error:
            ref, trouble = None, error.message
        mark = self._store.find_start(_mark(policy, ref)) if ref else None
        due = schedule.next_due(trigger.schedule, after=self._clock.now()) if trigger and trigger.schedule else None
        return Watched(
            policy=policy,
            ref=ref,
            since=mark.at if mark else None,
            looked_at=looked_at,
            trouble=trouble,
            next_due=due,
        )

    # --- one policy

    def _look_at(self, policy: Policy, now: datetime) -> None:
        ref = self._starting.ref_of(policy)
        snapshot = self._snapshots.fresh(ref, deployments=True)
        if snapshot.endpoint is None:
            return
        rollouts = self._store.rollouts(ref, limit=LAST_ROLLOUTS)
        versions = self._versions(ref, policy)
        scene = Scene(ref=ref, policy=policy, snapshot=snapshot, rollouts=rollouts, now=now, models=versions)
        self._note(self._with_noted(scene))
        waiting = self._store.starts(ref, state="waiting", limit=MOST_WAITING)
        for move in decide(self._with_noted(scene), [start for start in waiting if start.policy == policy.name]):
            self._do(scene, move)

    def _versions(self, ref: EndpointRef, policy: Policy) -> Sequence[ModelVersion]:
        trigger = models.trigger_of(policy)
        if trigger is None:
            return ()
        return self._models[ref.workspace].versions(trigger.name, registry=trigger.registry)

    def _with_noted(self, scene: Scene) -> Scene:
        keys = [key_of(scene.ref, found) for found in scene.deployments()]
        found = [start for key in keys if (start := self._store.find_start(key)) is not None]
        return replace(scene, noted={start.key: start for start in found})

    def _note(self, scene: Scene) -> None:
        """Write down what came since the last look; the first look only learns what is there."""
        key = _mark(scene.policy, scene.ref)
        mark = self._store.find_start(key)
        seen = [*deployments.appeared(scene, first=mark is None), *models.appeared(scene, first=mark is None)]
        if mark is None:
            seen.append(_first_look(scene, key))
        else:
            seen += schedule.came(scene, after=mark.at)
        for start in self._store.note_starts(seen):
            if start.state == "waiting":
                self._log.info(
                    "A trigger has something to start.", endpoint=start.ref.name, policy=start.policy, what=start.what
                )

    # --- acting

    def _do(self, scene: Scene, move: Move) -> None:
        match move:
            case Begin():
                self._begin(scene, move)
            case Drop():
                self._drop(scene, move)
            case ReplaceMove():
                self._replace(scene, move)

    def _begin(self, scene: Scene, move: Begin) -> None:
        start = move.start
        try:
            self._starting.start(move.policy, by=f"{BY} ({start.what})", candidate=move.candidate, key=start.key)
        except ConflictError:
            return  # somebody else was faster: the next look sees whose rollout runs
        except (PolicyError, RefusedError) as error:
            self._drop(scene, Drop(start=start, why=error.message))

    def _drop(self, scene: Scene, move: Drop) -> None:
        start, now = move.start, self._clock.now()
        alert = self._refusal(scene.policy, move, move.refused, now) if move.refused else None
        state: StartState = "refused" if move.refused else "passed"
        if self._store.settle_start(start.key, state=state, why=move.why, now=now, alert=alert):
            self._log.info("A trigger starts nothing.", endpoint=start.ref.name, what=start.what, why=move.why)

    def _refusal(self, policy: Policy, move: Drop, running: Rollout, now: datetime) -> Alert:
        sentence = f"Not started: {move.start.what}, because this rollout runs, and the policy says when_busy: refuse."
        event = Event(at=now, kind="refused", sentence=sentence, severity=Severity.ACTION)
        return Alert(
            id=f"refused-{_short(move.start.key)}",
            rollout_id=running.id,
            endpoint=running.ref,
            event=event,
            channels=self._recipients(policy, Severity.ACTION),
        )

    def _replace(self, scene: Scene, move: ReplaceMove) -> None:
        """Order the running rollout to end; the same order has the same id, and is given once."""
        self._store.submit(
            Command(
                id=f"replace-{_short(move.start.key)}-{move.rollout.id}",
                rollout_id=move.rollout.id,
                verb=move.verb,
                at=scene.now,
                by=BY,
                origin="trigger",
                reason=f"{move.start.what} takes its place (when_busy: replace)",
            )
        )


def _first_look(scene: Scene, key: str) -> Start:
    """That this trigger has been looked for since now."""
    return Start(
        key=key,
        ref=scene.ref,
        policy=scene.policy.name,
        kind="watch",
        what="first look",
        at=scene.now,
        state="known",
        why="what was there before counts as known",
    )


def _mark(policy: Policy, ref: EndpointRef) -> str:
    """A trigger that waits for something else has a first look of its own."""
    waits_for = policy.trigger.model_dump_json(exclude={"when_busy"}) if policy.trigger else ""
    return f"watch/{ref.workspace}/{ref.name}/{policy.name}/{_short(waits_for)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
