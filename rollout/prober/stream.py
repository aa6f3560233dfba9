"""One rollout's stream of pairs: when the next one is due, how many may be under way, how many failed in a row. Pure.

The rule: times are real seconds: a crash is real, however fast the daemon's clock runs. Usually the policy says how many
pairs are sent; once only the candidate's answer is bad, or is overdue while stable's is there, more are sent until it is
clear: `CRASHED_PAIRS` in a row, or one that is good. A hang keeps each pair for its whole time-out, so that many of them
must be under way at once for ten to have hung within ten seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from rollout.analysis.cells import Cell
from rollout.analysis.guards import CRASHED_PAIRS
from rollout.lifecycle.rollout import Rollout
from rollout.policy import Probes
from rollout.ports import Answer
from rollout.prober.pairs import Minutes, Pair
from rollout.world import EndpointRef, EndpointState

#: Seconds between two pairs, at least: usually, and while a crash is suspected.
LEAST, HURRIED = 0.1, 0.2
#: Pairs under way for one rollout: usually, and while a crash is suspected.
UNDER_WAY, UNDER_WAY_HURRIED = 4, 12
#: An answer is overdue so long after stable's, in seconds, and at most this part of the time-out; of a candidate that is
#: slower by nature so much later than it usually is: the most of its last good answers, which fades from pair to pair.
OVERDUE, OVERDUE_PART, FADES = 0.5, 0.25, 0.8
#: Seconds without pairs after a key could not be had, or did not open the endpoint.
PAUSED = 30.0


@dataclass(eq=False, kw_only=True)
class Flight:
    """A pair under way."""

    body: bytes
    begun: float
    baseline: Answer | None = None
    candidate: Answer | None = None
    baseline_at: float | None = None

    def take(self, role: str, answer: Answer, now: float) -> Pair | None:
        """One answer came; the pair, once both have."""
        if role == "baseline":
            self.baseline, self.baseline_at = answer, now
        else:
            self.candidate = answer
        if self.baseline is None or self.candidate is None:
            return None
        return Pair(baseline=self.baseline, candidate=self.candidate)

    def overdue(self, now: float, patience: float) -> bool:
        """Stable's good answer is there for so long, and the candidate's is not."""
        if self.baseline is None or self.baseline_at is None or self.candidate is not None:
            return False
        return self.baseline.cls == "ok" and now - self.baseline_at > patience


@dataclass(eq=False, kw_only=True)
class Stream:
    """The state of one rollout's probing; used under the prober's lock."""

    rollout_id: str
    ref: EndpointRef
    probes: Probes
    endpoint: EndpointState | None = None
    stable: str = ""
    candidate: str = ""
    wanted: bool = False
    ended: bool = False
    followed: float = 0.0
    due: float = 0.0
    turn: int = 0
    failed: int = 0
    evidence_from: object = None  # pairs from before it are no evidence
    trouble: str | None = None
    overdue: bool = False
    behind: float = 0.0  # how much later than stable's the candidate's good answers come, in seconds
    untold: bool = False  # a crash of which nobody was told yet
    stored: int | None = None  # minutes before this one are in the store
    flights: set[Flight] = field(default_factory=set)
    minutes: Minutes = field(default_factory=Minutes)

    def follow(self, rollout: Rollout, endpoint: EndpointState | None, *, wanted: bool, now: float) -> None:
        """Where the rollout stands now."""
        self.endpoint = endpoint or self.endpoint
        self.stable, self.candidate = rollout.stable or "", rollout.candidate or ""  # as Azure spells them
        if rollout.judged_from != self.evidence_from:
            self.evidence_from, self.failed = rollout.judged_from, 0
        if wanted and not self.wanted:
            self.due = now
        self.wanted, self.followed = wanted, now

    @property
    def over(self) -> bool:
        """The rollout has ended, and all that was seen is told."""
        return self.ended and not self.flights and not self.minutes

    def next_due(self) -> float | None:
        """When the next pair is due; None where none is to be sent, or too many are under way."""
        room = UNDER_WAY_HURRIED if self.hurried else UNDER_WAY
        return self.due if self.wanted and self.endpoint is not None and len(self.flights) < room else None

    def begin(self, now: float, minute: float) -> Flight:
        """Send a pair now; `minute` is how many seconds the daemon's minute takes."""
        body = self.probes.requests[self.turn % len(self.probes.requests)]
        flight = Flight(body=body.encode(), begun=now)
        self.turn += 1
        self.flights.add(flight)
        self.due = now + self.interval(minute)
        return flight

    def interval(self, minute: float) -> float:
        """Seconds until the next pair."""
        usual = max(LEAST, minute / self.probes.per_minute)
        return min(usual, HURRIED) if self.hurried else usual

    @property
    def hurried(self) -> bool:
        """A crash is suspected: some pairs in a row failed, or an answer of the candidate's is overdue."""
        return 0 < self.failed < CRASHED_PAIRS or (self.failed == 0 and self.overdue)

    def look(self, now: float) -> None:
        """Note whether an answer is overdue by now; a suspicion brings the next pair forward."""
        patience, before = min(OVERDUE, OVERDUE_PART * self.probes.timeout / timedelta(seconds=1)), self.hurried
        self.overdue = any(flight.overdue(now, patience + self.behind) for flight in self.flights)
        if self.hurried and not before:
            self.due = min(self.due, now)

    def landed(self, flight: Flight, pair: Pair, minute: int, now: float) -> bool:
        """Both answers came; True where this one makes it a crash."""
        self.flights.discard(flight)
        if not pair.counts:
            return False
        self.trouble = None
        self.minutes.add(pair, minute)
        if pair.good:
            self.behind = max(pair.behind, FADES * self.behind)
        self.failed = self.failed + 1 if pair.failed else 0
        if self.hurried:
            self.due = min(self.due, now + HURRIED)
        if self.failed != CRASHED_PAIRS:
            return False
        self.untold = True
        return True

    def gave_up(self, flight: Flight, why: str, now: float) -> bool:
        """A request could not be sent, or was not let in; True where that is news."""
        self.flights.discard(flight)
        news, self.trouble, self.due = self.trouble != why, why, now + PAUSED
        return news

    def ripe(self, minute: int, *, running: bool) -> "Batch | None":
        """The minutes before this one that are not in the store yet (and the `running` one); None where there are none."""
        start, end = minute if self.stored is None else self.stored, minute + running
        self.stored = start
        baseline, candidate = self.minutes.cells()
        if not baseline and (not self.wanted or self.trouble):
            self.stored = minute  # nobody was asked: that is not the same as nobody answering
            return None
        if end <= start:
            return None
        return Batch(
            window=(start, end), cells={self.stable.casefold(): baseline, self.candidate.casefold(): candidate}
        )

    def kept(self, minute: int) -> None:
        """The minutes before this one are in the store."""
        self.stored = minute
        self.minutes.forget(minute)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Cells for the store: deployment -> minute -> cell, and the minutes [start, end) that they are all there is of."""

    window: tuple[int, int]
    cells: Mapping[str, Mapping[int, Cell]]


def not_let_in(endpoint: str, answer: Answer) -> str:
    """Why probes say nothing while they are answered so (401 or 403), in a sentence."""
    return (
        f"Endpoint {endpoint} lets no probes in: it answered {answer.why.rstrip('.')}. Check that its keys were not "
        "renewed, that the daemon's identity may ask it, and that its network is open to the daemon."
    )
