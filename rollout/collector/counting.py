"""Checks of a policy's own: one query for each check and rollout, as often as the logs are read.

The rule: a query that fails blinds its own check and nothing else: what the other checks counted is kept, and so is what
this one had counted before. While a failure may be a hiccup, minutes stay open for it; once it has lasted, they close
without it.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from rollout.analysis.cells import BAD, GOOD, Cell, Histogram, custom
from rollout.collector.sources import SourceStatus, remembering
from rollout.collector.windows import minute_of, note_recheck, window
from rollout.errors import RefusedError, RolloutError
from rollout.policy import CustomCheck
from rollout.ports import Clock, Counted, CountQuery, Logs, Store
from rollout.world import EndpointRef

SOURCE = "custom"

Counts = dict[str, dict[int, dict[str, Histogram]]]  # deployment -> minute -> measure -> histogram


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The own checks of one rollout; `deployments` are those of its endpoint (case-folded), empty where not yet known.

    `proven` names checks that are known to have counted before this daemon started: they are not blind for a hiccup.
    """

    ref: EndpointRef
    resource_id: str
    checks: Sequence[CustomCheck]
    deployments: frozenset[str]
    proven: frozenset[str] = frozenset()


class Counting:
    """Runs the queries of checks, keeps what they counted, and remembers how each one did."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._status: dict[tuple[Hashable, EndpointRef, str], SourceStatus] = {}

    def read(
        self, key: Hashable, logs: Logs, wanted: Sequence[Wanted], *, lag: timedelta
    ) -> tuple[Sequence[EndpointRef], Sequence[RolloutError]]:
        """Run the queries of all rollouts whose logs are under this key: whom something changed for, and what failed."""
        self._forget(key, wanted)
        changed: list[EndpointRef] = []
        errors: list[RolloutError] = []
        for one in wanted:
            reader = _Reader(one, self._store, self._clock, partial(self._of, key, one.ref))
            if reader.read(logs, lag):
                changed.append(one.ref)
            errors += reader.errors
        return changed, errors

    def blind(self, ref: EndpointRef) -> Mapping[str, str]:
        """The checks of an endpoint's rollout that cannot be read at present, with the reason."""
        now = self._clock.now()
        found = [(name, status.trouble(now)) for (_, of, name), status in [*self._status.items()] if of == ref and name]
        return {name: why for name, why in found if why}

    def asked(self, ref: EndpointRef, check: str) -> bool:
        """Whether a check of this endpoint's rollout was run since the daemon started, however that went."""
        known = [status for (_, of, name), status in [*self._status.items()] if (of, name) == (ref, check)]
        return any(status.last_success or status.last_error for status in known)

    def status(self) -> Sequence[SourceStatus]:
        """Every check that was asked and whose rollout is active."""
        return [status for (_, _, name), status in [*self._status.items()] if name]

    def _of(self, key: Hashable, ref: EndpointRef, check: str) -> SourceStatus:
        """How a check does; the empty name stands for all of a rollout's checks together."""
        name = f"{check} of {ref.name}" if check else ref.name
        return self._status.setdefault((key, ref, check), SourceStatus(source=SOURCE, key=name))

    def _forget(self, key: Hashable, wanted: Iterable[Wanted]) -> None:
        kept = {(key, one.ref, name) for one in wanted for name in ["", *(check.name for check in one.checks)]}
        for known in [known for known in self._status if known[0] == key and known not in kept]:
            del self._status[known]


class _Reader:
    """One look at the checks of one rollout."""

    def __init__(self, wanted: Wanted, store: Store, clock: Clock, status: Callable[[str], SourceStatus]) -> None:
        self._wanted = wanted
        self._store = store
        self._clock = clock
        self._status = status
        self.errors: list[RolloutError] = []

    def read(self, logs: Logs, lag: timedelta) -> bool:
        """Ask, and store what was counted; True if something changed."""
        now, ref, whole = self._clock.now(), self._wanted.ref, self._status("")
        start, end = window(self._store, whole, [ref], now=now, lag=lag)
        counts, silent = self._asked(logs, start, end, now)
        if len(silent) == len(self._wanted.checks):
            return False
        note_recheck(whole, start, end, now)
        self._keep(counts, silent, start, end)
        hiccup = any(self._status(name).trouble(now) is None for name in silent)
        return self._store.put_cells(
            SOURCE,
            ref,
            {name: _cells(minutes) for name, minutes in counts.items()},
            window=(start, end),
            closed_before=0 if hiccup else minute_of(now - lag),
            read_at=now,
        )

    def _asked(self, logs: Logs, start: int, end: int, now: datetime) -> tuple[Counts, Sequence[str]]:
        """What the checks counted, and the names of those that did not answer."""
        counts: Counts = {}
        silent = []
        for check in self._wanted.checks:
            status = self._status(check.name)
            status.proven = check.name in self._wanted.proven
            if status.slowed(now):
                silent.append(check.name)
                continue
            try:
                with remembering(status, self._clock):
                    rows = logs.count(_query(check, self._wanted), start=start, end=end)
                    _add(counts, check.name, known(rows, self._wanted.deployments, check=check.name))
            except RolloutError as error:
                self.errors.append(error)
                silent.append(check.name)
        return counts, silent

    def _keep(self, counts: Counts, silent: Iterable[str], start: int, end: int) -> None:
        """What silent checks had counted stays; and a closed minute gets no check that it did not have."""
        stored = self._store.cells(SOURCE, self._wanted.ref, start=start, end=end)
        measures = {custom(name) for name in silent}
        for name, cells in stored.cells.items():
            for minute, cell in cells.items():
                had = cell.histograms
                found = counts.setdefault(name, {}).setdefault(minute, {})
                found |= {measure: had[measure] for measure in measures & had.keys()}
                if minute < stored.closed_before:
                    counts[name][minute] = {measure: each for measure, each in found.items() if measure in had}


def known(rows: Sequence[Counted], deployments: frozenset[str], *, check: str) -> Sequence[Counted]:
    """The rows of the endpoint's deployments (all, where these are not known); those of others, long gone, are left out.

    Raises RefusedError where no row is of any of them: the query then names deployments in its own way.
    """
    found = [row for row in rows if row.deployment in deployments] if deployments else rows
    if rows and not found:
        told = ", ".join(sorted({row.deployment for row in rows})[:5])
        raise RefusedError(
            f"Check {check}: deployment is {told}, and the endpoint has {', '.join(sorted(deployments))}: "
            "return the name as it stands in DeploymentName."
        )
    return found


def _query(check: CustomCheck, wanted: Wanted) -> CountQuery:
    return CountQuery(check=check.name, kql=check.query, endpoint=wanted.resource_id)


def _add(counts: Counts, check: str, rows: Iterable[Counted]) -> None:
    for row in rows:
        measures = counts.setdefault(row.deployment, {}).setdefault(row.minute, {})
        before = measures.get(custom(check), {})
        measures[custom(check)] = {
            GOOD: before.get(GOOD, 0) + row.n - row.bad,
            BAD: before.get(BAD, 0) + row.bad,
        }


def _cells(minutes: Mapping[int, dict[str, Histogram]]) -> Mapping[int, Cell]:
    """The minutes in which something was counted."""
    cells = {
        minute: {name: found for name, found in held.items() if any(found.values())} for minute, held in minutes.items()
    }
    return {minute: Cell(histograms=held) for minute, held in cells.items() if held}
