"""The tick: three reads, two thoughts, two writes.

The rule: state, history and alerts are saved in one transaction before Azure is touched; a crash at any point heals on
the next tick, because the split is read and never remembered. A tick never waits for an operation of Azure's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from rollout.analysis.cells import ERROR_CLASSES, Cell, merge, reasons
from rollout.analysis.checks import deciding_source, sources_of
from rollout.analysis.exhibits import Exhibit, Recorder
from rollout.analysis.noise import learned
from rollout.analysis.verdict import Judgement, Series, Source, Stage, Verdict, begin, judge
from rollout.analysis.watch import SEEN_BEFORE, watch
from rollout.errors import ConflictError, RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.lifecycle import Decision, Facts, Phase, Rollout, advance, refused, stage_of, written
from rollout.lifecycle.errands import errand_answered, under_way
from rollout.lifecycle.evidence import with_evidence
from rollout.lifecycle.observing.pair import likely_stable
from rollout.lifecycle.rollout import Outcome
from rollout.lifecycle.sentences import explained
from rollout.lifecycle.splits import overwritable, tag_note
from rollout.lifecycle.stage import error_budget, minute_of, next_minute
from rollout.policy import Policy
from rollout.ports import Clock, Endpoints, Fleet, Lease, Probes, Snapshots, Store, StoredCells
from rollout.sending import begun, fleet_facts
from rollout.world import Alert, EndpointState, Errand, Event, Severity, Snapshot, Split, Trial

#: When a rollout is looked at again if nothing wakes it.
SAFETY = timedelta(seconds=60)
SOON = {
    Phase.PENDING: timedelta(),
    Phase.PREPARING: timedelta(seconds=10),
    Phase.ROLLING_BACK: timedelta(seconds=2.5),
    Phase.PROMOTING: timedelta(seconds=5),
}
UNCONFIRMED = timedelta(seconds=15)
#: A rollout that has ended and puts things back.
ERRANDS = timedelta(seconds=10)
#: A split that may be a person's is looked at again after this time.
FOREIGN = timedelta(seconds=6)
#: Azure's wish to be called less often is honoured up to here; a roll back waits less.
SLOWED, SLOWED_ROLLING_BACK = timedelta(seconds=60), timedelta(seconds=10)
#: A cell that was read again this often without a change is steady, though its minute is not closed yet.
STEADY_AFTER = 2
#: Stable is told to serve from its answers in this many last minutes with cells, if there are enough of them and they
#: are not older than this many minutes.
SERVING_MINUTES, SERVING_LEAST, SERVING_OLDEST = 5, 10, 30
#: The sources that show what callers get.
LIVE: tuple[Source, ...] = ("logs", "metrics")
HISTORY = 60  # minutes before the rollout, to compare with
NEVER_JUDGED = frozenset({Phase.PENDING, Phase.PREPARING, Phase.ROLLING_BACK})
#: Phases whose every tick looks at Azure itself, with deployments.
SEEN_AFRESH = frozenset({Phase.PENDING, Phase.PREPARING})


class Judge(Protocol):
    """The analysis, as a tick asks it (see `analysis.verdict.judge`)."""

    def __call__(
        self, judgement: Judgement, *, policy: Policy, stage: Stage, series: Sequence[Series], now: int
    ) -> tuple[Judgement, Verdict]:
        """Take in what is new and say what to do."""


class NoProbes:
    """Nobody sends predictions (see `ports.Probes`)."""

    def follow(self, rollout: Rollout, endpoint: EndpointState | None) -> None:
        """Nothing is sent."""

    def failed_pairs(self, rollout_id: str) -> int:  # noqa: ARG002
        """Nothing has failed."""
        return 0

    def trial(self, rollout_id: str) -> Trial | None:  # noqa: ARG002
        """Nothing was tried."""
        return None

    def trouble(self, rollout_id: str) -> str | None:  # noqa: ARG002
        """Nothing is wrong."""
        return None


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """Ticks rollouts. `recipients` names the channels that a policy's event of some severity goes to."""

    store: Store
    clock: Clock
    endpoints: Mapping[str, Endpoints]
    snapshots: Snapshots
    recipients: Callable[[Policy, Severity], tuple[str, ...]]
    log: structlog.stdlib.BoundLogger
    judge: Judge = judge
    recorder: Recorder = field(default_factory=Recorder)
    probes: Probes = field(default_factory=NoProbes)
    fleets: Mapping[str, Fleet] = field(default_factory=dict)

    def tick(self, lease: Lease) -> None:
        """Look, decide, save, act. Gives the lease back. Raises only what the store raises."""
        started, now = self.clock.monotonic(), self.clock.now()
        rollout = self.store.load(lease.rollout_id)
        decision = self._decide(rollout, now)
        self._save(lease, rollout, decision)
        after = decision.rollout
        remaining = (lease.until - now).total_seconds()

        def still_ours() -> bool:
            return self.clock.monotonic() - started < remaining

        if decision.write is not None:
            after = self._write(lease, after, decision.write, still_ours)
        for errand in decision.errands:
            after = self._send(lease, after, errand, still_ours)
        ended = self.clock.now()
        seen = self.snapshots.latest(after.ref)
        self.probes.follow(after, seen.endpoint if seen else None)
        self.store.release(lease, due_at=ended + next_look(after, ended))

    def _decide(self, rollout: Rollout, now: datetime) -> Decision:
        facts = self._facts(rollout, now)
        decision = advance(rollout, facts, now)
        if decision.write is None or rollout.phase in SEEN_AFRESH:
            return decision
        # before a PUT, with deployments: a change in place is seen, and a stable that is gone
        snapshot, trouble = self._fresh(rollout)
        if snapshot is not None:
            return advance(rollout, replace(facts, snapshot=snapshot), now)
        return advance(rollout, replace(facts, snapshot=None, trouble=trouble), now)

    # --- reads -----------------------------------------------------------------------------------------------------

    def _facts(self, rollout: Rollout, now: datetime) -> Facts:
        snapshot, trouble = self._snapshot(rollout)
        fleet = fleet_facts(rollout, snapshot, self.fleets.get(rollout.ref.workspace))
        stable = (likely_stable(rollout, snapshot) or "").casefold()
        judgement, verdict, exhibit = self._judge(rollout, now)
        deciding, recent = deciding_source(rollout.policy), self._recent(rollout, now)
        return Facts(
            snapshot=snapshot,
            judgement=judgement,
            verdict=verdict,
            exhibit=exhibit,
            commands=tuple(self.store.pending_commands(rollout.id)),
            stable_serves=_serves(
                [recent[source].cells.get(stable, {}) for source in LIVE],
                probes=recent["probes"].cells.get(stable, {}) if "probes" in recent else {},
                oldest=minute_of(now) - SERVING_OLDEST,
            ),
            fresh_at=_last_seen(recent[deciding].cells.get(stable, {}), now),
            read_at=recent[deciding].read_at,
            trouble=trouble or self._trouble(rollout, deciding),
            autoscale=fleet.autoscale,
            fleet_trouble=fleet.trouble,
            operations=fleet.operations,
            forgotten=fleet.forgotten,
            doing=fleet.doing,
            trial=self.probes.trial(rollout.id),
            freezes=tuple(self.store.freezes(now=now, ref=rollout.ref)),
            blind=self.snapshots.blind(rollout.ref) if rollout.policy.checks.custom else {},
            counted_at=recent["custom"].read_at if "custom" in recent else None,
            per_minute=_per_minute(recent["logs"]) or _per_minute(recent["metrics"]),
        )

    def _trouble(self, rollout: Rollout, deciding: Source) -> str | None:
        told = self.snapshots.trouble(rollout.ref, source=deciding)
        return self.probes.trouble(rollout.id) if told is None and deciding == "probes" else told

    def _snapshot(self, rollout: Rollout) -> tuple[Snapshot | None, str | None]:
        if rollout.phase in {Phase.PENDING, Phase.PREPARING} or rollout.owes:
            return self._fresh(rollout)
        if rollout.phase is Phase.ROLLING_BACK or (rollout.foreign and not rollout.foreign.told):
            return self._fresh(rollout, deployments=False)
        return self.snapshots.latest(rollout.ref), None

    def _fresh(self, rollout: Rollout, *, deployments: bool = True) -> tuple[Snapshot | None, str | None]:
        try:
            return self.snapshots.fresh(rollout.ref, deployments=deployments), None
        except RolloutError as error:
            self.log.warning("endpoint not readable", endpoint=rollout.ref.name, reason=error.message)
            return None, error.message

    def _recent(self, rollout: Rollout, now: datetime) -> Mapping[Source, StoredCells]:
        """The last hour of live traffic, logs first, and of all else that the policy is judged by."""
        end = minute_of(now) + 1
        sources: tuple[Source, ...] = (*LIVE, *sources_of(rollout.policy))
        return {source: self.store.cells(source, rollout.ref, start=end - HISTORY, end=end) for source in sources}

    def _judge(self, rollout: Rollout, now: datetime) -> tuple[Judgement | None, Verdict | None, Exhibit | None]:
        if rollout.phase is Phase.GUARDING:
            return None, self._watch(rollout, now), None
        stage = stage_of(rollout, now)
        if stage is None or rollout.phase in NEVER_JUDGED:
            return None, None, None
        start = stage.started - HISTORY
        series = [self._series(source, rollout, start, now) for source in sources_of(rollout.policy)]
        before = rollout.judgement or self._begin(rollout, series)
        begun = before if rollout.judgement is None else None
        exhibit = self.recorder.exhibit(rollout.id, at=now, stage=stage, series=series, begun=begun)
        after, verdict = self.judge(before, policy=rollout.policy, stage=stage, series=series, now=minute_of(now))
        return after, verdict, exhibit

    def _watch(self, rollout: Rollout, now: datetime) -> Verdict:
        """After the promotion: the last minutes alone, of the candidate alone."""
        minute = minute_of(now)
        series = [
            self._series(source, rollout, minute - SEEN_BEFORE, now, history=0) for source in sources_of(rollout.policy)
        ]
        since = next_minute(rollout.step_since or rollout.phase_since)
        return watch(rollout.policy, series=series, since=since, usual=rollout.usual, now=minute)

    def _begin(self, rollout: Rollout, series: Sequence[Series]) -> Judgement:
        """With the noise that this endpoint has shown before."""
        taus = learned(rollout.policy, self.store.noise(rollout.ref), series)
        return begin(rollout.policy, alpha=error_budget(rollout), taus=taus)

    def _series(self, source: Source, rollout: Rollout, start: int, now: datetime, *, history: int = HISTORY) -> Series:
        """The cells since `start`, of which the first `history` minutes are stable's to compare with."""
        stable, candidate = (rollout.stable or "").casefold(), (rollout.candidate or "").casefold()
        stored = self.store.cells(source, rollout.ref, start=start, end=minute_of(now) + 1)
        baseline = stored.cells.get(stable, {})
        return Series(
            source=source,
            baseline=baseline,
            candidate=stored.cells.get(candidate, {}),
            closed_before=stored.closed_before,
            steady=_steady(stored, stable, candidate),
            read_at=minute_of(stored.read_at) if stored.read_at else 0,
            history={minute: cell for minute, cell in baseline.items() if minute < start + history},
            failed_pairs=self.probes.failed_pairs(rollout.id) if source == "probes" else 0,
        )

    # --- writes ----------------------------------------------------------------------------------------------------

    def _save(self, lease: Lease, before: Rollout, decision: Decision) -> None:
        if decision.rollout == before and not decision.events and not decision.results:
            return
        self.store.save(
            lease,
            decision.rollout,
            events=with_evidence(decision),
            alerts=self._alerts(decision.rollout, decision.events),
            results=decision.results,
            exhibit=decision.exhibit,
        )
        if decision.exhibit is not None:
            self.recorder.kept(decision.rollout.id)
        if decision.rollout.ended:
            self.recorder.forget(decision.rollout.id)
        for event in decision.events:
            self.log.info(event.kind, endpoint=decision.rollout.ref.name, sentence=event.sentence)

    def _alerts(self, rollout: Rollout, events: Sequence[Event]) -> Sequence[Alert]:
        found = []
        for number, event in enumerate(events):
            channels = self.recipients(rollout.policy, event.severity) if event.severity else ()
            if channels:
                alert = Alert(
                    id=f"{rollout.id}-{event.kind}-{event.at:%Y%m%dT%H%M%S.%f}-{number}",
                    rollout_id=rollout.id,
                    endpoint=rollout.ref,
                    event=event,
                    channels=channels,
                    summary={**explained(rollout, event.at), **self._reasons(rollout, event.at)},
                )
                found.append(alert)
        return found

    def _reasons(self, rollout: Rollout, now: datetime) -> Mapping[str, object]:
        """Why the candidate's requests went wrong since it got traffic, from the source that has seen most of them."""
        if rollout.started_at is None or rollout.candidate is None:
            return {}
        start, end = minute_of(rollout.started_at), minute_of(now) + 1
        seen = [
            self.store.cells(source, rollout.ref, start=start, end=end) for source in rollout.policy.expert.evidence
        ]
        told = [reasons(stored.cells.get(rollout.candidate.casefold(), {}).values()) for stored in seen]
        return {"reasons": max(told, key=lambda found: sum(count for _, count in found), default=[])}

    def _write(self, lease: Lease, rollout: Rollout, split: Split, still_ours: Callable[[], bool]) -> Rollout:
        """Begin the write; the rollout after its answer."""
        names = (rollout.stable, rollout.candidate)
        try:
            writer_for(rollout, self.endpoints).set_traffic(
                rollout.ref.name,
                split,
                pair=frozenset(name.casefold() for name in names if name),
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

    def _send(self, lease: Lease, rollout: Rollout, errand: Errand, still_ours: Callable[[], bool]) -> Rollout:
        """Begin the errand; the rollout after its answer."""
        answer = begun(rollout, errand, self.fleets, still_ours=still_ours)
        if answer.why is not None:
            self.log.info("errand not begun", endpoint=rollout.ref.name, outcome=answer.outcome, reason=answer.why)
        now = self.clock.now()
        after = errand_answered(
            rollout,
            errand,
            outcome=answer.outcome,
            now=now,
            why=answer.why,
            operation=answer.operation,
            not_before=_left_alone_until(rollout, answer.error, now),
        )
        self.store.save(lease, after)
        return after

    def _answered(self, lease: Lease, rollout: Rollout, outcome: Outcome, error: RolloutError | None) -> Rollout:
        if error is not None:
            self.log.info("traffic not written", endpoint=rollout.ref.name, outcome=outcome, reason=error.message)
        now = self.clock.now()
        after = written(rollout, outcome=outcome, now=now, not_before=_left_alone_until(rollout, error, now))
        self.store.save(lease, after)
        return after


def writer_for(rollout: Rollout, endpoints: Mapping[str, Endpoints]) -> Endpoints:
    """The one way to Azure's writes. Raises RefusedError; for a rollout that only observes always, whatever was decided."""
    workspace = rollout.ref.workspace
    if rollout.observes:
        raise RefusedError(f"the rollout of {rollout.ref.name} only observes: nothing is written")
    if workspace not in endpoints:
        raise RefusedError(f"workspace {workspace} is not in the settings any more: add it, and restart the daemon")
    return endpoints[workspace]


def next_look(rollout: Rollout, now: datetime) -> timedelta:
    """When to look again if nothing wakes the rollout before."""
    last = rollout.writes[-1].not_before if rollout.writes else None
    if last is not None and now < last:
        return last - now
    if rollout.phase is Phase.PREPARING and rollout.shut is not None and not under_way(rollout):
        return SAFETY
    if rollout.phase in SOON:
        return SOON[rollout.phase]
    if rollout.owes:
        return ERRANDS
    if rollout.foreign is not None and not rollout.foreign.told:
        return FOREIGN
    return UNCONFIRMED if rollout.writes or rollout.strays else SAFETY


def _left_alone_until(rollout: Rollout, error: RolloutError | None, now: datetime) -> datetime | None:
    asked = error.retry_after if isinstance(error, ThrottledError) else None
    most = SLOWED_ROLLING_BACK if rollout.phase is Phase.ROLLING_BACK else SLOWED
    return now + min(timedelta(seconds=asked), most) if asked else None


def _steady(stored: StoredCells, stable: str, candidate: str) -> frozenset[int]:
    """Minutes in which every cell that is there was read again without a change."""
    counts = [stored.unchanged.get(name, {}) for name in (stable, candidate)]
    minutes = set(counts[0]) | set(counts[1])
    return frozenset(
        minute for minute in minutes if all(count.get(minute, STEADY_AFTER) >= STEADY_AFTER for count in counts)
    )


def _serves(live: Sequence[Mapping[int, Cell]], *, probes: Mapping[int, Cell], oldest: int) -> bool | None:
    """Whether most of a deployment's last answers were good; None: not known.

    Told from the live source that saw it last, and from probes only where none has seen enough of it: a sample request
    that it alone cannot answer says nothing about what callers get.
    """
    newest_first = sorted((cells for cells in live if cells), key=max, reverse=True)
    told = (_mostly_good(cells, oldest=oldest) for cells in (*newest_first, probes))
    return next((good for good in told if good is not None), None)


def _mostly_good(cells: Mapping[int, Cell], *, oldest: int) -> bool | None:
    last = merge(cells[minute] for minute in sorted(cells)[-SERVING_MINUTES:] if minute >= oldest)
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
