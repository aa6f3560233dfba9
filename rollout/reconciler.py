"""The tick: three reads, two thoughts, two writes.

The rule: state, history and alerts are saved in one transaction before Azure is touched; a crash at any point heals on
the next tick, because the split is read and never remembered. A tick never waits for an operation of Azure's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from rollout.analysis.cells import ERROR_CLASSES, Cell, merge
from rollout.analysis.verdict import Judgement, Series, Source, Stage, Verdict, begin, judge
from rollout.errors import ConflictError, RefusedError, RolloutError, UnavailableError
from rollout.lifecycle import Decision, Facts, Phase, Rollout, advance, refused, stage_of, written
from rollout.lifecycle.evidence import with_evidence
from rollout.lifecycle.splits import overwritable, tag_note
from rollout.lifecycle.stage import error_budget, minute_of
from rollout.policy import Policy
from rollout.ports import Clock, Endpoints, Lease, Snapshots, Store, StoredCells
from rollout.world import Alert, Event, Severity, Snapshot, Split

#: When a rollout is looked at again if nothing wakes it.
SAFETY = timedelta(seconds=60)
SOON = {Phase.ROLLING_BACK: timedelta(seconds=2.5), Phase.PENDING: timedelta(), Phase.PREPARING: timedelta(seconds=10)}
UNCONFIRMED = timedelta(seconds=15)
#: A cell that was read again this often without a change is steady, though its minute is not closed yet.
STEADY_AFTER = 2
#: Stable is told to serve from its answers in this many last minutes with cells, if there are enough of them.
SERVING_MINUTES, SERVING_LEAST = 5, 10
HISTORY = 60  # minutes before the rollout, to compare with
NEVER_JUDGED = frozenset({Phase.PENDING, Phase.PREPARING, Phase.ROLLING_BACK})


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """Ticks rollouts. `recipients` names the channels that a policy's event of some severity goes to."""

    store: Store
    clock: Clock
    endpoints: Mapping[str, Endpoints]
    snapshots: Snapshots
    recipients: Callable[[Policy, Severity], tuple[str, ...]]
    log: structlog.stdlib.BoundLogger

    def tick(self, lease: Lease) -> None:
        """Look, decide, save, act. Gives the lease back. Raises only what the store raises."""
        started, now = self.clock.monotonic(), self.clock.now()
        rollout = self.store.load(lease.rollout_id)
        decision = self._decide(rollout, now)
        self._save(lease, rollout, decision)
        after = decision.rollout
        if decision.write is not None:
            remaining = (lease.until - now).total_seconds()
            after = self._write(lease, after, decision.write, lambda: self.clock.monotonic() - started < remaining)
        self.store.release(lease, due_at=self.clock.now() + self._next(after))

    def _decide(self, rollout: Rollout, now: datetime) -> Decision:
        facts = self._facts(rollout, now)
        decision = advance(rollout, facts, now)
        if decision.write is None or decision.rollout.phase is Phase.ROLLING_BACK:
            return decision
        snapshot, trouble = self._fresh(rollout)  # before a PUT: with deployments, so that a change in place is seen
        if snapshot is None:
            return advance(rollout, replace(facts, snapshot=None, trouble=trouble), now)
        return advance(rollout, replace(facts, snapshot=snapshot), now)

    # --- reads -----------------------------------------------------------------------------------------------------

    def _facts(self, rollout: Rollout, now: datetime) -> Facts:
        snapshot, trouble = self._snapshot(rollout)
        stable = rollout.stable or _holder(snapshot)
        judgement, verdict = self._judge(rollout, now)
        recent = self._recent(rollout, now)
        return Facts(
            snapshot=snapshot,
            judgement=judgement,
            verdict=verdict,
            commands=tuple(self.store.pending_commands(rollout.id)),
            stable_serves=_serves([cells.cells.get(stable, {}) for cells in recent]) if stable else None,
            fresh_at=_last_seen(recent[0].cells.get(stable, {}), now) if stable else None,
            trouble=trouble or self.snapshots.trouble(rollout.ref),
            per_minute=_per_minute(recent[0]),
        )

    def _snapshot(self, rollout: Rollout) -> tuple[Snapshot | None, str | None]:
        if rollout.phase in {Phase.PENDING, Phase.PREPARING}:
            return self._fresh(rollout)
        if rollout.phase is Phase.ROLLING_BACK:
            return self._fresh(rollout, deployments=False)
        return self.snapshots.latest(rollout.ref), None

    def _fresh(self, rollout: Rollout, *, deployments: bool = True) -> tuple[Snapshot | None, str | None]:
        try:
            return self.snapshots.fresh(rollout.ref, deployments=deployments), None
        except RolloutError as error:
            self.log.warning("endpoint not readable", endpoint=rollout.ref.name, reason=error.message)
            return None, error.message

    def _recent(self, rollout: Rollout, now: datetime) -> Sequence[StoredCells]:
        """The last hour: logs first, then metrics."""
        end = minute_of(now) + 1
        return [self.store.cells(source, rollout.ref, start=end - HISTORY, end=end) for source in ("logs", "metrics")]

    def _judge(self, rollout: Rollout, now: datetime) -> tuple[Judgement | None, Verdict | None]:
        stage = stage_of(rollout, now)
        if stage is None or rollout.phase in NEVER_JUDGED:
            return None, None
        before = rollout.judgement or begin(rollout.policy, alpha=error_budget(rollout))
        series = [self._series(source, rollout, stage, now) for source in rollout.policy.expert.evidence]
        return judge(before, policy=rollout.policy, stage=stage, series=series, now=minute_of(now))

    def _series(self, source: Source, rollout: Rollout, stage: Stage, now: datetime) -> Series:
        stable, candidate = (rollout.stable or "").casefold(), (rollout.candidate or "").casefold()
        stored = self.store.cells(source, rollout.ref, start=stage.started - HISTORY, end=minute_of(now) + 1)
        baseline = stored.cells.get(stable, {})
        return Series(
            source=source,
            baseline=baseline,
            candidate=stored.cells.get(candidate, {}),
            closed_before=stored.closed_before,
            steady=_steady(stored, stable, candidate),
            read_at=minute_of(stored.read_at) if stored.read_at else 0,
            history={minute: cell for minute, cell in baseline.items() if minute < stage.started},
        )

    # --- writes ----------------------------------------------------------------------------------------------------

    def _save(self, lease: Lease, before: Rollout, decision: Decision) -> None:
        if decision.rollout == before and not decision.events and not decision.results:
            return
        events = with_evidence(decision)
        self.store.save(
            lease,
            decision.rollout,
            events=events,
            alerts=self._alerts(decision.rollout, events),
            results=decision.results,
        )
        for event in events:
            self.log.info(event.kind, endpoint=decision.rollout.ref.name, sentence=event.sentence)

    def _alerts(self, rollout: Rollout, events: Sequence[Event]) -> Sequence[Alert]:
        found = []
        for event in events:
            channels = self.recipients(rollout.policy, event.severity) if event.severity else ()
            if channels:
                alert_id = f"{rollout.id}-{event.kind}-{event.at:%Y%m%dT%H%M%S.%f}"
                found.append(
                    Alert(id=alert_id, rollout_id=rollout.id, endpoint=rollout.ref, event=event, channels=channels)
                )
        return found

    def _write(self, lease: Lease, rollout: Rollout, split: Split, still_ours: Callable[[], bool]) -> Rollout:
        name = rollout.ref.name
        try:
            self.endpoints[rollout.ref.workspace].set_traffic(
                name,
                split,
                pair=frozenset(
                    deployment.casefold() for deployment in (rollout.stable, rollout.candidate) if deployment
                ),
                replacing=overwritable(rollout),
                note=tag_note(rollout),
                still_ours=still_ours,
            )
        except ConflictError as error:
            return self._answered(lease, rollout, "conflict", error)
        except UnavailableError as error:
            return self._answered(lease, rollout, "unknown", error)
        except RefusedError as error:
            decision = refused(rollout, error.message, self.clock.now())
            self._save(lease, rollout, decision)
            return decision.rollout
        return self._answered(lease, rollout, "accepted", None)

    def _answered(self, lease: Lease, rollout: Rollout, outcome: str, error: RolloutError | None) -> Rollout:
        if error is not None:
            self.log.info("traffic not written", endpoint=rollout.ref.name, outcome=outcome, reason=error.message)
        after = written(rollout, outcome=outcome, now=self.clock.now())
        self.store.save(lease, after)
        return after

    def _next(self, rollout: Rollout) -> timedelta:
        if rollout.phase in SOON:
            return SOON[rollout.phase]
        return UNCONFIRMED if rollout.writes else SAFETY


def _holder(snapshot: Snapshot | None) -> str | None:
    """The deployment that holds all traffic, if there is one."""
    shares = snapshot.endpoint.traffic.shares if snapshot and snapshot.endpoint else ()
    return shares[0][0] if len(shares) == 1 else None


def _steady(stored: StoredCells, stable: str, candidate: str) -> frozenset[int]:
    """Minutes in which every cell that is there was read again without a change."""
    counts = [stored.unchanged.get(name, {}) for name in (stable, candidate)]
    minutes = set(counts[0]) | set(counts[1])
    return frozenset(
        minute for minute in minutes if all(count.get(minute, STEADY_AFTER) >= STEADY_AFTER for count in counts)
    )


def _serves(sources: Sequence[Mapping[int, Cell]]) -> bool | None:
    """Whether most of a deployment's last answers were good, told from the source that saw it last."""
    seen = [cells for cells in sources if cells]
    if not seen:
        return None
    newest = max(seen, key=max)
    last = merge(newest[minute] for minute in sorted(newest)[-SERVING_MINUTES:])
    total = last.count()
    return None if total < SERVING_LEAST else last.count(*ERROR_CLASSES) < total / 2


def _last_seen(cells: Mapping[int, Cell], now: datetime) -> datetime | None:
    return datetime.fromtimestamp((max(cells) + 1) * 60, now.tzinfo) if cells else None


def _per_minute(stored: StoredCells) -> float | None:
    """The endpoint's requests per minute over its closed minutes of the last hour."""
    closed = [
        (minute, cell.count())
        for cells in stored.cells.values()
        for minute, cell in cells.items()
        if minute < stored.closed_before
    ]
    if not closed:
        return None
    return sum(count for _, count in closed) / len({minute for minute, _ in closed})
